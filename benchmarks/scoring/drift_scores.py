"""How far pictures moved from what the plain backbone draws of the same prompt and noise.

In: pictures of a cell and those of the plain backbone, a scorer of vectors. Out: a row a picture
with `drift`, of the class word `drift_class` (1 - cosine of the scorer's features), and
`drift_pixels` (root mean square difference, colours from 0 to 1).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.similarity import cell_rows, format_similarity, refuse_others
from perfusion_core.errors import UserError


def moved_features(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n, d] twice -> [n]: 1 - cosine, as half the squared distance of unit vectors: exactly 0 for
    equal features, and never below."""
    units = [_unit(features) for features in (one, other)]
    return ((units[0] - units[1]) ** 2).sum(1) / 2


def moved_pixels(one: Image.Image, other: Image.Image) -> float:
    """Root mean square over pixels and colours, which are from 0 to 1."""
    first, second = (np.asarray(picture, dtype=np.float64) / 255 for picture in (one, other))
    return float(np.sqrt(((first - second) ** 2).mean()))


def drift_rows(
    cell: CellRow,
    pictures: Sequence[Image.Image],
    plain: Sequence[Image.Image],
    features: tuple[np.ndarray, np.ndarray] | None,
    cut: bool = False,
) -> list[dict[str, Any]]:
    """A row a picture; `features` of both, [n, d] each: None where the scorer is no model of
    vectors, and says nothing of drift."""
    refuse_others(cell, len(pictures))
    if len(plain) != len(pictures) or any(a.size != b.size for a, b in zip(pictures, plain)):
        raise UserError(
            f"{cell.method}/{cell.concept}/{cell.prompt_id}: the plain backbone's pictures of this "
            f"prompt are not those that were planned; give the same `perfbench run` command again"
        )
    none = np.full(len(pictures), np.nan)
    far = none if features is None else moved_features(*features)
    beside = none if features is None else map(moved_pixels, pictures, plain)
    rows = cell_rows(cell, pictures, (), None, False, cut)
    return [
        {**row, cell.kind: format_similarity(d), "drift_pixels": format_similarity(p)}
        for row, d, p in zip(rows, far, beside)
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1.0)
