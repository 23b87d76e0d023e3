"""Is the metric itself right? CLIP's similarities against the truth, which the miniature's judges
know (truth.py).

In: a run scored by both. Out: a row a metric and a question, with intervals over concepts and
prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.evidence.ledger import Evidence
from benchmarks.evidence.measures import over_methods
from benchmarks.evidence.verdicts import told
from benchmarks.planning.points import is_variant
from benchmarks.tables.grid import CEILING, FLOOR, Grid
from benchmarks.tables.sample_rows import CELL, sample_rows
from benchmarks.tables.statistics import Interval, clustered, crossed, mean_over, over_concepts
from perfusion_core.errors import UserError

METRICS = {
    "image_sim": "image similarity, true identity",
    "text_sim_raw": "text similarity, true share of wishes",
}


@dataclass(frozen=True)
class Answer:
    metric: str
    question: str
    figure: str


def truth_of(names: Iterable[str], metric: str) -> str:
    """The same score as the judges give it."""
    found = [name for name in names if name.startswith(f"{metric}_truth")]
    if not found:
        raise UserError(
            "the run was not scored by the truth; `perfbench score RUN --scorers truth` does that"
        )
    return found[0]


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
    score, truth = parts
    found = correlation(score, truth, np.tile(grid.draws.prompts, columns).astype(float))
    return crossed(over_concepts(found, grid.draws), grid.draws, int((~np.isnan(found[0])).sum()))


def compared(grid: Grid) -> list[int]:
    """The operating points. Not `super`: that it is worse than all others needs no metric, and
    would be half of what one is praised for."""
    return [
        m for m, (method, point) in enumerate(grid.points) if method != FLOOR and is_variant(point)
    ]


def over_points(grid: Grid, metric: str) -> Interval:
    """Spearman's rho of the operating points' means: would a table by CLIP rank them as the truth
    does?
    """
    own = compared(grid)
    names = (metric, truth_of(grid.values, metric))
    score, truth = (rankdata(grid.balanced[name][:, own], axis=1) for name in names)
    return crossed(
        correlation(score, truth, np.ones((1, len(own))))[0], grid.draws, len(grid.concepts)
    )


def within_cells(grid: Grid, metric: str) -> Interval:
    """Of one concept and prompt, does the point with the higher score do better? Pearson's r of the
    deviations from the mean over points, for each concept."""
    own, parts = compared(grid), []
    for name in (metric, truth_of(grid.values, metric)):
        values = grid.values[name][own]  # [M, C, P]
        parts.append((values - over_methods(values)).swapaxes(0, 1).reshape(len(grid.concepts), -1))
    return each_concept(grid, parts, len(own))


def within_images(rows: pd.DataFrame, metric: str) -> Interval:
    """Of the images of one cell, is the one with the higher score truly better? Pearson's r of the
    deviations from the cell's mean, for each concept and prompt over all operating points."""
    names = [metric, truth_of(map(str, rows), metric)]
    rows = rows[~rows["method"].isin([CEILING, FLOOR])].dropna(subset=names)
    a, b = (
        (rows[name] - rows.groupby(CELL)[name].transform("mean")).astype(float) for name in names
    )
    sums = (
        pd.DataFrame({"aa": a * a, "bb": b * b, "ab": a * b})
        .groupby([rows["concept"], rows["prompt_id"]])
        .sum()
    )
    # images that are all alike tell nothing
    r = sums["ab"] / (sums["aa"] * sums["bb"]).replace(0, np.nan) ** 0.5
    return clustered(r.unstack("prompt_id").to_numpy(float))


def over_prompts(grid: Grid, metric: str) -> Interval:
    """Does it know hard prompts from easy ones? Pearson's r over prompts of means over points, for
    each concept.
    """
    own, names = compared(grid), (metric, truth_of(grid.values, metric))
    return each_concept(grid, [over_methods(grid.values[name][own]) for name in names], 1)


def ordered_alike(grid: Grid, metric: str) -> str:
    """Of pairs of operating points that CLIP tells apart (95 %), how many does the truth order
    alike?
    """
    score, truth = grid.balanced[metric], grid.balanced[truth_of(grid.values, metric)]
    alike, apart = 0, 0
    for a, b in combinations(compared(grid), 2):
        difference = crossed(score[:, a] - score[:, b], grid.draws, len(grid.concepts))
        if difference.lo > 0 or difference.hi < 0:
            apart += 1
            alike += (truth[0, a] - truth[0, b]) * difference.value > 0
    return f"{alike} of {apart}"


QUESTIONS = {
    "operating points ranked alike (Spearman)": over_points,
    "the better point of a cell found (Pearson)": within_cells,
    "hard prompts told from easy ones (Pearson)": over_prompts,
}


def answers(evidence: Evidence, run: str = "paper") -> list[Answer]:
    grid, rows = evidence.grid(run), sample_rows(evidence.run(run).folder)
    found = []
    with np.errstate(invalid="ignore"):
        for metric, name in METRICS.items():
            found += [
                Answer(name, question, told(ask(grid, metric)))
                for question, ask in QUESTIONS.items()
            ]
            found += [
                Answer(
                    name,
                    "the better image of a cell found (Pearson)",
                    told(within_images(rows, metric)),
                ),
                Answer(
                    name,
                    "pairs of points that CLIP tells apart, ordered alike",
                    ordered_alike(grid, metric),
                ),
            ]
    return found
