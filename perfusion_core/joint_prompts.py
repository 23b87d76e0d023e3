"""Prompts with {names} for two text encoders: what stands for Stable Diffusion XL's own method.

In: the pipeline's own method, the words. Out: one with the same signature. Beside the encodings it
gives the pooled text, which the U-Net adds to its time embedding, past every lock: that is of the
super-category's prompt, unless a concept was trained with its own.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import torch

from perfusion_core.errors import UserError
from perfusion_core.prompts import Word, listed, negatives, refuse_encoded
from perfusion_core.prompts import super_text as fill_supers
from perfusion_core.text_encoders import text_encoders

Text = str | list[str] | None


def joint_encoder(
    pipe: Any,
    original: Callable[..., Any],
    words: Mapping[str, Word],
    lock: str,
    check: Callable[[], None],
    keep: Callable[[Callable[[str], torch.Tensor]], None],
    own_pooled: Collection[str] = (),
) -> Callable[..., Any]:
    """The pipeline's encode_prompt for prompts with {names}; arguments as `editing.encoder` has
    them.

    Args:
        own_pooled: names of the concepts whose own text is pooled.
    """
    spell_out = getattr(pipe, "maybe_convert_prompt", lambda texts, tokenizer: texts)

    def once(
        texts: list[str], device: Any, lora_scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        side = text_encoders(pipe)
        _, positions = side.tokenize(texts, words, spell_out)
        supers = [fill_supers(text, words) for text in texts]
        there = {name for found in positions for name in found}

        @cache
        def read(names: frozenset[str]) -> tuple[torch.Tensor, torch.Tensor]:
            """Encodings and pooled text where these words have their vectors, others have none."""
            some = {
                name: word if name in names else Word(word.text) for name, word in words.items()
            }
            with side.written(positions, some):
                encodings, _, pooled, _ = original(
                    supers, None, device, 1, False, lora_scale=lora_scale
                )
            return encodings, pooled

        encodings = read(frozenset(there))[0]
        pooled = read(frozenset(there & set(own_pooled)))[1]
        if lock == "global":
            encodings = torch.cat([encodings, read(frozenset())[0]], dim=-1)
        return encodings, pooled

    def encode_prompt(
        prompt: Text,
        prompt_2: Text = None,
        device: Any = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: Text = None,
        negative_prompt_2: Text = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> Any:
        check()
        if clip_skip:
            raise UserError(
                "clip_skip reads another output of the text encoders than the concepts were made "
                "for; leave it out"
            )
        refuse_second("prompt", prompt, prompt_2)
        refuse_second("negative_prompt", negative_prompt, negative_prompt_2)
        refuse_encoded(lock, prompt_embeds, negative_prompt_embeds)
        if prompt_embeds is None:
            keep(lambda text: original(text, None, device, 1, False, lora_scale=lora_scale)[0][0])
            prompt_embeds, pooled_prompt_embeds = once(listed(prompt), device, lora_scale)
        # no negative prompt at all is left to the pipeline: zeros, where it was trained so. Eq. 3
        # holds of zeros, too: similarity 0, and o_star at the gate's sigmoid(-bias / temperature)
        zeros = negative_prompt is None and pipe.config.force_zeros_for_empty_prompt
        if do_classifier_free_guidance and negative_prompt_embeds is None and not zeros:
            against = negatives(negative_prompt, len(prompt_embeds))
            negative_prompt_embeds, negative_pooled_prompt_embeds = once(
                against, device, lora_scale
            )
        return original(
            None,
            None,
            device,
            num_images_per_prompt,
            do_classifier_free_guidance,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            pooled_prompt_embeds=pooled_prompt_embeds,
            negative_pooled_prompt_embeds=negative_pooled_prompt_embeds,
            lora_scale=lora_scale,
        )

    return encode_prompt


def refuse_second(argument: str, first: Text, second: Text) -> None:
    """The two encoders' outputs stand side by side, so a word is at one position in both."""
    if second and listed(second) != listed(first):
        raise UserError(
            f"{argument}_2 gives the second text encoder another text, and a concept's word has "
            f"to stand in both at the same place; leave {argument}_2 out"
        )
