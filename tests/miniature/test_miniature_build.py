"""The miniature's whole recipe with few pictures: a killed build ends, and copies differ in what
they should.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmarks.miniature.training.judges import JUDGES
from benchmarks.miniature.training.stage import spent
from benchmarks.miniature.which_world import WORLDS

BUILD = """
import sys
from pathlib import Path
from benchmarks.miniature.training.hyperparameters import STAGES, Recipe
from benchmarks.miniature.training.recipe import build_miniature
tiny = Recipe(shards=1, shard=400, text_batch=16, vae_batch=8, unet_batch=8, scorer_batch=16,
              judge_shards=1, judge_trips=40, judge_batch=48)
minutes = dict.fromkeys(STAGES, float(sys.argv[2]))
build_miniature(Path(sys.argv[1]) / "work", Path(sys.argv[1]) / "weights", tiny, device="cpu", \
minutes=minutes, workers=1)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build that was killed while its U-Net trained, and started again: bad weights in the real
    layout.
    """
    folder = tmp_path_factory.mktemp("build")
    command = [sys.executable, "-c", BUILD, str(folder), "0.05"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder / "work" / "latents.npy").exists():
        assert process.poll() is None, "the build ended before it was killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "weights").exists()
    before = {path.name: spent(path) for path in (folder / "work").glob("*.safetensors")}
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, before


@pytest.mark.slow
def test_a_killed_build_goes_on_and_exports(built):
    from benchmarks.miniature.training.judges import open_judges
    from benchmarks.scoring.lookup import find_scorer
    from benchmarks.scoring.scorers import Clip
    from perfusion_core.backbone import Backbone

    folder, before = built
    weights = folder / "weights"
    assert {"text.safetensors", "vae.safetensors"} <= set(before)
    for name, was in before.items():
        now = spent(folder / "work" / name)
        assert now["steps"] == was["steps"], "a stage that had its minutes was trained again"
    backbone = Backbone.open(weights, device="cpu", dtype="float32")
    assert backbone.size == 64 and backbone.c_inv.shape == (160, 160)
    assert open_judges(weights).segment(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 64, 64)
    for selects in (False, True):
        scorer = Clip(find_scorer("auto", "miniature", weights, selects=selects), "cpu")
        assert scorer.text("a cat on the beach").shape == (128,)
    record = json.loads((weights / "build.json").read_text())
    assert set(record["stages"]) == {"text", "vae", "unet", "scorer", "scorer2", *JUDGES}
    assert record["device"] == "cpu" and record["recipe"]["seed"] == 0
    assert record["world"] == WORLDS[-1]
    sizes = [path.stat().st_size for path in weights.rglob("*") if path.is_file()]
    assert max(sizes) <= 15_000_000 and sum(sizes) <= 36_000_000


@pytest.mark.slow
def test_pictures_are_shown_by_the_command(built, tmp_path):
    from PIL import Image

    folder, _ = built
    words = [
        "show",
        "a dog reading a book on the moon",
        "--n",
        "2",
        "--weights",
        str(folder / "weights"),
    ]
    words += ["--out", str(tmp_path / "dog.png"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli", "miniature", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "dog.png")
    assert Image.open(tmp_path / "dog.png").size == (6 + 2 * 198, 22 + 2 * (16 + 192 + 6))


@pytest.mark.slow
def test_a_vae_that_goes_on_keeps_the_latents_true(built, tmp_path):
    """The U-Net has learned from them, so the encoder is left alone and the decoder learns on."""
    import shutil

    from benchmarks.miniature.training.hyperparameters import Recipe
    from benchmarks.miniature.training.vae import train_vae, trained_vae
    from benchmarks.miniature.training.workshop import Workshop

    shutil.copytree(built[0] / "work", tmp_path / "work")
    shop = Workshop(tmp_path / "work", Recipe(shards=1, shard=400, vae_batch=8), workers=1)
    before = trained_vae(shop).state_dict()
    train_vae(shop, 0.03)
    after = trained_vae(shop).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


@pytest.mark.slow
def test_a_restyled_copy_differs_in_its_unet_alone(built, tmp_path):
    from benchmarks.disk import digests_of
    from perfusion_core.errors import UserError

    weights, out = built[0] / "weights", tmp_path / "sketchy"
    command = [
        sys.executable,
        "-m",
        "benchmarks.cli",
        "miniature",
        "restyle",
        "sketch",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [*command, "--weights", str(weights), "--steps", "2", "--device", "cpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    old, new = digests_of(weights), digests_of(out)
    changed = {name for name in old if old[name]["sha256"] != new[name]["sha256"]}
    assert old.keys() == new.keys()
    assert changed <= {"build.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    assert "unet/diffusion_pytorch_model.safetensors" in changed
    assert json.loads((out / "build.json").read_text())["restyled"]["style"] == "sketch"
    with pytest.raises(UserError, match="did you mean 'sketch'"):
        from benchmarks.cli import run

        run(["miniature", "restyle", "sketches", "--weights", str(weights)])


@pytest.mark.slow
def test_a_contrastive_copy_differs_in_its_words_and_its_unet(built, tmp_path):
    from benchmarks.disk import digests_of
    from benchmarks.miniature.training.contrastive import contrastive
    from benchmarks.miniature.training.hyperparameters import Recipe
    from perfusion_core.backbone import Backbone
    from perfusion_core.errors import UserError

    weights, work, out = built[0] / "weights", tmp_path / "work", tmp_path / "copy"
    tiny = Recipe(shards=1, shard=400, text_batch=16, unet_batch=8)
    done = contrastive(weights, out, work=work, minutes=0.12, device="cpu", recipe=tiny)
    old, new = digests_of(weights), digests_of(done)
    assert old.keys() == new.keys()
    changed = {name for name in old if old[name]["sha256"] != new[name]["sha256"]}
    needed = {
        f"{name}.safetensors"
        for name in ("covariance", "text_encoder/model", "unet/diffusion_pytorch_model")
    }
    assert (
        needed <= changed <= {*needed, "build.json", "text_encoder/config.json", "unet/config.json"}
    )
    steps = spent(work / "unet.safetensors")["steps"]
    assert steps > spent(built[0] / "work" / "unet.safetensors")["steps"] > 0, (
        "it goes on from the given U-Net"
    )
    assert (
        json.loads((out / "build.json").read_text())["contrastive"]["stages"]["unet"]["steps"]
        == steps
    )
    assert Backbone.open(out, device="cpu", dtype="float32").c_inv.shape == (160, 160)
    contrastive(weights, out, work=work, minutes=0.12, device="cpu", recipe=tiny)
    assert spent(work / "unet.safetensors")["steps"] == steps, (
        "what had its minutes is not trained again"
    )
    with pytest.raises(UserError, match="training takes time"):
        contrastive(weights, out, work=work, minutes=0, device="cpu")
