"""Measures beyond the protocol: a panel each, in it a dot with its 95 % interval for each method.

In: a run. Out: a figure, laid out for the page.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.looks import Style, style_of
from benchmarks.figures.selection import Wish, at_point, best_point, in_order, needs, of_main
from benchmarks.figures.style import GREY, PAGE
from benchmarks.scoring.measures import HIGHER, LOWER, MEASURES, scorer_of
from benchmarks.tables.measured import measure_table, measures_in
from benchmarks.tables.run_view import Run
from benchmarks.tables.table_text import scale_of

ACROSS = 3  # panels beside each other
BETTER = {LOWER: "more is better", HIGHER: "less is better"}
WIDE = 2.0  # spreads of the dots beyond which an interval runs out of its panel


def measures(runs: Sequence[Run], wish: Wish) -> Figure:
    """Each method at its best operating point, and the plain word; the concepts' own images as a
    line.
    """
    rows, names, ceiling = measure_rows(runs[0].table)
    needs(
        runs,
        bool(rows and names),
        "no measure beyond the protocol in its table; `perfbench score RUN --measures` adds those "
        "that its pictures can have",
    )
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    height = down * (0.17 * len(rows) + 0.62) + 0.1
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(names):
            axes.axis("off")
            continue
        panel(axes, names[number], rows, ceiling)
        axes.tick_params(labelleft=number % across == 0)
    return figure


Dot = tuple[str, Style, pd.Series]


def measure_rows(table: pd.DataFrame) -> tuple[list[Dot], list[str], pd.Series | None]:
    """What is drawn: a label, a style and a row of the table each; the measures of the reported
    scorer; and the row of the concepts' own images where there is one.
    """
    shown = measure_table(table).drop(columns=["kind"])
    names = [name for name in measures_in(shown) if not scorer_of(name)]
    for name in names:
        least, most = scale_of(name)
        ends = [f"{name}_lo", f"{name}_hi"]
        shown[ends] = shown[ends].clip(least, most)
    of = {(row["method"], row["point"]): row for _, row in shown.iterrows()}
    methods = of_main(table[table["kind"] == "method"])
    found: list[Dot] = []
    for one in in_order(plots.series_of(methods)):
        point = best_point(one.rows)
        if (one.method, point) in of:
            label = at_point(one.style.label, point)
            found.append((label, one.style, of[one.method, point]))
    others: dict[str, pd.Series | None] = {"floor": None, "ceiling": None}
    for kind, method, point in zip(table["kind"], table["method"], table["point"]):
        if kind in others:
            others[kind] = of.get((method, point))
    if others["floor"] is not None:
        style = style_of(str(others["floor"]["method"]))
        found.append((style.label, style, others["floor"]))
    return found, names, others["ceiling"]


def panel(axes: Axes, name: str, rows: Sequence[Dot], ceiling: pd.Series | None) -> None:
    one = MEASURES[name]
    axes.set_title(one.label, loc="left")
    axes.set_xlabel(BETTER.get(one.loss, ""))
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4)
    for height, (_, style, row) in enumerate(rows):
        if np.isnan(row[name]):
            continue
        if np.isfinite([row[f"{name}_lo"], row[f"{name}_hi"]]).all():
            axes.plot(
                [row[f"{name}_lo"], row[f"{name}_hi"]],
                [height, height],
                color=style.colour,
                linewidth=0.8,
                alpha=0.6,
                solid_capstyle="butt",
            )
        plots.trace(axes, [row[name]], [float(height)], style, size=3.8)
    if ceiling is not None and not np.isnan(ceiling[name]):
        axes.axvline(ceiling[name], color=GREY, linewidth=0.7, linestyle=(0, (2, 1.5)), zorder=1)
    axes.set_xlim(*reach(name, [row for _, _, row in rows], ceiling))


def reach(name: str, rows: Sequence[pd.Series], ceiling: pd.Series | None) -> tuple[float, float]:
    """Around dots and intervals; of a few concepts intervals can be so wide that nothing else could
    be seen: these run out of the panel.
    """
    dots = [row[name] for row in rows] + ([] if ceiling is None else [ceiling[name]])
    least, most = np.nanmin(dots), np.nanmax(dots)
    ends = [row[f"{name}{end}"] for row in rows for end in ("", "_lo", "_hi")]
    far = WIDE * max(most - least, 0.02)
    low = max(np.nanmin([*ends, least]), least - far)
    high = min(np.nanmax([*ends, most]), most + far)
    room = max(0.06 * (high - low), 0.005)
    return float(low - room), float(high + room)
