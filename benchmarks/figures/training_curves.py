"""How trainings went: losses and validation scores by step, and the step that was kept.

In: the fits of a run that are there (their fit.json). Out: a figure, a column a method, a line a
concept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures.label_placing import in_lines
from benchmarks.figures.looks import Style, known_looks, split_variant, strangers_among, style_of
from benchmarks.figures.selection import Wish, is_main, needs
from benchmarks.figures.style import COLUMN, GREY, PAGE, RC
from benchmarks.store.reading import planned_fits
from benchmarks.tables.run_view import Run

TITLE = 0.8  # of a panel's width; the rest are numbers beside it
ACROSS = 4  # methods beside each other
SMOOTH = 20  # a running mean goes over this part of the steps: single losses are mostly noise
HUGE = 1e30  # a loss that is not below it (NaN is not) cannot be drawn


@dataclass(frozen=True)
class Training:
    """One fit: of a method on a concept."""

    method: str
    concept: str
    losses: np.ndarray  # [steps]
    looks: np.ndarray  # [n, 2] step and validation score; without rows where it has none
    kept: int  # the step whose state the method draws with

    @property
    def smooth(self) -> np.ndarray:
        """[steps]"""
        window = max(len(self.losses) // SMOOTH, 1)
        return pd.Series(self.losses).rolling(window, center=True, min_periods=1).mean().to_numpy()


def training(runs: Sequence[Run], wish: Wish) -> Figure:
    found = trainings(runs[0])
    needs(
        runs,
        bool(found),
        "no fit in it tells its losses; a run keeps them in fits/ until that is removed",
    )
    names = list(found)
    across = min(ACROSS, len(names))
    bands = [names[start : start + across] for start in range(0, len(names), across)]
    # a second row of panels where something in it was validated
    high = [2 if any(len(one.looks) for name in of for one in found[name]) else 1 for of in bands]
    width = COLUMN if across == 1 else min(PAGE, 0.6 + 1.9 * across)
    figure = Figure(figsize=(width, 1.3 * sum(high) + 0.25 * len(bands)), layout="constrained")
    grid = figure.subplots(sum(high), across, squeeze=False)
    strangers = strangers_among(names)
    top = 0
    for members, rows in zip(bands, high):
        for place in range(across):
            panels = list(grid[top : top + rows, place])
            if place >= len(members):
                for axes in panels:
                    axes.axis("off")
                continue
            style = style_of(members[place], None, strangers)
            title = in_lines(style.label, TITLE * (width - 0.6) / across, RC["axes.titlesize"])
            panels[0].set_title(title, loc="left", color=style.text)
            draw_losses(panels[0], found[members[place]], style)
            if rows == 2:
                panels[1].sharex(panels[0])
                draw_looks(panels[1], found[members[place]], style)
            panels[-1].set_xlabel("Training step")
            for axes, name in zip(panels, ("Loss", "Validation score")):
                axes.set_ylabel(name if place == 0 else "")
        top += rows
    return figure


def draw_losses(axes: Axes, found: Sequence[Training], style: Style) -> None:
    """A line a concept, with a dot where it was kept."""
    for one in found:
        steps = np.arange(1, len(one.losses) + 1)
        axes.plot(steps, one.smooth, **line_of(style, len(found)))
        if 0 < one.kept <= len(steps):
            axes.plot(one.kept, one.smooth[one.kept - 1], **dot_of(style))
    axes.locator_params(nbins=4)


def draw_looks(axes: Axes, found: Sequence[Training], style: Style) -> None:
    """The same of the validation scores; one sentence where nothing was validated."""
    if not any(len(one.looks) for one in found):
        axes.text(
            0.5, 0.5, "no validation:\nthe last step is kept", ha="center", va="center",
            transform=axes.transAxes, fontsize=6, color=GREY,
        )  # fmt: skip
        axes.set(yticks=[])
        axes.grid(visible=False)
        return
    for one in found:
        axes.plot(*one.looks.T, **line_of(style, len(found)))
        for step, score in one.looks[one.looks[:, 0] == one.kept]:
            axes.plot(step, score, **dot_of(style))
    axes.locator_params(nbins=4)


def line_of(style: Style, count: int) -> dict[str, Any]:
    """Of many concepts thin."""
    many = count > 3
    return {"color": style.colour, "linewidth": 0.6 if many else 1.0, "alpha": 0.7, "zorder": 3}


def dot_of(style: Style) -> dict[str, Any]:
    return {
        "marker": "o",
        "color": style.colour,
        "markersize": 3.2,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linestyle": "none",
        "zorder": 4,
    }


def trainings(run: Run) -> dict[str, list[Training]]:
    """method -> its fits that are here, in the order of the figures; what several methods draw with
    is the first one's.
    """
    place = {name: number for number, name in enumerate(known_looks())}

    def order(one: tuple[Training, str]) -> tuple[bool, int, str]:
        method = one[0].method
        return (not is_main(method), place.get(split_variant(method)[0], len(place)), method)

    read = [
        (training_of(method, concept, about), str(about["key"]))
        for method, concept, about in planned_fits(run.folder)
    ]
    found: dict[str, list[Training]] = {}
    seen: set[str] = set()
    for one, key in sorted(read, key=order):
        if key not in seen and len(one.losses):
            seen.add(key)
            found.setdefault(one.method, []).append(one)
    return found


def training_of(method: str, concept: str, about: dict[str, Any]) -> Training:
    """What a fit.json tells; it may be anybody's, and what is no list of numbers is left out."""
    losses, looks = about.get("losses"), about.get("validation")
    pairs = looks if isinstance(looks, list) and all(map(is_pair, looks)) else []
    kept = about.get("steps")
    return Training(
        method,
        concept,
        np.array(losses if is_numbers(losses) else [], float),
        np.array(pairs, float).reshape(-1, 2),
        kept if isinstance(kept, int) else 0,
    )


def is_pair(found: object) -> bool:
    return is_numbers(found) and isinstance(found, list) and len(found) == 2


def is_numbers(found: object) -> bool:
    """A list of numbers that can be drawn."""
    return isinstance(found, list) and all(
        isinstance(one, (int, float)) and abs(one) < HUGE for one in found
    )
