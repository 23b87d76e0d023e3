"""The ledger: a row a claim of the paper that can be tested here, how it is measured, and what came
out.

In: the committed runs. Out: `Row`s. What a claim needs and is not there makes the row `not
measured`, with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path

from benchmarks.evidence.verdicts import ABSENT, Judged, Part, judged, told
from benchmarks.tables.build import split_pairs
from benchmarks.tables.dominance import DECIDING
from benchmarks.tables.grid import Grid, grid_of
from benchmarks.tables.run_view import Run
from benchmarks.tables.sample_rows import missing_of, refuse_missing, silent_scorers
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Finding:
    """A figure in words, and what it says of the claim."""

    figure: str
    judged: Judged

    @property
    def verdict(self) -> str:
        return self.judged.verdict


@dataclass(frozen=True)
class Claim:
    """What the paper says, and how it is found out."""

    says: str
    where: str  # in the paper
    measure: str
    group: str  # of the page
    find: "Find"


@dataclass(frozen=True)
class Row:
    claim: Claim
    finding: Finding
    q: float = nan  # p among all claims, by Benjamini and Hochberg


@dataclass(frozen=True)
class Evidence:
    """The runs of one folder of results, by the names that commands.py gives them."""

    results: Path
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
            self.grids[name, pairs, only] = replace(grid, n_draws=DECIDING)
        return self.grids[name, pairs, only]


Find = Callable[[Evidence], Finding]
CLAIMS: list[Claim] = []


def claim(says: str, where: str, measure: str, group: str) -> Callable[[Find], Find]:
    """A function that finds out about a claim, put into the ledger."""

    def add(find: Find) -> Find:
        CLAIMS.append(Claim(says, where, measure, group, find))
        return find

    return add


def part(grid: Grid, name: str, found: Interval, least: float = 0.0, delta: float = 0.0) -> Part:
    """A part of a claim whose unit is a run's concepts."""
    return Part(name, found, len(grid.concepts), least, delta)


def of_parts(*parts: Part) -> Finding:
    """Each part by its name, and what they say together."""
    return Finding(
        ", ".join(f"{one.name} {told(one.found)}".strip() for one in parts), judged(*parts)
    )


def found_out(claim: Claim, evidence: Evidence) -> Finding:
    try:
        return claim.find(evidence)
    except UserError as reason:
        return Finding(str(reason), Judged(ABSENT))
