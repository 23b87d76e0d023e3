"""What travels between the driver and its workers: the job and its tasks there, events back. No
torch.

A task is a few units that share their models' state, or the cells of one rows file to score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from benchmarks.digests import digest
from benchmarks.planning.backbones import Models
from benchmarks.planning.config import Config
from benchmarks.planning.units import Cell, Fit, Plan, Unit
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import REAL
from benchmarks.suite.catalog import Prompt

CHUNK = 8  # cells a task: long enough to share what is applied, short enough to share the work


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


@dataclass(frozen=True)
class Units:
    """Priors, fits, or cells of one method, point and subject."""

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
    def lock(self) -> str:
        return digest(["score", self.method, self.point, self.concept])


Task = Units | ScoringTask


@dataclass(frozen=True)
class Event:
    """begin, step, done, failed, busy (of a unit) or rows (of a scoring task)."""

    kind: str
    unit: Unit | ScoringTask
    seconds: float = 0.0
    images: int = 0
    text: str = ""
    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def unit_tasks(plan: Plan, done: set[str]) -> list[Units]:
    """What is left, in the plan's order, each fit just before the first cells that need it."""
    tasks: list[Units] = []
    seen = set(done)

    def add(units: Iterable[Unit], needs: Iterable[str] = ()) -> None:
        todo = tuple(unit for unit in units if unit.key not in seen)
        seen.update(unit.key for unit in todo)
        if todo:
            tasks.append(Units(todo, frozenset(needs)))

    for _, run in groupby(plan.cells, key=lambda cell: (cell.method, cell.point, cell.concepts)):
        cells = [cell for cell in run if cell.key not in seen]
        for fit in {fit.key: fit for cell in cells for fit in cell.fits}.values():
            if fit.prior and fit.key not in seen:
                add([fit.prior])
            add([fit], [fit.prior.key] if fit.prior else [])
        for start in range(0, len(cells), CHUNK):
            part = cells[start : start + CHUNK]
            add(part, {fit.key for cell in part for fit in cell.fits})
    return tasks


def drawn_together(units: Sequence[Unit], batch: int) -> list[Sequence[Unit]]:
    """What of a task is made at a time: one unit, or as many cells as a batch of so many images
    holds.
    """
    first = units[0]
    many = max(1, batch // len(first.seeds)) if isinstance(first, Cell) else 1
    return [units[start : start + many] for start in range(0, len(units), many)]


def name_of(unit: Unit | ScoringTask) -> str:
    """For people: `fit perfusion/cat`."""
    if isinstance(unit, ScoringTask):
        return f"score {unit.method}/{unit.point}/{unit.concept}"
    if isinstance(unit, Cell):
        return f"{unit.method}/{unit.point}/{unit.concept}/{unit.prompt_id}"
    if isinstance(unit, Fit):
        return f"fit {unit.method}/{unit.concept}"
    return f"class images of {unit.super_category}"
