"""How many concepts, prompts and images a comparison needs, told from a run that was made.

In: the scores of one operating point, or of two paired by image. Out: what each part contributes
to the variance of the mean, the interval that another size would give, its power, its price.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, isnan, nan, sqrt

import numpy as np

# scipy.stats has them too, and takes a second to import
from scipy.special import chdtri, nctdtr, nctdtrinc

from benchmarks.tables.statistics import (
    Components,
    Interval,
    clustered,
    components,
    mean_variance,
    t_quantile,
)

LEAST, MOST = 3, 1_000_000  # concepts of a design
HOUR = 3600.0


@dataclass(frozen=True)
class Pilot:
    """A measured mean: of one operating point, or of a difference between two."""

    mean: Interval  # as measured
    parts: Components  # of the variance of this mean; image is NaN with one image a cell
    concepts: int
    prompts: float  # a concept, of all kinds; not every score is of every prompt
    images: float  # a cell

    @property
    def known_to(self) -> tuple[float, float]:
        """What a half width that is told from so many concepts may be out by: 95 % range of the
        factor, were all the variance theirs.
        """
        df = self.concepts - 1
        return sqrt(df / chdtri(df, 0.025)), sqrt(df / chdtri(df, 0.975))


@dataclass(frozen=True)
class Price:
    """Seconds of one worker; NaN where nothing tells them."""

    fits: float  # a concept: one fit of each method
    image: float
    points: int  # pictures of every prompt and seed
    workers: int = 1

    def hours(self, concepts: float, prompts: float, images: float) -> float:
        drawn = prompts * images * self.points * self.image
        return concepts * (self.fits + drawn) / self.workers / HOUR


@dataclass(frozen=True)
class Size:
    """A run that could be made: concepts, prompts a concept, images a cell."""

    concepts: int
    prompts: float
    images: float
    half: float  # of the 95 % interval
    finds: float  # the smallest effect that is found with the power asked for
    power: float  # for the effect asked for; NaN without one
    hours: float


@dataclass(frozen=True)
class Goal:
    """What is wanted of an interval: to be no wider, or to find an effect."""

    width: float | None = None  # half of the interval
    effect: float | None = None
    power: float = 0.8

    @property
    def there(self) -> bool:
        return self.width is not None or self.effect is not None

    def reached(self, concepts: int, variance: float) -> bool:
        if self.width is not None:
            return half_width(concepts, variance) <= self.width
        return power_of(self.effect or 0.0, concepts, variance) >= self.power


def pilot_of(y: np.ndarray, n: np.ndarray, sd: np.ndarray, prompts: float) -> Pilot:
    """Cell means [C, P] (NaN where there is no cell), images a cell and their standard
    deviations.
    """
    there = ~np.isnan(y)
    parts = mean_variance(y, n, components(y, n, sd))
    return Pilot(clustered(y), parts, int(there.any(1).sum()), prompts, float(n[there].mean()))


def variance_of(pilot: Pilot, concepts: float, prompts: float, images: float) -> float:
    """Of the mean in a run of another size: concepts of the same groups, prompts of the same
    kinds.
    """
    c, p, i = concepts / pilot.concepts, prompts / pilot.prompts, images / pilot.images
    concept, prompt, cell, image = pilot.parts
    noise = 0.0 if isnan(image) else image / (c * p * i)
    return float(concept / c + prompt / p + cell / (c * p) + noise)


def half_width(concepts: int, variance: float) -> float:
    return t_quantile(concepts) * sqrt(variance)


def power_of(effect: float, concepts: int, variance: float) -> float:
    """How likely a 95 % interval is to exclude zero on the effect's side."""
    if concepts < 2:
        return nan
    if variance <= 0:
        return float(effect != 0)
    nc = abs(effect) / sqrt(variance)
    beyond = float(nctdtr(concepts - 1, nc, t_quantile(concepts)))
    # so far out that the series ends without a number: certain
    return 1.0 if isnan(beyond) else 1.0 - beyond


def detectable(concepts: int, variance: float, power: float) -> float:
    """The effect that is found with this probability."""
    if concepts < 2:
        return nan
    return float(nctdtrinc(concepts - 1, 1 - power, t_quantile(concepts))) * sqrt(variance)


def size_of(
    pilot: Pilot, price: Price, goal: Goal, concepts: int, prompts: float, images: float
) -> Size:
    variance = variance_of(pilot, concepts, prompts, images)
    return Size(
        concepts,
        prompts,
        images,
        half_width(concepts, variance),
        detectable(concepts, variance, goal.power),
        nan if goal.effect is None else power_of(goal.effect, concepts, variance),
        price.hours(concepts, prompts, images),
    )


# ---- which sizes ----

Choices = Iterable[tuple[float, float]]  # prompts and images


def doubled(pilot: Pilot, price: Price, goal: Goal) -> dict[str, Size]:
    """The run as it is, and twice of each."""
    c, p, i = pilot.concepts, pilot.prompts, pilot.images
    sizes = {
        "as it is": (c, p, i),
        "twice the concepts": (2 * c, p, i),
        "twice the prompts": (c, 2 * p, i),
    }
    if not isnan(pilot.parts.image):
        sizes |= {"twice the images": (c, p, 2 * i), "one image": (c, p, 1)}
    return {name: size_of(pilot, price, goal, *size) for name, size in sizes.items()}


def within(pilot: Pilot, price: Price, goal: Goal, hours: float, choices: Choices) -> list[Size]:
    """What the hours buy: of each number of prompts and images as many concepts as they pay for,
    the narrowest interval first.
    """
    found = []
    for prompts, images in choices:
        concepts = min(floor(hours / price.hours(1, prompts, images) + 1e-9), MOST)
        if concepts >= LEAST:
            found.append(size_of(pilot, price, goal, concepts, prompts, images))
    return sorted(found, key=lambda size: (size.half, size.hours))


def cheapest(pilot: Pilot, price: Price, goal: Goal, choices: Choices) -> list[Size]:
    """Of each number of prompts and images as few concepts as reach the goal, the cheapest first;
    without prices the fewest images.
    """
    found = []
    for prompts, images in choices:
        concepts = fewest(
            lambda n, p=prompts, i=images: goal.reached(n, variance_of(pilot, n, p, i))  # type: ignore[misc]
        )
        if concepts is not None:
            found.append(size_of(pilot, price, goal, concepts, prompts, images))
    return sorted(found, key=lambda size: (_last(size.hours), _images(size)))


def fewest(reached: Callable[[int], bool]) -> int | None:
    """The smallest number of concepts that reaches it; None where not even a million do."""
    if not reached(MOST):
        return None
    low, high = LEAST - 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _images(size: Size) -> float:
    return size.concepts * size.prompts * size.images


def _last(hours: float) -> float:
    return float("inf") if isnan(hours) else hours


def choices(prompts: Sequence[float], images: Sequence[float]) -> list[tuple[float, float]]:
    return [(p, i) for p in prompts for i in images]
