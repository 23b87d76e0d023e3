"""Measures beyond the protocol in the regression gate: those that two runs both have, as losses.

In: the cells of both. Out: scores by measure for judging.py, and what cannot be judged, in words.
A measure is never a reason why two runs cannot be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.scoring.measures import HELD_OUT, HIGHER, MEASURES
from benchmarks.suite.drift_kinds import OF_DRIFT
from benchmarks.tables.comparable import KEYS, some
from benchmarks.tables.grid import CEILING
from benchmarks.tables.judging import Key, Scores
from benchmarks.tables.margins import Margins
from benchmarks.tables.measured import with_derived

JUDGED = [name for name, one in MEASURES.items() if one.loss]  # by the reported scorer
OF_HELD_OUT = [name for name in JUDGED if MEASURES[name].needs == HELD_OUT]
ALIKE = 1e-3  # of a concept's own images to its held-out ones: the same pictures, on any machine


def measure_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of methods that have a measure with a direction."""
    every = with_derived(cells)
    mine = every[(every["method"] != CEILING) & every["metric"].isin(JUDGED)]
    mine = mine.dropna(subset=["mean"]).astype(dict.fromkeys(KEYS, str))
    return mine.sort_values(KEYS, kind="stable").reset_index(drop=True)


def signed(found: Mapping[Key, Scores]) -> dict[Key, Scores]:
    """With losses of the measures for which more is worse the right way round."""
    return {
        key: replace(scores, sign=-1.0) if is_worse_higher(key[3]) else scores
        for key, scores in found.items()
    }


def is_worse_higher(metric: str) -> bool:
    return metric in MEASURES and MEASURES[metric].loss == HIGHER


def other_pictures(reference: pd.DataFrame, run: pd.DataFrame) -> list[str]:
    """Concepts whose held-out pictures are others in the two runs: their own images are not as
    similar to them.
    """
    of = [
        cells[(cells["method"] == CEILING) & (cells["metric"] == "image_sim_heldout")]
        for cells in (reference, run)
    ]
    before, now = (one.set_index("concept")["mean"].astype(float) for one in of)
    both = before.index.intersection(now.index)
    apart = np.abs(before[both].to_numpy() - now[both].to_numpy()) > ALIKE
    return sorted(map(str, both[apart]))


def without(cells: pd.DataFrame, concepts: Sequence[str]) -> pd.DataFrame:
    """Cells that are not about likeness to those concepts' held-out pictures."""
    return cells[~(cells["metric"].isin(OF_HELD_OUT) & cells["concept"].isin(concepts))]


def untold(reference: pd.DataFrame, run: pd.DataFrame, limits: Margins) -> list[str]:
    """What of the measures is not judged, and why: a line each."""
    before, now = set(reference["metric"]), set(run["metric"])
    bare = [name for name in JUDGED if name in before & now and name not in limits]
    lines = (
        [f"{some(bare, 'measure')} in both without a margin in check.toml, not judged "
         f"(perfbench check --calibrate writes one)"]
        if bare
        else []
    )  # fmt: skip
    if not before & {*OF_DRIFT} and now & {*OF_DRIFT}:
        lines.append("no drift in the reference: that of the run is passed over")
    gone = [name for name in JUDGED if name in before - now]
    return lines + ([f"{some(gone, 'measure')} of the reference not in the run"] if gone else [])
