"""Why LoRA draws a concept more alike than Perfusion: `python -m benchmarks.evidence.why`.

In: the confirmatory run, which has the first and the last arm and two readings, and the runs of the
arms between them. Out: steps.csv and why.md in their folder, by the rule of results/why/plan.md.
"""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.evidence.confirm_ledger import left_out, read_begun, whole_concepts
from benchmarks.evidence.confirm_measures import Scored, mean_with_interval
from benchmarks.evidence.confirm_plan import PLAN, read_confirm_plan
from benchmarks.evidence.order import write_both
from benchmarks.evidence.results_page import markdown_table
from benchmarks.evidence.verdicts import told
from benchmarks.paths import RESULTS
from benchmarks.tables.build import cells_of
from benchmarks.tables.grid import Point
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

TABLE, PAGE = "steps.csv", "why.md"
COLUMNS = ("step", "measure", "concepts", "value", "lo", "hi", "explains")
DECIDES = "image_sim"
TRUTH = "image_sim_truth"  # by the judges, whose digest stands behind it
BESIDE = ("image_sim_heldout", TRUTH, "text_sim")
LOCAL, ONLY = "local-b0.60-t0.15", "default"
CONFIRM = ""  # stands for the confirmatory run's folder
LORA = "lora-selected"
# each adds one thing to the one before
ARMS: Mapping[str, tuple[str, Point]] = {
    "A": (CONFIRM, ("perfusion", LOCAL)),
    "B": ("b", (LORA, ONLY)),
    "C": ("c", (LORA, ONLY)),
    "D": ("d", (LORA, ONLY)),
    "E": (CONFIRM, (LORA, ONLY)),
    "published": (CONFIRM, ("perfusion-published", LOCAL)),
    "no mask": (CONFIRM, ("perfusion-no-mask", LOCAL)),
}
WHOLE = ("E", "A")
STEPS: Mapping[str, tuple[str, str]] = {
    "free matrices instead of gate, locked key and mask": ("B", "A"),
    "capacity: rank 4 instead of 1": ("C", "B"),
    "keys": ("D", "C"),
    "structure: all attention": ("E", "D"),
    "rates: found instead of published": ("A", "published"),
    "no mask": ("no mask", "A"),
}


@dataclass(frozen=True)
class Step:
    name: str
    arms: tuple[str, str]
    found: Mapping[str, Interval]  # by measure
    explains: bool
    concepts: int


def steps_of(scores: Mapping[str, Mapping[str, np.ndarray]]) -> list[Step]:
    """The whole first, then its steps. `scores`: by arm and measure, a number a concept."""

    def differences(arms: tuple[str, str]) -> dict[str, Interval]:
        one, other = (scores[arm] for arm in arms)
        return {
            measure: mean_with_interval(one[measure] - other[measure])
            for measure in (DECIDES, *BESIDE)
            if measure in one and measure in other
        }

    ends = differences(WHOLE)
    whole, concepts = ends[DECIDES], len(scores[WHOLE[0]][DECIDES])
    found = [Step("the whole", WHOLE, ends, False, concepts)]
    for name, arms in STEPS.items():
        each = differences(arms)
        explains = whole.lo > 0 and each[DECIDES].lo > 0 and each[DECIDES].value >= whole.value / 2
        found.append(Step(name, arms, each, explains, concepts))
    return found


def said(steps: Sequence[Step]) -> str:
    """One sentence of what comes out."""
    whole = steps[0].found[DECIDES]
    if not whole.lo > 0:
        return (
            f"LoRA is not ahead of Perfusion beyond chance ({told(whole)}), so there is nothing to "
            f"explain."
        )
    names = [step.name for step in steps if step.explains]
    if not names:
        return f"The difference ({told(whole)}) is spread over the steps: none is half of it."
    return f"Of the difference ({told(whole)}) at least half is: {'; '.join(names)}."


# ---- reading ----


def read_scores(confirm: Path, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Of every arm, on the concepts of the confirmatory run's first look."""
    plan = read_confirm_plan(confirm / PLAN)
    names = list(read_begun(confirm).get("concepts") or ())[: plan.looks.concepts[0]]
    aside = left_out(confirm)
    names = [name for name in names if name not in aside]
    if not names or not whole_concepts(confirm).issuperset(names):
        raise UserError(
            f"the first look of {confirm} is not whole; `python -m benchmarks.evidence.confirm "
            f"run` goes on"
        )
    scored = {
        where: Scored(cells_in(confirm if where == CONFIRM else folder / where, names))
        for where in dict.fromkeys(where for where, _ in ARMS.values())
    }
    return {arm: measured_at(scored[where], point) for arm, (where, point) in ARMS.items()}


def measured_at(scored: Scored, point: Point) -> dict[str, np.ndarray]:
    """What was measured there, a number a concept."""
    found: dict[str, np.ndarray] = {}
    for measure in (DECIDES, *BESIDE):
        name = next((one for one in scored.names if one.startswith(f"{measure}-")), measure)
        if name in scored.names:
            found[measure] = scored.side(name, [point])[0]
    return found


def cells_in(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    rows = sample_rows(folder)
    rows = rows[rows["concept"].isin(names)]
    if lost := sorted(set(names) - set(rows["concept"])):
        raise UserError(
            f"{folder} has no scores of {lost[0]}; its command is in results/notes.toml"
        )
    return cells_of(rows)


# ---- files ----


def steps_csv(steps: Sequence[Step]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for step in steps:
        for measure, found in step.found.items():
            explains = "yes" if step.explains and measure == DECIDES else ""
            values = [f"{value:.6g}" for value in found]
            writer.writerow([step.name, measure, step.concepts, *values, explains])
    return out.getvalue()


def why_text(steps: Sequence[Step]) -> str:
    measures = [name for name in (DECIDES, *BESIDE) if name in steps[0].found]
    head = ["step", "arms", *(name.replace("_", " ") for name in measures), "explains"]
    lines = [
        [
            step.name,
            " - ".join(step.arms),
            *(told(step.found[name]) if name in step.found else "" for name in measures),
            "yes" if step.explains else "",
        ]
        for step in steps
    ]
    return "\n".join(
        [
            "# Why Perfusion is behind where it is behind",
            "",
            "Written by `python -m benchmarks.evidence.why` from the runs beside it and the "
            "confirmatory run. The rule is in [plan.md](plan.md). Intervals are 95 % (t), of "
            f"{steps[0].concepts} concepts; image similarity decides.",
            "",
            said(steps),
            "",
            markdown_table([head, *lines]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.why",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--confirm", type=Path, default=RESULTS / "confirm", metavar="DIR")
    parser.add_argument("--folder", type=Path, default=RESULTS / "why", metavar="DIR")
    args = parser.parse_args()

    def made() -> tuple[str, str]:
        steps = steps_of(read_scores(args.confirm, args.folder))
        return steps_csv(steps), why_text(steps)

    write_both("why", args.folder / TABLE, args.folder / PAGE, made)


if __name__ == "__main__":
    main()
