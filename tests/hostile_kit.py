"""What tests of hostile files share: bad names, a command in this process, and a watch over a
folder of the user.

In: a folder that nothing may touch. Out: what was opened in it, whether it changed, what a command
said.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.cli import main

NAMES = {  # what no file may call anything
    "up": "../../victim/secret",
    "above": "..",
    "inside, then up": "a/../../../victim/secret",
    "absolute": "/etc/passwd",
    "300 characters": "a" * 300,
    "NUL": "cat\0",
    "line end": "cat\nteapot",
    "backslash": "..\\..\\victim\\secret",
    "drive": "C:secret",
    "device": "CON",
    "device with a suffix": "nul.txt",
    "dot at the end": "cat.",
    "flag": "-rf",
}
_watched: list[str] = []
_touched: list[str] = []


def _hook(event: str, args: tuple) -> None:
    if (
        _watched
        and event in ("open", "os.listdir", "os.scandir")
        and isinstance(args[0], (str, os.PathLike))
    ):
        path = os.path.realpath(args[0])
        if path.startswith(_watched[0]):
            _touched.append(f"{event} {path}")


sys.addaudithook(_hook)  # there is no way to take one out again: it looks at _watched first


@contextmanager
def untouched(victim: Path) -> Iterator[None]:
    """Nothing in `victim` is opened, listed, changed, added or removed."""
    before = content(victim)
    _touched.clear()
    _watched.append(os.path.realpath(victim))
    try:
        yield
    finally:
        _watched.clear()
    assert not _touched, _touched
    assert content(victim) == before


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def make_victim(folder: Path) -> Path:
    """A folder of the user beside the hostile one."""
    folder.mkdir()
    (folder / "secret").write_text("precious")
    (folder / "0.png").write_bytes(b"precious")
    (folder / "table.csv").write_text("precious\n")
    return folder


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """-> exit status and stderr of `perfbench WORDS`, which is never a traceback."""
    monkeypatch.setattr(sys, "argv", ["perfbench", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(ended.value.code or 0), said


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> str:
    """The one sentence of a command that ends with 2."""
    status, said = command(monkeypatch, capsys, *words)
    assert status == 2, said
    lines = [line for line in said.splitlines() if line.startswith("perfbench: ")]
    assert len(lines) == 1 and said.rstrip().endswith(lines[0]), said
    return lines[0]
