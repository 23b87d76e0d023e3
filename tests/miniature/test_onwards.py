"""Training that goes on from finished weights begins with what they compute, to the last bit."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.growth import grown
from benchmarks.miniature.training.hyperparameters import STAGES, Recipe
from benchmarks.miniature.training.judge_training import trained_judge
from benchmarks.miniature.training.judges import open_judges
from benchmarks.miniature.training.onwards import are_weights, go_on, take_words
from benchmarks.miniature.training.scorer_training import trained_scorer
from benchmarks.miniature.training.stage import spent
from benchmarks.miniature.training.text_encoder import trained_text_encoder
from benchmarks.miniature.training.unet import trained_unet
from benchmarks.miniature.training.vae import trained_vae
from benchmarks.miniature.training.weights_export import read_record
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.paths import miniature_dir
from perfusion_core.backbone import Backbone


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workshop of sixteen pictures whose stages begin with the shipped weights."""
    work = tmp_path_factory.mktemp("onwards") / "work"
    take_words(miniature_dir(), work)
    shop = Workshop(work, Recipe(shards=1, shard=16), workers=1)
    assert go_on(shop, miniature_dir()) == list(STAGES)
    return shop


def pictures():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1


@torch.no_grad()
def test_the_deeper_vae_begins_with_what_the_shipped_one_computes(shop):
    old: AutoencoderKL = AutoencoderKL.from_pretrained(miniature_dir() / "vae", dtype=torch.float32)
    new, x = trained_vae(shop), pictures()
    latents = old.encode(x).latent_dist.mean
    assert torch.equal(new.encode(x).latent_dist.mean, latents)
    assert torch.equal(new.decode(latents).sample, old.decode(latents).sample)


@torch.no_grad()
def test_the_unet_begins_with_the_shipped_layers_and_new_ones_that_add_nothing(shop):
    unet = trained_unet(shop)
    old: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(
        miniature_dir() / "unet", dtype=torch.float32
    )
    before, after = old.state_dict(), unet.state_dict()
    for name in set(before) & set(after):
        assert torch.equal(before[name].reshape(after[name].shape), after[name]), name
    shapes = {name.split(".attentions")[0] for name in set(after) - set(before)}
    assert all(not after[f"{place}.attentions.0.proj_out.weight"].any() for place in shapes)


@torch.no_grad()
def test_words_scorers_and_judges_are_the_shipped_ones(shop):
    backbone = Backbone.open(miniature_dir(), device="cpu", dtype="float32")
    ids = backbone.tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    text = trained_text_encoder(shop)(ids).last_hidden_state
    assert torch.equal(text, backbone.text_encoder(ids).last_hidden_state)
    image = (np.random.default_rng(0).random((2, 64, 64, 3)) * 255).astype(np.uint8)
    judges = open_judges(miniature_dir())
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float()
    for name in ("factors", "identity", "segment"):
        mine, theirs = trained_judge(shop, name), judges.networks[name]
        told = mine(x / 127.5 - 1), theirs(x / 127.5 - 1)
        pairs = zip(*(one.values() if isinstance(one, dict) else [one] for one in told))
        assert all(torch.equal(one, other) for one, other in pairs)
    for name in networks.SCORERS:
        assert trained_scorer(shop, name).encode_image(x).shape == (2, 128)


def test_what_the_weights_were_given_is_told_and_nothing_here_was_spent(shop):
    for name, about in read_record(miniature_dir())["stages"].items():
        told = spent(shop.file(name))
        assert told["steps"] == about["steps"] and told["seconds"] == 0
        assert told["elsewhere"] == about["seconds"] + about["elsewhere"]
    assert go_on(shop, miniature_dir()) == [], "stages that are there stay"
    assert are_weights(miniature_dir()) and not are_weights(shop.folder)


def test_a_number_without_a_place_is_left_out_and_an_end_of_a_new_branch_is_zero():
    torch.manual_seed(0)
    block = torch.nn.Module()
    block.conv2 = torch.nn.Conv2d(2, 2, 3)
    block.first = torch.nn.Linear(2, 2)
    outer = torch.nn.Module()
    outer.block = block
    old = {"block.first.weight": torch.ones(2, 2, 1, 1), "gone.weight": torch.ones(1)}
    grown(outer, old)
    assert not outer.block.conv2.weight.any() and not outer.block.conv2.bias.any()
    assert torch.equal(outer.block.first.weight, torch.ones(2, 2))
