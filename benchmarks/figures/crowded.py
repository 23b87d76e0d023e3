"""A plane with many methods: hulls around families, names on the front alone.

In: methods and points [n, 2]. Out: families, what lies on the front, drawn hulls. With few methods
nothing of this is used, and a figure looks as it always did.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Polygon
from scipy.spatial import ConvexHull, QhullError

from benchmarks.figures.looks import family_of
from benchmarks.planning.method_families import FAMILIES, Family


def family_place(method: str) -> int:
    """Where a method's family stands among all; without one, last."""
    return [*FAMILIES, family_of(method)].index(family_of(method))


def on_front(points: np.ndarray) -> np.ndarray:
    """Which of [n, 2] no other is better than in both, [n]."""
    never_worse = np.all(points[None] >= points[:, None], axis=2)
    better = never_worse & np.any(points[None] > points[:, None], axis=2)
    return ~np.any(better, axis=1)


def draw_hulls(axes: Axes, families: Mapping[str, np.ndarray]) -> None:
    """A faint area around the points of each family; a line where there are two."""
    for name, points in families.items():
        if len(points) < 2:
            continue
        colour = FAMILIES[name].colour
        try:
            corners = points[ConvexHull(points).vertices]
        except (QhullError, ValueError):  # two, or all on one line
            ends = np.argsort(points @ (points.max(0) - points.min(0)))[[0, -1]]
            corners = points[ends]
        if len(corners) > 2:
            axes.add_patch(
                Polygon(corners, facecolor=colour, alpha=0.1, edgecolor="none", zorder=1.1)
            )
        axes.add_patch(
            Polygon(
                corners,
                fill=False,
                closed=len(corners) > 2,
                edgecolor=colour,
                linewidth=0.6,
                alpha=0.4,
                zorder=1.2,
            )
        )


def hull_keys(families: Sequence[str]) -> list[Patch]:
    """Of the families in a legend, given once a point: those that have a hull."""
    shown: list[Family] = [FAMILIES[name] for name in FAMILIES if families.count(name) > 1]
    return [Patch(facecolor=one.colour, alpha=0.3, label=one.title) for one in shown]
