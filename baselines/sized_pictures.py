"""A concept's pictures as Custom Diffusion sees them: in other sizes, with what is valid of each.

In: a backbone, a recipe, a subject. Out: draws of latents, of their masks, of what is written
before each text, and of what a U-Net is told of the photographs' sizes.
"""

from typing import Protocol

import torch
from torch.nn.functional import adaptive_avg_pool2d

from baselines import resizing
from baselines.parts import Masking, levelled, own_pictures
from perfusion_core.backbone import Backbone
from perfusion_core.latents import latent_masks, vae_moments
from perfusion_core.subject import Subject

Drawn = tuple[torch.Tensor, torch.Tensor, list[str], torch.Tensor | None]

TRIES = 20  # sizes of a picture until one shows some of its mask


class Resizing(Masking, Protocol):
    """A Config that also says whether pictures are resized."""

    @property
    def resize(self) -> bool: ...


class SizedPictures:
    """The concept's half of a batch. The mean error over a picture's valid part is its loss."""

    def __init__(self, backbone: Backbone, config: Resizing, subject: Subject) -> None:
        self.backbone, self.config, self.subject = backbone, config, subject
        self.masks = subject.masks_for(config.masks)
        self.whole = None if config.resize else own_pictures(backbone, config, subject)

    def draw(self, many: int, rng: torch.Generator) -> Drawn:
        """-> latents [many, c, h, w], masks [many, 1, h, w], what to write before the texts, sizes
        [many, 6] where they are known: of pictures made smaller or larger nothing true can be told.
        """
        if self.whole is None:
            return *self.views(many, rng), None
        latents, mask, sizes = self.whole.draw_told(many, rng)
        mask = torch.ones_like(latents[:, :1]) if mask is None else mask
        return latents, mask, [""] * many, sizes

    def views(
        self, many: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Each picture as often as the others, in a size of its own."""
        subject, backbone = self.subject, self.backbone
        images = (
            subject.images if self.masks is None else torch.cat([subject.images, self.masks], 1)
        )
        order = torch.randperm(len(images), generator=rng).repeat(-(-many // len(images)))[:many]
        mirror = torch.rand(many, generator=rng) < (
            0.5 if subject.mirrored(self.config.flip) else 0.0
        )
        shown = [images[n].flip(-1) if m else images[n] for n, m in zip(order.tolist(), mirror)]
        # a mask is a fourth channel: it is cut and scaled as its picture is
        pictures, valid, prefixes = zip(*(self.sized(picture, rng) for picture in shown))
        views, mask = torch.stack(pictures), torch.stack(valid)
        mean, std = (part.cpu() for part in vae_moments(backbone, views[:, :3]))
        if self.masks is not None:
            mask = mask * latent_masks(views[:, 3:], mask.shape[-1])
        # so that the loss is the mean over the valid part, or over what of it counts
        mask = levelled(mask)
        return mean + std * torch.randn(mean.shape, generator=rng), mask, list(prefixes)

    def sized(
        self, picture: torch.Tensor, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, str]:
        """A picture in a size of its own. Where its mask is cut away, another one: what has no mask
        would count all over. At last it stays as it is."""
        down = self.backbone.down
        for _ in range(TRIES):
            view, valid, prefix = resizing.resized(picture, down, rng)
            if self.masks is None or not bool(picture[3:].any()):
                return view, valid, prefix
            if bool((adaptive_avg_pool2d(view[3:], valid.shape[-1]) * valid).any()):
                return view, valid, prefix
        return picture, torch.ones_like(valid), ""
