"""Which of two fronts is ahead: by how much on both axes at once, and for how many concepts.

In: operating points on the plane, in every draw of the bootstrap. Out: additive epsilons, verdicts
in four words, the share of concepts whose front reaches a goal.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.planning.points import is_variant
from benchmarks.tables.grid import FLOOR, Grid, grid_of
from benchmarks.tables.statistics import Interval, crossed
from perfusion_core.errors import unknown

BEYOND, DOMINATED, TRADE_OFF = "beyond", "dominated", "trade-off"
NOT_BEYOND, UNDECIDED = "not beyond", "undecided"
DECIDING = 20_000  # draws where a verdict hangs on them: the tail that an interval needs is small
NUMBERS = 400_000_000  # that may lie in memory for it; a larger run keeps the usual draws
COLUMNS = (
    "method", "other", "ahead", "ahead_lo", "ahead_hi", "behind", "behind_lo", "behind_hi",
    "verdict", "concepts_beyond", "concepts_dominated", "n_concepts",
)  # fmt: skip


def epsilon(x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The most by which points (x, y) [..., K] are ahead of every point (u, v) [..., L] on both
    axes: for each of these the best of ours on its weaker axis, then the worst of these. Below
    zero: some point of the other front is out of reach by so much. What was not measured is no
    point; NaN where a side has none."""
    weaker = np.minimum(
        x[..., :, None] - u[..., None, :], y[..., :, None] - v[..., None, :]
    )  # [..., K, L]
    best = np.max(np.where(np.isnan(weaker), -np.inf, weaker), axis=-2)
    worst = np.where(np.isnan(u) | np.isnan(v), np.inf, best).min(-1)
    return np.where(np.isfinite(worst), worst, np.nan)


def verdict(ahead: Interval, behind: Interval) -> str:
    """`ahead`: our epsilon over the other; `behind`: the other's over ours."""
    if np.isnan(ahead.lo) or np.isnan(behind.lo):
        return UNDECIDED
    if ahead.lo > 0:
        return BEYOND
    if behind.lo > 0:
        return DOMINATED
    if ahead.hi < 0 and behind.hi < 0:
        return TRADE_OFF
    return NOT_BEYOND if ahead.hi < 0 else UNDECIDED


def deciding(grid: Grid) -> Grid:
    """The same cells with as many draws as a verdict needs, where they fit."""
    each = len(grid.points) * (grid.shape[0] + 2 * grid.shape[1]) * (4 + len(grid.extra))
    return replace(grid, n_draws=DECIDING) if each * DECIDING <= NUMBERS else grid


def two_fronts(grid: Grid, ours: Sequence[int], theirs: Sequence[int]) -> tuple[Interval, Interval]:
    """(ahead, behind) of the class-balanced fronts."""
    image, text = grid.balanced["image_sim"], grid.balanced["text_sim"]
    n = int((~np.isnan(grid.scores["harmonic"][[*ours, *theirs]])).all(0).sum())
    a, b = (image[:, ours], text[:, ours]), (image[:, theirs], text[:, theirs])
    return crossed(epsilon(*a, *b), grid.draws, n), crossed(epsilon(*b, *a), grid.draws, n)


def by_concept(grid: Grid, ours: Sequence[int], theirs: Sequence[int]) -> np.ndarray:
    """[C] 1 where our front of the concept is ahead of all of theirs on both axes, -1 the reverse,
    0 neither; NaN where either is missing.
    """
    image, text = grid.scores["image_sim"].T, grid.scores["text_sim"].T  # [C, M]
    a, b = (image[:, ours], text[:, ours]), (image[:, theirs], text[:, theirs])
    ahead, behind = epsilon(*a, *b), epsilon(*b, *a)
    there = np.isfinite(ahead) & np.isfinite(behind)
    return np.where(there, (ahead > 0).astype(float) - (behind > 0), np.nan)


def compared_fronts(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """`method`'s front against that of every other method, a row each."""
    grid = deciding(grid_of(cells))
    if not (ours := variants_of(grid, method)):
        raise unknown("method", method, {name for name, _ in grid.points})
    rows = []
    for other in sorted({name for name, _ in grid.points} - {method, FLOOR}):
        theirs = variants_of(grid, other)
        ahead, behind = two_fronts(grid, ours, theirs)
        each = by_concept(grid, ours, theirs)
        rows.append(
            {
                "method": method,
                "other": other,
                **ahead.named("ahead"),
                **behind.named("behind"),
                "verdict": verdict(ahead, behind),
                "concepts_beyond": int((each > 0).sum()),
                "concepts_dominated": int((each < 0).sum()),
                "n_concepts": int((~np.isnan(each)).sum()),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def variants_of(grid: Grid, method: str) -> list[int]:
    """Its points that are chosen when pictures are drawn; of a method that has only kept training
    steps, these.
    """
    rows = grid.rows(method)
    return [m for m in rows if is_variant(grid.points[m][1])] or rows


def attained(grid: Grid, method: str, image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """[text, image] share of concepts of which some point of the method has so much of both."""
    rows = variants_of(grid, method)
    x, y = grid.scores["image_sim"][rows], grid.scores["text_sim"][rows]  # [K, C]
    there = ~(np.isnan(x) | np.isnan(y)).all(0)
    x, y = x[:, there], y[:, there]
    reached = (x[..., None, None] >= image) & (y[..., None, None] >= text[:, None])
    return reached.any(0).mean(0)
