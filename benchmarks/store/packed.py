"""The archive of a run that is committed: one file for all that nobody reads by eye. In: a path.
Out: its bytes.

`packed.tar.xz` in a run folder is a tar that `tar xf` opens. It is several xz streams, one behind
the other: one a table, and one a concept for the rows, which share their keys and seeds. Each
stream ends in a SHA-256 of its own, so that what lies in a damaged one counts as absent, and the
rest stays.
"""

import io
import lzma
import os
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock

from benchmarks.safe_paths import leads_out

PACKED = "packed.tar.xz"
MAGIC = b"\xfd7zXZ\x00"  # every stream begins with it
LIMIT = 2**30  # bytes of all streams together: a small file must not fill the memory
# what tarfile raises, besides its own errors, for headers that nobody's tar writes
NONSENSE = (ValueError, LookupError, ArithmeticError, RecursionError)
DEPTH = 5  # folders from rows/<scorer>/<method>/<point>/<concept>.csv up to the run


def archive_bytes(files: Mapping[str, bytes]) -> bytes:
    """Files by their names in the run folder as one archive, which does not depend on when or by
    whom.
    """
    streams: dict[tuple[bool, str], bytes] = {}
    for name in sorted(files):
        rows = name.startswith("rows/")
        stream = rows, name.rpartition("/")[2] if rows else name
        streams[stream] = streams.get(stream, b"") + _member(name, files[name])
    # tables first: they are asked for most
    *most, last = (text for _, text in sorted(streams.items()))
    texts = [*most, last + bytes(2 * tarfile.BLOCKSIZE)]  # two empty blocks are the end of a tar
    preset = 6 | lzma.PRESET_EXTREME
    return b"".join(lzma.compress(text, check=lzma.CHECK_SHA256, preset=preset) for text in texts)


def _member(name: str, data: bytes) -> bytes:
    about = tarfile.TarInfo(name)  # no time, no owner
    about.size = len(data)
    return about.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


class Archive:
    """The files of an archive, unpacked as far as they are asked for."""

    def __init__(self, data: bytes) -> None:
        first, *others = data.split(MAGIC)
        self._streams = [MAGIC + stream for stream in reversed(others)]
        self._found: dict[str, bytes] = {}
        self._room = LIMIT
        self._lock = Lock()
        self.damaged = bool(first or not others)  # whether something could not be read so far

    def read(self, name: str) -> bytes | None:
        """None where there is no such file, or not as it was written."""
        with self._lock:
            while name not in self._found and self._streams:
                self._unpack(self._streams.pop())
            return self._found.get(name)

    def files(self) -> dict[str, bytes]:
        """All that can be read, by name."""
        with self._lock:
            while self._streams:
                self._unpack(self._streams.pop())
            return dict(self._found)

    def _unpack(self, stream: bytes) -> None:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        try:
            text = decoder.decompress(stream, self._room)
            self._room -= len(text)
            if not decoder.eof:
                raise EOFError(f"a stream of {PACKED} is cut off, or too long")
            found = _files_of(text)
        except (lzma.LZMAError, EOFError, tarfile.TarError, *NONSENSE):
            self.damaged = True
            return
        self._found |= found
        self.damaged |= bool(decoder.unused_data)  # another stream's, whose beginning is not one


def _files_of(text: bytes) -> dict[str, bytes]:
    """The files of a tar, of which anybody may have written the headers; ValueError where a member
    is no plain file, or longer than what there is.
    """
    found = {}
    with tarfile.open(fileobj=io.BytesIO(text), mode="r:") as tar:
        for one in tar:
            end = one.offset_data + one.size
            if not one.isreg() or one.issparse() or not one.offset_data <= end <= len(text):
                raise ValueError(f"{one.name!r} is no plain file")
            found[one.name] = text[one.offset_data : end]
    return found


def open_archive(path: Path) -> Archive | None:
    """The archive in a file, read once; None where there is no file."""
    if leads_out(path):
        return None
    try:
        about = path.stat()
    except OSError:
        return None
    return _opened(path.absolute(), about.st_mtime_ns, about.st_size, about.st_ino)


@lru_cache(maxsize=2)  # a run, and what it is compared with
def _opened(path: Path, *as_it_is: int) -> Archive:
    return Archive(path.read_bytes())


def unpacked(path: Path) -> bytes:
    """What the archive of its run folder has in the place of a path; FileNotFoundError where
    nothing. A folder with run.json is a run: what lies above it is another's.
    """
    for folder in list(path.parents)[:DEPTH]:
        archive = open_archive(folder / PACKED)
        if archive is not None:
            data = archive.read(path.relative_to(folder).as_posix())
            if data is not None:
                return data
        if os.path.lexists(folder / "run.json"):
            break
    raise FileNotFoundError(path)
