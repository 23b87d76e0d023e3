"""How hard concepts are: their grades, and scores by grade.

In: a run. Out: a grade a concept, scores by grade; one sentence where no concept has any.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from benchmarks.suite.catalog import load_catalog
from benchmarks.suite.columns import DIFFICULTY
from benchmarks.suite.concept_folder import GRADES
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError


def grades_of(run: Run) -> Mapping[str, str]:
    """concept -> grade: what run.json says; of a run that recorded none, those of shipped concepts
    that its digests name."""
    columns = run.about.get("columns", {})
    if told := columns.get("concepts", {}).get(DIFFICULTY):
        return dict(told)
    used = run.about.get("digests", {}).get("concepts", {})
    shipped = [*load_catalog("miniature").concepts, *load_catalog("tuning").concepts]
    known = {one.name: one for one in shipped if one.difficulty}
    return {
        name: known[name].difficulty
        for name, digest in used.items()
        if name in known and digest and known[name].digest.startswith(str(digest))
    }


def graded(run: Run) -> Mapping[str, str]:
    """The same, of concepts that the run has; refused where there are none."""
    there = set(split_pairs(run.cells)[0]["concept"])
    if found := {name: value for name, value in grades_of(run).items() if name in there}:
        return found
    own = sorted(run.about.get("columns", {}).get("concepts", {}))
    instead = f"; its suite's own columns are {', '.join(own)}" if own else ""
    raise UserError(
        f"{run.name}: no concept of it has a grade of difficulty, which its concept.toml may say "
        f"(docs/concepts.md){instead}"
    )


def in_grade_order(names: Iterable[object]) -> list[str]:
    """Easy before hard; grades of a suite's own in their order of letters, after these."""
    order = {name: number for number, name in enumerate(GRADES)}
    return sorted(set(map(str, names)), key=lambda name: (order.get(name, len(order)), name))


def difficulty_view(run: Run) -> pd.DataFrame:
    """Scores by grade, with intervals over its concepts and how many these are."""
    cells, grades = split_pairs(run.cells)[0], graded(run)
    found = frames.breakdown(cells, DIFFICULTY, grades, of_concepts=True)
    each = cells.assign(**{DIFFICULTY: cells["concept"].map(grades)})
    count = each.groupby(["method", "point", DIFFICULTY])["concept"].nunique().rename("n_concepts")
    found = found.join(count, on=["method", "point", DIFFICULTY])
    rank = {name: number for number, name in enumerate(in_grade_order(found[DIFFICULTY]))}
    place = found[DIFFICULTY].map(rank)
    lines = found.groupby(["method", "point"], sort=False).ngroup()
    return found.iloc[pd.DataFrame({"a": lines, "b": place}).sort_values(["a", "b"]).index]
