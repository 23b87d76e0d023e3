"""The truth as a scorer: wishes of prompts, shares of them, identity apart from the place; refused
without judges.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.miniature.training.judges import JUDGES, make_judge, open_judges, write_judges
from benchmarks.miniature.world.picture import Picture, make_instance, render
from benchmarks.scoring import truth
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import of_concept, open_scorer
from perfusion_core.errors import UserError


@pytest.fixture
def weights(tmp_path):
    """Judges who know nothing: what they say is arbitrary, and the same each time."""
    torch.manual_seed(0)
    write_judges({name: make_judge(name).eval() for name in JUDGES}, tmp_path / "judges", {})
    return tmp_path


def test_wishes_are_what_a_prompt_names_and_no_more():
    wishes = truth.wishes()
    assert len(wishes) == 86
    assert wishes["A on the moon"] == (("scene", "moon"),)
    assert set(wishes["A is acting in a play wearing a costume"]) == {
        ("scene", "stage"), ("wear", "costume"), ("do", "act")}  # fmt: skip
    assert wishes["A golden"] == (("material", "gold"),)
    assert wishes["A cat wearing"] == ()


def test_a_text_weighs_what_is_seen_and_a_concept_who_is_seen(weights):
    scorer = open_scorer(find_scorer("truth", "made", weights), "cpu")
    pixels = np.stack([render(Picture(make_instance("cat", k), scene), k)[0]
                       for k, scene in enumerate(("moon", "beach", "snow"))])  # fmt: skip
    pictures = [Image.fromarray(p) for p in pixels]
    judges, text = open_judges(weights), "A is acting in a play wearing a costume"
    said = judges.factors(pixels)
    share = np.mean([said[name] == value for name, value in truth.wishes()[text]], axis=0)
    features = scorer.images(pictures)
    assert np.allclose(features @ scorer.text(text), share)
    who = judges.identity(pixels)
    assert np.allclose(features @ of_concept(scorer, pictures).T, who @ who.T, atol=1e-6)
    assert np.isnan(features @ scorer.text("A cat wearing")).all()


def test_it_is_refused_without_judges_and_for_choosing_steps(weights, tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="needs judges"):
        find_scorer("truth", "other", tmp_path / "plain")
    with pytest.raises(UserError, match="unknown scorer 'truth'"):
        find_scorer("truth", "made", weights, selects=True)
