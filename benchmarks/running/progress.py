"""How far a run is: a bar with the time left and what is being done; without a terminal a line now
and then.
"""

import sys
import time
from typing import TextIO

from tqdm import tqdm

from benchmarks.planning.units import Cell, Fit, Unit
from benchmarks.running.tasks import ScoringTask
from benchmarks.running.time_left import TimeLeft, words

EVERY = 30.0  # seconds between lines where nobody watches
BAR = "{percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} images, {elapsed}{postfix}"


class Progress:
    """Counts images; everything goes to stderr, results alone to stdout."""

    def __init__(
        self, images: int, stream: TextIO | None = None, left: TimeLeft | None = None
    ) -> None:
        self.stream, self.time_left = stream or sys.stderr, left
        self.total, self.count, self.unit = images, 0, ""
        self.started = self.spoke = time.monotonic()
        self.bar = (
            tqdm(total=images, file=self.stream, bar_format=BAR, dynamic_ncols=True)
            if (self.stream.isatty())
            else None
        )

    def current(self, unit: str) -> None:
        self.unit = unit
        if self.bar is not None:
            self.bar.set_postfix_str(self._left() + unit, refresh=True)
        self._line()

    def add(self, images: int) -> None:
        self.count += images
        if self.bar is not None:
            self.bar.update(images)
        self._line()

    def note(self, text: str) -> None:
        """One line that stays."""
        if self.bar is not None:
            self.bar.clear()
        print(f"perfbench: {text}", file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str("")
            self.bar.close()

    def _line(self) -> None:
        now = time.monotonic()
        if self.bar is None and now - self.spoke >= EVERY:
            self.spoke = now
            print(
                f"perfbench: {self.count} of {self.total} images; {self._left()}{self.unit}",
                file=self.stream,
                flush=True,
            )

    def _left(self) -> str:
        found = self.time_left.range() if self.time_left else None
        return f"{words(*found)} left; " if found else ""


def doing(unit: Unit | ScoringTask, text: str = "") -> str:
    """For people who have read nothing: `training perfusion on cat, step 120 of 400`."""
    if isinstance(unit, ScoringTask):
        return f"scoring {unit.concept} of {unit.method}"
    if isinstance(unit, Fit):
        return f"training {unit.method} on {unit.concept}" + (f", {text}" if text else "")
    if isinstance(unit, Cell):
        return f"drawing {unit.concept} by {unit.method}"
    return f"drawing class images: any {unit.super_category}"


def duration(seconds: float) -> str:
    """3.2 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
