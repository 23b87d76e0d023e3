"""`perfbench table --by`: where scores are high and low, how methods compare, where uncertainty
comes from.

In: the rows of cells.csv and plan.csv. Out: a frame, and its text.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scoring.reserved import OURS
from benchmarks.store.reading import imported_methods, untuned_methods
from benchmarks.suite.columns import DIFFICULTY
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs, table_of
from benchmarks.tables.costs import LEGENDS as COST_LEGENDS
from benchmarks.tables.costs import costs_view
from benchmarks.tables.difficulty import difficulty_view
from benchmarks.tables.dominance import compared_fronts
from benchmarks.tables.grid import CEILING, FLOOR
from benchmarks.tables.measured import legend_of, measure_table, measures_in
from benchmarks.tables.one_number import summaries
from benchmarks.tables.run_view import Run, open_run
from benchmarks.tables.sample_rows import missing_of, refuse_missing, silent_scorers
from benchmarks.tables.scorers_alike import agreement
from benchmarks.tables.table_text import aligned, estimate, untuned_words, with_untuned
from perfusion_core.errors import UserError, unknown

# the first that matches; what a prompt asks of the concept
SCENARIOS = {
    "style": r"painting|sketch|drawing|pixel art|in the style of",
    "outfit": r"\} (is )?(wearing|dressed|in an? .*(suit|costume|outfit))|costume|outfit",
    "material": r"made (out )?of|carved|golden \{|crystal \{|wooden \{",
    "activity": r"wearing \{|\} (is )?(?!lying|melting|hanging|spilling)[a-z]+ing\b",
}


def scenario_of(template: str, kind: str) -> str:
    """place (the object stays as it is), style, outfit, material, activity, or state (any other
    deformation).
    """
    if kind != "deform":
        return "place" if kind == "shape" else kind
    return next((name for name, words in SCENARIOS.items() if re.search(words, template)), "state")


def scenarios(planned: pd.DataFrame) -> dict[str, str]:
    """prompt id -> scenario, from the templates of the plan."""
    prompts = planned.drop_duplicates("prompt_id")
    return {
        p: scenario_of(t, k)
        for p, t, k in zip(prompts["prompt_id"], prompts["template"], prompts["kind"])
    }


def ours(cells: pd.DataFrame) -> str:
    """The method that the others are compared with: Perfusion, or the first one of a run without
    it.
    """
    names = sorted(set(cells["method"]) - {CEILING, FLOOR}) or [FLOOR]
    return OURS if OURS in names else names[0]


def measures(cells: pd.DataFrame) -> pd.DataFrame:
    """Measures beyond the protocol of every operating point, and of the concepts' own images."""
    found = measure_table(table_of(cells))
    if not measures_in(found):
        raise UserError(
            "the run has no measure beyond the protocol in its tables; `perfbench score RUN "
            "--measures` adds those that its pictures can have"
        )
    return found


def _per(column: str) -> Callable[[pd.DataFrame, Mapping[str, str]], pd.DataFrame]:
    return lambda cells, _: frames.breakdown(cells, column)


VIEWS: dict[str, Callable[[pd.DataFrame, Mapping[str, str]], pd.DataFrame]] = {
    "kind": _per("kind"),
    "group": _per("group"),
    "prompt": _per("prompt_id"),
    "scenario": lambda cells, labels: frames.breakdown(cells, "scenario", labels),
    "concept": lambda cells, _: frames.per_concept(cells),
    "hardest": lambda cells, _: frames.hardest(cells),
    "difference": lambda cells, _: frames.differences(cells, ours(cells)),
    "front": lambda cells, _: compared_fronts(cells, ours(cells)),
    "gap": lambda cells, _: frames.front_gaps(cells, ours(cells)),
    "summary": lambda cells, _: summaries(cells),
    "hypervolume": lambda cells, _: frames.hypervolumes(cells),
    "best-h": lambda cells, _: frames.best_h(cells),
    "variance": lambda cells, _: frames.variance(cells),
    "scorers": lambda cells, _: agreement(cells),
    "measures": lambda cells, _: measures(cells),
}

# of what a run's cells do not hold
OF_RUN: dict[str, Callable[[Run], pd.DataFrame]] = {
    "cost": lambda run: costs_view(run.first_table),
    DIFFICULTY: difficulty_view,
}


# what a column is, where its name does not say it
LEGENDS = {
    **COST_LEGENDS,
    "image_sim": "image_sim: how much the pictures look like the concept",
    "text_sim": "text_sim: how well they fit their prompts, relative to super",
    "text_sim_raw": "text_sim_raw: the cosine of picture and prompt",
    "text_gain": "text_gain: text_sim_raw less that of super in the same cells",
    "harmonic": "harmonic: one number for image_sim and text_sim",
    "below": "below: how far the cell lies under its method's mean",
    "difference": "difference: method less other, paired by cell; lo, hi: its 95 % interval",
    "win_rate": "win_rate: share of cells where method is ahead; win_lo, win_hi: its 95 % interval",
    "concepts_won": "concepts_won: concepts whose mean is ahead, of n_concepts",
    "ahead": "ahead: the most by which some point of the method is ahead of the other's front on "
    "both axes; below 0, its best is behind by so much on one",
    "behind": "behind: the same of the other over the method",
    "verdict": "verdict: beyond, dominated or trade-off (each ahead on an axis) where intervals "
    "say so, not beyond where only that is known, else undecided",
    "concepts_beyond": "concepts_beyond, concepts_dominated: of n_concepts, one front ahead "
    "on both axes",
    "harmonic_floor_to_ceiling": "harmonic_floor_to_ceiling: the same, with image_sim counted from "
    "super (0) to the concept's own images (1)",
    "gap": "gap: text similarity of the method's front at the other's image similarity, less the "
    "other's; empty where the front does not reach so far; lo, hi: its 95 % interval",
    "inside": "inside: share of bootstrap draws in which the front reaches so far; below 0.95 no "
    "interval is told",
    "hypervolume": "hypervolume: area between the front and (image_sim of super, text_sim 0.5); "
    "lo, hi: its 95 % interval; more points make it larger",
    "n_front": "n_front: points on the front, of n_points",
    DIFFICULTY: "difficulty: how far a concept is from what is usual for its class, or the suite's "
    "own grade; n_concepts: how many have it",
    "half": "half: the images that chose the point: all of them, or those of even or odd index",
    "component": "component: what varies; cell: concept and prompt together, and nothing else",
    "share": "share: of the spread of single images",
    "of_mean": "of_mean: part of the variance of the mean over all; share_of_mean: the same as a "
    "share",
    "agreement": "agreement: correlation of the reported scorer with another one, without super",
    "if_doubled": "if_doubled: an interval's width with twice as many of it, as a share of today's",
}
UNPAIRED = (
    "unpaired over images: {}, imported, was drawn from other noise; paired over concept and prompt"
)
COMPARING = ("difference", "front", "gap")
INTERVAL = "[ , ]: 95 % interval over "


def view(given: str | None, by: str, form: str = "text", allow_missing: bool = False) -> str:
    """One view of a run's single concepts (of its pairs, where it has only these): text with a
    legend, csv or json. A run whose plan is not finished is refused, as its table is.
    """
    run = open_run(given)
    brought = brought_by_suite(run.about)
    if by not in VIEWS and by not in OF_RUN and by not in brought:
        raise unknown("view", by, [*VIEWS, *OF_RUN, *brought])
    if not allow_missing:
        refuse_missing(missing_of(run.cells, run.plan, silent_scorers(run.about)), run.plan)
    singles, pairs = split_pairs(run.cells)
    cells = singles if len(singles) else pairs
    if by in OF_RUN:
        frame = OF_RUN[by](run)
    elif by in VIEWS:
        frame = VIEWS[by](cells, scenarios(run.plan))
    else:
        frame = frames.breakdown(cells, by, *brought[by])
    if by in COMPARING and frame.empty:
        raise UserError(
            f"{run.folder.name} has one method beside super, and --by {by} compares methods: run "
            f"another with --methods, or compare two runs with `perfbench compare`"
        )
    untuned = untuned_methods(run.about)
    if form != "text":
        return formed(with_untuned(frame, untuned), form)
    notes = unpaired(run.about, frame, by) + untuned_words(frame, untuned)
    return f"{text_of(frame)}\n{legend(frame, by)}{notes}"


def brought_by_suite(about: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, str], bool]]:
    """column -> value by name, and whether the names are concepts; where both have it, prompts."""
    parts = about.get("columns", {})
    concepts = {column: (values, True) for column, values in parts.get("concepts", {}).items()}
    prompts = {column: (values, False) for column, values in parts.get("prompts", {}).items()}
    return {**concepts, **prompts}


def unpaired(about: Mapping[str, Any], frame: pd.DataFrame, by: str) -> str:
    """Where methods are compared of which one was made elsewhere."""
    if by not in COMPARING:
        return ""
    named = {*frame.get("method", ()), *frame.get("other", ())}
    found = sorted(imported_methods(about) & named)
    return f"{UNPAIRED.format(', '.join(found))}\n" if found else ""


def formed(frame: pd.DataFrame, form: str) -> str:
    """For programs: CSV as in the run folder, or JSON, a list of rows; a missing number is null."""
    if form == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n"))
    return str(frame.to_json(orient="records", indent=1, double_precision=15)) + "\n"


def legend(frame: pd.DataFrame, by: str) -> str:
    """A line for each column whose name does not say what it is."""
    lines = [words for name, words in LEGENDS.items() if name in frame]
    lines += [legend_of(name) for name in measures_in(frame)]
    if any(f"{name}_lo" in frame for name in frame):
        lines.append(INTERVAL + ("the concept's prompts" if by == "concept" else "concepts"))
    return "".join(f"{line}\n" for line in lines)


def text_of(frame: pd.DataFrame) -> str:
    """A frame as a table; a value and its interval share a column."""
    ends = [c for c in frame if f"{c}_lo" in frame]
    hidden = {f"{c}{end}" for c in ends for end in ("_lo", "_hi")}
    columns = [str(c) for c in frame if c not in hidden]
    rows = [columns]
    for row in frame.to_dict("records"):
        rows.append(
            [
                estimate(row[c], row[f"{c}_lo"], row[f"{c}_hi"], c) if c in ends else _text(row[c])
                for c in columns
            ]
        )
    return aligned(rows) + "\n"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return "" if value is None else str(value)
