"""Which device a flag names, found without loading a model."""

import re

from perfusion_core.errors import UserError
from perfusion_core.hardware import has_gpu


def device_name(given: str, elsewhere: bool = False) -> str:
    """`auto` is the first CUDA device, else the CPU; `elsewhere`: the work is done on other
    machines.
    """
    if given == "auto":
        return "cuda" if has_gpu() else "cpu"
    if given.startswith("cpu:") and given != "cpu:0":
        raise UserError(f"device {given!r}: there is one CPU; write cpu, and --threads for cores")
    if device_type(given) == "mps":
        raise UserError(
            f"device {given!r}: Apple's GPUs have no float64, which Perfusion's edit and C need "
            f"(docs/scale-out.md); leave --device out to run on the CPU"
        )
    if not re.fullmatch(r"(cpu|cuda)(:\d{1,2})?", given):
        _refuse_what_torch_refuses(given)
    if device_type(given) == "cuda" and not elsewhere and not has_gpu():
        raise UserError(
            f"device {given!r}: no CUDA device is here; leave --device out to run on the CPU"
        )
    return given


def device_type(name: str) -> str:
    """`cuda` of `cuda:1`."""
    return name.partition(":")[0]


def _refuse_what_torch_refuses(given: str) -> None:
    import torch

    try:
        torch.device(given)
    except RuntimeError:
        raise UserError(f"device {given!r} is not auto, cpu, cuda or cuda:N") from None
