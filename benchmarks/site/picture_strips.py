"""Thumbnails in sheets: one file holds a question's pictures by all methods, or a concept's own.

In: a run, numbers of a question and of a picture. Out: WebP bytes; a place in a sheet is empty
where a picture is not there or cannot be read.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from benchmarks.site.explored import OWN, Explored
from benchmarks.suite.image_files import load_image
from perfusion_core.errors import UserError

ACROSS = 16  # thumbnails side by side, so that no sheet is wider than WebP takes
QUALITY = 82


class Missing(LookupError):
    """There is no such sheet or picture."""


def strip_name(run: int, question: int, number: int) -> str:
    """The address of the sheet with the `number`th picture of every method."""
    return f"strips/{run}/{question}-{number}.webp"


def own_name(run: int, concept: int) -> str:
    return f"own/{run}/{concept}.webp"


def strip(one: Explored, question: int, number: int, tile: int) -> bytes:
    """The `number`th pictures of a question by every operating point that has pictures, in their
    order."""
    if not 0 <= question < len(one.questions):
        raise Missing
    files = [
        one.picture_file(point, question, number) if number in one.images[point][question] else None
        for point in one.pictured
    ]
    if not any(files):
        raise Missing
    return sheet(files, ACROSS, tile)


def own_strip(one: Explored, concept: int, tile: int) -> bytes:
    """Above the pictures that a concept was trained on, below those that no method saw."""
    if not 0 <= concept < len(one.concepts):
        raise Missing
    name = one.concepts[concept]
    rows = one.training(name), one.held_out(name)
    if not any(rows):
        raise Missing
    places = [file for row in rows for file in [*row, *[None] * (OWN - len(row))]]
    return sheet(places, OWN, tile)


def numbers_in(one: Explored, question: int) -> list[int]:
    """Which sheets a question has: numbers of the pictures that any method has of it."""
    return sorted({n for point in one.pictured for n in one.images[point][question]})


def sheet(files: Sequence[Path | None], across: int, tile: int) -> bytes:
    """Squares side by side, in rows of `across`."""
    columns = min(across, len(files))
    rows = -(-len(files) // columns)
    whole = Image.new("RGBA", (columns * tile, rows * tile), (0, 0, 0, 0))
    for place, picture in drawn(files, tile):
        whole.paste(picture, (place % columns * tile, place // columns * tile))
    stream = io.BytesIO()
    whole.save(stream, "WEBP", quality=QUALITY, method=2)
    return stream.getvalue()


def drawn(files: Iterable[Path | None], tile: int) -> Iterable[tuple[int, Image.Image]]:
    """(place, thumbnail) of those that can be read."""
    for place, file in enumerate(files):
        if file is None:
            continue
        try:
            picture = load_image(file)
        except UserError:
            continue
        side = min(picture.size)
        box = ((picture.width - side) // 2, (picture.height - side) // 2)
        square = picture.crop((*box, box[0] + side, box[1] + side))
        # whole pixels of a small world stay whole
        way = Image.Resampling.NEAREST if side <= tile else Image.Resampling.LANCZOS
        yield place, square.resize((tile, tile), way)
