"""Files that are whole or not there, and locks that die with their holder.

A lock is a byte of one file, one for each key: the operating system frees it when its holder dies,
so a killed run leaves no stale lock and no lock files.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below, leads_out, safe_parts
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_PLACES = {  # what a path can be that it should not; a program's mistake where nobody gave it
    errno.EEXIST: "is a file, and a folder is wanted",
    errno.ENOTDIR: "has a file on its way, where a folder is wanted",
    errno.EISDIR: "is a folder, and a file is wanted",
    errno.ENOTEMPTY: "is a folder with files in it",
    errno.ENOENT: "is not there, and cannot be made",
    errno.ENAMETOOLONG: "is longer than this disk takes",
    errno.ELOOP: "is a link that leads to itself",
    errno.EINVAL: "cannot be the name of a file here",
    errno.ENXIO: "is no file that can be read or written",
    errno.ENODEV: "is no file that can be read or written",
    errno.EBUSY: "is in use",
    errno.EXDEV: "lies on another disk",
}
_LOCK_FILES: dict[str, int] = {}


class DiskError(UserError):
    """The run folder cannot be written: no unit can be finished, so the run stops."""


@contextmanager
def on_disk(root: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written is a sentence, not a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(root) from error
        if error.errno in _CLOSED:
            raise DiskError(
                f"{root} cannot be written ({error.strerror}); choose another folder with --out"
            ) from error
        raise


@contextmanager
def places_of_the_user(words: Iterable[str]) -> Iterator[None]:
    """What keeps the paths in a command's words from being read or written is a sentence. An
    OSError of any other path keeps its traceback: it is a mistake of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(Path(error.filename or ".")) from error
        name = error.filename2 or error.filename
        if not isinstance(name, str | os.PathLike):
            raise
        if error.errno in _CLOSED:
            raise UserError(
                f"{os.fspath(name)} cannot be opened or written ({error.strerror}); give a place "
                f"that is yours"
            ) from error
        if error.errno not in _PLACES or not _given(os.fspath(name), words):
            raise
        raise UserError(f"{os.fspath(name)} {_PLACES[error.errno]}; give another name") from error


def ask_for(out: Path) -> None:
    """Before the work: an OSError where `out` can surely not be written, because a file lies on its
    way or the folder is closed. Nothing is made."""
    there = next((parent for parent in out.absolute().parents if parent.exists()), None)
    if there is None:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))
    if len(os.fsencode(out.name)) > os.pathconf(there, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(out))


def _given(path: str, words: Iterable[str]) -> bool:
    """Whether a path is in these words, below one of them, on the way to one, or written aside of
    one. `--flag=PATH`, `NAME=PATH` and `LAYOUT:PATH` are paths, too."""
    path = os.path.abspath(path)
    parts = {part for word in words for part in (word, *re.split("[=:]", word)) if part}
    for place in map(os.path.abspath, parts):
        aside = os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.")
        if path == place or path.startswith((os.path.join(place, ""), aside, f"{place}.")):
            return True
        if place.startswith(os.path.join(path, "")):
            return True
    return False


def full(root: Path) -> DiskError:
    return DiskError(
        f"the disk of {root} is full; what is finished is safe: free some space and give the same "
        f"command"
    )


def is_full(error: BaseException | None) -> bool:
    """Whether a disk without space is behind this error; libraries wrap it in errors of their
    own.
    """
    while error is not None:
        if getattr(error, "errno", None) in _FULL or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def flush(path: Path) -> None:
    """Bytes to the disk, the files first, then the folders that name them."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        return
    for child in path.iterdir():
        flush(child)
    flush_folder(path)


def flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # of a link, the link alone
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(aside: Path, target: Path) -> None:
    """Flush what was written aside and let it take the place of `target`."""
    flush(aside)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # a folder cannot be renamed over one that holds files
        old = aside.with_name(aside.name + ".old")
        remove(old)
        os.replace(target, old)
        os.replace(aside, target)
        remove(old)
    else:
        os.replace(aside, target)
    flush_folder(target.parent)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write into, beside `path` and under a name of its own; it becomes `path` when the
    block ends well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield aside
        flush(aside)
        os.replace(aside, path)  # an error where a folder has that name
        flush_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """A small file, whole or as it was before; text as UTF-8, its line ends as they are."""
    with written_whole(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def write_secret(path: Path, text: str) -> None:
    """A file that its owner alone can read, from its first byte on."""
    with open(path, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as stream:
        path.chmod(0o600)  # one that was there keeps its mode
        stream.write(text)


def digests_of(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file under a folder, by its place there."""
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def verified(folder: Path, manifest: str, key: str) -> dict[str, Any] | None:
    """The manifest of a folder whose files are all there and unchanged; None for anything else."""
    found = read_manifest(folder / manifest)
    if found is None or found["key"] != key:
        return None
    try:
        for name, file in found["files"].items():
            path = below(folder, *safe_parts(name))
            if path.stat().st_size != file["bytes"] or file_sha256(path) != file["sha256"]:
                return None
    except (OSError, UserError):
        return None
    return found


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A unit's manifest, its `key` and `files` as they were published; None where it is damaged, or
    names a file outside of its folder."""
    found = read_json(path)
    if (
        found is None
        or not isinstance(found.get("key"), str)
        or not isinstance(found.get("files"), dict)
    ):
        return None
    try:
        for name, file in found["files"].items():
            safe_parts(name)
            if not (isinstance(file["sha256"], str) and type(file["bytes"]) is int):
                return None
    except (UserError, TypeError, KeyError):
        return None
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none, it is damaged, or a link to something outside
    of its folder.
    """
    try:
        if not path.is_file() or leads_out(path):  # a device never ends
            return None
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Locks:
    """The locks of one folder; locks of one process do not exclude each other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file: int | None = None

    def try_lock(self, key: str) -> bool:
        """Whether the key is now ours; False where another process has it."""
        fcntl = _fcntl()
        try:
            fcntl.lockf(self._descriptor(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
            return True
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise

    def unlock(self, key: str) -> None:
        fcntl = _fcntl()
        fcntl.lockf(self._descriptor(), fcntl.LOCK_UN, 1, _offset(key))

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Wait for the key; for short work only."""
        fcntl = _fcntl()
        fcntl.lockf(self._descriptor(), fcntl.LOCK_EX, 1, _offset(key))
        try:
            yield
        finally:
            self.unlock(key)

    def _descriptor(self) -> int:
        # One descriptor a process, never closed before its end: closing any frees all locks of the
        # process.
        if self._file is None:
            path = str(below(self.root.absolute(), ".lock"))
            if path not in _LOCK_FILES:
                with on_disk(self.root):
                    self.root.mkdir(parents=True, exist_ok=True)
                    _LOCK_FILES[path] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._file = _LOCK_FILES[path]
        return self._file


def _fcntl() -> Any:
    """Locks of POSIX; another system has none that die with their holder byte by byte."""
    try:
        import fcntl
    except ImportError:
        raise UserError(
            "files are locked as Linux and macOS do it, and this system cannot: on Windows, use "
            "perfbench inside WSL"
        ) from None
    return fcntl


def _offset(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:15], 16)
