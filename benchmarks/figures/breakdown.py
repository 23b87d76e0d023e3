"""Where methods are good and bad: a heat map of groups of concepts and of scenarios by methods,
every value written.

In: a run. Out: a figure, laid out for the page.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.selection import Wish, best_point, in_order, needs, of_main
from benchmarks.figures.style import INK, PAGE
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.run_view import Run
from benchmarks.tables.views import scenarios

TITLES = {
    "image_sim": "Image similarity",
    "text_gain": "Text similarity (raw cosine) gained on the super-category",
}
SLANT = 40.0  # degrees
PLURAL = {"container": "containers", "wearable": "wearables"}


def breakdown(runs: Sequence[Run], wish: Wish) -> Figure:
    """Image similarity by group of concepts; text similarity against the super-category's by group
    and by scenario.
    """
    panels, n_groups = panels_of(runs)
    rows = [len(panel) for panel in panels.values()]
    slanted = max(heads_of(list(map(str, panel.columns)))[2] for panel in panels.values()) > 0
    height = 0.2 * sum(rows) + (1.3 if slanted else 0.95)
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    grid = figure.subplots(len(panels), 1, height_ratios=rows, squeeze=False)[:, 0]
    for number, (axes, (name, panel)) in enumerate(zip(grid, panels.items())):
        heat(axes, panel, signed=name == "text_gain")
        axes.set_title(TITLES[name], loc="left")
        axes.tick_params(labelbottom=number == len(panels) - 1)
    if "text_gain" in panels and n_groups:
        # groups above, scenarios below
        grid[-1].axhline(n_groups, color="white", linewidth=3)
    return figure


def panels_of(runs: Sequence[Run]) -> tuple[dict[str, pd.DataFrame], int]:
    """metric -> a row a group of concepts, and of text also a scenario, a column a method; how many
    of these rows are groups.
    """
    run = runs[0]
    table = of_main(run.table[run.table["kind"] == "method"])
    columns = [
        (one.method, best_point(one.rows), one.style.label)
        for one in in_order(plots.series_of(table))
    ]
    needs(runs, bool(columns), "no method in its table; `perfbench run` makes one")
    cells = split_pairs(run.cells)[0]
    by_group = wide(frames.breakdown(cells, "group"), "group", columns)
    by_scenario = wide(
        frames.breakdown(cells, "scenario", scenarios(run.plan)), "scenario", columns
    )
    if len(by_group["text_gain"]) < 2:  # one group is the whole table
        by_group = {name: panel.iloc[:0] for name, panel in by_group.items()}
    panels = {
        "image_sim": by_group["image_sim"].rename(index=PLURAL),
        "text_gain": pd.concat(
            [by_group["text_gain"].rename(index=PLURAL), by_scenario["text_gain"]]
        ),
    }
    told = {name: panel for name, panel in panels.items() if panel.notna().any(axis=None)}
    needs(runs, bool(told), "one group of concepts and no text similarity: nothing to break down")
    return told, len(by_group["text_gain"])


def wide(
    found: pd.DataFrame, by: str, columns: Sequence[tuple[str, str, str]]
) -> dict[str, pd.DataFrame]:
    """metric -> a row a label, a column a method at its point."""
    parts = {}
    for metric in TITLES:
        table = found.pivot(index=by, columns=["method", "point"], values=metric)
        table = table[[(method, point) for method, point, _ in columns]]
        table.columns = pd.Index([label for _, _, label in columns])
        parts[metric] = table.dropna(how="all")
    return parts


def heat(axes: Axes, panel: pd.DataFrame, signed: bool) -> None:
    """Darker is better, in print as well; the number in each field says how much, and is dark on
    light everywhere.
    """
    low, high = np.nanmin(panel.to_numpy(float)), np.nanmax(panel.to_numpy(float))
    seaborn.heatmap(
        panel, ax=axes, cmap="Blues", vmin=low, vmax=high + 0.8 * max(high - low, 1e-3), annot=True,
        fmt="+.3f" if signed else ".3f", annot_kws={"fontsize": 6.2, "color": INK}, cbar=False,
        linewidths=0.8, linecolor="white",
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    names, size, angle = heads_of([label.get_text() for label in axes.get_xticklabels()])
    axes.tick_params(length=0, labelrotation=0)
    axes.set_xticklabels(names, rotation=angle, fontsize=size)
    if angle:  # each ends at its column
        for label in axes.get_xticklabels():
            label.set(ha="right", va="top", rotation_mode="anchor")
    axes.grid(visible=False)


def heads_of(labels: Sequence[str]) -> tuple[list[str], float, float]:
    """The heads of columns in lines, their size and angle: slanted where a word is wider than its
    column."""
    room = (PAGE - 0.6) / len(labels)  # inches of a column
    size = 6.5 if room > 0.65 else 5.6
    letters = int(72 * room / (0.6 * size))
    longest = max(len(word) for label in labels for word in label.split())
    slanted = longest > letters
    lines = [
        textwrap.fill(label, max(letters, longest), break_long_words=False) for label in labels
    ]
    return lines, size, SLANT if slanted else 0.0
