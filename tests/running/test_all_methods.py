"""`--methods all`: every trained method of ours trains, saves, loads, draws and is scored; who is
untuned says so in tables, figures and run.json.
"""

import json
import time

import pandas as pd
import pytest
from run_kit import run_here, shared

from benchmarks.cli import run
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.plots import series_of
from benchmarks.planning import methods
from benchmarks.planning.config import resolve
from benchmarks.running.prepared import prepare_run
from benchmarks.tables.run_view import Run
from benchmarks.tables.views import view

ALL = methods.expanded(["all"])
UNTUNED = [name for name in ALL if methods.said(name).untuned]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of all, as small as can be."""
    out = tmp_path_factory.mktemp("all") / "run"
    sets = ("images=1", "train_steps=2", "steps=2", "points.perfusion=local-b0.60-t0.15")
    sets += ("fit.attndreambooth.word_steps=1", "fit.attndreambooth.attention_steps=0")
    more = [word for one in sets for word in ("--set", one)]
    names = ("--methods", "all", "--concepts", "cat", "--prompts", "1")
    assert run_here(shared(), out, *names, *more) == 0
    return out


def test_each_is_trained_and_scored_once(made):
    table = pd.read_csv(made / "table.csv").query("kind == 'method'")
    assert sorted(table["method"]) == sorted(ALL)
    assert (table["n_images"] == table["n_planned"]).all() and table["image_sim"].notna().all()
    assert (table["kilobytes"] > 0).all()
    fits = {path.parent.parent.name for path in made.glob("fits/*/*/fit.json")}
    assert fits == set(ALL)


def test_who_is_untuned_is_marked_in_tables_views_and_figures(made):
    about = json.loads((made / "run.json").read_text())["methods"]
    assert [name for name in ALL if about[name].get("untuned")] == UNTUNED != []
    text = (made / "table.md").read_text()
    for part in text.split("# Beyond the protocol"):
        for name in ALL:
            assert (f"| {name} (untuned) " in part) == (name in UNTUNED)
    line = f"Untuned: the rates of {', '.join(sorted(UNTUNED))} are a guess"
    told = {one: view(str(made), one) for one in ("cost", "kind")}
    for words in (text, *told.values()):
        assert sorted(words.partition("Untuned: the rates of ")[2].partition(" are a guess")[0]
                      .split(", ")) == sorted(UNTUNED), line  # fmt: skip
    seen = Run(made)
    with looks_of_runs([seen]):
        labels = {one.method: one.style.label for one in series_of(seen.table)}
    assert [name for name in labels if "(untuned)" in labels[name]] == sorted(UNTUNED)
    assert run(["plot", "pareto", str(made), "--out", str(made.parent / "p.svg")]) == 0


def test_what_was_trained_elsewhere_is_no_guess_of_ours(made):
    kit = shared()
    flags = {"backbone": str(kit / "tiny"), "suite": str(kit / "concepts"), "concepts": "cat",
             "methods": "dora,loha", "trained": f"dora={made}", "device": "cpu"}  # fmt: skip
    prepared = prepare_run(resolve(preset="micro", flags=flags))
    assert {one.name: one.untuned for one in prepared.methods} == {
        "super": False,
        "dora": False,
        "loha": True,
    }


@pytest.mark.slow
def test_the_miniature_does_all_in_three_minutes(tmp_path):
    begun = time.perf_counter()
    words = ["--methods", "all", "--preset", "micro", "--no-cache", "--out", str(tmp_path / "run")]
    assert run(["run", *words]) == 0
    assert time.perf_counter() - begun < 180
