"""What each look at the confirmatory run says of each claim. In: the plan, and the scores of the
look's concepts. Out: a `Look` a claim and look.

At a look a claim is decided where its difference lies beyond the boundary, on either side, or else
where both one-sided tests find it smaller than its delta. Of two axes a verdict needs both. The
first look that decides counts.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isnan, nan, sqrt

import numpy as np

from benchmarks.evidence.confirm_measures import Scored
from benchmarks.evidence.confirm_plan import Looks, Primary
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
from benchmarks.tables.group_sequential import (
    as_normal,
    as_t,
    obrien_fleming,
    power,
    repeated_p,
    unskewed_t,
)
from benchmarks.tables.statistics import Interval

CROSSED, NOT_YET, LAST = "crossed", "not yet", "last look"


@dataclass(frozen=True)
class Look:
    """One claim at one look."""

    claim: Primary
    look: int  # 1, 2, ...
    found: Interval  # with an interval that holds at all looks together
    z: float  # standard errors, as a normal's; of two axes the smaller
    boundary: float
    verdict: str
    p: float  # of the verdict; holds however many looks were made; of a claim the smallest
    # that a difference of delta crosses in the whole plan, by the spread seen so far; of this claim
    # alone, before their number is corrected for
    power: float
    status: str
    concepts: int
    unskewed: str  # the verdict with the skewness of differences taken out; decides nothing
    text: Interval | None = None  # of two axes: the second, the same way
    exploratory: bool = False  # its rule is younger than its data
    q: float = nan  # p among all claims


def look_at(claim: Primary, looks: Looks, number: int, scored: Scored) -> Look:
    """`number`: 0, 1, ... of the looks."""
    edge = looks.boundaries[number]
    parts = scored.parts(claim.part)
    z, verdict, reach, times = _said(claim, looks, number, [partial(distance, p) for p in parts])
    p = min(1.0, times * repeated_p(reach, number, looks.shares))
    differences = scored.differences(claim.part).values()
    unskewed = _said(claim, looks, number, [partial(_unskewed, x) for x in differences])[1]
    last = number == len(looks.concepts) - 1
    status = CROSSED if verdict != OPEN else LAST if last else NOT_YET
    found, *text = (repeated(part, edge) for part in parts)
    return Look(claim, number + 1, found, z, edge, verdict, p,
                _power(claim, looks, number, parts), status, parts[0].concepts, unskewed,
                text[0] if text else None)  # fmt: skip


def _power(claim: Primary, looks: Looks, number: int, parts: Sequence[Part]) -> float:
    """Of two axes at least so much, however they go together."""
    shrinks = sqrt(looks.shares[number])  # the error, until the last look
    errors = [part.error(0.0) * shrinks for part in parts]
    missed = [
        1 - power(claim.delta / error, looks.boundaries, looks.shares, looks.concepts)
        for error in errors
        if error > 0
    ]
    return max(0.0, 1 - sum(missed))


def _said(
    claim: Primary, looks: Looks, number: int, above: Sequence[Callable[[float], float]]
) -> tuple[float, str, float, float]:
    """z of the claim, then what `said` tells. `above`: how far each axis lies above a number."""
    zs = [of(0.0) for of in above]
    near = min(min(of(-claim.delta), -of(claim.delta)) for of in above)
    return min(zs), *said(zs, near, looks, number)


def said(zs: Sequence[float], near: float, looks: Looks, number: int) -> tuple[str, float, float]:
    """One of five words, how far out lies what says so, and by what its p is multiplied. `zs`: how
    far each axis lies above zero; `near`: how far within delta the farther one lies.

    The order is that of the table in plan.md. Two axes must both be beyond the boundary, so neither
    needs a correction. Where only one is, looks to come may still tell a trade-off from a defeat.
    """
    low, high = min(zs), max(zs)
    far = {HOLDS: low, FAILS: -high, TRADE_OFF: min(-low, high)}
    word, reach = max(far.items(), key=lambda one: one[1])
    if reach >= looks.boundaries[number]:
        return word, reach, 1.0
    if near >= looks.equivalence_boundaries[number]:
        return SAME, near, 0.5
    last = number == len(looks.concepts) - 1
    # One of two axes that is below zero is enough, and chance gives one twice as often.
    if last and len(zs) > 1 and -low >= obrien_fleming(looks.shares, looks.alpha / 2)[-1]:
        return FAILS, -low, 2.0
    return OPEN, max(reach, 0.0), 1.0


def distance(part: Part, at: float) -> float:
    """How far a part lies above a number, in standard errors, as a normal's."""
    error, apart = part.error(at), part.found.value - at
    if isnan(error):
        return nan
    if error <= 0:
        return inf if apart > 0 else -inf if apart < 0 else 0.0
    return as_normal(apart / error, part.concepts)


def _unskewed(values: np.ndarray, at: float) -> float:
    """The same of a number a concept, whatever their skewness."""
    return as_normal(unskewed_t(values, at), len(values))


def repeated(part: Part, edge: float) -> Interval:
    """The interval that reaches as far as the boundary of the look."""
    value, reach = part.found.value, as_t(edge, part.concepts)
    low, high = part.error(-inf), part.error(inf)
    return Interval(value, value - reach * low, value + reach * high)


def decided(looks: Sequence[Look]) -> Look:
    """Of one claim, in their order: the first that decides, else the last. At its own boundary p is
    the whole level, however large the effect. Later looks that say the same make it smaller, and
    each look's p holds for all looks together, so the smallest does.
    """
    first = next((one for one in looks if one.verdict != OPEN), looks[-1])
    same = [one.p for one in looks if one.look >= first.look and one.verdict == first.verdict]
    return replace(first, p=min(same))


def among_all(found: Sequence[Look], begun: Container[str]) -> list[Look]:
    """What is decided alone and would stand out by chance among so many claims is left open.

    The claims are those that were there when the run began. One whose rule was changed since counts
    as p = 1 among them. It and later ones are exploratory, and have a q among themselves.
    """
    first = [one for one in found if one.claim.name in begun]
    young = [one for one in found if one.exploratory]
    qs = {
        **_by_name(first, [1.0 if one.exploratory else one.p for one in first]),
        **_by_name(young, [one.p for one in young]),
    }
    return [
        replace(one, q=q, verdict=OPEN if q > LEVEL else one.verdict)
        for one, q in ((one, qs[one.claim.name]) for one in found)
    ]


def _by_name(looks: Sequence[Look], ps: Sequence[float]) -> dict[str, float]:
    return dict(zip((one.claim.name for one in looks), adjusted(ps)))
