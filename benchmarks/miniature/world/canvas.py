"""Drawing tools of the world: a pen with its own coordinates, colours with names, textures.

Everything is drawn at SIZE = 128 and halved at the end; colours are RGB tuples of 0-255.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128
INK = (38, 30, 36)
Color = tuple[int, int, int]
Point = tuple[float, float]
_RING = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]

# name -> hue, saturation, value ranges; the words people would use for them
COLORS: dict[str, tuple[Point, Point, Point]] = {
    "red": ((0.97, 1.02), (0.75, 0.95), (0.75, 0.95)),
    "orange": ((0.05, 0.09), (0.75, 0.95), (0.9, 1.0)),
    "yellow": ((0.12, 0.16), (0.65, 0.9), (0.9, 1.0)),
    "green": ((0.28, 0.42), (0.5, 0.8), (0.45, 0.75)),
    "blue": ((0.56, 0.64), (0.55, 0.9), (0.6, 0.95)),
    "purple": ((0.73, 0.8), (0.4, 0.75), (0.5, 0.8)),
    "pink": ((0.9, 0.95), (0.3, 0.5), (0.92, 1.0)),
    "brown": ((0.05, 0.09), (0.5, 0.7), (0.35, 0.55)),
    "white": ((0.0, 1.0), (0.0, 0.06), (0.93, 1.0)),
    "grey": ((0.0, 1.0), (0.0, 0.08), (0.5, 0.68)),
    "black": ((0.0, 1.0), (0.0, 0.15), (0.13, 0.22)),
}


def mix(a: float, b: float, u: float) -> float:
    """From a (u = 0) to b (u = 1)."""
    return a + (b - a) * u


def blend(a: Color, b: Color, u: float) -> Color:
    return tuple(round(mix(x, y, u)) for x, y in zip(a, b))  # type: ignore[return-value]


def darker(color: Color, by: float = 0.25) -> Color:
    return blend(color, (0, 0, 0), by)


def lighter(color: Color, by: float = 0.35) -> Color:
    return blend(color, (255, 255, 255), by)


def shade(name: str, rng: np.random.Generator) -> Color:
    """A colour that the name fits."""
    h, s, v = (rng.uniform(*limits) for limits in COLORS[name])
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(h % 1, s, v))  # type: ignore[return-value]


def layer() -> Image.Image:
    """A clear sheet to draw on."""
    return Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))


def gradient(top: Color, bottom: Color) -> Image.Image:
    """A sheet that goes from one colour to another, downwards."""
    ramp = np.linspace(0, 1, SIZE)[:, None] * (np.array(bottom) - np.array(top)) + np.array(top)
    return Image.fromarray(np.repeat(ramp[:, None], SIZE, axis=1).astype(np.uint8)).convert("RGBA")


def smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """A [SIZE, SIZE] field in 0-1 whose bumps are SIZE / cells wide."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32) / 255


class Pen:
    """Draws in a thing's own coordinates: x from -1 (left) to 1, y from -1 (top) to 1 (where it
    stands).
    """

    def __init__(
        self,
        sheet: Image.Image,
        x: float,
        y: float,
        scale: float,
        angle: float = 0.0,
        flip: bool = False,
    ):
        self.sheet, self.draw = sheet, ImageDraw.Draw(sheet)
        self.x, self.y, self.scale, self.angle, self.flip = x, y, scale, angle, flip
        self._c, self._s = scale * math.cos(angle), scale * math.sin(angle)
        self._f = -1 if flip else 1

    def on(self, sheet: Image.Image) -> "Pen":
        """The same pen on another sheet."""
        return Pen(sheet, self.x, self.y, self.scale, self.angle, self.flip)

    def at(self, x: float, y: float) -> Point:
        """Where a point lies on the sheet, in pixels."""
        x *= self._f
        return self.x + self._c * x - self._s * y, self.y + self._s * x + self._c * y

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """The own coordinates of every pixel, as two [SIZE, SIZE] fields."""
        dx, dy = (
            (np.arange(SIZE, dtype=np.float32) - o) / np.float32(self.scale)
            for o in (self.x, self.y)
        )
        c, s = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        return (c * dx[None] + s * dy[:, None]) * np.float32(self._f), c * dy[:, None] - s * dx[
            None
        ]

    def width(self, w: float) -> int:
        return max(1, round(w * self.scale))

    def poly(
        self, points: Sequence[Point], fill: "Fill", line: Color | None = INK, w: float = 0.045
    ) -> None:
        """A filled shape; `fill` is a colour or a texture (a sheet pasted through the shape)."""
        pixels = [self.at(x, y) for x, y in points]
        if isinstance(fill, Image.Image):
            stencil = Image.new("L", (SIZE, SIZE), 0)
            ImageDraw.Draw(stencil).polygon(pixels, fill=255)
            self.sheet.paste(fill, (0, 0), stencil)
        elif fill is not None:
            self.draw.polygon(pixels, fill=fill)
        if line is not None:
            self.draw.line(
                [*pixels, pixels[0], pixels[1]], fill=line, width=self.width(w), joint="curve"
            )

    def oval(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        fill: "Fill",
        line: Color | None = INK,
        turn: float = 0.0,
        w: float = 0.045,
    ) -> None:
        c, s = math.cos(turn), math.sin(turn)
        self.poly(
            [(cx + rx * a * c - ry * b * s, cy + rx * a * s + ry * b * c) for a, b in _RING],
            fill,
            line,
            w,
        )

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: "Fill",
        line: Color | None = INK,
        w: float = 0.045,
    ) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, line, w)

    def stroke(self, points: Sequence[Point], color: Color, w: float) -> None:
        """A line with round ends."""
        pixels = [self.at(x, y) for x, y in points]
        width = self.width(w)
        self.draw.line(pixels, fill=color, width=width, joint="curve")
        if width > 3:
            r = width / 2 - 0.5
            for x, y in (pixels[0], pixels[-1]):
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def tube(self, points: Sequence[Point], fill: Color, w: float) -> None:
        """A stroke with an outline: tails, handles, legs."""
        self.stroke(points, INK, w + 0.08)
        self.stroke(points, fill, w)

    def dot(self, x: float, y: float, r: float, fill: Color) -> None:
        px, py = self.at(x, y)
        r *= self.scale
        self.draw.ellipse((px - r, py - r, px + r, py + r), fill=fill)


Fill = Color | Image.Image | None


def arc(
    cx: float, cy: float, rx: float, ry: float, start: float, end: float, n: int = 14
) -> list[Point]:
    """Points along an ellipse, angles in turns, 0 at the right, growing clockwise on the page."""
    return [
        (
            cx + rx * math.cos(2 * math.pi * mix(start, end, k / n)),
            cy + ry * math.sin(2 * math.pi * mix(start, end, k / n)),
        )
        for k in range(n + 1)
    ]
