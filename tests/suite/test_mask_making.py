"""--masks auto, none, clipseg and a folder: what fits see, where CLIPSeg's masks lie, what the plan
knows, a look.
"""

import shutil

import numpy as np
import pytest
from PIL import Image
from run_kit import shared

from benchmarks.cli import run
from benchmarks.planning.config import protocol, resolve
from benchmarks.running.prepared import prepare_run
from benchmarks.running.run import open_folder
from benchmarks.suite import concept_masks
from benchmarks.suite.catalog import load_catalog
from perfusion_core.errors import UserError
from perfusion_core.masks import open_clipseg


@pytest.fixture
def suite(tmp_path):
    """A cat that brings masks, and a teapot that does not."""
    folder = shutil.copytree(shared() / "concepts", tmp_path / "suite")
    shutil.rmtree(folder / "teapot" / "masks")
    toml = folder / "teapot" / "concept.toml"
    toml.write_text(toml.read_text().split("\n[masks]")[0] + "\n")
    return folder


def prepared(suite, tmp_path, given, model, methods="perfusion"):
    flags = {
        "backbone": str(shared() / "tiny"),
        "suite": str(suite),
        "device": "cpu",
        "dtype": "float32",
    }
    flags |= {
        "masks": given,
        "clipseg": str(model),
        "methods": methods,
        "out": str(tmp_path / "out"),
    }
    return prepare_run(resolve(preset="micro", flags=flags))


def seen(folder, concept):
    paths = sorted((folder / "concepts" / concept / "masks").glob("*.png"))
    return [np.asarray(Image.open(path)) for path in paths]


def test_auto_takes_the_concepts_own_and_clipsegs_for_the_rest(
    suite, tmp_path, clipseg, monkeypatch
):
    ready = prepared(suite, tmp_path, "auto", clipseg)
    assert not list((suite / "teapot").glob("clipseg-*")), "a plan draws nothing"
    store = open_folder(ready, [])
    made = next((suite / "teapot").glob("clipseg-*"))
    assert sorted(path.name for path in made.iterdir()) == ["00.png", "01.png", "02.png"]
    model, processor = open_clipseg(clipseg)
    from perfusion_core.masks import soft_masks

    images = [
        Image.open(path).convert("RGB") for path in load_catalog(suite).concept("teapot").images
    ]
    for mask, ours in zip(
        soft_masks(model, processor, images, "teapot"), seen(store.root, "teapot"), strict=True
    ):
        np.testing.assert_allclose(ours / 255, mask / mask.max(), atol=1 / 255)
    np.testing.assert_array_equal(seen(store.root, "cat")[0], np.pad(np.full((8, 8), 255), 4))
    monkeypatch.setattr(
        "perfusion_core.masks.open_clipseg", lambda *_: pytest.fail("they are there already")
    )
    again = prepared(suite, tmp_path, "auto", clipseg)
    open_folder(again, [])
    assert again.plan.digest == ready.plan.digest


def test_none_is_a_fit_without_masks(suite, tmp_path, clipseg):
    ready = prepared(suite, tmp_path, "none", "nowhere/at-all")
    store = open_folder(ready, [])
    assert not any(
        (store.root / "concepts" / name / "masks").exists() for name in ("cat", "teapot")
    )
    perfusion = next(method for method in ready.methods if method.name == "perfusion")
    assert perfusion.config["masks"] is False
    with pytest.raises(UserError, match=r"another protocol \(masks"):
        open_folder(prepared(suite, tmp_path, "clipseg", clipseg), [])


def test_clipseg_replaces_a_concepts_own_and_every_choice_has_its_keys(suite, tmp_path, clipseg):
    drawn = tmp_path / "drawn"
    for concept in load_catalog(suite).concepts:
        concept_masks.write_masks(
            [np.eye(16)] * 3, [drawn / concept.name / f"{path.stem}.png" for path in concept.images]
        )
    keys = {}
    for given in ("auto", "none", "clipseg", str(drawn)):
        ready = prepared(suite, tmp_path, given, clipseg)
        keys[given] = {fit.concept: fit.key for fit in ready.plan.fits if fit.method}
    cats = [keys[given]["cat"] for given in keys]
    assert len(set(cats)) == 4
    assert keys["auto"]["teapot"] == keys["clipseg"]["teapot"], "the same masks by another word"
    before = keys[str(drawn)]["cat"]
    concept_masks.write_masks([1 - np.eye(16)], [drawn / "cat" / "00.png"])
    after = prepared(suite, tmp_path, str(drawn), clipseg)
    assert before not in {fit.key for fit in after.plan.fits}
    (drawn / "cat" / "01.png").unlink()
    with pytest.raises(UserError, match=r"01\.png is missing"):
        prepared(suite, tmp_path, str(drawn), clipseg)
    with pytest.raises(
        UserError, match="masks='clipsg' is not a folder; allowed: auto, none, clipseg"
    ):
        prepared(suite, tmp_path, "clipsg", clipseg)


def test_methods_that_look_at_no_mask_ask_for_none(suite, tmp_path):
    ready = prepared(suite, tmp_path, "auto", "nowhere/at-all", methods="ti")
    open_folder(ready, [])  # no CLIPSeg is opened


def test_without_clipseg_it_is_one_sentence(suite, tmp_path):
    ready = prepared(suite, tmp_path, "auto", tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot open CLIPSeg"):
        open_folder(ready, [])


def test_a_driver_without_a_gpu_draws_them_on_what_it_has(suite, tmp_path, clipseg, monkeypatch):
    """Of a Ray cluster whose workers have GPUs."""
    import torch

    asked: list[str] = []

    def opened(model, device):
        asked.append(device)
        return open_clipseg(model)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("perfusion_core.masks.open_clipseg", opened)
    concept_masks.make_missing(
        prepared(suite, tmp_path, "auto", clipseg).concepts, str(clipseg), "cuda"
    )
    assert asked == ["cpu"] and len(list((suite / "teapot").glob("clipseg-*/*.png"))) == 3


def test_a_folder_that_cannot_be_written_uses_the_cache(suite, tmp_path, clipseg, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(concept_masks.os, "access", lambda *_: False)
    ready = prepared(suite, tmp_path, "clipseg", clipseg)
    assert all(
        mask.is_relative_to(tmp_path / "cache")
        for concept in ready.concepts
        for mask in concept.masks
    )


def test_defaults_name_no_masks_in_the_protocol():
    assert "masks" not in protocol(resolve(preset="micro"))
    assert protocol(resolve(preset="micro", flags={"masks": "none"}))["masks"] == "none"


def test_the_verb_makes_them_and_shows_them(suite, tmp_path, clipseg, capsys):
    words = ["masks", "teapot", "--suite", str(suite), "--device", "cpu"]
    with pytest.raises(UserError, match="'teapot' has no masks to show"):
        run([*words, "--show", str(tmp_path / "look.png")])
    assert run([*words, "--model", str(clipseg)]) == 0
    assert capsys.readouterr().out.strip() == str(suite / "teapot" / "masks")
    assert len(load_catalog(suite).concept("teapot").masks) == 3  # recorded and verified
    assert Image.open(suite / "teapot" / "masks.png").size == (3 * 2 * 192, 192)
    assert run([*words[:1], "cat,teapot", *words[2:], "--show", str(tmp_path / "look.png")]) == 0
    assert Image.open(tmp_path / "look.png").size == (4 * 2 * 192, 2 * 192)


def test_what_is_shown(suite):
    """Inside of the mask the picture as it is, outside it is red."""
    concept = load_catalog(suite).concept("cat")
    shown = np.asarray(concept_masks.sheet([concept], side=16)).astype(int)
    image, over = shown[:16, :16], shown[:16, 16:32]
    np.testing.assert_array_equal(over[4:12, 4:12], image[4:12, 4:12])
    outside = over[0, 0] - image[0, 0] * 0.35
    np.testing.assert_allclose(outside, 0.65 * np.array([200, 30, 30]), atol=1)
