"""A run folder: the only module that knows its paths. Is a unit done, publish it, write its rows.

In: units and files written aside. Out: a folder in which everything is whole or absent.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import Locks, digests_of, on_disk, read_manifest, remove, replace, verified
from benchmarks.planning.units import Cell, Fit, Plan, Prior, Unit
from benchmarks.safe_paths import below, leads_out
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.csv_files import (
    count_keys,
    keys_of,
    read_plan_file,
    rows_text,
)
from benchmarks.suite.drift_kinds import PLAIN
from perfusion_core.errors import UserError

FITTING = "fitting"  # the lock of a `perfbench fit` in progress
MANIFEST = {Prior: "prior.json", Fit: "fit.json", Cell: "cell.json"}


class Store:
    """One run folder, for writing and for reading."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.locks = Locks(self.root)

    # ---- where things are ----

    def folder(self, unit: Unit) -> Path:
        if isinstance(unit, Prior):
            return below(self.root, "priors", f"{unit.super_category}-{unit.key[:8]}")
        if isinstance(unit, Fit):
            return fit_folder(self.root, unit.method, unit.concept, unit.key)
        return cell_folder(self.root, unit.method, unit.point, unit.concept, unit.prompt_id)

    def rows_file(self, scorer: str, method: str, point: str, concept: str) -> Path:
        return below(self.root, "rows", scorer, method, point, f"{concept}.csv")

    def ratings_file(self, scorer: str) -> Path:
        """What was taken of a table of ratings, with the digests of the pictures."""
        return below(self.root, "ratings", f"{scorer}.csv")

    def plain_images(self, prompt_id: str) -> Path:
        """Of a prompt that drift is measured on, as the backbone alone draws it."""
        return cell_folder(self.root, FLOOR, "default", PLAIN, prompt_id)

    def images(self, method: str, point: str, concept: str, prompt_id: str) -> Path:
        return cell_folder(self.root, method, point, concept, prompt_id)

    def concept(self, name: str) -> Path:
        return concept_folder(self.root, name)

    def heldout(self, name: str) -> Path:
        """A concept's held-out pictures, in a folder of its own with a manifest of its own."""
        return heldout_folder(self.root, name)

    def failure_file(self, key: str) -> Path:
        return below(self.root, "failed", f"{key[:16]}.json")

    @property
    def failures(self) -> Path:
        return below(self.root, "failed")

    @property
    def unfinished(self) -> Path:
        """Where everything is written before it is put in its place."""
        return below(self.root, ".tmp")

    def half_written(self) -> list[Path]:
        """What lies there itself, and not by a link to what is finished."""
        folder = self.unfinished
        return [] if folder.is_symlink() or not folder.is_dir() else sorted(folder.iterdir())

    # ---- done? ----

    def finished(self, unit: Unit, scorers: Sequence[str]) -> bool:
        """Done, as `done` has it for a whole plan."""
        if self.verified(unit):
            return True
        return (
            isinstance(unit, Cell)
            and not self.folder(unit).exists()
            and bool(self.scored([unit], scorers))
        )

    def verified(self, unit: Unit) -> bool:
        """Its folder is there, was made for this key, and every byte is as it was published."""
        found = verified(self.folder(unit), MANIFEST[type(unit)], unit.key)
        if found is None or not isinstance(unit, Fit):
            return found is not None
        return all(
            any(name.startswith(f"step-{step}/") for name in found["files"]) for step in unit.keep
        )

    def scored(self, cells: Sequence[Cell], scorers: Sequence[str]) -> set[str]:
        """Keys of the cells that have all their rows from every one of these scorers."""
        need = {cell.key: len(cell.seeds) for cell in cells}
        groups = dict.fromkeys((cell.method, cell.point, cell.concept) for cell in cells)
        there = [
            count_keys(self.rows_file(scorer, *group) for group in groups) for scorer in scorers
        ]
        return {key for key, n in need.items() if there and all(count[key] == n for count in there)}

    def done(self, plan: Plan, scorers: Sequence[str]) -> set[str]:
        """Keys of the done units. Rows alone are enough where images were dropped, not where they
        are damaged.
        """
        scored = self.scored((*plan.cells, *plan.drift), scorers)
        # what drift is measured from is needed until all of it is
        beside = [(cell, cell.row.is_base) for cell in plan.drift]
        wanted = {one.prompt_id for one, base in beside if not base and one.key not in scored}
        scored |= {one.key for one, base in beside if base and one.prompt_id not in wanted}
        units = plan.units
        # hashing leaves the interpreter's lock
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            good = pool.map(lambda unit: self.verified(unit), units)
        return {
            unit.key
            for unit, fine in zip(units, good)
            if fine
            or (isinstance(unit, Cell) and unit.key in scored and not self.folder(unit).exists())
        }

    # ---- publish ----

    @contextmanager
    def aside(self, key: str, resume: bool = False) -> Iterator[Path]:
        """A folder to write into, on the same file system; its key's lock must be held. Gone at the
        end, whatever happens; with `resume` an interruption leaves it, and the next call finds it
        as it was."""
        path = below(self.root, ".tmp", key)
        with on_disk(self.root):
            if not resume or any(map(leads_out, path.rglob("*"))):
                remove(path)
            path.mkdir(parents=True, exist_ok=True)
            # of a writer that was killed (perfusion_core/files.py)
            for half in path.rglob("*.safetensors.*"):
                remove(half)
        try:
            yield path
        except BaseException as error:
            if not resume or isinstance(error, Exception):
                remove(path)
            raise
        remove(path)

    def publish(self, unit: Unit, aside: Path, about: Mapping[str, Any]) -> None:
        """The files in `aside`, and a manifest with their digests, become the unit."""
        with on_disk(self.root):
            place = aside / MANIFEST[type(unit)]
            place.unlink(missing_ok=True)  # of a run that was killed just before it could publish
            manifest = {"key": unit.key, "files": digests_of(aside), **about}
            place.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            replace(aside, self.folder(unit))
        self.forget_failures([unit.key])

    def manifest(self, unit: Unit) -> dict[str, Any] | None:
        """What is told of a published unit; None where it is not there, or was made for another
        key.
        """
        found = read_manifest(self.folder(unit) / MANIFEST[type(unit)])
        return found if found and found["key"] == unit.key else None

    def add_to_manifest(self, unit: Unit, about: Mapping[str, Any]) -> None:
        """More about a published unit; its files and their digests stay."""
        if found := self.manifest(unit):
            text = json.dumps({**found, **about}, indent=1) + "\n"
            self.write_text(self.folder(unit) / MANIFEST[type(unit)], text)

    def publish_concept(self, name: str, key: str, draw: Callable[[Path], None]) -> None:
        """The pictures of a concept as fits and scorers see them; `draw` writes them into a
        folder.
        """
        self._publish_pictures(self.concept(name), "concept", name, key, draw)

    def publish_heldout(self, name: str, key: str, draw: Callable[[Path], None]) -> None:
        """Its held-out pictures, as scorers alone see them, once its own are there. Scores tell of
        those that were there when they were made, so other ones are refused.
        """
        target, manifest = self.heldout(name), "heldout.json"
        old = read_manifest(target / manifest)
        if old and old["key"] != key and verified(target, manifest, old["key"]):
            raise UserError(
                f"{target} has other held-out pictures of {name} than these, and scores by them; "
                f"give another folder with --out"
            )
        self._publish_pictures(target, "heldout", name, key, draw)

    def _publish_pictures(
        self, target: Path, what: str, name: str, key: str, draw: Callable[[Path], None]
    ) -> None:
        own = digest([what, name])
        # the key of what is written aside, so that no other run sweeps it away
        with self.locks.locked(own):
            if verified(target, f"{what}.json", key) is None:
                with self.aside(own) as aside, on_disk(self.root):
                    draw(aside)
                    manifest = {"key": key, "files": digests_of(aside)}
                    (aside / f"{what}.json").write_text(
                        json.dumps(manifest, indent=1) + "\n", encoding="utf-8"
                    )
                    replace(aside, target)

    def write_text(self, target: Path, text: str) -> None:
        """One file, published."""
        place = target.relative_to(self.root)
        name = digest(place.as_posix())
        below(self.root, *place.parent.parts)
        with on_disk(self.root), self.locks.locked(name):
            aside = below(self.root, ".tmp", name)
            aside.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_text(text, encoding="utf-8", newline="")
                replace(aside, target)
            finally:
                remove(aside)

    def write_rows(self, target: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of one (scorer, method, point, concept), with the digest that makes a corrupted file
        count as absent.
        """
        self.write_text(target, rows_text(rows))

    def write_failure(self, key: str, name: str, traceback: str) -> None:
        record = {"name": name, "key": key, "traceback": traceback}
        self.write_text(self.failure_file(key), json.dumps(record, indent=1) + "\n")

    def forget_failures(self, keys: Iterable[str]) -> None:
        """What succeeded since, or is not planned any more."""
        with on_disk(self.root):
            for key in keys if self.failures.is_dir() else ():
                self.failure_file(key).unlink(missing_ok=True)

    def drop_images(self, method: str, point: str, concept: str, prompt_id: str) -> None:
        """Remove the images of a scored cell."""
        with on_disk(self.root):
            remove(self.images(method, point, concept, prompt_id))

    def drop_trained(self, fit: Fit) -> None:
        """Remove the files of a fit but for its manifest, which tells what it cost."""
        folder = self.folder(fit)
        with on_disk(self.root):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.name != MANIFEST[Fit]:
                    remove(path)

    def planned_keys(self) -> set[str]:
        """Keys of the cells and fits of all commands given in this folder."""
        return keys_of(read_plan_file(self.root / "plan.csv") or ())

    def sweep(self, done: Collection[str] = ()) -> None:
        """Remove what killed runs left half written, except planned fits, which are resumed until
        they are `done`. What another process is writing has its lock taken and stays."""
        folder, found = self.unfinished, self.half_written()
        keep = self.planned_keys() - set(done) if found else set()
        for path in found:
            key = path.name.removesuffix(".old")
            if path.name not in keep and self.locks.try_lock(key):
                remove(path)
                self.locks.unlock(key)
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            with suppress(OSError):  # another process has just begun to write
                folder.rmdir()


# ---- reading a run ----


def cell_folder(run: Path, method: str, point: str, concept: str, prompt_id: str) -> Path:
    return below(run, "images", method, point, concept, prompt_id)


def cell_image(
    run: Path, method: str, point: str, concept: str, prompt_id: str, index: int
) -> Path:
    return below(run, "images", method, point, concept, prompt_id, f"{index}.png")


def point_folder(run: Path, method: str, point: str) -> Path:
    """All pictures of one operating point."""
    return below(run, "images", method, point)


def concept_folder(run: Path, concept: str) -> Path:
    return below(run, "concepts", concept)


def heldout_folder(run: Path, concept: str) -> Path:
    return below(run, "concepts", concept, "heldout")


def concept_pictures(run: Path, concept: str) -> list[Path]:
    """The concept's images as fits and scorers saw them, 10.png after 9.png."""
    files = (path for path in concept_folder(run, concept).glob("*.png") if not leads_out(path))
    return sorted(files, key=lambda path: (len(path.name), path.name))


def fit_folder(run: Path, base: str, concept: str, key: str) -> Path:
    return below(run, "fits", base, f"{concept}-{key[:8]}")


def attention_folder(run: Path) -> Path:
    """maps.npz and leakage.csv, and under parts/ what each method's word attended to, a file a
    concept.
    """
    return below(run, "attention")


def attention_file(run: Path, *names: str) -> Path:
    return below(run, "attention", *names)


def table_file(run: Path, name: str) -> Path:
    """table.csv and the other tables."""
    return below(run, f"{name}.csv")


def figures_folder(run: Path) -> Path:
    return below(run, "figures")
