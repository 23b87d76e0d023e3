"""Scorers as people have them: open_clip with quick GELU, timm's DINO; tiny random checkpoints of
those formats.
"""

import json
import warnings

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from run_kit import arguments, make_scorer, run_here, shared

from benchmarks import cli
from benchmarks.scoring import lookup
from benchmarks.scoring.lookup import Scorer, find_scorer
from benchmarks.scoring.scorers import open_scorer
from benchmarks.store.run_json import scorer_about
from perfusion_core.errors import UserError

MEAN, STD = [0.2, 0.5, 0.6], [0.25, 0.3, 0.2]


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.fixture
def dino(tmp_path):
    """What timm publishes: config.json and model.safetensors, written by timm itself."""
    import timm
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=32, num_heads=2, num_classes=0
    )
    model.pretrained_cfg |= {"mean": MEAN, "std": STD, "crop_pct": 1.0, "interpolation": "bicubic"}
    model.pretrained_cfg |= {"input_size": (3, 32, 32), "num_classes": 0}
    shape = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2}
    save_for_hf(model, tmp_path / "vit_dino", model_args=shape, safe_serialization=True)
    return tmp_path / "vit_dino", model.eval()


def test_timm_against_the_model_by_hand(dino, tmp_path):
    folder, model = dino
    found = find_scorer(f"timm:{folder}", "x", tmp_path)
    assert found.kind == "timm" and found.name.startswith("vit_dino-")
    scorer = open_scorer(found, "cpu")
    shown = pictures((32, 32), (32, 32))
    pixels = torch.stack(
        [torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 for picture in shown]
    )
    pixels = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        token = model.forward_features(pixels)[:, 0]
    expected = (token / token.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(scorer.images(shown), expected, atol=1e-5)
    assert scorer.text is None
    assert scorer.images(pictures((48, 40), (64, 33))).shape == (2, 32)  # any size


def test_preprocessing_is_recorded(dino, tmp_path):
    folder, _ = dino
    about = scorer_about(find_scorer(f"timm:{folder}", "x", tmp_path))
    pixels = json.loads(about["pixels"])
    assert (pixels["mean"], pixels["std"], pixels["input_size"]) == (MEAN, STD, [3, 32, 32])
    assert about["source"] == "" and len(about["weights"]) == 64  # no machine path
    clip = find_scorer(str(make_scorer(tmp_path / "clip", 1)), "x", tmp_path)
    assert json.loads(clip.pixels) == {
        "side": 16,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
    }


@pytest.mark.parametrize("kind", ["timm", "dino"])
def test_who_sees_pictures_only_neither_reports_nor_picks_steps(kind, dino, tmp_path):
    """Refused before anything is made: no table could come of the one, no training step of the
    other.
    """
    name = f"{kind}:{dino[0]}"
    with pytest.raises(
        UserError, match=f"{name}.* sees pictures only.*for example --scorers auto,{name}$"
    ):
        run_here(shared(), tmp_path / "run", "--scorers", name)
    with pytest.raises(UserError, match=r"select_scorer .* sees pictures only"):
        run_here(shared(), tmp_path / "run", "--set", f"select_scorer={name}")
    assert not (tmp_path / "run").exists()
    words = ["plan", *arguments(shared(), tmp_path / "run", "--scorers", f"auto,{name}")]
    assert cli.run(words) == 0, "beside one that knows texts it is welcome"


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_a_short_name_of_a_first_scorer_is_refused_before_it_is_fetched(
    name, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *_, **__: pytest.fail("nothing is to be fetched"),
    )
    with pytest.raises(UserError, match=f"--scorers auto,{name},truth$"):
        run_here(shared(), tmp_path / "run", "--scorers", f"{name},truth")


def test_short_names(monkeypatch, tmp_path, dino):
    asked = []

    def download(hub_id, allow_patterns, dry_run=False):
        if dry_run:
            return []  # all is here
        asked.append((hub_id, allow_patterns))
        return str(dino[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in ("dino", "dinov2", "timm:owner/vit", "dino:owner/dino"):
        find_scorer(name, "x", tmp_path)
    ids = [
        "timm/vit_small_patch16_224.dino",
        "timm/vit_small_patch14_dinov2.lvd142m",
        "owner/vit",
        "owner/dino",
    ]
    assert [hub_id for hub_id, _ in asked] == ids
    import timm

    for name in ids[:2]:
        assert timm.is_model(name.removeprefix("timm/"))
        assert timm.models.get_pretrained_cfg(name.removeprefix("timm/")).hf_hub_id.startswith(
            "timm/"
        )


def test_no_network_is_one_sentence_with_what_to_do(monkeypatch, tmp_path):
    def download(*_, **__):
        raise OSError("no network here\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(open_clip, "download_pretrained", download)
    for name in ("dino", "clip:ViT-B-32-quickgelu:openai"):
        with pytest.raises(
            UserError, match="no network here; give the same command once with a network"
        ):
            find_scorer(name, "x", tmp_path)
    (tmp_path / "pickled").mkdir()
    with pytest.raises(UserError, match="pickles are never read"):
        find_scorer(f"timm:{tmp_path / 'pickled'}", "x", tmp_path)


def test_the_default_scorer_is_quick_gelu_and_any_open_clip_model_goes_by_name(
    monkeypatch, tmp_path
):
    assert lookup.SD_SCORER == "clip:ViT-B-32-quickgelu:openai"
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda about: str(weights))
    monkeypatch.setattr(lookup, "announce_download", lambda hub_id, files: told.append(hub_id))
    told = []
    found = find_scorer("auto", "sd15", tmp_path)
    assert found.source == "ViT-B-32-quickgelu:openai" and found.name.startswith(
        "ViT-B-32-quickgelu-openai-"
    )
    assert json.loads(found.pixels)["side"] == 224
    assert told == ["timm/vit_base_patch32_clip_224.openai"]
    other = find_scorer("clip:ViT-L-14:laion2b_s32b_b82k", "sd15", tmp_path)
    assert other.name.startswith("ViT-L-14-laion2b_s32b_b82k-")
    assert (
        find_scorer("auto", "sd15", tmp_path, selects=True).source == "ViT-B-32:laion2b_s34b_b79k"
    )


def test_a_warning_about_activation_is_an_error(monkeypatch, tmp_path):
    """Where open_clip only warns, as it does for weights whose tag wants quick GELU."""
    real = open_clip.create_model_and_transforms

    def warned(*args, **more):
        warnings.warn(
            "QuickGELU mismatch between final model config (quick_gelu=False) and tag",
            UserWarning,
            stacklevel=2,
        )
        return real(*args, **more)

    found = find_scorer(str(make_scorer(tmp_path / "clip", 1)), "x", tmp_path)
    open_scorer(found, "cpu")
    monkeypatch.setattr(open_clip, "create_model_and_transforms", warned)
    with pytest.raises(UserError, match="cannot be opened: QuickGELU mismatch"):
        open_scorer(found, "cpu")


def test_quick_gelu_is_another_model(tmp_path):
    """The same weights under both activations: what a mismatch would have done to the scores."""
    plain, quick = make_scorer(tmp_path / "plain", 1), make_scorer(tmp_path / "quick", 1)
    about = json.loads((quick / "open_clip_config.json").read_text())
    about["model_cfg"]["quick_gelu"] = True
    (quick / "open_clip_config.json").write_text(json.dumps(about))
    found = [find_scorer(str(folder), "x", tmp_path) for folder in (plain, quick)]
    assert found[0].weights == found[1].weights and found[0].preprocessing != found[1].preprocessing
    features = [open_scorer(scorer, "cpu").images(pictures((16, 16)))[0] for scorer in found]
    assert features[0] @ features[1] < 1 - 1e-6


def test_a_scorer_brings_no_code(tmp_path, monkeypatch):
    """transformers asks whether to run it, and a run may have named the scorer."""
    from benchmarks.scoring.scorers import Dino

    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "y")
    folder = tmp_path / "scorer"
    folder.mkdir()
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    told = {"model_type": "evil", "auto_map": code}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    scorer = Scorer("evil-01234567", "dino", str(folder), "", "")
    with pytest.raises(UserError, match="cannot be opened"):
        Dino(scorer, "cpu")
    assert not asked and not (tmp_path / "ran").exists()
