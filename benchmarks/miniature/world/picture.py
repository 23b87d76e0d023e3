"""The world: a Picture (who, where, doing what, in which style) in, its image and the object's mask
out.

Deterministic: the same Picture and layout seed give the same bytes. `draw_random` samples the
training distribution.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.miniature.world.animals import ANIMALS, Parts
from benchmarks.miniature.world.canvas import INK, SIZE, Pen, layer
from benchmarks.miniature.world.effects import MATERIALS, STATES, STYLES, apply_material
from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.props import DO, DO_SCENE, WEAR
from benchmarks.miniature.world.scenes import HOME, SCENES
from benchmarks.miniature.world.things import THINGS, Places

PIXELS = 64
CLASSES = tuple(ANIMALS) + tuple(THINGS)
CONCEPT_CLASSES = (
    "toy",
    "sculpture",
    "cat",
    "chair",
    "pot",
    "dog",
    "teddy",
    "tortoise",
    "puppy",
    "sunglasses",
    "teapot",
)
POOL = 3000  # training instances of a class
CONTAINERS, FURNITURE = ("pot", "teapot", "mug"), ("chair", "table")
_CONTAINER_STATES = (
    "broken",
    "bouquet",
    "steam",
    "spilling",
    "moss",
    "fire",
    "smile",
    "wheels",
    "ribbon",
    "coins",
    "rainbow",
    "ivy",
)
_FURNITURE_STATES = (
    "broken_leg",
    "fire",
    "upside_down",
    "books",
    "cushion",
    "ivy",
    "feathers",
    "blanket",
    "moss",
    "rainbow",
)
_THING_STATES = (
    "moss",
    "fire",
    "smile",
    "wheels",
    "ribbon",
    "rainbow",
    "ivy",
    "feathers",
    "upside_down",
)
STATES_OF = {
    **dict.fromkeys(CONTAINERS, _CONTAINER_STATES),
    **dict.fromkeys(FURNITURE, _FURNITURE_STATES),
    **dict.fromkeys(("lamp", "shoe", "clock", "car", "ball"), _THING_STATES),
    "sunglasses": ("cracked", "melting", "branch", "blossoms", "fire", "rainbow"),
}


@dataclass(frozen=True)
class Picture:
    """What is in a picture. `other` is in `relation` to `one`; `focus`: whose mask is asked for (0
    one, 1 other).
    """

    one: Instance
    scene: str = "studio"
    wear: str | None = None
    do: str | None = None
    state: str | None = None
    material: str | None = None
    style: str | None = None
    other: Instance | None = None
    relation: str | None = None
    focus: int = 0


def is_animal(cls: str) -> bool:
    return cls in ANIMALS


# ---- drawing


@dataclass
class _Drawn:
    behind: Image.Image
    body: Image.Image
    before: Image.Image
    pen: Pen
    where: Parts | Places


def _draw_thing(
    one: Instance, pen: Pen, picture: Picture | None, rng: np.random.Generator
) -> _Drawn:
    """A thing on sheets of its own: what is behind it, itself, what is before it."""
    behind, body, before = layer(), layer(), layer()
    where = (ANIMALS if is_animal(one.cls) else THINGS)[one.cls](pen.on(body), one)
    if picture is None:
        return _Drawn(behind, body, before, pen, where)
    if picture.material:
        body = apply_material(body, picture.material, rng)
    if isinstance(where, Parts):
        for table, name in ((WEAR, picture.wear), (DO, picture.do)):
            if name:
                table[name](pen.on(behind), pen.on(before), where, rng)
    elif picture.state:
        STATES[picture.state](pen.on(behind), pen.on(before), where, body, rng, one)
    return _Drawn(behind, body, before, pen, where)


def _pose(picture: Picture, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """x, y of the thing's middle, its half height, its turn."""
    scale = rng.uniform(38, 46)
    if picture.wear in (
        "sombrero",
        "wizard",
        "chef",
        "partyhat",
        "crown",
        "tophat",
        "pirate",
        "costume",
        "samurai",
        "wings",
    ):
        scale = rng.uniform(33, 38)
    if picture.do in (
        "bed",
        "bathtub",
        "drive",
        "boat",
        "umbrella",
        "balloons",
        "skateboard",
        "cake",
        "cook",
    ):
        scale = rng.uniform(29, 34)
    if picture.state in ("bouquet", "steam", "fire", "books", "wheels", "broken", "feathers"):
        scale = rng.uniform(33, 38)
    room = max(4.0, 62 - scale * 1.15)
    x = 64 + rng.uniform(-room, room) * 0.8
    ground = rng.uniform(106, 114)
    turn = rng.normal(0, 0.05)
    if picture.scene in ("space",):
        ground, turn = rng.uniform(94, 108), rng.normal(0, 0.2)
    if picture.scene == "sea":
        ground = rng.uniform(98, 112)
    if picture.scene == "mountain":
        ground = rng.uniform(101, 105)
    if picture.scene == "water":
        ground = rng.uniform(110, 115)
    if picture.do == "skateboard":
        ground -= 6
    y = ground - 0.95 * scale
    if picture.state == "upside_down":
        turn += math.pi
    if picture.state == "spilling":
        turn += math.pi / 2
        x -= 8
        y = ground - 0.66 * scale
    if picture.state == "broken_leg":
        turn -= 0.22
    if picture.state == "branch":
        y = 62.0
    return x, y, scale, turn


def _place_pair(picture: Picture, rng: np.random.Generator) -> list[_Drawn]:
    """Two things in one picture, back to front; the list's order is the painter's, `pair[k].pen`
    tells them apart.
    """
    one, other = picture.one, picture.other
    assert other is not None
    ground = rng.uniform(106, 114)
    if picture.relation == "wear":  # close up: the face fills the picture
        scale = (
            rng.uniform(56, 66)
            if one.cls not in ("tortoise", "dog", "bird")
            else rng.uniform(50, 58)
        )
        probe = _draw_thing(one, Pen(layer(), 64, 64, scale), None, rng).where
        assert isinstance(probe, Parts)
        hx, hy, r = probe.head
        flip = bool(rng.random() < 0.5)
        host = Pen(
            layer(),
            64 - (-hx if flip else hx) * scale,
            rng.uniform(54, 64) - hy * scale,
            scale,
            0.0,
            flip,
        )
        drawn = _draw_thing(one, host, picture, rng)
        (ax, ay), (bx, by) = probe.eyes
        px, py = host.at((ax + bx) / 2, (ay + by) / 2)
        size = max(abs(bx - ax) * scale * 1.15, r * scale * 0.82)
        glasses = _draw_thing(other, Pen(layer(), px, py - 0.5 * size, size), None, rng)
        return [drawn, glasses]
    if picture.relation == "beside":
        left, right = (rng.uniform(34, 42), rng.uniform(86, 94))
        first, second = (left, right) if rng.random() < 0.5 else (right, left)
        a, b = rng.uniform(27, 32), rng.uniform(25, 30)
        d1 = _draw_thing(
            one,
            Pen(layer(), first, ground - 0.95 * a, a, 0, bool(rng.random() < 0.5)),
            picture,
            rng,
        )
        d2 = _draw_thing(
            other,
            Pen(layer(), second, ground - 0.95 * b, b, 0, bool(rng.random() < 0.5)),
            None,
            rng,
        )
        return [d2, d1]
    if picture.relation == "on":
        b, a = rng.uniform(30, 34), rng.uniform(20, 24)
        x = rng.uniform(54, 74)
        below = _draw_thing(other, Pen(layer(), x, ground - 0.95 * b, b), None, rng)
        top = _opening(below)
        px, py = below.pen.at(top[0], top[1])
        above = _draw_thing(
            one, Pen(layer(), px, py - 0.88 * a, a, 0, bool(rng.random() < 0.5)), picture, rng
        )
        return [below, above]
    if picture.relation == "inside":
        b, a = rng.uniform(34, 38), rng.uniform(22, 25)
        x = rng.uniform(54, 74)
        vessel = _draw_thing(
            other, Pen(layer(), x, ground - 0.8 * b, b, 0, bool(rng.random() < 0.5)), None, rng
        )
        top = _opening(vessel)
        px, py = vessel.pen.at(top[0], top[1])
        sitter = _draw_thing(
            one, Pen(layer(), px, py - 0.25 * a, a, 0, bool(rng.random() < 0.5)), picture, rng
        )
        return [sitter, vessel]
    # engraved: lines of `one` on the front of `other`
    b = rng.uniform(38, 44)
    plate = _draw_thing(other, Pen(layer(), rng.uniform(56, 72), ground - 0.95 * b, b), None, rng)
    place = plate.where.face if isinstance(plate.where, Places) else plate.where.chest[:3]
    px, py = plate.pen.at(place[0], place[1])
    size = max(place[2], 0.3) * b * 1.25
    relief = _draw_thing(one, Pen(layer(), px, py, size), picture, rng)
    lines = np.array(relief.body)
    light = lines[..., :3].mean(axis=-1, keepdims=True)
    lines[..., :3] = (70 + 0.35 * light).astype(np.uint8)
    relief.body = Image.fromarray(lines)
    return [plate, relief]


def _opening(drawn: _Drawn) -> tuple[float, float, float]:
    where = drawn.where
    return where.opening if isinstance(where, Places) else (where.head[0], where.top, where.head[2])


def render(picture: Picture, seed: object) -> tuple[np.ndarray, np.ndarray]:
    """The image, uint8 [64, 64, 3], and the mask of the thing in focus, uint8 [64, 64] (255:
    visible).
    """
    rng = stream("layout", seed)
    backdrop, front = SCENES[picture.scene](rng)
    if picture.other is not None:
        order = _place_pair(picture, rng)
        chosen = order[_painted_at(picture)]
    else:
        x, y, scale, turn = _pose(picture, rng)
        flip = bool(rng.random() < 0.5) and picture.state != "spilling"
        drawn = _draw_thing(picture.one, Pen(layer(), x, y, scale, turn, flip), picture, rng)
        order, chosen = [drawn], drawn
    if (
        picture.scene not in ("space", "sea", "water", "moon")
        and picture.relation != "wear"
        and picture.state != "branch"
    ):
        _shadow(backdrop, order)
    mask = Image.new("L", (SIZE, SIZE), 0)
    for drawn in order:
        backdrop.alpha_composite(drawn.behind)
        backdrop.alpha_composite(drawn.body)
        backdrop.alpha_composite(drawn.before)
        mask.paste(255 if drawn is chosen else 0, (0, 0), drawn.body.getchannel("A"))
        mask.paste(0, (0, 0), drawn.before.getchannel("A"))
    if front is not None:
        backdrop.alpha_composite(front)
        mask.paste(0, (0, 0), front.getchannel("A"))
    image = backdrop.convert("RGB")
    if picture.style:
        image = STYLES[picture.style](image, rng)
    small = (PIXELS, PIXELS)
    return np.asarray(image.resize(small, Image.Resampling.BOX)), np.asarray(
        mask.resize(small, Image.Resampling.BOX)
    )


def _painted_at(picture: Picture) -> int:
    """Where in the painter's order of a pair the thing in focus stands."""
    one_at = {"wear": 0, "beside": 1, "on": 1, "inside": 0, "engraved": 1}[
        picture.relation or "beside"
    ]
    return one_at if picture.focus == 0 else 1 - one_at


def _shadow(backdrop: Image.Image, order: list[_Drawn]) -> None:
    """A soft dark patch under what stands."""
    shade = layer()
    draw = ImageDraw.Draw(shade)
    for drawn in order:
        box = drawn.body.getchannel("A").getbbox()
        if box:
            x0, _, x1, y1 = box
            draw.ellipse((x0 - 2, y1 - 6, x1 + 2, y1 + 3), fill=(*INK, 70))
    backdrop.alpha_composite(shade)


# ---- the training distribution


@cache
def held_out() -> frozenset[tuple[str, str]]:
    """The (class, value) pairs that no training picture shows: a tenth of class x scene, x style
    and x state.
    """
    lines = Path(__file__).with_name("heldout.txt").read_text().split("\n")
    return frozenset((a, b) for a, _, b in (line.partition(" ") for line in lines) if b)


def make_held_out() -> list[str]:
    """How heldout.txt was made: a tenth of each class's pairs; plain ones stay, or a class could
    not be learned.

    Nothing runs it but the test that the file is still what this makes: training read the file.
    """
    lines = []
    for cls in CLASSES:
        values = {
            "scene": [s for s in SCENES if s not in HOME],
            "style": list(STYLES) if is_animal(cls) or cls in CONCEPT_CLASSES else [],
            "state": [*MATERIALS, *(list(WEAR) + list(DO) if is_animal(cls) else STATES_OF[cls])],
        }
        for kind, names in values.items():
            rng = stream("held out", cls, kind)
            n = min(
                len(names), round(len(names) * 0.1) if kind != "style" else int(rng.random() < 0.4)
            )
            lines += [
                f"{cls} {kind}:{name}"
                for name in (sorted(rng.choice(names, n, replace=False)) if n else ())
            ]
    return lines


def factors(picture: Picture) -> list[tuple[str, str]]:
    """The (class, value) pairs that a picture shows."""
    values = [("scene", picture.scene), ("style", picture.style)]
    values += [("state", v) for v in (picture.wear, picture.do, picture.state, picture.material)]
    return [(picture.one.cls, f"{kind}:{value}") for kind, value in values if value]


def draw_random(
    rng: np.random.Generator, pool: str = "pool", one: Instance | None = None
) -> Picture:
    """One picture of the training distribution, of `one` if given; never a held-out pair."""
    while True:
        picture = _draw_any(rng, pool, one)
        if not any(pair in held_out() for pair in factors(picture)):
            return picture


def _draw_any(rng: np.random.Generator, pool: str, one: Instance | None) -> Picture:
    def pick(cls: str) -> Instance:
        return make_instance(cls, (pool, int(rng.integers(POOL))))

    def some(chance: float, names: tuple[str, ...] | list[str]) -> str | None:
        return str(rng.choice(list(names))) if rng.random() < chance else None

    cls = (
        one.cls
        if one
        else str(rng.choice(CONCEPT_CLASSES))
        if rng.random() < 0.7
        else str(rng.choice(CLASSES))
    )
    scene = str(rng.choice(HOME)) if rng.random() < 0.3 else str(rng.choice(list(SCENES)))
    picture = Picture(
        one or pick(cls),
        scene=scene,
        material=some(0.1, list(MATERIALS)),
        style=some(0.13, list(STYLES)),
    )
    if rng.random() < 0.16:
        return _with_other(picture, rng, pick)
    if is_animal(cls):
        wear, do = some(0.34, list(WEAR)), some(0.36, list(DO))
        if do in DO_SCENE and rng.random() < 0.6:
            picture = replace(picture, scene=DO_SCENE[do])
        return replace(picture, wear=wear, do=do)
    return replace(picture, state=some(0.5, STATES_OF[cls]))


def _with_other(picture: Picture, rng: np.random.Generator, pick) -> Picture:
    """Give the picture its second thing, in a relation that makes sense."""
    animal = is_animal(picture.one.cls)
    relation = (
        str(
            rng.choice(
                ["beside", "on", "inside", "wear", "engraved"], p=[0.52, 0.14, 0.1, 0.2, 0.04]
            )
        )
        if animal
        else "beside"
    )
    if relation == "wear":
        return replace(
            picture, other=pick("sunglasses"), relation="wear", focus=int(rng.random() < 0.5)
        )
    others = {
        "beside": [c for c in CLASSES if c != picture.one.cls],
        "on": ["chair", "table", "car", "ball", "shoe"],
        "inside": ["pot", "teapot", "mug"],
        "engraved": ["pot", "teapot", "mug", "clock"],
    }[relation]
    if relation == "inside" and rng.random() < 0.6:
        picture = replace(picture, scene="water")
    return replace(picture, other=pick(str(rng.choice(others))), relation=relation)
