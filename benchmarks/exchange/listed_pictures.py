"""Pictures made elsewhere, as they lie or as a list names them.

In: a folder CONCEPT/PROMPT_ID/INDEX.png, a CSV or JSONL, or LAYOUT:DIR of a published layout. Out:
a `Listed` a picture, and what is not one. Names are only read here: nothing is opened.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.options import SEEDS
from benchmarks.planning.points import OperatingPoint
from benchmarks.safe_paths import UnsafePath, leads_out, shown
from benchmarks.suite.catalog import read_text
from benchmarks.suite.concept_folder import IMAGE_SUFFIXES, slug
from benchmarks.suite.graded_suites import set_name
from benchmarks.suite.importer_parts import place_in
from perfusion_core.errors import UserError, unknown

NEEDED = ("path", "concept", "prompt")
SHAPE = "CONCEPT/PROMPT_ID/INDEX.png"
UNKNOWN_SEED = -1  # of a picture whose list does not tell it


@dataclass(frozen=True)
class Listed:
    """One picture, and what it is said to show."""

    path: Path
    name: str  # relative to the folder or list, for people and for cell.json
    concept: str
    prompt: str  # an id, or a text
    index: int | None = None  # None: in the order of the list
    seed: int = UNKNOWN_SEED
    point: str = "default"
    method: str = ""  # empty: the one of --as


@dataclass
class Listing:
    """All that was found; `odd`: kind of mistake -> examples."""

    pictures: list[Listed] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)  # other files beside the pictures

    def is_odd(self, kind: str, name: str) -> None:
        self.odd.setdefault(kind, []).append(name)


def list_pictures(given: str) -> Listing:
    """What PICTURES of the command names."""
    layout, colon, where = given.partition(":")
    if colon and layout in LAYOUTS:
        folder = Path(where).expanduser()
        if not where or not folder.is_dir():
            raise UserError(f"{given}: {where or 'nothing'} is not a folder; write {layout}:DIR")
        found = LAYOUTS[layout](folder)
    else:
        path = Path(given).expanduser()
        if path.is_dir():
            found = folders(path)
        elif path.suffix.lower() in LISTS and path.is_file():
            found = LISTS[path.suffix.lower()](path)
        elif colon and len(layout) > 1 and not path.exists():
            raise unknown("layout of pictures", layout, LAYOUTS)
        elif not path.exists():
            raise UserError(f"there is no {path}; give a folder {SHAPE}, a .csv or a .jsonl")
        else:
            raise UserError(f"{path} is neither a folder {SHAPE} nor a .csv or .jsonl")
    if not found.pictures and not found.odd:
        raise UserError(
            f"{given} has no pictures; wanted is a folder {SHAPE}, a .csv or .jsonl with "
            f"{', '.join(NEEDED)}, or one of {', '.join(f'{name}:DIR' for name in LAYOUTS)}"
        )
    return found


# ---- folders ----


def folders(root: Path) -> Listing:
    """`CONCEPT/PROMPT_ID/INDEX.png`, or another suffix of pictures."""
    found = Listing()
    for parts, path in _files(root, found):
        name = "/".join(parts)
        if len(parts) != 3:
            found.is_odd(f"not at {SHAPE}", name)
        elif (index := _whole(path.stem)) is None:
            found.is_odd("whose name is no number, as INDEX.png has it", name)
        else:
            found.pictures.append(Listed(path, name, parts[0], parts[1], index))
    return found


def dreambench_plus(root: Path) -> Listing:
    """`tgt_image/<subject>/<prompt>_<index>.jpg`, as its published code leaves its samples."""
    home = root / "tgt_image" if (root / "tgt_image").is_dir() else root
    found = Listing()
    for parts, path in _files(home, found):
        name = "/".join(parts)
        numbers = re.fullmatch(r"(\d{1,4})_(\d{1,6})", path.stem)
        if len(parts) != 2 or not numbers:
            found.is_odd("not at tgt_image/SUBJECT/PROMPT_INDEX.jpg", name)
            continue
        concept = slug(parts[0].removeprefix("live_subject_"))
        prompt = f"{concept}-{int(numbers[1]) + 1}"
        found.pictures.append(Listed(path, name, concept, prompt, int(numbers[2])))
    return found


def multibanana(root: Path) -> Listing:
    """`<task>/<set>_generated.jpg` beside the set's references, as its judge looks for them."""
    found = Listing()
    home = root / "data" if (root / "data").is_dir() else root
    for parts, path in _files(home, found):
        if path.stem.endswith("_generated") and len(parts) == 2:
            concept = set_name(parts[0], path.stem.removesuffix("_generated"))
            found.pictures.append(Listed(path, "/".join(parts), concept, f"{concept}-1", 0))
    return found


LAYOUTS: dict[str, Callable[[Path], Listing]] = {
    "dreambench++": dreambench_plus,
    "multibanana": multibanana,
}


def _files(root: Path, found: Listing) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Pictures below a folder by name, with the parts of their place; other files are noted."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        here = Path(folder)
        above = here.relative_to(root).parts
        for name in [name for name in inner if leads_out(here / name)]:
            found.is_odd("behind a link that leads out of its folder", "/".join((*above, name)))
        for name in sorted(names, key=lambda name: (len(name), name)):
            path = here / name
            if name.startswith("."):
                continue
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                found.passed_over.append("/".join((*above, name)))
            elif leads_out(path):
                found.is_odd("behind a link that leads out of its folder", "/".join((*above, name)))
            else:
                yield (*above, name), path


# ---- lists ----


def csv_list(path: Path) -> Listing:
    """A CSV with the columns path, concept, prompt; index, seed, point, method where known."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="", strict=True)
    try:
        columns = [str(name).strip() for name in reader.fieldnames or ()]
        _refuse_columns(path, columns)
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.line_num}: {error}; is a quotation mark left open?"
        ) from None
    return _listing(path, rows)


def json_list(path: Path) -> Listing:
    """JSON lines: an object a line with the same names."""
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(
                f"{path}:{number} is no JSON object: is the line torn? A line is for example "
                f'{{"path": "a.png", "concept": "cat", "prompt": "s01"}}'
            ) from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number} is no JSON object, but {shown(row)}")
        _refuse_columns(path, list(row), f":{number}")
        rows.append((number, row))
    return _listing(path, rows)


LISTS: dict[str, Callable[[Path], Listing]] = {".csv": csv_list, ".jsonl": json_list}


def _refuse_columns(path: Path, columns: Sequence[str], where: str = "") -> None:
    if missing := [name for name in NEEDED if name not in columns]:
        raise UserError(
            f"{path}{where} has no {' and no '.join(missing)} (it has "
            f"{', '.join(map(str, columns))[:80] or 'nothing'}); wanted are {', '.join(NEEDED)}, "
            f"and index, seed, point, method where they are known"
        )


def _listing(path: Path, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Listing:
    found, folder = Listing(), path.parent
    for number, row in rows:
        where = f"{path.name}:{number}"
        words = {name: _word(row.get(name)) for name in ("concept", "prompt", "point", "method")}
        if not words["concept"] or not words["prompt"]:
            found.is_odd("of rows without concept or prompt", where)
            continue
        try:
            file = place_in(folder, row.get("path"))
        except UnsafePath:
            found.is_odd("whose path leads out of the list's folder", f"{where} {row.get('path')}")
            continue
        index, seed = (_number(row.get(name)) for name in ("index", "seed"))
        if "bad" in (index, seed):
            found.is_odd("whose index or seed is no whole number of at least 0", where)
            continue
        found.pictures.append(
            Listed(
                file,
                file.relative_to(folder).as_posix(),
                words["concept"],
                words["prompt"],
                index if isinstance(index, int) else None,
                seed if isinstance(seed, int) else UNKNOWN_SEED,
                str(OperatingPoint.parse(words["point"] or "default")),
                words["method"],
            )
        )
    return found


def _word(value: object) -> str:
    return " ".join(str(value).split()) if isinstance(value, (str, int)) else ""


def _number(value: object) -> int | str | None:
    """A whole number; None where nothing stands; `bad` for anything else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return "bad"
    text = str(value).strip()
    return int(text) if re.fullmatch(r"\d{1,19}", text) and int(text) <= SEEDS else "bad"


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None
