"""The score that picks a training step is the table's harmonic mean, and picks what its forerunner
picked.

The forerunner counted a step with a cosine that is not positive as the lower of its two
similarities, the table counts it as 0. Both leave such a step below every other, so a choice can
differ only where no step of a fit has two positive similarities. The validation curves of the
committed fits were not kept. What was kept speaks for every one of them: the rows of the picked
states, by the reported scorer; and eleven files, which the scorer that picks can be asked about.
"""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_kit import committed_runs, run_here, shared

from benchmarks.planning import backbones
from benchmarks.planning.config import resolve
from benchmarks.planning.units import Fit
from benchmarks.running.tasks import Job
from benchmarks.running.worker_scores import WorkerScores
from benchmarks.store.run_folder import Store
from benchmarks.suite.catalog import load_catalog
from benchmarks.tables.build import cells_of, metrics_of
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import harmonic, relative_text
from perfusion_core import perfusion
from perfusion_core.backbone import Backbone
from perfusion_core.prompts import named
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted
from perfusion_core.training import Log
from perfusion_core.validation import Looks, Validation

RESULTS = Path(__file__).parent.parent.parent / "results"
COSINES = st.floats(-1, 1, allow_subnormal=False)
# image, relative text of each validated step
CURVES = st.lists(st.tuples(COSINES, COSINES), min_size=1, max_size=16)


def before(a, b):
    """How a step was scored until the two harmonic means became one."""
    return 2 * a * b / (a + b) if a > 0 and b > 0 else min(a, b)


def picked(scores):
    """The step that is kept: the first of the highest."""
    best = None
    for step, score in enumerate(scores):
        if best is None or score > best[1]:
            best = step, score
    return best[0]


@settings(deadline=None, derandomize=True)
@given(CURVES)
def test_a_fit_with_one_good_step_has_the_step_it_had(curve):
    now = [float(harmonic(a, b)) for a, b in curve]
    if max(now) > 0:
        assert picked(now) == picked([before(a, b) for a, b in curve])
    else:
        assert set(now) == {0.0} and picked(now) == 0, "nothing to choose by: the first stays"


@settings(deadline=None, derandomize=True)
@given(st.floats(1e-6, 1), st.floats(1e-6, 2))
def test_positive_scores_are_the_same_numbers(a, b):
    assert float(harmonic(a, b)) == before(a, b)


def test_the_score_of_a_cosine_that_is_not_positive_is_zero():
    assert float(harmonic(0.5, 1.0)) == pytest.approx(2 / 3)
    assert [float(harmonic(a, b)) for a, b in ((-0.2, -0.9), (0.0, 0.9), (0.9, -0.8))] == [0, 0, 0]
    assert relative_text([0.3, 0.1], 0.2) == pytest.approx([1.5, 0.5])


def test_of_equal_steps_the_first_is_kept(tiny_backbone, tmp_path):
    scores, kept, log = [0.0, 0.0, 0.2, 0.2], [], Log()
    left = iter(scores)
    validate = Validation(("A cat",), (1,), lambda pictures: next(left), steps=1)
    now = [0]
    save = lambda folder: kept.append(now[0])  # noqa: E731
    looks = Looks(tiny_backbone, validate, lambda: nullcontext(str), log, tmp_path, save)
    for step in range(len(scores)):
        now[0] = step
        looks.look(step)
    assert kept == [0, 2] and log.best == (2, 0.2) and picked(scores) == 2


def test_every_committed_choice_is_among_good_steps():
    """Of every run whose fits picked a step: no concept at any point, kept steps included, is near
    a cosine of 0. On miniature-xl Custom Diffusion's rates are too high for any step to be good.
    The confirmatory run also draws the last step of Perfusion that trains K: trained too long.
    """
    runs = {}
    for folder in committed_runs():
        chosen = {
            name
            for name, one in json.loads((folder / "run.json").read_text())["methods"].items()
            if one["select"]
        }
        chosen -= {"perfusion-vanilla-rome"}  # trains to its end
        scores = metrics_of(cells_of(sample_rows(folder)))  # some have no tables yet
        runs[folder.name] = scores[scores["method"].isin(chosen)][["image_sim", "text_sim"]].min()
    assert len(runs) >= 13
    for name, least in runs.items():
        positive = 0.2 if name in ("miniature-xl", "confirm") else 0.5
        assert least["image_sim"] > 0.25 and least["text_sim"] > positive, name


@pytest.mark.slow
def test_the_committed_concepts_are_good_to_the_scorer_that_picked_them(tmp_path):
    """The pictures by which training chose, drawn again from the eleven committed files."""
    config = resolve(preset="paper", flags={"device": "cpu"})
    models, catalog = backbones.find_models(config), load_catalog()
    backbone = Backbone.open(models.place, device="cpu", dtype=models.dtype)
    marks = WorkerScores(
        Job(config, models, frozenset(), catalog.validation, False), Store(tmp_path)
    )
    scores = {}
    for concept in catalog.concepts:
        path = RESULTS / "miniature-concepts" / f"{concept.name}.safetensors"
        folder = tmp_path / "fits" / concept.name
        folder.mkdir(parents=True)
        shutil.copyfile(path, folder / perfusion.ONE_FILE)
        shutil.copytree(concept.images[0].parent, tmp_path / "concepts" / concept.name)
        fit = Fit("perfusion", concept.name, concept.super_category, {}, None, True, (), 0, "key")
        validate = marks.validation(fit, backbone)
        with perfusion.apply(
            backbone, {concept.name: Fitted(folder, concept.super_category)}, {}
        ) as write:
            texts = [write(named(template, concept.name)) for template in validate.templates]
            drawn = sample(
                backbone, texts, validate.seeds, steps=validate.steps, guidance=validate.guidance
            )
        scores[concept.name] = validate.score(drawn)
    # none is a step that had nothing better
    assert len(scores) == 11 and min(scores.values()) > 0.5


def test_validation_may_draw_fewer_steps_than_the_pictures(tmp_path):
    """It sees what a run of so few steps sees; the pictures have their own number."""
    words = ["--methods", "lora", "--concepts", "cat", "--set", "select_step=true"]
    words += ["--set", "validate_every=2"]
    curves, drawn = {}, {}
    for name, more in (
        ("usual", ["steps=4"]),
        ("few", ["steps=4", "validate_steps=2"]),
        ("both few", ["steps=2"]),
    ):
        sets = [word for one in more for word in ("--set", one)]
        assert run_here(shared(), tmp_path / name, *words, *sets) == 0
        (manifest,) = tmp_path.glob(f"{name}/fits/lora/cat*/fit.json")
        curves[name] = json.loads(manifest.read_text())["validation"]
        picture = tmp_path / name / "images" / "super" / "default" / "cat"
        drawn[name] = next(iter(sorted(picture.glob("*/0.png")))).read_bytes()
    assert curves["few"] == curves["both few"] != curves["usual"]
    assert drawn["few"] == drawn["usual"] != drawn["both few"]
    assert '"validate_steps": 2' in (tmp_path / "few" / "run.json").read_text()
