"""What methods cost: means over their fits, as columns of table.csv and as a table of their own.

In: what store/fit_costs.py reads of fits, or a run's table.csv. Out: a row a method; a column that
nobody measured is empty.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from benchmarks.store.fit_costs import DEVICE, NUMBERS, devices
from benchmarks.store.reading import read_fits
from benchmarks.store.run_folder import table_file

DECIMALS = {
    "kilobytes": 1,
    "train_seconds": 1,
    "trainable": 0,
    "train_peak_megabytes": 1,
    "draw_peak_megabytes": 1,
    "picture_seconds": 4,
    "base_picture_seconds": 4,
    "apply_seconds": 4,
}
COLUMNS = ("method", *NUMBERS, DEVICE)
# what people read of each, and its unit
WORDS = {
    "kilobytes": ("Size of a trained concept", "kB"),
    "train_seconds": ("Training", "s"),
    "trainable": ("Trained numbers", ""),
    "train_peak_megabytes": ("Memory of training, beyond the backbone", "MB"),
    "draw_peak_megabytes": ("Memory of drawing, beyond the backbone", "MB"),
    "picture_seconds": ("A picture with the concept", "s"),
    "base_picture_seconds": ("A picture of the base model", "s"),
    "apply_seconds": ("Loading a concept", "s"),
}
LEGENDS = {
    "kilobytes": "kilobytes: of the files of one trained concept (1,000 bytes)",
    "train_seconds": "train_seconds: of one concept, with the pictures that pick its step",
    "trainable": "trainable: how many numbers the optimizer changes",
    "train_peak_megabytes": "train_peak_megabytes, draw_peak_megabytes: the most memory beyond "
    "what the process held before; of a GPU what torch allocated, of a CPU the resident set",
    "picture_seconds": "picture_seconds, base_picture_seconds: one picture at a time with the "
    "concept loaded, and of the base model in turn with it",
    "apply_seconds": "apply_seconds: from the files of a concept to a backbone that draws it",
    "device": "device: what it was measured on; empty columns were not measured",
}


def costs_of_methods(fits: pd.DataFrame | None) -> pd.DataFrame:
    """Means over a method's fits, of those that were measured; every device that they ran on."""
    if fits is None or fits.empty:
        return empty_costs()
    fits = fits.reindex(columns=list(COLUMNS))
    of = fits.astype(dict.fromkeys(NUMBERS, float)).groupby("method")
    return of[list(NUMBERS)].mean().join(of[DEVICE].agg(devices)).reset_index()


def all_costs(run: Path) -> pd.DataFrame:
    """Of the fits that are here, and of others what the run's table says."""
    fits = read_fits(run)
    return pd.concat([fits, known_costs(run, set(fits["method"]))], ignore_index=True)


def costs_view(table: pd.DataFrame) -> pd.DataFrame:
    """A row a method of table.csv; an older one lacks columns, which stay empty."""
    rows = table[table["kind"] == "method"].drop_duplicates("method")
    found = rows.reindex(columns=list(COLUMNS)).reset_index(drop=True)
    found = found.astype(dict.fromkeys(NUMBERS, float))
    found[DEVICE] = pd.Series([devices([name]) or None for name in found[DEVICE]], dtype=object)
    return found


def empty_costs() -> pd.DataFrame:
    """No row; numbers, or what they are joined to would not be rounded."""
    return pd.DataFrame(columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, float))


def known_costs(run: Path, here: Collection[str]) -> pd.DataFrame:
    """What a run's table already says that fits cost, of methods whose trained files are not here
    (not committed).
    """
    try:
        table = pd.read_csv(table_file(run, "table"))
        told = table.loc[(table["kind"] == "method") & ~table["method"].isin(here)]
        found = told.reindex(columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, float))
    except (OSError, ValueError, KeyError):  # none yet, or damaged
        return empty_costs()
    return found.dropna(subset="kilobytes").drop_duplicates("method")
