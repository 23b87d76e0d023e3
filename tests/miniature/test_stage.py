"""A training stage on disk goes on where it was; its averages travel to another machine; Muon's
steps.
"""

import pytest
import torch

from benchmarks.miniature.training import carry
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.muon import Muon, split_parameters
from benchmarks.miniature.training.stage import REST, Stage, spent
from benchmarks.miniature.training.workshop import Workshop
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


def rates(shop, path, minutes, steps_at_most=10**6):
    """What a training of some minutes does: seconds before each step -> its rate."""
    net, seen = small(), {}
    stage = Stage({"net": net}, path, lr=0.01)
    update = stage.update

    def noted(loss, rate):
        seen[round(stage.seconds)] = rate
        update(loss, rate=rate)

    def step(rng):
        if len(seen) == steps_at_most:
            raise InterruptedError
        return net(torch.ones(1, 5)).sum(), {}

    stage.update = noted
    try:
        shop.loop(stage, "small", minutes - stage.seconds / 60, step)
    except InterruptedError:
        stage.save()
    return seen


def test_the_rate_of_a_training_that_was_interrupted_falls_as_late_and_as_far(tmp_path):
    seconds = iter(range(10**6))
    recipe = Recipe(shards=1, shard=2, settle=0.5)
    shop = Workshop(tmp_path / "work", recipe, workers=1, clock=lambda: float(next(seconds)))
    whole = rates(shop, tmp_path / "whole.safetensors", 2)
    assert min(whole.values()) == 0.05 and list(whole.values()).count(1.0) in range(28, 33)
    first = rates(shop, tmp_path / "cut.safetensors", 2, steps_at_most=45)
    again = rates(shop, tmp_path / "cut.safetensors", 2)
    assert len(first) == 45 and min(first) == 0 and min(again) == max(first) + 2
    for second, rate in (first | again).items():
        near = min(whole, key=lambda other: abs(other - second))
        assert abs(near - second) <= 1 and abs(rate - whole[near]) <= 3 / 60


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
    shapes = {
        "conv_in.weight": (32, 3, 3, 3),
        "mid.conv.weight": (32, 32, 3, 3),
        "mid.conv.bias": (32,),
        "token_embedding.weight": (100, 32),
        "positional_embedding": (32, 32),
        "own.weight": (100, 32),
        "time_embedding.linear_1.weight": (64, 32),
        "conv_out.weight": (4, 32, 3, 3),
    }
    matrices, rest = split_parameters({name: torch.zeros(shape) for name, shape in shapes.items()})
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
    files = carry.pack_stages(work, tmp_path / "packed", limit=700)
    assert len(files) > 2 and all(path.stat().st_size < 15_000_000 for path in files)
    other = tmp_path / "other"
    assert carry.unpack_stages(tmp_path / "packed", other) == ["text", "unet"]
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
    carry.pack_stages(work, tmp_path / "packed")
    net = small()
    stage = Stage({"net": net}, work / "unet.safetensors", lr=0.01)
    assert (stage.seconds, stage.elsewhere) == (90, 0)
    steps(stage, net, 3)
    stage.save()
    assert carry.unpack_stages(tmp_path / "packed", work) == []
    assert spent(work / "unet.safetensors")["steps"] == 15
    (work / "tokenizer" / "merges.txt").write_text("other")
    with pytest.raises(UserError, match="other words"):
        carry.unpack_stages(tmp_path / "packed", work)


def test_incomplete_luggage_is_told(work, tmp_path):
    with pytest.raises(UserError, match="no trained stage"):
        carry.pack_stages(tmp_path, tmp_path / "packed")
    files = carry.pack_stages(work, tmp_path / "packed", limit=700)
    files[1].unlink()
    with pytest.raises(UserError, match="missing"):
        carry.unpack_stages(tmp_path / "packed", tmp_path / "other")
    with pytest.raises(UserError, match="packed training"):
        carry.unpack_stages(tmp_path, tmp_path / "other")
