"""Ranks of operating points with what is not decided: a rank is an interval, and ties are shown.

In: operating points of one grid or of several that asked the same. Out: paired differences; of each
point how many others are ahead of it and behind it for certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.tables.frames import MEANS
from benchmarks.tables.grid import Grid
from benchmarks.tables.statistics import Interval, clustered, crossed, over_concepts

Placed = tuple[Grid, int]  # a grid, and the place of an operating point in it


@dataclass(frozen=True)
class Rank:
    """From `first` to `last`: of so many points one is certain that they are ahead, or behind."""

    value: float
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def paired_difference(a: Placed, b: Placed, metric: str) -> Interval:
    """a minus b, cell by cell where the metric is a mean of cells, else in the same draws."""
    (one, m), (other, k) = a, b
    if metric in MEANS:
        return clustered(one.values[metric][m] - other.values[metric][k])
    each = one.drawn[metric][:, m] - other.drawn[metric][:, k]
    n_concepts = int((~np.isnan(each[0])).sum())
    return crossed(over_concepts(each, one.draws), one.draws, n_concepts)


def ask_the_same(grids: Sequence[Grid]) -> bool:
    """Whether cells of all grids can be paired: the same concepts and prompts in the same strata,
    so that the bootstrap draws the same."""
    first = grids[0]
    return all(
        one.concepts == first.concepts
        and one.prompts == first.prompts
        and list(one.strata) == list(first.strata)
        and (one.seed, one.n_draws) == (first.seed, first.n_draws)
        for one in grids[1:]
    )


def ranks(points: Sequence[Placed], metric: str) -> list[Rank]:
    """Higher is better. A point is ahead of another one where the 95 % interval of their paired
    difference lies above 0; each pair is asked by itself. Without an interval nothing is decided.
    """
    assert not points or ask_the_same([grid for grid, _ in points])
    n = len(points)
    ahead = np.zeros((n, n), dtype=bool)  # [i, j]: i is ahead of j
    for i in range(n):
        for j in range(i + 1, n):
            found = paired_difference(points[i], points[j], metric)
            ahead[i, j], ahead[j, i] = found.lo > 0, found.hi < 0
    values = [float(grid.balanced[metric][0, m]) for grid, m in points]
    return [
        Rank(value, 1 + int(ahead[:, i].sum()), n - int(ahead[i].sum()))
        for i, value in enumerate(values)
    ]
