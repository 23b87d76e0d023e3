"""A table of scores that people or services gave to pictures of a run: `score --from FILE`.

In: a CSV of anybody, the pictures of a run with their digests. Out: two scores a picture, as shares
of the file's scale; one sentence where rows are wrong, or belong to other pictures.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.disk import read_manifest
from benchmarks.safe_paths import below, is_name, lies_below, safe_parts
from benchmarks.scoring.cell_row import CellRow
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

IMAGE, TEXT = "image_score", "text_score"
PLACE = ("method", "point", "concept", "prompt", "index")
COLUMNS = ("path", "sha256", *PLACE, IMAGE, TEXT)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
SHOWN = 3  # lines that a sentence names


@dataclass(frozen=True)
class Picture:
    """One planned picture that is here."""

    cell: CellRow
    index: int
    sha256: str
    given_index: int  # of an imported picture, as its list or folder has it; else the same
    given_sha256: str  # of the file that was imported; else the same


@dataclass(frozen=True)
class Rating:
    """Shares of the scale; None where nobody said anything."""

    image: float | None
    text: float | None


@dataclass
class Pictures:
    """The pictures of a run by all that a row can call them."""

    root: Path
    every: list[Picture] = field(default_factory=list)
    at: dict[str, list[Picture]] = field(default_factory=dict)  # by place in the run folder
    of: dict[str, list[Picture]] = field(default_factory=dict)  # by digest
    named: dict[tuple[str, ...], list[Picture]] = field(default_factory=dict)  # without the point

    def add(self, picture: Picture, place: str) -> None:
        cell = picture.cell
        self.every.append(picture)
        self.at.setdefault(place, []).append(picture)
        for sha256 in {picture.sha256, picture.given_sha256}:
            self.of.setdefault(sha256, []).append(picture)
        for index in {picture.index, picture.given_index}:
            name = (cell.method, cell.concept, cell.prompt_id, str(index))
            self.named.setdefault(name, []).append(picture)


class _Problem(Exception):
    """Of one row: the kind of what is wrong with it, in words for many rows."""


def pictures_of(store: Store, cells: Iterable[CellRow]) -> Pictures:
    """Of cells whose images were just found to be whole."""
    found = Pictures(store.root)
    for cell in cells:
        folder = store.images(*cell.address, cell.prompt_id)
        about = read_manifest(folder / "cell.json") or {}
        files = about.get("files", {})
        for index in range(len(cell.seeds)):
            name = f"{index}.png"
            if name not in files:
                raise UserError(f"{folder} is damaged: its manifest does not tell of {name}")
            place = (folder / name).relative_to(store.root).as_posix()
            sha256 = files[name]["sha256"]
            found.add(Picture(cell, index, sha256, *given_of(about, index, sha256)), place)
    return found


def given_of(about: Mapping[str, Any], index: int, sha256: str) -> tuple[int, str]:
    """Index and digest that an imported picture had before; of any other its own."""
    told = about.get("from")
    one = told[index] if isinstance(told, list) and index < len(told) else None
    if not isinstance(one, dict):
        return index, sha256
    number, digest = one.get("index"), one.get("sha256")
    return (
        number if type(number) is int else index,
        digest if isinstance(digest, str) else sha256,
    )


def scale_of(text: str) -> tuple[float, float]:
    """`1:5`"""
    parts = text.split(":")
    if len(parts) == 2 and all(NUMBER.fullmatch(part) for part in parts):
        least, most = map(float, parts)
        if least < most:
            return least, most
    raise UserError(f"--scale {text!r:.60} is not LOW:HIGH; write for example --scale 1:5")


def read_ratings(
    file: Path, pictures: Pictures, scale: tuple[float, float]
) -> dict[Picture, Rating]:
    """All rows, or a sentence with each kind of mistake, how many rows have it and which."""
    columns, rows = _rows(file)
    _refuse_columns(file, columns)
    found: dict[Picture, Rating] = {}
    wrong: dict[str, list[int]] = {}
    for line, row in rows:
        try:
            picture = _picture(row, file, pictures)
            if picture in found:
                raise _Problem("rate a picture a second time: give one row a picture, such as "
                               "the mean of its raters")  # fmt: skip
            found[picture] = _rating(row, scale)
        except _Problem as problem:
            wrong.setdefault(str(problem), []).append(line)
    if wrong:
        kinds = "; ".join(f"{_lines(lines)} {why}" for why, lines in wrong.items())
        raise UserError(f"{file}: {kinds}; nothing was taken")
    if not found:
        raise UserError(f"{file} has no rows; a row a picture is wanted")
    return found


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:SHOWN])) + (", ..." if len(lines) > SHOWN else "")
    many = len(lines) > 1
    return f"{len(lines)} row{'s' * many} (line{'s' * many} {shown})"


def _rows(file: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = [str(name).strip() for name in table.fieldnames or ()]
        rows = list(_numbered(table))
    except FileNotFoundError:
        raise UserError(f"--from: there is no {file}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--from {file} cannot be read as a CSV file: {error}") from None
    return columns, iter(rows)


def _numbered(table: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the number of their last line; of another number of fields than the head it is an
    error."""
    for row in table:
        if None in row or None in row.values():
            raise ValueError(f"line {table.line_num} has another number of fields than the first")
        yield table.line_num, {str(key).strip(): str(value).strip() for key, value in row.items()}


def _refuse_columns(file: Path, columns: Sequence[str]) -> None:
    known = f"known are {', '.join(COLUMNS)}"
    if len(set(columns)) < len(columns):
        raise UserError(f"{file} has a column twice; {known}")
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise UserError(f"{file} has a column {unknown[0]!r:.60}; {known}: leave others out")
    if IMAGE not in columns and TEXT not in columns:
        raise UserError(f"{file} has no scores: a column {IMAGE}, {TEXT} or both is wanted")
    if not {"path", "sha256"} & set(columns) and not set(PLACE) - {"point"} <= set(columns):
        raise UserError(
            f"{file} does not say which pictures were rated: a column path, or sha256, or method, "
            f"concept, prompt and index (and point) are wanted"
        )


# ---- which picture ----


def _picture(row: Mapping[str, str], file: Path, pictures: Pictures) -> Picture:
    """The one picture that all of a row's words mean."""
    words = tuple(row.get(name, "") for name in PLACE if name != "point")
    meant = [_by_path(row["path"], file, pictures)] if row.get("path") else []
    meant += [pictures.of.get(row["sha256"].lower(), [])] if row.get("sha256") else []
    meant += [pictures.named.get(words, [])] if all(words) else []
    if not meant:
        raise _Problem("do not say which picture they rate")
    found = [one for one in meant[0] if all(one in others for others in meant[1:])]
    found = [one for one in found if _fits(one, row)]
    if not found:
        raise _Problem("rate pictures that are not, or not any more, those of this run")
    renumbered = any(one.index != one.given_index for one in found)
    if len(found) > 1 and row.get("index") and renumbered and len({o.cell for o in found}) == 1:
        raise _Problem(
            "have an index that is one picture's in the run and another's in what was imported: "
            "add a column path or sha256"
        )
    if len(found) > 1:
        raise _Problem("can mean several pictures: give method, point, concept, prompt and index")
    return found[0]


def _fits(picture: Picture, row: Mapping[str, str]) -> bool:
    """Whatever a row says of the place is true."""
    cell = picture.cell
    true = (cell.method, cell.point, cell.concept, cell.prompt_id)
    indices = ("", str(picture.index), str(picture.given_index))
    return row.get("index", "") in indices and all(
        row.get(name) in (None, "", value) for name, value in zip(PLACE, true)
    )


def _by_path(given: str, file: Path, pictures: Pictures) -> list[Picture]:
    """A place in the run where the table lies in it; a file beside the table is the picture that
    has its bytes; else a place in the run."""
    try:
        parts = safe_parts(given)
        path = below(file.absolute().parent, *parts)
    except UserError:
        raise _Problem(
            "have a path that leads elsewhere: write it relative to the table or to the run, "
            "without .."
        ) from None
    if found := pictures.at.get(place_in_run(path, pictures.root)):
        return found
    try:
        if path.is_file():
            return pictures.of.get(file_sha256(path), [])
    except OSError:
        raise _Problem("have a path that cannot be read") from None
    if found := pictures.at.get("/".join(parts)):
        return found
    raise _Problem(f"have a path that is neither beside {file.name} nor in {pictures.root}")


def place_in_run(path: Path, root: Path) -> str:
    """Relative to the run's folder; empty for what is elsewhere."""
    whole, home = os.path.realpath(path), os.path.realpath(root)
    return Path(whole).relative_to(home).as_posix() if lies_below(root, path) else ""


# ---- which score ----


def _rating(row: Mapping[str, str], scale: tuple[float, float]) -> Rating:
    image, text = (_share(row.get(name, ""), scale) for name in (IMAGE, TEXT))
    if image is None and text is None:
        raise _Problem("have no score")
    return Rating(image, text)


def _share(text: str, scale: tuple[float, float]) -> float | None:
    if not text:
        return None
    if not NUMBER.fullmatch(text):
        raise _Problem("have a score that is not a finite number")
    least, most = scale
    if not least <= float(text) <= most:
        raise _Problem(f"have a score outside of {least:g} to {most:g}: --scale LOW:HIGH says more")
    return (float(text) - least) / (most - least)


# ---- what was taken before ----


def taken(store: Store, scorer: str) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """Cell -> its rated pictures and their digests then; nothing where the copy is gone."""
    found: dict[tuple[str, str, str, str], dict[str, str]] = {}
    try:
        text = store.ratings_file(scorer).read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error):
        return {}
    for row in rows:
        cell = (row.get("method"), row.get("point"), row.get("concept"), row.get("prompt"))
        if all(map(is_name, cell)) and row.get("index") and row.get("sha256"):
            place = found.setdefault(cell, {})  # type: ignore[arg-type]
            place[f"{row['index']}.png"] = row["sha256"]
    return found


def same_pictures(store: Store, scorer: str) -> bool:
    """Whether the pictures that were rated are those that are here; dropped ones are believed."""
    for cell, digests in taken(store, scorer).items():
        folder = store.images(*cell)
        if not folder.is_dir():
            continue
        files = (read_manifest(folder / "cell.json") or {}).get("files", {})
        if any(files.get(name, {}).get("sha256") != sha256 for name, sha256 in digests.items()):
            return False
    return True
