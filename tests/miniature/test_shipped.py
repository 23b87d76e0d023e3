"""The concepts in the package are what the world draws, and no training picture shows them."""

import numpy as np
import pytest

from benchmarks.miniature.world.instance import make_instance
from benchmarks.miniature.world.picture import POOL
from benchmarks.suite.catalog import load_catalog


@pytest.fixture(scope="module")
def shipped():
    from benchmarks.miniature.shipped import ELEVEN, TUNING

    return {**dict.fromkeys(ELEVEN, "miniature"), **dict.fromkeys(TUNING, "tuning")}


def test_shipped_concepts_are_what_is_drawn(shipped):
    from PIL import Image

    from benchmarks.miniature.shipped import DIFFICULTY, ELEVEN, TUNING, photographs

    found = {
        kind: {c.name: c for c in load_catalog(kind).concepts} for kind in ("miniature", "tuning")
    }
    assert set(found["miniature"]) == set(ELEVEN) and set(found["tuning"]) == set(TUNING)
    for name, kind in shipped.items():
        concept, (images, masks) = found[kind][name], photographs(name)
        assert concept.super_category == (ELEVEN | TUNING)[name][0] and 4 <= len(images) <= 8
        assert len(concept.images) == len(images) and len(concept.masks) == len(masks)
        assert concept.difficulty == DIFFICULTY[name]
        for paths, arrays in ((concept.images, images), (concept.masks, masks)):
            for path, array in zip(paths, arrays):
                assert np.array_equal(np.asarray(Image.open(path)), array), path


def test_shipped_concepts_hold_pictures_out(shipped):
    """Eight of each, of the same thing, none of them among those that are trained; digests are as
    they were without any.
    """
    from PIL import Image

    from benchmarks.miniature.shipped import held_out
    from benchmarks.suite.concept_folder import make_concept

    for kind in ("miniature", "tuning"):
        for concept in load_catalog(kind).concepts:
            drawn = held_out(concept.name)
            assert len(concept.heldout) == len(drawn) == 8
            for path, array in zip(concept.heldout, drawn):
                assert np.array_equal(np.asarray(Image.open(path)), array), path
            own = [np.asarray(Image.open(path)) for path in concept.images]
            assert not any(np.array_equal(one, other) for one in drawn for other in own)
            bare = make_concept(
                concept.name,
                concept.super_category,
                concept.group,
                concept.images,
                masks=concept.masks,
                asymmetric=concept.asymmetric,
            )
            assert bare.digest == concept.digest and not bare.heldout


def test_shipped_instances_are_none_of_training(shipped):
    """Their seeds are of another name than the pool's; the nearest training instance is not them
    either.
    """
    from benchmarks.miniature.shipped import instance_of, nearest

    for name in shipped:
        one = instance_of(name)
        assert one != make_instance(one.cls, ("pool", (POOL - 1)))
        distance, typical = nearest(name)
        assert distance > 0.25 * typical and distance > 0.6, (name, distance, typical)


@pytest.mark.slow
def test_grades_are_what_the_scorer_sees(shipped):
    """Measured again: the thirds that each concept lies in by its looks."""
    from benchmarks.evidence.miniature_difficulty import far_of
    from benchmarks.miniature.shipped import DIFFICULTY
    from benchmarks.planning.backbones import find_models
    from benchmarks.planning.config import resolve

    models = find_models(resolve(flags={"methods": "super", "backbone": "miniature"}, sets=[]))
    found = {one.name: one.grade for one in far_of(sorted(shipped), models.scorers[0])}
    assert found == {name: DIFFICULTY[name] for name in shipped}


def test_a_grade_is_no_part_of_what_training_sees(tmp_path):
    """Keys of fits rest on the digest: the same with another grade, or none."""
    from benchmarks.suite.concept_folder import read_concept, write_concept

    one = load_catalog("miniature").concepts[0]
    about = {"super_category": one.super_category, "group": one.group, "source": one.source,
             "licence": one.licence, "images": one.images, "masks": one.masks,
             "asymmetric": one.asymmetric}  # fmt: skip
    made = [write_concept(tmp_path / grade / one.name, **about, difficulty=grade)
            for grade in ("easy", "hard")]  # fmt: skip
    assert {made[0].digest, made[1].digest, one.digest} == {one.digest}
    assert read_concept(tmp_path / "hard" / one.name).difficulty == "hard"
