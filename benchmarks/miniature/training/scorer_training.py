"""How the scorers are trained: an open_clip model each, with its own seed and size.

In: a workshop and `scorer` or `scorer2`. Out: that stage on disk; the scorer, averaged.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import Pictures
from benchmarks.miniature.training.workshop import Loss, Workshop
from benchmarks.miniature.world.picture import CLASSES

SEEDS = {"scorer": 13, "scorer2": 14}
SCALE = 20  # of the cosines between pictures
HIGHEST = 60  # scale of the cosines with texts, which is learned


def scorer_module(shop: Workshop, name: str) -> Any:
    shop.seed(SEEDS[name])
    scorer: Any = networks.make_scorer(name, len(shop.tokenizer)).to(shop.device)
    scorer.visual.to(memory_format=shop.layout)
    return scorer


def train_scorer(shop: Workshop, minutes: float, name: str) -> None:
    recipe, scorer = shop.recipe, scorer_module(shop, name).train()
    stage = Stage({"scorer": scorer}, shop.file(name), lr=recipe.scorer_lr)
    look, pairs = shop.compiled(scorer.visual), _pairs(shop.pictures)

    def step(rng: np.random.Generator) -> Loss:
        # Pairs of one instance.
        index = _twins(shop.pictures, pairs, rng, recipe.scorer_batch)
        ids = shop.texts(index, rng, recipe.drop_word)
        x = scorer_input(shop.images(index))
        # Both towers look.
        with shop.half():
            seen = F.normalize(look(x), dim=-1).float()
            said = F.normalize(scorer.encode_text(ids), dim=-1).float()
        # Contrastive loss, both ways.
        logits = scorer.logit_scale.exp().clamp(max=HIGHEST) * said @ seen.T  # [batch, batch]
        same = torch.arange(len(index), device=shop.device)
        clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        # Find the other picture.
        alike = SCALE * seen @ seen.T
        alike.fill_diagonal_(-1e4)
        twin = F.cross_entropy(alike, same ^ 1)
        hit = (alike.argmax(1) == (same ^ 1)).float().mean()
        return clip + recipe.same_instance * twin, {"clip": clip, "twin": twin, "hit": hit}

    shop.loop(stage, name, minutes, step)


def trained_scorer(shop: Workshop, name: str) -> Any:
    """A trained scorer, averaged."""
    scorer = scorer_module(shop, name)
    shop.average(name, {"scorer": scorer})
    return scorer


def _pairs(pictures: Pictures) -> list[np.ndarray]:
    """Of every class: the first of each two neighbours, which show one instance."""
    return [2 * np.flatnonzero(pictures.labels[::2, 0] == c) for c in range(len(CLASSES))]


def _twins(
    pictures: Pictures, pairs: list[np.ndarray], rng: np.random.Generator, n: int, classes: int = 6
) -> np.ndarray:
    """n / 2 pairs of neighbours, each an instance twice, of a few classes: strangers in a batch
    look alike.
    """
    chosen = pictures.labels[rng.integers(len(pictures), size=classes), 0]
    parts = np.array_split(np.arange(n // 2), classes)
    first = np.concatenate([rng.choice(pairs[c], len(part)) for c, part in zip(chosen, parts)])
    return np.stack([first, first + 1], axis=1).ravel()


def scorer_input(x: torch.Tensor) -> torch.Tensor:
    """From [-1, 1] to the scorer's own normalisation."""
    mean, std = networks.SCORER_PREPROCESS["mean"][0], networks.SCORER_PREPROCESS["std"][0]
    return ((x + 1) / 2 - mean) / std
