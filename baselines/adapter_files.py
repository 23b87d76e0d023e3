"""LoRA files of other programs in a pipeline, whole or not at all.

In: a safetensors file with kohya's, diffusers' or PEFT's keys. Out: the pipeline with it, loaded by
diffusers; a sentence that names the keys where one is left over or does not fit. Afterwards the
pipeline is bit for bit what it was.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from baselines.fitting import refuse_not_finite
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone

ADAPTER = "elsewhere"  # peft's name for the matrices
SHOWN = 3  # keys that an error prints
ENDS = r"\w+\.(lora_down\.weight|lora_up\.weight|alpha)"
KOHYA = re.compile(rf"lora_(unet|te1?)_{ENDS}")
KOHYA_XL = re.compile(rf"lora_(unet|te[12])_{ENDS}")
OTHERS = re.compile(r"(unet|text_encoder)\..+lora.+")  # diffusers' and PEFT's
OTHERS_XL = re.compile(r"(unet|text_encoder(_2)?)\..+lora.+")
MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


def some(keys: Collection[str]) -> str:
    """A few keys, and how many more."""
    first = sorted(keys)[:SHOWN]
    return ", ".join(first) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


@contextmanager
def silent() -> Iterator[None]:
    """What the libraries would say of a file is asked of the pipeline itself, afterwards."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    from perfusion_core.backbone import quiet

    libraries = diffusers, transformers
    levels = [library.get_verbosity() for library in libraries]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in libraries:
            library.set_verbosity_error()
        try:
            yield
        finally:
            for library, level in zip(libraries, levels):
                library.set_verbosity(level)


def read(file: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a file, each of finite numbers."""
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{name} is no safetensors file, or it is damaged: {error}") from None
    refuse_not_finite(name, tensors)
    return tensors


# ---- LoRA ----


@dataclass
class Layer:
    """The two matrices beside one layer, and what the file calls them."""

    part: str  # unet, text_encoder or text_encoder_2
    module: str
    matrices: dict[str, torch.Tensor]  # A (down) and B (up)
    keys: dict[str, str]
    alpha: float | None = None  # kohya's; else the file's header says it, or it is the rank

    @property
    def rank(self) -> int:
        return len(self.matrices["A"])


@contextmanager
def lora(backbone: Backbone, file: Path, name: str) -> Iterator[None]:
    """The matrices beside the layers of U-Net and text encoders, each of them in its place."""
    pipe = backbone.pipe
    layers = layers_of(read(file, name), name, backbone)
    refuse_misfits(backbone, layers, name)
    refuse_idle(layers, name)
    plain = {reader.part: reader.model for reader in backbone.text.readers}
    try:
        for part, model in plain.items():
            if any(layer.part == part for layer in layers):
                setattr(pipe, part, copy.deepcopy(model))
        load(backbone, file, name)
        settle(backbone, layers, name)
        yield
    finally:
        pipe.unet.unload_lora()
        for part, model in plain.items():
            setattr(pipe, part, model)


def parts_of(backbone: Backbone) -> tuple[str, ...]:
    """The models of a pipeline that matrices may stand in."""
    return ("unet", *(reader.part for reader in backbone.text.readers))


def models_of(backbone: Backbone) -> dict[str, dict[str, Any]]:
    """Their layers by name."""
    return {part: dict(getattr(backbone.pipe, part).named_modules()) for part in parts_of(backbone)}


def load(backbone: Backbone, file: Path, name: str) -> None:
    """By diffusers' loader, whose configuration may come from the file's header: beside the weights
    that are there, none of which it may touch."""
    before = weights_of(backbone)
    try:
        with silent():
            backbone.pipe.load_lora_weights(
                file.parent,
                weight_name=file.name,
                adapter_name=ADAPTER,
                use_safetensors=True,
                local_files_only=True,
            )
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{name} cannot be loaded by diffusers: {told}") from None
    if weights_of(backbone) != before:
        raise UserError(
            f"{name} asks in its header for more than matrices beside the U-Net's layers; save it "
            f"again without that configuration"
        )


def weights_of(backbone: Backbone) -> dict[str, tuple[int, int]]:
    """Where each of the U-Net's own weights lies, and how often it was written."""
    from baselines.parts import stamps

    return {
        name.replace(".base_layer.", "."): stamp
        for name, stamp in stamps(backbone).items()
        if name.startswith("unet.") and f".{ADAPTER}." not in name
    }


def layers_of(tensors: Mapping[str, torch.Tensor], name: str, backbone: Backbone) -> list[Layer]:
    """What diffusers' converters make of the keys; one that no layer takes is an error."""
    kohya = all(key.startswith("lora_") for key in tensors)
    refuse_strangers(tensors, name, kohya, backbone.text.joint)
    keys = {id(tensor): key for key, tensor in tensors.items()}
    layers: dict[tuple[str, str], Layer] = {}
    for (part, key), tensor in converted(tensors, name, backbone).items():
        if found := MATRIX.fullmatch(key):
            layer = layers.setdefault((part, found["module"]), Layer(part, found["module"], {}, {}))
            layer.matrices[found["side"]] = tensor
            layer.keys[found["side"]] = keys[id(tensor)]
    used = {key for layer in layers.values() for key in layer.keys.values()}
    for layer in layers.values():
        alpha = f"{next(iter(layer.keys.values())).partition('.')[0]}.alpha"
        if kohya and alpha in tensors:
            layer.alpha = float(tensors[alpha])
            used.add(alpha)
    if left := set(tensors) - used:
        kind = "XL" if backbone.text.joint else "1.x or 2.x"
        raise UserError(
            f"{name}: {len(left)} of its {len(tensors)} keys belong to no layer of Stable "
            f"Diffusion {kind}: {some(left)}; give an adapter for that kind of model"
        )
    half = [key for one in layers.values() if len(one.matrices) < 2 for key in one.keys.values()]
    if half:
        raise UserError(f"{name}: the other matrix of {some(half)} is not in the file")
    return list(layers.values())


def refuse_strangers(
    tensors: Mapping[str, torch.Tensor], name: str, kohya: bool, joint: bool
) -> None:
    """Keys that diffusers would pass over without a word, or with one that nobody sees."""
    one, two = (KOHYA, KOHYA_XL) if kohya else (OTHERS, OTHERS_XL)
    fine = (two if joint else one).fullmatch
    strangers = [key for key in tensors if not fine(key) or "dora_scale" in key]
    strangers += [key for key in tensors if key.endswith(".alpha") and tensors[key].numel() != 1]
    if not strangers:
        return
    if any(key.startswith(("lora_te2_", "text_encoder_2.")) for key in strangers) and not joint:
        why = "it was made for Stable Diffusion XL, which this backbone is not"
    elif joint and any(key.startswith("lora_te_") for key in strangers):
        why = "it was made for Stable Diffusion 1.x or 2.x, and this backbone is of XL's kind"
    else:
        why = (
            "only LoRA with kohya's, diffusers' or PEFT's keys is read; give DoRA, LoHa, LoKr "
            "and OFT as folders of PEFT's"
        )
    raise UserError(
        f"{name}: {len(strangers)} of its {len(tensors)} keys cannot be used: {some(strangers)}; "
        f"{why}"
    )


def converted(
    tensors: Mapping[str, torch.Tensor], name: str, backbone: Backbone
) -> dict[tuple[str, str], torch.Tensor]:
    """(part, PEFT's key) -> the very tensor, by diffusers' own conversions. Blocks of XL's U-Net
    have the original code's numbers in kohya's keys, and diffusers asks its configuration."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from diffusers.utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    joint = backbone.text.joint
    pipeline = StableDiffusionXLPipeline if joint else StableDiffusionPipeline
    blocks = {"unet_config": backbone.unet.config} if joint else {}
    try:
        state, _ = pipeline.lora_state_dict(dict(tensors), **blocks)
    except KeyError as error:  # kohya's down without its up
        raise UserError(
            f"{name}: {error.args[0]} is not in the file, its other matrix is"
        ) from None
    except (ValueError, IndexError) as error:  # IndexError: a block of no U-Net
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{name} cannot be read as a LoRA: {told}") from None
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in parts_of(backbone)}
    for key, tensor in state.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    unet = parts["unet"]
    if unet and "lora_A" not in next(iter(unet)):
        parts["unet"] = convert_unet_state_dict_to_peft(unet)
    for reader in backbone.text.readers:
        if text := parts[reader.part]:
            text = convert_state_dict_to_peft(convert_state_dict_to_diffusers(text))
            if not hasattr(reader.model, "text_model"):  # its layers have nothing before them
                text = {key.removeprefix("text_model."): value for key, value in text.items()}
            parts[reader.part] = text
    return {(part, key): value for part, of in parts.items() for key, value in of.items()}


def refuse_misfits(backbone: Backbone, layers: Collection[Layer], name: str) -> None:
    """Layers that the backbone has not, shapes that are not its own."""
    models = models_of(backbone)
    missing, wrong, bad = list[str](), list[str](), 0
    for layer in layers:
        weight = getattr(models[layer.part].get(layer.module), "weight", None)
        if weight is None:
            missing += layer.keys.values()
        elif told := misfit(layer, weight):
            wrong += [f"{key} ({told[side]})" for side, key in layer.keys.items() if side in told]
            bad += 1
    if missing:
        raise UserError(
            f"{name}: the backbone {backbone.name} has no layers for {len(missing)} of its keys: "
            f"{some(missing)}; it was trained on another model"
        )
    if wrong:
        raise UserError(
            f"{name}: {bad} of its {len(layers)} layers do not fit the backbone "
            f"{backbone.name}: {some(wrong)}; it was trained on another model"
        )


def refuse_idle(layers: Collection[Layer], name: str) -> None:
    """Matrices that do nothing."""
    if not any(bool(one.matrices["A"].any() and one.matrices["B"].any()) for one in layers):
        ups = [layer.keys["B"] for layer in layers]
        raise UserError(
            f"{name} changes nothing: {some(ups)} are 0, as before the first step; name a file "
            f"that was trained"
        )


def misfit(layer: Layer, weight: torch.Tensor) -> dict[str, str]:
    """Of each matrix that does not fit beside the weight (or the other one), its shape."""
    down, up = (layer.matrices[side] for side in "AB")
    rank = up.shape[1] if up.ndim > 1 else 0
    fits = {
        "A": down.ndim == weight.ndim and down.shape == (rank, *weight.shape[1:]),
        "B": up.ndim == weight.ndim and up.shape[0] == weight.shape[0] and rank == len(down),
    }
    return {
        side: f"{tuple(layer.matrices[side].shape)} beside {tuple(weight.shape)}"
        for side, fine in fits.items()
        if not fine
    }


def settle(backbone: Backbone, layers: Collection[Layer], name: str) -> None:
    """Every matrix is where its key says, as it is in the file, and counts as much as it says."""
    models, lost = models_of(backbone), []
    for layer in layers:
        module = models[layer.part][layer.module]
        for side, tensor in layer.matrices.items():
            beside = getattr(module, f"lora_{side}", {})
            if ADAPTER not in beside:
                lost.append(layer.keys[side])
                continue
            weight = beside[ADAPTER].weight
            kind = backbone.dtype if layer.part == "unet" else torch.float32
            weight.data = tensor.to(device=backbone.device, dtype=kind)
            weight.requires_grad_(False)
        if layer.alpha is not None and layer.keys["A"] not in lost:
            # diffusers keeps no alpha that differs between layers
            module.scaling[ADAPTER] = layer.alpha / layer.rank
    if lost:
        raise UserError(f"{name}: diffusers left {len(lost)} of its keys out: {some(lost)}")
    count = sum(matrices_in(backbone.pipe, part) for part in parts_of(backbone))
    if count != 2 * len(layers):
        raise UserError(
            f"{name} asks in its header for {count} matrices, and holds {2 * len(layers)}; save it "
            f"again without that configuration"
        )


def matrices_in(pipe: Any, part: str) -> int:
    return sum(
        f".{ADAPTER}." in name and ".lora_" in name
        for name, _ in getattr(pipe, part).named_parameters()
    )
