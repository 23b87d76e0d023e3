"""The edit in ComfyUI's model: a MODEL and a chain of concepts in, a patched clone out.

`to_k` and `to_v` keep their modules and get another `forward`, which calls their own one: LoRAs,
casts, eight-bit weights and offloading stay ComfyUI's.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from perfusion_core.comfyui.comfy_words import Loaded
from perfusion_core.concept import Concept, unet_order
from perfusion_core.errors import UserError
from perfusion_core.joint_edit import joint_edit
from perfusion_core.rank_one import Edit, Last

Forward = Callable[[torch.Tensor], torch.Tensor]
END = ".attn2.to_k.weight"
NO_DOUBLE = ("mps", "xpu")  # devices that may have no float64; the split is done beside them


class Halves:
    """Encodings for values and for keys: two of a global lock, else the same twice."""

    def __init__(self, width: int) -> None:
        self.width, self.last = width, Last()

    def of(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.last.get(encodings, lambda: self.split(encodings))

    def split(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        near = encodings.cpu() if encodings.device.type in NO_DOUBLE else encodings
        if near.shape[-1] == self.width:
            return near, near
        return near[..., : self.width], near[..., self.width :]


class Gated:
    """Eq. 4 with a module's own forward as W. `o_star` [J, d_out] was learned; with `inputs` [J, d]
    it is W of them, but where `learned` [J, 1] says so.
    """

    def __init__(
        self,
        plain: Forward,
        edit: Edit,
        halves: Halves,
        o_star: torch.Tensor,
        inputs: torch.Tensor | None = None,
        learned: torch.Tensor | None = None,
    ) -> None:
        self.plain, self.edit, self.halves = plain, edit, halves
        self.o_star, self.inputs, self.learned = o_star, inputs, learned

    def __call__(self, encodings: torch.Tensor) -> torch.Tensor:
        seen = self.halves.of(encodings)[self.inputs is not None]  # of keys: the second half
        orthogonal, gates = (part.to(encodings.device) for part in self.edit.parts(seen))
        self.o_star = o_star = self.o_star.to(gates)
        if self.inputs is None or self.learned is None:
            kept = self.plain(orthogonal)
        else:  # in one call: what ComfyUI moves or casts a weight for is done once
            self.inputs, self.learned = self.inputs.to(gates), self.learned.to(gates.device)
            out = self.plain(torch.cat([orthogonal.flatten(0, -2), self.inputs.to(orthogonal)]))
            kept = out[: -len(self.inputs)].unflatten(0, orthogonal.shape[:-1])
            o_star = torch.where(self.learned, o_star, out[-len(self.inputs) :].to(gates))
        return kept + (gates @ o_star).to(kept.dtype)


class SecondHalf:
    """Keys where every concept has the global lock: the super-category's prompt through W."""

    def __init__(self, plain: Forward, halves: Halves) -> None:
        self.plain, self.halves = plain, halves

    def __call__(self, encodings: torch.Tensor) -> torch.Tensor:
        return self.plain(self.halves.of(encodings)[1].to(encodings.device))


def layers_of(model: Any) -> dict[str, str]:
    """The text cross-attentions by diffusers' names, in diffusers' order; their paths here."""
    from comfy.utils import unet_to_diffusers

    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    found = unet_to_diffusers(config) if "channel_mult" in config else {}
    names = (name.removesuffix(".to_k.weight") for name in found if name.endswith(END))
    return {
        name: f"diffusion_model.{found[f'{name}.to_k.weight'].removesuffix('.to_k.weight')}"
        for name in sorted(names, key=unet_order)
    }


def by_layer(
    name: str, concept: Concept, layers: Mapping[str, str], sizes: list[int]
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...] | None]:
    """o_star_V, and o_star_K where it was learned, of these layers."""
    here = concept.arranged(layers)
    others = here.names and list(here.names) != list(layers)
    if not layers or others or [len(o) for o in here.o_v] != sizes:
        raise UserError(
            f"the concept {name!r} was made for another model ({concept.backbone}, "
            f"{len(concept.o_v)} cross-attentions); connect a checkpoint of that kind, whose "
            f"cross-attentions are {len(sizes)} here"
        )
    return here.o_v, here.o_k


def gated(model: Any, loaded: Mapping[str, Loaded], c_inv: torch.Tensor) -> Any:
    """A clone of the model with all these concepts."""
    from comfy.utils import get_attr

    layers = layers_of(model)
    modules = {
        f"{path}.{side}": get_attr(model.model, f"{path}.{side}")
        for path in layers.values()
        for side in ("to_k", "to_v")
    }
    refuse_patched(model, modules)
    sizes = [modules[f"{path}.to_v"].weight.shape[0] for path in layers.values()]
    learned = {n: by_layer(n, one.concept, layers, sizes) for n, one in loaded.items()}
    local = {n: one for n, one in loaded.items() if one.lock == "local"}
    halves, edit = Halves(c_inv.shape[0]), edit_of(loaded, c_inv)
    k_edit = edit if len(local) == len(loaded) else edit_of(local, c_inv) if local else None
    new = model.clone()
    for number, path in enumerate(layers.values()):
        v, k = (modules[f"{path}.{side}"] for side in ("to_v", "to_k"))
        o_v = torch.stack([o_star[number] for o_star, _ in learned.values()])
        new.add_object_patch(f"{path}.to_v.forward", Gated(own_forward(v), edit, halves, o_v))
        if k_edit is None:
            new.add_object_patch(f"{path}.to_k.forward", SecondHalf(own_forward(k), halves))
            continue
        o_k = [learned[name][1] for name in local]
        there = torch.tensor([[one is not None] for one in o_k])
        given = torch.stack([o_v[0] * 0 if one is None else one[number] for one in o_k])
        supers = torch.stack([one.e_super for one in local.values()])
        one = Gated(own_forward(k), k_edit, halves, given, supers, there)
        new.add_object_patch(f"{path}.to_k.forward", one)
    new.set_attachments("perfusion", dict(loaded))
    return new


def own_forward(module: Any) -> Forward:
    """As its class has it, whatever stands there at the moment."""
    return type(module).forward.__get__(module)


def edit_of(loaded: Mapping[str, Loaded], c_inv: torch.Tensor) -> Edit:
    concepts = {name: one.concept for name, one in loaded.items()}
    bias = [one.bias for one in loaded.values()]
    temperature = [one.temperature for one in loaded.values()]
    return joint_edit(concepts, bias, temperature, c_inv)


def refuse_patched(model: Any, modules: Mapping[str, Any]) -> None:
    """Another node's change to these projections, which would be lost."""
    ours = model.get_attachment("perfusion") is not None
    for path in modules:
        for key, patch in model.object_patches.items():
            inside = key == path or key.startswith(f"{path}.")
            if inside and not (ours and isinstance(patch, Gated | SecondHalf)):
                raise UserError(
                    f"another node has replaced {path} of this model; load concepts before it"
                )
