"""A file is whole or as it was before, whatever happens while it is written."""

import sys

import pytest

from benchmarks import cli
from benchmarks.disk import Locks, write_whole, written_whole
from perfusion_core.errors import UserError


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    write_whole(path, "a,b\r\nü,1\n")
    assert path.read_bytes() == "a,b\r\nü,1\n".encode(), "line ends stay"
    write_whole(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01" and [*path.parent.iterdir()] == [path]


def test_an_interrupted_file_is_as_it_was(tmp_path):
    path = tmp_path / "table.csv"
    write_whole(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), written_whole(path) as aside:
            aside.write_text("half")
            assert (
                path.read_text() == "old" and aside.parent == path.parent and aside.name[0] == "."
            )
            raise error
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_two_writers_have_a_file_each(tmp_path):
    path = tmp_path / "table.csv"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one" and [*tmp_path.iterdir()] == [path], "the last to end"


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "results" / "mine").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "results", "a page")
    assert (tmp_path / "results" / "mine").is_dir() and len([*tmp_path.iterdir()]) == 1


def test_a_system_without_locks_is_told_so(tmp_path, monkeypatch):
    """As Windows is: there is no module fcntl."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    locks = Locks(tmp_path)
    for use in (lambda: locks.try_lock("key"), lambda: locks.locked("key").__enter__()):
        with pytest.raises(UserError, match="on Windows, use perfbench inside WSL"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_windows_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match=r"perfbench table writes and locks files.* use WSL"):
        cli.run(["table", str(tmp_path)])
    assert cli.run(["ls", "presets"]) == 0
