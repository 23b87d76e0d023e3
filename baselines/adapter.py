"""An adapter that somebody trained elsewhere: its file in, pictures with its trigger word out.

Each file is a method of a run, named after itself. A file of which anything is left over, or that
changes nothing, is an error (adapter_files.py, adapter_word.py, adapter_parts.py,
adapter_peft.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch

    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted
    from perfusion_core.training import Write

NAME, LABEL, VERSION = "adapter", "Adapter", 1
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
PAIRS = False  # a file has one trigger word
SETTINGS = ()
FILE = "adapter.safetensors"  # what a LoRA or an embedding is called in a fit's folder
ABOUT = "fit.json"
TOKEN = "<adapter>"  # the word that an embedding is loaded as; the trigger says where it stands
LORA, EMBEDDING, PIPELINE, PEFT = "lora", "embedding", "pipeline", "peft"  # kinds
PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")  # of a pipeline
NOISY = 500  # the step at which the U-Net is looked at


@dataclass(frozen=True)
class Config:
    """Nothing is trained here."""

    steps: int = 0


MINIATURE = Config()


def fit(*_: object, **__: object) -> dict[str, Any]:
    raise UserError(
        "adapters are trained elsewhere, and only drawn with here; choose another method to train"
    )


@dataclass(frozen=True)
class Told:
    """What fit.json says of an adapter's file."""

    name: str  # as errors call it
    kind: str
    trigger: str  # what is written for the concept: "sks {}", with {} for the super-category


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """The trigger for the placeholder, and what the file changes in the pipeline."""
    from baselines.parts import refuse_points, spelled

    refuse_points(NAME, point)
    [(name, fitted)] = fits.items()
    about = json.loads((fitted.folder / ABOUT).read_text(encoding="utf-8"))
    told = Told(about["name"], about["kind"], about["trigger"])
    whole = told.kind in (PIPELINE, PEFT)
    place = fitted.folder if whole else fitted.folder / FILE
    with proven(backbone, told, place, fitted.super_category):
        yield spelled({name: told.trigger.replace("{}", fitted.super_category)})


@contextmanager
def proven(backbone: Backbone, told: Told, place: Path, super_category: str) -> Iterator[None]:
    """Inside the block the pipeline is changed, and what it draws of the trigger is not what it
    drew without the file.
    """
    from baselines.adapter_files import lora
    from baselines.adapter_parts import other_parts
    from baselines.adapter_peft import peft_folder
    from baselines.adapter_word import embedding

    if backbone.text.behind:
        raise UserError(
            f"{told.name}: adapters trained elsewhere are drawn with on Stable Diffusion 1.x, 2.x "
            f"and XL, and the backbone {backbone.name} reads its text behind a projection; score "
            f"its pictures instead (docs/import.md)"
        )
    kinds: dict[str, Callable[..., AbstractContextManager[None]]] = {
        LORA: lora,
        EMBEDDING: partial(embedding, word=TOKEN),
        PIPELINE: partial(other_parts, parts=PARTS),
        PEFT: peft_folder,
    }
    text = f"a photo of {told.trigger.replace('{}', super_category)}"
    # the word of an embedding means nothing to a pipeline without it
    plain = seen(backbone, f"a photo of a {super_category}" if TOKEN in text else text)
    with kinds[told.kind](backbone, place, told.name):
        after = seen(backbone, text)
        if not bool(after.isfinite().all()):
            raise UserError(
                f"{told.name}: with it the U-Net gives no finite numbers; it is broken, so leave "
                f"it out"
            )
        if bool((plain == after).all()):
            raise UserError(
                f"{told.name} changes nothing: the U-Net gives the same numbers with it and "
                f"without it; name a file that was trained"
            )
        yield


def seen(backbone: Backbone, text: str) -> torch.Tensor:
    """What the U-Net makes of fixed noise beside a text, float32."""
    import torch

    from perfusion_core.sampling import text_side

    unet = backbone.unet
    side = int(unet.config.sample_size)
    noise = torch.randn(
        (1, unet.config.in_channels, side, side), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        encoding, pooled = text_side(backbone, text)
        noise, encoding = (x.to(backbone.device, backbone.dtype) for x in (noise, encoding))
        found: torch.Tensor = unet(noise, NOISY, encoding, **backbone.added(pooled)).sample
    return found.float()
