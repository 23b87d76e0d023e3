"""`perfbench tune`: the same trials for every method, a row each, chosen by the harmonic mean,
resumed and extended.
"""

import csv
import json
import sys
from pathlib import Path

import pytest
from run_kit import shared

from baselines import custom_diffusion, lora
from benchmarks.cli import run
from benchmarks.miniature.which_world import OF_FIRST
from benchmarks.paths import FIRST_WORLD
from benchmarks.planning import methods
from benchmarks.running.tune import mark, told, trials_beside, trials_of, write_trials
from perfusion_core.errors import UserError


def words(out, *more):
    kit = shared()
    return [
        "tune",
        "--backbone",
        str(kit / "tiny"),
        "--suite",
        str(kit / "concepts"),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--prompts",
        "2",
        "--images",
        "1",
        "--steps",
        "2",
        "--threads",
        "1",
        "--set",
        "prior_images=2",
        "--set",
        "dtype=float32",
        "--set",
        "concepts=cat",
        *more,
    ]


CD, LORA = custom_diffusion.MINIATURE, lora.MINIATURE
STEPS = [str(round(part * CD.steps)) for part in (0.01, 0.03)]


def rows_in(out):
    with (out / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Two factors and two checkpoints of two methods, then of another one."""
    out = tmp_path_factory.mktemp("tuned")
    few = ("--factors", "1,2", "--parts", "0.01,0.03")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["perfbench", *words(out, "--methods", "cd,lora", *few)])
        assert run(sys.argv[1:]) == 0
        first = rows_in(out)
        patch.setattr(sys, "argv", ["perfbench", *words(out, "--methods", "ti", *few)])
        assert run(sys.argv[1:]) == 0
    return out, first, rows_in(out)


def test_every_method_has_the_same_number_of_trials_and_each_is_a_row(tuned):
    _, first, rows = tuned
    assert [row["method"] for row in first] == ["cd"] * 2 + ["lora"] * 2 + ["cd"] * 2 + [
        "lora"
    ] * 2 + ["super"]
    assert {
        (row["factor"], row["rates"], row["steps"]) for row in rows if row["method"] == "cd"
    } == {(f"{factor}", f"lr={factor * CD.lr:g}", step) for factor in (1, 2) for step in STEPS}
    assert sorted(row["method"] for row in rows) == sorted(
        ["cd"] * 4 + ["lora"] * 4 + ["ti"] * 4 + ["super"]
    )
    assert all(row["n_images"] == row["n_planned"] == "2" for row in rows)
    assert all(row["command"].startswith("perfbench tune --backbone ") for row in rows)
    assert len({row["digest"] for row in rows}) == 1 and len(rows[0]["digest"]) == 12, (
        "of which weights"
    )


def test_adding_a_method_leaves_the_others_trials_as_they_were(tuned):
    _, first, rows = tuned
    assert [row for row in rows if row["method"] in ("cd", "lora")] == [
        row for row in first if row["method"] != "super"
    ]


def test_trials_of_other_weights_stand_in_no_table_with_these(tmp_path):
    path, here, other = tmp_path / "trials.csv", "0" * 12, "1" * 12
    rows = [{"method": name, "digest": here} for name in ("cd", "ti", "super")]
    write_trials(path, rows)
    assert [row["method"] for row in trials_beside(path, ["ti"], here)] == ["cd"]
    assert trials_beside(path, ["cd", "ti"], other) == []
    with pytest.raises(UserError, match=r"has trials of cd with other weights, .* share no table"):
        trials_beside(path, ["ti"], other)


def test_the_best_harmonic_mean_is_chosen(tuned):
    for method in ("cd", "lora", "ti"):
        mine = [row for row in tuned[2] if row["method"] == method]
        [best] = [row for row in mine if row["chosen"] == "yes"]
        assert float(best["harmonic"]) == max(float(row["harmonic"]) for row in mine)


def test_trials_are_scored_by_the_scorer_that_is_never_reported(tuned):
    about = json.loads((tuned[0] / "runs" / "x1" / "run.json").read_text())
    assert [scorer["name"].rsplit("-", 1)[0] for scorer in about["scorers"]] == ["scorer2"]
    assert about["select_scorer"]["name"].rsplit("-", 1)[0] == "scorer"


def test_checkpoints_are_of_one_fit_and_class_images_are_made_once(tuned):
    for factor in ("x1", "x2"):
        fits = list((tuned[0] / "runs" / factor / "fits" / "cd").iterdir())
        assert len(fits) == 1 and {f"step-{step}" for step in STEPS} <= {
            path.name for path in fits[0].iterdir()
        }
    one, two = (
        {
            path.name: path.read_bytes()
            for path in (tuned[0] / "runs" / factor / "priors").rglob("*")
            if path.is_file()
        }
        for factor in ("x1", "x2")
    )
    assert one == two


def test_a_trial_that_diverges_is_a_row_without_scores(tmp_path, capsys):
    more = ("--methods", "lora", "--factors", "1,1e30", "--parts", "0.05")
    assert run(words(tmp_path, *more)) == 0
    rows = {row["factor"]: row for row in rows_in(tmp_path) if row["method"] == "lora"}
    assert (
        rows["1"]["chosen"] == "yes" and rows["1e+30"]["harmonic"] == rows["1e+30"]["chosen"] == ""
    )
    assert (
        f"lora: steps={round(0.05 * LORA.steps)}, lr={LORA.lr:g}; harmonic"
        in capsys.readouterr().out
    )


def test_recipes_are_scaled_as_a_whole():
    trials = trials_of("perfusion", (0.25, 0.5, 1), miniature=False)
    assert trials.steps == (100, 200, 400)
    assert trials.changed(2.0) == {"lr": 0.06, "lr_embedding": 0.012}
    assert trials.point(100) == "local-b0.60-t0.15-s100"


def test_the_edge_of_what_was_tried_is_told():
    tried = [("1", "10", "0.1"), ("2", "10", "0.2"), ("4", "10", "0.3"), ("2", "20", "0.2")]
    rows = [
        {
            "method": "ti",
            "factor": factor,
            "rates": f"lr={factor}",
            "steps": steps,
            "harmonic": h,
            "image_sim": "0.7",
        }
        for factor, steps, h in tried
    ]
    mark(rows)
    rows.append(
        {"method": "super", "image_sim": "0.5", "factor": "", "steps": "", "harmonic": "0.5"}
    )
    assert told(rows, ["ti"]) == (
        "ti: steps=10, lr=4; harmonic 0.300, image 0.700 (super 0.500); "
        "at the edge of the learning rates tried; at the edge of the steps tried\n"
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--methods", "super,nothing"), "unknown method 'nothing'"),
        (("--methods", "cd-better"), "cd-better is not tuned"),
        (("--factors", "1,x"), "--factors '1,x' is not a list of numbers"),
        (
            ("--parts", "0.001,0.002"),
            "--parts leaves perfusion 1 different checkpoints of 400 steps",
        ),
    ],
)
def test_mistakes(more, message, tmp_path):
    with pytest.raises(UserError) as caught:
        run(words(tmp_path, *more))
    assert message in str(caught.value)


@pytest.mark.parametrize("method", [n for n in methods.tuned() if not methods.said(n).untuned])
def test_the_miniature_is_set_as_the_committed_trials_say(method):
    root = Path(__file__).parents[2]
    rows = rows_in(root / FIRST_WORLD / "tuning-miniature")
    [best] = [row for row in rows if row["method"] == method and row["chosen"] == "yes"]
    [floor] = [row for row in rows if row["method"] == "super"]
    recipe = methods.load_method(method).MINIATURE
    rates = {
        name: float(rate) for name, rate in (part.split("=") for part in best["rates"].split())
    }
    assert {name: getattr(recipe, name) for name in rates} == rates
    assert recipe.steps == (400 if method == "perfusion" else int(best["steps"])), (
        "of a limit, validation picks"
    )
    assert any(known.startswith(best["digest"]) for known in OF_FIRST), (
        "tuned on other weights than those of the world that its folder names"
    )
    assert float(best["image_sim"]) > float(floor["image_sim"])
    scores = " | ".join(
        f"{float(best[name]):.3f}" for name in ("image_sim", "text_sim", "harmonic")
    )
    told = [
        line
        for line in (root / "docs" / "baselines.md").read_text().splitlines()
        if line.endswith(f"| {scores} |")
    ]
    assert (
        len(told) == 1 and told[0].startswith(f"| `{method}`") and f"| {best['steps']} |" in told[0]
    )
