"""Another VAE for a backbone's own, such as one of Stable Diffusion XL that was made for float16.

In: a folder that holds it, and the VAE whose place it takes. Out: the model; a sentence where its
latents are not those that the denoiser was trained on.
"""

from pathlib import Path
from typing import Any

import torch

from perfusion_core.errors import UserError
from perfusion_core.places import refuse_other_latents


def dtype_of(vae: Any, kind: torch.dtype) -> torch.dtype:
    """float32 beside float16, whose range a VAE leaves unless it was made for it (`force_upcast` is
    off there)."""
    leaves = kind == torch.float16 and vae.config.get("force_upcast", True)
    return torch.float32 if leaves else kind


def open_vae(place: Path, own: Any, kind: torch.dtype) -> Any:
    """The VAE of a folder, for the backbone's `own`."""
    try:
        vae, info = type(own).from_pretrained(
            place, dtype=kind, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot open the VAE in {place}: {str(error).strip().partition(chr(10))[0][:200]}"
        ) from error
    wrong = [key for name in ("missing_keys", "unexpected_keys") for key in info.get(name) or ()]
    if wrong:
        raise UserError(
            f"the VAE in {place} is not loaded whole: {len(wrong)} of its keys are missing or "
            f"unknown, such as {wrong[0]}; download it again"
        )
    refuse_other_latents(place.name, own.config, vae.config)
    return vae.to(dtype_of(vae, kind)).eval()
