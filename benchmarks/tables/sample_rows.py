"""The rows of a run: every scorer's scores of an image side by side, and what the plan still lacks.

In: a run folder as store.py reads it. Out: DataFrames.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from perfusion_core.errors import UserError

CELL = ["method", "point", "concept", "prompt_id"]


def is_metric(column: str) -> bool:
    """Score columns: image_sim, text_sim_raw; of a pair image_sim_a, image_sim_b; `<...>_<scorer>` of other scorers."""
    return column.startswith(("image_sim", "text_sim"))


def of_pairs(column: str) -> bool:
    """Score columns that only pairs have."""
    return re.match(r"image_sim_[ab](_|$)", column) is not None


def both_concepts(rows: pd.DataFrame) -> pd.DataFrame:
    """The image similarity of a pair is the mean over its two concepts."""
    if not {"image_sim_a", "image_sim_b"} <= set(rows):
        return rows
    both = (rows["image_sim_a"] + rows["image_sim_b"]) / 2
    return rows.assign(image_sim=rows["image_sim"].astype(float).fillna(both))


def rows_of(run: Path) -> pd.DataFrame:
    """The reported scorer's rows; what other scorers of the run say of the same images in columns with their names."""
    from benchmarks.store import run_folder

    rows = run_folder.read_rows(run)
    image = [*CELL, "index"]
    for scorer in run_folder.read_run(run)["scorers"][1:]:
        other = both_concepts(run_folder.read_rows(run, scorer["name"]))
        scores = [str(column) for column in other if is_metric(str(column)) and other[column].notna().any()]
        named = {column: f"{column}_{scorer['name']}" for column in scores}
        rows = rows.merge(other[[*image, *scores]].rename(columns=named), on=image, how="left")
    return rows


def missing_of(cells: pd.DataFrame, planned: pd.DataFrame) -> pd.DataFrame:
    """Planned cells with fewer images scored by every scorer than planned: the plan's columns, and `there`."""
    counts = cells.pivot_table(index=CELL, columns="metric", values="n", aggfunc="sum")
    needed = [m for m in {"image_sim", "text_sim_raw", *counts.columns} if not of_pairs(m)]
    merged = planned.merge(counts.reindex(columns=needed).reset_index(), on=CELL, how="left")
    n = merged[needed].fillna(0)
    images = [m for m in needed if m.startswith("image_sim")]
    n[images] = n[images].mask(merged["kind"] == "deform", np.inf)  # image similarity is not theirs to have
    for m in set(needed) - {"image_sim", "text_sim_raw"}:  # nor may another scorer have an opinion of every prompt
        said = cells.loc[cells["metric"] == m, "prompt_id"]
        n[m] = n[m].mask(~merged["prompt_id"].isin(said), np.inf)
    merged = merged.assign(there=n.min(axis=1).astype(int))
    return merged.loc[merged["there"] < merged["n"], [*planned.columns, "there"]].reset_index(drop=True)


def refuse_missing(missing: pd.DataFrame, planned: pd.DataFrame) -> None:
    """An average over what happens to be there is not the planned one."""
    if missing.empty:
        return
    short = int((missing["n"] - missing["there"]).sum())
    where = missing.groupby(["method", "point", "concept"], sort=False).size()
    named = [f"{method}/{point} {concept} ({n} cells)" for (method, point, concept), n in zip(where.index, where)]
    rest = f" and {len(named) - 4} more" if len(named) > 4 else ""
    raise UserError(
        f"{short} of {int(planned['n'].sum())} planned images have no score: {', '.join(named[:4])}{rest}; "
        "give the `perfbench run` command that planned them to finish, or --allow-missing to average what is there"
    )
