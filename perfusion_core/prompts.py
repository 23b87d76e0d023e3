"""Where a concept stands in a prompt: texts with {names} in; token positions and encodings out.

No token is ever added: {name} becomes a word that the tokenizer knows, and a vector is written over
its embedding.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from perfusion_core.errors import UserError, unknown

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
TEMPLATES = (  # Appendix G; prompts/training.txt is the same list
    "a photo of a {}",
    "a good photo of a {}",
    "the photo of a {}",
    "a good photo of the {}",
    "image of a {}",
    "image of the {}",
    "A photograph of {}",
    "A {} shown in a photo",
    "A photo of {}",
)
INITIAL = "A photo of a {}"  # i_star and o_star_K start from the super-category's word in it

Positions = dict[str, list[int]]


@dataclass(frozen=True)
class Word:
    """What stands for a {name}: one token of text, and the vector written over its embedding."""

    text: str
    vector: torch.Tensor | None = None  # [d]


def named(template: str, name: str) -> str:
    """ "A {} on the beach" -> "A {cat} on the beach"."""
    return template.replace("{}", f"{{{name}}}")


def fill(text: str, words: Mapping[str, Word]) -> tuple[str, list[tuple[str, int, int]]]:
    """The text that the tokenizer gets, and each placeholder's name, start and end in it."""
    out, spans, done = "", [], 0
    for match in PLACEHOLDER.finditer(text):
        name = match[1]
        if name not in words:
            raise unknown("concept in the prompt", name, words)
        out += between(text, done, match.start(), words)
        spans.append((name, len(out), len(out) + len(words[name].text)))
        out += words[name].text
        done = match.end()
    return out + between(text, done, len(text), words), spans


def between(text: str, start: int, end: int, words: Mapping[str, Word]) -> str:
    """What stands around placeholders: anything but braces, which would be drawn as text."""
    piece = text[start:end]
    if "{" in piece or "}" in piece:
        example = next(iter(words), "teddy")
        raise UserError(
            f"the prompt {text!r} has a brace that belongs to no {{name}} and would be drawn as "
            f"text; write a concept as {{{example}}}, with one brace on each side, and remove "
            f"other braces"
        )
    return piece


def super_text(text: str, words: Mapping[str, Word]) -> str:
    """The prompt with every concept replaced by its super-category."""
    return fill(text, words)[0]


def super_token(tokenizer: Any, word: str) -> int:
    """The token of a super-category, which has to be exactly one: its embedding is where a concept
    starts.
    """
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise several_tokens(tokenizer, word, ids)
    return ids[0]


def several_tokens(tokenizer: Any, word: str, ids: Sequence[int]) -> UserError:
    """What is said of a super-category that is not one token."""
    pieces = " + ".join(tokenizer.convert_ids_to_tokens(ids)).replace("</w>", "") or "nothing"
    return UserError(
        f"the super-category {word!r} is {len(ids)} tokens to this backbone ({pieces}), and "
        f"one is needed; "
        "choose a more common word for it, such as its last word"
    )


def unread(tokenizer: Any, text: str) -> str:
    """The end of a prompt that is longer than the text encoder; empty where all of it is read."""
    if len(text.encode()) + 2 <= tokenizer.model_max_length:  # at most a token a byte
        return ""
    found = tokenizer(
        text, truncation=True, max_length=tokenizer.model_max_length, return_offsets_mapping=True
    )
    return text[max(end for _, end in found.offset_mapping) :].strip()


def token_vector(text_encoder: Any, token: int) -> torch.Tensor:
    """A copy of a token's embedding in float32, to be learned further."""
    return text_encoder.get_input_embeddings().weight[token].detach().float().clone()


def tokenize(
    tokenizer: Any, texts: Sequence[str], words: Mapping[str, Word]
) -> tuple[torch.Tensor, list[Positions]]:
    """-> ids [n, M] of the filled texts, and where each concept stands in each of them."""
    for word in words.values():
        super_token(tokenizer, word.text)
    filled = [fill(text, words) for text in texts]
    batch = tokenizer(
        [text for text, _ in filled],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    positions = [
        find(tokenizer, text, spans, words, offsets, ids)
        for (text, spans), offsets, ids in zip(
            filled, batch.offset_mapping.tolist(), batch.input_ids.tolist()
        )
    ]
    return batch.input_ids, positions


def find(
    tokenizer: Any,
    text: str,
    spans: list[tuple[str, int, int]],
    words: Mapping[str, Word],
    offsets: list[list[int]],
    ids: list[int],
) -> Positions:
    found: Positions = {}
    last = max((end for _, end in offsets), default=0)
    for name, start, end in spans:
        token = super_token(tokenizer, words[name].text)
        hits = [m for m, (a, b) in enumerate(offsets) if a < end and b > start]
        if not hits and start >= last:
            raise UserError(
                f"{{{name}}} is cut off, the prompt is longer than {tokenizer.model_max_length} "
                f"tokens: {text!r}"
            )
        glued = text[start - 1 : start].isalnum()  # byte pairs may split there all the same
        if glued or len(hits) != 1 or ids[hits[0]] != token or offsets[hits[0]] != [start, end]:
            raise UserError(
                f"{{{name}}} has to stand as a word of its own, with spaces or punctuation around "
                f"it: {text!r}"
            )
        found.setdefault(name, []).append(hits[0])
    return found


@contextmanager
def written(
    text_encoder: Any, positions: Sequence[Positions], words: Mapping[str, Word]
) -> Iterator[None]:
    """For one call of the text encoder: the concepts' vectors stand at their positions."""
    places = [
        (row, m, words[name].vector)
        for row, found in enumerate(positions)
        for name, at in found.items()
        for m in at
        if words[name].vector is not None
    ]
    if not places:
        yield
        return
    rows, columns, vectors = zip(*places)
    table = table_read(text_encoder)
    scale = getattr(table, "embed_scale", None)  # Gemma's table is scaled as it is read

    def write(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
        assert len(embedded) == len(positions), "the hook is for one batch of prompts"
        stacked = torch.stack([vector.to(embedded) for vector in vectors])
        if scale is not None:
            stacked = stacked * scale.to(stacked)
        index = (
            torch.tensor(rows, device=embedded.device),
            torch.tensor(columns, device=embedded.device),
        )
        return embedded.index_put(index, stacked)

    handle = table.register_forward_hook(write)
    try:
        yield
    finally:
        handle.remove()


def table_read(text_encoder: Any) -> Any:
    """The module that looks embeddings up: T5 has two of one weight, and asks its encoder's."""
    own = getattr(getattr(text_encoder, "encoder", None), "embed_tokens", None)
    return text_encoder.get_input_embeddings() if own is None else own


def encode(
    text_encoder: Any, tokenizer: Any, texts: Sequence[str], words: Mapping[str, Word]
) -> tuple[torch.Tensor, list[Positions]]:
    """-> encodings [n, M, d] as the U-Net sees them (with gradient to the words' vectors), and the
    positions.
    """
    ids, positions = tokenize(tokenizer, texts, words)
    with written(text_encoder, positions, words):
        return text_encoder(ids.to(text_encoder.device))[0], positions


@torch.no_grad()
def super_encoding(text_encoder: Any, tokenizer: Any, super_category: str) -> torch.Tensor:
    """The encoding [d] of the word in "A photo of a <super-category>": where i_star and o_star_K
    start.
    """
    encodings, positions = encode(
        text_encoder, tokenizer, [named(INITIAL, "it")], {"it": Word(super_category)}
    )
    return encodings[0, positions[0]["it"][0]]


# ---- what pipelines are called with ----


def listed(texts: str | Sequence[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or [])


def negatives(given: str | list[str] | None, many: int) -> list[str]:
    """A negative prompt for each of so many prompts."""
    against = given if isinstance(given, list) else [given or ""] * many
    if len(against) != many:
        raise UserError(f"{many} prompts need one negative prompt or as many, not {len(against)}")
    return against


def refuse_encoded(lock: str, *encodings: torch.Tensor | None) -> None:
    """Prompts that somebody encoded, where the lock needs their words."""
    if lock == "global" and any(one is not None for one in encodings):
        raise UserError(
            'lock="global" needs the prompt itself, not prompt_embeds; give prompt="..." or '
            'use lock="local"'
        )
