"""What imported pictures are of a run: planned cells with keys, and the pictures of each.

In: sorted pictures, the folder as it is. Out: `Planned` cells; what is missing; what would replace
other pictures. A key says which pictures, of which names, scored against which text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.digests import digest
from benchmarks.disk import read_manifest
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
    out, missing, many = [], list[str](), list[str]()
    for method, point in dict.fromkeys(place[:2] for place in found.cells):
        for name, of in asked.items():
            for question in (*of, *more.get((method, point, name), ())):
                place = (method, point, name, question.prompt_id)
                pictures = found.cells.get(place, [])
                if not pictures and place in here:
                    continue  # of an earlier import
                words = f"{name} {question.prompt_id}"
                if len(pictures) > images:
                    many.append(f"{words} ({len(pictures)})")
                missing += [words] * (images - len(pictures))
                out.append(planned_cell(place, question, pictures, images))
    wrong.add(f"more than the run's {images} of a prompt, in all", many, never=True)
    wrong.add("missing", missing)
    wrong.add("other ones than those imported before", list(replaced(into, out, here)), never=True)
    return out, images


def planned_cell(
    place: Place, asked: Question, pictures: Sequence[tuple[Listed, Looked]], images: int
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
    return Planned(cell, tuple(pictures))


def pictures_here(into: Into) -> dict[Place, tuple[str, ...]]:
    """The digests of what was imported before, by cell."""
    out: dict[Place, tuple[str, ...]] = {}
    for row in into.planned:
        if row.method in into.imported:
            folder = into.store.images(*row.address, row.prompt_id)
            about = read_manifest(folder / "cell.json") or {}
            told = about.get("from")
            if about.get("key") == row.key and isinstance(told, list):
                digests = [str(one.get("sha256")) for one in told if isinstance(one, dict)]
                out[(*row.address, row.prompt_id)] = tuple(digests)
    return out


def replaced(
    into: Into, cells: Iterable[Planned], here: Mapping[Place, Sequence[str]]
) -> Iterable[str]:
    """Cells that had pictures which are not among the new ones: a name means one thing."""
    for one in cells:
        cell = one.cell
        before = here.get((cell.method, cell.point, cell.concept, cell.prompt_id), ())
        if set(before) - {looked.sha256 for _, looked in one.pictures}:
            yield f"{cell.method} {cell.concept} {cell.prompt_id}"
