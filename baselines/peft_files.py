"""peft's adapter files: written with the same bytes every time, read without running anything.

In: a U-Net with an adapter, or a folder. Out: two files, or what they hold; a sentence where they
are of another kind, or name layers that the backbone has not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from baselines.fitting import tensors_in
from perfusion_core.errors import UserError
from perfusion_core.files import write_tensors

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone

ABOUT, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
PREFIX = "base_model.model."  # the way from a PeftModel to what it adapts
SHOWN = 3  # keys that an error prints
# What a file may not ask for: other sizes for single layers, and weights beside the matrices.
PLAIN: dict[str, Any] = {
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "modules_to_save": None,
}


@dataclass(frozen=True)
class Kind:
    """What of peft's a method is."""

    method: str  # its NAME
    peft_type: str  # as files say it
    config: Callable[..., Any]  # makes peft's configuration
    settings: tuple[str, ...]  # fields of it that decide the shapes, which a file may set
    mark: str  # how the names of its matrices begin
    # of its matrices those that are 0 before training, so that nothing is changed
    still: tuple[str, ...]
    # fields that a file may not set otherwise
    fixed: Mapping[str, Any] = field(default_factory=dict)
    float32: bool = False  # its arithmetic needs it, whatever the backbone's dtype


def write_adapter(folder: Path, unet: Any, wanted: Any, name: str) -> None:
    """Both files. peft's own would have sets, whose order changes from process to process."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(unet, adapter_name=name)
    write_tensors(
        folder / WEIGHTS,
        {f"{PREFIX}{key}": tensor for key, tensor in tensors.items()},
        {"format": "pt"},
    )
    told = {**wanted.to_dict(), "inference_mode": True, "base_model_name_or_path": None}
    text = json.dumps(told, indent=1, sort_keys=True, default=sorted)
    (folder / ABOUT).write_text(f"{text}\n", encoding="utf-8")


def read_adapter(
    kind: Kind, backbone: Backbone, folder: Path
) -> tuple[dict[str, Any], dict[str, torch.Tensor], list[str]]:
    """Settings for peft's configuration, the matrices by peft's names without its prefix, and the
    names of the layers that they stand beside."""
    settings = settings_of(kind, folder / ABOUT)
    file = folder / WEIGHTS
    return settings, *layers_of(kind, backbone, file, tensors_in(file))


def read_about(file: Path) -> dict[str, Any]:
    """What a configuration file says."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{file.parent} has no {file.name}, which peft's adapters have; give a folder with it"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    return told if isinstance(told, dict) else {}


def settings_of(kind: Kind, file: Path) -> dict[str, Any]:
    """The fields that decide shapes; an adapter of another kind is refused."""
    told = read_about(file)
    found = told.get("peft_type")
    if found != kind.peft_type:
        raise UserError(
            f"{file} tells of an adapter of the kind {found!r:.40}, and {kind.method} draws with "
            f"{kind.peft_type}"
        )
    for key, wanted in {**PLAIN, **kind.fixed}.items():
        if told.get(key, wanted) not in (wanted, None):
            raise UserError(
                f"{file}: {key} is {told[key]!r:.60}, and {kind.method} draws only with files "
                f"where it is {wanted!r}"
            )
    settings = {key: told[key] for key in kind.settings if key in told}
    for key, value in settings.items():
        if not isinstance(value, (int, float)):
            raise UserError(f"{file}: {key} is {value!r:.60}, and a number is wanted")
    return settings


def layers_of(
    kind: Kind, backbone: Backbone, file: Path, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    known = {
        name.removesuffix(".base_layer")  # another concept's adapter may be there already
        for name, module in backbone.unet.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    matrices: dict[str, torch.Tensor] = {}
    layers: dict[str, None] = {}
    strangers, unknown = list[str](), list[str]()
    for key, tensor in tensors.items():
        module, mark, _ = key.removeprefix(PREFIX).partition(f".{kind.mark}")
        if not (key.startswith(PREFIX) and mark):
            strangers.append(key)
        elif module not in known:
            unknown.append(key)
        matrices[key.removeprefix(PREFIX)] = tensor
        layers[module] = None
    if strangers or not tensors:
        raise UserError(
            f"{file} is no file of {kind.method}: {len(strangers)} of its {len(tensors)} keys are "
            f"of something else{some(strangers)}"
        )
    if unknown:
        raise UserError(
            f"{file}: the backbone {backbone.name} has no layer for {len(unknown)} of its keys"
            f"{some(unknown)}; it was trained on another model"
        )
    return matrices, list(layers)


def some(keys: Collection[str]) -> str:
    """A few keys, and how many more; nothing for none."""
    first = ", ".join(sorted(keys)[:SHOWN])
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f": {first}{more}" if keys else ""
