"""How long the rest of a run may take, as a range. In: units as they begin and end. Out: seconds
from and to.

Work is counted in rows that pass the U-Net once. What a row costs is learned from what has ended,
for trainings and for pictures apart; of a kind that nothing is known of, the other's is taken, half
and twice.
"""

import time
from collections.abc import Iterable, Mapping
from math import ceil

from benchmarks.planning.units import Fit, Unit

BACKWARD = 2.0  # of a training step, beside the forward pass
KNOWN, GUESSED = (0.8, 1.25), (0.4, 2.0)  # of the estimate: from and to
FITS, PICTURES = "fits", "pictures"


def kind_of(unit: Unit) -> str:
    return FITS if isinstance(unit, Fit) else PICTURES


def work_of(unit: Unit, steps: int, look: float, every: int) -> float:
    """Rows through the U-Net. look: pictures of one validation, which is made every so many
    training steps; steps: of a picture.
    """
    if not isinstance(unit, Fit):
        return 2.0 * steps * len(unit.seeds)
    if unit.given:
        return 0.0
    trained = int(unit.config.get("steps", 0))
    rows = int(unit.config.get("batch", 1)) * (2 if unit.prior else 1)
    looks = ceil(trained / every) if unit.select else 0
    return trained * rows * (1 + BACKWARD) + looks * look * 2.0 * steps


class TimeLeft:
    """Learns as units end; `range` may be asked at any time."""

    def __init__(
        self,
        units: Iterable[Unit],
        workers: int,
        *,
        steps: int,
        look: float,
        every: int,
        known: Mapping[str, tuple[float, float, float]] | None = None,
    ) -> None:
        """known: of a kind, seconds a row before anything ended, and the range that they stand
        for.
        """
        self.workers, self.known = max(1, workers), dict(known or {})
        self.work = {unit.key: work_of(unit, steps, look, every) for unit in units}
        self.left = {FITS: 0.0, PICTURES: 0.0}
        for unit in units:
            self.left[kind_of(unit)] += self.work[unit.key]
        self.done = {FITS: 0.0, PICTURES: 0.0}
        self.seconds = {FITS: 0.0, PICTURES: 0.0}
        self.running: dict[str, tuple[float, float]] = {}  # fits: began, share done

    def step(self, unit: Unit, share: float) -> None:
        """So much of a fit is trained."""
        began, _ = self.running.get(unit.key, (time.monotonic(), 0.0))
        self.running[unit.key] = began, share

    def ended(self, unit: Unit, seconds: float) -> None:
        """Done in so many seconds; in none where another run had it, or a cache."""
        self.running.pop(unit.key, None)
        work, kind = self.work.get(unit.key, 0.0), kind_of(unit)
        self.left[kind] -= work
        if seconds > 0:
            self.done[kind] += work
            self.seconds[kind] += seconds

    def range(self) -> tuple[float, float] | None:
        """Seconds; None before anything is known."""
        now = time.monotonic()
        done, seconds, left = dict(self.done), dict(self.seconds), dict(self.left)
        for key, (began, share) in self.running.items():
            done[FITS] += share * self.work.get(key, 0.0)
            left[FITS] -= share * self.work.get(key, 0.0)
            seconds[FITS] += now - began
        price = self.known | {
            kind: (seconds[kind] / done[kind], *KNOWN) for kind in done if done[kind] > 0
        }
        if not price:
            return None
        low = high = 0.0
        for kind, other in ((FITS, PICTURES), (PICTURES, FITS)):
            each, few, many = price.get(kind) or (price[other][0], *GUESSED)
            rest = max(left[kind], 0.0) * each
            low, high = low + few * rest, high + many * rest
        return low / self.workers, high / self.workers

    def prices(self, least: float = 0.0) -> dict[str, float]:
        """Seconds a row of what has ended, of a kind of which so many rows have."""
        return {
            k: self.seconds[k] / self.done[k] for k in self.done if self.done[k] > max(least, 0.0)
        }


def words(low: float, high: float) -> str:
    """`2 to 4 min`, `20 to 40 s`."""
    for unit, length in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if high >= 1.5 * length or unit == "s":
            first, last = round(low / length), ceil(high / length)
            return f"{first} to {last} {unit}" if first < last else f"about {last} {unit}"
    raise AssertionError("seconds are the last unit")
