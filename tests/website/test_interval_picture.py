"""The picture of docs/worked-example.md, and the numbers that the page names, against a loop."""

import csv
from math import sqrt

import pytest
from PIL import Image

from benchmarks.paths import FIRST_WORLD
from website.interval_picture import draw
from website.navigation import ROOT

PAGE = (ROOT / "docs" / "worked-example.md").read_text(encoding="utf-8")
T_10 = 2.2281388519649385  # Student's t, .975, ten degrees of freedom


def image_sims():
    """(method, point) -> concept -> image similarity, as committed."""
    found = {}
    with (ROOT / FIRST_WORLD / "miniature-paper" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            place = found.setdefault((row["method"], row["point"]), {})
            place[row["concept"]] = float(row["image_sim"])
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("picture") / "interval.png"
    return out, draw(out, ROOT)


def test_means_and_intervals_are_those_of_a_loop(drawn):
    sims = image_sims()
    for one in drawn[1]:
        ours, theirs = sims["perfusion", "local-b0.60-t0.15"], sims[one.other, "default"]
        each = [ours[concept] - theirs[concept] for concept in ours]
        mean = sum(each) / len(each)
        spread = sqrt(sum((value - mean) ** 2 for value in each) / (len(each) - 1))
        half = T_10 * spread / sqrt(len(each))
        assert len(each) == 11
        assert (one.mean, one.lo, one.hi) == pytest.approx((mean, mean - half, mean + half))


def test_the_page_names_them(drawn):
    ti, cd = drawn[1]
    assert f"{ti.mean:+.3f} ({ti.lo:+.3f} to {ti.hi:+.3f})" in PAGE
    assert f"+{cd.mean:.3f}" in PAGE and cd.lo < 0 < cd.hi
    lost, gained = min(cd.values.values()), max(cd.values.values())
    assert f"one loses {-lost:.3f}" in PAGE and f"gains {gained:.3f}" in " ".join(PAGE.split())
    with (ROOT / FIRST_WORLD / "miniature-paper" / "table.csv").open() as file:
        rows = {(row["method"], row["point"]): row for row in csv.DictReader(file)}
    for place in (("perfusion", "local-b0.60-t0.15"), ("ti", "default")):
        lo, hi = (float(rows[place][f"image_sim_{end}"]) for end in ("lo", "hi"))
        assert f"{lo:.3f} to {hi:.3f}" in PAGE


def test_the_committed_picture_is_of_this_size(drawn):
    committed = Image.open(ROOT / "docs" / "images" / "interval.png")
    assert Image.open(drawn[0]).size == committed.size
