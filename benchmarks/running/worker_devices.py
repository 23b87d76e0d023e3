"""Where workers calculate. In: a Config, a device. Out: a device for each worker, and the threads
of each.

Planning asks for their number, so that torch is loaded for counting GPUs only.
"""

import os

from benchmarks.planning.config import Config


def devices(config: Config, device: str) -> tuple[list[str], int]:
    """Each worker's device, and the threads of each: one worker a GPU, or N on the CPU with its
    threads divided.
    """
    if device.startswith("cuda"):
        import torch

        found = (
            [device] if ":" in device else [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        )
        workers = config.workers or len(found)
        return [found[i % len(found)] for i in range(workers)], config.threads
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    workers = config.workers or max(1, cores // 2)
    return [device] * workers, config.threads or max(1, cores // workers)
