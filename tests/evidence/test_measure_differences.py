"""Differences between methods in measures: paired by cell, as a plain loop has them."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.evidence.measure_differences import POINT, differences

CONCEPTS, METHODS = ["c0", "c1", "c2", "c3"], [("perfusion", POINT), ("cd", "default")]


def rows_of(metric: str, prompts: list[str], values: np.ndarray) -> list[dict[str, object]]:
    """`values`: [methods, concepts, prompts]."""
    kind = "drift" if metric.startswith("drift") else "shape"
    return [
        {"method": method, "point": point, "concept": concept, "group": "all", "prompt_id": prompt,
         "kind": kind, "metric": metric, "n": 2, "mean": values[m, c, p], "sd": 0.1,
         "even": values[m, c, p], "odd": values[m, c, p]}
        for m, (method, point) in enumerate(METHODS)
        for c, concept in enumerate(CONCEPTS)
        for p, prompt in enumerate(prompts)
    ]  # fmt: skip


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    own, other = [f"p{k}" for k in range(5)], [f"d{k}" for k in range(3)]
    concept, shift = rng.normal(0, 1, (1, 4, 1)), np.array([0.0, 0.3])[:, None, None]
    drift = concept + shift + rng.normal(0, 0.01, (2, 4, 3))
    rows = rows_of("image_sim", own, rng.normal(0, 1, (2, 4, 5)))
    rows += rows_of("text_sim_raw", own, rng.normal(0, 1, (2, 4, 5)))
    rows += rows_of("drift", other, drift)
    return pd.DataFrame(rows), drift


def test_what_concepts_share_is_no_noise_of_a_difference(cells):
    frame, drift = cells
    head, *rows = differences(frame)
    assert head == ["measure", "cd"] and [row[0] for row in rows] == [
        "image_sim", "text_sim_raw", "drift",
    ]  # fmt: skip
    value, lo, _, hi = rows[2][1].replace("(", "").replace(")", "").split()
    assert float(value) == pytest.approx((drift[0] - drift[1]).mean(), abs=5e-4)
    assert -0.34 < float(lo) < -0.3 < float(hi) < -0.26, "concepts lie a hundred times as far apart"


def test_a_measure_that_a_method_lacks_is_empty(cells):
    frame, _ = cells
    gone = (frame["metric"] == "drift") & (frame["method"] == "cd")
    assert differences(frame[~gone])[3] == ["drift", ""]
