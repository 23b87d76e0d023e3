"""What kind of model a backbone is. Fetches nothing, loads no weights.

In: a name, a folder, a file or a hub id. Out: `Kind`, from configurations or the table of the hub's
short names.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paths import backbone_names
from perfusion_core.families import CAPTIONED, index_of
from perfusion_core.hub import HUB, configurations_here
from perfusion_core.places import on_this_machine
from perfusion_core.single_file import SECOND, layout_of, picture_side

LARGE = 1024  # pixels; of such pictures, more than two at a time fill a GPU of 24 GB
XL = "sdxl"  # the short name of Stable Diffusion XL


@dataclass(frozen=True)
class Kind:
    """What refusals and costs have to know of a backbone."""

    name: str  # for people
    joint: bool = False  # two text encoders; its U-Net is told the size of each photograph
    captioned: bool = False  # of PixArt's or Sana's kind: a transformer, text behind a projection
    scored: bool = False  # it brings its own scorer, as the miniatures do
    flow: bool = False  # trained by flow matching, as Sana
    large: bool = False  # its pictures are as large as Stable Diffusion XL's

    def miniature(self, recipe: str) -> bool:
        """Whether methods take the recipe tuned for small models; `recipe`: what was asked for."""
        return self.scored if recipe == "auto" else recipe == "miniature"


def kind_of(name: str, place: Path) -> Kind:
    """Of what lies in a folder in diffusers layout or in a single file."""
    return Kind(
        name=name,
        joint=is_joint_place(place),
        captioned=index_of(place).get("transformer") in CAPTIONED,
        scored=(place / "scorer").is_dir(),
        flow=is_flow_place(place),
        large=picture_size(place) >= LARGE,
    )


def kind_here(backbone: str, revision: str = "") -> Kind | None:
    """The same without asking the hub; None of a hub id of which no configuration is here."""
    if here := on_this_machine(backbone, backbone_names()):
        return kind_of(*here)
    if short := short_name(backbone):
        return Kind(backbone, joint=short == XL, large=short == XL)
    folder = configurations_here(backbone, revision or None)
    return kind_of(backbone, folder) if folder else None


def short_name(backbone: str) -> str:
    """Under which a hub id is known here; empty for any other backbone."""
    return next((name for name, hub_id in HUB.items() if backbone in (name, hub_id)), "")


def costs_like(backbone: str) -> str:
    """The short name of the checkpoint whose sizes a backbone has, for plans of time: its own, or
    XL's where configurations say so; empty where nothing is known."""
    if short := short_name(backbone):
        return short
    kind = kind_here(backbone)
    return XL if kind and kind.joint and kind.large and not kind.scored else ""


def is_joint_place(place: Path) -> bool:
    """Whether two text encoders are there, as Stable Diffusion XL has; then its U-Net is told
    sizes."""
    if place.is_file():
        return SECOND in layout_of(place)
    return SECOND in index_of(place)


def is_flow_place(place: Path) -> bool:
    """Whether a folder's scheduler is one of flow matching, as `noise_levels.is_flow` says of an
    opened one."""
    try:
        text = (place / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
        told = dict(json.loads(text))
    except (OSError, ValueError, TypeError):
        return False
    kind = str(told.get("_class_name", ""))
    return kind.startswith("FlowMatch") or told.get("prediction_type") == "flow_prediction"


def picture_size(place: Path) -> int:
    """The side of the pictures that a backbone draws, from its configurations."""
    if place.is_file():
        return picture_side(place)
    try:
        part = "transformer" if (place / "transformer").is_dir() else "unet"
        denoiser = json.loads((place / part / "config.json").read_text(encoding="utf-8"))
        vae = json.loads((place / "vae" / "config.json").read_text(encoding="utf-8"))
        levels = vae.get("encoder_block_out_channels") or vae["block_out_channels"]
        return int(denoiser["sample_size"]) * 2 ** (len(levels) - 1)
    except (OSError, ValueError, KeyError):
        return 512  # Stable Diffusion's
