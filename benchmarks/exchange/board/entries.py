"""What stands on a board: runs of ours and submissions of others, each on the board it belongs to.

In: run folders and archives. Out: boards, one for every protocol, scorer and set of questions.
Numbers of two boards are never in one table.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import read_json
from benchmarks.exchange.submissions.checked_submission import checked
from benchmarks.exchange.submissions.known_here import Places
from benchmarks.exchange.submissions.submission_archive import SUFFIX, Refused
from benchmarks.exchange.submissions.submission_verify import RECOMPUTED, VERIFIED
from benchmarks.scoring.cell_row import CellRow
from benchmarks.store.reading import read_cells, refuse_older
from benchmarks.tables.comparable import protocol_of, seed_of
from benchmarks.tables.run_view import Run, open_run
from perfusion_core.errors import UserError

OWN = "own run"
VERDICT = ".verdict.json"  # beside an archive: what `submission verify --verdict` wrote
SHORT = 8  # characters of a digest


@dataclass(frozen=True)
class Entry:
    """One run on a board."""

    name: str
    run: Run
    checked: str  # OWN, RECOMPUTED or VERIFIED
    by: str = ""

    @property
    def about(self) -> dict[str, Any]:
        return self.run.about


@dataclass(frozen=True)
class Board:
    """Entries that were measured alike: the same protocol, scorer, concepts and prompts."""

    key: str
    entries: tuple[Entry, ...]
    questions: Mapping[str, int]  # concepts, prompts, images

    @property
    def protocol(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.entries[0].about["protocol"]
        return found

    @property
    def scorer(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.entries[0].about["scorers"][0]
        return found


@contextmanager
def opened(given: Sequence[str], places: Places) -> Iterator[list[Entry]]:
    """All entries; what an archive holds is gone after the block."""
    with ExitStack() as stack:
        entries = [
            of_archive(Path(one), places, stack) if one.endswith(SUFFIX) else of_run(one)
            for one in given
        ]
        names = [entry.name for entry in entries]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"two entries are called {twice}; give each once, or rename one")
        yield entries


def of_run(given: str) -> Entry:
    run = open_run(given)
    refuse_older(run.folder, run.about)
    return Entry(run.name, run, OWN)


def of_archive(path: Path, places: Places, stack: ExitStack) -> Entry:
    """Checked again, whatever was said of it before; only that it was drawn again is believed of a
    verdict beside it, if that is of these very bytes."""
    try:
        found = stack.enter_context(checked(path, places))
    except Refused as error:
        raise UserError(f"{path} stands on no board: {error}") from None
    told = read_json(path.with_name(path.name + VERDICT)) or {}
    redrawn = told.get("verdict") == VERIFIED and told.get("sha256") == found.submission.sha256
    by = str(found.submission.manifest["by"])
    return Entry(found.submission.name, Run(found.folder), VERIFIED if redrawn else RECOMPUTED, by)


def boards_of(entries: Sequence[Entry]) -> list[Board]:
    """In the order in which their first entries were given."""
    groups: dict[str, list[Entry]] = {}
    questions = {}
    for entry in entries:
        rows = [row for row in read_cells(entry.run.folder) if row.kind != "pair"]
        if not rows:
            raise UserError(f"{entry.name} has pairs of concepts alone, and a board has none")
        key = board_key(entry.about, rows)
        groups.setdefault(key, []).append(entry)
        questions[key] = {
            "concepts": len({row.concept for row in rows}),
            "prompts": len({row.prompt_id for row in rows}),
            "images": max(row.n for row in rows),
        }
    return [Board(key, tuple(mine), questions[key]) for key, mine in groups.items()]


def board_key(about: Mapping[str, Any], rows: Sequence[CellRow]) -> str:
    """Of all that has to agree: what `perfbench check` compares, the noise, and what is asked. A
    run that leaves out hard prompts is on a board of its own."""
    digests = about["digests"]
    asked = sorted({(row.concept, row.prompt_id, row.n) for row in rows})
    named = {concept for concept, _, _ in asked}, {prompt for _, prompt, _ in asked}
    parts = {
        part: {name: digests[part].get(name) for name in sorted(names)}
        for part, names in zip(("concepts", "prompts"), named)
    }
    measured = {**protocol_of(about), "seed": seed_of(about)}
    measured["scorer"] = {k: measured["scorer"].get(k) for k in ("name", "weights", "kind")}
    for own in ("fit", "recipe", "select_scorer", "prior_images"):  # a method's own affair
        measured.pop(own, None)
    whole = [json.loads(json.dumps(measured)), digests["texts"], parts, asked]
    return digest(whole)[:SHORT]
