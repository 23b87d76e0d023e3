"""The pictures of a folder as scorers want them: their digests at once, their pixels once, and only
if somebody looks at them.

In: files. Out: a sequence of RGB pictures with digests. What is decoded is what the digest is of.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.suite.image_files import is_flat, numbered


class ReadPictures(Sequence[Image.Image]):
    """Files read once; each decoded at most once, whoever asks."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._bytes = [path.read_bytes() for path in paths]
        self.digests = tuple(hashlib.sha256(content).hexdigest() for content in self._bytes)

    @cached_property
    def _decoded(self) -> list[Image.Image]:
        pictures = []
        for content in self._bytes:
            with Image.open(io.BytesIO(content)) as image:
                pictures.append(image.convert("RGB"))
        return pictures

    @cached_property
    def flat(self) -> tuple[bool, ...]:
        """Which of them are of one colour; may be told by who knew them."""
        return tuple(map(is_flat, self._decoded))

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: Any) -> Any:
        return self._decoded[index]


def read_folder(folder: Path) -> ReadPictures:
    """`0.png`, `1.png`, ... in order."""
    return ReadPictures(numbered(folder))


def flat_ones(pictures: Sequence[Image.Image]) -> Sequence[bool]:
    """Which are of one colour."""
    return pictures.flat if isinstance(pictures, ReadPictures) else list(map(is_flat, pictures))
