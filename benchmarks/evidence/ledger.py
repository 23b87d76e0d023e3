"""The ledger: a row a claim of the paper that can be tested here, how it is measured, and what came
out.

In: the committed runs. Out: `Row`s. What a claim needs and is not there makes the row `not
measured`, with the reason. A verdict that other draws of the bootstrap change is `inconclusive`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.evidence.verdicts import ABSENT, OPEN, told
from benchmarks.tables.build import split_pairs
from benchmarks.tables.grid import Grid, grid_of
from benchmarks.tables.run_view import Run
from benchmarks.tables.sample_rows import missing_of, refuse_missing, silent_scorers
from benchmarks.tables.statistics import SEED, Interval
from perfusion_core.errors import UserError

SEEDS = range(SEED, SEED + 5)  # the first gives the figures
EDGE = "; other draws of the bootstrap end on the other side"


@dataclass(frozen=True)
class Finding:
    """A figure in words, and what it says of the claim."""

    figure: str
    verdict: str


@dataclass(frozen=True)
class Row:
    claim: str
    where: str  # in the paper
    measure: str
    finding: Finding


@dataclass(frozen=True)
class Evidence:
    """The runs of one folder of results, by the names that commands.py gives them."""

    results: Path
    seed: int = SEED
    grids: dict[tuple[str, bool, tuple[str, ...]], Grid] = field(
        default_factory=dict, compare=False, repr=False
    )  # read once

    def folder(self, name: str) -> Path:
        return self.results / name

    def run(self, name: str) -> Run:
        folder = self.folder(f"miniature-{name}")
        if not (folder / "run.json").is_file():
            raise UserError(f"{folder.name} has not been made")
        return Run(folder)

    def grid(self, name: str, pairs: bool = False, only: tuple[str, ...] = ()) -> Grid:
        """Of a whole run, or `only` these concepts: an average over what happens to be there is not
        the planned one.
        """
        if (name, pairs, only) not in self.grids:
            run = self.run(name)
            refuse_missing(missing_of(run.cells, run.plan, silent_scorers(run.about)), run.plan)
            cells = split_pairs(run.cells)[pairs]
            if not len(cells):
                raise UserError(
                    f"miniature-{name} has no {'pairs' if pairs else 'single concepts'}"
                )
            if missing := sorted(set(only) - set(cells["concept"])):
                raise UserError(f"miniature-{name} has no {', '.join(missing)}")
            grid = grid_of(cells[cells["concept"].isin(only)] if only else cells)
            self.grids[name, pairs, only] = replace(grid, seed=self.seed)
        return self.grids[name, pairs, only]


Find = Callable[[Evidence], Finding]
CLAIMS: list[tuple[str, str, str, Find]] = []


def claim(says: str, where: str, measure: str) -> Callable[[Find], Find]:
    """A function that finds out about a claim, put into the ledger."""

    def add(find: Find) -> Find:
        CLAIMS.append((says, where, measure, find))
        return find

    return add


def both(text: Interval, image: Interval, verdict: str) -> Finding:
    return Finding(f"text {told(text)}, image {told(image)}", verdict)


def settled(find: Find, drawn: Sequence[Evidence]) -> Finding:
    """What all draws agree on, in the figures of the first."""
    try:
        first, *others = (find(evidence) for evidence in drawn)
    except UserError as reason:
        return Finding(str(reason), ABSENT)
    if all(other.verdict == first.verdict for other in others):
        return first
    return Finding(first.figure + EDGE, OPEN)
