"""Drift as users measure it: a method that changes nothing, one that changes all, and everything
around it that must not move.
"""

import json
import shutil
from pathlib import Path

import drift_kit
import numpy as np
import pandas as pd
import pytest
from drift_kit import POINTS, words_of
from PIL import Image
from run_kit import arguments, content, make_scorer, run_here, shared

from benchmarks import cli
from benchmarks.running.missing_rows import Scoring
from benchmarks.running.rescore import scorable
from benchmarks.store.csv_files import read_plan_file
from benchmarks.store.reading import read_cells, read_plan, read_planned
from benchmarks.store.run_folder import Store
from benchmarks.suite.drift_kinds import PLAIN
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def flood():
    return drift_kit.flood_file()


@pytest.fixture(scope="module")
def run():
    return drift_kit.drift_run()


@pytest.fixture(scope="module")
def without():
    return drift_kit.plain_run()


def table_of(run):
    return pd.read_csv(run / "table.csv").set_index(["method", "point"])


def moved(run, point, concept, prompt):
    """Root mean square of pixels, by a loop over two pictures."""
    far = []
    for index in range(2):
        places = (f"flood/{point}/{concept}", f"super/default/{PLAIN}")
        one, other = (
            np.asarray(Image.open(run / "images" / place / prompt / f"{index}.png"), float)
            for place in places
        )
        far.append(float(np.sqrt((((one - other) / 255) ** 2).mean())))
    return sum(far) / 2


def test_who_changes_nothing_has_none_and_who_changes_all_has_much(run):
    table = table_of(run)
    still, far = (table.loc[("flood", point)] for point in POINTS)
    measures = ["drift", "drift_class", "drift_pixels"]
    for name in ["drift_worst", *(f"{one}{end}" for one in measures for end in ("", "_lo", "_hi"))]:
        assert still[name] == 0, name
    assert far["drift_pixels"] > 0.1 and far["drift"] > 0.01 and far["drift_class"] > 0.01
    assert far["drift_worst"] > far["drift"] > 0
    assert table.loc[("super", "default"), measures].isna().all()


def test_numbers_are_those_of_the_pictures(run):
    prompts = [f"drift.u{number:02d}" for number in range(1, 11)]
    means = [
        np.mean([moved(run, POINTS[1], concept, prompt) for prompt in prompts])
        for concept in ("cat", "teapot")
    ]
    found = table_of(run).loc[("flood", POINTS[1])]
    assert found["drift_pixels"] == pytest.approx(np.mean(means), abs=2e-6)
    metrics = pd.read_csv(run / "metrics.csv").set_index(["point", "concept"])
    for concept, mean in zip(("cat", "teapot"), means):
        assert metrics.loc[(POINTS[1], concept), "drift_pixels"] == pytest.approx(mean, abs=1e-6)
    cells = pd.read_csv(run / "cells.csv")
    mine = cells[(cells["metric"] == "drift") & (cells["point"] == POINTS[1])]
    assert found["drift"] == pytest.approx(mine["mean"].mean(), abs=2e-6)
    worst = mine.groupby("prompt_id")["mean"].mean().max()
    assert found["drift_worst"] == pytest.approx(worst, abs=2e-6)


def test_nothing_of_the_protocol_moves(run, without):
    """Pictures, counts, means and plans are those of a run without it."""
    ours, theirs = content(run), content(without)
    for name, data in theirs.items():
        if name.endswith(".png"):
            assert ours[name] == data, name
    measures = ["drift", "drift_class", "drift_pixels"]
    for name in ("table.csv", "metrics.csv"):
        both = [pd.read_csv(folder / name) for folder in (run, without)]
        more = both[0].columns.difference(both[1].columns)
        assert all(one.startswith("drift") for one in more) and len(more) >= 3
        kept = both[0][both[1].columns].drop(columns="train_seconds", errors="ignore")
        pd.testing.assert_frame_equal(kept, both[1].drop(columns="train_seconds", errors="ignore"))
    assert (run / "samples.csv").read_bytes() == (without / "samples.csv").read_bytes()
    cells = pd.read_csv(run / "cells.csv", dtype=str, keep_default_na=False)
    cells = cells[~cells["metric"].isin(measures)]
    assert cells.to_csv(index=False) == (without / "cells.csv").read_text()
    assert read_planned(run) == read_planned(without)
    assert read_plan(run).equals(read_plan(without))
    assert len(read_cells(run, drift=True)) == len(read_cells(run)) + 12 + 2 * 2 * 11
    assert not (without / "images" / "super" / "default" / PLAIN).exists()


def test_plan_tells_them_on_a_line_of_their_own(run, flood, tmp_path, capsys):
    def told(out, *more):
        words = arguments(shared(), out, *words_of(flood, *more))
        assert cli.run(["plan", *words]) == 0
        text = capsys.readouterr().out
        assert cli.run(["plan", *words, "--json"]) == 0
        return text, json.loads(capsys.readouterr().out)

    new = tmp_path / "new"
    text, about = told(new, "--drift")
    plain, bare = told(new, "--no-drift")
    assert about["total"] == bare["total"] and "drift" not in plain and "drift" not in bare
    line = "beside these, for drift: 0/112 images, 24 of them by the backbone alone"
    assert line in text.splitlines()
    assert about["drift"] == {"images": 112, "images_done": 0, "plain": 24}
    assert told(run, "--drift")[1]["drift"]["images_done"] == 112
    assert told(new)[0] == plain  # the micro preset has none


def test_an_interrupted_run_ends_with_the_same_bytes(run, flood, tmp_path):
    out = tmp_path / "run"
    words = words_of(flood, "--drift", "--limit", "30")
    for _ in range(10):
        assert run_here(shared(), out, *words) == 0
        if (out / "table.csv").exists():
            break
    assert content(out) == content(run)
    assert not json.loads((out / "run.json").read_text())["failures"]


def test_a_finished_run_draws_only_what_is_missing(run, without, flood, tmp_path, capsys):
    out = shutil.copytree(without, tmp_path / "run")
    about = json.loads((out / "run.json").read_text())
    for config in (about["config"], *(one["config"] for one in about["commands"])):
        del config["drift"]  # as earlier versions wrote it
    (out / "run.json").write_text(json.dumps(about))
    assert run_here(shared(), out, *words_of(flood)) == 0
    assert "nothing new" in capsys.readouterr().err
    assert run_here(shared(), out, *words_of(flood, "--drift")) == 0
    assert "56 cells in" in capsys.readouterr().err
    assert content(out) == content(run)
    before = (out / "table.csv").read_bytes()
    assert run_here(shared(), out, *words_of(flood, "--no-drift")) == 0
    assert "nothing new" in capsys.readouterr().err
    assert (out / "table.csv").read_bytes() == before


def test_rows_that_are_lost_are_made_again(run, flood, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    [file] = (out / "rows").glob(f"*/flood/{POINTS[1]}/cat.csv")
    file.unlink()
    shutil.rmtree(out / "images" / "super" / "default" / PLAIN)
    assert run_here(shared(), out, *words_of(flood, "--drift")) == 0
    # nobody needs the plain pictures of a class word whose drift has its rows
    kept = {
        name: data
        for name, data in content(run).items()
        if f"{PLAIN}/drift.class-teapot" not in name
    }
    assert content(out) == kept
    assert cli.run(["score", str(out), "--again", "--device", "cpu"]) == 0
    assert content(out) == kept


def test_rows_alone_are_enough(run, flood, tmp_path, capsys):
    """As in a committed run: neither its pictures nor the plain backbone's are drawn again."""
    out = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(out / "images")
    assert run_here(shared(), out, *words_of(flood, "--drift")) == 0
    assert "nothing new" in capsys.readouterr().err and not (out / "images").exists()


def test_its_scored_pictures_go_on_request(run, flood, tmp_path, capsys):
    """The plain backbone's only once everything is compared with them."""
    out = shutil.copytree(run, tmp_path / "run")
    plain = out / "images" / "super" / "default" / PLAIN
    [file] = (out / "rows").glob(f"*/flood/{POINTS[1]}/cat.csv")
    kept = file.rename(tmp_path / "kept.csv")
    assert cli.run(["clean", str(out), "--images", "--yes"]) == 0
    left = {path.parent.relative_to(out / "images") for path in out.glob("images/*/*/*/*/*.png")}
    assert {path.parts[2] for path in left} == {PLAIN, "cat"}
    waiting = [path.name for path in left if path.parts[2] == "cat" and "drift" in path.name]
    assert waiting and {path.name for path in plain.iterdir()} >= {*waiting}
    kept.rename(file)
    assert cli.run(["clean", str(out), "--images", "--yes"]) == 0
    assert not list(out.glob("images/*/*/*/*/*.png"))
    assert run_here(shared(), out, *words_of(flood, "--drift")) == 0
    assert "nothing new" in capsys.readouterr().err


def test_a_part_of_it_is_no_table(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    [file] = (out / "rows").glob(f"*/flood/{POINTS[1]}/cat.csv")
    lines = file.read_text().splitlines()
    from benchmarks.store.csv_files import with_digest

    kept = [line for line in lines[:-1] if "drift.u03" not in line]
    file.write_bytes(with_digest(("\n".join(kept) + "\n").encode()))
    with pytest.raises(UserError, match="2 of 88 planned images that measure drift have no score"):
        cli.run(["table", str(out)])
    assert cli.run(["table", str(out), "--allow-missing"]) == 0


def test_lost_pictures_of_the_plain_backbone_leave_the_rest(run, tmp_path):
    """Scoring draws nothing, waits for nothing, and what it cannot compare is not in the way."""
    out = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(out / "images" / "super" / "default" / PLAIN)
    before = content(out)
    assert cli.run(["score", str(out), "--again", "--device", "cpu"]) == 0
    assert content(out) == before


def test_another_scorer_has_a_column_of_its_own(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    scorer = make_scorer(tmp_path / "other", 5)
    assert cli.run(["score", str(out), "--scorers", str(scorer), "--device", "cpu"]) == 0
    name = json.loads((out / "run.json").read_text())["scorers"][1]["name"]
    table = table_of(out)
    assert table.loc[("flood", POINTS[0]), f"drift_{name}"] == 0
    assert table.loc[("flood", POINTS[1]), f"drift_class_{name}"] > 0
    assert f"drift_pixels_{name}" not in table  # no scorer's


def test_nobody_is_asked_about_it(run):
    """Ratings and judges are of the protocol's pictures."""
    store = Store(run)
    cells, gone = scorable(store)
    assert gone == 0 and len(cells) == len(read_planned(run))
    assert not any(cell.drifts for cell in cells)
    drawn = scorable(store, drift=True)[0]
    assert sum(cell.drifts for cell in drawn) == 56
    scoring = Scoring(store, drawn, {}, ["judge-of-tests"])
    assert {cell.key for cell in scoring.lacking_cells("judge-of-tests")} == {
        cell.key for cell in cells
    }


def test_other_measures_do_not_wait_for_it(run, tmp_path):
    """Its rows lack no measure of the protocol's pictures: nothing is scored again."""
    out = shutil.copytree(run, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/flood/*/*.csv")}
    assert before and cli.run(["score", str(out), "--measures", "--device", "cpu"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_suite_without_unrelated_prompts_is_told(tmp_path, capsys):
    suite = shutil.copytree(shared() / "concepts", tmp_path / "suite")
    prompts = suite / "prompts"
    prompts.mkdir()
    (prompts / "prompts.csv").write_text("id,kind,group,template\np1,shape,all,A {} in the snow\n")
    more = ("--suite", str(suite), "--methods", "super", "--drift", "--no-cache")
    assert run_here(shared(), tmp_path / "run", *more) == 0
    told = capsys.readouterr()
    assert "has no unrelated prompts (a drift.csv in its folder)" in told.err
    assert "drift" not in pd.read_csv(tmp_path / "run" / "table.csv")


def test_its_own_texts_are_a_name_for_one_thing(tmp_path, flood):
    suite = shutil.copytree(shared() / "concepts", tmp_path / "suite")
    (suite / "drift.csv").write_text("id,text\none,A car on the road\n")
    words = [*words_of(flood, "--drift"), "--suite", str(suite)]
    out: Path = tmp_path / "run"
    assert run_here(shared(), out, *words) == 0
    assert {row["prompt_id"] for row in read_plan_file(out / "plan.csv") or ()} >= {"drift.one"}
    (suite / "drift.csv").write_text("id,text\none,A bird on the road\n")
    with pytest.raises(UserError, match=r"prompt drift\.one"):
        run_here(shared(), out, *words)
