"""Single-file checkpoints of 1.x and 2.x, opened offline: weights, tokenizer, what is predicted,
what is refused.
"""

import json

import pytest
import torch
from run_kit import run_here, shared
from sd_kit import pipe_of, save_single_file, tiny_layouts

from benchmarks.cli import run
from perfusion_core import single_file
from perfusion_core.backbone import Backbone
from perfusion_core.covariance import cached
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample
from perfusion_core.weight_digests import backbone_digest

TRUE = single_file.layouts


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The layouts are small ones here, and a network would be an error."""
    layouts = tiny_layouts()
    monkeypatch.setattr(single_file, "layouts", lambda: layouts)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return layouts


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("width", [32, 64])
def test_every_weight_arrives_and_pictures_are_the_same_bytes(tiny, tmp_path, width):
    pipe = pipe_of(tiny[width], seed=width)
    path = save_single_file(
        pipe, tmp_path / "model.safetensors", {"modelspec.prediction_type": "epsilon"}
    )
    pipe.save_pretrained(tmp_path / "folder")
    one = Backbone.open(path, device="cpu", dtype="float32")
    many = Backbone.open(tmp_path / "folder", device="cpu", dtype="float32")
    for part in ("unet", "vae", "text_encoder"):
        same(getattr(one.pipe, part), getattr(pipe, part))
    assert one.text_digest == many.text_digest  # a concept fits both
    assert one.digest == backbone_digest(path) != many.digest
    texts, seeds = ["a cat on the beach", "an unfathomable teapot, 2 of them!"], [3, 4]
    assert (sample(one, texts, seeds, steps=3) == sample(many, texts, seeds, steps=3)).all()
    same(one.fresh_unet(), pipe.unet)


def test_the_commands_take_one(tiny, tmp_path, monkeypatch, capsys):
    """C into the cache, a benchmark with its fit and scores, and the fitted concept in a
    picture.
    """
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    path, captions = (
        save_single_file(pipe_of(tiny[32]), tmp_path / "model.safetensors"),
        tmp_path / "captions.txt",
    )
    texts = [f"a {a} cat {b} the {c}" for a in ("red", "old") for b in ("in", "on") for c in "abcd"]
    captions.write_text("\n".join(texts))
    here = ["--backbone", str(path), "--device", "cpu"]
    assert run(["covariance", *here, "--captions", str(captions)]) == 0
    assert capsys.readouterr().out.strip() == str(
        cached(Backbone.open(path, device="cpu").text_digest)
    )
    few = [
        "--concepts",
        "cat",
        "--prompts",
        "1",
        "--set",
        "train_steps=2",
        "--set",
        "validate_every=2",
    ]
    judges = [
        "--scorers",
        str(shared() / "tiny/scorer"),
        "--set",
        f"select_scorer={shared() / 'tiny/scorer2'}",
    ]
    assert run_here(shared(), tmp_path / "run", *here, *few, *judges) == 0
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["backbone"]["id"] == "model" and about["backbone"]["sha256"] == backbone_digest(
        path
    )
    assert len(list((tmp_path / "run").glob("images/*/*/cat/*/cell.json"))) == 2
    [file] = (tmp_path / "run").glob("fits/perfusion/cat-*/concept.safetensors")
    words = [
        "generate",
        "A {cat} on the beach",
        "--concept",
        f"cat={file}",
        "-n",
        "1",
        "--steps",
        "1",
    ]
    assert run([*words, *here, "--dtype", "float32", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "0.png").is_file()


def test_v_prediction_is_read_where_the_file_tells_it(tiny, tmp_path):
    pipe = pipe_of(tiny[64])
    silent = save_single_file(pipe, tmp_path / "v2-1.safetensors")
    with pytest.raises(UserError, match=r'parameterization: "v"  into v2-1.yaml'):
        Backbone.open(silent, device="cpu")
    digests = {backbone_digest(silent)}
    for word, kind, side in (("v", "v_prediction", 96), ("eps", "epsilon", 8)):
        silent.with_suffix(".yaml").write_text(
            f'model:\n  params:\n    parameterization: "{word}"\n'
        )
        digests.add(backbone_digest(silent))
        layout = single_file.layout_of(silent)
        assert (layout["scheduler"]["prediction_type"], layout["unet"]["sample_size"]) == (
            kind,
            side,
        )
    assert len(digests) == 3  # what is predicted decides what is drawn
    told = save_single_file(pipe, tmp_path / "told.safetensors", {"modelspec.prediction_type": "v"})
    backbone = Backbone.open(told, device="cpu", dtype="float32")
    assert backbone.scheduler().config.prediction_type == "v_prediction"
    assert backbone.unet.config.sample_size == 96


def test_the_true_layouts_have_the_published_sizes():
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from perfusion_core.backbone import cross_attentions

    counted = {}
    for width, layout in TRUE().items():
        with init_empty_weights():
            unet, vae = (
                UNet2DConditionModel.from_config(layout["unet"]),
                AutoencoderKL.from_config(layout["vae"]),
            )
            text = CLIPTextModel(CLIPTextConfig(**layout["text_encoder"]))
            if second := layout.get("text_encoder_2"):
                model = CLIPTextModelWithProjection(CLIPTextConfig(**second))
                assert sum(p.numel() for p in model.parameters()) == 694659840
        layers = cross_attentions(unet)
        numbers = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, text)]
        counted[width] = (
            len(layers),
            sum(layer.to_v.out_features for layer in layers.values()),
            *numbers,
        )
    # the parameter counts that the published model cards and papers give: 860 M, 84 M, 123 M; 866
    # M, 84 M, 340 M; 2.6 B, 84 M, 123 M and 695 M
    assert counted[768] == (16, 12480, 859520964, 83653863, 123060480)
    assert counted[1024] == (16, 12480, 865910724, 83653863, 340387840)
    assert counted[2048] == (70, 83200, 2567463684, 83653863, 123060480)


def test_the_tokenizer_is_clips(tiny):
    """Token ids known from CLIP's published vocabulary, and the same as open_clip's own tokenizer
    gives.
    """
    from open_clip import get_tokenizer

    ours, theirs = single_file.tokenizer_of(tiny[32]), get_tokenizer("ViT-B-32-quickgelu")
    assert ours("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    texts = [
        "A {} dressed as a samurai",
        "an oil-painting, 1889; it's the teapot's lid!",
        "Ünïcode  and   spaces",
    ]
    for text in texts:
        ids = ours(text, padding="max_length", truncation=True, max_length=77).input_ids
        expected = theirs([text])[0].tolist()
        end = expected.index(49407) + 1
        assert ids[:end] == expected[:end]
        assert set(ids[end:]) == {49407}  # 1.x pads with its end token
    padded = single_file.tokenizer_of(tiny[64])("a cat", padding="max_length").input_ids
    assert len(padded) == 77 and set(padded[4:]) == {0}  # 2.x pads with "!"


def test_refusals(tiny, tmp_path):
    from safetensors.torch import save_file

    save_file({"lora_unet_up.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of Stable Diffusion"):
        Backbone.open(tmp_path / "lora.safetensors", device="cpu")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match="damaged"):
        Backbone.open(tmp_path / "cut.safetensors", device="cpu")
    layout = {**tiny[32], "unet": {**tiny[32]["unet"], "in_channels": 9}}
    path = save_single_file(pipe_of(layout), tmp_path / "inpaint.safetensors")
    with pytest.raises(UserError, match="9 channels: an inpainting"):
        Backbone.open(path, device="cpu")


def test_files_that_lack_a_part_or_a_weight(tiny, tmp_path):
    """Most "no VAE" files, and what a broken download or an old program leaves: one sentence, for
    commands too.
    """
    from safetensors.torch import load_file, save_file

    whole = load_file(save_single_file(pipe_of(tiny[32]), tmp_path / "whole.safetensors"))

    def saved(name, without=(), renamed=("", "")):
        kept = {k.replace(*renamed): v for k, v in whole.items() if not k.startswith(without)}
        save_file(kept, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    norm = "layer_norm2.weight"
    cases = {
        saved("a", ("first_stage_model.",)): r"has no VAE; give a checkpoint with U-Net, VAE",
        saved("b", ("cond_stage_model.",)): r"has no text encoder; give a checkpoint",
        saved("c", renamed=("transformer.text_model.", "transformer.")): r"names of 2022",
        saved("d", (f"{single_file.UNET}input_blocks.1.0.in_layers.0.weight",)): r"is not whole",
        saved("e", ("first_stage_model.decoder.conv_in.",)): r"is not whole",
        saved("f", (f"cond_stage_model.transformer.text_model.encoder.layers.0.{norm}",)): (
            r"is not whole: text_encoder\.encoder\.layers\.0\.layer_norm2\.weight is missing"
        ),
    }
    for path, says in cases.items():
        with pytest.raises(UserError, match=says) as caught:
            Backbone.open(path, device="cpu", dtype="float32")
        assert "\n" not in str(caught.value)
    first = next(iter(cases))
    words = ["generate", "a cat", "--backbone", str(first), "--device", "cpu"]
    with pytest.raises(UserError, match="has no VAE"):
        run([*words, "--out", str(tmp_path / "out")])
