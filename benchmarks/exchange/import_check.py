"""What is wrong with pictures, told before anything is written: one sentence a kind, with a count
and the first of them.

In: a `Listing`, `Questions`, what is planned. Out: cells of pictures that were looked at, or one
error.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.exchange.import_questions import Question, Questions
from benchmarks.exchange.listed_pictures import Listed, Listing
from benchmarks.suite.image_files import Looked, look_at
from perfusion_core.errors import UserError

FIRST = 3  # examples of a kind
Place = tuple[str, str, str, str]  # method, point, concept, prompt id


@dataclass
class Sorted:
    """Pictures by cell, in the order of their index, and the questions that they answer."""

    cells: dict[Place, list[tuple[Listed, Looked]]] = field(default_factory=dict)
    questions: dict[Place, Question] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        return sum(map(len, self.cells.values()))


@dataclass
class Wrong:
    """Kind of mistake -> examples; `never`: those that --allow-missing does not let through."""

    found: dict[str, list[str]] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)

    def add(self, kind: str, names: Sequence[str], never: bool = False) -> None:
        if names:
            self.found.setdefault(kind, []).extend(names)
            self.never |= {kind} if never else set()

    def sentences(self) -> list[str]:
        return [f"{len(names):,} {kind}: {first_of(names)}" for kind, names in self.found.items()]


def first_of(names: Sequence[str]) -> str:
    """The first few of a list, in words that can be printed."""
    shown = ", ".join(printable(name) for name in names[:FIRST])
    return shown + (f" and {len(names) - FIRST:,} more" if len(names) > FIRST else "")


def printable(name: str) -> str:
    """A name as an error prints it: no line ends, no signs that move the cursor."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= 160 else f"{text[:160]}..."


def sort_pictures(listing: Listing, questions: Questions, name: str, wrong: Wrong) -> Sorted:
    """Pictures by cell; what is of no known concept or prompt, or comes twice, goes to `wrong`."""
    cells: dict[Place, list[Listed]] = {}
    asked: dict[Place, Question] = {}
    for kind, names in listing.odd.items():
        wrong.add(kind, names)
    strangers: dict[str, list[str]] = {"concept": [], "prompt": []}
    nameless: list[str] = []
    for one in listing.pictures:
        if not (method := one.method or name):
            nameless.append(one.name)
        elif question := questions.find(one.concept, one.prompt):
            place = method, one.point, question.concept, question.prompt_id
            asked[place] = question
            cells.setdefault(place, []).append(one)
        else:
            strange = "prompt" if questions.of(one.concept) else "concept"
            of = one.concept if strange == "concept" else f"{one.concept} {one.prompt}"
            strangers[strange].append(f"{one.name} ({of})")
    if nameless:
        raise UserError(
            f"nothing says which method made {len(nameless):,} pictures ({first_of(nameless)}): "
            f"give --as NAME"
        )
    known = first_of(questions.names) or "none"
    wrong.add(f"of an unknown concept (known: {known})", strangers["concept"])
    wrong.add("of an unknown prompt", strangers["prompt"])
    wrong.add("double", list(doubles(cells)), never=True)
    return Sorted(looked_at(cells, wrong), asked)


def doubles(cells: Mapping[Place, Sequence[Listed]]) -> Iterable[str]:
    """Pictures of an index that another one has, and files that come twice."""
    files: set[Path] = set()
    for place, pictures in cells.items():
        taken: set[int] = set()
        for one in pictures:
            if one.path in files:
                yield f"{one.name} (listed twice)"
            elif one.index is not None and one.index in taken:
                yield f"{one.name} ({' '.join(place[2:])} has another picture {one.index})"
            files.add(one.path)
            taken |= {one.index} if one.index is not None else set()


def looked_at(
    cells: Mapping[Place, Sequence[Listed]], wrong: Wrong
) -> dict[Place, list[tuple[Listed, Looked]]]:
    """Each file read once, several at a time."""
    every = [
        (place, one)
        for place, pictures in cells.items()
        for one in sorted(pictures, key=lambda one: (one.index is None, one.index or 0))
    ]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        seen = list(pool.map(lambda item: look(item[1].path), every))
    out: dict[Place, list[tuple[Listed, Looked]]] = {}
    unreadable = []
    for (place, one), found in zip(every, seen):
        if isinstance(found, Looked):
            out.setdefault(place, []).append((one, found))
        else:
            unreadable.append(f"{one.name} ({found})")
    wrong.add("that cannot be read", unreadable)
    return out


def look(path: Path) -> Looked | str:
    """What a picture is, or why it is none."""
    try:
        return look_at(path)
    except FileNotFoundError:
        return "it is not there"
    except IsADirectoryError:
        return "it is a folder"
    except UserError as error:
        return str(error)
    except OSError as error:
        return error.strerror or "it cannot be read"


def refuse(given: str, wrong: Wrong, allow_missing: bool) -> None:
    """Nothing was written; with --allow-missing what is whole goes on."""
    if not wrong.found or (allow_missing and not wrong.never):
        return
    advice = "" if wrong.never else "\nMend them, or import the others with --allow-missing."
    lines = "".join(f"\n  {sentence}" for sentence in wrong.sentences())
    raise UserError(f"{given}: nothing was written, because there are pictures{lines}{advice}")
