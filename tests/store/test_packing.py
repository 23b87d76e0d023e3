"""A packed run reads as it did before, byte for byte; damage costs no more than what lies in its
place.
"""

import lzma
import subprocess
import tarfile
import time
from pathlib import Path

import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run
from run_kit import files

from benchmarks.store import packed
from benchmarks.store.csv_files import count_keys, is_there, plain, read_rows_file, rows_text
from benchmarks.store.packed import MAGIC, PACKED, Archive, archive_bytes, open_archive, unpacked
from benchmarks.store.packing import pack_run
from benchmarks.store.reading import read_plan, read_rows
from benchmarks.store.run_folder import Store
from benchmarks.tables.build import write_tables
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

SCORER = "ViT-B-32-quickgelu-openai-0a1b2c3d"


@pytest.fixture
def run(tmp_path):
    """A finished run with its tables; what git ignores is left out."""
    folder = tmp_path / "run"
    methods = {"perfusion": (LOCAL[0], GLOBAL[0]), "cd": ("default",)}
    make_run(folder, methods, ["cat", "teapot"], prompts=12, images=4, pictures=False)
    write_tables(folder)
    (folder / "samples.csv").unlink()
    return folder


def texts(run):
    return {name: (run / name).read_bytes() for name in files(run) if name.endswith(".csv")}


def address(run, concept="cat"):
    return Store(run).rows_file(SCORER, "cd", "default", concept)


def test_every_byte_is_there_under_its_name(run):
    before, rows, plan, cells = texts(run), read_rows(run), read_plan(run), Run(run).cells
    archive = pack_run(run)
    assert archive == run / PACKED and not (run / "rows").exists() and not (run / ".tmp").exists()
    assert {name for name in files(run) if name.endswith(".csv")} == {"metrics.csv", "table.csv"}
    assert {name: plain(run / name) for name in before} == before
    assert archive.stat().st_size < sum(map(len, before.values())) / 4
    pd.testing.assert_frame_equal(read_rows(run), rows, check_exact=True)
    pd.testing.assert_frame_equal(read_plan(run), plan, check_exact=True)
    pd.testing.assert_frame_equal(Run(run).cells, cells, check_exact=True)
    write_tables(run)
    assert {
        name: (run / name).read_bytes() for name in ("cells.csv", "metrics.csv", "table.csv")
    } == {name: before[name] for name in ("cells.csv", "metrics.csv", "table.csv")}
    assert is_there(run / "cells.csv") and not is_there(run / "looked-cells.csv")


def test_rows_of_some_concepts_alone_can_be_packed(run):
    """Those of others stay, and are read all the same."""
    before = read_rows(run)
    pack_run(run, keep=False, concepts={"cat"})
    packed = {Path(name).stem for name in open_archive(run / PACKED).files() if "rows/" in name}
    assert packed == {"cat"} and {path.stem for path in run.glob("rows/**/*.csv")} == {"teapot"}
    assert len(read_rows(run)) == len(before) and not (run / "plan.csv").exists()
    pack_run(run, concepts={"cat", "teapot"})
    assert not (run / "rows").exists()
    pd.testing.assert_frame_equal(read_rows(run), before, check_exact=True)


def test_the_archive_is_a_tar_of_the_same_bytes_at_any_time(run, tmp_path):
    before = texts(run)
    once = pack_run(run).read_bytes()
    assert pack_run(run).read_bytes() == once, "nothing beside it: the same again"
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xJf", run / PACKED, "-C", tmp_path / "out"], check=True)
    assert texts(tmp_path / "out") == {
        n: data for n, data in before.items() if n not in ("metrics.csv", "table.csv")
    }
    with tarfile.open(run / PACKED) as tar:
        assert {(one.mtime, one.uid, one.uname) for one in tar} == {(0, 0, "")}
    for name, data in texts(tmp_path / "out").items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)
    (run / PACKED).unlink()
    time.sleep(0.01)
    assert pack_run(run).read_bytes() == once


def test_rows_beside_the_archive_count_before_those_in_it(run):
    path = address(run)
    old = read_rows_file(path)
    pack_run(run)
    Store(run).write_rows(path, old[:-1])
    assert read_rows_file(path) == old[:-1] and sum(count_keys([path]).values()) == len(old) - 1
    whole = path.read_text()
    path.write_text(whole[:-9])
    assert read_rows_file(path) == old, "what is damaged does not"
    (run / "plan.csv").write_bytes(plain(run / "plan.csv")[:-70])
    with pytest.raises(UserError, match=r"plan.csv is damaged; remove it"):
        pack_run(run)
    (run / "plan.csv").unlink()
    path.write_text(whole)
    new = Store(run).rows_file(SCORER, "cd", "default", "chair")
    Store(run).write_rows(new, old)
    pack_run(run)
    assert not path.exists() and read_rows_file(path) == old[:-1] and read_rows_file(new) == old


def test_damaged_rows_are_not_packed(run):
    path = address(run)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(
        UserError, match=r"cat.csv is damaged; remove it, give the run's command again"
    ):
        pack_run(run)
    assert path.exists() and not (run / PACKED).exists()


def starts(data: bytes) -> list[int]:
    """Where the archive's streams begin."""
    return [at for at in range(len(data)) if data.startswith(MAGIC, at)]


def test_damage_costs_what_lies_in_its_stream(run):
    before = texts(run)
    data = pack_run(run).read_bytes()
    begins = [*starts(data), len(data)]
    streams = ["cells.csv", "plan.csv", "cat", "teapot"]
    assert len(begins) == len(streams) + 1

    def lost(spoilt: bytes) -> set[str]:
        (run / PACKED).write_bytes(spoilt)
        archive = open_archive(run / PACKED)
        found = archive.files()
        assert all(before[name] == data for name, data in found.items()), (
            "what is read is as it was written"
        )
        assert archive.damaged
        gone = before.keys() - found - {"metrics.csv", "table.csv"}
        return {Path(name).stem if name.startswith("rows/") else name for name in gone}

    for name, begin, end in zip(streams, begins, begins[1:]):
        for at in (begin + 1, (begin + end) // 2, end - 3):
            spoilt = bytearray(data)
            spoilt[at] ^= 1
            assert lost(bytes(spoilt)) == {name}
    assert lost(data[: begins[2] + 50]) == {"cat", "teapot"}, "cut off"
    assert lost(b"") == lost(b"no archive at all") == set(streams)


def test_a_damaged_archive_is_written_anew_only_where_nothing_is_lost(run):
    path, before = address(run, "teapot"), texts(run)
    data = bytearray(pack_run(run).read_bytes())
    data[-40] ^= 1
    (run / PACKED).write_bytes(bytes(data))
    assert read_rows_file(path) is None and read_rows_file(address(run)) is not None
    with pytest.raises(
        UserError, match=r"has lost rows/.*teapot.csv \(5 files in all\); `git checkout -- "
    ):
        pack_run(run)
    for name, text in before.items():
        if name.endswith("teapot.csv"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(text)
    pack_run(run)
    assert (
        plain(path) == before[path.relative_to(run).as_posix()]
        and not open_archive(run / PACKED).damaged
    )


def test_nothing_to_pack_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="has nothing to pack"):
        pack_run(tmp_path)


def test_rows_text_is_bytes_that_pack_as_they_are(tmp_path):
    """Names outside ASCII, and names longer than a tar's first field."""
    path = Store(tmp_path).rows_file("s" * 90, "m" * 60, "p" * 60, "Häuschen")
    Store(tmp_path).write_rows(path, [])
    pack_run(tmp_path)
    assert plain(path).decode() == rows_text([])


def stream(*members: bytes) -> bytes:
    return lzma.compress(b"".join(members) + bytes(2 * tarfile.BLOCKSIZE))


def member(name: str, about: dict, pax: dict | None = None) -> bytes:
    """A header that says anything, and no data."""
    one = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(one, key, value)
    one.pax_headers = pax or {}
    return one.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


def summed(header: bytes) -> bytes:
    """With its checksum."""
    return header[:148] + b"%06o\0 " % tarfile.calc_chksums(header)[0] + header[156:]


SPARSE = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**33)}
STRANGE = {
    "a link to nothing": member("plan.csv", {"type": tarfile.SYMTYPE, "linkname": "none"}),
    "a link to itself": member("plan.csv", {"type": tarfile.LNKTYPE, "linkname": "plan.csv"}),
    "a folder": member("plan.csv", {"type": tarfile.DIRTYPE}),
    "more than there is": member("plan.csv", {"size": 2**33}),
    "less than nothing": member("plan.csv", {"size": -512}),
    "gaps of 8 GiB": member("plan.csv", {}, {**SPARSE, "GNU.sparse.map": f"0,0,{2**33},0"}),
    "gaps of no number": member("plan.csv", {}, {**SPARSE, "GNU.sparse.map": "x"}),
    "gaps without an end": summed(
        member("plan.csv", {"type": tarfile.GNUTYPE_SPARSE})[:482] + b"\1" + bytes(29)
    ),
    "names of names": member("x", {"type": tarfile.GNUTYPE_LONGNAME}) * 3000,
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_member_costs_its_stream(kind):
    """These were tracebacks, or filled the memory."""
    good = lzma.compress(packed._member("cells.csv", b"whole"))
    archive = Archive(stream(packed._member("a", b"b"), STRANGE[kind]) + good)
    assert archive.files() == {"cells.csv": b"whole"} and archive.damaged


def test_all_streams_together_have_a_limit(monkeypatch):
    texts = {name: bytes(2000) for name in ("cells.csv", "looked-cells.csv", "plan.csv")}
    data = archive_bytes(texts)
    assert Archive(data).files() == texts
    monkeypatch.setattr(packed, "LIMIT", 6000)
    archive = Archive(data)
    assert len(archive.files()) == 2 and archive.damaged


def test_an_archive_above_a_run_is_not_its_own(tmp_path):
    (tmp_path / "inbox" / "q").mkdir(parents=True)
    (tmp_path / "inbox" / PACKED).write_bytes(archive_bytes({"q/plan.csv": b"another's"}))
    assert unpacked(tmp_path / "inbox" / "q" / "plan.csv") == b"another's"
    (tmp_path / "inbox" / "q" / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        unpacked(tmp_path / "inbox" / "q" / "plan.csv")
