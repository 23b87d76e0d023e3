"""CSV files of a run folder: rows of scores under a digest, and plan.csv. In: rows, or paths. Out:
text, rows, frames.

The last line of a rows file is the sha256 of what is above it, so that a corrupted file counts as
absent. A file that is not there is looked for with .gz behind its name, then in the archive of its
run folder (packed.py).
"""

import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.safe_paths import is_name, leads_out
from benchmarks.scoring.cell_row import COLUMNS
from benchmarks.scoring.measures import SCORED
from benchmarks.store.frame_text import frame_of_text
from benchmarks.store.packed import LIMIT, unpacked
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 2**20  # bytes that are unpacked at a time
ROW = (
    "key",
    "method",
    "point",
    "concept",
    "group",
    "prompt_id",
    "kind",
    "index",
    "seed",
    "image_sim",
    "text_sim_raw",
)
PLAN_ROW = COLUMNS
PAIR_ROW = (*ROW, "image_sim_a", "image_sim_b")
NUMBERS = {
    "index": "int64",
    "seed": "int64",
    **dict.fromkeys((*PAIR_ROW[-4:], *SCORED), "float64"),
}
# columns of plan.csv that are names of folders
PLACES = ("method", "point", "concept", "prompt_id")
MARK = b"# sha256 "
REMARK = "remark"  # the last column of a rows file where there is any; before it, measures


# ---- rows of scores ----


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one (scorer, method, point, concept), with the digest."""
    columns = PAIR_ROW if rows and "image_sim_a" in rows[0] else ROW
    measures = [name for name in SCORED if any(row.get(name) not in (None, "") for row in rows)]
    remark = [REMARK] if any(REMARK in row for row in rows) else []
    body = _csv((*columns, *measures, *remark), rows)
    return with_digest(body.encode()).decode()


def with_digest(body: bytes) -> bytes:
    """A rows file from what stands above its digest."""
    return b"%s%s%s\n" % (body, MARK, hashlib.sha256(body).hexdigest().encode())


def whole(path: Path) -> bytes | None:
    """What is above the digest; None where the file is absent, not as it was written, or no table
    of rows. A file by itself counts before one of the same name in the archive, which is older."""
    for read in (_as_it_is, _unzipped, unpacked):
        with suppress(OSError, EOFError, zlib.error):
            body, mark, end = read(path).rpartition(MARK)
            if (
                mark
                and end.strip() == hashlib.sha256(body).hexdigest().encode()
                and _is_table(body)
            ):
                return body
    return None


def _is_table(body: bytes) -> bool:
    """Whether it is text with the columns of rows: anybody can write a digest under anything."""
    try:
        first = body.decode().partition("\n")[0]
    except UnicodeDecodeError:
        return False
    columns = first.split(",")
    remark = columns[-1:] == [REMARK]
    own = [name for name in columns if name not in SCORED][: -1 if remark else None]
    more = columns[len(own) : -1 if remark else None]
    whole = columns[: len(own)] == own and len(set(more)) == len(more) and {*more} <= {*SCORED}
    return whole and own in (list(ROW), list(PAIR_ROW)) and b"\0" not in body


def zipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _as_it_is(path: Path) -> bytes:
    if leads_out(path):
        raise FileNotFoundError(f"{path} is a link that leads out of its folder")
    return path.read_bytes()


def _unzipped(path: Path) -> bytes:
    """Never more than LIMIT in memory: a small file may unpack to anything."""
    blocks, size = list[bytes](), 0
    with gzip.GzipFile(fileobj=io.BytesIO(_as_it_is(zipped(path)))) as stream:
        while block := stream.read(BLOCK):
            blocks.append(block)
            size += len(block)
            if size > LIMIT:
                raise too_much(zipped(path))
    return b"".join(blocks)


def too_much(path: Path) -> UserError:
    return UserError(
        f"{path} unpacks to more than {LIMIT // 2**20:,} MiB, which no run has; remove it, or take "
        f"it from whoever made the run again"
    )


def plain(path: Path) -> bytes:
    """The file as it was before it was packed, if it was."""
    if path.exists():
        return _as_it_is(path)
    return _unzipped(path) if zipped(path).exists() else unpacked(path)


def is_there(path: Path) -> bool:
    """Whether there is such a file, packed or not."""
    try:
        return path.is_file() or zipped(path).is_file() or bool(unpacked(path))
    except FileNotFoundError:
        return False


def read_rows_file(path: Path) -> list[dict[str, str]] | None:
    """The rows of one file, as text; None where it is absent or not as it was written."""
    body = whole(path)
    return None if body is None else list(csv.DictReader(io.StringIO(body.decode())))


def count_keys(paths: Iterable[Path]) -> Counter[str]:
    """Rows by key, which is the first column; files that are absent or not as they were written
    have none.
    """
    bodies = filter(None, map(whole, paths))
    return Counter(
        line.partition(b",")[0].decode() for body in bodies for line in body.splitlines()[1:]
    )


def read_frame(paths: Iterable[Path]) -> "pd.DataFrame":
    """The rows of many files, parsed at once for all that have the same columns; files of nonsense
    have none.
    """
    import pandas as pd

    bodies: dict[bytes, list[bytes]] = {}
    size = 0
    for path in paths:
        if not (body := whole(path)):
            continue
        size += len(body)
        if size > LIMIT:
            raise too_much(path.parent)
        header, _, rows = body.partition(b"\n")
        bodies.setdefault(header, []).append(rows)
    frames = [
        frame
        for header, rows in sorted(bodies.items())
        if any(rows)
        for frame in _frames(header, rows)
    ]
    if len(frames) == 1:
        return frames[0]
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else frame_of_text(",".join(ROW).encode() + b"\n", NUMBERS)
    )


def _frames(header: bytes, rows: Sequence[bytes]) -> "list[pd.DataFrame]":
    """All of them as one frame; one by one where something in them is no number."""
    try:
        return [frame_of_text(b"\n".join([header, b"".join(rows)]), NUMBERS)]
    except ValueError:
        return [frame for row in rows for frame in _frames(header, [row])] if len(rows) > 1 else []


# ---- the plan ----


def planned_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """plan.csv as text."""
    return _csv(PLAN_ROW, rows)


def read_plan_file(path: Path) -> list[dict[str, str]] | None:
    """plan.csv as plain rows; None where it is absent, cut off, or names what is no place in a run
    folder.
    """
    try:
        table = csv.DictReader(io.StringIO(plain(path).decode(), newline=""))
        rows = list(table)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error):
        return None
    return (
        rows
        if set(table.fieldnames or ()) == set(PLAN_ROW) and all(map(_is_planned, rows))
        else None
    )


def _is_planned(row: Mapping[str, str]) -> bool:
    """Whether a row of plan.csv is whole, and its names and keys are those of folders."""
    if set(row) != set(PLAN_ROW) or None in row.values():
        return False
    names = (*(row[column] for column in PLACES), row["key"], *row["fit"].split("+"))
    return row["n"].isdecimal() and len(row["n"]) < 7 and all(map(is_name, filter(None, names)))


def read_plan_frame(path: Path) -> "pd.DataFrame | None":
    """The same as a frame, `n` a whole number."""
    import pandas as pd

    try:
        text = plain(path)
        frame = frame_of_text(text, {})
    except UserError:  # a packed one that would fill the memory
        raise
    except (OSError, EOFError, zlib.error, ValueError):
        return None
    if not len(frame) and list(frame) == list(PLAN_ROW):
        return pd.DataFrame(columns=list(PLAN_ROW), dtype="str").astype({"n": int})
    return frame[list(PLAN_ROW)].astype({"n": int}) if _all_planned(frame) else None


def _all_planned(frame: "pd.DataFrame") -> bool:
    """What `_is_planned` says of every row, asked once a value."""
    if sorted(map(str, frame)) != sorted(PLAN_ROW):
        return False
    keys = frame["key"][~frame["key"].str.fullmatch("[0-9a-f]{64}")]
    names = {*keys, *(part for fit in frame["fit"].unique() for part in fit.split("+"))}
    names |= {name for column in PLACES for name in frame[column].unique()}
    numbers = frame["n"].unique()
    return all(n.isdecimal() and len(n) < 7 for n in numbers) and all(
        map(is_name, filter(None, names))
    )


def keys_of(rows: Iterable[Mapping[str, str]]) -> set[str]:
    """Of the cells of plan.csv, and of their fits."""
    return {key for row in rows for key in (row["key"], *row["fit"].split("+"))}


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
