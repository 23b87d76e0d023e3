"""A word that each cross-attention layer reads with an embedding of its own.

In: texts with {names}, and of each name a vector a layer. Out: encodings of all layers side by
side, [1, M, L * d], of which each layer's K and V take their own part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.prompts import Word, listed, negatives, super_text, tokenize, written

BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.|mid_block\.attentions\.0\.")
Plain = Callable[[list[str]], torch.Tensor]  # plain texts -> encodings [n, M, d]


@dataclass(frozen=True)
class LayeredWord:
    """What stands for a {name}: one token of text, and of each layer the vector written over its
    embedding.
    """

    text: str
    vectors: Mapping[str, torch.Tensor]  # layer's name -> [d]


# ---- layers ----


def layer_of_each(backbone: Backbone) -> dict[str, str]:
    """Of each cross-attention its layer, by the names that kohya's sd-scripts give them: IN01 to
    OUT11 on Stable Diffusion 1.x, after the blocks that the original code counted.
    """
    config = backbone.unet.config
    many, per = len(config.down_block_types), config.layers_per_block
    depths = [per] * many if isinstance(per, int) else list(per)
    # A block has one more place than layers: a way down ends in its downsampler, a way up has the
    # layer of the block above it.
    down = list(accumulate((depth + 1 for depth in depths), initial=1))
    up = list(accumulate((depth + 1 for depth in reversed(depths)), initial=0))
    found = {}
    for name in cross_attentions(backbone.unet):
        place = BLOCK.match(name)
        if place is None:
            raise UserError(
                f"the backbone {backbone.name!r} has a cross-attention at {name}, and xti knows "
                f"those of down, middle and up blocks; use another method there"
            )
        way, block, number = place.groups()
        if way is None:
            found[name] = "MID"
        else:
            start, head = (down, "IN") if way == "down" else (up, "OUT")
            found[name] = f"{head}{start[int(block)] + int(number):02}"
    return found


def layer_names(backbone: Backbone) -> list[str]:
    """In the order in which the U-Net passes them, which is that of the alphabet."""
    return sorted(set(layer_of_each(backbone).values()))


@contextmanager
def of_layers(backbone: Backbone) -> Iterator[None]:
    """Inside the block each layer's K and V take its own part of encodings of all layers; those of
    a plain width pass as they are.
    """
    layers, width = layer_names(backbone), backbone.text.width

    def taking(number: int) -> Callable[..., Any]:
        def take(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            if args[0].shape[-1] == width:
                return args
            return (args[0][..., number * width : (number + 1) * width], *args[1:])

        return take

    attentions = cross_attentions(backbone.unet)
    with ExitStack() as hooks:
        for name, layer in layer_of_each(backbone).items():
            take = taking(layers.index(layer))
            for side in (attentions[name].to_k, attentions[name].to_v):
                hooks.callback(side.register_forward_pre_hook(take).remove)
        yield


# ---- texts ----


def encode_text(
    backbone: Backbone, text: str, words: Mapping[str, LayeredWord], plain: Plain
) -> torch.Tensor:
    """[1, M, L * d] of one text, with gradient to the words' vectors; `plain` encodes the texts in
    which each {name} is its word. A text without names is encoded once for all layers.
    """
    layers = layer_names(backbone)
    single = {name: Word(word.text) for name, word in words.items()}
    _, [places] = tokenize(backbone.tokenizer, [text], single)
    filled = super_text(text, single)
    if not places:
        return plain([filled]).repeat(1, 1, len(layers))
    rows = [{f"{name} {layer}": at for name, at in places.items()} for layer in layers]
    vectors = {
        f"{name} {layer}": Word(words[name].text, words[name].vectors[layer])
        for name in places
        for layer in layers
    }
    with written(backbone.text_encoder, rows, vectors):
        encodings = plain([filled] * len(layers))  # [L, M, d]
    return encodings.transpose(0, 1).flatten(1)[None]


@contextmanager
def spoken(backbone: Backbone, words: Mapping[str, LayeredWord]) -> Iterator[None]:
    """Inside the block the pipeline understands prompts with these {names}, and encodes for all
    layers; the U-Net has to be one with `of_layers`.
    """
    pipe = backbone.pipe
    assert "encode_prompt" not in vars(pipe), "the pipeline has other words already"
    original = pipe.encode_prompt

    def all_of(texts: Sequence[str], device: Any, more: Mapping[str, Any]) -> torch.Tensor:
        def plain(some: list[str]) -> torch.Tensor:
            return original(some, device, 1, False, **more)[0]

        return torch.cat([encode_text(backbone, text, words, plain) for text in texts])

    def encode_prompt(
        prompt: str | list[str] | None,
        device: Any,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        **more: Any,
    ) -> Any:
        if prompt_embeds is None:
            prompt_embeds = all_of(listed(prompt), device, more)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            against = negatives(negative_prompt, len(prompt_embeds))
            negative_prompt_embeds = all_of(against, device, more)
        return original(
            None,
            device,
            num_images_per_prompt,
            do_classifier_free_guidance,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )

    pipe.encode_prompt = encode_prompt
    try:
        yield
    finally:
        del pipe.encode_prompt
