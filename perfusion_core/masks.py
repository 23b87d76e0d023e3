"""Soft masks of a concept's pictures, zero-shot: pictures and a super-category in, values in [0, 1]
out (CLIPSeg).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from perfusion_core.errors import UserError
from perfusion_core.hub import announce_download

MODEL = "CIDAS/clipseg-rd64-refined"


def open_clipseg(where: str | Path = MODEL, device: str | torch.device = "cpu") -> tuple[Any, Any]:
    """-> model and processor, from a folder or the hub; safetensors only."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    if not Path(where).exists():
        announce_download(str(where), ["*.json", "*.txt", "model.safetensors"])
    try:
        model: Any = CLIPSegForImageSegmentation.from_pretrained(where, use_safetensors=True)
        processor = CLIPSegProcessor.from_pretrained(where)
    except OSError as error:  # not there, no network
        raise UserError(
            f"cannot open CLIPSeg from {where}: {str(error).strip().splitlines()[0]}; "
            "give --model a folder that holds it, or put masks of your own into the concept's "
            "masks/"
        ) from error
    return model.to(device).eval().requires_grad_(False), processor


@torch.no_grad()
def soft_masks(
    model: Any, processor: Any, pictures: Sequence[Image.Image], super_category: str, chunk: int = 8
) -> list[np.ndarray]:
    """One float32 [H, W] a picture: how much each pixel belongs to the word."""
    masks: list[np.ndarray] = []
    for start in range(0, len(pictures), chunk):
        part = [picture.convert("RGB") for picture in pictures[start : start + chunk]]
        inputs = processor(
            text=[super_category] * len(part), images=part, padding=True, return_tensors="pt"
        )
        logits = model(**inputs.to(model.device)).logits
        found = logits.reshape(len(part), 1, *logits.shape[-2:]).float().sigmoid().cpu()
        for mask, picture in zip(found, part):  # CLIPSeg squeezes pictures into a square; undo that
            size = (picture.height, picture.width)
            masks.append(
                interpolate(mask[None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
            )
    return masks
