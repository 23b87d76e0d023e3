"""`perfbench table --by`: where scores are high and low, how methods compare, where uncertainty
comes from.

In: the rows of cells.csv and plan.csv. Out: a frame, and its text.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from benchmarks.scoring.reserved import OURS
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.grid import CEILING, FLOOR
from benchmarks.tables.run_view import open_run
from benchmarks.tables.table_text import aligned, estimate
from perfusion_core.errors import unknown

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
    "front": lambda cells, _: frames.front_gaps(cells, ours(cells)),
    "hypervolume": lambda cells, _: frames.hypervolumes(cells),
    "best-h": lambda cells, _: frames.best_h(cells),
    "variance": lambda cells, _: frames.variance(cells),
}


def view(given: str | None, by: str) -> str:
    """One view of a run's single concepts (of its pairs, where it has only these), as text."""
    if by not in VIEWS:
        raise unknown("view", by, VIEWS)
    run = open_run(given)
    singles, pairs = split_pairs(run.cells)
    return text_of(VIEWS[by](singles if len(singles) else pairs, scenarios(run.plan)))


def text_of(frame: pd.DataFrame) -> str:
    """A frame as a table; a value and its interval share a column."""
    ends = [c for c in frame if f"{c}_lo" in frame]
    hidden = {f"{c}{end}" for c in ends for end in ("_lo", "_hi")}
    columns = [str(c) for c in frame if c not in hidden]
    rows = [columns]
    for row in frame.to_dict("records"):
        rows.append(
            [
                estimate(row[c], row[f"{c}_lo"], row[f"{c}_hi"]) if c in ends else _text(row[c])
                for c in columns
            ]
        )
    return aligned(rows) + "\n"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
