"""Is the metric itself right? CLIP's similarities against the truth, which the miniature's judges
know (truth.py).

In: a run scored by both. Out: a row a metric and a question, with intervals over concepts and
prompts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from benchmarks.evidence.ledger import Evidence
from benchmarks.evidence.verdicts import told
from benchmarks.tables.grid import CEILING, FLOOR, Grid
from benchmarks.tables.sample_rows import CELL, sample_rows
from benchmarks.tables.scorers_alike import cells_alike, compared, points_alike, prompts_alike
from benchmarks.tables.statistics import Interval, clustered, crossed
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


def over_points(grid: Grid, metric: str) -> Interval:
    """Spearman's rho of the operating points' means: would a table by CLIP rank them as the truth
    does?
    """
    return points_alike(grid, metric, truth_of(grid.values, metric))


def within_cells(grid: Grid, metric: str) -> Interval:
    """Of one concept and prompt, does the point with the higher score do better?"""
    return cells_alike(grid, metric, truth_of(grid.values, metric))


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
    """Does it know hard prompts from easy ones?"""
    return prompts_alike(grid, metric, truth_of(grid.values, metric))


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
