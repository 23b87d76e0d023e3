"""Photographs of the training pictures: cut to another shape and made smaller, then brought to the
side that the models see, as people's photographs are. XL's U-Net is told what was done to them.

In: a workshop, a VAE. Out: `Photographs`, latents with height, width and cut of each, in shards on
disk; six numbers that tell of each picture of a batch.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.disk import written_whole
from benchmarks.miniature.training.vae import codes_of
from benchmarks.miniature.training.workshop import Paused, Workshop
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.picture import PIXELS

MANY, SHARD = 40_000, 4_000  # the first pictures of training, each taken once
LEAST = PIXELS // 2  # pixels of the side that is cut off
FEWEST = 20  # pixels of the short side of what was made smaller
LARGEST = 2048  # pixels of what was larger than the models see, and scaled down
LARGER = 0.15  # of the whole pictures, the share that is told as such a one
SHARE = 0.2  # of a batch: photographs


@dataclass(frozen=True)
class Photographs:
    """Picture k of training, taken as a photograph."""

    codes: np.ndarray  # latents, float16 [n, 4, 16, 16]
    frames: np.ndarray  # original height and width, top and left of the cut, int16 [n, 4]

    def __len__(self) -> int:
        return len(self.frames)


def photograph(pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A picture uint8 [64, 64, 3], of which a side was cut, or which was made smaller, or both."""
    cut, shrink = [(True, False), (False, True), (True, True)][rng.integers(3)]
    sides = [PIXELS, PIXELS]
    if cut:
        sides[rng.integers(2)] = int(rng.integers(LEAST, PIXELS))
    high, wide = sides
    top, left = (int(rng.integers(PIXELS - side + 1)) for side in sides)
    image = Image.fromarray(pixels[top : top + high, left : left + wide])
    if shrink:
        share = rng.uniform(FEWEST / min(sides), 1)
        image = image.resize((round(wide * share), round(high * share)), Image.Resampling.BOX)
    return image


def shown(image: Image.Image, place: tuple[float, float]) -> tuple[np.ndarray, tuple[int, ...]]:
    """What the models see of a photograph, its short side brought to 64, and its frame: height and
    width, and where it was cut then. `place`: of the cut, 0 at the top or left, 1 at the other end.
    """
    wide, high = image.size
    scale = PIXELS / min(high, wide)
    tall, broad = (round(side * scale) for side in (high, wide))
    top, left = (int(at * (side - PIXELS)) for at, side in zip(place, (tall, broad)))
    pixels = np.asarray(image.resize((broad, tall), Image.Resampling.LANCZOS))
    return pixels[top : top + PIXELS, left : left + PIXELS], (high, wide, top, left)


def taken(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, ...]]:
    """A picture as a photograph of it comes out, cut anywhere, and its frame."""
    image = photograph(pixels, rng)
    return shown(image, (rng.random(), rng.random()))


def photographs(shop: Workshop, vae: Any, scale: float) -> Photographs:
    """Those of the first pictures, made once; interrupted, it goes on after the last shard."""
    folder = shop.folder / "photographs"
    folder.mkdir(exist_ok=True)
    n = min(MANY, len(shop.pictures))
    starts = range(0, n, SHARD)
    files = [folder / f"{start // SHARD:04d}.npz" for start in starts]
    for start, file in zip(tqdm(starts, desc="photographs", unit="shard", disable=None), files):
        if file.exists():
            continue
        if time.monotonic() >= shop.deadline:
            raise Paused
        _take_shard(shop, vae, scale, range(start, min(start + SHARD, n)), file)
    parts = [np.load(file) for file in files]
    codes, frames = (np.concatenate([part[name] for part in parts]) for name in ("codes", "frames"))
    return Photographs(codes, frames)


def _take_shard(
    shop: Workshop, vae: Any, scale: float, index: range, file: Path, chunk: int = 200
) -> None:
    codes, frames = [], []
    for k in range(index.start, index.stop, chunk):
        some = np.arange(k, min(k + chunk, index.stop))
        pictures = shop.rows(some).cpu().numpy()
        done = [
            taken(picture, stream("photograph of", shop.recipe.seed, int(number)))
            for number, picture in zip(some, pictures)
        ]
        seen = torch.from_numpy(np.stack([pixels for pixels, _ in done]))
        codes.append(codes_of(shop, vae, shop.see(seen)).astype(np.float32) * scale)
        frames += [frame for _, frame in done]
    with written_whole(file) as aside, aside.open("wb") as out:
        np.savez(
            out,
            codes=np.concatenate(codes).astype(np.float16),
            frames=np.array(frames, dtype=np.int16),
        )


def sizes_told(
    rng: np.random.Generator, index: np.ndarray, cut: np.ndarray, frames: np.ndarray
) -> np.ndarray:
    """Float32 [n, 6] of a batch: the original's height and width, top and left of the cut, and
    what is shown. `cut`: which rows are photographs. A whole picture is told as it is, or as one
    that was larger and was scaled down, which looks the same.
    """
    n = len(index)
    told = np.array([[PIXELS, PIXELS, 0, 0, PIXELS, PIXELS]] * n, dtype=np.float32)
    larger = rng.random(n) < LARGER
    sides = np.exp(rng.uniform(np.log(PIXELS), np.log(LARGEST), size=n)).round()
    told[larger, :2] = sides[larger, None]
    told[cut, :4] = frames[index[cut]]
    return told
