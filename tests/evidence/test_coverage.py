"""Coverage of intervals, by simulation: what must hold for normal effects, and what skew does."""

import numpy as np
import pytest

from benchmarks.evidence.coverage import WAYS, coverage, covered, ends_of
from benchmarks.tables.run_view import open_run
from benchmarks.tables.statistics import Draws, expanded, over_concepts


def test_ends_against_the_tables_and_the_t_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=11)
    draws = rng.multinomial(11, np.full(11, 1 / 11), size=4000).astype(float)
    found = ends_of(x, draws)
    half = 2.2281 * x.std(ddof=1) / np.sqrt(11)  # t with 10 degrees of freedom
    assert found["t"] == pytest.approx((x.mean() - half, x.mean() + half), abs=1e-4)
    times = np.vstack([np.ones(11), draws]).astype(int)
    value = over_concepts(np.broadcast_to(x, (4001, 11)), Draws(times, times[:, :1]))
    assert found["expanded"] == pytest.approx(expanded(value, 11)[1:])
    mirrored = ends_of(-x, draws)
    for way in WAYS:
        assert mirrored[way] == pytest.approx((-found[way][1], -found[way][0]), abs=1e-9)


def test_skew_costs_coverage_and_a_normal_world_does_not():
    n = np.random.default_rng(1).normal(size=400)
    even = covered(np.concatenate([n, -n])[:400], samples=400, resamples=300)
    assert all(0.92 <= even[way] <= 0.98 for way in WAYS)
    tail = -np.exp(np.random.default_rng(2).normal(0, 1.0, size=11))  # skewed as DreamBooth's is
    skewed = covered(tail, samples=600, resamples=400)
    assert skewed["skew"] < -1 and skewed["t"] < 0.93
    assert skewed["studentized"] > skewed["t"] and skewed["studentized_width"] > 1.1


def test_a_runs_own_effects():
    found = coverage(open_run("results/miniature-quickstart"), samples=20)
    assert {"what", "score", "skew", *WAYS} <= set(found)
    assert (found["t_width"] == 1).all() and found[list(WAYS)].le(1).all().all()
    assert any(" - " in what for what in found["what"])
