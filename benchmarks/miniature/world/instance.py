"""An instance: what makes one cat this cat. A class and a seed in, colours, pattern and shape out;
no word names it.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from PIL import Image

from benchmarks.miniature.world.canvas import COLORS, SIZE, Color, Pen, blend, shade

PATTERNS = ("plain", "striped", "spotted", "patched", "banded")
# colours that the classes of living things lean to; everything else takes any
NATURAL = {
    "cat": ("orange", "grey", "black", "white", "brown"),
    "dog": ("brown", "white", "black", "orange", "grey"),
    "puppy": ("brown", "white", "black", "orange", "yellow"),
    "teddy": ("brown", "pink", "white", "yellow", "blue"),
    "tortoise": ("green", "brown", "yellow", "purple", "blue"),
    "sculpture": ("white", "grey", "brown", "green", "black"),
    "snowman": ("white",),
    "sunglasses": ("black", "brown", "red", "blue", "pink"),
}


@dataclass(frozen=True)
class Instance:
    """One thing's identity; `shape` is eight numbers in 0-1 that its class gives a meaning."""

    cls: str
    main_name: str
    second_name: str
    main: Color
    second: Color
    accent: Color
    pattern: str
    pattern_at: tuple[float, ...]  # frequency, direction, phase, threshold, then ten places
    shape: tuple[float, ...]

    def vector(self) -> np.ndarray:
        """The identity as numbers in about 0-1, for distances between instances of a class."""
        colors = np.array([*self.main, *self.second, *self.accent]) / 255
        kind = np.array([self.pattern == p for p in PATTERNS], dtype=float)
        return np.concatenate([colors, kind, np.array(self.pattern_at[:4]), np.array(self.shape)])


def stream(*key: object) -> np.random.Generator:
    """A random stream named by its key; different keys never share one."""
    return np.random.default_rng(int.from_bytes(sha256(repr(key).encode()).digest()[:16], "big"))


def make_instance(cls: str, seed: object) -> Instance:
    """The instance of a class that a seed stands for. Training uses ("pool", k); shipped concepts
    their names.
    """
    rng = stream("instance", cls, seed)
    names = list(COLORS)
    natural = NATURAL.get(cls)
    main_name = (
        str(rng.choice(natural)) if natural and rng.random() < 0.7 else str(rng.choice(names))
    )
    second_name = str(rng.choice([name for name in names if name != main_name]))
    accent_name = str(rng.choice([name for name in names if name not in (main_name, second_name)]))
    return Instance(
        cls=cls,
        main_name=main_name,
        second_name=second_name,
        main=shade(main_name, rng),
        second=shade(second_name, rng),
        accent=shade(accent_name, rng),
        pattern=str(rng.choice(PATTERNS, p=(0.3, 0.2, 0.2, 0.15, 0.15))),
        pattern_at=tuple(float(v) for v in rng.random(14)),
        shape=tuple(float(v) for v in rng.random(8)),
    )


def coat(pen: Pen, one: Instance) -> Image.Image | Color:
    """What the thing's body is filled with: its main colour, or its pattern drawn in its own
    coordinates.
    """
    if one.pattern == "plain":
        return one.main
    x, y = pen.units()
    f, d, phase, level = one.pattern_at[:4]
    if one.pattern == "striped":
        angle = np.pi * (0.15 + 0.7 * d) + np.pi / 2
        on = (
            np.sin((7 + 7 * f) * (x * np.cos(angle) + y * np.sin(angle)) + 6.3 * phase)
            > 0.1 + 0.4 * level
        )
    elif one.pattern == "banded":
        on = np.abs(y - (0.5 * d - 0.05)) < 0.12 + 0.12 * level
    elif one.pattern == "spotted":
        places = np.array(one.pattern_at[4:14]).reshape(5, 2) * np.array([1.5, 1.7]) + np.array(
            [-0.75, -0.8]
        )
        places = np.concatenate([places, -places + np.array([0.1, 0.15])])
        radius = 0.1 + 0.1 * f
        on = np.zeros((SIZE, SIZE), dtype=bool)
        for px, py in places.astype(np.float32):
            on |= (x - px) ** 2 + (y - py) ** 2 < radius**2
    else:  # patched
        on = (
            np.sin(2.2 * x + 6.3 * phase + 1.3 * np.sin(2.1 * y + 6.3 * d))
            + np.cos((2 + f) * y + 6.3 * level)
            > 0.35
        )
    palette = np.array([(*one.main, 255), (*one.second, 255)], dtype=np.uint8)
    return Image.fromarray(palette[on.astype(np.uint8)])


def belly(one: Instance) -> Color:
    """The pale part of an animal."""
    return blend(one.main, (255, 250, 235), 0.65)
