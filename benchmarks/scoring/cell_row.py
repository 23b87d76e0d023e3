"""A planned cell as plan.csv has it: what is handed to scoring, and what a plan that was read gives
back.

In: a plan's cell, or a row of text. Out: a `CellRow`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from benchmarks.suite.drift_kinds import DRIFTS, PLAIN


@dataclass(frozen=True)
class CellRow:
    """The columns of plan.csv in their order; and the seeds of the cell's images, which a plan or
    cell.json tells.
    """

    method: str
    point: str
    concept: str  # a pair's two names joined by +
    group: str  # of the concept; `pair`
    prompt_id: str
    kind: str
    n: int  # images
    key: str
    fit: str  # keys, joined by +
    template: str
    text: str  # what its images are scored against
    super_category: str
    seeds: tuple[int, ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, str]) -> "CellRow":
        """From a row of text, whose seeds are not known."""
        return cls(**{name: int(row[name]) if name == "n" else row[name] for name in COLUMNS})  # type: ignore[arg-type]

    @property
    def address(self) -> tuple[str, str, str]:
        """What one rows file holds."""
        return self.method, self.point, self.concept

    @property
    def drifts(self) -> bool:
        """Whether it measures drift, and is no part of the protocol."""
        return self.kind in DRIFTS

    @property
    def is_base(self) -> bool:
        """Whether it is what the pictures of such a cell are compared with."""
        return self.drifts and self.concept == PLAIN


COLUMNS = tuple(column.name for column in fields(CellRow) if column.name != "seeds")
