"""Materials, states and styles: a drawn sheet in, the same thing in gold, broken, or as a pencil
sketch out.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.miniature.world.canvas import (
    INK,
    SIZE,
    Pen,
    arc,
    darker,
    lighter,
    shade,
    smooth_noise,
)
from benchmarks.miniature.world.instance import Instance
from benchmarks.miniature.world.scenes import _flower, flame
from benchmarks.miniature.world.things import Places

# ---- materials: only the thing's own pixels change; light and dark stay where they were


def _light(rgba: np.ndarray) -> np.ndarray:
    return (rgba[..., :3] @ np.array([0.3, 0.59, 0.11])) / 255


def _ramp(light: np.ndarray, *colors: tuple[int, int, int]) -> np.ndarray:
    """Colours along dark -> light."""
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(light, stops, [c[k] for c in colors]) for k in range(3)], axis=-1)


def _gold(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    sheen = 0.16 * np.sin((x + y) / 9 + rng.random() * 6)
    return _ramp(
        np.clip(0.2 + 0.6 * _light(rgba) + sheen, 0, 1),
        (70, 40, 0),
        (190, 130, 10),
        (250, 200, 40),
        (255, 250, 190),
    )


def _yarn(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    knit = np.abs((x + 3 * np.abs((y % 6) - 3) / 1.5) % 6 - 3) / 3
    base = shade(str(rng.choice(["red", "pink", "blue", "orange"])), rng)
    tone = _ramp(0.3 + 0.7 * _light(rgba), darker(base, 0.5), base, lighter(base, 0.55))
    return tone * (0.55 + 0.5 * knit[..., None])


def _glass(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    glint = ((x - y + int(rng.integers(0, 40))) % 40) < 5
    tone = _ramp(_light(rgba), (90, 140, 165), (170, 215, 232), (232, 250, 255))
    tone[glint] = (255, 255, 255)
    return tone


def _ice(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cells = np.floor(smooth_noise(rng, 9) * 6) / 6
    return _ramp(
        np.clip(0.25 + 0.5 * _light(rgba) + 0.4 * (cells - 0.4), 0, 1),
        (40, 110, 190),
        (120, 195, 245),
        (240, 252, 255),
    )


def _wood(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, _x = np.mgrid[0:SIZE, 0:SIZE]
    grain = 0.5 + 0.5 * np.sin(y / 2.2 + 4 * smooth_noise(rng, 5) * 3)
    return _ramp(
        np.clip(0.55 * _light(rgba) + 0.4 * grain, 0, 1),
        (62, 34, 14),
        (140, 84, 40),
        (206, 150, 92),
    )


def _marble(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    vein = np.abs(np.sin(7 * smooth_noise(rng, 5) + 5 * smooth_noise(rng, 9))) < 0.16
    tone = _ramp(0.35 + 0.65 * _light(rgba), (110, 112, 120), (205, 206, 212), (250, 250, 252))
    tone[vein] *= 0.68
    return tone


def _lego(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    colors = np.array([(220, 40, 40), (250, 205, 40), (40, 110, 220), (60, 170, 80)])
    rows, cols = y // 9, (x + (y // 9 % 2) * 9) // 18
    tone = colors[(rows * 7 + cols * 3 + int(rng.integers(0, 4))) % 4].astype(float)
    tone *= (0.75 + 0.35 * _light(rgba))[..., None]
    tone[(y % 9 == 0) | ((x + (rows % 2) * 9) % 18 == 0)] *= 0.5
    stud = ((x + (rows % 2) * 9) % 9 - 4.5) ** 2 + (y % 9 - 4.5) ** 2 < 6
    tone[stud] = tone[stud] * 0.6 + 100
    return tone


MATERIALS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "gold": _gold,
    "yarn": _yarn,
    "glass": _glass,
    "ice": _ice,
    "wood": _wood,
    "marble": _marble,
    "lego": _lego,
}


def apply_material(sheet: Image.Image, name: str, rng: np.random.Generator) -> Image.Image:
    rgba = np.asarray(sheet).astype(np.float32)
    ink = _light(rgba) < 0.17
    out = rgba.copy()
    out[..., :3] = np.clip(MATERIALS[name](rgba, rng), 0, 255)
    out[ink, :3] = rgba[ink, :3] * 0.6 + 0.4 * out[ink, :3]
    if name in ("glass", "ice"):
        out[..., 3] *= np.where(ink, 0.9, 0.62 if name == "glass" else 0.9)
    return Image.fromarray(out.astype(np.uint8))


# ---- states: how a thing is; each gets the pens behind and in front, its places, and its own sheet
# to change


def _inside(sheet: Image.Image, texture: np.ndarray, where: np.ndarray) -> None:
    """Paint a texture on the thing where a field says so, never off it."""
    rgba = np.array(sheet)
    on = where & (rgba[..., 3] > 100)
    rgba[on, :3] = texture[on]
    sheet.paste(Image.fromarray(rgba))


def broken(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    """A jagged piece is gone, cracks run from it, shards lie on the ground."""
    x0, y0, x1, y1 = p.box
    w, h = x1 - x0, y1 - y0
    side = 1 if rng.random() < 0.5 else -1
    edge = x1 if side > 0 else x0
    gone = [
        (edge + side * 0.3, y0 - 0.5),
        (p.opening[0] - side * 0.08, y0 - 0.5),
        (p.opening[0] + side * 0.02, y0 + h * 0.2),
        (p.opening[0] + side * w * 0.14, y0 + h * 0.12),
        (p.opening[0] + side * w * 0.18, y0 + h * 0.42),
        (p.opening[0] + side * w * 0.33, y0 + h * 0.36),
        (edge + side * 0.3, y0 + h * 0.62),
    ]
    hole = Image.new("L", (SIZE, SIZE), 0)
    pixels = [front.at(*pt) for pt in gone]
    ImageDraw.Draw(hole).polygon(pixels, fill=255)
    kept = np.array(sheet)
    kept[np.asarray(hole) > 0, 3] = 0
    ImageDraw.Draw(cut := Image.fromarray(kept)).line(pixels[1:], fill=INK, width=2)
    kept_alpha = np.asarray(sheet)[..., 3]
    drawn = np.array(cut)
    drawn[kept_alpha < 100, 3] = 0
    sheet.paste(Image.fromarray(drawn))
    cx, cy = p.opening[0], y0 + h * 0.3
    front.stroke(
        [
            (cx, cy - 0.05),
            (cx - side * 0.15, cy + 0.2),
            (cx - side * 0.05, cy + 0.38),
            (cx - side * 0.25, cy + 0.6),
        ],
        INK,
        0.05,
    )
    for k, dx in enumerate((0.25, 0.55, -0.2)):
        x = edge + side * dx
        front.poly(
            [(x - 0.16, 0.98), (x + 0.05, 0.72 + 0.06 * k), (x + 0.17, 0.96)],
            one.main if k else one.second,
            w=0.04,
        )


def bouquet(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, w = p.opening
    for k in range(5):
        dx = (k - 2) * w * 0.45
        tall = 0.34 + 0.16 * (k % 2) + 0.06 * rng.random()
        front.stroke([(x + dx * 0.6, y), (x + dx * 1.3, y - tall)], (60, 150, 70), 0.06)
        px, py = front.at(x + dx * 1.3, y - tall)
        _flower(
            front.draw,
            px,
            py,
            0.11 * front.scale,
            shade(str(rng.choice(["red", "pink", "yellow", "purple", "orange"])), rng),
        )


def steam(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, w = p.opening
    for k in (-1, 0, 1):
        wave = [
            (x + k * w * 0.6 + 0.09 * math.sin(t * 2.1 + k), y - 0.1 - 0.16 * t) for t in range(5)
        ]
        front.stroke(wave, (150, 156, 170), 0.17)
        front.stroke(wave, (246, 248, 252), 0.1)


def spilling(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    """Drawn lying down (picture.py turns it by a quarter); here only the water, in upright
    coordinates of the ground.
    """
    x, y, w = p.opening
    # the thing is turned a quarter clockwise: its top points right on the page, its x axis points
    # down
    front.poly(
        [
            (x + w * 0.9, y + 0.1),
            (x - w * 0.2, y - 0.02),
            (x + w * 0.4, y - 0.4),
            (0.92, y - 0.55),
            (1.02, y - 0.2),
            (1.0, y + 0.3),
        ],
        (70, 160, 230),
        (225, 244, 255),
        w=0.05,
    )


def moss(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    noise, fine = smooth_noise(rng, 8), rng.random((SIZE, SIZE))
    _, y = front.units()
    texture = _ramp(fine, (34, 84, 30), (84, 146, 52), (140, 188, 84)).astype(np.uint8)
    _inside(sheet, texture, noise > 0.42 + 0.12 * y)


def fire(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x0, y0, x1, _ = p.box
    scale = front.scale
    for pen, n, tall in ((back, 4, 1.2), (front, 4, 0.62)):
        for k in range(n):
            x = x0 + (x1 - x0) * (k + 0.5) / n
            base = 0.4 if pen is back else 0.98
            px, py = pen.at(x, base if pen is front else max(y0 + 0.5, -0.2))
            flame(
                pen.draw,
                px,
                py,
                (x1 - x0) / n * 0.62 * scale,
                (tall + 0.3 * float(rng.random())) * scale,
            )


def smile(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, r = p.face
    for side in (-1, 1):
        front.oval(x + side * r * 0.45, y - r * 0.3, r * 0.2, r * 0.26, (255, 255, 255), w=0.035)
        front.dot(x + side * r * 0.42, y - r * 0.26, r * 0.12, INK)
    front.poly(arc(x, y + r * 0.15, r * 0.55, r * 0.5, 0.0, 0.5, 10), (170, 30, 50), w=0.04)


def wheels(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x0, _, x1, y1 = p.box
    front.box(x0 * 0.75, y1 - 0.06, x1 * 0.75, y1 + 0.04, (80, 60, 50), w=0.03)
    for x in (x0 * 0.6, x1 * 0.6):
        front.oval(x, y1 + 0.08, 0.23, 0.23, (50, 48, 54))
        front.oval(x, y1 + 0.08, 0.11, 0.11, (226, 180, 70), None)
        for k in range(4):
            a = arc(x, y1 + 0.08, 0.17, 0.17, k / 4, k / 4 + 0.01, 1)[0]
            front.stroke([(x, y1 + 0.08), a], (226, 180, 70), 0.03)


def ribbon(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, _r = p.face
    _, v = front.units()
    red = np.broadcast_to(np.array((222, 28, 52), dtype=np.uint8), (SIZE, SIZE, 3))
    _inside(sheet, red, np.abs(v - y) < 0.09)
    for side in (-1, 1):
        front.poly(
            [(x, y), (x + side * 0.42, y - 0.28), (x + side * 0.46, y + 0.14)], (234, 44, 66)
        )
        front.poly(
            [(x, y + 0.04), (x + side * 0.3, y + 0.5), (x + side * 0.12, y + 0.5)],
            (200, 20, 44),
            w=0.035,
        )
    front.oval(x, y, 0.1, 0.1, (200, 20, 44))


def coins(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, w = p.opening
    heap = [
        (dx, -0.06 - 0.13 * row)
        for row in range(3)
        for dx in np.linspace(-1 + 0.3 * row, 1 - 0.3 * row, 5 - row)
    ]
    for dx, dy in [*heap, (1.5, 0.92 - y), (-1.6, 0.94 - y)]:
        front.oval(x + dx * w * 0.85, y + dy, 0.14, 0.1, (252, 206, 48), (170, 110, 10), w=0.035)


def rainbow(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    _x0, y0, _, y1 = p.box
    _, v = front.units()
    colors = np.array(
        [
            (228, 50, 56),
            (248, 150, 44),
            (250, 224, 66),
            (72, 186, 88),
            (60, 120, 230),
            (146, 80, 206),
        ],
        dtype=np.uint8,
    )
    band = np.clip(((v - y0) / (y1 - y0) * 6).astype(int), 0, 5)
    light = _light(np.asarray(sheet).astype(np.float32))
    _inside(sheet, colors[band], (light > 0.17))


def broken_leg(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    """One front leg ends half-way, its lower half on the ground; picture.py tilts the chair."""
    legs = p.legs or ((p.box[0] + 0.1, p.box[3]), (p.box[2] - 0.1, p.box[3]))
    x, y = legs[0]
    hole = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(hole).polygon(
        [
            front.at(*pt)
            for pt in (
                (x - 0.22, y - 0.3),
                (x + 0.02, y - 0.22),
                (x + 0.2, y - 0.32),
                (x + 0.2, y + 0.12),
                (x - 0.22, y + 0.12),
            )
        ],
        fill=255,
    )
    kept = np.array(sheet)
    kept[np.asarray(hole) > 0, 3] = 0
    sheet.paste(Image.fromarray(kept))
    front.poly(
        [(x - 0.75, y - 0.12), (x - 0.3, y - 0.2), (x - 0.26, y - 0.05), (x - 0.72, y + 0.04)],
        one.second,
    )
    front.stroke([(x - 0.1, y - 0.3), (x, y - 0.2), (x + 0.1, y - 0.3)], (240, 220, 180), 0.05)


def books(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, w = p.opening
    for k in range(4):
        color = shade(str(rng.choice(["red", "blue", "green", "yellow", "purple"])), rng)
        half, dx = min(w * 0.72, 0.5) - 0.04 * (k % 2), 0.06 * (rng.random() - 0.5) * 2
        top = y - 0.15 * (k + 1)
        front.box(x - half + dx, top, x + half + dx, top + 0.15, color, w=0.035)
        front.box(
            x + half + dx - 0.12,
            top + 0.035,
            x + half + dx - 0.01,
            top + 0.115,
            (250, 248, 236),
            None,
        )


def cushion(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x, y, w = p.opening
    w = min(w, 0.6)
    front.poly(
        [
            (x - w * 1.1, y - 0.36),
            (x, y - 0.42),
            (x + w * 1.1, y - 0.36),
            (x + w, y - 0.12),
            (x + w * 1.1, y + 0.1),
            (x, y + 0.06),
            (x - w * 1.1, y + 0.1),
            (x - w, y - 0.12),
        ],
        (250, 140, 185),
    )
    front.dot(x, y - 0.16, 0.06, (225, 80, 140))


def ivy(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x0, y0, x1, y1 = p.box
    for start in (0.0, 3.1):
        vine = [
            ((x0 + x1) / 2 + (x1 - x0) * 0.48 * math.sin(start + 5.2 * t), y1 - (y1 - y0) * t)
            for t in np.linspace(0, 1, 15)
        ]
        front.stroke(vine, (56, 104, 44), 0.06)
        for k, (x, y) in enumerate(vine):
            front.oval(
                x + 0.07 * (-1) ** k,
                y,
                0.12,
                0.08,
                (60, 158, 66) if k % 2 else (96, 184, 84),
                (30, 90, 40),
                turn=0.8 * (-1) ** k,
                w=0.03,
            )


def feathers(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x0, y0, x1, _ = p.box
    y = y0 + 0.5
    for side, edge in ((-1, x0), (1, x1)):
        for k, (reach, rise) in enumerate(((0.8, 0.5), (0.75, 0.15), (0.6, -0.15))):
            back.oval(
                edge + side * reach * 0.42,
                y - rise * 0.6,
                reach * 0.6,
                0.19,
                (250, 250, 255) if k else (234, 238, 250),
                turn=side * (-0.75 + 0.45 * k),
                w=0.035,
            )


def blanket(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    x0, y0, x1, y1 = p.box
    low = y0 + (y1 - y0) * 0.72
    front.poly(
        [
            (x0 - 0.02, y0 - 0.04),
            (x1 + 0.02, y0 - 0.04),
            (x1 + 0.12, low),
            (x1 - 0.2, low - 0.08),
            (0.1, low + 0.06),
            (x0 + 0.25, low - 0.06),
            (x0 - 0.12, low + 0.02),
        ],
        (206, 34, 50),
    )
    for k in (-0.5, 0.05, 0.5):
        front.stroke([(k * x1 * 0.9, y0 + 0.1), (k * x1 * 1.1, low - 0.1)], (150, 16, 34), 0.05)


def cracked(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    for cx, cy, rx, ry in p.lenses:
        for k in range(7):
            a = 2 * math.pi * (k / 7 + 0.05)
            mid = (cx + 0.5 * rx * math.cos(a + 0.25), cy + 0.5 * ry * math.sin(a + 0.25))
            front.stroke(
                [(cx, cy), mid, (cx + 0.85 * rx * math.cos(a), cy + 0.85 * ry * math.sin(a))],
                (250, 252, 255),
                0.05,
            )


def melting(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    """Drips under each lens, a puddle, and the sun that does it."""
    px, py = SIZE * (0.16 if rng.random() < 0.5 else 0.84), 20
    for k in range(12):
        a = math.pi * k / 6
        back.draw.line(
            (px, py, px + 22 * math.cos(a), py + 22 * math.sin(a)), fill=(255, 190, 40), width=3
        )
    back.draw.ellipse((px - 14, py - 14, px + 14, py + 14), fill=(255, 222, 70))
    back.oval(0, 1.12, 0.85, 0.13, one.main)
    for cx, cy, rx, ry in p.lenses:
        for dx, drop in ((-0.5, 0.35), (0.0, 0.55), (0.5, 0.28)):
            x, y = cx + dx * rx, cy + ry * 0.75
            front.poly(
                [
                    (x - 0.09, y),
                    (x + 0.09, y),
                    (x + 0.06, y + drop * 0.7),
                    (x, y + drop),
                    (x - 0.06, y + drop * 0.7),
                ],
                one.main,
                w=0.035,
            )


def branch(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    d = back.draw
    d.line((0, 22, 64, 30, SIZE, 20), fill=(96, 62, 38), width=8)
    for left, top in ((6, 11), (22, 29), (44, 15), (70, 31), (90, 11), (108, 25)):
        d.ellipse((left, top, left + 16, top + 10), fill=(70, 156, 66), outline=(40, 100, 44))
    x0, y0, x1, _ = p.box
    for x in (x0 * 0.8, x1 * 0.8):
        a = back.at(x, y0 + 0.12)
        d.line((*a, a[0], 28), fill=(70, 60, 60), width=2)


def blossoms(
    back: Pen, front: Pen, p: Places, sheet: Image.Image, rng: np.random.Generator, one: Instance
) -> None:
    spots = [
        pt for cx, cy, rx, ry in p.lenses for pt in arc(cx, cy, rx * 0.95, ry * 0.95, 0.1, 0.85, 3)
    ] or arc(*p.face[:2], p.face[2], p.face[2], 0, 0.9, 9)
    for x, y in spots:
        px, py = front.at(x, y)
        _flower(
            front.draw,
            px,
            py,
            0.085 * front.scale,
            shade(str(rng.choice(["red", "pink", "yellow", "purple", "white"])), rng),
        )


StateEffect = Callable[[Pen, Pen, Places, Image.Image, np.random.Generator, Instance], None]
STATES: dict[str, StateEffect] = {
    f.__name__: f
    for f in (
        broken,
        bouquet,
        steam,
        spilling,
        moss,
        fire,
        smile,
        wheels,
        ribbon,
        coins,
        rainbow,
        broken_leg,
        books,
        cushion,
        ivy,
        feathers,
        blanket,
        cracked,
        melting,
        branch,
        blossoms,
    )
}
STATES["upside_down"] = lambda *_: None  # a pose: picture.py turns the thing

# ---- styles: the whole picture


def _warp(image: np.ndarray, rng: np.random.Generator, cells: int, reach: float) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    dy, dx = (((smooth_noise(rng, cells) - 0.5) * 2 * reach).astype(int) for _ in range(2))
    return image[np.clip(y + dy, 0, SIZE - 1), np.clip(x + dx, 0, SIZE - 1)]


def oil(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Wobbly strokes, few and saturated tones, a warm canvas."""
    a: np.ndarray = _warp(np.asarray(image), rng, 32, 4).astype(np.float32)
    a = np.round(a / 36) * 36
    grey = a.mean(axis=-1, keepdims=True)
    a = (grey + (a - grey) * 1.35) * 0.88 + np.array((34, 22, 0))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    strokes = 13 * np.sin((x * 0.8 + y * 1.3) / 1.7 + 8 * smooth_noise(rng, 7))
    return Image.fromarray(np.clip(a + strokes[..., None], 0, 255).astype(np.uint8))


def watercolor(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Pale washes that run at the edges, and white paper around them."""
    soft = image.filter(ImageFilter.GaussianBlur(1.2))
    a: np.ndarray = _warp(np.asarray(soft), rng, 12, 3).astype(np.float32)
    a = 255 - (255 - a) * (0.55 + 0.4 * smooth_noise(rng, 9))[..., None]
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    edge = np.minimum.reduce([x, y, SIZE - 1 - x, SIZE - 1 - y]) + 16 * (
        smooth_noise(rng, 10) - 0.5
    )
    paper = np.clip((edge - 9) / 5, 0, 1)[..., None]
    return Image.fromarray((a * paper + np.array((252, 250, 244)) * (1 - paper)).astype(np.uint8))


def sketch(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Dark lines where tones change, light hatching where it is dark, white paper."""
    grey = np.asarray(image.convert("L")).astype(np.float32)
    blur = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(3))).astype(np.float32)
    lines = np.clip(grey / np.maximum(blur, 1) * 1.04, 0, 1)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    hatch = ((x + y) % 6 < 2) & (blur < 120)
    tone = 250 * lines**2.2 - 52 * hatch
    tone = np.clip(tone + 10 * (rng.random((SIZE, SIZE)) - 0.5), 30, 252)
    return Image.fromarray(np.repeat(tone[..., None], 3, axis=-1).astype(np.uint8))


def pixel(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blocks of three by three final pixels, in few tones."""
    small = image.resize((22, 22), Image.Resampling.BOX)
    a = np.clip(np.round(np.asarray(small).astype(np.float32) / 42) * 42, 0, 255).astype(np.uint8)
    return Image.fromarray(np.kron(a, np.ones((6, 6, 1), dtype=np.uint8))[:SIZE, :SIZE])


STYLES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "oil": oil, "watercolor": watercolor, "sketch": sketch, "pixel": pixel,
}  # fmt: skip
