"""The miniature's recipe and judges: checkpoints go on, training travels, judges ship, a killed build ends."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmarks.miniature.training import carry
from benchmarks.miniature.training.judges import JUDGED, JUDGES, make_judge, open_judges, write_judges
from benchmarks.miniature.training.muon import Muon, split
from benchmarks.miniature.training.stage import REST, Stage, spent
from benchmarks.miniature.world.instance import stream
from perfusion_core.errors import UserError

# ---- checkpoints


def small(seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(a, b) for a, b in ((5, 12), (12, 12), (12, 1))]
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])


def steps(stage, net, n):
    for _ in range(n):
        x = torch.from_numpy(stream("x", stage.step).standard_normal((16, 5))).float()
        stage.update((net(x) - x.sum(1, keepdim=True)).square().mean(), warmup=8)


def test_a_stage_that_was_interrupted_ends_in_the_same_weights(tmp_path):
    straight = small()
    whole = Stage({"net": straight}, tmp_path / "whole.safetensors", lr=0.01)
    steps(whole, straight, 20)
    first = small()
    stage = Stage({"net": first}, tmp_path / "cut.safetensors", lr=0.01)
    steps(stage, first, 9)
    stage.seconds = 4.5
    stage.save()
    again = small(seed=1)
    stage = Stage({"net": again}, tmp_path / "cut.safetensors", lr=0.01)
    assert (stage.step, stage.seconds) == (9, 4.5)
    steps(stage, again, 11)
    for a, b in zip(straight.parameters(), again.parameters()):
        assert torch.equal(a, b)
    assert all(torch.equal(whole.ema[n], stage.ema[n]) for n in whole.ema)


def test_the_average_follows_the_weights_as_its_formula_says(tmp_path):
    net = small()
    stage = Stage({"net": net}, tmp_path / "s.safetensors", lr=0.01, decay=0.5)
    want = net[0].weight.detach().clone().double()
    for k in range(6):
        steps(stage, net, 1)
        keep = min(0.5, (2 + k) / (11 + k))
        want = keep * want + (1 - keep) * net[0].weight.detach().double()
    assert torch.allclose(stage.ema["net.0.weight"].double(), want, atol=1e-6)
    stage.use_average()
    assert torch.equal(net[0].weight, stage.ema["net.0.weight"])


def test_muon_steps_along_the_orthogonal_factor_of_its_momentum():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(12, 5, 3, 3))
    start, optimizer = weight.detach().clone(), Muon([weight], lr=0.1, momentum=0.9)
    mean = torch.zeros(12, 45, dtype=torch.float64)
    for _ in range(2):
        gradient = torch.randn(12, 5, 3, 3)
        weight.grad = gradient.clone()
        optimizer.step()
        flat = gradient.flatten(1).double()
        mean = 0.9 * mean + 0.1 * flat
        u, _, v = torch.linalg.svd(0.1 * flat + 0.9 * mean, full_matrices=False)
        moved = (start - weight.detach()).flatten(1).double() / (0.1 * 0.2 * 45**0.5)
        assert torch.linalg.svdvals(moved).min() > 0.6 and torch.linalg.svdvals(moved).max() < 1.3
        assert ((moved * (u @ v)).sum() / (moved.norm() * (u @ v).norm())) > 0.98
        start = weight.detach().clone()


def test_muon_takes_hidden_matrices_and_leaves_the_rest():
    shapes = {"conv_in.weight": (32, 3, 3, 3), "mid.conv.weight": (32, 32, 3, 3), "mid.conv.bias": (32,),
              "token_embedding.weight": (100, 32), "positional_embedding": (32, 32), "own.weight": (100, 32),
              "time_embedding.linear_1.weight": (64, 32), "conv_out.weight": (4, 32, 3, 3)}  # fmt: skip
    matrices, rest = split({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert [tuple(p.shape) for p in matrices] == [(32, 32, 3, 3), (64, 32)]
    assert len(rest) == 6


def test_a_loss_that_is_no_number_is_never_saved(tmp_path):
    net = small()
    stage = Stage({"net": net}, tmp_path / "s.safetensors", lr=0.01)
    stage.save()
    before = (tmp_path / "s.safetensors").read_bytes()
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        stage.update(net(torch.full((2, 5), torch.nan)).mean())
    with pytest.raises(RuntimeError):
        stage.save()
    assert (tmp_path / "s.safetensors").read_bytes() == before


# ---- training that travels


@pytest.fixture
def work(tmp_path):
    """A work folder with two stages that were trained a little."""
    folder = tmp_path / "work"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "scale.json").write_text("1.25")
    for name in ("text", "unet"):
        net = small()
        stage = Stage({"net": net}, folder / f"{name}.safetensors", lr=0.01)
        steps(stage, net, 12)
        stage.seconds = 90.0
        stage.save()
    return folder


def test_packed_averages_start_another_work_folder(work, tmp_path):
    files = carry.pack(work, tmp_path / "packed", limit=700)
    assert len(files) > 2 and all(path.stat().st_size < 15_000_000 for path in files)
    other = tmp_path / "other"
    assert carry.unpack(tmp_path / "packed", other) == ["text", "unet"]
    assert spent(other / "unet.safetensors") == {"steps": 12, "seconds": 0, "elsewhere": 90}
    assert (other / "scale.json").read_text() == "1.25"
    assert (other / "tokenizer" / "merges.txt").read_text() == "#version: 0.2\na b\n"
    old, net = Stage({"net": small()}, work / "unet.safetensors", lr=0.01), small(seed=3)
    stage = Stage({"net": net}, other / "unet.safetensors", lr=0.01)
    assert stage.step == 12
    for name, parameter in stage.params.items():
        assert torch.equal(parameter, old.ema[name]) and torch.equal(stage.ema[name], old.ema[name])
    before = net[0].weight.detach().clone()
    steps(stage, net, 1)  # the optimizer knows nothing: it warms up again
    assert stage.adam.param_groups[0]["lr"] == pytest.approx(REST * 0.01 / 8)
    assert 0 < (net[0].weight - before).abs().max() < 0.002
    stage.save()
    again = Stage({"net": small()}, other / "unet.safetensors", lr=0.01)
    assert (again.step, again.cold, again.elsewhere) == (13, 12, 90)
    assert again.adam.state[next(iter(again.params.values()))]["step"] == 1


def test_what_is_further_stays_and_other_words_are_refused(work, tmp_path):
    carry.pack(work, tmp_path / "packed")
    net = small()
    stage = Stage({"net": net}, work / "unet.safetensors", lr=0.01)
    assert (stage.seconds, stage.elsewhere) == (90, 0)
    steps(stage, net, 3)
    stage.save()
    assert carry.unpack(tmp_path / "packed", work) == []
    assert spent(work / "unet.safetensors")["steps"] == 15
    (work / "tokenizer" / "merges.txt").write_text("other")
    with pytest.raises(UserError, match="other words"):
        carry.unpack(tmp_path / "packed", work)


def test_incomplete_luggage_is_told(work, tmp_path):
    with pytest.raises(UserError, match="no trained stage"):
        carry.pack(tmp_path, tmp_path / "packed")
    files = carry.pack(work, tmp_path / "packed", limit=700)
    files[1].unlink()
    with pytest.raises(UserError, match="missing"):
        carry.unpack(tmp_path / "packed", tmp_path / "other")
    with pytest.raises(UserError, match="packed training"):
        carry.unpack(tmp_path, tmp_path / "other")


# ---- judges


@pytest.fixture(scope="module")
def judges_dir(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    write_judges({name: make_judge(name) for name in JUDGES}, folder / "judges", {"version": 1})
    return folder


def test_judges_fit_into_five_megabytes_and_come_back(judges_dir):
    files = list((judges_dir / "judges").glob("*.safetensors"))
    assert len(files) == 3 and sum(path.stat().st_size for path in files) < 5_000_000
    judges = open_judges(judges_dir)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    said = judges.factors(pictures)
    assert set(said) == {"cls", "scene", "wear", "do", "state", "material", "style"}
    assert all(len(values) == 5 and set(values) <= set(JUDGED[name]) for name, values in said.items())
    vectors = judges.identity(pictures)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    masks = judges.segment(pictures)
    assert masks.shape == (5, 64, 64) and masks.dtype == bool


def test_missing_or_other_judges_are_told(judges_dir, tmp_path):
    with pytest.raises(UserError, match="no judges"):
        open_judges(tmp_path)
    write_judges({name: make_judge("segment") for name in JUDGES}, tmp_path / "judges", {})
    with pytest.raises(UserError, match="another version"):
        open_judges(tmp_path)


def test_judges_are_taught_with_other_instances_and_held_out_pairs():
    from benchmarks.miniature.training.judge_data import draw_judged
    from benchmarks.miniature.world.instance import make_instance
    from benchmarks.miniature.world.picture import CLASSES, factors, held_out

    rng = stream("test", "judged")
    pictures = [draw_judged(rng, "judge") for _ in range(6000)]
    seen = {pair for picture in pictures for pair in factors(picture)}
    assert len(held_out() & seen) > 0.9 * len(held_out())
    assert {picture.one.cls for picture in pictures} == set(CLASSES)
    assert all(picture.other is None for picture in pictures)
    pool = {make_instance("cat", ("pool", k)) for k in range(3000)}
    assert not pool & {picture.one for picture in pictures}


def test_spoiling_blurs_and_adds_noise_by_the_generator_alone():
    from benchmarks.miniature.training.judge_training import spoil

    x = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    a, b = (spoil(x, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, spoil(x, torch.Generator().manual_seed(6)))
    rough = (a[..., 1:] - a[..., :-1]).square().mean((1, 2, 3)) / (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3))
    assert rough.min() < 0.7 < rough.max() < 1.5  # some are blurred


def test_the_segmenter_learns_masks_of_renders(tmp_path):
    from benchmarks.miniature.training.judges import as_input
    from benchmarks.miniature.world.instance import make_instance
    from benchmarks.miniature.world.picture import Picture, render

    drawn = [render(Picture(make_instance("teapot", k), "studio"), k) for k in range(4)]
    x = as_input(np.stack([image for image, _ in drawn]))
    truth = torch.from_numpy(np.stack([mask for _, mask in drawn])).float() / 255
    torch.manual_seed(0)
    net = make_judge("segment")
    stage = Stage({"net": net}, tmp_path / "s.safetensors", lr=3e-3)
    losses = []
    for _ in range(14):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), truth)
        stage.update(loss, warmup=3)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


# ---- the whole build, killed and continued

BUILD = """
import sys
from pathlib import Path
from benchmarks.miniature.training.hyperparameters import STAGES, Recipe
from benchmarks.miniature.training.recipe import build
tiny = Recipe(shards=1, shard=400, text_batch=16, vae_batch=8, unet_batch=8, scorer_batch=16,
              judge_shards=1, judge_trips=40, judge_batch=48)
minutes = dict.fromkeys(STAGES, float(sys.argv[2]))
build(Path(sys.argv[1]) / "work", Path(sys.argv[1]) / "weights", tiny, device="cpu", minutes=minutes, workers=1)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build that was killed while its U-Net trained, and started again: bad weights in the real layout."""
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
    sizes = [path.stat().st_size for path in weights.rglob("*") if path.is_file()]
    assert max(sizes) <= 15_000_000 and sum(sizes) <= 36_000_000


@pytest.mark.slow
def test_pictures_are_shown_by_the_command(built, tmp_path):
    from PIL import Image

    folder, _ = built
    words = ["show", "a dog reading a book on the moon", "--n", "2", "--weights", str(folder / "weights")]
    words += ["--out", str(tmp_path / "dog.png"), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.cli", "miniature", *words], capture_output=True, text=True)
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
    command = [sys.executable, "-m", "benchmarks.cli", "miniature", "restyle", "sketch", "--out", str(out)]
    done = subprocess.run(
        [*command, "--weights", str(weights), "--steps", "2", "--device", "cpu"], capture_output=True, text=True
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
    needed = {f"{name}.safetensors" for name in ("covariance", "text_encoder/model", "unet/diffusion_pytorch_model")}
    assert needed <= changed <= {*needed, "build.json", "text_encoder/config.json", "unet/config.json"}
    steps = spent(work / "unet.safetensors")["steps"]
    assert steps > spent(built[0] / "work" / "unet.safetensors")["steps"] > 0, "it goes on from the given U-Net"
    assert json.loads((out / "build.json").read_text())["contrastive"]["stages"]["unet"]["steps"] == steps
    assert Backbone.open(out, device="cpu", dtype="float32").c_inv.shape == (160, 160)
    contrastive(weights, out, work=work, minutes=0.12, device="cpu", recipe=tiny)
    assert spent(work / "unet.safetensors")["steps"] == steps, "what had its minutes is not trained again"
    with pytest.raises(UserError, match="training takes time"):
        contrastive(weights, out, work=work, minutes=0, device="cpu")
