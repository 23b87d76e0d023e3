"""How much memory a piece of work needs beyond what the process holds already.

In: a device and a block of work. Out: bytes, or None where they cannot be counted.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_core.memory import free

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SLACK = 0.05  # how much of a peak may be hidden
COUNTER = 2**20  # bytes by which the kernel's counters may differ from each other
FORGET_PEAK = "5"  # of clear_refs: the highest resident size is the present one (proc(5))


@dataclass
class Peak:
    """Filled in at the end of the block."""

    bytes: int | None = None

    def told(self) -> dict[str, int]:
        """For a manifest: nothing where nobody could measure."""
        return {} if self.bytes is None else {"peak_above_bytes": self.bytes}


@contextmanager
def peak_above(device: Any, young: bool = False) -> Iterator[Peak]:
    """The highest use of memory inside the block, less that at its beginning: of CUDA what torch
    allocated, of a CPU the process's resident set, as the kernel keeps its peak. None where much
    of what was there before left meanwhile: it hides as much of what came. `young`: what lay here
    for long was looked through just before, and is not again."""
    peak = Peak()
    if device.type == "cuda":
        import torch

        free()
        level = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = max(torch.cuda.max_memory_allocated(device) - level, 0)
        return
    before = settled(young) if device.type == "cpu" else None
    yield peak
    if before is not None:
        # pages of files that the kernel took back under pressure, or what an older thread gave up
        left, seen = before - resident("VmRSS"), max(resident("VmHWM") - before, 0)
        peak.bytes = seen if left <= max(SLACK * seen, COUNTER) else None


def settled(young: bool = False) -> int | None:
    """The resident set without what was freed; its peak is counted from here on. None where the
    system cannot give freed memory back or forget a peak: then a number would say too little."""
    gc.collect(1 if young else 2)
    with suppress(OSError, AttributeError, StopIteration):
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(FORGET_PEAK)
        return resident("VmRSS")
    return None


def resident(name: str) -> int:
    """Bytes of one line of what Linux tells of this process."""
    lines = STATUS.read_text().splitlines()
    told = next(line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(told.split()[1])
