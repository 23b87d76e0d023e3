"""A folder in open_clip's format, opened without open_clip, whose import takes seconds.

In: a folder with open_clip_config.json, open_clip_model.safetensors and a tokenizer. Out: a
`ClipFolder`; None where its model is of a kind that only open_clip knows.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from benchmarks.scoring.clip_networks import ClipNetworks, PictureSizes, QuickGelu, TextSizes

# all that a plain model says of itself; whoever says more is open_clip's to open
MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
PIXELS = {"mean", "std", "size", "interpolation", "resize_mode", "mode", "fill_color"}
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass
class ClipFolder:
    """What a scorer needs: a model, pixels of a picture, tokens of texts."""

    model: ClipNetworks
    prepare: "Pixels"
    tokenize: "Tokens"


def open_clip_folder(folder: Path) -> ClipFolder | None:
    """On the CPU, in float32."""
    if not is_plain(folder):
        return None
    about = _about(folder)
    model = _networks(about["model_cfg"])
    try:
        # by name and shape; a file that open_clip would convert first does not fit
        model.load_state_dict(load_file(folder / "open_clip_model.safetensors"), assign=True)
    except (RuntimeError, SafetensorError):
        return None
    texts = about["model_cfg"]["text_cfg"]
    return ClipFolder(
        model.float(),
        Pixels(about["model_cfg"]["vision_cfg"]["image_size"], about["preprocess_cfg"]),
        Tokens(folder, texts["context_length"]),
    )


def is_plain(folder: Path) -> bool:
    """Whether what the folder says of its model, pixels and texts is all known here."""
    about = _about(folder)
    return (
        plain_model(about["model_cfg"])
        and plain_pixels(about.get("preprocess_cfg", {}))
        and (folder / "tokenizer.json").is_file()
    )


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    return about


# ---- the model ----


def plain_model(about: Mapping[str, Any]) -> bool:
    """Whether the two networks are CLIP's own, with nothing that is not in `clip_networks`."""
    pictures, texts = about["vision_cfg"], dict(about["text_cfg"])
    named = bool(texts.pop("hf_tokenizer_name", ""))  # else it reads by open_clip's own vocabulary
    layers = pictures.get("layers")
    kind = {"patch_size"} if isinstance(layers, int) else set()
    sides = {"image_size", "layers", "width"} | kind
    return (
        named
        and set(about) <= MODEL
        and sides <= set(pictures) <= sides | {"head_width"}
        and set(texts) == {field.name for field in fields(TextSizes)}
        and all(isinstance(pictures[key], int) for key in sides - {"layers"})
        and (isinstance(layers, int) or (isinstance(layers, list) and len(layers) == 4))
    )


def _networks(about: Mapping[str, Any]) -> ClipNetworks:
    """Shapes without numbers: all of these are in the file."""
    texts = {key: about["text_cfg"][key] for key in (field.name for field in fields(TextSizes))}
    activation = QuickGelu if about.get("quick_gelu") else nn.GELU
    with torch.device("meta"):
        return ClipNetworks(
            about["embed_dim"],
            PictureSizes(**about["vision_cfg"]),
            TextSizes(**texts),
            activation,
        )


# ---- pixels ----


def plain_pixels(about: Mapping[str, Any]) -> bool:
    return (
        {"mean", "std"} <= set(about) <= PIXELS
        and about.get("interpolation", "bicubic") in FILTERS
        and about.get("resize_mode", "shortest") == "shortest"
        and about.get("mode", "RGB") == "RGB"
    )


class Pixels:
    """The shorter side becomes `side`, then the square in the middle: float32 [3, side, side]."""

    def __init__(self, side: int, about: Mapping[str, Any]) -> None:
        self.side, self.filter = side, FILTERS[about.get("interpolation", "bicubic")]
        self.mean, self.std = (
            torch.tensor(about[key], dtype=torch.float32).view(-1, 1, 1) for key in ("mean", "std")
        )

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        side, (width, height) = self.side, picture.size
        if min(width, height) != side:
            short, long = side, int(side * max(width, height) / min(width, height))
            size = (short, long) if width <= height else (long, short)
            picture = picture.resize(size, self.filter)
        left, top = (round((length - side) / 2) for length in picture.size)
        square = picture.crop((left, top, left + side, top + side)).convert("RGB")
        values = torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous().float() / 255
        return (values - self.mean) / self.std


# ---- tokens ----


class Tokens:
    """Texts by the folder's own tokenizer, filled up to the length that the model reads."""

    def __init__(self, folder: Path, length: int) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.length = length

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 [n, length]"""
        return self.tokenizer(
            [clean(text) for text in texts],
            return_tensors="pt",
            max_length=self.length,
            padding="max_length",
            truncation=True,
        ).input_ids


def clean(text: str) -> str:
    """As open_clip has it: broken letters and entities mended, one space between words."""
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import ftfy  # a dependency of open_clip

        text = ftfy.fix_text(text)
    return " ".join(html.unescape(html.unescape(text)).split())
