"""`--trained`: a run that is given trained files copies them instead of training, and draws what
the other run drew.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_kit import copy_of_reference, reference, run_here, shared
from safetensors.torch import load_file, save_file

from benchmarks.disk import read_json
from benchmarks.planning.units import Method
from benchmarks.running import engines
from benchmarks.running import run as benchmark
from benchmarks.running.given_files import find_given
from benchmarks.store.reading import read_run, read_weights
from benchmarks.suite.catalog import load_catalog
from perfusion_core.errors import UserError


def pictures(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.glob("images/perfusion/**/*.png")
    }


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
    mine, theirs = (
        read_json(next(run.glob("fits/perfusion/cat-*/fit.json"))) for run in (out, reference())
    )
    assert mine["losses"] == theirs["losses"], "what the training told is told again"
    assert mine["key"] != theirs["key"] and "given" in mine
    assert read_weights(out) == read_weights(reference())
    assert read_run(out)["protocol"]["trained"] == [f"perfusion={reference()}"]
    assert "trained" not in read_run(reference())["protocol"], (
        "folders of ordinary runs keep their names"
    )


def test_concept_files_in_a_folder_and_a_folder_a_concept_are_the_same(tmp_path):
    flat = concept_files(tmp_path / "flat")
    deep = tmp_path / "deep"
    for path in flat.glob("*.safetensors"):
        (deep / path.stem).mkdir(parents=True)
        shutil.copyfile(path, deep / path.stem / "concept.safetensors")
    for place in (flat, deep):
        assert (
            run_here(shared(), tmp_path / f"run-{place.name}", "--trained", f"perfusion={place}")
            == 0
        )
    assert pictures(tmp_path / "run-flat") == pictures(tmp_path / "run-deep"), "the same keys"
    assert pixels(tmp_path / "run-flat") == pixels(reference())
    assert " s |" not in (tmp_path / "run-flat" / "table.md").read_text(), (
        "how long these were trained is not known"
    )
    assert " s |" in (reference() / "table.md").read_text()


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
    assert (
        run_here(
            shared(),
            out,
            "--methods",
            names,
            "--set",
            points,
            "--trained",
            given,
            "--concepts",
            "cat",
        )
        == 0
    )
    fits = [read_json(path) for path in sorted(out.glob("fits/perfusion/cat-*/fit.json"))]
    assert sorted("given" in about for about in fits) == [False, True]
    weights = read_weights(out)
    assert (
        weights["perfusion-infer-temperature"]
        == weights["perfusion"]
        != weights["perfusion-no-mask"]
    )


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
    assert "no trained files of perfusion for cat there" in said(
        f"perfusion={tmp_path / 'nowhere'}"
    )
    only = concept_files(tmp_path / "flat")
    (only / "cat.safetensors").unlink()
    assert "for cat there (there are teapot)" in said(f"perfusion={only}")
    assert "a run, or a folder with cat/" in said(f"perfusion={tmp_path / 'nowhere'}")
    at_5 = ["--set", "keep=5", "--set", "points.perfusion=local-b0.60-t0.15-s5"]
    assert "have no state of step 5" in said(f"perfusion={reference()}", *at_5)


def test_files_that_are_not_this_concept_are_refused(tmp_path):
    """Drawn with them, cat would be another cat, or no cat at all."""

    def said(place: Path) -> str:
        with pytest.raises(UserError) as caught:
            run_here(
                shared(), tmp_path / "run", "--concepts", "cat", "--trained", f"perfusion={place}"
            )
        return str(caught.value)

    flat = concept_files(tmp_path / "flat")
    shutil.copyfile(flat / "teapot.safetensors", flat / "cat.safetensors")
    assert "a concept of the kind 'teapot'; cat is a cat" in said(flat)
    save_file({"some": torch.zeros(3)}, flat / "cat.safetensors")
    assert "cat.safetensors is of no method that is known here, and a file of perf" in said(flat)
    (flat / "cat.safetensors").write_bytes(b"\0" * 100)
    assert "or it is damaged" in said(flat)
    run = copy_of_reference(tmp_path / "other")
    about = json.loads((run / "run.json").read_text())
    about["digests"]["concepts"]["cat"] = "0" * 16
    (run / "run.json").write_text(json.dumps(about))
    assert "that run's cat is another concept" in said(run)


def test_a_file_is_said_not_to_be_of_the_method_it_is_given_for(tmp_path):
    [cat] = load_catalog(shared() / "concepts").select_concepts("cat")
    p_plus = Method("xti", "xti", "1", True, False, {"steps": 10}, one_file="xti.safetensors")
    (tmp_path / "cat").mkdir()
    save_file({"IN01": torch.zeros(3)}, tmp_path / "cat" / "xti.safetensors")
    with pytest.raises(UserError, match="its header names no super_category") as caught:
        find_given([f"xti={tmp_path}"], [p_plus], [cat])
    assert "xti.safetensors is no xti.safetensors that xti trained" in str(caught.value)


def test_a_run_with_two_fits_of_one_concept_says_so(tmp_path):
    """As after a change of the recipe, when not all of its commands were given again."""
    run = copy_of_reference(tmp_path / "other")
    fit = next(run.glob("fits/perfusion/cat-*"))
    about = json.loads((fit / "fit.json").read_text())
    shutil.copytree(fit, fit.with_name(f"cat-{'f' * 8}"))
    (fit.with_name(f"cat-{'f' * 8}") / "fit.json").write_text(
        json.dumps({**about, "key": "f" * 64})
    )
    first, rest = (run / "plan.csv").read_text().split(about["key"], 1)
    (run / "plan.csv").write_text(first + "f" * 64 + rest)
    with pytest.raises(UserError, match="two different fits of perfusion for cat"):
        run_here(shared(), tmp_path / "run", "--trained", f"perfusion={run}")


def test_kept_states_come_along_and_another_one_is_drawn_again(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    call = [
        "--concepts",
        "cat",
        "--set",
        "keep=5",
        "--set",
        "points.perfusion=local-b0.60-t0.15-s5",
    ]
    assert run_here(shared(), first, *call) == 0
    assert run_here(shared(), second, *call, "--trained", f"perfusion={first}") == 0
    assert pixels(second) == pixels(first)
    flat, third = tmp_path / "flat", tmp_path / "third"
    shutil.copytree(
        next(first.glob("fits/perfusion/cat-*")), flat / "cat", ignore=lambda *_: ["fit.json"]
    )
    call += ["--trained", f"perfusion={flat}"]
    assert run_here(shared(), third, *call) == 0
    assert pixels(third) == pixels(first)
    shutil.copyfile(
        flat / "cat" / "concept.safetensors", flat / "cat" / "step-5" / "concept.safetensors"
    )
    assert run_here(shared(), third, *call) == 0
    assert pixels(third) != pixels(first), "the end is the same, the state of step 5 is not"


def test_what_changes_after_the_plan_is_not_drawn_with(tmp_path, monkeypatch):
    flat, out = concept_files(tmp_path / "flat"), tmp_path / "run"
    planned = benchmark.prepare_run

    def prepare(config):
        prepared = planned(config)
        shutil.copyfile(flat / "teapot.safetensors", flat / "cat.safetensors")
        return prepared

    monkeypatch.setattr(benchmark, "prepare_run", prepare)
    with pytest.raises(UserError, match=r"cat\.safetensors has changed since the run was planned"):
        run_here(shared(), out, "--trained", f"perfusion={flat}")
    assert not pictures(out)


def test_workers_in_another_folder_need_no_files(tmp_path, monkeypatch):
    """The place is relative to where the command was given; whoever draws sees the run folder
    only.
    """
    concept_files(tmp_path / "flat")
    monkeypatch.chdir(tmp_path)
    open_pool = engines.make_pool

    def make_pool(job, store):
        monkeypatch.chdir("/")
        return open_pool(job, store)

    monkeypatch.setattr(engines, "make_pool", make_pool)
    assert run_here(shared(), tmp_path / "run", "--trained", "perfusion=flat") == 0
    assert pixels(tmp_path / "run") == pixels(reference())


def test_pairs_need_files_of_both_and_only_of_methods_that_draw_pairs():
    """By the plan's own types: db cannot draw pairs, so nothing is asked of its files for them."""
    asked = []
    cat, teapot = load_catalog(shared() / "concepts").select_concepts("cat,teapot")
    methods = [
        Method(name, name, "1", True, False, {"steps": 10}, pairs=name != "db")
        for name in ("perfusion", "db")
    ]
    for name in ("perfusion", "db"):
        with pytest.raises(UserError) as caught:
            find_given([f"{name}=nowhere"], methods, [cat], [teapot])
        asked.append(str(caught.value))
    assert all("for cat there" in text for text in asked)
    found = find_given([f"perfusion={reference()}"], methods, [cat], [teapot])
    assert set(found) == {("perfusion", "cat"), ("perfusion", "teapot")}
    assert set(find_given([f"db={files_of_db()}"], methods, [cat], [teapot])) == {("db", "cat")}


def files_of_db() -> Path:
    """A folder as `perfbench fit db` leaves it, as far as a plan looks."""
    place = shared() / "db"
    (place / "cat" / "unet").mkdir(parents=True, exist_ok=True)
    save_file({"conv_in.bias": torch.zeros(3)}, place / "cat" / "unet" / "weights.safetensors")
    return place


def test_a_damaged_run_has_nothing_to_give(tmp_path):
    """Its plan still names the fit; a file that is not what was published must not be drawn
    with.
    """
    run = copy_of_reference(tmp_path / "other")
    fit = next(run.glob("fits/perfusion/cat-*"))
    about = json.loads((fit / "fit.json").read_text())
    assert "concept.safetensors" in about["files"]
    (fit / "concept.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="damaged"):
        run_here(shared(), tmp_path / "run", "--trained", f"perfusion={run}")
