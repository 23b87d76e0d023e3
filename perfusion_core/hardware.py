"""What this machine calculates with: whether it has a GPU, and which number type is fast on it.

In: nothing, or a device's name. Out: facts that decide keys, so planning and working ask here.
torch is loaded only where the answer needs it: where a driver for GPUs is there, or on a machine
that cannot be read without it.
"""

import ctypes
import os
import platform
import time
from functools import cache
from pathlib import Path

TILES, VECTORS = "amx_bf16", "avx512_bf16"  # of x86 processors: bfloat16 in hardware
INTEL = "GenuineIntel"
BUSY = 0.6  # of a core: below it, other work is not in the way
# what every CUDA build of torch opens first
DRIVERS = {"Linux": "libcuda.so.1", "Windows": "nvcuda.dll"}


def has_gpu() -> bool:
    """Whether torch finds a CUDA device; without a driver it cannot, and is not asked."""
    if not has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


@cache
def has_gpu_driver() -> bool:
    """Whether this system could have a device that torch calls cuda."""
    system = platform.system()
    if system == "Darwin":
        return False
    # AMD's driver; a system that only torch knows
    if Path("/dev/kfd").exists() or system not in DRIVERS:
        return True
    try:
        ctypes.CDLL(DRIVERS[system])
    except OSError:
        return False
    return True


def fast_dtype_name(device: str) -> str:
    """bfloat16 where the hardware has it natively; elsewhere it is emulated and slow."""
    if device.partition(":")[0] == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if has_bfloat16() else "float32"


@cache
def has_bfloat16() -> bool:
    """Whether the processor calculates with bfloat16 itself, and no slower than with float32."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    flags = processor_flags(cpuinfo)
    if flags is None:  # not Linux
        import torch

        able = torch.cpu.get_capabilities()
        flags = {name for name in (TILES, VECTORS) if able.get(name)}
        return is_bfloat16_fast(flags, platform.processor())
    return is_bfloat16_fast(flags, cpuinfo.read_text(encoding="utf-8", errors="replace"))


def is_bfloat16_fast(flags: set[str], told: str) -> bool:
    """By a processor's features, and what the system tells of it.

    An Intel Xeon without tiles took 1.3 times as long as in float32 for the miniature's forward
    pass, and 1.7 times for a training step. AMD's vectors were not compared.
    """
    return TILES in flags or (VECTORS in flags and INTEL not in told)


def processor_flags(cpuinfo: Path) -> set[str] | None:
    """The features of the first processor, as Linux tells them."""
    if not cpuinfo.is_file():
        return None
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return None


def busy_cores(seconds: float = 0.2, stat: Path = Path("/proc/stat")) -> float:
    """How many cores other processes keep busy, looked at for so long; 0 where nobody can tell."""
    if not stat.is_file():
        return 0.0
    idle, total = _core_ticks(stat)
    time.sleep(seconds)
    later_idle, later_total = _core_ticks(stat)
    passed = later_total - total
    return (os.cpu_count() or 1) * (1 - (later_idle - idle) / passed) if passed > 0 else 0.0


def _core_ticks(stat: Path) -> tuple[int, int]:
    """Of all cores together: at rest or waiting for a disk, and all."""
    ticks = [int(word) for word in stat.read_text().partition("\n")[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def processor() -> str:
    """Its name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    told = info.read_text().partition("model name")[2].partition("\n")[0] if info.exists() else ""
    return told.strip("\t :") or platform.processor() or platform.machine()
