"""`perfbench fit` on Stable Diffusion XL: whose recipes, scheduler and guidance it takes."""

from types import SimpleNamespace

import pytest
from test_refusals import configured

from benchmarks.cli import run
from benchmarks.planning.config import PRESETS
from benchmarks.running import prepared


class Enough(Exception):
    """Nothing is trained here."""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The configurations that a fit is prepared by; the second one ends it, and so does the first
    where `models` is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    found, models = [], []

    def prepare(config):
        found.append(config)
        if not models:
            raise Enough
        return SimpleNamespace(models=models.pop())

    monkeypatch.setattr(prepared, "prepare_run", prepare)
    return found, models


def fitted(backbone, *more):
    with pytest.raises(Enough):
        run(["fit", "ti", "--concept", "cat", "--backbone", str(backbone), "--out", "ti", *more])


def as_published(config):
    keys = PRESETS["sdxl"][1]
    return (
        (config.preset, config.scheduler) == ("sdxl", "euler")
        and config.guidance == keys["guidance"]
        and config.fit == keys["fit"]
    )


def test_a_folder_of_its_configuration_takes_its_recipe(asked, tmp_path):
    place = configured(tmp_path / "xl", "xl")
    fitted(place)
    [config] = asked[0]
    assert as_published(config) and config.backbone == str(place)
    fitted(place, "--steps", "7", "--set", "lr=0.5")
    assert asked[0][-1].fit["ti"] == {"steps": 7, "batch": 4, "lr": 0.5}


@pytest.mark.parametrize("name", ["sdxl", "stabilityai/stable-diffusion-xl-base-1.0"])
def test_so_does_its_name(asked, name):
    fitted(name)
    assert as_published(asked[0][0]) and asked[0][0].backbone == name


def test_small_backbones_of_its_kind_and_other_models_do_not(asked, tmp_path):
    small = configured(tmp_path / "small", "xl")
    (small / "scorer").mkdir()
    for backbone in (small, configured(tmp_path / "sd", "sd"), "sd15", "miniature"):
        fitted(backbone)
        assert (asked[0][-1].preset, asked[0][-1].fit) == ("paper", {})


def test_of_another_hub_id_its_files_tell_once_they_are_here(asked):
    found, models = asked
    models.append(SimpleNamespace(joint=True, miniature=False))
    fitted("owner/large")
    assert [config.preset for config in found] == ["paper", "sdxl"] and as_published(found[1])
