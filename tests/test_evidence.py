"""The ledger of claims on made runs: planted effects are found, with the right sign, and what is absent is said."""

import numpy as np
import pytest
from made_run import GLOBAL, LOCAL, make_run
from PIL import Image

from benchmarks.evidence import claims, looks, measures, page, validity
from benchmarks.evidence.claims import ABSENT, FAILS, HOLDS, OPEN, Evidence, ledger
from benchmarks.evidence.commands import COMMANDS, KEPT
from benchmarks.grid import Grid, grid_of
from benchmarks.miniature.truth import WISHES
from benchmarks.row_files import planned_text
from benchmarks.runs import Run
from benchmarks.stats import Interval
from benchmarks.tables import split
from perfusion_core.errors import UserError

DEFAULT = ("default",)
VARIANTS = ("one-shot", "trained-k", "no-mask", "train-bias", "vanilla-rome")
STEPS = tuple(f"local-b0.60-t0.15-s{step}" for step in (25, 100, 400))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    methods = {"perfusion": (*LOCAL, *GLOBAL), "cd": DEFAULT, "db": DEFAULT, "ti": DEFAULT}
    make_run(folder / "miniature-paper", methods, images=2, pictures=False)
    cold = {"perfusion-infer-temperature": tuple(point.replace("0.15", "0.10") for point in LOCAL)}
    variants = {"perfusion": LOCAL, **{f"perfusion-{name}": LOCAL for name in VARIANTS}, **cold}
    make_run(folder / "miniature-ablations", variants, images=2, pictures=False)
    both = {"perfusion": STEPS, "perfusion-trained-k": STEPS}
    make_run(folder / "miniature-dynamics", both, ["cat", "teddy", "teapot", "chair"], images=1, pictures=False)
    return folder


def verdicts(folder):
    return {row.claim: row.finding.verdict for row in ledger(Evidence(folder))}


def test_planted_effects_get_their_verdicts(results):
    found = verdicts(results)
    assert found["Perfusion's front lies beyond Textual Inversion"] == HOLDS
    assert found["One trained model spans the front by its bias alone, monotonically"] == HOLDS
    assert found["Key locking raises text similarity without significant harm to image similarity"] == HOLDS
    assert found["Global locking varies more over concepts than local"] == HOLDS
    assert found["Vanilla ROME breaks: what is trained is not what is drawn"] == HOLDS
    assert found["Training on one image overfits slightly"] == HOLDS
    assert found["A temperature of 0.15 at inference is better than that of training"] == HOLDS
    assert found["Trained K overfits as training goes on"] == HOLDS
    assert found["Local key locking over-generalises instead"] != HOLDS, "planted: its text similarity falls as well"
    assert found["Perfusion's front lies beyond LoRA (not in the paper)"] == ABSENT
    assert found["A concept carries over to a fine-tuned backbone"] == ABSENT


def test_without_any_run_nothing_is_claimed(tmp_path):
    assert set(verdicts(tmp_path).values()) == {ABSENT}


def test_a_gain_is_the_difference_of_class_balanced_means(results):
    """Against plain pandas on cells.csv."""
    cells = split(Run(results / "miniature-ablations").cells)[0]
    grid = grid_of(cells)
    a, b = measures.matched(grid, "perfusion", "perfusion-no-mask", "local")
    got = measures.gain(grid, "image_sim", a, b)
    image = cells[(cells["metric"] == "image_sim")]
    means = image.groupby(["method", "point", "concept"])["mean"].mean().groupby("method").mean()
    assert got.value == pytest.approx(means["perfusion"] - means["perfusion-no-mask"], abs=1e-9)
    assert got.lo < got.value < got.hi
    zero = measures.gain(grid, "text_sim", a, a)
    assert zero == Interval(0, 0, 0)


def test_points_are_matched_by_lock_and_bias(results):
    grid = grid_of(split(Run(results / "miniature-ablations").cells)[0])
    a, b = measures.matched(grid, "perfusion", "perfusion-infer-temperature")
    assert [grid.points[m][1] for m in a] == list(LOCAL)
    assert [grid.points[m][1] for m in b] == [point.replace("0.15", "0.10") for point in LOCAL]
    with pytest.raises(UserError, match="no operating point of perfusion with global lock"):
        measures.rows(grid, "perfusion", "global")


def test_verdicts_follow_the_interval_and_not_the_value():
    assert claims.more(Interval(0.1, 0.01, 0.2)) == HOLDS
    assert claims.more(Interval(0.1, -0.01, 0.2)) == OPEN
    assert claims.more(Interval(-0.1, -0.2, -0.01)) == FAILS
    assert claims.more(Interval(0.1, np.nan, np.nan)) == OPEN, "one concept proves nothing"
    assert claims.less(Interval(-0.1, -0.2, -0.01)) == HOLDS
    assert claims.no_loss(Interval(-0.01, -0.015, 0.0)) == HOLDS
    assert claims.no_loss(Interval(-0.05, -0.06, -0.03)) == FAILS
    assert claims.no_loss(Interval(-0.01, -0.06, 0.03)) == OPEN
    assert claims.all_of([HOLDS, OPEN]) == OPEN and claims.all_of([HOLDS, FAILS, OPEN]) == FAILS


def test_the_page_keeps_its_words_and_is_made_again_alike(results, tmp_path):
    path, other = tmp_path / "claims.md", tmp_path / "metrics.md"
    for one in (path, other):
        one.write_text(f"# Claims\n\nBefore.\n\n{page.BEGIN}\nSTALE\n{page.END}\n\nAfter.\n")
    new = page.write(tmp_path, results)
    assert "was not scored by the truth" in other.read_text()
    once = path.read_text()
    assert once.startswith("# Claims\n\nBefore.") and once.endswith("After.\n") and "STALE" not in once
    assert new in once and f"{len(claims.CLAIMS)} claims" in once
    page.write(tmp_path, results)
    assert path.read_text() == once
    path.write_text("no marks")
    with pytest.raises(UserError, match="to write between"):
        page.write(tmp_path, results)


def test_every_command_can_be_parsed():
    import shlex

    from benchmarks import cli

    for commands in COMMANDS.values():
        for command in commands:
            words = shlex.split(command)
            if words[0] == "python":
                assert words[1:4] == ["-m", "benchmarks.evidence", "look"]
            elif words[1] == "run":
                config = config_of(words[2:])
                assert config.out.startswith("results/miniature-")
            else:
                assert words[1] in cli.VERBS
    assert len(KEPT) == 8


def config_of(words):
    import argparse

    from benchmarks import run_verbs

    parser = argparse.ArgumentParser()
    run_verbs.add_flags(parser)
    return run_verbs.config_of(parser.parse_args(words))


def test_validity_finds_a_planted_truth():
    """Truth = score plus noise: high where the noise is small, none where the truth is other noise."""
    rng = np.random.default_rng(0)
    shape = (6, 8, 20)  # points, concepts, prompts
    quality = np.arange(6)[:, None, None] * 0.02 + rng.normal(0, 0.02, shape)

    def grid(noise, signal):
        score = 0.7 + quality
        truth = signal * quality + rng.normal(0, noise, shape)
        values = {"image_sim": score, "text_sim_raw": score, "image_sim_truth-1": truth, "text_sim_raw_truth-1": truth}
        points = [(name, "default") for name in ("super", "a", "b", "c", "d", "e")]
        ones = {name: np.ones(shape) for name in values}
        return Grid(points, [f"c{k}" for k in range(8)], [f"p{k}" for k in range(20)], ["all"] * 8, ["shape"] * 20,
                    values, {name: np.stack([v, v]) for name, v in values.items()}, ones, ones)  # fmt: skip

    near, none = grid(0.001, 1.0), grid(0.02, 0.0)
    assert validity.over_points(near, "image_sim").value == pytest.approx(1)
    assert validity.within_cells(near, "image_sim").lo > 0.95
    assert validity.ordered_alike(near, "image_sim") == "15 of 15"
    lost = validity.within_cells(none, "image_sim")
    assert lost.lo < 0.1 and abs(lost.value) < 0.15
    with pytest.raises(UserError, match="--scorers truth"):
        validity.truth_of(grid_of_plain(), "image_sim")


def grid_of_plain():
    return Grid([], [], [], [], [], {"image_sim": np.zeros((0, 0, 0))}, {}, {}, {})


# ---- what only pictures tell


def test_the_distance_of_two_sets_is_that_of_the_formula():
    """Against one dimension, where it is (m - n)^2 + (s - t)^2; and sets add up."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4000, 1)), rng.normal(2, 3, (4000, 1))
    want = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert looks.frechet(looks.Moments.of(a), looks.Moments.of(b)) == pytest.approx(want, rel=1e-9)
    wide = rng.normal(0, 1, (500, 6)) @ rng.normal(0, 1, (6, 6))
    assert looks.frechet(looks.Moments.of(wide), looks.Moments.of(wide)) == pytest.approx(0, abs=1e-6)
    halves = [looks.Moments.of(wide[:200]), looks.Moments.of(wide[200:])]
    whole = looks.total(halves, np.array([1, 1]))
    np.testing.assert_allclose(whole.normal()[1], looks.Moments.of(wide).normal()[1], atol=1e-12)
    twice = looks.total(halves, np.array([2, 0])).normal()
    np.testing.assert_allclose(twice[0], wide[:200].mean(0), atol=1e-12)


def test_pictures_of_the_concept_itself_are_good_and_those_of_others_are_not(tmp_path):
    """Judges that know: what they see is planted in the pictures' colours."""
    run = tmp_path / "run"
    concepts, prompts = ("cat", "chair"), {"s01": "A {} on the beach", "s02": "A {} in the snow"}
    plan = []
    for method in ("super", "perfusion"):
        for number, concept in enumerate(concepts):
            for prompt, template in prompts.items():
                folder = run / "images" / method / "default" / concept / prompt
                folder.mkdir(parents=True)
                for index in range(4):
                    own = number if method == "perfusion" and index < 3 else 9
                    colour = (own, ("s01", "s02").index(prompt), index)
                    Image.new("RGB", (64, 64), colour).save(folder / f"{index}.png")
                plan.append({"method": method, "point": "default", "concept": concept, "group": "animated",
                             "prompt_id": prompt, "kind": "shape", "n": 4, "key": "", "fit": "",
                             "template": template.replace("{}", f"{{{concept}}}"),
                             "text": " ".join(template.replace("{}", "").split()),
                             "super_category": concept})  # fmt: skip
            folder = run / "concepts" / concept
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / "0.png")
    (run / "plan.csv").write_text(planned_text(plan))

    class Judges:
        same = 0.5

        def features(self, pictures):
            return pictures.reshape(len(pictures), -1, 3).mean(1) + np.random.default_rng(0).normal(
                size=(len(pictures), 3)
            )

        def identity(self, pictures):
            return np.eye(10)[pictures[:, 0, 0, 0]]

        def factors(self, pictures):
            said = {name: np.full(len(pictures), "none", dtype=object) for name in WISHES}
            said["scene"] = np.where(pictures[:, 0, 0, 1] == 0, "beach", "garden")  # never snow
            return said | {"cls": np.full(len(pictures), "cat", dtype=object)}

    frame = looks.look(Run(run), Judges()).set_index("method")
    assert frame.loc["perfusion", "good"] == pytest.approx(0.375), "three of four of the prompts on the beach"
    assert frame.loc["perfusion", "several"] == pytest.approx(0.5)
    assert frame.loc["super", "good"] == 0
    assert frame.loc["super", "outline"] == pytest.approx(0.5), "a judge that always says cat"
    assert frame.loc["super", "harm"] == 0 and frame.loc["perfusion", "frechet"] > 0
    next(run.glob("images/perfusion/default/cat/s01")).rename(tmp_path / "gone")
    with pytest.raises(UserError, match="images/perfusion/default/cat/s01: they must be kept"):
        looks.look(Run(run), Judges())
