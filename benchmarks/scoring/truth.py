"""The truth as a scorer, for the miniature alone: is it this instance, is there what the prompt
asks for?

In: pictures, and texts as scores use them. Out: vectors; a dot product is the true identity or the
share of wishes met.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.miniature.training.judges import JUDGED, open_judges
from benchmarks.miniature.training.training_data import FACTORS
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import PIXELS
from benchmarks.suite.catalog import fill, leave_out, load_catalog
from perfusion_core.errors import UserError

WISHES = tuple(name for name in JUDGED if name != "cls")  # the object's word is left out of texts
PLACES = [(name, value) for name in WISHES for value in FACTORS[name]]  # of a vector's second part
GUESSES = 8  # readings of a prompt: what differs between them was not asked for


class Truth:
    """The judges' vectors of identity, then what they see of each factor."""

    def __init__(self, weights: Path, device: str) -> None:
        self.judges = open_judges(weights, device)
        self.width = self.judges.identity(np.zeros((1, PIXELS, PIXELS, 3), np.uint8)).shape[1]

    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, identity + factors]"""
        pixels = np.stack([np.asarray(picture.resize((PIXELS, PIXELS))) for picture in pictures])
        said = self.judges.factors(pixels)
        seen = np.array(
            [[said[name][k] == value for name, value in PLACES] for k in range(len(pixels))]
        )
        return np.concatenate([self.judges.identity(pixels), seen.astype(np.float32)], axis=1)

    def concept(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The same of a concept's own pictures: who it is, not where it stands."""
        return self.images(pictures) * np.repeat([1, 0], [self.width, len(PLACES)])

    def text(self, text: str) -> np.ndarray:
        """[identity + factors]: dot product with a picture's vector is the share of wishes that it
        meets.
        """
        asked = wishes().get(text, ())
        found = np.array([place in asked for place in PLACES], dtype=np.float32)
        share = found / len(asked) if asked else np.full(len(PLACES), np.nan)
        return np.concatenate([np.zeros(self.width), share])


@cache
def wishes() -> dict[str, tuple[tuple[str, str], ...]]:
    """Of every prompt, by its text without the object: the factors' values that it names."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    catalog = load_catalog()
    for concept in catalog.concepts:
        for prompt in catalog.prompts_for(concept):
            bare = leave_out(prompt.template)
            if bare in found:
                continue
            text = fill(prompt.template, concept.super_category)
            guesses = [read(text, seed=seed) for seed in range(GUESSES)]
            values = {name: {getattr(picture, name) for picture in guesses} for name in WISHES}
            asked = [
                (name, said.pop())
                for name, said in values.items()
                if len(said) == 1 and said != {None}
            ]
            found[bare] = tuple(asked)
    return found


def granted(said: Mapping[str, np.ndarray], text: str) -> np.ndarray:
    """Of pictures, by what the judges said of them: which show all that the prompt asks for."""
    if text not in wishes():
        raise UserError(
            f"nobody knows what {text!r} asks for; the prompts of the miniature are known"
        )
    right = np.ones(len(said[WISHES[0]]), dtype=bool)
    for name, value in wishes()[text]:
        right &= said[name] == value
    return right
