"""`perfbench table --by scorers`: planted agreement is found, pairs and the plain word are left
out, a run of one scorer is told so.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables.scorers_alike import agreement
from perfusion_core.errors import UserError


def cells_of(noise, flip=False):
    """Six points, eight concepts, ten prompts; a second scorer that is the first one and noise."""
    rng, rows = np.random.default_rng(0), []
    hard = rng.normal(0, 0.05, 10)
    for m, method in enumerate(("super", "a", "b", "c", "d", "e")):
        for concept in range(8):
            for prompt in range(10):
                value = 0.5 + 0.03 * m + hard[prompt] + rng.normal(0, 0.02)
                other = (1 - value if flip else value) + rng.normal(0, noise)
                where = (method, "default", f"c{concept}", "all", f"p{prompt}", "shape")
                for metric, mean in (("image_sim", value), ("text_sim_raw", value),
                                     ("image_sim_raters-1", other)):  # fmt: skip
                    rows.append((*where, metric, 2, mean, 0.0, mean, mean))
    columns = ["method", "point", "concept", "group", "prompt_id", "kind", "metric", "n", "mean"]
    return pd.DataFrame(rows, columns=[*columns, "sd", "even", "odd"])


def test_a_planted_agreement_is_found():
    near = agreement(cells_of(0.001))
    assert list(near["scorer"].unique()) == ["raters-1"] and set(near["metric"]) == {"image_sim"}
    assert len(near) == 3 and (near["agreement"] > 0.95).all()
    assert (agreement(cells_of(0.001, flip=True))["agreement"] < -0.95).all()
    lost = agreement(cells_of(5.0)).set_index("question")
    cell = lost.loc["the better point of a cell (Pearson)"]
    assert cell["agreement_lo"] < 0 < cell["agreement_hi"]


def test_pearson_over_cells_is_that_of_numpy():
    cells = cells_of(0.03)
    found = agreement(cells).set_index("question").loc["the better point of a cell (Pearson)"]
    cells = cells[cells["method"] != "super"]
    wide = cells.pivot_table(index=["concept", "prompt_id", "method"], columns="metric",
                             values="mean")  # fmt: skip
    wide -= wide.groupby(["concept", "prompt_id"]).transform("mean")
    each = [
        np.corrcoef(mine["image_sim"], mine["image_sim_raters-1"])[0, 1]
        for _, mine in wide.groupby("concept")
    ]
    assert found["agreement"] == pytest.approx(np.mean(each))


def test_a_method_that_was_not_rated_is_left_out():
    """As if it were not there; of concepts that were not rated the other scorer counts no cell."""
    cells = cells_of(0.03)
    raters = cells["metric"] == "image_sim_raters-1"
    found = agreement(cells[~(raters & (cells["method"] == "c"))])
    without = agreement(cells[cells["method"] != "c"])
    columns = ["agreement", "agreement_lo", "agreement_hi"]
    assert np.isfinite(found[columns].to_numpy()).all()
    assert np.allclose(found[columns], without[columns], atol=1e-6)
    # one that is bad where raters saw it, and best in the concepts that they did not see
    unseen = cells["concept"].isin(["c6", "c7"]) & (cells["method"] == "a")
    moved = cells.assign(mean=cells["mean"] + 5.0 * (unseen & ~raters))
    some = agreement(moved[~(raters & unseen)]).set_index("question")["agreement"]
    assert (some > 0.6).all()


def test_one_scorer_agrees_with_itself():
    cells = cells_of(0.1)
    alone = cells[cells["metric"] != "image_sim_raters-1"]
    with pytest.raises(UserError, match="has one scorer alone"):
        agreement(alone)
    pair = alone.assign(metric=alone["metric"].replace("text_sim_raw", "image_sim_a"))
    with pytest.raises(UserError, match="has one scorer alone"):
        agreement(pair)
