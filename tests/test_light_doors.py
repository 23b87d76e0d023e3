"""Verbs that train and draw nothing load no torch; what the hardware decides is told without it,
and told alike.
"""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import made_run
import pytest
import study_kit
import torch
from conftest import make_pipe
from run_kit import ROOT, environment

from benchmarks.devices import device_name
from benchmarks.study.design import Design
from benchmarks.study.export import export
from benchmarks.suite.concept_folder import read_concept
from perfusion_core import hardware
from perfusion_core.backbone import fast_dtype
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import text_digest, text_digest_of_files

HEAVY = ("torch", "diffusers", "transformers")
CODE = f"""
import contextlib, io, sys
from benchmarks import cli
for words in {{commands!r}}:
    with contextlib.redirect_stdout(io.StringIO()):
        status = cli.run(words)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print(*words[:2], status, *loaded)
"""


def loads_nothing(commands: list[list[str]], cwd=None) -> None:
    """All in one process, one after the other, each with what is loaded after it."""
    call = [sys.executable, "-c", CODE.format(commands=commands)]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [" ".join([*words[:2], "0"]) for words in commands]


def test_planning_and_listing(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "data"))
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number, file in enumerate(read_concept(ROOT / "concepts" / "teapot").images[:3]):
        shutil.copyfile(file, photographs / f"{number}.png")
    every = "perfusion,db,ti,cd,lora,cd-better,perfusion-one-shot"
    run = ["--preset", "micro", "--out", str(tmp_path / "run")]
    loads_nothing(
        [
            ["plan", "--json"],
            ["plan", "--methods", every, "--pairs", "cat+teapot"],
            ["run", "--dry-run", *run],
            ["gpu-day", "--dry-run", "--backbone", "sd15", "--hours", "8", "--out", "day"],
            *(
                ["ls", kind]
                for kind in (
                    "methods",
                    "concepts",
                    "prompts",
                    "suites",
                    "backbones",
                    "presets",
                    "runs",
                )
            ),
            ["catalog", "check"],
            ["concepts", "add", str(photographs), "--super-category", "teapot", "--name", "mine"],
        ],
        cwd=tmp_path,
    )


def test_reading_a_committed_run(tmp_path):
    run = shutil.copytree(ROOT / "results" / "miniature-quick", tmp_path / "quick")
    reference = str(ROOT / "results" / "miniature-quick")
    loads_nothing([
        ["table", str(run)],
        ["table", str(run), "--by", "difference"],
        ["design", str(run), "--width", "0.05"],
        ["check", str(run), "--against", reference],
        ["plot", "pareto", str(run), "--out", str(tmp_path / "pareto.png")],
        ["report", str(run), "--out", str(tmp_path / "index.html")],
        ["submission", "make", str(run), "--out", str(tmp_path / "quick.perfbench.tar.xz")],
        ["submission", "verify", str(tmp_path / "quick.perfbench.tar.xz")],
        ["board", str(run), "--out", str(tmp_path / "board")],
        ["view", str(run), reference, "--bundle", str(tmp_path / "view")],
    ])  # fmt: skip


def test_reading_a_run_with_pictures(tmp_path):
    methods = {"perfusion": made_run.LOCAL[:2] + made_run.GLOBAL[:2], "cd": ("default",)}
    made_run.make_run(tmp_path / "run", methods, ["cat", "teapot"], prompts=3, images=2, size=16)
    figures = ("bias", "per-concept", "breakdown", "gallery")
    run = str(tmp_path / "run")
    loads_nothing([["plot", name, run, "--out", str(tmp_path / f"{name}.png")] for name in figures]
                  + [["report", run, "--out", str(tmp_path / "index.html")],
                     ["view", run, "--bundle", str(tmp_path / "view")]])  # fmt: skip


def test_a_study(tmp_path):
    run = study_kit.make_run(tmp_path / "run")
    export(run, "ranking", tmp_path / "answered", Design(session=28))
    study_kit.write_answers(tmp_path / "answered", lambda task, random: [3, 2, 1])
    loads_nothing(
        [
            [
                "study",
                "export",
                str(run),
                "--study",
                "ranking",
                "--session",
                "28",
                "--out",
                str(tmp_path / "study"),
            ],
            ["study", "analyse", str(tmp_path / "answered")],
        ]
    )


# ---- one answer ----


def test_hardware_is_told_as_torch_tells_it():
    able = torch.cpu.get_capabilities()
    amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    native = bool(able.get("amx_bf16") or (amd and able.get("avx512_bf16")))
    assert hardware.has_gpu() == torch.cuda.is_available()
    assert hardware.has_bfloat16() == native
    assert hardware.fast_dtype_name("cpu") == ("bfloat16" if native else "float32")
    assert fast_dtype(torch.device("cpu")) == (torch.bfloat16 if native else torch.float32)
    if torch.cuda.is_available():
        assert hardware.has_gpu_driver() and device_name("auto") == "cuda"
        assert fast_dtype(torch.device("cuda")) == getattr(
            torch, hardware.fast_dtype_name("cuda:0")
        )


def test_a_processor_is_known_by_its_flags(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text(
        "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse2\n\nprocessor\t: 1\nflags\t\t: "
        "fpu\n"
    )
    assert hardware.processor_flags(told) == {"fpu", "avx512f", "avx512_bf16", "sse2"}
    assert hardware.processor_flags(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("flags", "vendor", "fast"),
    [
        ("avx512f avx512_bf16 amx_bf16", "GenuineIntel", True),
        ("avx512f avx512_bf16", "GenuineIntel", False),
        ("avx512f avx512_bf16", "AuthenticAMD", True),
        ("avx2 fma", "AuthenticAMD", False),
    ],
)
def test_bfloat16_is_used_where_it_is_fast(flags, vendor, fast):
    told = f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n"
    assert hardware.is_bfloat16_fast(set(flags.split()), told) == fast


@pytest.mark.parametrize(
    "name", ["auto", "cpu", "cpu:0", "cuda", "cuda:1", "meta", "gpu", "cuda:x", "", "CPU"]
)
def test_devices_are_named_as_torch_names_them(name):
    known = name == "auto"
    with contextlib.suppress(RuntimeError):
        known = bool(torch.device(name)) or known
    if known:
        assert device_name(name, elsewhere=True) in ("cpu", "cuda", name)
    else:
        with pytest.raises(UserError, match="is not auto, cpu, cuda or cuda:N"):
            device_name(name, elsewhere=True)


@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_a_gpu_without_float64_is_refused_in_a_sentence(name):
    with pytest.raises(UserError, match=r"no float64.* leave --device out to run on the CPU"):
        device_name(name, elsewhere=True)


# ---- the text encoder's digest ----


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "variant"])
def test_a_text_encoder_has_one_digest_loaded_or_not(kind, tmp_path):
    pipe = make_pipe(seed=4)
    expected = text_digest(pipe.text_encoder)
    if kind == "variant":
        pipe.save_pretrained(tmp_path, variant="fp16")
    else:
        pipe.to(dtype=getattr(torch, kind)).save_pretrained(tmp_path)
    assert text_digest_of_files(tmp_path) == expected


def test_what_files_do_not_tell_is_left_to_loading(tmp_path):
    pipe = make_pipe(seed=4)
    pipe.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    assert text_digest_of_files(tmp_path / "sharded") is None
    assert text_digest_of_files(tmp_path / "nothing") is None
    pipe.save_pretrained(tmp_path / "whole")
    config = tmp_path / "whole" / "text_encoder" / "config.json"
    config.write_text(
        config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    assert text_digest_of_files(tmp_path / "whole") is None
