"""Everything else: pots, chairs, sunglasses, lamps. A pen and an instance in, the drawing and its
places out.
"""

from dataclasses import dataclass, field

from benchmarks.miniature.world.canvas import INK, Pen, Point, arc, blend, darker, lighter, mix
from benchmarks.miniature.world.instance import Instance, coat


@dataclass(frozen=True)
class Places:
    """Where states and companions attach, in the thing's own coordinates."""

    opening: tuple[float, float, float]  # centre and half width of the top
    face: tuple[float, float, float]  # centre and radius of the front
    box: tuple[float, float, float, float]  # left, top, right, bottom
    legs: tuple[Point, ...] = ()
    lenses: tuple[tuple[float, float, float, float], ...] = field(default=())


def pot(pen: Pen, one: Instance) -> Places:
    s, clay = one.shape, coat(pen, one)
    top, belly_w, foot = mix(0.42, 0.62, s[0]), mix(0.6, 0.82, s[1]), mix(0.34, 0.55, s[2])
    y0 = mix(-0.45, -0.2, s[3])
    if s[4] > 0.45:
        for side in (-1, 1):
            pen.tube(
                arc(side * belly_w * 0.92, mix(0.05, 0.2, s[4]), 0.17, 0.2, 0, 1), one.accent, 0.07
            )
    pen.poly(
        [
            (-top, y0),
            (top, y0),
            (belly_w, 0.3),
            (belly_w * 0.9, 0.62),
            (foot, 0.93),
            (-foot, 0.93),
            (-belly_w * 0.9, 0.62),
            (-belly_w, 0.3),
        ],
        clay,
    )
    rim = mix(0.1, 0.18, s[5])
    pen.box(-top - 0.09, y0 - rim, top + 0.09, y0 + 0.02, one.second)
    pen.oval(0, y0 - rim, top + 0.06, 0.075, darker(one.main, 0.6))
    return Places((0, y0 - rim, top), (0, 0.35, belly_w * 0.5), (-belly_w, y0 - rim, belly_w, 0.95))


def teapot(pen: Pen, one: Instance) -> Places:
    s, glaze = one.shape, coat(pen, one)
    bw, bh = mix(0.48, 0.6, s[0]), mix(0.4, 0.52, s[1])
    cy = 0.93 - bh
    reach = mix(0.22, 0.4, s[2])
    pen.tube(arc(-bw, cy, mix(0.22, 0.32, s[3]), bh * 0.6, 0.25, 0.75), one.second, 0.1)
    pen.poly(
        [
            (bw * 0.75, cy + 0.22),
            (bw * 0.8, cy - 0.08),
            (bw + reach, cy - mix(0.35, 0.55, s[4])),
            (bw + reach + 0.12, cy - mix(0.3, 0.5, s[4])),
        ],
        one.main,
    )
    pen.oval(0, cy, bw, bh, glaze)
    pen.box(-bw * 0.5, 0.86, bw * 0.5, 0.95, one.second)
    lid = cy - bh * 0.88
    pen.poly(arc(0, lid + 0.05, bw * 0.55, mix(0.14, 0.28, s[5]), 0.5, 1.0), one.second)
    knob = lid - mix(0.14, 0.28, s[5]) + 0.02
    pen.oval(0, knob, 0.09, 0.09, one.accent)
    return Places(
        (0, lid - 0.02, bw * 0.5),
        (0, cy + 0.02, bw * 0.55),
        (-bw - 0.2, lid - 0.2, bw + reach, 0.95),
    )


def chair(pen: Pen, one: Instance) -> Places:
    s = one.shape
    w, back = mix(0.42, 0.56, s[0]), mix(-0.95, -0.7, s[1])
    seat = mix(0.12, 0.26, s[2])
    thick = mix(0.07, 0.12, s[3])
    legs = ((-w + 0.06, 0.94), (w - 0.06, 0.94), (-w * 0.55, 0.78), (w * 0.55, 0.78))
    for x, y in legs[2:]:
        pen.box(x - thick / 2, seat, x + thick / 2, y, darker(one.second, 0.3), w=0.03)
    frame = coat(pen, one)
    if s[4] < 0.35:  # solid back
        pen.box(-w, back, w, seat, frame)
        pen.box(-w * 0.65, back + 0.14, w * 0.65, seat - 0.2, one.accent, w=0.03)
    elif s[4] < 0.7:  # upright bars
        pen.box(-w, back, w, back + 0.2, frame)
        for x in (-w + 0.06, -w * 0.33, w * 0.33, w - 0.06):
            pen.box(x - 0.055, back + 0.16, x + 0.055, seat, one.main)
    else:  # round back
        pen.poly([*arc(0, back + 0.45, w, 0.45, 0.5, 1.0), (w, seat), (-w, seat)], frame)
        pen.oval(0, back + 0.48, w * 0.5, 0.25, one.accent, w=0.03)
    for x, y in legs[:2]:
        pen.box(x - thick, seat + 0.1, x + thick, y, one.second)
    pen.poly(
        [(-w, seat - 0.02), (w, seat - 0.02), (w + 0.1, seat + 0.2), (-w - 0.1, seat + 0.2)],
        one.main,
    )
    pen.box(-w - 0.1, seat + 0.2, w + 0.1, seat + 0.3, one.second)
    return Places(
        (0, seat + 0.08, w), (0, (back + seat) / 2, w * 0.6), (-w - 0.1, back, w + 0.1, 0.95), legs
    )


def sunglasses(pen: Pen, one: Instance) -> Places:
    """Two lenses, a bridge, the ends of two temples; shape[0] from round to square, shape[3] tilts
    like a cat's eye.
    """
    s, frame = one.shape, coat(pen, one)
    rx, ry = mix(0.36, 0.44, s[1]), mix(0.26, 0.4, s[2])
    gap = 0.07
    cy, tilt = 0.5, mix(-0.05, 0.32, s[3])
    tint = blend(one.accent, (20, 20, 35), mix(0.15, 0.7, s[4]))
    lenses = []
    for side in (-1, 1):
        cx = side * (gap + rx)
        pen.tube(
            [
                (cx + side * rx * 0.9, cy - ry * 0.55),
                (cx + side * (rx + 0.13), cy - ry * 0.75 - tilt * 0.3),
            ],
            one.second,
            0.08,
        )
        for grow, fill in ((1.0, frame), (mix(0.72, 0.82, s[5]), tint)):
            a, b = rx * grow, ry * grow
            if s[0] < 0.45:
                pen.oval(cx, cy, a, b, fill, turn=-side * tilt)
            else:
                lift = tilt * b
                pen.poly(
                    [
                        (cx - a, cy - b * 0.85 - (lift if side < 0 else 0)),
                        (cx + a, cy - b * 0.85 - (lift if side > 0 else 0)),
                        (cx + a * 0.85, cy + b * 0.8),
                        (cx + a * 0.3, cy + b),
                        (cx - a * 0.3, cy + b),
                        (cx - a * 0.85, cy + b * 0.8),
                    ],
                    fill,
                )
        pen.stroke(
            [(cx - rx * 0.4, cy + ry * 0.1), (cx - rx * 0.05, cy - ry * 0.4)],
            lighter(tint, 0.6),
            0.06,
        )
        lenses.append((cx, cy, rx, ry))
    pen.tube(
        [(-gap - 0.03, cy - ry * 0.35), (0, cy - ry * 0.5), (gap + 0.03, cy - ry * 0.35)],
        one.second,
        0.08,
    )
    return Places(
        (0, cy - ry, 0.8), (0, cy, 0.6), (-0.95, cy - ry, 0.95, cy + ry), lenses=tuple(lenses)
    )


def lamp(pen: Pen, one: Instance) -> Places:
    s = one.shape
    top, low = mix(0.22, 0.34, s[0]), mix(0.42, 0.58, s[1])
    pen.oval(0, 0.88, 0.36, 0.08, one.second)
    pen.box(-0.05, -0.2, 0.05, 0.88, one.second)
    pen.poly([(-top, -0.95), (top, -0.95), (low, -0.2), (-low, -0.2)], coat(pen, one))
    pen.oval(0, -0.18, low * 0.8, 0.06, (255, 245, 180), None)
    return Places((0, -0.95, top), (0, -0.55, 0.3), (-low, -0.95, low, 0.95))


def shoe(pen: Pen, one: Instance) -> Places:
    s = one.shape
    ankle = mix(-0.25, 0.1, s[0])
    pen.poly(
        [
            (-0.75, ankle),
            (-0.2, ankle),
            (0.05, 0.35),
            (0.6, mix(0.4, 0.52, s[1])),
            (0.85, 0.68),
            (0.85, 0.82),
            (-0.78, 0.82),
        ],
        coat(pen, one),
    )
    pen.box(-0.82, 0.78, 0.9, 0.95, one.second)
    for k in range(3):
        x = -0.05 + 0.18 * k
        pen.stroke([(x - 0.1, 0.3 + 0.07 * k), (x + 0.1, 0.2 + 0.08 * k)], (250, 250, 250), 0.06)
    pen.oval(-0.47, ankle, 0.28, 0.07, darker(one.main, 0.5))
    return Places((-0.47, ankle, 0.25), (0.1, 0.6, 0.3), (-0.8, ankle, 0.9, 0.95))


def clock(pen: Pen, one: Instance) -> Places:
    s = one.shape
    r = mix(0.55, 0.7, s[0])
    cy = 0.9 - r
    for side in (-1, 1):
        pen.stroke([(side * r * 0.5, cy + r * 0.8), (side * r * 0.65, 0.95)], INK, 0.12)
        if s[1] > 0.5:
            pen.oval(side * r * 0.6, cy - r * 0.95, 0.2, 0.15, one.accent, turn=side * 0.6)
    pen.oval(0, cy, r, r, coat(pen, one))
    pen.oval(0, cy, r * 0.74, r * 0.74, (252, 250, 240), w=0.03)
    for k in range(12):
        (x, y), (u, v) = (
            arc(0, cy, r * 0.66, r * 0.66, k / 12, k / 12 + 0.01, 1)[0],
            arc(0, cy, r * 0.56, r * 0.56, k / 12, k / 12 + 0.01, 1)[0],
        )
        pen.stroke([(x, y), (u, v)], INK, 0.03)
    pen.stroke([(0, cy), arc(0, cy, r * 0.35, r * 0.35, s[2], 1)[0]], INK, 0.07)
    pen.stroke([(0, cy), arc(0, cy, r * 0.55, r * 0.55, s[3], 1)[0]], one.second, 0.05)
    return Places((0, cy - r, r * 0.5), (0, cy, r * 0.6), (-r, cy - r, r, 0.95))


def table(pen: Pen, one: Instance) -> Places:
    s = one.shape
    w, top = mix(0.75, 0.95, s[0]), mix(-0.05, 0.2, s[1])
    for x in (-w * 0.6, w * 0.6):
        pen.box(x - 0.05, top, x + 0.05, 0.8, darker(one.second, 0.3), w=0.03)
    for x in (-w + 0.1, w - 0.1):
        pen.box(x - 0.08, top, x + 0.08, 0.94, one.second)
    pen.poly(
        [(-w * 0.85, top - 0.16), (w * 0.85, top - 0.16), (w, top + 0.03), (-w, top + 0.03)],
        coat(pen, one),
    )
    pen.box(-w, top + 0.03, w, top + 0.15, one.main)
    return Places((0, top - 0.08, w * 0.8), (0, top + 0.1, 0.3), (-w, top - 0.16, w, 0.95))


def car(pen: Pen, one: Instance) -> Places:
    s = one.shape
    roof, cab = mix(-0.15, 0.1, s[0]), mix(0.42, 0.6, s[1])
    pen.poly(
        [(-cab - 0.12, 0.42), (-cab + 0.1, roof), (cab - 0.15, roof), (cab + 0.12, 0.42)], one.main
    )
    for side in (-1, 1):
        pen.poly(
            [
                (side * 0.05, 0.38),
                (side * 0.05, roof + 0.09),
                (side * (cab - 0.18), roof + 0.09),
                (side * (cab - 0.02), 0.38),
            ],
            (190, 225, 245),
            w=0.03,
        )
    pen.poly(
        [(-0.95, 0.5), (-0.8, 0.38), (0.8, 0.38), (0.98, 0.52), (0.98, 0.78), (-0.95, 0.78)],
        coat(pen, one),
    )
    pen.oval(0.92, 0.55, 0.06, 0.07, (255, 240, 150), w=0.03)
    for x in (-0.55, 0.55):
        pen.oval(x, 0.78, 0.19, 0.19, (45, 45, 50))
        pen.oval(x, 0.78, 0.09, 0.09, one.second, None)
    return Places((0, roof, cab * 0.6), (0, 0.55, 0.3), (-0.95, roof, 0.98, 0.97))


def ball(pen: Pen, one: Instance) -> Places:
    r = mix(0.5, 0.66, one.shape[0])
    cy = 0.95 - r
    pen.oval(0, cy, r, r, coat(pen, one))
    pen.stroke(arc(0, cy - r * 0.1, r * 0.97, r * 0.35, 0.02, 0.48), one.accent, 0.12)
    pen.oval(-r * 0.35, cy - r * 0.45, r * 0.16, r * 0.1, lighter(one.main, 0.7), None, turn=-0.6)
    return Places((0, cy - r, r * 0.5), (0, cy, r * 0.6), (-r, cy - r, r, 0.95))


def mug(pen: Pen, one: Instance) -> Places:
    s = one.shape
    w, top = mix(0.42, 0.56, s[0]), mix(-0.35, 0.0, s[1])
    pen.tube(
        arc(w, (top + 0.9) / 2, mix(0.2, 0.3, s[2]), (0.9 - top) * 0.3, -0.25, 0.25),
        one.second,
        0.12,
    )
    pen.poly([(-w, top), (w, top), (w * 0.9, 0.93), (-w * 0.9, 0.93)], coat(pen, one))
    pen.oval(0, top, w, 0.1, lighter(one.main))
    pen.oval(0, top + 0.01, w * 0.8, 0.06, (90, 55, 35), None)
    return Places((0, top, w * 0.8), (0, 0.45, w * 0.6), (-w, top, w + 0.2, 0.95))


THINGS = {
    f.__name__: f
    for f in (pot, teapot, chair, sunglasses, lamp, shoe, clock, table, car, ball, mug)
}
