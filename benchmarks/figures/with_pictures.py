"""Figures with pictures in them: a prompt over the biases, over training, prompts by methods,
attention maps.

In: runs. Out: figures.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.figures import picture_grid, plots
from benchmarks.figures.attention import drawing
from benchmarks.figures.attention.leakage import concepts_of
from benchmarks.figures.label_placing import finish_layout
from benchmarks.figures.looks import style_of
from benchmarks.figures.selection import (
    Wish,
    gallery_columns,
    joined_tables,
    needs,
    perfusion_fronts,
    short,
    step_of,
    tell_left_out,
)
from benchmarks.figures.style import COLUMN, GREY, PAGE
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import OURS
from benchmarks.tables.run_view import Attended, Run, distinct_names
from perfusion_core.errors import UserError, unknown

ROWS = 5  # of pictures, where none were asked for
MOST = 32  # pictures of one cell beside each other: more are a smear


def bias(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    fronts = perfusion_fronts(run)
    needs(
        runs,
        bool(fronts),
        "only one bias; `perfbench run --methods perfusion --preset paper` has nine",
    )
    front = fronts[0]
    points = list(front.rows["point"])
    chosen = run.choose_cells(
        [(OURS, point) for point in points], wish.concepts, wish.prompts, limit=3
    )
    wide = 2.15  # of the curves, where there are pictures beside them
    rows = [
        picture_grid.Row(
            *beside, quoted(run, prompt, concept),
            [run.picture(OURS, point, concept, prompt, 0) for point in points],
        )
        for (concept, prompt), beside in zip(chosen, concepts_beside(run, chosen))
    ]  # fmt: skip
    columns = [
        picture_grid.Column(f"β = {OperatingPoint.parse(point).bias:.2f}", front.style.text)
        for point in points
    ]
    table = pd.concat([front.rows for front in fronts])
    if not chosen:
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        finish_layout(
            *(
                plots.along_bias(axes, table, metric)
                for axes, metric in zip(figure.subplots(1, 2), (plots.Y, plots.X))
            )
        )
        return figure
    left, across = wide + 0.1, min(PAGE - wide - 0.1, 0.95 * (len(columns) + 1))
    height = max(picture_grid.grid_height(across, rows, columns) + 0.16, 2.3)
    layout = ConstrainedLayoutEngine(rect=(0, 0, wide / (left + across), 1))
    figure = Figure(figsize=(left + across, height), layout=layout)
    above, below = figure.subplots(2, 1, sharex=True)
    drawn = [plots.along_bias(above, table, plots.Y), plots.along_bias(below, table, plots.X)]
    above.set_xlabel("")
    finish_layout(*drawn)
    canvas = picture_grid.canvas(figure, left, 0.0, across, height)
    picture_grid.grid(canvas, rows, columns)
    start = picture_grid.tile_size(across, columns, True) + picture_grid.WIDE_GAP
    for x, text, side, colour in (
        (start, "← concept", "left", GREY),
        ((start + across) / 2, front.style.label, "center", front.style.text),
        (across, "prompt →", "right", GREY),
    ):
        canvas.text(x, height - 0.04, text, fontsize=6.2, color=colour, ha=side, va="baseline")
    return figure


def dynamics(runs: Sequence[Run], wish: Wish) -> Figure:
    table = joined_tables(runs)
    rows = table[
        (table["kind"] == "method") & step_of(table).notna() & table["method"].str.startswith(OURS)
    ]
    needs(
        runs,
        len(rows) > 1,
        "no training steps were kept; `perfbench run --methods perfusion --ablation trained-k "
        "--set keep=50,100` "
        "with points such as local-b0.60-t0.15-s100 keeps them",
    )
    series = sorted(plots.series_of(rows), key=lambda one: one.method != OURS)
    run = runs[0]
    cells = [(one.method, point) for one in series for point in one.rows["point"]]
    chosen = run.choose_cells(cells, wish.concepts, wish.prompts, limit=1)
    if not chosen:
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        finish_layout(plots.paths(figure.subplots(), rows))
        return figure
    concept, prompt = chosen[0]
    lines = []
    kept = [
        {OperatingPoint.parse(point).step: point for point in one.rows["point"]} for one in series
    ]
    steps = plots.few(max(map(list, kept), key=len))
    heads = [picture_grid.Column(f"s = {step}") for step in steps]
    for one, points in zip(series, kept):
        shown = [points.get(step) for step in steps]
        images = [
            run.picture(one.method, point, concept, prompt, 0) if point else None for point in shown
        ]
        lines.append(picture_grid.Row([], "", one.style.label, images))
    width = PAGE - COLUMN - 0.15
    tall = picture_grid.grid_height(width, lines, heads, concept=False) + 0.16
    height = max(tall, 2.5)
    figure = Figure(
        figsize=(PAGE, height), layout=ConstrainedLayoutEngine(rect=(0, 0, COLUMN / PAGE, 1))
    )
    finish_layout(plots.paths(figure.subplots(), rows))
    top = (height - tall) / 2
    picture_grid.grid(
        picture_grid.canvas(figure, COLUMN + 0.15, top + 0.16, width, tall - 0.16),
        lines,
        heads,
        concept=False,
    )
    figure.text(
        (COLUMN + 0.15 + width / 2) / PAGE,
        1 - (top + 0.1) / height,
        quoted(run, prompt, concept),
        fontsize=6.5,
        fontstyle="italic",
        ha="center",
        va="baseline",
    )
    return figure


def quoted(run: Run, prompt: str, concept: str) -> str:
    return f"“{run.text(prompt, concept)}”"


def gallery(runs: Sequence[Run], wish: Wish) -> Figure:
    """Rows of pictures: prompts by methods, one run or several beside each other, the concept
    images at the left.
    """
    if wish.images < 1:
        raise UserError(f"--images {wish.images}: at least 1 picture of each cell has to be shown")
    if wish.images > MOST:
        raise UserError(f"--images {wish.images}: a page has room for {MOST} pictures of a cell")
    # Columns of each run.
    names, first = distinct_names(runs), runs[0]
    limit = max(8 // len(runs), 1)
    of_run = [gallery_columns(run, wish.methods, limit) for run in runs]
    for run, mine in zip(runs, of_run):
        tell_left_out(run, mine, wish.methods)
    # Cells all runs show.
    chosen = first.choose_cells(
        of_run[0],
        wish.concepts,
        wish.prompts,
        limit=ROWS,
        others=lambda concept, prompt: all(
            run.shows(columns, concept, prompt)
            and run.template(prompt, concept) == first.template(prompt, concept)
            for run, columns in zip(runs[1:], of_run[1:])
        ),
    )
    needs(runs, bool(chosen), nothing_in_common(runs))
    columns = [
        (run, name, method, point)
        for run, name, mine in zip(runs, names, of_run)
        for method, point in mine
        if wish.methods
        or any(
            run.shows([(method, point)], *cell) for cell in chosen
        )  # no method without a picture
    ]
    # A row a cell.
    rows = []
    for (concept, prompt), beside in zip(chosen, concepts_beside(first, chosen)):
        images = [
            run.picture(method, point, concept, prompt, index)
            for run, _, method, point in columns
            for index in range(wish.images)
        ]
        rows.append(picture_grid.Row(*beside, quoted(first, prompt, concept), images))
    # Heads, then the page.
    heads = [
        gallery_head(name if len(runs) > 1 else "", method, point, wish.images)
        for _, name, method, point in columns
    ]
    width = min(PAGE, 1.05 * (len(columns) * wish.images + 1) + 0.2)
    height = picture_grid.grid_height(width, rows, heads)
    figure = Figure(figsize=(width, height))
    picture_grid.grid(picture_grid.canvas(figure, 0, 0, width, height), rows, heads)
    return figure


def concepts_beside(
    run: Run, cells: Sequence[tuple[str, str]]
) -> Iterator[tuple[list[np.ndarray], str]]:
    """What stands at the left of each cell's row: images of its concept, beside its next prompt the
    next ones, and its name beside the first.
    """
    seen: Counter[str] = Counter()
    for concept, _ in cells:
        start = 4 * seen[concept]
        name = "" if start else concept.replace("_", " ").replace("+", " + ")
        yield run.concept_images(concept, limit=100)[start : start + 4], name
        seen[concept] += 1


def nothing_in_common(runs: Sequence[Run]) -> str:
    """Why there is nothing to show."""
    if len(runs) > 1:
        return (
            "no concept and prompt of which each of them has an image; name other runs, "
            "--concepts or --methods"
        )
    return (
        "no images of what was asked for; they were dropped, or `perfbench run` has not made them"
    )


def gallery_head(run: str, method: str, point: str, images: int) -> picture_grid.Column:
    style = style_of(method, OperatingPoint.parse(point).lock, [method])
    name, _, lock = style.label.partition(", ")
    below = ", ".join(part for part in (lock.replace(" lock", ""), short(point)) if part)
    lines = [name] if images > 1 else textwrap.wrap(name, 12)[:2]
    return picture_grid.Column("\n".join(lines), style.text, images, below, run)


def attention(runs: Sequence[Run], wish: Wish) -> Figure:
    """Fig. 2: maps of the concept's word by method, and what of it leaves the object: over the
    noise, by concept.
    """
    found = runs[0].attention()
    needs(
        runs,
        found is not None,
        f"no attention maps yet; `perfbench attention {runs[0].folder}` measures them",
    )
    assert found is not None
    series = [one for one in drawing.attenders(found.leakage) if one[0] in found.maps]
    heads = []
    for _, style, _ in series:
        label, _, below = style.label.partition(", ")
        heads.append(picture_grid.Column(label, style.text, below=below.replace(" lock", "")))
    rows = []
    for n in attended_to(found, wish, limit=2 if len(series) > 4 else 3):
        mask = None if found.masks is None else found.masks[n]
        maps = [
            picture_grid.overlay(found.pictures[n], found.maps[name][n], mask)
            for name, _, _ in series
        ]
        text = f"“{found.texts[n]}”" if found.texts else ""
        rows.append(picture_grid.Row([found.pictures[n]], "", text, maps))
    wide = min(PAGE, 1.15 * (len(series) + 1))
    tall = picture_grid.grid_height(wide, rows, heads)
    height = tall + 2.0
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - (tall + 0.1) / height))
    figure = Figure(figsize=(PAGE, height), layout=layout)
    if len(found.cells):
        chart, strip = figure.subplots(1, 2)
        drawing.leakage_by_concept(strip, concepts_of(found.cells))
    else:
        chart = figure.subplots()
    finish_layout(drawing.leakage(chart, found.leakage))
    picture_grid.grid(
        picture_grid.canvas(figure, (PAGE - wide) / 2, 0, wide, tall), rows, heads, first="Image"
    )
    return figure


def attended_to(found: Attended, wish: Wish, limit: int) -> list[int]:
    """Which pictures are shown: those of the concepts asked for, or a few spread over all."""
    for name in wish.concepts:
        if name not in found.concepts:
            raise unknown("concept with attention maps", name, found.concepts)
    if wish.concepts:
        return [found.concepts.index(name) for name in wish.concepts]
    count = min(limit, len(found.pictures))
    return [turn * len(found.pictures) // count for turn in range(count)]
