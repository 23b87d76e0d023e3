"""Figures of tables, as functions of rows and axes: they draw what they are given and compute no
result.

In: rows in the columns of table.csv and metrics.csv (docs/run-folder.md) and axes. Out: drawn axes,
and the `Drawn` that `labels.finish` needs to write labels once the whole figure is laid out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmarks.figures.crowded import draw_hulls, on_front
from benchmarks.figures.label_placing import Drawn, Label
from benchmarks.figures.looks import (
    MANY,
    STYLES,
    Style,
    best_of,
    family_of,
    split_variant,
    strangers_among,
    style_of,
)
from benchmarks.figures.style import GREY
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import OURS

X, Y = "text_sim", "image_sim"
Values = Sequence[float] | pd.Series
T = TypeVar("T")
AXIS = {
    Y: "Image similarity",
    X: "Text similarity (super-category = 1)",
    "harmonic": "Harmonic mean",
}
# what an ablation is compared with in its panel: default first, then its variants
AGAINST = (
    Style("", "#D55E00", "s", (0, (3, 1.2)), ink="#b04e00"),
    Style("", "#009E73", "^", (0, (1, 1.2)), ink="#00795a"),
    Style("", "#a64f80", "D", (0, (5, 1.2, 1, 1.2))),
)

# where the name of floor or ceiling may stand along its line, the first the usual place
ALONG = (0.82, 0.18, 0.7, 0.3, 0.58, 0.42)


@dataclass(frozen=True)
class Series:
    """Rows that one line joins (a front over its biases, a training over its steps), or a single
    row.
    """

    method: str
    lock: str | None
    temperature: float | None
    style: Style
    rows: pd.DataFrame
    along: tuple[str, ...]  # a label for each row, its bias or step; empty for a single row


def series_of(table: pd.DataFrame) -> list[Series]:
    """The method rows of a table as series: same run, method, lock and temperature, ordered by
    bias; where training steps were kept, of the same bias too, ordered by step."""
    rows = table[table["kind"] == "method"].reset_index(drop=True)
    points = [OperatingPoint.parse(name) for name in rows["point"]]
    strangers = strangers_among(rows["method"])
    runs = list(dict.fromkeys(rows["run"])) if "run" in rows else [""]
    of_run = rows["run"] if "run" in rows else [""] * len(rows)
    families = [
        (run, method, one.family) for run, method, one in zip(of_run, rows["method"], points)
    ]
    trained = {family for family, one in zip(families, points) if one.step is not None}
    groups: dict[tuple, list[int]] = {}
    for index, family in enumerate(families):
        groups.setdefault((family, points[index].bias if family in trained else None), []).append(
            index
        )
    lines = Counter(family for family, _ in groups)
    found, seen = [], set()
    for (family, bias), members in groups.items():
        (run, method, _), stepped, first = family, family in trained, points[members[0]]
        value = {index: points[index].step if stepped else points[index].bias for index in members}
        members = sorted(members, key=lambda index: (value[index] is not None, value[index] or 0.0))
        along = tuple(
            "" if value[index] is None else f"{value[index]:.{0 if stepped else 2}f}"
            for index in members
        )
        mine = style_of(method, first.lock, strangers)
        if len(runs) > 1:
            mine = replace(mine, label=f"{mine.label} ({run})", fill=mine.fill and run == runs[0])
        if lines[family] > 1:
            mine = replace(
                mine, label=f"{mine.label}, β = {bias:.2f}", fill=mine.fill and family not in seen
            )
        seen.add(family)
        along = along if len(members) > 1 else ()
        found.append(Series(method, first.lock, first.temperature, mine, rows.loc[members], along))
    return found


def plane(axes: Axes, rows: pd.DataFrame, pad: float = 0.07) -> None:
    """The plane of the paper, text similarity to the right and image similarity upwards, around
    rows and intervals.

    Intervals of two or three concepts can be so wide that nothing else could be seen: these run out
    of the picture.
    """
    axes.set_xlabel(AXIS[X])
    axes.set_ylabel(AXIS[Y])
    axes.locator_params(nbins=6)
    for name, limit in ((X, axes.set_xlim), (Y, axes.set_ylim)):
        values = rows[
            [column for column in (name, f"{name}_lo", f"{name}_hi") if column in rows]
        ].to_numpy(float)
        least, most = np.nanmin(values[:, 0]), np.nanmax(values[:, 0])
        reach = 2 * max(most - least, 0.1)
        low, high = max(np.nanmin(values), least - reach), min(np.nanmax(values), most + reach)
        # two points that agree to 0.001 must not look far apart
        room = max(pad * (high - low), (0.1 - (high - low)) / 2)
        limit(low - room, high + room)


def bars(axes: Axes, rows: pd.DataFrame, colour: str, alpha: float = 0.5) -> list[np.ndarray]:
    """95 % intervals both ways, thin; -> the lines, for labels to keep clear of."""
    drawn = []
    for row in rows.to_dict("records"):
        across = np.array([(row[f"{X}_lo"], row[Y]), (row[f"{X}_hi"], row[Y])], float)
        upright = np.array([(row[X], row[f"{Y}_lo"]), (row[X], row[f"{Y}_hi"])], float)
        for line in (across, upright):
            if np.isfinite(line).all():  # a single concept has no interval
                axes.plot(
                    *line.T,
                    color=colour,
                    linewidth=0.6,
                    alpha=alpha,
                    solid_capstyle="butt",
                    zorder=2,
                )
                drawn.append(line)
    return drawn


def trace(axes: Axes, x: Values, y: Values, style: Style, size: float = 4.2) -> np.ndarray:
    """Markers, joined by a line where there are several; -> the line."""
    axes.plot(
        x,
        y,
        color=style.colour,
        marker=style.marker,
        linestyle=style.dash if len(x) > 1 else "none",
        markersize=size * (1.9 if style.marker == "*" else 1.0),
        markerfacecolor=style.face,
        markeredgecolor="white" if style.fill else style.colour,
        markeredgewidth=0.5 if style.fill else 0.9,
        zorder=4,
    )
    return np.column_stack([x, y]).astype(float)


def at(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Where rows lie in the plane."""
    return list(zip(rows[X].astype(float), rows[Y].astype(float)))


def floor_and_ceiling(axes: Axes, table: pd.DataFrame) -> Drawn:
    """Both as lines where they are near the data, as an arrow at the edge where they are far from
    it.
    """
    low, high = axes.get_ylim()
    reach, drawn, near = 0.4 * (high - low), Drawn(axes), []
    for kind, name in (("ceiling", "ceiling: real images"), ("floor", "floor: super-category")):
        for value in table.loc[table["kind"] == kind, Y].dropna()[:1]:
            up = value > (low + high) / 2
            if low - reach <= value <= high + reach:
                dash = (0, (1, 1.5)) if kind == "ceiling" else (0, (5, 2))
                axes.axhline(value, color=GREY, linewidth=0.7, linestyle=dash, zorder=1.5)
                left, right = axes.get_xlim()
                drawn.lines.append(np.array([(left, value), (right, value)]))
                along = [(left + part * (right - left), value) for part in ALONG]
                drawn.labels.append(Label(along, name, GREY, size=6))
                near.append(value)
            else:
                y, side = (0.985, "top") if up else (0.02, "bottom")
                words = f"{'↑' if up else '↓'} {name}, {value:.2f}"
                text = axes.text(
                    0.99,
                    y,
                    words,
                    transform=axes.transAxes,
                    ha="right",
                    va=side,
                    fontsize=6,
                    color=GREY,
                )
                drawn.texts.append(text)
    if near:
        room = 0.06 * (high - low)
        axes.set_ylim(
            min(low, *(v - 0.3 * room for v in near)), max(high, *(v + room for v in near))
        )
    return drawn


def pareto(axes: Axes, table: pd.DataFrame) -> Drawn:
    """Fig. 6: every method with its 95 % bars, Perfusion's fronts as lines over the bias, Best H,
    floor and ceiling.
    """
    shown = table[table["kind"].isin(["method", "best-h"]) & table[X].notna() & table[Y].notna()]
    plane(axes, shown)
    drawn = floor_and_ceiling(axes, table)
    levels, drawn.labels = drawn.labels, []
    fronts: list[Label] = []
    biases: list[Label] = []
    hollow: list[tuple[float, float]] = []
    every = series_of(shown)
    crowd = crowd_of(every)
    if crowd:
        draw_hulls(axes, families_of(crowd))
    best = front_of(every)
    for series in every:
        style, rows = series.style, series.rows
        drawn.faint += bars(axes, rows, style.colour, alpha=0.3 if series.along or crowd else 0.55)
        drawn.lines.append(trace(axes, rows[X], rows[Y], style))
        if (whole := as_trained(series, every)) is not None:
            drawn.lines.append(np.array(at(whole.rows) + at(rows), float))
            axes.plot(
                *drawn.lines[-1].T,
                color=style.colour,
                linewidth=0.8,
                linestyle=(0, (1, 1)),
                zorder=3,
            )
            hollow += at(rows)
            continue
        if crowd and not series.along and series.method not in best:
            continue  # the legend has its name
        names = fronts if series.along else drawn.labels
        names.append(
            Label(at(rows), style.label, style.text, weight="bold" if series.along else "normal")
        )
        for index, (spot, bias) in enumerate(zip(at(rows), series.along)):
            biases.append(
                Label(
                    [spot], f"β = {bias}" if index == 0 else bias.lstrip("0"), style.text, size=5.5
                )
            )
    for (method, point), rows in shown[shown["kind"] == "best-h"].groupby(
        ["method", "point"], sort=False
    ):
        honest = point == "honest"
        style = best_look(str(method), honest)
        drawn.faint += bars(axes, rows, style.colour, alpha=0.35)
        drawn.lines.append(trace(axes, rows[X], rows[Y], style))
        drawn.labels.append(
            Label(
                at(rows),
                style.label,
                style.text,
                size=5.8 if honest else 6.5,
                weight="normal" if honest else "bold",
            )
        )
    drawn.labels += biases + fronts  # a front's name has several places to go
    if hollow:
        drawn.labels.append(Label(hollow, "hollow: step selected", GREY, size=5.5))
    drawn.labels += levels  # their lines are long: they go where no interval is
    return drawn


def crowd_of(every: Sequence[Series]) -> list[Series]:
    """The single points where they are too many to be named one by one (style.py has them in the
    colours of their families); else none."""
    named = [one for one in every if not one.along and as_trained(one, every) is None]
    return named if len(named) > MANY else []


def families_of(crowd: Sequence[Series]) -> dict[str, np.ndarray]:
    """The points [n, 2] of each family."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in crowd:
        if family := family_of(one.method):
            found.setdefault(family, []).extend(at(one.rows))
    return {name: np.array(points) for name, points in found.items()}


def front_of(every: Sequence[Series]) -> set[str]:
    """The methods of which a point lies on the front of all, with the step selected or not."""
    spots = [(one.method, spot) for one in every for spot in at(one.rows)]
    front = on_front(np.array([spot for _, spot in spots]).reshape(-1, 2))
    return {method.removesuffix("-selected") for (method, _), best in zip(spots, front) if best}


def as_trained(series: Series, every: Sequence[Series]) -> Series | None:
    """Of a method with its step selected: the same method as published, which it is joined to and
    needs no name beside; None where that is not shown, is a front, or where several runs are."""
    base, variant = split_variant(series.method)
    same = [one for one in every if one.method == base and len(one.rows) == 1]
    return same[0] if variant == "selected" and len(same) == 1 and len(series.rows) == 1 else None


def best_look(method: str, honest: bool) -> Style:
    """A star: dark blue for Perfusion, its own colour for another method; hollow where chosen on
    other images.
    """
    style = best_of(style_of(method))
    if honest:
        name = "Best H" if method == OURS else style.label
        return replace(style, label=f"{name} (split halves)", fill=False)
    return style


def along_bias(axes: Axes, table: pd.DataFrame, metric: str) -> Drawn:
    """One metric over the bias, a line for each lock, with its 95 % band."""
    axes.set_xlabel("Bias β")
    axes.set_ylabel(short_axis(metric))
    axes.locator_params(nbins=5)
    drawn = Drawn(axes)
    for series in series_of(table):
        if not series.along or OperatingPoint.parse(series.rows["point"].iloc[0]).bias is None:
            continue
        bias = np.array([OperatingPoint.parse(name).bias for name in series.rows["point"]], float)
        low, high = (series.rows[f"{metric}_{end}"].to_numpy(float) for end in ("lo", "hi"))
        axes.fill_between(
            bias, low, high, color=series.style.colour, alpha=0.13, linewidth=0, zorder=1
        )
        drawn.lines.append(trace(axes, bias.tolist(), series.rows[metric], series.style))
        drawn.labels.append(
            Label(
                list(map(tuple, drawn.lines[-1])),
                series.style.label.split(", ")[-1],
                series.style.text,
            )
        )
    return drawn


def short_axis(metric: str) -> str:
    return AXIS[metric].split(" (")[0]


def paths(axes: Axes, table: pd.DataFrame) -> Drawn:
    """Fig. 11: where training takes a method on the plane, step by step; 's' is the training step.
    Of many steps a few are named, and the intervals are those of the first and the last."""
    shown = table[table[X].notna() & table[Y].notna()]
    ends = [one.rows.iloc[[0, -1]] for one in series_of(shown)]
    plane(axes, pd.concat([*ends, shown[[X, Y]]]), pad=0.1)
    drawn, names = Drawn(axes), []
    for turn, series in enumerate(
        sorted(series_of(shown), key=lambda one: split_variant(one.method)[1])
    ):
        variant = split_variant(series.method)[1]
        style = (
            replace(AGAINST[(turn - 1) % len(AGAINST)], label=series.style.label)
            if variant
            else series.style
        )
        drawn.faint += bars(axes, series.rows.iloc[[0, -1]], style.colour, alpha=0.35)
        spots = at(series.rows)
        drawn.lines.append(trace(axes, series.rows[X], series.rows[Y], style, size=3.6))
        for (x0, y0), (x1, y1) in pairwise(spots):
            head = {"arrowstyle": "-|>", "color": style.colour, "linewidth": 0, "mutation_scale": 7}
            axes.annotate("", ((x0 + x1) / 2, (y0 + y1) / 2), (x0, y0), arrowprops=head)
        names.append(Label(spots, style.label, style.text, weight="bold"))
        for index, (spot, step) in few(list(enumerate(zip(spots, series.along)))):
            drawn.labels.append(
                Label([spot], f"s = {step}" if turn == index == 0 else step, style.text, size=5.5)
            )
    drawn.labels += names
    return drawn


def few(items: Sequence[T], limit: int = 5) -> list[T]:
    """At most so many of them, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, limit)]


def ablation(
    axes: Axes, default: Series, variants: Sequence[tuple[str, Series]], name: str = "default"
) -> Drawn:
    """A panel of Fig. 9: the default front against its variants'."""
    looks = [default.style, *(AGAINST[turn % len(AGAINST)] for turn in range(len(variants)))]
    drawn = Drawn(axes)
    for style, (label, series) in zip(looks, [(name, default), *variants]):
        drawn.faint += bars(axes, series.rows, style.colour, alpha=0.2)
        drawn.lines.append(trace(axes, series.rows[X], series.rows[Y], style, size=3.4))
        drawn.labels.append(Label(at(series.rows), label, style.text, size=6.2))
    return drawn


def locks(axes: Axes, local: pd.DataFrame, everywhere: pd.DataFrame) -> Drawn:
    """Fig. A.4: each concept with local locking (circle) and with global locking (square),
    joined.
    """
    pairs = local.merge(everywhere, on=["concept", "group"], suffixes=("", "_global"))
    plane(axes, pd.concat([local, everywhere]))
    drawn = Drawn(axes)
    one, other = STYLES[f"{OURS}/local"], STYLES[f"{OURS}/global"]
    for row in pairs.to_dict("records"):
        ends = [(row[X], row[Y]), (row[f"{X}_global"], row[f"{Y}_global"])]
        axes.plot(*zip(*ends), color="#9aa0a6", linewidth=0.7, zorder=2)
        for spot, style in zip(ends, (one, other)):
            trace(axes, [spot[0]], [spot[1]], style)
        drawn.lines.append(np.array(ends))
        drawn.labels.append(Label(ends, row["concept"].replace("_", " "), "#3c4043", size=6))
    return drawn


def concept_dots(
    axes: Axes, metrics: pd.DataFrame, metric: str, concepts: Sequence[str], looks: Sequence[Style]
) -> None:
    """Concepts as rows, one metric to the right, a marker for each look; the column `series` says
    whose a row is.
    """
    axes.set_yticks(range(len(concepts)), [name.replace("_", " ") for name in concepts])
    axes.set_ylim(len(concepts) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(short_axis(metric))
    axes.locator_params(axis="x", nbins=4)
    for row in range(0, len(concepts), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f6f7f8", linewidth=0, zorder=0)
    order = {name: index for index, name in enumerate(concepts)}
    for number, style in enumerate(looks):
        mine = metrics[metrics["series"] == number]
        # each a little lower than the last: none hides another
        aside = 0.7 * ((number + 0.5) / len(looks) - 0.5)
        axes.plot(
            mine[metric],
            [order[name] + aside for name in mine["concept"]],
            linestyle="none",
            marker=style.marker,
            color=style.colour,
            markersize=3.8,
            markerfacecolor=style.face,
            markeredgecolor="white" if style.fill else style.colour,
            markeredgewidth=0.4,
            zorder=4,
        )
    low, high = axes.get_xlim()
    room = max((0.1 - (high - low)) / 2, 0)  # small differences must look small
    axes.set_xlim(low - room, high + room)
