"""Names for weights: of a backbone's files on disk, and of a text encoder in memory whatever its dtype.

In: a folder, or a model. Out: 16 hexadecimal digits. Imports no torch, so that plans can be made without it.
"""

import hashlib
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from perfusion_core.hub import used

_digests: WeakKeyDictionary[Any, tuple[list[Any], str]] = WeakKeyDictionary()  # until a weight is written to


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def backbone_digest(place: Path) -> str:
    """Of all files that decide what a backbone draws; `place`: a folder in diffusers layout, or one file."""
    if place.is_file():
        beside = place.with_suffix(".yaml")  # says what the U-Net predicts (single_file.py)
        more = [file_sha256(beside)] if beside.is_file() else []
        parts = "".join([file_sha256(place), *more])
        return hashlib.sha256(parts.encode()).hexdigest()[:16] if more else parts[:16]
    total = hashlib.sha256()
    paths = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
    for name in used(path.as_posix() for path in paths):  # in the order of their names, model_index.json first
        total.update(f"{name} {file_sha256(place / name)}\n".encode())
    return total.hexdigest()[:16]


def text_digest(text_encoder: Any) -> str:
    """Of a text encoder's weights, by their signs.

    Signs survive rounding to half precision, so a checkpoint has one digest in every dtype; any training flips some.
    """
    import numpy as np

    stamp = [(weight.data_ptr(), weight._version, weight.dtype) for weight in text_encoder.parameters()]
    if text_encoder in _digests and _digests[text_encoder][0] == stamp:
        return _digests[text_encoder][1]
    total = hashlib.sha256(text_shape(text_encoder).encode())
    named = ((name.removeprefix("text_model."), weight) for name, weight in text_encoder.named_parameters())
    for name, weight in sorted(named):
        total.update(f"{name} {tuple(weight.shape)}".encode())
        total.update(np.packbits(weight.detach().signbit().cpu().numpy()).tobytes())
    _digests[text_encoder] = stamp, total.hexdigest()[:16]
    return _digests[text_encoder][1]


def text_shape(text_encoder: Any) -> str:
    """What has to agree for a concept to fit: vocabulary x width x layers, and the output that the U-Net reads."""
    config = text_encoder.config
    return f"{config.vocab_size}x{config.hidden_size}x{config.num_hidden_layers}:last_hidden_state"
