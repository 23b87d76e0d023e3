"""`perfbench tune --halving` as users call it: real trainings of one method, scored from floor to
ceiling, interrupted and gone on with.
"""

import _thread
import csv
import json
import math
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from run_kit import shared

from baselines import lora
from benchmarks.cli import run
from benchmarks.planning import methods
from benchmarks.running.trial_settings import places, searched
from benchmarks.running.tune_halving import records, write_tables
from benchmarks.store.reading import read_rows
from benchmarks.suite.concept_folder import write_concept
from benchmarks.tables import halving
from benchmarks.tables.halving_rows import read_trainings
from perfusion_core.errors import UserError

LORA = Path(lora.__file__).read_text(encoding="utf-8")
UNTIMED = ("train_seconds", "command")


def words(out, *more):
    kit, suite = shared(), out.parent / "alike"
    if not suite.exists():
        make_alike(suite)
    return [
        "tune", "--halving", "--rounds", "2x1,1x2", "--methods", "lora",
        "--backbone", str(kit / "tiny"), "--suite", str(suite), "--out", str(out),
        "--device", "cpu", "--prompts", "2", "--steps", "2", "--threads", "1",
        "--set", "dtype=float32", "--set", "fit.lora.steps=4", "--set", "validate_every=2", *more,
    ]  # fmt: skip


def make_alike(suite):
    """Concepts whose pictures differ by a shade: more alike than whatever a random model draws."""
    for number, name in enumerate(("cat", "teapot")):
        plain = [np.full((16, 16, 3), 60 + 120 * number + shade, np.uint8) for shade in (0, 2, 4)]
        write_concept(
            suite / name,
            super_category=name,
            group="animated" if name == "cat" else "container",
            source="one colour",
            licence="CC0-1.0",
            images=[Image.fromarray(pixels) for pixels in plain],
        )


def table(out, name="trainings"):
    with (out / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def fits(out):
    """Every training that is there, and when it was published."""
    return {
        path: path.stat().st_mtime_ns for path in sorted(out.glob("runs/*/*/fits/*/*/fit.json"))
    }


def timeless(rows):
    return [{key: value for key, value in row.items() if key not in UNTIMED} for row in rows]


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """Interrupted while its second setting is at work, and then given again."""
    out, gone = tmp_path_factory.mktemp("halved") / "search", threading.Event()

    def interrupt():
        while not (out / "runs" / "lora" / "02" / "run.json").exists() and not gone.is_set():
            time.sleep(0.01)
        if not gone.is_set():
            _thread.interrupt_main()

    watching = threading.Thread(target=interrupt)
    # tests started in the background inherit it ignored
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    watching.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(words(out))
    finally:
        gone.set()
        watching.join()
        signal.signal(signal.SIGINT, ignored)
    before = fits(out)
    assert [row["setting"] for row in table(out)] == ["01"] and len(before) < 3
    assert not (out / "settings.csv").exists(), "nothing is chosen before the search is over"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["perfbench", *words(out)])
        assert run(sys.argv[1:]) == 0
    return out, before


def test_a_later_round_trains_only_what_it_adds(halved):
    out, before = halved
    rows = table(out)
    assert [(row["setting"], row["round"], row["concept"]) for row in rows[:2]] == [
        ("01", "1", "cat"),
        ("02", "1", "cat"),
    ]
    assert len(rows) == 3 and (rows[2]["round"], rows[2]["concept"]) == ("2", "teapot")
    best = max(rows[:2], key=lambda row: float(row["harmonic_floor_to_ceiling"]))
    assert rows[2]["setting"] == best["setting"] and rows[2]["rates"] == best["rates"]
    now = fits(out)
    assert len(now) == 3 and now.items() >= before.items(), "nothing is trained twice"


def test_a_finished_search_trains_nothing_and_says_the_same(halved, capsys, monkeypatch):
    out, _ = halved
    before, rows = fits(out), timeless(table(out))
    monkeypatch.setattr(sys, "argv", ["perfbench", *words(out)])
    assert run(sys.argv[1:]) == 0
    assert fits(out) == before and timeless(table(out)) == rows
    said = capsys.readouterr().out
    assert "| lora " in said and "At most 3 fits a method." in said
    assert "lora: setting 0" in said and f"perfbench plot tuning {out}" in said


def test_a_row_stands_for_its_training_and_for_no_other(halved, tmp_path, monkeypatch):
    """Folders are gone, as after a fresh checkout; some rows are missing, as after a kill."""
    out = tmp_path / "search"
    rows = timeless(table(halved[0]))
    shutil.copytree(halved[0].parent / "alike", tmp_path / "alike")
    out.mkdir()
    shutil.copy(halved[0] / "trainings.csv", out)
    monkeypatch.setattr(sys, "argv", ["perfbench", *words(out)])
    assert run(sys.argv[1:]) == 0
    assert timeless(table(out)) == rows and not fits(out)
    assert timeless(table(out, "settings")) == timeless(table(halved[0], "settings"))
    lines = (out / "trainings.csv").read_text().splitlines(keepends=True)
    stale = lines[1].replace(",lora,01,", ",lora,09,")
    assert stale != lines[1]
    (out / "trainings.csv").write_text("".join([lines[0], *lines[2:], stale]))
    assert run(sys.argv[1:]) == 0
    assert timeless(table(out)) == rows and len(fits(out)) == 1, "only what is missing is made"
    assert run(words(out, "--rounds", "1x1")) == 0
    assert table(out)[0]["search"].startswith("1x1 seed=0"), "rows of another search do not stand"
    shutil.rmtree(out / "runs")
    assert run(words(out, "--rounds", "1x1", "--set", "fit.lora.steps=2")) == 0
    [row] = table(out)
    assert len(fits(out)) == 1 and row["fit"] != rows[0]["fit"], "nor those of another recipe"


def test_scores_are_those_of_the_rows_from_floor_to_ceiling(halved):
    out, _ = halved
    for row in table(out):
        rows = read_rows(out / "runs" / "lora" / row["setting"])
        mine = rows[rows["concept"] == row["concept"]]
        means = mine.groupby("method")[["image_sim", "text_sim_raw"]].mean()
        floor, ceiling = means.loc["super", "image_sim"], means.loc["real", "image_sim"]
        share = (means.loc["lora", "image_sim"] - floor) / (ceiling - floor)
        text = means.loc["lora", "text_sim_raw"] / means.loc["super", "text_sim_raw"]
        assert float(row["image_floor_to_ceiling"]) == pytest.approx(share, abs=2e-6)
        assert float(row["text_sim"]) == pytest.approx(text, abs=2e-6)
        both = 2 * share * text / (share + text) if min(share, text) > 0 else 0.0
        assert float(row["harmonic_floor_to_ceiling"]) == pytest.approx(both, abs=2e-6)


def test_what_picks_steps_scores_and_the_reported_weights_decide_nothing(halved):
    out, _ = halved
    for place in (out / "runs" / "lora").iterdir():
        about = json.loads((place / "run.json").read_text())
        [scorer] = about["scorers"]
        assert scorer["weights"] == about["select_scorer"]["weights"]
        assert scorer["name"].startswith("scorer2") or "scorer2" in scorer["name"]
        assert [path.name for path in (place / "rows").iterdir()] == [scorer["name"]]
        assert about["methods"]["lora"]["select"] is True
    for row in table(out):
        [place] = (out / "runs" / "lora" / row["setting"]).glob(f"fits/lora/{row['concept']}-*")
        about = json.loads((place / "fit.json").read_text())
        assert about["steps"] == int(row["step"]) and len(about["validation"]) == 2
        assert float(row["train_seconds"]) == pytest.approx(about["seconds"], abs=1e-3)


def test_pictures_of_plain_words_are_drawn_once(halved):
    out, _ = halved
    one, two = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (out / f"runs/lora/{n}/images/super/default/cat" for n in ("01", "02"))
    )
    # with the seconds in their manifests, which a second drawing would not repeat
    assert one == two and len(one) == 2 * 2
    fits_of = [list((out / f"runs/lora/{n}").glob("images/lora/default/cat/*")) for n in (
        "01", "02")]  # fmt: skip
    assert [len(found) for found in fits_of] == [2, 2]


def test_settings_and_expected_performance_are_tables(halved):
    out, _ = halved
    settings = table(out, "settings")
    assert [row["setting"] for row in settings] == ["01", "02"]
    [best] = [row for row in settings if row["best"] == "yes"]
    assert best["chosen"] == "yes" and best["concepts"] == "2"
    assert all(row["command"].startswith("perfbench tune --halving") for row in settings)
    expected = table(out, "expected")
    first = sorted(float(row["harmonic_floor_to_ceiling"]) for row in table(out)[:2])
    assert float(expected[0]["expected"]) == pytest.approx(sum(first) / 2, abs=1e-6)
    assert float(expected[1]["expected"]) == pytest.approx(
        first[0] / 4 + 3 * first[1] / 4, abs=1e-6
    )


def test_methods_keep_the_command_by_which_they_were_searched(halved, tmp_path):
    """And tables are of the rows as they are written, whoever trained them."""
    out, _ = halved
    shutil.copy(out / "settings.csv", tmp_path)
    rows = records(read_trainings(out / "trainings.csv"))
    both = [*rows, *({**row, "method": "ti", "train_seconds": 0.12349} for row in rows)]
    write_tables(tmp_path, both, (halving.Round(2, 1), halving.Round(1, 2)), ["ti"])
    mine = table(tmp_path, "settings")
    assert [row for row in mine if row["method"] == "lora"] == table(out, "settings")
    theirs = [row for row in mine if row["method"] == "ti"]
    assert len(theirs) == len(mine) - len(theirs) > 0
    assert not {row["command"] for row in theirs} & {
        row["command"] for row in table(out, "settings")
    }
    seconds = {row["train_seconds"] for row in theirs}
    assert seconds <= {f"{0.123 * many:g}" for many in (1, 2)}


def test_another_search_in_the_same_folder_is_refused(halved):
    out, _ = halved
    with pytest.raises(UserError) as caught:
        run(words(out, "--methods", "ti", "--rounds", "1x1"))
    assert "another search (2x1,1x2 seed=0 prompts=2 images=1 steps=2, not 1x1 " in str(
        caught.value
    )


def test_trainings_that_diverge_are_rows_without_scores_and_are_not_tried_again(tmp_path, capsys):
    file = tmp_path / "hot.py"
    file.write_text(
        LORA.replace('LABEL, VERSION = "lora"', 'LABEL, VERSION = "hot"').replace(
            'TUNED = ("lr",)', 'TUNED = ("lr",)\nTUNED_RANGES = {"lr": (1e30, 1e31)}'
        )
    )
    more = ("--methods", "hot", "--method-file", str(file), "--set", "fit.hot.steps=4")
    call = words(tmp_path / "search", *more)
    assert run(call) == 0
    rows = table(tmp_path / "search")
    assert [row["setting"] for row in rows] == ["01", "02"]
    assert all(1e30 <= float(row["rates"].removeprefix("lr=")) <= 1e31 for row in rows)
    assert {row["image_sim"] for row in rows} == {row["step"] for row in rows} == {""}
    assert "hot: every setting diverged" in capsys.readouterr().out
    failures = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "search").glob("runs/*/*/failed/*")
    }
    assert failures and run(call) == 0
    assert {path: path.stat().st_mtime_ns for path in failures} == failures


# ---- what is drawn ----


def test_rates_are_drawn_log_uniformly_around_the_recipes():
    of_lora = searched("lora", miniature=True)
    published, used = lora.Config().lr, lora.MINIATURE.lr
    assert of_lora.ranges == {"lr": (published / 4, used * 4)}
    drawn = [one.rates["lr"] for one in of_lora.settings(400, seed=0)]
    low, high = map(math.log, of_lora.ranges["lr"])
    shares = sorted((math.log(rate) - low) / (high - low) for rate in drawn)
    # Kolmogorov's distance to the uniform; 1.63 / sqrt(n) is passed by one sample of a hundred
    apart = max(abs(share - (n + 0.5) / 400) for n, share in enumerate(shares))
    assert apart < 1.63 / math.sqrt(400) and shares[0] > 0 and shares[-1] < 1


def test_a_seed_gives_the_same_settings_and_more_begin_with_them():
    both = searched("perfusion", miniature=True)
    assert both.ranges["lr_embedding"] == (0.0015 / 4, 0.006 * 4)
    few, many = both.settings(4, seed=0), both.settings(16, seed=0)
    assert few == many[:4] and few != both.settings(4, seed=1)
    assert len({one.rates["lr"] for one in many}) == 16
    drawn = pd.DataFrame([one.rates for one in both.settings(200, seed=0)])
    assert abs(drawn.rank().corr().iloc[0, 1]) < 0.2, "each rate is drawn for itself"


@pytest.mark.parametrize("seed", range(5))
def test_few_settings_leave_no_gap(seed):
    """Independent draws of eight left five sixths of a range to two of them."""
    for count in (4, 8, 16):
        for axis in zip(*places(3, count, seed)):
            assert sorted(int(share * count) for share in axis) == list(range(count))
    assert places(3, 5, seed) == places(3, 16, seed)[:5]
    assert [one[0] for one in places(1, 8, seed)] == [one[0] for one in places(3, 8, seed)]
    assert places(1, 8, seed) != places(1, 8, seed + 1)


def test_the_published_rates_can_be_the_first_setting(tmp_path):
    of_lora = searched("lora", miniature=True, published_too=True)
    assert of_lora.ranges == {"lr": (lora.MINIATURE.lr / 8, lora.MINIATURE.lr * 8)}
    with_it = of_lora.settings(9, seed=0, published=True)
    assert with_it[0].number == "00" and with_it[0].rates == {"lr": lora.Config().lr}
    assert lora.Config().lr != lora.MINIATURE.lr, "else the test says nothing"
    assert with_it[1:] == of_lora.settings(8, seed=0)
    out = tmp_path / "search"
    assert run(words(out, "--rounds", "1x1", "--published")) == 0
    [row] = table(out)
    assert row["setting"] == "00" and row["rates"] == f"lr={lora.Config().lr:g}"
    assert row["search"].startswith("1x1 published seed=0")
    [about] = [json.loads(path.read_text()) for path in out.glob("runs/lora/00/run.json")]
    assert about["methods"]["lora"]["config"]["lr"] == lora.Config().lr


@pytest.mark.parametrize("method", methods.tuned())
def test_the_published_and_the_used_recipe_lie_within(method):
    module = methods.load_method(method)
    for recipe, miniature in ((module.Config(), False), (module.MINIATURE, True)):
        for rate, (low, high) in searched(method, miniature).ranges.items():
            assert low < getattr(recipe, rate) < high
            assert low < getattr(module.Config(), rate) < high


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rounds", "1x1,2x2"), "2 settings after 1"),
        (("--rounds", "2x1,1x4"), "asks for 4 concepts and the suite has 3"),
        (
            ("--rounds", "2x1,1x2", "--set", "concepts=mug"),
            "asks for 2 concepts and the suite has 1",
        ),
        (("--methods", "cd-better"), "cd-better says no TUNED"),
        (("--methods", "super"), "names nothing to tune"),
        (("--methods", "nothing"), "unknown method 'nothing'"),
        (("--factors", "1,2"), "--factors is not of --halving"),
        (("--rounds", "2x1,1x4", "--published"), "asks for 4 concepts"),
    ],
)
def test_mistakes(more, message, tmp_path):
    out = tmp_path / "search"
    with pytest.raises(UserError) as caught:
        run(["tune", "--halving", "--suite", "tuning", "--out", str(out), *more])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("more", [["--rounds", "2x1"], ["--published"]])
def test_what_is_of_halving_is_refused_without_it(more):
    with pytest.raises(UserError, match=f"{more[0]} is of --halving"):
        run(["tune", *more])
