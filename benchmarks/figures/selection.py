"""Which rows and columns of a run a figure or a page shows: methods, their best operating points,
Perfusion's fronts.

In: runs. Out: rows of their tables, names, and a sentence where there is nothing to show.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.figures import plots
from benchmarks.figures.looks import known_looks, split_variant
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import FLOOR, OURS
from benchmarks.tables.run_view import Run, distinct_names
from benchmarks.tables.table_text import HONEST, NAIVE
from perfusion_core.errors import UserError, unknown

NAMED = 5  # methods that a sentence names


@dataclass(frozen=True)
class Wish:
    """What a figure should show; empty: chosen from what the run has."""

    concepts: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()  # a method, or method/point
    images: int = 1  # of each cell
    score: str = ""  # a column of the table; empty: the figure's usual one
    cost: str = ""  # the same of costs


def joined_tables(runs: Sequence[Run]) -> pd.DataFrame:
    """The tables of all runs; the column `run` is there where there are several."""
    if len(runs) == 1:
        return runs[0].table
    tables = [run.table.assign(run=name) for run, name in zip(runs, distinct_names(runs))]
    return pd.concat(
        [tables[0], *(table[table["kind"] == "method"] for table in tables[1:])], ignore_index=True
    )


def is_main(method: str) -> bool:
    """A method as published, or with its step selected; not an ablation."""
    return split_variant(method)[1] in ("", "selected")


def step_of(table: pd.DataFrame) -> pd.Series:
    """The kept training step of each row; NaN for the fit as it ended, and for a choice of several
    points (Best H).
    """
    steps = (
        None if name in (NAIVE, HONEST) else OperatingPoint.parse(name).step
        for name in table["point"]
    )
    return pd.Series(list(steps), index=table.index, dtype=float)


def of_main(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of main methods as their fits ended, of the floor and of the ceiling."""
    return table[step_of(table).isna() & table["method"].map(is_main).astype(bool)]


def needs(runs: Sequence[Run], what: bool, sentence: str) -> None:
    """One sentence, and the command, where a run lacks what a figure shows."""
    if not what:
        raise UserError(f"{', '.join(run.name for run in runs)}: {sentence}")


def perfusion_fronts(run: Run) -> list[plots.Series]:
    """Perfusion's fronts over the bias, local lock first."""
    table = run.table
    rows = table[(table["method"] == OURS) & (table["kind"] == "method") & step_of(table).isna()]
    fronts = [one for one in plots.series_of(rows) if one.along and all(one.along)]
    return sorted(fronts, key=lambda one: (one.lock != "local", one.temperature or 0))


def best_point(rows: pd.DataFrame) -> str:
    """Of some rows of the table, the point with the highest harmonic mean."""
    harmonic = rows["harmonic"].fillna(-np.inf).to_numpy(float)
    return str(rows["point"].iloc[int(np.argmax(harmonic))])


def short(point: str) -> str:
    """`β = 0.60, s = 100` of a point's name; nothing for `default`."""
    told = OperatingPoint.parse(point)
    parts = (
        "" if told.bias is None else f"β = {told.bias:.2f}",
        "" if told.step is None else f"s = {told.step}",
    )
    return ", ".join(filter(None, parts))


def at_point(label: str, point: str) -> str:
    """A method's label with its operating point, where that says something."""
    told = short(point)
    return f"{label} ({told})" if told else label


def in_order(series: Sequence[plots.Series]) -> list[plots.Series]:
    """Methods as the figures list them; local before global lock."""
    order = {name: number for number, name in enumerate(known_looks())}

    def place(one: plots.Series) -> tuple[int, str, bool]:
        return order.get(split_variant(one.method)[0], len(order)), one.method, one.lock != "local"

    return sorted(series, key=place)


def without_room(run: Run, columns: Sequence[tuple[str, str]]) -> tuple[list[str], int]:
    """The main methods that are in none of the columns, and how many main methods there are."""
    table = run.first_table
    main = (table["kind"] == "method") & table["method"].map(is_main).astype(bool)
    every = list(dict.fromkeys(table.loc[main, "method"]))
    return [name for name in every if name not in {method for method, _ in columns}], len(every)


def tell_left_out(run: Run, columns: Sequence[tuple[str, str]], wanted: Sequence[str]) -> None:
    """One sentence on stderr where there is no room for all methods, and none were asked for."""
    absent, count = without_room(run, columns)
    if wanted or not absent:
        return
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    print(
        f"perfbench: {run.name}: {count - len(absent)} of {count} methods are shown; --methods "
        f"names others ({', '.join(absent[:NAMED])}{more})",
        file=sys.stderr,
    )


def gallery_columns(run: Run, wanted: Sequence[str], limit: int = 8) -> list[tuple[str, str]]:
    """(method, point) of each column: what was asked for, or every method at its best point, both
    of Perfusion's locks, and the super-category where these are few; where there are too many,
    those that select their step are left out. A run of nothing but pairs is chosen from by their
    table."""
    table = run.first_table[run.first_table["kind"].isin(["method", "floor"])]
    has = list(zip(table["method"], table["point"]))
    if not wanted:
        main = table[(table["kind"] == "method") & table["method"].map(is_main).astype(bool)]
        whole = main[step_of(main).isna()]
        series = in_order(plots.series_of(main if whole.empty else whole))
        if len(series) > limit:
            series = [one for one in series if not split_variant(one.method)[1]] or series
        columns = [(one.method, best_point(one.rows)) for one in series[:limit]]
        floor = [cell for cell in has if cell[0] == FLOOR]
        return columns if len(columns) > min(3, limit - 1) else columns + floor
    columns = []
    for word in wanted:
        method, _, point = word.partition("/")
        rows = table[table["method"] == method]
        if rows.empty:
            raise unknown("method", method, {m for m, _ in has})
        if point and (method, point) not in has:
            raise unknown("point", point, rows["point"])
        columns.append((method, point or best_point(rows)))
    return columns
