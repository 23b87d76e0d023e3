"""The ledger of claims on made runs: planted effects are found, with the right sign, and what is
absent is said.
"""

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from made_run import CONCEPTS, GLOBAL, LOCAL, make_run
from PIL import Image

from benchmarks.evidence import (
    all_claims,
    claim_measures,
    claims_front,
    claims_page,
    claims_seen,
    judged,
    ledger,
    validity,
    verdicts,
)
from benchmarks.evidence.commands import COMMANDS, ELEVEN, KEPT, TAKEN, UNUSUAL
from benchmarks.evidence.ledger import Evidence
from benchmarks.evidence.verdicts import ABSENT, FAILS, HOLDS, OPEN
from benchmarks.miniature.shipped import photographs
from benchmarks.scoring.truth import WISHES
from benchmarks.store.csv_files import planned_text
from benchmarks.tables.build import split_pairs
from benchmarks.tables.grid import Grid, grid_of
from benchmarks.tables.run_view import Run
from benchmarks.tables.sample_rows import CELL, missing_of
from benchmarks.tables.scorers_alike import correlation
from benchmarks.tables.statistics import Interval
from perfusion_core.concept import Concept
from perfusion_core.errors import UserError

ROOT = Path(__file__).parent.parent.parent
DEFAULT = ("default",)
VARIANTS = ("one-shot", "trained-k", "no-mask", "train-bias", "vanilla-rome")
STEPS = tuple(f"local-b0.60-t0.15-s{step}" for step in (25, 100, 400))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    baselines = ("cd", "db", "ti", "cd-selected", "db-selected", "ti-selected")
    methods = {"perfusion": (*LOCAL, *GLOBAL)} | dict.fromkeys(baselines, DEFAULT)
    make_run(folder / "miniature-paper", methods, images=2, pictures=False)
    cold = {"perfusion-infer-temperature": tuple(point.replace("0.15", "0.10") for point in LOCAL)}
    variants = {"perfusion": LOCAL, **{f"perfusion-{name}": LOCAL for name in VARIANTS}, **cold}
    make_run(folder / "miniature-ablations", variants, images=2, pictures=False)
    both = {"perfusion": STEPS, "perfusion-trained-k": STEPS}
    make_run(folder / "miniature-dynamics", both, images=1, pictures=False)
    return folder


def found_in(folder):
    return {row.claim.says: row.finding for row in all_claims.ledger(folder)}


def test_planted_effects_get_their_verdicts(results):
    found = {claim: finding.verdict for claim, finding in found_in(results).items()}
    assert found["Perfusion's front lies beyond Textual Inversion"] == HOLDS
    assert found["One trained model spans the front by its bias alone, monotonically"] == HOLDS
    locks = "One trained model spans the front by what is chosen when drawing, the lock included"
    assert found[locks] not in (ABSENT, OPEN), "two points by their whole names"
    assert (
        found["Key locking raises text similarity without significant harm to image similarity"]
        == HOLDS
    )
    assert found["Global locking varies more over concepts than local"] == HOLDS
    assert (
        found[
            "Vanilla ROME is worse (the paper: corrupted, because what is trained is not what is "
            "drawn)"
        ]
        == HOLDS
    )
    assert found["Training on one image overfits slightly"] == HOLDS
    assert found["A temperature of 0.15 at inference is better than that of training"] == HOLDS
    assert found["Trained K overfits as training goes on"] == HOLDS
    assert found["Local key locking over-generalises instead"] != HOLDS, (
        "planted: its text similarity falls as well"
    )
    assert found["DreamBooth is below Perfusion and Custom Diffusion on both axes"] == FAILS, (
        "planted: above cd in text"
    )
    assert found["Textual Inversion has the lowest text similarity"] == HOLDS
    assert (
        found["Custom Diffusion favours image similarity, at the cost of text similarity"] == HOLDS
    )
    assert (
        found[
            "A trained concept is small: 100 KB, where Custom Diffusion needs nearly 100 MB and "
            "DreamBooth several GB"
        ]
        == FAILS
    ), "planted: a thirtieth"
    assert found["Perfusion's front lies beyond LoRA (not in the paper)"] == ABSENT
    assert found["Perfusion's front lies beyond every other method"] == ABSENT, "no lora in the run"
    assert found["A concept carries over to a fine-tuned backbone"] == ABSENT


def test_what_would_stand_out_by_chance_among_many_is_undecided():
    """Benjamini and Hochberg by hand: of p = .001, .02, .04, .9 the third has q = .04 x 4 / 3."""
    assert verdicts.adjusted([0.04, 0.9, 0.001, np.nan, 0.02]) == pytest.approx(
        [0.04 * 4 / 3, 0.9, 0.004, np.nan, 0.04], nan_ok=True
    )
    found = ledger.Finding("+0.1", verdicts.Judged(HOLDS, 0.98, 0.04))
    assert all_claims.among(found, 0.04, 4) == found
    late = all_claims.among(found, 0.0533, 4)
    assert late.verdict == OPEN and late.figure.endswith("not among 4 claims (q = 0.05)")
    absent = ledger.Finding("no run", verdicts.Judged(ABSENT))
    assert all_claims.among(absent, np.nan, 4) == absent


def test_draws_are_many_where_a_verdict_hangs_on_them(results):
    assert Evidence(results).grid("ablations").n_draws == 20_000


def test_compute_is_counted_to_the_step_that_validation_picks(tmp_path):
    """0.1 s a step against 0.05 s: 300 of 400 steps are 0.6 of Custom Diffusion's 1,000, and all of
    them 0.8.
    """
    evidence = Evidence(tmp_path)
    with pytest.raises(UserError, match="speed of a fit of perfusion has not been measured"):
        claims_seen.cheap(evidence)
    (tmp_path / "speed").mkdir()
    table = (
        "| a fit by the recipe | batch | steps | s a step |\n|---|---|---|---|\n| perfusion | "
        "16 | 400 | 0.1 | 40 |\n"
    )
    (tmp_path / "speed" / "miniature-cpu.md").write_text(f"{table}| cd | 8 | 1000 | 0.05 | 50 |\n")
    with pytest.raises(UserError, match="no trained files"):
        claims_seen.cheap(evidence)
    (tmp_path / "miniature-concepts").mkdir()
    for name, steps in (("cat", 200), ("teapot", 400)):
        concept = Concept.load(ROOT / "results" / "miniature-concepts" / f"{name}.safetensors")
        dataclasses.replace(concept, steps=steps).save(
            tmp_path / "miniature-concepts" / f"{name}.safetensors"
        )
    found = claims_seen.cheap(evidence)
    assert found == ledger.Finding(
        "0.60 of its compute, 300 steps on average", verdicts.Judged(HOLDS)
    )
    whole = claims_seen.cheap_whole(evidence)
    assert whole == ledger.Finding("0.80 of its compute, 400 steps", verdicts.Judged(OPEN))


def test_attention_is_compared_with_each_method(results, tmp_path):
    shutil.copytree(results / "miniature-paper", tmp_path / "miniature-paper")
    folder = tmp_path / "miniature-paper" / "attention"
    folder.mkdir()
    rng = np.random.default_rng(0)
    leakage = {"perfusion": 0.5, "ti": 0.6, "cd": 0.4}
    rows = [
        (method, concept, prompt, t, level + 0.01 * rng.normal())
        for method, level in leakage.items()
        for concept in CONCEPTS
        for prompt in ("s01", "a01")
        for t in (250, 750)
    ]
    frame = pd.DataFrame(rows, columns=["method", "concept", "prompt_id", "t", "leakage"])
    frame.to_csv(folder / "cells.csv", index=False)
    found = found_in(tmp_path)
    assert found["Textual Inversion's attention leaves the object"].verdict == HOLDS
    assert found["Custom Diffusion's attention leaves the object"].verdict == FAILS
    assert found["DreamBooth's attention leaves the object"].verdict == ABSENT


def test_without_any_run_nothing_is_claimed(tmp_path):
    assert {finding.verdict for finding in found_in(tmp_path).values()} == {ABSENT}


def test_a_run_that_lacks_methods_or_cells_is_no_evidence(results, tmp_path):
    """A sentence in the row, and never a traceback or an average over what happens to be there."""
    make_run(
        tmp_path / "miniature-paper",
        {"perfusion": LOCAL},
        ["cat", "chair"],
        images=2,
        pictures=False,
    )
    found = found_in(tmp_path)
    assert found["Perfusion's front lies beyond DreamBooth"].figure == "no db-selected in the run"
    assert (
        found["Less compute than Custom Diffusion (a half to a third), with all steps"].figure
        == "the speed of a fit of perfusion has not been measured"
    )
    assert "have not been looked at" in found["The generative prior is preserved"].figure
    assert found["Global locking varies more over concepts than local"].verdict == ABSENT
    run = tmp_path / "cut" / "miniature-paper"
    shutil.copytree(results / "miniature-paper", run)
    cells = pd.read_csv(run / "cells.csv", keep_default_na=False)
    cells[cells["concept"] != "cat"].to_csv(run / "cells.csv", index=False)
    found = found_in(run.parent)
    assert (
        "planned images have no score"
        in found["Perfusion's front lies beyond Textual Inversion"].figure
    )


def test_a_gain_is_the_difference_of_class_balanced_means(results):
    """Against plain pandas on cells.csv."""
    cells = split_pairs(Run(results / "miniature-ablations").cells)[0]
    grid = grid_of(cells)
    a, b = claim_measures.matched(grid, "perfusion", "perfusion-no-mask", "local")
    got = claim_measures.gain(grid, "image_sim", a, b)
    image = cells[(cells["metric"] == "image_sim")]
    means = image.groupby(["method", "point", "concept"])["mean"].mean().groupby("method").mean()
    assert got.value == pytest.approx(means["perfusion"] - means["perfusion-no-mask"], abs=1e-9)
    assert got.lo < got.value < got.hi
    zero = claim_measures.gain(grid, "text_sim", a, a)
    assert zero == Interval(0, 0, 0)


def test_points_are_matched_by_lock_and_bias(results):
    grid = grid_of(split_pairs(Run(results / "miniature-ablations").cells)[0])
    a, b = claim_measures.matched(grid, "perfusion", "perfusion-infer-temperature")
    assert [grid.points[m][1] for m in a] == list(LOCAL)
    assert [grid.points[m][1] for m in b] == [point.replace("0.15", "0.10") for point in LOCAL]
    with pytest.raises(UserError, match="no operating point of perfusion with global lock"):
        claim_measures.rows(grid, "perfusion", "global")


def part(value, lo, hi, least=0.0, delta=0.0, concepts=11, step=False):
    return verdicts.Part("", Interval(value, lo, hi), concepts, least, delta, step)


def normal(value, error, **more):
    half = error * scipy.stats.t.ppf(0.975, 10)
    return part(value, value - half, value + half, **more)


def said(*parts):
    return verdicts.judged(*parts).verdict


def test_verdicts_follow_the_interval_and_not_the_value():
    assert said(part(0.1, 0.01, 0.2)) == HOLDS
    assert said(part(0.1, -0.01, 0.2)) == OPEN
    assert said(part(-0.1, -0.2, -0.01)) == FAILS
    assert said(part(0.1, np.nan, np.nan)) == OPEN, "one concept proves nothing"
    assert said(part(0.6, 0.4, 0.8, least=0.5)) == OPEN
    assert said(part(-0.01, -0.015, 0.0, least=-0.02)) == HOLDS
    assert said(part(-0.05, -0.06, -0.03, least=-0.02)) == FAILS
    assert said(part(0.1, 0.01, 0.2), part(0.1, -0.1, 0.2)) == OPEN, "all parts must hold"
    assert said(part(0.1, 0.01, 0.2), part(-0.1, -0.12, -0.08)) == FAILS, "one that fails is enough"


def test_of_many_parts_one_that_just_fails_is_not_enough():
    """Holm: of four the smallest p is taken four times."""
    edge, far = normal(-0.0235, 0.01), normal(0.5, 0.01)
    assert said(edge) == FAILS and said(edge, far, far, far) == OPEN
    assert said(normal(-0.04, 0.01), far, far, far) == FAILS


def test_steps_of_an_order_may_be_ties_and_not_go_back():
    up, level = part(0.1, 0.05, 0.2), part(0.1, 0.05, 0.2)
    tie = part(0.001, -0.01, 0.01, step=True)
    back, turned = part(-0.001, -0.01, 0.01, step=True), part(-0.1, -0.12, -0.08, step=True)
    assert said(up, tie) == HOLDS
    assert said(level, back) == OPEN and said(up, turned) == FAILS


def test_a_small_effect_is_told_from_an_unknown_one():
    """Two one-sided tests at 5 %, by scipy: of 0.003 +- 0.008 beyond 0.02 either way."""
    small = normal(0.003, 0.008, delta=0.02)
    want = 1 - scipy.stats.t.cdf((0.02 - 0.003) / 0.008, 10)
    assert small.same == pytest.approx(want) and want < 0.05
    assert said(small) == verdicts.SAME and said(normal(0.003, 0.02, delta=0.02)) == OPEN
    assert said(normal(0.003, 0.008)) == OPEN, "nobody said how small is nothing"
    assert said(normal(0.03, 0.008, delta=0.02)) == HOLDS


def test_the_probability_is_that_of_the_least_likely_part():
    likely, less = normal(0.1, 0.02), normal(0.01, 0.01)
    assert verdicts.judged(likely, less).true == pytest.approx(scipy.stats.t.cdf(1, 10))
    assert verdicts.judged(likely, less).limiting == less


def test_so_many_concepts_settle_it_as_the_power_says():
    """An effect of 0.6 between-concept standard deviations, by the noncentral t distribution."""
    sd, effect = 0.1, 0.06
    found = normal(effect, sd / np.sqrt(11))

    def power(n):
        beyond = scipy.stats.t.ppf(0.975, n - 1)
        return scipy.stats.nct.sf(beyond, n - 1, effect / sd * np.sqrt(n))

    n = found.settles
    assert power(n) >= 0.8 > power(n - 1)
    assert verdicts.settled_by(verdicts.judged(found)) == n
    assert np.isinf(normal(0.0001, 0.1).settles)
    near = normal(0.0, 0.02, delta=0.02)
    assert near.settles < 100, "that there is no effect can be told"


def test_verdicts_about_nothing_are_rare_among_many_claims():
    """Simulated: of 40 claims about nothing at all, runs in which any is decided are one in
    twenty."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        y = rng.normal(0, 1, (40, 11))
        found = [verdicts.judged(normal(one.mean(), one.std(ddof=1) / np.sqrt(11))) for one in y]
        qs = verdicts.adjusted([one.p for one in found])
        wrong += any(q <= 0.05 for q in qs)
    assert wrong / 200 < 0.09


# ---- fronts and choices on planes that are known


def plane(values, concepts=6, images=None, noise=0.0, seed=0):
    """A grid whose operating points have these (image, text) similarities, with a little noise of
    concepts; `noise` is what one concept has at one point."""
    rng, names = np.random.default_rng(seed), [f"c{k}" for k in range(concepts)]
    points = [("super", "default"), *values]
    level = np.array([(0.4, 1.0), *values.values()])  # [M, 2]
    own = rng.normal(0, 0.005, (concepts, 1))
    each = noise * rng.normal(0, 1, (2, len(points), concepts))
    image, text = (
        np.repeat((level[:, k, None] + own.T + each[k])[..., None], 4, axis=2) for k in (0, 1)
    )
    found = {"image_sim": image, "text_sim_raw": 0.3 * text}
    halves = {name: np.stack([v, v]) if images is None else images(v) for name, v in found.items()}
    ones = {name: np.ones_like(v) for name, v in found.items()}
    return Grid(
        points,
        names,
        ["p0", "p1", "p2", "p3"],
        ["all"] * concepts,
        ["shape"] * 4,
        found,
        halves,
        ones,
        ones,
    )


def front(other, **more):
    ours = {("perfusion", "a"): (0.6, 0.95), ("perfusion", "b"): (0.7, 0.85)}
    grid = plane({**ours, ("cd", "default"): other}, noise=0.003, **more)
    return claims_front.compared(grid, [1, 2], [3])


def test_a_front_is_judged_beyond_its_ends_as_well():
    text, found = front((0.65, 0.80))
    assert found.verdict == HOLDS and text.startswith("ahead by +0.05"), "b has both by 0.05"
    assert front((0.55, 0.85))[1].verdict == HOLDS, "dominated from beyond the lower end"
    for other in ((0.5, 1.05), (0.8, 0.7)):
        assert front(other)[1].verdict == verdicts.TRADE_OFF, "each has what the other has not"
    assert front((0.8, 1.0))[1].verdict == FAILS, "it is ahead of both of our points on both axes"
    assert front((0.7, 0.85))[1].verdict == OPEN, "as good as one of ours, which may be ahead"


def test_two_fronts_that_nearly_reach_each_other_are_equivalent():
    ours = {("perfusion", "a"): (0.6, 0.95)}
    grid = plane({**ours, ("cd", "default"): (0.605, 0.947)}, concepts=11, noise=0.001)
    assert claims_front.compared(grid, [1], [2])[1].verdict == verdicts.SAME


def test_a_tie_is_no_win():
    """Planted: as good as one of our two points, with noise of concepts."""
    verdict = []
    for seed in range(20):
        ours = {("perfusion", "a"): (0.6, 0.95), ("perfusion", "b"): (0.7, 0.85)}
        grid = plane({**ours, ("cd", "default"): (0.6, 0.95)}, concepts=11, noise=0.03, seed=seed)
        verdict.append(claims_front.compared(grid, [1, 2], [3])[1].verdict)
    assert verdict.count(HOLDS) <= 1


def test_spreads_are_compared_by_their_ratio():
    """Planted: twice the spread; the jackknife of its logarithm against numpy."""
    rng = np.random.default_rng(3)
    own = rng.normal(0, 0.05, 11)
    grid = plane({("a", "x"): (0.6, 0.9), ("b", "x"): (0.6, 0.9)}, concepts=11)
    image = grid.values["image_sim"]
    image[1], image[2] = 0.6 + 2 * own[:, None], 0.6 + own[:, None] + rng.normal(0, 1e-4, (11, 1))
    found = claim_measures.spread_ratio(grid, "image_sim", [1], [2])
    assert found.value == pytest.approx(np.log(2), abs=0.01) and found.lo > 0.5
    with pytest.raises(UserError, match="fewer than three concepts"):
        small = plane({("a", "x"): (0.6, 0.9), ("b", "x"): (0.6, 0.9)}, concepts=2)
        claim_measures.spread_ratio(small, "image_sim", [1], [2])


def test_the_point_that_is_ahead_on_both_axes_is_found():
    ours = {
        ("perfusion", "a"): (0.6, 0.95),
        ("perfusion", "b"): (0.7, 0.9),
        ("perfusion", "c"): (0.8, 0.7),
    }
    grid = plane({**ours, ("db", "default"): (0.62, 0.8)})
    assert claim_measures.dominating(grid, [1, 2, 3], 4) == 2, (
        "not the one whose image similarity is nearest"
    )


def test_choosing_by_noise_gains_nothing():
    """The halves know nothing of each other: Best H on one is worth nothing on the other."""
    rng = np.random.default_rng(1)
    same = {("perfusion", name): (0.7, 0.9) for name in "abcdef"}
    grid = plane(same, concepts=11, images=lambda v: v + rng.normal(0, 0.02, (2, *v.shape)))
    found = claim_measures.choice_gain(grid, range(1, 7))
    assert found.lo < 0 < found.hi
    naive = (
        grid.drawn_halves[0]["harmonic"][0, 1:7].max(0).mean()
        - grid.drawn_halves[0]["harmonic"][0, 1:7].mean()
    )
    assert found.value < naive / 2


@pytest.mark.parametrize("own", [0.0, 0.01, 0.03])
def test_the_gain_of_choosing_is_covered(own):
    """Whether a concept has a best point of its own or only noise: which point wins changes from
    draw to draw.
    """
    rng, found = np.random.default_rng(2), []
    for _ in range(150):
        best = own * rng.normal(0, 1, (1, 7, 11, 1))
        same = {("perfusion", name): (0.7, 0.9) for name in "abcdef"}
        grid = plane(
            same,
            concepts=11,
            images=lambda v, best=best: v + best + rng.normal(0, 0.02, (2, *v.shape)),
        )
        found.append(claim_measures.choice_gain(grid, range(1, 7)))
    truth = np.mean([one.value for one in found])
    assert 0.92 <= np.mean([one.lo <= truth <= one.hi for one in found]) <= 0.98


def test_kept_steps_are_read_as_points_are():
    names = (
        "local-b0.60-t0.15-s100",
        "local-b0.60-t0.15-s400",
        "global-b0.40-t0.15-s400",
        "local-b0.60-t0.15",
    )
    grid = plane({("perfusion", name): (0.6, 0.9) for name in names})
    assert claim_measures.ends(grid, "perfusion") == ([2], [1])
    with pytest.raises(UserError, match="fewer than two kept"):
        claim_measures.ends(grid, "super")


def test_means_over_other_numbers_of_points_can_be_compared():
    grid = plane({("a", "x"): (0.6, 0.9), ("a", "y"): (0.8, 0.9), ("b", "default"): (0.5, 0.9)})
    assert claim_measures.gain(grid, "image_sim", [1, 2], [3]).value == pytest.approx(0.2)
    grid = plane({("a", "x"): (0.6, 0.9), ("a", "y"): (0.8, 0.9), ("b", "default"): (np.nan, 0.9)})
    with pytest.raises(UserError, match="no image_sim of both"):
        claim_measures.gain(grid, "image_sim", [1, 2], [3])


def files_of_claims(docs, results):
    return (docs, "claims.svg"), (results, "claims.csv")


def test_the_page_keeps_its_words_and_is_made_again_alike(results, tmp_path):
    path, other = tmp_path / "claims.md", tmp_path / "metrics.md"
    for one in (path, other):
        one.write_text(
            f"# Claims\n\nBefore.\n\n{claims_page.BEGIN}\nSTALE\n{claims_page.END}\n\nAfter.\n"
        )
    marks = (claims_page.BEGIN_MEASURES, claims_page.BEGIN_DIFFERENCES)
    with path.open("a") as page:
        page.write(f"\n{claims_page.BEGIN_PRIMARY}\nSTALE\n{claims_page.END}\n\nAfter.\n")
    with other.open("a") as page:
        page.writelines(f"\n{mark}\nSTALE\n{claims_page.END}\n" for mark in marks)
    new = claims_page.write_pages(tmp_path, results)
    told = other.read_text()
    assert "was not scored by the truth" in told and "STALE" not in told
    assert told.count("Not measured: miniature-measures has not been made.") == 2
    once = path.read_text()
    assert (
        once.startswith("# Claims\n\nBefore.") and once.endswith("After.\n") and "STALE" not in once
    )
    assert new in once and f"{len(ledger.CLAIMS)} claims" in once
    assert "has not been looked at yet" in once and not (tmp_path / "claims-primary.svg").exists()
    made = {
        name: (folder / name).read_text() for folder, name in files_of_claims(tmp_path, results)
    }
    facts = pd.read_csv(results / "claims.csv")
    assert list(facts.drop_duplicates("claim")["claim"]) == [c.says for c in ledger.CLAIMS]
    row = facts[facts["claim"] == "The mask helps text similarity"].iloc[0]
    assert row["lo"] < row["value"] < row["hi"] and row["runs"] == "miniature-ablations"
    assert row["delta"] == 0.02 and row["concepts"] == 11 and 0 <= row["p_true"] <= 1
    picture = ElementTree.fromstring(made["claims.svg"])
    drawn = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(drawn) == len(ledger.CLAIMS) and any(one.endswith(": holds") for one in drawn)
    with pytest.raises(UserError, match="repository's folder"):
        claims_page.write_pages(tmp_path / "nowhere", results)
    claims_page.write_pages(tmp_path, results)
    assert path.read_text() == once
    assert made == {
        name: (folder / name).read_text() for folder, name in files_of_claims(tmp_path, results)
    }
    before = other.read_text()
    path.write_text("no marks")
    with pytest.raises(UserError, match="to write between"):
        claims_page.write_pages(tmp_path, results)
    assert other.read_text() == before, "both pages or none"


@pytest.mark.parametrize(
    ("folder", "file", "key"),
    [
        ("miniature-measures", "run.json", "backbone"),  # of docs/metrics.md; no claim looks there
        ("miniature-verify", "verify.json", "digests"),  # of README.md
    ],
)
def test_pages_are_not_made_from_two_backbones(results, tmp_path, folder, file, key):
    marks = (claims_page.BEGIN, claims_page.BEGIN_MEASURES, claims_page.BEGIN_DIFFERENCES)
    for name in ("claims.md", "metrics.md"):
        text = "".join(f"{mark}\nSTALE\n{claims_page.END}\n" for mark in marks)
        (tmp_path / name).write_text(text)
    place = results / folder
    if file == "run.json":
        shutil.copytree(results / "miniature-paper", place)
        about = json.loads((place / file).read_text())
        about[key] |= {"sha256": "cd" * 32}
    else:
        place.mkdir()
        about = {"world": "", key: {"backbone": "cd" * 8}}
    (place / file).write_text(json.dumps(about))
    try:
        with pytest.raises(UserError, match=f"of abab.* and {folder} of cdcd.*, both called mini"):
            claims_page.write_pages(tmp_path, results)
        assert "STALE" in (tmp_path / "claims.md").read_text()
    finally:
        shutil.rmtree(place)


def test_every_run_can_be_planned(tmp_path, monkeypatch):
    """As it is written, but for what earlier commands make (trained files, the restyled copy), and
    the judges.
    """
    from benchmarks import cli
    from benchmarks.running.prepared import prepare_run

    planned, protocols = {}, {}
    for name, commands in COMMANDS.items():
        for command in map(shlex.split, commands):
            own = f"results/miniature-{name}"
            if command[:3] == ["python", "-m", "benchmarks.evidence.joint_trial"]:
                assert command[3] == own
            elif command[0] == "python":
                assert command[1:3] == ["-m", "benchmarks.evidence"]
                if command[3] == "take":
                    assert command[4:] == [ELEVEN, TAKEN]
                else:
                    assert command[3:] in (["look", own], ["pack", own])
            elif command[1] == "concepts":
                command[3] = str(ROOT / command[3])
                monkeypatch.chdir(tmp_path)
                assert cli.run(command[1:]) == 0
            elif command[1] == "run":
                config = config_of(command[2:])
                if config.out in {f"results/{name}-repeat-{number}" for number in range(1, 6)}:
                    continue
                taught = name == "concepts"  # files that are taken from its run, and no pictures
                assert config.out == (ELEVEN if taught else f"results/miniature-{name}")
                assert {place.partition("=")[2] for place in config.trained} <= {
                    "results/miniature-paper",
                    TAKEN,
                }
                assert config.backbone in (
                    "miniature",
                    "watercolor-miniature",
                    "contrastive-miniature",
                    "miniature-xl",
                )
                here = "miniature-xl" if config.backbone == "miniature-xl" else "miniature"
                config = dataclasses.replace(
                    config, trained=(), backbone=here, scorers=config.scorers[:1]
                )
                prepared = prepare_run(config)
                planned.setdefault(name, []).append(prepared.plan)
                assert protocols.setdefault(name, prepared.protocol) == prepared.protocol, (
                    "one folder, one protocol"
                )
            else:
                assert command[1] in cli.VERBS
    images = {name: sum(plan.images for plan in plans) for name, plans in planned.items()}
    del images["measures"], images["concepts"], images["xl"]  # no claim rests on them
    again = (len(planned["paper"]) - 1) * 3776  # of super, which each command plans
    assert sum(images.values()) - again == pytest.approx(137_000, rel=0.01), (
        "docs/claims.md says so"
    )
    first = {fit.method for fit in planned["ablations"][0].fits}
    assert first == {"perfusion"} and len(planned["ablations"][0].fits) == 6 * 11, (
        "no baseline is trained twice"
    )
    assert {cell.step for cell in planned["dynamics"][0].cells} == {0, *KEPT}
    assert len({cell.concept for cell in planned["pairs"][0].cells if cell.kind == "pair"}) == 8
    assert {cell.super_categories[0] for cell in planned["unusual"][0].cells} == {
        word for _, word in UNUSUAL
    }


def test_mistakes_at_the_command_are_sentences(tmp_path):
    import subprocess
    import sys

    call = [sys.executable, "-m", "benchmarks.evidence"]
    said = subprocess.run([*call, "look", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert (
        said.returncode == 2
        and said.stderr.startswith("evidence: ")
        and "is not a run folder" in said.stderr
    )


def config_of(words):
    import argparse

    from benchmarks.running import flags

    parser = argparse.ArgumentParser()
    flags.add_flags(parser)
    return flags.config_of(parser.parse_args(words))


def test_the_better_image_of_a_cell_is_found():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [("a", "b"), ("x",), [f"c{k}" for k in range(6)], [f"p{k}" for k in range(9)]]
    )
    cells = index.to_frame(index=False, name=["method", "point", "concept", "prompt_id"])
    rows = cells.loc[cells.index.repeat(8)].reset_index(drop=True)
    # of hard and easy cells: not what is asked
    level = rows.groupby(["concept", "prompt_id"]).ngroup() * 0.1
    score, noise = rng.normal(size=(2, len(rows)))
    rows = rows.assign(image_sim=score + level)
    planted = validity.within_images(
        rows.assign(image_sim_truth=0.6 * score + 0.8 * noise + level), "image_sim"
    )
    assert planted.lo < 0.6 < planted.hi and planted.hi - planted.lo < 0.2
    unrelated = validity.within_images(rows.assign(image_sim_truth=noise + level), "image_sim")
    assert unrelated.lo < 0 < unrelated.hi
    flat = validity.within_images(
        rows.assign(image_sim_truth=rows["prompt_id"].eq("p0") * score), "image_sim"
    )
    assert flat.value == pytest.approx(1), "cells in which the truth is one number tell nothing"


def test_a_prompt_that_asks_another_scorer_nothing_is_not_missing():
    planned = pd.DataFrame(
        [("a", "x", "cat", p, "deform", 8) for p in ("p1", "p2")], columns=[*CELL, "kind", "n"]
    )
    said = [("p1", "text_sim_raw", 8), ("p2", "text_sim_raw", 8), ("p1", "text_sim_raw_truth", 8)]
    cells = pd.DataFrame([("a", "x", "cat", *one) for one in said], columns=[*CELL, "metric", "n"])
    assert missing_of(cells, planned).empty, "p2 names nothing that the truth knows"
    assert list(missing_of(cells.iloc[[0, 2]], planned)["prompt_id"]) == ["p2"], (
        "the reported scorer knows them all"
    )
    short = cells.assign(n=[8, 8, 5])
    assert list(missing_of(short, planned)["there"]) == [5]


def test_validity_finds_a_planted_truth():
    """Truth = score plus noise: high where the noise is small, none where the truth is other
    noise.
    """
    rng = np.random.default_rng(0)
    shape = (6, 8, 20)  # points, concepts, prompts
    quality = np.arange(6)[:, None, None] * 0.02 + rng.normal(0, 0.02, shape)

    def grid(noise, signal):
        score = 0.7 + quality
        truth = signal * quality + rng.normal(0, noise, shape)
        values = {
            "image_sim": score,
            "text_sim_raw": score,
            "image_sim_truth-1": truth,
            "text_sim_raw_truth-1": truth,
        }
        points = [(name, "default") for name in ("super", "a", "b", "c", "d", "e")]
        ones = {name: np.ones(shape) for name in values}
        return Grid(
            points,
            [f"c{k}" for k in range(8)],
            [f"p{k}" for k in range(20)],
            ["all"] * 8,
            ["shape"] * 20,
            values,
            {name: np.stack([v, v]) for name, v in values.items()},
            ones,
            ones,
        )

    near, none = grid(0.001, 1.0), grid(0.02, 0.0)
    assert validity.over_points(near, "image_sim").value == pytest.approx(1)
    assert validity.within_cells(near, "image_sim").lo > 0.95
    assert validity.ordered_alike(near, "image_sim") == "10 of 10"
    for values in none.values.values():
        values[0] -= 0.3  # by both
    lost = validity.within_cells(none, "image_sim")
    assert lost.lo < 0.1 and abs(lost.value) < 0.15, "that `super` is worst is no merit of a metric"
    with pytest.raises(UserError, match="--scorers truth"):
        validity.truth_of(grid_of_plain().values, "image_sim")


def test_correlation_is_that_of_the_columns_that_both_have():
    """Against numpy, on columns written out as often as they were taken."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 1, (2, 3, 12))
    a[1, 4] = b[2, 7] = np.nan
    times = rng.integers(0, 3, (4, 12))
    got = correlation(a, b, times.astype(float))
    for d in range(4):
        for row in range(3):
            x, y = (np.repeat(one[row], times[d]) for one in (a, b))
            there = ~(np.isnan(x) | np.isnan(y))
            assert got[d, row] == pytest.approx(np.corrcoef(x[there], y[there])[0, 1])


def test_columns_that_are_all_alike_have_no_correlation():
    """A draw may take the same few prompts again and again; what is left of their differences is
    rounding.
    """
    a, b = np.array([[0.1, 0.1, 0.1, 0.7]]), np.array([[0.3, 0.2, 0.9, 0.4]])
    found = correlation(a, b, np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 7.0, 5.0, 0.0]]))
    assert found[0, 0] == pytest.approx(np.corrcoef(a, b)[0, 1]) and np.isnan(found[1, 0])


def test_prompts_that_all_concepts_share_are_counted_once():
    """Planted: over 19 prompts, r is 0.3 for every one of eleven concepts, because they share what
    the prompts do.
    """
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 19)
    a = (a - a.mean()) / a.std()
    b = rng.normal(0, 1, 19)
    b -= b.mean() + (a @ b) / 19 * a
    hard = {"image_sim": a, "image_sim_truth-1": 0.3 * a + np.sqrt(1 - 0.3**2) * b / b.std()}
    noise = {name: rng.normal(0, 0.01, (2, 11, 19)) for name in hard}
    values = {name: 0.7 + 0.05 * (hard[name] + noise[name]) for name in hard}
    values |= {name.replace("image_sim", "text_sim_raw"): one for name, one in values.items()}
    ones = {name: np.ones((2, 11, 19)) for name in values}
    halves = {name: np.stack([one, one]) for name, one in values.items()}
    names = [f"c{k}" for k in range(11)], [f"p{k}" for k in range(19)], ["all"] * 11, ["shape"] * 19
    grid = Grid([("super", "default"), ("a", "default")], *names, values, halves, ones, ones)
    found = validity.over_prompts(grid, "image_sim")
    assert found.value == pytest.approx(0.3, abs=0.01)
    assert found.lo < 0 and found.hi > 0.5, "nineteen prompts, and not eleven times nineteen"


def grid_of_plain():
    return Grid([], [], [], [], [], {"image_sim": np.zeros((0, 0, 0))}, {}, {}, {})


# ---- what only pictures tell


def test_the_distance_of_two_sets_is_that_of_the_formula():
    """Against one dimension, where it is (m - n)^2 + (s - t)^2; and every concept counts the
    same.
    """
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4000, 1)), rng.normal(2, 3, (4000, 1))
    want = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert judged.frechet(judged.Moments.of(a), judged.Moments.of(b)) == pytest.approx(
        want, rel=1e-9
    )
    wide = rng.normal(0, 1, (500, 6)) @ rng.normal(0, 1, (6, 6))
    assert judged.frechet(judged.Moments.of(wide), judged.Moments.of(wide)) == pytest.approx(
        0, abs=1e-6
    )
    few, many = wide[:100], wide[100:]
    whole = judged.mean_moments([judged.Moments.of(few), judged.Moments.of(many)])
    even = judged.Moments.of(np.concatenate([*[few] * 4, many]))
    np.testing.assert_allclose(whole.normal()[0], even.normal()[0], atol=1e-12)
    np.testing.assert_allclose(whole.normal()[1], even.normal()[1], atol=1e-12)


def test_what_is_particular_to_a_concept_is_no_harm():
    """Planted: each concept's pictures lie off their aims in a direction of its own. With ever more
    concepts the sets would agree; the interval knows, where a bootstrap's would begin above the
    truth."""
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        aims = [rng.normal(0, 1, (400, 4)) for _ in range(11)]
        sets = [rng.normal(0, 1, (400, 4)) + rng.normal(0, 0.4, 4) for _ in range(11)]
        values = judged.leaving_out(
            *([judged.Moments.of(x) for x in each] for each in (sets, aims))
        )
        found = judged.jackknife(values)
        truth = 4 * (np.sqrt(1 + 0.4**2) - 1) ** 2  # their spread is left, their shift is not
        covered.append(found.lo < truth < found.hi)
    assert sum(covered) >= 17
    assert np.isnan(judged.jackknife(values[:1]).lo)


SCENES = {"s01": "A {} on the beach", "s02": "A {} in the snow"}


class KnowingJudges:
    """They know the concepts' photographs; of any other picture its colour says who it is and
    where.
    """

    same = 0.5

    def __init__(self, names):
        self.names = {
            picture.tobytes(): n for n, name in enumerate(names) for picture in photographs(name)[0]
        }

    def features(self, pictures):
        return (
            pictures.reshape(len(pictures), -1, 3).mean(1)
            + np.arange(len(pictures))[:, None] ** 2 % 7
        )

    def identity(self, pictures):
        return np.eye(256)[[self.names.get(one.tobytes(), one[0, 0, 0]) for one in pictures]]

    def factors(self, pictures):
        said = {name: np.full(len(pictures), "none", dtype=object) for name in WISHES}
        said["scene"] = np.where(pictures[:, 0, 0, 1] == 0, "beach", "garden")  # never snow
        return said | {"cls": np.full(len(pictures), "cat", dtype=object)}


def seen_run(run, concepts):
    """`super` never shows the concept, Perfusion in three of four images; name ->
    super-category.
    """
    plan = []
    for method in ("super", "perfusion"):
        for number, (concept, word) in enumerate(concepts.items()):
            for place, (prompt, template) in enumerate(SCENES.items()):
                folder = run / "images" / method / "default" / concept / prompt
                folder.mkdir(parents=True)
                for index in range(4):
                    own = number if method == "perfusion" and index < 3 else 9
                    Image.new("RGB", (64, 64), (own, place, index)).save(folder / f"{index}.png")
                plan.append(
                    {
                        "method": method,
                        "point": "default",
                        "concept": concept,
                        "group": "animated",
                        "prompt_id": prompt,
                        "kind": "shape",
                        "n": 4,
                        "key": "",
                        "fit": "",
                        "template": template.replace("{}", f"{{{concept}}}"),
                        "text": " ".join(template.replace("{}", "").split()),
                        "super_category": word,
                    }
                )
            folder = run / "concepts" / concept
            folder.mkdir(parents=True, exist_ok=True)
            for index, picture in enumerate(photographs(concept.partition("_as_")[0])[0]):
                Image.fromarray(picture).save(folder / f"{index}.png")
    (run / "plan.csv").write_text(planned_text(plan))
    return Run(run)


def test_pictures_of_the_concept_itself_are_good_and_those_of_others_are_not(tmp_path):
    run = seen_run(tmp_path / "run", {"cat": "cat", "chair": "chair"})
    points, cells = judged.judge_run(run, KnowingJudges(["cat", "chair"]))
    frame = points.set_index("method")
    assert frame.loc["perfusion", "good"] == pytest.approx(0.375), (
        "three of four of the prompts on the beach"
    )
    assert frame.loc["perfusion", "several"] == pytest.approx(0.5)
    assert frame.loc["super", "good"] == 0
    assert frame.loc["super", "outline"] == pytest.approx(0.5), "a judge that always says cat"
    assert frame.loc["super", "harm"] == 0 and frame.loc["perfusion", "frechet"] > 0
    assert len(cells) == 8 and (cells["n"] == 4).all()
    few = judged.pictures_in(run.folder / "images" / "perfusion" / "default" / "cat" / "s01")
    features = KnowingJudges([]).features(np.stack(few))
    by = cells.set_index(["method", "concept", "prompt_id"])
    assert by.loc[("perfusion", "cat", "s01"), "variety"] == pytest.approx(
        np.trace(np.cov(features[:3].T))
    )
    assert np.isnan(by.loc[("super", "cat", "s01"), "variety"]), "none of them shows the cat"
    next(run.folder.glob("images/perfusion/default/cat/s01/3.png")).unlink()
    with pytest.raises(
        UserError, match="3 of 4 images of images/perfusion/default/cat/s01: they must be kept"
    ):
        judged.judge_run(run, KnowingJudges(["cat", "chair"]))


def test_a_concept_that_the_world_has_not_is_looked_at_without_distances(tmp_path):
    """A cat as a lamp: nobody can render it, but whether it looks like a lamp can be said."""
    run = seen_run(tmp_path / "run", {"cat_as_lamp": "lamp", "chair_as_mug": "mug"})
    points = judged.judge_run(run, KnowingJudges(["cat", "chair"]))[0].set_index("method")
    assert points.loc["perfusion", "outline"] == 0 and points.loc[
        "perfusion", "good"
    ] == pytest.approx(0.375)
    assert np.isnan(points.loc["perfusion", "frechet"]) and points.loc["super", "frechet"] > 0


def test_every_claim_about_pictures_is_settled_by_what_was_looked_at(results, tmp_path):
    """Planted: Perfusion good in nine of ten images, the others in one; no further from renders
    than the plain word.
    """
    methods = {
        "perfusion": (*LOCAL, *GLOBAL),
        "cd-selected": DEFAULT,
        "db-selected": DEFAULT,
        "super": DEFAULT,
    }
    names = [(method, point) for method, points in methods.items() for point in points]
    shutil.copytree(results / "miniature-paper", tmp_path / "miniature-paper")
    rng, ours = np.random.default_rng(0), {"perfusion": 0.9}
    cells = [
        (
            *name,
            concept,
            prompt,
            "deform",
            0.01 * rng.normal() + ours.get(name[0], 0.1),
            0.9 + 0.01 * rng.normal(),
            1.0,
        )
        for name in names
        for concept in CONCEPTS
        for prompt in ("a01", "a02")
    ]
    columns = ["method", "point", "concept", "prompt_id", "kind", "good", "outline", "variety"]
    pd.DataFrame(cells, columns=columns).to_csv(
        tmp_path / "miniature-paper" / judged.LOOKED_CELLS, index=False
    )
    rows = [
        {
            "method": method,
            "point": point,
            "good": 0.9,
            "several": 0.9,
            "several_lo": 0.8,
            "several_hi": 1.0,
            "frechet": 2.0,
            "frechet_lo": 1.9,
            "frechet_hi": 2.1,
            "harm": 0.1,
            "harm_lo": 0.0,
            "harm_hi": 0.2,
        }
        for method, point in names
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "miniature-paper" / judged.LOOKED, index=False)
    found = found_in(tmp_path)
    assert found["Raters prefer Perfusion to Custom Diffusion and DreamBooth"].verdict == HOLDS
    assert found["The generative prior is preserved"].verdict == HOLDS
    assert found["Eight samples suffice for several good ones"].verdict == HOLDS
    assert found["Global locking allows more variety than local"].verdict == OPEN


def test_what_was_seen_is_compared_by_cell(results, tmp_path):
    """Planted: global has more variety by 0.5 in every cell, whose own level is far from the
    others'.
    """
    shutil.copytree(results / "miniature-paper", tmp_path / "miniature-paper")
    rng, rows = np.random.default_rng(0), []
    for concept in CONCEPTS:
        for prompt in ("s01", "a01"):
            level = rng.normal(0, 10)
            for point in (*LOCAL, *GLOBAL):
                more = 0.5 * point.startswith("global") + rng.normal(0, 0.01)
                rows.append(
                    (
                        "perfusion",
                        point,
                        concept,
                        prompt,
                        "shape" if prompt == "s01" else "deform",
                        level + more,
                    )
                )
    frame = pd.DataFrame(
        rows, columns=["method", "point", "concept", "prompt_id", "kind", "variety"]
    )
    frame.to_csv(tmp_path / "miniature-paper" / judged.LOOKED_CELLS, index=False)
    evidence = Evidence(tmp_path)
    found = claims_seen.variety(evidence)
    assert found.verdict == HOLDS and found.figure.startswith("+0.5")
    with pytest.raises(UserError, match="super/default in miniature-paper have not been looked at"):
        claims_seen.seen_gain(
            evidence, "paper", "variety", [("perfusion", LOCAL[0])], [("super", "default")]
        )
