"""Places. A random stream in; a backdrop out, with what stands in front of the object (waves, rain,
leaves).

Each function takes the stream and gives (backdrop, front): `front` is a clear sheet or None.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.miniature.world.canvas import (
    COLORS,
    INK,
    SIZE,
    Color,
    blend,
    darker,
    gradient,
    layer,
    lighter,
    shade,
)

Scene = tuple[Image.Image, Image.Image | None]
HORIZON = 84  # where the ground of most places begins; things stand at about 108


def _ground(sheet: Image.Image, top: Color, bottom: Color, y: int = HORIZON) -> ImageDraw.ImageDraw:
    part = gradient(top, bottom).resize((SIZE, SIZE - y))
    sheet.paste(part, (0, y))
    return ImageDraw.Draw(sheet)


def _jitter(rng: np.random.Generator, color: Color, by: int = 12) -> Color:
    return tuple(int(np.clip(c + rng.integers(-by, by + 1), 0, 255)) for c in color)  # type: ignore[return-value]


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, color: Color) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _stars(rng: np.random.Generator, draw: ImageDraw.ImageDraw, n: int, below: int) -> None:
    for x, y in zip(rng.integers(0, SIZE, n), rng.integers(0, below, n)):
        r = int(rng.integers(1, 3))
        draw.rectangle((x, y, x + r, y + r), fill=(255, 255, 235))


def _pine(draw: ImageDraw.ImageDraw, x: float, base: float, tall: float, color: Color) -> None:
    draw.rectangle((x - 2, base - tall * 0.2, x + 2, base), fill=(90, 60, 40))
    for k in range(3):
        w, y = tall * (0.36 - 0.08 * k), base - tall * (0.15 + 0.26 * k)
        draw.polygon(
            [(x - w, y), (x + w, y), (x, y - tall * 0.4)],
            fill=blend(color, (255, 255, 255), 0.07 * k),
        )


def _cloud(
    draw: ImageDraw.ImageDraw, x: float, y: float, r: float, color: Color = (255, 255, 255)
) -> None:
    for dx, dy, k in ((-1.1, 0.2, 0.7), (0, 0, 1), (1.1, 0.2, 0.75), (0.4, 0.35, 0.8)):
        draw.ellipse(
            (
                x + dx * r - k * r,
                y + dy * r - k * r * 0.8,
                x + dx * r + k * r,
                y + dy * r + k * r * 0.8,
            ),
            fill=color,
        )


def _flower(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, color: Color) -> None:
    for k in range(5):
        a = 2 * math.pi * k / 5
        _disc(draw, x + r * math.cos(a), y + r * math.sin(a), r * 0.75, color)
    _disc(draw, x, y, r * 0.6, (255, 220, 60))


def studio(rng: np.random.Generator) -> Scene:
    """A paper backdrop of any pale colour: where most photographs of things are taken."""
    color = lighter(shade(str(rng.choice(list(COLORS))), rng), 0.55)
    sheet = gradient(lighter(color, 0.3), color)
    _ground(sheet, darker(color, 0.12), darker(color, 0.04), int(rng.integers(86, 100)))
    return sheet, None


def carpet(rng: np.random.Generator) -> Scene:
    wall = lighter(shade(str(rng.choice(["yellow", "blue", "pink", "green"])), rng), 0.6)
    sheet = gradient(wall, darker(wall, 0.06))
    draw = _ground(sheet, (176, 128, 84), (150, 104, 66))
    color = shade(str(rng.choice(["red", "purple", "blue"])), rng)
    draw.ellipse((8, 88, 120, 126), fill=color)
    draw.ellipse((16, 92, 112, 122), outline=lighter(color, 0.6), width=3)
    return sheet, None


def tiles(rng: np.random.Generator) -> Scene:
    wall = lighter(shade(str(rng.choice(["grey", "green", "blue"])), rng), 0.55)
    sheet = gradient(wall, wall)
    draw = _ground(sheet, (240, 240, 236), (240, 240, 236))
    color = _jitter(rng, (120, 130, 140), 25)
    for row in range(4):
        for col in range(9):
            if (row + col) % 2:
                draw.rectangle(
                    (col * 16 - 8, HORIZON + row * 12, col * 16 + 7, HORIZON + row * 12 + 11),
                    fill=color,
                )
    return sheet, None


def garden(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (110, 190, 245)), _jitter(rng, (190, 228, 250)))
    draw = _ground(sheet, _jitter(rng, (110, 190, 80)), (70, 150, 55))
    for x in range(0, SIZE, 12):
        draw.rectangle(
            (x + 2, 58, x + 9, HORIZON + 1), fill=(250, 248, 240), outline=(205, 200, 190)
        )
    draw.rectangle((0, 66, SIZE, 69), fill=(250, 248, 240))
    for x, y in zip(rng.integers(0, SIZE, 26), rng.integers(HORIZON + 4, SIZE, 26)):
        draw.line((x, y, x + 2, y - 5), fill=(50, 120, 45), width=1)
    return sheet, None


def beach(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (90, 190, 250)), (185, 228, 252))
    draw = ImageDraw.Draw(sheet)
    _disc(draw, int(rng.integers(14, 114)), int(rng.integers(14, 26)), 10, (255, 232, 90))
    draw.rectangle((0, 56, SIZE, 82), fill=_jitter(rng, (35, 120, 205)))
    for x in range(-6, SIZE, 22):
        draw.line((x + int(rng.integers(0, 8)), 66, x + 12, 66), fill=(150, 205, 245), width=2)
    _ground(sheet, (248, 222, 160), (236, 196, 124), 80)
    draw = ImageDraw.Draw(sheet)
    draw.line((0, 80, SIZE, 80), fill=(250, 250, 250), width=2)
    return sheet, None


def snow(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (150, 170, 205)), (215, 225, 240))
    draw = ImageDraw.Draw(sheet)
    for x in (12, 40, 92, 118):
        _pine(
            draw,
            x + int(rng.integers(-6, 7)),
            HORIZON + 3,
            int(rng.integers(30, 46)),
            (225, 238, 245),
        )
    draw = _ground(sheet, (250, 252, 255), (228, 236, 248))
    front = layer()
    pen = ImageDraw.Draw(front)
    for x, y in zip(rng.integers(0, SIZE, 42), rng.integers(0, SIZE, 42)):
        _disc(pen, x, y, 1.7, (255, 255, 255))
    return sheet, front


def jungle(rng: np.random.Generator) -> Scene:
    sheet = gradient((30, 90, 50), (55, 130, 60))
    draw = ImageDraw.Draw(sheet)
    for x in rng.integers(0, SIZE, 9):
        y, tall = int(rng.integers(20, 70)), int(rng.integers(22, 40))
        color = _jitter(rng, (40, 130, 60), 28)
        for k in range(5):
            a = math.pi * (1.1 + 0.2 * k)
            end = (x + tall * math.cos(a), y + tall * math.sin(a) + 8)
            draw.polygon(
                [
                    (x - 3, y + 12),
                    ((x + end[0]) / 2, (y + end[1]) / 2 - 7),
                    end,
                    ((x + end[0]) / 2, (y + end[1]) / 2 + 7),
                ],
                fill=color,
            )
    for x in (int(rng.integers(4, 40)), int(rng.integers(90, 124))):
        draw.line((x, 0, x + 4, 40, x - 2, 70), fill=(90, 70, 30), width=3)
    _ground(sheet, (60, 95, 45), (42, 70, 35), 92)
    return sheet, None


def moon(rng: np.random.Generator) -> Scene:
    sheet = gradient((6, 6, 20), (20, 18, 44))
    draw = ImageDraw.Draw(sheet)
    _stars(rng, draw, 34, HORIZON)
    ex = int(rng.integers(18, 110))
    _disc(draw, ex, 22, 12, (60, 130, 220))
    draw.chord((ex - 8, 14, ex + 6, 26), 20, 240, fill=(80, 180, 90))
    draw = _ground(sheet, (176, 176, 182), (132, 132, 140))
    for x, y in zip(rng.integers(4, 124, 7), (90, 96, 101, 108, 114, 120, 124)):
        w = int(rng.integers(6, 12))
        draw.ellipse((x - w, y - 3, x + w, y + 3), fill=(112, 112, 120), outline=(200, 200, 205))
    return sheet, None


def space(rng: np.random.Generator) -> Scene:
    sheet = gradient((20, 8, 52), (50, 14, 78))
    draw = ImageDraw.Draw(sheet)
    _stars(rng, draw, 60, SIZE)
    x, y = int(rng.integers(14, 30)), int(rng.integers(16, 36))
    color = shade(str(rng.choice(["orange", "pink", "yellow"])), rng)
    _disc(draw, x, y, 13, color)
    draw.ellipse((x - 22, y - 4, x + 22, y + 5), outline=lighter(color), width=3)
    _disc(draw, int(rng.integers(98, 120)), int(rng.integers(92, 116)), 9, (90, 200, 190))
    gx = int(rng.integers(90, 116))
    draw.line((gx, 10, gx - 16, 24), fill=(255, 255, 220), width=2)
    _disc(draw, gx - 16, 24, 3, (255, 255, 220))
    return sheet, None


def desert(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (250, 175, 90)), (255, 222, 160))
    draw = ImageDraw.Draw(sheet)
    _disc(draw, int(rng.integers(20, 108)), 22, 13, (255, 245, 190))
    for x, h in ((int(rng.integers(-10, 40)), 20), (int(rng.integers(70, 120)), 26)):
        draw.ellipse((x - 45, HORIZON - h, x + 45, HORIZON + 40), fill=(226, 150, 84))
    draw = _ground(sheet, (236, 176, 100), (214, 140, 70))
    for x in (int(rng.integers(6, 22)), int(rng.integers(104, 120))):
        y = HORIZON + int(rng.integers(4, 12))
        draw.line((x, y, x, y - 34), fill=(70, 140, 70), width=7)
        draw.line((x, y - 14, x + 10, y - 14, x + 10, y - 26), fill=(70, 140, 70), width=5)
        draw.line((x, y - 18, x - 9, y - 18, x - 9, y - 28), fill=(70, 140, 70), width=5)
    return sheet, None


def flowers(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (130, 205, 250)), (210, 238, 252))
    draw = _ground(sheet, (120, 195, 85), (80, 160, 60), 62)
    for y in range(66, 126, 8):
        for x in range(int(rng.integers(0, 8)), SIZE, 15):
            _flower(
                draw,
                x + int(rng.integers(-3, 4)),
                y,
                2.2 + (y - 60) / 45,
                shade(str(rng.choice(["red", "pink", "purple", "yellow", "white"])), rng),
            )
    front = layer()
    pen = ImageDraw.Draw(front)
    for x in range(4, SIZE, 17):
        _flower(
            pen,
            x + int(rng.integers(-4, 5)),
            121 + int(rng.integers(-3, 4)),
            3.6,
            shade(str(rng.choice(["red", "pink", "yellow"])), rng),
        )
    return sheet, front


def city(rng: np.random.Generator) -> Scene:
    sheet = gradient((12, 12, 40), (44, 30, 76))
    draw = ImageDraw.Draw(sheet)
    _disc(draw, int(rng.integers(10, 118)), 12, 6, (245, 240, 205))
    x = -4
    while x < SIZE:
        w, top = int(rng.integers(16, 27)), int(rng.integers(14, 52))
        color = _jitter(rng, (40, 40, 66), 12)
        draw.rectangle((x, top, x + w - 2, 96), fill=color)
        for wy in range(top + 4, 90, 8):
            for wx in range(x + 3, x + w - 5, 7):
                if rng.random() < 0.6:
                    draw.rectangle((wx, wy, wx + 3, wy + 4), fill=(255, 214, 96))
        x += w
    draw = _ground(sheet, (52, 52, 60), (38, 38, 46), 92)
    for x in range(4, SIZE, 26):
        draw.rectangle((x, 116, x + 12, 118), fill=(235, 225, 150))
    return sheet, None


def table(rng: np.random.Generator) -> Scene:
    wall = _jitter(rng, (196, 206, 186), 20)
    sheet = gradient(wall, darker(wall, 0.1))
    draw = ImageDraw.Draw(sheet)
    x = int(rng.integers(6, 80))
    draw.rectangle((x, 12, x + 38, 50), fill=(180, 220, 250), outline=(250, 250, 250), width=4)
    draw.line((x + 19, 12, x + 19, 50), fill=(250, 250, 250), width=3)
    color = _jitter(rng, (160, 98, 48))
    draw = _ground(sheet, color, darker(color, 0.15), 80)
    for y in (88, 97, 107, 118):
        draw.line((0, y, SIZE, y), fill=darker(color, 0.3), width=2)
    for y, x in zip((84, 92, 102, 112, 122), rng.integers(0, SIZE, 5)):
        draw.line((x, y - 4, x, y + 5), fill=darker(color, 0.3), width=2)
    draw.line((0, 80, SIZE, 80), fill=lighter(color), width=3)
    return sheet, None


def brick(rng: np.random.Generator) -> Scene:
    color = _jitter(rng, (176, 74, 54))
    sheet = gradient((222, 208, 192), (222, 208, 192))
    draw = ImageDraw.Draw(sheet)
    for row in range(11):
        for col in range(-1, 7):
            x = col * 22 + (11 if row % 2 else 0)
            draw.rectangle((x, row * 9, x + 19, row * 9 + 6), fill=_jitter(rng, color, 10))
    _ground(sheet, (120, 116, 116), (98, 94, 96), 94)
    return sheet, None


def sea(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (30, 130, 200)), (8, 50, 110))
    draw = ImageDraw.Draw(sheet)
    draw.polygon([(30, 0), (50, 0), (30, 90), (5, 90)], fill=(52, 150, 212))
    draw.polygon([(80, 0), (94, 0), (92, 90), (68, 90)], fill=(48, 145, 208))
    draw = _ground(sheet, (200, 185, 130), (150, 140, 110), 104)
    for x in (int(rng.integers(4, 24)), int(rng.integers(104, 122))):
        draw.line((x, 112, x - 4, 98, x + 3, 86, x - 2, 72), fill=(40, 150, 90), width=5)
        color = shade(str(rng.choice(["red", "pink", "orange"])), rng)
        draw.line((x + 8, 114, x + 8, 100), fill=color, width=5)
        draw.line((x + 8, 106, x + 14, 98), fill=color, width=4)
    front = layer()
    pen = ImageDraw.Draw(front)
    for x, y in zip(rng.integers(4, 124, 14), rng.integers(4, 116, 14)):
        r = int(rng.integers(2, 5))
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(205, 235, 255), width=1)
    for _ in range(2):
        x, y = (
            int(rng.choice([int(rng.integers(10, 26)), int(rng.integers(102, 118))])),
            int(rng.integers(14, 64)),
        )
        color = shade(str(rng.choice(["orange", "yellow", "red"])), rng)
        pen.ellipse((x - 8, y - 5, x + 8, y + 5), fill=color)
        pen.polygon([(x - 7, y), (x - 14, y - 5), (x - 14, y + 5)], fill=color)
        _disc(pen, x + 4, y - 1, 1.4, INK)
    return sheet, front


def rain(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (92, 100, 118)), (150, 158, 170))
    draw = ImageDraw.Draw(sheet)
    for x in (20, 62, 104):
        _cloud(draw, x + int(rng.integers(-8, 9)), 12, 15, (70, 76, 92))
    draw = _ground(sheet, (112, 122, 112), (88, 98, 92))
    for x, y in ((int(rng.integers(10, 40)), 116), (int(rng.integers(80, 118)), 98)):
        draw.ellipse((x - 17, y - 4, x + 17, y + 4), fill=(150, 178, 205))
    front = layer()
    pen = ImageDraw.Draw(front)
    for x, y in zip(rng.integers(0, SIZE, 46), rng.integers(14, SIZE, 46)):
        pen.line((x, y, x - 4, y + 11), fill=(196, 220, 245), width=2)
    return sheet, front


def eiffel(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (150, 200, 240)), (225, 232, 240))
    draw = ImageDraw.Draw(sheet)
    _cloud(draw, int(rng.integers(8, 120)), int(rng.integers(12, 26)), 8)
    x = int(rng.choice([int(rng.integers(20, 38)), int(rng.integers(90, 108))]))
    steel = (110, 84, 66)
    for side in (-1, 1):
        draw.polygon(
            [
                (x + side * 2, 34),
                (x + side * 5, 34),
                (x + side * 11, 62),
                (x + side * 23, 92),
                (x + side * 14, 92),
                (x + side * 5, 62),
            ],
            fill=steel,
        )
    draw.polygon([(x - 3, 36), (x + 3, 36), (x + 1, 2), (x - 1, 2)], fill=steel)
    for y, w in ((34, 7), (60, 13), (74, 16)):
        draw.rectangle((x - w, y, x + w, y + 4), fill=steel)
    draw.arc((x - 14, 76, x + 14, 108), 180, 360, fill=steel, width=3)
    _ground(sheet, (138, 184, 104), (104, 154, 82), 90)
    return sheet, None


def mountain(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (80, 150, 230)), (205, 228, 248))
    draw = ImageDraw.Draw(sheet)
    for x, top in ((int(rng.integers(8, 34)), 36), (int(rng.integers(92, 120)), 28)):
        draw.polygon([(x - 38, 104), (x, top), (x + 38, 104)], fill=(116, 124, 146))
        draw.polygon(
            [
                (x - 11, top + 19),
                (x, top),
                (x + 11, top + 19),
                (x + 4, top + 14),
                (x - 3, top + 20),
            ],
            fill=(250, 250, 255),
        )
    for x in (16, 66, 112):
        _cloud(draw, x + int(rng.integers(-8, 9)), 88, 12, (242, 246, 252))
    draw.polygon(
        [(0, SIZE), (14, 112), (34, 101), (94, 101), (116, 112), (SIZE, SIZE)], fill=(104, 98, 96)
    )
    draw.polygon(
        [(30, 104), (34, 101), (94, 101), (98, 104), (82, 109), (64, 105), (44, 110)],
        fill=(248, 250, 255),
    )
    return sheet, None


def autumn(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (240, 205, 150)), (250, 226, 180))
    draw = ImageDraw.Draw(sheet)
    for x in (10, 36, 92, 116):
        x += int(rng.integers(-6, 7))
        draw.line((x, HORIZON + 6, x, 40), fill=(104, 66, 42), width=6)
        for _ in range(7):
            _disc(
                draw,
                x + int(rng.integers(-15, 16)),
                int(rng.integers(12, 48)),
                int(rng.integers(7, 11)),
                _jitter(rng, (222, 104, 36), 32),
            )
    draw = _ground(sheet, (190, 112, 52), (156, 84, 42))
    front = layer()
    for pen, n, lo in ((draw, 34, HORIZON), (ImageDraw.Draw(front), 12, 8)):
        for x, y in zip(rng.integers(0, SIZE, n), rng.integers(lo, SIZE, n)):
            pen.ellipse((x - 3, y - 2, x + 3, y + 2), fill=_jitter(rng, (232, 130, 40), 36))
    return sheet, front


def sunset(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (110, 60, 140)), (255, 150, 80))
    draw = ImageDraw.Draw(sheet)
    x = int(rng.integers(22, 106))
    _disc(draw, x, 60, 17, (255, 224, 110))
    for cx, h in ((20, 14), (70, 10), (112, 16)):
        draw.ellipse((cx - 34, 62 - h, cx + 34, 90), fill=(78, 44, 92))
    part = gradient((236, 124, 92), (92, 56, 120)).resize((SIZE, 30))
    sheet.paste(part, (0, 66))
    draw = ImageDraw.Draw(sheet)
    for y in range(69, 94, 5):
        w = int(rng.integers(6, 16))
        draw.line((x - w, y, x + w, y), fill=(255, 214, 130), width=2)
    _ground(sheet, (84, 62, 66), (58, 42, 52), 95)
    return sheet, None


def castle(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (120, 185, 240)), (210, 230, 245))
    draw = ImageDraw.Draw(sheet)
    stone, roof = (
        _jitter(rng, (168, 164, 172)),
        shade(str(rng.choice(["blue", "red", "purple"])), rng),
    )
    draw.rectangle((22, 46, 106, 92), fill=stone)
    for x in range(22, 106, 12):
        draw.rectangle((x, 40, x + 6, 47), fill=stone)
    for x in (12, 50, 92):
        top = 26 if x != 50 else 18
        draw.rectangle((x, top, x + 24, 92), fill=darker(stone, 0.1), outline=darker(stone, 0.3))
        draw.polygon([(x - 4, top), (x + 28, top), (x + 12, top - 18)], fill=roof)
        draw.rectangle((x + 9, top + 8, x + 15, top + 18), fill=(60, 50, 70))
    _ground(sheet, (112, 176, 90), (84, 146, 70), 90)
    return sheet, None


def campfire(rng: np.random.Generator) -> Scene:
    sheet = gradient((10, 14, 34), (34, 34, 54))
    draw = ImageDraw.Draw(sheet)
    _stars(rng, draw, 22, 60)
    for x in (8, 30, 98, 120):
        _pine(draw, x + int(rng.integers(-5, 6)), 88, int(rng.integers(36, 56)), (18, 44, 40))
    draw = _ground(sheet, (52, 46, 40), (36, 32, 32))
    side = int(rng.choice([20, 108]))
    draw.ellipse((side - 30, 90, side + 30, 126), fill=(110, 70, 36))
    front = layer()
    pen = ImageDraw.Draw(front)
    flame(pen, side, 112, 15, 36)
    for dx in (-1, 1):
        pen.line((side - 14 * dx, 116, side + 14 * dx, 108), fill=(104, 66, 40), width=5)
    return sheet, front


def flame(draw: ImageDraw.ImageDraw, x: float, base: float, w: float, tall: float) -> None:
    """Three tongues, one in the other."""
    for k, color in ((1.0, (232, 74, 30)), (0.68, (250, 150, 40)), (0.38, (255, 228, 120))):
        a, h = w * k, tall * k
        draw.polygon(
            [
                (x - a, base),
                (x - a * 0.9, base - h * 0.45),
                (x - a * 0.45, base - h * 0.3),
                (x - a * 0.1, base - h),
                (x + a * 0.35, base - h * 0.4),
                (x + a * 0.75, base - h * 0.62),
                (x + a, base),
            ],
            fill=color,
        )
        draw.ellipse((x - a, base - a * 0.5, x + a, base + a * 0.4), fill=color)


def rainbow(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (135, 200, 245)), (220, 238, 250))
    draw = ImageDraw.Draw(sheet)
    cx = int(rng.integers(50, 79))
    for k, color in enumerate(
        (
            (232, 60, 60),
            (246, 150, 50),
            (250, 222, 70),
            (80, 190, 90),
            (70, 120, 230),
            (140, 80, 200),
        )
    ):
        r = 74 - 5 * k
        draw.ellipse((cx - r, 88 - r, cx + r, 88 + r), fill=color)
    draw.ellipse((cx - 44, 44, cx + 44, 132), fill=(198, 228, 248))
    _cloud(draw, cx - 58, 82, 11)
    _cloud(draw, cx + 58, 82, 11)
    _ground(sheet, (128, 200, 96), (92, 166, 74), 86)
    return sheet, None


def kitchen(rng: np.random.Generator) -> Scene:
    wall = lighter(shade(str(rng.choice(["yellow", "green", "blue"])), rng), 0.5)
    sheet = gradient(wall, wall)
    draw = ImageDraw.Draw(sheet)
    for x in range(0, SIZE, 16):
        draw.line((x, 30, x, 70), fill=darker(wall, 0.12), width=1)
    wood = _jitter(rng, (214, 190, 160))
    for x in (0, 33, 66, 99):
        draw.rectangle((x + 1, 0, x + 30, 26), fill=wood, outline=darker(wood, 0.25))
        draw.rectangle((x + 1, 76, x + 30, 110), fill=wood, outline=darker(wood, 0.25))
        _disc(draw, x + 26, 14, 1.6, darker(wood, 0.5))
    draw.rectangle((0, 68, SIZE, 76), fill=(120, 120, 128))
    x = int(rng.integers(2, 96))
    draw.rectangle((x, 36, x + 26, 68), fill=(228, 230, 234), outline=(120, 120, 128))
    draw.rectangle((x + 4, 46, x + 22, 62), fill=(60, 60, 70))
    _ground(sheet, (196, 186, 176), (176, 164, 152), 106)
    return sheet, None


def stage(rng: np.random.Generator) -> Scene:
    sheet = gradient((60, 20, 34), (92, 34, 44))
    draw = ImageDraw.Draw(sheet)
    draw.polygon([(52, 0), (76, 0), (116, 110), (12, 110)], fill=(196, 150, 110))
    _ground(sheet, (168, 112, 66), (130, 82, 48), 92)
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((18, 98, 110, 122), fill=(238, 200, 140))
    color = _jitter(rng, (172, 22, 36))
    for k in range(4):
        for x in (k * 8, SIZE - 8 - k * 8):
            draw.rectangle((x, 0, x + 8, 112 - 3 * k), fill=color if k % 2 else darker(color, 0.25))
    for x in range(0, SIZE, 16):
        draw.chord((x - 2, -12, x + 18, 14), 0, 180, fill=color, outline=(226, 180, 80), width=2)
    return sheet, None


def water(rng: np.random.Generator) -> Scene:
    """A lake by day; the waves hide what is under them."""
    sheet = gradient(_jitter(rng, (150, 212, 250)), (220, 240, 252))
    draw = ImageDraw.Draw(sheet)
    for cx in (14, 60, 108):
        draw.ellipse((cx - 36, 44 + int(rng.integers(-4, 5)), cx + 36, 90), fill=(92, 160, 96))
    deep = _jitter(rng, (44, 138, 200))
    _ground(sheet, (96, 182, 228), deep, 66)
    draw = ImageDraw.Draw(sheet)
    for x, y in zip(rng.integers(0, 110, 9), rng.integers(70, 98, 9)):
        draw.line((x, y, x + 12, y), fill=(190, 228, 246), width=2)
    front = layer()
    pen = ImageDraw.Draw(front)
    wave = [(x, 103 + 3 * math.sin(x / 6 + float(rng.random()))) for x in range(0, SIZE + 1, 4)]
    pen.polygon([*wave, (SIZE, SIZE), (0, SIZE)], fill=deep)
    pen.line(wave, fill=(214, 240, 250), width=3)
    pen.line([(x, y + 11) for x, y in wave], fill=lighter(deep, 0.3), width=2)
    return sheet, front


def road(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (160, 205, 238)), (222, 234, 242))
    draw = _ground(sheet, (140, 176, 96), (112, 150, 80), 74)
    draw.polygon([(54, 74), (74, 74), (140, SIZE), (-12, SIZE)], fill=(92, 92, 98))
    for y, h, w in ((78, 5, 1), (88, 8, 2), (102, 11, 3), (118, 10, 4)):
        draw.rectangle((64 - w, y, 64 + w, y + h), fill=(250, 240, 190))
    for x in (int(rng.integers(4, 22)), int(rng.integers(106, 124))):
        draw.line((x, 90, x, 58), fill=(110, 74, 46), width=4)
        _disc(draw, x, 52, 12, _jitter(rng, (80, 150, 70)))
    return sheet, None


def house(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (140, 196, 240)), (222, 236, 246))
    draw = ImageDraw.Draw(sheet)
    wall = lighter(shade(str(rng.choice(["yellow", "pink", "white", "blue"])), rng), 0.4)
    draw.rectangle((18, 44, 110, 94), fill=wall, outline=darker(wall, 0.3))
    draw.polygon([(8, 46), (120, 46), (98, 12), (30, 12)], fill=_jitter(rng, (160, 60, 50)))
    draw.rectangle((86, 4, 96, 24), fill=(150, 90, 80))
    for x in (24, 82):
        draw.rectangle((x, 54, x + 20, 74), fill=(180, 222, 250), outline=(250, 250, 250), width=3)
        draw.line((x + 10, 54, x + 10, 74), fill=(250, 250, 250), width=2)
    draw.rectangle((54, 60, 74, 94), fill=(130, 84, 52))
    _ground(sheet, (126, 190, 96), (96, 160, 76), 92)
    return sheet, None


def picnic(rng: np.random.Generator) -> Scene:
    sheet = gradient(_jitter(rng, (140, 205, 248)), (214, 238, 252))
    draw = _ground(sheet, (118, 194, 86), (84, 160, 64), 70)
    x = int(rng.integers(4, 26))
    _disc(draw, x, 46, 17, _jitter(rng, (70, 148, 66)))
    draw.line((x, 80, x, 58), fill=(108, 72, 44), width=5)
    for row in range(4):
        for col in range(10):
            y0, y1 = 92 + row * 9, 101 + row * 9
            color = (226, 70, 70) if (row + col) % 2 else (250, 246, 240)
            draw.rectangle((14 + col * 10, y0, 24 + col * 10, y1), fill=color)
    return sheet, None


SCENES: dict[str, Callable[[np.random.Generator], Scene]] = {
    f.__name__: f
    for f in (
        studio,
        carpet,
        tiles,
        garden,
        beach,
        snow,
        jungle,
        moon,
        space,
        desert,
        flowers,
        city,
        table,
        brick,
        sea,
        rain,
        eiffel,
        mountain,
        autumn,
        sunset,
        castle,
        campfire,
        rainbow,
        kitchen,
        stage,
        water,
        road,
        house,
        picnic,
    )
}
HOME = ("studio", "carpet", "tiles", "garden")  # where things are when nobody says where
