"""A submission's tables, made again from its rows and laid beside those that it brought.

In: files that were checked, a folder to put them into. Out: the recomputed tables; one sentence
where a number of an archive's own table is another. What fits cost cannot be made again from rows:
it is read as it is told.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.exchange.submissions.submission_archive import (
    PAIR_TABLE,
    PICTURES,
    PLAN,
    ROWS,
    RUN,
    TABLES,
    Refused,
)
from benchmarks.exchange.submissions.submission_make import place_files
from benchmarks.safe_paths import shown
from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.store.frame_text import text_of_frame
from benchmarks.tables.build import Tables, publish, tables_of
from benchmarks.tables.derived import DAMAGED, frame_of
from benchmarks.tables.table_text import UNTUNED_COLUMNS
from perfusion_core.errors import UserError

WRITTEN = 2e-6  # tables have six decimals, and another numpy may round the last one otherwise
CELLS = 2e-9  # of cells.csv, which has nine
NAMES = {"cells.csv": ["method", "point", "concept", "prompt_id", "metric"],
         "metrics.csv": ["method", "point", "concept"],
         "table.csv": ["kind", "method", "point"],
         PAIR_TABLE: ["kind", "method", "point"]}  # fmt: skip


def tables_again(folder: Path, files: Mapping[str, bytes]) -> Tables:
    """The files as a run folder, and the tables of its rows; those of the archive are compared."""
    kept = (RUN, PLAN, *TABLES, PICTURES)
    mine = {name: data for name, data in files.items() if name in kept or name[:5] == f"{ROWS}/"}
    brought = {name: brought_table(mine[name], name) for name in TABLES if name in mine}
    check_costs(brought["table.csv"])
    place_files(folder, mine)
    try:
        tables = tables_of(folder)
    except UserError as error:
        raise Refused(f"no tables can be made of its rows: {error}") from None
    made = {"cells.csv": tables.cells, "metrics.csv": tables.metrics, "table.csv": tables.table,
            **({PAIR_TABLE: tables.pair_table} if len(tables.pair_table) else {})}  # fmt: skip
    for name in TABLES:
        if (name in made) != (name in brought):
            raise Refused(f"it {'lacks' if name in made else 'has'} {name}, which its rows do not")
        if name in made:
            same_table(brought[name], made[name], name)
    publish(folder, tables)  # its own bytes are ours from here on
    return tables


def brought_table(data: bytes, name: str) -> pd.DataFrame:
    try:
        return frame_of(data)
    except (*DAMAGED, pd.errors.ParserError):
        if not data.strip():
            return pd.DataFrame()  # of a run of nothing but pairs
        raise Refused(f"{name} is no table that can be read") from None


def check_costs(table: pd.DataFrame) -> None:
    """What is told of costs is at least possible."""
    for column in table.columns.intersection(list(NUMBERS)):
        values = table[column].to_numpy(float)
        if (values[~np.isnan(values)] < 0).any() or np.isinf(values).any():
            raise Refused(f"table.csv: {column} is below 0 or not finite")
    for name in table[DEVICE].dropna() if DEVICE in table else ():
        if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
            raise Refused(f"table.csv: {DEVICE} has a character that is not printed")


def same_table(brought: pd.DataFrame, made: pd.DataFrame, name: str) -> None:
    """Every name and number of an archive's table is what its rows make."""
    made = frame_of(text_of_frame(made).encode()) if len(made) else made
    # an earlier version did not tell who was untuned
    later = [one for one in UNTUNED_COLUMNS if one in made and one not in brought]
    made = made.drop(columns=later)
    if list(brought) != list(made) or len(brought) != len(made):
        raise Refused(f"{name} was edited: its rows or columns are not those that its scores make")
    for column in made:
        a, b = brought[column], made[column]
        if pd.api.types.is_numeric_dtype(b) and pd.api.types.is_numeric_dtype(a):
            limit = CELLS if name == "cells.csv" else WRITTEN
            x, y = a.to_numpy(float), b.to_numpy(float)
            fine = (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= limit)
            apart = ~fine
        else:
            apart = (a.astype(str) != b.astype(str)).to_numpy()
        if apart.any():
            at = int(np.argmax(apart))
            where = " ".join(str(made[key].iloc[at]) for key in NAMES[name] if key in made)
            raise Refused(
                f"{name} was edited: {column} of {where} is {told(a.iloc[at])}, and its rows make "
                f"{told(b.iloc[at])}"
            )


def told(value: Any) -> str:
    """A number as it is; a text of somebody else's as errors print it."""
    return shown(value) if isinstance(value, str) else str(value)
