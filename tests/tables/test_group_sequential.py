"""Boundaries of several looks, against published constants, a multivariate normal integrated by
scipy, and simulated motions.
"""

import numpy as np
import pytest
from run_kit import ROOT
from scipy.stats import multivariate_normal, norm, t, ttest_1samp
from scipy.stats import skew as scipy_skew

from benchmarks.tables.group_sequential import (
    as_normal,
    as_t,
    crossing,
    leaving,
    obrien_fleming,
    power,
    repeated_p,
    unskewed_t,
)

THIRDS = (1 / 3, 2 / 3, 1.0)


@pytest.mark.parametrize(
    ("shares", "alpha", "constant"),
    # Jennison and Turnbull (2000), constants for equal steps
    [((0.5, 1.0), 0.05, 1.977), (THIRDS, 0.05, 2.004), ((0.2, 0.4, 0.6, 0.8, 1.0), 0.05, 2.040),
     (THIRDS, 0.1, 1.710), (THIRDS, 0.01, 2.595), ((1.0,), 0.05, 1.960)],
)  # fmt: skip
def test_published_constants(shares, alpha, constant):
    found = obrien_fleming(shares, alpha)
    assert [z * np.sqrt(s) for z, s in zip(found, shares)] == pytest.approx(
        [constant] * len(shares), abs=6e-4
    )


@pytest.mark.parametrize("shares", [THIRDS, (0.2, 0.4, 0.6, 1.0), (0.1, 0.9, 1.0)])
@pytest.mark.parametrize("drift", [0.0, 1.0, 2.8])
def test_leaving_against_a_normal_integrated_as_a_whole(shares, drift):
    band = [1.9] * len(shares)
    covariance = np.minimum.outer(shares, shares)
    normal = multivariate_normal(
        drift * np.array(shares), covariance, maxpts=200_000, abseps=1e-7, releps=1e-7
    )
    inside = normal.cdf(band, lower_limit=np.negative(band))
    assert 1 - leaving(band, shares, drift).sum() == pytest.approx(inside, abs=2e-5)


def test_every_look_against_simulated_motions():
    rng, drift, n = np.random.default_rng(3), 1.7, 400_000
    steps = np.diff([0, *THIRDS])
    motion = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (n, 3)), axis=1)
    band = np.array([1.8, 1.6, 1.5])  # need not be the same at each look
    above, below = motion >= band, motion <= -band
    out = above | below
    first = np.where(out.any(1), out.argmax(1), 3)
    found = leaving(band, THIRDS, drift)
    for look in range(3):
        for side, beyond in enumerate((above, below)):
            share = (beyond[:, look] & (first == look)).mean()
            error = np.sqrt(found[side, look] / n)
            assert abs(found[side, look] - share) < 4.5 * error + 1e-6


def test_one_look_is_the_usual_test():
    (edge,) = obrien_fleming((1.0,), 0.05)
    assert edge == pytest.approx(norm.isf(0.025), abs=1e-9)
    assert power(2.8, (edge,), (1.0,)) == pytest.approx(norm.sf(edge - 2.8), abs=1e-9)
    assert repeated_p(2.0, 0, (1.0,)) == pytest.approx(2 * norm.sf(2.0), abs=1e-9)
    assert repeated_p(9.0, 0, (1.0,)) == pytest.approx(2 * norm.sf(9.0), rel=1e-6)


def test_the_boundary_is_where_p_is_alpha():
    for look, edge in enumerate(obrien_fleming(THIRDS, 0.05)):
        assert repeated_p(edge, look, THIRDS) == pytest.approx(0.05, abs=1e-9)
        assert repeated_p(-edge - 0.1, look, THIRDS) < 0.05 < repeated_p(edge - 0.1, look, THIRDS)
    assert repeated_p(0.0, 1, THIRDS) == 1 and repeated_p(np.inf, 1, THIRDS) == 0
    assert repeated_p(np.nan, 1, THIRDS) == 1


def test_looks_cost_little_power():
    edges = obrien_fleming(THIRDS, 0.05)
    for effect in (0.5, 2.0, 3.0, 4.0):
        once = norm.sf(norm.isf(0.025) - effect)
        assert once - 0.02 < power(effect, edges, THIRDS) <= once + 1e-3
    assert power(-3.0, edges, THIRDS) == power(3.0, edges, THIRDS)


@pytest.mark.parametrize(
    ("spread", "difference", "told"),  # the table of results/confirm/plan.md
    [(0.03, 0.02, "0.22 0.96 1.00"), (0.05, 0.02, "0.03 0.54 0.89"),
     (0.08, 0.02, "0.01 0.20 0.51"), (0.08, 0.05, "0.17 0.94 1.00"),
     (0.15, 0.05, "0.02 0.37 0.75"), (0.15, 0.1, "0.22 0.96 1.00")],
)  # fmt: skip
def test_power_of_each_look_against_simulated_concepts(spread, difference, told):
    """t of 22, 44 and 66 concepts whose spread is known from them alone."""
    sizes, worlds, edges = (22, 44, 66), 20_000, obrien_fleming(THIRDS, 0.05)
    rows = np.random.default_rng(8).normal(difference, spread, (worlds, 66))
    found = crossing(difference / spread * np.sqrt(66), edges, THIRDS, sizes)
    done, below = np.zeros(worlds, bool), np.zeros(worlds, bool)
    for look, n in enumerate(sizes):
        x = rows[:, :n]
        ts = x.mean(1) / (x.std(1, ddof=1) / np.sqrt(n))
        done |= (ts >= as_t(edges[look], n)) & ~below
        below |= (ts <= -as_t(edges[look], n)) & ~done
        assert abs(found[: look + 1].sum() - done.mean()) < 0.012
    assert " ".join(f"{one:.2f}" for one in found.cumsum()) == told
    page = (ROOT / "results" / "confirm" / "plan.md").read_text(encoding="utf-8")
    row = f"| {spread:.2f} | {difference:.2f} | {told.replace(' ', ' | ')} |"
    assert row in page


def test_few_concepts_count_as_a_t_does():
    for n in (4, 22, 66):
        for value in (-6.0, -0.4, 0.0, 2.1, 4.5):
            z = as_normal(value, n)
            assert norm.sf(z) == pytest.approx(t(n - 1).sf(value), rel=1e-9)
            assert as_t(z, n) == pytest.approx(value, abs=1e-9)
    assert as_normal(np.inf, 5) == np.inf


# ---- skew differences ----


def test_unskewed_t_is_halls_formula():
    x = np.array([0.3, -0.1, 0.8, 2.5, 0.4, -0.6, 0.1, 1.9])
    u, skew = (x.mean() - 0.2) / x.std(ddof=1), scipy_skew(x)
    by_hand = np.sqrt(8) * (u + skew * u**2 / 3 + skew**2 * u**3 / 27 + skew / 48)
    assert unskewed_t(x, 0.2) == pytest.approx(by_hand)
    assert unskewed_t(-x, -0.2) == pytest.approx(-by_hand)
    even = np.array([-3.0, -1, 0, 1, 3]) + 0.7
    assert unskewed_t(even) == pytest.approx(ttest_1samp(even, 0).statistic), "nothing is skew"
    assert unskewed_t(np.full(5, 0.1)) == np.inf and unskewed_t(np.zeros(5)) == 0
    assert unskewed_t(np.zeros(5), 0.1) == -np.inf


def test_without_skewness_both_sides_err_about_as_often():
    """True difference none: exponential concepts are too often called worse by the plain t."""
    drawn = np.random.default_rng(3).exponential(size=(4000, 22)) - 1
    plain = ttest_1samp(drawn, 0, axis=1).statistic
    unskewed = np.array([unskewed_t(x) for x in drawn])
    edge = t(21).ppf(0.975)
    assert (plain < -edge).mean() > 0.06 and (plain > edge).mean() < 0.01
    assert (unskewed < -edge).mean() < 0.04 and (unskewed > edge).mean() > 0.013
