"""The cache of units: whole entries or none, whatever happens to its folder and whoever else works
in it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from run_kit import environment

from benchmarks.cli import run
from benchmarks.disk import digests_of
from benchmarks.store.unit_cache import UnitCache, key_of, size_of, unit_cache
from perfusion_core.errors import UserError

MB = 10**6


def make(folder: Path, size: int = 100) -> dict:
    """A unit's files and its manifest."""
    (folder / "step-5").mkdir(parents=True)
    (folder / "0.png").write_bytes(b"a" * size)
    (folder / "step-5" / "1.png").write_bytes(b"b" * size)
    return {"key": "k", "files": digests_of(folder), "seconds": 1.25, "text": "a cat"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Empty, and the one of this machine for as long as the test runs."""
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1MB")
    return unit_cache()


@pytest.fixture
def unit(tmp_path):
    return tmp_path / "unit", make(tmp_path / "unit")


OF = {"method": "super", "concept": "cat", "libraries": {"torch": "2"}}
KEY = key_of("cell", OF)


def taken(cache: UnitCache, key: str, out: Path):
    """What `take` tells, and the files it left."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    told = cache.take(key, out)
    return told, {name: file["sha256"] for name, file in digests_of(out).items()}


def test_what_is_put_is_taken(cache, unit, tmp_path):
    assert taken(cache, KEY, tmp_path / "out") == (None, {}) and not cache.has(KEY)
    cache.put("cell", OF, *unit)
    sums = {name: file["sha256"] for name, file in unit[1]["files"].items()}
    assert cache.has(KEY)
    assert taken(cache, KEY, tmp_path / "out") == ({"seconds": 1.25, "text": "a cat"}, sums)
    assert not cache.has(key_of("fit", OF)) and not cache.has(key_of("cell", {**OF, "more": 1}))
    assert [path.stat().st_mode & 0o777 for path in (cache.root.parent, cache.root)] == [0o700] * 2
    [entry] = cache.entries()
    assert (entry.kind, entry.of, entry.path) == ("cell", OF, cache.root / KEY[:2] / KEY)


def rewrite(change):
    def damage(entry: Path) -> None:
        about = json.loads((entry / "entry.json").read_text())
        change(about)
        (entry / "entry.json").write_text(json.dumps(about))

    return damage


def link_instead(entry: Path) -> None:
    """To a file with the right bytes."""
    shutil.copyfile(entry / "files" / "0.png", entry.parent.parent / "elsewhere.png")
    (entry / "files" / "0.png").unlink()
    (entry / "files" / "0.png").symlink_to(entry.parent.parent / "elsewhere.png")


def outside(about: dict) -> None:
    about["files"]["../../../../stolen.png"] = about["files"]["0.png"]


def move_out(entry: Path) -> None:
    elsewhere = tempfile.mkdtemp(dir=entry.parent.parent.parent)
    os.rename(entry, elsewhere)
    entry.symlink_to(elsewhere)


DAMAGE = {
    "a changed byte": lambda entry: (entry / "files" / "0.png").write_bytes(b"a" * 99 + b"b"),
    "a file cut short": lambda entry: (entry / "files" / "0.png").write_bytes(b"a" * 99),
    "a missing file": lambda entry: (entry / "files" / "step-5" / "1.png").unlink(),
    "a half manifest": lambda entry: (entry / "entry.json").write_text('{"key": "'),
    "no manifest": lambda entry: (entry / "entry.json").unlink(),
    "another key": rewrite(lambda about: about.update(key="0" * 64)),
    "made of something else": rewrite(lambda about: about["of"].update(concept="dog")),
    "a file outside": rewrite(outside),
    "a link": link_instead,
    "a folder that is a link": move_out,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_removed_and_made_again(damage, cache, unit, tmp_path, capsys):
    cache.put("cell", OF, *unit)
    damage(cache.place(KEY))
    assert taken(cache, KEY, tmp_path / "out")[0] is None
    assert not os.path.lexists(cache.root / KEY[:2] / KEY) and not cache.trouble
    cache.put("cell", OF, *unit)
    assert taken(cache, KEY, tmp_path / "out")[0]
    assert (
        run(["cache", "check"]) == 0
        and "1 entries are whole, 0 were dam" in capsys.readouterr().out
    )
    damage(cache.place(KEY))
    assert run(["cache", "check", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["whole"] == 0 and [one["key"] for one in told["damaged"]] == [KEY]
    assert run(["cache", "check"]) == 0 and not [*cache.entries()]


def test_what_a_link_leads_to_is_left_alone(cache, unit, tmp_path):
    """Also where the folder of many entries is one."""
    cache.put("cell", OF, *unit)
    os.rename(cache.root / KEY[:2], tmp_path / "mine")
    (cache.root / KEY[:2]).symlink_to(tmp_path / "mine")
    assert taken(cache, KEY, tmp_path / "out")[0] is None
    assert cache.prune(0) == [] and cache.check() == (0, [])
    assert (tmp_path / "mine" / KEY / "files" / "0.png").is_file()


def test_the_least_recently_used_go_first(cache, unit, tmp_path, monkeypatch, capsys):
    kinds = {name: key_of("fit", {"method": name}) for name in ("old", "older", "new", "taken")}
    for age, name in enumerate(("new", "old", "older", "taken")):
        cache.put("fit", {"method": name}, *unit)
        os.utime(cache.place(kinds[name]) / "entry.json", (1000 - age, 1000 - age))
    size = max(entry.bytes for entry in cache.entries())
    assert taken(cache, kinds["taken"], tmp_path / "out")[0], "which is a use"
    assert cache.prune() == [], "all fit"
    assert run(["cache", "list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:3] for row in rows] == [["fit", n, "1"] for n in sorted(kinds)]
    assert run(["cache", "prune", "--to", f"{2 * size}B", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"]["entries"] == 2
    assert {entry.of["method"] for entry in cache.entries()} == {"new", "taken"}
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", f"{size}B")
    assert run(["cache", "prune"]) == 0 and "1 are left" in capsys.readouterr().out
    assert run(["cache", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["limit"] == size and [one["of"] for one in told["entries"]] == [{"method": "taken"}]


def test_the_bound_holds_while_entries_are_added(cache, tmp_path):
    """Not only at the end of a run; and what alone is too large is not put at all."""
    manifest = make(tmp_path / "unit", size=100_000)
    for number in range(20):
        cache.put("cell", {"n": number}, tmp_path / "unit", manifest)
    assert 5 * 200_000 >= sum(entry.bytes for entry in cache.entries()) > 0.6 * MB
    large = make(tmp_path / "large", size=600_000)
    cache.put("cell", {"n": "large"}, tmp_path / "large", large)
    assert not cache.has(key_of("cell", {"n": "large"})) and not cache.trouble


# each of them puts, takes and prunes what the others do; none of it may be torn or raise
AT_ONCE = """
import shutil, sys
from pathlib import Path
from benchmarks.disk import digests_of
from benchmarks.store.unit_cache import key_of, unit_cache
cache, out, source = unit_cache(), Path(sys.argv[1]), Path(sys.argv[2])
manifest = {"key": "k", "files": digests_of(source), "seconds": 1.0}
sums, hits = digests_of(source), 0
for turn in range(150):
    of = {"n": turn % 3}
    cache.put("cell", of, source, manifest)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if cache.take(key_of("cell", of), out) is not None:
        assert digests_of(out) == sums
        hits += 1
    if sys.argv[3] == "prunes":
        cache.prune(0)
    assert not cache.trouble, cache.trouble
print(hits)
"""


@pytest.mark.parametrize("last", ["keeps", "prunes"])
def test_three_at_once(last, cache, unit, tmp_path):
    """They publish the same entries; a reader that races with one who prunes has a miss."""
    began = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, tmp_path / f"out{n}", unit[0], how],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, how in enumerate(("keeps", "keeps", last))
    ]
    for process in began:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert int(out) == 150 if last == "keeps" else int(out) > 0
    assert cache.check() == (len([*cache.entries()]), [])
    assert not [*(cache.root / ".aside").iterdir()]


def test_what_a_killed_writer_left_is_swept(cache, unit):
    cache.put("cell", OF, *unit)
    half, busy = (cache.root / ".aside" / name for name in ("half", "busy"))
    for folder in (half, busy):
        make(folder)
    os.utime(half, (1, 1))
    cache.prune()
    assert not half.exists() and busy.exists() and cache.has(KEY)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_can_write_is_not_trusted(mode, cache, unit, tmp_path):
    cache.put("cell", OF, *unit)
    cache.root.chmod(mode)
    assert taken(cache, KEY, tmp_path / "out")[0] is None
    assert "others can write it" in cache.trouble


def test_a_cache_of_no_bytes_is_none(cache, unit, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "0")
    unit_cache().put("cell", OF, *unit)
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1MB")
    monkeypatch.setenv("PERFBENCH_CACHE", "none")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    unit_cache().put("cell", OF, *unit)
    assert not cache.root.exists() and not (tmp_path / "none").exists()
    assert not (tmp_path / "usual").exists()


def test_sizes(monkeypatch):
    sizes = {"0": 0, "5GB": 5 * 10**9, "1.5 mb": 1_500_000, "700kB": 700_000, "2T": 2 * 10**12}
    assert {text: size_of(text, "--to") for text in sizes} == sizes
    for text in ("", "GB", "-1GB", "5 parsecs", "1e9"):
        with pytest.raises(UserError, match=r"--to .* is not a size; write for example 5GB"):
            size_of(text, "--to")
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "much")
    with pytest.raises(UserError, match="PERFBENCH_CACHE_SIZE 'much' is not a size"):
        run(["cache", "list"])
