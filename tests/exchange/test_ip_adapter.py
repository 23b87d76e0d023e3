"""docs/examples/ip_adapter.py: a run's prompts drawn by diffusers' IP-Adapter and imported, with
random weights of the real classes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_kit import ROOT, copy_of_reference, environment, shared

from benchmarks.cli import run
from benchmarks.store.reading import read_plan

SCRIPT = ROOT / "docs" / "examples" / "ip_adapter.py"
WIDTH = 32  # of the text encoder of conftest.make_pipe


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """The layout of h94/IP-Adapter: models/ with the weights and image_encoder/ in it."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("ip-adapter")
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=16,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "models" / "image_encoder")
    unet = UNet2DConditionModel.from_pretrained(shared() / "tiny", subfolder="unet")
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * WIDTH, 16),
        "image_proj.proj.bias": torch.zeros(4 * WIDTH),
        "image_proj.norm.weight": torch.ones(WIDTH),
        "image_proj.norm.bias": torch.zeros(WIDTH),
    }
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:  # theirs are counted over all attentions, of which every other is one
            wide = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for side in "kv":
                tensors[f"ip_adapter.{number}.to_{side}_ip.weight"] = torch.randn(wide, WIDTH)
    save_file(tensors, folder / "models" / "ip-adapter_sd15.safetensors")
    return folder


def draw(run_folder: Path, out: Path, adapter: Path, *more: str) -> None:
    words = ["--model", str(shared() / "tiny"), "--adapter", str(adapter), *more]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(run_folder), str(out), *words],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


def test_what_the_adapter_draws_stands_in_the_table(adapter, tmp_path):
    there, out = copy_of_reference(tmp_path / "run"), tmp_path / "out"
    draw(there, out, adapter)
    drawn, plan = pixels(out), read_plan(there)
    floor = plan[plan["method"] == "super"]
    assert len(drawn) == floor["n"].sum() > 4
    assert run(["import", str(out), "--as", "ip-adapter", "--out", str(there),
                "--device", "cpu"]) == 0  # fmt: skip
    table = (there / "table.md").read_text()
    assert "| ip-adapter " in table and f"{len(drawn)} images are imported" in table
    about = json.loads((there / "run.json").read_text())["methods"]
    assert about["ip-adapter"]["of"] == "imported" and "masks" not in about["ip-adapter"]


def test_the_picture_counts_and_by_its_scale(adapter, tmp_path):
    """Scale 0 draws the plain word; more of it draws something else for each concept's picture."""
    there = copy_of_reference(tmp_path / "run")
    draw(there, tmp_path / "none", adapter, "--scale", "0")
    draw(there, tmp_path / "some", adapter, "--scale", "1")
    none, some = pixels(tmp_path / "none"), pixels(tmp_path / "some")
    assert none.keys() == some.keys()
    assert all(np.abs(none[name].astype(int) - some[name]).max() > 10 for name in none)
    floor = {
        "/".join(Path(name).parts[-3:]): picture
        for name, picture in pixels(there / "images" / "super" / "default").items()
    }
    assert all(np.abs(none[name].astype(int) - floor[name]).max() <= 2 for name in none)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "some").rglob("*.png")}
    draw(there, tmp_path / "some", adapter, "--scale", "1")
    assert before == {path: path.stat().st_mtime_ns for path in before}, "it goes on, no more"
