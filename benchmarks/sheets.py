"""Figures with pictures in them: a prompt over the biases, over training, prompts by methods, attention maps.

In: runs. Out: figures.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks import pictures, plots
from benchmarks.choices import Wish, best_point, in_order, is_main, needs, perfusion_fronts, short, step_of, together
from benchmarks.labels import finish
from benchmarks.looks import COLUMN, GREY, PAGE, look, read_point
from benchmarks.runs import Run
from perfusion_core.errors import unknown

ROWS = 5  # of pictures, where none were asked for


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
    """(method, point) of each column: what was asked for, or every method at its best point, both of Perfusion's locks,
    and the super-category where these are few."""
    table = run.table[run.table["kind"].isin(["method", "floor"])]
    has = list(zip(table["method"], table["point"]))
    if not wanted:
        main = table[(table["kind"] == "method") & table["method"].map(is_main) & step_of(table).isna()]
        columns = [(one.method, best_point(one.rows)) for one in in_order(plots.series_of(main))][:8]
        return columns if len(columns) > 3 else columns + [cell for cell in has if cell[0] == "super"]
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
    needs(
        runs,
        bool(maps),
        "no attention maps (attention/maps.npz and leakage.csv; docs/architecture.md says what they hold)",
    )
    methods = list(maps)
    heads = []
    for name in methods:
        style = look(name, None, methods)
        label, _, below = style.label.partition(", ")
        heads.append(pictures.Column(label, style.text, below=below))
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
    pictures.grid(pictures.canvas(figure, 0, 0, left, height), rows, heads, first="Image")
    return figure
