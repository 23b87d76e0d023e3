"""Scorers of today by one word, `modern`: which they are, what of them is downloaded, and how much
work one picture is. And which distances of today are no scorers here, and why. Loads nothing.

In: names as typed. Out: names that `find_scorer` knows; sizes; sentences.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MODERN = "modern"


@dataclass(frozen=True)
class Known:
    """A public model of vision transformers; its weights are float32."""

    given: str  # as find_scorer knows it
    hub_id: str
    file: str  # its weights there
    parameters: int  # of all of it, texts too
    tokens: int  # of one picture: patches, the class token, registers
    width: int = 768
    layers: int = 12

    @property
    def bytes(self) -> int:
        return 4 * self.parameters

    @property
    def work(self) -> int:
        """Multiplications and additions of one picture: four matrices of attention, a network that
        is four times as wide, and attention itself."""
        each = 12 * self.width**2 * self.tokens + 2 * self.tokens**2 * self.width
        return self.layers * each


SHORT = {
    # what peft's comparison of methods measures with: the class token of the last layer
    "dinov2-base": Known(
        "dino:facebook/dinov2-base",
        "facebook/dinov2-base",
        "model.safetensors",
        86_580_480,
        16**2 + 1,
    ),
    # timm's own head would take the mean of all patches; the class token is what was trained
    "dinov3": Known(
        "timm-cls:vit_base_patch16_dinov3.lvd1689m",
        "timm/vit_base_patch16_dinov3.lvd1689m",
        "model.safetensors",
        85_641_216,
        16**2 + 1 + 4,
    ),
    "siglip2": Known(
        "clip:ViT-B-16-SigLIP2:webli",
        "timm/ViT-B-16-SigLIP2",
        "open_clip_model.safetensors",
        375_187_970,
        14**2,
    ),
}
# names of distances that people ask for
REFUSED = {
    "dreamsim": "dreamsim is a cosine of features, and its public weights are pickles, which are "
    "never read; docs/judging.md says what stands near it",
    "lpips": "lpips compares two pictures place by place, so a picture has no vector of which a "
    "cosine says how alike two things are; docs/judging.md says more",
}


def spelled_out(names: Iterable[str], place: Path | None = None) -> list[str]:
    """`modern` replaced by what it stands for, each name once. A drawn world brings judges of its
    own: there it stands for the backbone's scorer and the truth."""
    found: list[str] = []
    for name in names:
        found += stands_for(place) if name == MODERN else [name]
    return list(dict.fromkeys(found))


def stands_for(place: Path | None) -> Sequence[str]:
    if place and (place / "scorer").is_dir():
        return ("auto", "truth") if (place / "judges").is_dir() else ("auto",)
    return tuple(SHORT)


def is_here(one: Known) -> bool:
    """Whether an earlier download left its weights, as far as can be told without a network."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(one.hub_id, one.file), str)
