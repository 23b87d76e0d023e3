"""`perfbench catalog check`. In: a catalogue, and perhaps a tokenizer. Out: what is wrong with it,
a sentence each.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.catalog import Catalog, content_words, fill, leave_out
from benchmarks.suite.image_files import duplicates, load_image
from benchmarks.suite.photographs import shipped
from perfusion_core.errors import UserError

# prompts/README.md derives the split from the paper's numbers; ids are never reused, so the counts
# only change with it
SPLIT = {
    ("shape", "all"): 19,
    ("deform", "animated"): 30,
    ("deform", "container"): 16,
    ("deform", "furniture"): 11,
    ("deform", "wearable"): 10,
}
VALIDATION, TEMPLATES, CONCEPTS, UNRELATED = 8, 9, 11, 10


@dataclass(frozen=True)
class Tokenizer:
    """What the check needs of a backbone's tokenizer."""

    name: str
    count: Callable[[str], int]  # tokens of a text, without start and end
    room: int  # tokens that fit between start and end


def problems(catalog: Catalog, tokenizer: Tokenizer | None = None) -> list[str]:
    """Everything that would spoil a run or a table."""
    found = [*_texts(catalog), *_concepts(catalog)]
    return found + (_tokens(catalog, tokenizer) if tokenizer else [])


def shipped_problems(catalog: Catalog) -> list[str]:
    """What must hold of the shipped prompts and concepts besides: the numbers of the protocol."""
    found = []
    split = Counter((prompt.kind, prompt.group) for prompt in catalog.prompts)
    if split != SPLIT:
        found.append(f"the prompts split as {dict(split)}; the protocol has {SPLIT}")
    counts = {"validation prompts": (len(catalog.validation), VALIDATION)}
    counts["training texts"] = (len(catalog.templates), TEMPLATES)
    counts["unrelated prompts"] = (len(catalog.drift), UNRELATED)
    counts["concepts"] = (len(catalog.concepts), CONCEPTS)
    found += [
        f"there are {here} {what}; the protocol has {planned}"
        for what, (here, planned) in counts.items()
        if here != planned
    ]
    groups = {concept.group for concept in catalog.concepts}
    for group in sorted({prompt.group for prompt in catalog.prompts} - groups - {"all"}):
        found.append(f"group {group!r} has prompts but no concept")
    facts = {name: (about["super_category"], about["group"]) for name, about in shipped().items()}
    for concept in catalog.concepts:
        if facts.get(concept.name) != (concept.super_category, concept.group):
            found.append(
                f"concept {concept.name!r} is not as in the photographs: {facts.get(concept.name)}"
            )
        if " " in concept.super_category:
            found.append(
                f"concept {concept.name!r}: super-category {concept.super_category!r} is more "
                f"than one word"
            )
    return found


def notes(catalog: Catalog) -> list[str]:
    """What a reader should know and nobody need mend: what is missing here, pictures that count
    twice.
    """
    absent = [concept.name for concept in catalog.concepts if not concept.images]
    said = [*catalog.notes]
    if absent:
        said.append(
            f"no images here of {', '.join(absent)}: `perfbench concepts fetch {absent[0]}`"
        )
    for concept in catalog.concepts:
        said += [f"concept {concept.name}: {sentence}" for sentence in duplicates(concept.images)]
    return said


def _texts(catalog: Catalog) -> Iterable[str]:
    ids = Counter(
        [p.id for p in (*catalog.prompts, *catalog.validation)]
        + [pair.id for pair in catalog.pairs]
    )
    yield from (f"id {id!r} is used {count} times" for id, count in ids.items() if count > 1)
    texts = Counter((_plain(prompt.template), prompt.group) for prompt in catalog.prompts)
    for (text, group), count in texts.items():
        if count > 1:
            yield f"prompt {text!r} of group {group} stands {count} times"
    for text, count in Counter(_plain(prompt.template) for prompt in catalog.drift).items():
        if count > 1:
            yield f"unrelated prompt {text!r} stands {count} times"
    used = {_plain(prompt.template) for prompt in catalog.prompts}
    for prompt in catalog.validation:
        if _plain(prompt.template) in used:
            yield (
                f"validation prompt {prompt.id} ({prompt.template!r}) is a benchmark prompt, "
                f"too; keep them disjoint"
            )
    for prompt in catalog.prompts:
        if catalog.protocol.class_word == "left out" and not content_words(prompt.template):
            yield (
                f"prompt {prompt.id}: {leave_out(prompt.template)!r} says nothing once the "
                f"concept is left out"
            )


def _plain(template: str) -> str:
    return " ".join(template.lower().split())


def _concepts(catalog: Catalog) -> Iterable[str]:
    names = Counter(concept.name for concept in catalog.concepts)
    yield from (f"two concepts are called {name!r}" for name, count in names.items() if count > 1)
    for concept in catalog.concepts:
        if not concept.licence or not concept.source:
            yield f"concept {concept.name!r} has no source or no licence"
        if not catalog.prompts_for(concept):
            yield f"concept {concept.name!r} of group {concept.group!r} has no prompt"
        yield from _pictures(concept.name, concept.images, concept.masks)


def _pictures(name: str, images: Iterable[Path], masks: tuple[Path, ...]) -> Iterable[str]:
    sizes = {}
    for path in (*images, *masks):
        try:
            sizes[path] = load_image(path).size
        except UserError as error:
            yield f"concept {name!r}: {error}"
    for image, mask in zip(images, masks):
        if image in sizes and mask in sizes and sizes[image] != sizes[mask]:
            yield (
                f"concept {name!r}: mask {mask.name} is {sizes[mask]} where its image is "
                f"{sizes[image]}"
            )


def _tokens(catalog: Catalog, tokenizer: Tokenizer) -> list[str]:
    """Super-categories of several tokens, and prompts that the text encoder would cut."""
    found = [
        f"unrelated prompt {prompt.id} is {tokenizer.count(prompt.template)} tokens; "
        f"{tokenizer.name} reads {tokenizer.room}"
        for prompt in catalog.drift
        if tokenizer.count(prompt.template) > tokenizer.room
    ]
    for concept in catalog.concepts:
        count = tokenizer.count(concept.super_category)
        if count != 1:
            found.append(
                f"super-category {concept.super_category!r} of {concept.name!r} is {count} tokens "
                f"for "
                f"{tokenizer.name}; choose a word that it knows whole"
            )
        for prompt in catalog.prompts_for(concept):
            words = fill(prompt.template, concept.super_category)
            if tokenizer.count(words) > tokenizer.room:
                found.append(
                    f"prompt {prompt.id} is {tokenizer.count(words)} tokens; {tokenizer.name} "
                    f"reads {tokenizer.room}"
                )
    return found


def open_tokenizer(backbone: str | None) -> Tokenizer:
    """The tokenizer of a backbone in diffusers layout (name, folder, hub id); by default CLIP's, of
    SD 1 and 2.
    """
    if backbone is None:
        from benchmarks.suite.clip_tokens import clip_tokenizer

        clip = clip_tokenizer()
        return Tokenizer(
            "CLIP (Stable Diffusion 1 and 2)", lambda text: len(clip.encode(text).ids), 75
        )
    from transformers import CLIPTokenizer

    from benchmarks.paths import DRAWN_WORLD, miniature_dir
    from perfusion_core.hub import HUB

    where = str(miniature_dir()) if backbone in DRAWN_WORLD else HUB.get(backbone, backbone)
    try:
        own = CLIPTokenizer.from_pretrained(where, subfolder="tokenizer")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"backbone {backbone!r} has no tokenizer that can be read: {reason}"
        ) from None
    if len(own) < 100:  # transformers makes an empty one where there are no files
        raise UserError(
            f"backbone {backbone!r} has no tokenizer that can be read: no vocabulary in its "
            f"tokenizer/"
        )
    return Tokenizer(
        backbone,
        lambda text: len(own(text, add_special_tokens=False).input_ids),
        own.model_max_length - 2,
    )
