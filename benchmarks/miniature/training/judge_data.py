"""What the judges are shown: renders of other instances than the models saw, with masks and labels,
on disk.

In: a folder and how many shards; out: arrays there, made once. Held-out pairs are among them.
"""

from pathlib import Path

import numpy as np

from benchmarks.miniature.training.judges import IDENTITY, JUDGED
from benchmarks.miniature.training.training_data import labels, render_all, write_array
from benchmarks.miniature.world.effects import MATERIALS, STYLES
from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.picture import (
    CLASSES,
    PIXELS,
    POOL,
    STATES_OF,
    Picture,
    is_animal,
    render,
)
from benchmarks.miniature.world.props import DO, DO_SCENE, WEAR
from benchmarks.miniature.world.scenes import SCENES

RUN = 4  # neighbours that show one instance
NAMES = tuple(JUDGED)


def draw_judged(
    rng: np.random.Generator,
    pool: str,
    one: Instance | None = None,
    style: float = 0.2,
    material: float = 0.2,
) -> Picture:
    """A picture of one thing, all classes alike, held-out pairs included: a judge must not find
    them strange.
    """

    def some(chance: float, names: tuple[str, ...]) -> str | None:
        return str(rng.choice(names)) if rng.random() < chance else None

    one = one or make_instance(str(rng.choice(CLASSES)), (pool, int(rng.integers(POOL))))
    picture = Picture(
        one,
        str(rng.choice(list(SCENES))),
        material=some(material, tuple(MATERIALS)),
        style=some(style, tuple(STYLES)),
    )
    values = dict(vars(picture))
    if not is_animal(one.cls):
        return Picture(**{**values, "state": some(0.55, STATES_OF[one.cls])})
    values |= {"wear": some(0.45, tuple(WEAR)), "do": some(0.4, tuple(DO))}
    if values["do"] in DO_SCENE and rng.random() < 0.5:
        values["scene"] = DO_SCENE[values["do"]]
    return Picture(**values)


def render_shard(folder: Path, number: int, size: int, pool: str) -> None:
    """Pictures, masks, labels and instance numbers; RUN neighbours show one instance."""
    done = folder / f"{number:04d}.labels.npy"
    if done.exists():
        return
    rng = stream("judged", pool, number)
    images, masks = (
        np.empty((size, PIXELS, PIXELS, 3), np.uint8),
        np.empty((size, PIXELS, PIXELS), np.uint8),
    )
    table, who = np.empty((size, len(NAMES)), np.int16), np.empty((size, IDENTITY), np.float32)
    picture: Picture | None = None
    for k in range(size):
        picture = draw_judged(rng, pool, picture.one if picture and k % RUN else None)
        images[k], masks[k] = render(picture, ("judged", pool, number, k))
        table[k], who[k] = labels(picture)[: len(NAMES)], picture.one.vector()
    np.save(folder / f"{number:04d}.images.npy", images)
    np.save(folder / f"{number:04d}.masks.npy", masks)
    np.save(folder / f"{number:04d}.who.npy", who)
    write_array(done, table)


def render_judged(folder: Path, shards: int, workers: int, size: int, pool: str = "judge") -> None:
    """Render what is missing of the judges' pictures."""
    render_all(folder, shards, workers, size, pool, render=render_shard, what="render for judges")
