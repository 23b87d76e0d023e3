"""What tests of the harness run on: a tiny random backbone with C and scorers, two concepts, and
the command itself.

In: a folder. Out: files of the real formats, made by the real libraries; nothing is trained and
nothing is downloaded.
"""

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WORDS, make_pipe
from PIL import Image

from benchmarks.paths import FIRST_WORLD, RESULTS

ROOT = Path(__file__).parent.parent
HOMES = [ROOT / RESULTS, ROOT / FIRST_WORLD]  # of committed runs
SCORER = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"},
}


def committed_runs() -> list[Path]:
    return sorted(path.parent for home in HOMES for path in home.glob("*/run.json"))


def make_scorer(folder: Path, seed: int) -> Path:
    """A random open_clip model in the layout that `scorer/` has."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    about = SCORER["model_cfg"]
    model = CLIP(about["embed_dim"], about["vision_cfg"], about["text_cfg"])
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(SCORER))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def make_backbone(folder: Path) -> Path:
    """The tiny pipeline of conftest.py with scorer/, scorer2/ and its own C."""
    from perfusion_core.backbone import Backbone
    from perfusion_core.covariance import FILE, estimate

    make_pipe().save_pretrained(folder)
    make_scorer(folder / "scorer", 1)
    make_scorer(folder / "scorer2", 2)
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(WORDS, 8)) for _ in range(200)]
    estimate(
        Backbone.open(folder, device="cpu", dtype="float32"),
        captions,
        folder / FILE,
        source="random words of tests",
    )
    return folder


def make_concepts(
    folder: Path, names: tuple[str, ...] = ("cat", "teapot"), images: int = 3
) -> Path:
    """Concepts of a few random pictures with masks."""
    from benchmarks.suite.concept_folder import write_concept

    groups = {"cat": "animated", "dog": "animated", "teapot": "container", "chair": "furniture"}
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        pictures = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(images)]
        masks = [np.pad(np.full((8, 8), 255, np.uint8), 4) for _ in range(images)]
        write_concept(
            folder / name,
            super_category=name,
            group=groups[name],
            source="random",
            licence="CC0-1.0",
            images=[Image.fromarray(picture) for picture in pictures],
            masks=[Image.fromarray(mask) for mask in masks],
        )
    return folder


def arguments(kit: Path, out: Path, *more: str) -> list[str]:
    return [
        "--preset",
        "micro",
        "--backbone",
        str(kit / "tiny"),
        "--suite",
        str(kit / "concepts"),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--threads",
        "1",
        *more,
    ]


def environment() -> dict[str, str]:
    """One thread, no network; Ray's workers at the usual priority."""
    ours = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "RAY_worker_niceness": "0",
    }
    return {**os.environ, **ours}


def perfbench(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    call = [sys.executable, "-m", "benchmarks.cli", *words]
    return subprocess.run(
        call, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
    )


def run_here(kit: Path, out: Path, *more: str) -> int:
    """The same in this process, where models' libraries are loaded already."""
    from benchmarks.cli import run

    return run(["run", *arguments(kit, out, *more)])


def content(run: Path) -> dict[str, bytes]:
    """What must not depend on when, where and how often a run was interrupted: pictures, fits,
    rows, tables.

    Left out: what holds times and memory (run.json, manifests, those columns of the table).
    """
    import pandas as pd

    from benchmarks.store.fit_costs import MEASURED

    kept = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if (
            path.is_file()
            and path.suffix in (".png", ".csv", ".safetensors")
            and name not in ("table.csv", "pair-table.csv")
        ):
            kept[name] = path.read_bytes()
    for name in ("table.csv", "pair-table.csv"):
        if (run / name).is_file():
            kept[name] = pd.read_csv(run / name).drop(columns=list(MEASURED)).to_csv().encode()
    return kept


def files(run: Path) -> set[str]:
    """Every file's place in a run folder."""
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


@functools.cache
def shared() -> Path:
    """One kit a test process: `tiny/` and `concepts/`; read only."""
    folder = Path(tempfile.mkdtemp(prefix="perfbench-kit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_backbone(folder / "tiny")
    make_concepts(folder / "concepts")
    return folder


@functools.cache
def context() -> Any:
    """Real processes that start at once: they are forked from a server that has imported the
    libraries.
    """
    made = multiprocessing.get_context("forkserver")
    ours = [
        "benchmarks.running.run",
        "benchmarks.running.engines",
        "benchmarks.tables.build",
        "perfusion_core.perfusion",
    ]
    made.set_forkserver_preload(
        ["run_kit", *ours, "baselines.super_category", "open_clip", "scipy.stats"]
    )
    return made


def start(kit: Path, out: Path, *more: str, log: Path | None = None) -> Any:
    """`perfbench run` in a process of its own; what it prints goes to OUT.log."""
    process = context().Process(
        target=_child, args=(arguments(kit, out, *more), log or out.with_suffix(".log"))
    )
    process.start()
    return process


def _child(words: list[str], log: Path) -> None:
    from benchmarks import cli

    # tests started in the background inherit it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # open to the end: a traceback has to get there
    sys.stdout = sys.stderr = log.open("a", buffering=1)
    sys.argv = ["perfbench", "run", *words]
    cli.main()


@contextlib.contextmanager
def small_file_system(folder: Path, size: str) -> Iterator[Path]:
    """A real one of this size, which root alone can make."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@functools.cache
def reference() -> Path:
    """An undisturbed micro run; read only."""
    out = shared() / "reference"
    assert run_here(shared(), out) == 0
    return out


def copy_of_reference(out: Path) -> Path:
    shutil.copytree(reference(), out)
    return out
