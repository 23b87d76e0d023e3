"""What imported pictures are of a run: planned cells with keys, and the pictures of each.

In: sorted pictures, the folder as it is. Out: `Planned` cells, with what is there beside what is
new; what is missing; what would replace other pictures. A key says which pictures, of which names,
scored against which text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import read_manifest, verified
from benchmarks.exchange.import_check import Place, Sorted, Wrong
from benchmarks.exchange.import_folder import Into
from benchmarks.exchange.import_questions import Question, Questions
from benchmarks.exchange.listed_pictures import UNKNOWN_SEED, Listed
from benchmarks.planning.units import Cell
from benchmarks.scoring.reserved import IMPORTED
from benchmarks.suite.image_files import Looked


@dataclass(frozen=True)
class Planned:
    """A cell of an imported method, and its pictures; none where they are missing."""

    cell: Cell
    pictures: tuple[tuple[Listed, Looked], ...]
    # of these, the ones that an earlier import left in the run: file -> its digest and size
    kept: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        return [one.seed for one, _ in self.pictures]


def plan_cells(
    into: Into, found: Sorted, questions: Questions, wrong: Wrong
) -> tuple[list[Planned], int]:
    """Every method and point that was found has all concepts and prompts of the run, or, in a new
    folder, of all pictures. -> the cells, and the images of each."""
    images = into.images or max(map(len, found.cells.values()), default=0)
    prompts = dict.fromkeys(place[3] for place in found.cells)
    concepts = dict.fromkeys([*questions.planned, *(place[2] for place in found.cells)])
    asked = {
        name: list(questions.planned[name].values())
        if name in questions.planned
        else questions.in_order(name, prompts)
        for name in concepts
    }
    here = pictures_here(into)
    known = {(name, one.prompt_id) for name, of in asked.items() for one in of}
    more: dict[tuple[str, str, str], list[Question]] = {}  # that the run has not planned
    for place, question in found.questions.items():
        if place[2:] not in known:
            more.setdefault(place[:3], []).append(question)
    out, missing, many, others = [], list[str](), list[str](), list[str]()
    for method, point in dict.fromkeys(place[:2] for place in found.cells):
        for name, of in asked.items():
            for question in (*of, *more.get((method, point, name), ())):
                place = (method, point, name, question.prompt_id)
                pictures = found.cells.get(place, [])
                if not pictures and place in here and here[place].planned:
                    continue  # of an earlier import
                words = f"{name} {question.prompt_id}"
                kept: Mapping[Path, Mapping[str, Any]] = {}
                if place in here and leaves_out(here[place], pictures):
                    if earlier := fitting(here[place], pictures):
                        kept = earlier.files
                        pictures = joined(earlier, pictures)
                    else:
                        others.append(f"{method} {words}")
                if len(pictures) > images:
                    many.append(f"{words} ({len(pictures)})")
                missing += [words] * (images - len(pictures))
                out.append(planned_cell(place, question, pictures, images, kept))
    wrong.add(f"more than the run's {images} of a prompt, in all", many, never=True)
    wrong.add("missing", missing)
    wrong.add("other ones than those imported before", others, never=True)
    return out, images


def planned_cell(
    place: Place,
    asked: Question,
    pictures: Sequence[tuple[Listed, Looked]],
    images: int,
    kept: Mapping[Path, Mapping[str, Any]],
) -> Planned:
    method, point, concept, prompt = place
    seeds = [one.seed for one, _ in pictures]
    key = digest(
        {
            "unit": IMPORTED,
            "place": place,
            "template": asked.template,
            "text": asked.text,
            "super": asked.super_category,
            "pictures": [looked.sha256 for _, looked in pictures],
            "seeds": seeds,
            "images": images,
        }
    )
    padded = (*seeds, *[UNKNOWN_SEED] * (images - len(seeds)))
    cell = Cell(
        method, IMPORTED, point, {}, 0, (concept,), (asked.super_category,), asked.group, prompt,
        asked.kind, asked.template, asked.text, padded, (), key,
    )  # fmt: skip
    return Planned(cell, tuple(pictures), kept)


# ---- what an earlier import left ----


@dataclass(frozen=True)
class Earlier:
    """The pictures of a cell that is in the run, by what its cell.json tells of them."""

    folder: Path
    about: Mapping[str, Any]
    planned: bool  # not so after an import that was interrupted while it added pictures

    @property
    def told(self) -> list[dict[str, Any]]:
        return [one for one in self.about["from"] if isinstance(one, dict)]

    @property
    def files(self) -> dict[Path, Mapping[str, Any]]:
        return {self.folder / name: told for name, told in self.about["files"].items()}


def pictures_here(into: Into) -> dict[Place, Earlier]:
    """What was imported before, by cell."""
    out: dict[Place, Earlier] = {}
    for row in into.planned:
        if row.method in into.imported:
            folder = into.store.images(*row.address, row.prompt_id)
            about = read_manifest(folder / "cell.json") or {}
            if isinstance(about.get("from"), list):
                place = (*row.address, row.prompt_id)
                out[place] = Earlier(folder, about, about["key"] == row.key)
    return out


def leaves_out(earlier: Earlier, pictures: Sequence[tuple[Listed, Looked]]) -> bool:
    """Whether a cell had pictures that are not among the new ones."""
    before = {str(one.get("sha256")) for one in earlier.told}
    new = {looked.sha256 for _, looked in pictures}
    return len(pictures) < len(earlier.told) or bool(before - new)


def fitting(earlier: Earlier, pictures: Sequence[tuple[Listed, Looked]]) -> Earlier | None:
    """The earlier pictures, where new ones can stand beside them: whole, every one of both with an
    index, and no index or picture of one another's; a name means one thing."""
    about = verified(earlier.folder, "cell.json", earlier.about["key"])
    if about is None or not well_told(earlier):
        return None
    before = {one["index"]: one["sha256"] for one in earlier.told}
    digests = set(before.values())
    for listed, looked in pictures:
        if listed.index is None or before.get(listed.index, looked.sha256) != looked.sha256:
            return None
        if looked.sha256 in digests and listed.index not in before:
            return None
    return earlier


def well_told(earlier: Earlier) -> bool:
    """Whether cell.json tells of every picture what an import of numbered pictures writes."""
    seeds, told = earlier.about.get("seeds"), earlier.told
    return (
        isinstance(seeds, list)
        and len(seeds) == len(told) == len(earlier.files)
        and all(type(seed) is int for seed in seeds)
        and all(earlier.folder / f"{number}.png" in earlier.files for number in range(len(told)))
        and all(
            type(one.get("index")) is int
            and isinstance(one.get("name"), str)
            and isinstance(one.get("sha256"), str)
            and isinstance(one.get("size"), list)
            and [type(side) for side in one["size"]] == [int, int]
            for one in told
        )
    )


def joined(
    earlier: Earlier, pictures: Sequence[tuple[Listed, Looked]]
) -> list[tuple[Listed, Looked]]:
    """Earlier and new pictures in the order of their index, as if they had come together."""
    new = {listed.index for listed, _ in pictures}
    out = list(pictures)
    for number, (one, seed) in enumerate(zip(earlier.told, earlier.about["seeds"])):
        if one["index"] not in new:
            path = earlier.folder / f"{number}.png"
            size = earlier.files[path]["bytes"]
            listed = Listed(path, one["name"], "", "", one["index"], seed)
            width, height = one["size"]
            out.append((listed, Looked(one["sha256"], size, width, height, True)))
    return sorted(out, key=lambda pair: pair[0].index or 0)
