"""The trial of names: its rule on made-up numbers, each clause of which can fail; its command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from benchmarks.evidence import names_pictures, names_trial
from benchmarks.evidence.names_pictures import Sizes, name_rows, photo, same_word, unused_rows
from benchmarks.evidence.names_rule import CONTROL, NAME, UNUSED, WORD, decided, over
from benchmarks.evidence.names_trial import RECORD, Place, Trial, begin, parsed, told
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.judges import open_judges
from benchmarks.miniature.training.names import Names, named
from benchmarks.miniature.world.instance import make_instance
from benchmarks.miniature.world.picture import Picture, render
from benchmarks.paths import miniature_dir
from perfusion_core.errors import UserError

FEW = Names(classes=("cat", "pot"), each=3, pictures=8, unused=2)
# what is measured where names are worth keeping: means of the parts
GOOD = {
    "own": 0.45, "plain": 0.02, "other": 0.05,
    "alike": 0.01, "right": 0.0, "closest": 1.0, "ti": 0.08, "perfusion": 0.0,
}  # fmt: skip


def tables(spread=0.05, **changed):
    """The three tables as a trial leaves them, with these means."""
    m, rng = {**GOOD, **changed}, np.random.default_rng(3)
    names = [
        {
            "word": f"n{k}",
            "kind": kind,
            "own": own + at + spread * rng.normal(),
            "other": m["other"],
        }
        for k, at in enumerate(spread * rng.normal(size=44))
        for kind, own in ((NAME, m["own"]), (WORD, m["plain"]))
        for _ in range(4)
    ]
    unused = [
        {"word": f"u{k}", "kind": kind, "alike": 0.1 + more * m["alike"] + spread * rng.normal(),
         "right": 0.95 + more * m["right"]}
        for k in range(12) for kind, more in ((UNUSED, 1), (WORD, 0), (CONTROL, 0))
        for _ in range(24)
    ]  # fmt: skip
    concepts = [
        {"concept": f"c{k}", "method": method, "plain": 0.2 + 0.1 * k,
         "named": 0.2 + 0.1 * k + m[method] + 0.02 * (-1) ** k}
        for method in ("ti", "perfusion") for k in range(6)
    ]  # fmt: skip
    return *map(pd.DataFrame, (names, unused, concepts)), m["closest"]


def failed(verdict):
    return [clause.what for clause in verdict.clauses if not clause.holds]


def test_names_that_draw_and_words_that_stay_neutral_are_kept():
    verdict = decided(*tables())
    assert verdict.kept and failed(verdict) == [] and verdict.of_use == ("ti",)
    assert "Names are kept; they help ti." in told(verdict)


@pytest.mark.parametrize(
    ("changed", "clause"),
    [
        ({"own": 0.19}, "likeness by name less by class word"),  # gains 0.17, surely
        ({"own": 0.45, "other": 0.40}, "likeness to its own less to other named instances"),
        ({"alike": 0.12}, "an unused word's pictures: how alike"),
        ({"alike": -0.12}, "an unused word's pictures: how alike"),
        ({"right": -0.06}, "an unused word's pictures: the right class"),
        ({"closest": 0.99}, "least cosine of old encodings"),
        ({"ti": -0.08}, "true identity by ti, with names less without"),
        ({"perfusion": -0.08}, "true identity by perfusion, with names less without"),
    ],
)
def test_each_clause_can_fail_alone(changed, clause):
    verdict = decided(*tables(**changed))
    assert failed(verdict) == [clause] and not verdict.kept
    assert "Names are not kept" in told(verdict)


def test_a_gain_that_is_not_sure_is_not_enough():
    names, *rest = tables(own=0.02)
    by_name = names["kind"] == NAME
    lucky = names["word"].isin([f"n{k}" for k in range(22)])
    names.loc[by_name & lucky, "own"] += 0.9  # half of the instances gain, half of them lose
    names.loc[by_name & ~lucky, "own"] -= 0.4
    gain = decided(names, *rest).clauses[0]
    assert gain.value > 0.2 and 0 < gain.lo < 0.1 and not gain.holds


def test_nothing_is_kept_where_a_number_is_missing():
    names, unused, concepts, closest = tables()
    gone = concepts.assign(named=np.where(concepts["method"] == "ti", np.nan, concepts["named"]))
    assert not decided(names, unused, gone, closest).kept
    assert not decided(names, unused, concepts, float("nan")).kept
    assert not decided(names.assign(own=np.nan), unused, concepts, closest).kept


def test_the_numbers_are_means_over_instances_words_and_concepts():
    names, unused, concepts, _ = tables(spread=0.1)
    names = pd.concat([names, names[names["word"] == "n0"]])  # rows of one do not weigh more
    gain, nearer, alike, _, _, ti, _ = decided(names, unused, concepts, 1.0).clauses
    each = [
        np.mean([r.own for r in names.itertuples() if (r.word, r.kind) == (word, NAME)])
        - np.mean([r.own for r in names.itertuples() if (r.word, r.kind) == (word, WORD)])
        for word in names["word"].unique()
    ]
    assert gain.value == pytest.approx(np.mean(each), abs=1e-12)
    half = t.ppf(0.975, 43) * np.std(each, ddof=1) / np.sqrt(44)
    assert (gain.lo, gain.hi) == pytest.approx((gain.value - half, gain.value + half), abs=0.006)
    assert nearer.value == pytest.approx(names[names["kind"] == NAME].groupby("word")["own"].mean()
                                         .mean() - 0.05, abs=1e-12)  # fmt: skip
    by = unused.groupby("kind")["alike"].mean()
    assert alike.value == pytest.approx(by[UNUSED] - by[WORD], abs=1e-12)
    rows = concepts[concepts["method"] == "ti"]
    d = (rows["named"] - rows["plain"]).to_numpy()
    half = t.ppf(0.975, 5) * d.std(ddof=1) / np.sqrt(6)
    wanted = (d.mean(), d.mean() - half, d.mean() + half)
    assert (ti.value, ti.lo, ti.hi) == pytest.approx(wanted, abs=1e-12)
    assert over([0.3]).value == 0.3 and np.isnan(over([0.3]).lo)


# ---- rows of judged pictures: the world's renderer draws in the U-Net's place


@pytest.fixture(scope="module")
def judges():
    return open_judges(miniature_dir())


def one_asked_for(row, knows):
    """Who a row's prompt is of: its instance where names are known, else anybody."""
    who = {each.name: each.one for each in named(FEW)}
    spoken = row["text"].split()
    return next((who[word] for word in spoken if knows and word in who), None) or make_instance(
        row["cls"], ("anybody", row["seed"])
    )


def renderer(knows):
    def pictures_of(_, asked):
        return np.stack(
            [
                render(Picture(one_asked_for(row, knows), row.get("scene", "studio")), row["seed"])[
                    0
                ]
                for row in asked
            ]
        )

    return pictures_of


@pytest.mark.parametrize("knows", [True, False])
def test_a_model_that_knows_names_is_told_from_one_that_does_not(monkeypatch, judges, knows):
    monkeypatch.setattr(names_pictures, "pictures_of", renderer(knows))
    rows = name_rows(None, judges, FEW, Sizes(each=3))
    assert len(rows) == 6 * 2 * 4 and set(rows["kind"]) == {NAME, WORD}
    pairs = rows.groupby(["word", "scene"])
    assert (pairs["seed"].nunique() == 1).all() and (pairs["text"].nunique() == 2).all()
    assert all(row.word in row.text for row in rows[rows["kind"] == NAME].itertuples())
    by = rows.groupby("kind")[["own", "other"]].mean()
    assert (by["own"][NAME] - by["own"][WORD] > 0.4) == knows
    assert (by["own"][NAME] - by["other"][NAME] > 0.4) == knows


def test_an_unused_word_that_is_somebody_is_found(monkeypatch, judges):
    monkeypatch.setattr(names_pictures, "pictures_of", renderer(False))
    neutral = unused_rows(None, None, judges, FEW, Sizes(classes=2, pictures=4))
    assert len(neutral) == 2 * 2 * 3 * 4 and neutral["text"].str.contains(FEW.spare()[0]).any()
    by = neutral.groupby("kind")[["alike", "right"]].mean()
    assert by["alike"][UNUSED] == pytest.approx(by["alike"][WORD])  # the same noise
    assert by["right"][WORD] > 0.8

    def somebody(_, asked):
        return np.stack([render(Picture(make_instance("cat", 1)), row["seed"])[0] for row in asked])

    monkeypatch.setattr(names_pictures, "pictures_of", somebody)
    same = same_word(None, judges, "zovar", "cat", UNUSED, "zovar cat", 4)
    assert same["alike"].mean() > 0.5


def test_prompts_are_said_in_the_worlds_words():
    assert photo("zovar cat", "beach") == "a photo of a zovar cat on the beach"
    assert photo("umbra") == "a photo of an umbra"


# ---- the command


def test_the_run_of_new_concepts_is_one_that_perfbench_knows():
    config = parsed(["run", *Trial().run, "--backbone", "x", "--out", "y"])
    assert config.methods == ("ti", "perfusion") and config.suite == "world-tuning:6"
    assert config.fit["perfusion"] == {"steps": 200} and config.images == 2 and not config.drift


def test_a_folder_belongs_to_one_trial(tmp_path):
    place = Place(tmp_path / "out", tmp_path / "work", miniature_dir())
    begin(place, Trial())
    asked = json.loads((place.out / RECORD).read_text())["asked"]
    assert asked["minutes"] == 45 and asked["names"]["each"] == 20 and len(asked["start"]) == 16
    begin(place, Trial())
    with pytest.raises(UserError, match="a trial with another minutes; name another folder"):
        begin(place, Trial(minutes=30))
    with pytest.raises(UserError, match=r"holds no weights"):
        begin(Place(tmp_path / "out", tmp_path, tmp_path), Trial())


def test_mistakes_are_one_sentence(monkeypatch, capsys):
    for words, said in (
        (["--arms", "named,other"], "--arms named,other: there are named and plain"),
        (["--minutes", "0"], "--minutes and --words are above 0: training takes time"),
    ):
        monkeypatch.setattr(sys, "argv", ["names_trial", "out", *words])
        with pytest.raises(SystemExit) as stopped:
            names_trial.main()
        assert stopped.value.code == 2 and capsys.readouterr().err == f"names_trial: {said}\n"


@pytest.mark.slow
def test_a_whole_trial_at_tiny_size(tmp_path):
    """By a process of its own: both arms, judged pictures, a run on each arm, a verdict; the same
    call again adds nothing."""
    trial = Trial(
        minutes=0.05,
        words=0.03,
        names=FEW,
        sizes=Sizes(each=2, renders=1, classes=1, pictures=2),
        recipe=Recipe(shards=1, shard=64, unet_batch=8, text_batch=8),
        run=("--preset", "micro", "--suite", "world-tuning:2", "--concepts", "all", "--methods",
             "ti,perfusion", "--scorers", "auto,truth", "--engine", "inline"),
    )  # fmt: skip
    place = [str(tmp_path / "out"), str(tmp_path / "work"), str(miniature_dir())]
    code = (
        "import pathlib\n"
        "from benchmarks.evidence.names_trial import *\n"
        "if __name__ == '__main__':\n"
        f"    place = Place(*map(pathlib.Path, {place!r}))\n"
        f"    print(told(run_trial(place, {trial!r})))\n"
    )
    script = tmp_path / "trial.py"
    script.write_text(code)
    for _ in range(2):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        assert "Names are not kept" in done.stdout or "Names are kept" in done.stdout
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["closest"] > 1 - 1e-6 and len(record["clauses"]) == 7
    assert set(record["arms"]) == {"named", "plain"}
    assert set(record["seconds"]) == {"words", "arms", "judged", "concepts"}
    assert len(pd.read_csv(tmp_path / "out" / "names.csv")) == 2 * 2 * 2 * 4
    concepts = pd.read_csv(tmp_path / "out" / "concepts.csv")
    assert len(concepts) == 4 and concepts[["named", "plain"]].notna().all(axis=None)
    assert Path(tmp_path / "out" / "run-named" / "run.json").is_file()
