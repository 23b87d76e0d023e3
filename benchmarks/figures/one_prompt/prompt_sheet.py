"""All pictures of a prompt in one: side by side, or over the bias. In: pictures. Out: a PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.figures import picture_grid
from benchmarks.figures.one_prompt.wanted import Wanted
from benchmarks.figures.style import GREY, styled, write_figure
from benchmarks.planning.points import OperatingPoint

TILE = (0.85, 512 / picture_grid.DPI)  # inches: a picture keeps its pixels up to 512
MARGIN, TITLE, FOOT = 0.08, 0.24, 0.16  # inches
WORDS = 3.4  # inches that a prompt takes


def sweep_sheet(out: Path, asked: Wanted, drawn: Sequence[np.ndarray]) -> Path:
    """A row for each seed, a column for each bias."""
    rows = [
        picture_grid.Row([], "", f"seed {seed}", [pictures[turn] for pictures in drawn])
        for turn, seed in enumerate(asked.seeds)
    ]
    heads = [picture_grid.Column(f"β = {shown(bias)}") for bias in asked.swept]
    return sheet(out, f"“{asked.prompt}”", rows, heads, ("← concept", "prompt →"))


def grid_sheet(out: Path, asked: Wanted, pictures: np.ndarray) -> Path:
    """As near to a square as it goes, in the seeds' order."""
    across = math.ceil(math.sqrt(len(pictures)))
    rows = []
    for start in range(0, len(pictures), across):
        some = list(pictures[start : start + across])
        blank = [np.full_like(pictures[0], 255)] * (across - len(some))
        seeds = asked.seeds[start : start + across]
        name = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        rows.append(picture_grid.Row([], "", name, [*some, *blank]))
    return sheet(out, f"“{asked.prompt}”", rows, [picture_grid.Column("")] * across)


def shown(bias: float) -> str:
    """0.3 -> 0.30, 0.625 -> 0.625."""
    return str(OperatingPoint(bias=bias))[1:]


def sheet(
    out: Path,
    title: str,
    rows: Sequence[picture_grid.Row],
    heads: Sequence[picture_grid.Column],
    ends: tuple[str, str] | None = None,
) -> Path:
    """The title, a grid of pictures, and words below its two ends."""
    pixels = max(one.shape[1] for row in rows for one in row.pictures if one is not None)
    side = min(max(pixels / picture_grid.DPI, WORDS / len(heads), TILE[0]), TILE[1])
    width = side * len(heads) + sum(picture_grid.gaps(heads))
    tall = picture_grid.grid_height(width, rows, heads, concept=False)
    top = TITLE if heads[0].text else TITLE - picture_grid.LINE
    height = top + tall + (FOOT if ends else 0)
    with styled():
        figure = Figure(figsize=(width + 2 * MARGIN, height + MARGIN))
        canvas = picture_grid.canvas(figure, MARGIN, top, width, tall)
        picture_grid.grid(canvas, rows, heads, concept=False)
        words = picture_grid.canvas(figure, MARGIN, 0, width, height)
        text = picture_grid.shorten(title, width, 7)
        words.text(0, 0.16, text, fontsize=7, fontstyle="italic", ha="left", va="baseline")
        for x, end, side_of in zip((0, width), ends or (), ("left", "right")):
            words.text(x, height - 0.04, end, fontsize=6.2, color=GREY, ha=side_of, va="baseline")
        return write_figure(figure, out)[0]
