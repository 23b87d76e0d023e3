"""README's picture: the front of all methods with their intervals, and what their points draw.

In: the table of a run, and a strip of small pictures that stands beside the figure, so that the
figure can be drawn again where the pictures of the run are not kept. Out: a PNG that knows what it
was made of (`made_of`).

python -m benchmarks.figures.front_picture
python -m benchmarks.figures.front_picture results/mine --concept cat --prompts s04,a01

The first line draws docs/images/front.png again from results/first-world/miniature-paper and the
strip; the second takes the strip of another run before that.
"""

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.advice import advised
from benchmarks.disk import write_whole
from benchmarks.figures import plots
from benchmarks.figures.label_placing import Drawn, Label, place_labels
from benchmarks.figures.looks import Style, split_variant, style_of
from benchmarks.figures.picture_grid import canvas, shorten, show
from benchmarks.figures.selection import best_point, in_order, of_main
from benchmarks.figures.style import GREY, styled
from benchmarks.paths import FIRST_WORLD
from benchmarks.planning.methods import VARIANTS
from benchmarks.planning.points import OperatingPoint
from benchmarks.suite.image_files import load_rgb
from benchmarks.tables.run_view import Run, open_run
from perfusion_core.errors import UserError

RUN = FIRST_WORLD / "miniature-paper"
FIGURE, STRIP = Path("docs/images/front.png"), Path("docs/images/front-pictures.png")
TABLE_DIGEST, STRIP_DIGEST, SAID = "perfbench:table", "perfbench:pictures", "perfbench:said"
REAL = ("real", "")  # the place of the concept's own pictures in a strip
WIDTH, HEIGHT, DPI = 7.6, 4.9, 200
TILE, GAP, EDGE, SIDE = 0.74, 0.04, 0.12, 1.55  # inches; SIDE: a column of pictures
TOP, BOTTOM = 0.42, 0.72  # above and below the plane
NAME, SMALL = 8, 7.2  # sizes of type; the page shows the figure a little smaller


@dataclass(frozen=True)
class Strip:
    """Small pictures: a row a place (method, point), a column a prompt."""

    concept: str
    prompts: list[str]  # as they are written below the figure
    places: list[tuple[str, str]]
    pictures: np.ndarray  # uint8 [places, prompts, H, W, 3]


def places_of(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(method, point) of each series that gets pictures: every method as published, at its best
    point, both locks of Perfusion, and the plain word."""
    main = of_main(table)
    series = in_order(plots.series_of(main[main["kind"] == "method"]))
    found = [
        (one.method, best_point(one.rows))
        for one in series
        if one.style.fill and is_method(one.method)
    ]
    floors = main[main["kind"] == "floor"]
    return found + list(zip(floors["method"], floors["point"]))


def take_strip(
    run: Run,
    places: Sequence[tuple[str, str]],
    concept: str,
    prompts: Sequence[str],
    size: int = 64,
) -> Strip:
    """The first picture of each cell, and the concept's own first pictures."""
    rows = []
    for method, point in places:
        files = [run.image_file(method, point, concept, prompt, 0) for prompt in prompts]
        for file in files:
            if not file.is_file():
                raise UserError(f"{run.folder} has no picture {file.relative_to(run.folder)}")
        rows.append([load_rgb(file, size) for file in files])
    own = run.concept_files(concept)[: len(prompts)]
    if len(own) < len(prompts):
        raise UserError(f"{run.folder} has {len(own)} pictures of {concept}; {len(prompts)} needed")
    rows.append([load_rgb(file, size) for file in own])
    texts = [run.text(prompt, concept) for prompt in prompts]
    return Strip(concept, texts, [*places, REAL], np.array(rows))


def write_strip(strip: Strip, file: Path) -> None:
    """One PNG, the words in it."""
    said = {key: value for key, value in asdict(strip).items() if key != "pictures"}
    rows = [np.concatenate(list(row), axis=1) for row in strip.pictures]
    words = PngInfo()
    words.add_itxt(SAID, json.dumps(said))
    out = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(out, "png", optimize=True, pnginfo=words)
    write_whole(file, out.getvalue())


def read_strip(file: Path) -> Strip:
    with Image.open(file) as image:
        said = json.loads(image.info[SAID])
        pixels = np.asarray(image.convert("RGB"))
    shape = len(said["places"]), len(said["prompts"])
    high, wide = pixels.shape[0] // shape[0], pixels.shape[1] // shape[1]
    pictures = pixels.reshape(shape[0], high, shape[1], wide, 3).swapaxes(1, 2)
    places = [(str(method), str(point)) for method, point in said["places"]]
    return Strip(said["concept"], said["prompts"], places, pictures)


def front(table: pd.DataFrame, strip: Strip) -> Figure:
    """The plane in the middle, pictures of its points to the left and right."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    left = SIDE + 2 * EDGE + 0.5
    axes = figure.add_axes(
        (
            left / WIDTH,
            BOTTOM / HEIGHT,
            (WIDTH - left - SIDE - 2 * EDGE) / WIDTH,
            (HEIGHT - TOP - BOTTOM) / HEIGHT,
        )
    )
    shown = of_main(table)
    drawn = draw_plane(axes, shown)
    figure.text((left - 0.4) / WIDTH, 1 - 0.24 / HEIGHT, plots.AXIS[plots.Y], fontsize=NAME)
    sides = sided(shown, strip)
    over = canvas(figure, 0, 0, WIDTH, HEIGHT)
    over.set_zorder(3)
    for right, members in enumerate(sides):
        step = (HEIGHT - 0.3) / max(len(members), 1)
        for number, place in enumerate(members):
            x = WIDTH - SIDE - EDGE if right else EDGE
            draw_slot(over, axes, shown, strip, place, x, 0.08 + number * step)
    prompts = " and ".join(f"“{text}”" for text in strip.prompts)
    said = f"Bars: 95 % intervals. Hollow: training step selected. Pictures: {prompts}."
    figure.text(0.5, 0.12 / HEIGHT, said, ha="center", fontsize=SMALL, color=GREY)
    figure.draw_without_rendering()
    place_labels(drawn)
    return figure


def draw_plane(axes: Axes, shown: pd.DataFrame) -> Drawn:
    """Points, fronts and intervals; a method with its step selected is hollow, and joined to the
    method as published. Variants have their names beside them, methods beside their pictures."""
    rows = shown[shown["kind"].isin(["method", "floor"]) & shown[plots.Y].notna()]
    plots.plane(axes, rows, pad=0.04)
    ceiling = shown.loc[shown["kind"] == "ceiling", plots.Y]
    low, high = axes.get_ylim()
    axes.set_ylim(low, max([high, *(value + 0.04 * (high - low) for value in ceiling)]))
    drawn = plots.floor_and_ceiling(axes, shown)
    axes.set_xlabel(plots.AXIS[plots.X], fontsize=NAME)
    axes.set_ylabel("")
    axes.tick_params(labelsize=SMALL)
    every = plots.series_of(shown)
    for series in every:
        drawn.faint += plots.bars(axes, series.rows, series.style.colour, alpha=0.45)
        if (whole := plots.as_trained(series, every)) is not None:
            line = np.array(plots.at(whole.rows) + plots.at(series.rows), float)
            axes.plot(
                *line.T, color=series.style.colour, linewidth=0.8, linestyle=(0, (1, 1)), zorder=3
            )
        elif series.style.fill and not is_method(series.method):
            words = Label(plots.at(series.rows), series.style.label, series.style.text, SMALL)
            drawn.labels.append(words)
        across, up = (series.rows[name] for name in (plots.X, plots.Y))
        drawn.lines.append(plots.trace(axes, across, up, series.style, size=5.5))
    floor = shown[shown["kind"] == "floor"]
    plots.bars(axes, floor, GREY)
    plots.trace(axes, floor[plots.X], floor[plots.Y], style_of("super"), size=5.5)
    return drawn


def is_method(name: str) -> bool:
    """A method, and no variant of one."""
    return name not in VARIANTS and not split_variant(name)[1]


def spot(
    shown: pd.DataFrame, place: tuple[str, str], axes: Axes | None = None
) -> tuple[float, float]:
    """Where a place lies in the plane; the concept's own pictures lie on the ceiling."""
    if place == REAL:
        ceiling = shown.loc[shown["kind"] == "ceiling", plots.Y].dropna()
        if not len(ceiling):
            raise UserError("the table has no row of real images, which the strip shows")
        return (axes.get_xlim()[1] if axes else np.inf), float(ceiling.iloc[0])
    row = shown[(shown["method"] == place[0]) & (shown["point"] == place[1])]
    if not len(row):
        raise UserError(f"the strip shows {' '.join(place)}, and the table has no such row")
    return plots.at(row)[0]


def sided(shown: pd.DataFrame, strip: Strip) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The places at the left and at the right of the plane, each from top to bottom."""
    across = sorted(strip.places, key=lambda place: spot(shown, place)[0])
    half = (len(across) + 1) // 2

    def down(places: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted(places, key=lambda place: -spot(shown, place)[1])

    return down(across[:half]), down(across[half:])


def look_of(place: tuple[str, str]) -> Style:
    method, point = place
    if place == REAL:
        return Style("Ceiling: real images", GREY, "s")
    return style_of(method, OperatingPoint.parse(point).lock)


def draw_slot(
    over: Axes,
    axes: Axes,
    shown: pd.DataFrame,
    strip: Strip,
    place: tuple[str, str],
    x: float,
    y: float,
) -> None:
    """A name, its pictures, and a line from them to their point; `over` is in inches."""
    look, right = look_of(place), x > WIDTH / 2
    pictures = strip.pictures[strip.places.index(place)]
    wide = len(pictures) * TILE + (len(pictures) - 1) * GAP
    over.text(
        x, y + 0.14, shorten(look.label, SIDE, NAME, "bold"), fontsize=NAME, weight="bold",
        color=look.text, va="baseline",
    )  # fmt: skip
    top = y + 0.2
    for number, picture in enumerate(pictures):
        show(over, picture, x + number * (TILE + GAP), top, TILE)
    frame = Rectangle((x, top), wide, TILE, fill=False, edgecolor=look.colour, linewidth=1.2)
    over.add_patch(frame)
    line = ConnectionPatch(
        (x if right else x + wide, top + TILE / 2), spot(shown, place, axes), "data", "data",
        axesA=over, axesB=axes, color=look.colour, linewidth=0.8, alpha=0.8, shrinkB=3,
    )  # fmt: skip
    over.add_artist(line)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def made_of(figure: Path) -> tuple[str, str]:
    """The digests of the table and of the strip that a figure was drawn from."""
    with Image.open(figure) as image:
        return str(image.info.get(TABLE_DIGEST, "")), str(image.info.get(STRIP_DIGEST, ""))


def draw(run: Run, strip_file: Path, out: Path) -> Path:
    """Draw the figure and write it."""
    drawn = io.BytesIO()
    with styled():
        front(run.table, read_strip(strip_file)).savefig(drawn, format="png", dpi=DPI)
    words = PngInfo()
    words.add_text(TABLE_DIGEST, digest((run.folder / "table.csv").read_bytes()))
    words.add_text(STRIP_DIGEST, digest(strip_file.read_bytes()))
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(256).save(small, "png", optimize=True, pnginfo=words)
    write_whole(out, small.getvalue())
    return out


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures.front_picture",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("pictures", nargs="?", metavar="RUN", help="take its pictures first")
    parser.add_argument("--concept", default="cat")
    parser.add_argument("--prompts", default="s04,a01", help="two prompt ids")
    args = parser.parse_args(given)
    try:
        if args.pictures:
            prompts = args.prompts.split(",")
            places = places_of(open_run(str(RUN)).table)
            strip = take_strip(open_run(args.pictures), places, args.concept, prompts)
            write_strip(strip, STRIP)
        print(draw(open_run(str(RUN)), STRIP, FIGURE))
    except UserError as error:
        print(f"front_picture: {advised(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
