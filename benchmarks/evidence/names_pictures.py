"""What names and unused words draw, by the identity judge.

In: backbones of the two arms, and who has a name. Out: a row a picture: its likeness to renders of
its own instance and of others that have names; or how alike a word's pictures are, and whether they
show the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.evidence.names_rule import CONTROL, NAME, UNUSED, WORD
from benchmarks.miniature.opening import drawn
from benchmarks.miniature.training.judges import Judges
from benchmarks.miniature.training.names import Named, Names, named, some_of
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import PLACE, article
from benchmarks.miniature.world.picture import Picture, render
from perfusion_core.backbone import Backbone


@dataclass(frozen=True)
class Sizes:
    """How much is drawn."""

    each: int = 4  # named instances of a class; a picture in each scene that is kept for them
    renders: int = 2  # in each of these scenes
    classes: int = 4  # of each unused word
    pictures: int = 12  # of each unused word and class


def photo(noun: str, scene: str | None = None) -> str:
    return " ".join(["a photo of", article(noun), *([PLACE[scene][0]] if scene else [])])


def noise(*key: object) -> int:
    return int(stream("trial of names", *key).integers(2**31))


def name_rows(backbone: Backbone, judges: Judges, names: Names, sizes: Sizes) -> pd.DataFrame:
    """Some named instances of every class, by name and by class word, with the same noise, in
    scenes in which training never showed them by it."""
    chosen = some_of(named(names), names, sizes.each)
    asked = [
        {"word": who.name, "kind": kind, "cls": who.one.cls, "scene": scene,
         "seed": noise(who.name, scene), "text": photo(f"{who.name} {who.one.cls}"
         if kind == NAME else who.one.cls, scene)}
        for who in chosen for kind in (NAME, WORD) for scene in who.scenes
    ]  # fmt: skip
    seen = judges.identity(pictures_of(backbone, asked))
    # all of a class in the scenes of each, so that a scene says nothing of who it is
    known = {
        who.name: {
            one.name: judges.identity(renders(one, sizes.renders, who.scenes))
            for one in chosen
            if one.one.cls == who.one.cls
        }
        for who in chosen
    }
    for row, vector in zip(asked, seen):
        likeness = {
            name: float((of @ vector).mean()) for name, of in known[str(row["word"])].items()
        }
        row["own"] = likeness.pop(str(row["word"]))
        row["other"] = float(np.mean(list(likeness.values())))
    return pd.DataFrame(asked)


def renders(who: Named, each: int, scenes: Sequence[str]) -> np.ndarray:
    """Its held-out renders: alone, in these scenes."""
    return np.stack(
        [
            render(Picture(who.one, scene), ("held out of names", who.name, scene, k))[0]
            for scene in scenes
            for k in range(each)
        ]
    )


def unused_rows(
    backbone: Backbone, other: Backbone, judges: Judges, names: Names, sizes: Sizes
) -> pd.DataFrame:
    """Unused words before class words, and class words alone with the same noise; these by the
    other arm, too."""
    parts = []
    for number, word in enumerate(names.spare()):
        for turn in range(sizes.classes):
            cls = names.classes[(number * sizes.classes + turn) % len(names.classes)]
            parts += [
                same_word(backbone, judges, word, cls, UNUSED, f"{word} {cls}", sizes.pictures),
                same_word(backbone, judges, word, cls, WORD, cls, sizes.pictures),
                same_word(other, judges, word, cls, CONTROL, cls, sizes.pictures),
            ]
    return pd.concat(parts, ignore_index=True)


def same_word(
    backbone: Backbone, judges: Judges, word: str, cls: str, kind: str, noun: str, n: int
) -> pd.DataFrame:
    """Pictures of one prompt: each picture's mean likeness to the others, and whether the judge
    sees the class."""
    asked = [
        {"word": word, "kind": kind, "cls": cls, "seed": noise(word, cls, k), "text": photo(noun)}
        for k in range(n)
    ]
    pixels = pictures_of(backbone, asked)
    vectors = judges.identity(pixels)
    likeness = vectors @ vectors.T
    alike = (likeness.sum(1) - np.diag(likeness)) / (n - 1)
    return pd.DataFrame(asked).assign(alike=alike, right=judges.factors(pixels)["cls"] == cls)


def pictures_of(backbone: Backbone, asked: Sequence[dict]) -> np.ndarray:
    return drawn(backbone, [row["text"] for row in asked], [row["seed"] for row in asked])
