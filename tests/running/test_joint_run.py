"""A run on a backbone with two text encoders: the protocol `sdxl`, all compared methods, the sizes
of photographs, and what plans and comparisons say of it.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from xl_kit import save_benched_xl, xl_stock, xl_words

from benchmarks.cli import run
from benchmarks.planning.backbones import find_models, usual_rows
from benchmarks.planning.config import PRESETS, protocol, resolve
from benchmarks.planning.kinds import is_joint_place
from benchmarks.planning.methods import resolve_methods
from benchmarks.running import day_cost
from benchmarks.running.prepared import frames_of, prepare_run
from benchmarks.suite.concept_folder import read_concept
from benchmarks.tables.comparable import differing
from perfusion_core import Concept
from perfusion_core.errors import UserError
from perfusion_core.sampling import noise

METHODS = ("super", "perfusion", "ti", "lora", "db", "cd")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A backbone with scorers, and a concept of three photographs that are no squares."""
    folder = tmp_path_factory.mktemp("kit")
    return folder, save_benched_xl(folder)


def words(kit, *more):
    return xl_words(*kit, "--methods", ",".join(METHODS[1:]), *more)


@pytest.fixture(scope="module")
def done(kit):
    out = kit[0] / "run"
    assert run(["run", *words(kit), "--out", str(out)]) == 0
    return out


def test_all_methods_are_trained_drawn_and_scored(done):
    table = pd.read_csv(done / "table.csv")
    assert set(table[table["kind"] == "method"]["method"]) | {"super"} >= set(METHODS)
    about = json.loads((done / "run.json").read_text())
    assert about["failures"] == []
    said = about["protocol"]
    assert (said["preset"], said["scheduler"], said["guidance"]) == ("sdxl", "euler", 5.0)


def test_whose_text_is_pooled_is_an_ablation_where_there_is_pooled_text(kit, done):
    assert run(["run", *words(kit, "--ablation", "own-pooled"), "--out", str(done)]) == 0
    files = done.glob("fits/perfusion/*/concept.safetensors")
    assert {Concept.load(file).pooled for file in files} == {"super", "concept"}
    table = pd.read_csv(done / "table.csv")
    assert "perfusion-own-pooled" in set(table["method"])
    with pytest.raises(UserError, match="perfusion-own-pooled differs in whose text is pooled"):
        run(["plan", "--preset", "micro", "--methods", "perfusion", "--ablation", "own-pooled"])


def test_its_pictures_are_those_of_the_stock_pipeline_with_its_own_scheduler(kit, done):
    backbone = kit[1]
    [cell] = [
        json.loads(path.read_text()) | {"folder": path.parent}
        for path in done.glob("images/super/*/cat/*/cell.json")
    ]
    stock = xl_stock(backbone)
    stock.scheduler = backbone.pipe.scheduler
    theirs = stock(
        cell["template"].replace("{cat}", "cat"), latents=noise(backbone, cell["seeds"]),
        num_inference_steps=2, guidance_scale=5.0, output_type="np",
    ).images[0]  # fmt: skip
    ours = np.asarray(Image.open(cell["folder"] / "0.png"))
    assert np.abs(ours - theirs * 255).max() < 1.5


def test_its_numbers_are_not_compared_with_another_schedulers(done):
    about = json.loads((done / "run.json").read_text())
    assert differing(about, about) == []
    other = json.loads(json.dumps(about))
    del other["protocol"]["scheduler"]  # DDIM is not said
    assert differing(other, about) == ["scheduler: None -> euler"]


def test_only_another_scheduler_is_said_and_decides_keys(kit, tmp_path):
    ddim = resolve(preset="paper")
    assert "scheduler" not in protocol(ddim)
    assert protocol(resolve(preset="paper", sets=["scheduler=euler"]))["scheduler"] == "euler"
    keys = []
    for name in ("ddim", "euler"):
        sets = [one.removeprefix("--set=") for one in words(kit) if one.startswith("--set=")]
        flags = {
            "backbone": str(kit[1].place), "suite": str(kit[0] / "concepts"), "device": "cpu",
            "concepts": "cat", "methods": "ti", "prompts": "1", "dtype": "float32",
        }  # fmt: skip
        made = prepare_run(resolve(preset="sdxl", flags=flags, sets=[*sets, f"scheduler={name}"]))
        keys.append({unit.key for unit in made.plan.cells})
        assert {fit.config["lr"] for fit in made.plan.fits if fit.method == "ti"} == {0.002}
    assert not keys[0] & keys[1]


def test_photographs_are_told_as_they_were_taken(kit):
    """Height, width, and where the square was cut once the short side had 16 pixels."""
    concept = read_concept(kit[0] / "concepts" / "cat")
    config = resolve(flags={"backbone": str(kit[1].place), "device": "cpu", "dtype": "float32"})
    models = find_models(config)
    assert models.joint and is_joint_place(kit[1].place)
    assert frames_of([concept], models) == {
        "cat": ((16, 20, 0, 2), (40, 16, 12, 0), (64, 64, 0, 0))
    }


def test_methods_of_one_text_encoder_are_refused_before_anything_is_done(kit, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UserError, match="has two text encoders, and pivotal, xti read one; leave"):
        run(["run", *words(kit, "--methods", "lora,pivotal,xti"), "--out", str(out)])
    assert not out.exists()


def test_a_large_picture_has_a_small_batch():
    assert (usual_rows(1024), usual_rows(768), usual_rows(512), usual_rows(64)) == (4, 16, 16, 32)


def test_the_recipes_of_the_protocol_are_the_published_ones():
    config = resolve(preset="sdxl", flags={"methods": "ti,lora,cd"})
    made = {one.name: one.config for one in resolve_methods(config, miniature=False)}
    assert (made["ti"]["steps"], made["ti"]["batch"], made["ti"]["lr"]) == (500, 4, 0.002)
    assert (made["lora"]["steps"], made["lora"]["batch"], made["lora"]["lr"]) == (500, 4, 1e-4)
    assert made["cd"]["steps"] == 250 and PRESETS["sdxl"][1]["backbone"] == "sdxl"


def test_perfusion_trains_a_picture_at_a_time_there_and_nowhere_else():
    """The published batch a step; keys of other presets stay."""
    made = {
        name: resolve_methods(resolve(preset=name, flags={"methods": "perfusion"}), miniature=False)
        for name in PRESETS
    }
    recipes = {name: found[-1].config for name, found in made.items()}
    usual = recipes["paper"]
    assert (usual["batch"], usual["accumulate"], usual["checkpointing"]) == (16, 1, False)
    assert recipes["sdxl"] == usual | {"accumulate": 16, "checkpointing": True}
    assert recipes["quick"] == usual and recipes["micro"] == usual | {"steps": 10}


def test_a_batch_that_parts_do_not_divide_is_refused_by_the_plan():
    config = resolve(preset="sdxl", sets=["fit.perfusion.batch=4"])
    with pytest.raises(UserError, match=r"such as --set fit\.perfusion\.accumulate=4"):
        resolve_methods(config, miniature=False)
    divided = resolve(preset="sdxl", sets=["fit.perfusion.batch=4", "fit.perfusion.accumulate=4"])
    assert resolve_methods(divided, miniature=False)[1].config["accumulate"] == 4


def test_computing_activations_again_is_planned_as_a_third_more():
    config = resolve(flags={"methods": "perfusion"})
    again = resolve(flags={"methods": "perfusion"}, sets=["fit.perfusion.checkpointing=true"])
    usual = day_cost.fit_seconds(config, "perfusion")
    assert day_cost.fit_seconds(again, "perfusion") == pytest.approx(usual * 4 / 3)


def test_hours_are_those_of_larger_pictures():
    """By the multiplications of both U-Nets, which are counted here."""
    one, large = resolve(preset="paper"), resolve(preset="sdxl")
    share = day_cost.hours_of(large, 1) / day_cost.hours_of(one, 1)
    assert 0.7 * day_cost.WORK["sdxl"] < share <= day_cost.WORK["sdxl"]
    assert day_cost.WORK["sdxl"] == pytest.approx(counted(2048) / counted(768), rel=0.02)


def counted(width):
    """Floating-point operations of a row through the U-Net of this text width."""
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    from perfusion_core.single_file import layouts

    layout = layouts()[width]["unet"]
    side = layout["sample_size"]
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel.from_config(layout)
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        with FlopCounterMode(display=False) as counter:
            unet(
                torch.empty(1, 4, side, side), torch.zeros((), dtype=torch.int64),
                torch.empty(1, 77, width), added_cond_kwargs=added,
            )  # fmt: skip
    return counter.get_total_flops()
