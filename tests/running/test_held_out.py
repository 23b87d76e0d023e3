"""Held-out pictures and variety in run folders: known answers by the miniature's own scorer, and
measures added to a run that is finished.
"""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image
from run_kit import arguments, copy_of_reference, environment, reference, run_here, shared

from benchmarks import cli
from benchmarks.disk import verified
from benchmarks.paths import data_dir
from benchmarks.store.csv_files import read_rows_file
from benchmarks.store.run_folder import Store, concept_pictures
from benchmarks.suite.concept_folder import read_concept
from benchmarks.suite.image_files import numbered
from perfusion_core.errors import UserError

CONCEPTS = ("cat", "teapot")
PROMPTS = ("s01", "s02")
IMAGES = 4


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    """Three methods made elsewhere: one pastes training pictures, one draws a held-out picture
    again and again, one pastes each held-out picture once.
    """
    home = tmp_path_factory.mktemp("pasted")
    for concept in CONCEPTS:
        folder = data_dir("concepts") / concept
        trained, heldout = (sorted((folder / part).glob("*.png")) for part in ("images", "heldout"))
        methods = {
            "paste": trained[:IMAGES],
            "stuck": heldout[:1] * IMAGES,
            "others": heldout[:IMAGES],
        }
        for method, files in methods.items():
            for prompt in PROMPTS:
                for index, file in enumerate(files):
                    place = home / method / concept / prompt / f"{index}.png"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place)
    out = home / "run"
    for method in methods:
        words = ["import", str(home / method), "--as", method, "--out", str(out)]
        words += ["--suite", "miniature", "--backbone", "miniature"] * (not out.is_dir())
        assert cli.run([*words, "--device", "cpu", "--allow-missing"]) == 0
    return out


def test_a_method_that_pastes_is_found_out(pasted):
    table = pd.read_csv(pasted / "table.csv").set_index("method")
    paste, others = table.loc["paste"], table.loc["others"]
    assert paste["nearer"] == 1 and others["nearer"] == 0
    assert paste["copy_gap"] > 0 > others["copy_gap"]
    # who looks at likeness to the training pictures alone calls the one that pastes the better
    assert paste["image_sim"] > max(others["image_sim"], table.loc["real", "image_sim"])
    assert others["image_sim_heldout"] > paste["image_sim_heldout"]


def test_the_same_picture_again_and_again(pasted):
    table = pd.read_csv(pasted / "table.csv").set_index("method")
    assert table.loc["stuck", ["variety", "vendi"]].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert table.loc["others", "variety"] > 0 and 1 < table.loc["others", "vendi"] <= IMAGES
    text = (pasted / "table.md").read_text()
    assert "# Beyond the protocol" in text and "vendi: Vendi score" in text


def test_the_run_folder_has_the_pictures_by_themselves(pasted):
    """Fits and scores of likeness read a concept's own: these do not stand among them."""
    store = Store(pasted)
    for name in CONCEPTS:
        whole = json.loads((store.concept(name) / "concept.json").read_text())
        assert not any("heldout" in file for file in whole["files"])
        concept = read_concept(data_dir("concepts") / name)
        assert len(concept_pictures(pasted, name)) == len(concept.images)
        own = json.loads((store.heldout(name) / "heldout.json").read_text())
        assert verified(store.heldout(name), "heldout.json", own["key"])
        assert len(numbered(store.heldout(name))) == len(concept.heldout) == 8


def test_other_held_out_pictures_are_refused(pasted, tmp_path):
    store = Store(pasted)
    with pytest.raises(UserError, match="has other held-out pictures of cat"):
        store.publish_heldout("cat", "0" * 64, lambda folder: None)


def test_damaged_ones_are_not_scored_by(pasted, tmp_path):
    shutil.copytree(pasted, tmp_path / "run")
    shutil.copyfile(pasted / "concepts/cat/0.png", tmp_path / "run/concepts/cat/heldout/3.png")
    with pytest.raises(UserError, match="heldout is damaged; remove it"):
        cli.run(["score", str(tmp_path / "run"), "--again", "--device", "cpu"])
    shutil.rmtree(tmp_path / "run/concepts/cat/heldout")
    assert cli.run(["score", str(tmp_path / "run"), "--measures", "--device", "cpu",
                    "--allow-missing"]) == 0  # fmt: skip
    assert len(numbered(tmp_path / "run/concepts/cat/heldout")) == 8


# ---- a run that is there ----


def suite_with_held_out(folder):
    """The concepts of the reference run, each with two pictures more that were held out."""
    shutil.copytree(shared() / "concepts", folder)
    for concept in folder.iterdir():
        (concept / "heldout").mkdir()
        for index in range(2):
            colour = (60 + 90 * index, 20, 200)
            Image.new("RGB", (16, 16), colour).save(concept / "heldout" / f"{index}.png")
    return folder


def test_a_finished_run_gets_measures_when_asked(tmp_path, capsys):
    """Scores, keys and pictures stay; without the flag nothing is computed again."""
    run = copy_of_reference(tmp_path / "run")
    scorer = next((run / "rows").iterdir()).name
    store = Store(run)
    files = sorted((run / "rows" / scorer).rglob("*.csv"))
    for file in files:  # as an earlier version left them
        rows = [{k: v for k, v in row.items() if k not in ("variety", "vendi")}
                for row in read_rows_file(file)]  # fmt: skip
        store.write_rows(file, rows)
    old = {file: file.read_bytes() for file in files}
    assert cli.run(["score", str(run), "--device", "cpu"]) == 0
    assert {file: file.read_bytes() for file in files} == old
    about = json.loads((run / "run.json").read_text())
    about["config"]["suite"] = str(suite_with_held_out(tmp_path / "suite"))
    (run / "run.json").write_text(json.dumps(about))
    capsys.readouterr()
    assert cli.run(["score", str(run), "--measures", "--device", "cpu"]) == 0
    assert "without held-out" not in capsys.readouterr().err
    for file in files:
        before = old[file].decode().splitlines()[:-1]
        after = file.read_text().splitlines()[:-1]
        assert len(before) == len(after)
        assert all(new.startswith(was) for was, new in zip(before, after)), file
    table = pd.read_csv(run / "table.csv")
    assert table.loc[table["kind"] == "method", "image_sim_heldout"].notna().all()
    assert table.loc[table["kind"] == "ceiling", "copy_gap"].notna().all()
    again = {file: file.read_bytes() for file in files}
    stamp = {file: file.stat().st_mtime_ns for file in files}
    assert cli.run(["score", str(run), "--measures", "--device", "cpu"]) == 0
    assert {file: file.stat().st_mtime_ns for file in files} == stamp and again


def test_held_out_pictures_change_no_key(tmp_path):
    """A run of a suite that holds some out plans the same cells and fits."""
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "tiny").symlink_to(shared() / "tiny")
    suite_with_held_out(kit / "concepts")
    words = [*arguments(kit, tmp_path / "new"), "--dry-run"]
    assert environment() and cli.run(["run", *words]) == 0
    assert run_here(kit, tmp_path / "new", "--methods", "super") == 0
    plan = (tmp_path / "new" / "plan.csv").read_text().splitlines()
    assert {line for line in plan if line.startswith("super")} <= {
        *(reference() / "plan.csv").read_text().splitlines()
    }
    table = pd.read_csv(tmp_path / "new" / "table.csv")
    assert table["image_sim_heldout"].notna().all()
