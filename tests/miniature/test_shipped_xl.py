"""miniature-xl as it is shipped: what its folder has, what it draws, and the five methods trained,
saved, loaded and drawn on it through the command line.
"""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from xl_kit import xl_stock

from benchmarks.contract import check_method
from benchmarks.miniature.shipped_xl import MOST
from benchmarks.miniature.training.judges import open_judges
from benchmarks.miniature.which_world import world_here, world_of_weights, xl_of
from benchmarks.miniature.world.picture import CLASSES
from benchmarks.paths import backbone_names, miniature_dir, miniature_xl_dir, miniature_xl_parts
from benchmarks.planning.methods import load_method
from perfusion_core import Backbone, load_concepts
from perfusion_core.sampling import noise, sample
from perfusion_core.weight_digests import backbone_digest

METHODS = ("perfusion", "ti", "lora", "cd", "db")
MICRO = ["run", "--preset", "micro", "--backbone", "miniature-xl", "--no-cache", "--threads", "1"]
MICRO += ["--device", "cpu", "--dtype", "float32", "--methods", ",".join(METHODS)]


def perfbench(*words):
    """In a process of its own, as users call it."""
    call = [sys.executable, "-m", "benchmarks.cli", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def backbone():
    return Backbone.open("miniature-xl", device="cpu", dtype="float32", names=backbone_names())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("xl") / "run"
    perfbench(*MICRO, "--out", out)
    return out


def test_its_parts_are_small_and_of_the_miniature_in_the_package():
    files = [path for path in miniature_xl_parts().rglob("*") if path.is_file()]
    assert 10_000_000 < sum(path.stat().st_size for path in files) <= MOST
    record = json.loads((miniature_xl_dir() / "build.json").read_text())
    assert record["joint"]["grown_from"] == backbone_digest(miniature_dir())
    assert record["world"] == world_of_weights(miniature_xl_dir()) == xl_of(world_here())


def test_it_draws_every_class_that_it_is_asked_for(backbone):
    """By the judge, in 20 steps; a U-Net that was not trained is right in one of eleven."""
    texts = [f"a photo of a {cls}" for cls in CLASSES for _ in range(2)]
    drawn = sample(backbone, texts, range(len(texts)), steps=20)
    seen = open_judges(miniature_dir()).factors(drawn)["cls"]
    right = [text.endswith(f" {cls}") for text, cls in zip(texts, seen)]
    assert np.mean(right) > 0.8, [text for text, fine in zip(texts, right) if not fine]


def test_five_methods_are_trained_drawn_and_scored(done):
    about = json.loads((done / "run.json").read_text())
    assert about["failures"] == [] and about["backbone"]["world"] == xl_of(world_here())
    table = pd.read_csv(done / "table.csv")
    assert set(METHODS) <= set(table["method"]) and not table["image_sim"].isna().any()


@pytest.mark.parametrize("method", METHODS)
def test_the_contract_is_kept(method, backbone):
    """Trains, saves, loads, applies, restores, changes what it says, and does it twice alike."""
    check_method(load_method(method), backbone, tell=lambda _: None)


def test_what_they_saved_draws_the_same_when_it_is_loaded(done, tmp_path):
    trained = ",".join(f"{name}={done}" for name in METHODS)
    perfbench(*MICRO, "--trained", trained, "--out", tmp_path / "again")
    places = sorted(path.relative_to(done) for path in done.glob("images/*/*/*/*/*.png"))
    assert {place.parts[1] for place in places} == {*METHODS, "super"}
    for place in places:  # each file also names its cell, whose key tells where the fit came from
        one, other = (np.asarray(Image.open(run / place)) for run in (done, tmp_path / "again"))
        assert np.array_equal(one, other), place


def test_a_stock_pipeline_draws_the_concept_and_is_itself_afterwards(done, backbone):
    stock = xl_stock(backbone)
    [file] = done.glob("fits/perfusion/cat-*/concept.safetensors")

    def draw(text):
        start = noise(backbone, [3])
        return stock(text, latents=start, num_inference_steps=3, output_type="np").images

    before = draw("a cat on the beach")
    with load_concepts(stock, {"cat": file}, c_inv=backbone.c_inv):
        inside = draw("a {cat} on the beach")
    assert np.array_equal(draw("a cat on the beach"), before)
    assert np.abs(inside - before).max() > 0.05
