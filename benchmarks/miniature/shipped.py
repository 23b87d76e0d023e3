"""The shipped concepts: eleven instances that training never saw and three for tuning, as ordinary
concept folders.

`python -m benchmarks.miniature.shipped OUT` writes them again, byte for byte.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.picture import POOL, Picture, render
from benchmarks.miniature.world.scenes import HOME
from benchmarks.suite.concept_folder import write_concept

# name -> class, which instance, group, number of images
ELEVEN = {
    "cat_toy": ("toy", 1, "animated", 5),
    "sculpture": ("sculpture", 17, "animated", 5),
    "cat": ("cat", 11, "animated", 7),
    "chair": ("chair", 9, "furniture", 6),
    "pot": ("pot", 8, "container", 5),
    "dog": ("dog", 3, "animated", 8),
    "teddy": ("teddy", 14, "animated", 7),
    "tortoise": ("tortoise", 7, "animated", 8),
    "puppy": ("puppy", 4, "animated", 6),
    "sunglasses": ("sunglasses", 11, "wearable", 6),
    "teapot": ("teapot", 8, "container", 8),
}
# the only concepts on which anything may be tuned
TUNING = {
    "spaniel": ("dog", 8, "animated", 6),
    "mug": ("mug", 3, "container", 6),
    "table": ("table", 7, "furniture", 6),
}
# how far each looks from what is usual for its class, in the scorer's features: thirds of the
# training's instances (`python -m benchmarks.evidence.miniature_difficulty` measures it)
DIFFICULTY = {
    "cat_toy": "hard",
    "sculpture": "easy",
    "cat": "easy",
    "chair": "easy",
    "pot": "hard",
    "dog": "easy",
    "teddy": "middling",
    "tortoise": "hard",
    "puppy": "hard",
    "sunglasses": "hard",
    "teapot": "hard",
    "spaniel": "easy",
    "mug": "middling",
    "table": "easy",
}
ASYMMETRIC = ("teapot",)  # always photographed from the same side
HELDOUT = 8  # pictures of each that no method sees


def instance_of(name: str) -> Instance:
    """The instance behind a shipped concept; its seed is outside every training pool."""
    cls, number, _, _ = (ELEVEN | TUNING)[name]
    return make_instance(cls, ("concept", number))


def photographs(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A concept's images and masks: plain scenes, as people photograph their own things."""
    return taken(instance_of(name), name, (ELEVEN | TUNING)[name][3], name in ASYMMETRIC)


def held_out(name: str) -> list[np.ndarray]:
    """Other photographs of the same thing, which no method sees."""
    return taken(instance_of(name), f"{name} held out", HELDOUT, name in ASYMMETRIC)[0]


def taken(
    one: Instance, name: str, count: int, asymmetric: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """So many images and masks; the name is the seed of how they are laid out."""
    scenes = [HOME[k % len(HOME)] for k in range(count)]
    seeds = stream("photographs", name).integers(10_000, size=count * 20)
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for seed in seeds:
        if len(images) == count:
            break
        image, mask = render(Picture(one, scenes[len(images)]), ("photograph", name, int(seed)))
        if asymmetric and _mirrored(one, mask):
            continue
        images.append(image)
        masks.append(mask)
    return images, masks


def _mirrored(one: Instance, mask: np.ndarray) -> bool:
    """Whether a teapot's spout points left: its lid stands left of the middle of what is seen."""
    columns = np.flatnonzero(mask.max(axis=0) > 127)
    top = np.flatnonzero(mask[np.flatnonzero(mask.max(axis=1) > 127)[0]] > 127)
    return bool(top.mean() > columns.mean())


def nearest(name: str) -> tuple[float, float]:
    """Distance of a concept's identity to the nearest training instance; median distance between
    two of those.
    """
    one = instance_of(name)
    pool = np.stack([make_instance(one.cls, ("pool", k)).vector() for k in range(POOL)])
    typical = np.linalg.norm(pool[: POOL // 2] - pool[POOL // 2 :], axis=1)
    return float(np.linalg.norm(pool - one.vector(), axis=1).min()), float(np.median(typical))


def write_all(root: Path) -> None:
    for folder, table in ((root, ELEVEN), (root / "tuning", TUNING)):
        for name, (cls, _, group, _) in table.items():
            images, masks = photographs(name)
            write_concept(
                folder / name,
                super_category=cls,
                group=group,
                source="drawn by benchmarks/miniature, an instance that its training never shows",
                licence="Apache-2.0",
                images=images,
                masks=masks,
                heldout=held_out(name),
                asymmetric=name in ASYMMETRIC,
                difficulty=DIFFICULTY[name],
            )


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
