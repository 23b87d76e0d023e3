"""`perfbench submission verify`: what of an archive can be believed, and why.

In: an archive of anybody; trained files and places that whoever checks it has. Out: a `Verdict`:
`recomputed` where every table follows from its rows, `verified` where a random sample of every
method was drawn again as well, `refused` with one sentence. Nothing of an archive is executed.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
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
from benchmarks.exchange.submissions.submitted_rows import check_all
from benchmarks.exchange.submissions.submitted_tables import tables_again
from benchmarks.safe_paths import safe_parts, shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.store.older_runs import OLDER
from benchmarks.store.reading import imported_methods, read_run
from benchmarks.store.run_json import can_go_on
from benchmarks.tables.build import Tables
from perfusion_core.errors import UserError

RECOMPUTED, VERIFIED, REFUSED = "recomputed", "verified", "refused"


@dataclass(frozen=True)
class Verdict:
    """What a check found; `redrawn` has an entry a method that was drawn again."""

    archive: str
    sha256: str
    verdict: str
    why: str = ""  # of a refusal, or of what keeps it from being verified
    name: str = ""
    by: str = ""
    protocol: str = ""
    images: int = 0
    cells: int = 0
    thumbnails: int = 0
    told: list[str] = field(default_factory=list)  # taken as it is told
    redrawn: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


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


def verify(archive: Path, places: Places, asked: Asked = Asked()) -> Verdict:
    """The whole of a check."""
    plain = Verdict(archive.name, "", REFUSED)
    try:
        with checked(archive, places) as found:
            told = replace(
                plain,
                sha256=found.submission.sha256,
                verdict=RECOMPUTED,
                name=found.submission.name,
                by=str(found.submission.manifest["by"]),
                protocol=str(found.about["protocol"]["preset"]),
                images=found.images,
                cells=len(found.rows),
                thumbnails=found.thumbnails,
                told=found.known.told,
            )
            return with_redraw(told, found, places, asked)
    except Refused as error:
        return replace(plain, why=str(error))


def with_redraw(told: Verdict, found: Checked, places: Places, asked: Asked) -> Verdict:
    if not asked.cells:
        return replace(told, why="no cell was drawn again: --trained DIR --redraw N does it")
    from benchmarks.exchange.submissions.redraw import redraw

    sample = redraw(found, places, asked)
    methods = {row.method for row in found.rows}
    left = sorted(methods - sample.keys())
    told = replace(told, redrawn=sample)
    if left:
        return replace(told, why=f"not drawn again: {', '.join(left)}")
    return replace(told, verdict=VERIFIED)


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
        trained = check_trained(submission.json(TRAINED), about)
        if PICTURES in submission.files:
            check_pictures(submission, rows)
        thumbnails = check_thumbnails(submission.files, rows)
        tables = tables_again(folder, submission.files)
        yield Checked(submission, folder, about, rows, images, tables, known, trained, thumbnails)


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
        if not isinstance(concepts, dict):
            raise Refused(f"{TRAINED}: {shown(method)} has no concepts")
        for concept, entry in concepts.items():
            where = f"{TRAINED}: {method} {concept}"
            if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
                raise Refused(f"{where} has no digest")
            told = about["weights"].get(method, {}) if "weights" in about else {}
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


def trained_methods(found: Checked) -> set[str]:
    """Those of which there are trained files to be given."""
    return set(found.trained) - imported_methods(found.about)


# ---- telling ----


def refuse_idle_flags(asked: Asked) -> None:
    """A flag that changes nothing would be a check that nobody made."""
    if not asked.cells and (asked.trained or asked.method_files or asked.seed is not None):
        raise UserError("--trained, --sample and --method-file are of --redraw N; give it as well")


def told_text(found: Verdict) -> str:
    """Lines for people, the verdict last."""
    if found.verdict == REFUSED:
        return f"{found.archive}: refused: {found.why}\n"
    lines = [
        f"{found.name}{f' by {found.by}' if found.by else ''}: protocol {found.protocol}, "
        f"{found.cells:,} cells, {found.images:,} images; tables made again from rows, and equal"
    ]
    lines += [f"taken as it is told: {one}" for one in found.told]
    for method, of in found.redrawn.items():
        lines.append(
            f"{method}: {of['cells']} cells drawn again, {of['same_bytes']} of them the same "
            f"bytes; largest difference of a cell's score {of['largest']:.4f}"
        )
    lines.append(f"{found.verdict}{f' ({found.why})' if found.why else ''}")
    return "\n".join(lines) + "\n"
