"""What tests of Stable Diffusion need: tiny layouts of 1.x and 2.x, and their weights in the
single-file layout.

The renaming below is written from the layout of the original code, the other way round than
diffusers' converter.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from perfusion_core import single_file

TRUE = single_file.layouts


def tiny_layouts() -> dict[int, dict[str, Any]]:
    """Layouts of 1.x and 2.x with the true vocabulary and few channels; both told apart by their
    width, 32 and 64.
    """
    small = []
    for width, layout in zip((32, 64), TRUE().values()):
        tiny = json.loads(json.dumps(layout))
        heads = 2 if width == 32 else [2, 4]
        few = {"layers_per_block": 1, "norm_num_groups": 8}
        tiny["unet"] |= few | {
            "sample_size": 8,
            "block_out_channels": [16, 32],
            "cross_attention_dim": width,
        }
        tiny["unet"] |= {
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "attention_head_dim": heads,
        }
        tiny["unet"] |= {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
        tiny["vae"] |= few | {"sample_size": 16, "block_out_channels": [8, 16]}
        tiny["vae"] |= {
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "up_block_types": ["UpDecoderBlock2D"] * 2,
        }
        tiny["text_encoder"] |= {
            "hidden_size": width,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        small.append(tiny)
    return {32: small[0], 64: small[1]}


def pipe_of(layout: dict[str, Any], seed: int = 0) -> Any:
    """Random weights in the models that a layout describes."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(layout["vae"]).eval(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**layout["text_encoder"])).eval(),
        tokenizer=single_file.tokenizer_of(layout),
        unet=UNet2DConditionModel.from_config(layout["unet"]).eval(),
        scheduler=DDIMScheduler.from_config(layout["scheduler"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_single_file(pipe: Any, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """U-Net, VAE and text encoder under the names of the original code, in one file."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet_names(pipe.unet).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae_names(pipe.vae).items()}
    tensors |= text_names(pipe.text_encoder, openclip=pipe.tokenizer.pad_token == "!")
    tensors |= around(pipe)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata)
    return path


def around(pipe: Any) -> dict[str, torch.Tensor]:
    """What else is in published files, and is not used: the schedule, averaged weights, ends of
    text encoders.
    """
    first = pipe.unet.conv_in.weight
    found = {
        "alphas_cumprod": torch.rand(1000),
        "betas": torch.rand(1000),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modelinput_blocks00weight": first + 1,
    }
    if pipe.tokenizer.pad_token != "!":
        places = torch.arange(77)[None]
        return found | {"cond_stage_model.transformer.text_model.embeddings.position_ids": places}
    width = pipe.text_encoder.config.hidden_size  # 2.x has 24 layers, of which 23 are used
    ends = {"text_projection": torch.rand(width, width), "logit_scale": torch.tensor(4.6)}
    ends |= {
        f"transformer.resblocks.23.ln_1.{tail}": torch.rand(width) for tail in ("weight", "bias")
    }
    return found | {f"cond_stage_model.model.{name}": tensor for name, tensor in ends.items()}


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_names(unet: Any) -> dict[str, torch.Tensor]:
    """Blocks are numbered through: each layer one, a level's downsampler the one after its
    layers.
    """
    each = unet.config.layers_per_block + 1
    ends = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "add_embedding.linear_1": "label_emb.0.0",  # of XL
        "add_embedding.linear_2": "label_emb.0.2",
    }

    def place(side: str, level: int, kind: str, number: int) -> str:
        if side == "mid":
            return f"middle_block.{1 if kind == 'attentions' else 2 * number}"
        if kind == "downsamplers":
            return f"input_blocks.{level * each + each}.0"
        if kind == "upsamplers":
            crossed = hasattr(unet.up_blocks[level], "attentions")
            return f"output_blocks.{level * each + each - 1}.{2 if crossed else 1}"
        start = "input_blocks" if side == "down" else "output_blocks"
        first = 1 if side == "down" else 0
        return f"{start}.{level * each + number + first}.{int(kind == 'attentions')}"

    renamed = {}
    for name, tensor in unet.state_dict().items():
        found = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?([a-z]+)\.(\d+)\.(.*)", name)
        if not found:
            head, _, tail = name.rpartition(".")
            renamed[f"{ends[head]}.{tail}"] = tensor
            continue
        side, level, kind, number, rest = found.groups()
        if kind == "resnets":
            head, _, tail = rest.partition(".")
            rest = f"{RESNET[head]}.{tail}"
        elif kind == "downsamplers":
            rest = rest.replace("conv", "op")
        renamed[f"{place(side, int(level or 0), kind, int(number))}.{rest}"] = tensor
    return renamed


def vae_names(vae: Any) -> dict[str, torch.Tensor]:
    """The decoder's levels are counted from the picture down; attention is a convolution of 1 x
    1.
    """
    levels = len(vae.config.block_out_channels)
    attention = {
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }
    renamed = {}
    for name, tensor in vae.state_dict().items():
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(
            r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name
        )
        name = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0",
            lambda m: f"up.{levels - 1 - int(m[1])}.upsample",
            name,
        )
        if "mid_block.attentions.0." in name:
            head, part = name.split("mid_block.attentions.0.")
            part, _, tail = part.rpartition(".")
            name = f"{head}mid.attn_1.{attention[part]}.{tail}"
            if tail == "weight" and part != "group_norm":
                tensor = tensor[..., None, None]
        renamed[name] = tensor
    return renamed


def text_names(encoder: Any, openclip: bool) -> dict[str, torch.Tensor]:
    """1.x keeps transformers' names; 2.x has open_clip's, with q, k and v in one matrix."""
    state = {
        name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()
    }
    if not openclip:
        return {
            f"cond_stage_model.transformer.text_model.{name}": tensor
            for name, tensor in state.items()
        }
    ends = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    renamed = {ends[name]: tensor for name, tensor in state.items() if name in ends}
    for layer in range(encoder.config.num_hidden_layers):
        here, there = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for tail in ("weight", "bias"):
            for ours, theirs in parts.items():
                renamed[f"{there}{theirs}.{tail}"] = state[f"{here}{ours}.{tail}"]
            three = [state[f"{here}self_attn.{side}_proj.{tail}"] for side in "qkv"]
            renamed[f"{there}attn.in_proj_{tail}"] = torch.cat(three)
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in renamed.items()}
