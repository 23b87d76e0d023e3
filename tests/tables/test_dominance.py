"""Fronts by additive epsilon, and the summary from floor to ceiling: against plain loops, worlds
whose answer is known, and rows that are committed.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_frames import GROUPS, LEVELS, cell_frame

from benchmarks.paths import FIRST_WORLD
from benchmarks.tables.build import split_pairs
from benchmarks.tables.dominance import (
    BEYOND,
    DECIDING,
    DOMINATED,
    NOT_BEYOND,
    TRADE_OFF,
    UNDECIDED,
    attained,
    compared_fronts,
    deciding,
    epsilon,
    verdict,
)
from benchmarks.tables.grid import grid_of
from benchmarks.tables.one_number import SCALED, summaries
from benchmarks.tables.run_view import open_run
from benchmarks.tables.statistics import Interval, harmonic
from perfusion_core.errors import UserError

RESULTS = Path(__file__).parents[2] / FIRST_WORLD


def looped(ours, theirs):
    """The definition: of each of theirs our best, on the axis where it is worse; the worst."""
    return min(max(min(x - u, y - v) for x, y in ours) for u, v in theirs)


def test_epsilon_against_loops():
    rng = np.random.default_rng(0)
    x, y, u, v = (rng.normal(size=(7, n)) for n in (4, 4, 3, 3))
    found = epsilon(x, y, u, v)
    for d in range(7):
        expected = looped(list(zip(x[d], y[d])), list(zip(u[d], v[d])))
        assert found[d] == pytest.approx(expected, abs=1e-15)
    x[0, 1] = np.nan  # a point that was not measured is no point
    left = [(x[0, k], y[0, k]) for k in (0, 2, 3)]
    assert epsilon(x, y, u, v)[0] == pytest.approx(looped(left, list(zip(u[0], v[0]))))


def test_epsilon_has_no_ends_and_no_reference():
    """One point ahead on both axes, one behind on one, shifted together: the same numbers."""
    for shift in (0.0, 5.0):
        a = np.array([0.6 + shift]), np.array([0.9 + shift])
        b = np.array([0.5 + shift, 0.2 + shift]), np.array([0.8 + shift, 0.95 + shift])
        assert epsilon(*a, *b) == pytest.approx(-0.05)  # of 0.95 it is 0.05 short
        assert epsilon(*b, *a) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("ahead", "behind", "said"),
    [
        ((0.1, 0.05, 0.2), (-0.1, -0.2, -0.05), BEYOND),
        ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.2), DOMINATED),
        ((-0.1, -0.2, -0.05), (-0.1, -0.2, -0.05), TRADE_OFF),
        ((-0.1, -0.2, -0.05), (0.0, -0.1, 0.1), NOT_BEYOND),
        ((0.0, -0.1, 0.1), (-0.1, -0.2, -0.05), UNDECIDED),
        ((0.1, math.nan, math.nan), (0.0, math.nan, math.nan), UNDECIDED),
    ],
)
def test_verdicts_are_what_the_intervals_say(ahead, behind, said):
    assert verdict(Interval(*ahead), Interval(*behind)) == said


def test_fronts_of_a_world_that_is_known():
    """`low` is behind on both axes, `other` ahead on text and behind on image."""
    cells = cell_frame(
        {**LEVELS, ("low", "default"): (0.4, 0.1), ("other", "default"): (0.3, 0.9)}, noise=0.004
    )
    found = compared_fronts(cells, "perfusion").set_index("other")
    assert "super" not in found.index and "perfusion" not in found.index
    assert found.loc["low", "verdict"] == BEYOND and found.loc["other", "verdict"] == TRADE_OFF
    assert found.loc["low", "concepts_beyond"] == found.loc["low", "n_concepts"] == len(GROUPS)
    assert found.loc["other", ["concepts_beyond", "concepts_dominated"]].tolist() == [0, 0]
    mirror = compared_fronts(cells, "low").set_index("other")
    assert mirror.loc["perfusion", "verdict"] == DOMINATED
    for ours, theirs in (("ahead", "behind"), ("behind", "ahead")):
        for end in ("", "_lo", "_hi"):
            assert mirror.loc["perfusion", ours + end] == found.loc["low", theirs + end]
    with pytest.raises(UserError, match="did you mean 'perfusion'"):
        compared_fronts(cells, "perfusions")


def test_verdicts_hang_on_many_draws_where_they_fit():
    grid = grid_of(cell_frame(LEVELS))
    assert deciding(grid).n_draws == DECIDING > grid.n_draws
    wide = grid_of(cell_frame({("perfusion", f"local-b{k / 100:.2f}-t0.15"): (0.5, 0.5)
                               for k in range(1, 200)}))  # fmt: skip
    assert deciding(wide).n_draws == wide.n_draws


def test_the_committed_run_says_of_loras_front_what_its_ends_could_not():
    """Against LoRA the gap beyond the front's end was 0.000 (0.000 to 0.000). By epsilon, with
    intervals of another implementation (2,000 draws): -0.084 (-0.165, -0.021).
    """
    cells = split_pairs(open_run(RESULTS / "miniature-paper").cells)[0]
    found = compared_fronts(cells, "perfusion").set_index("other")
    for other, values in {
        "lora-selected": (-0.084, -0.165, -0.021),
        "cd-selected": (0.096, -0.026, 0.158),
        "ti-selected": (0.018, -0.026, 0.038),
        "db-selected": (-0.067, -0.171, 0.035),
    }.items():
        row = found.loc[other, ["ahead", "ahead_lo", "ahead_hi"]].to_numpy(float)
        assert row[0] == pytest.approx(values[0], abs=5e-4)
        assert row[1:] == pytest.approx(values[1:], abs=0.014)
    assert found.loc["lora-selected", "verdict"] == TRADE_OFF
    assert found.loc["cd-selected", ["concepts_beyond", "concepts_dominated"]].tolist() == [9, 0]


def test_attainment_is_a_share_of_concepts():
    grid = grid_of(cell_frame({**LEVELS, ("low", "default"): (0.4, 0.1)}))
    image, text = np.linspace(-1, 2, 7), np.linspace(-1, 2, 5)
    found = attained(grid, "low", image, text)
    m = grid.row(("low", "default"))
    for i, goal in enumerate(text):
        for j, like in enumerate(image):
            x, y = grid.scores["image_sim"][m], grid.scores["text_sim"][m]
            assert found[i, j] == pytest.approx(np.mean((x >= like) & (y >= goal)))
    assert found[0, 0] == 1 and found[-1, -1] == 0


def test_image_similarity_from_floor_to_ceiling():
    """Against a loop over concepts; the ceiling comes from the rows of real images."""
    cells = cell_frame(LEVELS)
    real = pd.DataFrame(
        [
            {"method": "real", "point": "default", "concept": c, "group": g, "prompt_id": "",
             "kind": "real", "metric": "image_sim", "n": 5, "mean": 0.9 + 0.01 * k,
             "sd": 0.0, "even": 0.9, "odd": 0.9}
            for k, (c, g) in enumerate(GROUPS.items())
        ]
    )  # fmt: skip
    found = summaries(pd.concat([cells, real])).set_index(["method", "point"])
    grid = grid_of(cells)
    top = {c: 0.9 + 0.01 * k for k, c in enumerate(GROUPS)}
    floor = grid.scores["image_sim"][grid.row(("super", "default"))]
    for m, point in enumerate(grid.points):
        each = []
        for c, name in enumerate(grid.concepts):
            share = (grid.scores["image_sim"][m, c] - floor[c]) / (top[name] - floor[c])
            each.append(float(harmonic(share, grid.scores["text_sim"][m, c])))
        assert found.loc[point, SCALED] == pytest.approx(np.mean(each))
    assert found.loc[("super", "default"), SCALED] == 0
    with pytest.raises(UserError, match="has no super"):
        summaries(cells[cells["method"] != "super"])
    assert summaries(cells)[SCALED].isna().all(), "without real images there is no ceiling"


def test_the_scaled_summary_ranks_the_committed_run_as_the_judges_do():
    """The harmonic mean has Perfusion level with LoRA; the judges, and this one, do not."""
    cells = split_pairs(open_run(RESULTS / "miniature-paper").cells)[0]
    found = summaries(cells).set_index(["method", "point"])
    of = [("perfusion", "local-b0.60-t0.15"), *((f"{name}-selected", "default")
                                               for name in ("db", "lora", "ti", "cd"))]  # fmt: skip
    scaled = [found.loc[point, SCALED] for point in of]
    assert scaled == pytest.approx([0.633, 0.706, 0.726, 0.477, 0.393], abs=0.003)
