"""Looks at the same question while data come in: how far out a difference must lie at each look.

In: the looks as shares of all the information there will be. Out: boundaries of O'Brien and
Fleming's kind, the p of what was found at a look, and the power of the whole plan.

What is looked at is a sum of independent parts: a Brownian motion, seen at the shares. The chance
of leaving a band is integrated from look to look (Armitage, McPherson and Rowe), in float64.
"""

from collections.abc import Sequence
from functools import cache
from math import inf, isfinite, sqrt

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri, stdtr, stdtrit

NODES = 400  # of Gauss and Legendre, between two looks
SPREADS = 16  # quantiles of a spread that is estimated
HALVINGS = 80  # of the interval in which a boundary lies
FARTHEST = 40.0  # standard deviations: beyond is nothing that float64 could tell


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)


def leaving(band: Sequence[float], shares: Sequence[float], drift: float = 0.0) -> np.ndarray:
    """[2, K] the chance of being first outside of -band to band at each look: above, and below.
    The motion at share t is normal with mean `drift` t and variance t; `band` is on its scale.
    """
    found = np.zeros((2, len(shares)))
    places, weights = np.zeros(1), np.ones(1)  # where it can be inside the band, and how likely
    before = 0.0
    for look, (edge, share) in enumerate(zip(band, shares, strict=True)):
        step, mean = sqrt(share - before), drift * (share - before)
        found[0, look] = weights @ ndtr((places + mean - edge) / step)
        found[1, look] = weights @ ndtr((-edge - places - mean) / step)
        at, each = _nodes()
        inside = min(edge, FARTHEST) * at
        apart = (inside[:, None] - places - mean) / step
        density = np.exp(-(apart**2) / 2) @ weights / (step * sqrt(2 * np.pi))
        places, weights, before = inside, density * each * min(edge, FARTHEST), share
    return found


@cache
def obrien_fleming(shares: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """The boundaries, in standard errors: one constant over the root of each share, so that under
    no difference some look is beyond with probability `alpha`, both sides together.
    """
    low, high = 0.0, 10.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        chance = leaving([middle] * len(shares), shares).sum()
        low, high = (middle, high) if chance > alpha else (low, middle)
    return tuple(high / sqrt(share) for share in shares)


def repeated_p(z: float, look: int, shares: Sequence[float]) -> float:
    """The level at which the boundary of this look (0, 1, ...) would just be reached by z, both
    sides together: a p that holds however many of the looks were made.
    """
    if not isfinite(z):
        return 0.0 if abs(z) == inf else 1.0
    band = abs(z) * sqrt(shares[look])
    return min(1.0, float(leaving([band] * len(shares), shares).sum()))


def crossing(
    effect: float, boundaries: Sequence[float], shares: Sequence[float],
    concepts: Sequence[int] | None = None,
) -> np.ndarray:  # fmt: skip
    """[K] how likely each look is the first beyond its boundary, on the side of an effect, which is
    given in standard errors of the last look. With the numbers of concepts the spread is known from
    them alone: the boundary is t's, and is met where the spread is small by chance at all looks.
    """
    band = [z * sqrt(share) for z, share in zip(boundaries, shares, strict=True)]
    if concepts is None:
        return leaving(band, shares, abs(effect))[0]
    found = np.zeros(len(shares))
    at, weights = np.polynomial.legendre.leggauss(SPREADS)
    wide = [as_t(z, n) / z for z, n in zip(boundaries, concepts, strict=True)]
    for small, weight in zip((at + 1) / 2, weights / 2):
        spread = [sqrt(2 * gammaincinv((n - 1) / 2, small) / (n - 1)) for n in concepts]
        edges = [b * w * s for b, w, s in zip(band, wide, spread)]
        found += weight * leaving(edges, shares, abs(effect))[0]
    return found


def power(
    effect: float, boundaries: Sequence[float], shares: Sequence[float],
    concepts: Sequence[int] | None = None,
) -> float:  # fmt: skip
    """How likely some look is beyond."""
    return min(1.0, float(crossing(effect, boundaries, shares, concepts).sum()))


def as_normal(t: float, n: int) -> float:
    """As many standard errors of a normal as leave the same tail as t does with n - 1 degrees of
    freedom: a spread known from few concepts is less sure."""
    if not isfinite(t):
        return t
    return float(-np.sign(t) * ndtri(stdtr(n - 1, -abs(t))))


def unskewed_t(values: np.ndarray, at: float = 0.0) -> float:
    """t of a mean above a number by Hall's cubic transformation (1992): where values are skew, a
    mean and its spread go together, and the plain t errs too often on one side.
    """
    n, spread = len(values), float(values.std())
    above = float(values.mean()) - at
    if spread == 0:
        return above and above * inf
    skew = float(((values - values.mean()) ** 3).mean()) / spread**3
    u = above / float(values.std(ddof=1))
    return (u + skew * u**2 / 3 + skew**2 * u**3 / 27 + skew / (6 * n)) * sqrt(n)


def as_t(z: float, n: int) -> float:
    """The reverse."""
    return float(-np.sign(z) * stdtrit(n - 1, ndtr(-abs(z))))
