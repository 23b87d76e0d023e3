"""The confirmatory run: its plan and its errors, verdicts at looks against sums by hand, and a tiny
real run that begins only once its rules are committed.
"""

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from made_run import make_run
from run_kit import environment, make_concepts, shared
from scipy.stats import norm, t, ttest_1samp

from benchmarks.evidence import confirm, confirm_looks, confirm_page
from benchmarks.evidence.confirm_ledger import (
    ASIDE,
    BEGUN,
    COLUMNS,
    WHOLE,
    add_whole,
    read_aside,
    read_whole,
    refuse_half_made,
    set_aside,
)
from benchmarks.evidence.confirm_looks import CROSSED, LAST, NOT_YET, among_all, decided, look_at
from benchmarks.evidence.confirm_measures import Scored, mean_with_interval
from benchmarks.evidence.confirm_page import (
    LOOKS_PAGE,
    LOOKS_TABLE,
    judge_folder,
    looks_csv,
    read_cells,
)
from benchmarks.evidence.confirm_plan import (
    PLAN,
    Compared,
    Looks,
    Primary,
    read_confirm_plan,
    refuse_other_backbone,
    tuned_rates,
)
from benchmarks.evidence.forest import forest
from benchmarks.evidence.primary_claims import primary_part, primary_rows
from benchmarks.evidence.verdicts import FAILS, HOLDS, OPEN, SAME, TRADE_OFF, VERDICTS, Part
from benchmarks.planning.units import Fit, Plan
from benchmarks.store.packed import PACKED, open_archive
from benchmarks.store.run_folder import MANIFEST, Store
from benchmarks.tables.group_sequential import obrien_fleming, repeated_p, unskewed_t
from benchmarks.tables.halving_rows import TRAININGS, frame_of
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest, file_sha256

COMMITTED = Path(__file__).parent.parent.parent / "results" / "confirm"
LOCAL, HIGH, KEYS = "local-b0.60-t0.15", "local-b0.75-t0.15", "perfusion-trained-k"


def edges(sizes, alpha):
    return [round(z, 3) for z in obrien_fleming(tuple(n / sizes[-1] for n in sizes), alpha)]


def plan_text(sizes, run, points, claims):
    lines = [
        "[looks]", f"concepts = {list(sizes)}", "alpha = 0.05",
        f"boundaries = {edges(sizes, 0.05)}", "equivalence = 0.05",
        f"equivalence_boundaries = {edges(sizes, 0.1)}",
        '[rates]\nfile = "settings.csv"\nmethods = ["lora"]', "[run]", *run,
        f"methods = {list(points)}", "[run.points]",
        *(f"{name} = {list(of)}" for name, of in points.items()),
    ]  # fmt: skip
    for name, measure, of, minus, delta in claims:
        lines += [
            "[[claim]]", f'name = "{name}"', f'says = "{name} is so"', 'where = "5.1"',
            f'measure = "{measure}"', f"of = {of}", f"minus = {minus}", f"delta = {delta}",
            'why = "made up"',
        ]  # fmt: skip
    return "\n".join(lines).replace("'", '"') + "\n"


# ---- the committed plan ----


def test_the_committed_plan_says_what_the_issue_asks_for():
    plan = read_confirm_plan(COMMITTED / PLAN)
    assert plan.looks.concepts == (22, 44, 66) and plan.looks.boundaries == (3.471, 2.454, 2.004)
    assert plan.run["suite"] == "world:66" and plan.run["images"] == 1
    assert {"dtype", "threads", "workers"} <= plan.run.keys()
    assert 12 <= len(plan.claims) <= 13
    reasons = (COMMITTED / "plan.md").read_text(encoding="utf-8")
    assert all(f"`{claim.name}`" in reasons and claim.why for claim in plan.claims)
    words = plan.command({"fit.ti.lr": 0.01}, ["cat_01", "dog_01"], Path("out"))
    config = confirm.parsed(words)
    assert config.by_concept and config.drop_fits and config.drift and config.cache == "none"
    compared = [one for claim in plan.claims for one in (claim.part, *claim.beside)]
    drifting = {point for one in compared if "drift" in one.measure for point in one.of + one.minus}
    assert drifting and {"/".join(point) for point in drifting} <= {*config.drift_of}
    assert config.concepts == ("cat_01", "dog_01") and config.fit["ti"] == {
        "steps": 600,
        "lr": 0.01,
    }
    assert config.points["perfusion"][2] == "global-b0.40-t0.15" and config.keep == ("100", "400")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("alpha = 0.05", "alpha = 0.9", "alpha is to lie between 0 and 0.5"),
        ("boundaries = [3.471, 2.454", "boundaries = [3.4, 2.454", "O'Brien and Fleming's for"),
        ("concepts = [22, 44, 66]", "concepts = [44, 22, 66]", "numbers above 1 that grow"),
        ("concepts = [22, 44, 66]", "", "[looks]: concepts is to be numbers"),
        ("alpha =", "alhpa =", "alpha is to be a probability"),
        ("seed = 0", "sead = 0", "unknown key 'sead'; did you mean 'seed'?"),
        ("seed = 0", 'concepts = ["cat"]', "unknown key 'concepts'"),
        ('cd-selected = ["default"]', "", "at which points cd-selected is drawn"),
        ('"local-b0.60-t0.15", "l', '"local-b0.6-t0.15", "l', "write local-b0.60-t0.15"),
        ("delta = 0.01", "delta = 0", "delta is 0; write a number above 0"),
        ('measure = "both_axes"', 'measure = "front"', "front picks the best of its points once"),
        ('measure = "both_axes"\nof = [', 'measure = "both_axes"\nof = ["cd-selected/default", ',
         "both_axes compares two points; write one a side"),
        ('measure = "drift"', 'measure = "drifts"', "unknown measure 'drifts'; did you mean"),
        ('name = "front-db"', 'name = "front-cd"', "two claims called front-cd"),
        ('of = ["perfusion/local-b0.75-t0.15"]', 'of = ["perfusion/local-b0.80-t0.15"]',
         "which [run] does not draw"),
        ("[rates]", "[rate]", "unknown table 'rate'"),
        ("[looks]", "looks", "is not a TOML file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(tmp_path, old, new, said):
    text = (COMMITTED / PLAN).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / PLAN).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        read_confirm_plan(tmp_path / PLAN)
    assert said in str(error.value)
    with pytest.raises(UserError, match="there is no plan"):
        read_confirm_plan(tmp_path / "other.toml")


def test_rates_are_those_that_the_tuning_chose(tmp_path):
    plan = read_confirm_plan(COMMITTED / PLAN)
    head = "method,setting,rates,chosen\n"
    rows = [
        f"{name},02,lr=0.0{k},yes\n{name},03,lr=1,\n" for k, name in enumerate(plan.rates_of, 1)
    ]
    path = tmp_path / "settings.csv"
    path.write_text(head + "".join(rows).replace("lr=0.01,", "lr=0.01 lr_embedding=0.002,", 1))
    found = tuned_rates(plan, path)
    assert found["fit.perfusion.lr"] == 0.01 and found["fit.perfusion.lr_embedding"] == 0.002
    assert found["fit.lora.lr"] == 0.05 and len(found) == 6
    path.write_text(head + "".join(rows[1:]))
    with pytest.raises(UserError, match="marks 0 settings of perfusion as chosen"):
        tuned_rates(plan, path)
    with pytest.raises(UserError, match="`perfbench tune --halving` writes them"):
        tuned_rates(plan, tmp_path / "nothing.csv")


def test_the_drawn_suite_is_known_and_may_be_too_small(tmp_path):
    """As it is typed: in a process that has imported nothing else."""
    (tmp_path / "confirm").mkdir()
    (tmp_path / "halving-miniature").mkdir()
    text = (COMMITTED / PLAN).read_text(encoding="utf-8").replace("world:66", "world:2")
    (tmp_path / "confirm" / PLAN).write_text(text, encoding="utf-8")
    rates = [f"{name},01,lr=0.01,yes\n" for name in ("perfusion", "cd", "db", "ti", "lora")]
    settings = tmp_path / "halving-miniature" / "settings.csv"
    settings.write_text("method,setting,rates,chosen\n" + "".join(rates))
    call = [sys.executable, "-m", "benchmarks.evidence.confirm", "run", "--dry-run"]
    call += ["--folder", str(tmp_path / "confirm")]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the last look is at 66 concepts, and the suite has 2; name a larger one" in done.stderr


# ---- verdicts at a look ----

SIZES = (22, 44, 66)
WORLDS = 4000
LOOKS = Looks(SIZES, 0.05, (3.471, 2.454, 2.004), 0.05, (2.961, 2.094, 1.71))
TEXT = Primary("text", "", "", Compared("text_sim", (("a", "x"),), (("b", "x"),)), 0.02, "")
AXES = dataclasses.replace(TEXT, part=Compared("both_axes", (("a", "x"),), (("b", "x"),)))


@dataclasses.dataclass(frozen=True)
class Known:
    """Parts that are known."""

    each: tuple[Part, ...]

    def parts(self, what):
        return self.each

    def differences(self, what):
        return dict(enumerate(map(spread_evenly, self.each)))


def spread_evenly(part):
    """As many numbers as concepts, without skewness, of which the part is the mean and interval."""
    n, steps = part.concepts, np.arange(part.concepts) - (part.concepts - 1) / 2
    return part.found.value + steps / steps.std(ddof=1) * part.error(0.0) * np.sqrt(n)


def of_size(value, error, n):
    half = t(n - 1).ppf(0.975) * error
    return Part("", Interval(value, value - half, value + half), n)


def at(number, claim, *parts):
    made = tuple(of_size(value, error, SIZES[number]) for value, error in parts)
    found = look_at(claim, LOOKS, number, Known(made))
    assert found.unskewed == found.verdict, "nothing is skew"
    return found


@pytest.mark.parametrize("number", range(3))
def test_five_verdicts_at_each_look(number):
    edge, near = LOOKS.boundaries[number], LOOKS.equivalence_boundaries[number]
    n = SIZES[number]
    reach, small = (t(n - 1).isf(norm.sf(z)) for z in (edge, near))
    error = 0.02 / (small + reach)  # two of them are as far out as may be within delta
    assert at(number, TEXT, (1.01 * reach, 1)).verdict == HOLDS
    assert at(number, TEXT, (-1.01 * reach, 1)).verdict == FAILS
    last = at(number, TEXT, (0.99 * reach, 1))
    assert last.verdict == OPEN and last.status == (LAST if number == 2 else NOT_YET)
    assert at(number, TEXT, (0.0, error)).verdict == SAME
    assert at(number, TEXT, (0.0, 1.01 * 0.02 / small)).verdict == OPEN
    assert at(number, TEXT, (0.0, 0.99 * 0.02 / small)).status == CROSSED


@pytest.mark.parametrize("number", range(3))
def test_a_sign_that_is_sure_comes_before_its_size(number):
    """As plan.md says: beyond the boundary and within delta at once."""
    for value, verdict in ((0.001, HOLDS), (-0.001, FAILS)):
        assert at(number, TEXT, (value, 1e-5)).verdict == verdict
        assert at(number, AXES, (value, 1e-5), (value, 1e-5)).verdict == verdict
    assert at(number, AXES, (-0.001, 1e-5), (0.001, 1e-5)).verdict == TRADE_OFF
    # two verdicts need both axes: what is within delta on both is so at each look
    assert at(number, AXES, (-0.001, 1e-5), (0.0, 1e-5)).verdict == SAME


@pytest.mark.parametrize("number", range(3))
def test_two_axes_need_both(number):
    edge, n = LOOKS.boundaries[number], SIZES[number]
    reach = t(n - 1).isf(norm.sf(edge))
    small = t(n - 1).isf(norm.sf(LOOKS.equivalence_boundaries[number]))
    assert at(number, AXES, (1.01 * reach, 1), (2 * reach, 1)).verdict == HOLDS
    assert at(number, AXES, (-1.01 * reach, 1), (-2 * reach, 1)).verdict == FAILS
    for one, other in ((1.01, -1.01), (-1.01, 1.01)):
        found = at(number, AXES, (one * reach, 1), (other * reach, 1))
        assert found.verdict == TRADE_OFF and found.status == CROSSED and found.p < 0.05
    assert at(number, AXES, (0.99 * reach, 1), (9 * reach, 1)).verdict == OPEN
    within = (0.0, 0.99 * 0.02 / small)
    assert at(number, AXES, within, within).verdict == SAME
    assert at(number, AXES, within, (0.0, 0.1)).verdict == OPEN
    # one axis far below, the other open: may still become a trade-off while looks remain
    far = at(number, AXES, (-9, 1), (0.9 * reach, 1))
    assert far.verdict == (FAILS if number == 2 else OPEN)
    assert (far.p < 0.001) == (number == 2), "what is open counts for nothing among all claims"
    once = at(2, AXES, (-2.1, 1), (0.5, 1))
    assert once.verdict == OPEN, "beyond 2.004, which is not enough for one of two axes"
    assert once.text is not None and once.text.value == 0.5


SKEWED = {  # concepts without a difference: [worlds, 66] of a generator
    "normal": lambda rng: rng.standard_normal((WORLDS, 66)),
    "a skewness of one": lambda rng: (rng.gamma(4, size=(WORLDS, 66)) - 4) / 2,
    "exponential": lambda rng: rng.exponential(size=(WORLDS, 66)) - 1,
}


@pytest.mark.parametrize("kind", SKEWED)
def test_skewness_makes_one_side_err_too_often(kind):
    """One axis, all three looks; plan.md has the shares. Without skewness 2.5 % are meant."""
    drawn = SKEWED[kind](np.random.default_rng(6))
    plain, unskewed = np.zeros(WORLDS, dtype=bool), np.zeros(WORLDS, dtype=bool)
    for n, edge in zip(SIZES, LOOKS.boundaries):
        reach = -t(n - 1).isf(norm.sf(edge))
        plain |= ttest_1samp(drawn[:, :n], 0, axis=1).statistic < reach
        unskewed |= np.array([unskewed_t(world) for world in drawn[:, :n]]) < reach
    print(f"{kind}: {plain.mean():.3f}, and {unskewed.mean():.3f} without skewness")
    assert 0.018 < unskewed.mean() < 0.042
    if kind == "exponential":
        assert plain.mean() > 0.055


def test_power_of_two_axes_is_no_more_than_both_have():
    one, other = at(0, AXES, (0, 0.01), (0, 0.012)), at(0, TEXT, (0, 0.01))
    assert one.power == pytest.approx(other.power + at(0, TEXT, (0, 0.012)).power - 1)
    assert at(0, AXES, (0, 0.01), (0, 0.9)).power == 0 < at(0, TEXT, (0, 0.9)).power


FAR = 3.0  # standard deviations between concepts
ERRORS = {  # the truth on both axes, their correlation: (wrong verdicts, at most this share)
    (0.0, 0.0, 0.0): ((HOLDS, FAILS, TRADE_OFF), 0.05),
    (0.0, 0.0, 0.8): ((HOLDS, FAILS, TRADE_OFF), 0.05),
    (0.0, 0.0, -0.8): ((HOLDS, FAILS, TRADE_OFF), 0.05),
    (0.0, FAR, 0.0): ((HOLDS,), 0.025),
    (FAR, 0.0, 0.5): ((FAILS, TRADE_OFF), 0.025),
    (-FAR, 0.0, 0.5): ((TRADE_OFF,), 0.025),
}


def said_of_world(scores):
    """The verdict of the first look that decides; `scores`: [66, 2], a concept a row."""
    for number, n in enumerate(SIZES):
        parts = [Part("", mean_with_interval(scores[:n, axis]), n) for axis in (0, 1)]
        zs = [confirm_looks.distance(part, 0.0) for part in parts]
        word = confirm_looks.said(zs, -np.inf, LOOKS, number)[0]
        if word != OPEN:
            return word
    return OPEN


@pytest.mark.parametrize("truth", ERRORS)
def test_two_axes_err_no_more_often_than_one(truth):
    """The shipped rule, over worlds in which one axis at least has no difference. plan.md has the
    shares."""
    *effects, together = truth
    rng = np.random.default_rng(5)
    drawn = rng.multivariate_normal(effects, [[1, together], [together, 1]], (WORLDS, 66))
    words = [said_of_world(world) for world in drawn]
    wrong, most = ERRORS[truth]
    share = sum(word in wrong for word in words) / WORLDS
    assert share < most + 3 * np.sqrt(most * (1 - most) / WORLDS)
    if truth == (0.0, FAR, 0.0):
        assert share > 0.015, "no stricter than it says"


class Everything:
    """All claims were there when the run began."""

    def __contains__(self, name):
        return True


ALL = Everything()


def named(look, name):
    return dataclasses.replace(look, claim=dataclasses.replace(look.claim, name=name))


def test_p_interval_and_power_of_a_look():
    one = at(1, TEXT, (0.03, 0.01))
    z = norm.isf(t(43).sf(3.0))
    assert one.z == pytest.approx(z) and one.verdict == HOLDS and one.p < 0.05
    reach = 0.01 * t(43).isf(norm.sf(2.454))
    assert one.found == pytest.approx((0.03, 0.03 - reach, 0.03 + reach))
    # of the last look the error is smaller by the root of 44/66; three looks, and a spread that is
    # not known, cost less than 4 %
    once = norm.sf(norm.isf(0.025) - 0.02 / (0.01 * np.sqrt(44 / 66)))
    assert once - 0.04 < one.power < once
    assert at(0, TEXT, (0.0, 0.0)).verdict == SAME and at(0, TEXT, (0.5, 0.0)).verdict == HOLDS


def test_the_first_look_that_decides_counts_and_chance_among_many_does_not():
    early, late = at(1, TEXT, (0.03, 0.01)), at(2, TEXT, (0.0, 0.02))
    assert decided([at(0, TEXT, (0.0, 0.02)), early, late]) == early
    assert decided([at(0, TEXT, (0.0, 0.02)), late]) == late
    edge = at(2, TEXT, (0.0208, 0.01))
    assert edge.verdict == HOLDS and 0.03 < edge.p < 0.05
    others = [named(at(2, TEXT, (0.001 * k, 0.02)), f"other-{k}") for k in range(11)]
    found = among_all([edge, *others], ALL)
    assert found[0].verdict == OPEN and found[0].q == pytest.approx(12 * edge.p)
    assert among_all([edge], ALL)[0].verdict == HOLDS


def test_p_of_a_claim_falls_as_later_looks_say_the_same():
    """At a boundary p is the whole level by itself, and among many claims that is never enough."""
    early, late = at(1, TEXT, (0.03, 0.01)), at(2, TEXT, (0.04, 0.01))
    assert early.verdict == late.verdict == HOLDS and late.p < early.p / 5
    found = decided([at(0, TEXT, (0.0, 0.02)), early, late])
    assert (found.look, found.found, found.p) == (early.look, early.found, late.p)
    against = at(2, TEXT, (-0.04, 0.01))
    assert against.verdict == FAILS and against.p < early.p
    assert decided([early, against]).p == early.p, "it says something else"


def test_the_smallest_p_over_looks_is_one():
    """6,000 worlds without a difference: its shares are its own values."""
    rng = np.random.default_rng(3)
    ps = []
    for world in rng.normal(0, 1, (6000, 66)):
        zs = (norm.isf(t(n - 1).sf(mean_over_error(world[:n]))) for n in SIZES)
        ps.append(min(repeated_p(abs(z), k, LOOKS.shares) for k, z in enumerate(zs)))
    for level in (0.01, 0.05, 0.2):
        share = np.mean(np.array(ps) <= level)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 6000) + 0.002


def mean_over_error(values):
    return values.mean() / (values.std(ddof=1) / np.sqrt(len(values)))


def test_claims_are_those_that_were_there_when_the_run_began():
    """Others among them would lower the q of each; and so would it to lose some."""
    edge = at(2, TEXT, (0.0208, 0.01))
    open_ones = [named(at(2, TEXT, (0.0, 0.02)), f"open-{k}") for k in range(5)]
    sure = [
        dataclasses.replace(named(at(2, TEXT, (0.2, 0.01)), f"late-{k}"), exploratory=True)
        for k in range(40)
    ]
    begun = [one.claim.name for one in (edge, *open_ones)]
    found = among_all([edge, *open_ones, *sure], begun)
    assert found[0].q == pytest.approx(6 * edge.p) and found[0].verdict == OPEN
    assert all(one.verdict == HOLDS and one.q < 1e-6 for one in found[6:])
    changed = [dataclasses.replace(one, exploratory=True) for one in open_ones]
    assert among_all([edge, *changed], begun)[0].q == pytest.approx(6 * edge.p)


def test_the_table_has_the_verdict_that_is_left_among_all():
    names = [f"claim-{k}" for k in range(12)]
    near, wide = (0.0208, 0.01), (0.001, 0.02)  # the first decides alone
    history = {
        name: [
            at(number, dataclasses.replace(TEXT, name=name), near if name == names[0] else wide)
            for number in range(3)
        ]
        for name in names
    }
    assert decided(history[names[0]]).verdict == HOLDS
    final = among_all([decided(looks) for looks in history.values()], ALL)
    rows = list(csv.DictReader(io.StringIO(looks_csv(history, final))))
    (last,) = (row for row in rows if (row["claim"], row["look"]) == (names[0], "3"))
    assert last["verdict"] == OPEN and last["status"] == CROSSED and float(last["q"]) > 0.05
    assert [row["q"] == "" for row in rows] == [True, True, False] * 12
    (alone,) = among_all([decided(history[names[0]])], ALL)
    table = looks_csv({names[0]: history[names[0]]}, [alone])
    assert [row["verdict"] for row in csv.DictReader(io.StringIO(table))] == [OPEN, OPEN, HOLDS]


def test_three_looks_err_as_often_as_one_would():
    """4,000 worlds without a difference, and 4,000 with one: real t intervals of 22, 44, 66."""
    rng, reach, hits = np.random.default_rng(11), LOOKS.boundaries, {0.0: 0, 0.35: 0}
    for effect in hits:
        for world in rng.normal(effect, 1.0, (4000, 66)):
            parts = [Part("", mean_with_interval(world[:n]), n) for n in SIZES]
            hits[effect] += any(
                abs(confirm_looks.distance(part, 0.0)) >= edge for part, edge in zip(parts, reach)
            )
    assert abs(hits[0.0] / 4000 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)
    told = look_at(TEXT, LOOKS, 2, Known((of_size(0.02, 0.02 / (0.35 * np.sqrt(66)), 66),))).power
    assert abs(hits[0.35] / 4000 - told) < 0.03


# ---- synthetic rows ----

POINTS = {
    "perfusion": [LOCAL, HIGH],
    "cd-selected": ["default"],
    KEYS: [LOCAL],
}
CLAIMS = [
    ("front", "both_axes", [f"perfusion/{LOCAL}"], ["cd-selected/default"], 0.02),
    ("keys", "text_sim", [f"perfusion/{LOCAL}"], [f"{KEYS}/{LOCAL}"], 0.02),
    ("deform", "text_sim_deform", [f"perfusion/{LOCAL}"], [f"{KEYS}/{LOCAL}"], 0.02),
    ("nothing", "image_sim", [f"perfusion/{LOCAL}"], [f"perfusion/{LOCAL}"], 0.02),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Eleven made-up concepts, of which the first eight are whole."""
    folder = tmp_path_factory.mktemp("judged")
    rows = make_run(folder, {k: tuple(v) for k, v in POINTS.items()}, prompts=5, images=1,
                    pictures=False)  # fmt: skip
    (folder / PLAN).write_text(plan_text((4, 8, 11), ["images = 1"], POINTS, CLAIMS))
    plan = read_confirm_plan(folder / PLAN)
    names = list(dict.fromkeys(rows["concept"]))
    rules = {claim.name: plan.rule(claim) for claim in plan.claims}
    about = {"frame": plan.frame, "claims": rules, "concepts": names}
    (folder / BEGUN).write_text(json.dumps(about))
    for number, name in enumerate(names[:8], 1):
        add_whole(folder, dict.fromkeys(COLUMNS, "x") | {"number": number, "concept": name})
    return folder, rows, names, judge_folder(folder)


def by_claim(folder):
    with (folder / LOOKS_TABLE).open() as stream:
        return {(row["claim"], int(row["look"])): row for row in csv.DictReader(stream)}


def test_a_look_is_the_t_interval_of_its_first_concepts(judged):
    folder, rows, names, text = judged
    found = by_claim(folder)
    assert {look for _, look in found} == {1, 2}, "the third is not whole"
    wide = rows.pivot_table(index="concept", columns=["method", "point"], values="text_sim_raw")
    relative = wide.div(wide["super", "default"], axis=0)
    for look, n in ((1, 4), (2, 8)):
        x = relative.loc[names[:n], ("perfusion", LOCAL)] - relative.loc[names[:n], (KEYS, LOCAL)]
        row = found["keys", look]
        error = x.std(ddof=1) / np.sqrt(n)
        assert float(row["value"]) == pytest.approx(x.mean(), abs=1e-5)
        z = norm.isf(t(n - 1).sf(x.mean() / error))
        assert float(row["z"]) == pytest.approx(z, abs=2e-3)
        assert int(row["concepts"]) == n and row["exploratory"] == ""
    deform = rows[rows["kind"] == "deform"].pivot_table(
        index="concept", columns=["method", "point"], values="text_sim_raw"
    )
    deform = deform.div(deform["super", "default"], axis=0).loc[names[:8]]
    x = deform["perfusion", LOCAL] - deform[KEYS, LOCAL]
    assert float(found["deform", 2]["value"]) == pytest.approx(x.mean(), abs=1e-5)
    assert found["keys", 2]["verdict"] == HOLDS, "planted: 0.055"
    assert found["nothing", 1]["verdict"] == SAME and found["nothing", 1]["status"] == CROSSED
    assert "Not crossed yet" in text or "the run stops here" in text
    assert (folder / LOOKS_PAGE).read_text() == text and "crossed (holds)" in text


def by_hand(rows, names):
    """[method, point, concept] both scores of these concepts."""
    wide = rows[rows["concept"].isin(names)].groupby(["method", "point", "concept"])
    means = wide[["image_sim", "text_sim_raw"]].mean().reset_index()
    base = means[means["method"] == "super"].set_index("concept")["text_sim_raw"]
    means["text"] = means["text_sim_raw"] / means["concept"].map(base)
    return means.set_index(["method", "point", "concept"])[["image_sim", "text"]]


def test_both_axes_are_two_t_intervals(judged):
    folder, rows, names, _ = judged
    of = by_hand(rows, names[:8])
    x = of.loc["perfusion", LOCAL] - of.loc["cd-selected", "default"]
    ts = x.mean() / (x.std(ddof=1) / np.sqrt(8))
    row = by_claim(folder)["front", 2]
    assert [float(row["value"]), float(row["text"])] == pytest.approx(list(x.mean()), abs=1e-5)
    assert float(row["z"]) == pytest.approx(norm.isf(t(7).sf(ts.min())), abs=2e-3)
    assert float(row["lo"]) < float(row["value"]) < float(row["hi"])
    assert float(row["text_lo"]) < float(row["text"]) < float(row["text_hi"])
    assert by_claim(folder)["keys", 2]["text"] == ""


def test_fronts_beside_are_epsilons_of_mean_scores(judged):
    folder, rows, names, _ = judged
    of = by_hand(rows, names[:8]).groupby(["method", "point"]).mean()
    theirs = of.loc["cd-selected", "default"]
    best = max((of.loc["perfusion", point] - theirs).min() for point in (LOCAL, HIGH))
    cells = read_cells(folder, read_confirm_plan(folder / PLAN), names[:8])
    ours = (("perfusion", LOCAL), ("perfusion", HIGH))
    ahead, behind = Scored(cells).parts(Compared("front", ours, (("cd-selected", "default"),)))
    assert ahead.found.value == pytest.approx(best) and behind.name == "behind"
    assert ahead.found.lo < best < ahead.found.hi


def test_judging_again_writes_the_same_bytes_and_a_young_rule_is_exploratory(judged):
    folder, _, _, text = judged
    before = (folder / LOOKS_TABLE).read_bytes()
    assert judge_folder(folder) == text and (folder / LOOKS_TABLE).read_bytes() == before
    plan = (folder / PLAN).read_text()
    (folder / PLAN).write_text(plan.replace("delta = 0.02", "delta = 0.03", 1))
    assert "exploratory: " in judge_folder(folder)
    assert [one["exploratory"] for one in by_claim(folder).values()] == ["yes"] * 2 + [""] * 6
    (folder / PLAN).write_text(plan.replace('says = "keys is so"', 'says = "keys is not so"'))
    judge_folder(folder)
    young = {claim for (claim, _), one in by_claim(folder).items() if one["exploratory"]}
    assert young == {"keys"}, "the sentence is part of the rule"
    (folder / PLAN).write_text(plan.replace('name = "keys"', 'name = "others"'))
    with pytest.raises(UserError, match="lacks the claim keys, which was there when the run began"):
        judge_folder(folder)
    (folder / PLAN).write_text(plan)
    assert judge_folder(folder) == text


def test_a_concept_in_which_a_training_diverged_leaves_all_claims(judged):
    folder, _, names, text = judged
    fit = Fit("lora", names[1], "cat", {}, None, True, (), 0, "ab" * 16)
    other = dataclasses.replace(fit, concept=names[2], key="cd" * 16)
    second = dataclasses.replace(fit, method="perfusion", key="ef" * 16)
    plan, store = Plan((), (fit, other, second), ()), Store(folder)
    assert set_aside(folder, store, plan, names) == []
    why = "perfusion_core.validation.Diverged: the loss is nan at step 30"
    store.write_failure(fit.key, "lora", f"Traceback ...\n{why}\n")
    store.write_failure(second.key, "perfusion", f"Traceback ...\n{why.replace('30', '40')}\n")
    store.write_failure(other.key, "lora", "Traceback ...\nOSError: no space\n")
    assert set_aside(folder, store, plan, names) == [names[1]]
    assert set_aside(folder, store, plan, names) == [], "it is there once"
    assert read_aside(folder)[0]["number"] == "2"
    with pytest.raises(UserError, match=f"{names[1]} is in whole.csv and in aside.csv"):
        judge_folder(folder)
    whole, looks = (folder / WHOLE).read_text(), (folder / LOOKS_TABLE).read_text()
    (folder / WHOLE).write_text(re.sub(f"(?m)^.*,{names[1]},.*\n", "", whole))
    with pytest.raises(UserError, match=r"look 1 at front said value .* tell why in plan\.md"):
        judge_folder(folder)
    assert (folder / LOOKS_TABLE).read_text() == looks, "what was looked at stays"
    (folder / LOOKS_TABLE).unlink()
    again = judge_folder(folder)
    assert f"{names[1]} (lora, perfusion: {why})" in again and "Left out" not in text
    found = by_claim(folder)
    assert found["keys", 1]["concepts"] == "3" and found["keys", 2]["concepts"] == "7"
    grid = Scored(read_cells(folder, read_confirm_plan(folder / PLAN), names[:8])).grid
    ours, theirs = (
        np.delete(grid.scores["text_sim"][grid.row(point)], grid.concepts.index(names[1]))
        for point in (("perfusion", LOCAL), (KEYS, LOCAL))
    )
    assert float(found["keys", 2]["value"]) == pytest.approx((ours - theirs).mean(), rel=1e-4)
    (folder / ASIDE).unlink()
    (folder / LOOKS_TABLE).unlink()
    (folder / WHOLE).write_text(whole)
    assert judge_folder(folder) == text


@pytest.mark.parametrize("score", ["image_sim", "text_sim_raw"])
def test_scores_that_are_not_finite_are_refused(judged, monkeypatch, score):
    """A mean over the others would be another one."""
    folder, _, names, _ = judged
    rows = sample_rows(folder)
    mine = (rows["method"] == "cd-selected") & (rows["concept"] == names[3])
    rows.loc[rows.index[mine & rows[score].notna()][1], score] = np.inf
    monkeypatch.setattr(confirm_page, "sample_rows", lambda _: rows)
    with pytest.raises(UserError, match=f"not finite: {score} of cd-selected/default/{names[3]}"):
        judge_folder(folder)


def test_a_measure_is_compared_over_the_same_prompts(judged):
    folder, _, names, _ = judged
    cells = read_cells(folder, read_confirm_plan(folder / PLAN), names[:8])
    points = ("perfusion", LOCAL), ("cd-selected", "default")
    mine = cells[[one in points for one in zip(cells["method"], cells["point"])]]
    likeness = mine[mine["metric"] == "image_sim"].assign(metric="image_sim_heldout")
    what = Compared("image_sim_heldout", points[:1], points[1:])
    whole = Scored(pd.concat([cells, likeness], ignore_index=True))
    assert len(whole.differences(what)["image_sim_heldout"]) == 8, "others need not have it"
    gone = (likeness["method"] == "perfusion") & (likeness["concept"] == names[5])
    one = likeness.index[gone][0]
    short = Scored(pd.concat([cells, likeness.drop(one)], ignore_index=True))
    with pytest.raises(UserError, match=f"{names[5]} has no image_sim_heldout of perfusion/"):
        short.parts(what)


def test_the_frame_of_a_run_that_has_begun_stays(judged):
    folder, _, _, text = judged
    plan = (folder / PLAN).read_text()
    (folder / PLAN).write_text(plan.replace("images = 1", "images = 1\nseed = 7"))
    with pytest.raises(UserError, match=r"have changed since the run began \(frame\)"):
        judge_folder(folder)
    (folder / PLAN).write_text(plan)
    about = json.loads((folder / BEGUN).read_text())
    (folder / BEGUN).write_text(json.dumps(about | {"plan": file_sha256(folder / PLAN)}))
    assert judge_folder(folder) == text
    (folder / PLAN).write_text(plan + "# a word\n")
    assert "plan.toml is not the file that was there when the run began." in judge_folder(folder)
    (folder / PLAN).write_text(plan)
    (folder / BEGUN).write_text(json.dumps(about))


def test_the_page_of_claims_takes_each_claim_at_the_look_that_counts(judged, tmp_path):
    folder, _, _, _ = judged
    rows = primary_rows(folder)
    looked = {name: one for (name, _), one in by_claim(folder).items() if one["q"]}
    assert [one.row.claim.says for one in rows] == [f"{name} is so" for name in looked]
    for one, found in zip(rows, looked.values()):
        assert (one.look, one.concepts) == (int(found["look"]), int(found["concepts"]))
        assert one.row.finding.verdict == found["verdict"]
        assert one.row.finding.judged.true == pytest.approx(norm.cdf(float(found["z"])))
        assert len(one.row.finding.judged.parts) == (2 if found["text"] else 1)
    text = primary_part(rows)
    lines = [line for line in text.splitlines() if " is so (5.1) | " in line]
    words = [line.split("|")[3].removeprefix(" exploratory: ").strip(" *") for line in lines]
    assert len(lines) == 4 and words == sorted(words, key=VERDICTS.index)
    for one in rows:
        assert one.row.finding.figure in text
        assert (f"; {one.power:.2f} |" in text) or one.crossed
    picture = ElementTree.fromstring(forest([one.row for one in rows]))
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}title"))) == 4
    assert primary_rows(tmp_path) == [] and "not been looked at" in primary_part([])
    table = folder / LOOKS_TABLE
    body = table.read_text()
    table.write_text("\n".join(line for line in body.splitlines() if "keys" not in line) + "\n")
    with pytest.raises(UserError, match=r"looks\.csv says nothing of keys"):
        primary_rows(folder)
    table.write_text(body)


def test_what_is_not_whole_is_refused(judged, tmp_path):
    folder, _, names, _ = judged
    whole = (folder / WHOLE).read_text()
    (folder / WHOLE).write_text("\n".join(whole.splitlines()[:3]) + "\n")
    with pytest.raises(UserError, match="2 of the 4 concepts of the first look are whole"):
        judge_folder(folder)
    (folder / WHOLE).write_text(whole)
    file = next(folder.glob(f"rows/*/cd-selected/default/{names[6]}.csv"))
    body = file.read_bytes()
    file.unlink()
    with pytest.raises(UserError, match=f"no whole scores of cd-selected/default/{names[6]}"):
        judge_folder(folder)
    file.write_bytes(body)
    with pytest.raises(UserError, match="there is no plan"):
        judge_folder(tmp_path)


def test_a_measure_that_was_not_made_is_refused(judged):
    folder, _, _, _ = judged
    cells = pd.read_csv(folder / "cells.csv", keep_default_na=False, na_values=[""])
    what = Compared("drift", (("perfusion", LOCAL),), (("cd-selected", "default"),))
    with pytest.raises(UserError, match="the rows have no drift"):
        Scored(cells).parts(what)


# ---- a real run, tiny ----

SCORERS = ("auto",)
TINY = {"perfusion": [LOCAL], "lora-selected": ["default"]}


TUNED = {
    "method": "lora", "digest": backbone_digest(shared() / "tiny")[:12], "setting": "01",
    "concept": "cat", "round": 1,
}  # fmt: skip


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A checkout with a plan that is not committed yet."""
    folder = tmp_path_factory.mktemp("confirm") / "confirm"
    suite = make_concepts(folder.parent / "concepts", ("cat", "dog", "teapot", "chair"))
    (suite / "drift.csv").write_text("id,text\nu01,A bird in the snow\nu02,A car on the road\n")
    folder.mkdir()
    run = [
        'preset = "micro"', f'backbone = "{shared() / "tiny"}"', f'suite = "{suite}"',
        'device = "cpu"', 'dtype = "float32"', "threads = 1", "images = 1", 'cache = "none"',
        "drift = true", "steps = 2", "train_steps = 4", "validate_every = 2", 'prompts = ["2"]',
    ]  # fmt: skip
    claims = [
        ("drift", "drift", ["lora-selected/default"], [f"perfusion/{LOCAL}"], 0.02),
        ("text", "text_sim", [f"perfusion/{LOCAL}"], ["lora-selected/default"], 0.02),
    ]
    (folder / PLAN).write_text(plan_text((2, 4), run, TINY, claims))
    (folder / "plan.md").write_text("why\n")
    (folder / "settings.csv").write_text("method,setting,rates,chosen\nlora,01,lr=0.004,yes\n")
    frame_of([TUNED]).to_csv(folder / TRAININGS, index=False)
    git(folder.parent, "init", "-q")
    return folder


def test_nothing_begins_before_the_rules_are_committed(begun):
    with pytest.raises(UserError, match="is not committed as it is: what decides is written down"):
        confirm.run_look(begun)
    assert not (begun / BEGUN).exists() and not (begun / "run.json").exists()
    with pytest.raises(UserError, match="no run has begun"):
        judge_folder(begun)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "has no trainings of lora, so nobody knows on which backbone"),
        ([], "has no trainings of lora"),
        ([TUNED | {"method": "cd"}], "has no trainings of lora"),
        ([TUNED | {"digest": "0" * 12}], "was tuned on another backbone"),
        ([TUNED, TUNED | {"digest": "0" * 12}], "was tuned on another backbone"),
    ],
)
def test_rates_of_other_weights_or_of_none_are_refused(begun, rows, said):
    before = (begun / TRAININGS).read_bytes()
    (begun / TRAININGS).unlink()
    if rows is not None:
        frame_of(rows).to_csv(begun / TRAININGS, index=False)
    with pytest.raises(UserError, match=said):
        confirm.run_look(begun)
    (begun / TRAININGS).write_bytes(before)


def test_rates_may_be_carried_over_with_a_reason(tmp_path):
    text = plan_text((4, 8), ["images = 1"], POINTS, CLAIMS)
    path, settings = tmp_path / PLAN, tmp_path / "settings.csv"
    path.write_text(text)
    frame_of([TUNED | {"digest": "0" * 12}]).to_csv(tmp_path / TRAININGS, index=False)
    plain = read_confirm_plan(path)
    with pytest.raises(UserError, match=r"write in \[rates\] why they serve: carried = "):
        refuse_other_backbone(plain, settings, "ab" * 32)
    path.write_text(text.replace("[rates]", '[rates]\ncarried = "its U-Net goes on from this one"'))
    carried = read_confirm_plan(path)
    refuse_other_backbone(carried, settings, "ab" * 32)
    assert carried.frame != plain.frame, "a reason that comes later is a change"
    path.write_text(text.replace("[rates]", "[rates]\ncarried = true"))
    with pytest.raises(UserError, match="carried is to be why rates of another backbone"):
        read_confirm_plan(path)


def test_looks_follow_one_another(begun, capsys):
    git(begun.parent, "add", "confirm/plan.toml", "confirm/plan.md", "confirm/settings.csv")
    git(begun.parent, "commit", "-q", "-m", "the plan")
    with pytest.raises(UserError, match=f"{TRAININGS} is not committed as it is"):
        confirm.run_look(begun)
    git(begun.parent, "add", f"confirm/{TRAININGS}")
    git(begun.parent, "commit", "-q", "-m", "how the rates were tuned")
    assert confirm.run_look(begun, dry_run=True) == 0 and not (begun / BEGUN).exists()
    assert confirm.run_look(begun) == 0
    said = capsys.readouterr().err
    assert "--by-concept --drop-fits" in said and "fit.lora.lr=0.004" in said
    whole = read_whole(begun)
    assert [row["concept"] for row in whole] == ["cat", "chair"]
    assert all(row["processor"].startswith("cpu (") and row["threads"] == "1" for row in whole)
    assert (begun / PACKED).is_file() and not list(begun.glob("rows/**/*.csv"))
    assert not list(begun.glob("fits/**/*.safetensors"))
    assert "look 1, 2 concepts" in judge_folder(begun)

    # gone on with from what is committed, as on another machine
    kept = [f"confirm/{name}" for name in (BEGUN, WHOLE, "run.json", PACKED)]
    git(begun.parent, "add", *kept)
    git(begun.parent, "commit", "-q", "-m", "the first look")
    git(begun.parent, "clean", "-fdxq", "confirm")
    capsys.readouterr()
    assert confirm.run_look(begun) == 0
    assert ": 4 fits and " in capsys.readouterr().err, "of the two concepts that were not whole"
    assert [row["number"] for row in read_whole(begun)] == ["1", "2", "3", "4"]
    assert read_whole(begun)[:2] == whole
    assert {Path(name).stem for name in open_archive(begun / PACKED).files()} >= {"cat", "dog"}
    text = judge_folder(begun)
    assert "look 2, 4 concepts" in text
    found = by_claim(begun)
    assert found["drift", 1]["value"] != found["drift", 2]["value"] and len(found) == 4
    capsys.readouterr()
    assert confirm.run_look(begun) == 0
    assert "nothing new" in capsys.readouterr().err and judge_folder(begun) == text


def test_scores_without_their_trainings_are_not_gone_on_with(begun):
    """As where an archive of one commit lies beside a whole.csv of an earlier one."""
    whole = (begun / WHOLE).read_bytes()
    last = read_whole(begun)[-1]["concept"]
    shutil.rmtree(begun / "fits")
    assert confirm.run_look(begun) == 0, "of whole concepts nothing is needed"
    (begun / WHOLE).write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=f"{last} has scores of .*, and neither a row of whole.csv"):
        confirm.run_look(begun)
    (begun / WHOLE).write_bytes(whole)


def test_rules_stay_and_processors_are_told(begun):
    """The last test: it changes the plan."""
    about = json.loads((begun / BEGUN).read_text())
    text = judge_folder(begun)
    assert confirm.judge(begun) == text
    swapped = about["concepts"][::-1]
    (begun / BEGUN).write_text(json.dumps(about | {"concepts": swapped}))
    with pytest.raises(UserError, match=r"have changed since the run began \(concepts\)"):
        confirm.judge(begun)
    (begun / BEGUN).write_text(json.dumps(about, indent=1) + "\n")
    assert about["processor"] == read_whole(begun)[0]["processor"]
    assert {PLAN, "plan.md", "settings.csv", TRAININGS} == set(about["commits"])
    # as if it had begun elsewhere: whole concepts stay, and another may be made here
    whole, told = (begun / WHOLE).read_bytes(), (begun / BEGUN).read_bytes()
    (begun / BEGUN).write_text(json.dumps(about | {"processor": "cpu (another)"}))
    assert confirm.run_look(begun) == 0 and (begun / WHOLE).read_bytes() == whole
    (begun / WHOLE).write_text(whole.decode().replace("cpu (", "cpu (another ", 1))
    here = about["processor"]
    assert f"of processor: 3 on {here}; 1 on cpu (another " in judge_folder(begun)
    (begun / WHOLE).unlink()
    # without what was decided, rows are not made new by beginning again
    (begun / BEGUN).unlink()
    with pytest.raises(UserError, match=f"has run.json but no {BEGUN}: rows older than"):
        confirm.run_look(begun)
    (begun / WHOLE).write_bytes(whole)
    with pytest.raises(UserError, match=f"has whole.csv but no {BEGUN}"):
        confirm.run_look(begun)
    assert not (begun / BEGUN).exists()
    (begun / BEGUN).write_bytes(told)
    (begun / "settings.csv").write_text("method,setting,rates,chosen\nlora,01,lr=0.005,yes\n")
    with pytest.raises(UserError, match="rates have changed since the run began"):
        confirm.run_look(begun)
    with pytest.raises(UserError, match="the plan has looks 1 to 2"):
        confirm.run_look(begun, look=3)


def test_a_concept_is_made_on_one_kind_of_processor(tmp_path):
    """Where it is not whole; fits of a whole one may be from elsewhere."""
    fit = Fit("lora", "cat", "cat", {}, None, True, (), 0, "ab" * 16)
    plan, store = Plan((), (fit,), ()), Store(tmp_path / "run")
    refuse_half_made(store, plan, (), "cpu (here)", SCORERS)
    manifest = store.folder(fit) / MANIFEST[Fit]
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"key": fit.key, "files": {}, "device": "cpu (there)"}))
    with pytest.raises(UserError, match=r"cat was begun on cpu \(there\), and this is cpu \(here"):
        refuse_half_made(store, plan, (), "cpu (here)", SCORERS)
    refuse_half_made(store, plan, (), "cpu (there)", SCORERS)
    refuse_half_made(store, plan, {"cat"}, "cpu (here)", SCORERS)
