"""C of a text encoder: the uncentred covariance of its encodings over captions. Estimate, store,
find, invert.

In: a backbone and a stream of captions. Out: a safetensors file of 8 d^2 bytes that belongs to the
text encoder.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from perfusion_core.errors import MissingCovariance, UserError
from perfusion_core.files import write_tensors
from perfusion_core.hub import first_line
from perfusion_core.places import COVARIANCE as FILE
from perfusion_core.places import cached

FORMAT = "perfbench-covariance-1"
CONDITION = 1e4  # where C's is larger, the smallest lambda I that brings it down is added
COLUMNS = ("caption", "text", "TEXT", "prompt", "sentence")
READERS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Covariance:
    total: torch.Tensor  # float64 [d, d], sum of e e^T
    tokens: int
    captions: int
    digest: str  # of the text encoder
    source: str

    @property
    def matrix(self) -> torch.Tensor:
        return self.total / self.tokens


def inverse(c: torch.Tensor) -> tuple[torch.Tensor, float]:
    """-> (C + lambda I)^-1 in float64, and lambda."""
    values, vectors = torch.linalg.eigh(c.double())
    least, most = float(values[0]), float(values[-1])
    shrink = max(0.0, (most - CONDITION * least) / (CONDITION - 1))
    return (vectors / (values + shrink)) @ vectors.T, shrink


# Where it lies


def home(place: Path, digest: str, fetched: bool) -> Path:
    """Beside a folder that is the user's own and can be written; the cache for hub checkpoints and
    single files.
    """
    own = place.is_dir() and not fetched and os.access(place, os.W_OK)
    return place / FILE if own else cached(digest)


def lookup_covariance(digest: str, places: Sequence[Path], name: str) -> Covariance:
    """The C of this text encoder, from a backbone's folder or the cache; never another's."""
    found = [
        path for path in [*(place / FILE for place in places), cached(digest)] if path.is_file()
    ]
    for path in found:
        covariance = read_covariance(path)
        if covariance.digest == digest:
            return covariance
    other = " (the one beside it belongs to another text encoder)" if found else ""
    raise MissingCovariance(f"there is no covariance for the text encoder of {name}{other}", name)


def write_covariance(covariance: Covariance, path: Path) -> None:
    """Whole or not at all."""
    meta = {"format": FORMAT, "digest": covariance.digest, "source": covariance.source}
    meta |= {"tokens": str(covariance.tokens), "captions": str(covariance.captions)}
    write_tensors(path, {"sum": covariance.total}, meta)


def read_covariance(path: Path) -> Covariance:
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise UserError(
                    f"{path} is not a covariance that this version reads (format "
                    f"{meta.get('format')!r}); make it again"
                )
            total = file.get_tensor("sum")
    except (SafetensorError, OSError) as error:
        raise MissingCovariance(f"{path} is damaged or not a covariance") from error
    return Covariance(
        total, int(meta["tokens"]), int(meta["captions"]), meta["digest"], meta["source"]
    )


# Estimating it


@torch.no_grad()
def estimate(
    backbone: Any,
    captions: Iterable[str],
    path: Path,
    *,
    source: str,
    limit: int = 100_000,
    batch: int = 64,
    every: int = 100,
    progress: Callable[[int], None] = lambda done: None,
) -> Covariance:
    """In float64, over BOS..EOS tokens only, from the output that the U-Net reads; resumes from
    `path`.part.
    """
    part = path.with_name(f"{path.name}.part")
    sofar = start(backbone, part, source)
    stream = islice(captions, sofar.captions, limit)
    progress(sofar.captions)
    for number, texts in enumerate(iter(lambda: list(islice(stream, batch)), []), start=1):
        real = real_encodings(backbone, texts)
        sofar = Covariance(
            sofar.total + (real.T @ real).cpu(),
            sofar.tokens + len(real),
            sofar.captions + len(texts),
            sofar.digest,
            source,
        )
        progress(len(texts))
        if number % every == 0:
            write_covariance(sofar, part)
    if sofar.tokens < 2 * len(sofar.total):
        raise UserError(
            f"{sofar.captions} captions from {source} are too few for a covariance of "
            f"{len(sofar.total)} numbers a side; give more captions"
        )
    write_covariance(sofar, path)
    part.unlink(missing_ok=True)
    return sofar


def real_encodings(backbone: Any, texts: Sequence[str]) -> torch.Tensor:
    """Of all tokens but the padding, float64 [tokens, d]."""
    if backbone.text.behind:
        found = backbone.text.encode(texts, {})
        real: torch.Tensor = found.encodings[found.mask.bool()].double()
        return real
    inputs = backbone.tokenizer(
        texts,
        padding="max_length",
        max_length=backbone.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    encodings = read_by_all(backbone, texts, inputs.input_ids)
    return encodings[inputs.attention_mask.bool().to(backbone.device)].double()


def read_by_all(backbone: Any, texts: Sequence[str], ids: torch.Tensor) -> torch.Tensor:
    """[n, M, d] as the U-Net sees it; one encoder reads the ids that are there already."""
    if backbone.text.joint:
        return backbone.encode(list(texts))
    return backbone.text_encoder(ids.to(backbone.device))[0]


def start(backbone: Any, part: Path, source: str) -> Covariance:
    if part.is_file():
        sofar = read_covariance(part)
        if (sofar.digest, sofar.source) == (backbone.text_digest, source):
            return sofar
    width = backbone.text.width
    return Covariance(
        torch.zeros(width, width, dtype=torch.float64), 0, 0, backbone.text_digest, source
    )


def read_captions(source: str, column: str | None = None, part: str = "train") -> Iterator[str]:
    """A text, csv, jsonl or parquet file, or a hub data set, streamed."""
    from datasets import load_dataset

    path = Path(source)
    if path.is_file():
        if path.suffix not in READERS:
            raise UserError(
                f"{source}: captions come from {', '.join(READERS)} files or a hub data set"
            )
        rows = load_dataset(READERS[path.suffix], data_files=source, split="train", streaming=True)
    else:
        from datasets.exceptions import DatasetNotFoundError

        try:
            rows = load_dataset(source, split=part, streaming=True)
        # the last: its split
        except (DatasetNotFoundError, FileNotFoundError, ConnectionError, ValueError) as error:
            raise UserError(
                f"{source} is neither a file nor a data set that can be fetched "
                f"({first_line(error)}); "
                "give --captions a file or a hub id"
            ) from error
    for number, row in enumerate(rows):
        if number == 0:
            column = pick_column(row, column, source)
        caption = row[column]
        if not isinstance(caption, str | None):
            raise UserError(
                f"the column {column} of {source} holds no texts but {type(caption).__name__}; "
                f"give --column one of: {', '.join(row)}"
            )
        if caption and not caption.isspace():
            yield caption


def pick_column(row: dict[str, Any], column: str | None, source: str) -> str:
    options = (
        [column]
        if column
        else [name for name in COLUMNS if name in row] or list(row)[: len(row) == 1]
    )
    if not options or options[0] not in row:
        raise UserError(
            f"which column of {source} holds the captions? give --column one of: {', '.join(row)}"
        )
    return options[0]
