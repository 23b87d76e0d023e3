"""From intervals to a verdict. In: what a claim says, part by part, each with its interval.
Out: one of five verdicts, the probability that the claim is true, and with how many concepts it
would be settled.

Holm's correction within a claim, Benjamini and Hochberg's over claims (docs/claims.md).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan, nan, sqrt

import numpy as np

# scipy.stats has it too, and takes a second to import
from scipy.special import stdtr, stdtrit

from benchmarks.tables.sample_size import fewest, power_of
from benchmarks.tables.statistics import Interval, t_quantile

HOLDS, FAILS = "holds", "does not hold"
SAME, TRADE_OFF, OPEN = "equivalent", "trade-off", "undecided"
ABSENT = "not measured"
VERDICTS = (HOLDS, FAILS, TRADE_OFF, SAME, OPEN, ABSENT)  # as the page lists them
SEVERAL = {HOLDS: "hold", FAILS: "do not hold", TRADE_OFF: "trade-offs"}  # claims, in a count


def counted(number: int, verdict: str) -> str:
    """`5 do not hold`."""
    return f"{number} {verdict if number == 1 else SEVERAL.get(verdict, verdict)}"


def tally(found: Iterable[str]) -> str:
    """`5 hold, 8 undecided`: each verdict that was found, in the page's order."""
    counts = Counter(found)
    return ", ".join(counted(counts[one], one) for one in VERDICTS if counts[one])


def bold(verdict: str) -> str:
    """As a table shows it: what is decided stands out."""
    return verdict if verdict in (OPEN, ABSENT) else f"**{verdict}**"


LITTLE = 0.02  # a difference of similarity smaller than this counts as none
SLIGHT = 0.1  # and one smaller than this as slight
# the same in units of the raw cosine, of which the plain word has 0.15 on the miniature
LITTLE_RAW = 0.003
LEVEL = 0.05  # of a two-sided test, and of the share of false verdicts among all decided claims
SURE = 0.8  # with which probability so many concepts settle it
BEYOND_REACH = 1000  # concepts; more are not told


def told(interval: Interval) -> str:
    value, lo, hi = interval
    return f"{value:+.3f}" if np.isnan(lo) else f"{value:+.3f} ({lo:+.3f} to {hi:+.3f})"


def flipped(interval: Interval) -> Interval:
    """Of the difference the other way round."""
    return Interval(-interval.value, -interval.hi, -interval.lo)


@dataclass(frozen=True)
class Part:
    """One thing that a claim says: that a difference is above a number."""

    name: str
    found: Interval
    concepts: int
    least: float = 0.0  # the number
    # a difference this near to zero is none: where both tests at 5 % say so, it is `equivalent`
    delta: float = 0.0
    # a step of an order: its value alone says that it goes up, only an interval that it does not
    step: bool = False

    def error(self, at: float) -> float:
        """The standard error on the side of a number; NaN where nothing tells it."""
        value, lo, hi = self.found
        if isnan(lo) or self.concepts < 2:
            return nan
        return (value - lo if at < value else hi - value) / t_quantile(self.concepts)

    def above(self, at: float) -> float:
        """The probability that the truth is above a number, were every value as likely
        beforehand."""
        error, distance = self.error(at), self.found.value - at
        if isnan(error):
            return nan
        if error <= 0:
            return 0.5 if distance == 0 else float(distance > 0)
        return float(stdtr(self.concepts - 1, distance / error))

    @property
    def holds(self) -> bool:
        return self.found.value > self.least if self.step else self.found.lo > self.least

    @property
    def against(self) -> float:
        """One-sided p of the truth being below the number: small where the claim fails."""
        return self.above(self.least)

    @property
    def same(self) -> float:
        """p of two one-sided tests: small where the difference is none; 1 where none is asked."""
        if not self.delta:
            return 1.0
        outside = (1 - self.above(-self.delta), self.above(self.delta))
        return max(outside) if not any(map(isnan, outside)) else 1.0

    @property
    def settles(self) -> float:
        """With how many concepts an interval would tell, were the truth as estimated and all
        variance that of concepts; inf beyond a thousand, NaN where nothing can be told.
        """
        value = self.found.value
        error = self.error(self.least)
        if isnan(error):
            return nan
        variance = error**2 * self.concepts
        enough = [fewest(lambda n: power_of(value - self.least, n, variance / n) >= SURE)]
        if self.delta and abs(value) < self.delta:
            room = self.delta - abs(value)
            enough.append(
                fewest(
                    lambda n: (
                        stdtrit(n - 1, 1 - LEVEL) + stdtrit(n - 1, SURE)
                        <= room / sqrt(variance / n)
                    )
                )
            )
        few = min((n for n in enough if n is not None), default=np.inf)
        return float(few) if few <= BEYOND_REACH else np.inf


@dataclass(frozen=True)
class Judged:
    """What the parts of a claim say together."""

    verdict: str
    true: float = nan  # the probability that it is: of its least likely part
    p: float = nan  # of the verdict, for the correction over claims; NaN without intervals
    parts: tuple[Part, ...] = field(default=(), repr=False)
    fronts: bool = False  # the parts are the two directions of one comparison

    @property
    def claimed(self) -> list[Part]:
        """What the claim says, without the steps of an order; of two fronts, that ours is ahead."""
        parts = self.parts[:1] if self.fronts else self.parts
        return [part for part in parts if not part.step]

    @property
    def limiting(self) -> Part | None:
        """The part on which the verdict hangs: the least likely one."""
        known = [part for part in self.claimed if not isnan(part.against)]
        return min(known, key=lambda part: part.against, default=None)


def judged(*parts: Part) -> Judged:
    """All parts must hold, each by its own interval, so that `holds` needs no correction. One part
    that fails is enough for `does not hold`; chance gives one of k parts k times as often, so
    Holm's step comes first. What neither holds nor fails may be shown to be nothing.
    """
    known = [part for part in parts if not isnan(part.against)]
    sure = [part for part in known if not part.step]
    if not sure or len(known) < len(parts):
        return Judged(OPEN, parts=parts)
    true = min(part.against for part in sure)
    failing = min(1.0, len(known) * min(part.against for part in known))
    if all(part.holds for part in parts):
        return Judged(HOLDS, true, 2 * (1 - true), parts)
    if failing < LEVEL / 2:
        return Judged(FAILS, true, 2 * failing, parts)
    open_parts = [part for part in parts if not part.holds]
    none = max(part.same for part in open_parts)
    if none < LEVEL:
        rest = [1 - part.against for part in sure if part.holds]
        return Judged(SAME, true, max([none, *(2 * p for p in rest)]), parts)
    return Judged(OPEN, true, min(1.0, 2 * min(1 - true, failing)), parts)


def of_fronts(ahead: Interval, behind: Interval, concepts: int) -> Judged:
    """That ours lies beyond the other, by the additive epsilon in both directions
    (tables/dominance.py). Beyond: some point of ours is ahead on both axes of each of theirs.
    """
    parts = ours, theirs = Part("ahead", ahead, concepts), Part("behind", behind, concepts)
    true = ours.against
    if isnan(true) or isnan(theirs.against):
        return Judged(OPEN, parts=parts, fronts=True)
    # as near to reaching each other as makes no difference
    near = max(1 - ours.above(-LITTLE), 1 - theirs.above(-LITTLE))
    trade = max(ours.against, theirs.against)
    if ours.holds:
        return Judged(HOLDS, true, 2 * (1 - true), parts, True)
    if theirs.holds:
        return Judged(FAILS, true, 2 * (1 - theirs.against), parts, True)
    if near < LEVEL:
        return Judged(SAME, true, near, parts, True)
    if trade < LEVEL / 2:
        return Judged(TRADE_OFF, true, 2 * trade, parts, True)
    p = 2 * min(1 - true, 1 - theirs.against, trade)
    return Judged(OPEN, true, min(1.0, p), parts, True)


def worst(found: Sequence[Judged]) -> Judged:
    """Of several things that must all hold, each judged by itself: the one that says least for
    the claim. With k of them chance gives a failing one k times as often.
    """
    order = (FAILS, TRADE_OFF, OPEN, SAME, HOLDS)
    first = min(found, key=lambda one: (order.index(one.verdict), one.true))
    if first.verdict == HOLDS:
        return first
    p = min(1.0, len(found) * first.p)
    verdict = OPEN if p >= LEVEL else first.verdict
    return Judged(verdict, first.true, p, first.parts, first.fronts)


def settled_by(found: Judged) -> float:
    """Concepts that would settle an open claim: what its least sure part needs."""
    needs = [part.settles for part in found.claimed if not part.holds]
    needs = [n for n in needs if not isnan(n)]
    return max(needs, default=nan)


def adjusted(ps: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's q of each p: the share of false ones among all that are as small;
    NaN stays.
    """
    known = sorted((p, k) for k, p in enumerate(ps) if not isnan(p))
    out, least = [nan] * len(ps), 1.0
    for rank in range(len(known), 0, -1):
        p, k = known[rank - 1]
        least = min(least, p * len(known) / rank)
        out[k] = least
    return out
