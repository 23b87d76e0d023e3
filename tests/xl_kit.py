"""Tiny random pipelines of Stable Diffusion XL's kind: the real classes, two text encoders of
different width, penultimate outputs, pooled text and time ids.
"""

from typing import Any

import torch
from conftest import make_tokenizer, text_config

WIDTHS = (24, 40)
POOLED = 16
LENGTH = 32


def make_encoder(tokenizer: Any, width: int, kind: Any, layers: int = 3) -> Any:
    return kind(text_config(tokenizer, width, layers, LENGTH, projection_dim=POOLED)).eval()


def make_xl(seed: int = 0, force_zeros: bool = True) -> Any:
    """16x16 pictures, eight cross-attentions, the second tokenizer padding with `!`."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    first, second = make_tokenizer(LENGTH), make_tokenizer(LENGTH)
    second.pad_token = "!"
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + POOLED,
        cross_attention_dim=sum(WIDTHS),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
        scaling_factor=0.13025,
    )
    pipe = StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=make_encoder(first, WIDTHS[0], CLIPTextModel),
        text_encoder_2=make_encoder(second, WIDTHS[1], CLIPTextModelWithProjection),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        force_zeros_for_empty_prompt=force_zeros,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_xl_concept(
    backbone: Any, name: str = "teddy", super_category: str = "toy", seed: int = 0, **changes: Any
) -> Any:
    """A concept as training might leave it, as `conftest.make_concept` does."""
    from dataclasses import replace

    from perfusion_core.backbone import cross_attentions
    from perfusion_core.concept import Concept

    rng = torch.Generator().manual_seed(seed)
    encoding = backbone.text.super_encoding(super_category)
    row = backbone.text.token_vector(super_category)
    layers = cross_attentions(backbone.unet)
    concept = Concept(
        placeholder=name,
        super_category=super_category,
        i_star=encoding + 0.1 * torch.randn(encoding.shape, generator=rng),
        embedding=row + 0.1 * torch.randn(row.shape, generator=rng),
        o_v=tuple(torch.randn(layer.to_v.out_features, generator=rng) for layer in layers.values()),
        o_k=None,
        super_encoding=encoding,
        text_digest=backbone.text_digest,
        text_shape=backbone.text.shape(),
        backbone=f"{backbone.name} {backbone.digest}",
        names=tuple(layers),
    )
    return replace(concept, **changes)
