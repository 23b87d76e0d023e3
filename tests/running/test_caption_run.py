"""Which methods are refused on backbones of PixArt's and Sana's kinds before anything is done."""

import pytest
import torch
from caption_kit import MAKERS
from run_kit import make_scorer

from benchmarks.cli import run
from benchmarks.planning import methods
from benchmarks.planning.backbones import find_models
from benchmarks.planning.config import resolve
from perfusion_core import Backbone, UserError
from perfusion_core.subject import Subject

COMPARED = [name for name in methods.expanded([methods.EVERY]) if name != "perfusion"]


@pytest.fixture(scope="module", params=MAKERS)
def place(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / request.param
    MAKERS[request.param]().save_pretrained(folder)
    for number, name in enumerate(("scorer", "scorer2"), 1):
        make_scorer(folder / name, number)
    return folder


def words(place, names):
    return [
        "--preset", "micro", "--backbone", str(place), "--device", "cpu", "--dtype", "float32",
        "--concepts", "cat", "--no-cache", "--methods", names,
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_one_method_is_refused_by_the_plan(place, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as told:
        run([verb, *words(place, "lora"), *(["--out", "run"] if verb == "run" else [])])
    assert str(told.value) == (
        f"the backbone {place.name} is of PixArt's or Sana's kind, and lora trains a U-Net; use "
        f"the method perfusion there"
    )
    assert not list(tmp_path.iterdir())


def test_all_are_named_at_once_and_in_one_sentence(place, tmp_path):
    with pytest.raises(UserError, match=", ".join([*COMPARED[:2], ".* train a U-Net; "])) as told:
        run(["run", *words(place, "all"), "--out", str(tmp_path / "run")])
    said = str(told.value)
    assert all(f" {name}" in said for name in COMPARED) and "perfusion," not in said
    assert len(said.split()) <= 40 and not (tmp_path / "run").exists()


def test_one_fit_is_refused_too(place, tmp_path):
    out = tmp_path / "lora"
    with pytest.raises(UserError, match="lora trains a U-Net; use the method perfusion"):
        run(["fit", "lora", "--concept", "cat", "--backbone", str(place), "--device", "cpu",
             "--out", str(out)])  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMPARED)
def test_a_method_says_what_its_training_refuses(place, tmp_path, name):
    """And where it is called without a plan, it still refuses."""
    assert methods.said(name).unet_only
    module = methods.load_method(name)
    backbone = Backbone.open(place, device="cpu", dtype="float32")
    images = torch.zeros(1, 3, backbone.size, backbone.size)
    with pytest.raises(UserError, match="use the method perfusion there"):
        module.fit(
            backbone, Subject("cat", "cat", images, None), module.Config(steps=1), tmp_path, seed=0
        )


def test_perfusion_and_what_trains_nothing_are_not_refused(place, tmp_path):
    assert not any(methods.said(name).unet_only for name in ("perfusion", "super"))
    flags = {"backbone": str(place), "device": "cpu", "dtype": "float32"}
    assert find_models(resolve(flags=flags)).captioned
    with pytest.raises(UserError, match="has no C yet, which perfusion needs"):
        run(["run", *words(place, "perfusion"), "--out", str(tmp_path / "run")])
    run(["plan", *words(place, "super")])
