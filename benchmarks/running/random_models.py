"""Backbones with random weights, without a disk: for times and bytes, not for pictures.

In: a device and a dtype. Out: a `Backbone` of Stable Diffusion 1.5's or XL's true configuration, or
a small one of XL's kind. Configurations are those of single files (`perfusion_core/layouts`).
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from perfusion_core.backbone import Backbone, lay_out
from perfusion_core.other_vae import dtype_of
from perfusion_core.single_file import SECOND, Layout, layouts, tokenizer_of
from perfusion_core.text_encoders import text_encoders

SD15, SDXL = 768, 2048  # their layouts' names: the width of what cross-attentions read
ENCODERS = ("text_encoder", SECOND)
# a step of eight guided pictures of 128 pixels takes two cores some 100 ms
SMALL_UNET = {
    "sample_size": 16,
    "block_out_channels": [48, 96, 192],
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": [1, 2, 4],
    "transformer_layers_per_block": [1, 1, 2],
    "addition_time_embed_dim": 32,
}
SMALL_VAE = {"sample_size": 128, "block_out_channels": [16, 16, 16, 16], "norm_num_groups": 8}
SMALL_TEXT, SMALL_LAYERS = (64, 96), 3


# ---- Stable Diffusion 1.5 ----


def random_sd15(device: str, dtype: torch.dtype) -> Backbone:
    """Stable Diffusion 1.5's sizes, all of them."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    layout = layouts()[SD15]
    tokenizer, scheduler = tokenizer_of(layout), DDIMScheduler.from_config(layout["scheduler"])
    torch.manual_seed(0)
    with torch.device(device):
        unet = in_dtype(dtype, lambda: UNet2DConditionModel.from_config(layout["unet"]))
        vae = in_dtype(dtype, lambda: AutoencoderKL.from_config(layout["vae"]))
        encoder = CLIPTextModel(CLIPTextConfig(**layout["text_encoder"]))
    parts = {
        "vae": vae,
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
    }
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe: Any = StableDiffusionPipeline(**parts, **none)
    return without_disk("sd15-random", pipe, device, dtype)


def in_dtype(dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """Made in `dtype` at once: 860 million numbers in float32 first would double the memory."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build()
    finally:
        torch.set_default_dtype(usual)


# ---- Stable Diffusion XL ----


def random_sdxl(device: str, dtype: torch.dtype) -> Backbone:
    """Stable Diffusion XL's sizes, all of them; both text encoders in float32."""
    return random_joint("sdxl-random", layouts()[SDXL], device, dtype)


def random_small_sdxl(device: str, dtype: torch.dtype) -> Backbone:
    """Of XL's kind, small enough for a processor."""
    layout = smaller(SMALL_UNET, SMALL_VAE, SMALL_TEXT, SMALL_LAYERS, SMALL_TEXT[-1])
    return random_joint("sdxl-small-random", layout, device, dtype)


def smaller(
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    widths: tuple[int, int],
    layers: int,
    pooled: int,
) -> Layout:
    """XL's layout with the true vocabulary, its order of blocks, and these sizes: of the two text
    encoders their widths and layers, and of the pooled text.
    """
    layout: Layout = copy.deepcopy(layouts()[SDXL])
    layout["unet"] |= {**unet, "cross_attention_dim": sum(widths)}
    times = 6 * layout["unet"]["addition_time_embed_dim"]
    layout["unet"]["projection_class_embeddings_input_dim"] = times + pooled
    layout["vae"] |= vae
    for part, width in zip(ENCODERS, widths, strict=True):
        layout[part] |= {
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "projection_dim": pooled,
        }
    return layout


def random_joint(name: str, layout: Layout, device: str, dtype: torch.dtype) -> Backbone:
    torch.manual_seed(0)
    pipe = joint_pipe(layout, "meta", device)
    random_numbers(pipe.unet, device, dtype)
    random_numbers(pipe.vae, device, dtype_of(pipe.vae, dtype))
    return without_disk(name, pipe, device, dtype)


def joint_pipe(layout: Layout, device: str = "cpu", text_device: str = "cpu") -> Any:
    """The pipeline of such a layout in float32; on `meta` a model's weights have no numbers."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    first, second = (CLIPTextConfig(**layout[part]) for part in ENCODERS)
    with torch.device(device):
        vae = AutoencoderKL.from_config(layout["vae"])
    with torch.device(text_device):
        encoders = [CLIPTextModel(first), CLIPTextModelWithProjection(second)]
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(layout["unet"])
    pipe: Any = StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=encoders[0].eval(),
        text_encoder_2=encoders[1].eval(),
        tokenizer=tokenizer_of(layout),
        tokenizer_2=tokenizer_of(layout | {"pad": "!"}),
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler.from_config(layout["scheduler"]),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def random_numbers(model: Any, device: str, dtype: torch.dtype) -> None:
    """Of about unit variance on their way through, for a model without numbers. They are made in
    `dtype` at once: 2.6 billion in float32 first would triple the memory.
    """
    # diffusers' own `to` warns about modules that neither model has
    torch.nn.Module.to(model, dtype).to_empty(device=device)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.data.fill_(float("norm" in name and name.endswith("weight")))
        else:
            most = (3 / weight[0].numel()) ** 0.5
            weight.data.uniform_(-most, most)


# ---- all of them ----


def without_disk(name: str, pipe: Any, device: str, dtype: torch.dtype) -> Backbone:
    """A backbone of this pipeline, with what is otherwise read from its folder."""
    pipe.set_progress_bar_config(disable=True)
    readers = [reader.model for reader in text_encoders(pipe).readers]
    for model in (pipe.unet, pipe.vae, *readers):
        model.requires_grad_(False).eval()
    for model in (pipe.unet, pipe.vae):
        lay_out(model, torch.device(device))
    backbone = Backbone(name, Path(name), None, pipe, torch.device(device), dtype)
    width, unet = backbone.text.width, pipe.unet
    known = vars(backbone)
    known["digest"] = "0" * 16
    known["c_inv"] = torch.eye(width, dtype=torch.float64, device=device)
    known["fresh_unet"] = lambda dtype=torch.float32: copy.deepcopy(unet).to(dtype)
    return backbone


RANDOM: dict[str, Callable[[str, torch.dtype], Backbone]] = {
    "sd15-random": random_sd15,
    "sdxl-random": random_sdxl,
    "sdxl-small-random": random_small_sdxl,
}
