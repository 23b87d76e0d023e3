"""miniature-xl's recipe: from a finished miniature to one of XL's kind, in stages that can be
stopped and run again.

    finished weights -> second text encoder -> photographs -> U-Net -> export, C

In: a work folder (best that of the finished weights, whose pictures and latents it takes), the
weights, how long each stage may take. Out: a folder of weights for a StableDiffusionXLPipeline.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.disk import read_json, write_whole
from benchmarks.miniature.training.hyperparameters import JOINT_STAGES, Recipe
from benchmarks.miniature.training.joint_export import export_joint
from benchmarks.miniature.training.joint_text import train_second_text_encoder
from benchmarks.miniature.training.joint_unet import finished_vae, train_joint_unet
from benchmarks.miniature.training.onwards import are_weights, take_words, words_of
from benchmarks.miniature.training.vae import LATENTS
from benchmarks.miniature.training.workshop import IDS, Paused, Workshop
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest

GROWN_FROM = "grown-from.json"  # in the work folder: the weights that its stages began with


def build_joint(
    folder: Path,
    out: Path,
    recipe: Recipe,
    weights: Path,
    *,
    device: str,
    minutes: Mapping[str, float],
    workers: int | None = None,
    deadline: float = math.inf,
    compile: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Every stage until it has had its minutes, in order, then the export with its C. Run again, it
    goes on.
    """
    if time.monotonic() >= deadline:
        raise Paused
    refuse_others(folder, weights)
    refuse_unfinished(folder, recipe)
    take_words(weights, folder)
    workers = workers or os.cpu_count() or 2
    shop = Workshop(folder, recipe, device, workers, deadline, compile, clock)
    finished_vae(shop, weights)  # latents of another VAE are told now, not after the first stage
    begun = folder / GROWN_FROM
    if not begun.is_file():
        write_whole(begun, json.dumps({"digest": backbone_digest(weights)}) + "\n")
    train: dict[str, Callable[[Workshop, float], None]] = {
        "text-xl": train_second_text_encoder,
        "unet-xl": partial(train_joint_unet, weights=weights),
    }
    for name in JOINT_STAGES:
        left = minutes.get(name, 0) - shop.spent(name)["seconds"] / 60
        if left * 60 >= 1:
            train[name](shop, left)
    for name in JOINT_STAGES:
        if not shop.file(name).exists():
            raise UserError(
                f"the stage {name} was never trained in {folder}; leave --stages out, or name it"
            )
    export_joint(shop, weights, out)


def refuse_others(folder: Path, weights: Path) -> None:
    """Weights that are none of the recipe's, or speak other words than the work folder, or are not
    those that its stages began with.
    """
    if not are_weights(weights) or (weights / "text_encoder_2").is_dir():
        raise UserError(
            f"{weights} holds no finished weights of a miniature, from which miniature-xl grows; "
            f"give their folder with --start"
        )
    words = words_of(folder)
    if words is not None and words != words_of(weights):
        raise UserError(
            f"{folder / 'tokenizer'} has other words than {weights}; give the weights that were "
            f"built there with --start, or another --work"
        )
    told = (read_json(folder / GROWN_FROM) or {}).get("digest")
    if told is not None and told != backbone_digest(weights):
        raise UserError(
            f"the stages in {folder} began with other weights than {weights}; give those with "
            f"--start, or an empty --work"
        )


def refuse_unfinished(folder: Path, recipe: Recipe) -> None:
    """A work folder whose miniature is not there yet, or has other pictures than are asked for."""
    if (folder / "vae.safetensors").is_file() and not (folder / LATENTS).is_file():
        raise UserError(
            f"the VAE in {folder} is still in training; finish that build first, or give another "
            f"--work"
        )
    if (folder / IDS).is_file():
        there = len(np.load(folder / IDS, mmap_mode="r"))
        if there != recipe.shards * recipe.shard:
            raise UserError(
                f"{folder} has words of {there:,} pictures, and shards={recipe.shards} asks for "
                f"{recipe.shards * recipe.shard:,}; give --set shards={there // recipe.shard}, or "
                f"another --work"
            )
