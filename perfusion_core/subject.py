"""What a method is given: the pictures of a concept to learn, and where it left what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_core.errors import MissingMasks

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Subject:
    """A concept to learn. `super_category` is one word; an `asymmetric` concept is never
    flipped.
    """

    name: str
    super_category: str
    images: torch.Tensor  # [n, 3, H, W] in [-1, 1], of the size that the backbone draws
    masks: torch.Tensor | None = None  # [n, 1, H, W] in [0, 1], soft
    asymmetric: bool = False
    # [n, 4]: height and width of each photograph as it was taken, and where it was cut (top and
    # left) once it was scaled; for U-Nets that are told so
    frames: torch.Tensor | None = None

    @classmethod
    def of_pixels(
        cls,
        name: str,
        super_category: str,
        images: np.ndarray,
        masks: np.ndarray | None,
        asymmetric: bool = False,
        frames: Sequence[Sequence[int]] | None = None,
    ) -> Subject:
        """From pictures as files hold them: uint8 [n, H, W, 3], and masks uint8 [n, H, W]."""
        import torch

        from perfusion_core.sampling import as_float

        soft = None if masks is None else torch.from_numpy(masks).unsqueeze(1).float() / 255
        taken = None if frames is None else torch.tensor(frames, dtype=torch.float32)
        return cls(name, super_category, as_float(images), soft, asymmetric, taken)

    def mirrored(self, wanted: bool) -> bool:
        """Whether its pictures may be mirrored in training: never something with writing or
        one-sided marks.
        """
        return wanted and not self.asymmetric

    def masks_for(self, wanted: bool) -> torch.Tensor | None:
        """Its masks, where a recipe weighs its loss by them."""
        if wanted and self.masks is None:
            raise MissingMasks(
                f"the concept {self.name!r} has no masks; give it some, or set masks=false"
            )
        return self.masks if wanted else None


@dataclass(frozen=True)
class Fitted:
    """One fit on disk: the folder that a method's `fit` wrote."""

    folder: Path
    super_category: str
