"""What a loaded concept does to everything else: cells of unrelated prompts and of class words.

In: a run folder. Out: rows as cells.csv has them, whose metrics are measures beyond the protocol
(scoring/measures.py); and the worst prompt of every operating point. Their pictures are none of
the protocol's, so that no count and no mean of it knows of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.scoring.lookup import MAY_BE_SILENT
from benchmarks.suite.drift_kinds import DRIFT, DRIFT_CLASS, OF_DRIFT, PIXELS
from benchmarks.tables.sample_rows import CELL
from benchmarks.tables.statistics import mean_over
from perfusion_core.errors import UserError

WORST = "drift_worst"  # the mean over concepts of the prompt that moves most


def drift_cells(
    run: Path, cells_of: Callable[[pd.DataFrame], pd.DataFrame], allow_missing: bool = False
) -> pd.DataFrame:
    """Of every scorer that has measured all of them; no row where nothing did. What lacks a score
    of the reported scorer is refused unless allowed."""
    from benchmarks.store import reading

    planned = reading.read_drift_plan(run)
    if planned.empty:
        return pd.DataFrame()
    found = []
    for number, scorer in enumerate(reading.read_run(run)["scorers"]):
        if scorer.get("kind") in MAY_BE_SILENT:  # nobody is asked
            continue
        rows = reading.planned_rows(run, scorer["name"], planned)
        cells = cells_of(of_unrelated(rows)) if len(rows) else pd.DataFrame(columns=[*CELL, "n"])
        short = lacking(cells, planned)
        if number == 0 and short and not allow_missing:
            raise UserError(
                f"{short} of {int(planned['n'].sum())} planned images that measure drift have no "
                f"score; give the `perfbench run` command that planned them to finish, or "
                f"--allow-missing to average what is there"
            )
        if number > 0 and not short:
            cells = cells[cells["metric"] != PIXELS]
            cells = cells.assign(metric=cells["metric"] + f"_{scorer['name']}")
        found += [cells] if len(cells) and not (number and short) else []
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def of_unrelated(rows: pd.DataFrame) -> pd.DataFrame:
    """Pixels are told of unrelated prompts alone, as their drift is."""
    rows = rows.drop(columns=["image_sim", "text_sim_raw", "key"], errors="ignore")
    rows = rows.reindex(columns=[*(c for c in rows if c not in OF_DRIFT), *OF_DRIFT])
    return rows.assign(**{PIXELS: rows[PIXELS].where(rows["kind"] == DRIFT)})


def lacking(cells: pd.DataFrame, planned: pd.DataFrame) -> int:
    """How many planned images have no score."""
    mine = cells[cells["metric"].isin([DRIFT, DRIFT_CLASS])] if len(cells) else cells
    both = planned.merge(mine[[*CELL, "n"]], on=CELL, how="left", suffixes=("", "_there"))
    there = both["n_there"].astype(float).fillna(0)
    return int((both["n"] - there).clip(lower=0).sum())


def worst_prompts(cells: pd.DataFrame) -> pd.DataFrame:
    """method, point, drift_worst, prompt_id of it; of every operating point that has any."""
    out = []
    mine = cells[cells["metric"] == DRIFT]
    for (method, point), of in mine.groupby(["method", "point"], sort=True):
        wide = of.pivot(index="concept", columns="prompt_id", values="mean").astype(float)
        means = mean_over(wide.to_numpy().T)
        k = int(np.nanargmax(means))
        out.append((method, point, round(float(means[k]), 6), str(wide.columns[k])))
    return pd.DataFrame(out, columns=["method", "point", WORST, "prompt_id"])


def with_worst(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The table, its last column the worst prompt's drift; as it was where nothing was measured."""
    worst = worst_prompts(cells)
    if worst.empty:
        return table
    return table.merge(worst.drop(columns="prompt_id"), on=["method", "point"], how="left")
