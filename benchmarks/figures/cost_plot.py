"""What quality costs: any score of the table against any cost, a point a method.

In: a run whose table says what its methods cost. Out: a figure, laid out for a column.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.charts import key
from benchmarks.figures.crowded import on_front
from benchmarks.figures.label_placing import Drawn, Label, finish_layout
from benchmarks.figures.looks import MANY, Style
from benchmarks.figures.selection import Wish, at_point, best_point, in_order, needs, of_main
from benchmarks.figures.style import COLUMN, GREY, PAGE
from benchmarks.store.fit_costs import NUMBERS
from benchmarks.tables.costs import WORDS
from benchmarks.tables.run_view import Run
from perfusion_core.errors import unknown

COST, SCORE = "train_seconds", "harmonic"  # where nothing else is asked for
DECADE = 10.0  # from here on the axis is logarithmic


@dataclass(frozen=True)
class Priced:
    """A method at its best operating point."""

    method: str
    label: str
    style: Style
    cost: float
    score: float
    lo: float
    hi: float


def cost(runs: Sequence[Run], wish: Wish) -> Figure:
    run, name, score = runs[0], wish.cost or COST, wish.score or SCORE
    if name not in NUMBERS:
        raise unknown("cost", name, NUMBERS)
    points = priced(run, name, score)
    needs(
        runs,
        bool(points),
        f"of no method both {score} and {name} are known; a run by this version of perfbench "
        f"measures its costs (docs/statistics.md)",
    )
    crowd = len(points) > MANY
    figure = Figure(figsize=(PAGE if crowd else COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(axis_words(name))
    axes.set_ylabel(plots.AXIS.get(score, score))
    if crowd:  # names on the front alone: the cheapest of what is as good
        handles = [key(replace(one.style, label=one.label), "") for one in points]
        figure.legend(handles=handles, loc="outside right center", frameon=False, borderpad=0)
    drawn = drawn_points(axes, points, floor_of(run, score))
    if crowd:
        front = on_front(np.array([(-one.cost, one.score) for one in points]))
        unnamed = {one.label for one, best in zip(points, front) if not best}
        drawn.labels = [label for label in drawn.labels if label.text not in unnamed]
    finish_layout(drawn)
    return figure


def priced(run: Run, name: str, score: str) -> list[Priced]:
    """Every main method that has both; a lock of Perfusion's is a point of its own."""
    table = run.table
    known = [str(column) for column in table if f"{column}_lo" in table]
    if score not in known:
        raise unknown("score", score, known)
    if name not in table:  # by an earlier version
        return []
    rows = of_main(table[table["kind"] == "method"])
    found = []
    for one in in_order(plots.series_of(rows)):
        point = best_point(one.rows)
        row = one.rows[one.rows["point"] == point].iloc[0]
        values = [float(row[column]) for column in (name, score, f"{score}_lo", f"{score}_hi")]
        if np.isfinite(values[:2]).all():
            found.append(Priced(one.method, at_point(one.style.label, point), one.style, *values))
    return found


def floor_of(run: Run, score: str) -> float:
    """What the plain word has of it, which costs nothing; NaN where it is not there."""
    values: pd.Series = run.table.loc[run.table["kind"] == "floor", score]
    return float(values.iloc[0]) if len(values) else float("nan")


def axis_words(name: str) -> str:
    words, unit = WORDS[name]
    return f"{words} ({unit})" if unit else words


def drawn_points(axes: Axes, points: Sequence[Priced], floor: float) -> Drawn:
    drawn = Drawn(axes)
    costs, scores = ([getattr(one, part) for one in points] for part in ("cost", "score"))
    least, most = min(costs), max(costs)
    if spans_decades(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_xlim(least / (most / least) ** 0.12, most * (most / least) ** 0.12)
    else:
        room = 0.12 * (most - least) or 0.1 * max(abs(most), 1e-9)
        axes.set_xlim(max(least - room, 0 if least >= 0 else least - room), most + room)
    low, high = vertical_limits(points, floor, scores)
    axes.set_ylim(low, high)
    for one in points:
        if np.isfinite([one.lo, one.hi]).all():
            line = np.array([(one.cost, one.lo), (one.cost, one.hi)])
            axes.plot(*line.T, color=one.style.colour, linewidth=0.6, alpha=0.55, zorder=2)
            drawn.faint.append(np.clip(line, [-np.inf, low], [np.inf, high]))
        drawn.lines.append(plots.trace(axes, [one.cost], [one.score], one.style))
        drawn.labels.append(Label([(one.cost, one.score)], one.label, one.style.text))
    if low < floor < high:
        axes.axhline(floor, color=GREY, linewidth=0.7, linestyle=(0, (5, 2)), zorder=1.5)
        left, right = axes.get_xlim()
        line = np.array([(left, floor), (right, floor)])
        drawn.lines.append(line)
        log = axes.get_xscale() == "log"
        spots = np.geomspace(left, right, 13) if log else np.linspace(left, right, 13)
        along = [(float(x), floor) for x in spots[[11, 1, 9, 3, 6]]]
        drawn.labels.append(Label(along, "floor: super-category", GREY, size=6))
    return drawn


def spans_decades(costs: Sequence[float]) -> bool:
    """Whether they are all above zero and a factor of ten apart or more."""
    return min(costs) > 0 and max(costs) / min(costs) >= DECADE


def vertical_limits(
    points: Sequence[Priced], floor: float, scores: Sequence[float]
) -> tuple[float, float]:
    """Around the points and their intervals; one of two concepts may run out of the picture, as in
    the plane."""
    least, most = np.nanmin([*scores, floor]), np.nanmax([*scores, floor])
    reach = 2 * max(most - least, 0.1)
    low = max(np.nanmin([least, *(one.lo for one in points)]), least - reach)
    high = min(np.nanmax([most, *(one.hi for one in points)]), most + reach)
    room = max(0.07 * (high - low), (0.1 - (high - low)) / 2)
    return float(low - room), float(high + room)
