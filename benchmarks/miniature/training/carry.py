"""Training taken from one machine to another: a work folder in, a few small files out, and back.

Only averaged weights travel (a third of a checkpoint, and enough to go on from), in safetensors
files of at most 15 MB.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.miniature.training.hyperparameters import STAGES
from benchmarks.miniature.training.stage import spent
from perfusion_core.errors import UserError

LIMIT = 15_000_000
ABOUT = "carry.json"
ALONGSIDE = (
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
)


def pack_stages(work: Path, out: Path, names: Sequence[str] = (), limit: int = LIMIT) -> list[Path]:
    """The averages of every stage (or of those named) of a work folder: carry-0.safetensors ... and
    carry.json.
    """
    bins: list[dict[str, torch.Tensor]] = [{}]
    filled, about = 0, {}
    for name in names or STAGES:
        path = work / f"{name}.safetensors"
        if not path.exists():
            continue
        with safe_open(path, "pt") as f:
            about[name] = dict(f.metadata())
            for key in sorted(k for k in f.keys() if k.startswith(("ema/", "buffer/"))):  # noqa: SIM118
                tensor = f.get_tensor(key)
                size = tensor.numel() * tensor.element_size() + 200  # and its line in the header
                if filled + size > limit and bins[-1]:
                    bins.append({})
                    filled = 0
                bins[-1][f"{name}/{key}"] = tensor
                filled += size
    if not about:
        raise UserError(
            f"{work} has no trained stage to carry; start with `perfbench miniature build --work "
            f"{work}`"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = [out / f"carry-{k}.safetensors" for k in range(len(bins))]
    for path, tensors in zip(files, bins):
        save_file(tensors, path)
    kept = {
        name: (work / name).read_text(encoding="utf-8")
        for name in ALONGSIDE
        if (work / name).is_file()
    }
    scale = work / "scale.json"
    if scale.is_file():
        kept["scale.json"] = scale.read_text(encoding="utf-8")
    record = {"files": len(files), "stages": about, "texts": kept}
    (out / ABOUT).write_text(json.dumps(record), encoding="utf-8")
    return [*files, out / ABOUT]


def unpack_stages(folder: Path, work: Path) -> list[str]:
    """Start a work folder from what was packed; a stage that is further there stays. -> the stages
    that were taken.
    """
    if not (folder / ABOUT).is_file():
        raise UserError(f"{folder} holds no packed training: there is no {ABOUT} in it")
    record = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    files = [folder / f"carry-{k}.safetensors" for k in range(record["files"])]
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} is missing: {record['files']} files belong together")
    for name, text in record["texts"].items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text(text, encoding="utf-8")
        elif name.startswith("tokenizer/") and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path} differs from the packed one: those weights speak other words; use an "
                f"empty --work"
            )
    wanted = {
        name: meta
        for name, meta in record["stages"].items()
        if int(meta["step"]) > spent(work / f"{name}.safetensors")["steps"]
    }
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in wanted}
    for path in files:
        with safe_open(path, "pt") as f:
            for key in f.keys():  # noqa: SIM118
                name, _, rest = key.partition("/")
                if name in found:
                    found[name][rest] = f.get_tensor(key)
    for name, tensors in found.items():
        meta = wanted[name]
        total = json.loads(meta["seconds"]) + json.loads(meta.get("elsewhere", "0"))
        # its minutes on this machine begin now
        meta |= {"seconds": "0", "elsewhere": json.dumps(total)}
        save_file(tensors, work / f"{name}.safetensors", meta)
    return list(found)
