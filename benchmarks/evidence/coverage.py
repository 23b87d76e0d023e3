"""How often 95 % intervals hold the truth where effects are as skewed as they are here.

In: a run whose concepts are taken for all that there are. Out: a row a score: the share of samples
whose interval holds the mean, by four ways of making one, and their widths. `python -m
benchmarks.evidence coverage RUN`.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from benchmarks.tables.build import split_pairs
from benchmarks.tables.dominance import variants_of
from benchmarks.tables.grid import FLOOR, Grid, grid_of
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import SEED, expansion, t_quantile

SAMPLES, RESAMPLES = 2000, 1000
WAYS = ("t", "expanded", "bca", "studentized")
Ends = tuple[float, float]


def ends_of(x: np.ndarray, draws: np.ndarray) -> dict[str, Ends]:
    """Four 95 % intervals of the mean of x [C]; `draws` [B, C]: how often each was taken.

    t: normal. expanded: percentiles widened for few concepts, as the tables have them. bca: these,
    corrected for bias and acceleration. studentized: t of each draw by its own standard error.
    """
    n, mean = len(x), x.mean()
    error = x.std(ddof=1) / np.sqrt(n)
    means = draws @ x / n
    reach, tail = expansion(n)
    # Bias of the draws, acceleration by the jackknife.
    middle = ndtri(np.clip(((means < mean).mean() + (means <= mean).mean()) / 2, 1e-9, 1 - 1e-9))
    pull = (x - mean) / (n - 1)  # the mean of all, less the mean without each
    slope = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    bent = [ndtr(middle + (middle + z) / (1 - slope * (middle + z))) for z in (-reach, reach)]
    # Each draw in its own standard errors.
    variance = draws @ x**2 / n - means**2
    able = variance > 1e-10 * x.var()
    t = (means[able] - mean) / np.sqrt(variance[able] / (n - 1))
    low, high = np.quantile(t, [0.025, 0.975])
    half = t_quantile(n) * error
    percentiles = [float(end) for end in np.quantile(means, [tail, 1 - tail])]
    corrected = [float(end) for end in np.quantile(means, bent)]
    return {
        "t": (mean - half, mean + half),
        "expanded": (percentiles[0], percentiles[1]),
        "bca": (corrected[0], corrected[1]),
        "studentized": (mean - high * error, mean - low * error),
    }


def covered(
    values: np.ndarray, samples: int = SAMPLES, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Concepts are drawn from `values` as if these were all; how often is their mean inside?"""
    rng = np.random.default_rng(SEED)
    n, truth = len(values), values.mean()
    draws = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    hits, widths, made = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0.0), 0
    for _ in range(samples):
        x = values[rng.integers(0, n, n)]
        if x.std() < 1e-9:  # one concept eleven times
            continue
        made += 1
        for way, (lo, hi) in ends_of(x, draws).items():
            hits[way] += lo <= truth <= hi
            widths[way] += hi - lo
    spread = (values - truth) / values.std()
    return {
        "skew": float((spread**3).mean()),
        **{way: hits[way] / made for way in WAYS},
        **{f"{way}_width": widths[way] / widths["t"] for way in WAYS},
    }


def coverage(run: Run, samples: int = SAMPLES) -> pd.DataFrame:
    """Of the scores of every method, and of their differences to the first."""
    grid = grid_of(split_pairs(run.cells)[0])
    return pd.DataFrame(
        [
            {"what": what, "score": score, **covered(values[~np.isnan(values)], samples)}
            for what, score, values in effects(grid)
        ]
    )


def effects(grid: Grid) -> list[tuple[str, str, np.ndarray]]:
    """A point a method: Perfusion's as the paper draws it, the others' first."""
    names = sorted(
        {name for name, _ in grid.points} - {FLOOR}, key=lambda name: (name != "perfusion", name)
    )
    chosen = {name: variants_of(grid, name)[0] for name in names}
    if "perfusion" in chosen and ("perfusion", "local-b0.60-t0.15") in grid.points:
        chosen["perfusion"] = grid.row(("perfusion", "local-b0.60-t0.15"))
    ours, *others = chosen
    found = []
    for score in ("image_sim", "text_sim", "harmonic"):
        each = grid.scores[score]
        found += [(name, score, each[m]) for name, m in chosen.items()]
        found += [
            (f"{ours} - {name}", score, each[chosen[ours]] - each[chosen[name]]) for name in others
        ]
    return found
