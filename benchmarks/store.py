"""A run folder: the only module that knows its paths. Is a unit done, publish it, read the rows.

In: units and files written aside. Out: a folder in which everything is whole or absent; DataFrames for who reads it.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.config import digest
from benchmarks.disk import Locks, file_sha256, on_disk, remove, replace
from benchmarks.plan import Cell, Fit, Plan, Prior, Unit
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path("results")
MANIFEST = {Prior: "prior.json", Fit: "fit.json", Cell: "cell.json"}
ROW = ("key", "method", "point", "concept", "group", "prompt_id", "kind", "index", "seed", "image_sim", "text_sim_raw")
PAIR_ROW = (*ROW, "image_sim_a", "image_sim_b")
PLAN_ROW = (
    "method", "point", "concept", "group", "prompt_id", "kind", "n", "key", "fit", "template", "text", "super_category",
)  # fmt: skip
REAL = "real"  # method of the ceiling rows


class Store:
    """One run folder, for writing and for reading."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.locks = Locks(self.root)

    # ---- where things are ----

    def folder(self, unit: Unit) -> Path:
        if isinstance(unit, Prior):
            return self.root / "priors" / f"{unit.super_category}-{unit.key[:8]}"
        if isinstance(unit, Fit):
            return self.root / "fits" / unit.method / f"{unit.concept}-{unit.key[:8]}"
        return cell_folder(self.root, unit.method, unit.point, unit.concept, unit.prompt_id)

    def rows_file(self, scorer: str, method: str, point: str, concept: str) -> Path:
        return self.root / "rows" / scorer / method / point / f"{concept}.csv"

    def images(self, method: str, point: str, concept: str, prompt_id: str) -> Path:
        return cell_folder(self.root, method, point, concept, prompt_id)

    def concept(self, name: str) -> Path:
        return concept_folder(self.root, name)

    def failure_file(self, key: str) -> Path:
        return self.failures / f"{key[:16]}.json"

    @property
    def failures(self) -> Path:
        return self.root / "failed"

    # ---- done? ----

    def verified(self, unit: Unit) -> bool:
        """Its folder is there, was made for this key, and every byte is as it was published."""
        found = verified(self.folder(unit), MANIFEST[type(unit)], unit.key)
        if found is None or not isinstance(unit, Fit):
            return found is not None
        return all(any(name.startswith(f"step-{step}/") for name in found["files"]) for step in unit.keep)

    def scored(self, cells: Iterable[Cell], scorers: Sequence[str]) -> set[str]:
        """Keys of the cells that have all their rows from every one of these scorers."""
        counts = {scorer: self._counts(cells := list(cells), scorer) for scorer in scorers}
        need = {cell.key: len(cell.seeds) for cell in cells}
        return {key for key, n in need.items() if counts and all(count.get(key, 0) == n for count in counts.values())}

    def _counts(self, cells: Sequence[Cell], scorer: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for address in dict.fromkeys((cell.method, cell.point, cell.concept) for cell in cells):
            for row in read_rows_file(self.rows_file(scorer, *address)) or ():
                counts[row["key"]] = counts.get(row["key"], 0) + 1
        return counts

    def done(self, plan: Plan, scorers: Sequence[str]) -> set[str]:
        """Keys of the done units. Rows alone are enough where images were dropped, not where they are damaged."""
        scored = self.scored(plan.cells, scorers)
        units = plan.units
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing leaves the interpreter's lock
            good = pool.map(lambda unit: self.verified(unit), units)
        return {
            unit.key
            for unit, fine in zip(units, good)
            if fine or (isinstance(unit, Cell) and unit.key in scored and not self.folder(unit).exists())
        }

    # ---- publish ----

    @contextmanager
    def aside(self, key: str, resume: bool = False) -> Iterator[Path]:
        """A folder to write into, on the same file system; its key's lock must be held. Gone at the end, whatever
        happens; with `resume` an interruption leaves it, and the next call finds it as it was."""
        path = self.root / ".tmp" / key
        with on_disk(self.root):
            if not resume:
                remove(path)
            path.mkdir(parents=True, exist_ok=True)
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
            manifest = {"key": unit.key, "files": digests_of(aside), **about}
            (aside / MANIFEST[type(unit)]).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            replace(aside, self.folder(unit))
            self.failure_file(unit.key).unlink(missing_ok=True)

    def publish_concept(self, name: str, key: str, draw: Callable[[Path], None]) -> None:
        """The pictures of a concept as fits and scorers see them; `draw` writes them into a folder."""
        target = self.concept(name)
        with self.locks.locked(f"concept {name}"):
            if verified(target, "concept.json", key) is None:
                with self.aside(digest(["concept", name])) as aside, on_disk(self.root):
                    draw(aside)
                    manifest = {"key": key, "files": digests_of(aside)}
                    (aside / "concept.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
                    replace(aside, target)

    def write_text(self, target: Path, text: str) -> None:
        """One file, published."""
        name = digest(target.relative_to(self.root).as_posix())
        with on_disk(self.root), self.locks.locked(name):
            aside = self.root / ".tmp" / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_text(text, encoding="utf-8", newline="")
                replace(aside, target)
            finally:
                remove(aside)

    def write_rows(self, target: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of one (scorer, method, point, concept), with the digest that makes a corrupted file count as absent."""
        columns = PAIR_ROW if rows and "image_sim_a" in rows[0] else ROW
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        body = text.getvalue()
        self.write_text(target, f"{body}# sha256 {hashlib.sha256(body.encode()).hexdigest()}\n")

    def write_failure(self, key: str, name: str, traceback: str) -> None:
        record = {"name": name, "key": key, "traceback": traceback}
        self.write_text(self.failure_file(key), json.dumps(record, indent=1) + "\n")

    def drop_images(self, method: str, point: str, concept: str, prompt_id: str) -> None:
        """Remove the images of a scored cell."""
        with on_disk(self.root):
            remove(self.images(method, point, concept, prompt_id))

    def drop_rows(self, scorer: str, method: str, point: str, concept: str) -> None:
        """Forget rows, to score again."""
        with on_disk(self.root):
            remove(self.rows_file(scorer, method, point, concept))

    def planned_keys(self) -> set[str]:
        """Keys of the cells of all commands given in this folder."""
        return {row["key"] for row in read_planned(self.root)} if (self.root / "plan.csv").is_file() else set()

    def sweep(self, keep: Collection[str] = ()) -> None:
        """Remove what killed runs left half written, except what will be resumed. What another process is writing has
        its lock taken and stays."""
        folder = self.root / ".tmp"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            key = path.name.removesuffix(".old")
            if key not in keep and self.locks.try_lock(key):
                remove(path)
                self.locks.unlock(key)
        if folder.is_dir() and not any(folder.iterdir()):
            with suppress(OSError):  # another process has just begun to write
                folder.rmdir()


# ---- files ----


def digests_of(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file under a folder, by its place there."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def verified(folder: Path, manifest: str, key: str) -> dict[str, Any] | None:
    """The manifest of a folder whose files are all there and unchanged; None for anything else."""
    found = read_json(folder / manifest)
    if found is None or found.get("key") != key or not isinstance(found.get("files"), dict):
        return None
    try:
        for name, file in found["files"].items():
            path = folder / name
            if path.stat().st_size != file["bytes"] or file_sha256(path) != file["sha256"]:
                return None
    except (OSError, TypeError, KeyError):
        return None
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none or it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_rows_file(path: Path) -> list[dict[str, str]] | None:
    """The rows of one file; None where it is absent or not as it was written."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    body, mark, end = text.rpartition("# sha256 ")
    if not mark or end.strip() != hashlib.sha256(body.encode()).hexdigest():
        return None
    return list(csv.DictReader(io.StringIO(body)))


# ---- reading a run ----


def find_run(given: str | Path | None = None, results: Path | None = None) -> Path:
    """A path, a name under results/, or the newest run."""
    results = results or RESULTS
    if given is None:
        runs = list_runs(results)
        if not runs:
            raise UserError(f"there is no run under {results}/; `perfbench run --preset quick` makes one")
        return runs[-1]
    for path in (Path(given), results / given):
        if (path / "run.json").is_file():
            return path
    names = [run.name for run in list_runs(results)]
    shown = f" (known: {', '.join(names)})" if names else "; `perfbench run --preset quick` makes one"
    raise UserError(f"{given} is not a run folder: there is no run.json in it{shown}")


def list_runs(results: Path | None = None) -> list[Path]:
    """The runs under results/, the newest last."""
    runs = [(read_json(path) or {}, path.parent) for path in (results or RESULTS).glob("*/run.json")]
    return [run for _, run in sorted(runs, key=lambda item: (str(item[0].get("started", "")), item[1].name))]


def read_run(run: Path) -> dict[str, Any]:
    """run.json."""
    found = read_json(run / "run.json")
    if found is None:
        raise UserError(f"{run / 'run.json'} is missing or damaged; give the same `perfbench run` command again")
    return found


def cell_folder(run: Path, method: str, point: str, concept: str, prompt_id: str) -> Path:
    return run / "images" / method / point / concept / prompt_id


def concept_folder(run: Path, concept: str) -> Path:
    return run / "concepts" / concept


def read_planned(run: Path) -> list[dict[str, str]]:
    """plan.csv as plain rows."""
    try:
        with (run / "plan.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"{run} has no plan.csv; give the same `perfbench run` command again") from None


def planned_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """plan.csv as text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, PLAN_ROW, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_plan(run: Path) -> "pd.DataFrame":
    """plan.csv: a row a planned cell of all commands given in this folder."""
    import pandas as pd

    rows = pd.DataFrame(read_planned(run), columns=list(PLAN_ROW))
    return rows.astype({"n": int})


def read_rows(run: Path, scorer: str | None = None) -> "pd.DataFrame":
    """All rows of one scorer (the reported one) that belong to planned cells, as planned; and the ceiling's."""
    import pandas as pd

    name = scorer or read_run(run)["scorers"][0]["name"]
    store, plan = Store(run), read_planned(run)
    order = {row["key"]: number for number, row in enumerate(plan)}
    groups = dict.fromkeys((row["method"], row["point"], row["concept"]) for row in plan)
    singles = dict.fromkeys(part for row in plan for part in row["concept"].split("+"))
    rows: list[dict[str, str]] = []
    for address in groups:
        found = read_rows_file(store.rows_file(name, *address)) or ()
        rows += sorted((row for row in found if row["key"] in order), key=lambda r: (order[r["key"]], int(r["index"])))
    for concept in singles:
        rows += read_rows_file(store.rows_file(name, REAL, "default", concept)) or ()
    pairs = any("image_sim_a" in row for row in rows)
    table = pd.DataFrame(rows, columns=list(PAIR_ROW if pairs else ROW))
    numbers = [column for column in map(str, table) if column.startswith(("image_sim", "text_sim"))]
    for column in numbers:
        table[column] = pd.to_numeric(table[column].replace("", None))
    return table.astype({"index": int, "seed": int, **dict.fromkeys(numbers, float)})


def read_fits(run: Path) -> "pd.DataFrame":
    """What each method's fits cost: method, concept, key, kilobytes (of 1,000 bytes), train_seconds."""
    import pandas as pd

    columns = ["method", "concept", "key", "kilobytes", "train_seconds"]
    found = {path.parent: read_json(path) for path in (run / "fits").glob("*/*/fit.json")}
    by_key = {about["key"]: about for about in found.values() if about and "key" in about}
    rows = []
    for method, concept, keys in dict.fromkeys((r["method"], r["concept"], r["fit"]) for r in read_planned(run)):
        for name, key in zip(concept.split("+"), keys.split("+")):
            if key in by_key:
                about = by_key[key]
                size = sum(f["bytes"] for n, f in about["files"].items() if not n.startswith("step-"))
                rows.append((method, name, key, size / 1000, float(about.get("seconds", 0))))
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=columns)


def read_weights(run: Path) -> dict[str, str]:
    """method -> digest of its trained files; two runs that agree sampled from the same weights."""
    found: dict[str, list[str]] = {}
    for path in sorted((run / "fits").glob("*/*/fit.json")):
        for name, file in sorted((read_json(path) or {}).get("files", {}).items()):
            if name.endswith(".safetensors") and not name.startswith("step-"):
                concept = path.parent.name.rpartition("-")[0]
                found.setdefault(path.parent.parent.name, []).append(f"{concept}/{name} {file['sha256']}")
    return {method: digest(files) for method, files in found.items()}
