"""The verb `plot`: draws a figure of one run or several and writes it.

In: a figure's name and run folders. Out: PDF, SVG and PNG in the first run's `figures/`, or the
file asked for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.disk import ask_for
from benchmarks.figures import (
    attainment,
    breakdown,
    charts,
    cost_plot,
    difficulty_plot,
    drift_chart,
    measure_panels,
    training_curves,
    tuning_figure,
    with_pictures,
)
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import styled, write_figure
from benchmarks.store.run_folder import figures_folder
from benchmarks.tables.as_scored import as_scored
from benchmarks.tables.run_view import Run, open_run, same_protocol, same_scorer, same_world
from perfusion_core.errors import UserError, unknown

FIGURES: dict[str, Callable[[Sequence[Run], Wish], Figure]] = {
    "pareto": charts.pareto,
    "bias": with_pictures.bias,
    "dynamics": with_pictures.dynamics,
    "ablation": charts.ablation,
    "attention": with_pictures.attention,
    "per-concept": charts.per_concept,
    "attainment": attainment.attainment,
    "breakdown": breakdown.breakdown,
    "measures": measure_panels.measures,
    "cost": cost_plot.cost,
    "difficulty": difficulty_plot.difficulty,
    "training": training_curves.training,
    "drift": drift_chart.drift,
    "gallery": with_pictures.gallery,
}
# what of a Wish a figure follows; the others draw all that a run has
WISHES = {
    "gallery": ("concepts", "prompts", "methods", "images"),
    "bias": ("concepts", "prompts"),
    "dynamics": ("concepts", "prompts"),
    "attention": ("concepts",),
    "cost": ("score", "cost"),
    "difficulty": ("score",),
}
OF_ONE = (
    "bias",
    "attention",
    "per-concept",
    "attainment",
    "breakdown",
    "measures",
    "cost",
    "difficulty",
    "training",
    "drift",
)


TUNING = "tuning"  # of a search, not of a run

# pictures, attention and training curves are no scorer's
NO_SCORES = ("gallery", "attention", "training")


def plot(
    name: str, runs: Sequence[Run], wish: Wish, out: Path | None = None, scorer: str = ""
) -> list[Path]:
    """Draw one figure and write it; -> the files. `scorer`: another than the reported one."""
    if name in OF_ONE and len(runs) > 1:
        raise UserError(
            f"{name} is a figure of one run; give `perfbench plot {name}` for each of the "
            f"{len(runs)}"
        )
    refuse_what_is_ignored(name, wish)
    if scorer and name in NO_SCORES:
        raise UserError(f"{name} shows no scores, so --scorer would change nothing: leave it out")
    if scorer:
        runs = [as_scored(run, scorer) for run in runs]
        name_of = runs[0].about["scorers"][0]["name"].replace(".", "-")
        out = out or figures_folder(runs[0].folder) / f"{name}-{name_of}"
    if out:
        ask_for(out)
    if name != "gallery":  # pictures beside each other need neither in common
        same_world(runs)
        same_scorer(runs)
        same_protocol(runs)
    with styled(), looks_of_runs(runs):
        figure = FIGURES[name](runs, wish)
        return write_figure(figure, out or figures_folder(runs[0].folder) / name)


def refuse_what_is_ignored(name: str, wish: Wish) -> None:
    """A flag that changes nothing would be a figure of something else than was asked for."""
    for flag in ("concepts", "prompts", "methods", "images", "score", "cost"):
        if getattr(wish, flag) != getattr(Wish(), flag) and flag not in WISHES.get(name, ()):
            taking = [figure for figure, wishes in WISHES.items() if flag in wishes]
            raise UserError(
                f"{name} draws all that a run has, whatever --{flag} says; --{flag} is of "
                f"{', '.join(taking)}"
            )


def plot_verb(
    name: str, given: Sequence[str], out: str | None, wish: Wish, scorer: str = ""
) -> list[Path]:
    """`perfbench plot NAME [RUN ...]`."""
    if name == TUNING:
        refuse_what_is_ignored(name, wish)
        if scorer:
            raise UserError(f"{name} has the scores it was searched by; leave --scorer out")
        return tuning_figure.plot_tuning(given, Path(out) if out else None)
    if name not in FIGURES:
        raise unknown("figure", name, (*FIGURES, TUNING))
    runs = [open_run(one) for one in given] or [open_run(None)]
    return plot(name, runs, wish, Path(out) if out else None, scorer)
