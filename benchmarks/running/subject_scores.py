"""Likeness of the subject alone (`image_sim_subject`), and whether it was found, in rows of a cell.

In: a run folder with masks of its concepts, a segmenter for what was drawn, scorers. Out: columns
in rows. The miniature's judge finds the thing in its pictures; elsewhere CLIPSeg does, where it was
asked for and draws the concept's own masks.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.digests import digest
from benchmarks.running.known_features import LazyScorer
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.measures import FOUND, SUBJECT
from benchmarks.scoring.read_pictures import ReadPictures, read_folder
from benchmarks.scoring.similarity import Row, ceiling, format_similarity, image_similarity
from benchmarks.scoring.subject_alone import (
    LEAST,
    SHOWN_FROM,
    cut_all,
    measured_of,
)
from benchmarks.store.run_folder import Store
from benchmarks.suite.concept_masks import model_digest

VERSION = 1  # of what is done with masks
JUDGES, CLIPSEG = "judges", "clipseg"


def usual_segmenter(place: Path) -> str:
    """The judges of a drawn world, where somebody measured that they find things in what its models
    draw; empty elsewhere."""
    if not (place / JUDGES).is_dir():
        return ""
    from benchmarks.miniature.training.judges import judges_digest

    iou = measured_of(judges_digest(place))
    return f"{JUDGES}:{place.resolve()}" if iou >= SHOWN_FROM else ""


class Segmenter:
    """Masks of pictures; opened when the first is wanted."""

    def __init__(self, named: str, device: str) -> None:
        self.kind, _, self.where = named.partition(":")
        self.device = device

    @cached_property
    def digest(self) -> str:
        from benchmarks.miniature.training.judges import judges_digest

        place = Path(self.where)
        made_by = judges_digest(place) if self.kind == JUDGES else model_digest(self.where)
        return digest([self.kind, made_by, VERSION, LEAST])

    @cached_property
    def _model(self) -> Any:
        if self.kind == JUDGES:
            from benchmarks.miniature.training.judges import open_judges

            return open_judges(Path(self.where), self.device)
        from perfusion_core.masks import open_clipseg

        return open_clipseg(self.where, self.device)

    def masks(self, pictures: Sequence[Image.Image], word: str) -> list[np.ndarray]:
        """bool [H, W] each. `word`: the kind of thing, for a model that reads."""
        if self.kind == JUDGES:
            return list(self._model.segment(np.stack([np.asarray(one) for one in pictures])))
        from perfusion_core.masks import soft_masks

        model, processor = self._model
        return [mask > 0.5 for mask in soft_masks(model, processor, pictures, word)]


class SubjectScores:
    """Of one worker. A concept without masks has no such columns."""

    def __init__(
        self, store: Store, segmenter: str, reported: str, device: str,
        lazy: Callable[[str], LazyScorer],
    ) -> None:  # fmt: skip
        """`reported`: the scorer whose rows tell what was found."""
        self.store, self.reported, self.lazy = store, reported, lazy
        self.segmenter = Segmenter(segmenter, device) if segmenter else None
        self._masks: dict[str, list[np.ndarray] | None] = {}
        self._real: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        self._cut: tuple[tuple[str, ...], list[Image.Image | None]] = ((), [])

    def add(self, rows: Sequence[Row], scorer: str, cell: CellRow, pictures: ReadPictures) -> None:
        """Into the rows of a cell whose image similarity counts."""
        counts = [row for row in rows if row["image_sim"] != ""]
        if self.segmenter is None or not counts or self.masks(cell) is None:
            return
        real, _ = self.real(scorer, cell.concept)
        if not len(real):
            return
        by, word = self.segmenter.digest, cell.super_category
        by = digest([by, word]) if self.segmenter.kind == CLIPSEG else by
        vectors, found = self.lazy(scorer).alone(
            pictures, by, lambda: self._cut_out(pictures, word)
        )
        values = image_similarity(vectors, real) if len(vectors) else np.empty(0)
        self._write(rows, scorer, found, values)

    def add_real(self, rows: Sequence[Row], scorer: str, concept: str) -> None:
        """The same of a concept's own pictures among themselves, by its masks. Of CLIPSeg it is not
        known here whether it may be used."""
        if self.segmenter is None or self.segmenter.kind == CLIPSEG or self._own(concept) is None:
            return
        real, found = self.real(scorer, concept)
        self._write(rows, scorer, found, ceiling(real))

    def _write(
        self, rows: Sequence[Row], scorer: str, found: np.ndarray, values: np.ndarray
    ) -> None:
        left = iter(values)
        for row, there in zip(rows, found, strict=True):
            value = format_similarity(next(left)) if there else ""
            row |= {SUBJECT: value, **({FOUND: int(there)} if scorer == self.reported else {})}

    def _cut_out(self, pictures: ReadPictures, word: str) -> list[Image.Image | None]:
        """Once for all scorers of a cell."""
        assert self.segmenter
        if self._cut[0] != pictures.digests:
            cut = cut_all(pictures, self.segmenter.masks(pictures, word))
            self._cut = pictures.digests, cut
        return self._cut[1]

    # ---- a concept's own ----

    def real(self, scorer: str, concept: str) -> tuple[np.ndarray, np.ndarray]:
        """Of its pictures, cut by its masks: vectors, and which have the thing."""
        if (scorer, concept) not in self._real:
            pictures, masks = read_folder(self.store.concept(concept)), self._own(concept) or []
            by = digest([VERSION, LEAST, self._mask_files(concept).digests])
            self._real[scorer, concept] = self.lazy(scorer).alone(
                pictures, by, lambda: cut_all(pictures, masks), "concept"
            )
        return self._real[scorer, concept]

    def masks(self, cell: CellRow) -> list[np.ndarray] | None:
        """The concept's own; None where it has none, or where CLIPSeg does not draw them."""
        if cell.concept not in self._masks:
            self._masks[cell.concept] = own = self._own(cell.concept)
            if own is not None and self.segmenter and self.segmenter.kind == CLIPSEG:
                pictures = read_folder(self.store.concept(cell.concept))
                drawn = self.segmenter.masks(pictures, cell.super_category)
                iou = float(np.mean([overlap(a, b) for a, b in zip(drawn, own)]))
                if iou < SHOWN_FROM:
                    self._masks[cell.concept] = None
                    print(
                        f"perfbench: no {SUBJECT} of {cell.concept}: CLIPSeg has {iou:.2f} "
                        f"intersection over union with its own masks, and {SHOWN_FROM} are needed",
                        file=sys.stderr,
                    )
        return self._masks[cell.concept]

    def _own(self, concept: str) -> list[np.ndarray] | None:
        found = self._mask_files(concept)
        many = len(read_folder(self.store.concept(concept)))
        if "+" in concept or not many or len(found) != many:
            return None
        return [np.asarray(mask.convert("L")) > 127 for mask in found]

    def _mask_files(self, concept: str) -> ReadPictures:
        return read_folder(self.store.concept(concept) / "masks")


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union; two empty masks are alike."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
