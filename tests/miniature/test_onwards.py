"""Training that goes on from finished weights begins with what they compute, to the last bit."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.growth import grown
from benchmarks.miniature.training.hyperparameters import STAGES, Recipe
from benchmarks.miniature.training.judge_training import trained_judge
from benchmarks.miniature.training.judges import open_judges
from benchmarks.miniature.training.onwards import are_weights, go_on, kept_covariance, take_words
from benchmarks.miniature.training.scorer_training import trained_scorer
from benchmarks.miniature.training.stage import Stage, spent
from benchmarks.miniature.training.structure import FIRST
from benchmarks.miniature.training.text_encoder import text_modules, trained_text_encoder
from benchmarks.miniature.training.unet import trained_unet
from benchmarks.miniature.training.vae import trained_vae
from benchmarks.miniature.training.weights_export import read_record
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.paths import miniature_dir
from benchmarks.scoring.lookup import Scorer
from benchmarks.scoring.scorers import open_scorer
from perfusion_core.backbone import Backbone
from perfusion_core.covariance import FILE as COVARIANCE


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
def test_the_vae_begins_with_what_the_shipped_one_computes(shop):
    old: AutoencoderKL = AutoencoderKL.from_pretrained(miniature_dir() / "vae", dtype=torch.float32)
    new, x = trained_vae(shop), pictures()
    latents = old.encode(x).latent_dist.mean
    assert torch.equal(new.encode(x).latent_dist.mean, latents)
    assert torch.equal(new.decode(latents).sample, old.decode(latents).sample)


@torch.no_grad()
def test_a_vae_of_the_first_structure_gets_new_layers_that_add_nothing():
    torch.manual_seed(0)
    new = networks.make_vae().eval()
    old = AutoencoderKL.from_config({**new.config, "layers_per_block": 1}).eval()
    assert len(old.state_dict()) < len(grown(new, old.state_dict()).state_dict())
    x = pictures()
    latents = old.encode(x).latent_dist.mean
    assert torch.equal(new.encode(x).latent_dist.mean, latents)
    assert torch.equal(new.decode(latents).sample, old.decode(latents).sample)


@torch.no_grad()
def test_the_unet_begins_with_the_shipped_layers(shop):
    unet = trained_unet(shop)
    old: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(
        miniature_dir() / "unet", dtype=torch.float32
    )
    shared, _ = alike_where_both_have(old.state_dict(), unet.state_dict())
    assert len(shared) > len(unet.state_dict()) / 2


@torch.no_grad()
def test_a_unet_of_the_first_structure_gets_new_layers_that_add_nothing():
    torch.manual_seed(0)
    old = networks.make_unet(**FIRST)
    unet = grown(networks.make_unet(), old.state_dict())
    shared, new = alike_where_both_have(old.state_dict(), unet.state_dict())
    blocks = {name.partition(".attentions.")[0] for name in new}
    assert shared and blocks == {"down_blocks.0", "up_blocks.2"}
    ends = [name for name in new if ".proj_out." in name]
    assert len(ends) == 2 * 3 and not any(unet.state_dict()[name].any() for name in ends)
    gone = {name.partition(".attentions.")[0] for name in old.state_dict().keys() - shared}
    assert gone == {"down_blocks.2", "up_blocks.0"}


def alike_where_both_have(before, after):
    """The names that both have, whose numbers are the same, and those that only `after` has."""
    shared = before.keys() & after.keys()
    for name in shared:
        assert torch.equal(before[name].reshape(after[name].shape), after[name]), name
    return shared, after.keys() - before.keys()


@torch.no_grad()
def test_words_scorers_and_judges_are_the_shipped_ones(shop):
    backbone = Backbone.open(miniature_dir(), device="cpu", dtype="float32")
    ids = backbone.tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    text = trained_text_encoder(shop)(ids).last_hidden_state
    assert torch.equal(text, backbone.text_encoder(ids).last_hidden_state)
    image = (np.random.default_rng(0).random((2, 64, 64, 3)) * 255).astype(np.uint8)
    pictures = [Image.fromarray(one) for one in image]
    judges = open_judges(miniature_dir())
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float()
    for name in ("factors", "identity", "segment"):
        mine, theirs = trained_judge(shop, name), judges.networks[name]
        told = mine(x / 127.5 - 1), theirs(x / 127.5 - 1)
        pairs = zip(*(one.values() if isinstance(one, dict) else [one] for one in told))
        assert all(torch.equal(one, other) for one, other in pairs)
    for name in networks.SCORERS:
        shipped = open_scorer(Scorer(name, "clip", str(miniature_dir() / name), "", ""), "cpu")
        mine = trained_scorer(shop, name).eval()
        seen = torch.stack([shipped.prepare(one) for one in pictures])
        theirs = shipped.model.encode_image(seen)
        assert theirs.std(0).max() > 0
        torch.testing.assert_close(mine.encode_image(seen), theirs, rtol=1e-4, atol=1e-5)
        words = shipped.tokenize(["a cat", "a red dog"])
        told = mine.encode_text(words), shipped.model.encode_text(words)
        torch.testing.assert_close(*told, rtol=1e-4, atol=1e-5)


def test_what_the_weights_were_given_is_told_and_nothing_here_was_spent(shop):
    for name, about in read_record(miniature_dir())["stages"].items():
        told = spent(shop.file(name))
        assert told["steps"] == about["steps"] and told["seconds"] == 0
        assert told["elsewhere"] == about["seconds"] + about["elsewhere"]
    assert go_on(shop, miniature_dir()) == [], "stages that are there stay"
    assert are_weights(miniature_dir()) and not are_weights(shop.folder)


def test_c_is_the_weights_own_until_their_text_encoder_is_trained(shop, tmp_path):
    weights, made = miniature_dir(), tmp_path / COVARIANCE
    assert kept_covariance(shop, weights, tmp_path)
    assert made.read_bytes() == (weights / COVARIANCE).read_bytes()
    stage = Stage(text_modules(shop), shop.file("text"), lr=1)
    try:
        stage.seconds = 1.0
        stage.save()
        made.unlink()
        assert not kept_covariance(shop, weights, tmp_path) and not made.exists()
    finally:
        stage.seconds = 0.0
        stage.save()
    assert not kept_covariance(shop, tmp_path, tmp_path), "weights without C have none to keep"


def small_network():
    torch.manual_seed(0)
    block = torch.nn.Module()
    block.conv2 = torch.nn.Conv2d(2, 2, 3)
    block.first = torch.nn.Linear(2, 2)
    outer = torch.nn.Module()
    outer.block = block
    return outer


FIRST_OF_ALL = {"block.first.weight": torch.ones(2, 2, 1, 1)}


def test_attentions_without_a_place_are_left_out_and_an_end_of_a_new_branch_is_zero():
    outer = small_network()
    grown(outer, FIRST_OF_ALL | {"block.attentions.0.proj_out.weight": torch.ones(1)})
    assert not outer.block.conv2.weight.any() and not outer.block.conv2.bias.any()
    assert torch.equal(outer.block.first.weight, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("old", "says"),
    [
        ({}, "of another network"),
        (FIRST_OF_ALL | {"gone.weight": torch.ones(1)}, "no place for gone.weight and 0 more"),
        ({"block.first.weight": torch.ones(4, 1)}, "is not"),
        ({"block.first.weight": torch.ones(2, 1, 2, 1)}, "is not"),
        ({"block.conv2.weight": torch.ones(2, 2, 9)}, "is not"),
    ],
)
def test_numbers_of_another_network_are_refused(old, says):
    with pytest.raises(AssertionError, match=says):
        grown(small_network(), old)
