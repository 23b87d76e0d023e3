"""What is refused on PixArt's and Sana's backbones: exported files, adapters trained elsewhere."""

import pytest
import torch
from caption_kit import MAKERS
from safetensors.torch import save_file
from xl_kit import make_xl_concept

from baselines.adapter import LORA, Told, proven
from benchmarks.cli import run
from perfusion_core import Backbone, UserError


@pytest.fixture(scope="module", params=MAKERS)
def backbone(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / request.param
    MAKERS[request.param]().save_pretrained(folder)
    return Backbone.open(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("more", [[], ["--bundle", "--compare"]])
def test_nothing_is_exported_of_a_concept(backbone, tmp_path, more):
    """Keys that no program opens are not written, and no pictures compared."""
    file, out = tmp_path / "teddy.safetensors", tmp_path / "out"
    make_xl_concept(backbone, "teddy", "toy", seed=1).save(file)
    place = ["--backbone", str(backbone.place), "--device", "cpu", "--out", str(out)]
    with pytest.raises(UserError, match="is of PixArt's or Sana's kind, and no program"):
        run(["export", str(file), *place, *more])
    assert not out.exists()


def test_adapters_of_others_are_refused_in_one_sentence(backbone, tmp_path):
    file = tmp_path / "theirs.safetensors"
    save_file({"some.lora_A.weight": torch.ones(2, 2)}, file)
    with (
        pytest.raises(UserError, match=r"theirs: adapters .* reads its text behind a projection;"),
        proven(backbone, Told("theirs", LORA, "sks {}"), file, "toy"),
    ):
        pass
