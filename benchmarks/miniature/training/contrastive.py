"""A copy of the miniature whose text encoder learned by the contrastive loss alone, as CLIP's did.

Its U-Net goes on from the given weights until it understands the new encodings; VAE, scorers and
judges stay.
"""

import math
from dataclasses import replace
from pathlib import Path

from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.onwards import go_on, take_words
from benchmarks.miniature.training.recipe import train_stages
from benchmarks.miniature.training.text_encoder import trained_text_encoder
from benchmarks.miniature.training.unet import trained_unet
from benchmarks.miniature.training.weights_export import (
    copied_weights,
    export_covariance,
)
from benchmarks.miniature.training.workshop import Workshop
from perfusion_core.errors import UserError

OURS = ("text_encoder", "unet", "covariance.safetensors")
FIRST = 10.0  # minutes of the text encoder, as in the shipped weights


def contrastive(
    weights: Path,
    out: Path,
    *,
    work: Path,
    minutes: float,
    device: str,
    compile: bool = False,
    recipe: Recipe | None = None,
    deadline: float = math.inf,
) -> Path:
    """Train what is missing of both in the work folder, and put a whole backbone into `out`."""
    if minutes <= 0:
        raise UserError(f"--minutes {minutes:g}: training takes time; leave it out for 60 minutes")
    take_words(weights, work)
    recipe = replace(recipe or Recipe(), own_token=0.0)
    shop = Workshop(work, recipe, device, deadline=deadline, compile=compile)
    go_on(shop, weights, ["vae", "unet"])
    first = min(FIRST, minutes / 2)
    train_stages(shop, {"text": first, "unet": minutes - first})
    stages = {name: shop.spent(name) for name in ("text", "unet")}
    about = {"own_token": recipe.own_token, "stages": stages, "device": shop.device.type}
    with copied_weights(weights, out, OURS, contrastive=about) as part:
        trained_text_encoder(shop).cpu().half().save_pretrained(part / "text_encoder")
        trained_unet(shop).cpu().half().save_pretrained(part / "unet")
        export_covariance(shop, part)
    return out
