"""Stable Diffusion XL's true configuration on the meta device: its projections, and the size of a
concept's file.
"""

import torch
from safetensors import safe_open

from perfusion_core import Concept
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import direction
from perfusion_core.single_file import layouts, tokenizer_of
from perfusion_core.text_encoders import text_encoders

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


def make_true(device):
    """The pipeline without numbers in its weights."""
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
