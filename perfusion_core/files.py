"""Safetensors files written whole and with the same bytes every time: tensors and strings in, a
file out.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save


def to_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """safetensors itself writes the metadata in an order that changes from run to run; here it
    stays as given.
    """
    whole = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    length = int.from_bytes(whole[:8], "little")
    header = json.dumps(
        {"__metadata__": dict(metadata)} | json.loads(whole[8 : 8 + length]), separators=(",", ":")
    )
    padded = header.encode() + b" " * (-len(header.encode()) % 8)
    return len(padded).to_bytes(8, "little") + padded + whole[8 + length :]


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Aside first, then renamed: a file that is there is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        stream.write(to_bytes(tensors, metadata))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, path)
