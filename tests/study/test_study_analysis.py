"""The analysis: known answers, published examples, simulated raters, the paper's figures, export to
table.
"""

import json
import re
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from made_run import CONCEPTS
from scipy.optimize import minimize
from study_kit import answer_file, make_run, rater_id, write_answers

from benchmarks.cli import run as perfbench
from benchmarks.study.agreement import (
    alpha_of_coincidences,
    coincidences,
    ordinal_distances,
    same_order,
)
from benchmarks.study.analysis import analyse
from benchmarks.study.answers import read_key
from benchmarks.study.collect import collect
from benchmarks.study.design import RATE, Design
from benchmarks.study.estimate import balanced, holm
from benchmarks.study.export import export
from benchmarks.study.results import correlation, means, pairs
from perfusion_core.errors import UserError

RANKS = np.array([(3, 2, 1), (3, 1, 2), (2, 3, 1), (2, 1, 3), (1, 3, 2), (1, 2, 3)])
_ = np.nan


def likeliest(mean_ranks):
    """Probabilities of the six orders with these mean ranks, otherwise as even as possible."""
    # published means are rounded: 2.18 + 2.06 + 1.75 = 5.99
    target = np.asarray(mean_ranks) + (6 - np.sum(mean_ranks)) / 3
    fitted = minimize(
        lambda x: np.log(np.exp(RANKS[:, :2] @ x).sum()) - x @ target[:2], [0.0, 0.0]
    ).x
    p = np.exp(RANKS[:, :2] @ fitted)
    return p / p.sum()


def rank_like(mean_ranks):
    p = likeliest(mean_ranks)
    return lambda task, random: [int(rank) for rank in RANKS[random.choice(6, p=p)]]


# ---- agreement ----


def alpha(ratings, level="ordinal"):
    """Of ratings [raters, units], NaN where there is none, at any level: studies have ordinal ones
    only.
    """
    there = ~np.isnan(ratings)
    values = np.unique(ratings[there])
    met = coincidences(((ratings[..., None] == values) & there[..., None]).sum(0))
    nominal, interval = 1.0 - np.eye(len(values)), (values[:, None] - values[None, :]) ** 2
    distances = {"nominal": nominal, "interval": interval, "ordinal": ordinal_distances(met)}
    return alpha_of_coincidences(met, distances[level])


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections A to D, and his
# example with 3 coders and 15 units: the values that he prints.
A = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
B = [[1, 1, 2, 2, 4, 3, 3, 3, 5, 4, 4, 1], [2, 1, 2, 2, 2, 3, 3, 3, 5, 4, 4, 4]]
C = [[1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
     [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _]]  # fmt: skip
D = [[_, _, _, _, _, 3, 4, 1, 2, 1, 1, 3, 3, _, 3], [1, _, 2, 1, 3, 3, 4, 3, _, _, _, _, _, _, _],
     [_, _, 2, 1, 3, 4, 4, _, 2, 1, 1, 3, 3, _, 4]]  # fmt: skip


@pytest.mark.parametrize(
    "data, level, published",
    [
        (A, "nominal", 0.095),
        (B, "nominal", 0.692),
        (C, "nominal", 0.743),
        (C, "ordinal", 0.815),
        (C, "interval", 0.849),
        (D, "nominal", 0.691),
        (D, "interval", 0.811),
    ],
)
def test_krippendorffs_own_examples(data, level, published):
    assert round(alpha(np.array(data, float), level), 3) == published


def test_alpha_of_unanimity_chance_and_nothing():
    same = np.tile(np.arange(50) % 3, (4, 1)).astype(float)
    assert alpha(same) == 1
    random = np.random.default_rng(0).integers(1, 4, (8, 2000)).astype(float)
    assert abs(alpha(random)) < 0.02
    assert np.isnan(alpha(np.full((3, 4), np.nan))) and np.isnan(alpha(np.ones((2, 3))))
    assert np.isnan(alpha(np.array([[1.0, _], [_, 2.0]])))  # no unit has two ratings


def test_alpha_by_pairs():
    """Against the definition: mean squared rank distance within units over that of all pairs,
    counted one by one.
    """
    random = np.random.default_rng(1)
    data = random.integers(1, 4, (5, 12)).astype(float)
    data[random.random(data.shape) < 0.3] = np.nan
    units = [column[~np.isnan(column)] for column in data.T]
    units = [unit for unit in units if len(unit) > 1]
    pool = np.concatenate(units)
    count = {v: (pool == v).sum() for v in (1.0, 2.0, 3.0)}

    def delta(a, b):
        low, high = sorted((a, b))
        return (
            sum(n for v, n in count.items() if low <= v <= high) - (count[a] + count[b]) / 2
        ) ** 2

    observed = sum(
        delta(a, b) / (len(u) - 1)
        for u in units
        for i, a in enumerate(u)
        for j, b in enumerate(u)
        if i != j
    ) / len(pool)
    expected = sum(
        delta(a, b) for i, a in enumerate(pool) for j, b in enumerate(pool) if i != j
    ) / (len(pool) * (len(pool) - 1))
    assert alpha(data) == pytest.approx(1 - observed / expected)


def test_agreement_with_oneself():
    assert same_order([3, 2, 1], [3, 2, 1]) == [1, 1, 1]
    assert same_order([3, 2, 1], [1, 2, 3]) == [0, 0, 0]
    assert same_order([2, 2], [3, 3]) == [1]
    assert same_order([2, 2], [3, 1]) == [0.5]


# ---- means and intervals ----


def test_the_mean_is_over_concepts_and_the_sem_is_that_of_its_parts():
    y = np.array([3, 3, 1, 2, 2, 1, 3, 1, 1, 1], float)
    concept = np.array(["a"] * 3 + ["b"] * 7)
    rater = np.arange(10) % 5
    e = balanced(y, concept, rater)
    a, b = y[:3], y[3:]
    assert e.value == pytest.approx((a.mean() + b.mean()) / 2) != y.mean()
    assert e.sem == pytest.approx(np.sqrt(a.var(ddof=1) / 3 + b.var(ddof=1) / 7) / 2)


def test_the_interval_by_loops():
    random = np.random.default_rng(2)
    concept, rater = random.integers(4, size=60), random.integers(6, size=60)
    y = random.normal(2, 0.5, 60) + 0.4 * concept + 0.2 * rater
    from scipy.stats import t

    names = np.unique(concept)
    theta = np.mean([y[concept == c].mean() for c in names])
    w = [(y[i] - theta) / (len(names) * (concept == concept[i]).sum()) for i in range(60)]

    def variance(same):
        total = defaultdict(float)
        for i, part in enumerate(w):
            total[same(i)] += part
        return sum(v**2 for v in total.values())

    v_c, v_r, v_cr = (
        variance(f)
        for f in (lambda i: concept[i], lambda i: rater[i], lambda i: (concept[i], rater[i]))
    )
    half = t.ppf(0.975, 3) * np.sqrt(4 / 3 * max(v_c, v_r, v_c + v_r - v_cr))
    e = balanced(y, concept, rater)
    assert (e.value, e.lo, e.hi) == pytest.approx((theta, theta - half, theta + half))


def test_intervals_cover_where_raters_and_concepts_differ():
    """The truth is 0; concepts, raters and answers bring their own noise. The paper's SEM covers
    far less.
    """
    random = np.random.default_rng(3)
    concept, rater = np.repeat(np.arange(11), 60), np.tile(np.arange(20), 33)
    covered = covered_sem = 0
    for _round in range(400):
        y = (
            random.normal(0, 0.3, 11)[concept]
            + random.normal(0, 0.3, 20)[rater]
            + random.normal(0, 0.8, 660)
        )
        e = balanced(y, concept, rater)
        covered += e.lo <= 0 <= e.hi
        covered_sem += abs(e.value) <= 1.96 * e.sem
    assert 0.93 <= covered / 400 <= 0.985
    assert covered_sem / 400 < 0.6


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]


# ---- whole studies ----


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "toy", list(CONCEPTS), prompts=5, images=1, size=16
    )


@pytest.fixture
def study(small_run, tmp_path):
    export(small_run, "ranking", tmp_path / "study", Design(session=28))
    return tmp_path / "study"


def test_from_export_to_table_the_papers_ranks_come_back(tmp_path, capsys):
    """The whole study, 11 concepts and 263 prompts, by the command line; answers drawn with the
    published means.
    """
    run = make_run(tmp_path / "run", list(CONCEPTS), prompts=99, images=1, size=16)
    folder = tmp_path / "study"
    assert perfbench(["study", "export", str(run), "--study", "ranking", "--out", str(folder)]) == 0
    assert "2,104 (263 of 263 prompts" in capsys.readouterr().out
    write_answers(folder, rank_like((2.18, 2.06, 1.75)), seed=0)
    assert perfbench(["study", "analyse", str(folder)]) == 0
    text = capsys.readouterr().out
    table = pd.read_csv(folder / "analysis" / "table.csv").set_index("method")
    for method, published in {"perfusion": 2.18, "cd": 2.06, "db": 1.75}.items():
        row = table.loc[method]
        assert abs(row["mean"] - published) <= 0.02 and round(row["sem"], 2) == 0.02
        assert row["lo"] < row["mean"] < row["hi"] and row["n"] == 2104
        assert (row["paper"], row["paper_sem"]) == (published, 0.02)
    assert "2.18 ± 0.02" in text and "the paper's" in text and "64 of 64 raters counted" in text
    for name in (
        "study.pdf",
        "study.svg",
        "study.png",
        "table.md",
        "pairs.csv",
        "ratings.csv",
        "raters.csv",
    ):
        assert (folder / "analysis" / name).stat().st_size > 100
    assert len(pd.read_csv(folder / "analysis" / "ratings.csv")) == 3 * 2104


def test_simulated_means_are_recovered_without_bias():
    """Twenty studies of 2,104 trials: their mean is the published one to the third decimal, their
    spread is the SEM.
    """
    p = likeliest((2.18, 2.06, 1.75))
    concept = np.repeat(np.arange(11), [8 * n for n in (30,) * 7 + (16,) * 2 + (11, 10)])
    got = []
    for seed in range(20):
        ranks = RANKS[np.random.default_rng(seed).choice(6, 2104, p=p)]
        got.append([balanced(ranks[:, k], concept, np.arange(2104) % 64)[:2] for k in range(3)])
    got = np.array(got)  # [20, method, (mean, sem)]
    assert got[..., 0].mean(0) == pytest.approx([2.1833, 2.0633, 1.7533], abs=0.012)
    assert got[..., 0].std(0, ddof=1) == pytest.approx(got[..., 1].mean(0), rel=0.4)


def test_known_preferences_are_recovered(study):
    """Raters who follow the picture's method, with a known share of slips: means, wins and order
    come back.
    """
    p = np.array([0.7, 0.1, 0.1, 0.04, 0.03, 0.03])
    write_answers(study, lambda task, random: [int(r) for r in RANKS[random.choice(6, p=p)]])
    report = analyse(study)
    truth = p @ RANKS
    assert report.results.means["mean"].to_numpy() == pytest.approx(truth, abs=0.06)
    assert ((report.results.means["lo"] < truth) & (truth < report.results.means["hi"])).all()
    wins = report.results.pairs["win_rate"].to_numpy()
    assert wins == pytest.approx(
        [p[[0, 1, 3]].sum(), p[[0, 1, 2]].sum(), p[[0, 2, 4]].sum()], abs=0.05
    )
    assert (report.results.pairs["p_holm"] < 0.001).all()
    assert report.results.alpha.lo < report.results.alpha.value < report.results.alpha.hi


def test_without_a_preference_nothing_is_found(study):
    write_answers(
        study, lambda task, random: [int(r) for r in random.permutation([1, 2, 3])], seed=5
    )
    report = analyse(study)
    assert report.results.means["mean"].to_numpy() == pytest.approx([2, 2, 2], abs=0.1)
    assert (report.results.pairs["p_holm"] > 0.05).all()
    assert abs(report.results.alpha.value) < 0.08  # four times its spread here


def test_raters_who_follow_a_metric_show_in_the_correlation(study):
    def by_text(task, random):
        text = [choice["scores"]["text_sim_raw"] for choice in task["choices"]]
        return [int(rank) + 1 for rank in np.argsort(np.argsort(text))]

    write_answers(study, by_text)
    found = analyse(study).results.correlation.set_index("metric")
    assert found.loc["text_sim_raw", "tau"] == pytest.approx(1)
    assert found.loc["text_sim_raw", "spearman"] > 0.7
    assert found.loc["image_sim", "tau"] < 0.9


def test_realism_with_ties(small_run, tmp_path):
    export(small_run, "realism", tmp_path / "real", Design(session=28))
    write_answers(
        tmp_path / "real",
        lambda task, random: [int(x) for x in random.choice([1, 2, 3], 2, p=[0.35, 0.41, 0.24])],
    )
    report = analyse(tmp_path / "real")
    assert list(report.results.means["method"]) == ["perfusion", "super"]
    assert report.results.means["mean"].to_numpy() == pytest.approx([1.89, 1.89], abs=0.09)
    (pair,) = report.results.pairs.to_dict("records")
    assert pair["ties"] == pytest.approx(0.35**2 + 0.41**2 + 0.24**2, abs=0.08) and pair["p"] > 0.05
    assert "1.885 ± 0.017" in report.text and "Plain model" in report.text


# ---- who counts ----


def test_raters_are_left_out_and_counted_by_reason(study):
    key = write_answers(study, rank_like((2.4, 2.0, 1.6)))
    n = len(key.sessions)

    def replace(session, **how):
        who = rater_id(session)
        document = answer_file(
            key, session, who, how.pop("judge", rank_like((1.0, 2.0, 3.0))), **how
        )
        (key.answers / f"{session:03d}-{who}.json").write_text(json.dumps(document))

    replace(1, known=False)  # fails the qualification
    places = {}

    def by_place(task, random):  # the same numbers at the same places, whatever is there
        return places[task["concept"], task["prompt_id"]]

    for trial in key.sessions[1]["trials"]:
        if trial["role"] == RATE:
            task = key.task(trial)
            places[task["concept"], task["prompt_id"]] = [
                3 - trial["order"].index(choice) for choice in range(3)
            ]
    replace(2, judge=by_place)
    document = json.loads((key.answers / f"002-{rater_id(2)}.json").read_text())
    for answer in document["answers"][5:]:
        answer["ranks"] = [3, 2, 1]
    (key.answers / f"002-{rater_id(2)}.json").write_text(json.dumps(document))
    (key.answers / "download (1).json").write_bytes(
        (key.answers / f"003-{rater_id(3)}.json").read_bytes()
    )  # handed in twice
    (key.answers / "broken.json").write_text('{"schema": ')
    (key.answers / "mailed.json.txt").write_text(
        "a mail program's name for it: said, not passed over"
    )
    forged = json.loads((key.answers / f"004-{rater_id(4)}.json").read_text())
    forged["answers"][0]["trial"] = "4-1-" + "0" * 32
    (key.answers / "forged.json").write_text(json.dumps(forged))
    stopped = answer_file(key, 5, rater_id(777), rank_like((1.0, 2.0, 3.0)))
    stopped["answers"] = stopped["answers"][:3]
    (key.answers / "stopped.json").write_text(json.dumps(stopped))

    report = analyse(study)
    raters = report.collected.raters.set_index("rater")["status"]
    assert (
        raters[rater_id(1)] == "unqualified"
        and raters[rater_id(2)] == "inconsistent"
        and raters[rater_id(777)] == "stopped"
    )
    assert (raters == "counted").sum() == n - 2
    assert (
        not report.collected.ratings["rater"].isin([rater_id(1), rater_id(2), rater_id(777)]).any()
    )
    assert len(report.collected.refused) == 3 and report.collected.repeated == len(
        key.sessions[2]["trials"]
    )
    assert not report.collected.ratings.duplicated(["rater", "trial", "method"]).any()
    for line in (
        f"{n - 2} of {n + 1} raters counted",
        "1 unqualified",
        "1 inconsistent",
        "1 stopped",
        "3 files refused",
    ):
        assert line in report.text
    # the spoiled answers would have pulled it down
    assert report.results.means["mean"].iloc[0] > 2.2
    strict = collect(key, min_agreement=1.0)
    assert strict.n("inconsistent") >= 1


def test_order_on_the_screen_is_undone_and_places_are_reported(study):
    write_answers(study, lambda task, random: [3, 2, 1])
    report = analyse(study)
    assert report.results.means["mean"].tolist() == [3, 2, 1]
    assert report.results.alpha.value == 1
    # every method stands everywhere
    assert report.results.places["mean"].to_numpy() == pytest.approx([2, 2, 2], abs=0.12)


def test_a_part_of_the_answers_is_analysed_and_said_to_be_a_part(study):
    key = write_answers(study, rank_like((2.4, 2.0, 1.6)))
    for path in sorted(key.answers.iterdir())[5:]:
        path.unlink()
    text = analyse(study).text
    given, planned = re.search(r"answers to ([\d,]+) of ([\d,]+) planned trials", text).groups()
    assert int(given.replace(",", "")) < int(planned.replace(",", "")) == 440


def test_one_rater_and_one_concept_give_a_mean_and_no_interval(tmp_path):
    run = make_run(tmp_path / "run", ("cat", "teapot"), prompts=3, size=16)
    export(run, "ranking", tmp_path / "s", Design(responses=1))
    write_answers(tmp_path / "s", lambda task, random: [3, 1, 2])
    report = analyse(tmp_path / "s")
    assert (
        report.results.means["mean"].tolist() == [3, 1, 2]
        and report.results.means["lo"].isna().all()
    )
    assert "no picture has two answers" in report.text


def test_a_method_whose_rates_were_a_guess_is_marked(tmp_path):
    run = make_run(tmp_path / "run", ("cat",), prompts=1, size=16)
    about = json.loads((run / "run.json").read_text())
    about["methods"] = {name: {"of": name, "untuned": True} for name in ("cd", "oft")}
    (run / "run.json").write_text(json.dumps(about))
    export(run, "ranking", tmp_path / "s", Design(responses=1, qualify=0, pass_mark=0))
    assert read_key(tmp_path / "s").untuned == ["cd"]
    write_answers(tmp_path / "s", lambda task, random: [3, 1, 2])
    text = analyse(tmp_path / "s").text
    assert text.count("Custom Diffusion (untuned)") == 3 and "DreamBooth (untuned)" not in text
    assert "Untuned: the rates of cd are a guess" in text
    key = json.loads((tmp_path / "s/private/key.json").read_text())
    (tmp_path / "s/private/key.json").write_text(json.dumps({**key, "untuned": "cd"}))
    with pytest.raises(UserError, match="untuned is no list"):
        read_key(tmp_path / "s")


def test_one_answer_is_a_mean_without_an_error(tmp_path):
    run = make_run(tmp_path / "run", ("cat",), prompts=1, size=16)
    export(run, "ranking", tmp_path / "s", Design(responses=1, qualify=0, pass_mark=0))
    write_answers(tmp_path / "s", lambda task, random: [3, 1, 2])
    report = analyse(tmp_path / "s")
    assert (
        report.results.means["mean"].tolist() == [3, 1, 2]
        and report.results.means["sem"].isna().all()
    )
    assert "± 0.000" not in report.text


def test_equal_answers_to_everything_have_no_alpha(small_run, tmp_path):
    export(small_run, "realism", tmp_path / "s", Design(responses=2, qualify=0, pass_mark=0))
    write_answers(tmp_path / "s", lambda task, random: [2, 2])
    report = analyse(tmp_path / "s")
    assert np.isnan(report.results.alpha.value) and "or all answers are equal" in report.text
    assert report.results.pairs["win_rate"].tolist() == [0.5] and report.results.pairs[
        "ties"
    ].tolist() == [1.0]


def test_a_run_without_scores_gives_no_correlation(small_run, tmp_path):
    rows = pd.DataFrame({"method": ["x", "y"], "score": [3, 1]}).assign(
        rater="a", trial="t", concept="cat", task=0
    )
    rows = rows.assign(image_sim=np.nan, text_sim_raw=np.nan, harmonic=np.nan)
    assert not len(correlation(rows, ["x", "y"]))
    assert pairs(rows, ["x", "y"])["win_rate"].tolist() == [1]
    assert means(rows, ["x", "y"], "ranking")["paper"].isna().all()


def test_mistakes_are_one_sentence(study, tmp_path):
    with pytest.raises(UserError, match="has no answers yet"):
        analyse(study)
    with pytest.raises(UserError, match="is not a study"):
        analyse(tmp_path)
    with pytest.raises(UserError, match="--min-agreement is 2"):
        analyse(study, 2)
    key = read_key(study)
    failed = answer_file(key, 1, rater_id(1), lambda task, random: [3, 2, 1], known=False)
    (key.answers / "1.json").write_text(json.dumps(failed))
    with pytest.raises(UserError, match=r"no answer of .* counts"):
        analyse(study)


def test_the_commands_of_the_guide_run(tmp_path, monkeypatch, capsys):
    """docs/studies.md from top to bottom, in a folder that has the run it speaks of."""
    import argparse
    import shlex
    from pathlib import Path

    from benchmarks.study.command import study

    guide = (Path(__file__).parent.parent.parent / "docs" / "studies.md").read_text()
    commands = [
        shlex.split(line.strip())[2:]
        for line in guide.splitlines()
        if line.strip().startswith("perfbench study")
    ]
    assert [words[0] for words in commands] == [
        "export",
        "export",
        "serve",
        "analyse",
        "export",
        "analyse",
    ]
    make_run(tmp_path / "results" / "paper-sd15", ("cat", "teapot", "chair"), prompts=4, size=16)
    monkeypatch.chdir(tmp_path)
    for words in commands:
        if words[0] == "analyse":
            write_answers(Path(words[1]), lambda task, random: [3, 1, 2][: len(task["choices"])])
        if words[0] == "serve":
            parser = argparse.ArgumentParser()
            study(parser)
            assert parser.parse_args(words).folder == Path("studies/ranking")
        else:
            assert perfbench(["study", *words]) == 0
    assert "Perfusion" in capsys.readouterr().out
    assert (tmp_path / "studies" / "realism" / "analysis" / "study.pdf").is_file()
