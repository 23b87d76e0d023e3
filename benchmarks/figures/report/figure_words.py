"""A figure's main numbers in words, for those who cannot see it.

In: a figure's name and a run that has it. Out: plain text.
"""

from collections.abc import Callable, Iterable

import pandas as pd

from benchmarks.figures import breakdown, cost_plot, difficulty_plot, measure_panels, plots
from benchmarks.figures.attention.drawing import attenders
from benchmarks.figures.drift_chart import lines_of
from benchmarks.figures.looks import style_of
from benchmarks.figures.selection import best_point, in_order, of_main, perfusion_fronts, step_of
from benchmarks.figures.training_curves import trainings
from benchmarks.scoring.measures import MEASURES
from benchmarks.scoring.reserved import OURS
from benchmarks.tables.difficulty import graded, in_grade_order
from benchmarks.tables.run_view import Run

BOTH = "Image and text similarity"


def figure_words(name: str, run: Run) -> str:
    """Empty for a figure that has no words."""
    return WORDS[name](run) if name in WORDS else ""


def plane(run: Run) -> str:
    rows = of_main(run.table)
    text = f"{BOTH} of {listed(map(ends, in_order(plots.series_of(known(rows)))))}"
    for kind in ("floor", "ceiling"):
        for value in run.table.loc[run.table["kind"] == kind, plots.Y].dropna()[:1]:
            text += f" Image similarity of the {kind}: {value:.3f}."
    return text


def bias(run: Run) -> str:
    return f"{BOTH} of {listed(map(ends, perfusion_fronts(run)))}"


def dynamics(run: Run) -> str:
    rows = run.table[step_of(run.table).notna() & run.table["method"].str.startswith(OURS)]
    return f"{BOTH} by training step of {listed(map(ends, plots.series_of(known(rows))))}"


def ablation(run: Run) -> str:
    rows = run.table[step_of(run.table).isna() & run.table["method"].str.startswith(OURS)]
    return f"{BOTH} of {listed(map(ends, plots.series_of(known(rows))))}"


def per_concept(run: Run) -> str:
    """Each method's least and most similar concept."""
    table = of_main(run.table)
    told = []
    for one in in_order(plots.series_of(table)):
        at = (run.metrics["method"] == one.method) & (run.metrics["point"] == best_point(one.rows))
        mine = run.metrics[at & run.metrics[plots.Y].notna()]
        if len(mine):
            values = mine.set_index("concept")[plots.Y].astype(float)
            told.append(f"{one.style.label} {least_and_most(values)}")
    return f"Image similarity by concept: {listed(told)}"


def by_group(run: Run) -> str:
    """Of each group and scenario the worst and the best method."""
    parts = []
    for name, panel in breakdown.panels_of([run])[0].items():
        rows = [
            f"{label} {least_and_most(row.dropna())}"
            for label, row in panel.iterrows()
            if row.notna().any()
        ]
        parts.append(f"{breakdown.TITLES[name]}: {listed(rows)}")
    return " ".join(parts)


def beyond(run: Run) -> str:
    """Of each measure every method's value."""
    rows, names, _ = measure_panels.measure_rows(run.table)
    told = []
    for name in names:
        values = [f"{label} {row[name]:.3f}" for label, _, row in rows if row[name] == row[name]]
        told.append(f"{MEASURES[name].label}: {listed(values)}")
    return " ".join(told)


def attention(run: Run) -> str:
    found = run.attention()
    told = [] if found is None else attenders(found.leakage)
    words = []
    for _, style, rows in told:
        first, last = (rows.sort_values("t").iloc[end] for end in (0, -1))
        words.append(
            f"{style.label} {first['leakage']:.2f} at t = {first['t']}, "
            f"{last['leakage']:.2f} at t = {last['t']}"
        )
    return f"Attention outside the object: {listed(words)}"


def training(run: Run) -> str:
    """From where to where the loss went, and which steps were kept."""
    told = []
    for found in trainings(run).values():
        first, last = (sum(one.smooth[end] for one in found) / len(found) for end in (0, -1))
        kept = sorted({one.kept for one in found if one.kept})
        span = f"{kept[0]}" if len(kept) == 1 else f"{kept[0]} to {kept[-1]}" if kept else ""
        most = max(len(one.losses) for one in found)
        step = f", kept at step {span} of {most}" if span else ""
        told.append(f"{style_of(found[0].method).label} {first:.3f} to {last:.3f}{step}")
    return f"Mean loss from the first to the last step: {listed(told)}"


def cost(run: Run) -> str:
    """Each method's seconds of training and harmonic mean."""
    told = [
        f"{one.label} {one.score:.3f} for {one.cost:,.0f} s"
        for one in cost_plot.priced(run, cost_plot.COST, cost_plot.SCORE)
    ]
    return f"Harmonic mean, and seconds of a training: {listed(told)}"


def difficulty(run: Run) -> str:
    """Image similarity of each method at each grade."""
    names = in_grade_order(graded(run).values())
    told = []
    for one in difficulty_plot.climbs(run, plots.Y, names):
        pairs = [f"{m.value:.3f} {name}" for name, m in zip(names, one.means) if m.value == m.value]
        told.append(f"{one.style.label} {', '.join(pairs)}")
    return f"Image similarity by grade: {listed(told)}"


def drifting(run: Run) -> str:
    """Of every operating point the drift of unrelated prompts, and of the class word."""
    told = [
        f"{line.label} {line.row['drift']:.3f} and {line.row['drift_class']:.3f}"
        for line in lines_of(run)
    ]
    return f"Drift of unrelated prompts and of the class word: {listed(told)}"


# ---- pieces ----


def known(rows: pd.DataFrame) -> pd.DataFrame:
    """Operating points that have both similarities."""
    return rows[(rows["kind"] == "method") & rows[plots.X].notna() & rows[plots.Y].notna()]


def ends(series: plots.Series) -> str:
    """A point's two scores; of a line those of its ends."""
    rows = series.rows.iloc[[0, -1]] if series.along else series.rows.iloc[:1]
    at = [f" at {series.along[0]}", f" at {series.along[-1]}"] if series.along else [""]
    values = [
        f"{row[plots.Y]:.3f} and {row[plots.X]:.3f}{where}"
        for row, where in zip(rows.to_dict("records"), at)
    ]
    return f"{series.style.label} {', '.join(values)}"


def least_and_most(values: pd.Series) -> str:
    """`0.52 (pot) to 0.81 (cat)`."""
    of = [(float(value), spoken(name)) for name, value in values.items()]
    if len(of) == 1:
        return f"{of[0][0]:.3f}"
    (low, worst), (high, best) = min(of), max(of)
    return f"{low:.3f} ({worst}) to {high:.3f} ({best})"


def spoken(name: object) -> str:
    return str(name).replace("_", " ")


def listed(parts: Iterable[str]) -> str:
    return "; ".join(parts) + "."


WORDS: dict[str, Callable[[Run], str]] = {
    "pareto": plane,
    "bias": bias,
    "dynamics": dynamics,
    "ablation": ablation,
    "per-concept": per_concept,
    "breakdown": by_group,
    "measures": beyond,
    "cost": cost,
    "difficulty": difficulty,
    "attention": attention,
    "training": training,
    "drift": drifting,
}
