"""How far raters agree: with one another (Krippendorff's alpha) and with themselves (repeated trials).

In: values given to units, NaN where a rater gave none. Out: alpha; the share of repeated pairs that came out the same.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

LEVELS = ("nominal", "ordinal", "interval")


def distances(level: str, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Squared differences [V, V] between the values that occur, `counts[v]` times each (Krippendorff 2011, section D)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values[None, :]) ** 2
    if level == "ordinal":
        # ranks between the middles of two values: all that lie between, and half of either end
        middle = np.cumsum(counts) - counts / 2
        return (middle[:, None] - middle[None, :]) ** 2
    raise ValueError(f"level must be one of {LEVELS}, not {level!r}")


def alpha(ratings: np.ndarray, level: str = "ordinal") -> float:
    """Krippendorff's alpha of ratings [raters, units]: 1 - D_o / D_e. NaN where no unit was rated twice or no value differs."""
    there = ~np.isnan(ratings)
    values = np.unique(ratings[there])
    table = np.stack([((ratings == value) & there).sum(0) for value in values], axis=1) if values.size else np.zeros((0, 0))
    return alpha_of_counts(table, values, level)


def alpha_of_counts(table: np.ndarray, values: np.ndarray, level: str = "ordinal") -> float:
    """The same from `table` [units, V]: how many raters gave each value to each unit."""
    table = table[table.sum(1) > 1].astype(float)  # a unit rated once can be paired with nothing
    if not table.size:
        return float("nan")
    m = table.sum(1, keepdims=True)
    coincidence = (table / (m - 1)).T @ table - np.diag((table / (m - 1)).sum(0))  # [V, V]
    n_v = coincidence.sum(0)
    n = n_v.sum()
    delta = distances(level, values, n_v)
    expected = (np.outer(n_v, n_v) * delta).sum() / (n * (n - 1))
    if expected == 0:
        return float("nan")
    return float(1 - (coincidence * delta).sum() / n / expected)


def same_order(first: Sequence[int], second: Sequence[int]) -> list[float]:
    """For each pair of a trial's choices: 1 where both times put them in the same order, 0 where reversed, 1/2 where only
    one of the two was a tie."""
    agreed = []
    for a, b in combinations(range(len(first)), 2):
        before, after = np.sign(first[a] - first[b]), np.sign(second[a] - second[b])
        agreed.append(1 - abs(before - after) / 2)
    return [float(share) for share in agreed]
