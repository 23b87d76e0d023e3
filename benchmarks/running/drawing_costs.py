"""What a loaded concept costs while pictures are drawn: measured beside the base model, in turn.

In: the first cell that a worker draws with a method's trained files. Out: seconds and bytes in
these files' manifest; no picture of a run comes from here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

from benchmarks.planning.units import Cell
from benchmarks.running.applied import Applied, plain_words
from benchmarks.running.peak_memory import Peak, peak_above
from benchmarks.running.tasks import Event
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import device_words
from perfusion_core import hardware
from perfusion_core.schedulers import DDIM

LONGEST = 120.0  # seconds that all pictures together may take; beyond, nothing is measured
SHORTEST = 10  # steps of a picture; fewer are a trial, whose seconds are mostly text and decoding
TURNS = ("base", "concept", "concept", "base")  # a drift of the machine meets both alike
WARM = 2  # steps of what is drawn first and not counted


def measuring_device(device: torch.device | str) -> str:
    """The device's name for people: `cpu (Intel Xeon)`, `cuda (NVIDIA H200)`."""
    words = str(device)
    return device_words(words) if words.startswith("cuda") else f"{words} ({hardware.processor()})"


class DrawingCosts:
    """Once a method and worker, just before its first pictures."""

    def __init__(
        self, store: Store, applied: Applied, say: Callable[[Event], None], steps: int,
        guidance: float, compiled: bool, scheduler: str = DDIM,
    ) -> None:  # fmt: skip
        self.store, self.applied, self.say = store, applied, say
        self.steps, self.guidance, self.scheduler = steps, guidance, scheduler
        # of another batch than the run's, compiled code would be compiled again
        self.seen: set[str] | None = None if compiled or steps < SHORTEST else set()

    def measure(self, backbone: Any, cell: Cell) -> None:
        """Into fit.json of the cell's concept. What goes wrong here is no failure of the cell: it
        will meet the same itself, and is told there."""
        if self.seen is None or len(cell.fits) != 1 or cell.method in self.seen:
            return
        self.seen.add(cell.method)
        fit = cell.fits[0]
        if "drawing" in (self.store.manifest(fit) or {"drawing": None}):
            return
        try:
            with untouched_chance(backbone.device):
                told = self._measured(backbone, cell)
            self.applied.close()
        except Exception as error:
            with suppress(Exception):  # a method that cannot leave is told of by its own cell
                self.applied.close()
            text = f"what {cell.method} costs while it draws was not measured: {error}"
            self.say(Event("note", cell, text=text.splitlines()[0][:200]))
            return
        if told:
            self.store.add_to_manifest(fit, {"drawing": told})

    def _measured(self, backbone: Any, cell: Cell) -> dict[str, Any]:
        """One picture at a time, with the run's steps and guidance, after a short one of each."""
        warm = [self._draw(backbone, cell, side, WARM)[2] for side in TURNS[:2]]
        # the faster one: the first of a process waits for what is loaded once
        ahead = min(warm) / WARM * self.steps * len(TURNS)
        if ahead > LONGEST:
            text = (
                f"what {cell.method} costs while it draws is left out: {len(TURNS)} pictures would "
                f"take {ahead:.0f} s"
            )
            self.say(Event("note", cell, text=text))
            return {}
        seconds: dict[str, list[float]] = {"apply": [], "base": [], "concept": []}
        peaks = []
        for side in TURNS:
            peak, applying, drawing = self._draw(backbone, cell, side, self.steps)
            seconds[side].append(drawing)
            if side == "concept":
                seconds["apply"].append(applying)
                peaks.append(peak)
        most = max((peak for peak in peaks), key=lambda peak: peak.bytes or 0)
        return {
            "device": measuring_device(backbone.device),
            "steps": self.steps,
            "guidance": self.guidance,
            "point": cell.point,
            "picture_seconds": round(min(seconds["concept"]), 6),
            "base_picture_seconds": round(min(seconds["base"]), 6),
            "apply_seconds": round(min(seconds["apply"]), 6),
            **most.told(),
        }

    def _draw(self, backbone: Any, cell: Cell, side: str, steps: int) -> tuple[Peak, float, float]:
        """One picture; -> memory, seconds to apply the concept, seconds from text to pixels."""
        from perfusion_core.sampling import Manner, draw, prepared

        self.applied.close()
        with peak_above(backbone.device, young=steps != WARM) as peak:
            started = _now(backbone.device)
            base = side == "base"
            write = partial(plain_words, cell) if base else self.applied.write(backbone, cell)
            applied = _now(backbone.device)
            texts = [write(cell.template)]
            pictures = prepared(backbone, texts, cell.seeds[:1], self.guidance)
            how = Manner(self.scheduler)
            draw(backbone, pictures, steps=steps, guidance=self.guidance, how=how)
            done = _now(backbone.device)
        return peak, applied - started, done - applied


def _now(device: torch.device) -> float:
    """When everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def untouched_chance(device: torch.device) -> Iterator[None]:
    """Whatever a method draws at random here is drawn again by what comes after."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
