"""trainings.csv: a row a training of a search, committed, from which its tables and its figure are
made again.

In: rows, or the file. Out: a frame; one sentence where the file is damaged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.tables.halving import SCORES
from perfusion_core.errors import UserError

TRAININGS = "trainings.csv"
ABOUT = ("backbone", "digest", "suite", "search")  # what all rows of a folder have in common
COLUMNS = (
    *ABOUT, "method", "setting", "rates", "round", "concept", "fit", "step", *SCORES,
    "train_seconds",
)  # fmt: skip


def frame_of(rows: Sequence[Mapping[Any, Any]]) -> pd.DataFrame:
    """Numbers as numbers, what is missing as NaN."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("round", *SCORES, "train_seconds"):
        frame[name] = pd.to_numeric(frame[name])
    return frame


def read_trainings(path: Path) -> pd.DataFrame:
    """Without rows where there is no such file."""
    if not path.is_file():
        return frame_of([])
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows: list[Any] = frame[list(COLUMNS)].to_dict("records")
        return frame_of(rows)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it, and the same `perfbench tune --halving` "
            f"command writes it again from its runs"
        ) from error
