"""Which device a flag names, found without loading a model."""

from perfusion_core.errors import UserError


def device_name(given: str, elsewhere: bool = False) -> str:
    """`auto` is the first CUDA device, else the CPU; `elsewhere`: the work is done on other
    machines.
    """
    import torch

    if given == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError:
        raise UserError(f"device {given!r} is not auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not elsewhere and not torch.cuda.is_available():
        raise UserError(f"device {given!r}: no CUDA device is here; leave --device out to run on the CPU")
    return given
