"""Embeddings of other programs in a pipeline: one more word, of one vector or several.

In: a safetensors file of one tensor, or of one for each of two text encoders. Out: the pipeline
with that word, loaded by diffusers; afterwards its own tokenizers and text encoders again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from baselines.adapter_files import read, silent, some
from perfusion_core.errors import UserError
from perfusion_core.text_encoders import FILE_KEYS

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone
    from perfusion_core.text_encoders import Reader


@contextmanager
def embedding(backbone: Backbone, file: Path, name: str, *, word: str) -> Iterator[None]:
    """One more word, of one vector or several, in copies of tokenizers and text encoders."""
    pipe, readers = backbone.pipe, backbone.text.readers
    each = vectors_of(read(file, name), backbone, name)
    plain: dict[str, Any] = {}
    for reader in readers:
        plain |= {reader.part: reader.model, tokenizer_of(reader): reader.tokenizer}
    other: dict[str, Any] = copy.deepcopy(plain)
    for reader, vectors in zip(readers, each, strict=True):
        model = other[reader.part]
        with silent():
            pipe.load_textual_inversion(
                {word: vectors},
                token=word,
                tokenizer=other[tokenizer_of(reader)],
                text_encoder=model,
            )
        table = model.get_input_embeddings().weight
        assert torch.equal(table[-len(vectors) :].cpu(), vectors.to(table.dtype)), "not the file's"
        model.requires_grad_(False).eval()
    try:
        for part, one in other.items():
            setattr(pipe, part, one)
        yield
    finally:
        for part, one in plain.items():
            setattr(pipe, part, one)


def tokenizer_of(reader: Reader) -> str:
    """What the pipeline calls the tokenizer of a text encoder."""
    return reader.part.replace("text_encoder", "tokenizer")


def vectors_of(
    tensors: Mapping[str, torch.Tensor], backbone: Backbone, name: str
) -> list[torch.Tensor]:
    """[n, d] for each text encoder: of a file of one tensor, diffusers' `<word>` or A1111's and
    kohya's `emb_params`; of one for Stable Diffusion XL, its `clip_l` and `clip_g`."""
    readers = backbone.text.readers
    keys = named(tensors, backbone, name)
    each, fresh = [], False
    for reader, key in zip(readers, keys, strict=True):
        tensor = tensors[key]
        vectors = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
        table = reader.model.get_input_embeddings().weight
        most = reader.tokenizer.model_max_length - 2
        if vectors.ndim != 2 or vectors.shape[1] != table.shape[1] or not 0 < len(vectors) <= most:
            raise UserError(
                f"{name}: {key} has the shape {tuple(tensor.shape)}, and the backbone "
                f"{backbone.name} takes 1 to {most} vectors of {table.shape[1]} numbers"
            )
        first = vectors[0].to(table.dtype)
        fresh |= not bool((table.cpu() == first).all(1).any())
        each.append(vectors)
    if len({len(vectors) for vectors in each}) > 1:
        told = " and ".join(f"{len(one)} in {key}" for key, one in zip(keys, each))
        raise UserError(
            f"{name}: a word has as many vectors for each text encoder, and there are {told}; save "
            f"it again"
        )
    if not fresh:
        raise UserError(
            f"{name} changes nothing: {' and '.join(keys)} is still the embedding of a plain word; "
            f"name a file that was trained"
        )
    return each


def named(tensors: Mapping[str, torch.Tensor], backbone: Backbone, name: str) -> tuple[str, ...]:
    """The key of each text encoder's vectors."""
    if not backbone.text.joint:
        if set(FILE_KEYS) & set(tensors):
            raise UserError(
                f"{name} holds {some(tensors)}: it was made for Stable Diffusion XL, which this "
                f"backbone is not"
            )
        if len(tensors) != 1:
            raise UserError(f"{name}: an embedding is one tensor, and these are {some(tensors)}")
        return tuple(tensors)
    if set(tensors) != set(FILE_KEYS):
        raise UserError(
            f"{name}: an embedding for the two text encoders of the backbone {backbone.name} is "
            f"{' and '.join(FILE_KEYS)}, and these are {some(tensors)}; give one that was trained "
            f"for Stable Diffusion XL"
        )
    return FILE_KEYS
