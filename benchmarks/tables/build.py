"""Sample rows -> cells.csv -> metrics.csv -> table.csv and table.md.

In: what store/reading.py gives of a run folder, as DataFrames. Out: DataFrames, and
`write_tables`, which publishes them.

    cells_of(samples)       a row a (method, point, concept, prompt_id, metric): n, mean, sd, even,
                            odd (index halves)
    metrics_of(cells)       a row a (method, point, concept)
    table_of(cells, ...)    a row a (kind, method, point), with intervals; measures beyond the
                            protocol (measured.py) are the last columns of both
    make_tables(rows, ...)  all of them, and their text (table_text.py)
    tables_of(run)          all of them from a run folder, nothing written
    write_tables(run)       all of them into the run folder; -> the text of table.md

What figures need beyond these is in frames.py: cells in, tidy frames out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.store.reading import untuned_methods
from benchmarks.tables.costs import DECIMALS, all_costs, costs_of_methods
from benchmarks.tables.drift_table import drift_cells, with_worst
from benchmarks.tables.frames import SCORES, score_intervals, variants
from benchmarks.tables.grid import CEILING, FLOOR, Grid, ceilings_of, grid_of, protocol_cells
from benchmarks.tables.measured import Measured, measured, measures_in
from benchmarks.tables.sample_rows import (
    CELL,
    both_concepts,
    cell_codes,
    is_metric,
    missing_of,
    of_pairs,
    refuse_missing,
    sample_rows,
    silent_scorers,
)
from benchmarks.tables.statistics import best, clustered, crossed, mean_over, over_concepts
from benchmarks.tables.table_text import HONEST, NAIVE, beyond_text, markdown, with_untuned
from perfusion_core.errors import UserError

CELL_COLUMNS = [
    "method",
    "point",
    "concept",
    "group",
    "prompt_id",
    "kind",
    "metric",
    "n",
    "mean",
    "sd",
    "even",
    "odd",
]


def cells_of(samples: pd.DataFrame) -> pd.DataFrame:
    """Images -> cells. Images without a score do not count into n; rows in any order give the same
    bytes.
    """
    samples = both_concepts(samples.assign(prompt_id=samples["prompt_id"].fillna("").astype(str)))
    (cell,) = cell_codes(samples)
    order = np.lexsort((samples["index"].to_numpy(), cell))
    first, code = np.unique(cell[order], return_index=True, return_inverse=True)[1:]
    keys = samples.iloc[order[first]][[*CELL, "group", "kind"]].reset_index(drop=True)
    odd = samples["index"].to_numpy()[order] % 2 == 1
    out = []
    for metric in sorted(filter(is_metric, samples.columns)):
        value = samples[metric].to_numpy(dtype=float)[order]
        there = ~np.isnan(value)

        def per_cell(weight: np.ndarray, where: np.ndarray) -> np.ndarray:
            return np.bincount(code[where], weight[where], minlength=len(keys))

        with np.errstate(invalid="ignore", divide="ignore"):
            n = per_cell(np.ones(len(value)), there)
            mean = per_cell(value, there) / n
            sd = np.sqrt(per_cell((value - mean[code]) ** 2, there) / (n - 1))
            halves = [
                per_cell(value, there & h) / per_cell(np.ones(len(value)), there & h)
                for h in (~odd, odd)
            ]
        numbers = {"mean": mean, "sd": sd, "even": halves[0], "odd": halves[1]}
        finite = {name: np.where(np.isfinite(v), v, np.nan).round(9) for name, v in numbers.items()}
        frame = keys.assign(metric=metric, n=n.astype(int), **finite)
        out.append(frame[frame["n"] > 0])
    cells = pd.concat(out)  # the index is a cell's place among all
    return cells.sort_index(kind="stable")[CELL_COLUMNS].reset_index(drop=True)


def split_pairs(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of single concepts, and rows of pairs."""
    pair = cells["kind"] == "pair"
    return cells[~pair], cells[pair]


def above(image: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """[..., C, P] 1 where a cell is more similar to the concept's images than these are to each
    other (limit [C]).
    """
    limit = limit[:, None]
    return np.where(np.isnan(image) | np.isnan(limit), np.nan, image > limit)


def metrics_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells -> concepts. `copied` is the share of shape-preserving cells more similar to the
    concept's images than these are to each other."""
    singles, pairs = split_pairs(cells)
    return pd.concat(
        [_metrics(part, grid_of(part)) for part in (singles, pairs) if len(part)], ignore_index=True
    )


def _metrics(cells: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    ceilings, beyond = ceilings_of(cells), measured(cells, grid)
    out = []
    scores, images = grid.scores, grid.images
    limit = ceilings.reindex(grid.concepts).to_numpy(dtype=float)
    n_points, n_concepts = len(grid.points), len(grid.concepts)
    names = pd.DataFrame(grid.points, columns=["method", "point"])
    rows = names.loc[names.index.repeat(n_concepts)].assign(
        concept=grid.concepts * n_points,
        group=grid.groups * n_points,
        **{metric: scores[metric].ravel() for metric in [*SCORES, *grid.extra]},
        copied=mean_over(above(grid.values["image_sim"], limit)).ravel(),
        n=images.sum(2).astype(int).ravel(),
        **{name: mean_over(y).ravel() for name, y in beyond.values.items()},
    )
    out.append(rows[rows["n"] > 0])
    real = cells[(cells["method"] == CEILING) & (cells["metric"] == "image_sim")]
    if len(real):
        more = {name: real["concept"].map(dict(of)) for name, of in beyond.real.items()}
        out.append(
            real[["method", "point", "concept", "group", "n"]].assign(
                image_sim=real["mean"], **more
            )
        )
    columns = ["method", "point", "concept", "group", *SCORES, *grid.extra, "copied", "n"]
    return pd.concat(out, ignore_index=True).reindex(columns=[*columns, *beyond.names])


def table_of(
    cells: pd.DataFrame, planned: pd.DataFrame | None = None, fits: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Cells of single concepts, or of pairs -> the table, with 95 % intervals over concepts
    (statistics.py).
    """
    return _table(cells, grid_of(cells), planned, fits)


def _table(
    cells: pd.DataFrame, grid: Grid, planned: pd.DataFrame | None, fits: pd.DataFrame | None
) -> pd.DataFrame:
    n_planned, beyond = _planned(grid, planned), measured(cells, grid)
    limit = ceilings_of(cells).reindex(grid.concepts).to_numpy(dtype=float)
    out = []
    for method in sorted({name for name, _ in grid.points}, key=lambda name: (name == FLOOR, name)):
        for m in grid.rows(method):
            kind = "floor" if method == FLOOR else "method"
            out.append(
                {
                    "kind": kind,
                    "method": method,
                    "point": grid.points[m][1],
                    **_row(grid, m, limit, n_planned[m]),
                    **beyond.intervals(m),
                }
            )
        chosen_from = variants(grid, method)
        if method != FLOOR and len(chosen_from) > 1:
            out += _best_h(grid, method, chosen_from, n_planned)
    if len(ceilings_of(cells)):
        out.append(_ceiling(cells, beyond))
    table = pd.DataFrame(out)
    table = table.merge(costs_of_methods(fits), on="method", how="left")
    estimates = [f"{score}{end}" for score in [*SCORES, *grid.extra] for end in ("", "_lo", "_hi")]
    columns = [
        "kind",
        "method",
        "point",
        *estimates,
        "copied",
        "n_concepts",
        "n_images",
        "n_planned",
        *NUMBERS,
        DEVICE,
    ]
    more = [f"{name}{end}" for name in beyond.names for end in ("", "_lo", "_hi")]
    return (
        table.reindex(columns=[*columns, *more])
        .fillna({DEVICE: ""})
        .round(dict.fromkeys([*estimates, "copied", *more], 6))
        .round(DECIMALS)
    )


def _row(grid: Grid, m: int, limit: np.ndarray, n_planned: int) -> dict[str, object]:
    there = (grid.images[m] > 0).any(1)
    row: dict[str, object] = {
        "n_concepts": int(there.sum()),
        "n_images": int(grid.images[m].sum()),
        "n_planned": n_planned,
    }
    row |= score_intervals(grid, m)
    row["copied"] = clustered(above(grid.values["image_sim"][m], limit)).value
    return row


def _best_h(
    grid: Grid, method: str, rows: list[int], n_planned: np.ndarray
) -> list[dict[str, object]]:
    """Per concept the variant with the highest harmonic mean. Naive: chosen on the images that are
    reported. Honest: chosen on the even ones and reported on the odd ones, the reverse, and the
    average of both."""
    out = []
    whole, (even, odd) = grid.drawn, grid.drawn_halves
    n = grid.images[rows].sum(2)[None]  # [1, K, C]
    for point, splits in ((NAIVE, [(whole, whole)]), (HONEST, [(even, odd), (odd, even)])):
        choices = [choose["harmonic"][:, rows] for choose, _ in splits]
        images = np.mean([best(choice[:1], n) for choice in choices], axis=0)
        there = ~np.isnan(np.mean([best(c[:1], c[:1]) for c in choices], axis=0))
        row: dict[str, object] = {
            "kind": "best-h", "method": method, "point": point, "n_concepts": int(there.sum()),
            "n_images": round(float(images[there].sum())), "n_planned": int(n_planned[rows].max()),
        }  # fmt: skip
        for metric in SCORES:
            halves = [best(c, report[metric][:, rows]) for c, (_, report) in zip(choices, splits)]
            drawn = over_concepts(np.mean(halves, axis=0), grid.draws)
            row |= crossed(drawn, grid.draws, int(there.sum())).named(metric)
        if there.any():
            out.append(row)
    return out


def _ceiling(cells: pd.DataFrame, beyond: Measured) -> dict[str, object]:
    real = protocol_cells(cells[cells["method"] == CEILING])
    mine = real[real["metric"] == "image_sim"]
    row: dict[str, object] = {"kind": "ceiling", "method": CEILING, "point": "default"}
    row |= {
        "n_concepts": len(mine),
        "n_images": int(mine["n"].sum()),
        "n_planned": int(mine["n"].sum()),
    }
    for metric, of in real.groupby("metric"):
        row |= clustered(of["mean"].to_numpy()[:, None]).named(str(metric))
    return row | beyond.of_real()


def _planned(grid: Grid, planned: pd.DataFrame | None) -> np.ndarray:
    """[M] planned images; without a plan, those that are there."""
    if planned is None:
        return grid.images.sum((1, 2)).astype(int)
    n = planned.groupby(["method", "point"])["n"].sum()
    return n.reindex(pd.MultiIndex.from_tuples(grid.points)).fillna(0).astype(int).to_numpy()


@dataclass(frozen=True)
class Tables:
    """All tables of a run; `pairs` are sample rows, `pair_table` is the table over them (both empty
    without pairs).
    """

    samples: pd.DataFrame
    pairs: pd.DataFrame
    cells: pd.DataFrame
    metrics: pd.DataFrame
    table: pd.DataFrame
    pair_table: pd.DataFrame
    text: str


def tables_of(run: Path, allow_missing: bool = False) -> Tables:
    """Everything from the rows of a run folder; an incomplete plan is refused unless allowed."""
    from benchmarks.store import reading

    planned = reading.read_plan(run)
    rows = sample_rows(run, planned)
    return make_tables(
        rows,
        planned,
        all_costs(run),
        about=reading.read_run(run),
        allow_missing=allow_missing,
        beside=drift_cells(run, cells_of, allow_missing) if len(rows) else None,
    )


def make_tables(
    rows: pd.DataFrame,
    planned: pd.DataFrame,
    fits: pd.DataFrame,
    *,
    about: dict | None = None,
    allow_missing: bool = False,
    beside: pd.DataFrame | None = None,
) -> Tables:
    """The same from frames in the columns of store/reading.py; `beside`: cells of measures whose
    pictures are none of the protocol's (drift_table.py)."""
    if not len(rows):
        raise UserError(
            "no image of this run has a score yet; give the same `perfbench run` command again to "
            "go on, or `perfbench score` where images were imported"
        )
    cells = cells_of(rows)
    missing = missing_of(cells, planned, silent_scorers(about))
    if not allow_missing:
        refuse_missing(missing, planned)
    if beside is not None and len(beside):
        cells = pd.concat([cells, beside], ignore_index=True)
    tables, metrics, of_pair = [], [], planned["kind"] == "pair"
    for part, plan in zip(split_pairs(cells), (planned[~of_pair], planned[of_pair])):
        grid = grid_of(part) if len(part) else None
        tables.append(_table(part, grid, plan, fits) if grid else pd.DataFrame())
        metrics += [_metrics(part, grid)] if grid else []
    untuned = untuned_methods(about or {})
    table = with_untuned(with_worst(tables[0], cells), untuned)
    pair_table = with_untuned(tables[1], untuned)
    is_pair = rows["kind"] == "pair"
    told = [remarks_of(rows[~is_pair]), remarks_of(rows[is_pair])]
    said = [silence_of(rows[of], about) for of in (~is_pair, is_pair)]
    parts = [markdown(table, about, remarks=told[0], silence=said[0])] if len(table) else []
    title = "Pairs of concepts"
    parts += [markdown(pair_table, about, title, told[1], said[1])] if len(pair_table) else []
    parts += [beyond_text(table, metrics[0], about)] if len(table) and measures_in(table) else []
    rows = rows.drop(columns="key", errors="ignore")
    samples = rows.loc[~is_pair, [column for column in rows if not of_pairs(str(column))]]
    metrics_table = pd.concat(metrics, ignore_index=True)
    return Tables(samples, rows[is_pair], cells, metrics_table, table, pair_table, "\n".join(parts))


def remarks_of(rows: pd.DataFrame) -> dict[str, int]:
    """How many images have a remark of each kind."""
    if "remark" not in rows:
        return {}
    found = rows["remark"].fillna("").str.split().explode().value_counts()
    return {str(kind): int(n) for kind, n in found.items()}


def silence_of(rows: pd.DataFrame, about: dict | None) -> dict[str, tuple[int, int]]:
    """Scorer -> of how many images it said nothing, and of how many it was asked; those that said
    something of each are not told."""
    drawn, found = rows[rows["method"] != CEILING], {}
    for name in silent_scorers(about):
        mine = [str(c) for c in drawn if is_metric(str(c)) and str(c).endswith(f"_{name}")]
        asked = drawn[[column.removesuffix(f"_{name}") for column in mine]].notna().any(axis=1)
        if n := int((asked & drawn[mine].isna().all(axis=1)).sum()) if mine else 0:
            found[name] = n, int(asked.sum())
    return found


def write_tables(run: Path, allow_missing: bool = False) -> str:
    """Make and publish all tables of a run; -> the text of table.md."""
    tables = tables_of(run, allow_missing)
    publish(run, tables)
    return tables.text


def publish(run: Path, tables: Tables) -> None:
    """Each by one rename, table.md last."""
    from benchmarks.store.frame_text import text_of_frame
    from benchmarks.store.run_folder import Store

    store = Store(run)
    frames = {
        "samples": tables.samples,
        "cells": tables.cells,
        "metrics": tables.metrics,
        "table": tables.table,
    }
    if len(tables.pairs):
        frames |= {"pairs": tables.pairs, "pair-table": tables.pair_table}
    for name, frame in frames.items():
        store.write_text(run / f"{name}.csv", text_of_frame(frame))
    store.write_text(run / "table.md", tables.text)
