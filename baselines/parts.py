"""What more than one baseline needs: texts with learned or rare words, class images, proof of what
was changed.

In: a backbone and what a method learned. Out: functions for the shared loop, and the backbone with
the method in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch

from perfusion_core.backbone import Backbone
from perfusion_core.editing import encoder
from perfusion_core.errors import MissingClassImages, unknown
from perfusion_core.latents import Latents
from perfusion_core.prompts import TEMPLATES, Word, encode
from perfusion_core.sampling import as_float
from perfusion_core.student import repeated
from perfusion_core.subject import Subject
from perfusion_core.training import Write

CLASS = TEMPLATES[0]  # "a photo of a {}": what class images are drawn from
# one token of CLIP's without a meaning, what diffusers' DreamBooth writes before the class
RARE = "sks"
SLOT = ""  # the name of a template's {}


def refuse_points(method: str, point: Mapping[str, Any]) -> None:
    """The baselines have nothing to set at run time."""
    for key in point:
        raise unknown(f"run-time parameter of {method}", key, ())


# ---- texts ----


def spelled(words: Mapping[str, str]) -> Write:
    """A function that writes words for {names}."""

    def write(text: str) -> str:
        for name, instead in words.items():
            text = text.replace(f"{{{name}}}", instead)
        return text

    return write


def learned_text(
    backbone: Backbone, words: Mapping[str, Word]
) -> Callable[[list[str]], torch.Tensor]:
    """Texts with {names} -> encodings with gradient to the words' vectors; each different text
    once.
    """

    def encode_texts(texts: list[str]) -> torch.Tensor:
        distinct = list(dict.fromkeys(texts))
        encodings, _ = encode(backbone.text_encoder, backbone.tokenizer, distinct, words)
        return repeated(encodings, [distinct.index(text) for text in texts])

    return encode_texts


def frozen_text(backbone: Backbone, texts: Sequence[str]) -> Callable[[list[str]], torch.Tensor]:
    """The few texts of a training whose text encoder stays as it is: encoded once for all steps."""
    known = dict(zip(texts, backbone.encode(list(texts))))
    return lambda wanted: torch.stack([known[text] for text in wanted])


@contextmanager
def spoken(backbone: Backbone, words: Mapping[str, Word]) -> Iterator[None]:
    """Inside the block the pipeline understands prompts with these {names}."""
    pipe = backbone.pipe
    assert "encode_prompt" not in vars(pipe), "the pipeline has other words already"
    pipe.encode_prompt = encoder(pipe, pipe.encode_prompt, words, "local")
    try:
        yield
    finally:
        del pipe.encode_prompt


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
    masks = subject.masks_for(config.masks)
    return Latents.of(backbone, subject.images, masks, flip=subject.mirrored(config.flip))


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


# ---- proof ----


def stamps(backbone: Backbone) -> dict[str, tuple[int, int]]:
    """Of every weight: where it lies and how often it was written. A change alters one of them."""
    parts = {"unet": backbone.unet, "vae": backbone.vae, "text_encoder": backbone.text_encoder}
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
