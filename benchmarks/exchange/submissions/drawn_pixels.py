"""What a submission keeps of a run's pictures: a digest of each cell's pixels, and thumbnails.

In: a run folder; of a submission, bytes. Out: the rows of pictures.csv; small JPEG files; None
where a run has no pictures.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.exchange.submissions.submission_archive import THUMBNAILS, Refused
from benchmarks.safe_paths import shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.store.run_folder import cell_image
from benchmarks.suite.image_files import load_image

Address = tuple[str, str, str, str]  # method, point, concept, prompt_id
COLUMNS = ("method", "point", "concept", "prompt_id", "pixels")
SIDE = 96  # pixels of a thumbnail
LARGEST = 64_000  # bytes of one
TOGETHER = 8  # pictures that are decoded at a time


def pixels_digest(pictures: Iterable[np.ndarray]) -> str:
    """Of uint8 pictures [H, W, 3] in their order: not of files, which tell keys and dates."""
    whole = hashlib.sha256()
    for picture in pictures:
        whole.update(f"{picture.shape}".encode())
        whole.update(np.ascontiguousarray(picture).tobytes())
    return whole.hexdigest()


def cell_pixels(run: Path, row: CellRow) -> str:
    """Of a cell's pictures in a run folder; empty where one of them is not there."""
    files = [cell_image(run, *row.address, row.prompt_id, index) for index in range(row.n)]
    if not files or not all(file.is_file() for file in files):
        return ""
    return pixels_digest(np.asarray(load_image(file)) for file in files)


def pictures_text(run: Path, rows: Sequence[CellRow]) -> str:
    """pictures.csv: a row a cell whose pictures are all there; empty where there is none."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        digests = list(pool.map(lambda row: cell_pixels(run, row), rows))
    found = [(*row.address, row.prompt_id, of) for row, of in zip(rows, digests) if of]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *found])
    return text.getvalue() if found else ""


def read_pictures(data: bytes) -> dict[Address, str]:
    """The digest of each cell's pixels, as a submission tells it."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise Refused("pictures.csv is no table that can be read") from None
    if not lines or tuple(lines[0]) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise Refused(f"pictures.csv has other columns than {', '.join(COLUMNS)}")
    found = {(a, b, c, d): pixels for a, b, c, d, pixels in lines[1:]}
    if len(found) < len(lines) - 1:
        raise Refused("pictures.csv has a cell twice")
    return found


def thumbnails_of(run: Path, rows: Sequence[CellRow], most: int) -> dict[str, bytes]:
    """The first picture of at most `most` cells, spread evenly over those that have one, without
    its metadata."""
    there = [row for row in rows if cell_image(run, *row.address, row.prompt_id, 0).is_file()]
    chosen = [there[i * len(there) // most] for i in range(most)] if len(there) > most else there
    found = {}
    for row in chosen:
        image = load_image(cell_image(run, *row.address, row.prompt_id, 0))
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        found["/".join((THUMBNAILS, *row.address, f"{row.prompt_id}.jpg"))] = out.getvalue()
    return found


def check_thumbnails(files: Mapping[str, bytes], planned: Iterable[CellRow]) -> int:
    """How many there are: each a small JPEG of a planned cell, and looked at no further."""
    cells = {"/".join((*row.address, row.prompt_id)) for row in planned}
    names = [name for name in files if name.startswith(f"{THUMBNAILS}/")]
    for name in names:
        if name.removeprefix(f"{THUMBNAILS}/").removesuffix(".jpg") not in cells:
            raise Refused(f"{shown(name)} is the picture of no planned cell")
        if len(files[name]) > LARGEST or not is_small_jpeg(files[name]):
            raise Refused(f"{shown(name)} is no JPEG of at most {SIDE} pixels and {LARGEST} bytes")
    return len(names)


def is_small_jpeg(data: bytes) -> bool:
    """By its header alone, before a pixel is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return max(image.size) <= SIDE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
