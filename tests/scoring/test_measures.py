"""Measures beyond the protocol of one cell, against formulas in float64 and known answers."""

import math

import numpy as np
import pytest

from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.similarity import (
    measure,
    nearer,
    score_real,
    variety,
    vendi,
)


def unit(rng, n, d=12):
    vectors = rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cosine(a, b):
    a, b = (np.asarray(v, dtype=np.float64) for v in (a, b))
    return float(sum(a * b) / math.sqrt(sum(a * a)) / math.sqrt(sum(b * b)))


def test_variety_is_the_mean_distance_to_the_others():
    features = unit(np.random.default_rng(0), 5)
    found = variety(features)
    for i in range(5):
        others = [1 - cosine(features[i], features[j]) for j in range(5) if j != i]
        assert found[i] == pytest.approx(sum(others) / 4, abs=1e-12)
    pairs = [1 - cosine(features[i], features[j]) for i in range(5) for j in range(i)]
    assert found.mean() == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)  # a cell's mean


def test_vendi_is_exp_of_the_entropy_of_the_kernel():
    features = unit(np.random.default_rng(1), 6)
    kernel = [[cosine(a, b) / 6 for b in features] for a in features]
    shares = np.linalg.svd(np.array(kernel), compute_uv=False)  # of a kernel: its eigenvalues
    expected = math.exp(-sum(p * math.log(p) for p in shares if p > 1e-15))
    assert vendi(features) == pytest.approx(expected, abs=1e-9)


def test_known_answers():
    same = np.repeat(unit(np.random.default_rng(2), 1), 8, axis=0)
    assert vendi(same) == pytest.approx(1, abs=1e-12) and variety(same).max() < 1e-12
    assert (variety(same) >= 0).all()  # rounding makes nothing negative
    apart = np.eye(8, dtype=np.float32)
    assert vendi(apart) == pytest.approx(8) and variety(apart) == pytest.approx(np.ones(8))
    halves = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)  # two pictures, four times each
    assert vendi(halves) == pytest.approx(2) and variety(halves) == pytest.approx(np.full(8, 4 / 7))
    assert np.isnan(variety(apart[:1])).all() and math.isnan(vendi(apart[:1]))
    longer = apart * np.arange(1, 9, dtype=np.float32)[:, None]  # of no length one, as the truth's
    assert vendi(longer) == pytest.approx(8) and variety(longer) == pytest.approx(np.ones(8))


def test_nearer_asks_for_the_nearest_of_each():
    trained = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    heldout = np.array([[0, 0, 1], [0.6, 0.8, 0]], dtype=np.float32)
    drawn = np.array([[1, 0, 0], [0, 0, 1], [0.6, 0.8, 0], [0, 1, 0]], dtype=np.float32)
    assert nearer(drawn, trained, heldout).tolist() == [1, 0, 0, 1]
    assert nearer(drawn, trained, trained).tolist() == [0, 0, 0, 0], "a tie is not nearer"


def rows_of(kind, n):
    sim = "0.500000" if kind == "shape" else ""
    return [{"key": "k", "kind": kind, "index": i, "image_sim": sim} for i in range(n)]


def test_rows_have_what_there_is_to_measure():
    rng = np.random.default_rng(3)
    features, trained, heldout = unit(rng, 3), unit(rng, 4), unit(rng, 2)
    rows = rows_of("shape", 3)
    measure(rows, features, [trained], heldout)
    for i, row in enumerate(rows):
        near = sum(cosine(features[i], other) for other in heldout) / 2
        assert float(row["image_sim_heldout"]) == pytest.approx(near, abs=1e-6)
        assert row["nearer"] in ("0.000000", "1.000000")
        assert row["vendi"] == rows[0]["vendi"] and float(row["variety"]) > 0
    for kind, n, concepts, apart, expected in (
        ("deform", 3, [trained], heldout, {"variety", "vendi"}),  # likeness is no matter of these
        ("shape", 3, [trained], None, {"variety", "vendi"}),  # no held-out pictures
        ("shape", 1, [trained], heldout, {"image_sim_heldout", "nearer"}),  # one picture
        ("pair", 3, [trained, trained], None, {"variety", "vendi"}),
        ("shape", 1, [trained], None, set()),
    ):
        rows = rows_of(kind, n)
        measure(rows, features[:n], concepts, apart)
        assert {*rows[0]} - {"key", "kind", "index", "image_sim"} == expected, (kind, n)


def test_the_ceiling_has_likeness_to_held_out_pictures():
    rng = np.random.default_rng(4)
    trained, heldout = unit(rng, 3), unit(rng, 5)
    rows = score_real("k", "cat", "animated", trained, heldout)
    for row, own in zip(rows, trained):
        near = sum(cosine(own, other) for other in heldout) / 5
        assert float(row["image_sim_heldout"]) == pytest.approx(near, abs=1e-6)
    assert "image_sim_heldout" not in score_real("k", "cat", "animated", trained)[0]
    assert CellRow.__dataclass_fields__.keys().isdisjoint({"heldout"})  # no key knows of them
