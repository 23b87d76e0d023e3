"""What a word attends to in a picture: latents, a noise level and a text in; the word's attention
in every layer out.

One forward pass and no sampling, so the picture, and where the object is in it, are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate

from perfusion_core.backbone import Backbone, channels_last
from perfusion_core.errors import UserError
from perfusion_core.prompts import PLACEHOLDER
from perfusion_core.sampling import attended, fixed_text, projected


@dataclass(frozen=True)
class Look:
    """Attention of one word in n noised pictures."""

    maps: torch.Tensor  # [n, h, w] of the latent's size: mean over heads and layers
    # [n]: share of its mass outside the object, mean over heads and layers at their resolution
    leakage: torch.Tensor


def word_tokens(tokenizer: Any, template: str, name: str, written: str, stand_in: str) -> list[int]:
    """Positions of all tokens that a method put in the place of a template's {name}: `{cat}`, `sks
    cat`, `{cat} cat`.

    Each {name} that is left in what was written is one learned token; `stand_in` is any word of
    one token.
    """
    before, _, after = template.partition(f"{{{name}}}")
    if not (
        written.startswith(before)
        and written.endswith(after)
        and len(written) > len(before + after)
    ):
        raise UserError(
            f"{written!r} is not {template!r} with another word for {{{name}}}: its attention is "
            f"not known"
        )
    word = PLACEHOLDER.sub(stand_in, written[len(before) : len(written) - len(after)])
    offsets = tokenizer(
        before + word + after, truncation=True, return_offsets_mapping=True
    ).offset_mapping
    found = [m for m, (a, b) in enumerate(offsets) if a < len(before + word) and b > len(before)]
    if not found:
        raise UserError(
            f"{{{name}}} is cut off, the prompt is longer than {tokenizer.model_max_length} "
            f"tokens: {written!r}"
        )
    return found


@torch.no_grad()
def look(
    backbone: Backbone,
    texts: Sequence[str],
    words: Sequence[Sequence[int]],
    latents: torch.Tensor,
    noise: torch.Tensor,
    levels: Sequence[int],
    masks: torch.Tensor,
) -> Look:
    """One forward pass of n pictures. words: of each text the positions of its word, whose
    attention is summed.

    latents, noise [n, c, h, w]; levels: the timestep of each picture; masks [n, 1, H, W], 1 on the
    object.
    """
    n, side = len(texts), int(backbone.unet.config.sample_size)
    if backbone.text.behind:
        raise UserError(
            f"the backbone {backbone.name!r} has a transformer, whose attention is not looked at "
            f"here; use a backbone of 1.x, 2.x or XL"
        )
    chosen = torch.zeros(n, backbone.text.length)  # [n, M]
    for row, positions in enumerate(words):
        chosen[row, list(positions)] = 1.0
    t = torch.tensor(list(levels), device=backbone.device)
    x = backbone.scheduler().add_noise(latents.to(backbone.device), noise.to(backbone.device), t)
    maps, leaks = [], []

    def see(probs: torch.Tensor) -> None:
        mass = torch.einsum("nkmhw,nm->nkhw", probs, chosen.to(probs))  # of the word, in every head
        maps.append(interpolate(mass.mean(1, keepdim=True), (side, side), mode="bilinear")[:, 0])
        leaks.append(outside(mass, masks.to(probs)).mean(1))

    known = {text: projected(backbone, text) for text in dict.fromkeys(texts)}
    sides = [known[text] for text in texts]
    with fixed_text(backbone, sides) as told, attended(backbone.unet, n, see):
        backbone.unet(channels_last(x.to(backbone.dtype)), t, **told)
    return Look(torch.stack(maps).mean(0).cpu(), torch.stack(leaks).mean(0).cpu())


def outside(mass: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Share of a map [n, k, h, w] that lies outside masks [n, 1, H, W], which are averaged down to
    its size: [n, k].
    """
    inside = interpolate(masks, mass.shape[-2:], mode="area")
    return (mass * (1 - inside)).sum((2, 3)) / mass.sum((2, 3))
