"""Real processes, really killed: a run that is interrupted, shared or out of disk ends with the
undisturbed bytes.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from run_kit import content, files, reference, shared, small_file_system, start

from benchmarks.disk import read_json


def units(run: Path) -> dict[str, int | str]:
    """Published fits, by all that they tell but what drawing cost, which is added later; and
    published cells, and when.
    """
    cells = {path: path.stat().st_mtime_ns for path in run.glob("images/*/*/*/*/cell.json")}
    fits = {path: json.loads(path.read_text()) for path in run.glob("fits/*/*/fit.json")}
    told = {path: json.dumps({**about, "drawing": None}) for path, about in fits.items()}
    return {path.relative_to(run).as_posix(): one for path, one in {**cells, **told}.items()}


def kill_and_go_on(out: Path, kills: int, *more: str) -> int:
    """Start the command again and again and kill it: after a random number of units, at a random
    moment of the next; every second time while something is being written.

    -> how many of the kills left something half written.
    """
    rng, killed, halves = random.Random(0), 0, 0

    def half_written() -> bool:
        return (out / ".tmp").is_dir() and any((out / ".tmp").iterdir())

    while killed < kills:
        before = units(out)
        process, goal = start(shared(), out, *more), len(before) + rng.randint(0, 3)
        while process.is_alive() and len(units(out)) < goal:
            time.sleep(0.005)
        while killed % 2 and process.is_alive() and not half_written():
            time.sleep(0.001)
        process.join(rng.uniform(0, 0.01 if killed % 2 else 0.6))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            killed += 1
            halves += half_written()
            assert before.items() <= units(out).items(), "a finished unit was done again"
        else:  # it was faster: begin anew
            process.join()
            assert process.exitcode == 0, out.with_suffix(".log").read_text()[-2000:]
            shutil.rmtree(out)
    return halves


def finish(out: Path, *more: str) -> None:
    process = start(shared(), out, *more)
    process.join(300)
    assert process.exitcode == 0, out.with_suffix(".log").read_text()[-3000:]


def test_killed_twenty_times(tmp_path):
    out = tmp_path / "run"
    assert kill_and_go_on(out, 20) > 0, "no kill came while something was half written"
    finish(out)
    assert content(out) == content(reference()) and files(out) == files(reference())
    assert read_json(out / "run.json")["finished"]


@pytest.mark.slow
def test_quick_killed_twenty_times(tmp_path):
    quick = ("--preset", "quick", "--methods", "perfusion", "--concepts", "cat,teapot")
    whole, out = tmp_path / "whole", tmp_path / "run"
    finish(whole, *quick)
    assert kill_and_go_on(out, 20, *quick) > 0
    finish(out, *quick)
    assert content(out) == content(whole) and files(out) == files(whole)


def test_two_at_once_share_the_work(tmp_path):
    out = tmp_path / "run"
    two = [start(shared(), out) for _ in range(2)]
    for process in two:
        process.join(300)
    assert [process.exitcode for process in two] == [0, 0], out.with_suffix(".log").read_text()[
        -3000:
    ]
    assert content(out) == content(reference()) and files(out) == files(reference())


def test_ctrl_c_leaves_a_folder_from_which_it_goes_on(tmp_path):
    out = tmp_path / "run"
    process = start(shared(), out)
    while not units(out):
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    log = out.with_suffix(".log").read_text()
    assert (
        process.exitcode == 130
        and "the same command goes on from here" in log
        and "Traceback" not in log
    )
    assert read_json(out / "run.json")["finished"] is None
    finish(out)
    assert content(out) == content(reference()) and files(out) == files(reference())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_ends_are_like_ctrl_c(tmp_path, number, status):
    """Of Slurm and `timeout`, and of a closed terminal."""
    out = tmp_path / "run"
    process = start(shared(), out)
    while not units(out):
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.join(60)
    log = out.with_suffix(".log").read_text()
    assert process.exitcode == status, log
    assert f"ended by {number.name}; the same command goes on from here" in log
    assert "Traceback" not in log
    finish(out)
    assert content(out) == content(reference()) and files(out) == files(reference())


@pytest.mark.slow
def test_workers_end_with_a_killed_driver(tmp_path):
    """Nobody is left behind to write into the folder, and the next run, with another engine, gives
    the same bytes.
    """
    out = tmp_path / "run"
    process = start(shared(), out, "--engine", "processes", "--workers", "2")
    while not units(out):
        assert process.is_alive(), out.with_suffix(".log").read_text()[-2000:]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    finish(out)
    assert content(out) == content(reference())
    for _ in range(600):
        if not workers_of(out):
            break
        time.sleep(0.1)
    assert not workers_of(out) and files(out) == files(reference())


def workers_of(run: Path) -> list[str]:
    """Processes that have the lock file of this run open."""
    links = (link for process in Path("/proc").glob("[0-9]*") for link in _opened(process))
    return [link for link in links if link == str(run / ".lock")]


def _opened(process: Path) -> list[str]:
    try:
        return [os.readlink(link) for link in (process / "fd").iterdir()]
    except OSError:
        return []  # it has just ended


@pytest.fixture
def small_disk(tmp_path):
    """A real file system that one run does not fit on."""
    with small_file_system(tmp_path / "small", "100k") as folder:
        yield folder


def test_a_full_disk_stops_with_a_sentence_and_goes_on_with_space(small_disk, tmp_path):
    out, log = small_disk / "run", tmp_path / "log"
    process = start(shared(), out, log=log)
    process.join(300)
    said = log.read_text()
    assert (
        process.exitcode == 2
        and "is full; what is finished is safe" in said
        and "Traceback" not in said
    )
    before = units(out)
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    process = start(shared(), out, log=log)
    process.join(300)
    assert process.exitcode == 0, log.read_text()[-3000:]
    assert before.items() <= units(out).items()
    assert content(out) == content(reference()) and files(out) == files(reference())


def test_a_folder_that_cannot_be_written(small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = start(shared(), small_disk / "run", log=tmp_path / "log")
    process.join(300)
    said = (tmp_path / "log").read_text()
    assert (
        process.exitcode == 2
        and "cannot be written" in said
        and "--out" in said
        and "Traceback" not in said
    )
