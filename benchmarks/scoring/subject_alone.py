"""The subject alone: a picture cut to the thing that its mask shows, so that a background that is
kept counts for nothing.

In: pictures and masks. Out: squares of the thing on neutral grey, and which pictures have none.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

GREY = (128, 128, 128)  # neither scorer nor world knows a scene of it
LEAST = 0.01  # of a picture: what is smaller was not found
# What makes a segmenter good enough: its intersection over union with known masks of pictures whose
# last fifth of steps was drawn by the models (`perfbench miniature verify`).
SHOWN_FROM, DECIDES = 0.8, 0.2
# digest of judges -> what was measured of them: of the shipped ones on 64 pictures, too little
MEASURED = {"80b6e29044bbccbafe129891ac1a6789f244f8b00c368021d3f3e7ed77423b2c": 0.747}


def measured_of(judges: str) -> float:
    """Of the segmenter among these judges; 0 where nobody measured it."""
    return MEASURED.get(judges, 0.0)


def share(mask: np.ndarray) -> float:
    """How much of a picture a mask covers."""
    return float(mask.mean())


def cut_to(picture: Image.Image, mask: np.ndarray) -> Image.Image | None:
    """The box around the thing, as a square of grey in its middle; None where it was not found.
    `mask`: bool, of the picture's size."""
    if share(mask) < LEAST:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels = np.asarray(picture.convert("RGB"))[box]
    thing = np.where(mask[box][..., None], pixels, np.uint8(GREY[0]))
    high, wide = thing.shape[:2]
    side = max(high, wide)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(Image.fromarray(thing), ((side - wide) // 2, (side - high) // 2))
    return square


def cut_all(
    pictures: Sequence[Image.Image], masks: Sequence[np.ndarray]
) -> list[Image.Image | None]:
    return [cut_to(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
