"""The miniature's models opened, and prompts drawn by them.

In: a folder of weights, a device, a dtype; prompts and seeds. Out: a backbone; pictures [n, 64, 64,
3].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.devices import device_name
from perfusion_core.backbone import Backbone
from perfusion_core.sampling import sample


def opened(weights: Path, device: str, dtype: str) -> Backbone:
    kind = None if dtype == "auto" else dtype
    return Backbone.open(
        "miniature", device=device_name(device), dtype=kind, names={"miniature": weights}
    )


def drawn(
    backbone: Backbone, texts: Sequence[str], seeds: Sequence[int], batch: int = 8
) -> np.ndarray:
    """50 guided steps, as the protocol has it."""
    parts = [
        sample(backbone, texts[k : k + batch], seeds[k : k + batch])
        for k in range(0, len(texts), batch)
    ]
    return np.concatenate(parts)
