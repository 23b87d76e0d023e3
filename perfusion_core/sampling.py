"""Texts and seeds in, pictures out: DDIM (or another scheduler) with guidance, one CPU generator
per image.

The text side is done once per prompt: K and V of every cross-attention are computed before the loop
and kept. So a picture is drawn from these and a seed, whatever is drawn beside it; in batches of
one fixed shape its bytes do not depend on that either (`batches.py` asks the device).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from perfusion_core.backbone import Backbone, channels_last, cross_attentions
from perfusion_core.caption_prompts import side_by_side
from perfusion_core.denoisers import predicted, projected_captions
from perfusion_core.errors import NotFinite
from perfusion_core.guidance import NONE, per_batch
from perfusion_core.schedulers import DDIM, made, step_takes

CHUNK = 2**20  # pixels decoded at a time: the VAE's activations are the largest tensors of all


@dataclass(frozen=True)
class Projected:
    """All that a U-Net is told of one text."""

    sides: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # K, V [M, d_out] of every cross-attention
    pooled: torch.Tensor | None = None  # [p], where the U-Net adds it to its time embedding
    mask: torch.Tensor | None = None  # [M], 1 where there is text, where a transformer asks


@dataclass(frozen=True)
class Picture:
    """One picture to be drawn: what its text comes to in every layer, and the seed of its noise."""

    text: Projected
    # of the empty text, or of what guidance leads away from; None without guidance
    plain: Projected | None
    seed: int


@dataclass(frozen=True)
class Manner:
    """How a picture is drawn, beside steps and guidance; the protocol's, where nothing is said."""

    scheduler: str = DDIM  # of schedulers.SCHEDULERS
    size: tuple[int, int] | None = None  # height and width in pixels; None: the backbone's own


PROTOCOL = Manner()


class AttentionMaps:
    """Filled by `sample`: `maps`, float32 [n, M, h, w], mean over steps, heads and layers of the
    conditional branch.

    Each layer's maps are resized to the latent's size and sum to 1 over the M tokens at every
    position.
    """

    maps: torch.Tensor


def sample(
    backbone: Backbone,
    texts: str | Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = 50,
    guidance: float = 6.0,
    attention: AttentionMaps | None = None,
    rows: int = 0,
) -> np.ndarray:
    """-> uint8 [n, H, W, 3]. The same call gives the same bytes on the same device and dtype.

    Args:
        texts: one prompt for all images, or one a seed.
        seeds: of the starting noise, one an image; nothing else is drawn at random.
        steps: of DDIM.
        guidance: scale of classifier-free guidance; 1 draws without the unconditional branch.
        attention: filled with the mean attention of every token where it is given.
        rows: of the U-Net's batch, two an image with guidance; the last batch is filled up. 0: one
            batch of all images.
    """
    texts = [texts] * len(seeds) if isinstance(texts, str) else list(texts)
    pictures = prepared(backbone, texts, seeds, guidance)
    return draw(backbone, pictures, steps=steps, guidance=guidance, attention=attention, rows=rows)


@torch.no_grad()
def prepared(
    backbone: Backbone,
    texts: Sequence[str],
    seeds: Sequence[int],
    guidance: float,
    negative: str = "",
) -> list[Picture]:
    """The text side, one text a seed, with whatever a method has put into the backbone now;
    `negative` is what guidance leads away from.
    """
    assert len(texts) == len(seeds) > 0, "one text a seed"
    known = {text: projected(backbone, text) for text in dict.fromkeys(texts)}
    plain = None
    if guidance != NONE:
        plain = no_text(backbone) if not negative and zeros_for_none(backbone) else None
        plain = plain or away_from(backbone, negative, known)
    return [Picture(known[text], plain, int(seed)) for text, seed in zip(texts, seeds)]


def draw(
    backbone: Backbone,
    pictures: Sequence[Picture],
    *,
    steps: int,
    guidance: float,
    attention: AttentionMaps | None = None,
    rows: int = 0,
    how: Manner = PROTOCOL,
) -> np.ndarray:
    """Batch by batch; what fills the last one up is thrown away. Arguments as `sample` has them."""
    many = per_batch(rows, guidance) if rows else len(pictures)
    drawn, maps = [], []
    for start in range(0, len(pictures), many):
        some = list(pictures[start : start + many])
        seen = None if attention is None else AttentionMaps()
        filled = some + some[-1:] * (many - len(some))
        drawn.append(draw_batch(backbone, filled, steps, guidance, seen, how)[: len(some)])
        if seen is not None:
            maps.append(seen.maps[: len(some)])
    if attention is not None:
        attention.maps = torch.cat(maps)
    return np.concatenate(drawn)


@torch.no_grad()
def draw_batch(
    backbone: Backbone,
    pictures: Sequence[Picture],
    steps: int,
    guidance: float,
    attention: AttentionMaps | None = None,
    how: Manner = PROTOCOL,
) -> np.ndarray:
    unet = backbone.unet
    guided = guidance != NONE
    scheduler = made(how.scheduler, backbone)
    scheduler.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(int(picture.seed)) for picture in pictures]
    x = noise_of(backbone, generators, how.size).to(backbone.device)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)  # flow matching knows no scales
    # what a step adds at random goes on where the starting noise ended
    chance = {"generator": generators} if step_takes(scheduler, "generator") else {}
    texts = [picture.plain for picture in pictures if picture.plain] if guided else []
    texts += [picture.text for picture in pictures]
    with fixed_text(backbone, texts, how.size) as told, watched(unet, len(pictures), attention):
        for t in scheduler.timesteps:
            # Both branches at once.
            x_in = scaled(scheduler, torch.cat([x, x]) if guided else x, t)
            x_in = channels_last(x_in.to(backbone.dtype))
            eps = predicted(unet, x_in, t, **told).float()
            if guided:
                uncond, cond = eps.chunk(2)
                eps = uncond + guidance * (cond - uncond)
            x = scheduler.step(eps, t, x, **chance).prev_sample  # in float32
    return decode(backbone, x)


def scaled(scheduler: Any, x: torch.Tensor, t: Any) -> torch.Tensor:
    """As this scheduler hands latents to a model."""
    if not hasattr(scheduler, "scale_model_input"):
        return x
    out: torch.Tensor = scheduler.scale_model_input(x, t)
    return out


def noise(backbone: Backbone, seeds: Sequence[int]) -> torch.Tensor:
    """Each image's starting noise from its own CPU generator: the same on every device."""
    return noise_of(backbone, [torch.Generator().manual_seed(int(seed)) for seed in seeds])


def noise_of(
    backbone: Backbone,
    generators: Sequence[torch.Generator],
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The next noise of each generator, for pictures of a size (height and width in pixels)."""
    side, channels = int(backbone.unet.config.sample_size), backbone.unet.config.in_channels
    high, wide = (part // backbone.down for part in size) if size else (side, side)
    return torch.stack([torch.randn(channels, high, wide, generator=g) for g in generators])


def text_side(backbone: Backbone, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Encodings [1, M, d] and, where there is such, pooled text [1, p]; through the pipeline's own
    method, which concepts and textual inversions hook into. A method whose layers read the text
    each in its own way has all their encodings side by side, and each layer's K and V take theirs.

    One text at a time, so that no other prompt of the call can move its low bits.
    """
    if not backbone.text.joint:
        return backbone.pipe.encode_prompt(text, backbone.device, 1, False)[0], None
    encodings, _, pooled, _ = backbone.pipe.encode_prompt(text, None, backbone.device, 1, False)
    return encodings, pooled


def projected(backbone: Backbone, text: str) -> Projected:
    """K and V of a text in every cross-attention, and its pooled text, or its mask."""
    if backbone.text.behind:
        return projected_caption(backbone, text)
    return through_layers(backbone, *text_side(backbone, text))


def projected_caption(backbone: Backbone, text: str, negative: bool = False) -> Projected:
    """The same of PixArt and Sana, whose text is read behind the transformer's projection; of a
    global lock's two prompts each token's encodings stand beside the other's.
    """
    reading = backbone.text.reading(negative)
    told = backbone.pipe.encode_prompt(text, False, device=backbone.device, **reading)
    encodings, mask = told[:2]
    encodings = side_by_side(projected_captions(backbone.unet, encodings), mask)
    return replace(through_layers(backbone, encodings, None), mask=mask[0])


def away_from(backbone: Backbone, negative: str, known: Mapping[str, Projected]) -> Projected:
    """What guidance leads away from. Sana reads it without the instruction of a prompt."""
    if backbone.text.behind:
        return projected_caption(backbone, negative, negative=True)
    return known.get(negative) or projected(backbone, negative)


def zeros_for_none(backbone: Backbone) -> bool:
    """Whether the U-Net was trained to read zeros where there is no prompt, as XL was."""
    return backbone.text.joint and bool(backbone.pipe.config.force_zeros_for_empty_prompt)


def no_text(backbone: Backbone) -> Projected:
    """Of zeros, through whatever stands before K and V now: Eq. 3 holds of them as of any text."""
    encodings, pooled = text_side(backbone, "")
    nothing = None if pooled is None else torch.zeros_like(pooled)
    return through_layers(backbone, torch.zeros_like(encodings), nothing)


def through_layers(
    backbone: Backbone, encodings: torch.Tensor, pooled: torch.Tensor | None
) -> Projected:
    low = backbone.dtype != torch.float32
    with torch.autocast(backbone.device.type, backbone.dtype, enabled=low):
        sides = [
            (layer.to_k(encodings), layer.to_v(encodings))
            for layer in cross_attentions(backbone.unet).values()
        ]
    return Projected(
        tuple((k[0].to(backbone.dtype), v[0].to(backbone.dtype)) for k, v in sides),
        None if pooled is None else pooled[0],
    )


class Fixed(nn.Module):
    """Stands in for a K or V projection whose result is known, and which of its tokens count."""

    def __init__(self, result: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.result, self.mask = result, mask

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        return self.result


@contextmanager
def fixed_text(
    backbone: Backbone, texts: Sequence[Projected], size: tuple[int, int] | None = None
) -> Iterator[dict[str, Any]]:
    """Let every cross-attention hand out what is known of the texts, one a row of the batch.

    Yields what the U-Net is told beside latents and time: encodings of the right batch and length,
    whose values are never read, and pooled texts and the size where it reads these.
    """
    layers = cross_attentions(backbone.unet)
    kept = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    length, width = len(texts[0].sides[0][0]), backbone.text.width
    pooled = [text.pooled for text in texts if text.pooled is not None]
    masks = [text.mask for text in texts if text.mask is not None]
    mask = torch.stack(masks) if masks else None
    try:
        for number, layer in enumerate(layers.values()):
            layer.to_k, layer.to_v = (
                Fixed(torch.stack([text.sides[number][side] for text in texts]), mask)
                for side in (0, 1)
            )
        shape = (len(texts), length, width)
        unread = torch.zeros(shape, device=backbone.device, dtype=backbone.dtype)
        beside = backbone.added(torch.stack(pooled) if pooled else None, size, mask)
        yield {"encoder_hidden_states": unread, **beside}
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
            counts = layer.to_k.mask
            probs = layer.get_attention_scores(
                layer.head_to_batch_dim(query[-images:].float()),
                layer.head_to_batch_dim(layer.to_k.result[-images:].float()),
                None if counts is None else bias_of(counts[-images:], layer.heads),
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


def bias_of(mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Of a mask [n, M] what diffusers adds to attention scores: [n * heads, 1, M]."""
    return ((1 - mask.float()) * -10000.0)[:, None].repeat_interleave(heads, 0)


def decode(backbone: Backbone, latents: torch.Tensor) -> np.ndarray:
    """Latents of the diffusion to uint8 pictures; a number that is not finite would be black."""
    latents = (latents / backbone.vae.config.scaling_factor).to(backbone.vae.dtype)
    many = max(1, CHUNK // backbone.size**2)
    pixels = torch.cat(
        [backbone.vae.decode(part).sample.float().cpu() for part in latents.split(many)]
    )
    refuse_not_finite(backbone, pixels)
    return (
        ((pixels / 2 + 0.5).clamp(0, 1) * 255)
        .round()
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
        .numpy()
    )


def refuse_not_finite(backbone: Backbone, pixels: torch.Tensor) -> None:
    """A NaN of the U-Net or of the VAE is in every pixel that it reaches."""
    if pixels.isfinite().all():
        return
    low = backbone.dtype == torch.float16
    raise NotFinite(
        f"a picture is not of finite numbers in {str(backbone.dtype).removeprefix('torch.')}: "
        + (
            "give --dtype bfloat16 or float32, which have the range that float16 lacks, or "
            if low
            else ""
        )
        + "check the trained files and the guidance, which are beyond what the backbone can take"
    )


def as_float(images: np.ndarray) -> torch.Tensor:
    """The way back: uint8 [n, H, W, 3] to float [n, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
