"""One row an operating point of a board: ranks, scores, costs, where its pictures and command are.

In: a board, the folder of an explorer's page. Out: `BoardRow`s, the best harmonic mean first; the
floor and the ceiling that belong to them.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from benchmarks.exchange.board.entries import Board, Entry
from benchmarks.figures.looks import Style, strangers_among, untuned_here
from benchmarks.figures.report.html import there
from benchmarks.figures.report.result_table import row_name
from benchmarks.figures.selection import of_main
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.store.reading import read_cells, untuned_methods
from benchmarks.tables.build import split_pairs
from benchmarks.tables.grid import Grid, grid_of
from benchmarks.tables.ranks import Rank, ranks
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

METRICS = ("harmonic", "image_sim", "text_sim")  # the first decides the order


@dataclass(frozen=True)
class BoardRow:
    """An operating point of an entry; without ranks, the floor or the ceiling."""

    entry: Entry
    kind: str
    method: str
    point: str
    style: Style
    label: str
    under: str  # small words beside it
    untuned: bool  # its rates for this backbone are a guess; the label says so, too
    ranks: Mapping[str, Rank]
    scores: Mapping[str, Interval]
    copied: float
    n_images: int
    n_planned: int
    costs: Mapping[str, float]
    device: str
    command: str
    explorer: str  # an address; empty where none was given

    def json(self) -> dict[str, Any]:
        """For programs: one flat row."""
        numbers = {f"{name}{end}": value for name, of in self.scores.items()
                   for end, value in zip(("", "_lo", "_hi"), of)}  # fmt: skip
        places = {f"rank_{name}": [of.first, of.last] for name, of in self.ranks.items()}
        row = {
            "entry": self.entry.name, "by": self.entry.by, "checked": self.entry.checked,
            "kind": self.kind, "method": self.method, "point": self.point,
            "untuned": self.untuned, **places, **numbers,
            "copied": self.copied, "n_images": self.n_images, "n_planned": self.n_planned,
            **self.costs, DEVICE: self.device, "command": self.command, "explorer": self.explorer,
        }  # fmt: skip
        return {
            key: None if isinstance(value, float) and not there(value) else value
            for key, value in row.items()
        }


def board_rows(board: Board, explorer: str = "") -> tuple[list[BoardRow], int]:
    """Ranked rows, then floor and ceiling; and how many points stand on no board: ablations, and
    states that were kept on the way."""
    found: list[BoardRow] = []
    placed, left = [], 0
    tables = {entry.name: entry.run.table for entry in board.entries}
    strangers = strangers_among([name for table in tables.values() for name in table["method"]])
    for entry in board.entries:
        grid = grid_of(split_pairs(entry.run.cells)[0])
        table = tables[entry.name]
        main = of_main(table[table["kind"] == "method"])
        main = main[main["harmonic"].notna()]
        left += int((table["kind"] == "method").sum()) - len(main)
        for row in records(main):
            placed.append((grid, place_in(grid, row, entry)))
            found.append(row_of(entry, row, strangers, explorer))
    every = {metric: ranks(placed, metric) for metric in METRICS}
    ranked = [
        with_ranks(row, {metric: of[number] for metric, of in every.items()})
        for number, row in enumerate(found)
    ]
    ranked.sort(key=order)
    first = board.entries[0]
    table = tables[first.name]
    ends = records(table[table["kind"].isin(["floor", "ceiling"])])
    return [*ranked, *(row_of(first, row, strangers, "") for row in ends)], left


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(map(str, table), row)) for row in table.to_numpy()]


def place_in(grid: Grid, row: Mapping[str, Any], entry: Entry) -> int:
    try:
        return grid.row((row["method"], row["point"]))
    except ValueError:
        raise UserError(
            f"{entry.name}: its tables do not fit together; `perfbench table {entry.run.folder}` "
            f"makes them again"
        ) from None


def order(row: BoardRow) -> tuple[Any, ...]:
    """By the harmonic mean; what is equal by name."""
    return (-row.ranks["harmonic"].value, row.entry.name, row.method, row.point)


def with_ranks(row: BoardRow, found: Mapping[str, Rank]) -> BoardRow:
    return BoardRow(**{**vars(row), "ranks": found})


def row_of(
    entry: Entry, row: Mapping[str, Any], strangers: Sequence[str], explorer: str
) -> BoardRow:
    untuned = untuned_methods(entry.about)
    with untuned_here(untuned):
        style, label, under = row_name(row, strangers)
    scores = {
        metric: Interval(*(float(row[f"{metric}{end}"]) for end in ("", "_lo", "_hi")))
        for metric in METRICS
    }
    method, point = str(row["method"]), str(row["point"])
    return BoardRow(
        entry=entry,
        kind=str(row["kind"]),
        method=method,
        point=point,
        style=style,
        label=label,
        under=under,
        untuned=method in untuned,
        ranks={},
        scores=scores,
        copied=float(row["copied"]),
        n_images=int(row["n_images"]),
        n_planned=int(row["n_planned"]),
        costs={name: float(row.get(name, float("nan"))) for name in NUMBERS},
        device=str(row.get(DEVICE) or ""),
        command=command_of(entry, method) if row["kind"] == "method" else "",
        explorer=explorer_address(entry, method, point, explorer),
    )


def command_of(entry: Entry, method: str) -> str:
    """The one command that made it: the last one in its folder that names the method."""
    commands = entry.about.get("commands", [])
    mine = [
        one["argv"]
        for one in commands
        if method in one.get("config", {}).get("methods", ()) or method == FLOOR
    ]
    argv = mine[-1] if mine else entry.about.get("argv", [])
    return shlex.join(["perfbench", *argv]) if argv else ""


def explorer_address(entry: Entry, method: str, point: str, explorer: str) -> str:
    """`#run/concept/prompt/method/point` of the point's first cell, on the page of `perfbench view
    --bundle DIR`."""
    if not explorer:
        return ""
    cells = [row for row in read_cells(entry.run.folder) if row.kind != "pair"]
    mine = next((row for row in cells if (row.method, row.point) == (method, point)), None)
    if mine is None:
        return ""
    page = explorer if explorer.endswith(".html") else f"{explorer.rstrip('/')}/index.html"
    parts = (entry.name, mine.concept, mine.prompt_id, method, point)
    return f"{page}#{'/'.join(quote(part, safe='') for part in parts)}"
