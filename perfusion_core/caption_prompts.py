"""Prompts with {names} for PixArt and Sana: what stands for their pipelines' own method.

In: the pipeline's own method, the words. Out: one with the same signature. Cross-attentions read
each text behind the transformer's projection, so a global lock's second prompt cannot stand beside
the first before it: it stands behind it, token after token, and `beside_at_layers` puts the two
side by side where a layer reads them.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from perfusion_core.caption_text import Reading, caption_tokens, in_small, joined, lowered
from perfusion_core.errors import UserError
from perfusion_core.prompts import Word, listed, negatives, refuse_encoded
from perfusion_core.prompts import super_text as fill_supers
from perfusion_core.rank_one import Last
from perfusion_core.text_encoders import text_encoders

Text = str | list[str] | None
NEEDED = "negative_prompt_attention_mask"  # in the signatures that are known here


def refuse_other_signature(pipe: Any) -> None:
    """Pipelines of the same transformer whose encode_prompt gives other things."""
    told = (
        inspect.signature(pipe.encode_prompt).parameters if hasattr(pipe, "encode_prompt") else ()
    )
    if NEEDED not in told:
        raise UserError(
            f"a {type(pipe).__name__} encodes prompts in a way of its own, without a negative one, "
            f"so a concept cannot follow it; use PixArt's or Sana's plain pipeline"
        )


def caption_encoder(
    pipe: Any,
    original: Callable[..., Any],
    words: Mapping[str, Word],
    lock: str,
    check: Callable[[], None],
    keep: Callable[[Callable[[str], torch.Tensor]], None],
) -> Callable[..., Any]:
    """The pipeline's encode_prompt for prompts with {names}; arguments as `editing.encoder` has
    them.
    """
    small = in_small(words)

    def once(texts: list[str], how: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        side = text_encoders(pipe)
        supers = [fill_supers(lowered(text), small) for text in texts]
        refuse_cleaned(pipe, supers, bool(how["clean_caption"]))
        reading = Reading(how["max_sequence_length"], joined(how.get("complex_human_instruction")))
        found = caption_tokens(side.readers[0].tokenizer, texts, words, reading)
        with side.written(found.positions, words):
            encodings, mask = original(supers, False, **how)[:2]
        if lock == "global":
            plain = original(supers, False, **how)[0]
            encodings = torch.cat([encodings, plain], dim=1)
        return encodings, mask

    def encode_prompt(
        prompt: Text,
        do_classifier_free_guidance: bool = True,
        negative_prompt: Text = "",
        num_images_per_prompt: int = 1,
        device: Any = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        clean_caption: bool = False,
        **how: Any,
    ) -> Any:
        check()
        refuse_encoded(lock, prompt_embeds, negative_prompt_embeds)
        side = text_encoders(pipe)
        how = {"max_sequence_length": side.length, "clean_caption": clean_caption, **how}
        if prompt_embeds is None:
            usual = side.reading()
            keep(lambda text: side.project(original([text], False, device=device, **usual)[0])[0])
            prompt_embeds, prompt_attention_mask = once(listed(prompt), {"device": device, **how})
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            against = negatives(negative_prompt, len(prompt_embeds))
            # Sana reads it without the instruction
            plain = {
                name: given for name, given in how.items() if name != "complex_human_instruction"
            }
            negative_prompt_embeds, negative_prompt_attention_mask = once(
                against, {"device": device, **plain}
            )
        return original(
            None,
            do_classifier_free_guidance,
            num_images_per_prompt=num_images_per_prompt,
            device=device,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
            **how,
        )

    return encode_prompt


def refuse_cleaned(pipe: Any, texts: list[str], clean: bool) -> None:
    """clean_caption may write a prompt anew, and then nobody knows where a word of it stands."""
    if not clean:
        return
    for text, cleaned in zip(texts, pipe._text_preprocessing(texts, True), strict=True):
        if text != cleaned:
            raise UserError(
                f"clean_caption would make {cleaned!r} of {text!r}, and a concept's word would be "
                f"at another place in it; pass clean_caption=False"
            )


def side_by_side(encodings: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """[n, 2 M, d] -> [n, M, 2 d] of a global lock's two prompts; one prompt stays as it is. mask:
    [..., M].
    """
    if mask is None or encodings.shape[1] != 2 * mask.shape[-1]:
        return encodings
    return torch.cat(encodings.chunk(2, dim=1), dim=-1)


@contextmanager
def beside_at_layers(layers: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block each cross-attention reads a global lock's two prompts side by side."""
    last = Last()

    def arrange(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given, mask = kwargs["encoder_hidden_states"], kwargs.get("attention_mask")
        beside = last.get(given, lambda: side_by_side(given, mask))
        return args, {**kwargs, "encoder_hidden_states": beside}

    with ExitStack() as block:
        for layer in layers.values():
            handle = layer.register_forward_pre_hook(arrange, with_kwargs=True)
            block.callback(handle.remove)
        yield
