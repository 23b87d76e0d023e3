"""A submission of which everything was checked that needs no drawing.

In: an archive of anybody, places that whoever checks it named. Out: `Checked`, a run folder whose
tables were made here; the first thing that is wrong as one sentence.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.exchange.submissions.drawn_pixels import check_thumbnails, read_pictures
from benchmarks.exchange.submissions.known_here import Known, Places, compare
from benchmarks.exchange.submissions.submission_archive import (
    PICTURES,
    RUN,
    TRAINED,
    Refused,
    Submission,
    read_submission,
)
from benchmarks.exchange.submissions.submission_make import weights_digest
from benchmarks.exchange.submissions.submitted_rows import check_all, check_ceilings
from benchmarks.exchange.submissions.submitted_tables import tables_again
from benchmarks.safe_paths import is_name, safe_parts, shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.store.older_runs import OLDER
from benchmarks.store.reading import read_run
from benchmarks.store.run_json import can_go_on
from benchmarks.tables.build import Tables
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Checked:
    """A submission in which everything agrees, as a run folder whose tables are ours."""

    submission: Submission
    folder: Path
    about: dict[str, Any]
    rows: list[CellRow]
    images: int
    tables: Tables
    known: Known
    trained: dict[str, dict[str, Any]]
    thumbnails: int


@dataclass(frozen=True)
class Asked:
    """What `--redraw` was given."""

    cells: int = 0
    trained: str = ""
    seed: int | None = None
    method_files: tuple[str, ...] = ()
    device: str = "auto"


@contextmanager
def checked(archive: Path, places: Places) -> Iterator[Checked]:
    """Everything but a redraw; the folder is gone after the block."""
    submission = read_refusing(archive)
    with tempfile.TemporaryDirectory(prefix="perfbench-submission-") as aside:
        folder = Path(aside) / submission.name
        folder.mkdir()
        about = about_of(submission, folder)
        rows, images = check_all(submission.files, about)
        known = compare(about, rows, places)
        check_ceilings(submission.files, about, pictures_of(rows, known))
        trained = check_trained(submission.json(TRAINED), about)
        if PICTURES in submission.files:
            check_pictures(submission, rows)
        thumbnails = check_thumbnails(submission.files, rows)
        tables = tables_again(folder, submission.files)
        yield Checked(submission, folder, about, rows, images, tables, known, trained, thumbnails)


def pictures_of(rows: Sequence[CellRow], known: Known) -> dict[str, int]:
    """Planned concept -> how many pictures it has here; 0 where nobody knows."""
    names = dict.fromkeys(name for row in rows if not row.drifts for name in row.concept.split("+"))
    concepts = known.catalog.concepts if known.catalog else ()
    here = {concept.name: len(concept.images) for concept in concepts}
    return {name: here.get(name, 0) for name in names}


def read_refusing(archive: Path) -> Submission:
    """A bad name inside of an archive is a reason to refuse it."""
    try:
        return read_submission(archive)
    except Refused:
        raise
    except UserError as error:
        if not archive.is_file():
            raise
        raise Refused(str(error)) from None


def about_of(submission: Submission, folder: Path) -> dict[str, Any]:
    """run.json by the reader of every run, and whole."""
    submission.json(RUN)  # no number that is none
    (folder / RUN).write_bytes(submission.files[RUN])
    try:
        about = read_run(folder)
    except UserError:
        raise Refused(f"its {RUN} is damaged, or of a version that is not read") from None
    if OLDER in about or not can_go_on(about):
        raise Refused(f"its {RUN} does not tell all that a run of this version does")
    for key in ("name", "weights", "preprocessing", "source", "kind"):
        if not all(isinstance(one.get(key, ""), str) for one in about["scorers"]):
            raise Refused(f"its {RUN} has a scorer whose {key} is no text")
    return about


def check_pictures(submission: Submission, rows: Sequence[CellRow]) -> None:
    known = {(*row.address, row.prompt_id) for row in rows}
    for address, pixels in read_pictures(submission.files[PICTURES]).items():
        if address not in known or len(pixels) != 64:
            raise Refused(f"{PICTURES} has a row of no planned cell: {shown('/'.join(address))}")


def check_trained(trained: dict[str, Any], about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """trained.json agrees with itself and with the digests in run.json."""
    for method, concepts in trained.items():
        if method not in about["methods"]:  # whose names are names of folders
            raise Refused(f"{TRAINED} names {shown(method)}, which is no method of {RUN}")
        if not isinstance(concepts, dict) or not all(map(is_name, concepts)):
            raise Refused(f"{TRAINED}: {shown(method)} has no concepts by names that can be")
        for concept, entry in concepts.items():
            where = f"{TRAINED}: {method} {concept}"
            if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
                raise Refused(f"{where} has no digest")
            told = about.get("weights", {}).get(method, {})
            if told.get(concept, entry["digest"]) != entry["digest"]:
                raise Refused(f"{where} has another digest than {RUN} tells")
            if "files" in entry and digest_told(entry["files"], where) != entry["digest"]:
                raise Refused(f"{where}: its files have another digest than it tells")
    return trained


def digest_told(files: Any, where: str) -> str:
    """Of the files that an entry lists."""
    try:
        for name in files:
            safe_parts(name, f"{where}: the file")
        return weights_digest(files)
    except (TypeError, KeyError, AttributeError, UserError):
        raise Refused(f"{where} lists files that cannot be") from None
