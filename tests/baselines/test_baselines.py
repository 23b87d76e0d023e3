"""What is particular to each baseline: its batches, its loss, what it trains, and several concepts
in one picture.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from baselines_kit import MODULES, apart, module, ours, prior, quick_fit, subject

from baselines import (
    custom_diffusion,
    custom_diffusion_student,
    dreambooth,
    lora,
    merging,
    parts,
    resizing,
)
from baselines.captions import captions
from benchmarks.advice import advised
from perfusion_core import training
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.latents import Latents
from perfusion_core.sampling import as_float, sample
from perfusion_core.subject import Fitted
from perfusion_core.training import weighted_loss

METHODS = ["db", "ti", "cd", "lora", "pivotal", "xti"]


class Handed(Exception):
    """Stops a fit where it would begin to train."""


@pytest.fixture
def handed(monkeypatch, tiny_backbone, tmp_path):
    """-> what a method hands to the shared loop."""

    def get(method, who=None, **changes):
        this, got = module(method), {}

        def catch(backbone, recipe, groups, draw, encode, **more):
            got.update(more, recipe=recipe, groups=groups, draw=draw, encode=encode)
            raise Handed

        monkeypatch.setattr(training, "train", catch)
        with pytest.raises(Handed):
            config = replace(this.Config(), **changes)
            this.fit(
                tiny_backbone,
                who or subject(),
                config,
                tmp_path,
                seed=0,
                prior=prior() if this.PRIOR else None,
            )
        return got

    return get


@pytest.fixture
def still(monkeypatch):
    """The VAE without its noise, so that a latent can be recognised."""
    real = Latents.of

    def of(*args, **more):
        found = real(*args, **more)
        return replace(found, std=torch.zeros_like(found.std))

    monkeypatch.setattr(Latents, "of", staticmethod(of))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- what goes into the loop ----


def test_db_draws_one_picture_and_one_class_image(handed):
    got = handed("db")
    batch = got["draw"](rng())
    assert (
        batch.texts == ["a photo of sks toy", "a photo of a toy"]
        and batch.prior == 1
        and batch.mask is None
    )
    assert (
        got["recipe"].prior_weight == 1.0
        and got["recipe"].clip == 1.0
        and got["recipe"].weight_decay == 0.01
    )
    assert got["groups"][0]["lr"] == 5e-6
    assert len(got["groups"][0]["params"]) == len(list(got["unet"].parameters()))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in got["groups"][0]["params"])


def test_db_class_images_are_the_second_half(handed, still, tiny_backbone):
    """Those of the prior, not the concept's own."""
    batch = handed("db", batch=32)["draw"](rng())
    mine = Latents.of(tiny_backbone, subject().images).mean[0]
    theirs = Latents.of(tiny_backbone, as_float(prior())).mean[0]
    for rows, pictures in ((batch.latents[:32], mine), (batch.latents[32:], theirs)):
        assert places(rows, pictures) == set(range(len(pictures)))


def places(rows, pictures):
    """Which of the pictures the rows are; each is one of them."""
    found = [[n for n, picture in enumerate(pictures) if torch.equal(row, picture)] for row in rows]
    assert all(len(one) == 1 for one in found)
    return {one[0] for one in found}


def test_ti_trains_one_vector_on_the_shared_texts(handed, tiny_backbone):
    got = handed("ti")
    [group] = got["groups"]
    assert [tuple(p.shape) for p in group["params"]] == [(32,)] and group["lr"] == pytest.approx(
        8 * 5e-3
    )
    texts = {text for seed in range(20) for text in got["draw"](rng(seed)).texts}
    assert len(texts) == 9 and all("{teddy}" in text for text in texts)
    start = got["encode"](["a photo of a {teddy}"])
    torch.testing.assert_close(start, tiny_backbone.encode(["a photo of a toy"]))
    start.sum().backward()
    assert group["params"][0].grad.abs().sum() > 0


def test_xti_trains_a_vector_a_layer_on_the_shared_texts(handed, tiny_backbone):
    got = handed("xti")
    [group] = got["groups"]
    layers = len(cross_attentions(tiny_backbone.unet))
    assert [tuple(p.shape) for p in group["params"]] == [(32,)] * layers
    assert group["lr"] == 5e-3 and got["recipe"].steps == 500
    texts = {text for seed in range(20) for text in got["draw"](rng(seed)).texts}
    assert len(texts) == 9 and all("{teddy}" in text for text in texts)
    start = got["encode"](["a photo of a {teddy}"])
    same = tiny_backbone.encode(["a photo of a toy"]).repeat(1, 1, layers)
    torch.testing.assert_close(start, same)


def test_pivotal_trains_matrices_and_two_vectors(handed, tiny_backbone):
    got = handed("pivotal")
    matrices, words = got["groups"]
    assert len(matrices["params"]) == 2 * 4 * len(tiny_backbone.unet.attn_processors)
    assert [tuple(p.shape) for p in words["params"]] == [(32,)] * 2
    assert (matrices["lr"], words["lr"]) == (1e-4, 3e-4)
    assert (got["recipe"].weight_decay, got["recipe"].clip) == (1e-4, 1.0)
    assert got["draw"](rng()).texts == ["a photo of a {teddy 1} {teddy 2} toy"] * 4
    spread = (
        torch.stack(words["params"]).std()
        / tiny_backbone.text_encoder.get_input_embeddings().weight.std()
    )
    assert 0.7 < spread < 1.4  # of 64 numbers


def test_cd_trains_k_v_and_one_vector_half_on_class_images(handed, tiny_backbone):
    got = handed("cd")
    [group] = got["groups"]
    layers = cross_attentions(tiny_backbone.unet).values()
    assert sorted(tuple(p.shape) for p in group["params"]) == sorted(
        [
            (32,),
            *(tuple(side.weight.shape) for layer in layers for side in (layer.to_k, layer.to_v)),
        ]
    )
    assert group["lr"] == 8e-5 and got["recipe"].steps == 250
    batch = got["draw"](rng())
    assert batch.latents.shape[0] == 8 and batch.prior == 4
    assert batch.texts[4:] == ["a photo of a toy"] * 4
    assert all(text.endswith("photo of a {teddy} toy") for text in batch.texts[:4])
    start, same = (
        got["encode"](["photo of a {teddy} toy"]),
        tiny_backbone.encode(["photo of a ktn toy"]),
    )
    torch.testing.assert_close(start, same)


def test_lora_trains_two_matrices_a_projection(handed, tiny_backbone):
    got = handed("lora")
    [group] = got["groups"]
    attentions = len(tiny_backbone.unet.attn_processors)
    assert len(group["params"]) == 2 * 4 * attentions and {
        min(p.shape) for p in group["params"]
    } == {4}
    assert got["draw"](rng()).texts == ["a photo of sks toy"]
    # the second of each pair starts at zero
    assert sum(bool(p.any()) for p in group["params"]) == 4 * attentions


@pytest.mark.parametrize(("layers", "each"), [("cross", 2), ("values", 1)])
def test_lora_may_act_where_other_methods_act(layers, each, handed, tiny_backbone):
    [group] = handed("lora", layers=layers)["groups"]
    crossed = sum(name.endswith("attn2.to_v") for name, _ in tiny_backbone.unet.named_modules())
    assert crossed and len(group["params"]) == 2 * each * crossed
    with pytest.raises(UserError, match="layers=keys: give one of all, cross, values"):
        lora.Config(layers="keys")


@pytest.mark.parametrize("method", ["db", "ti", "lora", "pivotal", "xti"])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_flips_are_the_recipes_and_never_an_asymmetric_concept(
    method, asymmetric, handed, still, tiny_backbone
):
    """DreamBooth and those with LoRA never mirror; for Custom Diffusion see below."""
    who = subject(asymmetric=asymmetric)
    batch = handed(method, who, batch=64)["draw"](rng())
    views = Latents.of(tiny_backbone, who.images, flip=True).mean  # as they are, and mirrored
    seen = places(batch.latents[: len(batch.latents) - batch.prior], views.flatten(0, 1))
    assert seen == set(range(6 if method in ("ti", "xti") and not asymmetric else 3))


@pytest.mark.parametrize("method", ["db", "cd"])
def test_class_images_are_needed(method, tiny_backbone, tmp_path):
    this = module(method)
    with pytest.raises(UserError) as caught:
        this.fit(tiny_backbone, subject(), this.MINIATURE, tmp_path, seed=0)
    assert (
        advised(caught.value)
        == f"{method} learns beside class images of 'toy'; `perfbench run` makes them"
    )


@pytest.mark.parametrize("method", METHODS)
def test_trains_and_draws_in_bfloat16(method, tiny_pipe_dir, tmp_path):
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="bfloat16")
    fitted = quick_fit(method, backbone, tmp_path, steps=3)
    drawn = ours(method, backbone, {"teddy": fitted}, "A {teddy} on the beach")
    assert apart(drawn, sample(backbone, "A toy on the beach", [3, 4], steps=5)) > 10


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method, tiny_backbone, tmp_path):
    """Against the same draws of pictures, noise and times without learning."""
    this = module(method)
    rates = {"db": 1e-3, "ti": 0.03, "cd": 0.01, "lora": 0.01, "pivotal": 0.01, "xti": 0.03}
    rate = rates[method]

    def losses(lr, out):
        config = replace(this.MINIATURE, steps=10, batch=8, lr=lr)
        return this.fit(tiny_backbone, subject(), config, tmp_path / out, seed=2, prior=prior())[
            "losses"
        ]

    still, learnt = losses(0.0, "still"), losses(rate, "learnt")
    assert learnt[0] == pytest.approx(still[0], rel=1e-5)
    assert np.mean(learnt[-4:]) < 0.99 * np.mean(still[-4:])


# ---- Custom Diffusion ----


def test_cd_sizes_places_masks_and_prefixes():
    """Where there is picture, the mask may be 1; where there is grey, never; the words fit the
    size.
    """
    image, down, sizes = torch.full((3, 96, 96), 1.0), 8, []
    generator = rng(1)
    for _ in range(400):
        picture, valid, prefix = resizing.resized(image, down, generator)
        assert picture.shape == image.shape and valid.shape == (1, 12, 12) and valid.max() == 1
        covered = (picture > 0.5).float()
        cells = covered[:1].unfold(1, down, down).unfold(2, down, down).mean((3, 4))
        assert (cells[valid == 1] == 1).all()
        share = covered[0].mean().sqrt().item()
        sizes.append(share)
        if prefix in ("zoomed in ", "close up "):
            assert share == 1 and valid.min() == 1
        elif prefix in ("very small ", "a far away "):
            assert share < 0.61
        else:
            assert prefix == "" and share > 0.59
    whole = np.mean(np.array(sizes) == 1)
    # enlarged, or by chance just as it was
    assert whole == pytest.approx(0.34 + 0.66 / 65, abs=0.08)
    assert min(sizes) == pytest.approx(1 / 3, abs=0.03)


def test_cd_enlarges_by_a_fifth_to_two_fifths():
    """A ramp from 0 to 1 over the width: its slope tells how much it was enlarged."""
    ramp, generator, scales = torch.linspace(0, 1, 96).expand(3, 96, 96), rng(2), []
    while len(scales) < 60:
        picture, _, prefix = resizing.resized(ramp, 8, generator)
        if prefix in ("zoomed in ", "close up "):
            middle = picture[0, 48]
            scales.append(1 / ((middle[70] - middle[26]).item() / 44 * 95))
    assert min(scales) == pytest.approx(1.2, abs=0.03) and max(scales) == pytest.approx(
        1.4, abs=0.03
    )


def test_cd_flips_but_not_an_asymmetric_concept(handed, monkeypatch):
    seen, real = [], resizing.resized
    monkeypatch.setattr(
        resizing, "resized", lambda view, down, g: (seen.append(view), real(view, down, g))[1]
    )
    for asymmetric in (False, True):
        who = subject(asymmetric=asymmetric)
        handed("cd", who, batch=128)["draw"](rng())
        mirrored = [not any(torch.equal(view, image) for image in who.images) for view in seen]
        assert all(
            any(torch.equal(v.flip(-1), i) for i in who.images) for v, m in zip(seen, mirrored) if m
        )
        assert np.mean(mirrored) == pytest.approx(
            0.0 if asymmetric else 0.5, abs=0.0 if asymmetric else 0.2
        )
        seen.clear()


def test_cd_without_resizing_sees_whole_pictures(handed, still, tiny_backbone):
    who = subject(asymmetric=True)
    batch = handed("cd", who, batch=16, resize=False)["draw"](rng())
    assert batch.mask.shape == (16, 1, 8, 8) and (batch.mask == 1).all() and batch.prior == 8
    assert len(set(batch.texts[:8])) == 1 and batch.texts[0].startswith("photo of a {"), "no prefix"
    assert places(batch.latents[:8], Latents.of(tiny_backbone, who.images).mean[0]) == set(
        range(len(who.images))
    )


def test_cd_loss_is_the_mean_over_the_valid_part_and_class_images_weigh_the_same(handed):
    batch = handed("cd", batch=16)["draw"](rng(3))
    predicted, target = (torch.randn(16, 4, 8, 8, generator=rng(seed)) for seed in (4, 5))
    error = (predicted.double() - target.double()) ** 2
    valid = batch.mask[:8] > 0
    assert 0 < valid.float().mean() < 1
    rows = [error[n][valid[n].expand(4, 8, 8)].mean() for n in range(8)]
    expected = torch.stack(rows).mean() + error[8:].mean()
    found = weighted_loss(predicted, target, batch.mask, batch.prior, 1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cd_first_token_gives_no_gradient():
    plain = torch.nn.Linear(5, 3, bias=False)
    layer = custom_diffusion_student.FirstTokenDetached(plain)
    encodings = torch.randn(2, 4, 5, generator=rng(), requires_grad=True)
    out = layer(encodings)
    torch.testing.assert_close(out, plain(encodings))
    weights = torch.randn(out.shape, generator=rng(1))
    (out * weights).sum().backward()
    assert not encodings.grad[:, 0].any() and encodings.grad[:, 1:].all()
    torch.testing.assert_close(
        layer.weight.grad, torch.einsum("nmo,nmi->oi", weights[:, 1:], encodings.detach()[:, 1:])
    )


def test_cd_refuses_a_batch_without_halves(tiny_backbone, tmp_path):
    with pytest.raises(UserError, match="half of each part is class images"):
        custom_diffusion.fit(
            tiny_backbone,
            subject(),
            custom_diffusion.Config(batch=6, accumulate=2),
            tmp_path,
            seed=0,
            prior=prior(),
        )


# ---- the merge ----


def test_merge_is_the_least_squares_solution():
    """Their Eq. 4 solved as it stands, by its Lagrange conditions, in float64: |(W' - W) C_reg|
    least, W' K* = V*.
    """
    draw = np.random.default_rng(0)
    captions_, w = draw.normal(size=(60, 7)), draw.normal(size=(4, 7))
    targets, outputs = draw.normal(size=(7, 3)), draw.normal(size=(4, 3))
    c = captions_.T @ captions_
    conditions = np.block([[2 * c, targets], [targets.T, np.zeros((3, 3))]])
    right = np.vstack([2 * c @ w.T, outputs.T])
    expected = np.linalg.solve(conditions, right)[:7].T
    found = merging.merge(*map(torch.from_numpy, (w, targets, outputs, np.linalg.inv(c))))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.numpy() @ targets, outputs, atol=1e-9)
    scaled = merging.merge(*map(torch.from_numpy, (w, targets, outputs, np.linalg.inv(1000 * c))))
    np.testing.assert_allclose(scaled.numpy(), found.numpy(), rtol=1e-8)  # C's scale cancels


@pytest.fixture(scope="module")
def two(tiny_backbone, tmp_path_factory):
    """Fits of two concepts by a method, made once."""
    made = {}

    def get(method):
        if method not in made:
            teddy = quick_fit(method, tiny_backbone, tmp_path_factory.mktemp("teddy"))
            brew = quick_fit(
                method, tiny_backbone, tmp_path_factory.mktemp("brew"), subject("brew", "teapot")
            )
            made[method] = {"teddy": teddy, "brew": brew}
        return made[method]

    return get


def test_merged_layers_give_each_concepts_own_outputs_on_its_words(tiny_backbone, two):
    """And move what captions give less far than each fit does."""
    fits = two("cd")
    loaded = {name: custom_diffusion_student.load(fit.folder) for name, fit in fits.items()}
    base = {
        name: layer.to_v.weight.clone()
        for name, layer in cross_attentions(tiny_backbone.unet).items()
    }
    plain = tiny_backbone.encode(captions())[:, 1:8].reshape(-1, 32)
    with custom_diffusion.apply(tiny_backbone, fits, {}) as write, torch.no_grad():
        assert write("{teddy} in a {brew}") == "{teddy} toy in a {brew} teapot"
        for name, text in (
            ("teddy", "photo of a {teddy} toy"),
            ("brew", "photo of a {brew} teapot"),
        ):
            mine = parts_of(tiny_backbone, text)
            for layer_name, layer in cross_attentions(tiny_backbone.unet).items():
                own = loaded[name][0][layer_name]
                for side, weight in zip((layer.to_k, layer.to_v), own):
                    torch.testing.assert_close(side(mine), mine @ weight.T, rtol=1e-3, atol=1e-3)
        for layer_name, layer in cross_attentions(tiny_backbone.unet).items():
            moved = (plain @ (layer.to_v.weight - base[layer_name]).T).norm()
            alone = min(
                (plain @ (w[layer_name][1] - base[layer_name]).T).norm() for w, _ in loaded.values()
            )
            assert moved < alone


def test_a_concept_merged_with_itself_keeps_its_own_outputs(tiny_backbone, two):
    """Columns of K* that are the same twice must not make the merge singular."""
    fit = two("cd")["teddy"]
    weights = custom_diffusion_student.load(fit.folder)[0]
    with custom_diffusion.apply(tiny_backbone, {"teddy": fit, "twin": fit}, {}), torch.no_grad():
        mine = parts_of(tiny_backbone, "photo of a {twin} toy")
        for name, layer in cross_attentions(tiny_backbone.unet).items():
            torch.testing.assert_close(
                layer.to_v(mine), mine @ weights[name][1].T, rtol=1e-3, atol=1e-3
            )


def parts_of(backbone, text):
    """Encodings of <new1>, the class and the end token: 'photo of a' comes before them, the start
    token before that.
    """
    return backbone.pipe.encode_prompt(text, backbone.device, 1, False)[0][0, 4:7]


def test_captions_are_200_different_ones_that_make_c_invertible():
    """With CLIP's own tokenizer, at the width of SD 1.5, whatever the weights."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTextConfig, CLIPTextModel

    texts = captions()
    assert len(set(texts)) == len(texts) == 200
    torch.manual_seed(0)
    model = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, num_hidden_layers=1, num_attention_heads=12)
    ).eval()
    for parameter in model.final_layer_norm.parameters():  # as they begin, encodings have mean 0
        torch.nn.init.normal_(parameter)
    ids = SimpleTokenizer(context_length=24)(texts)
    lengths = ids.argmax(1)  # of the end token, the highest id
    with torch.no_grad():
        encodings = model(ids)[0]
    rows = torch.cat(
        [encoding[1 : length + 1] for encoding, length in zip(encodings, lengths)]
    ).double()
    assert 1000 < len(rows) < 4000
    assert torch.linalg.matrix_rank(rows) == 768


def test_lora_adds_the_matrices_of_several_concepts(tiny_backbone, two):
    """Against weights changed by hand: W + B1 A1 + B2 A2."""
    from safetensors.torch import load_file

    fits, text = two("lora"), "A sks toy next to a sks teapot"
    together = ours("lora", tiny_backbone, fits, "A {teddy} next to a {brew}")
    unet = tiny_backbone.fresh_unet()
    for fit in fits.values():
        matrices = load_file(fit.folder / lora.FILE)
        for key in matrices:
            if key.endswith(".lora.down.weight") or key.endswith(".lora_A.weight"):
                up = key.replace(".lora.down.", ".lora.up.").replace(".lora_A.", ".lora_B.")
                place = key.removeprefix("unet.").split(".lora")[0]
                with torch.no_grad():
                    unet.get_submodule(place).weight.add_(matrices[up] @ matrices[key])
    with dreambooth.drawing_with(tiny_backbone, unet):
        assert apart(sample(tiny_backbone, text, [3, 4], steps=5), together) <= 1
    for name, fit in fits.items():
        assert (
            apart(ours("lora", tiny_backbone, {name: fit}, f"A {{{name}}} on the beach"), together)
            > 10
        )


def test_ti_writes_several_concepts_into_one_prompt(tiny_backbone, two):
    fits = two("ti")
    with module("ti").apply(tiny_backbone, fits, {}):
        both = tiny_backbone.pipe.encode_prompt("A {teddy} in a {brew}", "cpu", 1, False)[0]
    with module("ti").apply(tiny_backbone, {"teddy": fits["teddy"]}, {}):
        one = tiny_backbone.pipe.encode_prompt("A {teddy} in a teapot", "cpu", 1, False)[0]
    torch.testing.assert_close(both[:, :5], one[:, :5])
    assert not torch.allclose(both[:, 5:], one[:, 5:], atol=1e-2)


def test_db_refuses_two_concepts(tiny_backbone, two, tmp_path):
    fits = {name: Fitted(tmp_path, "toy") for name in ("teddy", "brew")}
    with (
        pytest.raises(UserError, match="teddy and brew cannot be drawn together"),
        dreambooth.apply(tiny_backbone, fits, {}),
    ):
        pass


# ---- the proof ----


def test_a_stray_change_is_found(tiny_pipe_dir):
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    before = parts.stamps(backbone)
    parts.assert_only(before, backbone, lambda name: False)
    with torch.no_grad():
        backbone.vae.decoder.conv_in.bias.add_(0.1)
    with pytest.raises(AssertionError, match=r"vae\.decoder\.conv_in\.bias is changed"):
        parts.assert_only(before, backbone, lambda name: False)
    parts.assert_only(before, backbone, lambda name: name == "vae.decoder.conv_in.bias")
    with pytest.raises(AssertionError, match=r"unet\.conv_in\.bias is not changed"):
        parts.assert_only(
            before, backbone, lambda name: name in ("vae.decoder.conv_in.bias", "unet.conv_in.bias")
        )


# ---- the page ----


def test_the_page_tells_every_number_of_every_recipe():
    """docs/baselines.md against the configurations themselves."""
    import re
    from dataclasses import asdict
    from pathlib import Path

    def read(text):
        words = {"yes": True, "no": False, "all": "all"}
        return words[text] if text in words else float(text)

    page = (Path(__file__).parent.parent.parent / "docs" / "baselines.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| .* \| ([\w.+-]+) \| ([\w.+-]+) \| .*\|$", page, re.M
    )
    told = {(method, name): (read(sd), read(small)) for method, name, sd, small in rows}
    for method in MODULES:
        published, small = asdict(module(method).Config()), asdict(module(method).MINIATURE)
        names = published.keys() - {"accumulate", "checkpointing", "masks"}  # how, not what
        assert names == {name for of, name in told if of == method}
        for name in names:
            assert told[method, name] == pytest.approx((published[name], small[name])), (
                f"{method}.{name}"
            )


def test_cd_better_is_200_of_250_steps_and_follows_a_short_preset():
    from benchmarks.planning import methods
    from benchmarks.planning.config import resolve

    def steps(sets=(), **flags):
        config = resolve(flags={"methods": "cd-better,cd", **flags}, sets=sets)
        return {
            method.name: method.config.get("steps")
            for method in methods.resolve_methods(config, miniature=False)
        }

    assert steps() == {"super": None, "cd-better": 200, "cd": 250}
    assert steps(train_steps=100)["cd-better"] == 80
    assert steps(train_steps=1000) == steps(), "a short preset makes no recipe longer"
    assert steps(sets=["fit.cd-better.steps=7"])["cd-better"] == 7
