"""The time left as a range: the truth lies in it for work that goes on as it began."""

import numpy as np
import pytest

from benchmarks.planning.config import resolve
from benchmarks.planning.units import Cell, Fit, Prior
from benchmarks.running import time_left
from benchmarks.running.beforehand import LONG, faster
from benchmarks.running.prepared import prepare_run
from benchmarks.running.progress import doing
from benchmarks.running.time_left import TimeLeft, words, work_of

PRIOR = Prior("cat", tuple(range(16)), "prior")
RECIPE = {"steps": 100, "batch": 8}


def fit(key, select=True, prior=None):
    return Fit("perfusion", "cat", "cat", RECIPE, prior, select, (), 0, key)


def cell(key):
    words = ("perfusion", "perfusion", "default", {}, 0, ("cat",), ("cat",), "animated", "s01")
    return Cell(*words, "shape", "A {cat}", "A", (1, 2), (), key)


UNITS = [PRIOR, fit("a"), fit("b"), *(cell(f"cell {n}") for n in range(10))]
HOW = {"steps": 20, "look": 8, "every": 25}


def test_work_counts_rows_through_the_network():
    assert work_of(PRIOR, 20, 8, 25) == 16 * 2 * 20
    assert work_of(cell("x"), 20, 8, 25) == 2 * 2 * 20
    assert work_of(fit("x", select=False), 20, 8, 25) == 100 * 8 * 3
    assert work_of(fit("x"), 20, 8, 25) - 100 * 8 * 3 == 4 * 8 * 2 * 20
    assert work_of(fit("x", False, PRIOR), 20, 8, 25) == 100 * 16 * 3


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("price", [(0.01, 0.01), (0.004, 0.007), (0.007, 0.004)])
def test_the_truth_lies_within(price, workers):
    """Trainings and pictures cost something else a row, as on a real machine."""
    rng, left = np.random.default_rng(0), TimeLeft(UNITS, workers, **HOW)
    cost = {u.key: work_of(u, **HOW) * price[not isinstance(u, Fit)] for u in UNITS}
    assert left.range() is None
    for number, unit in enumerate(UNITS):
        left.ended(unit, cost[unit.key] * rng.uniform(0.9, 1.1))
        low, high = left.range()
        assert low <= sum(cost[u.key] for u in UNITS[number + 1 :]) / workers <= high
    assert left.range() == (0, 0)


def test_a_fit_tells_while_it_runs(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    left = TimeLeft([fit("a")], 1, **HOW)
    left.step(fit("a"), 0.0)
    now[0] = 110.0
    left.step(fit("a"), 0.25)
    low, high = left.range()
    assert low < 30 < high and high < 40


def test_what_somebody_else_made_teaches_nothing():
    left = TimeLeft(UNITS, 1, **HOW)
    left.ended(UNITS[0], 0.0)
    assert left.range() is None


def test_words():
    assert words(31, 58) == "31 to 58 s" and words(59.6, 60) == "about 60 s"
    assert words(170, 290) == "3 to 5 min" and words(3700, 9000) == "1 to 3 h"
    assert doing(fit("a"), "step 3 of 9") == "training perfusion on cat, step 3 of 9"
    assert doing(cell("c")) == "drawing cat by perfusion" and "any cat" in doing(PRIOR)


@pytest.mark.parametrize(
    "flags, left, told",
    [
        ({"dtype": "bfloat16"}, LONG + 1, True),
        ({"dtype": "float32"}, LONG + 1, False),
        ({"dtype": "bfloat16"}, LONG, False),
        ({"dtype": "bfloat16", "compile": True}, LONG + 1, False),
    ],
)
def test_compiling_is_advised_where_it_helps(flags, left, told):
    prepared = prepare_run(resolve(preset="quick", flags={"device": "cpu", **flags}))
    assert ("compile=true" in faster(prepared, left)) == told
