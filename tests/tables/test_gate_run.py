"""The gate on what `perfbench run` really leaves: repeats with other seeds, the same weights again,
a broken run.
"""

import json
import shutil

import pandas as pd
import pytest
from run_kit import copy_of_reference, run_here, shared

from benchmarks import cli


@pytest.mark.slow
def test_runs_of_the_harness(tmp_path, capsys):
    reference, repeat, third = tmp_path / "reference", tmp_path / "repeat", tmp_path / "third"
    copy_of_reference(reference)
    assert run_here(shared(), repeat, "--seed", "1") == 0
    assert run_here(shared(), third, "--seed", "2") == 0
    assert (
        cli.run(["check", "--calibrate", str(reference), str(repeat), "--against", str(reference)])
        == 0
    )
    capsys.readouterr()
    assert cli.run(["check", str(repeat), "--against", str(reference), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["margins"], report["notes"]) == (
        "PASS",
        "other-seed",
        ["seed: 0 -> 1"],
    )
    assert {finding["method"] for finding in report["findings"]} == {"perfusion", "super"}
    assert cli.run(["check", str(third), "--against", str(reference)]) in (0, 1)

    # the same trained files sampled again: run.json says so, and the margins of that apply
    again = tmp_path / "again"
    shutil.copytree(reference, again)
    assert cli.run(["check", "--calibrate", str(reference), str(again)]) == 0
    capsys.readouterr()
    assert cli.run(["check", str(again), "--against", str(reference)]) == 0
    assert "same-weights margins" in capsys.readouterr().out
    cells = pd.read_csv(again / "cells.csv", keep_default_na=False, na_values={"sd": [""]})
    cells.loc[cells["method"] == "perfusion", "mean"] -= 0.01
    cells.to_csv(again / "cells.csv", index=False)
    assert cli.run(["check", str(again), "--against", str(reference)]) == 1

    few = tmp_path / "few"
    assert run_here(shared(), few, "--seed", "1", "--set", "steps=4") == 0
    assert cli.run(["check", str(few), "--against", str(reference)]) == 2
    assert "differs: steps: 5 -> 4" in capsys.readouterr().out
