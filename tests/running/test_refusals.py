"""What a backbone's kind refuses is said from configurations alone, before the hub is asked."""

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import Hub, known_here

from benchmarks.cli import run
from benchmarks.planning.backbones import Models, preset_note
from benchmarks.planning.config import resolve
from benchmarks.planning.kinds import Kind, kind_here, kind_of
from benchmarks.running import run as run_verb
from perfusion_core.errors import UserError
from perfusion_core.hub import HUB
from perfusion_core.single_file import layouts

PARTS = {
    "pixart": {"transformer": ["diffusers", "PixArtTransformer2DModel"]},
    "sana": {"transformer": ["diffusers", "SanaTransformer2DModel"]},
    "sd": {"unet": ["diffusers", "UNet2DConditionModel"]},
    "xl": {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    },
}
WIDTHS = {"sd": 768, "xl": 2048}  # of the true configurations


def configured(folder: Path, kind: str, **scheduler: object) -> Path:
    """Configurations of a backbone of this kind, without weights."""
    layout = layouts()[WIDTHS.get(kind, 768)]
    files = {
        "model_index.json": PARTS[kind],
        "scheduler/scheduler_config.json": scheduler,
        f"{next(iter(PARTS[kind]))}/config.json": layout["unet"],
        "vae/config.json": layout["vae"],
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def test_a_kind_is_told_by_configurations_and_by_short_names(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    large = kind_of("xl", configured(tmp_path / "xl", "xl"))
    assert large == Kind("xl", joint=True, large=True) == kind_here(str(tmp_path / "xl"))
    assert kind_of("sd", configured(tmp_path / "sd", "sd")) == Kind("sd")
    assert kind_of("pixart", configured(tmp_path / "pixart", "pixart")).captioned
    for name in ("sdxl", HUB["sdxl"]):
        assert kind_here(name) == Kind(name, joint=True, large=True)
    assert kind_here("sd15") == Kind("sd15") and kind_here("miniature").scored
    assert kind_here("owner/unknown") is None


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """One that has nothing, and counts what it is asked."""
    made = Hub({})
    known_here(monkeypatch, made.address, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()


def refusal(*words: object) -> str:
    with pytest.raises(UserError) as told:
        run([*map(str, words)])
    assert len(str(told.value).split()) <= 40
    return str(told.value)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["fit", "lora", "--concept", "cat", "--out", "lora"], "lora"),
        (["plan", "--methods", "perfusion,cd", "--suite", "miniature"], "cd"),
        (["tune", "--methods", "cd"], "cd"),
        (["tune", "--halving", "--methods", "cd"], "cd"),
    ],
)
def test_methods_are_refused_before_the_hub_is_asked(hub, tmp_path, words, found):
    place = configured(tmp_path / "pixart", "pixart")
    told = refusal(*words, "--backbone", place)
    assert f"is of PixArt's or Sana's kind, and {found} trains a U-Net" in told
    assert hub.asked == []


def test_where_nothing_is_refused_the_hub_is_asked_for_scorers(hub, tmp_path):
    """So the counting of the other tests counts."""
    place = configured(tmp_path / "pixart", "pixart")
    with pytest.raises(UserError, match="cannot fetch the scorer"):
        run(["plan", "--methods", "super", "--suite", "miniature", "--backbone", str(place)])
    assert hub.asked


def test_a_method_of_one_encoder_is_refused_before_gigabytes_are_fetched(hub):
    words = ["plan", "--methods", "pivotal", "--suite", "miniature", "--backbone", HUB["sdxl"]]
    assert "has two text encoders, and pivotal reads one" in refusal(*words)
    assert hub.asked == []


def test_of_a_backbone_of_the_hub_configurations_tell_before_scorers(hub, tmp_path, monkeypatch):
    """Nothing is known of it until it is fetched; then no scorer is asked for."""
    place = configured(tmp_path / "xl", "xl")
    fetched = lambda name, revision: place  # noqa: E731
    monkeypatch.setattr("perfusion_core.places.fetch_checkpoint", fetched)
    words = ["plan", "--methods", "pivotal", "--suite", "miniature", "--backbone", "owner/large"]
    assert "owner/large has two text encoders" in refusal(*words)
    assert hub.asked == []


def test_another_scheduler_is_refused_where_flow_is_matched(hub, tmp_path):
    """By its class or its kind of prediction, as the opened scheduler would be at the first
    picture."""
    for number, said in enumerate(
        [{"prediction_type": "flow_prediction"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}]
    ):
        place = configured(tmp_path / f"sana-{number}", "sana", **said)
        words = ["plan", "--suite", "miniature", "--methods", "perfusion", "--backbone", place]
        told = refusal(*words, "--set", "scheduler=euler")
        assert told == (
            f"the backbone sana-{number} was trained by flow matching, and the scheduler euler is "
            f"for models that predict noise; leave it out: ddim is Euler's method there"
        )
        assert kind_of("sana", place).flow and hub.asked == []
    assert not kind_of("pixart", configured(tmp_path / "pixart", "pixart")).flow


@pytest.mark.parametrize("kind", ["sd", "pixart"])
def test_the_preset_of_xl_is_refused_where_one_encoder_is(hub, tmp_path, kind):
    place = configured(tmp_path / kind, kind)
    words = ["plan", "--suite", "miniature", "--methods", "super", "--backbone", place]
    assert refusal(*words, "--preset", "sdxl") == (
        f"--preset sdxl is the protocol of backbones with two text encoders, as Stable Diffusion "
        f"XL's, and {kind} has one; give another preset, such as paper"
    )
    assert "and sd15 has one" in refusal("plan", "--preset", "sdxl", "--backbone", "sd15")
    assert hub.asked == []


def models(**changes: object) -> Models:
    nothing = dict.fromkeys([f.name for f in fields(Models)], "")
    usual = {"name": "large", "joint": True, "size": 1024, "miniature": False}
    return Models(**{**nothing, **usual, **changes})


def test_a_line_names_the_preset_of_xl_where_it_is_meant():
    assert "large is of Stable Diffusion XL's kind and size: --preset sdxl has" in preset_note(
        models(), "paper"
    )
    assert preset_note(models(), "sdxl") == ""
    for other in ({"joint": False}, {"miniature": True}, {"size": 128}):
        assert preset_note(models(**other), "paper") == ""


def test_the_plan_prints_that_line(capsys, monkeypatch):
    about = SimpleNamespace(models=models(), config=resolve(), folder=Path("run"))
    about.catalog = SimpleNamespace(drift=True)
    about.device, about.methods = "cpu", ()
    monkeypatch.setattr(run_verb, "plan_status", lambda prepared: {})
    monkeypatch.setattr(run_verb, "as_text", lambda status: "")
    monkeypatch.setattr(run_verb, "images_left", lambda status: 0)
    assert run_verb.show_plan(about) == 0
    assert capsys.readouterr().out.count("--preset sdxl") == 1
