"""The gate and measures beyond the protocol: judged where both runs have them and a margin is
there, told where not, never a reason not to compare.
"""

import json
import tomllib

import numpy as np
import pandas as pd
import pytest
from test_gate import CONCEPTS, cells_of_repeat, keep

from benchmarks import cli
from benchmarks.tables import gate
from benchmarks.tables.judged_measures import other_pictures

LEVEL = {"image_sim_heldout": 0.6, "nearer": 0.4, "variety": 0.3, "vendi": 2.5}


def with_measures(seed, names=tuple(LEVEL), lost=(), by=0.0, heldout=0.7):
    """A repeat with measures in its cells; `by` is taken from those of `lost`."""
    cells, rng = cells_of_repeat(seed), np.random.default_rng(seed + 500)
    out = [cells]
    mine = cells[(cells["metric"] == "image_sim") & (cells["method"] != "real")]
    for name in names:
        level = {c: LEVEL[name] + 0.01 * k for k, c in enumerate(CONCEPTS)}
        mean = mine["concept"].map(level) + rng.normal(0, 0.004, len(mine))
        mean = mean - by * (name in lost)
        out.append(mine.assign(metric=name, mean=mean, even=mean, odd=mean))
    real = mine.drop_duplicates("concept").assign(method="real", point="default", prompt_id="")
    out.append(real.assign(kind="real", metric="image_sim_heldout", mean=heldout))
    return pd.concat(out, ignore_index=True)


@pytest.fixture
def reference(tmp_path):
    """With margins from five repeats."""
    folder = keep(tmp_path / "reference", with_measures(0))
    repeats = [str(keep(tmp_path / f"repeat-{n}", with_measures(n))) for n in range(1, 6)]
    assert cli.run(["check", "--calibrate", *repeats, "--against", str(folder)]) == 0
    return folder


def checked(run, reference, capsys):
    capsys.readouterr()
    status = cli.run(["check", str(run), "--against", str(reference), "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


def test_calibration_writes_margins_of_measures_and_they_are_read(reference, tmp_path, capsys):
    found = tomllib.loads((reference / "check.toml").read_text())
    (name,) = found
    assert {*LEVEL, "copy_gap", "image_sim", "text_sim_raw"} == {*found[name]} - {"runs"}
    status, said = checked(keep(tmp_path / "run", with_measures(8)), reference, capsys)
    judged = {one["metric"] for one in said["findings"]}
    assert status == 0 and judged >= {*LEVEL, "copy_gap"} and not said["notes"]


@pytest.mark.parametrize("name, by", [("variety", 0.1), ("vendi", 0.5), ("nearer", -0.2)])
def test_a_planted_loss_is_caught_in_its_direction(name, by, reference, tmp_path, capsys):
    """Of variety less is worse, of copying more."""
    run = keep(tmp_path / "worse", with_measures(8, lost=(name,), by=by))
    status, said = checked(run, reference, capsys)
    failed = {one["metric"] for one in said["findings"] if one["verdict"] == "FAIL"}
    assert status == 1 and failed == {name}
    one = next(one for one in said["findings"] if one["metric"] == name and not one["kind"])
    assert one["loss"] == pytest.approx(abs(by), abs=0.02)
    assert one["reference"] - one["run"] == pytest.approx(by, abs=0.02), "as they are in the tables"
    run = keep(tmp_path / "better", with_measures(8, lost=(name,), by=-by))
    assert checked(run, reference, capsys)[0] == 0


def test_pasting_shows_as_a_copy_gap(reference, tmp_path, capsys):
    cells = with_measures(8, lost=("image_sim_heldout",), by=0.1)
    status, said = checked(keep(tmp_path / "run", cells), reference, capsys)
    failed = {one["metric"] for one in said["findings"] if one["verdict"] == "FAIL"}
    assert status == 1 and failed == {"image_sim_heldout", "copy_gap"}


def test_without_margins_they_are_told_and_not_judged(tmp_path, capsys):
    folder = keep(tmp_path / "reference", with_measures(0))
    old = [str(keep(tmp_path / f"repeat-{n}", cells_of_repeat(n))) for n in range(1, 6)]
    assert cli.run(["check", "--calibrate", *old, "--against", str(folder)]) == 0
    run = keep(tmp_path / "run", with_measures(8, lost=("variety",), by=0.2))
    status, said = checked(run, folder, capsys)
    assert status == 0 and {one["metric"] for one in said["findings"]} == {
        "image_sim",
        "text_sim_raw",
    }
    (note,) = said["notes"]
    assert note.startswith("5 measures (image_sim_heldout, copy_gap, nearer and 2 more) in both")


def test_a_run_of_before_can_still_be_compared(reference, tmp_path, capsys):
    status, said = checked(keep(tmp_path / "run", cells_of_repeat(8)), reference, capsys)
    assert status == 0 and not said["differences"]
    (note,) = said["notes"]
    assert "of the reference not in the run" in note and "5 measures" in note
    back = keep(tmp_path / "plain", cells_of_repeat(0))
    assert gate.compare_measures(pd.read_csv(back / "cells.csv"), with_measures(1), {}) == ((), [])


def test_other_held_out_pictures_are_not_compared(reference, tmp_path, capsys):
    run = keep(tmp_path / "run", with_measures(8, lost=("image_sim_heldout",), by=0.1, heldout=0.6))
    status, said = checked(run, reference, capsys)
    judged = {one["metric"] for one in said["findings"]}
    assert status == 0 and judged == {"image_sim", "text_sim_raw", "variety", "vendi"}
    assert any("likeness to them is not judged" in note for note in said["notes"])
    assert other_pictures(with_measures(1), with_measures(2)) == []
