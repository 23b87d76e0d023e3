"""The benchmark of speed: what stands in its tables, what is timed and what is not, and the cost of
the paper.
"""

import argparse
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from run_kit import shared
from xl_kit import save_xl

from benchmarks import speed
from benchmarks.planning import methods
from benchmarks.running import paper_cost, random_models, timed_jobs, timed_tables
from perfusion_core import UserError, rank_one
from perfusion_core.backbone import Backbone

PAGE = Path(__file__).parent.parent.parent / "docs" / "scale-out.md"


@pytest.fixture(scope="module")
def backbone():
    return Backbone.open(shared() / "tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """Tiny, of Stable Diffusion XL's kind."""
    return save_xl(tmp_path_factory.mktemp("backbones") / "tiny-xl")


@pytest.fixture(scope="module")
def small():
    return random_models.RANDOM["sdxl-small-random"]("cpu", torch.float32)


def arguments(memory_of=None):
    few = {
        "batch": 2,
        "steps": 2,
        "train_batch": 2,
        "repeats": 1,
        "recipes": True,
        "checkpointing": False,
        "compile": False,
    }
    where = {"backbone": str(shared() / "tiny"), "device": "cpu", "dtype": "float32"}
    return argparse.Namespace(**few, **where, memory_of=memory_of)


def rows(text, head):
    """First column -> the others, of the table whose first cell begins so."""
    table = text.partition(f"| {head}")[2].partition("\n\n")[0].splitlines()[2:]
    return {
        cells[1]: cells[2:-1]
        for cells in ([cell.strip() for cell in line.split("|")] for line in table)
    }


@pytest.mark.parametrize("kind", ["backbone", "joint"])
def test_the_report_has_every_table(kind, request, monkeypatch):
    backbone = request.getfixturevalue(kind)
    monkeypatch.setattr(timed_jobs, "EACH", 2)  # of which one is timed
    # a process each; its work is below
    monkeypatch.setattr(speed, "peak_memory", lambda args, name, device: 1.5)
    given = arguments()
    given.backbone = str(backbone.place)
    text = speed.report(given)
    drawn = rows(text, "sampling")
    assert len(drawn) == 10 and drawn["stock pipeline, no concept"][2:] == ["1.000", "1.000-1.000"]
    for name in ("`sample`, no concept", "`sample`, 1 concept", "`sample`, 3 concepts"):
        took, rate, against, interval = drawn[name]
        assert float(rate) == pytest.approx(2 / float(took), rel=0.1)
        low, high = map(float, interval.split("-"))
        assert low <= float(against) <= high
    assert set(rows(text, "training")) == {"perfusion", "lora rank 4", "full U-Net"}
    fits, configs = rows(text, "a fit by the recipe"), timed_jobs.recipes(backbone)
    refused = {"pivotal", "xti", "attndreambooth", "classdiffusion"} if kind == "joint" else set()
    assert set(fits) == set(timed_jobs.METHODS) - refused > {"perfusion", "db", "ti", "cd", "lora"}
    for name, (batch, steps, step, fit, peak) in fits.items():
        assert (batch, steps, peak) == (str(configs[name].batch), str(configs[name].steps), "1.50")
        # of a step rounded to a millisecond
        assert float(fit) == pytest.approx(int(steps) * float(step), rel=0.3)
    paper = rows(text, "the whole paper")
    wanted = {f"fits of {name}" for name in ("perfusion", "db", "ti", "cd", "cd-better")}
    assert {name for name in paper if name.startswith("fits of")} == wanted


def far_too_large():
    """Asks the CPU's allocator for what no machine has."""
    torch.empty(2**60, dtype=torch.uint8)


def test_what_memory_does_not_suffice_for_is_told_and_the_rest_measured(backbone, monkeypatch):
    large = ("full U-Net", "recipe of db")
    monkeypatch.setattr(
        speed, "job_of", lambda _, name, *how: far_too_large if name in large else lambda: 0.5
    )
    monkeypatch.setattr(speed, "peak_memory", lambda *about: 1.0)
    table = rows("\n".join(speed.training(backbone, arguments())), "training: batch 2")
    assert table["full U-Net"] == [speed.NO_ROOM, "", ""]
    assert table["perfusion"] == ["0.500", "2.00", "1.00"]
    trained, fits, _ = speed.by_recipe(backbone, arguments())
    table = rows("\n".join(trained), "a fit by the recipe")
    assert table["db"][2:] == [speed.NO_ROOM, "", ""] and table["ti"][2] == "0.500"
    assert "db" not in fits and {"perfusion", "ti"} <= fits.keys()
    monkeypatch.setattr(speed, "sampling_jobs", lambda *about: {"stock": far_too_large})
    with pytest.raises(UserError, match="does not suffice for 2 pictures at once"):
        speed.sampling(backbone, arguments())


def test_setting_up_and_saving_are_not_timed():
    def run(progress):
        time.sleep(0.3)
        for step in range(1, 5):
            progress(step, 4, 0.1)
        time.sleep(0.3)

    assert timed_jobs.seconds_a_step(run, torch.device("cpu")) < 0.05


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("backbone", name) for name in (*timed_jobs.TRAINED, "recipe of db")),
        *(("small", name) for name in timed_jobs.TRAINED),
        ("backbone", "recipe of perfusion"),
        ("joint", "recipe of db"),
    ],
)
def test_a_training_leaves_the_backbone_as_it_was(kind, name, request, monkeypatch):
    backbone = request.getfixturevalue(kind)
    if kind == "small":
        monkeypatch.setattr(timed_jobs, "EACH", 2)  # of which one is timed
    before = {key: tensor.clone() for key, tensor in backbone.unet.state_dict().items()}
    modules = list(backbone.unet.named_modules())
    assert timed_jobs.job_of(backbone, name, 1 if kind == "small" else 2, False)() > 0
    after = backbone.unet.state_dict()
    assert after.keys() == before.keys() and all(
        torch.equal(after[key], before[key]) for key in before
    )
    assert list(backbone.unet.named_modules()) == modules


def test_memory_is_the_trainings_own_and_not_its_parents():
    here = torch.ones(3 * 2**28)  # 3 GiB
    assert 0.1 < speed.peak_memory(arguments(), "perfusion", here.device) < 2.5


def test_what_is_called_naive_projects_at_every_step(backbone, monkeypatch):
    calls = []
    real = rank_one.project
    monkeypatch.setattr(rank_one, "project", lambda *args: (calls.append(1), real(*args))[1])
    jobs, counted = timed_jobs.sampling_jobs(backbone, 1, 5), []
    for name in (
        "stock pipeline + `load_concepts`, 1 concept",
        "the same, edit recomputed at every step, 1 concept",
    ):
        calls.clear()
        jobs[name]()
        counted.append(len(calls))
    assert counted == [8, 5 * 8]  # K and V of four layers


def dtypes(model):
    return {weight.dtype for weight in model.parameters()}


@pytest.mark.parametrize(
    ("name", "size", "numbers", "widths"),
    [("sd15-random", 512, 859_520_964, [768]), ("sdxl-random", 1024, 2_567_463_684, [768, 1280])],
)
def test_random_backbones_have_the_true_sizes(name, size, numbers, widths):
    backbone = random_models.RANDOM[name]("meta", torch.bfloat16)  # without memory
    assert sum(p.numel() for p in backbone.unet.parameters()) == numbers
    assert dtypes(backbone.unet) == dtypes(backbone.vae) == {torch.bfloat16}
    readers = backbone.text.readers
    assert [reader.width for reader in readers] == widths
    assert all(dtypes(reader.model) == {torch.float32} for reader in readers)
    assert (backbone.name, backbone.size) == (name, size)
    assert len(backbone.c_inv) == sum(widths) and backbone.fresh_unet().dtype == torch.float32


def test_random_weights_are_of_the_asked_dtype_and_the_same_each_time(small):
    """The VAE of XL's kind stays in float32 beside float16, as where it is opened."""
    again = random_models.RANDOM["sdxl-small-random"]("cpu", torch.float32)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        one, other = (getattr(made.pipe, part).state_dict() for made in (small, again))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    half = random_models.RANDOM["sdxl-small-random"]("cpu", torch.float16)
    assert (dtypes(half.unet), dtypes(half.vae)) == ({torch.float16}, {torch.float32})
    stock = timed_jobs.stock_pipeline(half)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert dtypes(getattr(stock, part)) == {torch.float16}, part
    assert dtypes(half.vae) == dtypes(half.pipe.text_encoder_2) == {torch.float32}


def test_the_stock_pipeline_of_xls_kind_draws_what_sample_draws(small):
    """Every job of the table, by one picture: the same noise, guidance and zeros for no negative
    prompt, so the same picture with and without concepts.
    """
    assert small.size == 128 and max(small.unet.config.transformer_layers_per_block) > 1
    jobs = timed_jobs.sampling_jobs(small, 1, 2)
    assert type(timed_jobs.stock_pipeline(small)).__name__ == "StableDiffusionXLPipeline"
    drawn = {}
    for name, act in jobs.items():
        out = act()
        drawn[name] = out / 255 if isinstance(out, np.ndarray) else out.images
        assert drawn[name].shape == (1, 128, 128, 3), name
    assert len(drawn) == 8
    plain, one, three = (
        drawn[f"`sample`, {many}"] for many in ("no concept", "1 concept", "3 concepts")
    )
    assert np.abs(drawn["stock pipeline, no concept"] - plain).max() < 2 / 255
    for many, ours in (("1 concept", one), ("3 concepts", three)):
        for how in ("stock pipeline + `load_concepts`", "the same, edit recomputed at every step"):
            assert np.abs(drawn[f"{how}, {many}"] - ours).max() < 2 / 255
        assert np.abs(ours - plain).max() > 0.05


def test_plain_texts_are_encoded_as_the_pipeline_encodes_them(joint):
    known = timed_jobs.PlainTexts(joint)
    for text in ("a good photo of a cat", "A photo of cat"):
        theirs = joint.pipe.encode_prompt(text, None, "cpu", 1, False)
        asked = [text.replace("cat", "{cat}")]
        assert torch.allclose(known(asked)[0], theirs[0][0], atol=1e-5)
        assert torch.allclose(known.pooled(asked)[0], theirs[2][0], atol=1e-5)


def test_recipes_on_xl_are_the_published_ones(joint, small):
    """docs/baselines.md, "On Stable Diffusion XL"; what its table does not name stays."""
    for found in map(timed_jobs.recipes, (joint, small)):
        assert (found["ti"].steps, found["ti"].batch, found["ti"].lr) == (500, 4, 0.002)
        assert (found["lora"].batch, found["lora"].steps) == (4, 500)
        mine = found["perfusion"]
        assert (mine.batch, mine.accumulate, mine.checkpointing) == (16, 16, True), "for its memory"
        found["perfusion"] = replace(mine, accumulate=1, checkpointing=False)
        for name in found.keys() - {"ti", "lora"}:
            assert found[name] == methods.load_method(name).Config()


def test_a_miniature_of_xls_kind_has_the_recipes_of_small_models(joint, tmp_path):
    (tmp_path / "scorer").mkdir()
    made = Backbone("small", tmp_path, None, joint.pipe, joint.device, joint.dtype)
    found = timed_jobs.recipes(made)
    for name, config in found.items():
        assert config == methods.load_method(name).MINIATURE


def test_pixart_and_sana_are_refused():
    other = SimpleNamespace(text=SimpleNamespace(behind=True), name="pixart")
    with pytest.raises(UserError, match="'pixart' is of PixArt's or Sana's kind"):
        timed_jobs.stock_pipeline(other)


def test_the_papers_cost_is_that_of_the_page():
    """docs/scale-out.md assumes seconds; with them the lines come to its units and its hours."""
    fits = {"perfusion": 4 * 60, "db": 8 * 60, "ti": 50 * 60, "cd": 4 * 60, "cd-better": 4 * 60}
    lines = paper_cost.paper(2.5, fits, 16)
    assert [line.units for line in lines] == [52_864, 2_200, 1_408, 11, 11, 11, 11, 11]
    together = sum(line.hours for line in lines)
    assert re.search(
        rf"\| together \|.*\*\*{together:.0f}\*\* \|", PAGE.read_text(encoding="utf-8")
    )
    assert "| 52,864 | 2.5 | 36.7 |" in paper_cost.cost_table(lines)[2]
    assert paper_cost.cost_table(lines)[-1] == f"| together | | | **{together:.3g}** |"


def test_the_cost_of_tables_is_measured_on_a_whole_run():
    head, _, row, *plans = timed_tables.report(
        1, points=2, concepts="cat,teapot", prompts="2", images=2
    )
    assert timed_tables.processor() in head
    name, seconds, peak = [cell.strip() for cell in row.strip("|").split("|")]
    # super and six methods of two points; two concepts, two prompts, two images
    assert name == "`table`: 104 images, 6 methods of 2 points"
    assert float(seconds) > 0 and float(peak) > 0.01
    assert [line.split(":")[0] for line in plans] == ["| `plan`"] * 2


def test_versions_are_timed_by_the_same_commands(tmp_path, monkeypatch):
    """Two runs of this checkout beside each other, as an earlier commit would be."""
    from benchmarks.running import timed_versions

    quick = ["--backbone", str(shared() / "tiny"), "--suite", str(shared() / "concepts")]
    small = ["--preset", "micro", *quick, "--device", "cpu", "--concepts", "cat"]
    monkeypatch.setattr(timed_versions, "CELLS", small)
    monkeypatch.setattr(timed_versions, "FIT", ["--set", "train_steps=2"])
    monkeypatch.setattr(timed_versions, "MICRO", ["--dry-run", *small])
    found = timed_versions.interleaved(
        {"a": timed_versions.ROOT, "b": timed_versions.ROOT}, 1, ["--dtype", "float32"]
    )
    assert len(found) == 5
    for measure, values in found.items():
        assert values.shape == (1, 2) and (values > 0).all(), measure


def test_both_versions_draw_by_the_weights_of_the_older_one(monkeypatch):
    from benchmarks.running import timed_versions

    asked = []

    def made(roots, repeats, more):
        asked.append((roots, more))
        return {"s": np.array([[2.0, 1.0]])}

    monkeypatch.setattr(timed_versions, "interleaved", made)
    monkeypatch.setattr(timed_versions, "shared", lambda *_: {"first": 2.0, "second": 1.0})
    lines = timed_versions.report("HEAD", 1, ["float32"])
    [(roots, more)] = asked
    old = roots["HEAD"]
    assert more == ["--dtype", "float32", "--backbone", str(old / timed_versions.WEIGHTS)]
    assert (timed_versions.ROOT / timed_versions.WEIGHTS / "model_index.json").is_file()
    assert roots["this"] == timed_versions.ROOT and not old.exists(), "and cleans up"
    assert "| s | 2 | 1 | 0.50 |" in "\n".join(lines)
