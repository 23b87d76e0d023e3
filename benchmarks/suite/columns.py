"""Columns that a suite brings: grades of its concepts, kinds of its prompts; tables are split by
them.

In: a suite's folder or importer. Out: name -> value by concept or by prompt id, in a `Catalog` and,
of what is planned, in run.json.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below
from benchmarks.suite.catalog import Catalog, Columns, read_text
from benchmarks.suite.concept_folder import Concept
from perfusion_core.errors import UserError

FILES = {
    "concepts": ("concept", "concept-columns.csv"),
    "prompts": ("prompt", "prompt-columns.csv"),
}
LONGEST = 80  # signs of a value
DIFFICULTY = "difficulty"  # of concepts: what concept.toml says, or the suite's own column
# what `perfbench table --by` shows of any run, and columns of its views: these words are taken
# fmt: off
TAKEN = frozenset((
    "kind", "group", "prompt", "prompt_id", "scenario", "concept", "hardest", "difference", "front",
    "gap", "summary", "hypervolume", "best-h", "variance", "scorers", "cost", "measures", "method",
    "point", "n_cells", "image_sim", "text_sim", "text_sim_raw", "text_gain",
))
# fmt: on


def with_columns(catalog: Catalog, folder: Path) -> Catalog:
    """The suite with the columns of `concept-columns.csv` and `prompt-columns.csv` in its folder,
    whose first column names a concept or a prompt's id."""
    known = {
        "concepts": {concept.name for concept in catalog.concepts},
        "prompts": {prompt.id for prompt in catalog.prompts},
    }
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part, (first, name) in FILES.items():
        path = below(folder, name)
        if path.is_file():
            found[part] = read_columns(path, first, known[part])
    if not found:
        return catalog
    columns = joined_columns(catalog.columns, found)
    if both := sorted(columns.get("concepts", {}).keys() & columns.get("prompts", {}).keys()):
        raise UserError(
            f"{folder}: the column {both[0]} is one of its concepts and one of its prompts; "
            f"--by {both[0]} can mean one: give the other another name"
        )
    return replace(catalog, columns=columns)


def read_columns(path: Path, first: str, known: Iterable[str]) -> dict[str, dict[str, str]]:
    """column -> name -> value."""
    names, known = set[str](), set(known)
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(line)]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    head = lines[0][1] if lines else []
    if len(head) < 2 or head[0] != first or len(set(head)) < len(head):
        raise UserError(
            f"{path}: the first line must be {first} and the names of columns, each once; it is "
            f"{','.join(head)!r:.80}"
        )
    for column in head[1:]:
        check_column(column, str(path))
    out: dict[str, dict[str, str]] = {column: {} for column in head[1:]}
    for number, cells in lines[1:]:
        if len(cells) != len(head):
            raise UserError(f"{path}:{number}: {len(cells)} cells, and {len(head)} are wanted")
        if cells[0] not in known or cells[0] in names:
            why = "is there twice" if cells[0] in names else f"is no {first} of this suite"
            raise UserError(f"{path}:{number}: {cells[0]!r:.80} {why}")
        names.add(cells[0])
        for column, value in zip(head[1:], cells[1:]):
            if value:
                out[column][cells[0]] = checked_value(value, f"{path}:{number}")
    return out


def check_column(name: str, where: str) -> None:
    """A column's name is typed after --by."""
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise UserError(
            f"{where}: the column {name!r:.80} needs a name of letters, digits, _ and -"
        )
    if name.lower() in TAKEN:
        raise UserError(
            f"{where}: the column {name} needs another name, as tables show something else by that "
            f"word; write for example suite_{name}"
        )


def checked_value(value: object, where: str) -> str:
    """A value stands in tables: a printable text."""
    text = " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""
    if not text or not text.isprintable() or len(text) > LONGEST:
        raise UserError(f"{where}: {value!r:.80} is no value of a column: a short text is wanted")
    return text


def with_grades(catalog: Catalog, concepts: Iterable[Concept] = ()) -> Catalog:
    """The grades of its concepts, and of those beside it, as a column; a suite's own one stays."""
    every = (*catalog.concepts, *concepts)
    grades = {concept.name: concept.difficulty for concept in every if concept.difficulty}
    own = any(DIFFICULTY in columns for columns in catalog.columns.values())
    if own or not grades:
        return catalog
    more = {"concepts": {DIFFICULTY: grades}}
    return replace(catalog, columns=joined_columns(catalog.columns, more))


def columns_of(catalog: Catalog, concepts: Iterable[str], prompts: Iterable[str]) -> Columns:
    """Those of what is planned."""
    names = {"concepts": set(concepts), "prompts": set(prompts)}
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part, columns in catalog.columns.items():
        for column, values in columns.items():
            if mine := {name: value for name, value in values.items() if name in names[part]}:
                found.setdefault(part, {})[column] = mine
    return found


def joined_columns(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Of all commands that were given in one folder."""
    parts = dict.fromkeys([*old, *new])
    return {
        part: {
            column: {**old.get(part, {}).get(column, {}), **new.get(part, {}).get(column, {})}
            for column in dict.fromkeys([*old.get(part, {}), *new.get(part, {})])
        }
        for part in parts
    }
