"""Whole or absent: publishing, verification, locks between processes, sweeping, rows with a digest,
a full disk.
"""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import time
import tracemalloc
from dataclasses import replace

import pandas as pd
import pytest
from made_run import make_run
from run_kit import environment, small_file_system

from benchmarks.cli import run
from benchmarks.disk import DiskError, is_full
from benchmarks.planning.units import Cell, Fit, Prior
from benchmarks.store import csv_files
from benchmarks.store.csv_files import (
    ROW,
    count_keys,
    planned_text,
    read_frame,
    read_rows_file,
    rows_text,
    zipped,
)
from benchmarks.store.packing import pack_run
from benchmarks.store.reading import (
    find_run,
    list_runs,
    read_fits,
    read_plan,
    read_rows,
    read_weights,
)
from benchmarks.store.run_folder import Store
from benchmarks.tables.derived import read_table
from perfusion_core.errors import UserError

FIT = Fit("db", "cat", "cat", {}, None, False, (), 1, "f" * 64)
CAT = ("cat",)
CELL = Cell(
    "db",
    "db",
    "default",
    {},
    0,
    CAT,
    CAT,
    "animated",
    "s01",
    "shape",
    "A {cat}",
    "A",
    (5, 6),
    (FIT,),
    "c" * 64,
)
SINGLE = ("db", "default", "cat")


def publish(store: Store, unit, files: dict[str, bytes], **about) -> None:
    with store.aside(unit.key) as out:
        for name, data in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        store.publish(unit, out, about)


def row(key: str, index: int, **more):
    names = {
        "method": "db",
        "point": "default",
        "concept": "cat",
        "group": "animated",
        "prompt_id": "s01",
        "kind": "shape",
    }
    return {
        "key": key,
        **names,
        "index": index,
        "seed": 5,
        "image_sim": "0.500000",
        "text_sim_raw": "0.250000",
        **more,
    }


def other(code: str, folder) -> subprocess.Popen:
    """Code in another process, with `store` of the same folder."""
    start = "from pathlib import Path; from benchmarks.store.run_folder import Store\n"
    start += f"store = Store(Path({str(folder)!r}))\n"
    call = [sys.executable, "-c", start + textwrap.dedent(code)]
    return subprocess.Popen(
        call, env=environment(), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def test_published_units_verify_until_a_byte_changes(tmp_path):
    store = Store(tmp_path)
    prior = Prior("cat", (1,), "a" * 64)
    for unit, place in (
        (prior, "priors/cat-aaaaaaaa"),
        (FIT, "fits/db/cat-ffffffff"),
        (CELL, "images/db/default/cat/s01"),
    ):
        assert not store.verified(unit)
        publish(store, unit, {"0.png": b"picture", "deep/file": b"more"})
        assert store.folder(unit) == tmp_path / place and store.verified(unit)
        file = tmp_path / place / "deep/file"
        for damage in (b"mor", b"nore", None):
            file.unlink() if damage is None else file.write_bytes(damage)
            assert not store.verified(unit), damage
        publish(store, unit, {"0.png": b"picture", "deep/file": b"more"})
        assert store.verified(unit) and not store.verified(replace(unit, key="b" * 64))
    (tmp_path / "fits/db/cat-ffffffff/fit.json").write_text('{"key": "fff')
    assert not store.verified(FIT)
    assert not any((tmp_path / ".tmp").iterdir())


def test_a_fit_needs_its_kept_steps(tmp_path):
    store = Store(tmp_path)
    publish(store, FIT, {"weights": b"1", "step-5/weights": b"2"})
    assert store.verified(FIT) and store.verified(replace(FIT, keep=(5,)))
    assert not store.verified(replace(FIT, keep=(5, 10)))


def test_failure_leaves_nothing_and_the_old_unit_in_place(tmp_path):
    store = Store(tmp_path)
    publish(store, CELL, {"0.png": b"old"})
    with pytest.raises(RuntimeError), store.aside(CELL.key) as out:
        (out / "0.png").write_bytes(b"half")
        raise RuntimeError
    assert store.verified(CELL) and not any((tmp_path / ".tmp").iterdir())


def test_an_interrupted_fit_keeps_its_checkpoint_for_the_next_time(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.aside(FIT.key, resume=True) as out:
        (out / "checkpoint").write_bytes(b"half way")
        raise KeyboardInterrupt
    store.write_text(
        tmp_path / "plan.csv", planned_text([row(CELL.key, 0) | {"n": 2, "fit": FIT.key}])
    )
    store.sweep()
    with pytest.raises(RuntimeError), store.aside(FIT.key, resume=True) as out:
        assert (out / "checkpoint").read_bytes() == b"half way"
        raise RuntimeError  # the method's own failure: the next try starts afresh
    with store.aside(FIT.key, resume=True) as out:
        assert not any(out.iterdir())


def test_a_lock_excludes_other_processes_and_dies_with_its_holder(tmp_path):
    store = Store(tmp_path)
    holder = other("print(store.locks.try_lock('unit'), flush=True); input()", tmp_path)
    assert holder.stdout.readline().strip() == "True"
    assert not store.locks.try_lock("unit") and store.locks.try_lock("another")
    holder.kill()
    holder.wait()
    assert store.locks.try_lock("unit")
    late = other("print(store.locks.try_lock('unit'))", tmp_path)
    assert late.communicate()[0].strip() == "False"
    store.locks.unlock("unit")


def test_sweep_removes_what_nobody_writes(tmp_path):
    store = Store(tmp_path)
    (tmp_path / ".tmp" / "dead").mkdir(parents=True)
    (tmp_path / ".tmp" / "dead.old").mkdir()
    (tmp_path / ".tmp" / "resumed").mkdir()
    code = """
    store.locks.try_lock('living')
    with store.aside('living') as out:
        (out / 'x').write_text('x'); print('ready', flush=True); input()
    """
    (tmp_path / ".tmp" / "resumed.old").mkdir()
    planned = [row(CELL.key, 0) | {"n": 2, "fit": "resumed"}]  # by whatever command in this folder
    store.write_text(tmp_path / "plan.csv", planned_text(planned))
    writer = other(code, tmp_path)
    assert writer.stdout.readline().strip() == "ready"
    store.sweep()
    assert {path.name for path in (tmp_path / ".tmp").iterdir()} == {"living", "resumed"}
    writer.communicate("\n")
    store.sweep(done=["resumed"])
    assert not (tmp_path / ".tmp").exists()


def test_sweep_leaves_a_concept_that_another_run_is_publishing(tmp_path):
    code = """
    def draw(folder):
        print('ready', flush=True); input()
        (folder / '0.png').write_bytes(b'picture')
    store.publish_concept('cat', 'key', draw)
    """
    writer = other(code, tmp_path)
    assert writer.stdout.readline().strip() == "ready"
    Store(tmp_path).sweep()
    writer.communicate("\n")
    assert (
        writer.returncode == 0
        and (tmp_path / "concepts" / "cat" / "0.png").read_bytes() == b"picture"
    )


def test_a_kill_between_manifest_and_rename_leaves_nothing_behind(tmp_path):
    """The next run finds the manifest of the last one, and what a writer of safetensors had half
    done.
    """
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.aside(FIT.key, resume=True) as out:
        (out / "fit.json").write_text('{"key": "old"}')
        (out / "unet").mkdir()
        (out / "unet" / "weights.safetensors.4711").write_bytes(b"half")
        raise KeyboardInterrupt
    with store.aside(FIT.key, resume=True) as out:
        (out / "unet" / "weights.safetensors").write_bytes(b"whole")
        store.publish(FIT, out, {})
    assert store.verified(FIT)
    assert {p.name for p in store.folder(FIT).rglob("*") if p.is_file()} == {
        "fit.json",
        "weights.safetensors",
    }


def test_failures_are_forgotten(tmp_path):
    store = Store(tmp_path)
    store.forget_failures([CELL.key])
    for key in (CELL.key, FIT.key, "a" * 64):
        store.write_failure(key, "a name", "Traceback")
    publish(store, CELL, {"0.png": b"0"})
    store.forget_failures(["a" * 64])
    assert [path.stem for path in store.failures.iterdir()] == [FIT.key[:16]]


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path):
    code = """
    for n in range(60):
        store.write_text(store.root / "shared.csv", str({who}) * 20000)
    """
    writers = [other(code.format(who=who), tmp_path) for who in (1, 2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "shared.csv").exists():
            seen.add((tmp_path / "shared.csv").read_text())
    assert all(writer.returncode == 0 for writer in writers)
    assert seen <= {"1" * 20000, "2" * 20000} and seen


def test_rows_of_a_changed_file_count_as_absent(tmp_path):
    store = Store(tmp_path)
    path = store.rows_file("clip", *SINGLE)
    store.write_rows(path, [row(CELL.key, 0), row(CELL.key, 1)])
    assert [r["index"] for r in read_rows_file(path)] == ["0", "1"]
    assert store.scored([CELL], ["clip"]) == {CELL.key}
    assert store.scored([CELL], ["clip", "dino"]) == set(), "every scorer's rows are needed"
    assert store.scored([replace(CELL, seeds=(5, 6, 7))], ["clip"]) == set()
    text = path.read_text()
    for damaged in (
        text.replace("0.5", "0.6"),
        text[:-5],
        text.rsplit("#", 1)[0],
        text[: len(text) // 2],
        "",
    ):
        path.write_text(damaged)
        assert read_rows_file(path) is None and store.scored([CELL], ["clip"]) == set()
    path.write_bytes(b"\xff\xfe\x00")
    assert read_rows_file(path) is None


def test_packed_rows_are_rows(tmp_path):
    path = tmp_path / "cat.csv"
    rows = [
        dict.fromkeys(ROW, 0) | {"key": f"k{n}", "image_sim": 0.5, "text_sim_raw": ""}
        for n in range(50)
    ]
    path.write_text(rows_text(rows))
    plain, small = read_rows_file(path), zipped(path)
    kept = gzip.compress(path.read_bytes())
    small.write_bytes(kept)
    path.unlink()
    assert small.name == "cat.csv.gz"
    assert (
        read_rows_file(path) == plain
        and count_keys([path])["k7"] == 1
        and len(read_frame([path])) == 50
    )
    path.write_text(rows_text(rows[:1]))
    assert len(read_rows_file(path)) == 1, "what was written later counts"
    path.write_text(path.read_text()[:-5])
    assert read_rows_file(path) == plain, "what was written later, and damaged, does not"
    path.unlink()
    for spoilt in (kept[:-9], kept[:40], b"", b"no gzip at all"):
        small.write_bytes(spoilt)
        assert read_rows_file(path) is None


def test_a_packed_file_that_would_fill_the_memory_is_one_sentence(tmp_path, monkeypatch):
    """64 MiB in 64 kB: read as far as the limit, and not a byte further."""
    monkeypatch.setattr(csv_files, "LIMIT", 2**20)
    bomb = gzip.compress(bytes(2**26))
    assert len(bomb) < 2**17
    for name in ("cat.csv", "plan.csv", "table.csv"):
        zipped(tmp_path / name).write_bytes(bomb)
    said = r"\.csv\.gz unpacks to more than 1 MiB, which no run has; remove it"
    calls = [
        lambda: read_rows_file(tmp_path / "cat.csv"),
        lambda: read_frame([tmp_path / "cat.csv"]),
        lambda: csv_files.read_plan_file(tmp_path / "plan.csv"),
        lambda: csv_files.read_plan_frame(tmp_path / "plan.csv"),
        lambda: read_table(tmp_path, "table"),
    ]
    for call in calls:
        tracemalloc.start()
        with pytest.raises(UserError, match=said) as told:
            call()
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        tracemalloc.stop()
        assert "\n" not in str(told.value) and len(str(told.value).split()) <= 40
    monkeypatch.setattr(csv_files, "LIMIT", 2**26)  # as much as it holds: no bomb, and no rows
    assert read_rows_file(tmp_path / "cat.csv") is None


def test_many_files_together_are_bounded_as_one(tmp_path, monkeypatch):
    make_run(tmp_path / "run", {"cd": ("default",)}, ["cat", "dog"], prompts=1, images=1,
             pictures=False)  # fmt: skip
    files = sorted((tmp_path / "run" / "rows").rglob("*.csv"))
    sizes = [len(csv_files.whole(file)) for file in files]
    monkeypatch.setattr(csv_files, "LIMIT", max(sizes))
    assert len(files) > 1 and all(len(read_frame([file])) for file in files)
    with pytest.raises(UserError, match="unpacks to more than"):
        read_frame(files)


def test_a_run_of_a_stranger_with_such_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "LIMIT", 2**16)
    make_run(tmp_path / "run", {"cd": ("default",)}, ["cat"], prompts=1, images=1, pictures=False)
    rows = next((tmp_path / "run" / "rows").rglob("cat.csv"))
    rows.unlink()
    zipped(rows).write_bytes(gzip.compress(bytes(2**20)))
    with pytest.raises(UserError, match=r"cat\.csv\.gz unpacks to more than"):
        run(["table", str(tmp_path / "run"), "--allow-missing"])


def test_frames_hold_what_was_written(tmp_path):
    """Every float to the bit, words that look like nothing, files with other columns, damaged ones,
    none.
    """
    rng = random.Random(0)
    values = [f"{rng.uniform(-1, 1):.6f}" for _ in range(500)]
    one = [
        row("k", n, concept="null", image_sim=value, seed=2**48 - n)
        for n, value in enumerate(values)
    ]
    two = [
        row(
            "p", 0, concept="nan+null", image_sim="", image_sim_a="0.100000", image_sim_b="0.300000"
        )
    ]
    for name, rows in (("one", one), ("two", two), ("three", one)):
        (tmp_path / name).write_text(rows_text(rows))
    (tmp_path / "three").write_text((tmp_path / "three").read_text().replace("k,", "j,", 1))
    found = read_frame(tmp_path / name for name in ("three", "one", "nowhere", "two"))
    assert found["image_sim"].iloc[:500].tolist() == [float(value) for value in values]
    assert found["seed"].iloc[:500].tolist() == [2**48 - n for n in range(500)]
    assert found["concept"].tolist() == ["null"] * 500 + ["nan+null"]
    assert found["image_sim_a"].isna().tolist() == [True] * 500 + [False] and pd.isna(
        found["image_sim"].iloc[500]
    )
    assert count_keys(tmp_path / name for name in ("three", "one", "two")) == {"k": 500, "p": 1}
    empty = read_frame([tmp_path / "nowhere"])
    assert (
        len(empty) == 0
        and str(empty["index"].dtype) == "int64"
        and str(empty["image_sim"].dtype) == "float64"
    )


def test_a_plan_that_is_cut_off_is_a_sentence(tmp_path):
    planned = [
        row(f"key{n}", 0) | {"n": 2, "fit": "", "template": "A {cat}", "text": "A"}
        for n in range(3)
    ]
    text = planned_text(planned)
    for damaged in (None, text[:-40], text[:-1].rsplit(",", 6)[0]):
        if damaged is not None:
            (tmp_path / "plan.csv").write_text(damaged)
        with pytest.raises(
            UserError,
            match=r"plan.csv is missing or damaged; give the same `perfbench run` command",
        ):
            read_plan(tmp_path)
    (tmp_path / "plan.csv").write_text(text)
    assert len(read_plan(tmp_path)) == 3 and Store(tmp_path).planned_keys() == {
        "key0",
        "key1",
        "key2",
        "",
    }
    small = pack_run(tmp_path)
    assert (
        small.name == "packed.tar.xz"
        and not (tmp_path / "plan.csv").exists()
        and len(read_plan(tmp_path)) == 3
    )
    small.write_bytes(small.read_bytes()[:-9])
    with pytest.raises(UserError, match="missing or damaged"):
        read_plan(tmp_path)


def test_what_readers_get(tmp_path):
    store, run = Store(tmp_path / "a"), tmp_path / "a"
    publish(store, FIT, {"weights": b"x" * 1500, "step-5/weights": b"y" * 9}, seconds=3.5)
    plan = row(CELL.key, 0) | {"n": 2, "fit": FIT.key, "template": "A {cat}", "text": "A"}
    store.write_text(run / "plan.csv", planned_text([plan]))
    store.write_text(
        run / "run.json",
        json.dumps({"schema": 2, "scorers": [{"name": "clip"}], "started": "2026-01-02"}),
    )
    store.write_rows(
        store.rows_file("clip", *SINGLE),
        [row("stale", 0), row(CELL.key, 1), row(CELL.key, 0, image_sim="")],
    )
    real = row("real", 0, method="real", kind="real", prompt_id="", text_sim_raw="")
    store.write_rows(store.rows_file("clip", "real", "default", "cat"), [real])
    rows = read_rows(run)
    assert rows["index"].tolist() == [0, 1, 0] and rows["method"].tolist() == ["db", "db", "real"]
    assert rows["image_sim"].isna().tolist() == [True, False, False] and rows[
        "text_sim_raw"
    ].isna().tolist() == [
        False,
        False,
        True,
    ]
    assert read_plan(run)["n"].tolist() == [2]
    fits = read_fits(run)
    known = ["method", "concept", "key", "kilobytes", "train_seconds"]
    assert fits[known].to_dict("records") == [
        {"method": "db", "concept": "cat", "key": FIT.key, "kilobytes": 1.5, "train_seconds": 3.5}
    ]
    rest = fits.drop(columns=known)
    assert rest.pop("device").tolist() == [""] and rest.isna().all(axis=None)  # nobody measured
    publish(
        store, FIT, {"weights.safetensors": b"w", "step-5/w.safetensors": b"v", "log.txt": b"l"}
    )
    publish(store, replace(FIT, key="e" * 64), {"weights.safetensors": b"stale"})
    weights = read_weights(run)
    assert weights.keys() == {"db"} and weights["db"].keys() == {"cat"}, (
        "of planned fits only, each by itself"
    )
    publish(store, FIT, {"weights.safetensors": b"w", "log.txt": b"other"})
    assert read_weights(run) == weights
    publish(store, FIT, {"weights.safetensors": b"W"})
    assert read_weights(run) != weights
    Store(tmp_path / "b").write_text(
        tmp_path / "b" / "run.json", json.dumps({"started": "2026-01-03"})
    )
    assert [path.name for path in list_runs(tmp_path)] == ["a", "b"]
    assert find_run(None, tmp_path).name == "b" and find_run("a", tmp_path) == run
    with pytest.raises(UserError, match="known: a, b"):
        find_run("c", tmp_path)
    with pytest.raises(UserError, match="perfbench run --preset quick"):
        find_run(None, tmp_path / "nowhere")


def test_done_by_images_or_by_rows_alone(tmp_path):
    from benchmarks.planning.units import Plan

    store, plan = Store(tmp_path), Plan((), (FIT,), (CELL,))
    assert store.done(plan, ["clip"]) == set()
    publish(store, FIT, {"weights": b"1"})
    publish(store, CELL, {"0.png": b"0", "1.png": b"1"})
    assert store.done(plan, ["clip"]) == {FIT.key, CELL.key}
    store.write_rows(store.rows_file("clip", *SINGLE), [row(CELL.key, 0), row(CELL.key, 1)])
    store.drop_images("db", "default", "cat", "s01")
    assert store.done(plan, ["clip"]) == {FIT.key, CELL.key}, "rows alone are enough"
    assert store.finished(CELL, ["clip"]) and not store.verified(CELL)
    assert store.done(plan, ["clip", "dino"]) == {FIT.key}, "another scorer needs the images again"
    assert not store.finished(CELL, ["clip", "dino"])
    publish(store, CELL, {"0.png": b"0", "1.png": b"1"})
    (store.folder(CELL) / "1.png").write_bytes(b"2")
    assert store.done(plan, ["clip"]) == {FIT.key}, (
        "damaged images are not passed over because there are rows"
    )


def test_a_run_is_finished_when_every_picture_has_its_scores(tmp_path):
    """Trained files are a means: a run that went on from committed rows never made them again."""
    from benchmarks.planning.units import Plan
    from benchmarks.running.driver import Outcome
    from benchmarks.running.run import record

    store, plan = Store(tmp_path), Plan((), (FIT,), (CELL,))

    store.write_text(
        tmp_path / "plan.csv", planned_text([row(CELL.key, 0) | {"n": 2, "fit": FIT.key}])
    )

    def finished(*keys):
        record(store, plan, Outcome(set(keys)))
        return json.loads((tmp_path / "run.json").read_text())["finished"]

    assert finished(CELL.key) and finished(FIT.key, CELL.key)
    assert finished(FIT.key) is None


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 KiB."""
    with small_file_system(tmp_path / "small", "256k") as folder:
        yield folder


def test_a_full_disk_is_a_sentence_and_loses_nothing(small_disk):
    store = Store(small_disk)
    publish(store, FIT, {"weights": b"x" * 1000})
    with pytest.raises(OSError) as caught, store.aside(CELL.key) as out:
        (out / "0.png").write_bytes(os.urandom(400_000))
    assert is_full(caught.value)
    with (
        pytest.raises(DiskError, match="is full; what is finished is safe"),
        store.aside(CELL.key) as out,
    ):
        size = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (out / "0.png").write_bytes(os.urandom(size))
        store.publish(CELL, out, {})
    assert (
        store.verified(FIT)
        and not store.verified(CELL)
        and not any((small_disk / ".tmp").iterdir())
    )
    publish(store, CELL, {"0.png": b"small"})
    assert store.verified(CELL)


def test_a_folder_that_cannot_be_written_is_a_sentence(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskError, match=r"cannot be written .*; choose another folder with --out"):
        Store(small_disk / "run").locks.try_lock("unit")
    with pytest.raises(DiskError, match="cannot be written"):
        Store(small_disk).write_text(small_disk / "plan.csv", "x")


def test_locks_are_quick(tmp_path):
    store = Store(tmp_path)
    started = time.process_time()
    for number in range(1000):
        assert store.locks.try_lock(f"unit {number}")
        store.locks.unlock(f"unit {number}")
    assert time.process_time() - started < 1
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_commit_is_dirty_where_more_than_results_was_changed(tmp_path, monkeypatch):
    from benchmarks import paths

    def git(*words):
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True
        )

    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "benchmarks")
    assert paths.git_commit() is None, "no checkout"
    for name in ("code.py", "results/plan.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    clean = paths.git_commit()
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "results/plan.csv").write_text("2")
    (tmp_path / "new.txt").write_text("not tracked")
    assert paths.git_commit() == clean
    (tmp_path / "code.py").write_text("2")
    assert paths.git_commit() == f"{clean}-dirty"
