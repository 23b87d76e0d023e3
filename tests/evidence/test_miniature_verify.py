"""`perfbench miniature verify`: its figures against independent arithmetic, and what it writes."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.evidence import marks_measures, miniature_measures
from benchmarks.evidence.miniature_measures import (
    Figure,
    auc,
    mean_figure,
    share_of,
    shares,
    wording,
)
from benchmarks.miniature.training.judges import JUDGED
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import held_out, render
from benchmarks.suite.catalog import Prompt, load_catalog

# ---- arithmetic


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    same, other = np.round(rng.normal(0.4, 1, 40), 1), np.round(rng.normal(0, 1, 60), 1)
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in same for b in other]
    assert auc(same, other) == pytest.approx(np.mean(wins), abs=1e-12)


def test_a_mean_has_the_usual_interval():
    values = np.random.default_rng(1).normal(30, 3, 50)
    figure = mean_figure("x", values, goal=28)
    lo, hi = stats.t.interval(0.95, 49, loc=values.mean(), scale=stats.sem(values))
    assert (figure.lo, figure.hi) == pytest.approx((lo, hi)) and figure.met


def test_the_interval_of_a_share_knows_that_pictures_of_a_prompt_go_together():
    right = np.repeat([True, False] * 10, 50)  # twenty prompts, all or nothing
    together = share_of("x", right, np.repeat(np.arange(20), 50))
    apart = share_of("x", right, np.arange(1000))
    assert together.value == apart.value == 0.5
    assert together.hi - together.lo > 5 * (apart.hi - apart.lo)
    assert apart.hi - apart.lo == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1000), rel=0.15)


def test_all_right_is_not_certain():
    figure = share_of("x", np.ones(80, dtype=bool), np.repeat(np.arange(10), 8))
    assert (figure.value, figure.n, figure.hi) == (1, 80, pytest.approx(1))
    # Wilson's bound of ten prompts
    assert figure.lo == pytest.approx(10 / (10 + 1.96**2), abs=1e-3)


def test_goals_are_met_or_not():
    assert Figure("x", 0.95, 1, 0.95).met is True
    assert Figure("x", 0.9499, 1, 0.95).met is False
    assert Figure("x", float("nan"), 1, 0.95).met is False
    assert Figure("x", 0.1, 1).met is None
    assert Figure("x", 0.2, 1, 0.15, below=True).met is False


def test_shares_count_the_right_pictures():
    def row(factor, value, said, cls="cat", said_cls="cat"):
        return {"prompt": value, "class": cls, "factor": factor, "value": value,
                "class_drawn": said_cls, "value_drawn": said}  # fmt: skip

    rows = [
        row("scene", "moon", "moon"),
        row("scene", "moon", "snow"),
        row("style", "oil", "oil"),
        row("wear", "crown", "crown", said_cls="dog"),
        row("do", "bed", "none"),
        row("material", "gold", "gold"),
        row("state", "fire", "moss"),
    ]
    found = {figure.what.split(": ")[1]: figure for figure in shares(rows, "drawn")}
    assert found["class"].value == pytest.approx(6 / 7) and found["class"].n == 7
    got = {
        name: found[name].value
        for name in ("scene", "style", "material", "outfit or activity", "state")
    }
    assert got == {"scene": 0.5, "style": 1, "material": 1, "outfit or activity": 0.5, "state": 0}
    goals = {name: figure.goal for name, figure in found.items()}
    assert goals == {
        "class": 0.95,
        "scene": 0.95,
        "style": 0.9,
        "material": 0.9,
        "outfit or activity": 0.8,
        "state": 0.8,
    }


# ---- prompts of held-out pairs


def test_every_held_out_pair_has_a_prompt_that_asks_for_it():
    factors = set()
    for cls, pair in held_out():
        kind, _, value = pair.partition(":")
        text, factor = wording(cls, kind, value)
        picture = read(text, seed=1)
        assert (picture.one.cls, getattr(picture, factor)) == (cls, value), text
        assert value in JUDGED[factor]
        others = {
            f
            for f in ("wear", "do", "state", "material", "style")
            if f != factor and getattr(picture, f)
        }
        assert not others, (text, others)
        factors.add(factor)
    assert factors == {"scene", "style", "material", "wear", "do", "state"}


# ---- measures that use models, on a tiny backbone


def test_gate_ratios_are_those_of_the_formula(tiny_backbone, tiny_c_inv):
    from benchmarks.evidence import miniature_gates

    catalog = load_catalog("miniature")
    concept = catalog.concept("teapot")
    short = [p for p in catalog.prompts_for(concept) if p.id in ("s01", "s03", "s18")]
    small = type("C", (), {"prompts_for": staticmethod(lambda _: short)})()
    rows = miniature_gates.ratios(tiny_backbone, small, concept)
    i_star = tiny_backbone.encode(["A photo of a teapot"])[0].double().numpy()
    tokenizer = tiny_backbone.tokenizer
    word = tokenizer("teapot", add_special_tokens=False).input_ids[0]
    i_star = i_star[tokenizer("A photo of a teapot").input_ids.index(word)]
    c_inv = tiny_c_inv.numpy()
    for prompt in short:
        text = prompt.template.replace("{}", "teapot")
        e = tiny_backbone.encode([text])[0].double().numpy()
        mine = [row for row in rows if row["prompt_id"] == prompt.id]
        assert len(mine) == 32
        for m, row in enumerate(mine):
            assert row["ratio"] == pytest.approx(
                i_star @ c_inv @ e[m] / (i_star @ c_inv @ i_star), abs=1e-5
            )
        ids = tokenizer(text).input_ids
        roles = [
            "begin",
            *("concept" if i == word else "word" for i in ids[1:-1]),
            "end",
            *["pad"] * (32 - len(ids)),
        ]
        assert [row["role"] for row in mine] == roles
    found = {figure.what: figure for figure in miniature_gates.figures(rows, "gate")}
    concept_rows = [row["ratio"] for row in rows if row["role"] == "concept"]
    assert found["gate: lowest at the concept's word"].value == min(concept_rows)
    others = [row["ratio"] for row in rows if row["role"] == "word"]
    assert found["gate: other words at most 0.3"].value == np.mean(np.array(others) <= 0.3)


def test_a_rare_word_is_weighed_against_colours_by_what_the_encoder_says(
    tiny_backbone, monkeypatch
):
    from benchmarks.evidence import miniature_gates

    monkeypatch.setattr(miniature_gates, "RARE", ("sks",))
    monkeypatch.setattr(miniature_gates, "COLORS", {"red": 0, "blue": 0, "pink": 0})
    (figure,) = miniature_gates.rare_word(tiny_backbone, load_catalog("miniature"))
    words = {concept.super_category for concept in load_catalog("miniature").concepts}

    def gap(word, first, second):
        return (
            tiny_backbone.encode([f"a photo of {w} {word}" for w in (first, second)])
            .double()
            .diff(dim=0)[0]
        )

    color = {word: [gap(word, "red", "blue"), gap(word, "blue", "pink")] for word in words}
    ratios = [
        gap(word, "sks", "a").norm() / np.mean([x.norm() for x in color[word]]) for word in words
    ]
    assert figure.n == len(words) == 11 and figure.value == pytest.approx(
        float(np.mean(ratios)), abs=1e-4
    )
    place = tiny_backbone.tokenizer("a photo of sks").input_ids.index(
        tiny_backbone.tokenizer("sks").input_ids[1]
    )
    own = np.mean([gap(word, "sks", "a")[place].norm() for word in words])
    colors = np.mean([x[place].norm() for word in words for x in color[word]])
    assert (
        own != pytest.approx(colors, rel=0.02)
        and figure.note == f"at the word's own place {own / colors:.2f}"
    )


class Knower:
    """A scorer that sees which render it is shown: one-hot vectors by prompt, in the order of its
    list.
    """

    def __init__(self, pictures, texts, wrong=()):
        self.where = {picture.tobytes(): k for k, picture in enumerate(pictures)}
        self.at, self.n, self.wrong = (
            {text: k for k, text in enumerate(texts)},
            len(texts),
            set(wrong),
        )

    def images(self, pictures):
        which = [self.where[np.asarray(p).tobytes()] for p in pictures]
        return np.eye(self.n)[[(k + 1) % self.n if k in self.wrong else k for k in which]]

    def text(self, text):
        return np.eye(self.n)[self.at[text]]


def test_retrieval_counts_right_prompts():
    prompts = tuple(
        Prompt(f"p{k}", "shape", "all", t)
        for k, t in enumerate(("A {} on the moon", "A {} in the snow", "A golden {}"))
    )
    pictures = np.stack(
        [render(read(p.template.replace("{}", "cat")), k)[0] for k, p in enumerate(prompts)]
    )
    said = ["A cat on the moon", "A cat in the snow", "A golden cat"]
    left_out = ["A on the moon", "A in the snow", "A golden"]

    class Both(Knower):
        def text(self, text):
            return super().text(said[left_out.index(text)] if text in left_out else text)

    right = miniature_measures.retrieval(
        Both(pictures, said), [("cat", prompts, pictures)], "scorer", True
    )
    assert [figure.value for figure in right] == [1, 1, 1, 1] and all(
        figure.met is not False for figure in right
    )
    wrong = miniature_measures.retrieval(
        Both(pictures, said, wrong=[1]), [("cat", prompts, pictures)], "scorer", True
    )
    assert [figure.value for figure in wrong] == pytest.approx([2 / 3] * 4)
    assert [figure.met for figure in wrong] == [None, False, None, False]


def test_identity_is_measured_across_scenes_only():
    sets = list(miniature_measures.instances(3))
    assert {cls for cls, *_ in sets} == {
        c.super_category for c in load_catalog("miniature").concepts
    }
    for _, pictures, who, where in sets:
        assert pictures.shape == (12, 64, 64, 3)
        assert all(len(set(where[who == k])) == 4 for k in range(3))

    def scene_only(pictures):  # a judge of backgrounds: every pair in one scene is alike
        for _, own, _, where in sets:
            if own is pictures:
                return np.eye(40)[where % 40]

    mean, worst = miniature_measures.identity(sets, scene_only, "x", 0.95)
    # chance, since no pair of one scene counts
    assert mean.value == worst.value == 0.5 and mean.met is False

    def knows(pictures):
        for _, own, who, _ in sets:
            if own is pictures:
                return np.eye(3)[who]

    mean, worst = miniature_measures.identity(sets, knows, "x", 0.95)
    assert mean.value == worst.value == 1 and mean.met


def test_what_is_written_says_what_was_measured(tmp_path):
    from benchmarks.evidence.miniature_verify import goals_summary, goals_table, write_figures

    figures = [
        Figure("VAE: PSNR, dB", 27.5, 100, 28.0, 27.0, 28.0),
        Figure("pads", 0.1, 5, note="highest 0.2"),
        Figure("scenes, all", 0.96, 50, 0.95),
    ]
    about = {"digests": {"backbone": "0123456789abcdef"}, "device": "cpu", "dtype": "float32"}
    write_figures(
        tmp_path, figures, about, {"gates": [{"token": "moon", "ratio": 0.25}], "vae": []}
    )
    rows = list(csv.DictReader((tmp_path / "verify.csv").open()))
    assert rows == [
        {"name": "VAE: PSNR, dB", "reached": "27.500000", "goal": "28", "met": "no"},
        {"name": "scenes, all", "reached": "0.960000", "goal": "0.95", "met": "yes"},
    ], "a row a goal"
    written = json.loads((tmp_path / "verify.json").read_text())
    assert [one["lo"] for one in written["figures"]] == ["27.000000", "", ""]
    assert written["digests"] == about["digests"] and len(written["figures"]) == 3
    text = (tmp_path / "verify.md").read_text()
    assert (
        "27.50" in text
        and "not met" in text
        and "1 of 2 goals met" in text
        and "0123456789abcdef" in text
    )
    assert list(csv.DictReader((tmp_path / "gates.csv").open())) == [
        {"token": "moon", "ratio": "0.25"}
    ]
    assert not (tmp_path / "vae.csv").exists()
    assert goals_table(figures).count("\n") == 4 and "1 of 2" in goals_summary(figures, about)


def test_the_committed_goals_are_those_of_the_committed_figures():
    from benchmarks.evidence.miniature_verify import goal_rows

    folder = Path(__file__).parents[2] / "results" / "miniature-verify"
    figures = json.loads((folder / "verify.json").read_text())["figures"]
    goals = list(csv.DictReader((folder / "verify.csv").open(newline="")))
    assert goals == goal_rows(figures)
    page = (folder / "verify.md").read_text()
    met = sum(row["met"] == "yes" for row in goals)
    assert f"{met} of {len(goals)} goals met" in page
    assert all(row["name"] in page for row in goals)


# ---- marks of an instance


def test_pairs_are_of_two_scenes_and_each_picture_once():
    who, where = np.array([0, 0, 1, 1]), np.array([5, 6, 5, 7])
    own, others = marks_measures.pairs_apart(
        np.zeros((2, 4)), who[[0, 2]], where[[0, 2]], who, where
    )
    assert own.tolist() == [[False, True, False, False], [False, False, False, True]]
    assert others.tolist() == [[False, False, False, True], [False, True, False, False]]
    assert marks_measures.first_of_each(np.repeat([3, 1, 2], 4), 2) == [0, 1, 4, 5, 8, 9]


def test_the_goal_is_of_what_was_drawn_anew_and_its_rule_gives_its_number():
    told = {way: {"cat": a, "pot": b} for way, a, b in (("as it is", 1, 1), ("anew", 0.9, 0.7))}
    fresh, anew, worst = marks_measures.figures(told, 44)
    assert (fresh.goal, fresh.met, fresh.value, fresh.n) == (None, None, 1, 44)
    assert anew.value == pytest.approx(0.8) and anew.met is False and anew.what.endswith("on anew")
    assert (worst.value, worst.note, worst.n, worst.goal) == (0.7, "pot", 22, None)
    goals = Path(__file__).parents[2] / "results" / "miniature-verify" / "verify.csv"
    known = {row["name"]: float(row["reached"]) for row in csv.DictReader(goals.open(newline=""))}
    fresh_auc = known["identity verifier: AUC on fresh renders"]
    assert pytest.approx(0.5 + 0.8 * (fresh_auc - 0.5), abs=0.01) == marks_measures.KEPT


def test_marks_are_compared_with_renders_of_other_scenes():
    """The shipped models, on a few pictures: fresh renders are told apart, and what is drawn anew
    less well than those. Guidance draws something else."""
    from benchmarks.miniature.opening import opened
    from benchmarks.miniature.training.judges import open_judges
    from benchmarks.paths import miniature_dir

    sets = [one for one in miniature_measures.instances(4) if one[0] in ("pot", "teddy")]
    backbone = opened(miniature_dir(), "cpu", "float32")
    found, rows = marks_measures.marks(backbone, open_judges(miniature_dir()), sets, 1)
    fresh, _, unguided, anew, worst = found
    assert fresh.value > 0.95 and fresh.value >= anew.value >= worst.value
    assert fresh.value >= unguided.value and (unguided.goal, anew.goal) == (None, 0.89)
    assert {figure.n for figure in found[:4]} == {8} and worst.n == 4
    ways = Counter(row["way"] for row in rows)
    assert list(ways.values()) == [8] * 4 and "drawn anew, strength 0.5, without guidance" in ways
    alone, guided = ([row["own"] for row in rows if row["way"] == way] for way in list(ways)[-2:])
    assert alone != guided
    mine = [row for row in rows if row["way"] == "fresh renders"]
    assert all(float(row["own"]) > float(row["others"]) for row in mine)
    assert all(row["class"] in row["prompt"] for row in rows)
