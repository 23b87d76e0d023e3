"""How far raters agree: with one another (Krippendorff's alpha) and with themselves (repeated trials).

In: values given to units, NaN where a rater gave none. Out: alpha; the share of repeated pairs that came out the same.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

LEVELS = ("nominal", "ordinal", "interval")


def distances(level: str, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Squared differences [V, V] of values that occur `counts[v]` times each (Krippendorff 2011, section D)."""
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
    """Krippendorff's alpha of ratings [raters, units]: 1 - D_o / D_e. NaN where nothing was rated twice or differs."""
    there = ~np.isnan(ratings)
    values = np.unique(ratings[there])
    table = ((ratings[..., None] == values) & there[..., None]).sum(0)  # [units, V]
    return alpha_of_coincidences(coincidences(table), values, level)


def coincidences(table: np.ndarray) -> np.ndarray:
    """[V, V]: how often two values met in a unit, from `table` [units, V]: how many raters gave it each value.

    A pair of ratings counts 1 / (m - 1), m being the number of ratings of its unit. Sets of units add up.
    """
    table = table[table.sum(1) > 1].astype(float)  # a unit rated once can be paired with nothing
    share = table / np.maximum(table.sum(1, keepdims=True) - 1, 1)
    return share.T @ table - np.diag(share.sum(0))


def alpha_of_coincidences(met: np.ndarray, values: np.ndarray, level: str = "ordinal") -> float:
    n_v = met.sum(0)
    n = n_v.sum()
    if n < 2:
        return float("nan")
    delta = distances(level, values, n_v)
    expected = (np.outer(n_v, n_v) * delta).sum() / (n - 1)
    return float(1 - (met * delta).sum() / expected) if expected > 0 else float("nan")


def same_order(first: Sequence[int], second: Sequence[int]) -> list[float]:
    """For each pair of a trial's choices: 1 for the same order both times, 0 for the reverse, 1/2 for one tie."""
    agreed = []
    for a, b in combinations(range(len(first)), 2):
        before, after = np.sign(first[a] - first[b]), np.sign(second[a] - second[b])
        agreed.append(1 - abs(before - after) / 2)
    return [float(share) for share in agreed]
