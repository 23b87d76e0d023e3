"""Another VAE for a backbone's own: what draws with it, in which dtype, and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from baselines_kit import SEEDS, apart, stock_draw
from conftest import make_pipe
from safetensors.torch import load_file, save_file
from xl_kit import make_xl, xl_stock

from perfusion_core import Backbone, UserError
from perfusion_core.errors import NotFinite
from perfusion_core.hub import VAE_WEIGHTS
from perfusion_core.places import latents_apart, locate_vae
from perfusion_core.sampling import sample
from perfusion_core.weight_digests import vae_digest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / "tiny-xl"
    make_xl().save_pretrained(folder)
    return folder


@pytest.fixture
def fixed(tmp_path):
    """A VAE with other weights that was made for float16."""
    vae = make_xl(5).vae
    vae.register_to_config(force_upcast=False)
    vae.save_pretrained(tmp_path / "fixed")
    return tmp_path / "fixed"


def opened(place, vae=None, dtype="float32"):
    return Backbone.open(place, device="cpu", dtype=dtype, vae=vae)


def test_it_draws_as_stock_diffusers_does_with_it(place, fixed):
    backbone, plain = opened(place, fixed), opened(place)
    stock = xl_stock(backbone)
    stock.vae = make_xl(5).vae
    theirs = stock_draw(stock, backbone, "A toy on the beach")
    assert apart(sample(backbone, "A toy on the beach", SEEDS, steps=5), theirs) <= 1
    assert apart(sample(plain, "A toy on the beach", SEEDS, steps=5), theirs) > 10
    assert backbone.digest == plain.digest  # of the checkpoint; keys count the VAE beside it


def test_beside_float16_it_is_in_float16_where_the_own_one_is_not(place, fixed):
    assert opened(place, dtype="float16").vae.dtype == torch.float32
    backbone = opened(place, fixed, "float16")
    assert backbone.vae.dtype == torch.float16 == backbone.unet.dtype
    assert sample(backbone, "A toy", [0], steps=2).shape == (1, 16, 16, 3)
    make_xl(5).vae.save_pretrained(fixed)  # one that leaves float16's range, too
    assert opened(place, fixed, "float16").vae.dtype == torch.float32


def test_a_vae_that_leaves_float16_all_the_same_is_told_of(place, fixed):
    vae = make_xl(5).vae
    vae.register_to_config(force_upcast=False)
    vae.decoder.conv_in.weight.data *= 1e6
    vae.decoder.conv_out.weight.data *= 1e6
    vae.save_pretrained(fixed)
    with pytest.raises(NotFinite, match="give --dtype bfloat16 or float32"):
        sample(opened(place, fixed, "float16"), "A toy", [0], steps=1)


def test_numbers_that_the_unet_leaves_are_not_the_vaes(place):
    backbone = opened(place)
    with pytest.raises(NotFinite, match="check the trained files and the guidance"):
        sample(backbone, "A toy", [0], steps=1, guidance=float("inf"))


def test_a_folder_of_a_whole_pipeline_gives_its_vae(place, fixed):
    assert locate_vae(str(place)) == ("tiny-xl", place / "vae", None)
    assert locate_vae(str(fixed)) == ("fixed", fixed, None)
    assert vae_digest(fixed) != vae_digest(place / "vae")


def test_it_stands_in_on_one_text_encoder_too(tmp_path):
    make_pipe().save_pretrained(tmp_path / "tiny")
    make_pipe(5).vae.save_pretrained(tmp_path / "vae")
    drawn = sample(opened(tmp_path / "tiny", tmp_path / "vae"), "a toy", [0], steps=2)
    backbone = opened(tmp_path / "tiny")
    backbone.pipe.vae = make_pipe(5).vae.requires_grad_(False)
    assert np.abs(drawn.astype(int) - sample(backbone, "a toy", [0], steps=2)).max() <= 1


def changed(fixed, change):
    tensors = load_file(fixed / VAE_WEIGHTS)
    change(tensors)
    save_file(tensors, fixed / VAE_WEIGHTS, {"format": "pt"})


def scaled(fixed):
    vae = make_xl().vae
    vae.register_to_config(scaling_factor=0.5)
    vae.save_pretrained(fixed)


BAD = {  # what is wrong -> what is done to the folder, and what the sentence says
    "no weights": (lambda f: (f / VAE_WEIGHTS).unlink(), f"fixed/{VAE_WEIGHTS}; give a folder"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "is no VAE: there is no"),
    "a damaged file": (lambda f: (f / VAE_WEIGHTS).write_bytes(b"x"), "cannot open the VAE"),
    "a key too few": (lambda f: changed(f, lambda t: t.popitem()), "is not loaded whole"),
    "another scale": (scaled, "scaling_factor 0.13025 -> 0.5"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_folder_that_is_none_for_this_backbone_is_one_sentence(place, fixed, wrong):
    break_it, said = BAD[wrong]
    break_it(fixed)
    with pytest.raises(UserError) as told:
        opened(place, fixed)
    assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("given", ["fp16-fx", "not a name", "../vae"])
def test_a_name_of_nothing_is_one_sentence(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown VAE .*known: .*fp16-fix"):
        locate_vae(given)


def test_the_files_decide_the_digest(fixed, tmp_path):
    other = shutil.copytree(fixed, tmp_path / "other")
    assert vae_digest(other) == vae_digest(fixed)
    (other / "readme.md").write_text("x")
    assert vae_digest(other) == vae_digest(fixed)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    assert vae_digest(other) != vae_digest(fixed)


def test_a_file_and_a_user_that_nobody_has_are_no_vae(tmp_path):
    file = tmp_path / "sdxl_vae.safetensors"
    file.touch()
    with pytest.raises(UserError, match="is a file, and a VAE is given as a folder"):
        locate_vae(str(file))
    with pytest.raises(UserError, match="unknown VAE"):
        locate_vae("~nobody-has-this-name/vae")


def test_a_configuration_older_than_the_scale_means_the_first_one():
    old = {"_class_name": "AutoencoderKL", "latent_channels": 4}
    assert (
        latents_apart(old, old | {"scaling_factor": 0.13025}) == "scaling_factor 0.18215 -> 0.13025"
    )
    assert not latents_apart(old, old | {"scaling_factor": 0.18215})
    assert not latents_apart({}, old), "what cannot be read says nothing"
    other = {"_class_name": "AutoencoderDC"}
    assert not latents_apart(other, other | {"scaling_factor": 0.41407})
