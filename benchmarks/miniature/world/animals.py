"""Everything that can wear a hat: a pen and an instance in, the drawing and where its parts are
out.
"""

from dataclasses import dataclass

from benchmarks.miniature.world.canvas import INK, Pen, Point, arc, blend, darker, lighter, mix
from benchmarks.miniature.world.instance import Instance, belly, coat

EYE = (28, 22, 26)


@dataclass(frozen=True)
class Parts:
    """Where things go on a body, in its own coordinates: props are drawn from these alone."""

    head: tuple[float, float, float]  # centre and radius
    top: float  # y where a hat sits
    eyes: tuple[Point, Point]
    neck: tuple[float, float, float]  # centre and half width
    chest: tuple[float, float, float, float]  # centre, half width, half height
    hands: tuple[Point, Point]
    paw: tuple[int, int, int]


def _eyes(
    pen: Pen, eyes: tuple[Point, Point], r: float, color: tuple[int, int, int] | None = None
) -> None:
    for x, y in eyes:
        if color:
            pen.oval(x, y, r * 1.35, r * 1.5, color, w=0.03)
        pen.dot(x, y, r, EYE)
        pen.dot(x + r * 0.3, y - r * 0.35, r * 0.38, (255, 255, 255))


def cat(pen: Pen, one: Instance) -> Parts:
    s, fur = one.shape, coat(pen, one)
    hr, bw = mix(0.37, 0.47, s[0]), mix(0.36, 0.5, s[1])
    hy = -0.38
    tail = [
        (bw * 0.7, 0.8),
        (bw + 0.25, 0.75),
        (bw + 0.3, mix(0.45, 0.1, s[2])),
        (bw + mix(0.05, 0.4, s[3]), mix(0.2, -0.2, s[2])),
    ]
    pen.tube(tail, one.main, 0.13)
    pen.dot(*tail[-1], 0.07, one.second)
    pen.oval(0, 0.48, bw, 0.53, fur)
    pen.oval(0, 0.6, bw * 0.5, 0.34, belly(one), None)
    for side in (-1, 1):
        pen.oval(side * bw * 0.5, 0.93, 0.15, 0.09, belly(one))
        ear = mix(0.16, 0.26, s[4])
        lift = mix(0.3, 0.55, s[5])
        x = side * hr * 0.62
        pen.poly(
            [
                (x - ear, hy - hr * 0.55),
                (x + side * 0.1, hy - hr * 0.6 - lift),
                (x + ear, hy - hr * 0.45),
            ],
            fur,
        )
        pen.poly(
            [
                (x - ear * 0.4, hy - hr * 0.62),
                (x + side * 0.08, hy - hr * 0.6 - lift * 0.65),
                (x + ear * 0.5, hy - hr * 0.55),
            ],
            one.accent,
            None,
        )
    pen.oval(0, hy, hr * 1.08, hr, fur)
    eyes = ((-hr * 0.42, hy - 0.04), (hr * 0.42, hy - 0.04))
    _eyes(pen, eyes, 0.075, lighter(one.accent))
    pen.oval(0, hy + hr * 0.48, hr * 0.42, hr * 0.28, belly(one), None)
    pen.poly(
        [(-0.06, hy + hr * 0.3), (0.06, hy + hr * 0.3), (0, hy + hr * 0.46)], (225, 110, 120), None
    )
    for side in (-1, 1):
        for dy in (-0.03, 0.07):
            pen.stroke(
                [(side * hr * 0.5, hy + hr * 0.45 + dy / 2), (side * hr * 1.3, hy + hr * 0.4 + dy)],
                INK,
                0.02,
            )
    return Parts(
        (0, hy, hr),
        hy - hr * 0.92,
        eyes,
        (0, 0.02, hr * 0.75),
        (0, 0.5, bw, 0.48),
        ((-bw * 0.85, 0.38), (bw * 0.85, 0.38)),
        one.main,
    )


def _dog_face(
    pen: Pen, one: Instance, x: float, y: float, r: float, droop: float, spread: float
) -> tuple[Point, Point]:
    """A face from the front: floppy ears, patch, muzzle, nose. Shared by the puppy and the dog."""
    fur = coat(pen, one)
    pen.oval(x, y, r, r * 0.98, fur)
    for side in (-1, 1):
        pen.oval(
            x + side * r * spread,
            y + r * droop * 0.5,
            r * 0.33,
            r * mix(0.55, 0.85, droop),
            one.second,
            turn=-side * 0.25,
        )
    eyes = ((x - r * 0.36, y - r * 0.12), (x + r * 0.36, y - r * 0.12))
    if one.shape[6] > 0.5:
        pen.oval(x + r * 0.36, y - r * 0.14, r * 0.28, r * 0.32, one.second, None)
    pen.oval(x, y + r * 0.45, r * 0.5, r * 0.38, belly(one), w=0.03)
    _eyes(pen, eyes, 0.07)
    pen.oval(x, y + r * 0.28, r * 0.2, r * 0.13, EYE, None)
    if one.shape[7] > 0.6:
        pen.oval(x, y + r * 0.72, r * 0.14, r * 0.2, (235, 100, 120), w=0.02)
    return eyes


def puppy(pen: Pen, one: Instance) -> Parts:
    s, fur = one.shape, coat(pen, one)
    hr, bw = mix(0.46, 0.56, s[0]), mix(0.36, 0.46, s[1])
    hy = -0.3
    pen.tube([(bw * 0.8, 0.75), (bw + 0.2, mix(0.6, 0.35, s[2]))], one.second, 0.12)
    pen.oval(0, 0.55, bw, 0.45, fur)
    pen.oval(0, 0.62, bw * 0.55, 0.3, belly(one), None)
    for side in (-1, 1):
        pen.oval(side * bw * 0.6, 0.92, 0.19, 0.1, belly(one))
    eyes = _dog_face(pen, one, 0, hy, hr, s[3], 0.98)
    return Parts(
        (0, hy, hr),
        hy - hr * 0.9,
        eyes,
        (0, 0.2, bw * 0.85),
        (0, 0.56, bw, 0.42),
        ((-bw * 0.9, 0.5), (bw * 0.9, 0.5)),
        one.main,
    )


def dog(pen: Pen, one: Instance) -> Parts:
    """Stands sideways, looking at us."""
    s, fur = one.shape, coat(pen, one)
    long, leg = mix(0.62, 0.8, s[0]), mix(0.42, 0.62, s[1])
    hr = mix(0.32, 0.4, s[2])
    top = 0.95 - leg - 0.28
    pen.tube(
        [(-long + 0.02, top - 0.05), (-long - 0.18, top - mix(0.1, 0.5, s[4]))], one.main, 0.11
    )
    for k, x in enumerate((-long + 0.13, -long + 0.36, long - 0.42, long - 0.18)):
        color = darker(one.main, 0.15) if k % 2 else one.main
        pen.box(x - 0.09, top, x + 0.09, 0.93, color)
        pen.oval(x + 0.03, 0.93, 0.12, 0.07, belly(one))
    pen.oval(0, top, long, mix(0.27, 0.36, s[5]), fur)
    hx, hy = long - 0.08, top - 0.5
    eyes = _dog_face(pen, one, hx, hy, hr, s[3], 0.95)
    return Parts(
        (hx, hy, hr),
        hy - hr * 0.9,
        eyes,
        (hx - 0.04, hy + hr * 0.95, hr * 0.75),
        (-0.02, top, long, 0.33),
        ((long - 0.3, 0.5), (long + 0.1, top + 0.1)),
        one.main,
    )


def teddy(pen: Pen, one: Instance) -> Parts:
    s, fur = one.shape, coat(pen, one)
    hr, bw = mix(0.38, 0.47, s[0]), mix(0.4, 0.52, s[1])
    hy = -0.42
    for side in (-1, 1):
        pen.oval(side * (bw + 0.08), 0.3, 0.17, 0.32, one.main, turn=side * -0.5)
        pen.oval(side * bw * 0.72, 0.83, mix(0.2, 0.28, s[2]), 0.2, one.main)
        pen.oval(side * bw * 0.74, 0.84, 0.12, 0.11, one.accent, None)
        r = mix(0.13, 0.21, s[3])
        pen.oval(side * hr * 0.82, hy - hr * 0.68, r, r, one.main)
        pen.oval(side * hr * 0.82, hy - hr * 0.66, r * 0.55, r * 0.55, one.second, None)
    pen.oval(0, 0.42, bw, 0.48, fur)
    pen.oval(0, 0.48, bw * mix(0.45, 0.7, s[4]), 0.3, one.second, w=0.03)
    pen.oval(0, hy, hr * 1.1, hr, one.main)
    pen.oval(0, hy + hr * 0.36, hr * mix(0.45, 0.6, s[5]), hr * 0.42, belly(one), w=0.03)
    eyes = ((-hr * 0.42, hy - hr * 0.15), (hr * 0.42, hy - hr * 0.15))
    _eyes(pen, eyes, 0.07)
    pen.oval(0, hy + hr * 0.2, 0.09, 0.065, EYE, None)
    pen.stroke([(0, hy + hr * 0.3), (0, hy + hr * 0.5)], INK, 0.03)
    return Parts(
        (0, hy, hr),
        hy - hr * 0.9,
        eyes,
        (0, 0.0, hr * 0.75),
        (0, 0.42, bw, 0.46),
        ((-bw - 0.16, 0.5), (bw + 0.16, 0.5)),
        one.main,
    )


def tortoise(pen: Pen, one: Instance) -> Parts:
    """Sideways: a dome, a head on a neck, short legs."""
    s, shell = one.shape, coat(pen, one)
    wide, tall = mix(0.72, 0.88, s[0]), mix(0.6, 0.95, s[1])
    skin = one.accent
    hr = mix(0.2, 0.27, s[2])
    hx, hy = wide + 0.04, mix(0.25, -0.05, s[3])
    pen.tube([(wide * 0.6, 0.6), (hx - 0.03, hy)], skin, 0.2)
    pen.tube([(-wide * 0.85, 0.62), (-wide - 0.15, 0.75)], skin, 0.08)
    for x in (-wide * 0.6, wide * 0.55):
        pen.box(x - 0.15, 0.55, x + 0.15, 0.94, skin)
    dome = [*arc(0, 0.64, wide, tall, 0.5, 1.0), (wide + 0.06, 0.7), (-wide - 0.06, 0.7)]
    pen.poly(dome, shell)
    rim = mix(0.05, 0.12, s[4])
    pen.box(-wide - 0.06, 0.64, wide + 0.06, 0.64 + rim, one.second)
    if s[5] > 0.4:
        for x in (-wide * 0.45, 0.0, wide * 0.45):
            pen.oval(
                x, 0.64 - tall * 0.45, 0.13, tall * 0.2, blend(one.second, one.main, 0.25), w=0.03
            )
    pen.oval(hx, hy, hr, hr * 0.9, skin)
    eyes = ((hx - hr * 0.1, hy - hr * 0.2), (hx + hr * 0.5, hy - hr * 0.2))
    _eyes(pen, eyes, 0.055)
    pen.stroke([(hx + hr * 0.1, hy + hr * 0.45), (hx + hr * 0.7, hy + hr * 0.35)], INK, 0.03)
    return Parts(
        (hx, hy, hr * 1.15),
        hy - hr * 0.8,
        eyes,
        (hx - 0.1, hy + hr, hr * 0.8),
        (0, 0.36, wide * 0.92, 0.32),
        ((wide * 0.55, 0.6), (wide + 0.12, 0.5)),
        skin,
    )


def toy(pen: Pen, one: Instance) -> Parts:
    """A figurine that rocks on a round base: one pear, big eyes, a knob on a spring, two ears."""
    s, paint = one.shape, coat(pen, one)
    bw, hr = mix(0.42, 0.58, s[0]), mix(0.36, 0.46, s[1])
    hy = mix(-0.42, -0.3, s[2])
    pen.oval(0, 0.86, bw * 1.05, 0.13, one.accent)
    for side in (-1, 1):
        if s[3] > 0.35:
            pen.poly(
                [
                    (side * hr * 0.35, hy - hr * 0.75),
                    (side * hr * 1.0, hy - hr * (0.9 + s[3] * 0.6)),
                    (side * hr * 0.95, hy - hr * 0.2),
                ],
                one.second,
            )
        pen.oval(side * bw * 0.98, 0.3, 0.12, 0.2, one.accent, turn=side * 0.5)
    pen.poly(
        [
            (-hr * 0.7, hy + hr * 0.4),
            (hr * 0.7, hy + hr * 0.4),
            (bw, 0.55),
            (bw * 0.8, 0.88),
            (-bw * 0.8, 0.88),
            (-bw, 0.55),
        ],
        paint,
    )
    pen.stroke([(0, hy - hr), (0.05, hy - hr - 0.14)], INK, 0.05)
    pen.oval(0.05, hy - hr - 0.2, mix(0.07, 0.13, s[4]), mix(0.07, 0.13, s[4]), one.accent)
    pen.oval(0, hy, hr * 1.05, hr, one.main)
    pen.oval(0, hy + 0.06, hr * 0.78, hr * 0.68, lighter(one.second, 0.55), None)
    eyes = ((-hr * 0.38, hy - 0.02), (hr * 0.38, hy - 0.02))
    _eyes(pen, eyes, mix(0.07, 0.1, s[5]), (255, 255, 255))
    pen.stroke(arc(0, hy + hr * 0.3, hr * 0.3, hr * 0.22, 0.05, 0.45, 6), (200, 60, 70), 0.05)
    return Parts(
        (0, hy, hr),
        hy - hr * 0.9,
        eyes,
        (0, hy + hr * 0.95, hr * 0.75),
        (0, 0.42, bw, 0.4),
        ((-bw - 0.05, 0.42), (bw + 0.05, 0.42)),
        one.accent,
    )


def sculpture(pen: Pen, one: Instance) -> Parts:
    """A torso on a plinth; the smaller shape[0], the less there is above the neck."""
    s, stone = one.shape, coat(pen, one)
    sh, waist = mix(0.5, 0.68, s[1]), mix(0.26, 0.4, s[2])
    pen.box(-0.5, 0.72, 0.5, 0.95, one.second)
    pen.box(-0.4, 0.6, 0.4, 0.73, blend(one.second, (255, 255, 255), 0.25))
    neck = -0.42
    hr = mix(0.0, 0.3, max(0.0, s[0] - 0.35) / 0.65)
    pen.box(-0.15, neck - 0.14, 0.15, -0.1, one.main)
    pen.oval(0, neck - 0.14, 0.15, 0.06, lighter(one.main) if hr < 0.08 else one.main)
    arm = mix(0.05, 0.35, s[3])
    for side in (-1, 1):
        pen.poly(
            [
                (side * sh, -0.22),
                (side * (sh + 0.14), arm * 0.4),
                (side * (sh + 0.06), arm + 0.05),
                (side * (sh - 0.14), arm),
            ],
            one.main,
        )
    pen.poly(
        [
            (-sh, -0.26),
            (-0.15, -0.34),
            (0.15, -0.34),
            (sh, -0.26),
            (sh * 0.8, 0.1),
            (waist, 0.42),
            (waist * 1.15, 0.62),
            (-waist * 1.15, 0.62),
            (-waist, 0.42),
            (-sh * 0.8, 0.1),
        ],
        stone,
    )
    pen.stroke([(0, -0.2), (0, 0.45)], darker(one.main, 0.3), 0.03)
    for side in (-1, 1):
        pen.stroke(
            arc(side * sh * 0.4, -0.05, sh * 0.34, 0.16, 0.05, 0.45, 6),
            darker(one.main, 0.3),
            0.035,
        )
    if s[4] > 0.5:
        pen.poly(
            [(-sh, -0.26), (-sh * 0.55, -0.3), (waist, 0.3), (waist * 1.1, 0.55)],
            one.accent,
            w=0.03,
        )
    head_y, radius = neck - 0.3, max(hr, 0.2)
    eyes = ((-0.11, head_y), (0.11, head_y))
    if hr >= 0.08:
        pen.oval(0, head_y, hr * 0.85, hr, one.main)
        _eyes(pen, eyes, 0.035)
    top = head_y - hr * 0.8 if hr >= 0.08 else neck - 0.12
    return Parts(
        (0, head_y, max(radius, 0.28)),
        top,
        eyes,
        (0, -0.3, 0.22),
        (0, 0.15, sh * 0.92, 0.42),
        ((-sh - 0.06, arm), (sh + 0.06, arm)),
        one.main,
    )


def person(pen: Pen, one: Instance) -> Parts:
    s = one.shape
    skin = blend((250, 215, 185), (110, 70, 50), s[0])
    hr, bw = mix(0.26, 0.32, s[1]), mix(0.26, 0.36, s[2])
    hy = -0.6
    for side in (-1, 1):
        pen.box(side * 0.14 - 0.1, 0.45, side * 0.14 + 0.1, 0.94, one.second)
        pen.tube([(side * bw, -0.16), (side * (bw + 0.14), 0.3)], one.main, 0.14)
        pen.dot(side * (bw + 0.15), 0.36, 0.09, skin)
    pen.box(-bw, -0.26, bw, 0.5, coat(pen, one))
    pen.oval(0, hy - 0.05, hr * 1.12, hr * 1.1, one.accent)
    if s[3] > 0.5:
        for side in (-1, 1):
            pen.oval(side * hr * 0.95, hy + 0.2, 0.12, 0.28, one.accent)
    pen.oval(0, hy + 0.03, hr * 0.95, hr * 0.95, skin, w=0.03)
    eyes = ((-hr * 0.4, hy), (hr * 0.4, hy))
    _eyes(pen, eyes, 0.045)
    pen.stroke(arc(0, hy + hr * 0.4, hr * 0.3, hr * 0.2, 0.05, 0.45, 6), (190, 60, 70), 0.035)
    return Parts(
        (0, hy, hr),
        hy - hr * 0.95,
        eyes,
        (0, -0.28, bw * 0.7),
        (0, 0.1, bw, 0.38),
        ((-bw - 0.15, 0.36), (bw + 0.15, 0.36)),
        skin,
    )


def robot(pen: Pen, one: Instance) -> Parts:
    s = one.shape
    bw, hw = mix(0.36, 0.5, s[0]), mix(0.3, 0.42, s[1])
    hy = -0.46
    for side in (-1, 1):
        pen.box(side * bw * 0.5 - 0.1, 0.6, side * bw * 0.5 + 0.1, 0.94, one.second)
        pen.tube([(side * bw, 0.0), (side * (bw + 0.18), 0.35)], one.second, 0.12)
    pen.box(-bw, -0.14, bw, 0.66, coat(pen, one))
    pen.oval(0, 0.22, 0.16, 0.16, one.accent)
    pen.stroke([(0, hy - 0.3), (0, hy - 0.5)], INK, 0.05)
    pen.dot(0, hy - 0.52, 0.09, one.accent)
    pen.box(-hw, hy - 0.3, hw, hy + 0.28, one.main)
    eyes = ((-hw * 0.5, hy - 0.05), (hw * 0.5, hy - 0.05))
    _eyes(pen, eyes, 0.07, (250, 250, 210))
    pen.box(-hw * 0.55, hy + 0.12, hw * 0.55, hy + 0.2, EYE, None)
    return Parts(
        (0, hy, max(hw, 0.34)),
        hy - 0.28,
        eyes,
        (0, -0.14, hw * 0.8),
        (0, 0.26, bw, 0.4),
        ((-bw - 0.2, 0.42), (bw + 0.2, 0.42)),
        one.second,
    )


def snowman(pen: Pen, one: Instance) -> Parts:
    s = one.shape
    snow = lighter(one.main, 0.75)
    br, mr, hr = mix(0.42, 0.52, s[0]), mix(0.32, 0.4, s[1]), mix(0.25, 0.32, s[2])
    hy = -0.62
    pen.oval(0, 0.52, br, 0.45, snow)
    for side in (-1, 1):
        pen.stroke([(side * mr * 0.8, -0.1), (side * (mr + 0.35), -0.3)], (90, 60, 40), 0.06)
    pen.oval(0, -0.06, mr, mr * 0.9, snow)
    for y in (-0.15, 0.02, 0.4):
        pen.dot(0, y, 0.05, one.second)
    pen.oval(0, hy, hr, hr * 0.95, snow)
    eyes = ((-hr * 0.4, hy - 0.05), (hr * 0.4, hy - 0.05))
    _eyes(pen, eyes, 0.05)
    pen.poly([(0, hy + 0.02), (0.3, hy + 0.1), (0, hy + 0.12)], (245, 140, 40), w=0.03)
    return Parts(
        (0, hy, hr),
        hy - hr * 0.9,
        eyes,
        (0, hy + hr * 0.95, mr * 0.7),
        (0, 0.1, mr, 0.45),
        ((-mr - 0.33, -0.28), (mr + 0.33, -0.28)),
        (90, 60, 40),
    )


def bird(pen: Pen, one: Instance) -> Parts:
    s, feathers = one.shape, coat(pen, one)
    bw = mix(0.46, 0.6, s[0])
    hr = mix(0.26, 0.34, s[1])
    hx, hy = 0.28, -0.4
    for x in (-0.12, 0.14):
        pen.stroke([(x, 0.6), (x, 0.94), (x + 0.12, 0.94)], (235, 150, 40), 0.06)
    pen.poly([(-bw * 0.8, 0.2), (-bw - 0.4, mix(0.1, -0.25, s[2])), (-bw * 0.6, 0.45)], one.second)
    pen.oval(0, 0.25, bw, 0.44, feathers, turn=-0.25)
    pen.oval(-0.12, 0.26, bw * 0.55, 0.22, one.second, turn=0.2)
    pen.oval(hx, hy, hr, hr, one.main)
    pen.poly(
        [
            (hx + hr * 0.85, hy - 0.06),
            (hx + hr + mix(0.2, 0.4, s[3]), hy + 0.05),
            (hx + hr * 0.8, hy + 0.14),
        ],
        (245, 165, 40),
    )
    eyes = ((hx - 0.02, hy - 0.05), (hx + hr * 0.55, hy - 0.05))
    _eyes(pen, eyes, 0.055)
    return Parts(
        (hx, hy, hr),
        hy - hr * 0.9,
        eyes,
        (hx - 0.05, hy + hr, hr * 0.75),
        (0, 0.28, bw * 0.9, 0.36),
        ((0.3, 0.35), (0.55, 0.3)),
        one.second,
    )


ANIMALS = {
    f.__name__: f
    for f in (cat, dog, puppy, teddy, tortoise, toy, sculpture, person, robot, snowman, bird)
}
