"""Opening checkpoints: places, dtypes, digests, the scheduler, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import WORDS, make_pipe, make_tokenizer
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel

from benchmarks.advice import advised
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.covariance import Covariance, cached, write_covariance
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import _digests, backbone_digest, text_digest


def test_every_word_of_the_tiny_tokenizer_is_one_token():
    tokenizer = make_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 3 for word in WORDS)


def test_opens_a_folder(tiny_backbone, tiny_pipe_dir):
    assert (tiny_backbone.name, tiny_backbone.size, tiny_backbone.down) == ("tiny", 16, 2)
    assert tiny_backbone.encode(["a cat", "a dog on the moon"]).shape == (2, 32, 32)
    assert len(cross_attentions(tiny_backbone.unet)) == 4
    assert Backbone.open("mini", device="cpu", names={"mini": tiny_pipe_dir}).name == "mini"


def test_text_side_stays_in_float32(tiny_pipe_dir):
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="bfloat16")
    assert backbone.unet.dtype == backbone.vae.dtype == torch.bfloat16
    assert backbone.text_encoder.dtype == torch.float32
    assert backbone.fresh_unet().dtype == torch.float32


def test_the_layout_in_memory_changes_speed_only(tiny_backbone):
    plain = UNet2DConditionModel.from_pretrained(tiny_backbone.place, subfolder="unet").eval()
    rng = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, 4, 8, 8, generator=rng),
        torch.tensor(300),
        torch.randn(2, 32, 32, generator=rng),
    )
    with torch.no_grad():
        torch.testing.assert_close(tiny_backbone.unet(*inputs).sample, plain(*inputs).sample)
        torch.testing.assert_close(
            tiny_backbone.fresh_unet()(*inputs).sample, plain(*inputs).sample
        )


def test_the_scheduler_is_the_protocols_whatever_the_checkpoint_has(tiny_backbone):
    """Section 2 of the protocol: other steps are other pictures."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    spaced = {"timestep_spacing": "trailing", "steps_offset": 0, "set_alpha_to_one": True}
    more = {"clip_sample": True, "thresholding": True, "rescale_betas_zero_snr": True}
    for own in (
        tiny_backbone.pipe.scheduler,
        PNDMScheduler(**betas),
        DDIMScheduler(**betas, **spaced, **more),
    ):
        scheduler = replace(tiny_backbone, pipe=SimpleNamespace(scheduler=own)).scheduler()
        config = scheduler.config
        assert isinstance(scheduler, DDIMScheduler)
        assert (config.timestep_spacing, config.steps_offset, config.set_alpha_to_one) == (
            "leading",
            1,
            False,
        )
        assert not (config.clip_sample or config.thresholding or config.rescale_betas_zero_snr)
        assert (
            scheduler.final_alpha_cumprod
            == scheduler.alphas_cumprod[0]
            == pytest.approx(1 - 0.00085)
        )
        scheduler.set_timesteps(50)
        assert scheduler.timesteps.tolist() == list(range(981, 0, -20))  # 981, 961, ..., 1


def test_text_digest_is_the_same_in_every_dtype_and_sees_training():
    encoder = make_pipe().text_encoder
    digest = text_digest(encoder)
    assert (
        digest
        == text_digest(encoder.to(torch.float16))
        == text_digest(make_pipe().text_encoder.to(torch.bfloat16))
    )
    assert digest != text_digest(make_pipe(seed=1).text_encoder)
    with torch.no_grad():
        weight = encoder.get_input_embeddings().weight
        weight[3, 3] = -weight[3, 3]
    assert digest != text_digest(encoder)


def test_text_digest_is_found_once_and_not_by_adapters():
    from peft import LoraConfig, inject_adapter_in_model

    encoder = make_pipe().text_encoder
    digest, rows = text_digest(encoder), encoder.config.vocab_size
    kept = _digests[encoder]
    assert text_digest(encoder, rows) == digest and _digests[encoder] is kept
    fewer = text_digest(encoder, rows - 3)
    config = LoraConfig(target_modules=["q_proj", "token_embedding"], init_lora_weights=False)
    inject_adapter_in_model(config, encoder)
    assert any("base_layer" in name for name, _ in encoder.named_parameters())
    assert text_digest(encoder) == digest and text_digest(encoder, rows - 3) == fewer
    with torch.no_grad():
        next(w for name, w in encoder.named_parameters() if "base_layer" in name).mul_(-1)
    assert text_digest(encoder) != digest


def test_backbone_digest_sees_every_file(tiny_pipe_dir, tmp_path):
    from shutil import copytree

    copy = copytree(tiny_pipe_dir, tmp_path / "copy")
    assert backbone_digest(copy) == backbone_digest(tiny_pipe_dir)
    (copy / "covariance.safetensors").write_bytes(b"beside it, not part of it")
    assert backbone_digest(copy) == backbone_digest(tiny_pipe_dir)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert backbone_digest(copy) != backbone_digest(tiny_pipe_dir)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("minature", "did you mean 'miniature'"),
        ("checkpoint.ckpt", "pickle"),
        ("empty", "model_index"),
    ],
)
def test_refusals(where, says, tmp_path, monkeypatch, tiny_pipe_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.ckpt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=says):
        Backbone.open(where, device="cpu", names={"miniature": tiny_pipe_dir})


def test_models_that_read_more_than_latents_are_refused(tmp_path):
    """Published inpainting models have the same folders; their U-Net would fail in the middle of
    drawing.
    """
    pipe = make_pipe()
    pipe.unet = UNet2DConditionModel.from_config(pipe.unet.config, in_channels=9)
    pipe.save_pretrained(tmp_path / "inpainting")
    with pytest.raises(UserError, match="'inpainting' reads 9 channels where latents have 4"):
        Backbone.open(tmp_path / "inpainting", device="cpu")


def test_revisions_are_of_hub_ids(tiny_pipe_dir):
    for where in ("mini", tiny_pipe_dir):
        with pytest.raises(UserError, match="no hub id, so it has no revision 'v2'"):
            Backbone.open(where, device="cpu", revision="v2", names={"mini": tiny_pipe_dir})


def test_a_missing_covariance_names_a_command_that_can_be_given(tmp_path, monkeypatch):
    """A folder is not known by its name alone."""
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    make_pipe(seed=3).save_pretrained(tmp_path / "mine")
    backbone = Backbone.open(tmp_path / "mine", device="cpu", dtype="float32")
    with pytest.raises(UserError) as caught:
        _ = backbone.c_inv
    assert f"perfbench covariance --backbone {tmp_path / 'mine'}" in advised(caught.value)


def test_the_covariance_beside_a_checkpoint_is_never_passed_over(tmp_path, monkeypatch):
    """Keys of fits and images count on the file beside it, so that no other may be used in its
    place.
    """
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    make_pipe(seed=3).save_pretrained(tmp_path / "mine")
    backbone = Backbone.open(tmp_path / "mine", device="cpu", dtype="float32")
    width = backbone.text_encoder.config.hidden_size
    own, foreign = (
        Covariance(torch.eye(width, dtype=torch.float64), 9, 3, digest, "here")
        for digest in (backbone.text_digest, "other")
    )
    write_covariance(own, cached(backbone.text_digest))
    write_covariance(foreign, tmp_path / "mine" / "covariance.safetensors")
    with pytest.raises(
        UserError, match=r"covariance\.safetensors belongs to another text encoder; remove it"
    ):
        _ = backbone.c_inv
    write_covariance(own, tmp_path / "mine" / "covariance.safetensors")
    assert backbone.c_inv.shape == (width, width)


def test_unknown_dtype_is_named():
    with pytest.raises(UserError, match="float32"):
        Backbone.open("anything", dtype="float31")
