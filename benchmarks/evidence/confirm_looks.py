"""What each look at the confirmatory run says of each claim. In: the plan, and the scores of the
look's concepts. Out: a `Look` a claim and look.

At a look a claim is decided where its difference lies beyond the boundary, on either side, or where
both one-sided tests find it smaller than its delta. The first look that decides counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan, sqrt

from benchmarks.evidence.confirm_measures import Scored
from benchmarks.evidence.confirm_plan import FRONT, Looks, Primary
from benchmarks.evidence.verdicts import (
    FAILS,
    HOLDS,
    LEVEL,
    OPEN,
    SAME,
    TRADE_OFF,
    Part,
    adjusted,
)
from benchmarks.tables.group_sequential import as_normal, as_t, power, repeated_p
from benchmarks.tables.statistics import Interval

CROSSED, NOT_YET, LAST = "crossed", "not yet", "last look"


@dataclass(frozen=True)
class Look:
    """One claim at one look."""

    claim: Primary
    look: int  # 1, 2, ...
    found: Interval  # with an interval that holds at all looks together
    z: float  # standard errors, as a normal's
    boundary: float
    verdict: str
    p: float  # of the verdict; holds however many looks were made
    power: float  # of the whole plan, for a difference of delta, by the spread seen so far
    status: str
    concepts: int
    behind: Interval | None = None  # of fronts: the reverse, the same way
    exploratory: bool = False  # its rule is younger than its data
    q: float = nan  # p among all claims


def look_at(claim: Primary, looks: Looks, number: int, scored: Scored) -> Look:
    """`number`: 0, 1, ... of the looks."""
    edge, n = looks.boundaries[number], looks.concepts[number]
    part, *reverse = scored.parts(claim.part)
    z, p, verdict = _verdict(claim, looks, number, part, reverse)
    error = part.error(0.0) * sqrt(n / looks.concepts[-1])  # of the last look
    sure = power(claim.delta / error, looks.boundaries, looks.shares) if error > 0 else 1.0
    last = number == len(looks.concepts) - 1
    status = CROSSED if verdict != OPEN else LAST if last else NOT_YET
    return Look(claim, number + 1, repeated(part, edge), z, edge, verdict, p, sure, status, n,
                repeated(reverse[0], edge) if reverse else None)  # fmt: skip


def _verdict(
    claim: Primary, looks: Looks, number: int, part: Part, reverse: Sequence[Part]
) -> tuple[float, float, str]:
    """z of the primary part, p, and one of five words."""
    edge, shares = looks.boundaries[number], looks.shares
    z = distance(part, 0.0)
    p = repeated_p(z, number, shares)
    if z >= edge:
        return z, p, HOLDS
    other = distance(reverse[0], 0.0) if reverse else -inf
    if other >= edge:
        return z, repeated_p(other, number, shares), FAILS
    if claim.part.measure != FRONT and z <= -edge:
        return z, p, FAILS
    # Smaller than what counts, on both sides.
    near = distance(part, -claim.delta)
    near = min(
        near, distance(reverse[0], -claim.delta) if reverse else -distance(part, claim.delta)
    )
    if near >= looks.equivalence_boundaries[number]:
        return z, repeated_p(near, number, shares) / 2, SAME
    if z <= -edge:  # some point of theirs is out of our reach, and of ours out of theirs
        if other <= -edge:
            return z, max(p, repeated_p(other, number, shares)), TRADE_OFF
        return z, p, FAILS
    return z, p, OPEN


def distance(part: Part, at: float) -> float:
    """How far a part lies above a number, in standard errors, as a normal's."""
    error, apart = part.error(at), part.found.value - at
    if isnan(error):
        return nan
    if error <= 0:
        return inf if apart > 0 else -inf if apart < 0 else 0.0
    return as_normal(apart / error, part.concepts)


def repeated(part: Part, edge: float) -> Interval:
    """The interval that reaches as far as the boundary of the look."""
    value, reach = part.found.value, as_t(edge, part.concepts)
    low, high = part.error(-inf), part.error(inf)
    return Interval(value, value - reach * low, value + reach * high)


def decided(looks: Sequence[Look]) -> Look:
    """Of one claim, in their order: the first that decides, else the last."""
    return next((one for one in looks if one.verdict != OPEN), looks[-1])


def among_all(found: Sequence[Look]) -> list[Look]:
    """What is decided alone and would stand out by chance among so many claims is left open."""
    qs = adjusted([one.p for one in found])
    return [
        replace(one, q=q, verdict=OPEN if q > LEVEL else one.verdict) for one, q in zip(found, qs)
    ]
