"""The card of a published run: a README with YAML in front, as the hub and `datasets` read it.

In: run.json, what was written. Out: text that says what is there, under which licence and protocol,
how it is cited, and what is not there; what others wrote is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.exchange.leaks import leak
from benchmarks.exchange.licences import KNOWN
from benchmarks.exchange.model_card import OURS, PAPER, interval, plain
from benchmarks.exchange.run_dataset import CONCEPTS, PICTURES, PROMPTS, ROWS, Written
from benchmarks.miniature.which_world import with_world
from benchmarks.paths import DRAWN_WORLD
from benchmarks.planning.method_families import bibtex_entries, cited
from benchmarks.planning.methods import BUILT_IN, cite_of
from benchmarks.store.reading import imported_methods, untuned_methods
from benchmarks.tables.table_text import UNTUNED, masked_fits, untuned_words
from perfusion_core import __version__
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
# of run.json's protocol, in words
PROTOCOL = {
    "preset": "preset",
    "suite": "suite",
    "image_prompts": "image similarity is of prompts",
    "class_word": "the class word in the scored text",
    "images": "images a prompt",
    "steps": "steps of DDIM",
    "guidance": "guidance",
    "seed": "base seed",
    "rows": "rows of a batch of the U-Net",
    "dtype": "dtype",
    "recipe": "recipe",
    "select_step": "all steps of training picked by validation",
    "select_scorer": "scorer that picks steps",
}
WHAT = {
    PICTURES: "a drawn picture, with its method, point, concept, prompt, index and seed",
    ROWS: "a scored picture, or a concept's own (method `real`), with the scores of all scorers",
    PROMPTS: "a prompt; `{}` stands for the concept",
    CONCEPTS: "a concept, with its word, licence, and pictures where they may be published",
}
SAME_PLACES = (
    "`method`, `point`, `concept`, `prompt_id` and `index` are the same in `pictures` and `rows`. "
    "`sha256` is of the file that was scored; the picture here has its pixels alone, without what "
    "programs wrote beside them. "
)
ONE_SPLIT = "The only split is called `train` because `datasets` calls it so."
PERFUSION = """@inproceedings{tewel2023keylocked,
  title     = {Key-Locked Rank One Editing for Text-to-Image Personalization},
  author    = {Tewel, Yoad and Gal, Rinon and Chechik, Gal and Atzmon, Yuval},
  booktitle = {ACM SIGGRAPH 2023 Conference Proceedings},
  year      = {2023}
}"""


def data_card(
    folder: Path, about: Mapping[str, Any], table: pd.DataFrame | None, done: Written,
    title: str, licence: str,
) -> str:  # fmt: skip
    """The whole README.md of a folder whose tables are written."""
    parts = [
        f"---\n{front(done, title, licence)}\n---",
        f"# {plain(title)}",
        opening(about, done),
        "## Tables\n\n" + configurations(done),
        scores(about, table),
        "## Protocol\n\n" + protocol(about),
        "## Licence\n\n" + licences(done, licence),
        "## How to cite\n\n" + citing(title, about, done),
        "## What is not there\n\n" + absent(about, done),
        "## Files\n\n" + files(folder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front(done: Written, title: str, licence: str) -> str:
    from huggingface_hub import DatasetCardData

    size = next((name for most, name in SIZES if done.rows < most), "1M<n<10M")
    named: dict[str, Any] = {} if licence in KNOWN else {"license_name": licence}
    first = done.configs[0]
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}],
            **({"default": True} if name == first else {}),
        }
        for name in done.configs
    ]
    return DatasetCardData(
        license=licence if licence in KNOWN else "other",
        **named,
        pretty_name=title,
        task_categories=["text-to-image"],
        tags=["personalization", "text-to-image", "benchmark", "perfbench"],
        size_categories=[size],
        configs=configs,
    ).to_yaml()


def opening(about: Mapping[str, Any], done: Written) -> str:
    what = f"{done.pictures} pictures" if done.pictures else "scores, without their pictures,"
    here = imported_methods(about)
    methods = [f"`{name}`" + " (imported)" * (name in here) for name in done.methods]
    return (
        f"A run of Perfbench, the benchmark of text-to-image personalization: {what} "
        f"by {', '.join(methods)} on {len(done.concepts)} concepts and {done.prompts} prompts. "
        f"{OURS}"
    )


def configurations(done: Written) -> str:
    counts = {
        PICTURES: done.pictures,
        ROWS: done.rows,
        PROMPTS: done.prompts,
        CONCEPTS: len(done.concepts),
    }
    rows = [f"| `{name}` | {counts[name]} | {WHAT[name]} |" for name in done.configs]
    loads = f'datasets.load_dataset("DIR_OR_OWNER/NAME", "{done.configs[0]}", split="train")'
    return "\n".join([
        "| name | rows | a row is |", "|---|---|---|", *rows, "",
        f"```python\nimport datasets\n\n{loads}\n```", "",
        (SAME_PLACES if PICTURES in done.configs else "") + ONE_SPLIT,
    ])  # fmt: skip


def scores(about: Mapping[str, Any], table: pd.DataFrame | None) -> str:
    """The main table, where the run has one; whose rates were a guess, and who had masks."""
    if table is None:
        return ""
    untuned = untuned_methods(about)
    lines = [
        "| method | point | image similarity | text similarity | images |",
        "|---|" + "---|" * 4,
    ]
    for row in table.to_dict("records"):
        if row["kind"] not in ("method", "floor", "ceiling"):
            continue
        named = {str(key): value for key, value in row.items()}
        each = " | ".join(interval(named, name) for name in ("image_sim", "text_sim"))
        mark = f" {UNTUNED}" * (row["method"] in untuned)
        lines.append(
            f"| {plain(str(row['method']))}{mark} | {plain(str(row['point']))} | {each} "
            f"| {int(row['n_images'])} |"
        )
    scorers = about.get("scorers") or [{}]
    notes = plain(untuned_words(table, untuned) + masked_fits(about))
    return (
        "## Scores\n\n" + "\n".join(lines) + f"\n\nBy `{plain(str(scorers[0].get('name', '')))}`, "
        "with 95 % intervals over concepts. Scores under another protocol or scorer must not stand "
        "beside these." + (f"\n\n{notes}" if notes else "")
    )


def protocol(about: Mapping[str, Any]) -> str:
    told = about.get("protocol", {})
    rows: list[tuple[str, Any]] = [
        (words, name_alone(told[key])) for key, words in PROTOCOL.items() if key in told
    ]
    backbone = about.get("backbone", {})
    rows += [
        ("backbone", with_world(name_alone(backbone.get("id", "")), about)),
        ("sha256 of the backbone", backbone.get("sha256", "")),
    ]
    if backbone.get("revision"):
        rows += [("revision", backbone["revision"])]
    if vae := backbone.get("vae"):
        rows += [("VAE", name_alone(vae.get("id", ""))), ("sha256 of the VAE", vae.get("sha256"))]
        rows += [("revision of the VAE", vae.get("revision"))]
    for scorer in about.get("scorers", []):
        rows.append((f"scorer {scorer['name']}", f"weights {scorer.get('weights', 'unknown')}; "
                     f"{scorer.get('preprocessing', '')}"))  # fmt: skip
    for part in ("plan", "texts"):
        if found := about.get("digests", {}).get(part):
            rows.append((f"digest of the {part}", found))
    for key in ("version", "commit", "device", "finished"):
        rows.append((f"perfbench {key}" if key in ("version", "commit") else key, about.get(key)))
    rows += [(name, version) for name, version in about.get("libraries", {}).items()]
    lines = [f"| {plain(str(a))} | {plain(str(b))} |" for a, b in rows if b not in (None, "")]
    command = "perfbench " + " ".join(word for word in about.get("argv", []) if word != "perfbench")
    made = (
        "The command that made it names places of a machine, so it is not printed."
        if leak(command) or "`" in command or not about.get("argv")
        else f"Made by `{' '.join(command.split())}`."
    )
    return "\n".join(["| | |", "|---|---|", *lines, "", made])


def name_alone(value: object) -> str:
    """A folder of the publisher's by its last name: the rest is a path of a machine."""
    text = str(value)
    return text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if leak(text) else text


def licences(done: Written, licence: str) -> str:
    lines = [f"Drawn pictures, rows and prompts: `{licence}`, as its publisher says."]
    shown = [one for one in done.concepts if one.licence]
    for known in dict.fromkeys(one.licence for one in shown):
        names = ", ".join(f"`{one.name}`" for one in shown if one.licence == known)
        lines.append(f"Pictures of the concepts {names}: `{known}`.")
    return "\n\n".join(lines)


def citing(title: str, about: Mapping[str, Any], done: Written) -> str:
    cites = cites_in(about, done.methods)
    known = bibtex_entries(PERFUSION).keys()
    methods = "\n\n".join(
        entry for key, entry in bibtex_entries(cited(cites.values())).items() if key not in known
    )
    without = [f"`{name}`" for name, text in cites.items() if not text]
    return (
        "This data set by its address, with the program that made it:\n\n```bibtex\n"
        "@software{perfbench,\n  title   = {Perfbench: a benchmark of text-to-image "
        "personalization},\n  author  = {{The Perfbench authors}},\n"
        f"  version = {{{__version__}}},\n  year    = {{2026}}\n}}\n```\n\n"
        f"[Perfusion]({PAPER}), whose protocol it follows:\n\n```bibtex\n{PERFUSION}\n```"
        + (f"\n\nThe methods in it:\n\n```bibtex\n{methods}\n```" if methods else "")
        + (f"\n\nNothing to cite was given for {', '.join(without)}." if without else "")
    )


def cites_in(about: Mapping[str, Any], methods: Iterable[str]) -> dict[str, str]:
    """BibTeX by method: of a method of somebody's own what its file said when it ran; empty where
    it said nothing. Built-in ones without a paper are left out."""
    found: dict[str, str] = {}
    for name in methods:
        told = about.get("methods", {}).get(name, {})
        base = str(told.get("of", name))
        text = cite_of(base) or shown_cite(told.get("cite"))
        if text or base not in BUILT_IN:
            found[name] = text
    return found


def shown_cite(text: object) -> str:
    """What run.json says, where it is BibTeX alone that stays inside its block."""
    if not isinstance(text, str) or "```" in text or leak(text):
        return ""
    try:
        return cited([text])
    except UserError:
        return ""


def absent(about: Mapping[str, Any], done: Written) -> str:
    """What a reader may look for and not find."""
    lines = []
    if not done.pictures:
        lines.append(
            "Pictures: the run folder had none when it was published; their scores are here."
        )
    elif done.pictures < done.planned:
        lines.append(f"{done.planned - done.pictures} of {done.planned} planned pictures.")
    if hidden := [one.name for one in done.concepts if one.hidden]:
        lines.append(f"Pictures of {', '.join(f'`{name}`' for name in hidden)}, by the publisher's "
                     "choice: what methods were trained on is not to be seen.")  # fmt: skip
    bare = [one.name for one in done.concepts if not (one.hidden or one.pictures)]
    if bare:
        lines.append(f"Pictures of the concepts {', '.join(f'`{name}`' for name in bare)}, which "
                     "the run folder did not hold.")  # fmt: skip
    if done.drift:
        lines.append("Pictures that drift is measured on.")
    lines += [
        "Trained files, masks and class images.",
        "Seconds and memory: `table.csv` of the run has them.",
    ]
    if about.get("backbone", {}).get("id") in DRAWN_WORLD:
        lines.append(
            "Anything about photographs: the backbone is a drawn miniature, and no number here "
            "says how a method does on them."
        )
    return "\n".join(f"- {line}" for line in lines)


def files(folder: Path) -> str:
    """Each with its digest, so that a copy can be known."""
    paths: Sequence[Path] = sorted(path for path in folder.rglob("*.parquet"))
    rows = [
        f"| {path.relative_to(folder).as_posix()} | {path.stat().st_size} | `{file_sha256(path)}` |"
        for path in paths
    ]
    return "\n".join(["| file | bytes | sha256 |", "|---|---|---|", *rows])
