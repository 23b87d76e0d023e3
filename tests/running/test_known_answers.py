"""Known answers of measures by the miniature's own scorer, on pictures that the world renders: who
follows the prompt and who is deaf to it, who draws the concept and who draws anything.
"""

import pandas as pd
import pytest
from PIL import Image

from benchmarks import cli
from benchmarks.miniature.shipped import instance_of
from benchmarks.miniature.world.instance import make_instance
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import CLASSES, Picture, render
from benchmarks.suite.catalog import fill, load_catalog

NAMES, PROMPTS, IMAGES = ("cat", "teapot", "chair"), ("s01", "s02", "s04"), 3


def drawn(method, concept, template, index):
    """A picture: `perfect` shows the concept as asked, `deaf` always in the studio, `random` any
    thing anywhere, whatever concept and prompt."""
    cls = concept.super_category
    seed = (method, concept.name, template, index)
    if method == "random":
        number = PROMPTS.index(next(p for p in PROMPTS if TEMPLATES[p] == template))
        other = CLASSES[(7 * index + 3 * number + NAMES.index(concept.name)) % len(CLASSES)]
        scenes = ("city", "house", "flowers")
        return render(Picture(make_instance(other, seed), scenes[index]), seed)[0]
    asked = read(fill(template, cls), seed=0)
    scene = "studio" if method == "deaf" else asked.scene
    return render(Picture(instance_of(concept.name), scene), seed)[0]


TEMPLATES = {
    prompt.id: prompt.template
    for concept in load_catalog().concepts
    for prompt in load_catalog().prompts_for(concept)
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    home = tmp_path_factory.mktemp("known")
    concepts = [one for one in load_catalog().concepts if one.name in NAMES]
    out = home / "run"
    for method in ("perfect", "deaf", "random"):
        for concept in concepts:
            for prompt in PROMPTS:
                for index in range(IMAGES):
                    place = home / method / concept.name / prompt / f"{index}.png"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    picture = drawn(method, concept, TEMPLATES[prompt], index)
                    Image.fromarray(picture).save(place)
        words = ["import", str(home / method), "--as", method, "--out", str(out)]
        words += ["--suite", "miniature", "--backbone", "miniature"] * (not out.is_dir())
        assert cli.run([*words, "--device", "cpu", "--allow-missing"]) == 0
    return pd.read_csv(out / "table.csv").set_index("method")


def test_who_is_deaf_to_the_prompt_has_likeness_and_no_text(table):
    perfect, deaf = table.loc["perfect"], table.loc["deaf"]
    assert deaf["image_sim"] > 0.7 and deaf["image_sim_heldout"] > 0.7
    assert deaf["text_sim_raw"] < 0.3 * perfect["text_sim_raw"]


def test_who_draws_anything_has_neither(table):
    perfect, anything = table.loc["perfect"], table.loc["random"]
    assert anything["image_sim"] < 0.5 * perfect["image_sim"]
    assert anything["image_sim_heldout"] < 0.5 * perfect["image_sim_heldout"]
    assert anything["text_sim_raw"] < 0.3 * perfect["text_sim_raw"]
    assert anything["variety"] > 2 * perfect["variety"]


def test_who_draws_the_concept_anew_copies_nothing(table):
    """As little as the concept's own pictures do."""
    gaps = table["copy_gap"]
    assert abs(gaps["perfect"] - gaps["real"]) < 0.02 > abs(gaps["random"])
