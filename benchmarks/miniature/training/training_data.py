"""Training pictures on disk: shards of images, labels and captions, rendered once by several
processes.

In: a folder and how many shards; out: memory-mapped arrays. A shard is done when its last file is
in place.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.disk import written_whole
from benchmarks.miniature.world.effects import MATERIALS, STATES, STYLES
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import CLASSES, PIXELS, Picture, draw_random, render
from benchmarks.miniature.world.props import DO, WEAR
from benchmarks.miniature.world.scenes import SCENES

CAPTIONS = 4  # ways of saying each picture; the last one leaves the object's word out
FACTORS: dict[str, tuple[str, ...]] = {
    "cls": CLASSES,
    "scene": tuple(SCENES),
    "wear": ("none", *WEAR),
    "do": ("none", *DO),
    "state": ("none", *STATES),
    "material": ("none", *MATERIALS),
    "style": ("none", *STYLES),
    "other": ("none", *CLASSES),
}


def labels(picture: Picture) -> list[int]:
    """The picture's factors as indices into FACTORS."""
    values = {
        "cls": picture.one.cls,
        "scene": picture.scene,
        "wear": picture.wear,
        "do": picture.do,
        "state": picture.state,
        "material": picture.material,
        "style": picture.style,
        "other": picture.other.cls if picture.other else None,
    }
    return [FACTORS[name].index(value or "none") for name, value in values.items()]


def render_shard(folder: Path, number: int, size: int, pool: str = "pool") -> None:
    """Pictures with labels and captions; neighbours (2k, 2k + 1) show one instance twice."""
    done = folder / f"{number:04d}.labels.npy"
    if done.exists():
        return
    rng = stream("shard", pool, number)
    images = np.empty((size, PIXELS, PIXELS, 3), dtype=np.uint8)
    table = np.empty((size, len(FACTORS)), dtype=np.int16)
    texts = []
    picture = None
    for k in range(size):
        picture = draw_random(rng, pool, one=picture.one if k % 2 and picture else None)
        images[k] = render(picture, ("train", pool, number, k))[0]
        table[k] = labels(picture)
        texts += [caption(picture, rng, drop=float(c == CAPTIONS - 1)) for c in range(CAPTIONS)]
    np.save(folder / f"{number:04d}.images.npy", images)
    (folder / f"{number:04d}.captions.txt").write_text("\n".join(texts))
    write_array(done, table)


def render_all(
    folder: Path,
    shards: int,
    workers: int,
    size: int = 10_000,
    pool: str = "pool",
    *,
    render: Callable[[Path, int, int, str], None] = render_shard,
    what: str = "render",
) -> None:
    """Render what is missing: shards of pictures for the models or, by their own `render`, for the
    judges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(shards) if not (folder / f"{k:04d}.labels.npy").exists()]
    if not todo:
        return
    with ProcessPoolExecutor(workers) as processes:
        jobs = processes.map(render, *zip(*[(folder, k, size, pool) for k in todo]))
        list(tqdm(jobs, total=len(todo), desc=what, unit="shard"))


def write_array(path: Path, array: np.ndarray) -> None:
    """Whole or not there."""
    with written_whole(path) as aside, aside.open("wb") as stream:
        np.save(stream, array)


class Rows:
    """Shards of one array as one, by index. On a GPU they lie there whole; else they are read off
    the disk by row.
    """

    def __init__(self, parts: list[np.ndarray], device: torch.device):
        self.parts, self.device = parts, device
        self.starts = np.cumsum([0, *map(len, parts)])
        self.whole: torch.Tensor | None = None
        if device.type == "cuda":
            kind = torch.from_numpy(parts[0][:1].copy()).dtype
            self.whole = torch.empty((len(self), *parts[0].shape[1:]), dtype=kind, device=device)
            for start, part in zip(self.starts, parts):
                self.whole[start : start + len(part)] = torch.from_numpy(np.array(part)).to(device)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __call__(self, index: np.ndarray) -> torch.Tensor:
        if self.whole is not None:
            return self.whole[to_device(index, self.device)]
        shard = np.searchsorted(self.starts, index, side="right") - 1
        return torch.from_numpy(
            np.stack([self.parts[s][i] for s, i in zip(shard, index - self.starts[shard])])
        )


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A small array on its way to a model; a GPU does not wait for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class Pictures:
    """All shards of a folder as one sequence."""

    def __init__(self, folder: Path, shards: int):
        self.images = [
            np.load(folder / f"{k:04d}.images.npy", mmap_mode="r") for k in range(shards)
        ]
        self.labels = np.concatenate(
            [np.load(folder / f"{k:04d}.labels.npy") for k in range(shards)]
        )
        self.texts = [
            line
            for k in range(shards)
            for line in (folder / f"{k:04d}.captions.txt").read_text().split("\n")
        ]

    def __len__(self) -> int:
        return len(self.labels)
