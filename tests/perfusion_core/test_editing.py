"""Editing a stock pipeline: what the layers compute, locks, several concepts, batches, caching,
restoration.
"""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_concept, make_pipe
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionPipeline,
)
from safetensors.torch import save_file

from benchmarks.advice import advised
from perfusion_core import load_concepts, rank_one
from perfusion_core.backbone import cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.prompts import super_encoding, super_token
from perfusion_core.rank_one import gated_edit, linear_gate
from perfusion_core.weight_digests import text_digest, text_shape


@pytest.fixture(scope="module")
def pipe(tiny_pipe_dir, tiny_c_inv):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipe_dir, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def teddy(tiny_backbone):
    return make_concept(tiny_backbone, "teddy", "toy", seed=1)


@pytest.fixture(scope="module")
def brew(tiny_backbone):
    return make_concept(tiny_backbone, "brew", "teapot", seed=2)


def draw(pipe, prompt, **more):
    count = len(prompt) if isinstance(prompt, list) else 1
    generator = [
        torch.Generator().manual_seed(n)
        for n in range(count * more.get("num_images_per_prompt", 1))
    ]
    return pipe(prompt, num_inference_steps=3, generator=generator, output_type="np", **more).images


def states(pipe):
    return {
        f"{part}.{name}": tensor
        for part in ("unet", "text_encoder", "vae")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def project(pipe, text, side="to_v"):
    encodings = pipe.encode_prompt(text, "cpu", 1, False)[0]
    return [
        getattr(layer, side)(encodings)[0].detach()
        for layer in cross_attentions(pipe.unet).values()
    ]


def test_local_lock_is_eq_4(pipe, teddy, brew, tiny_c_inv):
    """Every layer against the pure functions, with two concepts of different bias and temperature
    in one prompt.
    """
    text = "A {teddy} sailing inside a {brew} on the lake"
    with load_concepts(
        pipe,
        {"teddy": teddy, "brew": brew},
        bias={"teddy": 0.55, "brew": 0.7},
        temperature={"teddy": 0.1},
    ):
        encodings = pipe.encode_prompt(text, "cpu", 1, False)[0]
        keys, values = project(pipe, text, "to_k"), project(pipe, text)
    i_star = torch.stack([teddy.i_star, brew.i_star])
    supers = torch.stack(
        [super_encoding(pipe.text_encoder, pipe.tokenizer, word) for word in ("toy", "teapot")]
    )
    for n, layer in enumerate(cross_attentions(pipe.unet).values()):
        gates = {"bias": [0.55, 0.7], "temperature": [0.1, 0.15]}
        o_v, o_k = torch.stack([teddy.o_v[n], brew.o_v[n]]), supers @ layer.to_k.weight.T
        torch.testing.assert_close(
            values[n], gated_edit(encodings, layer.to_v.weight, i_star, o_v, tiny_c_inv, **gates)[0]
        )
        torch.testing.assert_close(
            keys[n], gated_edit(encodings, layer.to_k.weight, i_star, o_k, tiny_c_inv, **gates)[0]
        )


def test_the_concept_keeps_its_key_at_every_position(teddy, tiny_c_inv):
    """At e = i_star the locked key is o_star_K whatever the position; public versions lost it
    elsewhere.
    """
    pipe = make_pipe(length=77)  # as CLIP's
    here = replace(teddy, text_digest=text_digest(pipe.text_encoder))
    e_super = super_encoding(pipe.text_encoder, pipe.tokenizer, "toy")
    for at in range(1, 61):
        text = "a " * (at - 1) + "{teddy}"
        with load_concepts(pipe, {"teddy": here}, c_inv=tiny_c_inv):
            encodings = pipe.encode_prompt(text, "cpu", 1, False)[0]
        open_wide = {"teddy": replace(here, i_star=encodings[0, at])}
        with load_concepts(pipe, open_wide, bias=-20.0, c_inv=tiny_c_inv):
            keys, values = project(pipe, text, "to_k"), project(pipe, text)
        for n, layer in enumerate(cross_attentions(pipe.unet).values()):
            torch.testing.assert_close(
                keys[n][at], layer.to_k.weight @ e_super, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(values[n][at], teddy.o_v[n], rtol=1e-4, atol=1e-5)


def test_global_lock_takes_all_keys_from_the_super_categorys_prompt(pipe, teddy):
    text = "A {teddy} reading a book on the moon"
    with load_concepts(pipe, {"teddy": teddy}, lock="local", bias=0.5):
        local = project(pipe, text)
    with load_concepts(pipe, {"teddy": teddy}, lock="global", bias=0.5):
        keys, values = project(pipe, text, "to_k"), project(pipe, text)
    plain = project(pipe, "A toy reading a book on the moon", "to_k")
    for n in range(len(plain)):
        torch.testing.assert_close(keys[n], plain[n], rtol=0, atol=0)
        torch.testing.assert_close(values[n], local[n], rtol=0, atol=0)


def test_trained_keys_and_linear_gates(pipe, teddy, tiny_c_inv):
    trained = replace(teddy, o_k=tuple(torch.randn_like(o) for o in teddy.o_v), gate="linear")
    with load_concepts(pipe, {"teddy": trained}, bias=0.9):
        encodings = pipe.encode_prompt("a {teddy}", "cpu", 1, False)[0]
        keys = project(pipe, "a {teddy}", "to_k")
    for n, layer in enumerate(cross_attentions(pipe.unet).values()):
        rome = gated_edit(
            encodings,
            layer.to_k.weight,
            teddy.i_star[None],
            trained.o_k[n][None],
            tiny_c_inv,
            0.0,
            1.0,
            linear_gate,
        )
        torch.testing.assert_close(keys[n], rome[0])


@pytest.mark.parametrize("lock", ["local", "global"])
def test_batches_repeats_and_guidance_change_nothing_for_one_image(pipe, teddy, brew, lock):
    prompts = ["A {teddy} on the beach", "a photo of a cat", "A {brew} and a {teddy}, in the snow"]
    with load_concepts(pipe, {"teddy": teddy, "brew": brew}, lock=lock, bias=0.5):
        together = draw(
            pipe,
            prompts,
            guidance_scale=6.0,
            num_images_per_prompt=2,
            negative_prompt=["red", "blue", "gold {brew}"],
        )
        for n, (prompt, negative) in enumerate(
            zip(prompts, ["red", "blue", "gold {brew}"], strict=True)
        ):
            generator = [torch.Generator().manual_seed(2 * n + k) for k in range(2)]
            alone = pipe(
                prompt,
                negative_prompt=negative,
                num_inference_steps=3,
                generator=generator,
                guidance_scale=6.0,
                num_images_per_prompt=2,
                output_type="np",
            ).images
            assert np.abs(alone - together[2 * n : 2 * n + 2]).max() < 2 / 255


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler]
)
@pytest.mark.parametrize("lock", ["local", "global"])
def test_any_scheduler_and_a_prompt_without_the_concept(pipe, teddy, scheduler, lock):
    kept = pipe.scheduler
    pipe.scheduler = scheduler.from_config(kept.config)
    with load_concepts(pipe, {"teddy": teddy}, lock=lock, bias=0.5):
        with_it, without = draw(pipe, "A {teddy}"), draw(pipe, "A dog in the garden")
    plain = draw(pipe, "A dog in the garden")
    pipe.scheduler = kept
    assert np.isfinite(with_it).all()
    assert np.abs(with_it - without).mean() > 1e-3
    assert without.shape == plain.shape


@pytest.mark.parametrize("lock", ["local", "global"])
def test_bit_for_bit_restored(pipe, teddy, lock):
    before, modules, image = (
        states(pipe),
        dict(pipe.unet.named_modules()),
        draw(pipe, "A toy on the beach"),
    )
    before = {name: tensor.clone() for name, tensor in before.items()}

    def same():
        after = states(pipe)
        assert after.keys() == before.keys() and all(
            torch.equal(after[name], before[name]) for name in before
        )
        assert dict(pipe.unet.named_modules()) == modules
        assert "encode_prompt" not in vars(pipe)
        assert np.array_equal(draw(pipe, "A toy on the beach"), image)

    with load_concepts(pipe, {"teddy": teddy}, lock=lock):
        edited = draw(pipe, "A {teddy} on the beach")
        held = states(pipe)
        assert held.keys() == before.keys() and all(
            torch.equal(held[name], before[name]) for name in before
        )  # weights never change
    assert not np.array_equal(edited, image)
    same()
    with pytest.raises(UserError, match="tedy"), load_concepts(pipe, {"teddy": teddy}, lock=lock):
        draw(pipe, "A {tedy} on the beach")
    same()
    with pytest.raises(RuntimeError), load_concepts(pipe, {"teddy": teddy}, lock=lock):
        draw(pipe, "A {teddy} on the beach", callback_on_step_end=stop)
    same()


def stop(*_):
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("lock", ["local", "global"])
def test_one_projection_a_layer_in_fifty_steps(pipe, teddy, lock, monkeypatch):
    calls, splits = [], []

    def counted(function, into):
        return lambda *args: (into.append(1), function(*args))[1]

    for name, into in (("through", calls), ("split", splits)):
        monkeypatch.setattr(rank_one, name, counted(getattr(rank_one, name), into))
    with load_concepts(pipe, {"teddy": teddy}, lock=lock):
        pipe("A {teddy}", num_inference_steps=50, output_type="latent", guidance_scale=6.0)
    layers = len(cross_attentions(pipe.unet))
    assert (len(calls), len(splits)) == (2 * layers, 1)


def test_a_tensor_changed_in_place_is_projected_again(pipe, teddy):
    with load_concepts(pipe, {"teddy": teddy}), torch.no_grad():
        encodings = pipe.encode_prompt("A {teddy}", "cpu", 1, False)[0]
        layer = next(iter(cross_attentions(pipe.unet).values())).to_v
        first = layer(encodings).clone()
        assert layer(encodings) is layer(encodings)
        encodings.mul_(0.5)
        assert not torch.equal(layer(encodings), first)


def test_gradients_are_there_after_a_look_without_them(pipe, teddy):
    """What was computed without a graph is not handed out where one is recorded, for encodings and
    for weights.
    """
    layer = next(iter(cross_attentions(pipe.unet).values()))
    with load_concepts(pipe, {"teddy": teddy}):
        encodings = pipe.encode_prompt("A {teddy}", "cpu", 1, False)[0].detach().requires_grad_()
        with torch.no_grad():
            before = layer.to_v(encodings)
        after = layer.to_v(encodings)
        assert torch.equal(before, after)
        for gradient in torch.autograd.grad(after.sum(), (encodings, layer.to_v.weight)):
            assert gradient.abs().sum() > 0


def test_textual_inversions_of_several_tokens_beside_a_concept(tmp_path, teddy, tiny_c_inv):
    """diffusers writes `<mug> <mug>_1` for `<mug>`: a concept after it stands one token further
    on.
    """
    pipe = make_pipe()
    save_file({"<mug>": torch.randn(2, 32)}, tmp_path / "mug.safetensors")
    pipe.load_textual_inversion(str(tmp_path / "mug.safetensors"), token="<mug>")
    encoder, toy = pipe.text_encoder, super_token(pipe.tokenizer, "toy")
    here = replace(teddy, text_shape=text_shape(encoder), text_digest=text_digest(encoder))
    with load_concepts(pipe, {"teddy": here}, c_inv=tiny_c_inv):
        ours = pipe.encode_prompt("a photo of <mug> and {teddy}", "cpu", 1, False)[0]
    with torch.no_grad():
        encoder.get_input_embeddings().weight[toy] = teddy.embedding
    torch.testing.assert_close(
        ours, pipe.encode_prompt("a photo of <mug> and toy", "cpu", 1, False)[0]
    )


def test_negative_prompts_as_many_as_prompts(pipe, teddy):
    """As the stock pipeline has it, which asks before; shorter lists are not repeated."""
    with load_concepts(pipe, {"teddy": teddy}):
        for given in ([], ["red"], ["red"] * 4):
            with pytest.raises(
                UserError, match=f"3 prompts need one negative prompt or as many, not {len(given)}"
            ):
                pipe.encode_prompt(["A {teddy}"] * 3, "cpu", 1, True, given)


def test_prompt_embeds(pipe, teddy):
    with load_concepts(pipe, {"teddy": teddy}, lock="local"):
        image = draw(pipe, "A {teddy} in the snow", guidance_scale=5.0)
        embeds, negative = pipe.encode_prompt("A {teddy} in the snow", "cpu", 1, True)
        generator = [torch.Generator().manual_seed(0)]
        given = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
        again = pipe(
            **given,
            num_inference_steps=3,
            generator=generator,
            output_type="np",
            guidance_scale=5.0,
        ).images
    assert np.abs(image - again).max() < 1e-4
    with (
        load_concepts(pipe, {"teddy": teddy}, lock="global"),
        pytest.raises(UserError, match="prompt_embeds"),
    ):
        pipe(**given, num_inference_steps=1)
    with load_concepts(pipe, {"teddy": teddy}), pytest.raises(UserError, match="clip_skip"):
        pipe("A {teddy}", num_inference_steps=1, clip_skip=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lock", ["local", "global"])
def test_half_precision_pipelines(pipe, tiny_pipe_dir, teddy, brew, dtype, lock):
    low = StableDiffusionPipeline.from_pretrained(tiny_pipe_dir, safety_checker=None, dtype=dtype)
    low.set_progress_bar_config(disable=True)
    both = {"teddy": teddy, "brew": brew}
    with load_concepts(low, both, lock=lock), load_concepts(pipe, both, lock=lock):
        text = "A {teddy} in a {brew}"
        for side in ("to_k", "to_v"):
            for a, b in zip(project(low, text, side), project(pipe, text, side), strict=True):
                assert a.dtype == dtype
                assert (a.float() - b).norm() / b.norm() < 0.05
        assert np.isfinite(draw(low, text)).all()


def test_refusals(pipe, teddy, brew, tiny_backbone, tmp_path):
    teddy.save(tmp_path / "a.safetensors")
    teddy.save(tmp_path / "b.safetensors")
    with load_concepts(pipe, tmp_path / "a.safetensors"):  # one alone, by its own name
        assert not np.array_equal(draw(pipe, "A {teddy}"), draw(pipe, "A toy"))
    with (
        pytest.raises(UserError, match="two concepts have the placeholder 'teddy'"),
        load_concepts(pipe, [tmp_path / "a.safetensors"] * 2),
    ):
        pass
    for wrong, says in (
        ({"lock": "locl"}, "did you mean 'local'"),
        ({"bias": {"tedy": 0.5}}, "did you mean 'teddy'"),
        ({"bias": float("nan")}, "the bias nan of 'teddy' is not a number; leave it out for 0.6"),
        ({"bias": "high"}, "the bias 'high' of 'teddy' is not a number"),
        ({"temperature": {"teddy": 0}}, "the temperature 0 of 'teddy' is not a number above 0"),
    ):
        with pytest.raises(UserError, match=says), load_concepts(pipe, {"teddy": teddy}, **wrong):
            pass
    with load_concepts(pipe, {"teddy": teddy}):
        with pytest.raises(UserError, match="loaded already"), load_concepts(pipe, {"brew": brew}):
            pass
        # the first ones are still there
        assert not np.array_equal(draw(pipe, "A {teddy}"), draw(pipe, "A toy"))
    same = {"one": teddy, "two": teddy}
    with pytest.raises(UserError, match="'one' and 'two'"), load_concepts(pipe, same):
        pass
    assert "encode_prompt" not in vars(pipe)


def test_another_text_encoder(tiny_pipe_dir, teddy, tiny_c_inv, caplog):
    """A fine-tuned one is accepted with one line, a stranger is refused unless forced, another
    shape always.
    """
    tuned = make_pipe()
    with torch.no_grad():
        for weight in tuned.text_encoder.parameters():
            weight.add_(
                0.02
                * weight.std().nan_to_num()
                * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
            )
    with caplog.at_level(logging.WARNING), load_concepts(tuned, {"teddy": teddy}, c_inv=tiny_c_inv):
        draw(tuned, "A {teddy}")
    assert (
        len(caplog.messages) == 1
        and "cosine 0.9" in caplog.messages[0]
        and "'toy'" in caplog.messages[0]
    )
    stranger = make_pipe(seed=7)
    with (
        pytest.raises(UserError, match=r"cosine.*less than 0\.8"),
        load_concepts(stranger, {"teddy": teddy}, c_inv=tiny_c_inv),
    ):
        pass
    with load_concepts(stranger, {"teddy": teddy}, c_inv=tiny_c_inv, force=True):
        draw(stranger, "A {teddy}")
    for other in (make_pipe(width=64), make_pipe(layers=3)):
        with (
            pytest.raises(UserError, match="another model"),
            load_concepts(other, {"teddy": teddy}, c_inv=tiny_c_inv, force=True),
        ):
            pass


def test_concepts_of_two_text_encoders_do_not_mix(pipe, teddy, brew):
    with (
        pytest.raises(UserError, match="different text encoders"),
        load_concepts(pipe, {"a": teddy, "b": replace(brew, text_digest="0" * 16)}),
    ):
        pass


def test_no_covariance_names_the_command(pipe, teddy, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path))
    elsewhere = make_pipe()  # the same weights, from no folder
    with pytest.raises(UserError) as caught, load_concepts(elsewhere, {"teddy": teddy}):
        pass
    assert "perfbench covariance --backbone tiny" in advised(caught.value)


def test_float16_storage_moves_no_gate_and_hardly_a_pixel(pipe, teddy, tmp_path):
    teddy.save(tmp_path / "full.safetensors", torch.float32)
    teddy.save(tmp_path / "half.safetensors", torch.float16)
    images = []
    for name in ("full", "half"):
        with load_concepts(pipe, {"teddy": tmp_path / f"{name}.safetensors"}, bias=0.5):
            images.append(draw(pipe, ["A {teddy} on the beach", "a cat next to a {teddy}"]))
    assert np.abs(images[0] - images[1]).mean() < 1 / 255
