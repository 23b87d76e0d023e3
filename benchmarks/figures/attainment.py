"""Attainment: of how many concepts does a method's front reach so much of both similarities?

In: one run. Out: a panel a method, dark where the fronts of all concepts reach; the lines are a
quarter, a half and three quarters of them.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.figures import plots
from benchmarks.figures.looks import style_of
from benchmarks.figures.selection import Wish, is_main, needs
from benchmarks.figures.style import PAGE
from benchmarks.tables.build import split_pairs
from benchmarks.tables.dominance import attained, variants_of
from benchmarks.tables.grid import FLOOR, grid_of
from benchmarks.tables.run_view import Run

PLACES = 200  # of either axis
SHARES = (0.25, 0.5, 0.75)
ACROSS = 5  # panels in a row


def attainment(runs: Sequence[Run], wish: Wish) -> Figure:
    run = runs[0]
    grid = grid_of(split_pairs(run.cells)[0])
    methods = [
        name for name in dict.fromkeys(m for m, _ in grid.points) if name != FLOOR and is_main(name)
    ]
    scores = {
        name: [grid.scores[metric][variants_of(grid, name)] for metric in (plots.X, plots.Y)]
        for name in methods
    }
    shown = [name for name in methods if not np.isnan(scores[name][0] + scores[name][1]).all()]
    needs(
        runs,
        len(grid.concepts) > 1 and bool(shown),
        "no method has both similarities of two concepts or more; `perfbench run --concepts all` "
        "with shape prompts gives them",
    )
    ends = [
        (np.nanmin(values), np.nanmax(values))
        for values in (np.concatenate([scores[n][k].ravel() for n in shown]) for k in (0, 1))
    ]
    x, y = (np.linspace(lo - 0.03, hi + 0.03, PLACES) for lo, hi in ends)
    down = -(-len(shown) // ACROSS)
    across = min(len(shown), ACROSS)
    figure = Figure(figsize=(PAGE * max(across, 2) / ACROSS, 1.75 * down), layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for number, (panel, name) in enumerate(zip(axes.flat, shown)):
        share, look = attained(grid, name, y, x).T, style_of(name)  # [image, text]
        panel.contourf(
            x, y, share, np.linspace(0.001, 1.001, 12), cmap="Greys", vmin=-0.1, vmax=1.4
        )
        panel.contour(x, y, share, SHARES, colors=look.colour, linewidths=(0.6, 1.4, 0.6))
        panel.set_title(look.label.replace(", ", ",\n"), loc="left", fontsize=7)
        panel.set_ylabel(plots.AXIS[plots.Y] if number % across == 0 else "")
    for number in range(len(shown), axes.size):
        axes.flat[number].axis("off")
        axes.flat[number - across].tick_params(labelbottom=True)  # nothing stands below it
    figure.supxlabel(plots.AXIS[plots.X], fontsize=7)
    return figure
