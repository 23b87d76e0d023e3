"""Suites of any number of drawn concepts: the same bytes everywhere, apart from training, from what
is shipped and from each other.
"""

import hashlib
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import run
from benchmarks.miniature import worlds
from benchmarks.miniature.shipped import ELEVEN, TUNING, instance_of
from benchmarks.suite.concept_folder import read_concept
from benchmarks.suite.image_files import load_rgb
from benchmarks.suite.importers import open_suite
from perfusion_core.errors import UserError

# sha256 over the digests of the concepts and of their held-out pictures, in the suite's order
KNOWN = {
    "world:11": "992ec94a3f547d18937dd348f0c926470b676af003bb15f96751573fe120a2bb",
    "world-tuning:3": "ca189f46ce41444f6c102804b83b1957fca4e0ed15131a612ed8d87ff7e60818",
    "world:66": "8dcdf408158259108e75506d4b5cbdc1dfc357d1f8096bbd69ba08e3399f874c",
    "world-tuning:24": "3a643888178438db4dafe93aa025423302eb3d6b3ec7d04180fd004994fa7cd9",
}


def digest_of(suite):
    text = hashlib.sha256()
    for concept in suite.concepts:
        text.update(f"{concept.name} {concept.digest} {concept.difficulty}\n".encode())
        for path in concept.heldout:
            text.update(path.read_bytes())
    return text.hexdigest()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_a_stored_picture_is_read_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((64, 64, 3), (64, 64), (1, 1, 3), (200, 150, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        found = Image.open(io.BytesIO(worlds.stored_png(pixels)))
        assert found.mode == ("RGB" if len(shape) == 3 else "L")
        assert np.array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize("spec", ["world:11", "world-tuning:3"])
def test_the_bytes_of_a_suite(spec):
    suite = open_suite(spec)
    assert suite.name == spec and digest_of(suite) == KNOWN[spec]
    for concept in suite.concepts:
        assert 5 <= len(concept.images) == len(concept.masks) <= 8 and len(concept.heldout) == 8
        assert concept.difficulty in worlds.GRADES and concept.licence == "Apache-2.0"
        seen = [path.read_bytes() for path in (*concept.images, *concept.heldout)]
        assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("spec", ["world:66", "world-tuning:24"])
def test_a_large_suite_has_its_bytes_in_two_minutes(spec):
    start = time.monotonic()
    suite = open_suite(spec)
    assert time.monotonic() - start < 120
    assert digest_of(suite) == KNOWN[spec]


@pytest.mark.slow
def test_each_concept_is_told_from_others_of_its_class():
    """By the identity judge: two of a concept's pictures, trained or held out, are nearer to each
    other than one of them and one of another concept of its class, in nine of ten pairs of pairs.
    """
    from benchmarks.evidence.miniature_measures import auc
    from benchmarks.miniature.training.judges import open_judges
    from benchmarks.paths import miniature_dir

    judges, suite = open_judges(miniature_dir()), open_suite("world:66")
    seen = {
        one.name: judges.identity(np.stack([load_rgb(p, 64) for p in (*one.images, *one.heldout)]))
        for one in suite.concepts
    }
    told = {}
    for one in suite.concepts:
        mine = seen[one.name]
        own = (mine @ mine.T)[np.triu_indices(len(mine), 1)]
        others = [seen[c.name] for c in suite.concepts
                  if c.super_category == one.super_category and c.name != one.name]  # fmt: skip
        told[one.name] = auc(own, (mine @ np.concatenate(others).T).ravel())
    assert len(told) == 66 and {name: auc for name, auc in told.items() if auc < 0.9} == {}


def test_a_smaller_suite_is_the_beginning_of_a_larger_one():
    small, large = open_suite("world:3"), open_suite("world:14")
    assert small.concepts == large.concepts[:3]
    words = [concept.super_category for concept in large.concepts]
    assert words[:3] == words[11:] and len(set(words)) == 11
    assert set(words) == {cls for cls, *_ in ELEVEN.values()}
    assert sum(name.endswith("_02") for name in (c.name for c in large.concepts)) == 3


@pytest.mark.parametrize("cls", ["cat", "sculpture", "teapot"])
def test_identities_lie_apart(cls):
    """By 0.6, as the shipped do: from training, from the shipped, within and between suites."""
    both = [worlds.instances(kind, cls) for kind in worlds.KINDS]
    assert all(len(found) == worlds.MOST for found in both)
    mine = np.stack([one.vector() for found in both for one in found])
    shipped = [instance_of(name).vector() for name, about in (ELEVEN | TUNING).items()
               if about[0] == cls]  # fmt: skip
    others = np.concatenate([worlds.pool(cls), np.stack(shipped)])
    for number, one in enumerate(mine):
        rest = np.concatenate([others, np.delete(mine, number, axis=0)])
        assert np.linalg.norm(rest - one, axis=1).min() >= 0.6


def test_grades_are_thirds_of_the_pool():
    far = [worlds.grade(worlds.make_instance("dog", ("pool", k))) for k in range(300)]
    shares = [far.count(grade) / len(far) for grade in worlds.GRADES]
    assert all(0.25 < share < 0.42 for share in shares)


def test_the_command_lists_it(capsys):
    assert run(["ls", "concepts", "--suite", "world:11", "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["name"].endswith("_01")]
    assert len(rows) == 11 and {row["heldout"] for row in rows} == {8}
    assert run(["plan", "--suite", "world:2", "--concepts", "all", "--methods", "super",
                "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["total"]["fits"] == 0
    assert run(["ls", "suites"]) == 0
    assert "world-tuning:N" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/null/x"])
def test_a_cache_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / place))
    with pytest.raises(UserError, match="cannot be used"):
        open_suite("world:1")


def test_a_copy_keeps_what_it_has(tmp_path):
    folder = open_suite("world:1").concepts[0].images[0].parent.parent
    assert run(["concepts", "add", str(folder), "--super-category", "cat", "--name", "copy",
                "--dest", str(tmp_path)]) == 0  # fmt: skip
    made = read_concept(tmp_path / "copy")
    assert len(made.heldout) == 8 and made.difficulty == read_concept(folder).difficulty


@pytest.mark.parametrize("spec", ["world:", "world:0", "world:-1", "world:x", "world:661", "world",
                                  "world-tuning:1e3", "world:../x"])  # fmt: skip
def test_what_is_no_number(spec):
    with pytest.raises(UserError, match=r"has no number of concepts: write world(-tuning)?:1 to"):
        open_suite(spec)
