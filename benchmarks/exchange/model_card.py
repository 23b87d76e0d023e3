"""The model card of a pushed concept: a README with YAML in front, as the hub reads it.

In: what is sent, its pictures and scores. Out: text; what others wrote is escaped.
"""

import re
from collections.abc import Sequence

import pandas as pd
from huggingface_hub import ModelCardData

from benchmarks.exchange.card_pictures import BIAS, FIGURE, TEMPERATURE, Shown
from benchmarks.exchange.file_scores import FileScores
from benchmarks.exchange.parcel import Parcel
from benchmarks.store.reading import untuned_methods
from benchmarks.tables.table_text import GUESSED, UNTUNED
from perfusion_core.hub_concepts import EXPORTS
from perfusion_core.text_encoders import FILE_KEYS

PAPER = "https://arxiv.org/abs/2305.01644"
CONCEPT_TAGS = ["text-to-image", "personalization", "perfusion", "key-locking", "stable-diffusion"]
PERFUSION_TAGS = {"perfusion", "key-locking"}
EMBEDDING_TAGS, LORA_TAGS = ["textual-inversion"], ["lora", "template:sd-lora"]
ACROSS = 4  # pictures in a row of the gallery
CARD = "README.md"
OURS = "Made by Perfbench."
SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "&<>\"'\\`*_[]|#!~"}  # what means something
LONG = 300  # characters of an export's header that are shown


def card(
    sent: Parcel, repo: str, base: str, shown: Shown, figure: bool, scores: FileScores | None
) -> str:
    """The whole README.md."""
    front = ModelCardData(
        base_model=base or None,
        pipeline_tag="text-to-image",
        tags=tags_of(sent),
        instance_prompt=f"a photo of {prompt_words(sent)}",
        widget=[{"text": text, "output": {"url": place}} for text, place in shown] or None,
    ).to_yaml()
    untuned = sent.untuned or untuned_in(scores)
    parts = [
        f"---\n{front}\n---",
        f"# {plain(sent.title)}",
        opening(sent, base, untuned),
        f"{GUESSED.format('its training')}." if untuned else "",
        gallery(shown),
        points(figure, scores),
        use_of_concept(sent, repo, base) if sent.concept else "",
        use_of_exports(sent, repo, base) if sent.exports else "",
        files(sent),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def tags_of(sent: Parcel) -> list[str]:
    """What the hub finds it by."""
    tags = [tag for tag in CONCEPT_TAGS if sent.perfusion or tag not in PERFUSION_TAGS]
    words, others = by_kind(sent)
    tags += ["diffusers"] * bool(sent.exports)
    return tags + EMBEDDING_TAGS * bool(words) + LORA_TAGS * bool(others)


def prompt_words(sent: Parcel) -> str:
    return " and ".join(f"a {{{word}}}" if sent.concept else f"a {word}" for word in sent.words)


def plain(text: str) -> str:
    """A text of somebody else in Markdown or HTML: shown as it is, on one line."""
    return " ".join(text.split()).translate(SIGNS)


def untuned_in(scores: FileScores | None) -> bool:
    """Whether the run that drew with it says that its method's rates were a guess."""
    return scores is not None and scores.method in untuned_methods(scores.run.about)


def opening(sent: Parcel, base: str, untuned: bool) -> str:
    on = f"[{base}](https://huggingface.co/{base})" if base else "a backbone that has no hub id"
    what = f"A {plain(sent.concept.super_category)}" if sent.concept else "A thing"
    how = "a concept" if sent.concept else "exported from a concept"
    mark = f" {UNTUNED}" * untuned
    if not sent.perfusion:  # what trained it stands in no header
        words, others = by_kind(sent)
        into = " and ".join(["an embedding"] * bool(words) + ["a LoRA"] * bool(others))
        return f"{what}, trained{mark} into {into} for {on}. {OURS}"
    return (
        f"{what}, learned by [Perfusion]({PAPER}){mark} (key-locked, gated rank-one editing): "
        f"{how} for {on}. {OURS}"
    )


def by_kind(sent: Parcel) -> tuple[list[str], list[str]]:
    """Its exports: embeddings, and what holds a LoRA."""
    words = [name for name in sent.exports if name.endswith(EXPORTS[0])]
    return words, [name for name in sent.exports if name not in words]


def gallery(shown: Shown) -> str:
    if not shown:
        return ""
    rows = []
    for start in range(0, len(shown), ACROSS):
        some = shown[start : start + ACROSS]
        cells = "".join(
            f'<td><img src="{place}" alt="{plain(text)}" width="200"><br>{plain(text)}</td>'
            for text, place in some
        )
        rows.append(f"<tr>{cells}</tr>")
    return "## Pictures\n\n<table>" + "".join(rows) + "</table>"


def points(figure: bool, scores: FileScores | None) -> str:
    """What the bias does, and how it scores where a run says so."""
    if not (figure or scores):
        return ""
    lines = [
        "## Operating points",
        "A lower bias gives more of the concept, a higher one more of the prompt.",
    ]
    lines += [f"![What the bias changes]({FIGURE})"] if figure else []
    if scores:
        scorers = scores.run.about.get("scorers") or [{}]
        name, count = plain(str(scorers[0].get("name", ""))), int(scores.table["n"].max())
        lines.append(
            f"Scores of this very file, by `{name}`: cosine to the concept's own images, and to "
            f"the prompt. In brackets the 95 % interval over its {count} prompts; it says nothing "
            f"of other concepts."
        )
        lines.append(score_table(scores.table))
    return "\n\n".join(lines)


def score_table(table: pd.DataFrame) -> str:
    lines = ["| point | image similarity | prompt similarity |", "|---|---|---|"]
    for row in table.to_dict("records"):
        name = row["point"] if row["kind"] == "method" else "plain word"
        named = {str(column): value for column, value in row.items()}
        each = (interval(named, metric) for metric in ("image_sim", "text_sim"))
        lines.append(f"| {plain(str(name))} | {' | '.join(each)} |")
    return "\n".join(lines)


def interval(row: dict[str, float], name: str) -> str:
    value, low, high = (row[key] for key in (name, f"{name}_lo", f"{name}_hi"))
    if value != value:
        return "-"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low == low else "")


def use_of_concept(sent: Parcel, repo: str, base: str) -> str:
    [word] = sent.words
    kind = pipeline_of(sent)
    return f"""## In diffusers

```python
import diffusers
from perfusion_core import load_concepts

pipe = diffusers.{kind}.from_pretrained({base or "YOUR_BACKBONE"!r})
with load_concepts(pipe, {{{word!r}: {repo!r}}}, bias={BIAS}, temperature={TEMPERATURE}):
    pipe("A {{{word}}} on the beach").images[0].save("beach.png")
```

`{repo}@REVISION` pins a commit. C of the text encoder is needed once: \
`perfbench covariance --backbone {base or "YOUR_BACKBONE"}`. At the command line:

```bash
perfbench generate "A {{{word}}} on the beach" --concept {word}={repo} \
--backbone {base or "YOUR_BACKBONE"} --out pictures
```

## In ComfyUI and other programs

{other_programs(sent)}"""


def other_programs(sent: Parcel) -> str:
    node = (
        "In ComfyUI, Perfbench's node pack (`perfusion_core/comfyui`) opens this very file, with "
        "its gate:\nput it into `ComfyUI/models/perfusion`, and add *Load Perfusion "
        "Concept* behind the checkpoint.\n\n"
    )
    if sent.exports:
        return f"{node}The exported files below open without it; the gate is fixed in them."
    return node + (
        f"`perfbench export {sent.files[0].name}` makes an embedding and a LoRA of it, which "
        f"ComfyUI, A1111 and InvokeAI read."
    )


def use_of_exports(sent: Parcel, repo: str, base: str) -> str:
    embs, loras = ([n for n in sent.exports if n.endswith(end)] for end in EXPORTS[:2])
    words = [emb.removesuffix(".safetensors") for emb in embs]
    lines = ["## The exported files"]
    steps = []
    if embs:
        in_prompt = " and ".join(f"`embedding:{word}`" for word in words)
        steps.append(f"{ticked(embs)} to `models/embeddings`, and {in_prompt} in the prompt")
    if loras:
        steps.append(f"{ticked(loras)} to `models/loras`, with a LoRA loader of strength 1")
    if steps:
        lines.append(f"**ComfyUI:** {'; '.join(steps)}.")
        said = f"; {ticked(words)} in the prompt" if words else ""
        lines.append(f"**A1111, Forge:** the same files in `embeddings` and `models/Lora`{said}.")
    calls = [call for emb, word in zip(embs, words) for call in loading(sent, repo, emb, word)]
    calls += [f'pipe.load_lora_weights({repo!r}, weight_name="{lora}")' for lora in loras]
    if calls:
        body = "\n".join(calls)
        more = ["huggingface_hub", "safetensors.torch"] if sent.joint and embs else []
        imports = "\n".join(f"import {name}" for name in ("diffusers", *more))
        shown = " and ".join(f"a {word}" for word in words or sent.words)
        lines.append(
            f"**diffusers:**\n\n```python\n{imports}\n\n"
            f"pipe = diffusers.{pipeline_of(sent)}.from_pretrained({base or 'YOUR_BACKBONE'!r})"
            f'\n{body}\npipe("{shown} on the beach").images[0].save("beach.png")\n```'
        )
    for name, header in sent.exports.items():
        told = [(key, text) for key, text in header.items() if len(text) <= LONG]
        if told:
            rows = "\n".join(f"| {plain(key)} | {plain(text)} |" for key, text in told)
            lines.append(f"What `{name}` says of itself:\n\n| | |\n|---|---|\n{rows}")
    return "\n\n".join(lines)


def pipeline_of(sent: Parcel) -> str:
    return "StableDiffusionXLPipeline" if sent.joint else "StableDiffusionPipeline"


def loading(sent: Parcel, repo: str, emb: str, word: str) -> list[str]:
    """Lines that open an embedding; of two text encoders, each takes its own rows of the file."""
    if not sent.joint:
        return [f'pipe.load_textual_inversion({repo!r}, weight_name="{emb}", token="{word}")']
    lines = [
        f'rows = safetensors.torch.load_file(huggingface_hub.hf_hub_download({repo!r}, "{emb}"))'
    ]
    for key, tail in zip(FILE_KEYS, ("", "_2")):
        parts = f"text_encoder=pipe.text_encoder{tail}, tokenizer=pipe.tokenizer{tail}"
        lines.append(f'pipe.load_textual_inversion(rows["{key}"], token="{word}", {parts})')
    return lines


def ticked(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def files(sent: Parcel) -> str:
    """Each with its digest, so that a copy can be known."""
    from perfusion_core.weight_digests import file_sha256

    rows: Sequence[str] = [
        f"| {path.name} | {path.stat().st_size} | `{file_sha256(path)}` |" for path in sent.files
    ]
    return "\n".join(["## Files", "", "| file | bytes | sha256 |", "|---|---|---|", *rows])


def named_by(readme: str) -> frozenset[str]:
    """The files of an earlier card of ours and the card; of any other text none."""
    if OURS not in readme:
        return frozenset()
    weights = re.findall(r"^\| ([^|`]+) \| \d+ \| `[0-9a-f]{64}` \|$", readme, re.M)
    pictures = re.findall(r'<img src="(images/\d+\.png)"', readme)
    figure = [FIGURE] if f"({FIGURE})" in readme else []
    return frozenset([CARD, *weights, *pictures, *figure])
