"""Drift in the regression gate: a method that leaks is caught, a reference without drift is passed
over.
"""

import json
import tomllib

import pytest
from drift_kit import copied, drift_run, leaking_file, plain_run, words_of
from run_kit import run_here, shared

from benchmarks import cli


def checked(run, reference, capsys):
    capsys.readouterr()
    status = cli.run(["check", str(run), "--against", str(reference), "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


def calibrated(run, tmp_path, name):
    """A reference with the least margins that there are: its repeats are the same bytes."""
    reference = copied(run, tmp_path / name)
    repeats = [str(copied(run, tmp_path / f"{name}-{n}")) for n in range(2)]
    assert cli.run(["check", "--calibrate", *repeats, "--against", str(reference)]) == 0
    return reference


@pytest.fixture
def reference(tmp_path):
    return calibrated(drift_run(), tmp_path, "reference")


def test_a_repeat_passes(reference, tmp_path, capsys):
    found = tomllib.loads((reference / "check.toml").read_text())
    assert {"drift", "drift_class", "drift_pixels"} <= {*next(iter(found.values()))}
    status, said = checked(copied(drift_run(), tmp_path / "run"), reference, capsys)
    judged = {one["metric"] for one in said["findings"]}
    assert status == 0 and judged >= {"drift", "drift_class", "drift_pixels"}
    assert not said["notes"]


def test_a_planted_drift_is_caught(reference, tmp_path, capsys):
    """Only other things change: not a picture of the protocol differs."""
    out = tmp_path / "run"
    assert run_here(shared(), out, *words_of(leaking_file(), "--drift")) == 0
    status, said = checked(out, reference, capsys)
    failed = {(one["metric"], one["point"]) for one in said["findings"] if one["verdict"] == "FAIL"}
    assert status == 1 and ("drift_pixels", "strength=0") in failed
    assert {metric for metric, _ in failed} <= {"drift", "drift_class", "drift_pixels"}
    [one] = [
        one
        for one in said["findings"]
        if (one["metric"], one["point"]) == ("drift_pixels", "strength=0")
    ]
    assert one["reference"] == 0 and one["run"] == one["loss"] > 0.002


def test_a_reference_without_drift_is_passed_over(tmp_path, capsys):
    reference = calibrated(plain_run(), tmp_path, "reference")
    status, said = checked(copied(drift_run(), tmp_path / "run"), reference, capsys)
    judged = {one["metric"] for one in said["findings"]}
    assert status == 0 and "image_sim" in judged
    assert not judged & {"drift", "drift_class", "drift_pixels"}
    assert said["notes"] == ["no drift in the reference: that of the run is passed over"]


def test_a_run_without_drift_is_told(reference, tmp_path, capsys):
    status, said = checked(copied(plain_run(), tmp_path / "run"), reference, capsys)
    assert status == 0 and not said["differences"]
    assert said["notes"] == [
        "3 measures (drift, drift_class, drift_pixels) of the reference not in the run"
    ]
