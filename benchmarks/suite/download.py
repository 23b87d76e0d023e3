"""Files from the network and out of archives, trusting neither. In: an https address, or an
archive. Out: files.

A download goes on where it stopped, is bounded and checked; an archive that names a place outside
its folder, holds links or unpacks to too much is refused whole.
"""

import gzip
import http.client
import lzma
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit

from benchmarks.safe_paths import below, safe_parts
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

BLOCK = 1 << 16  # bytes
MAX_FILES = 20_000
Reader = Callable[[], IO[bytes]]
# what the archive modules raise on damaged input; RuntimeError is zipfile's for a password
DAMAGE = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def download(
    url: str,
    to: Path,
    *,
    limit: int,
    sha256: str | None = None,
    attempts: int = 4,
    pause: float = 1.0,
) -> str:
    """`url` as the file `to`, at most `limit` bytes; its sha256. Interrupted, the same call goes on
    from `to`.part.
    """
    _check_address(url)
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(to.name + ".part")
    for attempt in range(1, attempts + 1):
        try:
            _go_on(url, part, limit)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:
                # all of it was here, or the server's file shrank: once more from the start
                _forget(part)
            elif error.code < 500:
                raise UserError(
                    f"{url} answers {error.code} {error.reason}: the address may have moved"
                ) from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt == attempts:
            raise UserError(
                f"{url} cannot be read ({reason}); the same command goes on from where it stopped"
            )
        time.sleep(pause * 2 ** (attempt - 1))
    found = file_sha256(part)
    if sha256 and found != sha256:
        _forget(part)
        raise UserError(
            f"{url} has sha256 {found}, expected {sha256}: it is not the recorded file; nothing "
            f"was kept"
        )
    part.replace(to)
    _forget(part)
    return found


def _go_on(url: str, part: Path, limit: int) -> None:
    """The rest of a file behind what `part` has of it; all of it again where the server's file has
    changed.
    """
    from tqdm import tqdm

    tag = part.with_name(part.name + ".tag")
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "perfbench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    with _opener().open(request, timeout=30) as answer:
        if answer.status != 206:
            have = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            _forget(part)
            raise ConnectionError("the server sent another part of the file than it was asked for")
        left = answer.headers.get("Content-Length")
        total = have + int(left) if left and left.isdigit() else None
        if total and total > limit:
            _forget(part)
            raise UserError(f"{url} has {_mb(total)}, more than the {_mb(limit)} that are allowed")
        tag.write_text(
            answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "",
            encoding="utf-8",
        )
        if not tag.read_text(encoding="utf-8"):
            tag.unlink()  # nothing to recognise the file by: a later call starts anew
        bar = tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=Path(urlsplit(url).path).name,
            disable=None,
        )
        with part.open("ab" if have else "wb") as file, bar:
            while block := answer.read(BLOCK):
                have += len(block)
                if have > limit:
                    break
                file.write(block)
                bar.update(len(block))
    if have > limit:
        _forget(part)
        raise UserError(f"{url} has more than the {_mb(limit)} that are allowed; nothing was kept")
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {_mb(have)} of {_mb(total)}")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def is_safe_address(url: str) -> bool:
    """https; http of this machine alone."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and loopback)


def _check_address(url: str) -> None:
    if not is_safe_address(url):
        raise UserError(f"{url} is not an https address; only those are fetched")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https to anything else."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def unpack_archive(
    archive: Path,
    into: Path,
    *,
    keep: Callable[[PurePosixPath], bool] = lambda path: True,
    limit: int = 2 * 10**9,
) -> list[Path]:
    """The files of a zip or tar archive that `keep` wants, under `into`; at most `limit` bytes in
    all.
    """
    written: list[Path] = []
    total = 0
    try:
        with _members(archive) as members:
            for number, (name, size, read) in enumerate(members):
                path = _safe(name, archive)
                total += size
                if total > limit or number >= MAX_FILES:
                    raise UserError(
                        f"{archive.name} unpacks to more than {_mb(limit)} or {MAX_FILES} files: "
                        f"refused"
                    )
                if read is None or not keep(path):
                    continue
                target = below(into, *safe_parts(path.as_posix(), f"{archive.name}: the file"))
                target.parent.mkdir(parents=True, exist_ok=True)
                written.append(target)
                with read() as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, BLOCK)
    except UserError:
        for path_written in written:
            path_written.unlink(missing_ok=True)
        raise
    return written


def names(archive: Path) -> list[PurePosixPath]:
    """The paths of an archive's files, checked as `unpack` does."""
    with _members(archive) as members:
        return [_safe(name, archive) for name, _, read in members if read is not None]


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or ":" in name
        or "\0" in name
        or not path.parts
    ):
        raise UserError(
            f"{archive.name} holds a file that would land elsewhere ({name!r}): refused, nothing "
            f"was unpacked"
        )
    return path


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, int, Reader | None]]]:
    """(name, size, how to read it or None for a folder) of a zip or tar archive; links refused,
    damage told.
    """
    try:
        file = zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)  # noqa: SIM115
    except (tarfile.TarError, *DAMAGE) as error:
        raise UserError(
            f"{archive.name} is not a zip or tar archive that can be read: {error}"
        ) from None
    with file:
        try:
            yield _zip(file, archive) if isinstance(file, zipfile.ZipFile) else _tar(file, archive)
        except (tarfile.TarError, *DAMAGE) as error:
            raise UserError(f"{archive.name} is damaged or locked by a password: {error}") from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(
                f"{archive.name} has a file and a folder of one name: {error.filename}"
            ) from None


def _zip(file: zipfile.ZipFile, archive: Path) -> Iterator[tuple[str, int, Reader | None]]:
    for info in file.infolist():
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _link(info.filename, archive)
        # zipfile never reads more than the size that a member declares, so declared sizes bound
        # what is written
        yield info.filename, info.file_size, None if info.is_dir() else partial(file.open, info)


def _tar(file: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, int, Reader | None]]:
    for info in file:
        if not (info.isfile() or info.isdir()):
            raise _link(info.name, archive)
        yield (
            info.name,
            info.size,
            None if info.isdir() else cast(Reader, partial(file.extractfile, info)),
        )


def _link(name: str, archive: Path) -> UserError:
    return UserError(
        f"{archive.name} holds a link ({name!r}), not only files: refused, nothing was unpacked"
    )
