"""Frames for figures against plain loops over cells, and against worlds whose answer is known."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import frames
from benchmarks.tables.grid import grid_of
from benchmarks.tables.statistics import N_DRAWS, clustered
from perfusion_core.errors import UserError

GROUPS = {
    "cat": "animated",
    "dog": "animated",
    "pup": "animated",
    "pot": "container",
    "chair": "furniture",
}
PROMPTS = {
    **{f"s{i}": ("shape", "all") for i in range(6)},
    **{f"a{i}": ("deform", "animated") for i in range(4)},
    **{f"c{i}": ("deform", "container") for i in range(3)},
    **{f"f{i}": ("deform", "furniture") for i in range(2)},
}


def cell_frame(
    levels: dict[tuple[str, str], tuple[float, float]], noise: float = 0.02, seed: int = 0
) -> pd.DataFrame:
    """Cells whose (image, text) level is given by operating point, with shared concept and prompt
    effects.
    """
    rng = np.random.default_rng(seed)
    concept = {c: rng.normal(0, 0.03, 2) for c in GROUPS}
    prompt = {p: rng.normal(0, 0.01, 2) for p in PROMPTS}
    rows = []
    for (method, point), level in levels.items():
        for c, group in GROUPS.items():
            for p, (kind, of) in PROMPTS.items():
                if of not in ("all", group):
                    continue
                for k, metric in enumerate(("image_sim", "text_sim_raw")):
                    if metric == "text_sim_raw" or kind == "shape":
                        even, odd = (
                            level[k] + concept[c][k] + prompt[p][k] + rng.normal(0, noise, 2)
                        )
                        mean, sd = (even + odd) / 2, noise
                        rows.append(
                            (method, point, c, group, p, kind, metric, 8, mean, sd, even, odd)
                        )
    columns = [
        "method",
        "point",
        "concept",
        "group",
        "prompt_id",
        "kind",
        "metric",
        "n",
        "mean",
        "sd",
        "even",
        "odd",
    ]
    return pd.DataFrame(rows, columns=columns)


SUPER = ("super", "default")
LEVELS = {
    SUPER: (0.50, 0.30),
    ("perfusion", "local-b0.60-t0.15"): (0.80, 0.24),
    ("perfusion", "local-b0.75-t0.15"): (0.70, 0.28),
    ("perfusion", "global-b0.40-t0.15"): (0.65, 0.26),  # dominated
    ("cd", "default"): (0.75, 0.25),
    ("db", "default"): (0.85, 0.20),  # beyond the front's end
}


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return cell_frame(LEVELS)


def per_concept(
    cells: pd.DataFrame, method: str, point: str, metric: str, column: str = "mean"
) -> dict[str, float]:
    mine = cells[
        (cells["method"] == method) & (cells["point"] == point) & (cells["metric"] == metric)
    ]
    return {c: statistics.fmean(mine.loc[mine["concept"] == c, column]) for c in GROUPS}


def plane(cells: pd.DataFrame, method: str, point: str) -> tuple[float, float]:
    image = per_concept(cells, method, point, "image_sim")
    raw, base = (per_concept(cells, m, p, "text_sim_raw") for m, p in ((method, point), SUPER))
    return statistics.fmean(image.values()), statistics.fmean(raw[c] / base[c] for c in GROUPS)


def test_fronts(cells):
    fronts = frames.fronts(cells)
    assert len(fronts) == len(LEVELS)
    for row in fronts.to_dict("records"):
        image, text = plane(cells, row["method"], row["point"])
        assert (row["image_sim"], row["text_sim"]) == pytest.approx((image, text), abs=1e-9)
        assert row["image_sim_lo"] < image < row["image_sim_hi"]
    on = fronts[fronts["method"] == "perfusion"].set_index("point")["on_front"].to_dict()
    assert on == {"local-b0.60-t0.15": True, "local-b0.75-t0.15": True, "global-b0.40-t0.15": False}


def test_best_h_chooses_the_highest_harmonic_mean_of_each_concept(cells):
    chosen = frames.best_h(cells)
    assert len(chosen) == 3 * len(GROUPS) and set(chosen["method"]) == {"perfusion"}
    points = [point for method, point in LEVELS if method == "perfusion"]
    for row in chosen.to_dict("records"):
        column = {"all": "mean", "even": "even", "odd": "odd"}[row["half"]]
        best = {}
        for point in points:
            image = per_concept(cells, "perfusion", point, "image_sim", column)[row["concept"]]
            raw = per_concept(cells, "perfusion", point, "text_sim_raw", column)[row["concept"]]
            text = raw / per_concept(cells, *SUPER, "text_sim_raw")[row["concept"]]
            best[point] = 2 * image * text / (image + text)
        assert row["point"] == max(best, key=best.__getitem__)
        assert row["harmonic"] == pytest.approx(best[row["point"]])


def test_paired_differences_against_loops(cells):
    found = frames.differences(cells, "perfusion")
    assert len(found) == 3 * 3 * 4
    row = found.query(
        "point == 'local-b0.60-t0.15' and other == 'cd' and metric == 'image_sim'"
    ).iloc[0]
    mine, theirs = (
        cells.query("method == @m and point == @p and metric == 'image_sim'").set_index(
            ["concept", "prompt_id"]
        )["mean"]
        for m, p in (("perfusion", "local-b0.60-t0.15"), ("cd", "default"))
    )
    difference = mine - theirs
    per = [statistics.fmean(difference[c]) for c in GROUPS]
    won = [statistics.fmean(float(d > 0) for d in difference[c]) for c in GROUPS]
    assert row["difference"] == pytest.approx(statistics.fmean(per))
    assert row["win_rate"] == pytest.approx(statistics.fmean(won))
    assert (row["concepts_won"], row["n_concepts"], row["n_cells"]) == (
        sum(d > 0 for d in per),
        5,
        30,
    )
    assert (row["lo"], row["hi"]) == pytest.approx(clustered(difference.unstack().to_numpy())[1:])


def test_paired_differences_of_scores_that_are_no_means(cells):
    found = (
        frames.differences(cells)
        .query("point == 'local-b0.60-t0.15' and other == 'cd'")
        .set_index("metric")
    )

    def scores(method: str, point: str) -> dict[str, dict[str, float]]:
        image, raw = (
            per_concept(cells, method, point, metric) for metric in ("image_sim", "text_sim_raw")
        )
        base = per_concept(cells, *SUPER, "text_sim_raw")
        text = {c: raw[c] / base[c] for c in GROUPS}
        return {"text_sim": text, "harmonic": {c: 2 / (1 / image[c] + 1 / text[c]) for c in GROUPS}}

    mine, theirs = scores("perfusion", "local-b0.60-t0.15"), scores("cd", "default")
    for metric in ("text_sim", "harmonic"):
        per, row = [mine[metric][c] - theirs[metric][c] for c in GROUPS], found.loc[metric]
        assert row["difference"] == pytest.approx(statistics.fmean(per))
        assert row["lo"] < row["difference"] < row["hi"] and row["concepts_won"] == sum(
            d > 0 for d in per
        )


def test_pairing_takes_out_what_methods_share(cells):
    """Concepts and prompts move both methods alike: the paired interval is far narrower than
    either's own.
    """
    row = (
        frames.differences(cells)
        .query("point == 'local-b0.60-t0.15' and other == 'cd' and metric == 'image_sim'")
        .iloc[0]
    )
    own = frames.fronts(cells).query("method == 'cd'").iloc[0]
    assert row["hi"] - row["lo"] < 0.5 * (own["image_sim_hi"] - own["image_sim_lo"])
    assert row["lo"] <= 0.05 <= row["hi"]  # the truth


def test_a_method_against_its_twin_shows_nothing(cells):
    twin = pd.concat([cells, cells[cells["method"] == "cd"].assign(method="twin")])
    for row in frames.differences(twin, "cd").query("other == 'twin'").to_dict("records"):
        assert (row["difference"], row["lo"], row["hi"], row["win_rate"]) == pytest.approx(
            (0, 0, 0, 0.5)
        )


def test_differences_of_a_method_that_is_not_there(cells):
    with pytest.raises(UserError, match="did you mean 'perfusion'"):
        frames.differences(cells, "perfusions")


def test_front_gap_is_the_distance_to_the_interpolated_front(cells):
    gaps = frames.front_gaps(cells).set_index("other")
    (x0, y0), (x1, y1) = (plane(cells, "perfusion", f"local-b{b}-t0.15") for b in ("0.75", "0.60"))
    x, y = plane(cells, "cd", "default")
    assert gaps.loc["cd", "gap"] == pytest.approx(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y)
    assert gaps.loc["cd", "lo"] < gaps.loc["cd", "gap"] < gaps.loc["cd", "hi"]
    assert gaps.loc["cd", "inside"] > 0.95


def test_no_front_gap_beyond_the_fronts_ends(cells):
    row = frames.front_gaps(cells).set_index("other").loc["db"]
    assert math.isnan(row["gap"]) and math.isnan(row["lo"]) and math.isnan(row["hi"])


def test_no_interval_where_the_front_ends_too_near():
    near = cell_frame({**LEVELS, ("edge", "default"): (0.795, 0.25)}, noise=0.05)
    row = frames.front_gaps(near).set_index("other").loc["edge"]
    assert row["inside"] < 0.95 and math.isnan(row["lo"]) and math.isnan(row["hi"])


def test_hypervolume_against_rectangles(cells):
    found = frames.hypervolumes(cells).set_index("method")
    floor = plane(cells, *SUPER)[0]
    (x0, y0), (x1, y1) = (plane(cells, "perfusion", f"local-b{b}-t0.15") for b in ("0.75", "0.60"))
    area = (x0 - floor) * (y0 - 0.5) + (x1 - x0) * (y1 - 0.5)
    assert found.loc["perfusion", "hypervolume"] == pytest.approx(area)
    assert (found.loc["perfusion", "n_front"], found.loc["perfusion", "n_points"]) == (2, 3)
    assert found.loc["perfusion", "lo"] < area < found.loc["perfusion", "hi"]
    assert "super" not in found.index


def test_hypervolume_needs_a_floor(cells):
    assert frames.hypervolumes(cells[cells["method"] != "super"]).empty


def test_per_concept_intervals_are_over_prompts(cells):
    found = frames.per_concept(cells)
    assert len(found) == len(LEVELS) * len(GROUPS)
    row = found.query("method == 'cd' and concept == 'pot'").iloc[0]
    assert row["image_sim"] == pytest.approx(
        per_concept(cells, "cd", "default", "image_sim")["pot"]
    )
    assert row["n_prompts"] == 9 and row["text_sim_lo"] < row["text_sim"] < row["text_sim_hi"]
    y = cells.query("method == 'cd' and concept == 'pot' and metric == 'image_sim'")["mean"]
    half = 2.5706 * y.std(ddof=1) / math.sqrt(6)  # t with 5 degrees of freedom
    assert row["image_sim_hi"] - row["image_sim_lo"] == pytest.approx(2 * half, rel=0.35)


@pytest.mark.parametrize(
    "by, labels",
    [("kind", {"shape", "deform"}), ("group", set(GROUPS.values())), ("concept", set(GROUPS))],
)
def test_breakdown_against_loops(cells, by, labels):
    found = frames.breakdown(cells, by)
    assert set(found[by]) == labels
    for row in found[found["method"] == "cd"].to_dict("records"):
        mine = cells[
            (cells["method"] == "cd") & (cells["metric"] == "text_sim_raw") & (cells[by] == row[by])
        ]
        base = cells[
            (cells["method"] == "super")
            & (cells["metric"] == "text_sim_raw")
            & (cells[by] == row[by])
        ]
        assert row["n_cells"] == len(mine)
        assert row["text_sim_raw"] == pytest.approx(mine.groupby("concept")["mean"].mean().mean())
        gain = mine.groupby("concept")["mean"].mean() - base.groupby("concept")["mean"].mean()
        assert row["text_gain"] == pytest.approx(gain.mean())


def test_breakdown_by_labels_and_by_what_is_not_there(cells):
    found = frames.breakdown(cells, "scenario", {"s0": "beach", "a0": "book"})
    assert set(found["scenario"]) == {"beach", "book"}
    assert found.query("method == 'cd' and scenario == 'book'")["n_cells"].tolist() == [3]
    with pytest.raises(UserError, match="prompt_id"):
        frames.breakdown(cells, "prompt")


def test_hardest_cells_are_named(cells):
    broken = cells.copy()
    at = {"image_sim": ("dog", "s3"), "text_sim_raw": ("pot", "c1")}
    for metric, (concept, prompt) in at.items():
        mine = (broken["method"] == "cd") & (broken["metric"] == metric)
        mine &= (broken["concept"] == concept) & (broken["prompt_id"] == prompt)
        assert mine.sum() == 1
        broken.loc[mine, "mean"] -= 0.3
    worst = frames.hardest(broken, 3).query("method == 'cd'").groupby("metric", sort=False).first()
    assert worst[["concept", "prompt_id"]].to_numpy().tolist() == [["dog", "s3"], ["pot", "c1"]]
    assert (worst["below"] > 0.2).all()


def test_variance_says_what_to_buy():
    """Where concepts differ most, more concepts narrow the interval; where images differ most, more
    images do.
    """
    concepts = frames.variance(cell_frame({SUPER: (0.5, 0.3)}, noise=0.005))
    half = concepts.query("metric == 'image_sim'").set_index("component")["if_doubled"]
    assert half["concept"] < 0.8 < half["prompt"] and half["image"] > 0.9
    noisy = cell_frame({SUPER: (0.5, 0.3)}, noise=0.0).assign(sd=0.5)
    rng = np.random.default_rng(0)
    noisy["mean"] += rng.normal(0, 0.5 / math.sqrt(8), len(noisy))
    half = (
        frames.variance(noisy).query("metric == 'image_sim'").set_index("component")["if_doubled"]
    )
    assert half["image"] < 0.85
    shares = frames.variance(noisy).groupby("metric")[["share", "share_of_mean"]].sum()
    assert shares.to_numpy() == pytest.approx(1.0)


def test_variance_of_one_concept_or_one_image_claims_nothing(cells):
    assert frames.variance(cells[cells["concept"] == "cat"]).empty
    single = (
        frames.variance(cells.assign(n=1, sd=np.nan))
        .query("metric == 'image_sim'")
        .set_index("component")
    )
    assert np.isnan(
        single.loc["image", ["variance", "share_of_mean", "if_doubled"]].to_numpy(float)
    ).all()
    assert single["share_of_mean"].groupby(
        [single["method"], single["point"]]
    ).sum().to_numpy() == pytest.approx(1)


def test_paired_intervals_of_scores_are_as_sure_as_those_of_means(cells):
    """text_sim is nearly raw text over a constant, 0.3: bootstrap and closed form of a difference
    must nearly agree.
    """
    found = (
        frames.differences(cells)
        .query("point == 'local-b0.60-t0.15' and other == 'cd'")
        .set_index("metric")
    )
    width = found["hi"] - found["lo"]
    assert width["text_sim"] == pytest.approx(width["text_sim_raw"] / 0.3, rel=0.2)


def test_the_bootstrap_is_deterministic_and_shared(cells):
    once, again = grid_of(cells), grid_of(cells.sample(frac=1, random_state=0))
    assert once.drawn["harmonic"].shape == (N_DRAWS + 1, len(LEVELS), len(GROUPS))
    assert (once.drawn["harmonic"] == again.drawn["harmonic"]).all()
    assert frames.front_gaps(cells).equals(frames.front_gaps(cells.sample(frac=1, random_state=1)))
