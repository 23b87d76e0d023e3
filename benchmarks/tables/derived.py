"""Tables that were made of rows and can be made again: read, or refused with the command that does.

In: a run folder and a table's name. Out: its frame; one sentence where it is cut off, empty or has
other columns.
"""

import io
import zlib
from pathlib import Path

import pandas as pd

from benchmarks.safe_paths import is_name
from benchmarks.store import run_folder
from benchmarks.store.csv_files import is_there, plain
from benchmarks.tables.frames import SCORES
from benchmarks.tables.sample_rows import CELL
from benchmarks.tables.table_text import UNTUNED_COLUMNS
from perfusion_core.errors import UserError

ESTIMATES = (*(f"{score}{end}" for score in SCORES for end in ("", "_lo", "_hi")), "copied")
NEEDED = {  # columns of each table
    "table": ("kind", "method", "point", *ESTIMATES, "n_concepts", "n_images", "n_planned"),
    "metrics": ("method", "point", "concept", "group", *SCORES, "copied", "n"),
    "cells": (*CELL, "group", "kind", "metric", "n", "mean", "sd", "even", "odd"),
}
NEEDED["pair-table"] = NEEDED["table"]
DAMAGED = (OSError, EOFError, zlib.error, ValueError, KeyError)


def read_table(run: Path, name: str) -> pd.DataFrame:
    """A table of a run by its name: `table`, `pair-table`, `metrics`, `cells`."""
    path = run_folder.table_file(run, name)
    if not is_there(path):
        raise UserError(f"{run} has no {path.name}; `perfbench table {run}` makes it")
    again = f"`perfbench table {run}` makes it again"
    try:
        table = frame_of(plain(path))
    except UserError:  # a packed one that would fill the memory
        raise
    except DAMAGED as error:
        raise UserError(f"{path} is damaged; {again}") from error
    if lacking := [column for column in NEEDED[name] if column not in table]:
        raise UserError(f"{path} is damaged, it has no column {lacking[0]}; {again}")
    if table.empty and name != "cells":  # a run whose pictures have no score is told so
        raise UserError(f"{path} is damaged, it has no rows; {again}")
    for column in table.columns.intersection(CELL):
        if not all(map(is_name, filter(None, map(str, table[column].unique())))):
            raise UserError(f"{path} names a {column} that cannot be a folder; {again}")
    return table


def frame_of(text: bytes) -> pd.DataFrame:
    """The table in a text; a ValueError where it is cut off or has a word in place of a number."""
    numbers = number_columns(text)
    # an empty name is a name: `real` has no prompt
    empty = {column: [""] for column in numbers}
    table = pd.read_csv(io.BytesIO(text), keep_default_na=False, na_values=empty)
    for column in table.columns.intersection(numbers):
        table[column].astype(float)
    if not text.endswith(b"\n"):
        raise ValueError("its last line is cut off")
    return table


def number_columns(text: bytes) -> list[str]:
    """The columns of a table that hold numbers: an empty one there means not measured."""
    words = {"kind", "method", "point", "concept", "group", "prompt_id", "metric", "device"}
    head = text.partition(b"\n")[0].decode().strip().split(",")
    return [name for name in head if name not in words | UNTUNED_COLUMNS.keys()]
