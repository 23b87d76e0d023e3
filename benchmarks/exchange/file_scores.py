"""What a run found of one concept file: its scores over the operating points, and its pictures.

In: a run and the file. Out: rows with intervals over the concept's prompts; pictures by prompt.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.label_placing import finish_layout
from benchmarks.figures.style import PAGE
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.reading import planned_fits
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import clustered
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

METRICS = {"image_sim": "image_sim", "text_sim_raw": "text_sim"}  # of cells.csv -> of a figure


@dataclass(frozen=True)
class FileScores:
    """Of one trained file."""

    run: Run
    method: str
    concept: str
    table: pd.DataFrame  # point, image_sim and text_sim, each with _lo and _hi; n of prompts


def file_scores(run: Run, file: Path) -> FileScores:
    """The method and concept of the run whose trained file has these very bytes."""
    mine = file_sha256(file)
    for method, concept, about in planned_fits(run.folder):
        if mine in {one["sha256"] for one in about["files"].values()}:
            return FileScores(run, method, concept, table_of(run, method, concept))
    raise UserError(
        f"{run.name} did not draw with {file.name}: none of its trained files has these bytes; "
        f"`perfbench run --trained METHOD=FOLDER` scores a file, or leave --run out"
    )


def table_of(run: Run, method: str, concept: str) -> pd.DataFrame:
    """Each point's means over the prompts, and their 95 % t intervals: the prompt is the unit."""
    cells = run.cells
    mine = cells[(cells["concept"] == concept) & cells["method"].isin([method, FLOOR])]
    rows = []
    for (of, point), part in mine.groupby(["method", "point"], sort=False):
        row: dict[str, object] = {"kind": "method" if of == method else "floor"}
        row |= {"method": of, "point": point, "n": part["prompt_id"].nunique()}
        for metric, name in METRICS.items():
            means = part.loc[part["metric"] == metric, "mean"].to_numpy(float)
            found = clustered(means[~np.isnan(means)][:, None])
            row |= {name: found.value, f"{name}_lo": found.lo, f"{name}_hi": found.hi}
        rows.append(row)
    if not rows:
        raise UserError(f"{run.name} has no scores of {concept}; `perfbench score` makes them")
    return pd.DataFrame(rows)


def points_figure(scores: FileScores) -> Figure | None:
    """Both similarities over the bias; None where the run has but one."""
    table = scores.table[scores.table["kind"] == "method"]
    if not any(one.along for one in plots.series_of(table)):
        return None
    figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    drawn = [plots.along_bias(left, table, plots.Y), plots.along_bias(right, table, plots.X)]
    right.set_ylabel("Prompt similarity")
    finish_layout(*drawn)
    return figure


def run_pictures(scores: FileScores, limit: int) -> list[tuple[str, Path]]:
    """(prompt, file) of a few pictures at the best point, each of another prompt."""
    table = scores.table[scores.table["kind"] == "method"]
    middle = table["point"].iloc[(len(table) - 1) // 2]
    cells = scores.run.choose_cells([(scores.method, middle)], (scores.concept,), (), limit=limit)[
        :limit
    ]
    return [
        (
            scores.run.template(prompt, concept),
            scores.run.image_file(scores.method, middle, concept, prompt, 0),
        )
        for concept, prompt in cells
    ]
