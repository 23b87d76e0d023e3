"""The recipe: from nothing to the miniature's weights, in stages that can be stopped and run again.

    pictures -> tokenizer -> text encoder -> VAE -> latents -> U-Net -> scorer -> scorer2 -> judges
    -> export, C

In: a work folder and how long each stage may take; out: the folder `weights` in diffusers layout.
One seed.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.judge_data import render_judged
from benchmarks.miniature.training.judge_training import train_judge
from benchmarks.miniature.training.onwards import go_on, kept_covariance, take_words
from benchmarks.miniature.training.scorer_training import train_scorer
from benchmarks.miniature.training.text_encoder import train_text_encoder
from benchmarks.miniature.training.unet import train_unet
from benchmarks.miniature.training.vae import latents, train_vae
from benchmarks.miniature.training.weights_export import export_covariance, export_weights
from benchmarks.miniature.training.workshop import Paused, Workshop

# the stages in their order: the U-Net needs text encoder and VAE, the judges need the VAE
TRAIN: dict[str, Callable[[Workshop, float], None]] = {
    "text": train_text_encoder,
    "vae": train_vae,
    "unet": train_unet,
    "scorer": partial(train_scorer, name="scorer"),
    "scorer2": partial(train_scorer, name="scorer2"),
    "factors": partial(train_judge, name="factors"),
    "identity": partial(train_judge, name="identity"),
    "segment": partial(train_judge, name="segment"),
}


def build_miniature(
    folder: Path,
    out: Path,
    recipe: Recipe,
    *,
    device: str,
    minutes: Mapping[str, float],
    workers: int | None = None,
    deadline: float = math.inf,
    compile: bool = False,
    weights: Path | None = None,
) -> None:
    """Every stage until it has had its minutes, in order, then the export with its C. Run again, it
    goes on. With `weights`, a stage that was not begun begins with what they hold, and C
    is theirs as long as the text encoder is.
    """
    if time.monotonic() >= deadline:
        raise Paused
    workers = workers or os.cpu_count() or 2
    # before a GPU is touched: rendering forks
    render_judged(folder / "judge", recipe.judge_shards, workers, recipe.shard)
    if weights:
        take_words(weights, folder)
    shop = Workshop(folder, recipe, device, workers, deadline, compile)
    if weights:
        go_on(shop, weights)
    train_stages(shop, minutes)
    latents(shop)  # their scale is the VAE's, also where no U-Net was trained
    export_weights(shop, out)
    if not (weights and kept_covariance(shop, weights, out)):
        export_covariance(shop, out)


def train_stages(shop: Workshop, minutes: Mapping[str, float]) -> None:
    """Give every stage what it lacks of its minutes."""
    for name, train in TRAIN.items():
        left = minutes.get(name, 0) - shop.spent(name)["seconds"] / 60
        if left * 60 >= 1:
            train(shop, left)
