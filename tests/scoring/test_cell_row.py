"""A planned cell is the same thing in the plan, in plan.csv and where it is scored."""

import csv
import io

from benchmarks.planning.units import Cell, Fit
from benchmarks.scoring.cell_row import COLUMNS, CellRow
from benchmarks.store.csv_files import planned_text

FITS = tuple(
    Fit("perfusion", name, "cat", {}, None, False, (), 0, f"fit-{name}") for name in ("cat", "pot")
)
CELL = Cell(
    "perfusion",
    "perfusion",
    "local-b0.60-t0.15",
    {"lock": "local"},
    0,
    ("cat", "pot"),
    ("cat", "pot"),
    "pair",
    "p01",
    "pair",
    "A {cat} in a {pot}",
    'A "x", in a',
    (5, 7),
    FITS,
    "key",
)


def test_a_cell_is_written_and_read_as_it_was_planned():
    text = planned_text([vars(CELL.row)])
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS and row["n"] == "2" and row["fit"] == "fit-cat+fit-pot"
    read = CellRow.read(row)
    assert read.seeds == () and CellRow(**vars(read) | {"seeds": CELL.seeds}) == CELL.row
    assert read.address == ("perfusion", "local-b0.60-t0.15", "cat+pot")
