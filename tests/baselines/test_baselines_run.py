"""All baselines through `perfbench run`, with class images, variants, selection and a pair."""

import pandas as pd
import pytest
from run_kit import run_here, shared

from benchmarks.disk import read_json


def test_every_baseline_runs_and_runs_again_without_work(tmp_path, capfd):
    out = tmp_path / "run"
    more = (
        "--methods",
        "db,ti,cd,cd-better,lora,ti-selected",
        "--concepts",
        "cat",
        "--prompts",
        "1",
        "--set",
        "images=1",
        "--set",
        "train_steps=5",
    )
    assert run_here(shared(), out, *more) == 0
    table = pd.read_csv(out / "table.csv").set_index("method")
    assert {"super", "db", "ti", "cd", "cd-better", "lora", "ti-selected"} <= set(table.index)
    assert (
        table.loc["db", "kilobytes"]
        > table.loc["cd", "kilobytes"]
        > table.loc["ti", "kilobytes"]
        > 0
    )
    priors = list((out / "priors").iterdir())
    assert len(priors) == 1, "one set of class images for db, cd and cd-better"
    steps = sorted(
        read_json(path)["steps_run"] for path in (out / "fits" / "cd").glob("*/fit.json")
    )
    assert steps == [4, 5]
    pictures = {
        p.relative_to(out / "images").as_posix(): p.read_bytes()
        for p in (out / "images").rglob("*.png")
    }
    assert len(pictures) == len(set(pictures.values())) == 7
    capfd.readouterr()
    assert run_here(shared(), out, *more) == 0
    assert "nothing new" in capfd.readouterr().err


@pytest.mark.slow
def test_pairs_of_those_that_can(tmp_path):
    out = tmp_path / "run"
    more = (
        "--methods",
        "cd,ti,lora",
        "--concepts",
        "cat",
        "--prompts",
        "1",
        "--pairs",
        "cat+teapot",
        "--set",
        "images=1",
        "--set",
        "train_steps=3",
    )
    assert run_here(shared(), out, *more) == 0
    pairs = pd.read_csv(out / "pair-table.csv")
    assert {"super", "cd", "ti", "lora"} <= set(pairs["method"])
