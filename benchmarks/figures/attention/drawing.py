"""What a word attends to, as functions of rows and axes: they draw what they are given and compute
no result.

In: rows in the columns of attention/leakage.csv and of leakage.concepts_of, and axes. Out:
drawn axes.
"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.text import Text

from benchmarks.figures.label_placing import Drawn, Label
from benchmarks.figures.looks import Style, strangers_among, style_of
from benchmarks.figures.plots import trace
from benchmarks.figures.style import GREY, INK
from benchmarks.planning.points import OperatingPoint


def attenders(frame: pd.DataFrame) -> list[tuple[str, Style, pd.DataFrame]]:
    """Name (`method` or `method/point`), look and rows of each series of attention, in the order of
    the rows.
    """
    strangers = strangers_among(frame["method"])
    found = []
    for keys, rows in frame.groupby(
        [key for key in ("method", "point") if key in frame], sort=False
    ):
        method, point = (*map(str, keys), "default")[:2]
        found.append(
            (
                "/".join(map(str, keys)),
                style_of(method, OperatingPoint.parse(point).lock, strangers),
                rows,
            )
        )
    return found


def leakage(axes: Axes, frame: pd.DataFrame) -> Drawn:
    """Share of the concept word's attention outside the object, over the noise level, and what it
    would be if the word attended to everything alike; columns method[, point], t, leakage[,
    leakage_lo, leakage_hi, area]."""
    axes.set_xlabel("Noise level t")
    axes.set_ylabel("Attention outside the object")
    axes.set_xticks(sorted(frame["t"].unique()))
    first, last = float(frame["t"].min()), float(frame["t"].max())
    # names stand at the lines' ends
    axes.set_xlim(first - 0.12 * (last - first), last + 0.72 * (last - first))
    values = frame[[column for column in ("leakage", "area") if column in frame]].to_numpy(float)
    room = max(0.3 * np.ptp(values), 0.05)  # an interval of two concepts would fill the axes
    axes.set_ylim(values.min() - room, values.max() + room)
    drawn = Drawn(axes)
    for _, style, rows in attenders(frame):
        rows = rows.sort_values("t")
        if "leakage_lo" in frame:
            axes.fill_between(
                rows["t"],
                rows["leakage_lo"],
                rows["leakage_hi"],
                color=style.colour,
                alpha=0.12,
                linewidth=0,
            )
        drawn.lines.append(trace(axes, rows["t"], rows["leakage"], style))
        drawn.labels.append(
            Label([tuple(drawn.lines[-1][-1])], style.label.removesuffix(" lock"), style.text)
        )
    if "area" in frame:
        area = float(frame["area"].iloc[0])
        drawn.texts.append(evenly(axes, area, upright=False))
        drawn.lines.append(np.array([(end, area) for end in axes.get_xlim()]))
    return drawn


def evenly(axes: Axes, area: float, upright: bool) -> Text:
    """The leakage of a word that attends to everything alike."""
    text = "attends to all alike"
    line: dict[str, Any] = {
        "color": GREY,
        "linewidth": 0.7,
        "linestyle": (0, (5, 2)),
        "zorder": 1.5,
    }
    style: dict[str, Any] = {"fontsize": 6, "color": GREY}
    if upright:
        axes.axvline(area, **line)
        return axes.text(
            area, 1, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", **style
        )
    axes.axhline(area, **line)
    return axes.text(
        0.01, area, text, transform=axes.get_yaxis_transform(), ha="left", va="bottom", **style
    )


def leakage_by_concept(axes: Axes, concepts: pd.DataFrame) -> None:
    """Methods as rows, a dot for each concept, their mean as an upright line."""
    series = attenders(concepts)
    dots = pd.concat([rows.assign(series=name) for name, _, rows in series])
    palette = {name: style.colour for name, style, _ in series}
    names = [name for name, _, _ in series]
    seaborn.stripplot(
        dots,
        x="leakage",
        y="series",
        order=names,
        hue="series",
        hue_order=names,
        palette=palette,
        legend=False,
        jitter=False,
        size=3.4,
        alpha=0.6,
        linewidth=0,
        ax=axes,
    )
    for row, (_, _, rows) in enumerate(series):
        axes.plot(
            [rows["mean_leakage"].iloc[0]] * 2,
            (row - 0.3, row + 0.3),
            color=INK,
            linewidth=1.4,
            zorder=5,
        )
    axes.set_yticks(range(len(series)), [style.label for _, style, _ in series])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlabel="Attention outside, a dot a concept", ylabel="")
    evenly(axes, float(concepts["mean_area"].iloc[0]), upright=True)
