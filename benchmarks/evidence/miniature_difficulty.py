"""How far the shipped concepts lie from what is usual for their class: as they look, and as they
are drawn.

In: the miniature's scorer and training instances. Out: a line a concept; its grade by looks is what
miniature/shipped.py writes down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.miniature.shipped import ASYMMETRIC, DIFFICULTY, ELEVEN, TUNING, instance_of, taken
from benchmarks.miniature.world.instance import Instance, make_instance
from benchmarks.miniature.worlds import grade, pool
from benchmarks.scoring.lookup import Scorer
from benchmarks.scoring.scorers import open_scorer
from benchmarks.suite.concept_folder import GRADES

POOLED, PICTURES = 300, 4  # training instances of a class, and photographs of each


@dataclass(frozen=True)
class Far:
    """The shares of the class's training instances that lie nearer to its mean."""

    name: str
    seen: float  # by the scorer's features of photographs
    drawn: float  # by the identity's numbers, as worlds.grade has it
    grade: str  # of `seen`
    drawn_grade: str


def far_of(names: Sequence[str], scorer: Scorer) -> list[Far]:
    """Of shipped concepts, each by its first photographs."""
    model = open_scorer(scorer, "cpu")

    def features(one: Instance, name: str) -> np.ndarray:
        images, _ = taken(one, name, PICTURES, one.cls in ASYMMETRIC)
        return np.asarray(model.images(list(map(Image.fromarray, images)))).mean(0)

    @cache
    def usual(cls: str) -> tuple[np.ndarray, np.ndarray]:
        """The mean of a class's instances, and how far each lies from it."""
        each = np.stack(
            [features(make_instance(cls, ("pool", k)), f"pool {cls} {k}") for k in range(POOLED)]
        )
        return each.mean(0), apart(each, each.mean(0))

    return [one_of(name, features, usual) for name in names]


def one_of(name: str, features: Any, usual: Any) -> Far:
    one = instance_of(name)
    mean, theirs = usual(one.cls)
    seen = float((theirs < apart(features(one, name), mean)).mean())
    numbers = pool(one.cls)
    lie = np.linalg.norm(numbers - numbers.mean(0), axis=1)
    drawn = float((lie < np.linalg.norm(one.vector() - numbers.mean(0))).mean())
    third = GRADES[min(int(seen * len(GRADES)), len(GRADES) - 1)]
    return Far(name, seen, drawn, third, grade(one))


def apart(features: np.ndarray, mean: np.ndarray) -> Any:
    """One less the cosine."""
    length = np.linalg.norm(features, axis=-1) * np.linalg.norm(mean)
    return 1 - features @ mean / length


def main() -> None:
    from benchmarks.planning.backbones import find_models
    from benchmarks.planning.config import resolve

    models = find_models(resolve(flags={"methods": "super", "backbone": "miniature"}, sets=[]))
    print("concept      by looks        by numbers      written")
    for one in far_of([*ELEVEN, *TUNING], models.scorers[0]):
        by_looks, by_numbers = f"{one.seen:.2f} {one.grade}", f"{one.drawn:.2f} {one.drawn_grade}"
        print(f"{one.name:12s} {by_looks:15s} {by_numbers:15s} {DIFFICULTY[one.name]}")


if __name__ == "__main__":
    main()
