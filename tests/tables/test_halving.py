"""Successive halving on made-up scores: who goes on, the plateau and its middle, and what a search
may expect, against brute force.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import halving
from benchmarks.tables.halving import Round, Standing, count_fits, expected_maximum, read_rounds
from benchmarks.tables.halving_text import told
from perfusion_core.errors import UserError

NAN = math.nan


def made(scores, rates=None, rounds=None, method="lora", seconds=10.0):
    """setting -> its scores by concept; None is a training that diverged. `rounds`: of each
    concept.
    """
    rows = []
    for setting, values in scores.items():
        for c, value in enumerate(values):
            score = NAN if value is None else value
            rows.append(
                {
                    "method": method,
                    "setting": setting,
                    "rates": (rates or {}).get(setting, f"lr={10 ** -int(setting):g}"),
                    "round": (rounds or [1] * 99)[c],
                    "concept": f"c{c}",
                    **dict.fromkeys(halving.SCORES, score),
                    "train_seconds": NAN if value is None else seconds,
                }
            )
    return pd.DataFrame(rows)


# ---- rounds ----


def test_the_default_rounds_are_140_fits():
    rounds = read_rounds("16x4,8x8,4x16,2x22", 22)
    assert rounds == (Round(16, 4), Round(8, 8), Round(4, 16), Round(2, 22))
    cells = {(s, c) for one in rounds for s in range(one.settings) for c in range(one.concepts)}
    assert count_fits(rounds) == len(cells) == 140


def test_a_search_is_over_when_its_last_round_is():
    rounds = (Round(3, 1), Round(2, 3))
    whole = made({"01": [0.5], "02": [0.7, 0.6, 0.6], "03": [0.6, 0.6, 0.6]}, rounds=[1, 2, 2])
    assert halving.is_over(whole, rounds)
    assert not halving.is_over(whole[whole["setting"] != "01"], rounds)
    assert not halving.is_over(whole[whole["round"] == 1], rounds)
    assert not halving.is_over(whole.iloc[:-1], rounds)
    lost = made({"01": [None], "02": [0.7, 0.6, None], "03": [None]}, rounds=[1, 2, 2])
    assert halving.is_over(lost, rounds), "nothing else goes on"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16x4,8", "is not a list of SETTINGSxCONCEPTS"),
        ("", "is not a list of SETTINGSxCONCEPTS"),
        ("0x4", "is not a list of SETTINGSxCONCEPTS"),
        ("4x4,8x8", "8 settings after 4; no round has more settings"),
        ("8x8,4x8", "8 concepts after 8; each round adds concepts"),
        ("8x4,2x23", "asks for 23 concepts and the suite has 22"),
    ],
)
def test_rounds_that_cannot_be(text, message):
    with pytest.raises(UserError) as caught:
        read_rounds(text, 22)
    assert message in str(caught.value) and str(caught.value).count("\n") == 0


def test_the_better_ones_go_on_and_what_diverged_does_not():
    rows = made({"01": [0.9, 0.1], "02": [0.6, 0.6], "03": [0.4, 0.9], "04": [0.99, None]})
    assert halving.survivors(rows, ["01", "02", "03", "04"], 2) == ["02", "03"]
    assert halving.survivors(rows, ["01", "04"], 2) == ["01"]
    equal = made({"02": [0.5], "01": [0.5], "03": [0.5]})
    assert halving.survivors(equal, ["03", "02", "01"], 2) == ["01", "02"]


def test_halving_ends_with_the_best_where_nothing_is_noise():
    truth = np.random.default_rng(3).permutation(16) / 16
    names = [f"{n + 1:02d}" for n in range(16)]
    alive, rows = names, made({})
    for count, concepts in read_rounds("16x4,8x8,4x16,2x22", 22):
        alive = halving.survivors(rows, alive, count) if len(rows) else alive
        rows = made({name: [truth[int(name) - 1]] * concepts for name in alive})
    assert len(alive) == 2 and Standing.of(rows).best == names[int(truth.argmax())]


# ---- the plateau ----


def test_within_one_standard_error_of_the_paired_difference():
    best = [0.8, 0.2, 0.7, 0.5]
    level, worse = [0.9, 0.1, 0.5, 0.6], [0.75, 0.15, 0.64, 0.46]  # behind by .025 and .05
    rows = made({"01": best, "02": level, "03": worse})
    standing = Standing.of(rows)
    for name, other in (("02", level), ("03", worse)):
        apart = np.array(best) - np.array(other)
        behind, error = standing.behind(name)
        assert behind == pytest.approx(apart.mean())
        assert error == pytest.approx(apart.std(ddof=1) / 2)
    # 02 is as uncertain as it is close; 03 is behind on every concept
    assert standing.best == "01" and standing.plateau == ["01", "02"]


def test_they_are_compared_on_the_concepts_that_both_have():
    rows = made({"01": [0.5, 0.5, 0.9, 0.9], "02": [0.6, 0.45]}, rounds=[1, 1, 2, 2])
    behind, _ = Standing.of(rows).behind("02")
    assert behind == pytest.approx((-0.1 + 0.05) / 2)


def test_what_the_first_round_dropped_or_what_diverged_is_no_plateau():
    rounds = [1, 1, 2, 3]
    scores = {
        "01": [0.5, 0.5, 0.5, 0.5],
        "02": [0.6, 0.4, 0.5],
        "03": [0.6, 0.4],
        "04": [0.9, None, 0.9],
    }
    assert Standing.of(made(scores, rounds=rounds)).plateau == ["01", "02"]
    # of a search with one round all are as well known as the best
    one = {name: values[:2] for name, values in scores.items()}
    assert "03" in Standing.of(made(one)).plateau


def test_the_middle_of_the_plateau_is_chosen_and_not_the_best():
    rates = {"01": "lr=1 b=1", "02": "lr=0.1 b=1", "03": "lr=0.01 b=1", "04": "lr=0.02 b=9"}
    noise = [0.1, -0.1, 0.1, -0.1]
    scores = {
        "01": [0.52, 0.5, 0.52, 0.5],
        "02": [0.5 + x for x in noise],
        "03": [0.5 - x for x in noise],
        "04": [0.1] * 4,
    }
    rows = made(scores, rates)
    standing = Standing.of(rows)
    assert standing.best == "01" and standing.plateau == ["01", "02", "03"]
    assert halving.middle(standing, pd.Series(rates)) == "02"
    table = halving.settings_table(rows).set_index("setting")
    assert list(table["chosen"]) == ["", "yes", "", ""] and table.loc["01", "best"] == "yes"
    assert table.loc["04", "behind"] == pytest.approx(0.41) and table.loc["04", "plateau"] == ""


def test_of_two_that_are_equally_near_the_better_is_chosen():
    rates = {"01": "lr=0.1", "02": "lr=0.001"}
    standing = Standing.of(made({"01": [0.4, 0.6], "02": [0.62, 0.4]}, rates))
    assert standing.plateau == ["01", "02"]
    assert halving.middle(standing, pd.Series(rates)) == "02"


def test_where_everything_diverged_nothing_is_chosen():
    rows = made({"01": [None, 0.5], "02": [None, None]})
    table = halving.settings_table(rows)
    assert set(table["chosen"]) == {""} and list(table["diverged"]) == [1, 2]
    beside = made({"01": [0.4, 0.4]}, method="db")
    for both in ([rows, beside], [beside, rows]):
        text = told(pd.concat(both), [Round(2, 2)])
        assert "lora: every setting diverged" in text and "as many as 20 s" in text


# ---- expected validation performance ----


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.7, 0.4], [0.5, 0.5, 0.2, 0.9]])
@pytest.mark.parametrize("draws", [1, 2, 3, 5])
def test_expected_maximum_is_the_mean_over_all_samples(values, draws):
    brute = np.mean([max(sample) for sample in itertools.product(values, repeat=draws)])
    assert expected_maximum(values, draws) == pytest.approx(brute, abs=1e-12)


def test_a_setting_that_diverged_is_worth_the_plain_word():
    rows = made({"01": [0.4, 0.6], "02": [None, 0.9], "03": [0.2, 0.2, 0.9]}, rounds=[1, 1, 2])
    trials = halving.first_trials(rows)
    assert list(trials["score"]) == pytest.approx([0.5, 0.0, 0.2])
    assert list(trials["seconds"].dropna()) == [20, 20]
    table = halving.expected_table(rows)
    assert list(table["trials"]) == [1, 2, 3] and list(table["seconds"]) == [20, 40, 60]
    brute = [
        np.mean([max(s) for s in itertools.product([0.5, 0.0, 0.2], repeat=k)]) for k in (1, 2, 3)
    ]
    assert list(table["expected"]) == pytest.approx(brute, abs=1e-6)


def test_equal_seconds_are_fewer_trials_of_the_slower_method():
    fast = made({"01": [0.2], "02": [0.6]}, method="lora", seconds=10)
    slow = made({"01": [0.2], "02": [0.6]}, method="db", seconds=20)
    text = told(pd.concat([fast, slow]), [Round(2, 1)])
    of_fast, of_slow = (
        next(line for line in text.splitlines() if line.startswith(f"| {name}"))
        for name in ("lora", "db")
    )
    # 20 s pay for two trials of the one, 0.25 * 0.2 + 0.75 * 0.6, and for one of the other
    assert of_fast.split("|")[-2].strip() == "0.500" and of_slow.split("|")[-2].strip() == "0.400"
    assert math.isnan(halving.expected_at(slow, 19))
    assert halving.expected_at(fast, 15) == pytest.approx(0.6 - 0.4 * 0.5**1.5)


def test_the_plateau_at_the_edge_is_told():
    scores = {"01": [0.5, 0.5], "02": [0.5, 0.49], "03": [0.1, 0.1]}
    text = told(made(scores), [Round(3, 2)])
    assert "the middle of 2 within one standard error of the best (setting 01)" in text
    assert "; it reaches the edge of lr as tried" in text
    inside = made(scores, {"01": "lr=0.2", "02": "lr=0.1", "03": "lr=0.3"})
    assert "edge" in told(inside, [Round(3, 2)])
    alone = made({"01": [0.5, 0.5], "02": [0.1, 0.1], "03": [0.1, 0.1]},
                 {"01": "lr=0.2", "02": "lr=0.1", "03": "lr=0.3"})  # fmt: skip
    assert "edge" not in told(alone, [Round(3, 2)])
