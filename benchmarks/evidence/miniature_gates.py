"""Where a concept's gate opens, over all prompts; how far the super-category's pictures are from
the concept's; what a word without a meaning is to the text encoder.

In: an open backbone and the catalogue. Out: `Figure`s, and a row for every token, as perfusion_core
computes them.
"""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence.miniature_measures import Figure, Rows, looks, mean_figure, share_of
from benchmarks.miniature.opening import drawn
from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import RARE
from benchmarks.scoring.scorers import Clip
from benchmarks.scoring.similarity import ceiling, image_similarity
from benchmarks.suite.catalog import Catalog, fill
from benchmarks.suite.concept_folder import Concept
from benchmarks.suite.image_files import load_mask, load_rgb
from perfusion_core import perfusion
from perfusion_core.backbone import Backbone
from perfusion_core.concept import Concept as Learned
from perfusion_core.prompts import Word, named
from perfusion_core.rank_one import concept_basis
from perfusion_core.subject import Subject

OPEN, SHUT, MOST = 0.7, 0.3, 0.95


@torch.inference_mode()
def ratios(
    backbone: Backbone, catalog: Catalog, concept: Concept, learned: Learned | None = None
) -> Rows:
    """The gate's argument before bias and temperature, sim(i*, e) / |i*|^2, at every token of the
    concept's prompts.
    """
    text, tokenizer = backbone.text, backbone.tokenizer
    word = Word(concept.super_category, None if learned is None else learned.embedding)
    i_star = text.super_encoding(concept.super_category) if learned is None else learned.i_star
    basis = concept_basis(i_star[None].to(backbone.device), backbone.c_inv)
    prompts = catalog.prompts_for(concept)
    texts = [named(prompt.template, "it") for prompt in prompts]
    ids, _ = text.tokenize(texts, {"it": word})
    found = text.encode(texts, {"it": word})
    values = (found.encodings.double() @ basis.sim)[..., 0].cpu().numpy()  # [prompts, M]
    rows: Rows = []
    for prompt, row, where, value in zip(prompts, ids[0].tolist(), found.positions, values):
        end = row.index(tokenizer.eos_token_id, 1)
        for m, ratio in enumerate(value):
            role = "begin" if m == 0 else "end" if m == end else "pad" if m > end else "word"
            if m in where["it"]:
                role = "concept"
            token = tokenizer.convert_ids_to_tokens(row[m]).removesuffix("</w>")
            rows.append(
                {
                    "concept": concept.name,
                    "super_category": concept.super_category,
                    "prompt_id": prompt.id,
                    "position": m,
                    "token": token,
                    "role": role,
                    "ratio": float(ratio),
                }
            )
    return rows


def figures(rows: Rows, title: str) -> list[Figure]:
    """The gate at the concept, at other words, at the end token and at pads."""
    by = {
        role: np.array([r["ratio"] for r in rows if r["role"] == role])
        for role in ("concept", "word", "end", "pad")
    }
    words = [row for row in rows if row["role"] == "word"]
    shut = np.array([row["ratio"] <= SHUT for row in words])
    asked = [f"{row['concept']} {row['prompt_id']}" for row in words]
    low, worst = by["concept"].min(), max(words, key=lambda row: row["ratio"])
    note = (
        f"highest {worst['ratio']:.2f} at {worst['token']!r} in {worst['prompt_id']} of "
        f"{worst['super_category']}"
    )
    found = [
        Figure(
            f"{title}: lowest at the concept's word",
            float(low),
            len(by["concept"]),
            OPEN,
            note=f"mean {by['concept'].mean():.2f}",
        ),
        share_of(f"{title}: other words at most {SHUT}", shut, asked, MOST, note),
    ]
    for role, name in (("end", "end token"), ("pad", "pads")):
        note = f"90th percentile {np.percentile(by[role], 90):.2f}, highest {by[role].max():.2f}"
        found.append(
            Figure(f"{title}: mean at the {name}", float(by[role].mean()), len(by[role]), note=note)
        )
    return found


def before(backbone: Backbone, catalog: Catalog) -> tuple[list[Figure], Rows]:
    """i* as Perfusion starts it: the super-category's encoding in "A photo of a ..."."""
    rows = [row for concept in catalog.concepts for row in ratios(backbone, catalog, concept)]
    return figures(rows, "gate"), rows


def after(backbone: Backbone, catalog: Catalog) -> tuple[list[Figure], Rows]:
    """The same once Perfusion has learned the tuning concepts."""
    rows: Rows = []
    for concept in catalog.concepts:
        with tempfile.TemporaryDirectory() as folder:
            perfusion.fit(
                backbone,
                subject(concept, backbone.size),
                perfusion.MINIATURE,
                Path(folder) / "fit",
                seed=0,
            )
            learned = Learned.load(Path(folder) / "fit" / perfusion.ONE_FILE)
        rows += ratios(backbone, catalog, concept, learned)
    return figures(rows, "gate after fitting"), rows


def subject(concept: Concept, size: int) -> Subject:
    images = np.stack([load_rgb(path, size) for path in concept.images])
    masks = np.stack([load_mask(path, size) for path in concept.masks])
    return Subject.of_pixels(
        concept.name, concept.super_category, images, masks, concept.asymmetric
    )


@torch.inference_mode()
def rare_word(backbone: Backbone, catalog: Catalog) -> list[Figure]:
    """How far a word without a meaning moves the encoding, beside one colour for another; the unit
    is the class.
    """
    classes = sorted({concept.super_category for concept in catalog.concepts})

    def said(word: str) -> torch.Tensor:  # [classes, M, d]
        return backbone.encode([f"a photo of {word} {cls}" for cls in classes]).double()

    plain = said("a")
    rare = torch.stack([(said(word) - plain).norm(dim=-1) for word in RARE])
    color = torch.stack([(one - other).norm(dim=-1) for one, other in pairwise(map(said, COLORS))])
    # of the word; here the end token stands
    place = len(backbone.tokenizer("a photo of").input_ids) - 1
    note = f"at the word's own place {rare[..., place].mean() / color[..., place].mean():.2f}"
    values = (rare.norm(dim=-1).mean(0) / color.norm(dim=-1).mean(0)).cpu()
    return [
        mean_figure(
            "a word without a meaning: its effect on the encoding, a colour's being 1",
            values,
            note=note,
        )
    ]


def super_gap(
    backbone: Backbone, scorer: Clip, catalogs: Sequence[Catalog], n: int
) -> tuple[list[Figure], Rows]:
    """Real against real less super-category against real, in image similarity over the
    shape-preserving prompts.
    """
    rows: Rows = []
    features: dict[str, np.ndarray] = {}
    for catalog in catalogs:
        prompts = catalog.select_prompts("shape")
        for concept in catalog.concepts:
            word = concept.super_category
            if word not in features:
                texts = [fill(prompt.template, word) for prompt in prompts for _ in range(n)]
                seeds = stream("verify", "super", word).integers(2**31, size=len(texts))
                features[word] = looks(
                    scorer, drawn(backbone, texts, [int(seed) for seed in seeds])
                )
            real = looks(
                scorer, np.stack([load_rgb(path, backbone.size) for path in concept.images])
            )
            top, low = (
                float(ceiling(real).mean()),
                float(image_similarity(features[word], real).mean()),
            )
            rows.append({"concept": concept.name, "ceiling": top, "super": low, "gap": top - low})
    worst: dict[str, Any] = min(rows, key=lambda row: row["gap"])
    mean = mean_figure("super below the ceiling, mean over concepts", [row["gap"] for row in rows])
    least = Figure(
        "super below the ceiling, closest concept",
        worst["gap"],
        len(rows),
        0.05,
        note=worst["concept"],
    )
    return [least, mean], rows
