"""Which folders of results a claim rests on. In: the committed results. Out: folder -> the claims
that look into it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.evidence.all_claims import FAMILIES
from benchmarks.evidence.ledger import CLAIMS, Evidence
from benchmarks.tables.grid import Grid
from perfusion_core.errors import UserError

FEW = 20  # bootstrap draws: what a claim looks at does not depend on them, only what it finds


@dataclass(frozen=True)
class Noted(Evidence):
    """Evidence that notes which folders it is asked for."""

    seen: set[str] = field(default_factory=set, compare=False, repr=False)

    def folder(self, name: str) -> Path:
        self.seen.add(name)
        return super().folder(name)


@dataclass(frozen=True)
class Watched(Noted):
    """The same for one claim after the other, with few draws."""

    def grid(self, name: str, pairs: bool = False, only: tuple[str, ...] = ()) -> Grid:
        self.seen.add(f"miniature-{name}")  # also where the grid is known already
        grid = super().grid(name, pairs, only)
        self.grids[name, pairs, only] = grid if grid.n_draws == FEW else replace(grid, n_draws=FEW)
        return self.grids[name, pairs, only]


def resting_on(results: Path) -> dict[str, list[str]]:
    """Folder -> claims, in the order of docs/claims.md."""
    assert FAMILIES, "their import fills the ledger"
    evidence = Watched(results)
    found: dict[str, list[str]] = {}
    for claim in CLAIMS:
        evidence.seen.clear()
        try:
            claim.find(evidence)
        except UserError:
            continue  # not measured: it rests on nothing yet
        for name in evidence.seen:
            found.setdefault(name, []).append(claim.says)
    return found


def runs_of(resting: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Claim -> the folders that it rests on."""
    found: dict[str, list[str]] = {}
    for folder, claims in sorted(resting.items()):
        for claim in claims:
            found.setdefault(claim, []).append(folder)
    return found
