"""Labels beside points: each finds the nearest free place.

In: axes whose limits and position are settled, labels in data coordinates, what else is drawn. Out:
text on the axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

ANGLES = np.deg2rad(np.arange(0, 360, 15))
# points between the point and the edge of its label
RADII = (4.0, 6.0, 9.0, 13.0, 18.0, 24.0, 31.0)
LEADER = 12.0  # a label farther than this gets a line to its point
CLEAR = 1.0  # points kept free around a label
SWEEPS = 4


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point, or to any one of several (a line's name may stand at
    whichever has room).
    """

    at: Sequence[tuple[float, float]]
    text: str
    colour: str
    size: float = 6.5
    weight: str = "normal"


@dataclass
class Drawn:
    """What an axes function drew and its labels, which `finish` places once the layout is
    settled.
    """

    axes: Axes
    labels: list[Label] = field(default_factory=list)
    # polylines [n, 2], data coordinates: keep clear of them
    lines: list[np.ndarray] = field(default_factory=list)
    # intervals: keep clear where it costs little
    faint: list[np.ndarray] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)  # already written


def in_lines(text: str, inches: float, size: float) -> str:
    """Broken between words, where one line is too wide."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        wide = text_to_path.get_text_width_height_descent(longer, FontProperties(size=size), False)
        lines = [*lines[:-1], longer] if not lines or wide[0] <= 72 * inches else [*lines, word]
    return "\n".join(lines)


def finish_layout(*parts: Drawn) -> None:
    """Run the layout of the figure, then write the labels of its axes where they will stay."""
    figure = parts[0].axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in parts:
        place_labels(part)


def _trail(axes: Axes, line: np.ndarray, step: float) -> np.ndarray:
    """A polyline [n, 2] in data coordinates as pixels at most `step` apart."""
    corners = axes.transData.transform(np.asarray(line, float))
    corners = corners[np.isfinite(corners).all(axis=1)]
    pieces = [corners]
    for start, end in pairwise(corners):
        count = int(np.hypot(*(end - start)) // step) + 1
        pieces.append(start + (end - start) * np.linspace(0, 1, count + 1)[:, None])
    return np.concatenate(pieces)


def _candidates(
    anchors: np.ndarray, size: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [k, 4] (left, bottom, right, top), the anchor of each [k, 2], its distance from it in
    points [k].
    """
    boxes, of, far = [], [], []
    for anchor, radius, angle in product(anchors, RADII, ANGLES):
        middle = anchor + np.array([np.cos(angle), np.sin(angle)]) * (size / 2 + radius * unit)
        boxes.append([*(middle - size / 2), *(middle + size / 2)])
        of.append(anchor)
        far.append(radius)
    return np.array(boxes), np.array(of), np.array(far)


def _overlap(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Area that each of `boxes` shares with the box `other`."""
    wide = np.minimum(boxes[:, 2], other[2]) - np.maximum(boxes[:, 0], other[0])
    high = np.minimum(boxes[:, 3], other[3]) - np.maximum(boxes[:, 1], other[1])
    return np.clip(wide, 0, None) * np.clip(high, 0, None)


def _inside(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """How many dots lie in each box."""
    x, y = dots[:, 0], dots[:, 1]
    within = (x > boxes[:, :1]) & (x < boxes[:, 2:3]) & (y > boxes[:, 1:2]) & (y < boxes[:, 3:4])
    return within.sum(axis=1)


def place_labels(part: Drawn) -> None:
    """Write each label where it covers no line, no point and no other label; the first ones choose
    first.
    """
    axes, labels = part.axes, part.labels
    figure = axes.get_figure(root=True)
    if not labels or figure is None:
        return
    # Texts to be placed.
    renderer = FigureCanvasAgg(figure).get_renderer()
    unit = figure.dpi / 72  # pixels in a point
    anchors = [axes.transData.transform(label.at) for label in labels]
    texts = [
        axes.annotate(
            label.text,
            label.at[0],
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=label.size,
            color=label.colour,
            fontweight=label.weight,
            zorder=6,
            annotation_clip=False,
        )
        for label in labels
    ]
    # What they must miss.
    frame = axes.bbox
    # about what a marker covers
    ring = 2.4 * unit * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    rings = [(anchor[:, None] + ring).reshape(-1, 2) for anchor in anchors]
    solid = np.concatenate([*(_trail(axes, line, 2 * unit) for line in part.lines), *rings])
    faint = np.concatenate(
        [np.empty((0, 2)), *(_trail(axes, line, 2 * unit) for line in part.faint)]
    )
    written = [np.array(text.get_window_extent(renderer).extents) for text in part.texts]

    # Cost of every place.
    places, fixed = [], []
    for text, anchor in zip(texts, anchors):
        extent = text.get_window_extent(renderer)
        size = np.array([extent.width, extent.height]) + 2 * CLEAR * unit
        box, of, far = _candidates(anchor, size, unit)
        spill = (
            np.clip(frame.x0 - box[:, 0], 0, None) + np.clip(box[:, 2] - frame.x1, 0, None)
            + np.clip(frame.y0 - box[:, 1], 0, None) + np.clip(box[:, 3] - frame.y1, 0, None)
        )  # fmt: skip
        places.append((box, of, far))
        cost = far * 0.8 + 60 * _inside(box, solid) + 4 * _inside(box, faint) + 40 * spill / unit
        fixed.append(
            cost
            + 8 * sum((_overlap(box, other) for other in written), np.zeros(len(box))) / unit**2
        )
    # Cheapest place in turn.
    chosen: list[int | None] = [None] * len(labels)
    for _ in range(SWEEPS):
        for me, (box, _, _) in enumerate(places):
            cost = fixed[me].copy()
            for other, pick in enumerate(chosen):
                if other != me and pick is not None:
                    cost += 8 * _overlap(box, places[other][0][pick]) / unit**2
            chosen[me] = int(np.argmin(cost))

    # Texts and leader lines.
    for label, text, (box, of, far), pick in zip(labels, texts, places, chosen):
        assert pick is not None
        left, bottom, right, top = box[pick]
        anchor = of[pick]
        text.xy = tuple(axes.transData.inverted().transform(anchor))
        text.set_position(
            ((left + right - 2 * anchor[0]) / 2 / unit, (bottom + top - 2 * anchor[1]) / 2 / unit)
        )
        if far[pick] >= LEADER:
            end = np.clip(anchor, [left, bottom], [right, top])
            start = anchor + (end - anchor) * min(
                1.0, 3.5 * unit / max(np.hypot(*(end - anchor)), 1e-9)
            )
            x, y = axes.transData.inverted().transform([start, end]).T
            axes.plot(
                x,
                y,
                color=label.colour,
                linewidth=0.4,
                alpha=0.7,
                zorder=2.5,
                scalex=False,
                scaley=False,
            )
