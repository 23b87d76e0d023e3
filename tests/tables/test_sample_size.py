"""`perfbench design`: the variance of a difference and what another size would make of it, against
an analysis of variance by hand, simulations, and the command line.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run
from run_kit import ROOT
from scipy import stats

from benchmarks import cli
from benchmarks.paths import FIRST_WORLD
from benchmarks.tables import design_verb
from benchmarks.tables.sample_size import (
    Goal,
    Price,
    cheapest,
    choices,
    detectable,
    fewest,
    half_width,
    pilot_of,
    power_of,
    variance_of,
    within,
)
from perfusion_core.errors import UserError

PAPER = ROOT / FIRST_WORLD / "miniature-paper"
OF = "perfusion/local-b0.60-t0.15"
# Minus what; shares of concept, prompt, cell, image in %; half widths of 11 x 8, 11 x 1, 22 x 1,
# 48 x 1 and 88 x 1 concepts and images: computed once by other code, with numpy alone
KNOWN = {
    "cd-selected/default": ((97, 2, 1, 0.3), (0.118, 0.120, 0.080, 0.053, 0.040)),
    "db-selected/default": ((96, 2, 1, 0.4), (0.105, 0.107, 0.071, 0.047, 0.036)),
    "ti-selected/default": ((99, 0, 0.6, 0.4), (0.082, 0.083, 0.055, 0.036, 0.026)),
    "lora-selected/default": ((98, 0.2, 2, 0.6), (0.074, 0.076, 0.050, 0.033, 0.024)),
    "perfusion/global-b0.60-t0.15": ((94, 4, 1, 1), (0.051, 0.053, 0.036, 0.025, 0.019)),
    "perfusion/local-b0.75-t0.15": ((93, 0, 0.2, 7), (0.0056, 0.0068, 0.0045, 0.0029, 0.0021)),
}


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    return design_verb.rows_of(PAPER, "image_sim")


def by_hand(d: np.ndarray) -> np.ndarray:
    """Contributions to the variance of the mean of d [C, P, I]: the mean squares of a balanced
    crossed layout, solved for their expectations."""
    c, p, i = d.shape
    cell, concept, prompt, mean = d.mean(2), d.mean((1, 2)), d.mean((0, 2)), d.mean()
    of_image = ((d - cell[..., None]) ** 2).sum() / (c * p * (i - 1))
    rest = cell - concept[:, None] - prompt[None] + mean
    of_cell = i * (rest**2).sum() / ((c - 1) * (p - 1))
    of_concept = p * i * ((concept - mean) ** 2).sum() / (c - 1)
    of_prompt = c * i * ((prompt - mean) ** 2).sum() / (p - 1)
    variances = [
        (of_concept - of_cell) / (p * i),
        (of_prompt - of_cell) / (c * i),
        (of_cell - of_image) / i,
        of_image,
    ]
    return np.maximum(variances, 0) / [c, p, c * p, c * p * i]


@pytest.mark.parametrize("minus", KNOWN)
def test_a_difference_of_the_whole_protocol(paper, minus):
    """The run's own rows: components by hand, and the numbers that other code found."""
    pilot = design_verb.measured(paper, OF, minus, "image_sim")
    frames = []
    for point in (OF, minus):
        mine = paper[design_verb.named_points(paper) == point].dropna(subset="image_sim")
        frames.append(mine.set_index(design_verb.PLACE)["image_sim"])
    d = (frames[0] - frames[1]).sort_index().to_numpy().reshape(11, 19, 8)
    wanted = by_hand(d)
    np.testing.assert_allclose(pilot.parts, wanted, rtol=1e-9, atol=1e-12)
    assert pilot.mean.value == pytest.approx(d.mean(), abs=1e-12)

    shares, widths = KNOWN[minus]
    for mine, known in zip(100 * wanted / wanted.sum(), shares):
        assert mine == pytest.approx(known, abs=0.5 if known >= 1 else 0.06)
    for (concepts, images), known in zip(((11, 8), (11, 1), (22, 1), (48, 1), (88, 1)), widths):
        variance = variance_of(pilot, concepts, pilot.prompts, images)
        by_t = stats.t.ppf(0.975, concepts - 1) * np.sqrt(
            (wanted / [concepts / 11, 1, concepts / 11, concepts / 11 * images / 8]).sum()
        )
        assert half_width(concepts, variance) == pytest.approx(by_t, rel=1e-9)
        assert by_t == pytest.approx(known, abs=0.0006 if known > 0.01 else 0.00006)


def test_text_is_relative_to_super(paper):
    """A concept's differences by what `super` has on its prompts: the table's text similarity."""
    pilot = design_verb.measured(paper, OF, "cd-selected/default", "text_sim")
    table = pd.read_csv(PAPER / "table.csv").set_index(["method", "point"])["text_sim"]
    wanted = table[("perfusion", "local-b0.60-t0.15")] - table[("cd-selected", "default")]
    assert pilot.mean.value == pytest.approx(wanted, abs=2e-6)
    shares = 100 * np.array(pilot.parts) / sum(pilot.parts)
    assert 45 < shares[0] < 55 and 40 < shares[1] < 50  # prompts weigh as much as concepts


# ---- another size ----

TRUE = (0.03, 0.02, 0.015, 0.06)  # sd of concept, prompt, cell, image in the differences


def world(rng, concepts: int, prompts: int, images: int) -> np.ndarray:
    of_concept, of_prompt, of_cell, of_image = TRUE
    return (
        rng.normal(0, of_concept, (concepts, 1, 1))
        + rng.normal(0, of_prompt, (1, prompts, 1))
        + rng.normal(0, of_cell, (concepts, prompts, 1))
        + rng.normal(0, of_image, (concepts, prompts, images))
    )


def test_the_variance_of_another_size_is_what_a_run_of_it_has():
    """A large pilot tells the components; means of many runs of another size vary by as much."""
    rng = np.random.default_rng(3)
    d = world(rng, 70, 70, 4)
    pilot = pilot_of(d.mean(2), np.full((70, 70), 4), d.std(2, ddof=1), 70)
    for size in ((8, 12, 1), (20, 6, 2), (40, 30, 1)):
        seen = np.var([world(rng, *size).mean() for _ in range(1500)])
        assert variance_of(pilot, *size) == pytest.approx(seen, rel=0.3)


def pilot_like_true(concepts: int = 11, prompts: int = 20, images: int = 4):
    d = world(np.random.default_rng(5), concepts, prompts, images)
    n = np.full(d.shape[:2], images)
    return pilot_of(d.mean(2), n, d.std(2, ddof=1), prompts)


@pytest.mark.parametrize("concepts, effect", [(3, 0.1), (11, 0.02), (44, 0.02), (11, 0.0)])
def test_power_is_how_often_an_interval_finds_the_effect(concepts, effect):
    rng, sd = np.random.default_rng(6), 0.03
    draws = rng.normal(effect, sd, (20000, concepts))
    se = draws.std(1, ddof=1) / np.sqrt(concepts)
    found = np.mean(draws.mean(1) - stats.t.ppf(0.975, concepts - 1) * se > 0)
    power = power_of(effect, concepts, sd**2 / concepts)
    assert power == pytest.approx(found, abs=0.012)
    nc = effect / (sd / np.sqrt(concepts))
    exact = stats.nct.sf(stats.t.ppf(0.975, concepts - 1), concepts - 1, nc)
    assert power == pytest.approx(exact, abs=1e-6)


def test_what_it_finds_is_found_with_that_power():
    for concepts in (3, 11, 100):
        for power in (0.5, 0.8, 0.95):
            effect = detectable(concepts, 4e-4, power)
            assert power_of(effect, concepts, 4e-4) == pytest.approx(power, abs=1e-5)
    assert power_of(50.0, 11, 1e-8) == 1.0 and power_of(0.1, 11, 0.0) == 1.0


def test_the_cheapest_size_is_the_smallest_that_reaches_the_goal():
    pilot, price = pilot_like_true(), Price(60.0, 0.2, 2)
    options = choices((10, 20), (1, 4))
    for goal in (Goal(width=0.02), Goal(effect=0.02, power=0.9)):
        found = cheapest(pilot, price, goal, options)
        assert len(found) == 4 and [s.hours for s in found] == sorted(s.hours for s in found)
        for size in found:
            fewer = variance_of(pilot, size.concepts - 1, size.prompts, size.images)
            assert goal.reached(
                size.concepts, variance_of(pilot, size.concepts, size.prompts, size.images)
            )
            assert not goal.reached(size.concepts - 1, fewer)
    assert fewest(lambda n: n >= 1234) == 1234 and fewest(lambda n: False) is None
    alone = replace(pilot, parts=pilot.parts._replace(prompt=1e-3))
    assert cheapest(alone, price, Goal(width=0.02), options) == []  # prompts alone leave more


def test_hours_are_spent_to_the_last_concept():
    pilot, price = pilot_like_true(), Price(60.0, 0.2, 2, workers=2)
    found = within(pilot, price, Goal(), 3.0, choices((10, 20), (1, 4)))
    assert [s.half for s in found] == sorted(s.half for s in found) and len(found) == 4
    for size in found:
        seconds = size.concepts * (60 + size.prompts * size.images * 2 * 0.2) / 2
        assert size.hours == pytest.approx(seconds / 3600) and size.hours <= 3
        assert price.hours(size.concepts + 1, size.prompts, size.images) > 3
    assert within(pilot, price, Goal(), 0.01, choices((20,), (1,))) == []


def test_eleven_concepts_tell_a_width_from_070_to_175():
    low, high = pilot_like_true().known_to
    assert (round(low, 2), round(high, 2)) == (0.7, 1.75)


# ---- the command ----


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("design") / "run"
    methods = {"perfusion": (LOCAL[0], GLOBAL[0]), "cd": ("default",)}
    make_run(folder, methods, ["cat", "dog", "chair", "pot"], prompts=5, images=2, pictures=False)
    return str(folder)


def said(capsys, *words: str) -> str:
    assert cli.run(["design", *words]) == 0
    return str(capsys.readouterr().out)


def test_the_command_says_what_to_buy(run, capsys):
    price = ("--seconds-a-fit", "60", "--seconds-an-image", "0.5")
    text = said(capsys, run, "--of", OF, "--minus", "cd", "--hours", "2", "--width", "0.02", *price)
    assert text.startswith(f"{OF} minus cd/default, image_sim: ")
    assert (
        "within 2 h, the narrowest first:" in text
        and "to know it to 0.02 either side, the cheapest" in text
    )
    assert "120 s of training a concept, 0.5 s an image, 2 images a prompt and seed" in text
    told = json.loads(said(capsys, run, "--of", OF, "--minus", "cd", "--concepts", "9,30",
                           "--images", "1", "--effect", "0.05", *price, "--json"))  # fmt: skip
    [sizes] = told["designs"].values()
    assert {size["concepts"] for size in sizes} == {9, 30}
    assert all(0 < size["power"] <= 1 and size["hours"] > 0 for size in sizes)
    assert told["price"]["fits"] == 120 and set(told["doubled"]) >= {"as it is", "one image"}


def test_one_point_and_the_defaults(run, capsys):
    text = said(capsys, run)
    assert re.match(r"perfusion/\S+, image_sim: \+0\.\d+ \[", text)
    assert "variance of that mean: concept " in text and "twice the concepts" in text
    assert "text_sim: " in said(capsys, run, "--score", "text_sim", "--of", "cd")
    whole = said(capsys, run, "--whole", "--seconds-a-fit", "60", "--seconds-an-image", "1")
    assert "120 s of training a concept" in whole and "4 images a prompt and seed" in whole


def test_a_width_that_concepts_cannot_buy(capsys):
    text = said(capsys, str(PAPER), "--of", OF, "--minus", "cd-selected", "--score", "text_sim",
                "--width", "0.02")  # fmt: skip
    assert re.search(r"no number of concepts is enough .*: 43 prompts a concept alone leave "
                     r"0\.037\d* either side; allow more, as --prompts 172", text)  # fmt: skip


@pytest.mark.parametrize(
    "words, says",
    [
        (["--of", "perfusion"], "--of perfusion has 2 operating points"),
        (["--of", "perfusio"], "unknown operating point 'perfusio'"),
        (["--of", "cd", "--minus", "cd/default"], "name two operating points"),
        (["--score", "image"], "unknown score 'image'"),
        (["--score", "seed"], "unknown score 'seed'"),
        (["--hours", "2"], "give --seconds-an-image S"),
        (["--hours", "2", "--seconds-a-fit", "0", "--seconds-an-image", "0"], "above 0"),
        (["--hours", "-1"], "out of range"),
        (["--hours", "many"], "not a finite number"),
        (["--power", "0.9"], "add --effect X"),
        (["--effect", "0.1", "--power", "1.5"], "out of range"),
        (["--effect", "0.1", "--width", "0.1"], "not allowed with"),
        (["--concepts", "9,x"], "'x' is not a whole number"),
        (["--concepts", "1"], "at least 2"),
        (["--width", "0"], "out of range"),
    ],
)
def test_a_mistake_is_a_sentence(run, words, says):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        cli.run(["design", run, *words])
    assert "\n" not in str(caught.value)


def test_runs_that_tell_too_little(tmp_path):
    for name, concepts, prompts in (("alone", ["cat"], 3), ("one-prompt", ["cat", "dog"], 1)):
        folder = tmp_path / name
        make_run(folder, {"cd": ("default",)}, concepts, prompts=prompts, images=2, pictures=False)
        with pytest.raises(UserError, match="cannot tell how much either varies"):
            cli.run(["design", str(folder)])
    with pytest.raises(UserError, match="is not a run folder"):
        cli.run(["design", str(tmp_path / "nowhere")])


def test_pairs_are_what_a_run_of_pairs_is_about(capsys):
    run = str(ROOT / FIRST_WORLD / "miniature-pairs")
    text = said(capsys, run, "--of", "cd", "--minus", "ti", "--score", "text_sim_raw")
    assert "] of 8 concepts" in text  # pairs, of which each counts as one


def test_numbers_of_other_people_are_not_believed(tmp_path):
    """Seconds that cannot be, workers that are none, a row twice: no traceback, and no hours."""
    folder = tmp_path / "run"
    extra = {"seconds": {"images": -5.0}, "config": {"workers": "many"}}
    small = {"prompts": 4, "images": 2, "pictures": False, "extra": extra}
    make_run(folder, {"cd": ("default",)}, ["cat", "dog", "pot"], **small)
    with pytest.raises(UserError, match="does not say how long that takes"):
        cli.run(["design", str(folder), "--hours", "1"])
    rows = design_verb.rows_of(folder, "image_sim")
    twice = pd.concat([rows, rows])
    once, again = (design_verb.measured(r, "cd/default", "super/default", "image_sim")
                   for r in (rows, twice))  # fmt: skip
    assert once == again


def test_one_image_a_cell(tmp_path, capsys):
    folder = tmp_path / "run"
    make_run(folder, {"cd": ("default",)}, ["cat", "dog", "pot"], prompts=4, images=1,
             pictures=False)  # fmt: skip
    text = said(capsys, str(folder), "--width", "0.05")
    assert "what more of them would bring cannot be told" in text and "twice the images" not in text
