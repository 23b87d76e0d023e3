"""A pipeline that somebody trained as a whole: its U-Net, text encoders and VAE for the backbone's.

In: a folder of diffusers' layout. Out: the backbone's pipeline with these parts, each of them read
to the last key; afterwards its own again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from baselines.adapter_files import silent, some
from baselines.fitting import refuse_not_finite
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone

# what the libraries raise of a folder that is damaged, or of another kind
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    AttributeError,
    SafetensorError,
)
SPLITS = ("heads", "num_heads", "num_groups")  # of diffusers, transformers and torch


@contextmanager
def other_parts(
    backbone: Backbone, folder: Path, name: str, *, parts: Sequence[str]
) -> Iterator[None]:
    """What the folder has of the parts, in the pipeline for the duration."""
    pipe = backbone.pipe
    refuse_other_prediction(pipe, folder, name)
    there = [part for part in parts if (folder / part).is_dir()]
    if strange := [part for part in there if getattr(pipe, part, None) is None]:
        raise UserError(
            f"{name} has {strange[0]}, which the backbone {backbone.name} has not: it was trained "
            f"on another model"
        )
    plain = {part: getattr(pipe, part) for part in there}
    other = {part: opened(backbone, folder, part, name) for part in there}
    pairs = [zip(plain[part].parameters(), other[part].parameters()) for part in there]
    if all(torch.equal(old, new) for of_part in pairs for old, new in of_part):
        raise UserError(
            f"{name} changes nothing: its weights are those of the backbone; name a file that was "
            f"trained"
        )
    try:
        for part, model in other.items():
            setattr(pipe, part, model)
        yield
    finally:
        for part, model in plain.items():
            setattr(pipe, part, model)


def opened(backbone: Backbone, folder: Path, part: str, name: str) -> Any:
    """One part as the pipeline draws with it."""
    from perfusion_core.backbone import lay_out
    from perfusion_core.other_vae import dtype_of

    model = whole(backbone, folder, part, name)
    if part == "vae" and backbone.text.joint:
        model.to(dtype_of(model, backbone.dtype))
    model.to(backbone.device).requires_grad_(False).eval()
    return model if part.startswith("text_encoder") else lay_out(model, backbone.device)


def whole(backbone: Backbone, folder: Path, part: str, name: str) -> Any:
    """One part, whose weights are those of the files, finite, and shaped like the backbone's."""
    from perfusion_core.places import variant_of

    own = getattr(backbone.pipe, part)
    try:
        with silent():
            model, info = type(own).from_pretrained(
                folder,
                subfolder=part,
                dtype=own.dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                variant=variant_of(folder),
            )
    except UNREADABLE as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"{name}: its {part} cannot be opened: {first}") from None
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if keys := [str(key) for key in info.get(what) or ()]:
            raise UserError(
                f"{name}: its {part} is not loaded whole ({what.replace('_', ' ')}): {some(keys)}"
            )
    mine, theirs = shapes(own), shapes(model)
    if wrong := [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]:
        raise UserError(
            f"{name}: its {part} is not shaped like that of the backbone {backbone.name}: "
            f"{some(wrong)}"
        )
    refuse_other_splits(own, model, f"{name}: its {part}", backbone.name)
    refuse_not_finite(f"{name}: its {part}", dict(model.named_parameters()))
    return model


def refuse_other_splits(own: Any, model: Any, named: str, backbone: str) -> None:
    """The same weights in other heads or groups are another model, which no shape tells."""
    mine, theirs = splits(own), splits(model)
    if wrong := [key for key in mine if mine[key] != theirs.get(key)]:
        first = min(wrong)
        raise UserError(
            f"{named} has {theirs.get(first)} in {first}, and the backbone {backbone} has "
            f"{mine[first]}: its config.json is of another model"
        )


def refuse_other_prediction(pipe: Any, folder: Path, name: str) -> None:
    """A U-Net that predicts something else draws noise by the backbone's scheduler."""
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8")).get("prediction_type", "epsilon")
    except (ValueError, AttributeError):
        raise UserError(f"{name}: its {file.name} is damaged") from None
    mine = pipe.scheduler.config.get("prediction_type", "epsilon")
    if theirs != mine:
        raise UserError(
            f"{name} predicts {str(theirs)!r:.40}, and the backbone {mine!r}: it was trained on "
            f"another model"
        )


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def splits(model: Any) -> dict[str, int]:
    """Into how many heads and groups each layer takes its channels apart."""
    return {
        f"{name}.{count}": number
        for name, layer in model.named_modules()
        for count in SPLITS
        if isinstance(number := getattr(layer, count, None), int)
    }
