"""Scorers of today: tiny random models in each library's own format against the libraries by hand,
sizes against the libraries' own networks, and what is said before anything is fetched.
"""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from run_kit import copy_of_reference, shared

from benchmarks.cli import run
from benchmarks.paths import miniature_dir
from benchmarks.running import scorers_beforehand
from benchmarks.scoring.lookup import find_scorer, knows_pictures_only
from benchmarks.scoring.modern import SHORT, spelled_out
from benchmarks.scoring.scorers import open_scorer
from perfusion_core.errors import UserError


def pictures():
    rng = np.random.default_rng(0)
    sizes = ((40, 48), (64, 33), (32, 32))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def dinov2(folder):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**small, image_size=28, patch_size=14)).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return folder


def dinov3(folder):
    from transformers import BitImageProcessor, DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 64, "num_register_tokens": 2}
    DINOv3ViTModel(DINOv3ViTConfig(**small, image_size=32, patch_size=16)).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("make", [dinov2, dinov3])
def test_of_transformers_as_peft_measures(make, tmp_path):
    """The class token of the last layer of the model's own preprocessing, of unit length."""
    from transformers import AutoImageProcessor, AutoModel

    folder = make(tmp_path / "model")
    found = find_scorer(f"dino:{folder}", "x", tmp_path)
    processor, model = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.eval()
    with torch.inference_mode():
        inputs = processor(images=pictures(), return_tensors="pt")
        token = model(**inputs).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(token, dim=-1).numpy()
    np.testing.assert_allclose(open_scorer(found, "cpu").images(pictures()), expected, atol=1e-6)
    assert found.name.startswith("dino-model-") and len(found.weights) == 64


def test_dinov3_of_timm_by_its_class_token(tmp_path):
    """timm's own head takes the mean of the patches, so that is another scorer."""
    import timm
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    small = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2}
    model = timm.create_model("vit_small_patch16_dinov3", num_classes=0, **small).eval()
    model.pretrained_cfg |= {"input_size": (3, 32, 32), "num_classes": 0, "crop_pct": 1.0}
    save_for_hf(model, tmp_path / "vit_dinov3", model_args=small, safe_serialization=True)
    by_token, by_mean = (
        find_scorer(f"{kind}:{tmp_path / 'vit_dinov3'}", "x", tmp_path)
        for kind in ("timm-cls", "timm")
    )
    assert by_token.weights == by_mean.weights and by_token.name != by_mean.name
    assert by_token.name.startswith("vit_dinov3-cls-")
    scorer = open_scorer(by_token, "cpu")
    batch = torch.stack([scorer.prepare(picture) for picture in pictures()])
    with torch.inference_mode():
        tokens = model.forward_features(batch)
    assert tokens.shape[1] == 1 + 4 + 4  # the class token, registers, patches
    for found, features in ((by_token, tokens[:, 0]), (by_mean, tokens[:, 5:].mean(1))):
        expected = torch.nn.functional.normalize(features, dim=-1).numpy()
        np.testing.assert_allclose(
            open_scorer(found, "cpu").images(pictures()), expected, atol=1e-5
        )
    with pytest.raises(UserError, match="cannot be opened"):
        no_token = timm.create_model("resnet10t", num_classes=0).eval()
        save_for_hf(no_token, tmp_path / "resnet", model_args={}, safe_serialization=True)
        open_scorer(find_scorer(f"timm-cls:{tmp_path / 'resnet'}", "x", tmp_path), "cpu")


def test_siglip2_of_open_clip(tmp_path):
    """A tower of timm's that pools by attention, texts without a causal mask."""
    from safetensors.torch import save_file

    about = open_clip.get_model_config("ViT-B-16-SigLIP2")
    about["embed_dim"] = 192
    about["vision_cfg"] |= {"timm_model_name": "vit_tiny_patch16_224"}
    about["text_cfg"] |= {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408}
    del about["text_cfg"]["hf_tokenizer_name"], about["text_cfg"]["tokenizer_kwargs"]
    plain = {key: value for key, value in about.items() if key != "custom_text"}
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**plain).eval()
    folder = tmp_path / "siglip2"
    folder.mkdir()
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    pixels = {**half, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": about, "preprocess_cfg": pixels})
    )
    save_file(
        {name: one.contiguous() for name, one in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    found = find_scorer(str(folder), "x", tmp_path)
    assert not knows_pictures_only(str(folder)) and found.kind == "clip"
    scorer = open_scorer(found, "cpu")
    squashed = np.stack([np.asarray(one.resize((224, 224), 3), dtype=float) for one in pictures()])
    batch = torch.from_numpy((squashed / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        seen = torch.nn.functional.normalize(model.encode_image(batch), dim=-1).numpy()
        tokens = open_clip.SimpleTokenizer(context_length=64)(["A on the beach"])
        read = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1).numpy()[0]
    np.testing.assert_allclose(scorer.images(pictures()), seen, atol=1e-5)
    np.testing.assert_allclose(scorer.text("A on the beach"), read, atol=1e-5)


def test_sizes_and_work_are_those_of_the_libraries_own_networks():
    import timm
    from transformers import Dinov2Config, Dinov2Model

    plain = open_clip.get_model_config("ViT-B-16-SigLIP2")
    del plain["custom_text"]
    cfg = timm.models.get_pretrained_cfg("vit_base_patch16_dinov3.lvd1689m")
    pair = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP2", "webli")
    assert pair["hf_hub"].strip("/") == SHORT["siglip2"].hub_id
    assert cfg.hf_hub_id == SHORT["dinov3"].hub_id and cfg.input_size[-1] == 256
    with torch.device("meta"):
        both = open_clip.CustomTextCLIP(**plain)
        networks = {
            "dinov2-base": (Dinov2Model(Dinov2Config(image_size=518, patch_size=14)), 224),
            "dinov3": (timm.create_model("vit_base_patch16_dinov3", num_classes=0), 256),
            "siglip2": (both.visual, 224),
        }
        assert set(networks) == set(SHORT)
        for name, (network, side) in networks.items():
            whole = both if name == "siglip2" else network
            assert sum(one.numel() for one in whole.parameters()) == SHORT[name].parameters
            done = list[int]()
            for one in network.modules():
                if isinstance(one, torch.nn.Linear):
                    one.register_forward_hook(
                        lambda _, given, out, done=done: done.append(
                            given[0].numel() * out.shape[-1]
                        )
                    )
            with torch.no_grad():
                network.requires_grad_(False)(torch.empty(1, 3, side, side))
            of_attention = 2 * 12 * SHORT[name].tokens ** 2 * 768
            assert SHORT[name].work == pytest.approx(sum(done) + of_attention, rel=0.03)


def test_modern_is_a_set_and_stands_for_the_judges_of_a_drawn_world(tmp_path):
    assert spelled_out(["auto", "modern", "dinov3"]) == ["auto", "dinov2-base", "dinov3", "siglip2"]
    assert spelled_out(["modern"], miniature_dir()) == ["auto", "truth"]
    assert spelled_out(["auto", "modern"], shared() / "tiny") == ["auto"], "it has no judges"
    assert [knows_pictures_only(name) for name in SHORT] == [True, True, False]


@pytest.mark.parametrize(("name", "why"), [("dreamsim", "pickles"), ("lpips:alex", "place by")])
def test_what_is_no_scorer_is_one_sentence(name, why, tmp_path):
    with pytest.raises(UserError, match=why):
        find_scorer(name, "x", tmp_path)


def test_download_and_time_are_told_before_anything_is_fetched(monkeypatch, tmp_path, capsys):
    def download(*_, **__):
        said.append(capsys.readouterr().err)
        raise OSError("no network here")

    said = list[str]()
    out = copy_of_reference(tmp_path / "run")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(scorers_beforehand, "rate", lambda device: 1e9)
    monkeypatch.setattr(scorers_beforehand, "is_here", lambda one: False)
    words = ["score", str(out), "--scorers", "dinov2-base,dinov3", "--device", "cpu"]
    with pytest.raises(UserError, match="cannot fetch the scorer dino:facebook/dinov2-base"):
        run(words)
    first = said[0]
    assert "about 688.9 MB will be downloaded" in first and "dinov3 342.6 MB" in first
    # 16 pictures, 23.05 and 23.42 thousand million multiplications each
    assert "dinov2-base, dinov3 see at most 16 pictures of this run, 12 to 50 min on cpu" in first
    monkeypatch.setattr(scorers_beforehand, "is_here", lambda one: True)
    scorers_beforehand.tell_modern(["dinov3", "auto"], 10, "cpu")
    told = capsys.readouterr().err
    assert "download" not in told and "dinov3 see at most 10 pictures" in told
    scorers_beforehand.tell_modern(["auto", "truth"], 10, "cpu")
    assert capsys.readouterr().err == ""


def test_the_rate_is_measured():
    assert scorers_beforehand.rate("cpu") > 1e7


def test_several_of_them_add_columns_to_a_run(tmp_path):
    import pandas as pd

    out = copy_of_reference(tmp_path / "run")
    given = f"dino:{dinov2(tmp_path / 'two')},dino:{dinov3(tmp_path / 'three')}"
    assert run(["score", str(out), "--scorers", given, "--device", "cpu"]) == 0
    table = pd.read_csv(out / "table.csv")
    assert sum(name.startswith("image_sim_dino-") for name in table) == 2 * 3
    about = json.loads((out / "run.json").read_text())
    assert [one["kind"] for one in about["scorers"]] == ["clip", "dino", "dino"]
