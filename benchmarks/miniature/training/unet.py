"""The U-Net: it predicts the noise in latents, given the text encoder's words.

In: a workshop with the stages `text` and `vae`. Out: the stage `unet` on disk; the U-Net, averaged
and frozen.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.text_encoder import trained_text_encoder
from benchmarks.miniature.training.training_data import FACTORS, Rows, to_device
from benchmarks.miniature.training.vae import latents
from benchmarks.miniature.training.workshop import Loss, Step, Workshop
from perfusion_core.plain_attention import plain_layers, plainly

SEED = 3
MIDDLE = (0.1, 0.6)  # of the schedule: from there a thing's marks are drawn, half of the timesteps
DECAY = 0.999  # of the moving average: a fall of the learning rate averages too


def unet_module(shop: Workshop) -> Any:
    shop.seed(SEED)
    unet: Any = networks.make_unet()
    return unet.to(shop.device).to(memory_format=shop.layout)


def train_unet(shop: Workshop, minutes: float) -> None:
    unet = unet_module(shop).train()
    stage = Stage({"unet": unet}, shop.file("unet"), lr=shop.recipe.unet_lr, decay=DECAY)
    codes = Rows([latents(shop)], shop.device)
    shop.loop(stage, "unet", minutes, guessing(shop, unet, trained_text_encoder(shop), codes))


def guessing(shop: Workshop, unet: Any, text: Any, codes: Rows) -> Step:
    """What a step learns: the noise in latents of some pictures, given their captions."""
    recipe, reader, learn = shop.recipe, shop.compiled(text), denoising(shop, unet)
    share = shares(shop.pictures.labels, recipe.rare)
    nothing = shop.tokenizer(
        "", padding="max_length", max_length=networks.TEXT_LENGTH, return_tensors="pt"
    ).input_ids.to(shop.device)

    def step(rng: np.random.Generator) -> Loss:
        # Latents, captions, some dropped.
        n = recipe.unet_batch
        index = np.searchsorted(share, rng.random(n), side="right")
        drop = to_device(rng.random(n) < recipe.drop_prompt, shop.device)
        ids = torch.where(drop[:, None], nothing, shop.texts(index, rng))
        g = torch.Generator(shop.device).manual_seed(int(rng.integers(2**62)))
        x = codes(index).float()  # [batch, 4, 16, 16]
        return learn(x, g, lambda: {"encoder_hidden_states": reader(ids).last_hidden_state})

    return step


def shares(labels: np.ndarray, rare: float) -> np.ndarray:
    """Where each picture's part of [0, 1) ends, if one with a material or a state is drawn `rare`
    times as often as another: few have one, and held-out pairs ask for both.
    """
    columns = [list(FACTORS).index(name) for name in ("material", "state")]
    ends = np.cumsum(np.where((labels[:, columns] > 0).any(axis=1), rare, 1.0))
    return ends / ends[-1]


Tell = Callable[[], dict[str, Any]]


def denoising(shop: Workshop, unet: Any) -> Callable[[torch.Tensor, torch.Generator, Tell], Loss]:
    """Latents, what is random in them, and what tells the U-Net of their texts -> how well it
    guesses their noise.
    """
    recipe, guesser = shop.recipe, shop.compiled(unet)
    attentions = [] if shop.compile else plain_layers(unet, shop.device)
    scheduler: Any = networks.make_scheduler()
    bars = scheduler.alphas_cumprod.to(shop.device)  # alpha bar of every timestep, [1000]

    def learn(x: torch.Tensor, g: torch.Generator, tell: Tell) -> Loss:
        # Noise at timesteps that cover the schedule.
        noise = torch.randn(x.shape, generator=g, device=shop.device)
        t = spread_timesteps(len(x), len(bars), g, recipe.middle)
        bar = bars[t][:, None, None, None]
        noisy = (bar.sqrt() * x + (1 - bar).sqrt() * noise).contiguous(memory_format=shop.layout)
        # Guess the noise.
        with shop.half():
            with torch.no_grad():
                told = tell()
            with plainly(attentions):
                guess = guesser(noisy, t, **told).sample
        each = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        # Min-SNR weighting.
        snr = (bar / (1 - bar)).flatten()
        loss = (each * snr.clamp(max=recipe.snr_cap) / snr).mean()
        return loss, {"mse": each.mean(), "weighted": loss}

    return learn


def spread_timesteps(n: int, steps: int, g: torch.Generator, middle: float = 0.0) -> torch.Tensor:
    """A random timestep from each of n parts of the schedule that are equally likely.

    For rows that are in random order each timestep is as likely as `middle` makes it; the loss of a
    batch varies less, because no batch happens on many easy ones. Timesteps of the middle are
    1 + `middle` times as likely as all alike, the others 1 - `middle` times: at the ends the noise
    is easy to guess or nothing of a thing's marks is left.
    """
    place = (torch.rand(n, generator=g, device=g.device) + torch.arange(n, device=g.device)) / n
    if middle:
        first, end = MIDDLE
        low = first * (1 - middle)  # how likely a timestep is before the middle, and before its end
        high = low + (end - first) * (1 + middle)
        inside = first + (place - low) / (1 + middle)
        beyond = end + (place - high) / (1 - middle)
        place = torch.where(place < low, place / (1 - middle), inside)
        place = torch.where(inside < end, place, beyond)
    return (place * steps).long().clamp(max=steps - 1)


def trained_unet(shop: Workshop) -> Any:
    """The trained U-Net, averaged, frozen."""
    unet = unet_module(shop)
    shop.average("unet", {"unet": unet})
    return unet.eval().requires_grad_(False)
