"""Weights name their world: the shipped ones, copies of them, and what a run on them records."""

import json

import pytest

from benchmarks.cli import run
from benchmarks.miniature.training.weights_export import copied_weights
from benchmarks.miniature.which_world import FIRST, OF_FIRST, RECORD, world_here, world_of_weights
from benchmarks.paths import miniature_dir

RUN = ["run", "--methods", "super", "--preset", "quick", "--concepts", "cat", "--prompts", "1",
       "--limit", "1", "--set", "steps=1", "--set", "images=1", "--device", "cpu"]  # fmt: skip


def test_the_shipped_weights_name_their_world():
    told = json.loads((miniature_dir() / RECORD).read_text())
    assert told["world"] == world_here() == world_of_weights(miniature_dir())


@pytest.mark.parametrize("told", [{}, {"world": "third"}, {"world": ["first"]}])
def test_weights_without_a_known_name_are_known_by_their_digest(told, tmp_path):
    assert world_of_weights(tmp_path, next(iter(OF_FIRST))) == "", "no weights of the recipe"
    (tmp_path / RECORD).write_text(json.dumps({"version": 1, **told}))
    assert {world_of_weights(tmp_path, digest) for digest in OF_FIRST} == {FIRST}
    assert world_of_weights(tmp_path) == "" and world_of_weights(tmp_path / RECORD) == ""


@pytest.mark.parametrize("told", [{"world": "second"}, {}])
def test_a_copy_is_of_the_world_it_was_made_in(told, tmp_path):
    weights, out = tmp_path / "weights", tmp_path / "out"
    (weights / "unet").mkdir(parents=True)
    (weights / RECORD).write_text(json.dumps({"version": 1, **told}))
    with copied_weights(weights, out, ("unet",), restyled={"style": "oil"}) as part:
        assert not (part / "unet").exists()
    made = json.loads((out / RECORD).read_text())
    assert made == {"version": 1, **told, "restyled": {"style": "oil"}}


def test_a_run_records_the_world_of_its_weights(tmp_path):
    assert run([*RUN, "--out", str(tmp_path / "run")]) == 0
    backbone = json.loads((tmp_path / "run" / "run.json").read_text())["backbone"]
    assert backbone["id"] == "miniature" and backbone["world"] == world_here()
