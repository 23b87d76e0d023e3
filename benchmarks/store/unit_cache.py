"""The cache of units: what one run made, every run on this machine can take, whatever its folder.

In: a kind, what decides the bytes (its digest is the key), files. Out: the same files, each checked
by its sha256, or a miss. A judge's answer is an entry without files; features of pictures are small
files that are put and read as bytes. Entries are whole or not there; those used least recently go
first.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.digests import digest
from benchmarks.disk import digests_of, read_manifest, remove
from benchmarks.safe_paths import below, safe_parts
from perfusion_core.errors import UserError
from perfusion_core.places import cache_dir
from perfusion_core.weight_digests import file_sha256

PLACE, OFF = "PERFBENCH_CACHE", "none"
SIZE = "PERFBENCH_CACHE_SIZE"
USUAL_SIZE = "10GB"
MANIFEST, FILES, ASIDE = "entry.json", "files", ".aside"
STALE = 3600.0  # seconds after which a folder aside was left by a writer that died
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Damaged(Exception):
    """An entry that is not what was put there."""


@dataclass(frozen=True)
class Entry:
    """What the cache knows of one unit; `of` is what its key was made of."""

    path: Path
    kind: str
    of: Mapping[str, Any]
    bytes: int
    used: float  # seconds since 1970


def size_of(text: str, flag: str) -> int:
    """Bytes: `5GB`, `500 MB`, `0`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not found:
        raise UserError(f"{flag} {text!r} is not a size; write for example 5GB, 500MB or 0")
    return round(float(found[1]) * UNITS[found[2]])


def unit_cache() -> "UnitCache":
    """The cache of this user: $PERFBENCH_CACHE, else the usual place of caches. There is none where
    that is `none`, or the size 0.
    """
    off = os.environ.get(PLACE) == OFF
    size = "0" if off else os.environ.get(SIZE) or USUAL_SIZE
    return UnitCache(cache_dir().expanduser().absolute() / "units", size_of(size, SIZE))


def key_of(kind: str, of: Mapping[str, Any]) -> str:
    return digest({"kind": kind, "of": of})


T = TypeVar("T")


class UnitCache:
    """One folder of entries: `<2 hex>/<key>/entry.json` and `files/`. What goes wrong with it is
    told in `trouble`, and is otherwise a miss: no run fails for want of a cache.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self.trouble = ""
        self._added = 0  # bytes since the last look at the limit

    def place(self, key: str) -> Path:
        return below(self.root, key[:2], key)

    # ---- one entry ----

    def has(self, key: str) -> bool:
        """Whether `take` will find it, as far as can be told without reading its files."""
        try:
            there = self._usable() and self.place(key).is_dir()
            return there and bool(self._manifest(key))
        except (Damaged, FileNotFoundError, UserError):  # or pruned a moment ago
            self._discard(self.root / key[:2] / key)
        except OSError as error:
            self._note(error)
        return False

    def take(self, key: str, out: Path) -> dict[str, Any] | None:
        """Copy an entry's files into `out`; -> what was told of them, or None. A damaged entry is
        removed.
        """

        def copied(found: Mapping[str, Any]) -> dict[str, Any]:
            for name, file in found["files"].items():
                self._copy(below(self.place(key), FILES, *safe_parts(name)), out, name, file)
            return dict(found["about"])

        return self._used(key, copied)

    def read(self, key: str) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        """`take` for small files: what was told of them, and their bytes by name; no copy is
        made."""

        def contents(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
            files = {}
            for name, file in found["files"].items():
                files[name] = below(self.place(key), FILES, *safe_parts(name)).read_bytes()
                if hashlib.sha256(files[name]).hexdigest() != file["sha256"]:
                    raise Damaged(f"{name} has another digest")
            return dict(found["about"]), files

        return self._used(key, contents)

    def _used(self, key: str, use: Callable[[Mapping[str, Any]], T]) -> T | None:
        """What `use` makes of an entry, which is then the last that was used; None where there is
        no whole one.
        """
        try:
            if not (self._usable() and self.place(key).is_dir()):
                return None
            made = use(self._manifest(key))
            with suppress(OSError):  # a cache that can only be read is still of use
                os.utime(self.place(key) / MANIFEST)
            return made
        except (Damaged, FileNotFoundError, UserError):  # or pruned a moment ago
            self._discard(self.root / key[:2] / key)
        except OSError as error:
            self._note(error)
        return None

    def put_bytes(
        self, kind: str, of: Mapping[str, Any], files: Mapping[str, bytes], about: Mapping[str, Any]
    ) -> None:
        """`put` for small files that lie in memory."""
        if self.trouble or not self.limit:
            return
        try:
            with tempfile.TemporaryDirectory(prefix="perfbench-") as aside:
                for name, content in files.items():
                    (Path(aside) / name).write_bytes(content)
                manifest = {**about, "files": digests_of(Path(aside))}
                self.put(kind, of, Path(aside), manifest)
        except OSError as error:
            self._note(error)

    def put(
        self, kind: str, of: Mapping[str, Any], source: Path, manifest: Mapping[str, Any]
    ) -> None:
        """Add the files that a published `manifest` names; what another run has put there stays."""
        key, files = key_of(kind, of), manifest["files"]
        size = sum(file["bytes"] for file in files.values())
        try:
            wanted = size <= self.limit and not self.trouble and self._usable()
            if not wanted or self.place(key).is_dir():
                return
            self._open()
            if shutil.disk_usage(self.root).free < 2 * size:  # a run may write to the same disk
                self.trouble = f"the disk of {self.root} is nearly full"
                return
            self._write(key, kind, of, source, manifest)
        except (OSError, UserError) as error:
            self._note(error)
            return
        self._added += size
        if self._added > self.limit / 10:  # not only at the end: a run may be long
            self.prune()

    def _write(
        self,
        key: str,
        kind: str,
        of: Mapping[str, Any],
        source: Path,
        manifest: Mapping[str, Any],
    ) -> None:
        """Aside, then one rename. Nothing is flushed: a power cut gives it another digest."""
        aside = self._aside()
        about = {name: value for name, value in manifest.items() if name not in ("key", "files")}
        entry = {"key": key, "kind": kind, "of": of, "files": manifest["files"], "about": about}
        try:
            (aside / FILES).mkdir(parents=True)
            for name in manifest["files"]:
                target = below(aside, FILES, *safe_parts(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(below(source, *safe_parts(name)), target)
            (aside / MANIFEST).write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
            target = self.place(key)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                os.rename(aside, target)
            except OSError as error:
                # else another run was faster, with the same bytes
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _manifest(self, key: str) -> dict[str, Any]:
        """An entry's manifest, whose key is what it says it is, and whose files are there."""
        folder = self.place(key)
        if any(path.is_symlink() for path in (folder, *folder.rglob("*"))):
            raise Damaged("it has a link")
        found = read_manifest(folder / MANIFEST)
        if found is None or not {"kind", "of", "about"} <= found.keys():
            raise Damaged("its manifest is not readable")
        if found["key"] != key or key_of(found["kind"], found["of"]) != key:
            raise Damaged("its key is not what it was made of")
        for name, file in found["files"].items():
            path = below(folder, FILES, *safe_parts(name))
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise Damaged(f"{name} is missing or has another size")
        return found

    @staticmethod
    def _copy(source: Path, out: Path, name: str, file: Mapping[str, Any]) -> None:
        """What was copied is what is checked."""
        target = below(out, *safe_parts(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if file_sha256(target) != file["sha256"]:
            raise Damaged(f"{name} has another digest")

    # ---- all of them ----

    def entries(self) -> Iterator[Entry]:
        """In no order; of one that cannot be read the kind is `damaged`, and it goes first."""
        for folder in self.root.glob("[0-9a-f][0-9a-f]/*"):
            ours = re.fullmatch(r"[0-9a-f]{64}", folder.name) and not folder.parent.is_symlink()
            if not ours:
                continue
            try:
                found, about = self._manifest(folder.name), (folder / MANIFEST).stat()
                size = about.st_size + sum(file["bytes"] for file in found["files"].values())
                yield Entry(folder, found["kind"], found["of"], size, about.st_mtime)
            except (Damaged, UserError):
                yield Entry(folder, "damaged", {}, _size(folder), 0.0)
            except OSError:
                continue  # pruned a moment ago

    def prune(self, limit: int | None = None) -> list[Entry]:
        """Remove entries until the others fit, the least recently used first; -> the removed."""
        limit, self._added, gone = self.limit if limit is None else limit, 0, []
        self._sweep()
        found = sorted(self.entries(), key=lambda entry: (entry.used, entry.path.name))
        total = sum(entry.bytes for entry in found)
        for entry in found:
            if total <= limit and entry.kind != "damaged":
                break
            if self._discard(entry.path):
                gone.append(entry)
                total -= entry.bytes
        return gone

    def check(self) -> tuple[int, list[tuple[str, str]]]:
        """Read every byte; -> how many entries are whole, and which were not (key, why) and were
        removed.
        """
        whole, bad = 0, []
        for key in sorted(entry.path.name for entry in self.entries()):
            try:
                for name, file in self._manifest(key)["files"].items():
                    path = below(self.place(key), FILES, *safe_parts(name))
                    if file_sha256(path) != file["sha256"]:
                        raise Damaged(f"{name} has another digest")
                whole += 1
            except (Damaged, UserError) as error:
                folder = self.root / key[:2] / key
                if os.path.lexists(folder):  # else pruned a moment ago
                    bad.append((key, str(error)))
                self._discard(folder)
            except FileNotFoundError:
                continue  # pruned a moment ago
        return whole, bad

    # ---- the folder ----

    def _usable(self) -> bool:
        """Whose entries are trusted: this user's own, in a folder that nobody else can write."""
        if not self.limit or not self.root.is_dir():
            return bool(self.limit)  # not there yet: `put` makes it
        about = self.root.stat()
        safe = about.st_uid == os.getuid() and not about.st_mode & 0o022
        if not safe:
            self.trouble = f"{self.root} is not yours, or others can write it"
        return safe

    def _open(self) -> None:
        """The folder, closed to everybody else from its beginning."""
        self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)

    def _aside(self) -> Path:
        (self.root / ASIDE).mkdir(mode=0o700, exist_ok=True)
        return self.root / ASIDE / secrets.token_hex(8)

    def _discard(self, folder: Path) -> bool:
        """Gone at once for everybody, then removed; False where it cannot be, or was not there."""
        if folder.parent.is_symlink():
            return False
        try:
            aside = self._aside()
            os.rename(folder, aside)
            remove(aside)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            self._note(error)
            return False

    def _sweep(self) -> None:
        """What writers that were killed left aside."""
        with suppress(OSError):
            for left in (self.root / ASIDE).iterdir():
                if time.time() - left.stat().st_mtime > STALE:
                    remove(left)

    def _note(self, error: Exception) -> None:
        self.trouble = f"{self.root}: {getattr(error, 'strerror', None) or error}"


def _size(folder: Path) -> int:
    """Bytes of whatever lies there."""
    with suppress(OSError):
        return sum(path.lstat().st_size for path in folder.rglob("*"))
    return 0
