"""When a cell that was drawn again counts as the same: bytes, or scores within measured limits.

In: differences of scores, picture by picture. Out: a count a method; one sentence where something
is another.

The limits were measured on cells of committed runs, drawn again by other arithmetic than theirs
(docs/submit.md has the numbers). They are for low bits of another processor, device or version,
which a picture's many steps enlarge; other weights, prompts or seeds move scores further.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from benchmarks.exchange.submissions.submission_archive import Refused

PICTURE = 0.06  # a picture's score: twice the largest difference that was seen
CELL = 0.008  # spread of a cell's mean: twice the largest that was seen
SURE = 3.3  # spreads of the mean over a method's cells: beyond is one honest check in a thousand
EQUAL = 2e-6  # of scores with six decimals, where bytes agree


@dataclass(frozen=True)
class Compared:
    """One cell: `apart` has the differences of scores, `same` whether its pixels are those that
    were told (None: no digest was)."""

    method: str
    where: str
    apart: Sequence[tuple[str, float]]
    same: bool | None

    def mean(self, score: str) -> float | None:
        found = [value for name, value in self.apart if name == score]
        return sum(found) / len(found) if found else None

    @property
    def equal(self) -> bool:
        """The same pictures: their pixels, or, where no digest was told, every score."""
        scores = all(abs(value) <= EQUAL for _, value in self.apart)
        return scores and self.same is not False


def judge(compared: Sequence[Compared], exactly: bool, seed: int) -> dict[str, Any]:
    """By method. `exactly`: processor, versions, device and dtype are those of the run, so its
    bytes have to come back."""
    found: dict[str, Any] = {}
    for method in dict.fromkeys(one.method for one in compared):
        mine = [one for one in compared if one.method == method]
        for one in mine:
            refuse_apart(one, exactly)
        refuse_moved(method, mine)
        means = [abs(value) for one in mine for name in names_of(one)
                 if (value := one.mean(name)) is not None]  # fmt: skip
        found[method] = {
            "cells": len(mine),
            "same_bytes": sum(one.equal for one in mine),
            "largest": round(max(means, default=0.0), 6),
            "limit": EQUAL if exactly else PICTURE,
            "sample": seed,
        }
    return found


def names_of(one: Compared) -> list[str]:
    return list(dict.fromkeys(name for name, _ in one.apart))


def refuse_apart(one: Compared, exactly: bool) -> None:
    """A picture of its own: other bytes where they must agree, or scores too far away."""
    where = f"{one.method}/{one.where}"
    if not one.apart:
        raise Refused(f"{where} was drawn again and has no score to compare")
    name, value = max(one.apart, key=lambda pair: abs(pair[1]))
    if one.same and abs(value) > EQUAL:
        raise Refused(
            f"{where} was drawn again byte for byte, and its {name} is {value:+.4f} beside the "
            f"one that was told: its rows are not of its pictures"
        )
    if exactly and not one.equal:
        raise Refused(
            f"{where} was drawn again on the same processor with the same versions, and is another "
            f"picture than the one that was scored"
        )
    if abs(value) > PICTURE:
        raise Refused(
            f"{where} was drawn again, and its {name} is {value:+.4f} beside the one that was "
            f"told; at most {PICTURE} is another machine's"
        )


def refuse_moved(method: str, mine: Sequence[Compared]) -> None:
    """All cells a little better than they can be drawn: low bits have no direction."""
    for name in dict.fromkeys(name for one in mine for name in names_of(one)):
        means = [value for one in mine if (value := one.mean(name)) is not None]
        mean, limit = sum(means) / len(means), SURE * CELL / sqrt(len(means))
        if abs(mean) > limit:
            raise Refused(
                f"{method} was drawn again in {len(means)} cells, and its {name} is {mean:+.4f} "
                f"beside what was told on average; at most {limit:.4f} is chance"
            )
