"""Whether trained files are those of a method and a backbone.

In: a file, and the shapes that are wanted by name. Out: its tensors, or one sentence that names the
first that is missing, unknown, or of another shape.
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file.parent} has no {file.name}; name a trained folder") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is no safetensors file, or it is damaged: {error}") from None


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
