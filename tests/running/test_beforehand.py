"""What is said before anything is done: the time, the crowd, the one question; the doctor; and what
`clean` takes away.
"""

import io
import json
import multiprocessing
import os
import shutil
import sys

import pytest
from run_kit import arguments, copy_of_reference, files, reference, run_here, shared

from benchmarks.cli import run
from benchmarks.running import beforehand, doctor, known_seconds
from benchmarks.running.known_seconds import MEASURED
from benchmarks.running.time_left import FITS, PICTURES
from benchmarks.store.run_folder import FITTING, Store
from perfusion_core.errors import UserError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def planned(capsys, *words):
    capsys.readouterr()
    assert run(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_ended_here_tells_the_next_run_how_long_it_takes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1GB")
    monkeypatch.setattr(known_seconds, "LEAST", 0.0)
    fresh = arguments(shared(), tmp_path / "two")
    assert planned(capsys, *fresh)["seconds_range"] is None, "a backbone that nobody has measured"
    assert run_here(shared(), tmp_path / "one") == 0
    (told,) = (tmp_path / "cache" / "seconds").iterdir()
    assert json.loads(told.read_text()).keys() == {FITS, PICTURES}
    low, high = planned(capsys, *fresh)["seconds_range"]
    assert 0 < low < high
    assert planned(capsys, *fresh, "--set", "images=20")["seconds_range"][0] > low
    assert planned(capsys, *fresh, "--threads", "2")["seconds_range"] is None, "other work"
    assert run(["plan", *fresh]) == 0
    assert "by what was measured before" in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e308", "-5.0", "0.0", '"x"', "[]"])
def test_a_damaged_memory_is_no_memory(tmp_path, capsys, monkeypatch, seconds):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path))
    words = ["--preset", "quick", "--dtype", "float32", "--device", "cpu"]
    usual = planned(capsys, *words)["seconds_range"]
    monkeypatch.setattr(known_seconds, "_place", lambda *_: tmp_path / "seconds.json")
    (tmp_path / "seconds.json").write_text(f'{{"fits": {seconds}, "pictures": {seconds}}}')
    assert planned(capsys, *words)["seconds_range"] == usual
    (tmp_path / "seconds.json").write_text('{"fits": 0.1, "pictures": 0.1}')
    assert planned(capsys, *words)["seconds_range"][0] > usual[1]


@pytest.mark.parametrize("dtype", MEASURED)
def test_the_shipped_miniature_is_known_before_its_first_run(capsys, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path))
    words = ["--dtype", dtype, "--device", "cpu", "--preset"]
    quick = planned(capsys, *words, "quick")["seconds_range"]
    paper = planned(capsys, *words, "paper", "--concepts", "all")["seconds_range"]
    assert 20 < quick[0] < quick[1] < 3600 < paper[0], "minutes and hours, as docs/miniature.md has"


def test_a_run_of_hours_asks_once_and_at_a_terminal_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(beforehand, "ASKED", 0.0)
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1GB")
    monkeypatch.setattr(known_seconds, "LEAST", 0.0)
    assert run_here(shared(), tmp_path / "one") == 0, "no terminal, no question"
    more = ("--set", "images=3")

    def answered(words, *flags):
        monkeypatch.setattr(sys, "stdin", Terminal(words))
        monkeypatch.setattr(sys, "stderr", Terminal())
        return run_here(shared(), tmp_path / "two", *more, *flags)

    with pytest.raises(UserError, match="not begun"):
        answered("\n")
    assert "go on? [y/N]" in sys.stderr.getvalue() and not list(tmp_path.glob("two/images"))
    assert answered("", "--yes") == 0
    assert answered("") == 0, "nothing is left, nothing is asked"


def test_a_crowd_is_told(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for load, device, threads, told in [
        (3.2, "cpu", 0, "about 3.2 of 4 cores"),
        (0.3, "cpu", 0, ""),
        (3.2, "cpu", 1, ""),
        (3.2, "cuda", 0, ""),
    ]:
        monkeypatch.setattr(beforehand, "busy_cores", lambda load=load: load)
        said = beforehand.crowded(device, threads)
        assert told in said and bool(told) == bool(said)


def test_busy_cores_are_those_of_others(tmp_path):
    """One process that never rests keeps one core busy, on a quiet machine; sleeping keeps none."""
    import subprocess
    import time

    from perfusion_core.hardware import busy_cores

    before = busy_cores(0.5)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            time.sleep(0.5)
            cores = os.cpu_count() or 1
            assert busy_cores(0.5) > min(before + 0.4, cores - 0.6)
        finally:
            other.kill()
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1\n")
    assert busy_cores(0.0, stat) == 0.0 == busy_cores(0.0, tmp_path / "none")


@pytest.mark.parametrize(("busy", "policy"), [(1.4, "PASSIVE"), (0.1, None)])
def test_threads_wait_asleep_beside_other_work(monkeypatch, busy, policy):
    from benchmarks import cli
    from perfusion_core import hardware

    monkeypatch.setattr(hardware, "busy_cores", lambda: busy)
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that what is set here is undone
    monkeypatch.delenv("OMP_WAIT_POLICY")
    cli.give_way()
    assert os.environ.get("OMP_WAIT_POLICY") == policy
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    cli.give_way()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE", "what the user says holds"


# ---- doctor ----


def test_the_doctor_asks_everything_and_draws_a_picture(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["doctor"]) == 0
    told = capsys.readouterr().out
    for words in ("perfbench ", "torch ", "belong together", "cores", "free in", "HF_HUB_OFFLINE"):
        assert words in told
    assert "draws a picture" in told and told.endswith("ready\n") and "MEND" not in told


def test_the_doctor_names_what_has_to_be_mended(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no_such_library"))
    monkeypatch.setattr(doctor, "HUB", ("127.0.0.1", 9))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(doctor, "QUESTIONS", (doctor.versions, doctor.hub))
    assert run(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "MEND  no_such_library is missing: pip install no_such_library" in told
    assert "note  127.0.0.1 cannot be reached" in told and told.endswith("1 to mend\n")


# ---- clean ----


def hold(root, key, ready, done):
    assert Store(root).locks.try_lock(key)
    ready.set()
    done.wait(60)


def test_clean_lists_then_removes_what_nobody_holds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = copy_of_reference(tmp_path / "results" / "mine")
    before = files(out)
    for key in ("a" * 64, "b" * 64):
        (out / ".tmp" / key).mkdir(parents=True)
        (out / ".tmp" / key / "checkpoint").write_bytes(b"x" * 1000)
    (tmp_path / ".cat.safetensors.fit" / "concepts").mkdir(parents=True)
    (tmp_path / ".cat.safetensors.fit" / ".lock").touch()
    (tmp_path / ".holiday.fit").mkdir()  # the user's own
    (tmp_path / "theirs").mkdir()
    shutil.copytree(out, tmp_path / "theirs" / "run")
    (tmp_path / "results" / "linked").symlink_to(tmp_path / "theirs" / "run")
    (tmp_path / "victim").mkdir()
    (out / ".tmp" / ("c" * 64)).symlink_to(tmp_path / "victim")
    assert run(["clean"]) == 0
    told = capsys.readouterr().out
    assert told.count("half written") == 3 and "interrupted" in told and "--yes removes" in told
    assert (out / ".tmp" / ("a" * 64)).is_dir()
    make = multiprocessing.get_context("fork")
    ready, done = make.Event(), make.Event()
    other = make.Process(target=hold, args=(out, "a" * 64, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        assert run(["clean", "--yes"]) == 0
    finally:
        done.set()
        other.join()
    told = capsys.readouterr()
    assert "is in use and stays" in told.err and (out / ".tmp" / ("a" * 64)).is_dir()
    assert not (out / ".tmp" / ("b" * 64)).exists() and (tmp_path / "victim").is_dir()
    assert not (tmp_path / ".cat.safetensors.fit").exists() and (tmp_path / ".holiday.fit").is_dir()
    assert len(list((tmp_path / "theirs" / "run" / ".tmp").iterdir())) == 2, "nobody named it"
    shutil.rmtree(out / ".tmp")
    assert files(out) - {".lock"} == before - {".lock"}, "what is finished stays"


def test_clean_follows_no_link_to_what_is_finished(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "mine")
    (out / ".tmp").symlink_to("fits")
    before = files(out)
    assert run(["clean", str(out), "--yes"]) == 0
    assert "nothing to clean" in capsys.readouterr().out and files(out) == before


def test_clean_leaves_a_training_that_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ".cat.safetensors.fit"
    (place / "concepts").mkdir(parents=True)
    make = multiprocessing.get_context("fork")
    ready, done = make.Event(), make.Event()
    other = make.Process(target=hold, args=(place, FITTING, ready, done))
    other.start()
    try:
        assert ready.wait(60) and run(["clean", "--yes"]) == 0
    finally:
        done.set()
        other.join()
    assert "is in use and stays" in capsys.readouterr().err and place.is_dir()


def test_clean_takes_scored_images_on_request(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "mine")
    assert run(["clean", str(out), "--images", "--yes"]) == 0
    assert not list(out.glob("images/*/*/*/*/*.png"))
    capsys.readouterr()
    assert run(["table", str(out)]) == 0
    assert capsys.readouterr().out == (reference() / "table.md").read_text()
    assert run(["clean", str(out), "--images"]) == 0
    assert "nothing to clean" in capsys.readouterr().out
