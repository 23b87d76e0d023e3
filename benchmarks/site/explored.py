"""Runs as the explorer sees them: their planned questions, operating points, and pictures.

In: run folders of anybody. Out: `Explored`; one sentence where a run cannot be read.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.figures import plots
from benchmarks.figures.selection import in_order
from benchmarks.safe_paths import leads_out
from benchmarks.store import reading, run_folder
from benchmarks.suite.image_files import numbered
from benchmarks.tables.comparable import differing, of_two_worlds, some
from benchmarks.tables.grid import CEILING
from benchmarks.tables.measured import with_derived
from benchmarks.tables.run_view import Run, distinct_names, open_run
from perfusion_core.errors import UserError

Point = tuple[str, str]  # (method, point)
PICTURE = re.compile(r"(\d{1,6})\.png")
OWN = 8  # pictures of a concept that are shown, of either kind


@dataclass(frozen=True)
class Explored:
    """One run, and what it is called beside the others."""

    run: Run
    name: str

    @cached_property
    def questions(self) -> pd.DataFrame:
        """Every planned (concept, prompt) once: concept, prompt_id, kind, template, text."""
        plan = self.run.plan.drop_duplicates(["concept", "prompt_id"])
        plan = plan[["concept", "prompt_id", "kind", "template"]].reset_index(drop=True)
        texts = [self.run.text(*row) for row in zip(plan["prompt_id"], plan["concept"])]
        return plan.assign(text=pd.Series(texts, dtype=object))

    @cached_property
    def points(self) -> list[Point]:
        """Every operating point that was planned, in the order of the figures."""
        table = self.run.first_table
        rows = table[table["kind"].isin(["method", "floor"])].assign(kind="method")
        ordered = [
            (one.method, str(point))
            for one in in_order(plots.series_of(rows))
            for point in one.rows["point"]
        ]
        planned = self.run.plan[["method", "point"]].drop_duplicates()
        return list(dict.fromkeys([*ordered, *zip(planned["method"], planned["point"])]))

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Cell means, metric -> [operating point, question]; NaN where there is none."""
        cells = with_derived(self.run.cells)
        cells = cells[cells["method"] != CEILING]
        asked = pd.MultiIndex.from_frame(self.questions[["concept", "prompt_id"]])
        drawn = pd.MultiIndex.from_tuples(self.points or [("", "")])
        column = asked.get_indexer(pd.MultiIndex.from_frame(cells[["concept", "prompt_id"]]))
        row = drawn.get_indexer(pd.MultiIndex.from_frame(cells[["method", "point"]]))
        there = (row >= 0) & (column >= 0)  # drift is measured on prompts of its own
        found = {}
        for metric in dict.fromkeys(cells["metric"].astype(str)):
            mine = there & (cells["metric"] == metric).to_numpy()
            if mine.any():
                values = np.full((len(drawn), len(asked)), np.nan)
                values[row[mine], column[mine]] = cells["mean"].to_numpy(float)[mine]
                found[metric] = values
        return found

    @cached_property
    def images(self) -> list[list[tuple[int, ...]]]:
        """[operating point][question] -> numbers of the pictures that are there."""
        return [
            [
                self._numbers(*point, concept, prompt)
                for concept, prompt in zip(self.questions["concept"], self.questions["prompt_id"])
            ]
            if point in self._drawn
            else [()] * len(self.questions)
            for point in self.points
        ]

    @cached_property
    def pictured(self) -> list[int]:
        """Numbers of the operating points that have any picture."""
        return [number for number, row in enumerate(self.images) if any(row)]

    @cached_property
    def _drawn(self) -> set[Point]:
        """The operating points with a folder of pictures: a run without any is read at once."""
        folder = self.run.folder
        return {one for one in self.points if run_folder.point_folder(folder, *one).is_dir()}

    def keep_first(self, most: int) -> None:
        """Show at most so many pictures of each cell."""
        self.__dict__["images"] = [[cell[:most] for cell in row] for row in self.images]

    def _numbers(self, method: str, point: str, concept: str, prompt: str) -> tuple[int, ...]:
        folder = run_folder.cell_folder(self.run.folder, method, point, concept, prompt)
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if not entry.is_symlink()]
        except OSError:  # not drawn, or dropped after scoring
            return ()
        return tuple(sorted(int(found[1]) for name in names if (found := PICTURE.fullmatch(name))))

    def picture_file(self, point: int, question: int, number: int) -> Path:
        row = self.questions.iloc[question]
        return self.run.image_file(
            *self.points[point], str(row["concept"]), str(row["prompt_id"]), number
        )

    @cached_property
    def concepts(self) -> list[str]:
        return list(dict.fromkeys(self.questions["concept"].astype(str)))

    def training(self, concept: str) -> list[Path]:
        """The pictures that methods were trained on."""
        return [file for file in self.run.concept_files(concept) if not leads_out(file)][:OWN]

    def held_out(self, concept: str) -> list[Path]:
        """Pictures of the same thing that no method saw."""
        folders = [run_folder.heldout_folder(self.run.folder, name) for name in concept.split("+")]
        return [file for folder in folders if folder.is_dir() for file in numbered(folder)][:OWN]


def open_runs(given: Sequence[str]) -> list[Explored]:
    """The runs that a command names, or the newest; each once."""
    runs = [open_run(one) for one in given] or [open_run(None)]
    return [Explored(run, name) for run, name in zip(runs, distinct_names(runs))]


def measured_apart(one: Explored, other: Explored) -> str:
    """Why numbers of two runs are not compared, in one sentence; empty where they may be."""
    for run in (one.run, other.run):
        try:
            reading.refuse_older(run.folder, run.about)
        except UserError as error:
            return str(error)
    if refused := of_two_worlds(one.name, one.run.about, other.name, other.run.about):
        return f"{refused}."
    found = differing(one.run.about, other.run.about)
    if not found:
        return ""
    return f"{one.name} and {other.name} were not measured alike: {some(found, 'difference')}."
