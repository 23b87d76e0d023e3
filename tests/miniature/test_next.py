"""The second world's networks so far: the U-Net fits the VAE and the words that are shipped."""

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.unet import spread_timesteps
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import draw_random, render
from benchmarks.paths import miniature_dir

NEXT = miniature_dir().with_name("next")


def opened(kind, name, folder=NEXT):
    return kind.from_pretrained(folder / name, dtype=torch.float32).eval()


def test_they_are_of_the_structure_that_is_built_today():
    made = {"vae": networks.make_vae(), "unet": networks.make_unet()}
    for name, kind in (("vae", AutoencoderKL), ("unet", UNet2DConditionModel)):
        there, built = opened(kind, name).state_dict(), made[name].state_dict()
        assert {k: v.shape for k, v in there.items()} == {k: v.shape for k, v in built.items()}


@torch.no_grad()
def test_the_unet_guesses_the_noise_in_codes_of_the_vae():
    """Fresh renders: 0.08 of the noise's variance is left, and more by another picture's words."""
    rng = stream("next", 0)
    shown = [draw_random(rng, "judge") for _ in range(32)]
    pixels = np.stack([render(one, ("next", k))[0] for k, one in enumerate(shown)])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    words = CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer")(
        [caption(one, rng) for one in shown], padding="max_length",
        max_length=networks.TEXT_LENGTH, truncation=True, return_tensors="pt",
    )  # fmt: skip
    told = opened(CLIPTextModel, "text_encoder", miniature_dir())(words.input_ids).last_hidden_state
    vae, unet = opened(AutoencoderKL, "vae"), opened(UNet2DConditionModel, "unet")
    codes = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    g = torch.Generator().manual_seed(0)
    noise, t = torch.randn(codes.shape, generator=g), spread_timesteps(len(codes), 1000, g)
    noisy = networks.make_scheduler().add_noise(codes, noise, t)
    own, others = (
        (unet(noisy, t, encoder_hidden_states=read).sample - noise).square().mean().item()
        for read in (told, told.roll(1, dims=0))
    )
    assert own < 0.1 and own < 0.95 * others
