"""What more trials of a search would bring: the expected best score of each method by trials and by
seconds of training.

In: the folder of a `perfbench tune --halving`. Out: a figure of two panels, a line a method.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.disk import ask_for
from benchmarks.figures.looks import Style, strangers_among, style_of
from benchmarks.figures.style import GREY, PAGE, styled, write_figure
from benchmarks.tables.halving import expected_table
from benchmarks.tables.halving_rows import TRAININGS, read_trainings
from perfusion_core.errors import UserError

SCORE = "Expected best harmonic mean\n(image from floor to ceiling)"


def tuning(rows: pd.DataFrame) -> Figure:
    """Of the rows of trainings.csv."""
    expected = expected_table(rows)
    methods = list(dict.fromkeys(expected["method"]))
    strangers = strangers_among(methods)
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    by_trials, by_seconds = figure.subplots(1, 2, sharey=True)
    for name in methods:
        mine, style = expected[expected["method"] == name], style_of(name, None, strangers)
        draw_line(by_trials, mine["trials"], mine["expected"], style)
        draw_line(by_seconds, mine["seconds"], mine["expected"], style)
    by_trials.set(xlabel="Trials", ylabel=SCORE)
    by_trials.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    by_seconds.set(xlabel="Seconds of training", xscale="log")
    mark_common(by_seconds, float(expected.groupby("method")["seconds"].max().min()))
    names, labels = by_trials.get_legend_handles_labels()
    figure.legend(names, labels, loc="outside lower center", ncols=min(len(methods), 6),
                  frameon=False)  # fmt: skip
    return figure


def draw_line(axes: Axes, x: "pd.Series[float]", y: "pd.Series[float]", style: Style) -> None:
    axes.plot(
        x, y, color=style.colour, linestyle=style.dash, marker=style.marker, markersize=3.2,
        markerfacecolor=style.face, markeredgewidth=0.6, label=style.label, zorder=3,
    )  # fmt: skip


def mark_common(axes: Axes, seconds: float) -> None:
    """Where the cheapest method's trials end: up to there all can be compared at equal seconds."""
    axes.axvline(seconds, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        "equal seconds", (seconds, 0.03), (2, 0), fontsize=6, color=GREY,
        xycoords=axes.get_xaxis_transform(), textcoords="offset points",
    )  # fmt: skip


def plot_tuning(given: Sequence[str], out: Path | None) -> list[Path]:
    """`perfbench plot tuning FOLDER`."""
    if len(given) != 1:
        raise UserError(
            "tuning is a figure of one folder that `perfbench tune --halving` wrote; name it: "
            "perfbench plot tuning results/halving-miniature"
        )
    folder = Path(given[0])
    rows = read_trainings(folder / TRAININGS)
    if rows.empty:
        raise UserError(
            f"{folder} has no {TRAININGS}; `perfbench tune --halving --out {folder}` writes it"
        )
    if out:
        ask_for(out)
    with styled():
        return write_figure(tuning(rows), out or folder / "tuning")
