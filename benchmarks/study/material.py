"""What a study shows: from a run folder, each per-group prompt of each concept with one picture of
every method.

In: a run folder, names of methods. Out: tasks. Where a method has several operating points, the one
with the highest harmonic mean for this prompt is shown, as in the paper (Appendix I.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.disk import read_manifest
from benchmarks.scoring.reserved import FLOOR, REAL
from benchmarks.store import reading, run_folder
from perfusion_core.errors import UserError, unknown
from perfusion_core.weight_digests import file_sha256

KINDS = {"ranking": 3, "realism": 2}  # study -> how many pictures a screen compares
DEFAULT_METHODS = {"ranking": ("perfusion", "cd", "db"), "realism": ("perfusion", FLOOR)}
# kept with a choice, for the correlation with people
SCORES = ("image_sim", "text_sim_raw", "harmonic")
Row = dict[str, str]  # of plan.csv


@dataclass(frozen=True)
class Choice:
    """One picture that is rated. `method` says what it is, never to the rater."""

    method: str
    point: str
    index: int
    path: Path
    # those of its cell; empty where the run has none
    scores: dict[str, float] = field(default_factory=dict)
    scrambled: bool = False  # cut into tiles and shuffled: a picture that surely is not real


@dataclass(frozen=True)
class Task:
    """A concept with a prompt: two concept images, the text, one picture of every method."""

    concept: str
    group: str
    prompt_id: str
    text: str
    references: tuple[Path, ...]
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Source:
    """A run, as far as a study needs it."""

    run: Path
    plan: list[Row]
    points: dict[str, list[str]]  # method -> its run-time variants
    # (method, point, concept, prompt) -> SCORES
    scores: dict[tuple[str, str, str, str], dict[str, float]]

    @property
    def groups(self) -> dict[str, str]:
        """Concept -> its group."""
        return {row["concept"]: row["group"] for row in self.plan}

    @property
    def super_words(self) -> dict[str, str]:
        """Concept -> the word that raters read in its place."""
        return {
            row["concept"]: row["super_category"] or row["concept"].replace("_", " ")
            for row in self.plan
        }

    def references(self, concept: str) -> list[Path]:
        return run_folder.concept_pictures(self.run, concept)

    def text(self, row: Row) -> str:
        """The description that raters read: the concept's placeholder replaced by its
        super-category word.
        """
        return row["template"].replace(f"{{{row['concept']}}}", self.super_words[row["concept"]])

    def prompts(self, kind: str, methods: Sequence[str]) -> list[Row]:
        """One row of the plan for each concept and prompt of this kind that any of the methods
        has.
        """
        rows = [row for row in self.plan if row["kind"] == kind and row["method"] in methods]
        return list({(row["concept"], row["prompt_id"]): row for row in reversed(rows)}.values())[
            ::-1
        ]


def read_source(run: Path, methods: Sequence[str]) -> Source:
    """The plan, the variants and the scores of a run; refuses methods that it does not have."""
    from benchmarks.planning.points import is_variant

    plan = [row for row in reading.read_planned(run) if row["kind"] != "pair"]
    points: dict[str, list[str]] = {}
    for method, point in dict.fromkeys((row["method"], row["point"]) for row in plan):
        if is_variant(point):
            points.setdefault(method, []).append(point)
    for method in methods:
        if method not in points:
            raise unknown("method", method, points)
    return Source(run, plan, points, read_scores(run))


def read_scores(run: Path) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """SCORES of every scored cell. A deform prompt has no image similarity of its own (the protocol
    measures it on the shape-preserving prompts), so the concept's at the same operating point
    stands in."""
    import numpy as np

    from benchmarks.tables.build import cells_of, split_pairs
    from benchmarks.tables.grid import grid_of
    from benchmarks.tables.statistics import harmonic, mean_over, relative_text

    rows = reading.read_rows(run)
    singles = split_pairs(cells_of(rows))[0] if len(rows) else rows
    if not len(singles) or not len(singles[singles["method"] != REAL]):
        return {}
    grid = grid_of(singles)
    text = grid.values["text_sim_raw"]  # [M, C, P]
    own = grid.values["image_sim"]
    image = np.where(np.isnan(own), grid.scores["image_sim"][..., None], own)
    h = harmonic(image, relative_text(text, mean_over(grid.base)[:, None]))
    return {
        (*grid.points[m], grid.concepts[c], grid.prompts[p]): dict(
            zip(SCORES, (float(image[m, c, p]), float(text[m, c, p]), float(h[m, c, p])))
        )
        for m, c, p in zip(*np.nonzero(~np.isnan(text)))
    }


def best_point(source: Source, method: str, concept: str, prompt_id: str) -> str:
    """The operating point that is shown: the only one, or the one with the highest harmonic mean
    for this prompt.
    """
    points = source.points[method]
    if len(points) == 1:
        return points[0]
    none = {"harmonic": float("nan")}
    h = {
        point: source.scores.get((method, point, concept, prompt_id), none)["harmonic"]
        for point in points
    }
    known = {point: value for point, value in h.items() if value == value}
    if not known:
        raise UserError(
            f"{source.run}: {method} has {len(points)} operating points and no harmonic mean for "
            f"{concept} {prompt_id} "
            f"to choose by; `perfbench score {source.run}` makes it from shape-preserving prompts "
            f"and super"
        )
    return max(known, key=lambda point: known[point])


def choose_pictures(source: Source, method: str, row: Row, index: int) -> Choice:
    """The picture that a method shows for the concept and prompt of `row`."""
    concept, prompt_id = row["concept"], row["prompt_id"]
    point = best_point(source, method, concept, prompt_id)
    path = run_folder.cell_image(source.run, method, point, concept, prompt_id, index)
    return Choice(
        method, point, index, path, source.scores.get((method, point, concept, prompt_id), {})
    )


def read_tasks(
    source: Source, methods: Sequence[str], seed: int, allow_missing: bool
) -> tuple[list[Task], int]:
    """(tasks, how many were planned). The methods show the same image index, so all started from
    the same noise.
    """
    planned = source.prompts("deform", methods)
    if not planned:
        raise UserError(
            f"{source.run} has no prompts that change the object (kind deform), which the study is "
            f"about: run with --prompts all, or add such prompts to the prompts.csv of your suite"
        )
    tasks, missing = [], []
    for row in planned:
        name = f"{row['concept']} {row['prompt_id']}"
        random = Random(f"task {seed} {name}")
        index = random.randrange(int(row["n"]))
        here = tuple(choose_pictures(source, method, row, index) for method in methods)
        references = source.references(row["concept"])
        if not all(intact(choice.path) for choice in here):
            missing.append(name)
            continue
        if len(references) < 2:
            raise UserError(
                f"{source.run}/concepts has {len(references)} image of {row['concept']}; a study "
                f"shows two"
            )
        shown = tuple(random.sample(references, 2))
        tasks.append(
            Task(row["concept"], row["group"], row["prompt_id"], source.text(row), shown, here)
        )
    if missing and not (allow_missing and tasks):
        raise UserError(
            f"{len(missing)} of {len(planned)} prompts lack an undamaged picture of "
            f"{', '.join(methods)} "
            f"({', '.join(missing[:3])}{' ...' if missing[3:] else ''}); give the same `perfbench "
            f"run` command again, "
            "without --drop-images, or --allow-missing to study the others"
        )
    return tasks, len(planned)


def intact(path: Path) -> bool:
    """There, and byte for byte what its cell published."""
    about = read_manifest(path.parent / "cell.json") or {}
    recorded = about.get("files", {}).get(path.name)
    return bool(recorded) and path.is_file() and file_sha256(path) == recorded["sha256"]
