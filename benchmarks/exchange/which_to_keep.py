"""Which of several trained files to keep, by paired differences over the prompts.

In: the rows of cells.csv, names in the order of the training. Out: a `Choice` a scorer: scores with
intervals, how far each is behind the best, and which cannot be told apart from it.

The concepts are the user's own, and other prompts of the suite's kind are what he will write: so
the prompts are drawn again, within their kind, and the concepts stay. Every file has the same
prompts, seeds and noise, and the same draws: differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.scoring.reserved import FLOOR
from benchmarks.tables.grid import Grid, grid_of
from benchmarks.tables.sample_rows import named_by
from benchmarks.tables.statistics import Interval, expanded

METRICS = ("image_sim", "text_sim", "harmonic")
DECIDING = ("harmonic", "text_sim", "image_sim")  # the first one of which there is a number


@dataclass(frozen=True)
class Scored:
    """One file, or `super`, as one scorer sees it."""

    name: str
    scores: dict[str, Interval]  # by METRICS
    behind: Interval  # the best less this one, in what decides


@dataclass(frozen=True)
class Choice:
    """What one scorer says of all of them."""

    scorer: str
    # the harmonic mean; text similarity where no prompt keeps the shape, image similarity where the
    # scorer reads no text
    decides: str
    prompts: int  # the fewest of a kind that a concept's score is a mean of
    rows: tuple[Scored, ...]  # in the order of the training
    floor: Scored
    best: str  # empty where no file has a number

    @property
    def level(self) -> list[str]:
        """The others that cannot be told apart from the best, none where it is ahead of all."""
        return [one.name for one in self.others if not one.behind.lo > 0]

    @property
    def others(self) -> list[Scored]:
        """What can be compared with the best."""
        there = [one for one in self.rows if np.isfinite(one.behind.value)]
        return [one for one in there if one.name != self.best]


def choose(
    cells: pd.DataFrame, names: Sequence[str], concepts: Sequence[str], scorer: str = ""
) -> Choice:
    """`scorer`: the name of another than the reported one, whose columns are called after it."""
    grid = grid_of(of_scorer(cells, [FLOOR, *names], concepts, scorer))
    rows = {name: grid.rows(name)[0] for name in (FLOOR, *names)}
    drawn = {metric: grid.drawn[metric].mean(-1) for metric in METRICS}  # [D, M]
    own = [rows[name] for name in names]
    told = [metric for metric in DECIDING if np.isfinite(drawn[metric][0, own]).any()]
    decides = told[0] if told else DECIDING[0]
    fewest = {metric: few(grid, metric) for metric in METRICS}
    score = {name: drawn[decides][0, rows[name]] for name in names}
    first = max(names, key=lambda name: np.nan_to_num(score[name], nan=-np.inf))

    def scored(name: str) -> Scored:
        m = rows[name]
        behind = drawn[decides][:, rows[first]] - drawn[decides][:, m]
        scores = {metric: expanded(drawn[metric][:, m], fewest[metric]) for metric in METRICS}
        return Scored(name, scores, expanded(behind, fewest[decides]))

    every = tuple(map(scored, names))
    best = first if told else ""
    return Choice(scorer, decides, fewest[decides], every, scored(FLOOR), best)


def of_scorer(
    cells: pd.DataFrame, names: Sequence[str], concepts: Sequence[str], scorer: str
) -> pd.DataFrame:
    """Rows of these methods and concepts, the scorer's metrics under their plain names."""
    called = named_by(scorer)
    own = cells[cells["method"].isin(names) & cells["concept"].isin(concepts)]
    found = own[own["metric"].isin(called)]
    found = found.assign(metric=found["metric"].map(called))
    # a method of which it has no number keeps its place, empty
    lacking = own["metric"].isin(called.values()) & ~own["method"].isin(found["method"])
    return pd.concat([found, own[lacking].assign(mean=np.nan, even=np.nan, odd=np.nan)])


def few(grid: Grid, metric: str) -> int:
    """The fewest prompts of one kind that a concept has: they are drawn again among themselves, and
    one alone tells nothing of another. Shapes and their changes both count in the harmonic mean.
    """
    parts = {"text_sim": ["text_sim_raw"], "image_sim": ["image_sim"]}
    counts = []
    for of in parts.get(metric, ["text_sim_raw", "image_sim"]):
        there = ~np.isnan(grid.values[of]).all(0)  # [C, P]
        kinds = np.array(grid.kinds)
        counts += [there[:, kinds == kind].sum(-1) for kind in set(grid.kinds)]
    found = [int(n) for n in np.concatenate(counts) if n]
    return min(found, default=0)
