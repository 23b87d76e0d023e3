"""From an interval to a verdict. In: intervals of differences. Out: what they say of a claim, and
their words.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.tables.statistics import Interval

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold here", "inconclusive", "not measured"
LITTLE = 0.02  # a loss of similarity smaller than this counts as none
SLIGHT = 0.1  # and one smaller than this as slight


def told(interval: Interval) -> str:
    value, lo, hi = interval
    return f"{value:+.3f}" if np.isnan(lo) else f"{value:+.3f} ({lo:+.3f} to {hi:+.3f})"


def more(interval: Interval, than: float = 0.0) -> str:
    """The claim says that it is above a number."""
    if np.isnan(interval.lo):
        return OPEN
    return HOLDS if interval.lo > than else FAILS if interval.hi < than else OPEN


def less(interval: Interval, than: float = 0.0) -> str:
    """The claim says that it is below zero, by more than a number."""
    return more(flipped(interval), than)


def no_loss(interval: Interval, margin: float = LITTLE) -> str:
    """The claim says that it is not below zero by more than a little."""
    return more(interval, -margin)


def flipped(interval: Interval) -> Interval:
    """Of the difference the other way round."""
    return Interval(-interval.value, -interval.hi, -interval.lo)


def all_of(verdicts: Sequence[str]) -> str:
    """Of a claim with several parts: all must hold, each by its own interval, so that `holds` needs
    no correction; one part that fails is enough for `does not hold`, which chance alone gives 2.5 %
    of the time for every part."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if set(verdicts) == {HOLDS} else OPEN


def in_order(steps: Sequence[Interval]) -> str:
    """The claim says that every step goes up; one that goes down by chance settles nothing."""
    if FAILS in map(more, steps):
        return FAILS
    return HOLDS if all(step.value > 0 for step in steps) else OPEN
