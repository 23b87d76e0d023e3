"""Custom Diffusion's size augmentation: a picture in; another size of it, a mask and words out."""

import torch
from torch.nn.functional import interpolate

# how often a picture is made smaller; below which part of the side it is called small
SHRUNK, SMALL = (0.66, 0.6)


def resized(
    image: torch.Tensor, down: int, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """One picture [3, S, S] smaller on grey or enlarged and cut -> it, where it is valid [1,
    S/down, S/down], a prefix.

    train_custom_diffusion.py: S/3 to S, or 1.2 S to 1.4 S; of a smaller picture the latent's border
    cells do not count.
    """

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    size = image.shape[-1]
    shrink = torch.rand((), generator=rng).item() < SHRUNK
    side = whole(size // 3, size + 1) if shrink else whole(int(1.2 * size), int(1.4 * size))
    scaled = interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]
    top, left = (whole(0, abs(size - side) + 1) for _ in range(2))
    if side > size:
        cut = scaled[:, top : top + size, left : left + size]
        return (
            cut,
            torch.ones(1, size // down, size // down),
            ("zoomed in ", "close up ")[whole(0, 2)],
        )
    picture, valid = torch.zeros_like(image), torch.zeros(1, size // down, size // down)
    picture[:, top : top + side, left : left + side] = scaled
    valid[:, inside(top, side, down), inside(left, side, down)] = 1
    return (
        picture,
        valid,
        ("very small ", "a far away ")[whole(0, 2)] if side < SMALL * size else "",
    )


def inside(start: int, side: int, down: int) -> slice:
    """The latent's cells that lie well within a picture; on tiny latents at least the middle
    one.
    """
    first, end = start // down + 1, (start + side) // down - 1
    middle = (2 * start + side) // (2 * down)
    return slice(first, end) if first < end else slice(middle, middle + 1)
