"""Are the measures beyond the protocol right? Each against what the miniature's judges see.

In: the cells and rows of a run that was scored by both. Out: a row a measure, with intervals over
concepts and prompts; the questions are those of validity.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.evidence.ledger import DECIDING
from benchmarks.evidence.validity import ordered_alike, within_images
from benchmarks.evidence.verdicts import told
from benchmarks.scoring.measures import IMAGE, MEASURES
from benchmarks.tables.grid import CEILING, Grid, grid_of
from benchmarks.tables.measured import with_derived
from benchmarks.tables.scorers_alike import cells_alike, points_alike
from benchmarks.tables.statistics import Interval

SCORE, TRUTH = "image_sim", "image_sim_truth"  # what the two are called while they are compared


@dataclass(frozen=True)
class Asked:
    """What a measure claims to tell, as the judges know it."""

    truth: str  # a score or measure that the judges gave
    sign: int = 1  # -1: more of the measure should be less of the truth
    says: str = ""


IDENTITY, WISHES = "image_sim", "text_sim_raw"
TRUTHS = {
    "image_sim": Asked(IDENTITY, says="true identity"),
    "image_sim_heldout": Asked(IDENTITY, says="true identity"),
    "image_sim_subject": Asked(IDENTITY, says="true identity"),
    "text_sim_raw": Asked(WISHES, says="true share of wishes"),
    "copy_gap": Asked(WISHES, -1, "wishes missed"),
    "nearer": Asked(WISHES, -1, "wishes missed"),
    "variety": Asked("variety", says="variety of what is shown"),
    "vendi": Asked("vendi", says="variety of what is shown"),
    "drift": Asked("drift", says="change of what is shown"),
    "drift_class": Asked("drift_class", says="change of what is shown"),
    "drift_pixels": Asked("drift", says="change of what is shown"),
}


@dataclass(frozen=True)
class Answer:
    measure: str
    truth: str
    points: str  # would a table by it rank the operating points so?
    apart: str  # pairs of points that it tells apart, ordered alike
    cells: str  # would it find the better point of a cell?
    images: str  # would it find the better picture of a cell?


def paired_grid(
    cells: pd.DataFrame, measure: str, truth: str, sign: int = 1, draws: int = DECIDING
) -> Grid:
    """The two alone, as a score and its truth, in the cells that both have."""
    drawn = cells[cells["method"] != CEILING]
    one, other = (drawn[drawn["metric"] == name] for name in (measure, truth))
    keys = ["method", "point", "concept", "prompt_id"]
    both = one[keys].merge(other[keys])
    one, other = (rows.merge(both, on=keys) for rows in (one, other))
    turned = {name: sign * other[name].astype(float) for name in ("mean", "even", "odd")}
    # the plain text similarity has a place in every grid
    parts = [
        one.assign(metric=SCORE),
        other.assign(metric=TRUTH, **turned),
        one.assign(metric="text_sim_raw"),
    ]
    return replace(grid_of(pd.concat(parts, ignore_index=True)), n_draws=draws)


def answers(cells: pd.DataFrame, rows: pd.DataFrame, draws: int = DECIDING) -> list[Answer]:
    """A row a measure that the run has, of the protocol's two scores first."""
    cells = with_derived(cells)
    there = set(map(str, cells["metric"].unique()))
    found = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, asked in TRUTHS.items():
            judged = [one for one in there if one.startswith(f"{asked.truth}_truth")]
            if name not in there or not judged:
                continue
            truth = min(judged)
            grid = paired_grid(cells, name, truth, asked.sign, draws)
            found.append(
                Answer(
                    name,
                    asked.says,
                    _told(points_alike, grid),
                    ordered_alike(grid, SCORE),
                    _told(cells_alike, grid),
                    _of_images(rows, name, truth, asked.sign),
                )
            )
    return found


def _told(ask: Callable[[Grid, str, str], Interval], grid: Grid) -> str:
    return told(ask(grid, SCORE, TRUTH))


def _of_images(rows: pd.DataFrame, measure: str, truth: str, sign: int) -> str:
    """Empty for what is not of single pictures of the protocol's own prompts."""
    of: Mapping[str, str] = {name: one.of for name, one in MEASURES.items()}
    if of.get(measure, IMAGE) != IMAGE or measure == "variety":
        return ""
    derived = MEASURES[measure].derived if measure in MEASURES else None
    needed = [*(derived or (measure,)), truth]
    if not set(needed) <= set(rows) or rows[needed].isna().all().any():
        return ""
    value = rows[derived[0]] - rows[derived[1]] if derived else rows[measure]
    pair = rows.assign(**{SCORE: value.astype(float), TRUTH: sign * rows[truth].astype(float)})
    own = [name for name in pair if name == TRUTH or not str(name).startswith(TRUTH)]
    return told(within_images(pair[own], SCORE))
