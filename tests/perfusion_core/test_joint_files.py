"""Where a backbone with two text encoders comes from: single files, variants, and the name of its
text encoders.
"""

import pytest
import torch
from safetensors.torch import load_file, save_file
from xl_kit import make_xl, save_xl_single_file, tiny_xl_layout, xl_pipe_of

from benchmarks.planning.backbones import covariance_digest
from benchmarks.planning.kinds import picture_size
from perfusion_core import Backbone, UserError, schedulers, single_file
from perfusion_core.covariance import estimate
from perfusion_core.places import cached, variant_of
from perfusion_core.sampling import sample
from perfusion_core.weight_digests import file_sha256

TEXTS = [f"a {a} cat {b} the {c}" for a in ("red", "old") for b in ("in", "on") for c in "abcdefgh"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """XL's layout is a small one here, and a network would be an error."""
    with pytest.MonkeyPatch.context() as patch:
        layout = tiny_xl_layout()
        known = {layout["unet"]["cross_attention_dim"]: layout}
        patch.setattr(single_file, "layouts", lambda: known)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield layout


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A pipeline, its single file and its folder."""
    place = tmp_path_factory.mktemp("xl")
    pipe = xl_pipe_of(tiny)
    pipe.save_pretrained(place / "folder")
    return pipe, save_xl_single_file(pipe, place / "xl.safetensors"), place / "folder"


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_every_weight_of_a_single_file_arrives_and_pictures_are_the_same_bytes(made):
    pipe, file, folder = made
    one = Backbone.open(file, device="cpu", dtype="float32")
    many = Backbone.open(folder, device="cpu", dtype="float32")
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        same(getattr(one.pipe, part), getattr(pipe, part))
    assert one.text_digest == many.text_digest  # a concept fits both
    assert one.pipe.config.force_zeros_for_empty_prompt
    texts, seeds = ["a cat on the beach", "an unfathomable teapot, 2 of them!"], [3, 4]
    assert (sample(one, texts, seeds, steps=2) == sample(many, texts, seeds, steps=2)).all()
    same(one.fresh_unet(), pipe.unet)
    assert picture_size(file) == picture_size(folder) == 16


def test_half_precision_of_a_single_file_leaves_the_vae_its_range(made):
    low = Backbone.open(made[1], device="cpu", dtype="float16")
    assert (low.unet.dtype, low.vae.dtype) == (torch.float16, torch.float32)
    assert {reader.model.dtype for reader in low.text.readers} == {torch.float32}


def test_what_a_single_file_says_of_its_schedule(made, tmp_path):
    pipe = made[0]
    velocity = save_xl_single_file(pipe, tmp_path / "v.safetensors", v_pred=torch.ones(()))
    backbone = Backbone.open(velocity, device="cpu", dtype="float32")
    assert backbone.scheduler().config.prediction_type == "v_prediction"
    assert not backbone.pipe.scheduler.config.rescale_betas_zero_snr
    for marker in ("edm_mean", "edm_vpred.sigma_max"):
        more = {marker: torch.zeros(4), "v_pred": torch.ones(())}
        edm = save_xl_single_file(pipe, tmp_path / "edm.safetensors", **more)
        with pytest.raises(UserError, match="knows no betas"):
            Backbone.open(edm, device="cpu")


def test_a_single_file_that_ends_in_noise_alone_says_so(made, tmp_path):
    """Euler's scheduler begins there, at the largest noise; the mark alone is no prediction."""
    marks = {"v_pred": torch.ones(()), "ztsnr": torch.ones(())}
    file = save_xl_single_file(made[0], tmp_path / "zero.safetensors", **marks)
    backbone = Backbone.open(file, device="cpu", dtype="float32")
    assert backbone.pipe.scheduler.config.rescale_betas_zero_snr
    assert schedulers.made("euler", backbone).sigmas.max() > 1000
    del marks["v_pred"]
    noise = save_xl_single_file(made[0], tmp_path / "noise.safetensors", **marks)
    other = Backbone.open(noise, device="cpu", dtype="float32")
    assert not other.pipe.scheduler.config.rescale_betas_zero_snr
    assert schedulers.made("euler", other).sigmas.max() < 20


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("conditioner.embedders.1.", "has no second text encoder"),
        ("conditioner.embedders.0.", "has no first text encoder"),
        ("first_stage_model.", "has no VAE"),
        ("conditioner.embedders.1.model.text_projection", "text_encoder_2"),
    ],
)
def test_a_single_file_that_lacks_a_part(made, tmp_path, prefix, says):
    whole = load_file(made[1])
    file = tmp_path / "some.safetensors"
    save_file({k: v for k, v in whole.items() if not k.startswith(prefix)}, file)
    with pytest.raises(UserError, match=says):
        Backbone.open(file, device="cpu")


def test_c_is_found_by_both_text_encoders_of_a_single_file(made, tmp_path, monkeypatch):
    """And by neither alone: the plan names what the fit will read."""
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path))
    assert covariance_digest(made[1]) == ""
    backbone = Backbone.open(made[1], device="cpu", dtype="float32")
    place = cached(backbone.text_digest)
    estimate(backbone, TEXTS, place, source="words")
    assert covariance_digest(made[1]) == covariance_digest(made[2]) == file_sha256(place)[:16]


def test_c_is_found_where_the_files_alone_do_not_tell_the_weights(made, tmp_path, monkeypatch):
    """Text encoders in several files are loaded, both of them."""
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    pipe, _, folder = made
    pipe.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    for part in ("text_encoder", "text_encoder_2"):
        assert len(list((tmp_path / "shards" / part).glob("model-0*.safetensors"))) > 1
    backbone = Backbone.open(tmp_path / "shards", device="cpu", dtype="float32")
    place = cached(backbone.text_digest)
    assert backbone.text_digest == Backbone.open(folder, device="cpu").text_digest
    estimate(backbone, TEXTS, place, source="words")
    assert covariance_digest(tmp_path / "shards") == file_sha256(place)[:16]


def test_a_folder_of_half_precision_files_opens_as_a_variant(tmp_path):
    pipe = make_xl()
    pipe.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert variant_of(tmp_path / "half") == "fp16"
    half = Backbone.open(tmp_path / "half", device="cpu", dtype="float32")
    plain = make_xl()
    plain.save_pretrained(tmp_path / "plain")
    whole = Backbone.open(tmp_path / "plain", device="cpu", dtype="float32")
    assert half.text_digest == whole.text_digest and half.digest != whole.digest
    assert half.fresh_unet().dtype == torch.float32
    assert sample(half, "a cat", [0], steps=1).shape == (1, 16, 16, 3)
