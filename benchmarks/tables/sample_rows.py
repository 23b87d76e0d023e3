"""The rows of a run: every scorer's scores of an image side by side, and what the plan still lacks.

In: a run folder as store/reading.py reads it. Out: DataFrames.
"""

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scoring.lookup import MAY_BE_SILENT
from benchmarks.scoring.measures import MEASURES, in_order, is_measure
from benchmarks.scoring.reserved import REAL
from perfusion_core.errors import UserError

CELL = ["method", "point", "concept", "prompt_id"]


def is_metric(column: str) -> bool:
    """Score columns: image_sim, text_sim_raw; of a pair image_sim_a, image_sim_b; measures beyond
    the protocol (scoring/measures.py); `<...>_<scorer>` of other scorers.
    """
    return column.startswith(("image_sim", "text_sim")) or is_measure(column)


def named_by(scorer: str) -> dict[str, str]:
    """Its scores and measures as they are called beside the reported ones -> their plain names. Of
    the reported scorer, "", both are alike.
    """
    end = f"_{scorer}" if scorer else ""
    return {f"{metric}{end}": metric for metric in ("image_sim", "text_sim_raw", *MEASURES)}


def of_pairs(column: str) -> bool:
    """Score columns that only pairs have."""
    return re.match(r"image_sim_[ab](_|$)", column) is not None


def cell_codes(*frames: pd.DataFrame) -> list[np.ndarray]:
    """A number for the cell of every row, the same in all frames; they sort as the cells' names
    do.
    """
    codes = np.zeros(sum(map(len, frames)), dtype=np.int64)
    for column in CELL:
        code, names = pd.factorize(pd.concat([frame[column] for frame in frames]), sort=True)
        codes = codes * (len(names) + 1) + code
    return np.split(codes, np.cumsum([len(frame) for frame in frames])[:-1])


def both_concepts(rows: pd.DataFrame) -> pd.DataFrame:
    """The image similarity of a pair is the mean over its two concepts."""
    if not {"image_sim_a", "image_sim_b"} <= set(rows):
        return rows
    both = (rows["image_sim_a"] + rows["image_sim_b"]) / 2
    return rows.assign(image_sim=rows["image_sim"].astype(float).fillna(both))


def silent_scorers(about: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Scorers of run.json that may have looked at a picture and said nothing."""
    scorers = (about or {}).get("scorers", ())[1:]
    return tuple(one["name"] for one in scorers if one.get("kind") in MAY_BE_SILENT)


def sample_rows(run: Path, plan: pd.DataFrame | None = None) -> pd.DataFrame:
    """The reported scorer's rows; what other scorers of the run say of the same images in columns
    with their names.
    """
    from benchmarks.store import reading

    rows, about = reading.read_rows(run, plan=plan), reading.read_run(run)
    if rows.empty:  # beside nothing another scorer has a place
        return rows
    silent = silent_scorers(about)
    for scorer in about["scorers"][1:]:
        other = both_concepts(reading.read_rows(run, scorer["name"], plan))
        scores = [
            str(column)
            for column in other
            if is_metric(str(column)) and other[column].notna().any()
        ]
        named = {column: f"{column}_{scorer['name']}" for column in scores}
        mine, theirs = cell_codes(rows, other)
        n = 1 + int(max(rows["index"].max(), other["index"].max()))
        image = {
            "left_on": mine * n + rows["index"].to_numpy(),
            "right_on": theirs * n + other["index"].to_numpy(),
        }
        drawn = (rows["method"] != REAL).to_numpy()
        asked = np.isin(image["left_on"], image["right_on"])
        if scorer["name"] in silent and not asked[drawn].all():
            print(
                f"perfbench: {scorer['name']} was not asked about {(drawn & ~asked).sum()} of "
                f"{drawn.sum()} images: the tables are without it",
                file=sys.stderr,
            )
            continue
        rows = rows.merge(other[scores].rename(columns=named), how="left", **image).drop(
            columns="key_0"
        )
    return measures_last(rows)


def measures_last(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of measures behind all others; without those that have no value."""
    measures = in_order(map(str, rows.columns))
    return rows[
        [column for column in rows if str(column) not in measures]
        + [column for column in measures if rows[column].notna().any()]
    ]


def missing_of(
    cells: pd.DataFrame, planned: pd.DataFrame, silent: Collection[str] = ()
) -> pd.DataFrame:
    """Planned cells with fewer images scored by every scorer than planned: the plan's columns, and
    `there`. Measures beyond the protocol are never missing. `silent`: scorers that need not say
    anything of an image; whether they were asked about all is `sample_rows`' to see.
    """
    mine, theirs = cell_codes(planned, cells)
    code = np.unique(np.concatenate([mine, theirs]), return_inverse=True)[1]
    mine, theirs = np.split(code, [len(planned)])
    counts = []
    for metric in {"image_sim", "text_sim_raw", *cells["metric"].unique()}:
        said_nothing = metric.endswith(tuple(f"_{name}" for name in silent))
        if of_pairs(metric) or is_measure(metric) or said_nothing:
            continue
        said = (cells["metric"] == metric).to_numpy()
        weights = cells["n"].to_numpy(dtype=float)[said]
        # of nothing it counts integers
        n = np.bincount(theirs[said], weights, minlength=len(code))[mine].astype(float)
        if metric.startswith("image_sim"):  # not a deform prompt's to have
            n[(planned["kind"] == "deform").to_numpy()] = np.inf
        # another scorer need not have an opinion of every prompt
        if metric not in ("image_sim", "text_sim_raw"):
            n[~planned["prompt_id"].isin(cells["prompt_id"][said].unique()).to_numpy()] = np.inf
        counts.append(n)
    merged = planned.assign(there=np.min(counts, axis=0).astype(int))
    return merged[merged["there"] < merged["n"]].reset_index(drop=True)


def refuse_missing(missing: pd.DataFrame, planned: pd.DataFrame) -> None:
    """An average over what happens to be there is not the planned one."""
    if missing.empty:
        return
    short = int((missing["n"] - missing["there"]).sum())
    where = missing.groupby(["method", "point", "concept"], sort=False).size()
    named = [
        f"{method}/{point} {concept} ({n} cells)"
        for (method, point, concept), n in zip(where.index, where)
    ]
    rest = f" and {len(named) - 4} more" if len(named) > 4 else ""
    raise UserError(
        f"{short} of {int(planned['n'].sum())} planned images have no score: "
        f"{', '.join(named[:4])}{rest}; finish them by the `perfbench run` (or `perfbench import`) "
        f"command that planned them, or average what is there with --allow-missing"
    )
