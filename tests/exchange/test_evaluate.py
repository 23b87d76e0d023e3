"""`perfbench evaluate` as it is typed: files in, a run folder and its page out."""

import json
import shutil

import adapter_kit
import judge_kit
import numpy as np
import pandas as pd
import pytest
import torch
from run_kit import arguments, content, shared
from safetensors.torch import save_file

from benchmarks import cli
from perfusion_core.errors import UserError


def epoch(folder, number, scale, write=adapter_kit.diffusers_scripts):
    folder.mkdir(exist_ok=True)
    tensors = write(adapter_kit.matrices(scale, seed=number))
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, folder / f"my-{number:06}.safetensors"
    )


def evaluate(out, *words):
    return cli.run(["evaluate", *map(str, words), *arguments(shared(), out)])


@pytest.fixture(scope="module")
def epochs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("epochs")
    epoch(folder, 1, 0.01)
    epoch(folder, 2, 0.3, adapter_kit.kohya)
    return folder


CAT = ("--trigger", "sks {}", "--concept", "cat")


@pytest.fixture(scope="module")
def run(epochs, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "run"
    assert evaluate(out, epochs, *CAT) == 0
    return out


def test_each_file_is_a_method_of_the_run(run):
    table = pd.read_csv(run / "table.csv")
    assert set(table["method"]) == {"my-000001", "my-000002", "super", "real"}
    about = json.loads((run / "run.json").read_text())
    assert about["methods"]["my-000002"]["of"] == "adapter" and about["finished"]


def test_the_page_names_the_file_to_keep_beside_the_pictures(run):
    page = (run / "evaluation.md").read_text()
    assert page.startswith("# Which file to keep\n\nKeep my-00000")
    assert "(figures/evaluation.png)" in page and "`sks {}`" in page
    assert (run / "figures" / "evaluation.png").stat().st_size > 1000
    assert "my-000002" in (run / "index.html").read_text()


def test_the_same_again_draws_nothing_and_one_more_file_draws_its_own(run, epochs, tmp_path, capfd):
    out, more = tmp_path / "run", tmp_path / "epochs"
    shutil.copytree(run, out)
    shutil.copytree(epochs, more)
    before = {name: made for name, made in content(out).items() if name != "table.csv"}
    assert evaluate(out, more, *CAT) == 0
    assert "nothing new" in capfd.readouterr().err and content(out).items() >= before.items()
    epoch(more, 3, 0.1)
    assert evaluate(out, more, *CAT) == 0
    told = capfd.readouterr()
    assert "2 cells in" in told.err
    images = {k: v for k, v in before.items() if k.startswith(("images/", "fits/"))}
    assert content(out).items() >= images.items()
    assert "my-000003" in (out / "evaluation.md").read_text()


def test_a_file_that_was_trained_on_is_drawn_anew(run, epochs, tmp_path, capfd):
    out, more = tmp_path / "run", tmp_path / "epochs"
    shutil.copytree(run, out)
    shutil.copytree(epochs, more)
    epoch(more, 2, 0.5)
    assert evaluate(out, more, *CAT) == 0
    assert "2 cells in" in capfd.readouterr().err
    image = next(k for k in content(run) if k.startswith("images/my-000002/"))
    assert (run / image).read_bytes() != (out / image).read_bytes()


def test_a_folder_of_pipelines_and_a_word(epochs, tmp_path):
    """The other kinds; a dry run writes nothing."""
    from conftest import make_pipe

    make_pipe(3).save_pretrained(tmp_path / "all" / "checkpoint-10")
    save_file({"<cat>": torch.randn(2, 32)}, tmp_path / "w.safetensors")
    words = (tmp_path / "all", tmp_path / "w.safetensors", *CAT)
    assert evaluate(tmp_path / "run", *words, "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    assert evaluate(tmp_path / "run", *words) == 0
    table = pd.read_csv(tmp_path / "run" / "table.csv").set_index("method")
    scores = table.loc[["checkpoint-10", "w", "super"], "text_sim_raw"]
    assert scores.nunique() == 3


def test_a_judge_beside_needs_a_limit_and_has_its_table(run, epochs, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    with judge_kit.endpoint(lambda n: judge_kit.grades(n % 5, 3)) as here:
        words = (epochs, *CAT, "--scorers", f"auto,{here.judge}")
        with pytest.raises(UserError, match="give --judge-limit"):
            evaluate(out, *words)
        assert here.asked == [] and evaluate(out, *words, "--judge-limit", 100) == 0
        assert here.asked
    assert "Scored by judge-small-eye-" in (out / "evaluation.md").read_text()


def test_a_stopped_one_goes_on(epochs, tmp_path):
    out = tmp_path / "run"
    assert evaluate(out, epochs, *CAT, "--limit", "4") == 0
    assert not (out / "evaluation.md").exists()
    assert evaluate(out, epochs, *CAT) == 0
    assert (out / "evaluation.md").exists()


def test_a_file_of_settings_trains_nothing_of_ours_unasked(epochs, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('concepts = ["cat"]\nimages = 1\n')
    words = ["evaluate", str(epochs), "--trigger", "sks", "--config", str(tmp_path / "mine.toml")]
    words += arguments(shared(), tmp_path / "run")[2:]  # without --preset
    assert cli.run([*words, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "my-000001" in told and "super" in told and "perfusion" not in told


BAD = {
    "no concept": (("--trigger", "sks {}"), "which concept"),
    "a concept that is not there": (
        ("--trigger", "sks {}", "--concept", "dragon"),
        "unknown concept 'dragon'",
    ),
    "no trigger": (("--concept", "cat"), "which words was it trained with"),
    "a limit of nothing": ((*CAT, "--judge-limit", "3"), "counts calls of judges"),
    "pairs": ((*CAT, "--pairs", "cat+teapot"), "leave --pairs out"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_mistake_is_one_sentence_and_nothing_is_written(epochs, tmp_path, wrong):
    words, said = BAD[wrong]
    with pytest.raises(UserError) as told:
        evaluate(tmp_path / "run", epochs, *words)
    assert said in str(told.value) and not (tmp_path / "run").exists()


def test_a_file_of_another_model_ends_it_before_anything_is_drawn(epochs, tmp_path):
    folder = tmp_path / "epochs"
    shutil.copytree(epochs, folder)
    tensors = adapter_kit.kohya(adapter_kit.matrices())
    wide = {
        k: v.repeat(2, *[1] * (v.ndim - 1)) if "lora_up" in k else v for k, v in tensors.items()
    }
    save_file(wide, folder / "my-000009.safetensors")
    with pytest.raises(UserError, match="my-000009: 44 of its 44 layers do not fit"):
        evaluate(tmp_path / "run", folder, *CAT)
    assert not (tmp_path / "run").exists()


# ---- three epochs of a training, on the miniature ----


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Our `lora` trains it; it is saved by diffusers, as train_dreambooth_lora.py saves."""
    from dataclasses import replace

    from run_kit import ROOT

    from baselines import lora
    from benchmarks.paths import backbone_names
    from benchmarks.suite.concept_folder import read_concept
    from benchmarks.suite.image_files import load_rgb
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Subject

    out = tmp_path_factory.mktemp("training") / "lora-cat"
    out.mkdir()
    backbone = Backbone.open("miniature", device="cpu", dtype="float32", names=backbone_names())
    concept = read_concept(ROOT / "concepts" / "cat")
    pictures = np.stack([np.asarray(load_rgb(file, backbone.size)) for file in concept.images])
    subject = Subject.of_pixels("cat", concept.super_category, pictures, None)
    config = replace(lora.MINIATURE, steps=60)
    lora.fit(backbone, subject, config, out, seed=1, keep=(4, 20))
    for step in (4, 20):
        (out / f"step-{step}").rename(out / f"checkpoint-{step}")
    return out


def test_the_judges_agree_with_the_epoch_it_picks(training, tmp_path):
    from benchmarks.exchange.which_to_keep import choose
    from benchmarks.tables.run_view import open_run

    out = tmp_path / "run"
    words = ["evaluate", str(training), "--trigger", "sks {}", "--concept", "cat"]
    words += ["--scorers", "auto,truth", "--prompts", "6", "--set", "images=2", "--set", "steps=8"]
    words += ["--out", str(out), "--device", "cpu", "--dtype", "float32", "--threads", "1"]
    assert cli.run(words) == 0
    run, names = open_run(str(out)), ["checkpoint-4", "checkpoint-20", "lora-cat"]
    truth = run.about["scorers"][1]["name"]
    seen, judged = (choose(run.cells, names, ["cat"], scorer) for scorer in ("", truth))
    scores = [row.scores["image_sim"].value for row in seen.rows]
    assert scores == sorted(scores) and scores[-1] > scores[0] + 0.05
    assert seen.rows[0].behind.lo > 0 and seen.floor.behind.lo > 0  # measurably
    assert seen.best == judged.best == "lora-cat"
    page = (out / "evaluation.md").read_text()
    assert "Keep lora-cat: harmonic mean" in page and f"{truth} picks the same" in page
