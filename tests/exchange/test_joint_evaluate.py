"""`perfbench evaluate` on a backbone with two text encoders, as it is typed."""

import json

import adapter_kit as kit
import pandas as pd
import pytest
import torch
from run_kit import make_scorer, shared
from safetensors.torch import save_file
from xl_kit import WIDTHS, make_xl

from benchmarks import cli
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Without C, which nothing here needs."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny-xl"
    make_xl().save_pretrained(folder)
    for number, name in enumerate(("scorer", "scorer2"), 1):
        make_scorer(folder / name, number)
    return folder


def evaluate(backbone, out, *words):
    place = ["--backbone", backbone, "--suite", shared() / "concepts", "--out", out]
    few = ["--preset", "micro", "--device", "cpu", "--dtype", "float32", "--threads", "1"]
    few += ["--prompts", "1", "--set", "steps=2", "--concept", "cat", "--trigger", "sks {}"]
    return cli.run(["evaluate", *map(str, (*words, *place, *few))])


def epoch(folder, number, write=kit.kohya_xl):
    tensors = write(kit.matrices_xl(seed=number))
    file = folder / f"my-{number:06}.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)
    return file


def test_files_and_a_word_are_drawn_and_scored(backbone, tmp_path):
    files = [epoch(tmp_path, 1), epoch(tmp_path, 2, kit.diffusers_scripts)]
    word = tmp_path / "word.safetensors"
    both = zip(("clip_l", "clip_g"), WIDTHS)
    save_file({key: torch.randn(2, width) for key, width in both}, word)
    out = tmp_path / "run"
    assert evaluate(backbone, out, *files, word) == 0
    table = pd.read_csv(out / "table.csv").set_index("method")
    scores = table.loc[["my-000001", "my-000002", "word", "super"], "text_sim_raw"]
    assert scores.notna().all() and scores.nunique() == 4
    about = json.loads((out / "run.json").read_text())
    assert about["failures"] == [] and about["methods"]["word"]["of"] == "adapter"
    assert (out / "evaluation.md").read_text().startswith("# Which file to keep")


@pytest.mark.parametrize("write", [kit.kohya, kit.diffusers_scripts])
def test_a_file_of_1x_ends_it_before_anything_is_drawn(backbone, tmp_path, write):
    good, bad = epoch(tmp_path, 1), tmp_path / "theirs.safetensors"
    save_file({k: v.contiguous() for k, v in write(kit.matrices()).items()}, bad)
    with pytest.raises(UserError, match=r"^theirs: ") as told:
        evaluate(backbone, tmp_path / "run", good, bad)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()
