"""A run folder: the only module that knows its paths. Is a unit done, publish it, read the rows.

In: units and files written aside. Out: a folder in which everything is whole or absent; DataFrames
for who reads it.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import digest
from benchmarks.disk import Locks, digests_of, on_disk, remove, replace, verified
from benchmarks.disk import read_json as read_json
from benchmarks.disk import read_manifest as read_manifest
from benchmarks.planning.units import Cell, Fit, Plan, Prior, Unit
from benchmarks.safe_paths import below, is_name, leads_out, lies_below
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import REAL as REAL
from benchmarks.store.csv_files import (
    PLACES,
    count_keys,
    keys_of,
    read_frame,
    read_plan_file,
    read_plan_frame,
    rows_text,
)
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path("results")
MANIFEST = {Prior: "prior.json", Fit: "fit.json", Cell: "cell.json"}
SCHEMA = 2  # of run.json


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

    def images(self, method: str, point: str, concept: str, prompt_id: str) -> Path:
        return cell_folder(self.root, method, point, concept, prompt_id)

    def concept(self, name: str) -> Path:
        return concept_folder(self.root, name)

    def failure_file(self, key: str) -> Path:
        return below(self.root, "failed", f"{key[:16]}.json")

    @property
    def failures(self) -> Path:
        return below(self.root, "failed")

    @property
    def unfinished(self) -> Path:
        """Where everything is written before it is put in its place."""
        return below(self.root, ".tmp")

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
        scored = self.scored(plan.cells, scorers)
        units = plan.units
        with ThreadPoolExecutor(
            min(8, os.cpu_count() or 1)
        ) as pool:  # hashing leaves the interpreter's lock
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
            for half in path.rglob(
                "*.safetensors.*"
            ):  # of a writer that was killed (perfusion_core/files.py)
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

    def publish_concept(self, name: str, key: str, draw: Callable[[Path], None]) -> None:
        """The pictures of a concept as fits and scorers see them; `draw` writes them into a
        folder.
        """
        target, own = self.concept(name), digest(["concept", name])
        with self.locks.locked(
            own
        ):  # the key of what is written aside, so that no other run sweeps it away
            if verified(target, "concept.json", key) is None:
                with self.aside(own) as aside, on_disk(self.root):
                    draw(aside)
                    manifest = {"key": key, "files": digests_of(aside)}
                    (aside / "concept.json").write_text(
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

    def planned_keys(self) -> set[str]:
        """Keys of the cells and fits of all commands given in this folder."""
        return keys_of(read_plan_file(self.root / "plan.csv") or ())

    def sweep(self, done: Collection[str] = ()) -> None:
        """Remove what killed runs left half written, except planned fits, which are resumed until
        they are `done`. What another process is writing has its lock taken and stays."""
        folder = self.unfinished
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        keep = self.planned_keys() - set(done) if found else set()
        for path in found:
            key = path.name.removesuffix(".old")
            if path.name not in keep and self.locks.try_lock(key):
                remove(path)
                self.locks.unlock(key)
        if folder.is_dir() and not any(folder.iterdir()):
            with suppress(OSError):  # another process has just begun to write
                folder.rmdir()


# ---- reading a run ----


def find_run(given: str | Path | None = None, results: Path | None = None) -> Path:
    """A path, a name under results/, or the newest run."""
    results = results or RESULTS
    if given is None:
        runs = list_runs(results)
        if not runs:
            raise UserError(
                f"there is no run under {results}/; `perfbench run --preset quick` makes one"
            )
        return runs[-1]
    for path in (Path(given), results / given):
        if (path / "run.json").is_file():
            return path
    names = [run.name for run in list_runs(results)]
    shown = (
        f" (known: {', '.join(names)})" if names else "; `perfbench run --preset quick` makes one"
    )
    raise UserError(f"{given} is not a run folder: there is no run.json in it{shown}")


def known_run(run: Path) -> dict[str, Any]:
    """run.json for lists of runs: nothing where it cannot be read, which no other run should suffer
    from.
    """
    with suppress(UserError):
        return read_run(run)
    return {}


def list_runs(results: Path | None = None) -> list[Path]:
    """The runs under results/, the newest last."""
    runs = [
        (read_json(path) or {}, path.parent) for path in (results or RESULTS).glob("*/run.json")
    ]
    return [
        run
        for _, run in sorted(runs, key=lambda item: (str(item[0].get("started", "")), item[1].name))
    ]


def read_run(run: Path) -> dict[str, Any]:
    """run.json of this version, the one reader of it."""
    found = read_json(run / "run.json")
    if found is not None and found.get("schema") != SCHEMA:
        raise UserError(
            f"{run}/run.json is of schema {found.get('schema')!r:.60}, and only schema {SCHEMA} "
            f"can be compared: "
            "make that run again with this version of perfbench"
        )
    if found is None or not well_formed(found):
        raise UserError(
            f"{run / 'run.json'} is missing or damaged; give the same `perfbench run` command again"
        )
    return found


OBJECTS = (
    "config",
    "protocol",
    "digests",
    "backbone",
    "select_scorer",
    "methods",
    "libraries",
    "units",
    "seconds",
)


def well_formed(about: Mapping[str, Any]) -> bool:
    """Whether what run.json names is what it should be, and its names are names of folders."""
    scorers, methods = about.get("scorers"), about.get("methods", {})
    digests = about.get("digests", {})
    if not all(isinstance(about.get(key, {}), dict) for key in (*OBJECTS, "weights")):
        return False
    if not all(isinstance(digests.get(key, {}), dict) for key in ("concepts", "masks", "prompts")):
        return False
    if not all(isinstance(about.get(key, []), list) for key in ("commands", "failures", "argv")):
        return False
    named = isinstance(scorers, list) and all(
        isinstance(one, dict) and is_name(one.get("name")) for one in scorers
    )
    return bool(named and scorers) and all(map(is_name, methods))


def refuse_without(run: Path, about: Mapping[str, Any], needed: Iterable[str]) -> None:
    """One sentence where run.json does not tell what a verb needs; `config.seed` is the key of a
    part.
    """
    for place in needed:
        part: Any = about
        for key in place.split("."):
            if not isinstance(part, Mapping) or key not in part:
                raise UserError(
                    f"{run / 'run.json'} is damaged: it does not tell {place}; make that run again"
                )
            part = part[key]


def cell_folder(run: Path, method: str, point: str, concept: str, prompt_id: str) -> Path:
    return below(run, "images", method, point, concept, prompt_id)


def cell_image(
    run: Path, method: str, point: str, concept: str, prompt_id: str, index: int
) -> Path:
    return below(run, "images", method, point, concept, prompt_id, f"{index}.png")


def concept_folder(run: Path, concept: str) -> Path:
    return below(run, "concepts", concept)


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


def read_planned(run: Path) -> list[dict[str, str]]:
    """plan.csv as plain rows: a planned cell of all commands given in this folder."""
    rows = read_plan_file(run / "plan.csv")
    if rows is None:
        raise _no_plan(run)
    return rows


def read_cells(run: Path) -> list[CellRow]:
    """The same as planned cells, without their seeds."""
    return list(map(CellRow.read, read_planned(run)))


def read_plan(run: Path) -> "pd.DataFrame":
    """The same as a frame, in a tenth of the time."""
    plan = read_plan_frame(run / "plan.csv")
    if plan is None:
        raise _no_plan(run)
    return plan


def _no_plan(run: Path) -> UserError:
    return UserError(
        f"{run / 'plan.csv'} is missing or damaged; give the same `perfbench run` command again"
    )


def read_rows(
    run: Path, scorer: str | None = None, plan: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """All rows of one scorer (the reported one) that belong to planned cells, as planned; and the
    ceiling's. `plan`: what read_plan says, where it is known."""
    import numpy as np
    import pandas as pd

    name = scorer or read_run(run)["scorers"][0]["name"]
    store, plan = Store(run), read_plan(run) if plan is None else plan
    addresses = (
        plan[["method", "point", "concept"]].drop_duplicates().itertuples(index=False, name=None)
    )
    singles = dict.fromkeys(part for names in plan["concept"].unique() for part in names.split("+"))
    rows = read_frame(store.rows_file(name, *address) for address in addresses)
    code, keys = pd.factorize(pd.concat([plan["key"], rows["key"]]))
    place = np.full(len(keys), -1)  # of a key in the plan; -1: not planned
    place[code[: len(plan)]] = np.arange(len(plan))
    place = place[code[len(plan) :]]
    for column in (
        PLACES
    ):  # a file may say anything of its rows: they are those of the cell that has their key
        place[rows[column].to_numpy() != plan[column].to_numpy()[place]] = -1
    order = np.lexsort((rows["index"].to_numpy(), place))
    rows = rows.take(order[place[order] >= 0])
    real = read_frame(store.rows_file(name, REAL, "default", concept) for concept in singles)
    real = real[
        (real["method"] == REAL) & (real["point"] == "default") & real["concept"].isin(singles)
    ]
    return pd.concat([rows, real], ignore_index=True)


def planned_fits(run: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, concept and fit.json of the fits that planned cells need and that are here."""
    fits = below(run, "fits")
    paths = (path for path in sorted(fits.glob("*/*/fit.json")) if lies_below(fits, path))
    by_key = {about["key"]: about for about in map(read_manifest, paths) if about}
    rows = (
        read_plan(run)[["method", "concept", "fit"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    )
    pairs = (
        (method, *one)
        for method, concepts, keys in rows
        for one in zip(concepts.split("+"), keys.split("+"))
    )
    for method, concept, key in dict.fromkeys(pairs):
        if key in by_key:
            yield method, concept, by_key[key]


def read_fits(run: Path) -> "pd.DataFrame":
    """What each method's fits cost: method, concept, key, kilobytes (of 1,000 bytes), train_seconds
    where known.
    """
    import pandas as pd

    rows = []
    for method, concept, about in planned_fits(run):
        size = sum(
            file["bytes"] for name, file in about["files"].items() if not name.startswith("step-")
        )
        seconds = about.get("seconds")
        seconds = float(seconds) if isinstance(seconds, (int, float)) else float("nan")
        rows.append((method, concept, about["key"], size / 1000, seconds))
    return pd.DataFrame(rows, columns=["method", "concept", "key", "kilobytes", "train_seconds"])


def read_weights(run: Path) -> dict[str, dict[str, str]]:
    """method -> concept -> digest of its trained files; runs that agree in it sampled from the same
    weights.
    """
    found: dict[str, dict[str, str]] = {}
    for method, concept, about in planned_fits(run):
        trained = {
            n: f["sha256"]
            for n, f in about["files"].items()
            if n.endswith(".safetensors") and n[:5] != "step-"
        }
        found.setdefault(method, {})[concept] = digest(trained)
    return found
