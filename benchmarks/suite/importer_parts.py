"""What the importers are made of. In: lines of text and lists of files. Out: prompts, pairs, a
`Catalog`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.safe_paths import UnsafePath, below, safe_parts, shown
from benchmarks.suite.catalog import (
    Catalog,
    Pair,
    Prompt,
    Protocol,
    check_id,
    check_template,
    read_text,
    shipped_prompts,
)
from benchmarks.suite.concept_folder import Concept, own_images
from perfusion_core.errors import UserError


def make_suite(
    name: str,
    protocol: Protocol,
    folder: Path,
    concepts: Sequence[Concept],
    prompts: Sequence[Prompt],
    *,
    pairs: Sequence[Pair] = (),
    notes: tuple[str, ...] = (),
) -> Catalog:
    """The suite's prompts and protocol, with our training texts and those of our validation prompts
    that it lacks.
    """
    if not concepts:
        raise UserError(
            f"{folder} has no images in the layout of {name}; `perfbench ls suites` tells the "
            f"layouts"
        )
    ids = [prompt.id for prompt in prompts] + [pair.id for pair in pairs]
    for what, names in (("concepts", [concept.name for concept in concepts]), ("prompts", ids)):
        if twice := sorted(name for name, n in Counter(names).items() if n > 1):
            raise UserError(
                f"{folder} has two {what} that are called {twice[0]!r} here; rename one"
            )
    return replace(
        shipped_prompts(name, concepts, prompts), protocol=protocol, pairs=tuple(pairs), notes=notes
    )


def make_prompt(id: str, group: str, text: str, where: Path) -> Prompt:
    """A prompt that counts for image similarity; its `{}` is checked."""
    check_id(id, str(where))
    check_template(text, f"{where}: prompt {id}")
    return Prompt(id, "shape", group, text)


def make_pairs(a: str, b: str, texts: Iterable[str], where: Path) -> list[Pair]:
    """The prompts of two concepts by name."""
    pairs = [Pair(f"{a}-{b}-{number:02d}", (a, b), text) for number, text in enumerate(texts, 1)]
    for pair in pairs:
        check_template(pair.template, f"{where}: prompt {pair.id}", ("{a}", "{b}"))
    return pairs


def word_pairs(file: Path, concepts: Sequence[Concept]) -> tuple[list[Pair], int]:
    """Prompts that name two classes in plain words, from a file named after both; and how many
    lines do not.
    """
    for a in concepts:
        for b in concepts:
            if f"{a.name}_{b.name}" == file.stem:
                words = {a.super_category: "{a}", b.super_category: "{b}"}
                texts = read_lines(file)
                for word, slot in words.items():
                    texts = [
                        re.sub(rf"\b{re.escape(word)}\b", slot, text, count=1) for text in texts
                    ]
                both = [text for text in texts if "{a}" in text and "{b}" in text]
                return make_pairs(a.name, b.name, both, file), len(texts) - len(both)
    return [], 0


def without_subject(text: str, subject: str) -> str:
    """The text with `{}` for the first place that names the subject; empty where none does."""
    template, found = re.subn(rf"\b{re.escape(subject)}\b", "{}", text.strip(), count=1, flags=re.I)
    return template if found else ""


def present(here: int, planned: int, what: str) -> tuple[str, ...]:
    """A note where a suite is not whole."""
    return (f"{here} of {planned} {what} are here",) if here < planned else ()


def words_noted(concepts: Iterable[Concept]) -> tuple[str, ...]:
    """A note of the words that were taken from names."""
    return (
        f"super-categories: {', '.join(f'{c.name} is a {c.super_category}' for c in concepts)}",
    )


def common_words(texts: Sequence[str]) -> str:
    """The words that all texts begin with."""
    words = zip(*(text.split() for text in texts))
    return " ".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, words))


def word_of(name: str) -> str:
    """The kind of thing that a folder's name says: 'my_teapot2' -> 'teapot'."""
    words = re.findall(r"[a-z]+", name.lower())
    if not words:
        raise UserError(
            f"folder {name!r} has no word to take as the super-category; name it like my_teapot"
        )
    return words[-1]


def read_lines(path: Path) -> list[str]:
    """The filled lines of a text file, single-spaced."""
    return [" ".join(line.split()) for line in read_text(path).splitlines() if line.strip()]


def read_json(path: Path) -> Any:
    """A JSON file, or one sentence about why it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    except (ValueError, RecursionError) as error:  # a UserError of read_text is a ValueError, too
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is not valid JSON: it is nested too deeply, or a number in it is too long"
        ) from None


def place_in(folder: Path, written: object) -> Path:
    """What a suite's file names: a relative path inside the suite, which may begin with ./"""
    if not isinstance(written, str):
        raise UnsafePath(
            f"{folder}: the file {shown(written)} is not a text; a relative path is wanted"
        )
    return below(folder, *safe_parts(PurePosixPath(written).as_posix(), f"{folder}: the file"))


def pictures(folder: Path, *parts: str) -> list[Path]:
    """The images of a folder of the suite."""
    return own_images(folder, below(folder, *parts))
