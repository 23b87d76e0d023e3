"""A run as another of its scorers sees it: a judge, people's ratings, the truth.

In: a run and the scorer's name. Out: a `Run` whose tables and cells are that scorer's, under the
plain names of the metrics, so that whatever is drawn of a run is drawn of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.store import reading
from benchmarks.tables.build import metrics_of, split_pairs, table_of
from benchmarks.tables.costs import all_costs
from benchmarks.tables.run_view import Run
from benchmarks.tables.sample_rows import named_by
from perfusion_core.errors import UserError, unknown


@dataclass(frozen=True)
class AsScored(Run):
    """The same folder; scores by `scorer`, one of the run's."""

    scorer: str = ""

    @cached_property
    def about(self) -> dict[str, Any]:
        """With this scorer as the reported one: runs by different scorers share no axes."""
        about = reading.read_run(self.folder)
        mine = [one for one in about["scorers"] if one["name"] == self.scorer]
        return {**about, "scorers": mine + [one for one in about["scorers"] if one not in mine]}

    @cached_property
    def cells(self) -> pd.DataFrame:
        cells = Run(self.folder).cells
        plain = cells["metric"].map(named_by(self.scorer))
        return cells[plain.notna()].assign(metric=plain.dropna())

    @cached_property
    def table(self) -> pd.DataFrame:
        """Without the plan: of some prompts another scorer need not have an opinion."""
        return table_of(split_pairs(self.cells)[0], None, all_costs(self.folder))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return metrics_of(split_pairs(self.cells)[0])

    @property
    def pair_table(self) -> None:
        """Of single concepts only."""
        return None


def as_scored(run: Run, scorer: str) -> Run:
    """The run itself for its reported scorer; a part of a name is enough where it fits one."""
    reported, *others = (one["name"] for one in run.about["scorers"])
    named = [name for name in (reported, *others) if name == scorer]
    found = named or [name for name in (reported, *others) if name.startswith(scorer)]
    if len(found) != 1:
        raise unknown("scorer", scorer, (reported, *others))
    if found[0] == reported:
        return run
    other = AsScored(run.folder, found[0])
    if other.cells.empty:
        raise UserError(
            f"{run.name} has no scores by {found[0]} in its tables; `perfbench table {run.folder}` "
            f"makes them again"
        )
    return other
