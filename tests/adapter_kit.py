"""Adapters as other programs write them: the same random matrices under every program's keys.

In: a pipeline. Out: state dicts; and the pipeline with the matrices added to its weights, which is
what they mean.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from conftest import make_pipe

RANK = 3
TARGETS = re.compile(r".*(to_q|to_k|to_v|to_out\.0)|.*(q_proj|k_proj|v_proj|out_proj)|.*proj_in")


@dataclass
class Matrices:
    """Beside one layer; alpha / rank is how much they count."""

    part: str
    module: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float = RANK


def matrices(scale: float = 0.3, seed: int = 0, alphas: bool = False) -> list[Matrices]:
    """One pair for each attention layer, convolution before one, and layer of the text encoder."""
    rng, pipe, found = torch.Generator().manual_seed(seed), make_pipe(), []
    for part in ("unet", "text_encoder"):
        for name, layer in getattr(pipe, part).named_modules():
            if not TARGETS.fullmatch(name):
                continue
            weight = layer.weight
            down = torch.randn((RANK, *weight.shape[1:]), generator=rng)
            up = torch.randn((len(weight), RANK, *([1] * (weight.ndim - 2))), generator=rng)
            alpha = 1.0 + len(found) % 4 if alphas else RANK
            found.append(
                Matrices(part, name, down.half().float(), (scale * up).half().float(), alpha)
            )
    return found


def merged(found: list[Matrices]):
    """A pipeline whose weights have had the products added, by hand, in float64."""
    pipe = make_pipe()
    for one in found:
        weight = dict(getattr(pipe, one.part).named_modules())[one.module].weight
        product = one.up.double().flatten(1) @ one.down.double().flatten(1)
        delta = one.alpha / RANK * product.reshape(weight.shape)
        weight.data = (weight.data.double() + delta).float()
    return pipe


def kohya(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """sd-scripts' networks/lora.py; half precision, with alphas."""
    out = {}
    for one in found:
        place = one.module if one.part == "unet" else f"text_model.{one.module}"
        name = f"lora_{'unet' if one.part == 'unet' else 'te'}_{place.replace('.', '_')}"
        out[f"{name}.lora_down.weight"] = one.down.half()
        out[f"{name}.lora_up.weight"] = one.up.half()
        out[f"{name}.alpha"] = torch.tensor(float(one.alpha))
    return out


def diffusers_scripts(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """train_dreambooth_lora.py, train_text_to_image_lora.py."""
    out = {}
    for one in found:
        name = f"{one.part}.{one.module}."
        name += "lora" if one.part == "unet" else "lora_linear_layer"
        out |= {f"{name}.down.weight": one.down, f"{name}.up.weight": one.up}
    return out


def peft(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """What `save_lora_weights` is given by scripts that leave PEFT's names."""
    out = {}
    for one in found:
        place = one.module if one.part == "unet" else f"text_model.{one.module}"
        name = f"{one.part}.{place}"
        out |= {f"{name}.lora_A.weight": one.down, f"{name}.lora_B.weight": one.up}
    return out


def processors(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """diffusers' of early 2023: the matrices were attention processors'."""
    out = {}
    for one in found:
        if one.part == "unet" and ".to_" in one.module:
            layer, _, last = one.module.partition(".to_")
            name = f"unet.{layer}.processor.to_{last.removesuffix('.0')}_lora"
            out |= {f"{name}.down.weight": one.down, f"{name}.up.weight": one.up}
    return out


FORMATS: dict[str, Callable[[list[Matrices]], dict[str, torch.Tensor]]] = {
    "kohya": kohya,
    "diffusers_scripts": diffusers_scripts,
    "peft": peft,
    "processors": processors,
}
