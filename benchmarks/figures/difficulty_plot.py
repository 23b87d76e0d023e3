"""Quality against difficulty: every method's mean at each grade of concepts, with the concepts.

In: a run whose concepts have grades. Out: a figure, laid out for a column or the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.charts import key
from benchmarks.figures.looks import Style
from benchmarks.figures.selection import Wish, best_point, in_order, needs, of_main, short
from benchmarks.figures.style import COLUMN, PAGE
from benchmarks.tables.difficulty import graded, in_grade_order
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import Interval, clustered
from perfusion_core.errors import unknown

SCORES = (plots.Y, plots.X)  # where none is asked for
WIDE = 0.62  # of the room of a grade, for the methods beside one another


@dataclass(frozen=True)
class Climb:
    """One method at its best operating point: a grade's concepts in each place."""

    method: str
    point: str
    style: Style
    values: Sequence[np.ndarray]

    @property
    def means(self) -> list[Interval]:
        """With 95 % intervals over the grade's concepts."""
        return [clustered(values[:, None]) for values in self.values]


def difficulty(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    grades = graded(run)
    names = in_grade_order(grades.values())
    needs(
        runs,
        len(names) > 1,
        f"all its graded concepts are {names[0]}; more grades make a figure",
    )
    scores = [wish.score] if wish.score else list(SCORES)
    panels = {score: climbs(run, score, names) for score in scores}
    panels = {score: found for score, found in panels.items() if found}
    needs(runs, bool(panels), "no method in its table; `perfbench run` makes one")
    figure = Figure(figsize=(PAGE if len(panels) > 1 else COLUMN, 2.7), layout="constrained")
    for axes, (score, found) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        draw_climbs(axes, found)
        counts = [sum(value == name for value in grades.values()) for name in names]
        axes.set_xticks(
            range(len(names)),
            [f"{name}\n{n} concept{'s' * (n != 1)}" for name, n in zip(names, counts)],
        )
        axes.set_ylabel(plots.AXIS.get(score, score))
    first = next(iter(panels.values()))
    figure.legend(
        handles=[key(one.style, short(one.point)) for one in first],
        loc="outside upper center",
        ncols=min(4 if len(panels) > 1 else 2, len(first)),
        frameon=False,
        handletextpad=0.2,
        columnspacing=1,
    )
    return figure


def climbs(run: Run, score: str, names: Sequence[str]) -> list[Climb]:
    """The methods that have the score, in the order of the figures."""
    grades, metrics = graded(run), run.metrics
    known = [str(c) for c in metrics.select_dtypes("number") if c not in ("copied", "n")]
    if score not in known:
        raise unknown("score", score, known)
    table = of_main(run.table)
    found = []
    for one in in_order(plots.series_of(table)):
        point = best_point(one.rows)
        rows = metrics[(metrics["method"] == one.method) & (metrics["point"] == point)]
        each: pd.Series = rows.set_index("concept")[score].dropna().astype(float)
        of = each.index.map(lambda name: grades.get(name, ""))
        values = [each[of == name].to_numpy() for name in names]
        if any(map(len, values)):
            found.append(Climb(one.method, point, one.style, values))
    return found


def draw_climbs(axes: Axes, found: Sequence[Climb]) -> None:
    """Means joined from grade to grade, their intervals, and the concepts as faint dots."""
    every = np.concatenate([values for one in found for values in one.values])
    for number, one in enumerate(found):
        aside = WIDE * ((number + 0.5) / len(found) - 0.5)
        at = [place + aside for place in range(len(one.values))]
        for x, values, mean in zip(at, one.values, one.means):
            axes.plot(
                np.full(len(values), x), values, linestyle="none", marker=".", markersize=2.2,
                color=one.style.colour, alpha=0.35, zorder=2,
            )  # fmt: skip
            if np.isfinite([mean.lo, mean.hi]).all():
                axes.plot(
                    [x, x], [mean.lo, mean.hi], color=one.style.colour, linewidth=0.7, alpha=0.6,
                    zorder=2.5,
                )  # fmt: skip
        there = [(x, mean.value) for x, mean in zip(at, one.means) if np.isfinite(mean.value)]
        plots.trace(axes, [x for x, _ in there], [y for _, y in there], one.style, size=3.8)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.5, len(found[0].values) - 0.5)
    room = 0.25 * max(float(np.ptp(every)), 0.1)  # intervals of two concepts leave the picture
    axes.set_ylim(float(every.min()) - room, float(every.max()) + room)
