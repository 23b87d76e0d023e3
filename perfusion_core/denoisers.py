"""What takes the noise away: a U-Net, or a transformer that reads text behind a projection. Imports
nothing of this package.

In: a pipeline, latents, a time, what it is told of texts. Out: its prediction. PixArt and Sana map
their text encoder's output once more, by `caption_projection` and, in Sana, `caption_norm`, before
any layer reads it. Eq. 3 holds behind these, so that is where encodings are taken here, and the
transformer is asked past them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import SanaLinearAttnProcessor2_0
from torch import nn

BETWEEN = ("caption_projection", "caption_norm")  # text encoder and cross-attentions, in this order


def denoiser_of(pipe: Any) -> Any:
    """The pipeline's U-Net or transformer; None where it has neither."""
    unet = getattr(pipe, "unet", None)
    return unet if unet is not None else getattr(pipe, "transformer", None)


def bare(denoiser: Any) -> Any:
    """The module itself, of a compiled one."""
    return getattr(denoiser, "_orig_mod", denoiser)


def between(denoiser: Any) -> dict[str, Any]:
    """What stands between text encoder and cross-attentions; nothing in a U-Net."""
    found = {name: getattr(bare(denoiser), name, None) for name in BETWEEN}
    return {name: module for name, module in found.items() if module is not None}


def reads_captions(denoiser: Any) -> bool:
    """Whether cross-attentions read text behind a projection, as in PixArt and Sana."""
    return "caption_projection" in between(denoiser)


def caption_width(denoiser: Any) -> int:
    """d: of what comes out of the projection."""
    return int(between(denoiser)["caption_projection"].linear_2.out_features)


def projected_captions(denoiser: Any, encodings: torch.Tensor) -> torch.Tensor:
    """The text encoder's output [n, M, e] as cross-attentions read it: [n, M, d]."""
    for module in between(denoiser).values():
        encodings = module(encodings.to(next(module.parameters())))
    return encodings


class Exact:
    """In the place of Sana's own processor: its linear attention, in float32 in training, too.

    It divides by sums that may be 0, and adds 1e-15, which float16 does not know.
    """

    def __init__(self, usual: SanaLinearAttnProcessor2_0) -> None:
        self.usual = usual

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        with torch.autocast(hidden_states.device.type, enabled=False):
            x = hidden_states.to(attn.to_q.weight.dtype)
            out: torch.Tensor = self.usual(attn, x, encoder_hidden_states, attention_mask)
        return out


def exactly(transformer: Any) -> None:
    """Let the linear attentions of Sana compute what they do without autocast."""
    for module in transformer.modules():
        processor = getattr(module, "processor", None)
        if type(processor) is SanaLinearAttnProcessor2_0:
            module.processor = Exact(processor)


class Known(nn.Module):
    """In the place of a module whose result is known."""

    def __init__(self, result: torch.Tensor) -> None:
        super().__init__()
        self.result = result

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.result


@contextmanager
def asked_behind(denoiser: Any, encodings: torch.Tensor) -> Iterator[None]:
    """Inside the block the transformer's layers read these encodings, which are behind its
    projection already: this very tensor, by which an edit knows what it has computed.
    """
    kept = between(denoiser)
    stand_in: dict[str, nn.Module | None] = dict.fromkeys(kept)  # PixArt passes the tensor on
    if "caption_norm" in kept:  # Sana takes another view of the tensor between the two
        stand_in = {"caption_projection": nn.Identity(), "caption_norm": Known(encodings)}
    for name, module in stand_in.items():
        setattr(bare(denoiser), name, module)
    try:
        yield
    finally:
        for name, module in kept.items():
            setattr(bare(denoiser), name, module)


def predicted(
    denoiser: Any, latents: torch.Tensor, t: Any, *, encoder_hidden_states: Any, **told: Any
) -> torch.Tensor:
    """The prediction [n, c, h, w] from encodings as cross-attentions read them; t: one time for
    all, or one a row.
    """
    if not reads_captions(denoiser):
        out: torch.Tensor = denoiser(
            latents, t, encoder_hidden_states=encoder_hidden_states, **told
        ).sample
        return out
    times = torch.as_tensor(t, device=latents.device).expand(len(latents))
    times = times * getattr(bare(denoiser).config, "timestep_scale", 1)
    with asked_behind(denoiser, encoder_hidden_states):
        out = denoiser(
            latents, encoder_hidden_states=encoder_hidden_states, timestep=times, **told
        ).sample
    return out[:, : latents.shape[1]]  # a learned variance stands behind the noise


def told_beside(denoiser: Any, mask: torch.Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """What a transformer is told beside encodings and time: which tokens count, mask [n, M]; and
    PixArt the size in pixels, where it was trained with it.
    """
    told: dict[str, Any] = {"encoder_attention_mask": mask}
    if "caption_norm" not in between(denoiser):  # PixArt
        conditions: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
        if bare(denoiser).use_additional_conditions:
            high, wide = size
            shown = torch.tensor([[high, wide, high / wide]], dtype=torch.float32)
            shown = shown.expand(len(mask), -1).to(mask.device, denoiser.dtype)
            conditions = {"resolution": shown[:, :2], "aspect_ratio": shown[:, 2:]}
        told["added_cond_kwargs"] = conditions
    return told
