"""Perfusion on the trained miniature: what it draws, and what storing and batching change."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.cli import run
from benchmarks.paths import data_dir, miniature_dir
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import open_scorer
from benchmarks.scoring.similarity import image_similarity
from perfusion_core.backbone import Backbone
from perfusion_core.concept import Concept
from perfusion_core.editing import load_concepts
from perfusion_core.sampling import sample

pytestmark = pytest.mark.slow
MUG = data_dir("concepts") / "tuning" / "mug"  # never one of the eleven
PROMPTS = ("on the beach", "in the snow", "on the moon")


@pytest.fixture(scope="module")
def mug(tmp_path_factory):
    """A fit of the usual recipe, kept in float32."""
    out = tmp_path_factory.mktemp("fit") / "mug.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Concept.save, "__defaults__", (torch.float32,))
        assert (
            run(["fit", "perfusion", "--concept", str(MUG), "--steps", "100", "--out", str(out)])
            == 0
        )
    return out


@pytest.fixture(scope="module")
def scorer():
    return open_scorer(find_scorer("auto", "miniature", miniature_dir()), "cpu")


@pytest.fixture(scope="module")
def float32():
    return Backbone.open(miniature_dir(), device="cpu", dtype="float32")


def draw(backbone, concept, word="{mug}", batch=8):
    """Pictures [prompts x 8], in batches of `batch`."""
    pictures = []
    with load_concepts(backbone.pipe, {"mug": concept}, bias=0.6, c_inv=backbone.c_inv):
        for prompt in PROMPTS:
            for first in range(0, 8, batch):
                pictures.append(sample(backbone, f"A {word} {prompt}", range(first, first + batch)))
    return np.concatenate(pictures)


def score(scorer, pictures):
    """Image and text similarity of all pictures together, as the tables have them."""
    real = scorer.images([Image.open(path) for path in sorted((MUG / "images").iterdir())])
    features = scorer.images([Image.fromarray(picture) for picture in pictures])
    texts = np.stack([scorer.text(f"A {prompt}") for prompt in PROMPTS for _ in range(8)])
    return np.array([image_similarity(features, real).mean(), (features * texts).sum(1).mean()])


def test_float16_storage(float32, scorer, mug, tmp_path):
    Concept.load(mug).save(tmp_path / "half.safetensors", torch.float16)
    full, half = (
        score(scorer, draw(float32, path)) for path in (mug, tmp_path / "half.safetensors")
    )
    assert np.abs(full - half).max() < 1e-3


def test_batches_in_bfloat16(scorer, mug):
    backbone = Backbone.open(miniature_dir(), device="cpu", dtype="bfloat16")
    together, alone = draw(backbone, mug), draw(backbone, mug, batch=1)
    assert np.abs(together.astype(int) - alone).mean() <= 1
    assert np.abs(score(scorer, together) - score(scorer, alone)).max() < 0.003


def test_bfloat16_against_float32(float32, scorer, mug):
    low = Backbone.open(miniature_dir(), device="cpu", dtype="bfloat16")
    assert np.abs(score(scorer, draw(low, mug)) - score(scorer, draw(float32, mug))).max() < 0.003


def test_the_concept_is_carried_into_new_scenes(float32, scorer, mug):
    word = Concept.load(mug).super_category
    with_it, plain = score(scorer, draw(float32, mug)), score(scorer, draw(float32, mug, word=word))
    assert with_it[0] > plain[0] + 0.02  # looks more like the mug
    assert with_it[1] > 0.8 * plain[1]  # and still follows the prompt
