"""`--trained`: a run that is given trained files copies them instead of training, and draws what the other run drew."""

import json
import shutil
from pathlib import Path

import pytest
from run_kit import copy_of_reference, reference, run_here, shared
from safetensors.torch import load_file, save_file

from benchmarks.store import read_json, read_run, read_weights
from perfusion_core.errors import UserError


def pictures(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.glob("images/perfusion/**/*.png")}


def pixels(run: Path) -> dict[str, bytes]:
    from PIL import Image

    return {name: Image.open(run / name).tobytes() for name in pictures(run)}


def concept_files(folder: Path) -> Path:
    """cat.safetensors, teapot.safetensors, as people pass them on."""
    folder.mkdir()
    for path in reference().glob("fits/perfusion/*/concept.safetensors"):
        shutil.copyfile(path, folder / f"{path.parent.name.split('-')[0]}.safetensors")
    return folder


def test_another_runs_fits_draw_the_same_pictures_and_nothing_is_trained(tmp_path):
    out = tmp_path / "run"
    assert run_here(shared(), out, "--trained", f"perfusion={reference()}") == 0
    assert pixels(out) == pixels(reference())
    mine, theirs = (read_json(next(run.glob("fits/perfusion/cat-*/fit.json"))) for run in (out, reference()))
    assert mine["losses"] == theirs["losses"], "what the training told is told again"
    assert mine["key"] != theirs["key"] and "given" in mine
    assert read_weights(out) == read_weights(reference())
    assert read_run(out)["protocol"]["trained"] == [f"perfusion={reference()}"]
    assert "trained" not in read_run(reference())["protocol"], "folders of ordinary runs keep their names"


def test_concept_files_in_a_folder_and_a_folder_a_concept_are_the_same(tmp_path):
    flat = concept_files(tmp_path / "flat")
    deep = tmp_path / "deep"
    for path in flat.glob("*.safetensors"):
        (deep / path.stem).mkdir(parents=True)
        shutil.copyfile(path, deep / path.stem / "concept.safetensors")
    for place in (flat, deep):
        assert run_here(shared(), tmp_path / f"run-{place.name}", "--trained", f"perfusion={place}") == 0
    assert pictures(tmp_path / "run-flat") == pictures(tmp_path / "run-deep"), "the same keys"
    assert pixels(tmp_path / "run-flat") == pixels(reference())


def test_another_file_under_the_same_name_is_drawn_again(tmp_path):
    flat, out = concept_files(tmp_path / "flat"), tmp_path / "run"
    call = ["--trained", f"perfusion={flat}"]
    assert run_here(shared(), out, *call) == 0
    before = pixels(out)
    tensors = {name: tensor + 0.5 for name, tensor in load_file(flat / "cat.safetensors").items()}
    from safetensors import safe_open

    with safe_open(flat / "cat.safetensors", "pt") as file:
        save_file(tensors, flat / "cat.safetensors", file.metadata())
    assert run_here(shared(), out, *call) == 0
    after = pixels(out)
    assert {name.split("/")[3] for name in before if before[name] != after[name]} == {"cat"}


def test_variants_at_run_time_share_the_files_and_others_are_trained(tmp_path):
    out = tmp_path / "run"
    names = "perfusion,perfusion-infer-temperature,perfusion-no-mask"
    points = "points.perfusion-infer-temperature=local-b0.60-t0.10"
    given = f"perfusion={reference()}"
    assert run_here(shared(), out, "--methods", names, "--set", points, "--trained", given, "--concepts", "cat") == 0
    fits = [read_json(path) for path in sorted(out.glob("fits/perfusion/cat-*/fit.json"))]
    assert sorted("given" in about for about in fits) == [False, True]
    weights = read_weights(out)
    assert weights["perfusion-infer-temperature"] == weights["perfusion"] != weights["perfusion-no-mask"]


def test_mistakes_are_one_sentence(tmp_path):
    def said(given: str, *more: str) -> str:
        with pytest.raises(UserError) as caught:
            run_here(shared(), tmp_path / "run", "--trained", given, *more)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert "METHOD=PLACE" in said("perfusion")
    assert "trains perfusion, not cd" in said(f"cd={reference()}")
    assert "not super" in said(f"super={reference()}")
    assert "twice" in said(f"perfusion={reference()},perfusion={tmp_path}")
    assert "no trained files of perfusion for cat there" in said(f"perfusion={tmp_path / 'nowhere'}")
    only = concept_files(tmp_path / "flat")
    (only / "cat.safetensors").unlink()
    assert "for cat there (there are teapot)" in said(f"perfusion={only}")
    assert "no state of step 5" in said(f"perfusion={reference()}", "--set", "keep=5")


def test_kept_states_come_along(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    call = ["--concepts", "cat", "--set", "keep=5", "--set", "points.perfusion=local-b0.60-t0.15-s5"]
    assert run_here(shared(), first, *call) == 0
    assert run_here(shared(), second, *call, "--trained", f"perfusion={first}") == 0
    assert pixels(second) == pixels(first)


def test_a_damaged_run_has_nothing_to_give(tmp_path):
    """Its plan still names the fit; a file that is not what was published must not be drawn with."""
    run = copy_of_reference(tmp_path / "other")
    fit = next(run.glob("fits/perfusion/cat-*"))
    about = json.loads((fit / "fit.json").read_text())
    assert "concept.safetensors" in about["files"]
    (fit / "concept.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="damaged"):
        run_here(shared(), tmp_path / "run", "--trained", f"perfusion={run}")
