"""How large the compared methods' files are on Stable Diffusion XL's true configuration, without
memory for its weights: docs/baselines.md tells the sizes.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from baselines import lora
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.files import to_bytes
from perfusion_core.single_file import layouts

PAGE = Path(__file__).parent.parent.parent / "docs" / "baselines.md"
WORD = (768, 1280)  # numbers of a word's vectors


@pytest.fixture(scope="module")
def unet():
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(layouts()[2048]["unet"])


def told(method):
    """The size that the page tells, in kB of 1,000 bytes."""
    part = PAGE.read_text().partition("## On Stable Diffusion XL")[2].partition("\n## ")[0]
    row = re.search(rf"^\| `{method}` \|.*\| ([\d,]+) kB \|", part, re.M)
    assert row, f"{PAGE.name} tells no size of {method}"
    return int(row[1].replace(",", ""))


def test_dreambooth_and_custom_diffusion_by_their_shapes(unet):
    """In MB: headers and configurations are less than that."""
    whole = sum(weight.numel() for weight in unet.parameters())
    assert round(4 * whole / 1e6) == round(told("db") / 1000)
    sides = [side for layer in cross_attentions(unet).values() for side in (layer.to_k, layer.to_v)]
    numbers = sum(side.weight.numel() for side in sides) + sum(WORD)
    assert round(4 * numbers / 1e6) == round(told("cd") / 1000)


def test_textual_inversion():
    rows = {f"clip_{n}": torch.zeros(1, width) for n, width in zip("lg", WORD)}
    assert round(len(to_bytes(rows, {"format": "pt"})) / 1000) == told("ti")


def test_lora(unet, tmp_path):
    """Rank 4 beside each projection of all 140 attentions."""
    pipe = SimpleNamespace(unet=unet)
    backbone = Backbone("sdxl", Path("."), None, pipe, torch.device("cpu"), torch.float32)
    with lora.adapted(backbone, 4, seed=0) as matrices:
        assert len(matrices) == 2 * 4 * 140
        for name, layer in unet.named_modules():
            if ".lora_" in name and isinstance(layer, torch.nn.Linear):
                layer.to_empty(device="cpu")
        lora.save(unet, tmp_path)
    assert round((tmp_path / lora.FILE).stat().st_size / 1000) == told("lora")
