"""The VAE, and the latents of every training picture.

In: a workshop. Out: the stage `vae`, `latents.npy` and `scale.json` on disk; the VAE, averaged and
frozen.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tqdm import tqdm

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import write_array
from benchmarks.miniature.training.workshop import Loss, Workshop
from benchmarks.miniature.world.picture import PIXELS

SEED = 2
LATENTS = "latents.npy"  # of every picture, in the work folder
ENCODER = ("vae.encoder", "vae.quant_conv")


def vae_module(shop: Workshop) -> Any:
    shop.seed(SEED)
    vae: Any = networks.make_vae()
    return vae.to(shop.device).to(memory_format=shop.layout)


def train_vae(shop: Workshop, minutes: float) -> None:
    """Encoder and decoder; once there are latents, which the U-Net has learned from, the decoder
    alone.
    """
    recipe, vae = shop.recipe, vae_module(shop).train()
    stage = Stage({"vae": vae}, shop.file("vae"), lr=recipe.vae_lr, weight_decay=0.0)
    if latents_file(shop).exists():
        stage.use_average(ENCODER)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    encoder, decoder = shop.compiled(vae.encoder), shop.compiled(vae.decoder)

    def step(rng: np.random.Generator) -> Loss:
        # One crop, all pictures.
        top, left = rng.integers(0, PIXELS + 1 - (crop := recipe.vae_crop), size=2)
        x = shop.images(shop.batch(rng, recipe.vae_batch))[
            ..., top : top + crop, left : left + crop
        ]
        x = x.contiguous(memory_format=shop.layout)
        # Encode, sample, decode.
        with shop.half():
            posterior = DiagonalGaussianDistribution(vae.quant_conv(encoder(x)))
            y = decoder(vae.post_quant_conv(posterior.sample())).float()
        # Squared error: every picture counts by its decibels.
        diff = y - x  # [batch, 3, crop, crop]
        mse = diff.square().mean((1, 2, 3))
        psnr = (10 * torch.log10(4 / mse)).mean()
        # Error of the edges.
        edges = (diff[..., 1:, :] - diff[..., :-1, :]).abs().mean()
        edges = edges + (diff[..., 1:] - diff[..., :-1]).abs().mean()
        # KL to unit normal.
        variance, log_variance = posterior.var.float(), posterior.logvar.float()
        kl = 0.5 * (posterior.mean.float().square() + variance - 1 - log_variance).mean()
        loss = -psnr / 10 + 0.5 * edges + recipe.kl * kl
        return loss, {"psnr": psnr, "kl": kl}

    shop.loop(stage, "vae", minutes, step)


def trained_vae(shop: Workshop) -> Any:
    """The trained VAE, averaged, frozen; its latents are not scaled yet."""
    vae = vae_module(shop)
    shop.average("vae", {"vae": vae})
    return vae.eval().requires_grad_(False)


# ---- latents


def latents(shop: Workshop) -> np.ndarray:
    """Means of the VAE's code of every picture, scaled to unit variance, float16, made once."""
    if not latents_file(shop).exists():
        encode_all(shop, trained_vae(shop))
    return np.load(latents_file(shop), mmap_mode="r")


def encode_all(shop: Workshop, vae: Any, scale: float | None = None) -> None:
    """Write the latents; without a scale, that of unit variance."""
    table = codes_from(shop, vae, 0, len(shop.pictures))
    scale = scale or 1 / float(table[:20_000].astype(np.float32).std())
    (shop.folder / "scale.json").write_text(json.dumps(scale))
    write_array(latents_file(shop), (table.astype(np.float32) * scale).astype(np.float16))


def codes_from(shop: Workshop, vae: Any, first: int, end: int, chunk: int = 256) -> np.ndarray:
    """Of a workshop's pictures of these numbers, float16 [pictures, 4, 16, 16]."""
    starts = tqdm(range(first, end, chunk), desc="latents", mininterval=5)
    return np.concatenate(
        [codes_of(shop, vae, shop.images(np.arange(k, min(k + chunk, end)))) for k in starts]
    )


@torch.no_grad()
def codes_of(shop: Workshop, vae: Any, x: torch.Tensor) -> np.ndarray:
    """Means of the code of pictures as a model sees them, float16 [n, 4, 16, 16]."""
    with shop.half():
        code = vae.encode(x).latent_dist.mean
    return code.float().cpu().numpy().astype(np.float16)


def latent_scale(shop: Workshop) -> float:
    """What the latents were multiplied by: `scaling_factor` of the exported VAE."""
    return json.loads((shop.folder / "scale.json").read_text())


def latents_file(shop: Workshop) -> Path:
    return shop.folder / LATENTS
