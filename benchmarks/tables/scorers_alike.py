"""Do two scorers of a run agree? `perfbench table RUN --by scorers`.

In: cells as arrays, with columns of more than one scorer. Out: correlations with intervals over
concepts and prompts.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.planning.points import is_variant
from benchmarks.tables.grid import FLOOR, Grid, grid_of
from benchmarks.tables.sample_rows import of_pairs
from benchmarks.tables.statistics import Interval, crossed, drawn_means, mean_over, over_concepts
from perfusion_core.errors import UserError

METRICS = ("image_sim", "text_sim_raw")


def correlation(a: np.ndarray, b: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Pearson's r over columns of a and b [R, K] where both are there, each taken so many `times`
    [D, K]: [D, R].
    """
    there = ~(np.isnan(a) | np.isnan(b))
    a, b = (np.where(there, x, np.nan) for x in (a, b))
    # else differences of sums lose digits
    a, b = (np.where(there, x - mean_over(x)[:, None], 0.0) for x in (a, b))
    n, sum_a, sum_b, aa, bb, ab = (times @ x.T for x in (there, a, b, a * a, b * b, a * b))
    # of what is all alike only the noise of last digits is left
    varies = [np.where(v > 1e-9 * n * squares, v, np.nan)
              for squares, v in ((aa, n * aa - sum_a**2), (bb, n * bb - sum_b**2))]  # fmt: skip
    return (n * ab - sum_a * sum_b) / np.sqrt(varies[0] * varies[1])


def each_concept(grid: Grid, parts: Sequence[np.ndarray], columns: int) -> Interval:
    """The mean over concepts of r over prompts, of `columns` values each [C, columns * P]. Prompts
    are drawn as well: concepts share them, so that r of one is no news beside r of another."""
    one, other = parts
    found = correlation(one, other, np.tile(grid.draws.prompts, columns).astype(float))
    return crossed(over_concepts(found, grid.draws), grid.draws, int((~np.isnan(found[0])).sum()))


def compared(grid: Grid) -> list[int]:
    """The operating points. Not `super`: that it is worse than all others needs no metric, and
    would be half of what one is praised for."""
    return [
        m for m, (method, point) in enumerate(grid.points) if method != FLOOR and is_variant(point)
    ]


def over_methods(values: np.ndarray) -> np.ndarray:
    """Means over operating points, [M, C, P] -> [C, P]; NaN where a concept has not the prompt."""
    return mean_over(np.moveaxis(values, 0, -1))


def both_have(grid: Grid, one: str, other: str) -> list[np.ndarray]:
    """The two scorers' values [M, C, P] of the operating points, in the cells that both scored."""
    own = compared(grid)
    pair = [grid.values[name][own] for name in (one, other)]
    there = ~(np.isnan(pair[0]) | np.isnan(pair[1]))
    return [np.where(there, values, np.nan) for values in pair]


def drawn_points(grid: Grid, one: str, other: str) -> list[np.ndarray]:
    """Means of points that both scorers have, over the cells that both have: [D, M] each."""
    pair, own, names = both_have(grid, one, other), np.array(compared(grid)), (one, other)
    alike = all(np.array_equal(np.isnan(grid.values[name][own]), np.isnan(values))
                for name, values in zip(names, pair))  # fmt: skip
    scored = ~np.isnan(pair[0]).all((1, 2))
    if alike:
        return [grid.balanced[name][:, own[scored]] for name in names]
    return [over_concepts(drawn_means(values[scored], grid.draws), grid.draws) for values in pair]


def points_alike(grid: Grid, one: str, other: str) -> Interval:
    """Spearman's rho of the operating points' means: would tables by both rank them alike?"""
    pair = drawn_points(grid, one, other)
    gone = np.isnan(pair[0]) | np.isnan(pair[1])  # in a draw
    first, second = (
        rankdata(np.where(gone, np.nan, means), axis=1, nan_policy="omit") for means in pair
    )
    rho = correlation(first, second, np.ones((1, first.shape[1])))[0]
    return crossed(rho, grid.draws, len(grid.concepts))


def cells_alike(grid: Grid, one: str, other: str) -> Interval:
    """Of one concept and prompt, do both find the same point better? Pearson's r of the deviations
    from the mean over points, for each concept."""
    pair = both_have(grid, one, other)
    parts = [
        (values - over_methods(values)).swapaxes(0, 1).reshape(len(grid.concepts), -1)
        for values in pair
    ]
    return each_concept(grid, parts, len(pair[0]))


def prompts_alike(grid: Grid, one: str, other: str) -> Interval:
    """Do both know hard prompts from easy ones alike? Pearson's r over prompts of means over
    points, for each concept.
    """
    return each_concept(grid, [over_methods(values) for values in both_have(grid, one, other)], 1)


QUESTIONS = {
    "points ranked alike (Spearman)": points_alike,
    "the better point of a cell (Pearson)": cells_alike,
    "hard and easy prompts (Pearson)": prompts_alike,
}


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """The reported scorer with each other one: a row a metric, scorer and question."""
    grid = grid_of(cells)
    others = [name for name in grid.extra if name.startswith(METRICS) and not of_pairs(name)]
    if not others:
        raise UserError(
            "the run has one scorer alone, which agrees with itself; `perfbench score RUN "
            "--scorers dino`, or --from FILE --scorer NAME, adds another"
        )
    rows = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for other in others:
            metric = next(name for name in METRICS if other.startswith(name))
            for question, ask in QUESTIONS.items():
                row: dict[str, object] = {"metric": metric, "scorer": other[len(metric) + 1 :]}
                row |= {"question": question, **ask(grid, metric, other).named("agreement")}
                rows.append(row)
    return pd.DataFrame(rows)
