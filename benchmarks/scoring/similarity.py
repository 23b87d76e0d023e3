"""Images in, rows out: similarity of generated images to the concept's and to the prompt, measures
beyond these (measures.py), and the ceiling's rows.

Separate from generation: reads PNGs and never the models that made them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.read_pictures import flat_ones
from benchmarks.scoring.reserved import REAL
from benchmarks.suite.image_files import numbered
from perfusion_core.errors import UserError

Row = dict[str, Any]
HELDOUT, NEARER, VARIETY, VENDI = "image_sim_heldout", "nearer", "variety", "vendi"
# remarks on an image; rows without any have no such column
CUT, FLAT, UNPAIRED = "cut", "flat", "unpaired"


class Sees(Protocol):
    """A model of vectors."""

    @property
    def text(self) -> Any:
        """[d] of a text; None where it sees pictures only."""

    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d], unit vectors."""


def read_images(folder: Path) -> list[Image.Image]:
    """`0.png`, `1.png`, ... of a folder, in order, each decoded whole."""
    pictures = []
    for path in numbered(folder):
        with Image.open(path) as image:
            pictures.append(image.convert("RGB"))
    return pictures


def image_similarity(generated: np.ndarray, concept: np.ndarray) -> np.ndarray:
    """[n, d] and [m, d] -> [n]: the mean cosine of each image with all of the concept's."""
    return (generated.astype(np.float64) @ concept.astype(np.float64).T).mean(1)


def ceiling(concept: np.ndarray) -> np.ndarray:
    """[m, d] -> [m]: the mean cosine of each concept image with the *others*; a lone image has
    none.
    """
    m = len(concept)
    if m < 2:
        return np.full(m, np.nan)
    cosines = concept.astype(np.float64) @ concept.astype(np.float64).T
    return (cosines.sum(1) - np.diag(cosines)) / (m - 1)


def nearer(generated: np.ndarray, concept: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """[n, d], [m, d], [k, d] -> [n]: 1 where an image is nearer to some image that was trained on
    than to any held-out one.
    """
    images = generated.astype(np.float64)
    best = [(images @ others.astype(np.float64).T).max(1) for others in (concept, heldout)]
    return (best[0] > best[1]).astype(np.float64)


def kernel(features: np.ndarray) -> np.ndarray:
    """[n, d] -> [n, n] cosines, also of vectors that are not of length one."""
    wide = features.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def variety(features: np.ndarray) -> np.ndarray:
    """[n, d] -> [n]: the mean of 1 - cosine to the *others*; a lone image has none."""
    n = len(features)
    if n < 2:
        return np.full(n, np.nan)
    distances = np.maximum(1 - kernel(features), 0)  # rounding goes below zero
    return (distances.sum(1) - np.diag(distances)) / (n - 1)


def vendi(features: np.ndarray) -> float:
    """[n, d] -> exp of the entropy of the eigenvalues of K / n, K the cosines: 1 for images that
    are all the same, n for images that have nothing in common; a lone image has none.
    """
    n = len(features)
    if n < 2:
        return float("nan")
    shares = np.linalg.eigvalsh(kernel(features) / n)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def score_cell(
    model: Sees,
    cell: CellRow,
    pictures: Sequence[Image.Image],
    concepts: Sequence[np.ndarray],
    every: bool,
    cut: bool = False,
    unpaired: bool = False,
    heldout: np.ndarray | None = None,
) -> list[Row]:
    """A row an image, by a model of vectors; `concepts`: features of its concepts' images,
    `heldout`: of those of its one concept that no method sees.
    """
    refuse_others(cell, len(pictures))
    features = model.images(pictures)
    images = [image_similarity(features, concept) for concept in concepts]
    texts = (
        features.astype(np.float64) @ model.text(cell.text).astype(np.float64)
        if model.text
        else None
    )
    rows = cell_rows(cell, pictures, images, texts, every, cut, unpaired)
    measure(rows, features, concepts, heldout)
    return rows


def measure(
    rows: Sequence[Row],
    features: np.ndarray,
    concepts: Sequence[np.ndarray],
    heldout: np.ndarray | None,
) -> None:
    """Put measures beyond the protocol into the rows of a cell: of pictures beside each other where
    there are two; to held-out ones where there are any and where image similarity counts.
    """
    values = {}
    if len(rows) > 1:
        values = {VARIETY: variety(features), VENDI: np.full(len(rows), vendi(features))}
    for index, row in enumerate(rows):
        row |= {name: format_similarity(of[index]) for name, of in values.items()}
    if heldout is None or len(concepts) != 1:
        return
    values = {
        HELDOUT: image_similarity(features, heldout),
        NEARER: nearer(features, concepts[0], heldout),
    }
    for index, row in enumerate(rows):
        if row["image_sim"] != "":
            row |= {name: format_similarity(of[index]) for name, of in values.items()}


def refuse_others(cell: CellRow, there: int) -> None:
    """As many images as are planned, and no other number."""
    if there != len(cell.seeds):
        raise UserError(
            f"{cell.method}/{cell.concept}/{cell.prompt_id}: {there} images are there, "
            f"{len(cell.seeds)} are planned; give the same `perfbench run` command again"
        )


def cell_rows(
    cell: CellRow,
    pictures: Sequence[Image.Image],
    images: Sequence[np.ndarray],
    texts: np.ndarray | None,
    every: bool,
    cut: bool = False,
    unpaired: bool = False,
) -> list[Row]:
    """A row an image. `cell` has its seeds; `pictures`: none where they were not looked at;
    `images`: an array of scores [n] for each of its
    concepts, `texts`: one for its prompt; `every`: image similarity on all prompts, not only on
    the shape-preserving ones; `cut`: the text encoder did not read the prompt to its end;
    `unpaired`: drawn elsewhere, from other noise than the same index of other methods."""
    same = {
        name: getattr(cell, name)
        for name in ("key", "method", "point", "concept", "group", "prompt_id", "kind")
    }
    rows, flat = [], flat_ones(pictures) if len(pictures) else [False] * len(cell.seeds)
    for index, seed in enumerate(cell.seeds):
        row = {**same, "index": index, "seed": seed, "image_sim": "", "text_sim_raw": ""}
        if len(images) == 1 and (every or cell.kind != "deform"):
            row["image_sim"] = format_similarity(images[0][index])
        if texts is not None:
            row["text_sim_raw"] = format_similarity(texts[index])
        if len(images) == 2:
            row |= {
                "image_sim_a": format_similarity(images[0][index]),
                "image_sim_b": format_similarity(images[1][index]),
            }
        remarks = [CUT] * cut + [FLAT] * flat[index] + [UNPAIRED] * unpaired
        row |= {"remark": " ".join(remarks)} if remarks else {}
        rows.append(row)
    return rows


def score_real(
    key: str, concept: str, group: str, features: np.ndarray, heldout: np.ndarray | None = None
) -> list[Row]:
    """The ceiling's rows: real against real, without self pairs; and against held-out ones."""
    rows = real_rows(key, concept, group, ceiling(features))
    if heldout is not None:
        for row, value in zip(rows, image_similarity(features, heldout)):
            row[HELDOUT] = format_similarity(value)
    return rows


def real_rows(key: str, concept: str, group: str, values: np.ndarray) -> list[Row]:
    """A row for each of a concept's own images, NaN where there is nothing to compare it with."""
    same = {
        "key": key,
        "method": REAL,
        "point": "default",
        "concept": concept,
        "group": group,
        "prompt_id": "",
        "kind": REAL,
        "text_sim_raw": "",
    }
    return [
        {**same, "index": i, "seed": 0, "image_sim": format_similarity(value)}
        for i, value in enumerate(values)
    ]


def format_similarity(value: float) -> str:
    """Six decimals; empty where there is none."""
    return "" if np.isnan(value) else f"{value:.6f}"
