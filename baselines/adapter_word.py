"""Embeddings of other programs in a pipeline: one more word, of one vector or several.

In: a safetensors file of one tensor. Out: the pipeline with that word, loaded by diffusers;
afterwards its own tokenizer and text encoder again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from baselines.adapter_files import read, silent, some
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone


@contextmanager
def embedding(backbone: Backbone, file: Path, name: str, *, word: str) -> Iterator[None]:
    """One more word, of one vector or several, in a copy of tokenizer and text encoder."""
    pipe = backbone.pipe
    plain = pipe.tokenizer, pipe.text_encoder
    vectors = vectors_of(read(file, name), backbone, name)
    tokenizer, text_encoder = copy.deepcopy(plain[0]), copy.deepcopy(plain[1])
    with silent():
        pipe.load_textual_inversion(
            {word: vectors}, token=word, tokenizer=tokenizer, text_encoder=text_encoder
        )
    table = text_encoder.get_input_embeddings().weight
    assert torch.equal(table[-len(vectors) :].cpu(), vectors.to(table.dtype)), "not the file's"
    text_encoder.requires_grad_(False).eval()
    pipe.tokenizer, pipe.text_encoder = tokenizer, text_encoder
    try:
        yield
    finally:
        pipe.tokenizer, pipe.text_encoder = plain


def vectors_of(tensors: Mapping[str, torch.Tensor], backbone: Backbone, name: str) -> torch.Tensor:
    """[n, d] of a file of one tensor: diffusers' `<word>`, or A1111's and kohya's `emb_params`."""
    if {"clip_l", "clip_g"} & set(tensors):
        raise UserError(
            f"{name} holds {some(tensors)}: it was made for Stable Diffusion XL, which this "
            f"backbone is not"
        )
    if len(tensors) != 1:
        raise UserError(f"{name}: an embedding is one tensor, and these are {some(tensors)}")
    [(key, tensor)] = tensors.items()
    vectors = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
    table = backbone.text_encoder.get_input_embeddings().weight
    most = backbone.tokenizer.model_max_length - 2
    if vectors.ndim != 2 or vectors.shape[1] != table.shape[1] or not 0 < len(vectors) <= most:
        raise UserError(
            f"{name}: {key} has the shape {tuple(tensor.shape)}, and the backbone {backbone.name} "
            f"takes 1 to {most} vectors of {table.shape[1]} numbers"
        )
    if any(bool((table.cpu() == vector.to(table.dtype)).all(1).any()) for vector in vectors[:1]):
        raise UserError(
            f"{name} changes nothing: {key} is still the embedding of a plain word; name a file "
            f"that was trained"
        )
    return vectors
