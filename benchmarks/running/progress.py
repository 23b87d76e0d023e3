"""How far a run is: a bar with images/s, time left and the current unit; without a terminal a line
now and then.
"""

import sys
import time
from typing import TextIO

from tqdm import tqdm

EVERY = 30.0  # seconds between lines where nobody watches


class Progress:
    """Counts images; everything goes to stderr, results alone to stdout."""

    def __init__(self, images: int, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.total, self.count, self.unit = images, 0, ""
        self.started = self.spoke = time.monotonic()
        self.bar = (
            tqdm(total=images, unit="image", file=self.stream, smoothing=0.05, dynamic_ncols=True)
            if (self.stream.isatty())
            else None
        )

    def current(self, unit: str) -> None:
        self.unit = unit
        if self.bar is not None:
            self.bar.set_postfix_str(unit, refresh=True)
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
            rate = self.count / (now - self.started)
            left = f", {duration((self.total - self.count) / rate)} left" if rate else ""
            print(
                f"perfbench: {self.count}/{self.total} images, {rate:.1f} images/s{left}; "
                f"{self.unit}",
                file=self.stream,
                flush=True,
            )


def duration(seconds: float) -> str:
    """3.2 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
