"""What travels between the driver and its workers: the job and its tasks there, events back. No
torch.

A task is a few units that share their models' state, or the cells of one rows file to score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import gcd
from typing import Any

from benchmarks.digests import digest
from benchmarks.planning.backbones import Models
from benchmarks.planning.config import Config
from benchmarks.planning.units import Cell, Fit, Plan, Unit
from benchmarks.scoring.calls import Calls
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import REAL
from benchmarks.suite.catalog import Prompt

CHUNK = 8  # cells a task: long enough to share what is applied, short enough to share the work
SCORED = 1000  # images whose rows are written at a time: on a slow machine a minute or two


@dataclass(frozen=True)
class Job:
    """What every worker knows; travels by pickle to processes and nodes of ours."""

    config: Config
    models: Models
    asymmetric: frozenset[str]  # concepts that are never flipped
    validation: tuple[Prompt, ...]
    # image similarity on all prompts (other suites), not only on the shape-preserving ones
    every_prompt: bool
    device: str = "cpu"
    threads: int = 0
    segmenter: str = ""  # what finds the thing in pictures: judges:PLACE, clipseg:WHERE, or nothing
    # of each concept's photographs, as `image_files.frame_of` tells, where the U-Net is told so
    frames: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    watched: bool = False  # somebody wants to see validation pictures (`--log`)
    calls: Calls | None = None  # of judges, which are asked in the driver's own process alone


@dataclass(frozen=True)
class Units:
    """A prior, a fit, or cells: of one method, point and subject, or such as can share batches."""

    units: tuple[Unit, ...]
    needs: frozenset[str] = frozenset()  # keys of units that must be done before


@dataclass(frozen=True)
class ScoringTask:
    """Cells of one rows file to score; or (`real`) a concept's own images."""

    method: str
    point: str
    concept: str
    group: str  # of the concept: animated, container ...
    cells: tuple[CellRow, ...]
    scorers: tuple[str, ...]  # names
    needs: frozenset[str] = frozenset()  # their cells, done or failed
    key: str = ""  # of the concept's images, where `real`

    @property
    def real(self) -> bool:
        return self.method == REAL

    @property
    def images(self) -> int:
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def lock(self) -> str:
        return digest(["score", self.method, self.point, self.concept])


Task = Units | ScoringTask


@dataclass(frozen=True)
class Event:
    """begin, step, look, done, failed, busy, note (of a unit) or rows (of a scoring task)."""

    kind: str
    unit: Unit | ScoringTask
    seconds: float = 0.0
    share: float = 0.0  # of a fit, at a step
    images: int = 0
    text: str = ""
    taken: bool = False  # from the cache of earlier runs
    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    # of a fit, for who watches it: the step, its loss or score, its validation pictures as PNG
    step: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[bytes, ...] = ()


def needs_of(unit: Unit) -> frozenset[str]:
    """Keys of what has to be done before a unit."""
    if isinstance(unit, Cell):
        return frozenset(fit.key for fit in unit.fits)
    return frozenset([unit.prior.key] if isinstance(unit, Fit) and unit.prior else [])


def unit_tasks(plan: Plan, done: set[str]) -> list[Units]:
    """What is left, in the plan's order, each fit just before the first cells that need it.

    Cells whose pictures can share batches wait until they fill some, whatever their points.
    """
    tasks: list[Units] = []
    seen, waiting = set(done), dict[int, list[Cell]]()  # by images a cell

    def add(units: Iterable[Unit]) -> None:
        todo = tuple(unit for unit in units if unit.key not in seen)
        seen.update(unit.key for unit in todo)
        if todo:
            tasks.append(Units(todo, frozenset().union(*map(needs_of, todo))))

    def add_cells(cells: Sequence[Cell], many: int) -> None:
        for start in range(0, len(cells), many):
            add(cells[start : start + many])

    def alike(cell: Cell) -> tuple[object, ...]:
        return cell.method, cell.point, cell.concepts, len(cell.seeds)

    for _, run in groupby(plan.drawn, key=alike):
        cells = [cell for cell in run if cell.key not in seen]
        for fit in {fit.key: fit for cell in cells for fit in cell.fits}.values():
            if fit.prior and fit.key not in seen:
                add([fit.prior])
            add([fit])
        if not cells:
            continue
        many = in_whole_batches(len(cells[0].seeds), plan.batch)
        many *= -(-CHUNK // many)
        if not cells[0].text_side:
            add_cells(cells, many)
            continue
        some = waiting.setdefault(len(cells[0].seeds), [])
        some += cells
        full = len(some) // many * many
        add_cells(some[:full], many)
        del some[:full]
    for some in waiting.values():
        add(some)
    return tasks


def concept_tasks(plan: Plan, done: set[str]) -> list[Units]:
    """The same a concept at a time: cells wait for none of another concept to fill their batch.
    What drift is measured from comes with the first.
    """
    tasks, seen = list[Units](), set(done)
    subjects = dict.fromkeys(cell.concepts for cell in plan.cells)
    for number, subject in enumerate(subjects):
        drift = (
            cell
            for cell in plan.drift
            if cell.concepts == subject or (number == 0 and cell.row.is_base)
        )
        cells = tuple(cell for cell in plan.cells if cell.concepts == subject)
        mine = unit_tasks(replace(plan, cells=cells, drift=tuple(drift)), seen)
        seen |= {unit.key for task in mine for unit in task.units}
        tasks += mine
    return tasks


def in_whole_batches(images: int, batch: int) -> int:
    """The fewest cells of so many images that fill batches to the last row."""
    return batch // gcd(batch, images)


def drawn_together(units: Sequence[Unit], batch: int) -> list[Sequence[Unit]]:
    """What of a task is made at a time: one unit, or the cells that fill one batch or a few."""
    first = units[0]
    many = in_whole_batches(len(first.seeds), batch) if isinstance(first, Cell) else 1
    return [units[start : start + many] for start in range(0, len(units), many)]


def scored_together(task: ScoringTask) -> list[ScoringTask]:
    """What of a task is scored before its rows are written: whole cells of so many images, or one.
    Most groups are one part."""
    parts: list[list[CellRow]] = [[]]
    images = 0
    for cell in task.cells:
        if parts[-1] and images + len(cell.seeds) > SCORED:
            parts.append([])
            images = 0
        parts[-1].append(cell)
        images += len(cell.seeds)
    return [replace(task, cells=tuple(cells)) for cells in parts]


def name_of(unit: Unit | ScoringTask) -> str:
    """For people: `fit perfusion/cat`."""
    if isinstance(unit, ScoringTask):
        return f"score {unit.method}/{unit.point}/{unit.concept}"
    if isinstance(unit, Cell):
        return f"{unit.method}/{unit.point}/{unit.concept}/{unit.prompt_id}"
    if isinstance(unit, Fit):
        return f"fit {unit.method}/{unit.concept}"
    return f"class images of {unit.super_category}"
