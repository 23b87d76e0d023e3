"""What the page knows of runs: every score at its place, small, and nothing that is markup."""

import json
import re
import time

import numpy as np
import pytest
from explorer_kit import EVIL, large_run, two_runs
from made_run import make_run
from run_kit import ROOT

from benchmarks.paths import FIRST_WORLD
from benchmarks.site.column_words import words_of
from benchmarks.site.explored import open_runs
from benchmarks.site.explorer_data import SCALE, explorer_data, image_text
from benchmarks.site.explorer_page import page_text
from perfusion_core.errors import UserError

PAPER = str(ROOT / FIRST_WORLD / "miniature-paper")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [*map(str, two_runs(tmp_path_factory.mktemp("explored")))]


@pytest.fixture(scope="module")
def data(runs):
    return explorer_data(open_runs(runs), 128)


def asked(run):
    """The numbers of a run's questions."""
    told = run["questions"]
    return told if isinstance(told, list) else [*range(told["first"], told["first"] + told["n"])]


@pytest.mark.parametrize("which", ["made", "paper"])
def test_every_cell_mean_is_at_its_place(which, runs):
    """Against the rows of cells.csv, one by one."""
    one = open_runs([runs[0] if which == "made" else PAPER])[0]
    data = explorer_data([one], 128)
    run = data["runs"][0]
    cells = one.run.cells[one.run.cells["method"] != "real"]
    expected = {
        (row.method, row.point, row.concept, row.prompt_id, row.metric): row.mean
        for row in cells.itertuples(index=False)
    }
    seen = 0
    for number, metrics in enumerate(run["cells"]):
        point = run["points"][number]
        for metric, text in metrics.items():
            for question, unit in zip(asked(run), text.split(","), strict=True):
                place = (
                    data["concepts"][data["concept_of"][question]],
                    data["prompts"][data["prompt_of"][question]],
                )
                value = expected.get((point["method"], point["point"], *place, metric), np.nan)
                assert (unit == "") == np.isnan(value)
                if unit:
                    assert abs(int(unit) / SCALE - value) <= 0.5 / SCALE + 1e-12
                    seen += 1
    assert seen == int(cells["mean"].notna().sum())


def test_the_table_is_told_as_it_is(data, runs):
    table = open_runs(runs)[0].run.table
    points = {(one["method"], one["point"]): one for one in data["runs"][0]["points"]}
    for row in table.to_dict("records"):
        told = points[row["method"], row["point"]]["table"]
        for column in ("image_sim", "text_sim", "harmonic"):
            ends = [row[column], row[f"{column}_lo"], row[f"{column}_hi"]]
            if not np.isnan(ends[0]):
                assert told[column] == pytest.approx([v for v in ends if not np.isnan(v)], abs=1e-6)


def test_two_runs_share_questions_of_the_same_text(data):
    """The first run has another text for one prompt: that is another question."""
    first, second = (set(asked(run)) for run in data["runs"])
    changed = {n for n in first if EVIL in data["texts"][data["text_of"][n]]}
    assert len(changed) == 1 and len(first - second) == 1 == len(second - first)


def test_runs_of_other_protocols_are_kept_apart(runs, tmp_path):
    make_run(
        tmp_path / "short",
        {"cd": ("default",)},
        ["cat"],
        prompts=1,
        images=2,
        pictures=False,
        extra={"backbone": {"id": "other", "sha256": "ef" * 32}},
    )
    told = explorer_data(open_runs([*runs, str(tmp_path / "short")]), 128)["runs"]
    assert told[1]["apart"] == {} and set(told[2]["apart"]) == {"0", "1"}
    assert "were not measured alike" in told[2]["apart"]["0"]


def test_pictures_that_are_there_are_told(data, runs, tmp_path):
    run = data["runs"][0]
    assert run["images"] == [2] * len(run["cells"])
    assert image_text([(0, 1), (), (0, 2), (1,)]) == "2,,=0.2,=1"
    assert image_text([(), ()]) == 0
    own = {name: (training, held) for name, training, held in run["own"]}
    assert own == {"cat": (5, 3), "teapot": (5, 0)}


def test_a_committed_run_without_pictures_opens():
    run = explorer_data(open_runs([PAPER]), 128)["runs"][0]
    assert run["pictured"] == [] and set(run["images"]) == {0}
    assert len(run["cells"]) == 17 and len(asked(run)) == 472


def test_filters_have_scenario_and_difficulty():
    data = explorer_data(open_runs([PAPER]), 128)
    assert data["filters"]["difficulty"]["values"] == ["easy", "middling", "hard"]
    scenario = data["filters"]["scenario"]
    of = {
        data["texts"][data["text_of"][q]]: scenario["values"][value]
        for q, value in enumerate(scenario["of"])
    }
    assert of["A cat* on the beach"] == "place"


def test_whose_rates_are_a_guess_is_told_of_each_run(tmp_path):
    """In the data and in the label, and not of a run in which the same method was tuned."""
    for name, guess in (("guess", True), ("tuned", False)):
        told = {"of": "cd", "config": {}, **({"untuned": True} if guess else {})}
        make_run(tmp_path / name, {"cd": ("default",), "db": ("default",)}, ["cat"], prompts=2,
                 images=1, pictures=False, extra={"methods": {"cd": told}})  # fmt: skip
    runs = explorer_data(open_runs([str(tmp_path / "guess"), str(tmp_path / "tuned")]), 128)["runs"]
    marked = [{p["method"] for p in one["points"] if p["untuned"]} for one in runs]
    assert marked == [{"cd"}, set()]
    labels = [{p["label"] for p in one["points"] if "(untuned)" in p["label"]} for one in runs]
    assert labels == [{"Custom Diffusion (untuned)"}, set()]


def test_what_strangers_wrote_is_no_markup(runs):
    runs = open_runs(runs)
    text = page_text({**explorer_data(runs, 128), "full": True})
    assert EVIL not in text and "<img src=x" not in text
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert any(EVIL in one for one in json.loads(found[1])["texts"])
    assert text.count("<script") == 2
    assert "'unsafe-inline'" not in text and "default-src 'none'" in text


def test_the_page_asks_nothing_of_anybody(runs):
    text = page_text({**explorer_data(open_runs(runs), 128), "full": False})
    outside = re.findall(r"""(?:src|href|url\()=?["']?(https?:[^"' )]+)""", text)
    assert outside == []


def test_columns_say_which_way_is_better():
    assert words_of("image_sim").better == 1 and words_of("train_seconds").better == -1
    assert words_of("drift").better == -1 and words_of("variety").better == 1
    assert words_of("image_sim_truth-97a50690").title == "Image similarity, by truth-97a50690"
    assert words_of("kilobytes").fixed and not words_of("image_sim").fixed
    assert words_of("n_images") is None and words_of("concept") is None


def test_sixty_thousand_rows_are_small_and_quick(tmp_path):
    folder = large_run(tmp_path / "large", pictures=False)
    began = time.monotonic()
    text = page_text({**explorer_data(open_runs([str(folder)]), 128), "full": True})
    spent = time.monotonic() - began
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert sum(len(asked(data["runs"][0])) for _ in data["runs"][0]["cells"]) == 60_000
    assert len(text) < 25 * 60_000  # bytes: two scores a row and everything else
    assert spent < 120, spent  # a busy machine; some seconds on a quiet one


def test_a_name_of_no_run_and_one_given_twice_are_sentences(runs):
    with pytest.raises(UserError, match="is not a run folder"):
        open_runs(["nowhere"])
    with pytest.raises(UserError, match="given twice"):
        open_runs([runs[0], runs[0]])
