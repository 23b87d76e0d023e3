"""Measures beyond the protocol, of operating points: means over concepts, with intervals.

In: the rows of cells.csv and the grid of the protocol's scores. Out: `Measured`; a frame of them
for `--by measures`. Each measure has cells of its own, so that none moves the protocol's numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.scoring.measures import DERIVED, MEASURES, in_order, measure_of, scorer_of
from benchmarks.tables.grid import CEILING, Grid
from benchmarks.tables.statistics import clustered

CELL = ["method", "point", "concept", "prompt_id"]


@dataclass(frozen=True)
class Measured:
    """Of one table: `values` are cell means, measure -> [M, C, P], the prompts of that measure;
    `real` of the concepts' own images, measure -> concept -> value.
    """

    values: Mapping[str, np.ndarray]
    real: Mapping[str, Mapping[str, float]]

    @property
    def names(self) -> list[str]:
        return in_order({*self.values, *self.real})

    def intervals(self, m: int) -> dict[str, float]:
        """Of one operating point, the closed form."""
        row: dict[str, float] = {}
        for name, y in self.values.items():
            row |= clustered(y[m]).named(name)
        return row

    def of_real(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, of in self.real.items():
            row |= clustered(np.array(list(of.values()))[:, None]).named(name)
        return row


def with_derived(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of cells.csv, and those of measures that are a difference of two others: paired,
    over the cells that both have.
    """
    there = set(map(str, cells["metric"].unique()))
    out = [cells]
    for name, (first, second) in DERIVED.items():
        ends = [f"_{scorer}" if scorer else "" for scorer in map(scorer_of, there)]
        for end in dict.fromkeys(ends):
            pair = f"{first}{end}", f"{second}{end}"
            if there.issuperset(pair):
                out.append(_difference(cells, *pair).assign(metric=f"{name}{end}"))
    return pd.concat(out, ignore_index=True) if len(out) > 1 else cells


def _difference(cells: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Rows of `first`, less `second` in the same cells; a spread of the difference nobody knows."""
    one, other = (cells[cells["metric"] == name] for name in (first, second))
    both = one.merge(other[[*CELL, "mean", "even", "odd"]], on=CELL, suffixes=("", "_other"))
    less = {name: both[name] - both[f"{name}_other"] for name in ("mean", "even", "odd")}
    return both.assign(**less, sd=np.nan)[cells.columns]


def measured(cells: pd.DataFrame, grid: Grid) -> Measured:
    """Of every operating point and concept of the grid."""
    cells = with_derived(cells)
    names = in_order(map(str, cells["metric"].unique()))
    drawn = cells[cells["method"] != CEILING]
    points = {point: m for m, point in enumerate(grid.points)}
    concepts = {name: c for c, name in enumerate(grid.concepts)}
    values, real = {}, {}
    for name in names:
        mine = drawn[drawn["metric"] == name]
        m = [points.get(point, -1) for point in zip(mine["method"], mine["point"])]
        c = [concepts.get(concept, -1) for concept in mine["concept"]]
        at, of = np.array(m, dtype=int), np.array(c, dtype=int)
        p, prompts = pd.factorize(mine["prompt_id"], sort=True)
        known = (at >= 0) & (of >= 0)
        if known.any():
            values[name] = np.full((len(points), len(concepts), len(prompts)), np.nan)
            values[name][at[known], of[known], p[known]] = mine["mean"].to_numpy(float)[known]
        own = cells[(cells["method"] == CEILING) & (cells["metric"] == name)]
        if len(own):
            real[name] = dict(zip(own["concept"].astype(str), own["mean"].astype(float)))
    return Measured(values, real)


def measures_in(table: pd.DataFrame) -> list[str]:
    """The measures that a table has a column of."""
    return in_order(str(name) for name in table if f"{name}_lo" in table)


def shown_first(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of measures in order: those of the first scorer that has any, which is the reported one, and
    the names of the others, whose columns would make a table too wide to read."""
    scorers = list(dict.fromkeys(map(scorer_of, names)))
    return [name for name in names if scorer_of(name) == scorers[0]], scorers[1:]


def measure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Rows and columns of a table (table.csv) that are about measures."""
    names = measures_in(table)
    shown = table[table["kind"] != "best-h"]
    columns = [f"{name}{end}" for name in names for end in ("", "_lo", "_hi")]
    there = shown[names].notna().any(axis=1) if names else np.zeros(len(shown), dtype=bool)
    return shown.loc[there, ["kind", "method", "point", *columns]].reset_index(drop=True)


def legend_of(name: str) -> str:
    """A line about a measure's column, whichever scorer gave it."""
    one, scorer = measure_of(name), scorer_of(name)
    assert one, name
    return f"{name}: {one.legend}{f', by {scorer}' if scorer else ''}"


def absent(table: pd.DataFrame) -> str:
    """Which measures of the reported scorer a table has not, and what they need; empty where it
    has all.
    """
    lacking: dict[str, list[str]] = {}
    for name, one in MEASURES.items():
        if name not in table or table[name].isna().all():
            lacking.setdefault(one.needs, []).append(name)
    return "; ".join(f"{', '.join(names)} (needs {what})" for what, names in lacking.items())


def concepts_without(metrics: pd.DataFrame) -> str:
    """Of how many concepts a measure is, where it is not of all: `image_sim_heldout 3 of 11`."""
    drawn = metrics[metrics["method"] != CEILING]
    told = []
    for name in in_order(map(str, metrics.columns)):
        have = drawn[drawn[name].notna()].groupby(["method", "point"])["concept"].nunique()
        every = drawn.groupby(["method", "point"])["concept"].nunique().reindex(have.index)
        if (have < every).any():
            told.append(f"{name} {have.min()} of {every.max()}")
    return ", ".join(told)
