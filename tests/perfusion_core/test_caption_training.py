"""Perfusion's fit on backbones of PixArt's and Sana's kinds: the loop's noise, its masks, its file,
and what it draws.
"""

import random
from dataclasses import replace
from importlib import import_module

import diffusers
import numpy as np
import pytest
import torch
from caption_kit import MAKERS, TEXT_WIDTH, WIDTH, make_pixart, make_sana
from conftest import WORDS

from perfusion_core import Backbone, Concept, UserError, load_concepts
from perfusion_core.attention import look
from perfusion_core.backbone import cross_attentions
from perfusion_core.batches import rows_are_apart
from perfusion_core.covariance import FILE, estimate
from perfusion_core.denoisers import between, exactly, predicted
from perfusion_core.noise_levels import FLOW, levels_of
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.sampling import AttentionMaps, Manner, draw, noise, prepared, sample
from perfusion_core.student import Student, using
from perfusion_core.subject import Fitted, Subject
from perfusion_core.training import Batch, Recipe, Validation, batch_losses, train

CAPTIONS = [
    " ".join(random.Random(n).choices(WORDS, k=random.Random(n).randint(3, 12))) for n in range(24)
]


@pytest.fixture(scope="module", params=MAKERS)
def backbone(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / request.param
    MAKERS[request.param]().save_pretrained(folder)
    backbone = Backbone.open(folder, device="cpu", dtype="float32")
    estimate(backbone, CAPTIONS, folder / FILE, source="random words", batch=4)
    return backbone


@pytest.fixture(scope="module")
def subject(backbone):
    side, rng = backbone.size, torch.Generator().manual_seed(5)
    images = torch.rand(3, 3, side, side, generator=rng) * 2 - 1
    masks = torch.zeros(3, 1, side, side)
    masks[:, :, 4:12, 2:9] = 0.5
    return Subject("teddy", "toy", images, masks)


def weights(backbone):
    pipe = backbone.pipe
    parts = (pipe.transformer, pipe.vae, pipe.text_encoder)
    return [tensor.clone() for model in parts for tensor in model.state_dict().values()]


def test_what_is_opened(backbone):
    sides = {"pixart": (16, 2), "sana": (32, 2)}[backbone.name]
    assert (backbone.size, backbone.down) == sides
    assert backbone.unet is backbone.pipe.transformer
    assert (backbone.text.width, backbone.text.widths) == (WIDTH, [TEXT_WIDTH])
    last = "caption_projection" if backbone.name == "pixart" else "caption_norm"
    assert backbone.text.shape().endswith(f"x{TEXT_WIDTH}x2:{last}[{WIDTH}]")
    layers = cross_attentions(backbone.unet)
    assert {layer.to_k.in_features for layer in layers.values()} == {WIDTH} and len(layers) == 3


def test_a_short_fit_learns_and_its_file_draws_the_same(backbone, subject, tmp_path):
    before = weights(backbone)
    scored = []

    def score(images):
        scored.append(images.shape)
        return -float(len(scored))  # the first look is the best

    config = Config(steps=12, batch=4, lr=0.1, flip=False)
    log = fit(backbone, subject, config, tmp_path / "fit", seed=0)
    still = fit(
        backbone, subject, replace(config, lr=0.0, lr_embedding=0.0), tmp_path / "still", seed=0
    )
    learned, kept = (np.array(one["losses"]) for one in (log, still))  # of the same noise
    assert learned[0] == kept[0] and (learned[-4:] < kept[-4:] - 1e-4).all()
    assert all(torch.equal(a, b) for a, b in zip(weights(backbone), before, strict=True))
    concept = Concept.load(tmp_path / "fit" / "concept.safetensors")
    assert (concept.embedding - backbone.text.token_vector("toy")).norm() > 0.01
    assert (concept.i_star - backbone.text.super_encoding("toy")).norm() > 1e-4
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
    assert log["steps"] == 2 and scored == [(2, backbone.size, backbone.size, 3)] * 2
    assert Concept.load(out / "concept.safetensors").steps == 2


@pytest.mark.parametrize("lock", ["local", "global"])
def test_what_the_sampler_draws_is_what_the_stock_pipeline_draws(backbone, subject, tmp_path, lock):
    """Prompt and negative prompt, masks and instruction, with a concept and without."""
    fit(backbone, subject, Config(steps=2, batch=2), tmp_path, seed=0)
    file = tmp_path / "concept.safetensors"
    stock = diffusers.DiffusionPipeline.from_pretrained(backbone.place)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = backbone.scheduler()
    side = backbone.size
    for high, wide in ((side, side), (side, 2 * side)):
        shape = (1, 4, high // 2, wide // 2)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        how = {"guidance_scale": 4.0, "num_inference_steps": 4, "height": high, "width": wide}
        for text in ("A toy on the beach", "A {teddy} on the beach"):
            given = {"teddy": file} if "{" in text else {}
            with load_concepts(stock, given, lock, c_inv=backbone.c_inv):
                theirs = stock(
                    text, latents=latents, output_type="np", negative_prompt="red",
                    use_resolution_binning=False, **how,
                ).images  # fmt: skip
            with load_concepts(backbone.pipe, given, lock, c_inv=backbone.c_inv):
                pictures = prepared(backbone, [text], [3], 4.0, negative="red")
                manner = Manner(size=(high, wide))
                ours = draw(backbone, pictures, steps=4, guidance=4.0, how=manner)
            assert np.abs(theirs[0] * 255 - ours[0]).max() < 1


def test_training_steps_see_masks_and_encodings_behind_the_projection(backbone, subject, tmp_path):
    seen, first = [], next(iter(cross_attentions(backbone.unet).values()))

    def watch(_, __, kwargs):
        seen.append((kwargs["encoder_hidden_states"], kwargs["attention_mask"]))

    handle = first.register_forward_pre_hook(watch, with_kwargs=True)
    config = Config(steps=2, batch=4, accumulate=2)
    fit(backbone, subject, config, tmp_path, seed=0)
    handle.remove()
    assert len(seen) == 4
    student = Student(backbone, subject, config)
    [mask] = student.masks(["a photo of a {teddy}"])
    read = backbone.text.encode(["a photo of a {teddy}"], {"teddy": student.word})
    assert torch.equal(mask, read.mask[0]) and mask.shape == (300,) and 4 < mask.sum() < 10
    for encodings, bias in seen:
        assert encodings.shape == (2, 300, WIDTH) and bias.shape == (2, 1, 300)
        assert ((bias == 0).sum(-1) < 12).all() and ((bias == 0).sum(-1) > 3).all()
    # what the first step's layer reads is one of the nine texts, from start to end
    from perfusion_core.prompts import TEMPLATES, named

    texts = [named(template, "teddy") for template in TEMPLATES]
    known = backbone.text.encode(texts, {"teddy": student.word}).encodings
    nearest = (known - seen[0][0][0]).abs().amax((1, 2)).min()
    assert nearest < 1e-5


def test_levels_of_flow_matching_against_their_definition(backbone, subject):
    """x_t = (1 - s) x + s eps; a perfect prediction, eps - x, leads back to x in Euler's steps."""
    levels = levels_of(backbone.scheduler(), torch.device("cpu"))
    rng = torch.Generator().manual_seed(0)
    x, eps = torch.randn(3, 4, 8, 8, generator=rng), torch.randn(3, 4, 8, 8, generator=rng)
    at = torch.tensor([0, 400, 999])
    noisy, target = levels.noisy(x, eps, at), levels.target(x, eps, at)
    assert len(levels) == 1000
    if backbone.name == "pixart":
        alphas = backbone.scheduler().alphas_cumprod[at].view(-1, 1, 1, 1)
        torch.testing.assert_close(noisy, alphas.sqrt() * x + (1 - alphas).sqrt() * eps)
        assert torch.equal(target, eps) and torch.equal(levels.times[at], at)
        return
    assert levels.predicts == FLOW and levels.times[-1] == 1000
    u = (at + 1) / 1000
    s = (3 * u / (1 + 2 * u)).view(-1, 1, 1, 1)  # shifted by 3
    torch.testing.assert_close(noisy, (1 - s) * x + s * eps)
    torch.testing.assert_close(levels.times[at], 1000 * s.flatten())
    assert torch.equal(target, eps - x)
    scheduler = backbone.scheduler()
    scheduler.set_timesteps(7)
    now = eps
    for t in scheduler.timesteps:
        now = scheduler.step(target, t, now).prev_sample
    torch.testing.assert_close(now, x, rtol=1e-4, atol=1e-4)


def test_the_loss_is_of_the_model_asked_as_the_stock_pipeline_asks_it(backbone):
    """One row by hand: through the projection, with the true time and mask."""
    levels = levels_of(backbone.scheduler(), torch.device("cpu"))
    texts = ["a photo of a toy", "a cat on the red beach in the snow"]
    read = backbone.text.encode(texts, {})
    side = backbone.size // 2
    x = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, texts)
    with torch.no_grad():
        losses = batch_losses(
            backbone, backbone.unet, Recipe(1), batch, read.encodings, lambda _: None, levels,
            torch.Generator().manual_seed(2), 1, text_mask=read.mask,
        )  # fmt: skip
        loss = sum(losses).item()
        rng = torch.Generator().manual_seed(2)
        eps = torch.randn(x.shape, generator=rng)
        at = torch.randint(1000, (2,), generator=rng)
        pipe = backbone.pipe
        found = [pipe.encode_prompt(one, False, device="cpu", **backbone.text.reading())
                 for one in texts]  # fmt: skip
        e, mask = (torch.cat([one[k] for one in found]) for k in (0, 1))
        more = {} if backbone.name == "sana" else {
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}
        }  # fmt: skip
        out = pipe.transformer(
            levels.noisy(x, eps, at), encoder_hidden_states=e, encoder_attention_mask=mask,
            timestep=levels.times[at], **more,
        ).sample[:, :4]  # fmt: skip
        wrong = pipe.transformer(
            levels.noisy(x, eps, at), encoder_hidden_states=e,
            timestep=levels.times[at], **more,
        ).sample[:, :4]  # fmt: skip
    expected = (out - levels.target(x, eps, at)).square().mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (wrong - out).abs().max() > 1e-4  # the mask matters


@pytest.mark.parametrize("changes", [
    {"train_k": True}, {"gate": "linear"}, {"vanilla_rome": True, "accumulate": 2},
    {"checkpointing": True},
])  # fmt: skip
def test_the_papers_ablations(backbone, subject, tmp_path, changes):
    config = Config(steps=2, batch=2, **changes)
    log = fit(backbone, subject, config, tmp_path, seed=0)
    assert np.isfinite(log["losses"]).all()
    with apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        drawn = sample(backbone, write("A {teddy}"), [0], steps=2)
    assert drawn.shape == (1, backbone.size, backbone.size, 3)


def test_checkpointing_and_an_interrupted_training_come_to_the_same(
    backbone, subject, tmp_path, monkeypatch
):
    from perfusion_core import checkpoint

    config = Config(steps=3, batch=2)
    whole = fit(backbone, subject, config, tmp_path / "whole", seed=0)
    again = fit(backbone, subject, replace(config, checkpointing=True), tmp_path / "less", seed=0)
    assert again["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint.Checkpoint, "due", True)

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(backbone, subject, config, tmp_path / "cut", seed=0, progress=stop)
    log = fit(backbone, subject, config, tmp_path / "cut", seed=0)
    assert log["losses"] == whole["losses"]
    files = [(tmp_path / name / "concept.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_batches_of_one_shape_and_where_words_look(backbone):
    assert rows_are_apart(backbone, 4, 5.0)
    one = sample(backbone, ["a cat", "a dog", "a pot"], [1, 2, 3], steps=2, rows=4)
    assert np.array_equal(one[1], sample(backbone, "a dog", [2], steps=2, rows=4)[0])
    maps = AttentionMaps()
    sample(backbone, "a cat", [1], steps=2, attention=maps)
    total = maps.maps.sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert maps.maps[:, 50:].abs().max() < 1e-6  # of padding
    x = noise(backbone, [0])
    with pytest.raises(UserError, match="whose attention is not looked at"):
        look(backbone, ["a cat"], [[2]], x, x, [500], torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_all_of_the_text_side(backbone, subject, tmp_path, dtype):
    low = Backbone.open(backbone.place, device="cpu", dtype=dtype)
    kept = [low.pipe.text_encoder, *between(low.unet).values()]
    assert {next(part.parameters()).dtype for part in kept} == {torch.float32}
    assert low.text_digest == backbone.text_digest and low.unet.dtype == low.dtype
    log = fit(low, subject, Config(steps=2, batch=2), tmp_path, seed=0)
    assert np.isfinite(log["losses"]).all()
    with apply(low, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        drawn = sample(low, write("A {teddy}"), [0], steps=2)
    with apply(backbone, {"teddy": Fitted(tmp_path, "toy")}, {}) as write:
        exact = sample(backbone, write("A {teddy}"), [0], steps=2)
    assert np.abs(drawn.astype(float) - exact).mean() < 8


def test_linear_attention_of_zeros_is_zero_in_training_with_float16():
    """Where no query is above 0 it divides 0 by 1e-15, which would be 0 in float16."""
    transformer = make_sana().transformer.half()
    exactly(transformer)
    layer = transformer.transformer_blocks[0].attn1
    with torch.no_grad():
        layer.to_q.weight.zero_()
        x = torch.randn(1, 9, WIDTH, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.float16):
            found = layer(x)
    assert found.dtype == torch.float16
    assert torch.equal(found, layer.to_out[0].bias.expand_as(found))


@pytest.mark.parametrize("upcast", [True, False])
def test_pixarts_vae_leaves_the_range_of_float16_unless_it_says_otherwise(tmp_path, upcast):
    pipe = make_pixart()
    pipe.vae.register_to_config(force_upcast=upcast)
    pipe.save_pretrained(tmp_path / "pixart")
    low = Backbone.open(tmp_path / "pixart", device="cpu", dtype="float16")
    assert low.unet.dtype == torch.float16
    assert low.vae.dtype == (torch.float32 if upcast else torch.float16)
    assert sample(low, "a cat", [0], steps=1).shape == (1, 16, 16, 3)


def test_what_asks_for_a_u_net_or_for_clip_is_refused(backbone, tmp_path):
    def nothing(*_):
        raise AssertionError("not asked")

    with pytest.raises(UserError, match="asks which tokens are text"):
        train(backbone, Recipe(1), [], nothing, nothing, seed=0, out=tmp_path, save=nothing)
    with pytest.raises(UserError, match="reads its text encoder behind a projection"):
        _ = backbone.text_encoder
    with pytest.raises(UserError, match="trains a whole U-Net"):
        backbone.fresh_unet()
    if backbone.name == "sana":
        with pytest.raises(UserError, match="trained by flow matching"):
            draw(
                backbone, prepared(backbone, ["a cat"], [0], 1.0), steps=2, guidance=1.0,
                how=Manner(scheduler="euler"),
            )  # fmt: skip


@pytest.mark.parametrize("name", ["textual_inversion", "lora", "custom_diffusion", "dreambooth"])
def test_methods_for_one_clip_and_a_u_net_are_refused(backbone, subject, tmp_path, name):
    method, before = import_module(f"baselines.{name}"), weights(backbone)
    modules = dict(backbone.unet.named_modules())
    with pytest.raises(UserError, match="use the method perfusion"):
        method.fit(backbone, subject, method.Config(steps=1), tmp_path, seed=0)
    assert dict(backbone.unet.named_modules()) == modules
    assert all(torch.equal(a, b) for a, b in zip(weights(backbone), before, strict=True))


def test_pixart_alpha_is_told_the_size_where_it_was_trained_with_it(tmp_path):
    """The large one: 128 latents a side. A picture is that of the stock pipeline."""
    pipe = make_pixart(
        kind="PixArtAlphaPipeline", width=24, sample_size=128, use_additional_conditions=True,
        num_layers=1, interpolation_scale=2,
    )  # fmt: skip
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path / "alpha")
    backbone = Backbone.open(tmp_path / "alpha", device="cpu", dtype="float32")
    assert (backbone.size, backbone.text.length) == (256, 120)
    pipe.scheduler, size = backbone.scheduler(), (32, 48)
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(3))
    theirs = pipe(
        "a cat", latents=latents, num_inference_steps=3, guidance_scale=3.0, output_type="np",
        height=32, width=48, use_resolution_binning=False,
    ).images  # fmt: skip
    pictures = prepared(backbone, ["a cat"], [3], 3.0)
    ours = draw(backbone, pictures, steps=3, guidance=3.0, how=Manner(size=size))
    assert np.abs(theirs[0] * 255 - ours[0]).max() < 1
    read = backbone.text.encode(["a cat"], {})
    found = [
        predicted(
            backbone.unet, latents, 500, encoder_hidden_states=read.encodings,
            **backbone.added(None, one, read.mask),
        )
        for one in ((32, 48), (512, 512))
    ]  # fmt: skip
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_a_flow_of_diffusers_own_scheduler(tmp_path):
    """Sana's other configuration: FlowMatchEulerDiscreteScheduler, whose shift is `shift`."""
    pipe = make_sana()
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
    pipe.save_pretrained(tmp_path / "sana")
    backbone = Backbone.open(tmp_path / "sana", device="cpu", dtype="float32")
    levels = levels_of(backbone.scheduler(), torch.device("cpu"))
    assert levels.predicts == FLOW and levels.times[499] == pytest.approx(1000 * 1 / 1.5)
    assert sample(backbone, "a cat", [0], steps=2).shape == (1, 32, 32, 3)
