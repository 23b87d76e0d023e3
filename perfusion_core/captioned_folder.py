"""Open a folder of PixArt's or Sana's kind. In: a folder, its parts' dtypes. Out: its pipeline."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from perfusion_core.denoisers import between, exactly
from perfusion_core.errors import UserError
from perfusion_core.other_vae import dtype_of
from perfusion_core.places import variant_of


def load_captioned(place: Path, kinds: dict[str, torch.dtype]) -> Any:
    """PixArt's and Sana's kinds. What stands between text encoder and cross-attentions is part of
    the text side, so it is in float32, too. Sana's autoencoder leaves float16's range, and so does
    PixArt's VAE, which is that of Stable Diffusion or XL, unless `force_upcast` is off there.
    """
    try:
        pipe = DiffusionPipeline.from_pretrained(
            place, dtype=kinds, use_safetensors=True, variant=variant_of(place)
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot open the backbone in {place}: {str(error).strip().splitlines()[0]}"
        ) from error
    for module in between(pipe.transformer).values():
        module.float()
    exactly(pipe.transformer)
    vae: Any = pipe.vae
    vae.to(dtype_of(vae, kinds["default"]))
    return pipe
