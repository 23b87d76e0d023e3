"""The benchmark of speed: what stands in its tables, what is timed and what is not, and the cost of
the paper.
"""

import argparse
import re
import time
from pathlib import Path

import pytest
import torch
from run_kit import shared

from benchmarks import speed
from benchmarks.running import paper_cost, timed_jobs, timed_tables
from perfusion_core import rank_one
from perfusion_core.backbone import Backbone

PAGE = Path(__file__).parent.parent.parent / "docs" / "scale-out.md"


@pytest.fixture(scope="module")
def backbone():
    return Backbone.open(shared() / "tiny", device="cpu", dtype="float32")


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


def test_the_report_has_every_table(backbone, monkeypatch):
    # a process each; its work is below
    monkeypatch.setattr(speed, "peak_memory", lambda args, name, device: 1.5)
    text = speed.report(arguments())
    drawn = rows(text, "sampling")
    assert len(drawn) == 10 and drawn["stock pipeline, no concept"][2:] == ["1.000", "1.000-1.000"]
    for name in ("`sample`, no concept", "`sample`, 1 concept", "`sample`, 3 concepts"):
        took, rate, against, interval = drawn[name]
        assert float(rate) == pytest.approx(2 / float(took), rel=0.1)
        low, high = map(float, interval.split("-"))
        assert low <= float(against) <= high
    assert set(rows(text, "training")) == {"perfusion", "lora rank 4", "full U-Net"}
    fits, configs = rows(text, "a fit by the recipe"), timed_jobs.recipes(backbone)
    assert set(fits) == set(timed_jobs.METHODS) > {"perfusion", "db", "ti", "cd", "lora"}
    for name, (batch, steps, step, fit, peak) in fits.items():
        assert (batch, steps, peak) == (str(configs[name].batch), str(configs[name].steps), "1.50")
        # of a step rounded to a millisecond
        assert float(fit) == pytest.approx(int(steps) * float(step), rel=0.3)
    paper = rows(text, "the whole paper")
    wanted = {f"fits of {name}" for name in ("perfusion", "db", "ti", "cd", "cd-better")}
    assert {name for name in paper if name.startswith("fits of")} == wanted


def test_setting_up_and_saving_are_not_timed():
    def run(progress):
        time.sleep(0.3)
        for step in range(1, 5):
            progress(step, 4, 0.1)
        time.sleep(0.3)

    assert timed_jobs.seconds_a_step(run, torch.device("cpu")) < 0.05


@pytest.mark.parametrize("name", [*timed_jobs.TRAINED, "recipe of db", "recipe of perfusion"])
def test_a_training_leaves_the_backbone_as_it_was(backbone, name):
    before = {key: tensor.clone() for key, tensor in backbone.unet.state_dict().items()}
    modules = list(backbone.unet.named_modules())
    assert timed_jobs.job_of(backbone, name, 2, False)() > 0
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


def test_sd15_random_has_the_true_sizes():
    backbone = timed_jobs.random_sd15("meta", torch.bfloat16)  # without memory
    assert sum(p.numel() for p in backbone.unet.parameters()) == 859_520_964
    assert {p.dtype for p in (*backbone.unet.parameters(), *backbone.vae.parameters())} == {
        torch.bfloat16
    }
    assert {p.dtype for p in backbone.text_encoder.parameters()} == {torch.float32}
    assert backbone.size == 512 and backbone.fresh_unet().dtype == torch.float32


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
        {"a": timed_versions.ROOT, "b": timed_versions.ROOT}, 1, "float32"
    )
    assert len(found) == 5
    for measure, values in found.items():
        assert values.shape == (1, 2) and (values > 0).all(), measure
