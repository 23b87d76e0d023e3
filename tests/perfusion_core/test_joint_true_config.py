"""Stable Diffusion XL's true configuration: on the meta device its projections and the size of a
concept's file; with random weights (`slow`) a training step and two sampling steps at 256 pixels.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from perfusion_core import Backbone, Concept
from perfusion_core.backbone import cross_attentions, lay_out
from perfusion_core.concept import direction
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.sampling import sample
from perfusion_core.single_file import layouts, tokenizer_of
from perfusion_core.subject import Fitted, Subject
from perfusion_core.text_encoders import text_encoders

SIDE = 32  # of the latents, where weights are random
# stabilityai/stable-diffusion-xl-base-1.0
UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
CLIP = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406}
CLIP |= {"eos_token_id": 49407, "pad_token_id": 49407}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
CLIP_L |= {"num_attention_heads": 12, "projection_dim": 768, "hidden_act": "quick_gelu"}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
CLIP_G |= {"num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu"}


def make_true(device, text_device=None):
    """The pipeline; on `meta` without numbers in its weights."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sd1, sd2, _ = layouts().values()
    with torch.device(device):
        parts = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL.from_config(sd1["vae"] | {"scaling_factor": 0.13025}),
        }
    with torch.device(text_device or device):
        parts |= {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP, **CLIP_L)),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**CLIP, **CLIP_G)),
        }
    pipe = StableDiffusionXLPipeline(
        **{name: model.eval().requires_grad_(False) for name, model in parts.items()},
        tokenizer=tokenizer_of(sd1),
        tokenizer_2=tokenizer_of(sd2),  # pads with `!`, as XL's second
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def count(model):
    return sum(weight.numel() for weight in model.parameters())


def test_seventy_projections_and_a_file_of_less_than_180_kilobytes(tmp_path):
    pipe = make_true("meta")
    layers = cross_attentions(pipe.unet)
    # as published
    assert count(pipe.unet) == 2_567_463_684
    assert (count(pipe.text_encoder), count(pipe.text_encoder_2)) == (123_060_480, 694_659_840)
    for side in ("to_k", "to_v"):
        projections = [getattr(layer, side) for layer in layers.values()]
        assert {projection.in_features for projection in projections} == {2048}
        sizes = [projection.out_features for projection in projections]
        assert (len(sizes), sizes.count(640), sizes.count(1280)) == (70, 10, 60)
        assert sum(sizes) == 83_200
    side = text_encoders(pipe)
    assert side.widths == [768, 1280]
    assert side.shape() == "49408x768x12+49408x1280x32:hidden_states[-2]"
    rng = torch.Generator().manual_seed(0)
    concept = Concept(
        placeholder="kitty",
        super_category="cat",
        i_star=torch.randn(2048, generator=rng),
        embedding=torch.randn(2048, generator=rng),
        o_v=tuple(torch.randn(size, generator=rng) for size in sizes),
        o_k=None,
        super_encoding=torch.randn(2048, generator=rng),
        text_digest="0" * 16,
        text_shape=side.shape(),
        backbone=f"sdxl-random {'0' * 16}",
        names=tuple(layers),
    )
    path = tmp_path / "kitty.safetensors"
    concept.save(path)
    with safe_open(path, "pt") as file:
        numbers = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118
    assert numbers == {"i_star": 2048, "embedding": 2048, "o_v": 83_200, "super_encoding": 2048}
    assert 170_000 < path.stat().st_size < 180_000
    again = Concept.load(path)
    assert again.names == tuple(layers) and [len(o) for o in again.o_v] == sizes
    assert torch.equal(direction(again.super_encoding), direction(concept.super_encoding))


# ---- with random weights ----


def random_numbers(model):
    """Of about unit variance on their way through, in bfloat16."""
    model.to(torch.bfloat16).to_empty(device="cpu")
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.data.fill_(float("norm" in name and name.endswith("weight")))
        else:
            most = (3 / weight[0].numel()) ** 0.5
            weight.data.uniform_(-most, most)
    lay_out(model, torch.device("cpu"))


@pytest.fixture(scope="module")
def backbone():
    """U-Net and VAE in bfloat16, both text encoders in float32: the weights alone are 8.6 GB."""
    torch.manual_seed(0)
    pipe = make_true("meta", "cpu")
    for model in (pipe.unet, pipe.vae):
        random_numbers(model)
    for model in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        model.requires_grad_(False).eval()
    pipe.unet.register_to_config(sample_size=SIDE)
    place = Path("sdxl-random")
    made = Backbone("sdxl-random", place, None, pipe, torch.device("cpu"), torch.bfloat16)
    vars(made)["digest"] = "0" * 16  # there is no disk
    vars(made)["c_inv"] = torch.eye(2048, dtype=torch.float64)
    return made


@pytest.mark.slow
def test_a_step_of_training_and_two_of_sampling(backbone, tmp_path):
    """At the published sizes the loss is finite, all 70 layers learn by the rate, the file has its
    size, the concept changes the picture, and no weight of the U-Net is written to.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=rng) * 2 - 1
    subject = Subject("kitty", "cat", images, frames=torch.tensor([[900, 1200, 0, 42]]))
    config = Config(steps=1, batch=1, checkpointing=True, masks=False, flip=False)
    before = [weight._version for weight in backbone.unet.parameters()]
    log = fit(backbone, subject, config, tmp_path, seed=0)
    assert len(log["losses"]) == 1 and np.isfinite(log["losses"][0])
    path = tmp_path / "concept.safetensors"
    assert 170_000 < path.stat().st_size < 180_000
    concept = Concept.load(path)
    assert concept.widths == [768, 1280] and sum(map(len, concept.o_v)) == 83_200
    e_super = backbone.text.super_encoding("cat")
    for o, layer in zip(concept.o_v, cross_attentions(backbone.unet).values(), strict=True):
        plain = layer.to_v.weight.float() @ e_super
        assert 0.02 < (o - plain).abs().max() < 0.05  # AdamW's first step is the rate, 0.03
    with apply(backbone, {"kitty": Fitted(tmp_path, "cat")}, {"lock": "local"}) as write:
        drawn = sample(backbone, write("A {kitty} on the beach"), [5], steps=2)
    plain = sample(backbone, "A cat on the beach", [5], steps=2)
    assert drawn.shape == (1, 8 * SIDE, 8 * SIDE, 3) and not np.array_equal(drawn, plain)
    assert [weight._version for weight in backbone.unet.parameters()] == before
