"""The trial of the U-Net's structure: both arms begin alike, and its instances are new."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.miniature.training import structure
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.networks import make_unet
from benchmarks.miniature.training.weights_export import copied_weights
from benchmarks.miniature.worlds import APART, pool, shipped
from benchmarks.paths import miniature_dir
from benchmarks.suite.catalog import load_catalog
from perfusion_core.errors import UserError


def noise(unet):
    g = torch.Generator().manual_seed(0)
    x, words = torch.randn(2, 4, 16, 16, generator=g), torch.randn(2, 32, 160, generator=g)
    with torch.no_grad():
        return unet.eval()(x, torch.tensor([10, 700]), words).sample


@pytest.fixture
def first(tmp_path):
    """The shipped weights with a U-Net of the first miniature's structure, untrained: every layer
    adds something."""
    torch.manual_seed(0)
    with copied_weights(miniature_dir(), tmp_path / "first", ("unet",)) as part:
        make_unet(**structure.FIRST).save_pretrained(part / "unet")
    return tmp_path / "first"


def test_both_arms_begin_with_the_predictions_of_the_first_structure_to_the_last_bit(first):
    wanted = noise(UNet2DConditionModel.from_pretrained(first / "unet"))
    for arm in ("with", "without"):
        unet = structure.unet_from(first, **structure.ARMS[arm])
        assert torch.equal(noise(unet), wanted), arm
        cross = sum(name.endswith("attn2") for name, _ in unet.named_modules())
        assert cross == (10 if arm == "with" else 7)


def test_attention_where_stable_diffusion_has_it_goes_on_from_all_layers_that_stay(tmp_path):
    torch.manual_seed(0)
    everywhere = structure.unet_from(miniature_dir(), **structure.ARMS["with"])
    lowest = (everywhere.down_blocks[2], everywhere.up_blocks[0])
    for block in (everywhere.down_blocks[0], everywhere.up_blocks[2], *lowest):
        for attention in block.attentions:  # what adds something, where it stays
            torch.nn.init.normal_(attention.proj_out.weight, std=0.0 if block in lowest else 0.05)
            torch.nn.init.zeros_(attention.proj_out.bias)
    everywhere.save_pretrained(tmp_path / "unet")
    unet = structure.unet_from(tmp_path, **structure.ARMS["alike"])
    assert [len(getattr(b, "attentions", ())) for b in unet.down_blocks] == [1, 1, 0]
    assert [len(getattr(b, "attentions", ())) for b in unet.up_blocks] == [0, 2, 2]
    assert unet.mid_block.attentions and unet.config.use_linear_projection
    assert torch.allclose(noise(unet), noise(everywhere), atol=1e-5)
    shipped = structure.unet_from(miniature_dir(), **structure.ARMS["alike"])
    assert not torch.allclose(noise(shipped), noise(everywhere), atol=1e-2)


def test_the_six_instances_are_of_no_training_picture_and_make_a_suite(tmp_path):
    structure.write_concepts(tmp_path)
    suite = load_catalog(tmp_path)
    assert sorted(c.super_category for c in suite.concepts) == sorted(structure.SIX)
    for cls, number in structure.SIX.items():
        one = structure.make_instance(cls, ("concept", number)).vector()
        near = np.concatenate([pool(cls), *(each.vector()[None] for each in shipped(cls))])
        assert np.linalg.norm(near - one, axis=1).min() > APART


@pytest.mark.parametrize("arm", ["with", "without"])
def test_an_arm_begins_with_weights_that_do_not_attend_there(arm, first, tmp_path):
    structure.refuse_attending(arm, first)
    later = tmp_path / "later"
    make_unet().save_config(later / "unet")
    structure.refuse_attending("alike", later)
    with pytest.raises(UserError, match="attends at 16 x 16 already"):
        structure.train_arm(arm, tmp_path / "out", tmp_path / "work", 1, later)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_an_arm_trains_stops_and_goes_on(first, tmp_path, monkeypatch):
    monkeypatch.setattr(structure, "RECIPE", Recipe(shards=1, shard=64, unet_batch=4))
    args = ("with", tmp_path / "arm", tmp_path / "work")
    threads = torch.get_num_threads()
    try:
        for minutes in (0.05, 0.1):
            structure.train_arm(*args, minutes, first)
            about = json.loads((tmp_path / "arm" / "build.json").read_text())["structure"]
            assert about["seconds"] >= 60 * minutes - 1
    finally:
        torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "arm" / "unet")
    new = unet.down_blocks[0].attentions[0].proj_out.weight
    assert new.abs().max() > 0
