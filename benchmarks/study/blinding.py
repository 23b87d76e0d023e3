"""Pictures that tell nothing but what they show: new names, no metadata, equal sizes in pixels and
bytes.

In: files of a run. Out: PNG bytes and names for the page.
"""

import io
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.suite.image_files import load_image, load_rgb

TILES = 4  # a scrambled picture is cut into TILES x TILES
PADDING = b"fiLl"  # an ancillary, private chunk: every decoder passes over it
REFERENCE = 512  # concept images are shown no larger


def side_of(path: Path) -> int:
    """The side of a square picture; of another one, the shorter."""
    return min(load_image(path).size)


def png(pixels: np.ndarray) -> bytes:
    """Pixels and nothing else: made from an array, the file has no text, profile or time to
    inherit.
    """
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=6)
    return out.getvalue()


def choice_pixels(path: Path, side: int, scrambled: bool = False) -> np.ndarray:
    """A picture to be rated, uint8 [side, side, 3]; generated ones have this size and stay as they
    are.
    """
    pixels = load_rgb(path, side)
    return scramble(pixels, str(side)) if scrambled else pixels


def reference_pixels(path: Path) -> np.ndarray:
    return load_rgb(path, min(side_of(path), REFERENCE))


def scramble(pixels: np.ndarray, seed: str) -> np.ndarray:
    """The picture cut into tiles, no tile where it was."""
    side = len(pixels) // TILES
    tiles = [
        pixels[y * side : (y + 1) * side, x * side : (x + 1) * side]
        for y in range(TILES)
        for x in range(TILES)
    ]
    order = list(range(len(tiles)))
    Random(seed).shuffle(order)
    # one cycle: nothing stays
    moved = [tiles[order[(order.index(k) + 1) % len(order)]] for k in range(len(tiles))]
    out = pixels.copy()
    for k, tile in enumerate(moved):
        y, x = divmod(k, TILES)
        out[y * side : (y + 1) * side, x * side : (x + 1) * side] = tile
    return out


def padded(data: bytes, size: int) -> bytes:
    """The same PNG, `size` bytes long: the number of bytes would tell a smooth method from a noisy
    one.
    """
    end = len(data) - 12  # IEND is 12 bytes
    room = size - len(data) - 12
    if room < 0:
        raise ValueError(f"{len(data)} bytes cannot be padded to {size}")
    body = PADDING + bytes(room)
    return (
        data[:end]
        + room.to_bytes(4, "big")
        + body
        + zlib.crc32(body).to_bytes(4, "big")
        + data[end:]
    )
