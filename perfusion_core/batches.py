"""Does a device keep the rows of a batch apart? In: a backbone, a batch's shape. Out: yes or no.

Where it does, a picture's bytes do not depend on what is drawn beside it, as long as the shape of
the batch is the same. Where it does not, one prompt is drawn at a time.
"""

import torch

from perfusion_core.backbone import Backbone, channels_last, cross_attentions
from perfusion_core.denoisers import predicted
from perfusion_core.guidance import per_batch
from perfusion_core.sampling import Projected, decode, fixed_text, noise, text_side

LEVEL = 500  # the timestep that is tried


@torch.no_grad()
def rows_are_apart(backbone: Backbone, rows: int, guidance: float) -> bool:
    """Two batches that share half of their rows, each in another place: the same bits? Of the
    U-Net, and of the pictures behind it.
    """
    first = list(range(rows))
    second = [*range(rows, rows + (rows + 1) // 2), *first[: rows // 2]]
    shared = range(rows // 2)
    places = [second.index(row) for row in shared]
    latents = noise(backbone, range(rows + (rows + 1) // 2)).to(backbone.device)
    texts = random_texts(backbone, len(latents))
    one, other = (
        forward(backbone, latents[rows], [texts[r] for r in rows]) for rows in (first, second)
    )
    if not torch.equal(one[list(shared)], other[places]):
        return False
    many = per_batch(rows, guidance)
    shown = decode(backbone, latents[:many])
    again = decode(backbone, latents[:many].flip(0))
    return bool((shown == again[::-1]).all())


def random_texts(backbone: Backbone, many: int) -> list[Projected]:
    """K and V of texts that nobody wrote, with the pooled text of none where there is such."""
    rng, width = torch.Generator().manual_seed(0), backbone.text.width
    length = backbone.text.length
    layers = cross_attentions(backbone.unet).values()
    texts: list[Projected] = []
    pooled = text_side(backbone, "")[1] if backbone.text.joint else None
    for _ in range(many):
        text = torch.randn(length, width, generator=rng)
        sides = []
        for layer in layers:
            k, v = (
                (text[:, :1] * torch.randn(side.out_features, generator=rng)).to(
                    backbone.device, backbone.dtype
                )
                for side in (layer.to_k, layer.to_v)
            )
            sides.append((k, v))
        mask = torch.ones(length, device=backbone.device) if backbone.text.behind else None
        texts.append(Projected(tuple(sides), None if pooled is None else pooled[0], mask))
    return texts


def forward(backbone: Backbone, latents: torch.Tensor, texts: list[Projected]) -> torch.Tensor:
    with fixed_text(backbone, texts) as told:
        x = channels_last(latents.to(backbone.dtype))
        return predicted(backbone.unet, x, LEVEL, **told)
