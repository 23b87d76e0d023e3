"""What other people's code does to a pipeline while concepts are loaded: prompts that come past
`encode_prompt`, and adapters.

In: a pipeline and the concepts' words. Out: blocks in which both end well, or in one sentence.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import nn

from perfusion_core.errors import UserError
from perfusion_core.prompts import INITIAL, Word
from perfusion_core.rank_one import EditedProjection, LockedKeys
from perfusion_core.text_encoders import Reader, text_encoders

END = "</w>"  # of a word, in CLIP's tokens
BEGIN = "▁"  # of a word, in T5's and Gemma's
# where diffusers lets adapters into a U-Net
ADAPTING = ("load_lora_adapter", "add_adapter", "load_attn_procs")


# ---- prompts ----


def in_braces(name: str) -> str:
    return f"{{{name}}}"


@contextmanager
def no_literal(pipe: Any, words: Mapping[str, Word], check: Callable[[], None]) -> Iterator[None]:
    """The text encoders refuse a concept's {name} as mere letters, whoever sends it.

    A prompt of another pipeline, or of a program that encodes prompts itself, would be drawn with
    the braces, without a word. `check` is asked first.
    """
    names = [in_braces(name) for name in words]
    handles = [
        reader.model.register_forward_pre_hook(
            literal_refused(reader.tokenizer, names, check), with_kwargs=True
        )
        for reader in text_encoders(pipe).readers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def literal_refused(
    tokenizer: Any, names: list[str], check: Callable[[], None]
) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    """The hook of one text encoder, whose tokens are this tokenizer's."""

    def read(ids: list[int]) -> str:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        return "".join(piece or "" for piece in pieces).replace(END, "").replace(BEGIN, "")

    spelled = {small: name for name in names for small in (name, name.lower())}
    letters = {
        read(tokenizer(small, add_special_tokens=False).input_ids): name
        for small, name in spelled.items()
    }

    def refuse(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check()
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            return
        own = words_of(tokenizer, names)
        for row in ids.tolist():
            text = read([token for token in row if token not in own])
            for spelled, name in letters.items():
                if spelled in text:
                    raise UserError(
                        f"the prompt's {name} reached the text encoder as mere letters, past the "
                        f"pipeline that has the concepts; draw with that pipeline, or pass "
                        f"load_concepts(..., tokens=True)"
                    )

    return refuse


@contextmanager
def uncompiled(pipe: Any) -> Iterator[None]:
    """The text encoders as they are written: a compiled one does not see the vectors that are put
    over its embeddings, and it runs once a prompt.
    """
    with ExitStack() as block:
        for reader in text_encoders(pipe).readers:
            block.enter_context(one_uncompiled(pipe, reader.part))
        yield


@contextmanager
def one_uncompiled(pipe: Any, part: str) -> Iterator[None]:
    compiled = getattr(pipe, part)
    encoder = getattr(compiled, "_orig_mod", compiled)
    in_place, encoder._compiled_call_impl = encoder._compiled_call_impl, None
    if encoder is not compiled:
        setattr(pipe, part, encoder)
    try:
        yield
    finally:
        encoder._compiled_call_impl = in_place
        if encoder is not compiled and getattr(pipe, part) is encoder:
            setattr(pipe, part, compiled)


def words_of(tokenizer: Any, names: list[str]) -> set[int]:
    """The tokens that stand for whole names, where there are such."""
    unknown = tokenizer.unk_token_id
    return {tokenizer.convert_tokens_to_ids(name) for name in names} - {unknown, None}


@contextmanager
def as_tokens(pipe: Any, words: Mapping[str, Word]) -> Iterator[None]:
    """Each {name} is a token of the tokenizer, and its vector a row of the encoder's table; of both
    where there are two.

    Whatever encodes prompts by these then knows the concepts. Afterwards they are the very objects
    that they were, unless textual inversions came or went meanwhile: those stay.
    """
    side = text_encoders(pipe)
    with ExitStack() as block:
        for reader, own in zip(side.readers, side.words(words), strict=True):
            block.enter_context(tokens_of_one(pipe, reader, own))
        yield


@contextmanager
def tokens_of_one(pipe: Any, reader: Reader, words: Mapping[str, Word]) -> Iterator[None]:
    tokenizer, encoder = reader.tokenizer, reader.model
    names = [in_braces(name) for name in words]
    plain, table = tokenizer._tokenizer, encoder.get_input_embeddings()
    rows = table.weight
    tokenizer._tokenizer = Tokenizer.from_str(plain.to_str())
    with_spaces(tokenizer)
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
    ids, known = tokenizer.convert_tokens_to_ids(names), len(tokenizer)
    more = rows.new_zeros(max(len(rows), max(ids) + 1), rows.shape[1])
    more[: len(rows)] = rows.detach()
    more[ids] = torch.stack(
        [word.vector.detach().to(rows) for word in words.values() if word.vector is not None]
    )
    ours = table.weight = nn.Parameter(more, requires_grad=False)
    try:
        yield
    finally:
        now = encoder.get_input_embeddings()
        if now is table and now.weight.shape == ours.shape and len(tokenizer) == known:
            if not now.weight.is_meta:  # else its numbers are with an offload, elsewhere
                rows.data = rows.data.to(now.weight)  # the pipeline may have moved, or be in halves
            tokenizer._tokenizer, table.weight = plain, rows
        elif there := [name for name in names if name in tokenizer.added_tokens_encoder]:
            from diffusers.loaders import TextualInversionLoaderMixin

            TextualInversionLoaderMixin.unload_textual_inversion(pipe, there, tokenizer, encoder)
            with_spaces(tokenizer)


def with_spaces(tokenizer: Any) -> None:
    """What transformers does to a CLIP tokenizer once, and forgets of a new one behind it: decoded
    words have spaces between them, where there would be their end marks.
    """
    if (wrap := getattr(tokenizer, "_wrap_decode_method_backend_tokenizer", None)) is not None:
        wrap()


# ---- adapters ----


@contextmanager
def behind(unet: Any, layers: Mapping[str, Any]) -> Iterator[None]:
    """Adapters that are loaded inside the block go to the plain layers, behind the edit."""
    unet = getattr(unet, "_orig_mod", unet)  # of a compiled one

    def door(original: Callable[..., Any]) -> Callable[..., Any]:
        def adapt(*args: Any, **kwargs: Any) -> Any:
            with plain_layers(layers):
                return original(*args, **kwargs)

        return adapt

    doors = [name for name in ADAPTING if hasattr(unet, name)]
    for name in doors:
        setattr(unet, name, door(getattr(unet, name)))
    try:
        yield
    finally:
        for name in doors:
            delattr(unet, name)


def keys_kept(
    pipe: Any, words: Mapping[str, Word], layers: Mapping[str, Any], e_super: torch.Tensor
) -> Callable[[Callable[[str], torch.Tensor]], None]:
    """The text encoder's adapters may come, go and be scaled inside the block: before a prompt is
    encoded, keys are moved to where the super-categories are now. `encode`: of a text, [M, d].
    """
    locked = [layer.to_k for layer in layers.values() if isinstance(layer.to_k, LockedKeys)]
    before, there = e_super, adapted(pipe)

    def keep(encode: Callable[[str], torch.Tensor]) -> None:
        nonlocal before, there
        had, there = there, adapted(pipe)
        if not locked or not (had or there):
            return
        found = []
        for word in words.values():
            at = text_encoders(pipe).initial_place(word.text)
            found.append(encode(INITIAL.format(word.text))[at].float())
        now = torch.stack(found).to(before.device)
        if not torch.equal(now, before):
            for side in locked:
                side.keep_at(now)
        before = now

    return keep


def adapted(pipe: Any) -> bool:
    """Whether a text encoder has adapters now."""
    models = [reader.model for reader in text_encoders(pipe).readers]
    return any(hasattr(module, "base_layer") for model in models for module in model.modules())


@contextmanager
def plain_layers(layers: Mapping[str, Any]) -> Iterator[None]:
    """The plain layers in their places; afterwards the edit before whatever stands there then."""
    edited = [
        (layer, side, getattr(layer, side))
        for layer in layers.values()
        for side in ("to_k", "to_v")
    ]
    edited = [found for found in edited if isinstance(found[2], EditedProjection)]
    for layer, side, edit in edited:
        setattr(layer, side, edit.plain)
    try:
        yield
    finally:
        for layer, side, edit in edited:
            edit.stand_before(getattr(layer, side))
            setattr(layer, side, edit)
