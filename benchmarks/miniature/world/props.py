"""Outfits and activities: where a body's parts are in, drawings behind and in front of it out.

Every function takes two pens in the body's coordinates (behind it, in front of it), its Parts and a
random stream.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.miniature.world.animals import Parts
from benchmarks.miniature.world.canvas import INK, Color, Pen, arc, darker, lighter, shade

Prop = Callable[[Pen, Pen, Parts, np.random.Generator], None]


def _any(rng: np.random.Generator, *names: str) -> Color:
    return shade(str(rng.choice(names)), rng)


def _paws(front: Pen, p: Parts) -> None:
    for x, y in p.hands:
        front.oval(x, y, 0.12, 0.1, p.paw, w=0.03)


def _robe(front: Pen, p: Parts, color: Color, trim: Color | None = None) -> None:
    """Cloth over the chest, down to the feet of upright bodies."""
    cx, cy, w, h = p.chest
    low = cy + h * 0.95
    front.poly(
        [
            (cx - w * 0.7, cy - h * 0.85),
            (cx + w * 0.7, cy - h * 0.85),
            (cx + w * 1.08, low),
            (cx - w * 1.08, low),
        ],
        color,
    )
    if trim:
        front.box(cx - w * 1.06, low - 0.1, cx + w * 1.06, low, trim, w=0.03)


def wings(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, w, h = p.chest
    for side in (-1, 1):
        for k, (reach, rise) in enumerate(((0.85, 0.75), (0.8, 0.4), (0.65, 0.1))):
            x, y = cx + side * (w * 0.6 + reach * 0.5), cy - h * 0.2 - rise * 0.5
            back.oval(
                x,
                y,
                reach * 0.6,
                0.2,
                (250, 250, 255) if k else (236, 240, 252),
                turn=side * (-0.75 + 0.45 * k),
                w=0.035,
            )


def sombrero(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    (x, _, r), y = p.head, p.top
    color = _any(rng, "yellow", "orange")
    front.oval(x, y + 0.04, r * 1.9, r * 0.36, color)
    front.poly(
        [
            (x - r * 0.62, y),
            (x - r * 0.35, y - r * 0.95),
            (x + r * 0.35, y - r * 0.95),
            (x + r * 0.62, y),
        ],
        color,
    )
    front.box(x - r * 0.6, y - r * 0.28, x + r * 0.6, y - r * 0.06, (200, 40, 50), None)
    for k in range(-3, 4):
        front.dot(x + k * r * 0.5, y + r * 0.27 - abs(k) * 0.03, 0.045, (60, 160, 80))


def samurai(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, w, h = p.chest
    color = _any(rng, "red", "black")
    for k in range(3):
        y = cy - h * 0.75 + k * h * 0.5
        front.box(
            cx - w * (0.85 + 0.1 * k),
            y,
            cx + w * (0.85 + 0.1 * k),
            y + h * 0.46,
            color if k % 2 else darker(color, 0.3),
            w=0.03,
        )
        front.stroke(
            [(cx - w * 0.8, y + h * 0.23), (cx + w * 0.8, y + h * 0.23)], (230, 190, 80), 0.04
        )
    hx, _, r = p.head
    y = p.top
    front.poly(
        [
            *arc(hx, y + r * 0.35, r * 1.12, r * 0.8, 0.5, 1.0),
            (hx + r * 1.4, y + r * 0.55),
            (hx - r * 1.4, y + r * 0.55),
        ],
        darker(color, 0.15),
    )
    front.stroke(
        [
            (hx - r * 0.75, y - r * 0.75),
            (hx - r * 0.4, y - r * 0.1),
            (hx, y),
            (hx + r * 0.4, y - r * 0.1),
            (hx + r * 0.75, y - r * 0.75),
        ],
        (245, 205, 80),
        0.1,
    )
    x, hy = p.hands[1]
    front.stroke([(x + 0.02, hy + 0.15), (x + 0.22, hy - 0.75)], (215, 222, 232), 0.08)
    front.stroke([(x - 0.08, hy - 0.06), (x + 0.16, hy)], (230, 190, 80), 0.07)
    _paws(front, p)


def superhero(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    nx, ny, nw = p.neck
    cx, cy, w, h = p.chest
    color = _any(rng, "red", "blue")
    other = (230, 40, 50) if color[2] > color[0] else (40, 80, 220)
    back.poly(
        [
            (nx - nw, ny - 0.05),
            (nx + nw, ny - 0.05),
            (cx + w + 0.42, cy + h * 1.0),
            (cx - w - 0.42, cy + h * 1.0),
        ],
        other,
    )
    front.poly(
        [
            (cx - w * 0.75, cy - h * 0.8),
            (cx + w * 0.75, cy - h * 0.8),
            (cx + w * 0.9, cy + h * 0.6),
            (cx - w * 0.9, cy + h * 0.6),
        ],
        color,
    )
    front.box(cx - w * 0.9, cy + h * 0.42, cx + w * 0.9, cy + h * 0.62, (250, 215, 60), w=0.03)
    front.poly(
        [(cx - 0.2, cy - h * 0.5), (cx + 0.2, cy - h * 0.5), (cx, cy + h * 0.25)],
        (250, 215, 60),
        w=0.03,
    )
    (ax, ay), (bx, by) = p.eyes
    r = p.head[2]
    front.poly(
        [
            (ax - r * 0.45, ay - 0.13),
            (bx + r * 0.45, by - 0.13),
            (bx + r * 0.35, by + 0.12),
            ((ax + bx) / 2, ay + 0.05),
            (ax - r * 0.35, ay + 0.12),
        ],
        other,
        w=0.03,
    )
    for x, y in p.eyes:
        front.oval(x, y, 0.07, 0.05, (255, 255, 255), None)


def wizard(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    color = _any(rng, "purple", "blue")
    _robe(front, p, color, (240, 205, 70))
    x, _, r = p.head
    y = p.top
    front.poly(
        [
            (x - r * 0.85, y + 0.06),
            (x + r * 0.85, y + 0.06),
            (x + r * 0.3, y - r * 0.9),
            (x + r * 0.55, y - r * 1.45),
        ],
        color,
    )
    front.oval(x, y + 0.06, r * 1.25, r * 0.2, darker(color, 0.2))
    for dx, dy in ((-0.15, -0.3), (0.2, -0.6)):
        front.dot(x + dx * r, y + dy * r, 0.06, (250, 225, 90))
    hx, hy = p.hands[0]
    front.stroke([(hx - 0.06, hy + 0.45), (hx - 0.12, hy - 0.65)], (120, 78, 45), 0.08)
    front.dot(hx - 0.12, hy - 0.72, 0.12, (120, 235, 240))
    _paws(front, p)


def suit(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, w, h = p.chest
    blue = (38, 66, 156)
    _robe(front, p, blue)
    front.poly(
        [(cx - w * 0.3, cy - h * 0.85), (cx + w * 0.3, cy - h * 0.85), (cx, cy + h * 0.25)],
        (250, 250, 250),
        w=0.03,
    )
    front.poly(
        [
            (cx - 0.05, cy - h * 0.8),
            (cx + 0.05, cy - h * 0.8),
            (cx + 0.08, cy),
            (cx, cy + 0.12),
            (cx - 0.08, cy),
        ],
        (205, 40, 50),
        None,
    )
    for k in (0.4, 0.65):
        front.dot(cx, cy + h * k, 0.04, (240, 215, 120))


def costume(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    """A jester's: two halves of two colours, a collar, a cap with bells."""
    cx, cy, w, h = p.chest
    one, two = _any(rng, "green", "purple"), _any(rng, "yellow", "orange")
    low = cy + h * 0.85
    front.poly([(cx - w * 0.75, cy - h * 0.8), (cx, cy - h * 0.8), (cx, low), (cx - w, low)], one)
    front.poly([(cx + w * 0.75, cy - h * 0.8), (cx, cy - h * 0.8), (cx, low), (cx + w, low)], two)
    nx, ny, nw = p.neck
    for k in range(-2, 3):
        front.dot(nx + k * nw * 0.45, ny + 0.06, 0.1, (250, 250, 250))
    x, _, r = p.head
    y = p.top + 0.05
    for side, color in ((-1, one), (1, two)):
        front.poly(
            [
                (x, y - r * 0.25),
                (x + side * r * 0.7, y - r * 0.9),
                (x + side * r * 1.35, y - r * 0.35),
                (x + side * r * 0.95, y + r * 0.15),
                (x, y + 0.06),
            ],
            color,
        )
        front.dot(x + side * r * 1.35, y - r * 0.32, 0.09, (250, 215, 70))


def chef(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    _robe(front, p, (250, 250, 250))
    cx, cy, _, h = p.chest
    for k in (-0.4, 0.0, 0.4):
        for side in (-1, 1):
            front.dot(cx + side * 0.1, cy + k * h, 0.035, INK)
    nx, ny, nw = p.neck
    front.poly([(nx - nw, ny - 0.02), (nx + nw, ny - 0.02), (nx, ny + 0.2)], (215, 45, 50), w=0.03)
    x, _, r = p.head
    y = p.top
    for dx in (-0.5, 0.5, 0.0):
        front.oval(x + dx * r, y - r * 0.62, r * 0.5, r * 0.42, (252, 252, 252), w=0.035)
    front.box(x - r * 0.62, y - r * 0.5, x + r * 0.62, y + 0.04, (252, 252, 252), w=0.035)


def pirate(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, w, h = p.chest
    front.poly(
        [
            (cx - w * 0.75, cy - h * 0.8),
            (cx + w * 0.75, cy - h * 0.8),
            (cx + w, cy + h * 0.75),
            (cx - w, cy + h * 0.75),
        ],
        (250, 250, 250),
    )
    for k in range(4):
        y = cy - h * 0.55 + k * h * 0.36
        front.stroke([(cx - w * 0.78, y), (cx + w * 0.78, y)], (205, 40, 50), 0.09)
    x, _, r = p.head
    y = p.top
    front.poly(
        [
            (x - r * 1.3, y - r * 0.25),
            (x - r * 0.4, y - r * 0.65),
            (x, y - r * 0.9),
            (x + r * 0.4, y - r * 0.65),
            (x + r * 1.3, y - r * 0.25),
            (x + r * 0.8, y + r * 0.15),
            (x - r * 0.8, y + r * 0.15),
        ],
        (30, 28, 34),
    )
    front.dot(x, y - r * 0.32, r * 0.2, (245, 245, 240))
    (ex, ey) = p.eyes[1]
    front.stroke([(ex - r * 0.9, ey - r * 0.25), (ex + r * 0.35, ey + r * 0.1)], INK, 0.04)
    front.oval(ex, ey, 0.12, 0.11, INK, None)


def astronaut(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, w, h = p.chest
    white = (238, 240, 246)
    back.box(cx - w * 1.05, cy - h * 0.95, cx + w * 1.05, cy + h * 0.4, (200, 204, 214))
    front.oval(cx, cy, w * 1.05, h * 0.98, white)
    front.box(cx - w * 0.45, cy - h * 0.25, cx + w * 0.45, cy + h * 0.3, (210, 214, 224), w=0.03)
    for k, color in enumerate(((230, 60, 60), (70, 190, 90), (60, 120, 230))):
        front.dot(cx + (k - 1) * w * 0.25, cy, 0.05, color)
    x, y, r = p.head
    for grow in (1.3, 1.2):
        ring = arc(x, y, r * grow, r * grow, 0, 1, 28)
        front.stroke(ring, INK if grow == 1.3 else white, 0.05 if grow == 1.3 else 0.12)
    front.stroke(arc(x, y, r * 1.0, r * 1.0, 0.55, 0.68, 6), (255, 255, 255), 0.08)


def crown(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, _, r = p.head
    y = p.top + 0.06
    a = r * 0.72
    front.poly(
        [
            (x - a, y),
            (x - a * 1.1, y - r * 0.75),
            (x - a * 0.5, y - r * 0.35),
            (x, y - r * 0.9),
            (x + a * 0.5, y - r * 0.35),
            (x + a * 1.1, y - r * 0.75),
            (x + a, y),
        ],
        (252, 208, 50),
    )
    for dx, color in ((-0.5, (220, 40, 60)), (0.0, (50, 110, 230)), (0.5, (220, 40, 60))):
        front.dot(x + dx * a, y - r * 0.15, 0.06, color)


def scarf(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y, w = p.neck
    red = (212, 30, 44)
    front.box(x + w * 0.2, y, x + w * 0.65, y + 0.48, darker(red, 0.12))
    front.oval(x, y + 0.02, w * 1.15, 0.14, red)
    front.stroke([(x + w * 0.25, y + 0.38), (x + w * 0.6, y + 0.38)], (250, 240, 230), 0.05)


def headphones(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y, r = p.head
    color = _any(rng, "black", "blue", "red")
    front.stroke(arc(x, y, r * 1.12, r * 1.15, 0.5, 1.0), INK, 0.15)
    front.stroke(arc(x, y, r * 1.12, r * 1.15, 0.5, 1.0), color, 0.09)
    for side in (-1, 1):
        front.oval(x + side * r * 1.1, y + 0.05, r * 0.3, r * 0.45, color)
        front.oval(x + side * r * 1.05, y + 0.05, r * 0.14, r * 0.3, lighter(color, 0.5), None)


def partyhat(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, _, r = p.head
    y = p.top + 0.05
    color = _any(rng, "pink", "green", "blue")
    front.poly([(x - r * 0.5, y), (x + r * 0.5, y), (x, y - r * 1.3)], color)
    for dx, dy in ((-0.15, -0.2), (0.15, -0.35), (-0.05, -0.7)):
        front.dot(x + dx * r, y + dy * r, 0.05, (255, 245, 120))
    front.dot(x, y - r * 1.3, 0.11, (255, 240, 90))


def tophat(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, _, r = p.head
    y = p.top + 0.03
    front.box(x - r * 0.6, y - r * 1.05, x + r * 0.6, y, (40, 36, 46))
    front.box(x - r * 0.6, y - r * 0.35, x + r * 0.6, y - r * 0.12, (190, 40, 60), None)
    front.oval(x, y, r * 1.0, r * 0.16, (40, 36, 46))


def book(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    (ax, ay), (bx, by) = p.hands
    x, y = p.chest[0] if bx - ax > 0.8 else (ax + bx) / 2, (ay + by) / 2
    cover = _any(rng, "red", "blue", "green")
    front.poly(
        [
            (x - 0.5, y - 0.3),
            (x, y - 0.2),
            (x + 0.5, y - 0.3),
            (x + 0.5, y + 0.24),
            (x, y + 0.34),
            (x - 0.5, y + 0.24),
        ],
        cover,
    )
    for side in (-1, 1):
        front.poly(
            [
                (x, y - 0.18),
                (x + side * 0.43, y - 0.27),
                (x + side * 0.43, y + 0.18),
                (x, y + 0.27),
            ],
            (252, 250, 240),
            w=0.025,
        )
        for k in range(3):
            front.stroke(
                [(x + side * 0.08, y - 0.07 + k * 0.1), (x + side * 0.36, y - 0.13 + k * 0.1)],
                (140, 140, 140),
                0.03,
            )
    for side in (-1, 1):
        front.oval(x + side * 0.5, y + 0.02, 0.11, 0.1, p.paw, w=0.03)


def cook(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y = p.hands[1]
    front.stroke([(x, y), (x + 0.3, y)], INK, 0.09)
    front.poly(
        [(x + 0.25, y - 0.06), (x + 0.95, y - 0.06), (x + 0.85, y + 0.14), (x + 0.35, y + 0.14)],
        (58, 58, 66),
    )
    front.oval(x + 0.6, y - 0.1, 0.2, 0.1, (250, 250, 245), w=0.03)
    front.dot(x + 0.6, y - 0.12, 0.08, (250, 190, 40))
    for dx in (0.42, 0.66, 0.86):
        front.stroke(
            [(x + dx, y - 0.3), (x + dx + 0.06, y - 0.42), (x + dx - 0.02, y - 0.55)],
            (250, 250, 250),
            0.045,
        )
    _paws(front, p)


def act(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    """A mask of comedy on a stick."""
    x, y = p.hands[0]
    front.stroke([(x, y), (x - 0.15, y - 0.35)], (230, 200, 90), 0.06)
    front.oval(x - 0.2, y - 0.55, 0.22, 0.27, (252, 250, 244))
    for dx in (-0.09, 0.09):
        front.oval(x - 0.2 + dx, y - 0.6, 0.045, 0.035, INK, None)
    front.stroke(arc(x - 0.2, y - 0.5, 0.1, 0.1, 0.05, 0.45, 6), (200, 40, 50), 0.05)
    _paws(front, p)


def beachball(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y = p.hands[1]
    r = 0.34
    cx, cy = x + 0.3, y - 0.12
    front.oval(cx, cy, r, r, (250, 250, 250))
    for k, color in enumerate(((226, 50, 60), (50, 120, 230), (250, 205, 60))):
        a = k / 3 + 0.05
        front.poly([(cx, cy), *arc(cx, cy, r * 0.93, r * 0.93, a, a + 0.17, 5)], color, None)
    _paws(front, p)


def umbrella(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y = p.hands[1]
    top = min(p.top - 0.35, y - 1.0)
    color = _any(rng, "red", "yellow", "blue", "pink")
    front.stroke([(x, y + 0.1), (x, top)], INK, 0.06)
    cx, a = x - 0.3, 0.95
    dome = arc(cx, top + 0.12, a, 0.5, 0.5, 1.0)
    scallops = [
        pt
        for k in range(4)
        for pt in arc(cx + a - (k + 0.5) * a / 2, top + 0.14, a / 4, 0.1, 0.0, 0.5, 5)
    ]
    front.poly(dome + scallops[1:], color)
    for k in (-0.5, 0.0, 0.5):
        front.stroke([(cx, top - 0.36), (cx + k * a, top + 0.14)], darker(color, 0.3), 0.03)
    _paws(front, p)


def skateboard(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    color = _any(rng, "red", "green", "purple", "orange")
    front.poly(
        [
            (-1.05, 0.84),
            (-0.85, 0.95),
            (0.85, 0.95),
            (1.05, 0.84),
            (1.0, 1.02),
            (0.8, 1.08),
            (-0.8, 1.08),
            (-1.0, 1.02),
        ],
        color,
    )
    for x in (-0.6, 0.6):
        front.oval(x, 1.14, 0.13, 0.12, (240, 240, 235))
        front.dot(x, 1.14, 0.04, INK)


def bed(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    color = _any(rng, "blue", "green", "pink", "purple")
    hx, hy, r = p.head
    back.box(-1.35, hy - r * 1.0, 1.35, 0.9, (150, 98, 56))
    back.oval(hx, hy + r * 0.35, r * 1.75, r * 0.85, (250, 250, 252))
    y = p.neck[1] + 0.02
    front.poly([(-1.3, y), (1.3, y), (1.38, 1.0), (-1.38, 1.0)], color)
    front.box(-1.3, y, 1.3, y + 0.16, (252, 252, 252), w=0.03)
    for k in range(5):
        front.dot(-1.0 + 0.5 * k, y + 0.42, 0.07, lighter(color, 0.6))
    for x, ey in p.eyes:  # closed
        front.oval(x, ey, 0.12, 0.1, p.paw, None)
        front.stroke(arc(x, ey, 0.09, 0.05, 0.05, 0.45, 6), INK, 0.04)
    x, top = hx + r * 1.1, p.top
    for k in range(2):
        zx, zy, z = x + 0.25 * k, top - 0.1 - 0.28 * k, 0.1 + 0.03 * k
        front.stroke(
            [(zx - z, zy - z), (zx + z, zy - z), (zx - z, zy + z), (zx + z, zy + z)],
            (60, 60, 150),
            0.05,
        )


def guitar(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    cx, cy, _, _ = p.chest
    color = _any(rng, "orange", "brown", "red")
    front.tube([(cx, cy), (cx + 0.85, cy - 0.55)], (120, 78, 46), 0.1)
    front.box(cx + 0.78, cy - 0.68, cx + 0.98, cy - 0.5, (60, 40, 30), w=0.03)
    front.oval(cx + 0.12, cy - 0.04, 0.24, 0.2, color)
    front.oval(cx - 0.2, cy + 0.16, 0.34, 0.29, color)
    front.dot(cx - 0.06, cy + 0.06, 0.1, (40, 28, 24))
    front.stroke([(cx - 0.3, cy + 0.2), (cx + 0.85, cy - 0.55)], (250, 245, 220), 0.025)
    front.oval(cx - 0.15, cy + 0.2, 0.11, 0.09, p.paw, w=0.03)
    front.oval(cx + 0.6, cy - 0.38, 0.11, 0.09, p.paw, w=0.03)


def pizza(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y = p.hands[1]
    front.poly([(x - 0.35, y - 0.42), (x + 0.38, y - 0.5), (x + 0.08, y + 0.2)], (252, 212, 100))
    front.stroke([(x - 0.35, y - 0.44), (x + 0.38, y - 0.52)], (196, 132, 66), 0.14)
    for dx, dy in ((-0.12, -0.28), (0.16, -0.32), (0.04, -0.1)):
        front.dot(x + dx, y + dy, 0.085, (206, 50, 40))
    _paws(front, p)


def balloons(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, y = p.hands[1]
    top = max(min(p.top, y - 0.9), -1.25)
    for dx, dy, color in (
        (-0.3, 0.05, (232, 56, 66)),
        (0.32, 0.08, (60, 130, 235)),
        (0.0, -0.22, (250, 205, 60)),
    ):
        bx, by = x + 0.18 + dx, top + dy
        back.stroke([(x, y), (bx, by + 0.3)], (90, 90, 90), 0.025)
        back.oval(bx, by, 0.25, 0.3, color)
        back.oval(bx - 0.08, by - 0.1, 0.06, 0.09, lighter(color, 0.6), None)
    _paws(front, p)


def bathtub(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    y = max(p.neck[1] + 0.12, 0.12)
    front.poly([(-1.25, y), (1.25, y), (1.05, 0.92), (-1.05, 0.92)], (248, 248, 250))
    front.box(-1.35, y - 0.06, 1.35, y + 0.08, (232, 234, 240))
    for x in (-0.85, 0.85):
        front.oval(x, 0.97, 0.13, 0.09, (212, 176, 82))
    for k in range(9):
        x = -1.1 + 0.27 * k
        front.oval(
            x, y - 0.08 - 0.09 * (k % 3), 0.17, 0.15, (225, 242, 252), (150, 190, 220), w=0.025
        )
    front.oval(0.95, y - 0.34, 0.15, 0.12, (252, 212, 50))
    front.oval(1.03, y - 0.46, 0.08, 0.08, (252, 212, 50))


def drive(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    y = max(p.neck[1] + 0.15, 0.1)
    color = _any(rng, "red", "green", "blue", "yellow")
    front.poly(
        [
            (-1.4, y + 0.1),
            (-1.2, y),
            (1.05, y),
            (1.15, y + 0.16),
            (1.5, y + 0.26),
            (1.5, 0.86),
            (-1.4, 0.86),
        ],
        color,
    )
    front.poly([(0.72, y), (0.95, y), (0.85, y - 0.42), (0.78, y - 0.42)], (190, 226, 246), w=0.03)
    front.stroke(arc(0.55, y - 0.06, 0.1, 0.2, 0, 1), (50, 50, 56), 0.06)
    front.oval(1.42, y + 0.42, 0.1, 0.1, (255, 244, 170), w=0.03)
    for x in (-0.85, 0.95):
        front.oval(x, 0.88, 0.25, 0.24, (46, 46, 50))
        front.dot(x, 0.88, 0.1, (215, 215, 220))


def boat(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    y = max(p.neck[1] + 0.25, 0.3)
    color = _any(rng, "brown", "red", "green")
    for side in (-1, 1):
        front.stroke([(side * 0.4, y - 0.12), (side * 1.45, y + 0.5)], (120, 80, 46), 0.07)
    front.poly(
        [
            (-1.4, y - 0.08),
            (-1.0, y + 0.06),
            (1.0, y + 0.06),
            (1.4, y - 0.08),
            (1.02, 0.98),
            (-1.02, 0.98),
        ],
        color,
    )
    front.stroke([(-1.22, y + 0.28), (1.22, y + 0.28)], lighter(color, 0.4), 0.07)
    for side in (-1, 1):
        front.oval(side * 1.45, y + 0.55, 0.16, 0.09, (120, 80, 46), turn=side * 0.6)


def cake(back: Pen, front: Pen, p: Parts, rng: np.random.Generator) -> None:
    x, base = p.chest[0] + p.chest[2] + 0.5, 0.98
    color = _any(rng, "pink", "brown", "yellow")
    front.box(x - 0.42, base - 0.34, x + 0.42, base, lighter(color, 0.2))
    front.box(x - 0.3, base - 0.62, x + 0.3, base - 0.34, (252, 246, 236))
    for k in range(5):
        front.dot(x - 0.36 + 0.18 * k, base - 0.33, 0.08, (252, 246, 236))
    for dx in (-0.17, 0.0, 0.17):
        front.stroke([(x + dx, base - 0.62), (x + dx, base - 0.82)], (70, 140, 230), 0.06)
        front.dot(x + dx, base - 0.88, 0.06, (255, 170, 40))


WEAR: dict[str, Prop] = {
    f.__name__: f
    for f in (
        sombrero,
        samurai,
        superhero,
        wizard,
        suit,
        costume,
        chef,
        pirate,
        astronaut,
        crown,
        scarf,
        headphones,
        partyhat,
        tophat,
        wings,
    )
}
DO: dict[str, Prop] = {
    f.__name__: f
    for f in (
        book,
        cook,
        act,
        beachball,
        umbrella,
        skateboard,
        bed,
        guitar,
        pizza,
        balloons,
        bathtub,
        drive,
        boat,
        cake,
    )
}
# where an activity happens when nobody says where
DO_SCENE = {
    "cook": "kitchen",
    "act": "stage",
    "beachball": "water",
    "boat": "water",
    "drive": "road",
}
