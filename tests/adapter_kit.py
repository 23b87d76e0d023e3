"""Adapters as other programs write them: the same random matrices under every program's keys.

In: a pipeline, with one text encoder or two. Out: state dicts; and the pipeline with the matrices
added to its weights, which is what they mean.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import make_pipe
from safetensors.torch import save_file
from sd_kit import unet_names
from xl_kit import make_xl

from baselines.adapter import LORA, Told, proven
from benchmarks.contract import same, state
from perfusion_core.errors import UserError

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
    return matrices_of(make_pipe(), ("unet", "text_encoder"), scale, seed, alphas)


def matrices_xl(scale: float = 0.3, seed: int = 0, alphas: bool = False) -> list[Matrices]:
    """The same of Stable Diffusion XL's kind, with its second text encoder."""
    return matrices_of(make_xl(), ("unet", "text_encoder", "text_encoder_2"), scale, seed, alphas)


def matrices_of(
    pipe: Any, parts: tuple[str, ...], scale: float, seed: int, alphas: bool
) -> list[Matrices]:
    rng, found = torch.Generator().manual_seed(seed), []
    for part in parts:
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


def merged(found: list[Matrices], make: Callable[[], Any] = make_pipe):
    """A pipeline whose weights have had the products added, by hand, in float64."""
    pipe = make()
    for one in found:
        weight = dict(getattr(pipe, one.part).named_modules())[one.module].weight
        product = one.up.double().flatten(1) @ one.down.double().flatten(1)
        delta = one.alpha / RANK * product.reshape(weight.shape)
        weight.data = (weight.data.double() + delta).float()
    return pipe


def kohya(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """sd-scripts' networks/lora.py; half precision, with alphas."""
    return named_by_kohya(found, {"unet": "unet", "text_encoder": "te"})


def kohya_xl(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """The same for XL: its U-Net's blocks have the original code's numbers."""
    heads = {"unet": "unet", "text_encoder": "te1", "text_encoder_2": "te2"}
    return named_by_kohya(found, heads, original_names(make_xl().unet))


def kohya_xl_unmapped(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """As trainers write it that start from diffusers' U-Net."""
    return named_by_kohya(found, {"unet": "unet", "text_encoder": "te1", "text_encoder_2": "te2"})


def original_names(unet: Any) -> dict[str, str]:
    """Layer -> its name in the original code."""
    weights = [name for name in unet.state_dict() if name.endswith(".weight")]

    class Numbered:  # a number in place of each weight, so that it can be found again
        config, up_blocks = unet.config, unet.up_blocks

        def state_dict(self) -> dict[str, int]:
            return {name: number for number, name in enumerate(weights)}

    renamed = {number: name for name, number in unet_names(Numbered()).items()}
    return {
        name.removesuffix(".weight"): renamed[number].removesuffix(".weight")
        for number, name in enumerate(weights)
    }


def placed(one: Matrices) -> str:
    """A layer as files name it: those of text encoders stand below text_model."""
    below = one.part == "unet" or one.module.startswith("text_model.")
    return one.module if below else f"text_model.{one.module}"


def named_by_kohya(
    found: list[Matrices], heads: dict[str, str], names: dict[str, str] | None = None
) -> dict[str, torch.Tensor]:
    out = {}
    for one in found:
        place = (names or {}).get(one.module, placed(one)) if one.part == "unet" else placed(one)
        name = f"lora_{heads[one.part]}_{place.replace('.', '_')}"
        out[f"{name}.lora_down.weight"] = one.down.half()
        out[f"{name}.lora_up.weight"] = one.up.half()
        out[f"{name}.alpha"] = torch.tensor(float(one.alpha))
    return out


def diffusers_scripts(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """train_dreambooth_lora.py, train_text_to_image_lora.py."""
    out = {}
    for one in found:
        name = f"{one.part}.{placed(one) if one.part == 'text_encoder_2' else one.module}."
        name += "lora" if one.part == "unet" else "lora_linear_layer"
        out |= {f"{name}.down.weight": one.down, f"{name}.up.weight": one.up}
    return out


def peft(found: list[Matrices]) -> dict[str, torch.Tensor]:
    """What `save_lora_weights` is given by scripts that leave PEFT's names."""
    out = {}
    for one in found:
        name = f"{one.part}.{placed(one)}"
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
FORMATS_XL: dict[str, Callable[[list[Matrices]], dict[str, torch.Tensor]]] = {
    "kohya": kohya_xl,
    "kohya_unmapped": kohya_xl_unmapped,
    "diffusers_scripts": diffusers_scripts,
    "peft": peft,
}


# ---- files in use ----


def written(path, tensors):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def used(backbone, place, kind=LORA, trigger="sks {}", name="mine"):
    return proven(backbone, Told(name, kind, trigger), place, "cat")


def refused_by_name(backbone, file, named):
    """One sentence that names what of the file is wrong, and the backbone as it was."""
    before = state(backbone)
    with pytest.raises(UserError, match=r"^mine") as told, used(backbone, file):
        pass
    assert named in str(told.value) and "\n" not in str(told.value)
    assert same(before, state(backbone))
