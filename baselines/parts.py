"""What more than one baseline needs: texts with learned or rare words, class images, proof of what
was changed.

In: a backbone and what a method learned. Out: functions for the shared loop, and the backbone with
the method in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from perfusion_core.backbone import Backbone
from perfusion_core.editing import encoder
from perfusion_core.errors import MissingClassImages, UserError, unknown
from perfusion_core.latents import Latents
from perfusion_core.prompts import TEMPLATES, Word
from perfusion_core.sampling import as_float
from perfusion_core.student import repeated
from perfusion_core.subject import Subject
from perfusion_core.text_encoders import FILE_KEYS
from perfusion_core.training import Write

CLASS = TEMPLATES[0]  # "a photo of a {}": what class images are drawn from
# one token of CLIP's without a meaning, what diffusers' DreamBooth writes before the class
RARE = "sks"
SLOT = ""  # the name of a template's {}
Read = Callable[[list[str]], torch.Tensor]


def refuse_points(method: str, point: Mapping[str, Any]) -> None:
    """The baselines have nothing to set at run time."""
    for key in point:
        raise unknown(f"run-time parameter of {method}", key, ())


def refuse_projected(method: str, backbone: Backbone) -> None:
    """By a method that asks for CLIP's encodings and a U-Net: PixArt and Sana have neither."""
    if backbone.text.behind:
        raise UserError(
            f"{method} trains a U-Net and CLIP's words, and the backbone {backbone.name!r} has a "
            f"transformer that reads its text behind a projection; use the method perfusion there"
        )


def refuse_two_encoders(method: str, backbone: Backbone) -> None:
    """By a method whose word is known to one text encoder only."""
    refuse_projected(method, backbone)
    if backbone.text.joint:
        raise UserError(
            f"{method} reads one text encoder, and the backbone {backbone.name!r} has two, like "
            f"Stable Diffusion XL; use another method there"
        )


# ---- texts ----


def spelled(words: Mapping[str, str]) -> Write:
    """A function that writes words for {names}."""

    def write(text: str) -> str:
        for name, instead in words.items():
            text = text.replace(f"{{{name}}}", instead)
        return text

    return write


class LearnedText:
    """Texts with {names} -> encodings with gradient to the words' vectors; each different text
    once.
    """

    def __init__(self, backbone: Backbone, words: Mapping[str, Word]) -> None:
        self.backbone, self.words = backbone, words
        self.pooled: Read | None = self.just_pooled if backbone.text.joint else None
        self.known: dict[str, torch.Tensor] = {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        distinct = list(dict.fromkeys(texts))
        read = self.backbone.text.encode(distinct, self.words)
        if read.pooled is not None:
            self.known = dict(zip(distinct, read.pooled))
        return repeated(read.encodings, [distinct.index(text) for text in texts])

    def just_pooled(self, texts: list[str]) -> torch.Tensor:
        """Of texts that were just encoded, with the words' own vectors in them."""
        return torch.stack([self.known[text] for text in texts])


class FrozenText:
    """The few texts of a training whose text encoders stay as they are: encoded once for all
    steps.
    """

    @torch.no_grad()
    def __init__(self, backbone: Backbone, texts: Sequence[str]) -> None:
        self.known = dict(zip(texts, backbone.encode(list(texts))))
        self.pooled: Read | None = None
        if backbone.text.joint:
            pooled = backbone.text.encode(texts, {}).pooled
            assert pooled is not None, "asked of a U-Net that reads pooled text"
            beside = dict(zip(texts, pooled))
            self.pooled = lambda wanted: torch.stack([beside[text] for text in wanted])

    def __call__(self, wanted: list[str]) -> torch.Tensor:
        return torch.stack([self.known[text] for text in wanted])


# the shared loop asks them for encodings, and by `pooled` for pooled text, where there is such
learned_text, frozen_text = LearnedText, FrozenText


@contextmanager
def spoken(backbone: Backbone, words: Mapping[str, Word]) -> Iterator[None]:
    """Inside the block the pipeline understands prompts with these {names}."""
    pipe = backbone.pipe
    assert "encode_prompt" not in vars(pipe), "the pipeline has other words already"
    # what is pooled has the words too, as in a pipeline with textual inversions
    pipe.encode_prompt = encoder(pipe, pipe.encode_prompt, words, "local", own_pooled=list(words))
    try:
        yield
    finally:
        del pipe.encode_prompt


def embedding_tensors(
    backbone: Backbone, word: str, vector: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A learned word as a file has it: one vector under its name, or one a text encoder."""
    if not backbone.text.joint:
        return {word: vector}
    each = vector.split(backbone.text.widths)
    return {key: part[None] for key, part in zip(FILE_KEYS, each, strict=True)}


def embedding_of(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The vector [d] in such a file."""
    if FILE_KEYS[0] in tensors:
        return torch.cat([tensors[key][0] for key in FILE_KEYS])
    [vector] = tensors.values()
    return vector


# ---- pictures ----


class Flipping(Protocol):
    """A Config that says whether pictures may be mirrored."""

    @property
    def flip(self) -> bool: ...


class Masking(Flipping, Protocol):
    """And whether the loss is weighted by masks."""

    @property
    def masks(self) -> bool: ...


def own_pictures(backbone: Backbone, config: Masking, subject: Subject) -> Latents:
    """Latents of the concept's images, with its masks where the recipe wants them."""
    masks, flip = subject.masks_for(config.masks), subject.mirrored(config.flip)
    own = Latents.of(backbone, subject.images, masks, flip=flip, frames=subject.frames)
    return own if own.masks is None else replace(own, masks=levelled(own.masks))


def levelled(masks: torch.Tensor) -> torch.Tensor:
    """[..., 1, h, w], each with a mean of one: a picture's loss is then the mean error over what
    counts, and class images and other terms beside it keep their published weights.
    """
    return masks / masks.mean((-3, -2, -1), keepdim=True)


def class_pictures(
    backbone: Backbone, method: str, config: Flipping, subject: Subject, prior: np.ndarray | None
) -> Latents:
    """Latents of the class images, uint8 [n, H, W, 3], that keep a method from forgetting the
    super-category.
    """
    if prior is None or not len(prior):
        raise MissingClassImages(
            f"{method} learns beside class images of {subject.super_category!r}"
        )
    return Latents.of(backbone, as_float(prior), flip=subject.mirrored(config.flip))


def beside_class(mask: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """The mask of a batch whose last rows are class images, which count all over."""
    if mask is None:
        return None
    return torch.cat([mask, mask.new_ones((rows, *mask.shape[1:]))])


def with_whole(backbone: Backbone, sizes: torch.Tensor | None, others: int) -> torch.Tensor | None:
    """Sizes of a concept's pictures, before so many that were drawn whole, as class images are."""
    return None if sizes is None else torch.cat([sizes, backbone.whole(others)])


# ---- proof ----


def stamps(backbone: Backbone) -> dict[str, tuple[int, int]]:
    """Of every weight: where it lies and how often it was written. A change alters one of them."""
    parts = {"unet": backbone.unet, "vae": backbone.vae}
    parts |= {reader.part: reader.model for reader in backbone.text.readers}
    return {
        f"{part}.{name}": (tensor.data_ptr(), tensor._version)
        for part, model in parts.items()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def assert_only(
    before: Mapping[str, tuple[int, int]], backbone: Backbone, mine: Callable[[str], bool]
) -> None:
    """Every weight that a method calls its own was touched, and no other; `before`: the base's
    stamps.
    """
    after = stamps(backbone)
    for name in before.keys() | after.keys():
        touched = before.get(name) != after.get(name)
        assert touched == mine(name), f"{name} is {'' if touched else 'not '}changed"
