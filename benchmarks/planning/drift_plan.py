"""The cells that measure what a loaded concept does to everything else.

In: the protocol's cells, a catalogue, concepts. Out: for every fit and point the cells of unrelated
prompts and of the plain class word, and before them the plain backbone's of the same texts and
noise, which all concepts and methods share.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from benchmarks.digests import digest
from benchmarks.planning.units import FLOOR, Cell
from benchmarks.suite.catalog import Catalog, Concept, Prompt
from benchmarks.suite.drift_kinds import PLAIN
from benchmarks.suite.drift_prompts import drift_prompts
from perfusion_core.errors import unknown

IMAGES = 2  # of each prompt
EVERYWHERE = "all"  # in drift_of
Point = tuple[str, str]  # method, point


def drift_cells(
    cells: Iterable[Cell],
    shared: Mapping[Point, str],
    catalog: Catalog,
    concepts: Sequence[Concept],
    seed_of: Callable[[str, int], int],
) -> tuple[Cell, ...]:
    """`shared`: digests of all that decides the bytes of a method's pictures at a point but fits
    and texts; `seed_of`: of a prompt's id and an index."""
    prompts = {concept.name: drift_prompts(catalog, concept) for concept in concepts}
    groups = {
        (cell.method, cell.point, cell.concept): cell
        for cell in cells
        if len(cell.concepts) == 1 and cell.concept in prompts
    }
    floor = next((cell for cell in groups.values() if cell.base == FLOOR), None)
    if floor is None:  # a plan of nothing but pairs
        return ()
    bases: dict[str, Cell] = {}
    mine: list[Cell] = []
    for (method, point, concept), cell in groups.items():
        if cell.base == FLOOR:
            continue
        for prompt in prompts[concept]:
            base = bases.setdefault(
                prompt.id, _base(floor, prompt, shared[floor.method, floor.point], seed_of)
            )
            key = digest(
                {
                    "shared": shared[method, point],
                    "fits": [fit.key for fit in cell.fits],
                    "template": prompt.template,
                    "super": cell.super_categories,
                    "seeds": base.seeds,
                    "beside": base.key,
                }
            )
            mine.append(_of_prompt(cell, prompt, base.seeds, key))
    return (*bases.values(), *mine)


def drifting(cells: Sequence[Cell], asked: Sequence[str]) -> list[Cell]:
    """The cells of the methods and operating points that were asked for, and of `super`, which all
    drift is measured from.
    """
    known = {name for cell in cells for name in names_of(cell)}
    if lost := next((name for name in asked if name not in known), None):
        raise unknown("method or point in drift_of", lost, known)
    return [cell for cell in cells if cell.base == FLOOR or names_of(cell) & {*asked}]


def names_of(cell: Cell) -> set[str]:
    return {EVERYWHERE, cell.method, f"{cell.method}/{cell.point}"}


def _base(floor: Cell, prompt: Prompt, shared: str, seed_of: Callable[[str, int], int]) -> Cell:
    """What the plain backbone draws; no concept is in its key."""
    seeds = tuple(seed_of(prompt.id, index) for index in range(IMAGES))
    what = {"shared": shared, "fits": [], "template": prompt.template, "super": "", "seeds": seeds}
    plain = replace(floor, concepts=(PLAIN,), super_categories=("",), group="")
    return _of_prompt(plain, prompt, seeds, digest(what))


def _of_prompt(cell: Cell, prompt: Prompt, seeds: tuple[int, ...], key: str) -> Cell:
    return replace(
        cell,
        prompt_id=prompt.id,
        kind=prompt.kind,
        template=prompt.template,
        text=prompt.template,
        seeds=seeds,
        key=key,
    )
