"""`perfbench compare`: tables by anybody, against independent formulas; the formats of other
programs' logs; every kind of bad input one sentence.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from made_run import LOCAL, make_run
from scipy import stats

from benchmarks.cli import run
from benchmarks.miniature.which_world import WORLDS
from benchmarks.tables.comparing import compare, numbers
from perfusion_core.errors import UserError


def table(rng, concepts=9, prompts=7, shift=0.0, spread=1.0, repeats=2):
    """Scores with concepts and prompts that move all of theirs together."""
    of_concept, of_prompt = rng.normal(0, 1, concepts), rng.normal(0, 0.5, prompts)
    rows = [
        (f"c{c}", f"p{p}", of_concept[c] + of_prompt[p] + shift + spread * rng.normal())
        for c in range(concepts)
        for p in range(prompts)
        for _ in range(repeats)
    ]
    return pd.DataFrame(rows, columns=["concept", "prompt", "score"])


def pair(shift=0.3, spread=0.4, **sizes):
    a = table(np.random.default_rng(1), shift=shift, spread=spread, **sizes)
    b = table(np.random.default_rng(1), spread=spread, **sizes)
    b["score"] += np.random.default_rng(2).normal(0, spread, len(b))
    return a, b


def test_one_column_is_the_paired_t_test():
    a, b = pair()
    found = compare(a, b, "score", ["concept"])
    means = [frame.groupby("concept")["score"].mean() for frame in (a, b)]
    expected = stats.ttest_rel(*means)
    lo, hi = expected.confidence_interval(0.95)
    assert found.difference == pytest.approx((means[0].mean() - means[1].mean(), lo, hi))
    assert found.clusters == found.cells == 9


def test_two_columns_are_clustered_both_ways():
    """Against sums written out."""
    a, b = pair()
    found = compare(a, b, "score", ["concept", "prompt"])
    keys = ["concept", "prompt"]
    d = a.groupby(keys)["score"].mean() - b.groupby(keys)["score"].mean()
    theta, n_c, n_p = d.mean(), 9, 7
    v_c = sum(
        sum((d[c, p] - theta) / (n_c * n_p) for p in d[c].index) ** 2 for c in d.index.levels[0]
    )
    v_p = sum(
        sum((d[c, p] - theta) / (n_c * n_p) for c in d.index.levels[0]) ** 2
        for p in d.index.levels[1]
    )
    v_cp = sum(((value - theta) / (n_c * n_p)) ** 2 for value in d)
    half = stats.t.ppf(0.975, n_c - 1) * np.sqrt(n_c / (n_c - 1) * max(v_c, v_c + v_p - v_cp))
    assert found.difference == pytest.approx((theta, theta - half, theta + half))
    assert found.win_rate.value == pytest.approx((d > 0).mean())


def test_what_would_have_been_found_is_found_four_times_in_five():
    rng, n, found = np.random.default_rng(3), 12, []
    frames = [pd.DataFrame({"id": range(n), "s": rng.normal(size=n)}) for _ in range(2)]
    one = compare(*frames, "s", ["id"])
    error = (one.difference.hi - one.difference.value) / stats.t.ppf(0.975, n - 1)
    for _ in range(4000):
        d = rng.normal(one.detectable, error * np.sqrt(n), n)
        found.append(abs(d.mean()) > stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / np.sqrt(n))
    assert 0.76 < np.mean(found) < 0.84


@pytest.mark.parametrize(
    ("shift", "margin", "said"),
    [
        (0.0, 0.5, "the same within 0.5"),
        (0.0, 0.01, "cannot be told apart"),
        (0.0, None, "cannot be told apart"),
        (0.4, 0.1, "A is ahead"),
        (-0.4, None, "B is ahead"),
        (0.1, 2.0, "the same within 2, and apart from 0"),
    ],
)
def test_verdicts(shift, margin, said):
    rng = np.random.default_rng(4)
    b = pd.DataFrame({"id": range(40), "s": rng.normal(size=40)})
    a = b.assign(s=b["s"] + shift + rng.normal(0, 0.15, 40) - 0.02)
    assert compare(a, b, "s", ["id"], margin).verdict == said


def test_the_margin_is_two_one_sided_tests():
    rng = np.random.default_rng(5)
    for margin in (0.05, 0.1, 0.15, 0.2):
        d = rng.normal(0.04, 0.3, 30)
        a = pd.DataFrame({"id": range(30), "s": d})
        found = compare(a, a.assign(s=0.0), "s", ["id"], margin)
        below = stats.ttest_1samp(d, margin, alternative="less").pvalue
        above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        assert found.verdict.startswith("the same") == (max(below, above) < 0.05)


def test_what_has_no_partner_is_left_out_and_counted(tmp_path, capsys):
    a, b = pair()
    a = a[a["concept"] != "c0"]
    b = b[b["prompt"] != "p1"]
    found = compare(a, b, "score", ["concept", "prompt"])
    assert (found.only_a, found.only_b, found.cells) == (8, 6, 48)
    a.to_csv(tmp_path / "a.csv", index=False)
    b.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    words = [str(tmp_path / "a.csv"), str(tmp_path / "b.tsv"), "--score", "score"]
    assert run(["compare", *words, "--by", "concept,prompt"]) == 0
    assert "left out: 8 cells of A, 6 of B" in capsys.readouterr().out
    assert run(["compare", *words, "--by", "concept,prompt", "--json", "--margin", "5"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["difference"] == pytest.approx(found.difference.value)
    assert row["verdict"].startswith("the same within 5") and row["cells"] == 48


def test_one_cluster_has_no_interval(tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"id,s\n1,{ord(name)}\n")
    words = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--score", "s", "--by", "id"]
    assert run(["compare", *words]) == 0
    told = capsys.readouterr().out
    assert "A less B: -1, " in told and "one cluster: no interval" in told and "nan" not in told
    assert run(["compare", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference_lo"] is None


def test_logs_of_other_programs(tmp_path, capsys):
    """Samples as lm-evaluation-harness logs them, with nested parts and two filters; a frame of
    inspect with letters for grades.
    """
    rng = np.random.default_rng(6)
    for name, skill in (("a", 0.9), ("b", 0.3)):
        lines = [
            {"doc_id": n, "doc": {"question": "?"}, "target": "4", "resps": [["4"]],
             "filter": kind, "acc": float(rng.random() < (skill if kind == "strict" else 0.5)),
             "doc_hash": "ab"}
            for n in range(60) for kind in ("strict", "loose")
        ]  # fmt: skip
        text = "\n".join(map(json.dumps, lines))
        (tmp_path / f"samples_{name}.jsonl").write_text(text)
        grades = rng.choice(["C", "I"], 50, p=[skill, 1 - skill])
        pd.DataFrame({"id": range(50), "epoch": 1, "score_match": grades}).to_parquet(
            tmp_path / f"inspect_{name}.parquet"
        )
    files = [str(tmp_path / f"samples_{name}.jsonl") for name in "ab"]
    words = ["--score", "acc", "--by", "doc_id", "--where", "filter=strict", "--json"]
    assert run(["compare", *files, *words]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["verdict"] == "A is ahead" and row["clusters"] == 60 and row["a"] > 0.7
    files = [str(tmp_path / f"inspect_{name}.parquet") for name in "ab"]
    assert run(["compare", *files, "--score", "score_match", "--by", "id"]) == 0
    assert "A is ahead" in capsys.readouterr().out


def test_grades_and_truth_values():
    assert numbers(pd.Series(["C", "I", "P", "N", "1", "0.5", "", "nan"]), "s").tolist()[:6] == [
        1.0, 0.0, 0.5, 0.0, 1.0, 0.5,
    ]  # fmt: skip
    assert numbers(pd.Series([True, False]), "s").tolist() == [1.0, 0.0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "made"
    make_run(out, {"perfusion": LOCAL[:2], "cd": ("default",)}, ["cat", "teapot", "chair"],
             prompts=6, images=2, size=16)  # fmt: skip
    return out


def test_operating_points_of_runs_as_the_table_of_differences_has_them(made, capsys):
    points = [f"{made}::perfusion/{LOCAL[0]}", f"{made}::cd"]
    assert run(["compare", *points, "--score", "text_sim_raw", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert run(["table", str(made), "--by", "difference", "--json"]) == 0
    known = [
        one for one in json.loads(capsys.readouterr().out)
        if (one["point"], one["other"], one["metric"]) == (LOCAL[0], "cd", "text_sim_raw")
    ]  # fmt: skip
    assert row["difference"] == pytest.approx(known[0]["difference"], abs=1e-6)
    assert row["difference_lo"] == pytest.approx(known[0]["lo"], abs=1e-6)
    assert row["win_rate"] == pytest.approx(known[0]["win_rate"], abs=1e-6)


BAD = [
    ("nowhere.csv", "there is no"),
    ("odd.txt", ".csv, .tsv, .jsonl, .json, .parquet or a run folder is wanted"),
    ("torn.jsonl", "cannot be read as jsonl"),
    ("one.json", "a list of rows is wanted"),
    ("deep.json", "cannot be read as json"),
    ("bytes.json", "cannot be read as json"),
    ("bytes.parquet", "cannot be read as parquet"),
    ("empty.csv", "cannot be read as csv"),
    ("words.csv", "the column s holds 'good', no number"),
    ("none.csv", "the column s holds no number"),
    ("lacking.csv", "unknown column 's'"),
    ("apart.csv", "no id in common"),
    ("heads.csv", "has no rows"),
]


@pytest.mark.parametrize(("name", "told"), BAD)
def test_bad_files_are_one_sentence(tmp_path, name, told):
    files = {
        "good.csv": b"id,s\n1,1\n2,3\n", "odd.txt": b"", "torn.jsonl": b'{"id": 1}\n{"id',
        "one.json": b'{"id": 1}', "deep.json": b"[" * 100_000, "bytes.json": b"\xff\xfe\x00",
        "bytes.parquet": b"PAR1", "empty.csv": b"", "words.csv": b"id,s\n1,good\n",
        "none.csv": b"id,s\n1,\n2,\n", "lacking.csv": b"id,t\n1,2\n", "apart.csv": b"id,s\n8,1\n",
        "heads.csv": b"id,s\n",
    }  # fmt: skip
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=told):
        run(["compare", str(tmp_path / "good.csv"), str(tmp_path / name), "--score", "s",
             "--by", "id"])  # fmt: skip


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--by", ""], "one column, or two"),
        (["--by", "a,b,c"], "one column, or two"),
        (["--margin", "0"], "a number above 0"),
        (["--margin", "nan"], "not a finite number"),
        (["--where", "x"], "is not COL=VALUE"),
        (["--where", "method=zzz"], "has no rows with method=zzz"),
        (["--where", "zzz=1"], "unknown column 'zzz'"),
    ],
)
def test_bad_flags_are_one_sentence(made, more, told):
    points = [f"{made}::perfusion/{LOCAL[0]}", f"{made}::cd"]
    with pytest.raises(UserError, match=told):
        run(["compare", *points, *more])


def test_a_run_of_several_points_asks_for_one(made):
    with pytest.raises(UserError, match=r"which operating point.*perfusion/local"):
        run(["compare", str(made), str(made)])
    with pytest.raises(UserError, match="which operating point"):
        run(["compare", f"{made}::zzz", str(made)])


def test_rows_of_one_cell_that_words_tell_apart_are_named(tmp_path, capsys):
    """lm-evaluation-harness writes each document once a filter; the mean of both is told, --where
    takes one, and a line separator inside a text ends no line.
    """
    for side, right in (("a", 1.0), ("b", 0.0)):
        lines = [
            json.dumps(
                {
                    "doc_id": doc,
                    "filter": name,
                    "acc": right * (name == "strict"),
                    "doc": "a\u2028b",
                },
                ensure_ascii=False,
            )
            for doc in range(6)
            for name in ("strict", "flexible")
        ]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--score", "acc",
             "--by", "doc_id"]  # fmt: skip
    assert run(words) == 0
    told = capsys.readouterr().out
    assert "A: rows of one cell differ in filter" in told and "+0.5" in told
    assert run([*words, "--where", "filter=strict"]) == 0
    told = capsys.readouterr().out
    assert "differ in" not in told and "A less B: +1 " in told.replace("[", " [")


def test_truth_values_as_pandas_writes_them(tmp_path, capsys):
    for side, right in (("a", True), ("b", False)):
        frame = pd.DataFrame({"id": range(4), "acc": [right, True, right, True]})
        frame.to_csv(tmp_path / f"{side}.csv", index=False)
    assert run(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--score", "acc",
                "--by", "id", "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(0.5)


def test_rates_that_are_a_guess_are_told(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    about = json.loads(file.read_text())
    about["methods"] = {"cd": {"of": "cd", "config": {}, "untuned": True}}
    file.write_text(json.dumps(about))
    words = ["compare", f"{tmp_path / 'run'}::perfusion/{LOCAL[0]}", f"{tmp_path / 'run'}::cd"]
    assert run(words) == 0
    assert "Untuned: the rates of cd are a guess" in capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["untuned"] == ["cd"]
    assert run(["compare", f"{made}::perfusion/{LOCAL[0]}", f"{made}::cd"]) == 0
    assert "Untuned" not in capsys.readouterr().out


def said_otherwise(made, place, change):
    """A copy of a run whose run.json tells something else."""
    shutil.copytree(made, place)
    about = json.loads((place / "run.json").read_text())
    change(about)
    (place / "run.json").write_text(json.dumps(about))
    return place


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda about: about["scorers"][0].update(sha256="ee" * 32), "was scored by"),
        (
            lambda about: about["protocol"].update(steps=20),
            r"not measured alike: 1 difference \(steps: 50 -> 20",
        ),
        (lambda about: about["backbone"].update(world=WORLDS[1]), "numbers of two worlds share no"),
    ],
)
def test_runs_that_were_not_measured_alike_are_not_compared(made, tmp_path, change, says):
    def whole(about):
        about["protocol"] = {"steps": 50}
        about["backbone"]["world"] = WORLDS[0]

    mine = said_otherwise(made, tmp_path / "mine", whole)
    other = said_otherwise(mine, tmp_path / "other", change)
    with pytest.raises(UserError, match=says):
        run(["compare", f"{mine}::perfusion/{LOCAL[0]}", f"{other}::cd"])


def test_points_of_one_run_are_compared_over_concepts_and_prompts(made):
    points = [f"{made}::perfusion/{LOCAL[0]}", f"{made}::cd"]
    assert run(["compare", *points, "--by", "concept,prompt"]) == 0
