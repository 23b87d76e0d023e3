"""What the explorer's page knows of runs, as compact JSON.

In: runs. Out: one value for `script_json`: questions of all runs, and of each run its operating
points, their rows of the table, cell means, and which pictures are there.

A cell mean is a whole number of units of 1 / SCALE. Of one operating point and metric all means
stand in one text, in the order of the run's questions, empty where there is none: the page reads
such a text when it first needs it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures.looks import (
    coloured_as_in,
    looks_of_runs,
    strangers_among,
    style_of,
    untuned_here,
)
from benchmarks.figures.report.html import SHAPES
from benchmarks.figures.selection import at_point
from benchmarks.miniature.which_world import with_world
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import FLOOR
from benchmarks.site.column_words import in_reading_order, words_of
from benchmarks.site.explored import Explored, measured_apart
from benchmarks.store.reading import untuned_methods
from benchmarks.suite.columns import DIFFICULTY
from benchmarks.tables.difficulty import grades_of, in_grade_order
from benchmarks.tables.statistics import t_quantile
from benchmarks.tables.table_text import HONEST, NAIVE, commands_of
from benchmarks.tables.views import brought_by_suite, scenario_of

SCALE = 100_000
DIGITS = 6  # of a number of the table
KINDS = {"method": "", "floor": "floor", "ceiling": "ceiling", "best-h": "best-h"}


def explorer_data(runs: Sequence[Explored], tile: int) -> dict[str, Any]:
    """All of it; `tile`: pixels of a thumbnail's side."""
    questions = Questions()
    parts = []
    with looks_of_runs([one.run for one in runs]):
        for one in runs:
            parts.append(run_data(one, questions))
    columns = {name for part in parts for row in part["points"] for name in row["table"]}
    columns |= {name for part in parts for cells in part["cells"] for name in cells}
    most = max((len(one.concepts) for one in runs), default=0)
    for number, part in enumerate(parts):
        part["apart"] = {
            str(other): why
            for other in range(number)
            if (why := measured_apart(runs[other], runs[number]))
        }
    return {
        "scale": SCALE,
        "tile": tile,
        "floor": FLOOR,
        # how many standard errors a 95 % interval reaches with so many concepts
        "t": [0.0, 0.0, *(round(t_quantile(n), 6) for n in range(2, max(most, 2) + 1))],
        "columns": {
            name: words._asdict()
            for name in in_reading_order(columns)
            if (words := words_of(name)) is not None
        },
        "shapes": SHAPES,
        **questions.data(),
        "runs": parts,
    }


class Questions:
    """Concepts and prompts of all runs. Two runs ask the same where concept, id and text agree."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], int] = {}
        self.kinds: list[str] = []
        self.filters: dict[str, dict[int, str]] = {}

    def add(self, one: Explored) -> list[int]:
        """The numbers of a run's questions."""
        numbers = []
        asked = one.questions
        rows = zip(*(asked[name] for name in ("concept", "prompt_id", "text", "kind", "template")))
        scenarios: dict[tuple[str, str], str] = {}
        brought = {DIFFICULTY: (grades_of(one.run), True), **brought_by_suite(one.run.about)}
        for concept, prompt, text, kind, template in rows:
            number = self.known.setdefault((concept, prompt, text), len(self.known))
            numbers.append(number)
            if number == len(self.kinds):
                self.kinds.append(kind)
            if (template, kind) not in scenarios:
                scenarios[template, kind] = scenario_of(template, kind)
            self._tell("scenario", number, scenarios[template, kind])
            for column, (values, of_concepts) in brought.items():
                if value := values.get(concept if of_concepts else prompt):
                    self._tell(column, number, value)
        return numbers

    def _tell(self, column: str, number: int, value: str) -> None:
        self.filters.setdefault(column, {}).setdefault(number, value)

    def data(self) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for place, name in enumerate(("concepts", "prompts", "texts")):
            values = [question[place] for question in self.known]
            code, unique = pd.factorize(np.array(values, dtype=object))
            names[name] = list(map(str, unique))
            names[f"{name[:-1]}_of"] = code.tolist()
        filters = {}
        for column, told in self.filters.items():
            known = in_grade_order(told.values())
            rank = {value: number for number, value in enumerate(known)}
            of = [rank.get(told.get(q, ""), -1) for q in range(len(self.known))]
            filters[column] = {"values": known, "of": of}
        return {**names, "filters": filters}


def run_data(one: Explored, questions: Questions) -> dict[str, Any]:
    """What the page knows of one run."""
    images = one.images
    numbers = questions.add(one)
    about = one.run.about
    untuned = untuned_methods(about)
    with untuned_here(untuned), coloured_as_in([one.run]):
        points = told_apart([*points_of(one)])
    return {
        "name": one.name,
        "scorer": str(about["scorers"][0].get("id") or about["scorers"][0]["name"]),
        "backbone": with_world(str(about.get("backbone", {}).get("id", "unknown")), about),
        "finished": str(about.get("finished") or "")[:16].replace("T", " "),
        "commands": commands_of(dict(about)),
        "questions": counted(numbers),
        "points": [{**told, "untuned": told["method"] in untuned} for told in points],
        "cells": cells_of(one),
        "images": [image_text(images[number]) for number in range(len(one.points))],
        "pictured": one.pictured,
        "own": [[name, len(one.training(name)), len(one.held_out(name))] for name in one.concepts],
    }


def counted(numbers: Sequence[int]) -> list[int] | dict[str, int]:
    """A list that counts up by ones as its first number and length."""
    first = numbers[0] if numbers else 0
    if list(numbers) == list(range(first, first + len(numbers))):
        return {"first": first, "n": len(numbers)}
    return list(numbers)


def points_of(one: Explored) -> Iterable[dict[str, Any]]:
    """The operating points that have cells, in their order, then other rows of the table."""
    table = one.run.first_table
    rows = {
        (row["method"], row["point"]): row
        for row in table.to_dict("records")
        if row["kind"] in ("method", "floor")
    }
    strangers = strangers_among([method for method, _ in one.points])
    for method, point in one.points:
        yield point_data(method, point, rows.get((method, point), {}), strangers)
    for row in table.to_dict("records"):
        if row["kind"] in ("best-h", "ceiling"):
            yield point_data(row["method"], row["point"], row, strangers)


def point_data(
    method: str, point: str, row: Mapping[Any, Any], strangers: Sequence[str]
) -> dict[str, Any]:
    kind = str(row.get("kind", "method"))
    chosen = point in (NAIVE, HONEST)
    told = OperatingPoint.parse("default" if chosen else point)
    style = style_of("best-h" if chosen else method, told.lock, strangers)
    label = at_point(style.label.replace(" lock", ""), "default" if chosen else point)
    if kind == "ceiling":
        label = "Real images"
    if point == HONEST:
        label = f"{label}, split halves"
    return {
        "method": method,
        "point": point,
        "kind": KINDS.get(kind, ""),
        "label": label,
        "colour": style.colour,
        "ink": style.text,
        "marker": style.marker if style.marker in SHAPES else "o",
        "fill": style.fill,
        # points of one line are one trained model at several biases
        "line": "/".join(map(str, (method, told.lock, told.temperature, told.step)))
        if told.bias is not None
        else "",
        "bias": told.bias,
        "table": numbers_of(row),
    }


def told_apart(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the point's name in labels that several have: a method's own settings, temperatures."""
    labels = [one["label"] for one in points]
    return [
        {**one, "label": f"{one['label']} · {one['point']}"}
        if labels.count(one["label"]) > 1
        else one
        for one in points
    ]


def numbers_of(row: Mapping[Any, Any]) -> dict[str, list[float]]:
    """column -> value, or value and the ends of its interval."""
    found = {}
    for column in map(str, row):
        if words_of(column) is None or column.endswith(("_lo", "_hi")):
            continue
        values = [row.get(f"{column}{end}") for end in ("", "_lo", "_hi")]
        known = [round(float(v), DIGITS) for v in values if v is not None and np.isfinite(float(v))]
        value = row[column]
        if value is not None and np.isfinite(float(value)):
            found[column] = known if len(known) == 3 else known[:1]
    return found


def cells_of(one: Explored) -> list[dict[str, str]]:
    """Of each operating point: metric -> the text of its cell means."""
    return [
        {
            metric: mean_text(values[number])
            for metric, values in one.scores.items()
            if not np.isnan(values[number]).all()
        }
        for number in range(len(one.points))
    ]


def mean_text(values: np.ndarray) -> str:
    units = np.rint(values * SCALE)
    return ",".join("" if unit != unit else str(int(unit)) for unit in units.tolist())


def image_text(numbers: Sequence[tuple[int, ...]]) -> str | int:
    """How many pictures each cell has: `8`, or `=0.3.5` where others than the first ones are there.
    One number where all cells have as many."""
    told = [
        str(len(one)) if one == tuple(range(len(one))) else "=" + ".".join(map(str, one))
        for one in numbers
    ]
    alike = set(told)
    if len(alike) == 1 and not (only := alike.pop()).startswith("="):
        return int(only)
    return ",".join("" if one == "0" else one for one in told)
