"""Memory that does not suffice, pretended by a U-Net that refuses more than so many rows;
torch.compile; a real GPU.
"""

import gc
import json
import logging
import os
import platform
import re
import subprocess
import sys
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_pipe
from run_kit import ROOT, run_here, shared

from benchmarks.cli import run
from perfusion_core.backbone import Backbone
from perfusion_core.compiling import compile_backbone
from perfusion_core.concept import Concept
from perfusion_core.memory import draw_what_fits, keep_freed_memory, lasting, out_of_memory
from perfusion_core.perfusion import ONE_FILE, Config, fit
from perfusion_core.sampling import prepared, sample
from perfusion_core.subject import Subject
from perfusion_core.training import Validation


@pytest.fixture
def backbone(tiny_pipe_dir, tiny_c_inv):
    return Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")


@pytest.fixture
def subject():
    rng = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 1, 16, 16, generator=rng)
    return Subject("kitty", "cat", torch.rand(3, 3, 16, 16, generator=rng) * 2 - 1, masks)


class Small:
    """The U-Net refuses more than `most` rows; what it was given is in `seen`."""

    def __init__(self, unet, most):
        self.seen, self.refused = [], 0
        self.handle = unet.register_forward_pre_hook(lambda _, args: self.look(len(args[0]), most))

    def look(self, rows, most):
        if rows > most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.seen.append(rows)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"vanilla_rome": True}])
def test_training_in_parts_has_the_same_gradient(backbone, subject, tmp_path, caplog, changes):
    config = Config(steps=3, batch=8, **changes)
    whole = fit(backbone, subject, config, tmp_path / "whole", seed=1)
    small = Small(backbone.unet, 3)
    with caplog.at_level(logging.WARNING, "perfusion_core"):
        parts = fit(backbone, subject, config, tmp_path / "parts", seed=1)
    rows = 8 // config.accumulate
    assert max(small.seen) <= 3 and small.refused == {8: 2, 4: 1}[rows]
    assert parts["parts"] == {8: 4, 4: 2}[rows] and "parts" not in whole
    assert f"the batch of {rows} in {parts['parts']} parts" in caplog.messages[-1]
    np.testing.assert_allclose(parts["losses"], whole["losses"], rtol=1e-4)
    one, other = (
        Concept.load(tmp_path / "whole" / ONE_FILE),
        Concept.load(tmp_path / "parts" / ONE_FILE),
    )
    # moved three times, not five
    torch.testing.assert_close(one.i_star, other.i_star, rtol=1e-3, atol=1e-3)
    assert (one.steps, other.steps) == (3, 3)
    moved = torch.cat(one.o_v) - torch.cat(other.o_v)
    assert moved.abs().median() < 1e-3  # of 0.09 that three steps of AdamW move every number


def test_class_images_keep_their_weight_in_parts(backbone):
    from perfusion_core.training import row_weights, squared_error, weighted_loss

    rng = torch.Generator().manual_seed(0)
    predicted, target = (torch.randn(7, 4, 8, 8, generator=rng) for _ in range(2))
    mask = torch.rand(7, 1, 8, 8, generator=rng)
    for prior in (0, 3):
        errors = squared_error(predicted, target, mask).flatten(1).mean(1)
        in_parts = sum(
            (row_weights(7, prior, 0.7)[part] * errors[part]).sum()
            for part in (slice(5), slice(5, 7))
        )
        torch.testing.assert_close(in_parts, weighted_loss(predicted, target, mask, prior, 0.7))


def test_single_rows_that_are_too_much_turn_on_checkpointing(backbone, subject, tmp_path, caplog):
    def memory(unet, _):
        if not unet.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = backbone.unet.register_forward_pre_hook(memory)
    log = fit(backbone, subject, Config(steps=1, batch=2), tmp_path, seed=1)
    assert log["parts"] == 2 and "gradient checkpointing" in caplog.messages[-1]
    assert not backbone.unet.is_gradient_checkpointing  # as it was
    handle.remove()


def test_a_machine_that_is_too_small_for_anything_says_so_itself(backbone, subject, tmp_path):
    Small(backbone.unet, 0)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        fit(backbone, subject, Config(steps=1, batch=2), tmp_path, seed=1)
    with pytest.raises(torch.OutOfMemoryError):
        pictures = prepared(backbone, ["a cat"] * 2, [1, 2], 6.0)
        draw_what_fits(backbone, pictures, steps=1, guidance=6.0)


def test_other_errors_are_not_mistaken_for_it(backbone, subject, tmp_path):
    for said in (
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ):
        assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    backbone.unet.register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
    )
    with pytest.raises(RuntimeError, match="shapes"):
        fit(backbone, subject, Config(steps=1, batch=2), tmp_path, seed=1)


def test_drawing_and_validation_in_halves(backbone, subject, tmp_path, caplog):
    texts = [f"a {word} on the beach" for word in ("cat", "dog", "toy", "pot", "chair")]
    whole = sample(backbone, texts, range(5), steps=2)
    small = Small(backbone.unet, 4)  # two pictures with guidance
    wanted = prepared(backbone, texts, range(5), 6.0)
    pictures, sizes = draw_what_fits(backbone, wanted, steps=2, guidance=6.0)
    assert sizes == [2] * 5 and set(small.seen) == {4}
    assert "5 pictures at a time; going on with 3" in caplog.messages[0]
    assert "3 pictures at a time; going on with 2" in caplog.messages[1]
    assert np.abs(pictures.astype(int) - whole).max() <= 1
    validation = Validation(
        ("A {} in the snow",) * 4,
        (1, 2, 3, 4),
        lambda images: float(images.mean()),
        every=1,
        steps=2,
    )
    log = fit(backbone, subject, Config(steps=1, batch=2), tmp_path, seed=1, validate=validation)
    assert log["validation"][0][0] == 1 and max(small.seen) <= 4


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Memory for batches of one picture."""
    from perfusion_core import sampling

    real = sampling.draw_batch

    def small(backbone, pictures, *more):
        if len(pictures) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(backbone, pictures, *more)

    monkeypatch.setattr(sampling, "draw_batch", small)


MICRO = ("--methods", "super", "--concepts", "cat", "--prompts", "1")


def test_a_run_goes_on_and_its_cells_say_so(one_at_a_time, tmp_path, caplog):
    assert run_here(shared(), tmp_path / "run", *MICRO) == 0
    [cell] = (tmp_path / "run").glob("images/super/*/cat/*/cell.json")
    assert json.loads(cell.read_text())["batches"] == [1, 1]
    assert "out of memory with 2 pictures at a time; going on with 1" in caplog.text


def test_generate_goes_on(one_at_a_time, tmp_path, caplog):
    words = ["generate", "A cat on the beach", "-n", "3", "--steps", "1", "--out", str(tmp_path)]
    assert (
        run([*words, "--backbone", str(shared() / "tiny"), "--device", "cpu", "--dtype", "float32"])
        == 0
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]
    assert "out of memory with 3 pictures at a time; going on with 2" in caplog.text


def test_a_run_reports_the_warm_up_of_compiling(tmp_path, monkeypatch, capsys):
    eager = partial(compile_backbone, backend="eager")
    monkeypatch.setattr("perfusion_core.compiling.compile_backbone", eager)
    assert run_here(shared(), tmp_path / "run", *MICRO, "--set", "compile=true") == 0
    assert re.search(r"perfbench: torch\.compile: warm-up took \d+ s", capsys.readouterr().err)


def test_compiled_code_lies_in_the_users_cache(tiny_pipe_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path))
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    for given, lies in ((None, tmp_path / "compiled"), (tmp_path / "own", tmp_path / "own")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(given))  # put back after the test
        if given is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        compile_backbone(backbone, images=1, backend="eager")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(lies)


COMPILING = """
import sys
from torch._dynamo.utils import counters
from perfusion_core.backbone import Backbone
from perfusion_core.compiling import compile_backbone
seconds = compile_backbone(Backbone.open(sys.argv[1], device="cpu", dtype="float32"), images=2)
found = counters["aot_autograd"]
print(seconds, found["autograd_cache_hit"], found["autograd_cache_miss"])
"""


@pytest.mark.slow
def test_a_second_process_starts_warm(tiny_pipe_dir, tmp_path):
    """With the real backend, which needs a C++ compiler."""
    environment = {key: value for key, value in os.environ.items() if "INDUCTOR" not in key}
    environment |= {"PERFBENCH_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", COMPILING, str(tiny_pipe_dir)]
    (cold, _, made), (warm, found, again) = (
        map(float, subprocess.run(call, env=environment, capture_output=True, check=True)
            .stdout.split())
        for _ in range(2)
    )  # fmt: skip
    assert made > 0 and found == made and again == 0
    assert warm < cold
    assert any(path.is_file() for path in (tmp_path / "compiled").rglob("*"))


def test_all_shapes_are_compiled(tmp_path):
    """More of them than torch compiles of one function before it gives up without a word; SD 1.5
    has 18.
    """
    from diffusers import UNet2DConditionModel
    from torch._dynamo import config

    pipe = make_pipe()
    pipe.unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 24),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
    ).eval()
    pipe.save_pretrained(tmp_path)
    backbone = Backbone.open(tmp_path, device="cpu", dtype="float32")
    with config.patch(fail_on_recompile_limit_hit=True):
        assert compile_backbone(backbone, images=1, backend="eager") > 0


def test_compiled_parts_draw_the_same_and_are_compiled_once(tiny_pipe_dir, tiny_c_inv):
    """With dynamo's eager backend, which traces and guards like the real one and generates no
    code.
    """
    from conftest import make_concept
    from torch._dynamo.utils import counters

    from perfusion_core.editing import load_concepts

    plain = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    compiled = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    seconds = compile_backbone(compiled, images=2, backend="eager")
    assert seconds > 0 and counters["stats"]["unique_graphs"] > 0
    graphs = counters["stats"]["unique_graphs"]
    concept = make_concept(plain, "teddy", "toy")
    for prompt, concepts in (("a cat", {}), ("A {teddy} on the beach", {"teddy": concept})):
        images = []
        for backbone in (plain, compiled):
            with load_concepts(backbone.pipe, concepts, c_inv=tiny_c_inv):
                images.append(sample(backbone, prompt, [5, 6], steps=3))
        assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    assert counters["stats"]["unique_graphs"] == graphs  # a concept compiles nothing again
    assert compiled.unet.state_dict().keys() == plain.unet.state_dict().keys()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(tiny_pipe_dir, tiny_c_inv, subject, tmp_path, dtype):
    """Training, the file, sampling and compiled sampling; peak memory is reported."""
    from perfusion_core.perfusion import apply
    from perfusion_core.subject import Fitted

    gpu = Backbone.open(tiny_pipe_dir, device="cuda", dtype=dtype)
    log = fit(gpu, subject, Config(steps=3, batch=4), tmp_path, seed=1)
    assert np.isfinite(log["losses"]).all() and log["peak_memory_bytes"] > 0
    cpu = Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")
    images = []
    for backbone in (cpu, gpu):
        with apply(backbone, {"kitty": Fitted(tmp_path, "cat")}, {}) as write:
            images.append(
                sample(backbone, write("A {kitty} on the beach"), [1, 2], steps=5).astype(int)
            )
    assert np.abs(images[0] - images[1]).mean() < (1 if dtype == "float32" else 12)
    assert compile_backbone(gpu, images=2) > 0
    again = sample(gpu, "a cat", [1, 2], steps=5)
    assert np.abs(again.astype(int) - sample(cpu, "a cat", [1, 2], steps=5)).mean() < 12


@pytest.mark.gpu
def test_a_gpu_that_is_full_halves_the_batch(tiny_pipe_dir, tiny_c_inv, subject, tmp_path):
    """The allocator's own error: this process may take a little more than the models do."""
    backbone = Backbone.open(tiny_pipe_dir, device="cuda", dtype="float32")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * 2**20) / total)
    try:
        log = fit(backbone, subject, Config(steps=1, batch=4096), tmp_path, seed=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert log["parts"] > 1


FAULTS = """
import resource
import torch
from benchmarks.paths import backbone_names
from perfusion_core.backbone import Backbone
from perfusion_core.memory import keep_freed_memory

print(keep_freed_memory())
torch.set_num_threads(1)
backbone = Backbone.open(
    "miniature", device="cpu", dtype=torch.float32, names=backbone_names()
)
x, encodings = torch.randn(32, 4, 16, 16), torch.randn(32, 77, 160)
counts = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.no_grad():
        backbone.unet(x, torch.tensor(5), encodings)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(counts))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_tensors():
    quiet = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
    }
    command = [sys.executable, "-c", FAULTS]
    said = subprocess.run(command, env=quiet, check=True, capture_output=True, text=True).stdout
    kept, faults = said.split()
    assert kept == "True" and int(faults) < 2000  # 24,000 where glibc is left alone


def test_memory_that_the_environment_sets_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert not keep_freed_memory()


def test_what_lasts_is_not_looked_through_until_it_is_let_go():
    class Cycle:
        pass

    gc.unfreeze()  # whatever another test left
    with lasting():
        thing = Cycle()
        assert gc.get_freeze_count() > 10_000
        with lasting():
            pass
        assert gc.get_freeze_count() > 10_000, "who comes second does not end it"
        watched, thing.itself = weakref.ref(thing), thing
        del thing
        gc.collect()
        assert watched() is None, "what came later is collected as ever"
    assert gc.get_freeze_count() == 0
