"""The picture of docs/worked-example.md: eleven differences, their mean, and its interval.

In: results/first-world/miniature-paper as it is committed. Out: `python -m
website.interval_picture FILE.png`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import FIRST_WORLD

RUN, OURS = FIRST_WORLD / "miniature-paper", ("perfusion", "local-b0.60-t0.15")
OTHERS = {"ti": "Textual Inversion", "cd": "Custom Diffusion"}
MARKED = "#0072B2"


@dataclass(frozen=True)
class Difference:
    """Image similarity, ours less the other's, by concept."""

    other: str
    values: dict[str, float]
    mean: float
    lo: float
    hi: float


def difference(other: str, root: Path) -> Difference:
    """The mean of the concepts' differences with its t interval."""
    import pandas as pd
    from scipy.stats import t

    metrics: Any = pd.read_csv(root / RUN / "metrics.csv")
    metrics = metrics.set_index(["method", "point", "concept"]).sort_index()
    sides = [metrics.loc[place]["image_sim"] for place in (OURS, (other, "default"))]
    each = (sides[0] - sides[1]).sort_values()
    half = t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    mean = float(each.mean())
    return Difference(other, each.to_dict(), mean, mean - half, mean + half)


def draw(out: Path, root: Path) -> list[Difference]:
    """Two strips over one axis; zero is where neither is ahead."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    found = [difference(other, root) for other in OTHERS]
    figure, axes = plt.subplots(len(found), sharex=True, figsize=(7.2, 3.6), layout="constrained")
    for axis, one in zip(axes, found, strict=True):
        axis.axvline(0, color="#666666", linewidth=1)
        names, values = list(one.values), list(one.values.values())
        axis.scatter(values, [0.0] * len(values), s=26, color="#999999", zorder=2)
        for name in (names[0], names[-1]):  # they are sorted
            place = (one.values[name], 0.0)
            axis.annotate(name, place, (0, -13), textcoords="offset points", ha="center", size=8)
        axis.plot([one.lo, one.hi], [0.5, 0.5], color=MARKED, linewidth=3, solid_capstyle="butt")
        axis.plot(one.mean, 0.5, "o", color=MARKED, markersize=8)
        words = f"{one.mean:+.3f} ({one.lo:+.3f} to {one.hi:+.3f})"
        place = (one.mean, 0.5)
        axis.annotate(words, place, (0, 9), textcoords="offset points", ha="center", size=9)
        axis.set(ylim=(-0.5, 1.1), yticks=[], title=f"Perfusion less {OTHERS[one.other]}")
        axis.title.set(fontsize=10, ha="left", position=(0, 1))
        axis.spines[["left", "right", "top"]].set_visible(False)
    axes[-1].set_xlabel(
        "difference in image similarity: a grey dot a concept, blue the mean with its 95 % interval"
    )
    figure.savefig(out, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return found


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).resolve().parent.parent)
