"""One submission as one file: a tar of xz streams with a manifest, written and read within limits.

In: files by name, or an archive of anybody. Out: the archive's bytes; or the files, each named in
the manifest and as the manifest says. Anything else is one sentence.
"""

import hashlib
import io
import json
import lzma
import math
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import one_line, safe_name, safe_parts, shown
from benchmarks.store.packed import MAGIC, NONSENSE, archive_bytes
from perfusion_core.errors import UserError

FORMAT, VERSION = "perfbench-submission", 1
SUFFIX = ".perfbench.tar.xz"
MANIFEST, RUN, TRAINED, PICTURES = "manifest.json", "run.json", "trained.json", "pictures.csv"
PLAN, PAIR_TABLE = "plan.csv", "pair-table.csv"
TABLES = ("cells.csv", "metrics.csv", "table.csv", PAIR_TABLE)
NEEDED = (MANIFEST, RUN, TRAINED, PLAN, *TABLES[:3])
ROWS, THUMBNAILS = "rows", "thumbnails"  # ROWS/SCORER/METHOD/POINT/CONCEPT.csv
PACKED = 64_000_000  # bytes of an archive
UNPACKED = 2**28  # bytes of all that is in it
MEMORY = 2**28  # bytes that a stream's header may ask a reader to keep
FILES = STREAMS = 50_000  # ours has at most one stream a file
PIECE, LARGEST_PIECE = 2**12, 2**20  # bytes given to a decoder at once
OTHERS = {  # other archives by their first bytes
    b"PK": "a zip file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"(\xb5/\xfd": "a zstd file",
}


class Refused(UserError):
    """A submission that is not what it should be; the sentence says why, in one line."""

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


@dataclass(frozen=True)
class Submission:
    """What an archive holds, each file as its manifest says."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    sha256: str  # of the archive

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    def json(self, name: str) -> dict[str, Any]:
        return json_object(self.files[name], name)


# ---- writing ----


def submission_bytes(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """The archive of these files; the same files give the same bytes."""
    listed = {name: file_entry(data) for name, data in sorted(files.items())}
    manifest = {"format": FORMAT, "version": VERSION, **about, "files": listed}
    text = json.dumps(manifest, indent=1) + "\n"
    data = archive_bytes({**files, MANIFEST: text.encode()})
    if len(data) > PACKED or sum(map(len, files.values())) > UNPACKED:
        raise UserError(
            f"the submission would have {len(data):,} bytes, and at most {PACKED:,} "
            f"({UNPACKED:,} unpacked) are taken: make it with fewer --thumbnails"
        )
    return data


def file_entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


# ---- reading ----


def read_submission(path: Path) -> Submission:
    """All files of an archive in memory; nothing is written."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; `perfbench submission make {path}` packs a run")
    if not path.is_file():
        raise UserError(f"there is no {path}; give an archive that ends in {SUFFIX}")
    if path.stat().st_size > PACKED:
        raise Refused(f"it has {path.stat().st_size:,} bytes, and at most {PACKED:,} are taken")
    return parse_submission(path.read_bytes())


def parse_submission(data: bytes) -> Submission:
    files = members(unpacked_text(data))
    if MANIFEST not in files:
        raise Refused(f"it has no {MANIFEST}: `perfbench submission make RUN` writes one")
    manifest = json_object(files.pop(MANIFEST), MANIFEST)
    if manifest.get("format") != FORMAT:
        raise Refused(f"its format is {shown(manifest.get('format'))}, and {FORMAT!r} is read")
    if manifest.get("version") != VERSION:
        raise Refused(
            f"it is of version {shown(manifest.get('version'))}, and version {VERSION} is read: "
            f"make it with this version of perfbench"
        )
    for key, most in (("name", 100), ("by", 200), ("perfbench", 40)):
        text = manifest.get(key)
        if not isinstance(text, str) or not text.isprintable() or len(text) > most:
            raise Refused(f"{MANIFEST} has no {key} of at most {most} printed characters")
    safe_name(manifest["name"], f"the name in {MANIFEST}")
    refuse_unlisted(files, manifest.get("files"))
    for name in NEEDED[1:]:
        if name not in files:
            raise Refused(f"it has no {name}, which every submission has")
    return Submission(files, manifest, hashlib.sha256(data).hexdigest())


def unpacked_text(data: bytes) -> bytes:
    """All streams of an archive; never more than UNPACKED bytes, whatever their headers say."""
    if not data.startswith(MAGIC):
        kind = next((word for sign, word in OTHERS.items() if data.startswith(sign)), "")
        raise Refused(
            f"it is {kind or 'no archive that is known'}, and was not unpacked: a {SUFFIX} by "
            f"`perfbench submission make` is wanted"
        )
    parts, room, at, view = [], UNPACKED, 0, memoryview(data)
    while at < len(view):
        text, at = one_stream(view, at, room)
        if not text:
            raise Refused("it has an empty stream, and each has files in it")
        room -= len(text)
        parts.append(text)
        if len(parts) > STREAMS:
            raise Refused(f"it has more than {STREAMS:,} streams")
    return b"".join(parts)


def one_stream(data: memoryview, at: int, room: int) -> tuple[bytes, int]:
    """The text of the stream that begins there, and where the next one does. It is given in
    pieces: what follows a stream is copied, and the whole rest after each would take hours."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    texts, step = [], PIECE
    while not decoder.eof:
        if at == len(data):
            raise Refused("it is cut off: its last stream has no end")
        piece = data[at : at + step]
        try:
            text = decoder.decompress(piece, room + 1)
        except lzma.LZMAError as error:
            raise Refused(f"it is damaged and was not unpacked: {error}") from None
        room -= len(text)
        if room < 0:
            raise Refused(f"it unpacks to more than {UNPACKED:,} bytes, and was not unpacked")
        texts.append(text)
        at, step = at + len(piece), min(2 * step, LARGEST_PIECE)
    return b"".join(texts), at - len(decoder.unused_data)


def members(text: bytes) -> dict[str, bytes]:
    """The files of a tar, of which anybody may have written the headers."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(text), mode="r:") as tar:
            for one in tar:
                refuse_member(one, len(text))
                if one.name in found:
                    raise Refused(f"it has {shown(one.name)} twice")
                found[one.name] = text[one.offset_data : one.offset_data + one.size]
                if len(found) > FILES:
                    raise Refused(f"it has more than {FILES:,} files")
    except (tarfile.TarError, EOFError, *NONSENSE) as error:
        if isinstance(error, UserError):
            raise
        raise Refused(f"it is no tar that can be read: {str(error)[:80]}") from None
    return found


def refuse_member(one: tarfile.TarInfo, size: int) -> None:
    """A plain file, inside of the archive, under a name that submissions have."""
    parts = safe_parts(one.name, "its file")  # absolute, .., what Windows takes in no name
    if one.issym() or one.islnk():
        raise Refused(f"{shown(one.name)} is a link, and only plain files are taken")
    if not one.isreg() or one.issparse():
        raise Refused(f"{shown(one.name)} is no plain file")
    if not one.offset_data <= one.offset_data + one.size <= size:
        raise Refused(f"{shown(one.name)} is longer than the archive")
    known = (*NEEDED, *TABLES, PICTURES)
    end = {ROWS: ".csv", THUMBNAILS: ".jpg"}.get(parts[0])
    placed = end is not None and len(parts) == 5 and parts[-1].endswith(end)
    if not placed and one.name not in known:
        raise Refused(f"it holds {shown(one.name)}, which no submission has")


def refuse_unlisted(files: Mapping[str, bytes], listed: object) -> None:
    """The manifest and the archive name the same files, with these digests."""
    if not isinstance(listed, dict):
        raise Refused(f"{MANIFEST} lists no files")
    for name, entry in listed.items():
        if name not in files:
            raise Refused(f"{MANIFEST} lists {shown(name)}, which is not there")
        if entry != file_entry(files[name]):
            raise Refused(f"{name} is not the file that {MANIFEST} lists: it was changed since")
    for name in files:
        if name not in listed:
            raise Refused(f"it holds {shown(name)}, which {MANIFEST} does not list")


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """An object whose numbers are all finite."""

    def no_number(word: str) -> float:
        raise ValueError(f"{word} is no number")

    def whole(word: str) -> int:
        number_of(word)
        return int(word)

    try:
        value = json.loads(data, parse_constant=no_number, parse_float=number_of, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is no JSON that can be read: {str(error)[:80]}") from None
    if not isinstance(value, dict):
        raise Refused(f"{name} is no JSON object")
    return value


def number_of(text: str) -> float:
    """A finite number; ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
