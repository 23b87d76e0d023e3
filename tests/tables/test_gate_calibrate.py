"""Calibration and power: margins of both sets from run folders, beside a reference they belong to;
what is caught.
"""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run
from test_gate import ABOUT, cells_of_repeat, keep

from benchmarks import cli
from benchmarks.tables import gate
from perfusion_core.errors import UserError

METHODS = {"perfusion": (LOCAL[0], GLOBAL[0]), "cd": ("default",)}


def made(folder: Path, seed: int, weights: str) -> str:
    """A run as the harness leaves it; `weights` stands for its trained files."""
    fits = {method: dict.fromkeys(("cat", "teapot", "chair"), weights * 32) for method in METHODS}
    small = {"concepts": ["cat", "teapot", "chair"], "prompts": 4, "images": 2, "pictures": False}
    make_run(folder, METHODS, **small, seed=seed, extra={"weights": fits})
    return str(folder)


def test_both_sets_are_made_from_real_run_folders_and_the_right_one_applies(tmp_path, capsys):
    reference = made(tmp_path / "reference", 0, "aa")
    same = [made(tmp_path / f"same-{n}", n, "aa") for n in (1, 2, 3)]
    other = [made(tmp_path / f"retrained-{n}", n + 9, f"b{n}") for n in (1, 2, 3)]
    for runs, name in ((same, "same-weights"), (other, "retrained")):
        assert cli.run(["check", "--calibrate", *runs, "--against", reference]) == 0
        assert capsys.readouterr().out.startswith(str(tmp_path / "reference" / "check.toml"))
        found = tomllib.loads((tmp_path / "reference" / "check.toml").read_text())
        assert found[name]["runs"] == [Path(run).name for run in runs]
    assert list(found) == ["same-weights", "retrained"]
    for run, name in ((same[0], "same-weights"), (other[0], "retrained")):
        assert cli.run(["check", run, "--against", reference, "--format", "json"]) in (0, 1)
        assert json.loads(capsys.readouterr().out)["margins"] == name


def test_repeats_of_another_protocol_make_no_margins_for_a_reference(tmp_path):
    reference = keep(tmp_path / "reference", cells_of_repeat(0))
    protocol = {**ABOUT["protocol"], "steps": 50}
    repeats = [
        str(keep(tmp_path / f"repeat-{n}", cells_of_repeat(n), protocol=protocol))
        for n in (1, 2, 3)
    ]
    with pytest.raises(UserError, match=r"reference is no repeat of .*repeat-1: .*steps: 50 -> 20"):
        cli.run(["check", "--calibrate", *repeats, "--against", str(reference)])
    assert not (reference / "check.toml").exists()
    assert cli.run(["check", "--calibrate", *repeats]) == 0  # for one of themselves they do


def test_repeats_may_be_of_fewer_concepts_than_the_reference(tmp_path):
    reference = keep(tmp_path / "reference", cells_of_repeat(0))
    few = [cells_of_repeat(n).query("concept < 'c06'") for n in (1, 2, 3)]
    repeats = [str(keep(tmp_path / f"repeat-{n}", cells)) for n, cells in enumerate(few)]
    assert cli.run(["check", "--calibrate", *repeats, "--against", str(reference)]) == 0


def test_what_differs_is_said_before_margins_are_asked_for(tmp_path, capsys):
    reference = keep(tmp_path / "reference", cells_of_repeat(0))  # without check.toml
    run = keep(tmp_path / "run", cells_of_repeat(1), protocol={**ABOUT["protocol"], "steps": 50})
    assert cli.run(["check", str(run), "--against", str(reference)]) == 2
    assert "differs: steps: 20 -> 50" in capsys.readouterr().out
    with pytest.raises(UserError, match="did you mean 'retrained'"):
        cli.run(["check", str(run), "--against", str(reference), "--margins", "retrain"])


def test_a_loss_of_what_the_power_row_says_is_caught_nine_times_in_ten():
    """`caught` of one repeat, planted into another one: the noise of both is the same."""
    margins = gate.margins_from([cells_of_repeat(seed) for seed in range(1, 6)])
    reference, failed = cells_of_repeat(0), []
    for seed in range(20, 45):
        said = gate.compare(reference, cells_of_repeat(seed), margins)
        cells = cells_of_repeat(seed + 100).copy()
        for finding in (one for one in said if not one.kind):
            mine = (
                cells[["method", "point", "metric"]]
                .eq([finding.method, finding.point, finding.metric])
                .all(axis=1)
            )
            cells.loc[mine, "mean"] -= finding.caught
        # by margin and interval alone: a floor may catch it besides
        failed += [
            one.loss.value > one.margin and one.loss.lo > 0
            for one in gate.compare(reference, cells, margins)
            if not one.kind
        ]
    assert 0.82 < np.mean(failed) < 0.98


def test_a_metric_that_no_repeat_has_gets_no_margin(tmp_path):
    cells = [cells_of_repeat(n) for n in (1, 2, 3)]
    repeats = [
        str(keep(tmp_path / f"r{n}", c[c["metric"] == "text_sim_raw"])) for n, c in enumerate(cells)
    ]
    with pytest.raises(UserError, match="no image_sim in common"):
        cli.run(["check", "--calibrate", *repeats])
    assert not list(tmp_path.glob("*/check.toml"))


def test_a_row_that_stands_twice_is_named(tmp_path):
    cells = cells_of_repeat(0)
    whole = keep(tmp_path / "whole", cells)
    twice = keep(tmp_path / "twice", pd.concat([cells, cells.iloc[[3]]]))
    for run, against in ((twice, whole), (whole, twice)):
        with pytest.raises(UserError, match=r"twice/cells.csv has a row twice \(.*perfbench table"):
            cli.run(["check", str(run), "--against", str(against)])
