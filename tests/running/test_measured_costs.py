"""What a run measures of costs: all of it on a CPU, and no byte of a picture by it."""

import gc
import json
import math
import mmap
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from run_kit import content, run_here, shared

from benchmarks.running import drawing_costs, peak_memory
from benchmarks.running.drawing_costs import DrawingCosts
from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.tables.build import write_tables

MORE = ("--methods", "lora", "--concepts", "cat", "--prompts", "1", "--set", "images=2",
        "--set", "train_steps=5", "--set", "steps=10")  # fmt: skip
COUNTED = peak_memory.settled() is not None
MEMORY = ("train_peak_megabytes", "draw_peak_megabytes")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("costs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak_memory, "COUNTER", math.inf)  # a peak is told whatever left meanwhile
        assert run_here(shared(), out, *MORE) == 0
    return out


def fit_of(run):
    [path] = run.glob("fits/*/*/fit.json")
    return path


def test_all_costs_of_a_method_are_there(measured):
    rows = pd.read_csv(measured / "table.csv").set_index("method")
    row, told = rows.loc["lora"], json.loads(fit_of(measured).read_text())
    expected = [name for name in NUMBERS if COUNTED or name not in MEMORY]
    numbers = row[expected].astype(float)
    # one tiny picture needs less than the kernel's counters are apart
    assert (numbers.drop("draw_peak_megabytes", errors="ignore") > 0).all()
    assert (numbers >= 0).all()
    assert row[DEVICE].startswith("cpu (") and rows.loc["super", DEVICE] is np.nan
    assert row["trainable"] == told["trainable"]
    assert row["picture_seconds"] == pytest.approx(told["drawing"]["picture_seconds"], abs=5e-5)
    about = json.loads((measured / "run.json").read_text())
    assert told["drawing"]["steps"] == about["config"]["steps"]
    assert rows.loc["super", list(NUMBERS)].isna().all()  # nothing was trained


def test_pictures_and_tables_are_those_without_the_measurement(measured, tmp_path, monkeypatch):
    frozen = []
    plain, count = tmp_path / "run", lambda *_: frozen.append(gc.get_freeze_count())
    monkeypatch.setattr(DrawingCosts, "measure", count)
    assert run_here(shared(), plain, *MORE) == 0
    assert min(frozen) > 100_000 and gc.get_freeze_count() == 0, "while the worker is there"
    assert content(plain) == content(measured)
    assert (plain / "table.md").read_text().splitlines()[1:4] == (
        measured / "table.md"
    ).read_text().splitlines()[1:4]
    row = pd.read_csv(plain / "table.csv").set_index("method").loc["lora"]
    assert row[["picture_seconds", "base_picture_seconds", "apply_seconds"]].isna().all()


def test_what_is_finished_is_not_measured_again(measured, capfd):
    before = fit_of(measured).read_bytes()
    assert run_here(shared(), measured, *MORE) == 0
    assert fit_of(measured).read_bytes() == before


def test_costs_stay_known_where_the_trained_files_are_gone(measured, tmp_path):
    import shutil

    shutil.copytree(measured, tmp_path / "run")
    before = (tmp_path / "run" / "table.csv").read_bytes()
    shutil.rmtree(tmp_path / "run" / "fits")
    write_tables(tmp_path / "run")
    assert (tmp_path / "run" / "table.csv").read_bytes() == before


def test_an_older_run_opens_with_empty_columns(measured, tmp_path, capsys):
    """Of a version that measured less: its manifests and its table have no such entries."""
    import shutil

    from benchmarks.cli import run

    old = tmp_path / "run"
    shutil.copytree(measured, old)
    path = fit_of(old)
    about = json.loads(path.read_text())
    new = ("trainable", "peak_above_bytes", "device", "drawing")
    path.write_text(json.dumps({k: v for k, v in about.items() if k not in new}))
    table = pd.read_csv(old / "table.csv")
    table.iloc[:, : list(table).index("trainable")].to_csv(old / "table.csv", index=False)
    capsys.readouterr()
    assert run(["table", str(old), "--by", "cost", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["kilobytes"] > 0 and row["trainable"] is None and row["device"] is None
    assert run(["table", str(old)]) == 0
    row = pd.read_csv(old / "table.csv").set_index("method").loc["lora"]
    rest = [name for name in NUMBERS if name not in ("kilobytes", "train_seconds")]
    assert row["train_seconds"] > 0 and row[[*rest, DEVICE]].isna().all()
    assert (old / "table.md").read_bytes() == (measured / "table.md").read_bytes()


def test_what_would_take_too_long_is_left_out_in_one_sentence(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(drawing_costs, "LONGEST", 1e-6)
    out = tmp_path / "run"
    assert run_here(shared(), out, *MORE) == 0
    assert "what lora costs while it draws is left out" in capfd.readouterr().err
    assert "drawing" not in json.loads(fit_of(out).read_text())


def test_a_picture_of_few_steps_is_not_measured(tmp_path, capfd):
    out = tmp_path / "run"
    few = f"steps={drawing_costs.SHORTEST - 1}"
    assert run_here(shared(), out, *MORE, "--set", few) == 0
    assert "drawing" not in json.loads(fit_of(out).read_text())
    assert "left out" not in capfd.readouterr().err, "who asks for few steps is told nothing"


def test_a_measurement_that_fails_fails_nothing(tmp_path, monkeypatch, capfd):
    def broken(self, backbone, cell):
        raise RuntimeError("no clock")

    monkeypatch.setattr(DrawingCosts, "_measured", broken)
    out = tmp_path / "run"
    assert run_here(shared(), out, *MORE) == 0
    assert "was not measured: no clock" in capfd.readouterr().err


ALONE = """
import numpy as np, torch
from benchmarks.running.peak_memory import peak_above

def counted(size):
    for _ in range(20):  # None: the kernel took back something of this process's just then
        with peak_above(torch.device("cpu")) as peak:
            np.ones(size, np.uint8)
        if peak.bytes is not None:
            return peak.bytes

print(counted(40_000_000), counted(10_000_000))
"""


@pytest.mark.skipif(not COUNTED, reason="this system does not count a process's peak")
def test_the_peak_is_that_of_the_block_alone():
    """In a process of its own: in this one, threads of others give memory up at any time."""
    said = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    large, small = map(float, said.stdout.split())
    assert large == pytest.approx(40_000_000, rel=0.1)
    assert small == pytest.approx(10_000_000, rel=0.2)  # not the larger one before it


@pytest.mark.skipif(not COUNTED, reason="this system does not count a process's peak")
def test_what_leaves_in_the_block_makes_its_peak_unknown(tmp_path):
    """As under pressure: the kernel takes a file's pages back while the block asks for memory."""
    many, file = 40_000_000, tmp_path / "weights"
    file.write_bytes(bytes(2 * many))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        assert not any(mapped[:: mmap.PAGESIZE])  # all of it is resident
        with peak_memory.peak_above(torch.device("cpu")) as peak:
            mapped.madvise(mmap.MADV_DONTNEED)
            np.ones(many, np.uint8)
    assert peak.bytes is None and peak.told() == {}


def test_memory_that_nobody_can_count_is_empty(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "CLEAR", tmp_path / "none" / "clear_refs")
    with peak_memory.peak_above(torch.device("cpu")) as peak:
        pass
    assert peak.bytes is None and peak.told() == {}
