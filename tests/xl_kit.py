"""Tiny random pipelines of Stable Diffusion XL's kind: the real classes, two text encoders of
different width, penultimate outputs, pooled text and time ids.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_tokenizer, text_config
from PIL import Image
from run_kit import make_scorer
from safetensors.torch import save_file
from sd_kit import text_names, unet_names, vae_names

from benchmarks.running import random_models
from benchmarks.suite.concept_folder import write_concept
from perfusion_core import single_file

TRUE = single_file.layouts
WIDTHS = (24, 40)
POOLED = 16
LENGTH = 32
SIDES = [(20, 16), (16, 40), (64, 64)]  # of the cat's photographs, wide and high


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


def save_xl(folder: Path, seed: int = 0) -> Any:
    """Such a pipeline as a backbone, opened, with C of random words beside it."""
    import random

    from conftest import WORDS

    from perfusion_core import Backbone
    from perfusion_core.covariance import FILE, estimate

    make_xl(seed).save_pretrained(folder)
    backbone = Backbone.open(folder, device="cpu", dtype="float32")
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(200)]
    estimate(backbone, texts, folder / FILE, source="random words")
    return backbone


def save_benched_xl(folder: Path) -> Any:
    """Such a backbone with scorers, and beside it in `concepts` a cat of three photographs that are
    no squares.
    """
    backbone = save_xl(folder / "tiny-xl")
    for number, name in enumerate(("scorer", "scorer2"), 1):
        make_scorer(backbone.place / name, number)
    rng = np.random.default_rng(0)
    photographs = [
        Image.fromarray(rng.integers(0, 256, (high, wide, 3), dtype=np.uint8))
        for wide, high in SIDES
    ]
    write_concept(
        folder / "concepts" / "cat", super_category="cat", group="animated", source="random",
        licence="CC0-1.0", images=photographs,
        masks=[Image.new("L", photograph.size, 255) for photograph in photographs],
    )  # fmt: skip
    return backbone


def xl_words(folder: Path, backbone: Any, *more: str) -> list[str]:
    """Of a run on it that takes seconds."""
    few = {"images": 1, "steps": 2, "train_steps": 2, "validate_every": 2, "prior_images": 2}
    sets = [f"--set={key}={value}" for key, value in few.items()]
    return [
        "--preset", "sdxl", "--backbone", str(backbone.place), "--suite", str(folder / "concepts"),
        "--device", "cpu", "--dtype", "float32", "--threads", "1", "--concepts", "cat",
        "--prompts", "1", "--no-drift", "--no-cache",
        "--set=points.perfusion=local-b0.60-t0.15", *sets, *more,
    ]  # fmt: skip


def xl_stock(backbone: Any) -> Any:
    """A pipeline of diffusers' own from the same folder, with the protocol's scheduler."""
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(
        backbone.place, dtype=torch.float32, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = backbone.scheduler()
    return pipe


def load_word(pipe: Any, path: Path, token: str) -> None:
    """Each encoder's vectors under the same word, as diffusers' guide has it."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    assert {key: tensor.shape[1] for key, tensor in tensors.items()} == dict(
        zip(("clip_l", "clip_g"), WIDTHS)
    )
    for key, tail in (("clip_l", ""), ("clip_g", "_2")):
        pipe.load_textual_inversion(
            tensors[key],
            token=token,
            text_encoder=getattr(pipe, f"text_encoder{tail}"),
            tokenizer=getattr(pipe, f"tokenizer{tail}"),
        )


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


# ---- single files ----


def tiny_xl_layout() -> dict[str, Any]:
    """Stable Diffusion XL's layout with the true vocabulary, its order of blocks and few
    channels.
    """
    few = {"layers_per_block": 1, "norm_num_groups": 8}
    unet = few | {
        "sample_size": 8,
        "block_out_channels": [16, 32, 32],
        "attention_head_dim": [2, 4, 4],
        "transformer_layers_per_block": [1, 1, 2],
        "addition_time_embed_dim": 8,
    }
    vae = few | {
        "sample_size": 16,
        "block_out_channels": [8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    return random_models.smaller(unet, vae, WIDTHS, 3, POOLED)


def xl_pipe_of(layout: dict[str, Any], seed: int = 0) -> Any:
    """Random weights in the models that a layout describes."""
    torch.manual_seed(seed)
    return random_models.joint_pipe(layout)


def save_xl_single_file(pipe: Any, path: Path, **more: torch.Tensor) -> Path:
    """U-Net, VAE and both text encoders under the names of the original code, in one file."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet_names(pipe.unet).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae_names(pipe.vae).items()}
    places = [("cond_stage_model.", "conditioner.embedders.0.", pipe.text_encoder, False)]
    places += [("cond_stage_model.", "conditioner.embedders.1.", pipe.text_encoder_2, True)]
    for before, after, encoder, openclip in places:
        named = text_names(encoder, openclip=openclip)
        tensors |= {key.replace(before, after): value for key, value in named.items()}
    second = "conditioner.embedders.1.model"
    projection = pipe.text_encoder_2.text_projection.weight
    tensors |= {f"{second}.text_projection": projection.T, f"{second}.logit_scale": torch.ones(())}
    tensors |= more
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path)
    return path
