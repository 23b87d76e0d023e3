"""How far a picture moved, against plain loops in float64."""

import math

import numpy as np
import pytest
from PIL import Image

from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.drift_scores import drift_rows, moved_features, moved_pixels
from perfusion_core.errors import UserError


def a_cell(kind="drift", n=2):
    fields = ("cd", "default", "cat", "animated", "drift.u01", kind, n, "key", "fit")
    return CellRow(*fields, "A car", "A car", "cat", tuple(range(n)))


def pictures(rng, n=2, size=4):
    return [Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(n)]


def test_features_move_by_one_less_the_cosine():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    for a, b, found in zip(one, other, moved_features(one, other)):
        dot = math.fsum(x * y for x, y in zip(a, b))
        length = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
        assert found == pytest.approx(1 - dot / length, abs=1e-12)


def test_what_did_not_move_is_exactly_zero():
    features = np.random.default_rng(2).normal(size=(6, 33)).astype(np.float32)
    assert moved_features(features, features.copy()).tolist() == [0.0] * 6
    assert moved_features(features, -features) == pytest.approx([2.0] * 6)
    assert moved_features(np.zeros((1, 3)), np.zeros((1, 3))).tolist() == [0.0]


def test_pixels_move_by_the_root_mean_square():
    rng = np.random.default_rng(3)
    one, other = pictures(rng)
    total, count = 0.0, 0
    for x in range(4):
        for y in range(4):
            for a, b in zip(one.getpixel((x, y)), other.getpixel((x, y))):
                total, count = total + ((a - b) / 255) ** 2, count + 1
    assert moved_pixels(one, other) == pytest.approx(math.sqrt(total / count), abs=1e-12)
    white, black = (Image.new("RGB", (3, 3), colour) for colour in ("white", "black"))
    assert moved_pixels(white, black) == 1.0 and moved_pixels(white, white) == 0.0


@pytest.mark.parametrize("kind", ["drift", "drift_class"])
def test_a_row_a_picture_under_its_kind(kind):
    rng = np.random.default_rng(4)
    mine, plain = pictures(rng), pictures(rng)
    features = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    rows = drift_rows(a_cell(kind), mine, plain, features)
    far = moved_features(*features)
    assert [row[kind] for row in rows] == [f"{value:.6f}" for value in far]
    assert [row["drift_pixels"] for row in rows] == [
        f"{moved_pixels(a, b):.6f}" for a, b in zip(mine, plain)
    ]
    assert {(row["image_sim"], row["text_sim_raw"]) for row in rows} == {("", "")}


def test_who_compares_no_pictures_says_nothing():
    mine = pictures(np.random.default_rng(5))
    rows = drift_rows(a_cell(), mine, mine, None)
    assert [(row["drift"], row["drift_pixels"]) for row in rows] == [("", "")] * 2


def test_other_pictures_than_planned_are_refused():
    rng = np.random.default_rng(6)
    mine = pictures(rng)
    for plain in (mine[:1], pictures(rng, size=5)):
        with pytest.raises(UserError, match="plain backbone's pictures"):
            drift_rows(a_cell(), mine, plain, None)
    with pytest.raises(UserError, match="1 images are there, 2 are planned"):
        drift_rows(a_cell(), mine[:1], mine, None)
