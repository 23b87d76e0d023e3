"""Pictures in rows and columns: prompts by methods, a prompt over the biases, attention maps.

In: images as arrays, texts, and a figure. Out: one axes that holds them all, in inches.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

from benchmarks.figures.style import GREY

DPI = 300  # what a picture is scaled down to; smaller ones keep their own pixels
FINE = 256  # pixels of a side below which a picture is enlarged before a line is drawn on it
GAP, WIDE_GAP, CAPTION, LINE, GROUP = 0.035, 0.11, 0.14, 0.1, 0.15  # inches


@dataclass(frozen=True)
class Row:
    """A line of a grid: what the concept looks like, the prompt, and a picture (or None) for each
    column.
    """

    # uint8 [H, W, 3]; empty where the row above shows the same concept
    concept: Sequence[np.ndarray]
    name: str
    caption: str
    pictures: Sequence[np.ndarray | None]


@dataclass(frozen=True)
class Column:
    """The header of `span` neighbouring columns: a name (line breaks are kept) and a line under it.
    Neighbours of one group have its name above them."""

    text: str
    colour: str = "#202124"
    span: int = 1
    below: str = ""
    group: str = ""

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Each line with its weight."""
        return [(line, "bold") for line in self.text.split("\n")] + (
            [(self.below, "normal")] if self.below else []
        )


def gaps(columns: Sequence[Column]) -> list[float]:
    """The room after each column but the last: wide where columns are of several pictures, or a
    group ends.
    """
    wide = any(column.span > 1 for column in columns)
    return [
        WIDE_GAP if wide or one.group != other.group else GAP for one, other in pairwise(columns)
    ]


def tile_size(width: float, columns: Sequence[Column], concept: bool) -> float:
    """The side of a picture, in inches, where the grid is `width` wide."""
    tiles = sum(column.span for column in columns)
    room = GAP * (tiles - len(columns)) + sum(gaps(columns)) + (WIDE_GAP if concept else 0)
    return (width - room) / (tiles + bool(concept))


def grid_height(
    width: float, rows: Sequence[Row], columns: Sequence[Column], concept: bool = True
) -> float:
    """How high the grid becomes, in inches."""
    side = tile_size(width, columns, concept)
    return header_height(columns) + sum(
        side + GAP + (CAPTION if row.caption else 0) for row in rows
    )


def header_height(columns: Sequence[Column]) -> float:
    """Room for headers of one line or more, and for the groups' names."""
    lines = max(len(column.lines) for column in columns)
    return 0.05 + LINE * lines + (GROUP if any(column.group for column in columns) else 0)


def shrink(picture: np.ndarray, inches: float) -> np.ndarray:
    """At most 300 dots an inch, so that a PDF of photographs stays small."""
    limit = max(int(inches * DPI), 1)
    if picture.shape[1] <= limit and picture.shape[0] <= limit:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((limit, limit), Image.Resampling.LANCZOS)
    return np.asarray(image)


def canvas(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose unit is the inch, y downwards from the top left corner (left, top) of the
    figure.
    """
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def show(axes: Axes, picture: np.ndarray, x: float, y: float, side: float) -> None:
    """A picture with its top left corner at (x, y), fitted into a square."""
    high, wide = picture.shape[:2]
    w, h = side * min(1, wide / high), side * min(1, high / wide)
    x, y = x + (side - w) / 2, y + (side - h) / 2
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(
        shrink(picture, side), extent=(x, x + w, y + h, y), interpolation="none", aspect="auto"
    )
    axes.set(xlim=limits[0], ylim=limits[1])


def missing(axes: Axes, x: float, y: float, side: float) -> None:
    """An empty place, said to be empty."""
    axes.fill(
        [x, x + side, x + side, x], [y, y, y + side, y + side], facecolor="#f4f5f6", linewidth=0
    )
    axes.text(
        x + side / 2, y + side / 2, "no image", ha="center", va="center", fontsize=5.5, color=GREY
    )


def mosaic(axes: Axes, pictures: Sequence[np.ndarray], x: float, y: float, side: float) -> None:
    """Up to four concept images in the place of one."""
    shown = list(pictures)[:4] if len(pictures) >= 4 else list(pictures)[:1]
    part = side if len(shown) == 1 else (side - GAP) / 2
    for number, picture in enumerate(shown):
        show(axes, picture, x + (number % 2) * (part + GAP), y + (number // 2) * (part + GAP), part)


def shorten(text: str, inches: float, size: float, weight: str = "normal") -> str:
    """One line that fits; what does not is cut, between words where there are any."""
    font = FontProperties(size=size, weight=weight)
    if text_to_path.get_text_width_height_descent(text, font, False)[0] <= 72 * inches:
        return text
    # letters, about
    room = max(int(inches * 72 / ((0.62 if weight == "bold" else 0.56) * size)), 8)
    cut = textwrap.shorten(text, room, placeholder="…")
    return cut if len(cut) > room // 2 or cut == text else text[: room - 1] + "…"


def grid(
    axes: Axes,
    rows: Sequence[Row],
    columns: Sequence[Column],
    concept: bool = True,
    first: str = "Concept",
) -> None:
    """Headers, then each row: concept images at the left, pictures, and the prompt underneath."""
    width = axes.get_xlim()[1]
    side, y = tile_size(width, columns, concept), header_height(columns)
    starts, x = [], side + WIDE_GAP if concept else 0.0
    for column, after in zip(columns, [*gaps(columns), 0.0]):
        starts.append(x)
        wide = column.span * side + (column.span - 1) * GAP
        for up, (line, weight) in enumerate(reversed(column.lines)):
            axes.text(
                x + wide / 2,
                y - 0.05 - LINE * up,
                shorten(line, wide + GAP, 6.2, weight),
                ha="center",
                va="baseline",
                fontsize=6.2,
                color=column.colour,
                fontweight=weight,
            )
        x += wide + after
    group_names(axes, columns, starts, side)
    if concept:
        axes.text(side / 2, y - 0.05, first, ha="center", va="baseline", fontsize=6.2, color=GREY)
    for row in rows:
        if concept and len(row.concept):
            mosaic(axes, row.concept, 0, y, side)
        if concept and row.name and row.caption:
            axes.text(
                side / 2,
                y + side + 0.095,
                shorten(row.name, side, 6.2),
                ha="center",
                va="baseline",
                fontsize=6.2,
                color=GREY,
            )
        place = 0
        for column, start in zip(columns, starts):
            for number in range(column.span):
                picture, left = row.pictures[place], start + number * (side + GAP)
                if picture is None:
                    missing(axes, left, y, side)
                else:
                    show(axes, picture, left, y, side)
                place += 1
        if row.caption:
            left, right = starts[0], starts[-1] + columns[-1].span * (side + GAP) - GAP
            axes.text(
                (left + right) / 2,
                y + side + 0.095,
                shorten(row.caption, right - left, 6.5),
                ha="center",
                va="baseline",
                fontsize=6.5,
                fontstyle="italic" if row.caption.startswith("“") else "normal",
            )
        y += side + GAP + (CAPTION if row.caption else 0)


def group_names(
    axes: Axes, columns: Sequence[Column], starts: Sequence[float], side: float
) -> None:
    """Each group's name above its columns, and a line that shows how far it reaches."""
    for name, members in groupby(zip(columns, starts), key=lambda pair: pair[0].group):
        if not name:
            continue
        mine = list(members)
        column, last = mine[-1]
        left, right = mine[0][1], last + column.span * (side + GAP) - GAP
        words = shorten(name, right - left, 6.2, "bold")
        axes.text(
            (left + right) / 2,
            0.09,
            words,
            ha="center",
            va="baseline",
            fontsize=6.2,
            fontweight="bold",
        )
        axes.plot([left, right], [0.125, 0.125], color=GREY, linewidth=0.6)


def overlay(picture: np.ndarray, weights: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The picture darkened to grey where a word's attention is low, in colour and warm where it is
    high; with a mask (255 on the object) the object's outline in white.

    weights [h, w] >= 0, scaled here by their maximum.
    """
    if mask is not None:  # a thin line needs pixels
        times = -(-FINE // max(mask.shape))
        picture, mask = (
            np.kron(a, np.ones((times, times, 1)[: a.ndim], np.uint8)) for a in (picture, mask)
        )
    high, wide = picture.shape[:2]
    scaled = Image.fromarray((255 * weights / max(float(weights.max()), 1e-12)).astype(np.uint8))
    heat = np.asarray(scaled.resize((wide, high), Image.Resampling.BICUBIC), float)[..., None] / 255
    grey = picture.mean(axis=-1, keepdims=True) * 0.55
    warm = np.array([255.0, 176.0, 0.0])
    seen = np.clip(grey * (1 - 0.72 * heat) + warm * 0.72 * heat, 0, 255).astype(np.uint8)
    return seen if mask is None else np.where(outline(mask)[..., None], np.uint8(255), seen)


def outline(mask: np.ndarray) -> np.ndarray:
    """Where the edge of a mask runs, two pixels wide."""
    inside = mask > 127
    edge = np.zeros_like(inside)
    for axis in (0, 1):
        step = np.diff(inside.astype(np.int8), axis=axis) != 0
        before, after = ((0, 1), (1, 0))
        for pad in (before, after):
            edge |= np.pad(step, [pad if number == axis else (0, 0) for number in (0, 1)])
    return edge
