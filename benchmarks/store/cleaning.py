"""`perfbench clean`: what runs left half written, and on request images that are scored.

In: run folders. Out: what was removed, or would be, with its size. Nothing goes that a run could
not make again, and nothing that another process has in its hands.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.digests import digest
from benchmarks.disk import on_disk, remove
from benchmarks.safe_paths import leads_out
from benchmarks.scoring.lookup import MAY_BE_SILENT
from benchmarks.store.cache_verbs import shown
from benchmarks.store.csv_files import count_keys
from benchmarks.store.reading import find_run, imported_methods, list_runs, read_cells, read_run
from benchmarks.store.run_folder import FITTING, Store
from perfusion_core.errors import UserError

FIT = ".*.fit"  # beside what `perfbench fit --out` was to write


@dataclass(frozen=True)
class Leftover:
    """A folder, why it is there, and the store whose lock protects it."""

    path: Path
    why: str
    store: Store
    lock: str


def clean(given: Sequence[str], *, images: bool, really: bool) -> int:
    """Lists; removes where that was said. Without runs, all under results/ and the trainings of
    `perfbench fit` here.
    """
    # a link among the results is somebody else's run, until it is named
    runs = [find_run(run) for run in given] or [run for run in list_runs() if not run.is_symlink()]
    found = list[Leftover]()
    for run in {run.resolve(): run for run in runs}.values():
        try:
            found += leftovers(run, images)
        except UserError as error:
            if given:
                raise
            print(f"perfbench: {run} is left as it is: {error}", file=sys.stderr)
    if not given:
        found += (
            Leftover(
                path, "a training of `perfbench fit` that was interrupted", Store(path), FITTING
            )
            for path in sorted(Path().glob(FIT))
            if is_of_a_fit(path)
        )
    total = 0
    for one in found:
        size = bytes_of(one.path)
        if really and not removed(one):
            print(f"perfbench: {one.path} is in use and stays", file=sys.stderr)
            continue
        total += size
        print(f"{one.path}: {shown(size)}, {one.why}")
    what = "removed" if really else "could go: --yes removes it, and what is finished stays"
    print(f"{shown(total)} {what}" if found else "nothing to clean")
    return 0


def is_of_a_fit(path: Path) -> bool:
    """A folder that `perfbench fit` made, by what it puts there first; not one of that name."""
    return not path.is_symlink() and (path / ".lock").is_file() and (path / "concepts").is_dir()


def leftovers(run: Path, images: bool) -> Iterator[Leftover]:
    store = Store(run)
    for path in store.half_written():
        yield Leftover(path, "half written", store, path.name.removesuffix(".old"))
    if not images:
        return
    about = read_run(run)
    imported = imported_methods(about)  # which no run can draw again
    cells = [cell for cell in read_cells(run, drift=True) if cell.method not in imported]
    groups = list(dict.fromkeys(cell.address for cell in cells))
    counts = {
        scorer["name"]: count_keys(store.rows_file(scorer["name"], *group) for group in groups)
        for scorer in about["scorers"]
    }
    # a judge is not asked about drift
    of_drift = [one["name"] for one in about["scorers"] if one.get("kind") not in MAY_BE_SILENT]
    scored = {
        cell.key: all(
            counts[name][cell.key] == cell.n for name in (of_drift if cell.drifts else counts)
        )
        for cell in cells
        if not cell.is_base
    }
    # the backbone's own pictures are needed until all is compared with them
    needed = {cell.prompt_id for cell in cells if cell.drifts and not scored.get(cell.key, True)}
    for cell in cells:
        place = store.images(*cell.address, cell.prompt_id)
        if scored.get(cell.key, cell.prompt_id not in needed) and place.is_dir():
            lock = digest(["score", *cell.address])  # what is scoring them holds it
            yield Leftover(place, "images that every scorer has scored", store, lock)


def removed(one: Leftover) -> bool:
    """False where somebody has its lock, or it leads elsewhere."""
    if leads_out(one.path) or not one.store.locks.try_lock(one.lock):
        return False
    try:
        with on_disk(one.store.root):
            remove(one.path)
    finally:
        one.store.locks.unlock(one.lock)
    return True


def bytes_of(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in inside if one.is_file() and not one.is_symlink())
