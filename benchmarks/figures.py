"""The verb `plot`: which rows and pictures of a run go into which figure, and how the figure is laid out.

In: run folders (store.py reads them). Out: PDF, SVG and PNG in `figures/`, or the file asked for.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from benchmarks import pictures, plots
from benchmarks.labels import finish
from benchmarks.looks import COLUMN, GREY, LOOKS, PAGE, Look, look, read_point, split_variant, styled, write
from benchmarks.runs import Run, open_run, same_protocol
from perfusion_core.errors import UserError, unknown

PANELS = (
    ("one-shot", "Training images", "all", "one"),
    ("trained-k", "Key locking", "locked K", "trained K"),
    ("no-mask", "Mask in training", "mask", "no mask"),
    ("train-bias", "Bias in training", "0.75", "{}"),
    ("infer-temperature", "Temperature", "τ = 0.15", "τ = {}"),
    ("vanilla-rome", "Edit", "gated", "vanilla ROME"),
)
ROWS = 5  # of pictures, where none were asked for


@dataclass(frozen=True)
class Wish:
    """What a figure with pictures should show; empty: chosen from what the run has."""

    concepts: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()  # a method, or method/point
    images: int = 1  # of each cell


def plot(name: str, runs: Sequence[Run], wish: Wish, out: Path | None = None) -> list[Path]:
    """Draw one figure and write it; -> the files."""
    same_protocol(runs)
    with styled():
        figure = FIGURES[name](runs, wish)
        return write(figure, out or runs[0].folder / "figures" / name)


def plot_verb(name: str, given: Sequence[str], out: str | None, wish: Wish) -> list[Path]:
    """`perfbench plot NAME [RUN ...]`."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    runs = [open_run(one) for one in given] or [open_run(None)]
    return plot(name, runs, wish, Path(out) if out else None)


def together(runs: Sequence[Run]) -> pd.DataFrame:
    """The tables of all runs; the column `run` is there where there are several."""
    if len(runs) == 1:
        return runs[0].table
    tables = [run.table.assign(run=run.name) for run in runs]
    return pd.concat([tables[0], *(table[table["kind"] == "method"] for table in tables[1:])], ignore_index=True)


def is_main(method: str) -> bool:
    """A method as published, or with its step selected; not an ablation."""
    return split_variant(method)[1] in ("", "selected")


def step_of(table: pd.DataFrame) -> pd.Series:
    """The kept training step of each row; NaN for the fit as it ended."""
    return table["point"].str.extract(r"(?:^|-)s(\d+)$", expand=False).astype(float)


def incomplete(figure: Figure, table: pd.DataFrame) -> None:
    """Say so on the figure where it stands on fewer images than were planned."""
    rows = table[table["kind"] == "method"]
    there, planned = int(rows["n_images"].sum()), int(rows["n_planned"].sum())
    if there < planned:
        figure.text(
            0.995, 0.005, f"{there} of {planned} images", ha="right", va="bottom", fontsize=5.5, color="#b3261e"
        )


def needs(runs: Sequence[Run], what: bool, sentence: str) -> None:
    """One sentence, and the command, where a run lacks what a figure shows."""
    if not what:
        raise UserError(f"{', '.join(run.name for run in runs)}: {sentence}")


def pareto(runs: Sequence[Run], wish: Wish) -> Figure:
    table = together(runs)
    shown = table[step_of(table).isna() & table["method"].map(is_main)]
    points = shown[(shown["kind"] == "method") & shown[plots.X].notna() & shown[plots.Y].notna()]
    needs(
        runs,
        len(points) > 0,
        "no method has both similarities; `perfbench run --methods perfusion,cd` with shape prompts gives them",
    )
    figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    finish(plots.pareto(figure.subplots(), shown))
    incomplete(figure, shown)
    return figure


def bias(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    fronts = perfusion_fronts(run)
    needs(runs, bool(fronts), "only one bias; `perfbench run --methods perfusion --preset paper` has nine")
    front = fronts[0]
    points = list(front.rows["point"])
    chosen = run.choose_cells([("perfusion", point) for point in points], wish.concepts, wish.prompts, limit=3)
    wide = 2.15  # of the curves, where there are pictures beside them
    rows = [
        pictures.Row(
            run.concept_images(concept), concept, quoted(run, prompt, concept),
            [run.picture("perfusion", point, concept, prompt, 0) for point in points],
        )
        for concept, prompt in chosen
    ]  # fmt: skip
    columns = [pictures.Column(f"β = {read_point(point).bias:.2f}", front.look.text) for point in points]
    table = pd.concat([front.rows for front in fronts])
    if not chosen:
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        finish(
            *(plots.along_bias(axes, table, metric) for axes, metric in zip(figure.subplots(1, 2), (plots.Y, plots.X)))
        )
        return figure
    left, across = wide + 0.1, min(PAGE - wide - 0.1, 0.95 * (len(columns) + 1))
    height = max(pictures.grid_height(across, rows, columns) + 0.16, 2.3)
    layout = ConstrainedLayoutEngine(rect=(0, 0, wide / (left + across), 1))
    figure = Figure(figsize=(left + across, height), layout=layout)
    above, below = figure.subplots(2, 1, sharex=True)
    drawn = [plots.along_bias(above, table, plots.Y), plots.along_bias(below, table, plots.X)]
    above.set_xlabel("")
    finish(*drawn)
    canvas = pictures.canvas(figure, left, 0.0, across, height)
    pictures.grid(canvas, rows, columns)
    start = pictures.tile_size(across, columns, True) + pictures.WIDE_GAP
    for x, text, side, colour in (
        (start, "← concept", "left", GREY),
        ((start + across) / 2, front.look.label, "center", front.look.text),
        (across, "prompt →", "right", GREY),
    ):
        canvas.text(x, height - 0.04, text, fontsize=6.2, color=colour, ha=side, va="baseline")
    return figure


def perfusion_fronts(run: Run) -> list[plots.Series]:
    """Perfusion's fronts over the bias, local lock first."""
    table = run.table
    rows = table[(table["method"] == "perfusion") & (table["kind"] == "method") & step_of(table).isna()]
    fronts = [one for one in plots.series_of(rows) if one.along and all(one.along)]
    return sorted(fronts, key=lambda one: (one.lock != "local", one.temperature or 0))


def dynamics(runs: Sequence[Run], wish: Wish) -> Figure:
    table = together(runs)
    rows = table[(table["kind"] == "method") & step_of(table).notna() & table["method"].str.startswith("perfusion")]
    needs(
        runs, len(rows) > 1,
        "no training steps were kept; `perfbench run --methods perfusion --ablation trained-k --set keep=50,100` "
        "with points such as local-b0.60-t0.15-s100 keeps them",
    )  # fmt: skip
    series = sorted(plots.series_of(rows), key=lambda one: one.method != "perfusion")
    run = runs[0]
    cells = [(one.method, point) for one in series for point in one.rows["point"]]
    chosen = run.choose_cells(cells, wish.concepts, wish.prompts, limit=1)
    if not chosen:
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        finish(plots.paths(figure.subplots(), rows))
        return figure
    concept, prompt = chosen[0]
    lines = []
    columns = max((list(one.rows["point"]) for one in series), key=len)
    columns = columns if len(columns) <= 5 else [columns[round(i)] for i in np.linspace(0, len(columns) - 1, 5)]
    heads = [pictures.Column(f"s = {read_point(point).step}") for point in columns]
    for one in series:
        images = [run.picture(one.method, point, concept, prompt, 0) for point in columns]
        lines.append(pictures.Row([], "", one.look.label, images))
    width = PAGE - COLUMN - 0.15
    tall = pictures.grid_height(width, lines, heads, concept=False) + 0.16
    height = max(tall, 2.5)
    figure = Figure(figsize=(PAGE, height), layout=ConstrainedLayoutEngine(rect=(0, 0, COLUMN / PAGE, 1)))
    finish(plots.paths(figure.subplots(), rows))
    top = (height - tall) / 2
    pictures.grid(pictures.canvas(figure, COLUMN + 0.15, top + 0.16, width, tall - 0.16), lines, heads, concept=False)
    figure.text(
        (COLUMN + 0.15 + width / 2) / PAGE, 1 - (top + 0.1) / height, quoted(run, prompt, concept), fontsize=6.5,
        fontstyle="italic", ha="center", va="baseline",
    )  # fmt: skip
    return figure


def quoted(run: Run, prompt: str, concept: str) -> str:
    return f"“{run.text(prompt, concept)}”"


def ablation(runs: Sequence[Run], wish: Wish) -> Figure:
    table = together(runs).drop(columns="run", errors="ignore").drop_duplicates(["kind", "method", "point"])
    table = table[(table["kind"] == "method") & step_of(table).isna() & table[plots.X].notna() & table[plots.Y].notna()]
    series = [
        one for one in plots.series_of(table) if one.lock in ("local", None) and one.method.startswith("perfusion")
    ]
    base = [one for one in series if one.method == "perfusion"]
    default = next((one for one in base if one.temperature in (0.15, None)), None)
    panels = []
    for variant, title, name, other in PANELS:
        found = [one for one in series if one.method.startswith(f"perfusion-{variant}")]
        if variant == "infer-temperature":
            found += [one for one in base if one is not default]
        labels = [other.format(value_of(one, variant)) for one in found]
        if found:
            panels.append((title, name, list(zip(labels, found))))
    needs(
        runs, bool(default and panels),
        "no ablation in it; `perfbench run --ablation one-shot,trained-k,no-mask,train-bias,infer-temperature` "
        "adds them",
    )  # fmt: skip
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
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    figure.supxlabel(plots.AXIS[plots.X], fontsize=7)
    finish(*(plots.ablation(axes, default, variants, name) for axes, (_, name, variants) in zip(grid.flat, panels)))
    return figure


def value_of(series: plots.Series, variant: str) -> str:
    """What a variant's label says beyond its name: its temperature, or what follows in the method's name."""
    if variant == "infer-temperature" and series.temperature is not None:
        return f"{series.temperature:g}"
    return split_variant(series.method)[1][len(variant) :].strip("-") or variant.replace("-", " ")


def per_concept(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    metrics = run.metrics[run.metrics[plots.X].notna()]
    table = run.table[step_of(run.table).isna() & run.table["method"].map(is_main)]
    fronts = {one.lock: best_point(one.rows) for one in perfusion_fronts(run)}
    order = {name: number for number, name in enumerate(LOOKS)}
    ordered = sorted(plots.series_of(table), key=lambda one: (order.get(one.method, len(order)), one.lock != "local"))
    series = [(one.method, best_point(one.rows), one.look) for one in ordered]
    parts = []
    for number, (method, point, _) in enumerate(series):
        mine = metrics[(metrics["method"] == method) & (metrics["point"] == point)]
        parts.append(mine.assign(series=number))
    needs(runs, bool(parts), "no method in its table; `perfbench run` makes one")
    dots = pd.concat(parts)
    concepts = sorted(set(dots["concept"]), key=lambda name: (group_of(run, name), name))
    two = {"local", "global"} <= set(fronts)
    height = max(0.19 * len(concepts) + 0.95, 2.2 if two else 1.4)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.3 / height), wspace=0.04)
    figure = Figure(figsize=(PAGE, height), layout=layout)
    if two:
        plane, *strips = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        strips[1].sharey(strips[0])
    else:
        strips = list(figure.subplots(1, 2, sharey=True))
    for axes, metric in zip(strips, (plots.Y, plots.X)):
        plots.concept_dots(axes, dots[dots[metric].notna()], metric, concepts, [style for _, _, style in series])
    strips[1].tick_params(labelleft=False)
    handles = [key(style, short(point)) for _, point, style in series]
    ncols = min(4, len(handles))
    figure.legend(handles=handles, loc="upper center", ncols=ncols, frameon=False, handletextpad=0.2, columnspacing=1.2)
    if two:
        at = {
            lock: metrics[(metrics["method"] == "perfusion") & (metrics["point"] == fronts[lock])]
            for lock in ("local", "global")
        }
        finish(plots.locks(plane, at["local"], at["global"]))
    return figure


def key(style: Look, point: str) -> Line2D:
    """A series in a legend."""
    return Line2D(
        [], [], linestyle="none", marker=style.marker, color=style.colour, markerfacecolor=style.face, markersize=4.4,
        markeredgecolor="white" if style.fill else style.colour, markeredgewidth=0.5,
        label=f"{style.label} ({point})" if point else style.label,
    )  # fmt: skip


def short(point: str) -> str:
    """`β = 0.60` of a point's name; nothing for `default`."""
    value = read_point(point).bias
    return "" if value is None else f"β = {value:.2f}"


def best_point(rows: pd.DataFrame) -> str:
    """Of some rows of the table, the point with the highest harmonic mean."""
    harmonic = rows["harmonic"].fillna(-np.inf).to_numpy(float)
    return str(rows["point"].iloc[int(np.argmax(harmonic))])


def group_of(run: Run, concept: str) -> str:
    return str(run.metrics.loc[run.metrics["concept"] == concept, "group"].iloc[0])


def gallery(runs: Sequence[Run], wish: Wish) -> Figure:
    columns = [(run, *column) for run in runs for column in gallery_columns(run, wish.methods)]
    first = runs[0]
    chosen = first.choose_cells(
        [(m, p) for run, m, p in columns if run is first], wish.concepts, wish.prompts, limit=ROWS
    )
    needs(
        runs, bool(chosen), "no images of what was asked for; they were dropped, or `perfbench run` has not made them"
    )
    rows, before, turn = [], "", 0
    for concept, prompt in chosen:
        turn = turn + 1 if concept == before else 0
        shown = first.concept_images(concept, limit=100)[
            4 * turn : 4 * turn + 4
        ]  # the next ones beside the next prompt
        images = [run.picture(m, p, concept, prompt, index) for run, m, p in columns for index in range(wish.images)]
        rows.append(pictures.Row(shown, concept if concept != before else "", quoted(first, prompt, concept), images))
        before = concept
    heads = []
    for run, method, point in columns:
        style = look(method, read_point(point).lock, [method])
        name, _, lock = style.label.partition(", ")
        below = ", ".join(part for part in (lock.replace(" lock", ""), short(point)) if part)
        lines = [f"{run.name}:"] if len(runs) > 1 else []
        lines += [name] if below or wish.images > 1 else textwrap.wrap(name, 12)[:2]
        heads.append(pictures.Column("\n".join(lines), style.text, wish.images, below))
    width = min(PAGE, 1.05 * (len(columns) * wish.images + 1) + 0.2)
    height = pictures.grid_height(width, rows, heads)
    figure = Figure(figsize=(width, height))
    pictures.grid(pictures.canvas(figure, 0, 0, width, height), rows, heads)
    return figure


def gallery_columns(run: Run, wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(method, point) of each column: what was asked for, or every method at its best point, Perfusion's locks both."""
    table = run.table[run.table["kind"].isin(["method", "floor"])]
    has = list(zip(table["method"], table["point"]))
    if not wanted:
        main = table[(table["kind"] == "method") & table["method"].map(is_main) & step_of(table).isna()]
        columns = [(one.method, best_point(one.rows)) for one in plots.series_of(main)]
        order = {name: number for number, name in enumerate(LOOKS)}
        return sorted(columns, key=lambda c: (order.get(c[0], len(order)), read_point(c[1]).lock != "local", c))[:8]
    columns = []
    for word in wanted:
        method, _, point = word.partition("/")
        rows = table[table["method"] == method]
        if rows.empty:
            raise unknown("method", method, [m for m, _ in has])
        if point and (method, point) not in has:
            raise unknown("point", point, rows["point"])
        columns.append((method, point or best_point(rows)))
    return columns


def attention(runs: Sequence[Run], wish: Wish) -> Figure:
    images, maps, frame = runs[0].attention()
    needs(runs, bool(maps), "no attention maps; `perfbench attention` measures them")
    methods = list(maps)
    heads = [pictures.Column(look(name, None, methods).label, look(name, None, methods).text) for name in methods]
    count = min(len(images), 3)
    rows = [
        pictures.Row([images[i]], "", "", [pictures.overlay(images[i], maps[name][i]) for name in methods])
        for i in range(count)
    ]
    left = 4.4
    height = max(pictures.grid_height(left, rows, heads), 1.9)
    start = (left + 0.15) / PAGE
    figure = Figure(figsize=(PAGE, height), layout=ConstrainedLayoutEngine(rect=(start, 0, 1 - start, 1)))
    finish(plots.leakage(figure.subplots(), frame))
    pictures.grid(pictures.canvas(figure, 0, 0, left, height), rows, heads)
    return figure


FIGURES: dict[str, Callable[[Sequence[Run], Wish], Figure]] = {
    "pareto": pareto,
    "bias": bias,
    "dynamics": dynamics,
    "ablation": ablation,
    "attention": attention,
    "per-concept": per_concept,
    "gallery": gallery,
}
