"""The figures that claims are about. In: a Grid of one run (grid.py). Out: intervals over concepts and prompts.

Rows are operating points, as Grid numbers them. Lists of them are compared pairwise, so they have one order.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.frames import TEXT_REFERENCE, is_variant
from benchmarks.grid import FLOOR, Grid
from benchmarks.stats import Interval, expanded, hypervolume, over_concepts
from perfusion_core.errors import UserError


def rows(grid: Grid, method: str, lock: str = "") -> list[int]:
    """The run-time variants of a method, those of one lock where it is named; by name, so the bias goes up."""
    found = [m for m in grid.rows(method) if is_variant(grid.points[m][1]) and grid.points[m][1].startswith(lock)]
    if not found:
        raise UserError(f"no operating point of {method}{f' with {lock} lock' if lock else ''} in the run")
    return found


def matched(grid: Grid, a: str, b: str, lock: str = "") -> tuple[list[int], list[int]]:
    """The operating points that two methods share, their temperature left out of account."""

    def place(m: int) -> str:
        return grid.points[m][1].rsplit("-t", 1)[0]

    ours, theirs = ({place(m): m for m in rows(grid, name, lock)} for name in (a, b))
    both = [name for name in ours if name in theirs]
    if not both:
        raise UserError(f"no operating point of {a} is also one of {b}")
    return [ours[name] for name in both], [theirs[name] for name in both]


def ends(grid: Grid, method: str) -> tuple[list[int], list[int]]:
    """The last kept training step of a method, and the one nearest to a quarter of it."""
    kept = [(int(p.rsplit("-s", 1)[1]), m) for m, (name, p) in enumerate(grid.points) if name == method and "-s" in p]
    if len(kept) < 2:
        raise UserError(f"fewer than two kept training steps of {method} in the run")
    last = max(kept)
    return [last[1]], [min(kept, key=lambda one: abs(one[0] - last[0] / 4))[1]]


def gain(grid: Grid, metric: str, a: Sequence[int], b: Sequence[int]) -> Interval:
    """Score of a minus score of b, in the mean over their operating points; class-balanced."""
    if metric not in grid.drawn:
        raise UserError(f"no scorer of the run gave {metric}")
    difference = (grid.drawn[metric][:, list(a)] - grid.drawn[metric][:, list(b)]).mean(1)  # [D, C]
    n_concepts = int((~np.isnan(difference[0])).sum())
    return expanded(over_concepts(difference, grid.draws), n_concepts)


def level(grid: Grid, metric: str, a: Sequence[int]) -> float:
    """The score itself."""
    return float(np.nanmean(grid.scores[metric][list(a)]))


def spread_gain(grid: Grid, metric: str, a: Sequence[int], b: Sequence[int]) -> Interval:
    """How much more the concepts differ from one another in a than in b: standard deviations over concepts."""

    def spread(of: Sequence[int]) -> np.ndarray:
        values, times = grid.drawn[metric][:, list(of)].mean(1), grid.draws.concepts  # [D, C]
        n = times.sum(1)
        mean = (values * times).sum(1) / n
        return np.sqrt(((values - mean[:, None]) ** 2 * times).sum(1) / (n - 1))

    return expanded(spread(a) - spread(b), len(grid.concepts))


def area_gain(grid: Grid, a: Sequence[int], b: Sequence[int]) -> Interval:
    """Area of the plane that the front of a covers and that of b does not, less the reverse."""
    floor = grid.balanced["image_sim"][:, grid.rows(FLOOR)[0]]

    def area(of: Sequence[int]) -> np.ndarray:
        image, text = (grid.balanced[metric][:, list(of)] for metric in ("image_sim", "text_sim"))
        return hypervolume(image, text, floor, TEXT_REFERENCE)

    return expanded(area(a) - area(b), len(grid.concepts))
