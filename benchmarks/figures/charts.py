"""Figures drawn from tables alone: the plane, the ablations, the concepts.

In: runs. Out: figures, laid out for a column or a page.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from benchmarks.figures import plots
from benchmarks.figures.crowded import family_place, hull_keys
from benchmarks.figures.label_placing import finish_layout
from benchmarks.figures.looks import Style, family_of, split_variant
from benchmarks.figures.selection import (
    Wish,
    best_point,
    in_order,
    joined_tables,
    needs,
    of_main,
    perfusion_fronts,
    short,
    step_of,
)
from benchmarks.figures.style import COLUMN, PAGE
from benchmarks.planning.ablations import ABLATIONS, BASE
from benchmarks.planning.methods import VARIANTS
from benchmarks.scoring.reserved import OURS
from benchmarks.tables.run_view import Run


def pareto(runs: Sequence[Run], wish: Wish) -> Figure:
    table = joined_tables(runs)
    shown = of_main(table)
    points = shown[(shown["kind"] == "method") & shown[plots.X].notna() & shown[plots.Y].notna()]
    needs(
        runs,
        len(points) > 0,
        "no method has both similarities; `perfbench run --methods perfusion,cd` with shape "
        "prompts gives them",
    )
    crowd = plots.crowd_of(plots.series_of(points))
    if crowd:
        return of_many(shown, crowd)
    figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    finish_layout(plots.pareto(figure.subplots(), shown))
    incomplete(figure, shown)
    return figure


def of_many(shown: pd.DataFrame, crowd: Sequence[plots.Series]) -> Figure:
    """The plane over the page's width: names on the front, the others in a legend by families."""
    ordered = sorted(in_order(crowd), key=lambda one: family_place(one.method))
    handles = [
        *hull_keys([family_of(one.method) for one in crowd]),
        *(key(one.style, "") for one in ordered),
    ]
    columns = 4
    height = 3.6 + 0.14 * -(-len(handles) // columns)
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    axes = figure.subplots()
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, borderpad=0,
        handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip
    finish_layout(plots.pareto(axes, shown))
    incomplete(figure, shown)
    return figure


def incomplete(figure: Figure, table: pd.DataFrame) -> None:
    """Say so on the figure where it stands on fewer images than were planned."""
    rows = table[table["kind"] == "method"]
    there, planned = int(rows["n_images"].sum()), int(rows["n_planned"].sum())
    if there < planned:
        figure.text(
            0.995,
            0.005,
            f"{there} of {planned} images",
            ha="right",
            va="bottom",
            fontsize=5.5,
            color="#b3261e",
        )


def ablation(runs: Sequence[Run], wish: Wish) -> Figure:
    table = (
        joined_tables(runs)
        .drop(columns="run", errors="ignore")
        .drop_duplicates(["kind", "method", "point"])
    )
    table = table[
        (table["kind"] == "method")
        & step_of(table).isna()
        & table[plots.X].notna()
        & table[plots.Y].notna()
    ]
    every = [one for one in plots.series_of(table) if one.method.startswith(OURS)]
    series = [one for one in every if one.lock in ("local", None)]
    base = [one for one in series if one.method == OURS]
    default = next((one for one in base if one.temperature in (0.15, None)), None)
    panels = []
    for change in ABLATIONS:
        found = [one for one in series if one.method.startswith(f"{BASE}-{change.name}")]
        if change.name == "infer-temperature":
            found += [one for one in base if one is not default]
        if change.name == "lock" and default:
            found = [one for one in every if (one.method, one.lock) == (BASE, "global")]
            found = [one for one in found if one.temperature == default.temperature]
        labels = [change.changed.format(value_of(one, change.name)) for one in found]
        if found:
            panels.append((change.title, change.usual, list(zip(labels, found))))
    needs(
        runs,
        bool(default and any(title != "Key lock" for title, _, _ in panels)),
        "no ablation in it; `perfbench run --ablation "
        "one-shot,trained-k,no-mask,train-bias,infer-temperature` "
        "adds them",
    )
    assert default is not None
    across = len(panels) if len(panels) <= 5 else (len(panels) + 1) // 2
    down = -(-len(panels) // across)
    figure = Figure(figsize=(PAGE if across > 2 else COLUMN, 1.72 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    shown = pd.concat([default.rows, *(one.rows for _, _, found in panels for _, one in found)])
    for number, (axes, (title, _, _)) in enumerate(zip(grid.flat, panels)):
        plots.plane(axes, shown)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(f"({chr(97 + number)}) {title}", loc="left")
        axes.set_xlabel("")
        axes.set_ylabel(plots.AXIS[plots.Y] if number % across == 0 else "")
    for number in range(len(panels), grid.size):
        grid.flat[number].axis("off")
        grid.flat[number - across].tick_params(labelbottom=True)  # nothing stands below it
    figure.supxlabel(plots.AXIS[plots.X], fontsize=7)
    finish_layout(
        *(
            plots.ablation(axes, default, variants, name)
            for axes, (_, name, variants) in zip(grid.flat, panels)
        )
    )
    return figure


def value_of(series: plots.Series, variant: str) -> str:
    """What a variant's label says beyond its name: its temperature, its bias, or what follows in
    the method's name.
    """
    if variant == "infer-temperature" and series.temperature is not None:
        return f"{series.temperature:g}"
    if series.method in VARIANTS and variant == "train-bias":
        return f"{VARIANTS[series.method].config['train_bias']:g}"
    return split_variant(series.method)[1][len(variant) :].strip("-")


def per_concept(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    metrics = run.metrics[run.metrics[plots.X].notna()]
    table = of_main(run.table)
    fronts = {one.lock: best_point(one.rows) for one in perfusion_fronts(run)}
    series = [
        (one.method, best_point(one.rows), one.style) for one in in_order(plots.series_of(table))
    ]
    parts = []
    for number, (method, point, _) in enumerate(series):
        mine = metrics[(metrics["method"] == method) & (metrics["point"] == point)]
        parts.append(mine.assign(series=number))
    needs(runs, bool(parts), "no method in its table; `perfbench run` makes one")
    dots = pd.concat(parts)
    concepts = sorted(set(dots["concept"]), key=lambda name: (group_of(run, name), name))
    needs(runs, len(concepts) > 1, "only one concept; `perfbench plot pareto` shows its scores")
    two = {"local", "global"} <= set(fronts)
    ncols = min(4, len(series))
    tall = max(0.19, 0.025 * len(series))  # inches of a concept's row: a marker is 0.05 high
    height = max(tall * len(concepts) + 0.65, 1.9 if two else 1.1) + 0.15 * -(-len(series) // ncols)
    figure = Figure(figsize=(PAGE, height), layout=ConstrainedLayoutEngine(wspace=0.04))
    if two:
        plane, *strips = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        strips[1].sharey(strips[0])
    else:
        strips = list(figure.subplots(1, 2, sharey=True))
    for axes, metric in zip(strips, (plots.Y, plots.X)):
        plots.concept_dots(
            axes, dots[dots[metric].notna()], metric, concepts, [style for _, _, style in series]
        )
    strips[1].tick_params(labelleft=False)
    handles = [key(style, short(point)) for _, point, style in series]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=ncols,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1,
        borderpad=0,
    )
    if two:
        at = {
            lock: metrics[(metrics["method"] == OURS) & (metrics["point"] == fronts[lock])]
            for lock in ("local", "global")
        }
        finish_layout(plots.locks(plane, at["local"], at["global"]))
    return figure


def key(style: Style, point: str) -> Line2D:
    """A series in a legend."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=style.marker,
        color=style.colour,
        markerfacecolor=style.face,
        markersize=4.4,
        markeredgecolor="white" if style.fill else style.colour,
        markeredgewidth=0.5,
        label=f"{style.label} ({point})" if point else style.label,
    )


def group_of(run: Run, concept: str) -> str:
    return str(run.metrics.loc[run.metrics["concept"] == concept, "group"].iloc[0])
