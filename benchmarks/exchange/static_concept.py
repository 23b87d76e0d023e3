"""Concepts as a static change of K and V: the gate of Eq. 4 replaced by a linear probe.

In: a pipeline, concepts, an operating point, captions. Out: thin factors of every projection, what
the probe tells of the gate on captions that it was not fitted to, and how far K and V are off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.exchange.gate_captions import Captions, texts_of
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.covariance import CONDITION
from perfusion_core.editing import make_edit, o_star_k, o_star_v, super_encodings
from perfusion_core.errors import UserError
from perfusion_core.prompts import Word
from perfusion_core.rank_one import Edit, split
from perfusion_core.static_map import (
    Factors,
    Moments,
    balanced,
    energies,
    explained,
    of_rank,
    probes,
    square_root,
    static_factors,
)
from perfusion_core.text_encoders import text_encoders

BATCH = 32  # captions encoded at a time
EMPTY = 0.25  # part of the weight that the empty prompt has: guidance draws it in every step
RIDGE = 1 / CONDITION  # as much as C's own inverse is held back by
HALF = torch.float16


@dataclass(frozen=True)
class Errors:
    """|map - edit| / |edit| of K and V, the layers alike, on held-out captions."""

    word_k: float
    word_v: float
    prompt_k: float
    prompt_v: float


@dataclass(frozen=True)
class Static:
    """Factors in half precision by the name of their projection, and what was measured."""

    factors: dict[str, Factors]  # "down_blocks.0.attentions.0....attn2.to_k"
    rank: int
    explained: dict[str, float]  # R^2 of each concept's gate; 1 where it is linear
    errors: Errors
    captions: str  # where the texts came from
    fitted_on: int  # texts


@dataclass(frozen=True)
class Seen:
    """Moments over texts: every token and the empty prompt; the concepts' words alone."""

    prompt: Moments
    word: Moments


def full_rank(concepts: Mapping[str, Concept]) -> int:
    """Of the best map: one a concept, and one more where its gate is not linear."""
    return len(concepts) + sum(concept.gate != "linear" for concept in concepts.values())


@torch.no_grad()
def static_concepts(
    pipe: Any,
    concepts: Mapping[str, Concept],
    captions: Captions,
    bias: list[float],
    temperature: list[float],
    rank: int,
) -> Static:
    layers = cross_attentions(pipe.unet)
    edit = make_edit(pipe, concepts, bias, temperature, None)
    supers = {name: concept.super_category for name, concept in concepts.items()}
    fit, held = (
        texts_of(part, supers, pipe.tokenizer) for part in (captions.fit, captions.held_out)
    )
    if not fit or not held:
        raise UserError(
            f"none of the captions ({captions.source}) is short enough for this text encoder; give "
            f"others: --captions FILE"
        )
    fitted, judged = (seen(pipe, concepts, edit, part) for part in (fit, held))
    basis, linear = edit.basis, edit.linear
    a = probes(fitted.prompt, RIDGE)
    a[:, linear] = basis.sim[:, linear]
    root = square_root(fitted.prompt)
    o_k = o_star_k(super_encodings(pipe, concepts), concepts, layers)
    o_v = o_star_v(concepts)
    found: dict[str, Factors] = {}
    wrong: dict[str, list[list[float]]] = {"to_k": [], "to_v": []}
    for (name, layer), *o_stars in zip(layers.items(), o_k, o_v, strict=True):
        for side, o_star in zip(wrong, o_stars, strict=True):
            weight = getattr(layer, side).weight.detach().to(basis.u.device)
            o_star = o_star.to(basis.u.device)
            whole = static_factors(weight, o_star, basis, a, linear)
            if rank < whole.up.shape[1]:
                whole = of_rank(whole, root, rank)
            low = Factors(*(part.to(HALF) for part in balanced(whole)))
            found[f"{name}.{side}"] = Factors(*(part.cpu().contiguous() for part in low))
            parts = [
                energies(moments, weight, o_star, basis, low)
                for moments in (judged.word, judged.prompt)
            ]
            wrong[side].append([error / max(size, 1e-30) for error, size in parts])
    (word_k, prompt_k), (word_v, prompt_v) = (
        [(sum(column) / len(column)) ** 0.5 for column in zip(*wrong[side])] for side in wrong
    )
    told = explained(judged.prompt, a).tolist()
    return Static(
        factors=found,
        rank=rank,
        explained=dict(zip(concepts, told, strict=True)),
        errors=Errors(word_k, word_v, prompt_k, prompt_v),
        captions=captions.source,
        fitted_on=len(fit),
    )


def seen(pipe: Any, concepts: Mapping[str, Concept], edit: Edit, texts: Sequence[str]) -> Seen:
    """Tokens weigh alike, padding too: the U-Net reads it. The empty prompt has its part; where
    that is zeros, as for XL, no map can give what the gate does there, and R^2 tells so."""
    side = text_encoders(pipe)
    words = {name: Word(one.super_category, one.embedding) for name, one in concepts.items()}
    prompt: Moments | None = None
    word: Moments | None = None
    for start in range(0, len(texts), BATCH):
        some = list(texts[start : start + BATCH])
        read = side.encode(some, words)
        e, positions = read.encodings.double().cpu(), read.positions  # as the basis is
        gates = split(e, edit.basis, edit.bias, edit.temperature, edit.gate)[1]
        at = torch.zeros(e.shape[:2])
        for row, places in enumerate(positions):
            at[row, [m for found in places.values() for m in found]] = 1
        flat = e.flatten(0, 1), gates.flatten(0, 1)
        every = Moments.of(*flat, torch.ones_like(at).flatten())
        there = Moments.of(*flat, at.flatten())
        prompt = every if prompt is None else prompt + every
        word = there if word is None else word + there
    assert prompt is not None and word is not None, "captions are never empty"
    e = side.encode([""], words).encodings.double().cpu()
    if side.joint and pipe.config.force_zeros_for_empty_prompt:
        e = torch.zeros_like(e)
    gates = split(e, edit.basis, edit.bias, edit.temperature, edit.gate)[1]
    none = Moments.of(e[0], gates[0], torch.ones(e.shape[1]))
    parts = (prompt.times((1 - EMPTY) / float(prompt.weight)), none.times(EMPTY / e.shape[1]))
    return Seen(parts[0] + parts[1], word)
