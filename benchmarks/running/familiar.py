"""Is a concept something that the miniature can draw? Asked before anything is trained.

In: concepts, models. Out: a warning, empty where all is well. The scorer says how near a concept's
pictures are to the word for their kind; the shipped concepts, which are drawn, are the measure. The
VAE does not tell: it reconstructs photographs as well as drawings.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.paths import DRAWN_WORLD
from benchmarks.planning.backbones import Models, vae_note
from benchmarks.suite.catalog import load_catalog
from benchmarks.suite.concept_folder import Concept
from benchmarks.suite.image_files import load_rgb

SHARE = 0.5  # of the farthest shipped concept's nearness; measured: docs/miniature.md
PICTURES = 8  # of each that are looked at


def warnings_of(concepts: Sequence[Concept], models: Models, device: str) -> list[str]:
    """Sentences for whoever is about to train: on the concepts, and on the VAE."""
    return list(filter(None, (warning(concepts, models, device), vae_note(models))))


def warning(concepts: Sequence[Concept], models: Models, device: str) -> str:
    """One sentence for all concepts that look like nothing the shipped miniature draws."""
    drawn = (*load_catalog("miniature").concepts, *load_catalog("tuning").concepts)
    known = {concept.digest for concept in drawn}
    asked = [concept for concept in concepts if concept.digest not in known]
    if models.name not in DRAWN_WORLD or not asked:
        return ""
    from benchmarks.scoring.scorers import open_scorer

    scorer = open_scorer(models.scorers[0] if models.scorers else models.selector, device)
    near = partial(nearness, scorer, models.size)
    least = SHARE * min(map(near, drawn))
    strange = [concept.name for concept in asked if near(concept) < least]
    if not strange:
        return ""
    return (
        f"{', '.join(strange)} {'looks' if len(strange) == 1 else 'look'} like nothing that the "
        f"miniature draws: it is a drawn world that has seen no photograph, and will not learn "
        f"this one; photographs need --backbone sd15"
    )


def nearness(scorer: Any, size: int, concept: Concept) -> float:
    """Mean cosine of a concept's pictures with the word for their kind; high where nobody knows."""
    if scorer.text is None or not concept.images:
        return float("inf")
    seen = [Image.fromarray(load_rgb(path, size)) for path in concept.images[:PICTURES]]
    features = scorer.images(seen)
    return float(np.mean(features @ scorer.text(f"A {concept.super_category}")))
