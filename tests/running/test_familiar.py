"""The shipped miniature says of a photograph, before anything is trained, that it has seen none."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.cli import run
from benchmarks.suite.importers import open_suite

WORDS = ["run", "--methods", "super", "--preset", "quick", "--prompts", "1", "--masks", "none",
         "--limit", "1", "--set", "steps=1", "--set", "images=1", "--device", "cpu"]  # fmt: skip


def photograph(rng):
    """What a camera leaves: soft light, a blurred ground, grain, no outline and no flat colour."""
    side = np.linspace(0, 1, 256)
    light = 90 + 80 * np.outer(side, 1 - side)[..., None] * rng.uniform(0.6, 1.4, 3)
    spots = rng.normal(0, 60, (16, 16, 3)).clip(-120, 120)
    ground = Image.fromarray((128 + spots).astype(np.uint8)).resize((256, 256), Image.BICUBIC)
    soft = np.asarray(ground.filter(ImageFilter.GaussianBlur(6)), dtype=float) - 128
    return Image.fromarray((light + soft + rng.normal(0, 9, light.shape)).clip(0, 255).astype("u1"))


@pytest.fixture
def folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        photograph(rng).save(tmp_path / "photos" / f"{number}.jpg")
    assert run(["concepts", "add", str(tmp_path / "photos"), "--super-category", "teapot",
                "--name", "mine", "--dest", str(tmp_path / "shelf")]) == 0  # fmt: skip
    told = capsys.readouterr().err
    assert "next: perfbench run --backbone sd15" in told and "--masks none" in told
    return tmp_path


def test_photographs_are_told_once_and_before_anything(folders, capsys):
    place = folders / "shelf" / "mine"
    assert run([*WORDS, "--concepts", f"{place},cat", "--out", str(folders / "run")]) == 0
    told = capsys.readouterr().err
    assert told.count("looks like nothing that the miniature draws") == 1 and "sd15" in told
    assert told.startswith("perfbench: mine looks like nothing"), "cat is drawn"


def test_what_is_drawn_is_not(folders, capsys):
    drawn = open_suite("world:7").concepts[-1].images[0].parent.parent
    assert run([*WORDS, "--concepts", str(drawn), "--out", str(folders / "run")]) == 0
    assert "looks like nothing" not in capsys.readouterr().err
