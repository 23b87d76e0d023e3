"""What scripts and notebooks may rely on: four functions and their types.

    measure(images, references, prompts)      numbers of pictures that are there
    open_run(path)                            a run's samples, cells, metrics and table as frames
    compare(a, b, by=("concept", "prompt"))   which of two is ahead, by how much, how sure
    import_pictures(pictures, name, out)      pictures made elsewhere become a method of a run

A mistake in what is given is a `UserError` of one sentence. docs/api.md has the page.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.exchange.importing import Imported, import_pictures
from benchmarks.running.measure import Measured, Picture, pictures_of
from benchmarks.running.measure import measure as _measure
from benchmarks.store.reading import find_run, read_run
from benchmarks.tables.comparing import Comparison, read_scores
from benchmarks.tables.comparing import compare as _compare
from benchmarks.tables.derived import read_table
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

__all__ = [
    "Comparison",
    "Imported",
    "Interval",
    "Measured",
    "OpenedRun",
    "UserError",
    "compare",
    "import_pictures",
    "measure",
    "open_run",
]

PathLike = str | os.PathLike[str]
Images = PathLike | Picture | Sequence[PathLike | Picture]


def measure(
    images: Images,
    references: Images | None = (),
    prompts: str | Sequence[str] | None = (),
    *,
    word: str = "",
    scorers: str | Sequence[str] | None = (),
    device: str = "auto",
    limit: int = 0,
    cache: bool = True,
) -> list[Measured]:
    """Likeness to `references` and to `prompts` (`{}` stands for the thing), an answer a scorer.

    Images are files, folders, Pillow images or arrays uint8 [H, W, 3]. One prompt is of all images,
    several are of one each. `word` is the word for the thing's kind. Without `scorers`, OpenAI's
    CLIP ViT-B/32 is fetched; "miniature" needs no download. `limit`: calls that judges
    (`judge:URL#MODEL`) may send, all together; without it none is sent. `cache=False`: take
    nothing that a scorer made of the same images before, and keep nothing.

    >>> import numpy as np
    >>> grey = [np.full((64, 64, 3), value, np.uint8) for value in (90, 110)]
    >>> [answer] = measure(grey, references=grey[:1], scorers=["miniature"])
    >>> round(answer.each[0]["image_sim"], 3)
    1.0
    >>> answer.ceiling is None  # one reference has no other to be compared with
    True
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts or ())
    named = [scorers] if isinstance(scorers, str) else list(scorers or ())
    found, real = given_images(images, "images"), given_images(references, "references")
    if limit < 0:
        raise UserError(f"measure: limit {limit} is below 0; give how many calls judges may send")
    if not found:
        raise UserError("measure: no images were given")
    if not real and not texts:
        raise UserError("measure: nothing to compare with; give references, prompts, or both")
    return _measure(found, real, texts, word, named, device, limit, cache)


def given_images(given: Images | None, what: str) -> list[Picture]:
    """Files and the pictures of folders by name; what lies in memory as it is."""
    if given is None:
        return []
    if isinstance(given, str | os.PathLike | Image.Image):
        given = [given]
    if isinstance(given, np.ndarray) and given.ndim == 3:
        given = [given]
    found: list[Picture] = []
    for one in given:
        if isinstance(one, str | os.PathLike):
            found += pictures_of([os.fspath(one)], f"measure: {what}")
        else:
            found.append(one)
    return found


# ---- runs ----


@dataclass(frozen=True)
class OpenedRun:
    """A run folder; each frame is read once, when it is asked for."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @cached_property
    def about(self) -> dict[str, Any]:
        """run.json: what was asked, of what, with which versions."""
        return read_run(self.folder)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row an image: method, point, concept, prompt_id, kind, index, seed, its scores."""
        return sample_rows(self.folder)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a cell and metric: n, mean, sd."""
        return read_table(self.folder, "cells")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row a method, point and concept."""
        return read_table(self.folder, "metrics")

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a method and point, with 95 % intervals."""
        return read_table(self.folder, "table")


def open_run(path: PathLike | None = None) -> OpenedRun:
    """A run by its folder or its name under results/; without one the newest.

    >>> run = open_run("results/miniature-quick")
    >>> sorted(run.table["kind"].unique())
    ['best-h', 'ceiling', 'floor', 'method']
    >>> open_run("results/nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    perfusion_core.errors.UserError: results/nowhere is not a run folder: ...
    """
    return OpenedRun(find_run(os.fspath(path) if path is not None else None))


# ---- comparing ----


def compare(
    a: pd.DataFrame | PathLike,
    b: pd.DataFrame | PathLike,
    by: Sequence[str] = ("concept", "prompt"),
    *,
    score: str = "image_sim",
    margin: float | None = None,
) -> Comparison:
    """A less B in a column where higher is better, paired by the columns `by`.

    `a` and `b` are frames, files (CSV, TSV, JSON, JSON lines, parquet) or operating points of runs
    (RUN::METHOD/POINT). The first column of `by` is what was replicated; intervals are over it.
    In a run's rows, "prompt" means prompt_id. With `margin`: are they the same within it?

    >>> import pandas as pd
    >>> rows = [(c, p, 0.5 + 0.1 * c) for c in range(4) for p in range(3)]
    >>> ours = pd.DataFrame(rows, columns=["concept", "prompt", "image_sim"])
    >>> theirs = ours.assign(image_sim=ours["image_sim"] - 0.2)
    >>> found = compare(ours, theirs)
    >>> round(found.difference.value, 3), found.clusters, found.verdict
    (0.2, 4, 'A is ahead')
    """
    columns = [by] if isinstance(by, str) else list(by)
    frames = [
        one if isinstance(one, pd.DataFrame) else read_scores(os.fspath(one)) for one in (a, b)
    ]
    return _compare(frames[0], frames[1], score, columns, margin)
