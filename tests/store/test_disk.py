"""A file is whole or as it was before, whatever happens while it is written."""

import pytest

from benchmarks.disk import write_whole, written_whole


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
