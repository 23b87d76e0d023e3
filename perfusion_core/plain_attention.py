"""Attention as two products and a softmax, which is quick where a CPU trains on few positions.

In: a U-Net. Out: the same U-Net for the duration of a training; low bits of its gradients differ.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

FEW = 32  # side of the latents; above it, what is kept for the way back takes too much memory


class Plain:
    """In the place of diffusers' usual processor, whose fused kernel is slow backwards on a CPU.

    The layer's own projections are called, whatever stands there: an edited one, or one with an
    adapter.
    """

    def __init__(self, usual: AttnProcessor2_0) -> None:
        self.usual = usual

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *more: Any,
        **named: Any,
    ) -> torch.Tensor:
        if attention_mask is not None:
            return self.usual(
                attn, hidden_states, encoder_hidden_states, attention_mask, *more, **named
            )
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen)
        scale = (query.shape[-1] // attn.heads) ** -0.5
        query, key, value = (
            heads(side, attn.heads) for side in (query * scale, key, value)
        )  # [n * heads, positions, d]
        probs = torch.softmax(query @ key.transpose(1, 2), dim=-1)
        return attn.to_out[1](attn.to_out[0](joined(probs @ value, attn.heads)))


def heads(side: torch.Tensor, many: int) -> torch.Tensor:
    """[n, positions, heads * d] -> [n * heads, positions, d]."""
    n, positions, width = side.shape
    split = side.reshape(n, positions, many, width // many).transpose(1, 2)
    return split.reshape(n * many, positions, width // many)


def joined(out: torch.Tensor, many: int) -> torch.Tensor:
    """[n * heads, positions, d] -> [n, positions, heads * d]."""
    rows, positions, width = out.shape
    apart = out.view(rows // many, many, positions, width).transpose(1, 2)
    return apart.reshape(rows // many, positions, many * width)


def usual(attn: Any) -> bool:
    """Attention as Stable Diffusion's transformer blocks have it, with diffusers' own processor."""
    extras = (attn.group_norm, attn.spatial_norm, attn.norm_cross, attn.norm_q, attn.norm_k)
    return (
        type(attn.processor) is AttnProcessor2_0
        and all(extra is None for extra in extras)
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
    )


def plain_layers(unet: Any, device: torch.device) -> list[Any]:
    """Where `plainly` pays: the usual attention of a small U-Net on the CPU. GPUs have quick
    kernels.
    """
    if device.type != "cpu" or unet.config.sample_size > FEW:
        return []
    return [module for module in unet.modules() if isinstance(module, Attention) and usual(module)]


@contextmanager
def plainly(layers: Sequence[Any]) -> Iterator[None]:
    """Inside the block these layers attend plainly; afterwards each has its own processor again."""
    kept = [layer.processor for layer in layers]
    for layer, processor in zip(layers, kept, strict=True):
        layer.processor = Plain(processor)
    try:
        yield
    finally:
        for layer, processor in zip(layers, kept, strict=True):
            layer.processor = processor
