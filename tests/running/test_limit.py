"""`--limit N` bounds the pictures of a command, whoever draws them: one worker or several, also
beside another run in the folder.
"""

import json
import subprocess
import sys
from contextlib import contextmanager
from subprocess import PIPE

import pytest
from run_kit import arguments, content, context, environment, reference, run_here, shared

from benchmarks.cli import run
from benchmarks.planning.config import resolve
from benchmarks.running.prepared import prepare_run
from benchmarks.store.run_folder import Store

TWO = ("--engine", "processes", "--workers", "2")


@contextmanager
def held_by_another(out, key):
    """Inside the block another process has this unit in hand."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.store.run_folder import Store; "
        f"assert Store(Path({str(out)!r})).locks.try_lock({key!r}); print(flush=True); "
        "sys.stdin.read()"
    )
    call = [sys.executable, "-c", code]
    with subprocess.Popen(call, env=environment(), stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout.readline() == b"\n"
        try:
            yield
        finally:
            other.stdin.close()


def cells_done(out):
    about = json.loads((out / "run.json").read_text())
    assert about["units"]["cells"]["done"] == len(list(out.glob("images/*/*/*/*/cell.json")))
    return about["units"]["cells"]["done"]


def test_two_workers_together_draw_as_many_as_it_says(tmp_path, capsys):
    """A cell has two images."""
    context()  # the engine's processes start from the libraries that are loaded for all tests
    out = tmp_path / "run"
    for cells in (3, 6):
        assert run_here(shared(), out, *TWO, "--limit", "6") == 0
        told = capsys.readouterr()
        assert "stopped by --limit after 6 images" in told.err and not told.out
        assert cells_done(out) == cells
    assert run_here(shared(), out, *TWO, "--limit", "6") == 0
    assert capsys.readouterr().out and content(out) == content(reference())


@pytest.mark.parametrize("limit", [4, 5])
def test_what_another_run_has_in_hand_is_not_counted(tmp_path, capsys, limit):
    """It was: a command beside another one stopped before it had drawn anything."""
    out = tmp_path / "run"
    flags = {"backbone": str(shared() / "tiny"), "suite": str(shared() / "concepts"),
             "device": "cpu", "dtype": "float32", "out": str(out)}  # fmt: skip
    first = prepare_run(resolve(preset="micro", flags=flags)).plan.drawn[0]
    with held_by_another(out, first.key):
        assert run(["run", *arguments(shared(), out, "--limit", str(limit), "--no-cache")]) == 0
    assert "stopped by --limit after 4 images" in capsys.readouterr().err
    assert cells_done(out) == 2
    place = Store(out).images(first.method, first.point, first.concept, first.prompt_id)
    assert not place.exists()


def test_what_the_cache_has_is_not_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "100MB")
    assert run(["run", *arguments(shared(), tmp_path / "one", "--cache", "all")]) == 0
    out = tmp_path / "two"
    assert run(["run", *arguments(shared(), out, "--cache", "all", "--limit", "2")]) == 0
    assert "stopped by" not in capsys.readouterr().err
    assert content(out) == content(tmp_path / "one")
