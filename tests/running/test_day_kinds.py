"""`perfbench gpu-day` by the backbone's kind: costs and preset of Stable Diffusion XL, and what is
refused before anything is done."""

from pathlib import Path

import pytest
from test_refusals import configured, refusal

from benchmarks.cli import run
from benchmarks.planning.config import resolve
from benchmarks.running import day_cost
from benchmarks.running.day_stages import PAPER, Asked, a_run
from perfusion_core.hub import HUB


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def hours(backbone) -> float:
    return day_cost.hours_of(resolve(preset="quick", flags={"backbone": str(backbone)}), 1)


def preset(backbone) -> str:
    asked = Asked(root=Path("day"), backbone=str(backbone), hours=8.0)
    words = a_run(asked, PAPER, ["cat"]).words
    return words[words.index("--preset") + 1]


def test_a_hub_id_and_a_folder_of_xl_have_its_costs_and_its_preset(here):
    large = configured(here / "my-xl", "xl")
    plain = configured(here / "sd", "sd")
    for backbone in ("sdxl", HUB["sdxl"], large):
        assert hours(backbone) == pytest.approx(day_cost.WORK["sdxl"] * hours("sd15"))
        assert preset(backbone) == "sdxl"
    small = configured(here / "miniature-of-mine", "xl")
    (small / "scorer").mkdir()
    for backbone in ("sd15", HUB["sd15"], plain, small, "owner/unknown"):
        assert hours(backbone) == hours("sd15") and preset(backbone) == "paper"


def test_a_checkpoint_has_its_size_by_either_name(here):
    for name, size in day_cost.CHECKPOINTS.items():
        for backbone in (name, HUB[name]):
            config = resolve(flags={"backbone": backbone})
            assert (f"the backbone {HUB[name]}", f"{size} GB") in day_cost.downloads(
                config, True, "captions.txt"
            )


def test_a_cached_hub_id_is_told_by_its_configurations(here, monkeypatch):
    place = configured(here / "snapshot", "xl")
    monkeypatch.setattr(
        "benchmarks.planning.kinds.configurations_here", lambda backbone, revision: place
    )
    assert preset("owner/large") == "sdxl"


@pytest.mark.parametrize(
    ("kind", "more", "sentence"),
    [
        ("pixart", [], "is of PixArt's or Sana's kind; use `perfbench run --methods perfusion`"),
        ("pixart", ["--methods", "perfusion"], "compares methods that train a U-Net"),
        ("xl", ["--methods", "perfusion,pivotal"], "two text encoders, and pivotal reads one"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_before(here, kind, more, sentence):
    place = configured(here / kind, kind)
    words = ["gpu-day", "--backbone", place, "--hours", "8", "--out", "day", "--dry-run"]
    assert sentence in refusal(*words, *more)
    assert not (here / "day").exists()


def test_a_day_on_a_folder_of_xl_is_planned(here, capsys):
    place = configured(here / "my-xl", "xl")
    words = ["gpu-day", "--backbone", str(place), "--hours", "8", "--out", "day"]
    assert run([*words, "--dry-run"]) == 0
    assert "protocol" in capsys.readouterr().out
