"""Ranks of operating points: what is certain counts, what is not is a tie; against the paired
differences that the tables have, and by hand.
"""

from dataclasses import replace

import numpy as np
import pytest
from run_kit import ROOT

from benchmarks.tables.build import split_pairs
from benchmarks.tables.derived import read_table
from benchmarks.tables.frames import differences
from benchmarks.tables.grid import FLOOR, grid_of
from benchmarks.tables.ranks import Rank, ask_the_same, paired_difference, ranks

RUN = ROOT / "results" / "miniature-quick"


@pytest.fixture(scope="module")
def cells():
    return split_pairs(read_table(RUN, "cells"))[0]


def shifted(cells, by):
    """The same run, every picture of its methods more like its concept by so much."""
    mine = (cells["metric"] == "image_sim") & ~cells["method"].isin([FLOOR, "real"])
    moved = cells.copy()
    for column in ("mean", "even", "odd"):
        moved.loc[mine, column] += by
    return moved


def test_a_rank_counts_who_is_certainly_ahead_and_behind(cells):
    """By the intervals of `perfbench table --by difference`, which pair points of one run."""
    grid = grid_of(cells)
    points = [m for m, (name, _) in enumerate(grid.points) if name != FLOOR]
    for metric in ("image_sim", "text_sim", "harmonic"):
        found = ranks([(grid, m) for m in points], metric)
        for place, rank in zip(points, found):
            ahead = behind = 0
            for other in points:
                d = paired_difference((grid, place), (grid, other), metric)
                ahead, behind = ahead + (d.hi < 0), behind + (d.lo > 0)
            assert (rank.first, rank.last) == (1 + ahead, len(points) - behind)


def test_differences_are_those_of_the_tables(cells):
    grid = grid_of(cells)
    told = differences(cells)
    told = told[told["other"] == FLOOR]
    floor = grid.rows(FLOOR)[0]
    for _, row in told.iterrows():
        mine = grid.row((row["method"], row["point"]))
        d = paired_difference((grid, mine), (grid, floor), row["metric"])
        assert d == pytest.approx((row["difference"], row["lo"], row["hi"]))


def test_points_of_two_runs_are_paired_cell_by_cell(cells):
    """A shift that is the same in every cell is certain, however wide each interval is."""
    one, other = grid_of(cells), grid_of(shifted(cells, 0.001))
    assert ask_the_same([one, other])
    m = one.row(("perfusion", "local-b0.60-t0.15"))
    d = paired_difference((other, m), (one, m), "image_sim")
    assert d.value == pytest.approx(0.001) and d.lo > 0
    better, worse = ranks([(other, m), (one, m)], "image_sim")
    assert (str(better), str(worse)) == ("1", "2")
    assert [str(rank) for rank in ranks([(one, m), (one, m)], "harmonic")] == ["1-2", "1-2"]


def test_by_hand(cells):
    """Three points, one of which is far ahead, the others equal."""
    one = grid_of(cells)
    m = one.row(("perfusion", "global-b0.60-t0.15"))
    ahead = grid_of(shifted(cells, 0.2))
    found = ranks([(one, m), (ahead, m), (one, m)], "image_sim")
    assert [str(rank) for rank in found] == ["2-3", "1", "2-3"]
    assert found[1].value - found[0].value == pytest.approx(0.2)


def test_one_concept_decides_nothing(cells):
    alone = grid_of(cells[cells["concept"] == "cat"])
    points = [(alone, m) for m in range(3)]
    assert {str(rank) for rank in ranks(points, "image_sim")} == {"1-3"}


def test_other_questions_are_not_paired(cells):
    one = grid_of(cells)
    assert not ask_the_same([one, grid_of(cells[cells["concept"] != "cat"])])
    assert not ask_the_same([one, replace(one, seed=1)])
    assert ranks([], "harmonic") == [] and str(Rank(0.5, 2, 4)) == "2-4"
    assert np.isfinite(one.balanced["harmonic"][0]).all()
