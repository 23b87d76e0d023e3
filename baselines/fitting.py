"""Whether trained files are those of a method and a backbone.

In: a file, and the shapes that are wanted by name. Out: its tensors, or one sentence that names the
first that is missing, unknown, of another shape, or not of finite numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads methods without torch
    import torch

    from perfusion_core.backbone import Backbone

Shapes = Mapping[str, tuple[int, ...]]


def tensors_in(file: Path) -> dict[str, torch.Tensor]:
    """What a file holds, each of finite numbers."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file.parent} has no {file.name}; name a trained folder") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is no safetensors file, or it is damaged: {error}") from None
    refuse_not_finite(str(file), tensors)
    return tensors


def refuse_not_finite(name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """NaN and infinities would end in black pictures."""
    if broken := [key for key, one in tensors.items() if not bool(one.isfinite().all())]:
        first, more = min(broken), f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise UserError(f"{name} holds numbers that are not finite, in {first:.200}{more}")


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def refuse_misfit(
    method: str, backbone: Backbone, file: Path, found: Shapes, wanted: Shapes
) -> None:
    """By names and shapes."""
    on = f"{method} on the backbone {backbone.name}"
    for name in wanted:
        if name not in found:
            held = ", ".join(sorted(found)[:2]) or "nothing"
            raise UserError(f"{file} has no {name}, which {on} wants; it holds {held:.200}")
        if found[name] != wanted[name]:
            raise UserError(
                f"{file}: {name} has the shape {found[name]}, and {on} wants {wanted[name]}; it "
                f"was trained on another model"
            )
    if strange := sorted(found.keys() - wanted.keys()):
        raise UserError(f"{file} holds {strange[0]:.200}, which {on} does not know")


def word_shapes(backbone: Backbone, found: Shapes, usual: str) -> dict[str, tuple[int, ...]]:
    """Of a file with one learned word: a vector under any name, or one for each text encoder."""
    from perfusion_core.text_encoders import FILE_KEYS

    if backbone.text.joint:
        return {key: (1, one) for key, one in zip(FILE_KEYS, backbone.text.widths, strict=True)}
    [name] = found if len(found) == 1 else [usual]
    return {name: (backbone.text.width,)}


def word_in(method: str, backbone: Backbone, file: Path) -> torch.Tensor:
    """The vector of a file with one learned word; any other file is a sentence."""
    from baselines.parts import embedding_of

    tensors = tensors_in(file)
    found = shapes_of(tensors)
    wanted = word_shapes(backbone, found, "<name>")
    if not backbone.text.joint:  # diffusers' own script writes a vector as a row
        found = {name: shape[1:] if shape[:1] == (1,) else shape for name, shape in found.items()}
    refuse_misfit(method, backbone, file, found, wanted)
    return embedding_of(tensors).flatten().to(backbone.device)
