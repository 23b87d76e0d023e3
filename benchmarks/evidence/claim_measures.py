"""The figures that claims are about. In: a Grid of one run (grid.py). Out: intervals over concepts
and prompts.

Rows are operating points, as Grid numbers them. A list of them stands for the mean over them, or
for a front.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.planning.points import OperatingPoint
from benchmarks.tables.grid import Grid
from benchmarks.tables.scorers_alike import over_methods
from benchmarks.tables.statistics import (
    Interval,
    best,
    clustered,
    crossed,
    over_concepts,
    t_quantile,
)
from perfusion_core.errors import UserError

# ---- which operating points


def points(grid: Grid, method: str) -> dict[int, OperatingPoint]:
    """A method's operating points by their rows."""
    return {m: OperatingPoint.parse(grid.points[m][1]) for m in grid.rows(method)}


def rows(grid: Grid, method: str, lock: str = "") -> list[int]:
    """The run-time variants of a method, those of one lock where it is named; by name, so the bias
    goes up.
    """
    found = [
        m
        for m, point in points(grid, method).items()
        if point.step is None and (not lock or point.lock == lock)
    ]
    if not found:
        raise UserError(
            f"no operating point of {method}{f' with {lock} lock' if lock else ''} in the run"
        )
    return found


def at_point(grid: Grid, method: str, point: str) -> list[int]:
    """One operating point of a method, by its whole name."""
    if (method, point) not in grid.points:
        raise UserError(f"no operating point {point} of {method} in the run")
    return [grid.row((method, point))]


def selected(grid: Grid, method: str) -> str:
    """The method with its training step picked by validation, as Perfusion's is."""
    if not grid.rows(name := f"{method}-selected"):
        raise UserError(f"no {name} in the run")
    return name


def matched(grid: Grid, a: str, b: str, lock: str = "") -> tuple[list[int], list[int]]:
    """The operating points that two methods share, their temperature left out of account."""

    def by_place(name: str) -> dict[OperatingPoint, int]:
        parsed = points(grid, name)
        return {replace(parsed[m], temperature=None): m for m in rows(grid, name, lock)}

    ours, theirs = by_place(a), by_place(b)
    both = [place for place in ours if place in theirs]
    if not both:
        raise UserError(f"no operating point of {a} is also one of {b}")
    return [ours[place] for place in both], [theirs[place] for place in both]


def ends(grid: Grid, method: str, lock: str = "local") -> tuple[list[int], list[int]]:
    """The last kept training step of a method, and the one nearest to a quarter of it."""
    kept = [
        (point.step, m)
        for m, point in points(grid, method).items()
        if point.step and point.lock in (None, lock)
    ]
    if len(kept) < 2:
        raise UserError(f"fewer than two kept training steps of {method} in the run")
    last = max(kept)
    return [last[1]], [min(kept, key=lambda one: abs(one[0] - last[0] / 4))[1]]


def dominating(grid: Grid, ours: Sequence[int], theirs: int) -> int:
    """Of ours, the point that is furthest above theirs on the axis where it gains less."""
    image, text = (grid.balanced[metric][0] for metric in ("image_sim", "text_sim"))
    return max(ours, key=lambda m: min(image[m] - image[theirs], text[m] - text[theirs]))


# ---- differences


def known(found: Interval, what: str) -> Interval:
    """Without an estimate there is nothing to say."""
    if np.isnan(found.value):
        raise UserError(f"no {what}")
    return found


def interval_of(grid: Grid, drawn: np.ndarray, n_concepts: int, what: str) -> Interval:
    """Of bootstrap values."""
    return known(crossed(drawn, grid.draws, n_concepts), f"{what} of both in the run")


def gain(grid: Grid, metric: str, a: Sequence[int], b: Sequence[int]) -> Interval:
    """Score of a minus score of b, each the mean over its operating points; class-balanced, paired
    by concept.
    """
    if metric not in grid.drawn:
        raise UserError(f"no scorer of the run gave {metric}")
    # [D, C]
    difference = grid.drawn[metric][:, list(a)].mean(1) - grid.drawn[metric][:, list(b)].mean(1)
    return mean_interval(grid, difference, metric)


def gains(grid: Grid, a: Sequence[int], b: Sequence[int]) -> tuple[Interval, Interval]:
    """The same of text similarity, and of image similarity."""
    return gain(grid, "text_sim", a, b), gain(grid, "image_sim", a, b)


def mean_interval(grid: Grid, drawn: np.ndarray, what: str) -> Interval:
    """Of the mean over the concepts that have a value [D, C]."""
    return interval_of(
        grid, over_concepts(drawn, grid.draws), int((~np.isnan(drawn[0])).sum()), what
    )


def cell_gain(grid: Grid, metric: str, a: Sequence[int], b: Sequence[int], kind: str) -> Interval:
    """The same of a score that is a mean over cells, on the prompts of one kind; paired by cell."""
    mine = [p for p, one in enumerate(grid.kinds) if one == kind]
    parts = [over_methods(grid.values[metric][list(of)][..., mine]) for of in (a, b)]
    return known(clustered(parts[0] - parts[1]), f"{metric} of both on {kind} prompts in the run")


def spread_ratio(grid: Grid, metric: str, a: Sequence[int], b: Sequence[int]) -> Interval:
    """Logarithm of how many times as much concepts differ from one another in a as in b, by their
    standard deviations; a jackknife over concepts, because draws that repeat concepts make spreads
    too small.
    """
    values = [grid.scores[metric][list(of)].mean(0) for of in (a, b)]
    values = [one[~np.isnan(values[0] + values[1])] for one in values]
    n = len(values[0])
    if n < 3:
        raise UserError("fewer than three concepts have no spread to compare")

    def ratio(keep: np.ndarray) -> float:
        return float(np.log(values[0][keep].std(ddof=1) / values[1][keep].std(ddof=1)))

    whole = ratio(np.ones(n, dtype=bool))
    pseudo = [n * whole - (n - 1) * ratio(np.arange(n) != k) for k in range(n)]
    half = t_quantile(n) * float(np.std(pseudo, ddof=1)) / np.sqrt(n)
    return Interval(whole, whole - half, whole + half)


# ---- the best of several points, chosen on one half of the images and reported on the other


def honest(grid: Grid, metric: str, of: Sequence[int], each: bool) -> np.ndarray:
    """[D, C] of the point with the highest harmonic mean: for `each` concept its own, else one for
    all.
    """
    even, odd = grid.drawn_halves
    return np.mean(
        [_chosen(grid, a, b, metric, of, each) for a, b in ((even, odd), (odd, even))], axis=0
    )


def _chosen(
    grid: Grid,
    choose: dict[str, np.ndarray],
    report: dict[str, np.ndarray],
    metric: str,
    of: Sequence[int],
    each: bool,
) -> np.ndarray:
    by, out = choose["harmonic"][:, list(of)], report[metric][:, list(of)]  # [D, K, C]
    if not each:
        by = np.broadcast_to(over_concepts(by, grid.draws)[..., None], out.shape)
    return best(by, out)


def choice_gain(grid: Grid, of: Sequence[int]) -> Interval:
    """Harmonic mean with a point chosen for each concept, less that of the best one for all. A t
    interval over concepts: other points win in other draws, which `crossed` takes for noise of
    cells, and is left with too little."""
    difference = honest(grid, "harmonic", of, each=True) - honest(grid, "harmonic", of, each=False)
    return known(clustered(difference[0][:, None]), "harmonic mean of both halves in the run")


def honest_gain(grid: Grid, metric: str, of: Sequence[int], other: int) -> Interval:
    """A score of the best point for all, less that of another method's only point."""
    difference = honest(grid, metric, of, each=False) - honest(grid, metric, [other], each=False)
    return mean_interval(grid, difference, f"{metric} of both halves")
