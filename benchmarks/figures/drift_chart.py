"""What a loaded concept does to everything else: every method and point on one axis, and below it
the pictures that moved most.

In: a run whose tables have drift. Out: a figure, laid out for the page.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from benchmarks.figures import picture_grid, plots
from benchmarks.figures.looks import Style, style_of
from benchmarks.figures.selection import Wish, in_order, needs, short
from benchmarks.figures.style import GREY, INK, PAGE
from benchmarks.planning.points import OperatingPoint
from benchmarks.suite.drift_kinds import DRIFT, DRIFT_CLASS, DRIFTS, PLAIN
from benchmarks.tables.drift_table import WORST
from benchmarks.tables.grid import FLOOR
from benchmarks.tables.run_view import Run

SHOWN = 6  # of the pictures that moved most
# inches: of an operating point, of the axis and its words; beside the pictures; of text
ROW, ABOVE, LEFT, LINE = 0.17, 0.75, 0.6, 0.11


@dataclass(frozen=True)
class Line:
    """An operating point on the axis."""

    label: str
    style: Style
    row: pd.Series


@dataclass(frozen=True)
class Moved:
    """A picture with a concept loaded, and the plain backbone's of the same prompt and noise."""

    method: str
    point: str
    concept: str
    text: str
    plain: np.ndarray
    drawn: np.ndarray


def drift(runs: Sequence[Run], wish: Wish) -> Figure:
    """Unrelated prompts and the class word, with intervals; then the worst, without the concept
    above and with it below."""
    run = runs[0]
    lines = lines_of(run)
    needs(
        runs,
        bool(lines),
        "no drift in its table; `perfbench run --drift`, with the flags of the run, measures it",
    )
    worst = worst_pictures(run)
    chart = ROW * len(lines) + ABOVE
    heads = [head_of(one) for one in worst]
    rows = [
        picture_grid.Row([], "", "", [getattr(one, part) for one in worst])
        for part in ("plain", "drawn")
    ]
    wide = min(PAGE - LEFT, 1.1 * len(worst))
    tall = picture_grid.grid_height(wide, rows, heads, concept=False) if worst else 0.0
    letters = int(21 * picture_grid.tile_size(wide, heads, False)) if worst else 0
    texts = [textwrap.wrap(f"“{one.text}”", letters) for one in worst]
    words_below = 0.06 + LINE * max(map(len, texts), default=0)
    below = 0.1 + tall + words_below if worst else 0.0
    height = chart + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, chart / height))
    figure = Figure(figsize=(PAGE, height), layout=layout)
    draw_lines(figure.subplots(), lines)
    if worst:
        canvas = picture_grid.canvas(figure, LEFT, chart + 0.1, wide, tall + words_below)
        picture_grid.grid(canvas, rows, heads, concept=False)
        side = picture_grid.tile_size(wide, heads, False)
        top = picture_grid.header_height(heads)
        for number, words in enumerate(("without", "with")):
            middle = chart + 0.1 + top + number * (side + picture_grid.GAP) + side / 2
            figure.text(
                (LEFT - 0.06) / PAGE, 1 - middle / height, words,
                fontsize=6.2, color=GREY, ha="right", va="center",
            )  # fmt: skip
        for number, text in enumerate(texts):
            canvas.text(
                number * (side + picture_grid.GAP) + side / 2, tall + 0.02,
                "\n".join(text),
                fontsize=6.2, fontstyle="italic", ha="center", va="top",
            )  # fmt: skip
    return figure


def lines_of(run: Run) -> list[Line]:
    """Every operating point that has drift, methods as figures list them."""
    table = run.table
    if DRIFT not in table:
        return []
    mine = table[(table["kind"] == "method") & table[list(DRIFTS)].notna().any(axis=1)]
    found = []
    for one in in_order(plots.series_of(mine)) if len(mine) else []:
        for _, row in one.rows.iterrows():
            told = told_of(str(row["point"]))
            found.append(Line(f"{one.style.label}, {told}" if told else one.style.label,
                              one.style, row))  # fmt: skip
    return found


def told_of(point: str) -> str:
    """Bias and step as figures write them; any other setting as its point is called."""
    return short(point) or ("" if point == "default" else point)


def draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """A line an operating point: filled for unrelated prompts, hollow for the class word, a stroke
    for the worst prompt."""
    most = 0.0
    for place, line in enumerate(lines):
        for metric, up in ((DRIFT, -0.14), (DRIFT_CLASS, 0.14)):
            value, low, high = (float(line.row[f"{metric}{end}"]) for end in ("", "_lo", "_hi"))
            if np.isfinite([low, high]).all():
                axes.plot([max(low, 0), high], [place + up] * 2, color=line.style.colour,
                          linewidth=0.8, alpha=0.55, solid_capstyle="butt")  # fmt: skip
            axes.plot(
                [value], [place + up], linestyle="none", marker=line.style.marker, markersize=4.2,
                color=line.style.colour, markeredgewidth=0.8, clip_on=False, zorder=4,
                markerfacecolor=line.style.colour if metric == DRIFT else "white",
            )  # fmt: skip
            most = np.nanmax([most, value])
        worst = float(line.row.get(WORST, np.nan))
        axes.plot([worst], [place - 0.14], linestyle="none", marker="|", markersize=6,
                  color=line.style.colour, clip_on=False)  # fmt: skip
        most = np.nanmax([most, worst])
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set(ylim=(len(lines) - 0.4, -0.6), xlim=(0, max(1.12 * most, 1e-3)))
    axes.set_xlabel("Drift: 1 − cosine to the picture without the concept")
    axes.grid(visible=False, axis="y")
    marks: dict[str, Any] = {"marker": "o", "color": INK, "linestyle": "none", "markersize": 4.2}
    handles = [
        Line2D([], [], label="unrelated prompts", **marks),
        Line2D([], [], label="the plain class word", markerfacecolor="white", **marks),
        Line2D([], [], label="the worst prompt", **{**marks, "marker": "|", "markersize": 6}),
    ]
    axes.figure.legend(
        handles=handles, loc="outside upper center", ncols=3, frameon=False, borderpad=0,
        handletextpad=0.2,
    )  # fmt: skip


def worst_pictures(run: Run, most: int = SHOWN) -> list[Moved]:
    """The cell of each method that moved most, then the next ones of other prompts; by how far.
    Only pictures that are here."""
    cells = run.cells
    mine = cells[cells["metric"].isin(DRIFTS)].sort_values(
        ["mean", "method", "point", "concept", "prompt_id"],
        ascending=[False, True, True, True, True],
    )
    first = mine.drop_duplicates("method")
    rest = mine.drop(first.index).drop_duplicates(["method", "prompt_id"])
    found = []
    for _, cell in pd.concat([first, rest]).iterrows():
        if (one := moved(run, cell)) is not None:
            found.append((float(cell["mean"]), one))
        if len(found) == most:
            break
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def moved(run: Run, cell: pd.Series) -> Moved | None:
    """Of a cell the picture of even or of odd index, whichever moved further."""
    index = int(float(cell["odd"]) > float(cell["even"]))
    prompt = str(cell["prompt_id"])
    plain = run.picture(FLOOR, "default", PLAIN, prompt, index)
    place = (str(cell["method"]), str(cell["point"]), str(cell["concept"]))
    drawn = run.picture(*place, prompt, index)
    if plain is None or drawn is None:
        return None
    return Moved(*place, run.drift_text(prompt), plain, drawn)


def head_of(one: Moved) -> picture_grid.Column:
    """What is loaded."""
    style = style_of(one.method, OperatingPoint.parse(one.point).lock, [one.method])
    name = style.label.partition(", ")[0]
    told = told_of(one.point)
    words = f"{name}, {told}" if told else name
    return picture_grid.Column(words, style.text, below=one.concept.replace("_", " "))
