"""A run folder as figures and the report see it: its tables, pictures and prompts.

In: a folder (store/reading.py finds it). Out: a `Run`; one sentence and a command where something
it should hold is not there.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from benchmarks.disk import read_json
from benchmarks.store import reading, run_folder
from benchmarks.store.csv_files import is_there, plain
from benchmarks.suite.image_files import load_image
from benchmarks.tables.comparable import differing, of_two_worlds, some
from benchmarks.tables.derived import DAMAGED, read_table
from benchmarks.tables.sample_rows import CELL
from perfusion_core.errors import UserError, unknown

NO_WORDS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Run:
    """Read once, when something asks for it."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @cached_property
    def about(self) -> dict[str, Any]:
        return reading.read_run(self.folder)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Of single concepts; without rows in a run of nothing but pairs."""
        file = run_folder.table_file(self.folder, "table")
        if self.pair_table is not None and file.is_file() and not file.read_bytes().strip():
            return self.pair_table.iloc[:0]
        return self._csv("table")

    @property
    def first_table(self) -> pd.DataFrame:
        """The table that says which methods and points there are: of single concepts, else of
        pairs.
        """
        return self.table if len(self.table) or self.pair_table is None else self.pair_table

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Of single concepts."""
        metrics = self._csv("metrics")
        return metrics[metrics["group"] != "pair"]

    @cached_property
    def pair_table(self) -> pd.DataFrame | None:
        """The table of pairs of concepts; None in a run without them."""
        return (
            self._csv("pair-table")
            if run_folder.table_file(self.folder, "pair-table").is_file()
            else None
        )

    @cached_property
    def cells(self) -> pd.DataFrame:
        cells = self._csv("cells")
        twice = cells[cells.duplicated([*CELL, "metric"])]
        if len(twice):
            what = " ".join(map(str, twice.iloc[0][[*CELL, "metric"]]))
            raise UserError(
                f"{self.folder}/cells.csv has a row twice ({what}); `perfbench table "
                f"{self.folder}` makes it again"
            )
        return cells

    @cached_property
    def plan(self) -> pd.DataFrame:
        return reading.read_plan(self.folder)

    def _csv(self, name: str) -> pd.DataFrame:
        return read_table(self.folder, name)

    def failures(self) -> list[dict[str, Any]]:
        """What failed and was not done since: name and traceback."""
        folder = run_folder.Store(self.folder).failure_file("").parent
        return [found for path in sorted(folder.glob("*.json")) if (found := read_json(path))]

    def text(self, prompt_id: str, concept: str) -> str:
        """The prompt as the paper writes it, the class with a star: `A cat* on the beach`."""
        return starred(self.template(prompt_id, concept), self.words)

    @property
    def words(self) -> Mapping[str, str]:
        """The super-category of each concept; empty in a run that did not record it."""
        words: Mapping[str, str] = self.about.get("super_categories", NO_WORDS)
        return words

    def template(self, prompt_id: str, concept: str) -> str:
        """The prompt as it was planned: `A {my_cat} on the beach`."""
        return self._templates.get((prompt_id, concept), prompt_id)

    @cached_property
    def _templates(self) -> dict[tuple[str, str], str]:
        plan = self.plan.drop_duplicates(["prompt_id", "concept"])
        return {
            (row["prompt_id"], row["concept"]): str(row["template"])
            for row in plan.to_dict("records")
        }

    def drift_text(self, prompt_id: str) -> str:
        """The text of a prompt that measures drift."""
        return self._drift_texts.get(prompt_id, prompt_id)

    @cached_property
    def _drift_texts(self) -> dict[str, str]:
        plan = reading.read_drift_plan(self.folder)
        return dict(zip(plan["prompt_id"], plan["template"].astype(str)))

    def image_file(self, method: str, point: str, concept: str, prompt_id: str, index: int) -> Path:
        return run_folder.cell_image(self.folder, method, point, concept, prompt_id, index)

    def picture(
        self, method: str, point: str, concept: str, prompt_id: str, index: int
    ) -> np.ndarray | None:
        """uint8 [H, W, 3]; None where there is no such image."""
        file = self.image_file(method, point, concept, prompt_id, index)
        return np.asarray(load_image(file)) if file.is_file() else None

    def concept_files(self, concept: str) -> list[Path]:
        """The concept images; of a pair, one of the first and one of the second in turn."""
        each = [run_folder.concept_pictures(self.folder, name) for name in concept.split("+")]
        if len(each) == 1:
            return each[0]
        return [file for turn in zip(*each) for file in turn]

    def concept_images(self, concept: str, limit: int = 4) -> list[np.ndarray]:
        return [np.asarray(load_image(file)) for file in self.concept_files(concept)[:limit]]

    def shows(self, columns: Sequence[tuple[str, str]], concept: str, prompt: str) -> bool:
        """Whether one of the columns (method, point) has an image of a cell."""
        return any(self.image_file(*column, concept, prompt, 0).is_file() for column in columns)

    def choose_cells(
        self,
        columns: Sequence[tuple[str, str]],
        concepts: Sequence[str],
        prompts: Sequence[str],
        limit: int,
        others: Callable[[str, str], bool] = lambda concept, prompt: True,
    ) -> list[tuple[str, str]]:
        """(concept, prompt) of the rows of a figure: those asked for, or `limit` of them (each
        concept and prompt that was named at least once) spread over the concepts, the prompts that
        change the object first; pairs where they are asked for, or where there is nothing else.
        Only cells that have an image in one of the columns (method, point), and of which `others`
        says that they can be shown."""
        plan = self.plan
        for kind, wanted, known in (
            ("concept", concepts, plan["concept"]),
            ("prompt", prompts, plan["prompt_id"]),
        ):
            for name in wanted:
                if name not in set(known):
                    raise unknown(f"{kind} of {self.name}", name, set(known))
        cells = plan.drop_duplicates(["concept", "prompt_id"])
        if concepts:
            cells = cells[cells["concept"].isin(concepts)]
        if prompts:
            cells = cells[cells["prompt_id"].isin(prompts)]
        if not (concepts or prompts or (cells["kind"] == "pair").all()):
            cells = cells[cells["kind"] != "pair"]
        chosen = [
            (concept, prompt)
            for concept, prompt in zip(cells["concept"], cells["prompt_id"])
            if self.shows(columns, concept, prompt) and others(concept, prompt)
        ]
        if not (concepts and prompts):
            kinds = dict(zip(cells["prompt_id"], cells["kind"]))
            most = max(limit, len(concepts), len(prompts))
            chosen = spread(sorted(chosen, key=lambda cell: kinds[cell[1]] == "shape"), most)
        order = {name: number for number, name in enumerate(concepts or cells["concept"])}
        rank = {name: number for number, name in enumerate(prompts)}
        return sorted(chosen, key=lambda cell: (order[cell[0]], rank.get(cell[1], 0), cell[1]))

    def attention(self) -> "Attended | None":
        """What `perfbench attention` measured, if it did."""
        try:
            return self._attended()
        except (*DAMAGED, BadZipFile) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{run_folder.attention_folder(self.folder)} is damaged; remove it, and "
                f"`perfbench attention {self.folder}` makes it again"
            ) from error

    def _attended(self) -> "Attended | None":
        file = run_folder.attention_file
        maps_file, leakage_file = (file(self.folder, name) for name in ("maps.npz", "leakage.csv"))
        if not maps_file.is_file() or not leakage_file.is_file():
            return None
        with np.load(maps_file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        maps = {
            name.removeprefix("map/"): array
            for name, array in arrays.items()
            if name.startswith("map/")
        }
        names = [[str(name) for name in arrays.get(key, ())] for key in ("concepts", "texts")]
        cells_file = file(self.folder, "cells.csv")
        cells = (
            pd.read_csv(io.BytesIO(plain(cells_file))) if is_there(cells_file) else pd.DataFrame()
        )
        leakage = pd.read_csv(leakage_file)
        return Attended(
            arrays["pictures"], arrays.get("masks"), names[0], names[1], maps, leakage, cells
        )


@dataclass(frozen=True)
class Attended:
    """Pictures, and the attention of the concept's word in them."""

    pictures: np.ndarray  # uint8 [n, H, W, 3]
    masks: np.ndarray | None  # uint8 [n, H, W], 255 on the object
    concepts: list[str]  # of each picture; may be empty, as texts
    texts: list[str]
    maps: dict[str, np.ndarray]  # `method` or `method/point` -> [n, h, w]
    leakage: pd.DataFrame  # method[, point], t, leakage[, leakage_lo, leakage_hi, area]
    cells: pd.DataFrame  # the same of every concept and picture; may be empty


def starred(template: str, words: Mapping[str, str] = NO_WORDS) -> str:
    """`A {my_cat} on the beach` -> `A cat* on the beach`; `A my cat*` where no word is known."""
    return re.sub(
        r"\{([^{}]*)\}",
        lambda found: words.get(found[1], found[1]).replace("_", " ") + "*",
        template,
    )


def spread(cells: Sequence[tuple[str, str]], limit: int) -> list[tuple[str, str]]:
    """`limit` of the cells, one a concept in turn, each time with another prompt while there are
    any.
    """
    left: dict[str, list[str]] = {}
    for concept, prompt in cells:
        left.setdefault(concept, []).append(prompt)
    names = list(left)
    if len(names) > limit:  # evenly over the concepts, not the first ones of the alphabet
        names = [names[i * len(names) // limit] for i in range(limit)]
    chosen: list[tuple[str, str]] = []
    while len(chosen) < limit and any(left[name] for name in names):
        for name in names:
            if left[name] and len(chosen) < limit:
                used = {prompt for _, prompt in chosen}
                prompt = next((p for p in left[name] if p not in used), left[name][0])
                left[name].remove(prompt)
                chosen.append((name, prompt))
    return chosen


def open_run(given: str | None) -> Run:
    """A path, a name under results/, or the newest run; its run.json has to be one of this
    version.
    """
    run = Run(reading.find_run(given))
    _ = run.about
    return run


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """What each run is called beside the others: its folder's name, with its parent's where two are
    called alike.
    """
    folders = [run.folder.resolve() for run in runs]
    twice = next(
        (folder for number, folder in enumerate(folders) if folder in folders[:number]), None
    )
    if twice:
        raise UserError(f"{twice.name} is given twice; name each run once")
    names = [folder.name for folder in folders]
    return [
        f"{folder.parent.name}/{name}" if names.count(name) > 1 else name
        for folder, name in zip(folders, names)
    ]


def same_world(runs: Sequence[Run]) -> None:
    """Numbers of two generations of the miniature share neither a table nor a pair of axes."""
    for one, other in combinations(runs, 2):
        if refused := of_two_worlds(one.name, one.about, other.name, other.about):
            raise UserError(refused)


def same_scorer(runs: Sequence[Run]) -> None:
    """Numbers of different scorers do not belong on one pair of axes."""
    first = runs[0]
    for other in runs[1:]:
        mine, theirs = (run.about["scorers"][0] for run in (first, other))
        if mine != theirs:
            raise UserError(
                f"{first.name} was scored by {mine['name']} and {other.name} by {theirs['name']}; "
                "score both with the same one (`perfbench score`) or plot them apart"
            )


def same_protocol(runs: Sequence[Run]) -> None:
    """Nor do numbers that `perfbench check` would not compare: of other steps, another backbone,
    another text.
    """
    for one, other in combinations(runs, 2):
        for run in (one, other):
            reading.refuse_older(run.folder, run.about)
        found = differing(one.about, other.about)
        if found:
            raise UserError(
                f"{one.name} and {other.name} were not measured alike: "
                f"{some(found, 'difference')}; plot them apart, "
                f"or repeat one like the other (`perfbench check {other.folder} --against "
                f"{one.folder}` lists all)"
            )
