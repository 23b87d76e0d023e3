"""What scorers made of pictures and texts before: kept in the cache of this user, so that a second
look costs no second pass.

In: a scorer, pictures with their digests, a cache. Out: the scorer's vectors, the same to the last
bit as without the cache; its weights are opened when something is not known.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.digests import digest
from benchmarks.running.shared_units import calculating
from benchmarks.scoring.lookup import PICTURES_ONLY, Scorer
from benchmarks.scoring.read_pictures import ReadPictures
from benchmarks.scoring.scorers import Model, of_concept, open_scorer
from benchmarks.store.unit_cache import UnitCache, key_of, unit_cache
from perfusion_core.errors import UserError

FEATURES = "features"  # a kind of the cache: the vectors of a cell's pictures, or of a text
FILE = "features.npy"  # float32
# what of the installation takes part in a vector: another version makes other low bits
LIBRARIES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "numpy", "pillow")
SOURCES = (
    "scoring/scorers.py",
    "scoring/clip_folder.py",
    "scoring/clip_networks.py",
    "scoring/read_pictures.py",
    "scoring/subject_alone.py",
    "scoring/truth.py",
    "miniature/training/judges.py",
)


class CannotOpen(UserError):
    """Without this scorer nothing can be scored."""


class KnownFeatures:
    """Vectors in the cache. An entry holds what one pass saw: beside other pictures, the low bits
    of a vector may be others."""

    def __init__(self, cache: UnitCache, device: str) -> None:
        self.cache, self.device = cache, device

    @cached_property
    def circumstances(self) -> str:
        """One digest of what calculates: libraries, processor, threads, and the code above."""
        about = calculating(self.device)
        about["libraries"] = {name: installed(name) for name in LIBRARIES}
        room = Path(__file__).parent.parent
        about["sources"] = [
            hashlib.sha256((room / name).read_bytes()).hexdigest() for name in SOURCES
        ]
        return digest(about)

    def get(self, of: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]] | None:
        """The vectors, and what was told of them; a damaged entry is as good as none."""
        found = self.cache.read(key_of(FEATURES, {**of, "by": self.circumstances}))
        if found is None:
            return None
        about, files = found
        try:
            return np.load(io.BytesIO(files[FILE]), allow_pickle=False), about
        except (KeyError, ValueError, OSError, EOFError):
            return None

    def put(self, of: dict[str, Any], vectors: np.ndarray, **about: Any) -> None:
        small = vectors.astype(np.float32)
        if not np.array_equal(small, vectors, equal_nan=True):
            return  # another precision is not what a scorer said
        content = io.BytesIO()
        np.save(content, small, allow_pickle=False)
        files = {FILE: content.getvalue()}
        self.cache.put_bytes(FEATURES, {**of, "by": self.circumstances}, files, about)


def known_features(cache: str, device: str) -> KnownFeatures:
    """`cache`: as the configuration has it; `none` takes and keeps nothing."""
    found = unit_cache()
    return KnownFeatures(found if cache != "none" else UnitCache(found.root, 0), device)


class LazyScorer:
    """A scorer as `score_cell` wants one, opened at the first picture or text that nobody knows."""

    def __init__(self, scorer: Scorer, device: str, known: KnownFeatures) -> None:
        self.scorer, self.device, self.known = scorer, device, known
        self._texts: dict[str, np.ndarray] = {}
        # whatever a run calls it
        self._name = f"{scorer.kind}-{digest([scorer.kind, scorer.weights, scorer.preprocessing])}"

    @cached_property
    def model(self) -> Model:
        try:
            return open_scorer(self.scorer, self.device)
        except UserError as error:
            raise CannotOpen(str(error)) from error

    @property
    def text(self) -> Any:
        """None where texts are nothing to it."""
        if self.scorer.kind in PICTURES_ONLY:
            return None
        # what the truth says of a text rests on the prompts, too
        return self._text if self.scorer.kind == "clip" else self.model.text

    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d]"""
        return self._vectors(pictures, "picture")

    def concept(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d]: the pictures that generated ones are compared with."""
        return self._vectors(pictures, "concept")

    def _vectors(self, pictures: Sequence[Image.Image], role: str) -> np.ndarray:
        if not isinstance(pictures, ReadPictures):
            return self._seen(pictures, role)
        of = self._of(**{role: list(pictures.digests)})
        if found := self.known.get(of):
            vectors, about = found
            if len(vectors) == len(pictures) == len(about.get("flat", ())):
                pictures.flat = tuple(map(bool, about["flat"]))
                return vectors
        vectors = self._seen(pictures, role)
        self.known.put(of, vectors, flat=list(pictures.flat))
        return vectors

    def _seen(self, pictures: Sequence[Image.Image], role: str) -> np.ndarray:
        see = self.model.images if role == "picture" else lambda some: of_concept(self.model, some)
        return see(pictures)

    def named(self, digests: Sequence[str], read: Callable[[], list[Image.Image]]) -> np.ndarray:
        """[n, d] of pictures that are read only if somebody has to look at them. They have a name
        of their own: whoever reads them may turn or flatten them as a run does not."""
        of = self._of(named=list(digests))
        if (found := self.known.get(of)) and len(found[0]) == len(digests):
            return found[0]
        vectors = self._seen(read(), "picture")
        self.known.put(of, vectors)
        return vectors

    def alone(
        self,
        pictures: ReadPictures,
        by: str,
        cut: Callable[[], list[Image.Image | None]],
        role: str = "picture",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the things that `cut` makes of pictures: [k, d], and which of the pictures have one,
        bool [n]. `by`: the digest of what cuts. `role`: `concept` of a concept's own."""
        of = self._of(**{f"{role} alone": list(pictures.digests)}, cut=by)
        if known := self.known.get(of):
            vectors, there = known[0], np.array(known[1].get("found", ()), dtype=bool)
            if len(there) == len(pictures) and len(vectors) == there.sum():
                return vectors, there
        things = cut()
        there = np.array([one is not None for one in things], dtype=bool)
        found = [one for one in things if one is not None]
        vectors = self._seen(found, role) if found else np.empty((0, 1), dtype=np.float32)
        self.known.put(of, vectors, found=[int(one) for one in there])
        return vectors, there

    def _text(self, text: str) -> np.ndarray:
        """[d]; each text once a process."""
        if text not in self._texts:
            of = self._of(text=digest(text))
            found = self.known.get(of)
            self._texts[text] = vector = found[0] if found else self._read(text)
            if not found:
                self.known.put(of, vector)
        return self._texts[text]

    def _read(self, text: str) -> np.ndarray:
        assert self.model.text, f"{self.scorer.name} reads no text"
        return self.model.text(text)

    def _of(self, **what: Any) -> dict[str, Any]:
        return {"model": self._name[: self._name.index("-") + 9], "scorer": self._name, **what}


def installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
