"""Measures beyond the protocol against the judges: planted truths of made-up cells and pictures."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.evidence import measure_validity
from benchmarks.evidence.measure_validity import answers

POINTS = ["a", "b", "c", "d", "e"]
CONCEPTS = [f"c{k}" for k in range(6)]
IMAGES = 4


def pictures(kind: str, prompts: list[str]) -> pd.DataFrame:
    """A row a picture, without scores."""
    index = pd.MultiIndex.from_product(
        [POINTS, CONCEPTS, prompts, range(IMAGES)],
        names=["method", "concept", "prompt_id", "index"],
    )
    return index.to_frame(index=False).assign(point="default", group="all", kind=kind)


def cells_of(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    keys = ["method", "point", "concept", "group", "prompt_id", "kind"]
    out = []
    for metric in metrics:
        means = rows.groupby(keys)[metric].mean().rename("mean").reset_index()
        halves = {"even": means["mean"], "odd": means["mean"]}
        out.append(means.assign(metric=metric, n=IMAGES, sd=0.1, **halves))
    return pd.concat(out, ignore_index=True)


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and rows: held-out likeness is the truth with some noise, plain likeness with more;
    `nearer` falls where wishes are met; drift in pixels is noise."""
    rng = np.random.default_rng(0)
    rows = pictures("shape", [f"p{k}" for k in range(12)])
    level = rows["method"].map({name: 0.05 * k for k, name in enumerate(POINTS)}).to_numpy()
    true, wishes = level + rng.normal(0, 0.05, len(rows)), rng.normal(0, 0.2, len(rows)) - level
    rows = rows.assign(
        image_sim=true + rng.normal(0, 0.2, len(rows)),
        image_sim_heldout=true + rng.normal(0, 0.02, len(rows)),
        text_sim_raw=wishes + rng.normal(0, 0.1, len(rows)),
        nearer=-wishes + rng.normal(0, 0.05, len(rows)),
    )
    rows = rows.assign(**{"image_sim_truth-1": true, "text_sim_raw_truth-1": wishes})
    other = pictures("drift", [f"d{k}" for k in range(10)])
    moved = rng.normal(0, 0.1, len(other)) + 0.1 * other["method"].map(POINTS.index)
    other = other.assign(drift=moved, drift_pixels=rng.normal(0, 0.1, len(other)))
    other = other.assign(**{"drift_truth-1": moved + rng.normal(0, 0.02, len(other))})
    names = ["image_sim", "image_sim_heldout", "text_sim_raw", "nearer"]
    cells = [
        cells_of(rows, [*names, "image_sim_truth-1", "text_sim_raw_truth-1"]),
        cells_of(other, ["drift", "drift_pixels", "drift_truth-1"]),
    ]
    return pd.concat(cells, ignore_index=True), rows


FEW = 300  # draws


def number(told: str) -> float:
    return float(told.split()[0])


def test_a_planted_truth_is_found_and_noise_is_not(world):
    found = {one.measure: one for one in answers(*world, FEW)}
    assert list(found) == [
        "image_sim", "image_sim_heldout", "text_sim_raw", "copy_gap", "nearer", "drift",
        "drift_pixels",
    ]  # fmt: skip
    better, plain = found["image_sim_heldout"], found["image_sim"]
    assert number(better.cells) > 0.9 > number(plain.cells)
    assert number(better.images) > 0.9 > 0.5 > number(plain.images) > 0
    assert better.points.startswith("+1.000") and better.apart == "10 of 10"
    assert number(found["drift"].cells) > 0.9 and not found["drift"].images
    assert abs(number(found["drift_pixels"].cells)) < 0.2


def test_what_claims_that_wishes_are_missed_is_judged_the_other_way_round(world):
    nearer = next(one for one in answers(*world, FEW) if one.measure == "nearer")
    assert number(nearer.images) > 0.9 and number(nearer.points) > 0.8


def test_a_single_picture_agrees_as_numpy_says(world):
    """The mean over concepts and prompts of r within cells, points joined."""
    cells, rows = world
    names = ["image_sim_heldout", "image_sim_truth-1"]
    keys = ["method", "point", "concept", "prompt_id"]
    inside = rows[names] - rows.groupby(keys)[names].transform("mean")
    each = [
        np.corrcoef(part.to_numpy().T)[0, 1]
        for _, part in inside.groupby([rows["concept"], rows["prompt_id"]])
    ]
    found = {one.measure: one for one in answers(cells, rows, FEW)}
    assert number(found["image_sim_heldout"].images) == pytest.approx(np.mean(each), abs=5e-4)


def test_measures_without_a_truth_or_without_rows_are_left_out(world):
    cells, rows = world
    plain = cells[~cells["metric"].str.contains("truth")]
    assert answers(plain, rows, FEW) == []
    few = cells[~cells["metric"].isin(["drift", "nearer"])]
    assert {"drift", "nearer"}.isdisjoint(one.measure for one in answers(few, rows, FEW))


def test_cells_that_one_of_both_lacks_count_for_neither(world):
    cells, _ = world
    gone = (cells["metric"] == "image_sim_truth-1") & cells["prompt_id"].isin(["p0", "p1"])
    grid = measure_validity.paired_grid(cells[~gone], "image_sim", "image_sim_truth-1")
    assert grid.prompts == sorted(f"p{k}" for k in range(2, 12))
