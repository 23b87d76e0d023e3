"""Training pictures on disk: shards of images, labels and captions, rendered once by several processes.

In: a folder and how many shards; out: memory-mapped arrays. A shard is done when its last file is in place.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.miniature.captions import caption
from benchmarks.miniature.effects import MATERIALS, STATES, STYLES
from benchmarks.miniature.instance import stream
from benchmarks.miniature.props import DO, WEAR
from benchmarks.miniature.scenes import SCENES
from benchmarks.miniature.world import CLASSES, PIXELS, Picture, draw_random, render

SHARD = 10_000
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
        "cls": picture.one.cls, "scene": picture.scene, "wear": picture.wear, "do": picture.do, "state": picture.state,
        "material": picture.material, "style": picture.style, "other": picture.other.cls if picture.other else None,
    }  # fmt: skip
    return [FACTORS[name].index(value or "none") for name, value in values.items()]


def render_shard(folder: Path, number: int, pool: str = "pool") -> None:
    """SHARD pictures; neighbours (2k, 2k + 1) show one instance twice."""
    done = folder / f"{number:04d}.labels.npy"
    if done.exists():
        return
    rng = stream("shard", pool, number)
    images = np.empty((SHARD, PIXELS, PIXELS, 3), dtype=np.uint8)
    table = np.empty((SHARD, len(FACTORS)), dtype=np.int16)
    texts = []
    picture = None
    for k in range(SHARD):
        picture = draw_random(rng, pool, one=picture.one if k % 2 and picture else None)
        images[k] = render(picture, ("train", pool, number, k))[0]
        table[k] = labels(picture)
        texts += [caption(picture, rng, drop=float(c == CAPTIONS - 1)) for c in range(CAPTIONS)]
    np.save(folder / f"{number:04d}.images.npy", images)
    (folder / f"{number:04d}.captions.txt").write_text("\n".join(texts))
    part = folder / f"{number:04d}.labels.part.npy"
    np.save(part, table)
    os.replace(part, done)


def render_all(folder: Path, shards: int, workers: int, pool: str = "pool") -> None:
    """Render what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(shards) if not (folder / f"{k:04d}.labels.npy").exists()]
    if not todo:
        return
    from tqdm import tqdm

    with ProcessPoolExecutor(workers) as processes:
        list(tqdm(processes.map(render_shard, [folder] * len(todo), todo, [pool] * len(todo)), total=len(todo), desc="render", unit="shard"))


class Pictures:
    """All shards of a folder as one sequence."""

    def __init__(self, folder: Path, shards: int):
        self.images = [np.load(folder / f"{k:04d}.images.npy", mmap_mode="r") for k in range(shards)]
        self.labels = np.concatenate([np.load(folder / f"{k:04d}.labels.npy") for k in range(shards)])
        self.texts = [line for k in range(shards) for line in (folder / f"{k:04d}.captions.txt").read_text().split("\n")]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: np.ndarray) -> np.ndarray:
        """uint8 [n, 64, 64, 3] of the pictures at `index`."""
        return np.stack([self.images[i // SHARD][i % SHARD] for i in index])
