"""Weights name their world: the shipped ones, copies of them, and what a run on them records."""

import json

import pytest

from benchmarks.cli import run
from benchmarks.miniature.training.weights_export import copied_weights
from benchmarks.miniature.which_world import (
    FIRST,
    OF_FIRST,
    RECORD,
    WORLDS,
    one_generation,
    with_world,
    world_here,
    world_of_weights,
    worlds_apart,
    xl_of,
)
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


def test_an_xl_has_a_world_of_its_own_in_the_same_generation(tmp_path):
    """Its pictures are another model's, so no table holds both."""
    for world in WORLDS:
        (tmp_path / RECORD).write_text(json.dumps({"version": 1, "world": xl_of(world)}))
        assert world_of_weights(tmp_path) == xl_of(world) == xl_of(xl_of(world)) != world
        mine, its = ({"backbone": {"world": one}} for one in (world, xl_of(world)))
        assert worlds_apart(mine, its) == (world, xl_of(world))
        assert one_generation((world, xl_of(world)))
        assert with_world("miniature-xl", its) == f"miniature-xl ({world}-xl world)"
    assert not one_generation(WORLDS) and not one_generation((WORLDS[0], xl_of(WORLDS[1])))
    assert xl_of("") == ""
