"""How far raters agree: with one another (Krippendorff's alpha) and with themselves (repeated
trials).

In: values given to units, NaN where a rater gave none. Out: alpha; the share of repeated pairs that
came out the same.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def coincidences(table: np.ndarray) -> np.ndarray:
    """[V, V]: how often two values met in a unit, from `table` [units, V]: how many raters gave it
    each value.

    A pair of ratings counts 1 / (m - 1), m being the number of ratings of its unit. Sets of units
    add up.
    """
    table = table[table.sum(1) > 1].astype(float)  # a unit rated once can be paired with nothing
    share = table / np.maximum(table.sum(1, keepdims=True) - 1, 1)
    return share.T @ table - np.diag(share.sum(0))


def ordinal_distances(met: np.ndarray) -> np.ndarray:
    """Squared differences [V, V] of values in their order, from how often they met (Krippendorff
    2011, section D).
    """
    counts = met.sum(0)
    # between two values: all that lie between, and half of either end
    middle = np.cumsum(counts) - counts / 2
    return (middle[:, None] - middle[None, :]) ** 2


def alpha_of_coincidences(met: np.ndarray, distances: np.ndarray) -> float:
    """Krippendorff's alpha, 1 - D_o / D_e. NaN where nothing was rated twice or differs."""
    n_v = met.sum(0)
    n = n_v.sum()
    if n < 2:
        return float("nan")
    expected = (np.outer(n_v, n_v) * distances).sum() / (n - 1)
    return float(1 - (met * distances).sum() / expected) if expected > 0 else float("nan")


def same_order(first: Sequence[int], second: Sequence[int]) -> list[float]:
    """For each pair of a trial's choices: 1 for the same order both times, 0 for the reverse, 1/2
    for one tie.
    """
    agreed = []
    for a, b in combinations(range(len(first)), 2):
        before, after = np.sign(first[a] - first[b]), np.sign(second[a] - second[b])
        agreed.append(1 - abs(before - after) / 2)
    return [float(share) for share in agreed]
