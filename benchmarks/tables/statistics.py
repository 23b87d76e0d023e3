"""Statistics of scores laid out as concepts by prompts (docs/statistics.md says what they mean).

In: arrays y [..., C, P], NaN where a concept does not have a prompt. Out: class-balanced means and
95 % intervals.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# what scipy.stats.norm.cdf and t.ppf are; scipy.stats takes a second to import
from scipy.special import ndtr, stdtrit

N_DRAWS = 2000
MANY = 100  # draws beyond the unknowns of a least-squares fit to them
SEED = 20230715  # of the bootstrap; the same draws for every method, so that comparisons are paired


class Interval(NamedTuple):
    """A value and its 95 % interval; lo and hi are NaN where there are fewer than two concepts."""

    value: float
    lo: float
    hi: float

    def named(self, name: str) -> dict[str, float]:
        """Its three columns in a table."""
        return dict(zip((name, f"{name}_lo", f"{name}_hi"), self))


def mean_over(y: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is there; NaN, without a warning, where nothing is."""
    there = ~np.isnan(y)
    with np.errstate(invalid="ignore"):
        return np.where(there, y, 0).sum(-1) / there.sum(-1)


@cache
def t_quantile(n_concepts: int) -> float:
    """How many standard errors a 95 % interval reaches to either side: t at .975 with C - 1 degrees
    of freedom.
    """
    return float(stdtrit(n_concepts - 1, 0.975)) if n_concepts > 1 else float("nan")


def clustered(y: np.ndarray) -> Interval:
    """Two-way clustered t interval of the class-balanced mean of y [C, P]: images of one concept,
    or of one prompt, go up and down together, so that the number of concepts decides how sure one
    can be."""
    there = ~np.isnan(y)
    y, there = y[there.any(1)], there[there.any(1)]
    n_concepts = len(y)
    if not n_concepts:
        return Interval(np.nan, np.nan, np.nan)
    w = there / (n_concepts * there.sum(1, keepdims=True))
    theta = float((w * np.where(there, y, 0)).sum())
    if n_concepts == 1:
        return Interval(theta, np.nan, np.nan)
    wr = w * np.where(there, y - theta, 0)
    v_c, v_p, v_cp = (wr.sum(1) ** 2).sum(), (wr.sum(0) ** 2).sum(), (wr**2).sum()
    v = n_concepts / (n_concepts - 1) * max(v_c, v_c + v_p - v_cp)
    half = t_quantile(n_concepts) * float(np.sqrt(v))
    return Interval(theta, theta - half, theta + half)


@dataclass(frozen=True)
class Draws:
    """How often each bootstrap draw took each concept and each prompt. Draw 0 took everything once:
    whatever is computed from the draws has the estimate itself in row 0."""

    concepts: np.ndarray  # [D, C]
    prompts: np.ndarray  # [D, P]

    @cached_property
    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Orthonormal columns [D - 1, .] of all that depends linearly on the concepts drawn, and on
        both.
        """
        return _span(self.concepts[1:]), _span(np.hstack([self.concepts[1:], self.prompts[1:]]))


def _span(counts: np.ndarray) -> np.ndarray:
    u, s, _ = np.linalg.svd(counts - counts.mean(0), full_matrices=False)
    return u[:, s > 1e-9 * max(s[0], 1.0)]


def crossed_draws(n_concepts: int, strata: np.ndarray, n: int = N_DRAWS, seed: int = SEED) -> Draws:
    """Draw concepts and prompts with replacement, independently of one another; prompts within
    their stratum (the shared ones, a group's own), so that every concept keeps its number of
    prompts."""
    rng = np.random.default_rng(seed)
    concepts = rng.multinomial(n_concepts, np.full(n_concepts, 1 / n_concepts), size=n)
    prompts = np.zeros((n, len(strata)), dtype=np.int64)
    for stratum in np.unique(strata):
        (members,) = np.nonzero(strata == stratum)
        prompts[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=n
        )
    return Draws(
        np.vstack([np.ones_like(concepts[:1]), concepts]),
        np.vstack([np.ones_like(prompts[:1]), prompts]),
    )


def drawn_means(y: np.ndarray, draws: Draws) -> np.ndarray:
    """Each concept's mean over the drawn prompts: y [..., C, P] -> [D, ..., C]; NaN where none of
    them was drawn.
    """
    lead, there = y.shape[:-1], ~np.isnan(y)
    used = there.reshape(-1, y.shape[-1]).any(0)  # image similarity knows a few of the prompts only
    flat = int(np.prod(lead)), int(used.sum())
    rows, there = y[..., used].reshape(flat), there[..., used].reshape(flat)
    times = draws.prompts[:, used].astype(float)
    total = (times @ np.where(there, rows, 0).T).reshape(-1, *lead)
    masks, which = np.unique(there, axis=0, return_inverse=True)  # few: one a group
    weight = (times @ masks.T)[:, which.reshape(-1)].reshape(-1, *lead)
    with np.errstate(invalid="ignore"):
        return np.divide(total, weight, out=total)


def over_concepts(means: np.ndarray, draws: Draws) -> np.ndarray:
    """The mean over the drawn concepts: [D, ..., C] -> [D, ...]."""
    there = ~np.isnan(means)
    times = draws.concepts.astype(float)
    if there.all():  # as usual: every draw has as many concepts as there are
        return np.einsum("d...c,dc->d...", means, times) / means.shape[-1]
    total = np.einsum("d...c,dc->d...", np.where(there, means, 0.0), times)
    with np.errstate(invalid="ignore"):
        return total / np.einsum("d...c,dc->d...", there, times)


def expanded(values: np.ndarray, n_concepts: int) -> Interval:
    """Expanded percentile interval of bootstrap values [D], row 0 the estimate. Plain percentiles
    are too narrow for few concepts; these tails give the mean of C normal numbers its t interval
    back."""
    value, drawn = float(values[0]), values[1:]
    if n_concepts < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    reach, tail = expansion(n_concepts)
    # four concepts or fewer: no draw lies so far out, the smallest and largest are too near
    if tail * len(drawn) < 1:
        half = reach * float(np.nanstd(drawn))
        return Interval(value, value - half, value + half)
    lo, hi = np.nanquantile(drawn, [tail, 1 - tail])
    return Interval(value, float(lo), float(hi))


def crossed(values: np.ndarray, draws: Draws, n_concepts: int) -> Interval:
    """Expanded interval of values [D] computed from crossed draws, whose spread counts the noise of
    a cell three times: with its concept, with its prompt, and with both. Least squares on the
    counts tells V_c, V_p and V_cp, the rest, apart; the draws are brought together until they vary
    by max(V_c, V_c + V_p - V_cp), as in `clustered`. A draw that is exactly zero stays so: it is no
    small number but a draw in which there was nothing to tell apart."""
    # Deviations of the draws.
    moved = values[1:] - mean_over(values[1:])
    moved = np.where(np.isnan(moved), 0, moved)
    of_concepts, of_both = draws.spans
    spare = len(moved) - of_both.shape[1]
    # Variance, all three parts.
    v = float(moved @ moved) / len(moved)
    # more prompts than draws can tell apart: too wide is better than too narrow
    if not v > 0 or spare < MANY:
        return expanded(values, n_concepts)
    # Concepts' part, cells' part.
    v_c = float(((moved @ of_concepts) ** 2).sum()) / len(moved)
    v_cp = (v * len(moved) - float(((moved @ of_both) ** 2).sum())) / spare
    # Shrink to the closed form.
    share = min(max(v_c, v - 2 * v_cp) / v, 1.0)
    closer = values[0] + np.sqrt(share) * (values - values[0])
    return expanded(np.where(values == 0, 0.0, closer), n_concepts)


@cache
def expansion(n_concepts: int) -> tuple[float, float]:
    """How many standard errors of the bootstrap an interval reaches to either side, and what a
    normal has beyond.
    """
    reach = float(np.sqrt(n_concepts / (n_concepts - 1))) * t_quantile(n_concepts)
    return reach, float(ndtr(-reach))


def relative_text(raw: ArrayLike, floor: ArrayLike) -> np.ndarray:
    """Raw text similarity in units of what `super` has on the same prompts: 1 is as good as plain
    words.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(raw, floor)


def harmonic(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """2ab / (a + b); 0, its limit, where either is not above zero (a cosine need not be)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    positive = (a > 0) & (b > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = 2 * a * b / (a + b)
        return mean if positive.all() else np.where(positive, mean, 0 * (a + b))


def wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 where a is above b, 0 where below, 1/2 where equal, NaN where either is missing. Scores
    have six decimals: a smaller difference is the order in which numbers were added up."""
    difference = np.where(np.abs(a - b) < 1e-9, 0.0, a - b)
    return (np.sign(difference) + 1) / 2


def best(choose: np.ndarray, report: np.ndarray) -> np.ndarray:
    """Best H: per concept, `report` of the variant (axis -2) whose `choose` is highest; [..., K, C]
    -> [..., C].
    """
    k = np.where(np.isnan(choose), -np.inf, choose).argmax(-2, keepdims=True)
    return np.take_along_axis(report, k, -2).squeeze(-2)


def non_dominated(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of a plane no other point beats on one axis without losing on the other; more is
    better.
    """
    beaten = [((x >= a) & (y >= b) & ((x > a) | (y > b))).any() for a, b in zip(x, y)]
    return ~np.array(beaten, dtype=bool) & ~np.isnan(x) & ~np.isnan(y)


def hypervolume(
    x: np.ndarray, y: np.ndarray, x_ref: np.ndarray | float, y_ref: float
) -> np.ndarray:
    """Area that points [..., K] dominate beyond the reference point, [...]."""
    missing = np.isnan(x) | np.isnan(y)
    x_ref = np.asarray(x_ref, dtype=float)[..., None]
    x = np.where(missing, x_ref, np.maximum(x, x_ref))
    y = np.where(missing, y_ref, np.maximum(y, y_ref))
    order = np.argsort(-x, axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    width = x - np.concatenate([x[..., 1:], np.broadcast_to(x_ref, x[..., :1].shape)], -1)
    return (width * (np.maximum.accumulate(y, -1) - y_ref)).sum(-1)


def front_at(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """y of the front of points [K], interpolated between its neighbours at `at`; NaN beyond the
    front's ends.
    """
    on = non_dominated(x, y)
    if not on.any():
        return np.full(np.shape(at), np.nan)
    order = np.argsort(x[on])
    return np.interp(at, x[on][order], y[on][order], left=np.nan, right=np.nan)


class Components(NamedTuple):
    """Variances of one image's score that come from the concept, the prompt, the two together, and
    the noise.
    """

    concept: float
    prompt: float
    cell: float
    image: float


def components(y: np.ndarray, n: np.ndarray, sd: np.ndarray) -> Components:
    """Unbiased variance components from cell means y [C, P], their numbers of images and standard
    deviations.

    Half the mean squared difference of two cells estimates the sum of the variances in which they
    differ: of cells of one concept, of one prompt, or of neither in common. A component that comes
    out below zero is reported as 0. With one image a cell its noise cannot be told from the cell's
    own variance: `image` is NaN and `cell` holds both.
    """
    there = ~np.isnan(y)
    dof = np.where(there, np.maximum(n - 1, 0), 0)
    image = float((dof * np.nan_to_num(sd) ** 2).sum() / dof.sum()) if dof.sum() else float("nan")
    within_c, pairs_c = _half_squares(y, there, 1)
    within_p, pairs_p = _half_squares(y, there, 0)
    whole, pairs = _half_squares(y.reshape(1, -1), there.reshape(1, -1), 1)
    neither = _ratio(whole - within_c - within_p, pairs - pairs_c - pairs_p)
    var_concept = neither - _ratio(within_c, pairs_c)
    var_prompt = neither - _ratio(within_p, pairs_p)
    noise = image * float((1 / n[there]).mean()) if dof.sum() else 0.0
    var_cell = neither - var_concept - var_prompt - noise
    return Components(max(var_concept, 0.0), max(var_prompt, 0.0), max(var_cell, 0.0), image)


def _half_squares(y: np.ndarray, there: np.ndarray, axis: int) -> tuple[float, int]:
    """Over all ordered pairs of different cells along an axis: the sum of half their squared
    differences, n sum(v^2) - sum(v)^2 of each line, and the number of pairs.
    """
    # around their mean, or the difference of two large sums would be rounding
    v = np.where(there, y - y[there].mean(), 0.0) if there.any() else np.zeros_like(y)
    n = there.sum(axis)
    return float((n * (v**2).sum(axis) - v.sum(axis) ** 2).sum()), int((n**2).sum() - n.sum())


def _ratio(total: float, pairs: int) -> float:
    return total / pairs if pairs else float("nan")


def mean_variance(y: np.ndarray, n: np.ndarray, of: Components) -> Components:
    """What each component contributes to the variance of the class-balanced mean of this layout."""
    there = ~np.isnan(y)
    there = there[there.any(1)]
    w = there / (len(there) * there.sum(1, keepdims=True))
    noise = (w**2 / np.where(there, n[(~np.isnan(y)).any(1)], 1)).sum()
    return Components(
        of.concept * (w.sum(1) ** 2).sum(),
        of.prompt * (w.sum(0) ** 2).sum(),
        of.cell * (w**2).sum(),
        of.image * noise,
    )
