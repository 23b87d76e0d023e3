"""Packing a run that is to be committed. In: a run folder. Out: the same with its long tables in
one archive.

A run that goes on from an archive writes files beside it; packing it again joins both.
"""

import zlib
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.disk import replace
from benchmarks.scoring.reserved import REAL
from benchmarks.store.csv_files import plain, read_plan_file, whole, with_digest
from benchmarks.store.packed import PACKED, Archive, archive_bytes, open_archive
from benchmarks.store.reading import read_planned, read_run
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

LONG = ("plan.csv", "cells.csv", "*-cells.csv", "attention/cells.csv", "rows/**/*.csv")


def pack_run(run: Path, keep: bool = False, concepts: Container[str] | None = None) -> Path:
    """The archive, with all that was in it and all that lay beside it; what is packed is removed,
    or with `keep` stays: while a run goes on. With `concepts` the rows of others stay where they
    are, and are not packed.
    """
    store, archive = Store(run), open_archive(run / PACKED)
    found = {
        path: path.stat().st_mtime_ns
        for pattern in LONG
        for end in ("", ".gz")
        for path in run.glob(pattern + end)
        if concepts is None or "rows" not in pattern or path.name.partition(".")[0] in concepts
    }
    names = sorted({path.relative_to(run).as_posix().removesuffix(".gz") for path in found})
    files = (archive.files() if archive else {}) | {name: _as_written(run, name) for name in names}
    if not files:
        raise UserError(
            f"{run} has nothing to pack: no plan.csv, no cells.csv and no rows; name another run"
        )
    if archive and archive.damaged:
        refuse_lost(run, files)
    data = archive_bytes(files)
    assert Archive(data).files() == files, "what is packed can be read again"
    with store.locks.locked("packed"), store.aside("packed") as aside:
        (aside / PACKED).write_bytes(data)
        replace(aside / PACKED, run / PACKED)
    if keep:
        return run / PACKED
    for path, written in found.items():
        if path.stat().st_mtime_ns == written:  # else somebody has just written it again
            path.unlink()
    _remove_empty_folders(run)
    return run / PACKED


def _as_written(run: Path, name: str) -> bytes:
    """A file to pack; a damaged one is not to take the place of what the archive has."""
    path, rows = run / name, name.startswith("rows/")
    try:
        body = whole(path) if rows else plain(path)
    except (OSError, EOFError, zlib.error):
        body = None
    if body is None or (name == "plan.csv" and read_plan_file(path) is None):
        raise UserError(
            f"{path} is damaged; remove it, give the run's command again, then pack the run"
        )
    return with_digest(body) if rows else body


def refuse_lost(run: Path, files: Mapping[str, bytes]) -> None:
    """A damaged archive is written anew only where all that it held is there again."""
    store, lost = Store(run), [name for name in ("plan.csv", "cells.csv") if name not in files]
    planned = [] if lost else read_planned(run)
    groups = dict.fromkeys((row["method"], row["point"], row["concept"]) for row in planned)
    groups |= dict.fromkeys(
        (REAL, "default", part) for row in planned for part in row["concept"].split("+")
    )
    for scorer in read_run(run)["scorers"]:
        paths = (store.rows_file(scorer["name"], *group) for group in groups)
        lost += [name for path in paths if (name := path.relative_to(run).as_posix()) not in files]
    if lost:
        raise UserError(
            f"{run / PACKED} is damaged and has lost {lost[0]} ({len(lost)} files in all); "
            f"`git checkout -- {run / PACKED}` brings it back, the run's command makes them again"
        )


def _remove_empty_folders(run: Path) -> None:
    folders = [path for path in (run / ".tmp", *run.glob("rows/**")) if path.is_dir()]
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):  # it holds something
            folder.rmdir()
