"""Judges in a run folder: what is sent before anything is sent, the answers that are known, and the
grades of a cell.

In: planned cells, pictures by their digests, a cache. Out: shares of the best grade, as scores use
them; sentences.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.disk import read_manifest
from benchmarks.running.missing_rows import Scoring
from benchmarks.scoring.calls import Calls, Stopped
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.chat_endpoint import address_of
from benchmarks.scoring.judge import Judge
from benchmarks.scoring.judge_question import BEST, Grades, Shown, checked, key_parts
from benchmarks.scoring.lookup import JUDGE, Scorer
from benchmarks.store.run_folder import Store, concept_pictures
from benchmarks.store.unit_cache import UnitCache, key_of, unit_cache
from benchmarks.suite.image_files import numbered
from perfusion_core.errors import UserError

ANSWER = "answer"  # a kind of the cache: an entry without files, the grades in its manifest


class KnownAnswers:
    """Grades in the cache of this user. Of what a judge said nothing else is kept."""

    def __init__(self, cache: UnitCache) -> None:
        self.cache = cache

    def get(self, of: Mapping[str, Any]) -> Grades | None:
        about = self.cache.take(key_of(ANSWER, of), Path())
        return checked((about or {}).get("grades"))

    def put(self, of: Mapping[str, Any], grades: Grades) -> None:
        self.cache.put(ANSWER, of, Path(), {"files": {}, "grades": grades._asdict()})


def known_answers(cache: str = "usual") -> KnownAnswers:
    """`cache`: as the configuration has it; `none` takes and keeps nothing."""
    found = unit_cache()
    return KnownAnswers(found if cache != "none" else UnitCache(found.root, 0))


def judges_of(scorers: Iterable[Scorer]) -> list[Scorer]:
    return [scorer for scorer in scorers if scorer.kind == JUDGE]


# ---- what a cell shows ----


def shown_in(folder: Path) -> list[Shown]:
    """A cell's pictures in their order, with the digests that its manifest gives them."""
    files = (read_manifest(folder / "cell.json") or {}).get("files", {})
    return _shown(numbered(folder), files)


def references_in(run: Path, concept: str) -> list[Shown]:
    """A concept's pictures as fits and scorers saw them."""
    pictures = concept_pictures(run, concept)
    files = (read_manifest(pictures[0].parent / "concept.json") if pictures else None) or {}
    return _shown(pictures, files.get("files", {}))


def _shown(paths: Sequence[Path], files: Mapping[str, Any]) -> list[Shown]:
    return [Shown(path, files[path.name]["sha256"]) for path in paths if path.name in files]


def asked_of(cell: CellRow) -> str:
    """The prompt with the words for the kinds of its concepts: `A teapot on the beach`."""
    words = dict(zip(cell.concept.split("+"), cell.super_category.split("+")))
    return re.sub(r"\{([^{}]+)\}", lambda found: words.get(found[1], found[1]), cell.template)


def graded(
    judge: Judge, cell: CellRow, pictures: Sequence[Shown], concepts: Sequence[Sequence[Shown]]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Of a cell's pictures the share of the best grade, NaN without one: an array for each concept,
    and one for the prompt, which a pair is asked for twice."""
    text = asked_of(cell)
    told = [[shares(judge.grade(one, known, text)) for one in pictures] for known in concepts]
    both = np.array(told, dtype=float).reshape(len(concepts), len(pictures), 2)
    return list(both[..., 0]), both[..., 1].mean(0)


def shares(grades: Grades | None) -> tuple[float, float]:
    return (grades.subject / BEST, grades.prompt / BEST) if grades else (np.nan, np.nan)


def graded_pictures(
    judges: Sequence[Scorer],
    shown: Sequence[Shown],
    real: Sequence[Shown],
    texts: Sequence[str],
    limit: int,
) -> Iterable[tuple[Scorer, list[tuple[float, float]]]]:
    """Of pictures without a run: each judge, and its shares for each; all or a sentence."""
    answers, calls = known_answers(), Calls(limit)
    wanted = {}
    for scorer in judges:
        model = address_of(scorer.source).model
        parts = (key_parts(model, one, real, text) for one, text in zip(shown, texts))
        known = sum(answers.cache.has(key_of(ANSWER, of)) for of in parts)
        wanted[scorer.name] = len(shown), known
    say_calls(judges, wanted, answers, limit, "--limit")
    for scorer in judges:
        judge = Judge(scorer, calls, answers)
        try:
            rows = [shares(judge.grade(one, real, text)) for one, text in zip(shown, texts)]
        except Stopped:
            raise UserError(told(calls)) from None
        yield scorer, rows
    print(f"perfbench: {told(calls)}", file=sys.stderr)


# ---- before and after ----


def calls_for(
    scoring: Scoring, judges: Sequence[Scorer], answers: KnownAnswers
) -> dict[str, tuple[int, int]]:
    """name -> how many pictures lack its grades, and of how many these are known."""
    found = {}
    for scorer in judges:
        cells = scoring.lacking_cells(scorer.name)
        wanted = sum(len(cell.seeds) * len(cell.concept.split("+")) for cell in cells)
        found[scorer.name] = wanted, _known(scoring.store, scorer, cells, answers)
    return found


def _known(store: Store, scorer: Scorer, cells: Sequence[CellRow], answers: KnownAnswers) -> int:
    model, known = address_of(scorer.source).model, 0
    names = {name for cell in cells for name in cell.concept.split("+")}
    references = {name: references_in(store.root, name) for name in names}
    for cell in cells if answers.cache.root.is_dir() else ():
        text, pictures = asked_of(cell), shown_in(store.images(*cell.address, cell.prompt_id))
        for name in cell.concept.split("+"):
            parts = (key_parts(model, one, references[name], text) for one in pictures)
            known += sum(answers.cache.has(key_of(ANSWER, of)) for of in parts)
    return known


def announce(
    scoring: Scoring, judges: Sequence[Scorer], answers: KnownAnswers, limit: int, flag: str
) -> None:
    """The same of a run folder's pictures."""
    say_calls(judges, calls_for(scoring, judges, answers), answers, limit, flag)


def say_calls(
    judges: Sequence[Scorer],
    wanted: Mapping[str, tuple[int, int]],
    answers: KnownAnswers,
    limit: int,
    flag: str,
) -> None:
    """How many calls there will be; without a limit none is sent."""
    left = sum(pictures - known for pictures, known in wanted.values())
    if left and not limit:
        raise UserError(
            f"a judge may cost money, so nothing was sent: {left} calls are needed; give {flag} "
            f"{left}, or less, and the same command goes on from there"
        )
    for scorer in judges:
        pictures, known = wanted[scorer.name]
        print(
            f"perfbench: {scorer.name}: {pictures} pictures to grade, {known} answers are known: "
            f"{pictures - known} calls to {address_of(scorer.source).shown}",
            file=sys.stderr,
        )
    if left:
        print(
            f"perfbench: at most {limit} calls are sent now (a call that fails, or whose answer "
            f"has no grades, is repeated and counts)",
            file=sys.stderr,
        )
        if not answers.cache.limit:
            print("perfbench: there is no cache, so no answer is kept for later", file=sys.stderr)


def told(calls: Calls) -> str:
    """What became of the calls."""
    words = (
        f"{calls.sent} calls sent; {calls.graded} pictures graded, {calls.known} known from "
        f"earlier calls, {calls.refused} without a grade"
    )
    return f"{words}; stopped: {calls.stopped}" if calls.stopped else words
