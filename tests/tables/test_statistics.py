"""Statistics against references in plain loops, and against what they promise about known
truths.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.tables import statistics

GROUPS = ["animated"] * 7 + ["container"] * 2 + ["furniture", "wearable"]
PROMPTS = (
    ["all"] * 19 + ["animated"] * 30 + ["container"] * 16 + ["furniture"] * 11 + ["wearable"] * 10
)
LAYOUT = np.array([[p in ("all", g) for p in PROMPTS] for g in GROUPS])  # [11, 86], the paper's
T_975_DOF_10, T_975_DOF_2 = 2.228139, 4.302653  # from printed tables


def scores(seed: int = 0, layout: np.ndarray = LAYOUT) -> np.ndarray:
    rng = np.random.default_rng(seed)
    concept, prompt = rng.normal(0, 0.05, (len(layout), 1)), rng.normal(0, 0.03, layout.shape[1])
    return np.where(layout, 0.7 + concept + prompt + rng.normal(0, 0.04, layout.shape), np.nan)


def loop_mean(y: np.ndarray) -> float:
    per_concept = []
    for row in y:
        there = [v for v in row if not math.isnan(v)]
        if there:
            per_concept.append(sum(there) / len(there))
    return sum(per_concept) / len(per_concept)


def class_mean(y: np.ndarray) -> np.ndarray:
    """Cells -> concept -> mean over concepts, as grids take it: y [..., C, P] -> [...]."""
    return statistics.mean_over(statistics.mean_over(y))


def test_layout_is_the_papers():
    assert LAYOUT.shape == (11, 86)
    assert LAYOUT.sum() * 8 == 3776


def test_class_balance_is_not_the_mean_over_images():
    y = scores()
    assert class_mean(y) == pytest.approx(loop_mean(y), abs=1e-14)
    two = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, np.nan, np.nan, np.nan]])
    assert class_mean(two) == 0.5  # over images it would be 0.8
    stacked = np.stack([y, y + 1])
    assert class_mean(stacked) == pytest.approx([loop_mean(y), loop_mean(y) + 1])


def loop_clustered(y: np.ndarray, t: float) -> tuple[float, float]:
    """The formula of the protocol, term by term; -> the value and half the interval's width."""
    n_c, n_p = y.shape
    theta = loop_mean(y)
    wr = [[0.0] * n_p for _ in range(n_c)]
    for c in range(n_c):
        p_c = sum(not math.isnan(v) for v in y[c])
        for p in range(n_p):
            if not math.isnan(y[c, p]):
                wr[c][p] = (y[c, p] - theta) / (n_c * p_c)
    v_c = sum(sum(wr[c][p] for p in range(n_p)) ** 2 for c in range(n_c))
    v_p = sum(sum(wr[c][p] for c in range(n_c)) ** 2 for p in range(n_p))
    v_cp = sum(wr[c][p] ** 2 for c in range(n_c) for p in range(n_p))
    return theta, t * math.sqrt(n_c / (n_c - 1) * max(v_c, v_c + v_p - v_cp))


@pytest.mark.parametrize(
    "layout, t",
    [(LAYOUT, T_975_DOF_10), (LAYOUT[:, :19], T_975_DOF_10), (LAYOUT[[0, 7, 9]], T_975_DOF_2)],
)
def test_clustered_interval_against_loops(layout, t):
    y = scores(1, layout)
    theta, half = loop_clustered(y, t)
    assert statistics.clustered(y) == pytest.approx((theta, theta - half, theta + half), abs=2e-7)


def test_clustered_takes_the_larger_variance():
    """Where prompts move all concepts alike, V_c + V_p - V_cp is the larger; where they cancel, V_c
    is.
    """
    common = np.tile(np.arange(4.0), (3, 1)) + np.array([[0.0], [0.1], [0.2]])
    cancel = np.array([[1.0, -1.0], [-1.0, 1.0]]) + np.array([[0.0], [0.5]])
    for y in (common, cancel):
        _, half = loop_clustered(y, 1.0)
        got = statistics.clustered(y)
        assert (got.hi - got.value) / statistics.t_quantile(len(y)) == pytest.approx(half)


def test_one_concept_has_no_interval_and_none_has_no_value():
    one = statistics.clustered(np.array([[0.5, 0.7]]))
    assert one.value == pytest.approx(0.6) and math.isnan(one.lo) and math.isnan(one.hi)
    assert all(math.isnan(v) for v in statistics.clustered(np.full((3, 2), np.nan)))
    absent = np.vstack([scores()[:3], np.full((1, 86), np.nan)])
    assert statistics.clustered(absent) == statistics.clustered(scores()[:3])


# (concept, prompt, cell, image) variances of one image's score
WORLDS = [
    (1.0, 1.0, 1.0, 1.0),
    (1.0, 0.25, 0.5, 1.0),
    (1.0, 0.0, 0.0, 0.0),
    (0.3, 1.0, 0.5, 1.0),
    (0.1, 1.0, 0.5, 1.0),
]


def draw_world(rng: np.random.Generator, variances, images: int = 8) -> np.ndarray:
    c, p, cp, e = np.sqrt(variances)
    y = (
        rng.normal(0, c, (11, 1))
        + rng.normal(0, p, (1, 86))
        + rng.normal(0, np.hypot(cp, e / math.sqrt(images)), LAYOUT.shape)
    )
    return np.where(LAYOUT, y, np.nan)


@pytest.mark.parametrize("variances", WORLDS)
@pytest.mark.parametrize("columns", [86, 19], ids=["all prompts", "shape prompts"])
def test_the_interval_covers_the_truth_95_times_in_100(variances, columns):
    rng = np.random.default_rng(8)
    n = 2000
    inside = 0
    for _ in range(n):
        interval = statistics.clustered(draw_world(rng, variances)[:, :columns])
        inside += interval.lo <= 0 <= interval.hi
    assert 0.93 <= inside / n <= 0.97


def test_an_interval_over_images_would_not():
    """Why the unit is the concept: as if every image were independent, 95 % intervals hold a
    fraction of the time.
    """
    rng = np.random.default_rng(8)
    inside = 0
    for _ in range(300):
        y = draw_world(rng, WORLDS[0])
        images = (y[LAYOUT][:, None] + rng.normal(0, 1, (LAYOUT.sum(), 8))).ravel()
        inside += abs(images.mean()) <= 1.96 * images.std(ddof=1) / math.sqrt(images.size)
    assert inside / 300 < 0.3


def test_draws_keep_every_concepts_number_of_prompts():
    draws = statistics.crossed_draws(11, np.array(PROMPTS), n=200)
    assert (draws.concepts[0] == 1).all() and (draws.prompts[0] == 1).all()
    assert (draws.concepts.sum(1) == 11).all()
    assert (draws.prompts @ LAYOUT.T == LAYOUT.sum(1)).all()
    assert len({tuple(row) for row in draws.prompts}) == 201
    again = statistics.crossed_draws(11, np.array(PROMPTS), n=200)
    assert (again.concepts == draws.concepts).all() and (again.prompts == draws.prompts).all()


def test_bootstrap_means_against_drawing_by_hand():
    y = np.stack([scores(2), scores(3)])
    y[1, 4, 7] = np.nan
    draws = statistics.crossed_draws(11, np.array(PROMPTS), n=5)
    got = statistics.over_concepts(statistics.drawn_means(y, draws), draws)
    for d in range(6):
        for k in range(2):
            means = []
            for c in range(11):
                values = [
                    y[k, c, p]
                    for p in range(86)
                    for _ in range(draws.prompts[d, p])
                    if not math.isnan(y[k, c, p])
                ]
                means += [sum(values) / len(values)] * draws.concepts[d, c]
            assert got[d, k] == pytest.approx(sum(means) / len(means), abs=1e-13)


def test_a_concept_without_drawn_prompts_is_left_out():
    y = np.array([[1.0, np.nan], [3.0, 5.0]])
    draws = statistics.Draws(np.array([[1, 1], [1, 1]]), np.array([[1, 1], [0, 2]]))
    means = statistics.drawn_means(y, draws)
    assert np.isnan(means[1, 0]) and means[1, 1] == 5
    assert statistics.over_concepts(means, draws) == pytest.approx([2.5, 5.0])


def test_expanded_tails():
    values = np.concatenate([[0.5], np.random.default_rng(0).normal(0, 1, 40_000)])
    tail = 0.5 * math.erfc(math.sqrt(11 / 10) * T_975_DOF_10 / math.sqrt(2))  # 0.0097, not 0.025
    lo, hi = (
        sorted(values[1:])[round(tail * 40_000)],
        sorted(values[1:])[round((1 - tail) * 40_000)],
    )
    assert statistics.expanded(values, 11) == pytest.approx((0.5, lo, hi), abs=0.01)
    assert tail == pytest.approx(0.0097, abs=1e-4)
    assert math.isnan(statistics.expanded(values, 1).lo)


def test_expanded_gives_concepts_their_t_interval_back():
    """For concepts alone (no prompt effects) the bootstrap and the closed form must tell the same
    story.
    """
    y = np.tile(np.random.default_rng(5).normal(0, 1, (11, 1)), (1, 19))
    draws = statistics.crossed_draws(11, np.zeros(19), n=20_000)
    boot = statistics.expanded(
        statistics.over_concepts(statistics.drawn_means(y, draws), draws), 11
    )
    closed = statistics.clustered(y)
    assert boot.hi - boot.lo == pytest.approx(closed.hi - closed.lo, rel=0.06)


@pytest.mark.parametrize("variances", [*WORLDS, (0.05, 0.05, 1.0, 1.0)])
def test_crossed_is_the_closed_form_where_there_is_one(variances):
    """Of a mean, whether concepts, prompts or the noise of cells decide: it is counted once, not
    three times.
    """
    rng = np.random.default_rng(11)
    draws, widths = statistics.crossed_draws(11, np.array(PROMPTS)), []
    for _ in range(8):
        y = draw_world(rng, variances)
        boot = statistics.crossed(
            statistics.over_concepts(statistics.drawn_means(y, draws), draws), draws, 11
        )
        closed = statistics.clustered(y)
        assert boot.value == pytest.approx(closed.value)
        widths.append((boot.hi - boot.lo) / (closed.hi - closed.lo))
    # as `expanded` up to 1.6
    assert np.mean(widths) == pytest.approx(1, abs=0.1) and np.ptp(widths) < 0.25, widths


def test_crossed_with_draws_that_tell_nothing_apart_is_expanded():
    """More prompts than draws; values that do not vary; missing values."""
    y = draw_world(np.random.default_rng(12), WORLDS[0])
    few = statistics.crossed_draws(11, np.array(PROMPTS), n=120)
    values = statistics.over_concepts(statistics.drawn_means(y, few), few)
    assert statistics.crossed(values, few, 11) == statistics.expanded(values, 11)
    assert statistics.crossed(np.ones(121), few, 11) == (1, 1, 1)
    assert np.isnan(statistics.crossed(np.full(121, np.nan), few, 11)).all()
    draws = statistics.crossed_draws(11, np.array(PROMPTS))
    values = statistics.over_concepts(statistics.drawn_means(y, draws), draws)
    holes = np.where(np.arange(2001) % 50 == 7, np.nan, values)
    assert statistics.crossed(holes, draws, 11) == pytest.approx(
        statistics.crossed(values, draws, 11), abs=0.1
    )


@pytest.mark.parametrize(
    "variances", [(4.0, 0.25, 0.5, 1.0), (1.0, 1.0, 1.0, 1.0), (0.05, 0.05, 1.0, 1.0)]
)
def test_the_bootstrap_covers_a_ratio_and_a_harmonic_mean(variances):
    """The two scores that are not means."""
    rng = np.random.default_rng(3)
    draws = statistics.crossed_draws(11, np.array(PROMPTS), n=1000)
    inside, n = np.zeros(2), 600
    # the truth: concept means vary, so E[harmonic] is not harmonic(E); it is integrated over the
    # concept effects
    effects = np.random.default_rng(4).normal(0, math.sqrt(variances[0]), (400_000, 2)) * 0.02
    image, text = 0.7 + effects[:, 0], (0.3 + 0.5 * effects[:, 1]) / 0.3
    truth = np.array([text.mean(), (2 * image * text / (image + text)).mean()])
    for _ in range(n):
        image = np.where(np.arange(86) < 19, 0.7 + 0.02 * draw_world(rng, variances), np.nan)
        base = 0.3 + 0.005 * draw_world(rng, (0, 0, 1, 1))
        raw = base + 0.01 * draw_world(rng, variances)
        text = statistics.drawn_means(raw, draws) / statistics.drawn_means(base, draws)
        for k, values in enumerate(
            (text, statistics.harmonic(statistics.drawn_means(image, draws), text))
        ):
            interval = statistics.crossed(statistics.over_concepts(values, draws), draws, 11)
            inside[k] += interval.lo <= truth[k] <= interval.hi
    assert (inside / n >= 0.93).all() and (inside / n <= 0.97).all(), inside / n


def test_the_bootstrap_covers_the_hypervolume_and_the_gap_to_a_front():
    """Three points of one method, one of another, `super`: most of what moves one moves them
    all.
    """
    rng = np.random.default_rng(6)
    draws = statistics.crossed_draws(11, np.array(PROMPTS), n=400)
    levels = np.array([(0.80, 0.24), (0.74, 0.27), (0.68, 0.29), (0.76, 0.25), (0.5, 0.30)])
    x, y = levels[:, 0], levels[:, 1] / 0.3
    truth = np.array([loop_hypervolume(list(zip(x[:3], y[:3])), 0.5, 0.5), 0.9 - 0.1 / 3 - y[3]])
    inside, n = np.zeros(2), 600
    for _ in range(n):
        own = np.stack([draw_world(rng, (0.05, 0.05, 1, 1)) for _ in range(10)]).reshape(
            5, 2, *LAYOUT.shape
        )
        shared = np.stack([draw_world(rng, (1, 1, 0, 0)) for _ in range(2)])
        worlds = levels[..., None, None] + np.array([0.01, 0.005])[:, None, None] * (
            own + 3 * shared
        )
        worlds[:, 0, :, 19:] = np.nan
        image, raw = (statistics.drawn_means(worlds[:, k], draws) for k in (0, 1))  # [D, 5, C]
        x, y = (statistics.over_concepts(of, draws) for of in (image, raw / raw[:, 4:]))
        area = statistics.hypervolume(x[:, :3], y[:, :3], x[:, 4], 0.5)
        gap = (
            np.array([statistics.front_at(a[:3], b[:3], a[3:4])[0] for a, b in zip(x, y)]) - y[:, 3]
        )
        for k, values in enumerate((area, gap)):
            interval = statistics.crossed(values, draws, 11)
            inside[k] += interval.lo <= truth[k] <= interval.hi
    assert (inside / n >= 0.93).all() and (inside / n <= 0.97).all(), inside / n


@pytest.mark.parametrize("n_concepts", [3, 4, 5, 8])
def test_the_bootstrap_covers_with_few_concepts_too(n_concepts):
    """A quick run has three concepts; the smallest and the largest of the draws alone would cover
    85 in 100.
    """
    rng = np.random.default_rng(n_concepts)
    draws = statistics.crossed_draws(n_concepts, np.zeros(10), n=1000)
    inside = 0
    for _ in range(500):
        y = (
            rng.normal(0, 0.3, (n_concepts, 1))
            + rng.normal(0, 0.05, 10)
            + rng.normal(0, 0.1, (n_concepts, 10))
        )
        interval = statistics.crossed(
            statistics.over_concepts(statistics.drawn_means(y, draws), draws), draws, n_concepts
        )
        inside += interval.lo <= 0 <= interval.hi
    assert 0.93 <= inside / 500 <= 0.97


def test_harmonic_wins_best():
    a, b = np.array([0.8, 0.5, -0.1, 0.0, np.nan]), np.array([0.4, 0.5, 0.5, 0.0, 1.0])
    assert statistics.harmonic(a, b) == pytest.approx(
        [2 / (1 / 0.8 + 1 / 0.4), 0.5, 0, 0, np.nan], nan_ok=True
    )
    assert statistics.wins(
        np.array([2.0, 1, 1, np.nan]), np.array([1.0, 1, 2, 0])
    ) == pytest.approx([1, 0.5, 0, np.nan], nan_ok=True)
    choose = np.array([[0.1, 0.9, np.nan], [0.2, 0.3, 0.4]])  # two variants, three concepts
    assert statistics.best(choose, np.array([[1.0, 2, 3], [4, 5, 6]])).tolist() == [4, 2, 6]


def loop_hypervolume(points, x_ref, y_ref):
    """Cut the plane along all coordinates and add up the cells that some point dominates."""
    xs = sorted({x_ref, *[x for x, _ in points if x > x_ref]})
    ys = sorted({y_ref, *[y for _, y in points if y > y_ref]})
    area = 0.0
    for x0, x1 in pairwise(xs):
        for y0, y1 in pairwise(ys):
            if any(x >= x1 and y >= y1 for x, y in points):
                area += (x1 - x0) * (y1 - y0)
    return area


def test_hypervolume_against_cutting_the_plane():
    rng = np.random.default_rng(6)
    for n in (1, 2, 9):
        for _ in range(20):
            x, y = rng.uniform(0.3, 0.9, n), rng.uniform(0.3, 1.1, n)
            assert statistics.hypervolume(x, y, 0.5, 0.5) == pytest.approx(
                loop_hypervolume(list(zip(x, y)), 0.5, 0.5), abs=1e-12
            )
    many = statistics.hypervolume(np.stack([x, x]), np.stack([y, y]), np.array([0.5, 0.6]), 0.5)
    assert many == pytest.approx(
        [loop_hypervolume(list(zip(x, y)), ref, 0.5) for ref in (0.5, 0.6)]
    )
    assert statistics.hypervolume(
        np.array([0.7, np.nan]), np.array([0.8, 0.9]), 0.5, 0.5
    ) == pytest.approx(0.2 * 0.3)


def test_a_dominated_point_adds_nothing_to_the_hypervolume():
    x, y = np.array([0.6, 0.8]), np.array([0.9, 0.7])
    assert statistics.hypervolume(
        np.append(x, 0.55), np.append(y, 0.65), 0.5, 0.5
    ) == statistics.hypervolume(x, y, 0.5, 0.5)


def test_front():
    x, y = np.array([0.6, 0.8, 0.7, 0.5, 0.8]), np.array([0.9, 0.7, 0.6, 0.9, 0.7])
    assert statistics.non_dominated(x, y).tolist() == [True, True, False, False, True]
    at = np.array([0.6, 0.65, 0.7, 0.8, 0.59, 0.81])
    assert statistics.front_at(x, y, at) == pytest.approx(
        [0.9, 0.85, 0.8, 0.7, np.nan, np.nan], nan_ok=True
    )
    assert np.isnan(statistics.front_at(np.array([np.nan]), np.array([1.0]), at)).all()


def loop_components(y, n, sd):
    cells = [
        (c, p) for c in range(y.shape[0]) for p in range(y.shape[1]) if not math.isnan(y[c, p])
    ]
    both, same_c, same_p = [], [], []
    for i, (c, p) in enumerate(cells):
        for d, q in cells[i + 1 :]:
            half = (y[c, p] - y[d, q]) ** 2 / 2
            (same_c if c == d else same_p if p == q else both).append(half)
    both, same_c, same_p = (sum(v) / len(v) for v in (both, same_c, same_p))
    dof = sum(n[c, p] - 1 for c, p in cells)
    image = sum((n[c, p] - 1) * sd[c, p] ** 2 for c, p in cells) / dof
    noise = image * sum(1 / n[c, p] for c, p in cells) / len(cells)
    return both - same_c, both - same_p, same_c + same_p - both - noise, image


def test_components_against_loops_and_truth():
    rng = np.random.default_rng(7)
    truth = (0.5, 0.3, 0.2, 1.0)
    found = []
    for _ in range(60):
        images = np.where(LAYOUT, draw_world(rng, (*truth[:3], 0)), np.nan)[
            :, :, None
        ] + rng.normal(0, 1, (*LAYOUT.shape, 4))
        y, n, sd = images.mean(2), np.full(LAYOUT.shape, 4), images.std(2, ddof=1)
        found.append(statistics.components(y, n, sd))
    assert statistics.components(y, n, sd) == pytest.approx(loop_components(y, n, sd), rel=1e-9)
    assert np.mean(found, axis=0) == pytest.approx(truth, rel=0.15)


def test_components_never_below_zero_and_single_images():
    rng = np.random.default_rng(9)
    y = rng.normal(0, 1, (4, 6))
    one = statistics.components(y, np.ones((4, 6)), np.full((4, 6), np.nan))
    assert min(one[:3]) >= 0 and math.isnan(one.image)


def test_mean_variance_is_what_the_mean_really_varies_by():
    """The parts add up to the variance of the class-balanced mean, seen over many drawn worlds."""
    rng = np.random.default_rng(10)
    of = statistics.Components(0.5, 0.3, 0.2, 1.0)
    n = np.full(LAYOUT.shape, 8)
    seen = np.var([class_mean(draw_world(rng, of)) for _ in range(4000)])
    assert sum(statistics.mean_variance(draw_world(rng, of), n, of)) == pytest.approx(
        seen, rel=0.08
    )
