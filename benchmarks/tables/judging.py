"""One operating point and metric of two runs, cell by cell: lost or not?

In: scores before and now [concepts, prompts], what each prompt's kind is, limits. Out: a Finding of
all prompts, and one of each kind where there are several.

A loss FAILS where it is beyond the margin and its 95 % interval excludes zero, or where one concept
or one prompt loses more than its floor. It PASSES where the interval shows that it is smaller than
the margin. Anything else is INCONCLUSIVE.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt

import numpy as np
from scipy.special import stdtrit

from benchmarks.tables.margins import Margin
from benchmarks.tables.statistics import Interval, clustered, mean_over, t_quantile

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
POWER = 0.90
UNTOLD = 1.5  # concepts' floors, of a prompt's where no repeat told it: prompts are many
Key = tuple[str, str, str, str]  # of concepts or pairs, method, point, metric


@dataclass(frozen=True)
class Finding:
    """What is known about one metric of one operating point. A loss is reference minus run, and run
    minus reference where more is worse; a gain is negative.
    """

    of: str  # concepts, or pairs
    method: str
    point: str
    metric: str
    reference: float
    run: float
    loss: Interval
    margin: float
    floor: float
    n: int  # concepts
    fallen: tuple[tuple[str, float], ...]  # concepts that lost more than the floor, and how much
    kind: str = ""  # of the prompts; empty: all of them
    # prompts that lost more than their floor: which, how much, the floor
    prompts: tuple[tuple[str, float, float], ...] = ()

    @property
    def verdict(self) -> str:
        if self.fallen or self.prompts or (self.loss.value > self.margin and self.loss.lo > 0):
            return FAIL
        return PASS if self.loss.hi < self.margin else INCONCLUSIVE

    @property
    def caught(self) -> float:
        """The smallest loss that would FAIL with 90 % probability, given this many concepts and
        this much noise.
        """
        half = self.loss.hi - self.loss.value
        se = half / t_quantile(self.n)
        return (
            max(self.margin, half) + float(stdtrit(self.n - 1, POWER)) * se if self.n > 1 else nan
        )

    @property
    def settled_by(self) -> int | None:
        """How many concepts of this kind would settle an INCONCLUSIVE; None where not even 1,000
        would.
        """
        if self.n < 2:
            return None
        value, se = self.loss.value, (self.loss.hi - self.loss.value) / t_quantile(self.n)
        room = self.margin - value if value <= self.margin else value
        needed = (
            n for n in range(self.n + 1, 1001) if t_quantile(n) * se * sqrt(self.n / n) < room
        )
        return next(needed, None)


@dataclass(frozen=True)
class Scores:
    """Cells [C, P], NaN where there is none."""

    concepts: Sequence[str]
    prompts: Sequence[str]
    kinds: np.ndarray  # [P]
    before: np.ndarray
    now: np.ndarray
    sign: float = 1.0  # -1 where more is worse

    def of_kind(self, kind: str) -> "Scores":
        mine = self.kinds == kind
        return replace(
            self,
            prompts=[name for name, one in zip(self.prompts, mine) if one],
            kinds=self.kinds[mine],
            before=self.before[:, mine],
            now=self.now[:, mine],
        )

    @property
    def loss(self) -> np.ndarray:
        return self.sign * (self.before - self.now)

    @property
    def several(self) -> list[str]:
        """The kinds, where there is more than one."""
        kinds = sorted(set(self.kinds))
        return kinds if len(kinds) > 1 else []


def judge(key: Key, scores: Scores, limit: Margin) -> list[Finding]:
    """All prompts together, then each kind."""
    whole = _finding(key, scores, limit)
    weak = prompts_lost(scores.prompts, scores.loss, limit.prompt or UNTOLD * limit.floor)
    found = [replace(whole, prompts=weak)]
    for kind in scores.several:
        mine = scores.of_kind(kind)
        own = limit.kinds.get(kind) or of_fewer(limit, ~np.isnan(scores.loss), ~np.isnan(mine.loss))
        found.append(replace(_finding(key, mine, own), kind=kind))
    return found


def _finding(key: Key, scores: Scores, limit: Margin) -> Finding:
    loss = scores.loss
    there = ~np.isnan(loss).all(1)
    fallen = tuple(
        (name, float(lost))
        for name, lost in zip(scores.concepts, mean_over(loss))
        if lost > limit.floor
    )
    before, now = clustered(scores.before).value, clustered(scores.now).value
    return Finding(
        *key, before, now, clustered(loss), limit.margin, limit.floor, int(there.sum()), fallen
    )


def prompts_lost(
    names: Sequence[str], loss: np.ndarray, floor: float
) -> tuple[tuple[str, float, float], ...]:
    floors = floor * wider(loss)
    return tuple(
        (name, float(lost), float(limit))
        for name, lost, limit in zip(names, mean_over(loss.T), floors)
        if lost > limit
    )


# ---- limits of fewer cells, where no repeats have told them ----


def wider(loss: np.ndarray) -> np.ndarray:
    """[P] what a prompt's mean may lose for each unit that a concept's may."""
    there = ~np.isnan(loss)
    return scale(_prompts(there), there.sum(0))


def scale(cells: float, fewer: np.ndarray | float) -> np.ndarray:
    """How much further a mean of `fewer` cells goes by chance than one of `cells`: by the root,
    were their noise normal; by the quotient, where it is one cell that went.
    """
    with np.errstate(divide="ignore"):
        quotient = cells / np.asarray(fewer, dtype=float)
    return np.maximum(np.sqrt(quotient), quotient)


def of_fewer(limit: Margin, every: np.ndarray, mine: np.ndarray) -> Margin:
    """Limits of a part of the cells [C, P]: the margin by the ratio of standard errors, were all
    noise one of cells; the floor as a prompt's.
    """
    further = float(scale(_prompts(every), _prompts(mine)))
    return Margin(limit.margin * _error(mine) / _error(every), limit.floor * further)


def _prompts(there: np.ndarray) -> float:
    """A concept's, on average."""
    return float(there.sum() / max(there.any(1).sum(), 1))


def _error(there: np.ndarray) -> float:
    """Standard error of the class-balanced mean for each unit of noise in a cell."""
    there = there[there.any(1)]
    w = there / (len(there) * there.sum(1, keepdims=True))
    return float(np.sqrt((w**2).sum()))
