"""What tests of submissions share: a real one of a committed run, its files taken apart and put
together again, honest or forged.

In: a folder. Out: archives; what the command says of them.
"""

import functools
import hashlib
import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from run_kit import ROOT

from benchmarks.exchange.submissions.submission_archive import (
    FORMAT,
    MANIFEST,
    VERSION,
    file_entry,
    read_submission,
)
from benchmarks.exchange.submissions.submission_make import make_submission
from benchmarks.store.csv_files import MARK, with_digest

RUN = ROOT / "results" / "miniature-quickstart"
SCORER = json.loads((RUN / "run.json").read_text())["scorers"][0]["name"]
ROWS = f"rows/{SCORER}/perfusion/local-b0.60-t0.15/cat.csv"
REAL_ROWS = f"rows/{SCORER}/real/default/cat.csv"
Files = dict[str, bytes]


def assert_to_the_last_digits(one: bytes, other: bytes) -> None:
    """Two tables say the same. A matrix product has a kernel for each kind of processor, and the
    last digits of a mean are the kernel's.
    """
    tables = [pd.read_csv(io.BytesIO(body)) for body in (one, other)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-12, atol=1e-15)


@functools.cache
def real_archive() -> bytes:
    """Of a committed run, as its author would send it."""
    with tempfile.TemporaryDirectory() as aside:
        out = Path(aside) / "theirs.perfbench.tar.xz"
        make_submission(str(RUN), out, by="A. Author")
        return out.read_bytes()


def place(folder: Path, data: bytes, name: str = "theirs") -> Path:
    out = folder / f"{name}.perfbench.tar.xz"
    out.write_bytes(data)
    return out


def real_parts() -> tuple[Files, dict]:
    """Its files, and what its manifest says beside them."""
    with tempfile.TemporaryDirectory() as aside:
        found = read_submission(place(Path(aside), real_archive()))
    about = {k: v for k, v in found.manifest.items() if k not in ("format", "version", "files")}
    return dict(found.files), about


def forged(change: Callable[[Files], None]) -> bytes:
    """Files changed by somebody who makes a manifest that fits."""
    files, about = real_parts()
    change(files)
    listed = {name: file_entry(data) for name, data in files.items()}
    manifest = {"format": FORMAT, "version": VERSION, **about, "files": listed}
    files[MANIFEST] = json.dumps(manifest).encode()
    return packed([(tarfile.TarInfo(name), data) for name, data in files.items()])


def with_manifest(change: Callable[[dict], None]) -> bytes:
    """The same files under another manifest."""
    text = tar_text(real_archive())
    members = tar_members(text)
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    members[MANIFEST] = json.dumps(manifest).encode()
    return packed([(tarfile.TarInfo(name), data) for name, data in members.items()])


def tar_text(data: bytes) -> bytes:
    return lzma.decompress(data)


def tar_members(text: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(text)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of any members at all, as another program could write it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=0) as tar:
        for about, data in members:
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


def beside(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """The real archive with one member more, which its manifest lists."""
    members = tar_members(tar_text(real_archive()))
    manifest = json.loads(members[MANIFEST])
    data = b"" if link else b"x"
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    members[MANIFEST] = json.dumps(manifest).encode()
    extra = tarfile.TarInfo(name)
    extra.type, extra.linkname = kind, link
    return packed([*((tarfile.TarInfo(n), d) for n, d in members.items()), (extra, data)])


# ---- rows ----


def rows_changed(change: Callable[[list[str]], list[str]], name: str = ROWS) -> Callable:
    """Lines of one rows file, under a digest that fits them again."""

    def act(files: Files) -> None:
        body = files[name].rpartition(MARK)[0].decode()
        files[name] = with_digest("".join(change(body.splitlines(keepends=True))).encode())

    return act


def cell_set(line: str, column: int, value: str) -> str:
    parts = line.rstrip("\n").split(",")
    parts[column] = value
    return ",".join(parts) + "\n"


def first_row(column: int, value: str) -> Callable:
    """One number of the file's first row of a prompt that counts for both scores."""

    def change(lines: list[str]) -> list[str]:
        at = next(k for k, line in enumerate(lines) if ",shape," in line)
        return [*lines[:at], cell_set(lines[at], column, value), *lines[at + 1 :]]

    return rows_changed(change)


def text_changed(name: str, old: str, new: str, count: int = -1) -> Callable:
    """A word of one file."""

    def act(files: Files) -> None:
        text = files[name].decode()
        assert old in text, f"{name} has no {old}"
        files[name] = text.replace(old, new, count).encode()

    return act


def run_json(change: Callable[[dict], None]) -> Callable:
    def act(files: Files) -> None:
        about = json.loads(files["run.json"])
        change(about)
        files["run.json"] = json.dumps(about).encode()

    return act
