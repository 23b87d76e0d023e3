"""A tiny build of miniature-xl from the shipped weights: a stock pipeline, methods on it, a
training that was interrupted, its place in the package, and what is refused.
"""

import argparse
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from baselines_kit import module
from diffusers import StableDiffusionXLPipeline

from benchmarks.cli import run
from benchmarks.evidence.miniature_gates import ratios
from benchmarks.miniature import shipped_xl
from benchmarks.miniature.command import add_model_flags
from benchmarks.miniature.training.hyperparameters import Recipe, joint
from benchmarks.miniature.training.joint_export import export_joint
from benchmarks.miniature.training.joint_recipe import build_joint
from benchmarks.miniature.training.joint_text import (
    Readers,
    first_text_encoder,
    trained_second_text_encoder,
)
from benchmarks.miniature.training.joint_unet import (
    NAME,
    joint_guessing,
    joint_unet_modules,
    train_joint_unet,
    trained_joint_unet,
)
from benchmarks.miniature.training.judges import judges_digest
from benchmarks.miniature.training.onwards import go_on
from benchmarks.miniature.training.photographed import Photographs
from benchmarks.miniature.training.stage import spent
from benchmarks.miniature.training.workshop import Paused, Workshop
from benchmarks.miniature.which_world import world_here, world_of_weights, xl_of
from benchmarks.miniature.world.instance import stream
from benchmarks.paths import (
    backbone_names,
    backbone_place,
    miniature_dir,
    miniature_xl_dir,
    miniature_xl_parts,
)
from benchmarks.planning.backbones import find_models
from benchmarks.planning.config import resolve
from benchmarks.suite.catalog import load_catalog
from perfusion_core import Backbone, UserError, perfusion
from perfusion_core.sampling import noise, sample
from perfusion_core.shared_parts import OWN, digests_in, put_together, shared
from perfusion_core.subject import Fitted, Subject

TINY = replace(joint(Recipe(shards=1, shard=80, text_batch=8, unet_batch=4)), settle=0.01)
FIRST, SECOND = 160, 192


def ticking():
    """A clock by which every look takes a second, two looks a step."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def seconds(text, unet):
    return {"text-xl": text / 60, "unet-xl": unet / 60}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A work folder and weights after three steps of the text encoder and two of the U-Net."""
    folder = tmp_path_factory.mktemp("xl")
    build_joint(
        folder / "work", folder / "tiny-xl", TINY, miniature_dir(), device="cpu",
        minutes=seconds(6, 4), workers=1, clock=ticking(),
    )  # fmt: skip
    return folder / "work", folder / "tiny-xl"


@pytest.fixture(scope="module")
def backbone(built):
    return Backbone.open(built[1], device="cpu", dtype="float32")


@pytest.fixture
def shop(built):
    return Workshop(built[0], TINY, workers=1, clock=ticking())


def stock_pipe(backbone):
    """diffusers' own from the same folder, with the protocol's scheduler."""
    pipe = StableDiffusionXLPipeline.from_pretrained(
        backbone.place, dtype=torch.float32, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = backbone.scheduler()
    return pipe


def test_the_stock_pipeline_opens_it_and_draws_what_we_draw(backbone):
    stock = stock_pipe(backbone)
    text = "a cat on the beach"
    theirs = stock(
        text, latents=noise(backbone, [3]), num_inference_steps=2, guidance_scale=6.0,
        output_type="np",
    ).images[0]  # fmt: skip
    ours = sample(backbone, text, [3], steps=2)[0]
    assert ours.shape == (64, 64, 3) and ours.std() > 1
    assert np.abs(ours - theirs * 255).max() < 1.5
    assert stock.config.force_zeros_for_empty_prompt


def test_it_shares_files_with_the_miniature_and_says_what_it_is(built, backbone):
    whole, here = digests_in(built[1]), digests_in(miniature_dir())
    assert shared(whole) == shared(here)
    own = [path for name in OWN for path in [built[1] / name, *(built[1] / name).rglob("*")]]
    assert sum(path.stat().st_size for path in own if path.is_file()) <= shipped_xl.MOST
    assert backbone.text.widths == [FIRST, SECOND]
    assert backbone.c_inv.shape == (FIRST + SECOND, FIRST + SECOND)
    assert world_of_weights(built[1]) == xl_of(world_here()) == f"{world_here()}-xl"
    record = json.loads((built[1] / "build.json").read_text())
    steps = {name: one["steps"] for name, one in record["joint"]["stages"].items()}
    assert steps == {"text-xl": 3, "unet-xl": 2}
    models = find_models(resolve(flags={"backbone": str(built[1]), "device": "cpu"}, sets=[]))
    assert models.joint and models.miniature and models.world == record["world"]


def test_what_training_reads_is_what_the_pipeline_reads(shop, backbone):
    """Both encoders' penultimate outputs and the pooled text; the export is in half precision."""
    first, second = first_text_encoder(shop, miniature_dir()), trained_second_text_encoder(shop)
    texts = ["a photo of a dog", "a red cat reading a book on the moon", "a teapot"]
    how = {"padding": "max_length", "max_length": 32, "return_tensors": "pt"}
    with torch.no_grad():
        read, pooled = Readers(shop, first, second)(shop.tokenizer(texts, **how).input_ids)
    theirs, _, told, _ = stock_pipe(backbone).encode_prompt(texts, None, "cpu", 1, False)
    torch.testing.assert_close(read, theirs, rtol=2e-3, atol=2e-2)
    torch.testing.assert_close(pooled, told, rtol=2e-3, atol=2e-2)
    assert not torch.allclose(read[..., :FIRST], first(
        shop.tokenizer(texts, **how).input_ids
    ).last_hidden_state, atol=1.0)  # fmt: skip


def random_call(width=FIRST + SECOND):
    rng = torch.Generator().manual_seed(0)
    told = {
        "text_embeds": torch.randn(2, SECOND, generator=rng),
        "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]] * 2, dtype=torch.float32),
    }
    x = torch.randn(2, 4, 16, 16, generator=rng)
    return x, torch.tensor([10, 700]), torch.randn(2, 32, width, generator=rng), told


@torch.no_grad()
def test_the_export_takes_the_even_sizes_back(shop):
    m = joint_unet_modules(shop)
    shop.average(NAME, m)
    x, t, words, told = random_call()
    words = words * m["even"].running_size
    assert m["even"].running_size.max() > 2 and m["even"].running_size.min() > 0
    inside = m["unet"](x, t, m["even"](words), added_cond_kwargs=told).sample
    outside = trained_joint_unet(shop)(x, t, words, added_cond_kwargs=told).sample
    torch.testing.assert_close(outside, inside, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_sizes_and_pooled_text_change_what_it_predicts(backbone):
    """Little after two steps, and nothing before the first (test_joint_growth.py)."""
    x, t, words, told = random_call()

    def said(**changed):
        return backbone.unet(x, t, words, added_cond_kwargs={**told, **changed}).sample

    usual = said()
    assert torch.equal(said(), usual)
    small = torch.tensor([[24, 24, 0, 0, 64, 64]] * 2, dtype=torch.float32)
    for changed in ({"time_ids": small}, {"text_embeds": -told["text_embeds"]}):
        assert (said(**changed) - usual).abs().max() > 1e-6


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_a_dropped_caption_is_zeros_in_both_encoders_and_the_pooled_text(shop, dropped):
    seen = []
    shop.recipe = replace(TINY, drop_prompt=dropped)
    m = joint_unet_modules(shop)
    m["unet"].register_forward_pre_hook(lambda _, __, kw: seen.append(kw), with_kwargs=True)
    readers = Readers(
        shop, first_text_encoder(shop, miniature_dir()), trained_second_text_encoder(shop)
    )
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(len(shop.pictures), 4, 16, 16)).astype(np.float16)
    frames = np.array([[30, 20, 7, 0]] * 5, dtype=np.int16)
    step = joint_guessing(shop, m, readers, codes, Photographs(codes[:5] * 0, frames))
    for number in range(4):
        step(stream("dropped", number))
    words = torch.cat([one["encoder_hidden_states"] for one in seen])
    pooled = torch.cat([one["added_cond_kwargs"]["text_embeds"] for one in seen])
    assert words.flatten(1).any(1).tolist() == pooled.any(1).tolist() == [not dropped] * 16
    sizes = {tuple(row) for one in seen for row in one["added_cond_kwargs"]["time_ids"].tolist()}
    assert {(30, 20, 7, 0, 64, 64), (64, 64, 0, 0, 64, 64)} <= sizes


def test_an_interrupted_training_ends_in_the_same_weights(built, tmp_path):
    """Four steps at once, or two and two in another process's memory."""
    states = []
    for times in ([8], [4, 4]):
        work = tmp_path / f"work-{len(times)}"
        shutil.copytree(built[0], work)
        (work / f"{NAME}.safetensors").unlink()
        for time in times:
            fresh = Workshop(work, TINY, workers=1, clock=ticking())
            train_joint_unet(fresh, time / 60, miniature_dir())
        assert spent(work / f"{NAME}.safetensors")["steps"] == 4
        states.append(trained_joint_unet(Workshop(work, TINY, workers=1)).state_dict())
    one, other = states
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stage_that_had_its_minutes_is_not_trained_again(built, tmp_path):
    before = digests_in(built[1])
    again = tmp_path / "tiny-xl"
    build_joint(
        built[0], again, TINY, miniature_dir(), device="cpu", minutes=seconds(6, 4), workers=1
    )
    assert digests_in(again) == before


# ---- methods


def teddy():
    rng = torch.Generator().manual_seed(5)
    images = torch.rand(3, 3, 64, 64, generator=rng) * 2 - 1
    return Subject("teddy", "teddy", images, torch.ones(3, 1, 64, 64))


@pytest.mark.parametrize("method", ["perfusion", "ti", "lora", "cd", "db"])
def test_a_method_fits_a_step_and_draws(backbone, method, tmp_path):
    this = perfusion if method == "perfusion" else module(method)
    config = replace(this.MINIATURE, steps=1, batch=2, lr=0.05)
    class_images = np.zeros((2, 64, 64, 3), dtype=np.uint8) if this.PRIOR else None
    this.fit(backbone, teddy(), config, tmp_path, seed=0, prior=class_images)
    with this.apply(backbone, {"teddy": Fitted(tmp_path, "teddy")}, {}) as write:
        drawn = sample(backbone, write("A {teddy} on the moon"), [1], steps=1)
    plain = sample(backbone, "A teddy on the moon", [1], steps=1)
    assert drawn.shape == plain.shape == (1, 64, 64, 3)
    assert not np.array_equal(drawn, plain)


def test_weights_may_be_named(tmp_path, capsys):
    """`--weights miniature-xl` is the one that the package puts together, its judges included."""
    judged = tmp_path / "looked"
    with pytest.raises(UserError, match=str(judged)):
        run(["miniature", "verify", "--weights", "miniature-xl", "--looked", str(judged)])
    parser = argparse.ArgumentParser()
    add_model_flags(parser)
    asked = [parser.parse_args(words).weights for words in ([], ["--weights", "miniature-xl"])]
    assert asked == [miniature_dir(), miniature_xl_dir()]
    assert judges_digest(asked[0]) == judges_digest(asked[1])
    assert parser.parse_args(["--weights", "mine"]).weights == Path("mine")


def test_the_gates_of_verify_are_those_of_both_encoders(backbone):
    """Against float64: sim(i*, e) / |i*|^2 in the metric of C of the joint width."""
    catalog = load_catalog("miniature")
    rows = ratios(backbone, catalog, catalog.concept("cat"))
    prompt = catalog.prompts_for(catalog.concept("cat"))[0]
    mine = [row["ratio"] for row in rows if row["prompt_id"] == prompt.id]
    said = backbone.encode([prompt.template.replace("{}", "cat")])[0].double().detach()
    i_star = backbone.text.super_encoding("cat").double()
    wanted = said @ backbone.c_inv @ i_star / (i_star @ backbone.c_inv @ i_star)
    np.testing.assert_allclose(mine, wanted.numpy(), rtol=1e-3, atol=1e-4)
    assert {row["role"] for row in rows} == {"begin", "concept", "word", "end", "pad"}


# ---- its place in the package


def test_the_parts_put_together_are_the_whole_byte_for_byte(built, tmp_path, monkeypatch):
    parts = shipped_xl.ship(built[1], tmp_path / "weights-xl")
    assert {path.name for path in parts.iterdir()} == {*OWN}
    monkeypatch.setattr("benchmarks.paths.miniature_xl_parts", lambda: parts)
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    place = backbone_place("miniature-xl")
    assert place.is_relative_to(tmp_path / "cache") and digests_in(place) == digests_in(built[1])
    opened = Backbone.open("miniature-xl", device="cpu", names=backbone_names())
    assert opened.name == "miniature-xl" and opened.text.joint
    models = find_models(resolve(flags={"backbone": "miniature-xl", "device": "cpu"}, sets=[]))
    assert models.scorers[0].name.startswith("miniature-xl-scorer-") and models.joint
    (place / "unet" / "config.json").stat()
    made = place.stat().st_mtime_ns
    assert put_together(miniature_dir(), parts, tmp_path / "cache" / "backbones", "miniature-xl")
    assert place.stat().st_mtime_ns == made, "it is put together once"


def test_parts_of_other_weights_are_neither_shipped_nor_opened(built, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(built[1], other)
    (other / "scheduler" / "scheduler_config.json").write_text("{}")
    with pytest.raises(UserError, match="so it cannot be shared"):
        shipped_xl.ship(other, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    parts = shipped_xl.ship(built[1], tmp_path / "parts")
    base = tmp_path / "base"
    shutil.copytree(miniature_dir(), base)
    (base / "scheduler" / "scheduler_config.json").write_text("{}")
    with pytest.raises(UserError, match="belongs to other weights than those in"):
        put_together(base, parts, tmp_path / "home", "miniature-xl")
    assert not (tmp_path / "home").exists()


def test_without_weights_its_name_says_how_to_train_them(tmp_path, monkeypatch, capsys):
    if miniature_xl_parts().is_dir():
        monkeypatch.setattr("benchmarks.paths.miniature_xl_parts", lambda: tmp_path / "none")
    said = "miniature-xl are not in this package yet; train them by `perfbench miniature build --xl"
    for words in (
        ["run", "--backbone", "miniature-xl", "--methods", "super", "--out", str(tmp_path / "a")],
        ["generate", "A cat", "--backbone", "miniature-xl", "--out", str(tmp_path / "b")],
    ):
        with pytest.raises(UserError, match=said):
            run(words)
    assert run(["ls", "backbones", "--json"]) in (0, None)
    listed = {row["name"]: row["here"] for row in json.loads(capsys.readouterr().out)}
    assert (listed["miniature"], listed["miniature-xl"]) == ("yes", "no")
    assert not any(tmp_path.iterdir())


# ---- what is refused


def refused(built, match, **changed):
    args = {"folder": built[0], "out": built[1], "recipe": TINY, "weights": miniature_dir()}
    with pytest.raises(UserError, match=match):
        build_joint(**{**args, **changed}, device="cpu", minutes=seconds(6, 4), workers=1)


def test_other_weights_words_and_latents_are_refused(built, tmp_path):
    refused(built, "holds no finished weights of a miniature", weights=tmp_path)
    refused(built, "holds no finished weights of a miniature", weights=built[1])
    other = tmp_path / "other"
    shutil.copytree(miniature_dir(), other)
    (other / "scheduler" / "scheduler_config.json").write_text("{}")
    refused(built, "began with other weights than", weights=other)
    work = tmp_path / "work"
    shutil.copytree(built[0], work)
    (work / "scale.json").write_text("1.25")
    refused(built, "are of another VAE than that in", folder=work)
    told = json.loads((work / "tokenizer" / "tokenizer.json").read_text())
    told["model"]["vocab"] = dict(reversed(told["model"]["vocab"].items())) | {"new": 9}
    (work / "tokenizer" / "tokenizer.json").write_text(json.dumps(told))
    refused(built, "has other words than", folder=work)


def test_a_work_folder_that_is_not_ready_is_refused_and_nothing_is_begun(built, tmp_path):
    more = replace(TINY, shards=TINY.shards + 2)
    refused(built, r"asks for 240; give --set shards=1, or another", recipe=more)
    work = tmp_path / "work"
    shutil.copytree(built[0], work)
    (work / "grown-from.json").unlink()
    (work / "scale.json").write_text("1.25")
    refused(built, "are of another VAE than that in", folder=work)
    assert not (work / "grown-from.json").exists(), "the right weights are welcome afterwards"
    (work / "latents.npy").unlink()
    (work / "vae.safetensors").touch()
    refused(built, "is still in training; finish that build first", folder=work)


def test_what_goes_on_from_a_miniature_refuses_it(built, shop):
    with pytest.raises(UserError, match="is a miniature-xl, and what was asked for goes on from"):
        go_on(shop, built[1])


def test_a_stage_that_was_left_out_is_told(built, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(built[0], work)
    (work / f"{NAME}.safetensors").unlink()
    with pytest.raises(UserError, match="the stage unet-xl was never trained in"):
        build_joint(
            work, tmp_path / "out", TINY, miniature_dir(), device="cpu",
            minutes={"text-xl": 0.1}, workers=1,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_the_command_pauses_and_tells_mistakes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["miniature", "build", "--xl", "--pause", "0", "--device", "cpu"]) == 3
    assert "the same command goes on" in capsys.readouterr().err
    for words, said in (
        (["--stages", "unet"], "did you mean 'unet-xl'"),
        (["--minutes", "0"], "leave it out for 155 minutes"),
    ):
        with pytest.raises(UserError, match=said):
            run(["miniature", "build", "--xl", "--device", "cpu", *words])
    assert not any(tmp_path.iterdir())
    with pytest.raises(Paused):
        build_joint(
            tmp_path / "work", tmp_path / "out", TINY, miniature_dir(), device="cpu",
            minutes=seconds(6, 4), deadline=0.0,
        )  # fmt: skip
    assert not any(tmp_path.iterdir())


def test_an_export_is_whole_or_not_there(built, shop, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.miniature.training.joint_export.export_joint_covariance", stop)
    with pytest.raises(KeyboardInterrupt):
        export_joint(shop, miniature_dir(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
