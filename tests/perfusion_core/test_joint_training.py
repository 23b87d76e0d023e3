"""Perfusion's fit on a backbone with two text encoders: the loop, its file, and what it draws."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import WORDS, make_subject
from diffusers import EDMDPMSolverMultistepScheduler, StableDiffusionXLPipeline
from xl_kit import POOLED, WIDTHS, make_xl

from perfusion_core import Backbone, Concept, UserError, load_concepts
from perfusion_core.attention import look
from perfusion_core.backbone import cross_attentions
from perfusion_core.batches import rows_are_apart
from perfusion_core.covariance import FILE, estimate, read_covariance
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.sampling import Manner, draw, noise, prepared, sample
from perfusion_core.student import Student, using
from perfusion_core.subject import Fitted
from perfusion_core.training import Recipe, Validation, train

CAPTIONS = [
    " ".join(random.Random(n).choices(WORDS, k=random.Random(n).randint(3, 12))) for n in range(200)
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / "tiny-xl"
    make_xl().save_pretrained(folder)
    backbone = Backbone.open(folder, device="cpu", dtype="float32")
    estimate(backbone, CAPTIONS, folder / FILE, source="random words")
    return backbone


@pytest.fixture(scope="module")
def subject():
    return make_subject()


def weights(backbone):
    pipe = backbone.pipe
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    return [tensor.clone() for model in parts for tensor in model.state_dict().values()]


def test_c_is_of_the_joint_encodings_from_start_to_end(backbone):
    """Of each caption's tokens, which the two tokenizers pad differently, in float64."""
    pipe, total, tokens = backbone.pipe, 0.0, 0
    for caption in CAPTIONS:
        ids = torch.tensor([pipe.tokenizer(caption, truncation=True).input_ids])
        with torch.no_grad():
            e = torch.cat(
                [
                    model(ids, output_hidden_states=True).hidden_states[-2][0].double()
                    for model in (pipe.text_encoder, pipe.text_encoder_2)
                ],
                dim=-1,
            )
        total, tokens = total + e.T @ e, tokens + len(e)
    found = read_covariance(backbone.place / FILE)
    assert found.tokens == tokens and found.total.shape == (64, 64)
    torch.testing.assert_close(found.total, total, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(backbone.encode(["a red cat"])[0, :5], _encode(pipe, "a red cat"))


def _encode(pipe, text):
    with torch.no_grad():
        ids = torch.tensor([pipe.tokenizer(text).input_ids])
        models = (pipe.text_encoder, pipe.text_encoder_2)
        each = [model(ids, output_hidden_states=True).hidden_states[-2][0] for model in models]
    return torch.cat(each, dim=-1)


def test_a_short_fit_learns_and_its_file_draws_the_same(backbone, subject, tmp_path):
    before = weights(backbone)
    scored = []

    def score(images):
        scored.append(images.shape)
        return -float(len(scored))  # the first look is the best

    config = Config(steps=60, batch=4, lr=0.03, flip=False)
    log = fit(backbone, subject, config, tmp_path / "fit", seed=0)
    assert np.mean(log["losses"][-15:]) < np.mean(log["losses"][:15]) - 0.005
    assert all(torch.equal(a, b) for a, b in zip(weights(backbone), before, strict=True))
    concept = Concept.load(tmp_path / "fit" / "concept.safetensors")
    first = backbone.text.token_vector("toy")
    moved = [part.norm() for part in (concept.embedding - first).split(WIDTHS)]
    assert concept.widths == list(WIDTHS) and all(part > 0.01 for part in moved)
    fitted = {"teddy": Fitted(tmp_path / "fit", "toy")}
    with apply(backbone, fitted, {"lock": "local", "bias": 0.5}) as write:
        drawn = sample(backbone, write("A {teddy} on the beach"), [3, 4], steps=3)
    with apply(backbone, fitted, {"lock": "global"}) as write:
        other = sample(backbone, write("A {teddy} on the beach"), [3, 4], steps=3)
    again = Backbone.open(backbone.place, device="cpu", dtype="float32")
    with using(again, {"teddy": concept}, "local", 0.5, 0.15):
        assert np.array_equal(sample(again, "A {teddy} on the beach", [3, 4], steps=3), drawn)
    assert not np.array_equal(drawn, other)
    assert not np.array_equal(drawn, sample(backbone, "A toy on the beach", [3, 4], steps=3))
    # with validation, the best look is kept
    validate = Validation(("A {}", "A {} on the beach"), (1, 2), score, every=2, steps=2)
    out = tmp_path / "validated"
    log = fit(backbone, subject, replace(config, steps=4), out, seed=0, validate=validate)
    assert log["steps"] == 2 and scored == [(2, 16, 16, 3)] * 2
    assert Concept.load(out / "concept.safetensors").steps == 2


def test_what_the_sampler_draws_is_what_the_stock_pipeline_draws(backbone, subject, tmp_path):
    """Prompt, zeros for no prompt, pooled text and sizes, with a concept and without."""
    fit(backbone, subject, Config(steps=2, batch=2), tmp_path, seed=0)
    file = tmp_path / "concept.safetensors"
    stock = StableDiffusionXLPipeline.from_pretrained(backbone.place, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = backbone.scheduler()
    for size in (None, (16, 24)):
        high, wide = size or (16, 16)
        latents = torch.randn(
            1, 4, high // 2, wide // 2, generator=torch.Generator().manual_seed(3)
        )
        how = {"guidance_scale": 4.0, "num_inference_steps": 4, "height": high, "width": wide}
        for text in ("A toy on the beach", "A {teddy} on the beach"):
            given = {"teddy": file} if "{" in text else {}
            with load_concepts(stock, given, c_inv=backbone.c_inv):
                theirs = stock(text, latents=latents, output_type="np", **how).images
            with load_concepts(backbone.pipe, given, c_inv=backbone.c_inv):
                pictures = prepared(backbone, [text], [3], 4.0)
                ours = draw(backbone, pictures, steps=4, guidance=4.0, how=Manner(size=size))
            assert np.abs(theirs[0] * 255 - ours[0]).max() < 1


def test_a_text_that_is_empty_is_not_no_text(backbone):
    """Guidance away from nothing is away from zeros, as the stock pipeline has it."""
    [picture] = prepared(backbone, [""], [0], 5.0)
    assert picture.text.pooled.any() and not picture.plain.pooled.any()
    assert all(not side.any() for pair in picture.plain.sides for side in pair)
    [away] = prepared(backbone, [""], [0], 5.0, negative="red")
    assert away.plain.pooled.any()


@pytest.mark.parametrize("pooled", ["super", "concept"])
def test_training_steps_see_the_pooled_text_and_the_size(backbone, subject, tmp_path, pooled):
    seen, unet = [], backbone.unet

    def watch(_, __, kwargs):
        seen.append(kwargs["added_cond_kwargs"])

    handle = unet.register_forward_pre_hook(watch, with_kwargs=True)
    config = Config(steps=3, batch=4, accumulate=2, pooled=pooled)
    fit(backbone, subject, config, tmp_path, seed=0)
    handle.remove()
    assert len(seen) == 6
    for told in seen:
        assert told["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 2
        assert told["text_embeds"].shape == (2, POOLED) and not told["text_embeds"].requires_grad
    student = Student(backbone, subject, config)
    texts = ["a photo of a {teddy}", "the photo of a {teddy}"] * 2
    word = student.word if pooled == "concept" else replace(student.word, vector=None)
    with torch.no_grad():
        student.embedding += 0.1
    expected = backbone.text.encode(texts, {"teddy": word}).pooled
    torch.testing.assert_close(student.pooled(texts), expected)
    assert Concept.load(tmp_path / "concept.safetensors").pooled == pooled


def test_a_method_that_gives_no_pooled_text_is_refused(backbone, tmp_path):
    def nothing(*_):
        raise AssertionError("not asked")

    with pytest.raises(UserError, match="reads pooled text beside its cross-attentions"):
        train(backbone, Recipe(1), [], nothing, nothing, seed=0, out=tmp_path, save=nothing)


@pytest.mark.parametrize("changes", [
    {"train_k": True}, {"gate": "linear"}, {"vanilla_rome": True, "accumulate": 2},
    {"checkpointing": True},
])  # fmt: skip
def test_the_papers_ablations(backbone, subject, tmp_path, changes):
    config = Config(steps=2, batch=2, **changes)
    log = fit(backbone, subject, config, tmp_path, seed=0)
    assert np.isfinite(log["losses"]).all()
    with apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        assert sample(backbone, write("A {teddy}"), [0], steps=2).shape == (1, 16, 16, 3)


def test_parts_of_a_batch_and_an_interrupted_training_come_to_the_same(
    backbone, subject, tmp_path, monkeypatch
):
    from perfusion_core import checkpoint

    config = Config(steps=4, batch=4)
    whole = fit(backbone, subject, config, tmp_path / "whole", seed=0)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint.Checkpoint, "due", True)

    def stop(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(backbone, subject, config, tmp_path / "cut", seed=0, progress=stop)
    log = fit(backbone, subject, config, tmp_path / "cut", seed=0)
    assert log["losses"] == whole["losses"]
    files = [(tmp_path / name / "concept.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_attention_and_batches_of_one_shape(backbone):
    x, e = noise(backbone, [0, 1]), noise(backbone, [2, 3])
    masks = torch.zeros(2, 1, 16, 16)
    masks[:, :, 4:12, 4:12] = 1
    seen = look(backbone, ["a cat", "a red dog"], [[2], [3]], x, e, [500, 200], masks)
    assert seen.maps.shape == (2, 8, 8) and ((seen.leakage > 0) & (seen.leakage < 1)).all()
    assert rows_are_apart(backbone, 4, 5.0)
    one = sample(backbone, ["a cat", "a dog", "a pot"], [1, 2, 3], steps=2, rows=4)
    assert np.array_equal(one[1], sample(backbone, "a dog", [2], steps=2, rows=4)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_both_text_encoders_and_a_vae_that_needs_it(
    backbone, subject, tmp_path, dtype
):
    low = Backbone.open(backbone.place, device="cpu", dtype=dtype)
    pipe = low.pipe
    assert {pipe.text_encoder.dtype, pipe.text_encoder_2.dtype} == {torch.float32}
    assert low.text_digest == backbone.text_digest and pipe.unet.dtype == low.dtype
    # float16 lacks the range that the published VAE needs
    assert (pipe.vae.dtype == torch.float32) == (dtype == "float16")
    log = fit(low, subject, Config(steps=2, batch=2), tmp_path, seed=0)
    assert np.isfinite(log["losses"]).all()
    with apply(low, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        drawn = sample(low, write("A {teddy}"), [0], steps=2)
    with apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        exact = sample(backbone, write("A {teddy}"), [0], steps=2)
    assert np.abs(drawn.astype(float) - exact).mean() < 8


def test_a_vae_that_was_made_for_float16_is_kept_in_it(tmp_path):
    pipe = make_xl()
    pipe.vae.register_to_config(force_upcast=False)
    pipe.save_pretrained(tmp_path / "fixed")
    backbone = Backbone.open(tmp_path / "fixed", device="cpu", dtype="float16")
    assert backbone.vae.dtype == torch.float16
    assert sample(backbone, "A toy", [0], steps=2).shape == (1, 16, 16, 3)


def test_a_schedule_without_betas_is_refused(tmp_path):
    pipe = make_xl()
    pipe.scheduler = EDMDPMSolverMultistepScheduler()
    pipe.save_pretrained(tmp_path / "edm")
    with pytest.raises(UserError, match="knows no betas"):
        Backbone.open(tmp_path / "edm", device="cpu")


def test_layers_are_all_cross_attentions(backbone):
    layers = cross_attentions(backbone.unet)
    assert {layer.to_k.in_features for layer in layers.values()} == {sum(WIDTHS)}
    assert not any("attn1" in name for name in layers) and len(layers) == 8
