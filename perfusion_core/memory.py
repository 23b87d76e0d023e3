"""Where memory does not suffice: the same work in halves, with a word about it. In: what to do.
Out: what it gave. Also: what a process keeps of the memory that it had.
"""

import ctypes
import gc
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from perfusion_core.guidance import per_batch, rows_a_picture

log = logging.getLogger("perfusion_core")
shortages = 0  # in this process; what was made in halves differs in low bits


SAID = (  # where it is not torch's own error: the CPU's allocator, and what asks CUDA past torch's
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for what `mallopt` sets
KEPT_BYTES, MAPPED_BYTES = 1 << 30, 64 << 20


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors on the CPU leave, for the next ones. Tells whether it does.

    As it comes, it gives back the end of its heap after large tensors and asks for it again page by
    page: an eighth of the miniature's forward pass of 32 rows. Above 1 GB it still gives back, and
    tensors above 64 MB get memory of their own, as before. No bit depends on it. Where the
    environment sets glibc's memory, it stays as it is set.
    """
    asked = any(name.startswith("MALLOC_") for name in os.environ)
    asked |= "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if asked or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES) and mallopt(MMAP_THRESHOLD, MAPPED_BYTES))


@contextmanager
def lasting() -> Iterator[None]:
    """What lives now will live as long as the models do: Python need not look through it for cycles
    until the context ends. After torch, diffusers and transformers are imported that is half a
    million objects, a seventh of a second each time. Of two such contexts the first counts, and
    when it ends everything is looked through again.
    """
    mine = not gc.get_freeze_count()  # else somebody else decides
    if mine:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if mine:
            gc.unfreeze()


def out_of_memory(error: BaseException) -> bool:
    """CUDA's allocator has its own error; other places only a sentence."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in SAID
    )


def free() -> None:
    """What the failed try left: first the cycles that hold its tensors, then the allocator's
    blocks.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def make_room() -> None:
    """After a try that memory did not suffice for."""
    global shortages
    shortages += 1
    free()


def draw_what_fits(
    backbone: Any,
    pictures: Sequence[Any],
    *,
    steps: int,
    guidance: float,
    rows: int = 0,
    how: Any = None,
) -> tuple[np.ndarray, list[int]]:
    """Pictures as `sampling.draw` makes them, and of each the size of its batch: the usual one, or
    half of it where memory runs out.
    """
    from perfusion_core.sampling import PROTOCOL, draw

    many = per_batch(rows, guidance) if rows else len(pictures)
    drawn: list[np.ndarray] = []
    sizes: list[int] = []
    while len(sizes) < len(pictures):
        some = pictures[len(sizes) : len(sizes) + many]
        try:
            manner = how or PROTOCOL
            drawn.append(
                draw(backbone, some, steps=steps, guidance=guidance, rows=rows, how=manner)
            )
            sizes += [many] * len(some)
            continue
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or many == 1:
                raise
        make_room()
        before, many = many, (many + 1) // 2
        rows = many * rows_a_picture(guidance)
        log.warning(f"out of memory with {before} pictures at a time; going on with {many}")
    return np.concatenate(drawn), sizes


class Halving:
    """A training step in one part, or in as few as memory allows; each try starts from the same
    state.

    The gradient is that of the whole batch whatever the number of parts; low bits of the sums
    differ. Where single rows are too much, the U-Net's activations are recomputed as well.
    """

    def __init__(
        self, unet: Any, optimizer: Any, rng: torch.Generator, state: Mapping[str, torch.Tensor]
    ) -> None:
        self.unet, self.optimizer, self.rng, self.state = unet, optimizer, rng, state
        self.parts = 1

    def step(self, rows: int, attempt: Callable[[int], float]) -> float:
        """`attempt(parts)` leaves gradients and gives the loss; a micro-batch has `rows`, so it has
        no more parts.
        """
        while True:
            rng, state = (
                self.rng.get_state(),
                {name: tensor.clone() for name, tensor in self.state.items()},
            )
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return attempt(self.parts)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or (
                    self.parts >= rows and self.unet.is_gradient_checkpointing
                ):
                    raise
            self.rng.set_state(rng)
            for name, tensor in state.items():
                self.state[name].copy_(tensor)
            self.optimizer.zero_grad(set_to_none=True)
            make_room()
            self.need_less(rows)

    def need_less(self, rows: int) -> None:
        if self.parts < rows:
            self.parts = min(2 * self.parts, rows)
            log.warning(
                f"out of memory; going on with the batch of {rows} in {self.parts} parts (the "
                f"same gradient)"
            )
        else:
            self.unet.enable_gradient_checkpointing()
            log.warning(
                "out of memory with single rows; going on with gradient checkpointing (a third "
                "more time)"
            )
