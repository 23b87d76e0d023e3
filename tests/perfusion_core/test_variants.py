"""Checkpoints of a family: penultimate-layer encoders, v-prediction, sizes, fine-tuned ones (Fig.
12), strangers.
"""

import json
import logging
import re
from shutil import copytree

import numpy as np
import pytest
import torch
from conftest import make_concept, make_pipe
from safetensors.torch import load_file, save_file
from sd_kit import pipe_of, save_single_file, tiny_layouts

from baselines.custom_diffusion_student import Student
from benchmarks.cli import run
from benchmarks.planning import methods
from benchmarks.planning.backbones import _text_digest
from perfusion_core import single_file
from perfusion_core.backbone import Backbone
from perfusion_core.covariance import FILE, cached, estimate
from perfusion_core.editing import load_concepts
from perfusion_core.errors import UserError
from perfusion_core.latents import Latents
from perfusion_core.perfusion import Config, fit
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted, Subject

CAPTIONS = [
    f"a {a} {b} in the {c}"
    for a in ("red", "old", "small")
    for b in ("cat", "teapot", "chair")
    for c in ("garden", "sea", "snow", "kitchen")
]


def opened(pipe, folder):
    pipe.save_pretrained(folder)
    return Backbone.open(folder, device="cpu", dtype="float32")


def drawn(backbone, concept, c_inv):
    with load_concepts(backbone.pipe, {"teddy": concept}, c_inv=c_inv):
        return sample(backbone, "A {teddy} in the snow", [1, 2], steps=3)


def test_an_encoder_without_its_last_layer_is_the_penultimate_output(tmp_path):
    """2.x ships 23 of 24 layers: what the U-Net reads is hidden_states[-2] of the whole, after the
    final norm.
    """
    from transformers import CLIPTextModel

    pipe = make_pipe(layers=3)
    whole = pipe.text_encoder
    cut = CLIPTextModel(
        type(whole.config)(**{**whole.config.to_dict(), "num_hidden_layers": 2})
    ).eval()
    state = {
        name: tensor for name, tensor in whole.state_dict().items() if ".layers.2." not in name
    }
    cut.load_state_dict(state)
    pipe.text_encoder = cut
    backbone = opened(pipe, tmp_path / "cut")
    ids = pipe.tokenizer(["a cat on the moon"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = whole(ids, output_hidden_states=True).hidden_states[-2]
        expected = getattr(whole, "text_model", whole).final_layer_norm(hidden)
    torch.testing.assert_close(backbone.encode(["a cat on the moon"]), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("side", [8, 12])
def test_both_predictions_and_sizes_train_and_draw(tmp_path, kind, side):
    pipe = make_pipe()
    pipe.scheduler.register_to_config(prediction_type=kind)
    pipe.unet.register_to_config(sample_size=side)
    backbone = opened(pipe, tmp_path / "model")
    estimate(backbone, CAPTIONS, tmp_path / "model" / FILE, source="a few")
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 2 * side, 2 * side, generator=rng) * 2 - 1
    log = fit(
        backbone,
        Subject("it", "cat", images),
        Config(steps=2, batch=2, masks=False),
        tmp_path / "fit",
        seed=0,
    )
    assert np.isfinite(log["losses"]).all()
    assert sample(backbone, "a cat", [1], steps=2).shape == (1, 2 * side, 2 * side, 3)
    assert backbone.scheduler().config.prediction_type == kind


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_what_is_predicted_decides_the_target_and_the_sampler(kind):
    """Against the definitions: x_t = a x_0 + s eps; v = a eps - s x_0; a perfect prediction gives
    x_0 back.
    """
    from types import SimpleNamespace

    from perfusion_core.noise_levels import levels_of
    from perfusion_core.training import Batch, Recipe, batch_losses

    pipe = make_pipe()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind)
    backbone = Backbone(
        "made", single_file.Path("nowhere"), None, pipe, torch.device("cpu"), torch.float32
    )
    x0 = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    scheduler = backbone.scheduler()

    class Silent:
        """Predicts zero, so that the loss is the mean square of the target."""

        dtype = torch.float32

        def __call__(self, noisy, t, encoder_hidden_states):
            self.noisy, self.t = noisy, t
            return SimpleNamespace(sample=torch.zeros_like(noisy))

    unet = Silent()
    rng = torch.Generator().manual_seed(2)
    batch = Batch(x0, ["a cat"] * 3)
    losses = batch_losses(
        backbone,
        unet,
        Recipe(1),
        batch,
        torch.zeros(3, 32, 32),
        lambda _: None,
        levels_of(scheduler, torch.device("cpu")),
        rng,
        1,
    )
    loss = sum(losses).item()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    a = scheduler.alphas_cumprod[unet.t].view(-1, 1, 1, 1).sqrt()
    s = (1 - a**2).sqrt()
    torch.testing.assert_close(unet.noisy, a * x0 + s * noise)
    target = noise if kind == "epsilon" else a * noise - s * x0
    assert loss == pytest.approx(target.square().mean().item(), rel=1e-5)
    scheduler.set_timesteps(1000)
    for n in range(3):
        back = scheduler.step(target[n], int(unet.t[n]), unet.noisy[n]).pred_original_sample
        torch.testing.assert_close(back, x0[n], rtol=1e-3, atol=2e-2)


def test_fine_tuned_checkpoints_take_the_concept_as_it_is(
    tiny_backbone, tiny_c_inv, tmp_path, caplog
):
    """Another U-Net behind the same text encoder; the locked keys are the new U-Net's own."""
    concept = make_concept(tiny_backbone, "teddy", "toy")
    tuned = make_pipe()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in tuned.unet.parameters():
            weight.add_(0.1 * weight.std().nan_to_num() * torch.randn(weight.shape, generator=rng))
    tuned.scheduler.register_to_config(prediction_type="v_prediction")
    other = opened(tuned, tmp_path / "tuned")
    with caplog.at_level(logging.WARNING, "perfusion_core"):
        pictures = drawn(other, concept, tiny_c_inv)
    assert not caplog.messages
    assert other.text_digest == tiny_backbone.text_digest and other.digest != tiny_backbone.digest
    assert not np.array_equal(pictures, drawn(tiny_backbone, concept, tiny_c_inv))


def test_generate_on_a_checkpoint_whose_text_encoder_was_trained_on(tmp_path, monkeypatch, caplog):
    """With the C that the concept was made with: nothing has to be estimated for each checkpoint it
    is carried to.
    """
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    original, pipe = opened(make_pipe(), tmp_path / "original"), make_pipe()
    estimate(original, CAPTIONS, cached(original.text_digest), source="a few")
    make_concept(original, "teddy", "toy").save(tmp_path / "teddy.safetensors")
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in pipe.text_encoder.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=rng))
    pipe.save_pretrained(tmp_path / "tuned")
    words = [
        "generate",
        "A {teddy} in the snow",
        "--concept",
        f"teddy={tmp_path / 'teddy.safetensors'}",
        "-n",
        "1",
    ]
    words += [
        "--steps",
        "2",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--out",
        str(tmp_path / "out"),
    ]
    with caplog.at_level(logging.WARNING, "perfusion_core"):
        assert run([*words, "--backbone", str(tmp_path / "tuned")]) == 0
    assert (
        "another text encoder of the same shape" in caplog.text
        and (tmp_path / "out" / "0.png").is_file()
    )


def test_a_concept_moves_between_a_folder_and_a_single_file_in_half_precision(
    tmp_path, monkeypatch, caplog
):
    layouts = tiny_layouts()
    monkeypatch.setattr(single_file, "layouts", lambda: layouts)
    pipe = pipe_of(layouts[32])
    folder = opened(pipe, tmp_path / "folder")
    estimate(folder, CAPTIONS, tmp_path / "folder" / FILE, source="a few")
    concept = make_concept(folder, "teddy", "toy")
    file = Backbone.open(
        save_single_file(pipe.to(torch.float16), tmp_path / "half.safetensors"),
        device="cpu",
        dtype="float32",
    )
    assert file.text_digest == folder.text_digest
    a, b = drawn(folder, concept, folder.c_inv), drawn(file, concept, folder.c_inv)
    assert not [record for record in caplog.records if record.name == "perfusion_core"]
    assert np.abs(a.astype(int) - b).mean() < 3


@pytest.fixture(scope="module")
def with_clips_words(tmp_path_factory):
    """A tiny checkpoint with the tokenizer of the published ones, whose vocabulary no test has
    chosen.
    """
    folder = tmp_path_factory.mktemp("clips") / "words"
    backbone = opened(pipe_of(tiny_layouts()[32]), folder)
    estimate(backbone, CAPTIONS, folder / FILE, source="a few")
    return backbone


@pytest.mark.parametrize("name", ["perfusion", "db", "ti", "cd", "lora"])
def test_every_method_speaks_clips_words(with_clips_words, tmp_path, name):
    module = methods.load_method(name)
    rng = torch.Generator().manual_seed(0)
    subject = Subject(
        "it", "teapot", torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1, torch.ones(2, 1, 16, 16)
    )
    prior = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    module.fit(
        with_clips_words, subject, module.Config(steps=1, batch=2), tmp_path, seed=0, prior=prior
    )
    with module.apply(with_clips_words, {"it": Fitted(tmp_path, "teapot")}, {}) as write:
        drawn = sample(
            with_clips_words, write("An oil painting of the {it}'s lid, by a lake"), [1], steps=2
        )
    assert drawn.shape == (1, 16, 16, 3)


def test_cd_starts_where_its_script_does(with_clips_words):
    """train_custom_diffusion.py prints 42170 for ktn, which as a word would be two tokens: k,
    tn</w>.
    """
    vector = Student(with_clips_words).vector
    assert torch.equal(vector, with_clips_words.text_encoder.get_input_embeddings().weight[42170])


def test_a_folder_with_nothing_but_half_precision(tiny_pipe_dir, tmp_path, monkeypatch):
    """`*.fp16.safetensors` alone, as many people keep it: the same encoder, the same C by its
    digest.
    """
    from benchmarks.planning.backbones import covariance_digest

    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    make_pipe().to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    names = {path.name for path in (tmp_path / "half").rglob("*.safetensors")}
    assert names == {"model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors"}
    backbone = Backbone.open(tmp_path / "half", device="cpu", dtype="float32")
    full = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    assert backbone.text_digest == full.text_digest and backbone.fresh_unet().dtype == torch.float32
    assert covariance_digest(tmp_path / "half") == ""
    estimate(
        backbone,
        CAPTIONS,
        tmp_path / "cache" / "covariance" / f"{full.text_digest}.safetensors",
        source="a few",
    )
    assert len(covariance_digest(tmp_path / "half")) == 16


def test_a_folder_as_it_was_published_in_2022(tiny_pipe_dir, tmp_path):
    """PNDM, a safety checker that nobody fetched, and the names that weights had: the same
    model.
    """
    folder = copytree(tiny_pipe_dir, tmp_path / "published")
    about = json.loads((folder / "model_index.json").read_text())
    about |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "_diffusers_version": "0.6.0",
    }
    about |= {
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "scheduler": ["diffusers", "PNDMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(about))
    pndm = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
    }
    pndm |= {
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(pndm))
    text, vae = (
        folder / "text_encoder/model.safetensors",
        folder / "vae/diffusion_pytorch_model.safetensors",
    )
    named = {
        f"text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in load_file(text).items()
    }
    save_file(
        named | {"text_model.embeddings.position_ids": torch.arange(32)[None]},
        text,
        {"format": "pt"},
    )
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    pattern = re.compile("|".join(re.escape(name) for name in old))
    save_file(
        {pattern.sub(lambda m: old[m[0]], k): v for k, v in load_file(vae).items()},
        vae,
        {"format": "pt"},
    )
    published, plain = (
        Backbone.open(f, device="cpu", dtype="float32") for f in (folder, tiny_pipe_dir)
    )
    assert published.text_digest == plain.text_digest == _text_digest(folder)
    pictures = [
        sample(backbone, "a cat on the beach", [1], steps=3) for backbone in (published, plain)
    ]
    assert np.array_equal(*pictures)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = [Latents.of(backbone, images).mean for backbone in (published, plain)]
    assert torch.equal(*latents)


def test_another_family_is_refused(tmp_path, monkeypatch):
    """2.x cannot take a concept of 1.x: another text encoder, said in words."""
    layouts = tiny_layouts()
    monkeypatch.setattr(single_file, "layouts", lambda: layouts)
    one, two = (opened(pipe_of(layouts[width]), tmp_path / str(width)) for width in (32, 64))
    concept = make_concept(one, "teddy", "toy")
    c_inv = torch.eye(32, dtype=torch.float64)
    says = (
        "was made for another model .*text encoder 49408x32x2.*this pipeline's is "
        "49408x64x2.*fit it again"
    )
    with (
        pytest.raises(UserError, match=says),
        load_concepts(two.pipe, {"teddy": concept}, c_inv=c_inv, force=True),
    ):
        pass
