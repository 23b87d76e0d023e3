"""A concept's pictures and masks, once through the VAE: tensors in; draws of latents, mirrored or
not, out.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from perfusion_core.backbone import Backbone


@torch.no_grad()
def vae_moments(
    backbone: Backbone, images: torch.Tensor, chunk: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents of pictures in [-1, 1], scaled as the U-Net wants
    them; float32.
    """
    means, stds = [], []
    for part in images.split(chunk):
        found = backbone.vae.encode(part.to(backbone.device, backbone.vae.dtype))
        if hasattr(found, "latent"):  # Sana's has one latent, and no distribution of them
            means.append(found.latent.float())
            stds.append(torch.zeros_like(means[-1]))
            continue
        means.append(found.latent_dist.mean.float())
        stds.append(found.latent_dist.std.float())
    scale = backbone.vae.config.scaling_factor
    return torch.cat(means) * scale, torch.cat(stds) * scale


def latent_masks(masks: torch.Tensor, side: int) -> torch.Tensor:
    """[n, 1, H, W] -> [n, 1, side, side], each divided by its own maximum (an empty mask becomes
    all ones).
    """
    small = interpolate(masks.float(), (side, side), mode="area")
    most = small.amax((1, 2, 3), keepdim=True)
    return torch.where(most > 0, small / most.clamp_min(1e-12), torch.ones_like(small))


@dataclass(frozen=True)
class Latents:
    """A concept's pictures after the VAE, with their mirror images where they may be flipped."""

    mean: torch.Tensor  # [views, n, c, h, w]; views: as they are, and mirrored
    std: torch.Tensor
    masks: torch.Tensor | None  # [views, n, 1, h, w]
    sizes: torch.Tensor | None = None  # [n, 6], what `Backbone.added` tells of each picture

    @staticmethod
    def of(
        backbone: Backbone,
        images: torch.Tensor,
        masks: torch.Tensor | None = None,
        flip: bool = False,
        frames: torch.Tensor | None = None,
    ) -> "Latents":
        """`frames` [n, 4]: of each photograph as it was taken, as `Subject` has them."""
        views = [images, images.flip(-1)] if flip else [images]
        moments = [vae_moments(backbone, view) for view in views]
        mean, std = (torch.stack(part) for part in zip(*moments))
        sizes = None
        if frames is not None:
            shown = torch.tensor([images.shape[-2:]] * len(images), dtype=torch.float32)
            sizes = torch.cat([frames.float(), shown], dim=1)
        if masks is None:
            return Latents(mean, std, None, sizes)
        small = latent_masks(masks, mean.shape[-1]).to(backbone.device)
        both = torch.stack([small, small.flip(-1)] if flip else [small])
        return Latents(mean, std, both, sizes)

    def draw(self, n: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        """n of them, each as often as the others, each mirrored with p = 0.5."""
        return self.draw_told(n, rng)[:2]

    def draw_told(
        self, n: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """The same, and the sizes of each."""
        many = self.mean.shape[1]
        order = [torch.randperm(many, generator=rng) for _ in range(-(-n // many))]
        index = torch.cat(order)[:n].to(self.mean.device)
        view = torch.randint(len(self.mean), (n,), generator=rng).to(self.mean.device)
        noise = torch.randn((n, *self.mean.shape[2:]), generator=rng).to(self.mean.device)
        latents = self.mean[view, index] + self.std[view, index] * noise
        masks = None if self.masks is None else self.masks[view, index]
        return latents, masks, None if self.sizes is None else self.sizes[index.cpu()]
