"""Families of models, and why the edit does not go into some of them. Imports no torch.

In: a pipeline, or a folder's configurations. Out: one sentence, or nothing where the edit fits.
Eq. 3 needs K and V to be linear maps of text encodings that depend on neither layer, step nor
image; docs/backbones.md has the table.
"""

import json
from pathlib import Path
from typing import Any

NEEDS = "Perfusion edits K and V that are linear maps of one text encoding for all layers and steps"
BUILT_IN = "the edit is built in for Stable Diffusion 1.x, 2.x and XL, PixArt and Sana"
INSTEAD = "train another method there with its own tools, and compare its pictures (docs/import.md)"
JOINT = (
    "its text stream is changed by every block and modulated by the time step, so a word has no "
    "encoding of its own to edit"
)
SHARED = (
    "text and image are one sequence that shares its K and V, so text is changed by every block"
)
TIMED = "its text blocks are modulated by the time step, so a word's encoding changes on the way"
SEGMENTS = (
    "Eq. 3 holds there with one i* and one C for each of its two text encoders, whose tokens "
    "follow each other, and these, a bias on K and V and the norm after K are not built in yet"
)
# the denoiser's class in diffusers -> its name for people, and why not
DENOISERS = {
    "SD3Transformer2DModel": ("Stable Diffusion 3", JOINT),
    "FluxTransformer2DModel": ("FLUX.1", JOINT),
    "Flux2Transformer2DModel": ("FLUX.2", JOINT),
    "ChromaTransformer2DModel": ("Chroma", JOINT),
    "AuraFlowTransformer2DModel": ("AuraFlow", JOINT),
    "Flux3Transformer2DModel": ("FLUX.3", JOINT),
    "LongCatImageTransformer2DModel": ("LongCat-Image", JOINT),
    "OvisImageTransformer2DModel": ("Ovis-Image", JOINT),
    "HiDreamImageTransformer2DModel": ("HiDream", JOINT),
    "QwenImageTransformer2DModel": ("Qwen-Image", JOINT),
    "HunyuanImageTransformer2DModel": ("HunyuanImage", JOINT),
    "BriaTransformer2DModel": ("Bria", JOINT),
    "BriaFiboTransformer2DModel": ("Bria FIBO", JOINT),
    "ZImageTransformer2DModel": ("Z-Image", SHARED),
    "Lumina2Transformer2DModel": ("Lumina 2", SHARED),
    "QwenImage21Transformer2DModel": ("Qwen-Image 2.1", SHARED),
    "Krea2Transformer2DModel": ("Krea 2", SHARED),
    "Ideogram4Transformer2DModel": ("Ideogram 4", SHARED),
    "ErnieImageTransformer2DModel": ("ERNIE-Image", SHARED),
    "GlmImageTransformer2DModel": ("GLM-Image", SHARED),
    "OmniGenTransformer2DModel": ("OmniGen", SHARED),
    "CogView4Transformer2DModel": ("CogView 4", SHARED),
    "Kandinsky5Transformer3DModel": ("Kandinsky 5", TIMED),
    "HunyuanDiT2DModel": ("Hunyuan-DiT", SEGMENTS),
}
NOT_YET = (SEGMENTS,)
# transformers that the edit goes into, behind the projection of their text -> the pipelines that
# train and draw here
CAPTIONED = {
    "PixArtTransformer2DModel": ("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    "SanaTransformer2DModel": ("SanaPipeline",),
}
KOLORS = (
    "the edit does not go into Kolors yet: Eq. 3 holds there behind its U-Net's encoder_hid_proj, "
    "and reading it there and a text encoder without CLIP's tokens are not built in; use Stable "
    "Diffusion 1.x, 2.x or XL"
)
REFINER = (
    "this is a refiner, which has no first text encoder: its U-Net reads another encoding than the "
    "base model's; load the concepts into the base, and give the refiner its pictures"
)


def why_not(denoiser: str) -> str | None:
    """One sentence about a denoiser of this class; None where nothing is known against it."""
    if denoiser not in DENOISERS:
        return None
    name, why = DENOISERS[denoiser]
    if why in NOT_YET:
        return f"the edit does not go into {name} yet: {why}; use Stable Diffusion 1.x, 2.x or XL"
    return f"{NEEDS}, and {name} has none: {why}; {INSTEAD}"


def why_not_pipe(pipe: Any) -> str | None:
    """The same of a pipeline."""
    transformer, unet = getattr(pipe, "transformer", None), getattr(pipe, "unet", None)
    if transformer is not None and unet is None:
        kind = type(getattr(transformer, "_orig_mod", transformer)).__name__
        if kind in CAPTIONED:
            return None
        return why_not(kind) or (
            f"{BUILT_IN}, and not for a {kind}; docs/backbones.md tells of which others Eq. 3 holds"
        )
    if unet is not None and getattr(unet.config, "encoder_hid_dim_type", None) == "text_proj":
        return KOLORS
    second = getattr(pipe, "text_encoder_2", None)
    if second is not None and pipe.text_encoder is None and unet is not None:
        # else the first one was dropped to save memory
        return REFINER if unet.config.cross_attention_dim == second.config.hidden_size else None
    return None


def why_not_folder(place: Path) -> str | None:
    """The same of a folder in diffusers layout, by its configurations alone."""
    parts = index_of(place)
    if "transformer" in parts and "unet" not in parts:
        kind = parts["transformer"]
        if kind in CAPTIONED:
            return why_not_captioned(kind, pipeline_of(place))
        return why_not(kind) or (
            f"{BUILT_IN}, and not for a {kind}; docs/backbones.md tells of which others Eq. 3 holds"
        )
    config = place / "unet" / "config.json"
    if config.is_file() and '"text_proj"' in config.read_text(encoding="utf-8"):
        return KOLORS
    if "text_encoder_2" in parts and "text_encoder" not in parts:
        return REFINER
    return None


def why_not_captioned(denoiser: str, pipeline: str) -> str | None:
    """A pipeline of PixArt or Sana that is trained or drawn in another way."""
    known = CAPTIONED[denoiser]
    if pipeline in known:
        return None
    return (
        f"a backbone with this transformer is one of a {' or a '.join(known)}, and this is one of "
        f"a {pipeline}, which is trained in another way; give the plain model"
    )


def pipeline_of(place: Path) -> str:
    """The class of a folder's pipeline; empty where it does not tell."""
    try:
        told = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
        return str(told["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def index_of(place: Path) -> dict[str, str]:
    """The parts of a folder in diffusers layout with their classes; {} where it does not tell."""
    try:
        told = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
        return {
            part: str(kind[1])
            for part, kind in told.items()
            if isinstance(kind, list) and len(kind) == 2 and kind[1]
        }
    except (OSError, ValueError, AttributeError):
        return {}
