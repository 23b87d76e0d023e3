"""Class-balanced means of people's scores, and how sure they are.

In: one value an answer, with its concept and rater. Out: mean, SEM as in the paper, clustered 95 %
interval, p.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student
from scipy.stats import wilcoxon

from benchmarks.tables.statistics import t_quantile


class Estimate(NamedTuple):
    """`sem` treats answers as independent, as the paper does; lo, hi and p do not. NaN where there
    is too little.
    """

    value: float
    sem: float
    lo: float
    hi: float
    p: float  # of the value being 0; for differences


def groups(labels: Sequence[str] | np.ndarray) -> tuple[np.ndarray, int]:
    """Labels as numbers from 0, and how many there are."""
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return codes, len(names)


def balanced(y: np.ndarray, concept: np.ndarray, rater: np.ndarray) -> Estimate:
    """The mean over concepts of the mean over answers.

    Answers of one rater, and answers about one concept, go up and down together: the variance is
    clustered both ways (V_concept + V_rater - V_both, as benchmarks/tables/statistics.py does for
    prompts); the smaller number of clusters decides t.
    """
    y = np.asarray(y, dtype=float)
    keep = ~np.isnan(y)
    y = y[keep]
    if not y.size:
        return Estimate(*[np.nan] * 5)
    c, n_concepts = groups(np.asarray(concept)[keep])
    r, n_raters = groups(np.asarray(rater)[keep])
    n_c = np.bincount(c)
    theta_c = np.bincount(c, y) / n_c
    theta = float(theta_c.mean())
    clusters = min(n_concepts, n_raters)
    sem = paper_sem(y, c, n_c, theta_c)
    if clusters < 2:
        return Estimate(theta, sem, np.nan, np.nan, np.nan)
    wr = (y - theta) / (n_concepts * n_c[c])
    v_c, v_r = (np.bincount(c, wr) ** 2).sum(), (np.bincount(r, wr) ** 2).sum()
    v_cr = (np.bincount(c * n_raters + r, wr) ** 2).sum()
    se = float(np.sqrt(clusters / (clusters - 1) * max(v_c, v_r, v_c + v_r - v_cr)))
    half = t_quantile(clusters) * se
    p = float(2 * student.sf(abs(theta) / se, clusters - 1)) if se > 0 else float(theta == 0)
    return Estimate(theta, sem, theta - half, theta + half, p)


def paper_sem(y: np.ndarray, c: np.ndarray, n_c: np.ndarray, theta_c: np.ndarray) -> float:
    """Standard error of the class-balanced mean if every answer were independent of the others."""
    if len(y) == len(n_c):
        return np.nan  # one answer a concept: nothing tells how far answers differ
    pooled = ((y - theta_c[c]) ** 2).sum() / (len(y) - len(n_c))
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.bincount(c, (y - theta_c[c]) ** 2) / (n_c - 1)
    # one answer says nothing about the spread of its concept
    variance = np.where(n_c > 1, own, pooled)
    return float(np.sqrt((variance / n_c).sum()) / len(n_c))


def wilcoxon_concepts(d: np.ndarray, concept: np.ndarray) -> float:
    """p of Wilcoxon's signed ranks over the concepts' mean differences: no distribution assumed."""
    c, _ = groups(concept)
    means = np.bincount(c, d) / np.bincount(c)
    return float(wilcoxon(means).pvalue) if np.any(means != 0) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p values of several tests at once, adjusted so that all hold together (Holm's steps)."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(
        np.minimum(np.asarray(p)[order] * np.arange(len(p), 0, -1), 1.0)
    )
    out = np.empty(len(p))
    out[order] = adjusted
    return [float(value) for value in out]
