"""Texts and seeds in, pictures out: DDIM with guidance, one CPU generator per image.

The text side is done once per prompt: K and V of every cross-attention are computed before the loop
and kept.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from perfusion_core.backbone import Backbone, channels_last, cross_attentions

CHUNK = 2**20  # pixels decoded at a time: the VAE's activations are the largest tensors of all


class AttentionMaps:
    """Filled by `sample`: `maps`, float32 [n, M, h, w], mean over steps, heads and layers of the
    conditional branch.

    Each layer's maps are resized to the latent's size and sum to 1 over the M tokens at every
    position.
    """

    maps: torch.Tensor


@torch.no_grad()
def sample(
    backbone: Backbone,
    texts: str | Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = 50,
    guidance: float = 6.0,
    attention: AttentionMaps | None = None,
) -> np.ndarray:
    """-> uint8 [n, H, W, 3]. The same call gives the same bytes on the same device, dtype and
    number of threads.

    Args:
        texts: one prompt for all images, or one a seed.
        seeds: of the starting noise, one an image; nothing else is drawn at random.
        steps: of DDIM.
        guidance: scale of classifier-free guidance; 1 draws without the unconditional branch.
        attention: filled with the mean attention of every token where it is given.
    """
    # Each text once.
    texts = [texts] * len(seeds) if isinstance(texts, str) else list(texts)
    assert len(texts) == len(seeds) > 0, "one text a seed"
    unet, device = backbone.unet, backbone.device
    guided = guidance != 1.0
    distinct = list(dict.fromkeys(([""] if guided else []) + texts))
    # of the U-Net's batch
    rows = [0] * len(texts) * guided + [distinct.index(text) for text in texts]
    encodings = [text_side(backbone, text) for text in distinct]
    # Noise of each seed.
    scheduler = backbone.scheduler()
    scheduler.set_timesteps(steps)
    x = noise(backbone, seeds).to(device)
    with fixed_text(backbone, encodings, rows) as placeholder, watched(unet, len(texts), attention):
        for t in scheduler.timesteps:
            # Both branches at once.
            x_in = torch.cat([x, x]) if guided else x
            x_in = channels_last(x_in.to(backbone.dtype))
            eps = unet(x_in, t, encoder_hidden_states=placeholder).sample.float()
            if guided:
                uncond, cond = eps.chunk(2)
                eps = uncond + guidance * (cond - uncond)
            x = scheduler.step(eps, t, x, eta=0.0).prev_sample  # in float32
    return decode(backbone, x)


def noise(backbone: Backbone, seeds: Sequence[int]) -> torch.Tensor:
    """Each image's starting noise from its own CPU generator: the same on every device."""
    side, channels = backbone.unet.config.sample_size, backbone.unet.config.in_channels
    shape = (channels, side, side)
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )


def text_side(backbone: Backbone, text: str) -> torch.Tensor:
    """[1, M, d]; through the pipeline's own method, which concepts and textual inversions hook
    into.

    One text at a time, so that no other prompt of the call can move its low bits.
    """
    return backbone.pipe.encode_prompt(text, backbone.device, 1, False)[0]


class Fixed(nn.Module):
    """Stands in for a K or V projection whose result is known."""

    def __init__(self, result: torch.Tensor) -> None:
        super().__init__()
        self.result = result

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        return self.result


@contextmanager
def fixed_text(
    backbone: Backbone, encodings: list[torch.Tensor], rows: list[int]
) -> Iterator[torch.Tensor]:
    """Project every text once in every cross-attention, and let the layers hand out the results for
    the batch's rows.

    Yields a tensor of the right batch and length to give to the U-Net; its values are never read.
    """
    layers = cross_attentions(backbone.unet)
    index = torch.tensor(rows, device=backbone.device)
    kept = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    low = backbone.dtype != torch.float32
    try:
        for layer in layers.values():
            for side in ("to_k", "to_v"):
                project = getattr(layer, side)
                with torch.autocast(backbone.device.type, backbone.dtype, enabled=low):
                    # [distinct, M, d_out]
                    results = torch.cat([project(e) for e in encodings]).to(backbone.dtype)
                setattr(layer, side, Fixed(results[index]))
        yield encodings[0].new_zeros(len(rows), *encodings[0].shape[1:], dtype=backbone.dtype)
    finally:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = kept[name]


@contextmanager
def watched(unet: Any, images: int, attention: AttentionMaps | None) -> Iterator[None]:
    """Add up the attention of the last `images` rows of every batch, beside the computation of the
    picture.
    """
    if attention is None:
        yield
        return
    side = int(unet.config.sample_size)
    total, count = torch.zeros(1), 0

    def add(probs: torch.Tensor) -> None:
        nonlocal total, count
        square = probs.mean(1)  # [n, M, h, w], mean over heads
        total = total.to(square.device) + nn.functional.interpolate(
            square, (side, side), mode="bilinear"
        )
        count += 1

    with attended(unet, images, add):
        yield
    attention.maps = (total / count).cpu()


@contextmanager
def attended(unet: Any, images: int, see: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Inside the block every cross-attention tells the last `images` rows' probabilities [n, heads,
    M, h, w].
    """

    def watch(layer: Any) -> Any:
        def hook(_: nn.Module, __: tuple, query: torch.Tensor) -> None:
            probs = layer.get_attention_scores(
                layer.head_to_batch_dim(query[-images:].float()),
                layer.head_to_batch_dim(layer.to_k.result[-images:].float()),
            )
            probs = probs.unflatten(0, (images, -1)).transpose(2, 3)  # [n, heads, M, positions]
            see(probs.unflatten(3, (round(probs.shape[3] ** 0.5), -1)))

        return hook

    handles = [
        layer.to_q.register_forward_hook(watch(layer)) for layer in cross_attentions(unet).values()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def decode(backbone: Backbone, latents: torch.Tensor) -> np.ndarray:
    """Latents of the diffusion to uint8 pictures."""
    latents = (latents / backbone.vae.config.scaling_factor).to(backbone.dtype)
    many = max(1, CHUNK // backbone.size**2)
    pixels = torch.cat(
        [backbone.vae.decode(part).sample.float().cpu() for part in latents.split(many)]
    )
    return (
        ((pixels / 2 + 0.5).clamp(0, 1) * 255)
        .round()
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
        .numpy()
    )


def as_float(images: np.ndarray) -> torch.Tensor:
    """The way back: uint8 [n, H, W, 3] to float [n, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
