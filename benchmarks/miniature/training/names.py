"""Instances that have a name: rare words, the training instances they stand for, their pictures and
captions.

In: how many. Out: `Named` instances and words that nobody has; on disk a shard of pictures a class,
each with captions in two versions, with the name and without. The pictures are the same in both.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.miniature.training.training_data import (
    CAPTIONS,
    FACTORS,
    Pictures,
    labels,
    render_all,
    write_array,
)
from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.language import PLACE, caption
from benchmarks.miniature.world.picture import (
    CONCEPT_CLASSES,
    PIXELS,
    POOL,
    Picture,
    draw_random,
    held_out,
    render,
)
from benchmarks.miniature.world.scenes import HOME

CONSONANTS, VOWELS = "bdfgkmnprtvz", "aeiou"
APART = 4  # scenes in which an instance that has a name is never shown in training
# how a picture is told of: name and class word, the name alone; the rest has no name
WITH_CLASS, ALONE = 0.48, 0.32
NAMED, PLAIN = "named", "plain"  # the two versions of the captions, and so the arms
FILES = {NAMED: "named", PLAIN: "captions"}  # the plain ones are where those of all pictures are


@dataclass(frozen=True)
class Names:
    """How many there are."""

    classes: tuple[str, ...] = CONCEPT_CLASSES
    each: int = 20  # instances of a class that have a name
    pictures: int = 20  # of each
    unused: int = 12  # words of the same kind that no picture is told of with

    @property
    def count(self) -> int:
        return len(self.classes) * self.each

    @property
    def shard(self) -> int:
        """Pictures of a class."""
        return self.each * self.pictures

    def words(self) -> list[str]:
        """The names in the order of `named`, then the unused words."""
        return rare_words(self.count + self.unused)

    def spare(self) -> list[str]:
        return self.words()[self.count :]


@dataclass(frozen=True)
class Named:
    """One instance of the training pool and its name; `scenes` are kept for judging it."""

    name: str
    one: Instance
    scenes: tuple[str, ...]


def rare_words(n: int) -> list[str]:
    """Words of five letters, each only once; none is a word of the world."""
    rng = stream("rare words")
    found: dict[str, None] = {}
    while len(found) < n:
        letters = (str(rng.choice(list(VOWELS if k % 2 else CONSONANTS))) for k in range(5))
        found["".join(letters)] = None
    return list(found)


def named(names: Names) -> list[Named]:
    """All instances that have a name, class by class."""
    words, found = iter(names.words()), []
    for cls in names.classes:
        rng = stream("named", cls)
        allowed = [s for s in PLACE if s not in HOME and (cls, f"scene:{s}") not in held_out()]
        for number in rng.choice(POOL, names.each, replace=False):
            one = make_instance(cls, ("pool", int(number)))
            scenes = tuple(str(s) for s in rng.choice(allowed, APART, replace=False))
            found.append(Named(next(words), one, scenes))
    return found


def of_class(names: Names, cls: str) -> list[Named]:
    start = names.classes.index(cls) * names.each
    return named(names)[start : start + names.each]


# ---- pictures and captions


def draw_named(rng: np.random.Generator, who: Named) -> Picture:
    """A picture of the training's kind that shows it, in none of the scenes kept for judging it by
    its name. Without its name the pool shows it there, too, now and then.
    """
    while True:
        picture = draw_random(rng, "pool", one=who.one)
        if picture.scene not in who.scenes:
            return picture


def say(picture: Picture, noun: str, rng: np.random.Generator) -> str:
    """A caption in which `noun` stands for the thing. Its colours and marks are not told: the name
    has to bear them."""
    bare = replace(picture.one, cls=noun, main_name="", pattern="plain")
    return caption(replace(picture, one=bare), rng)


def both_captions(picture: Picture, name: str, rng: np.random.Generator) -> tuple[str, str]:
    """The picture told of with the name, mostly, and the same with the class word in its place."""
    plain, kind = caption(picture, rng), rng.random()
    if kind >= WITH_CLASS + ALONE:
        return plain, plain
    noun = f"{name} {picture.one.cls}" if kind < WITH_CLASS else name
    again = deepcopy(rng)
    return say(picture, noun, rng), say(picture, picture.one.cls, again)


def render_named(folder: Path, number: int, size: int, pool: str, *, names: Names) -> None:
    """The pictures of one class, with labels and both versions of the captions. The last of each
    picture's CAPTIONS leaves the thing's word out, as everywhere."""
    done = folder / f"{number:04d}.labels.npy"
    if done.exists():
        return
    cls = names.classes[number]
    rng = stream("named pictures", cls)
    images = np.empty((size, PIXELS, PIXELS, 3), np.uint8)
    table, texts = np.empty((size, len(FACTORS)), np.int16), []
    for k, who in enumerate(w for w in of_class(names, cls) for _ in range(names.pictures)):
        picture = draw_named(rng, who)
        images[k] = render(picture, (pool, cls, k))[0]
        table[k] = labels(picture)
        texts += [both_captions(picture, who.name, rng) for _ in range(CAPTIONS - 1)]
        texts.append((caption(picture, rng, drop=1.0),) * 2)
    np.save(folder / f"{number:04d}.images.npy", images)
    for version, lines in zip((NAMED, PLAIN), zip(*texts)):
        (folder / f"{number:04d}.{FILES[version]}.txt").write_text("\n".join(lines))
    write_array(done, table)


class NamedPictures(Pictures):
    """All pictures of instances that have a name, and both versions of what is said of them."""

    def __init__(self, folder: Path, names: Names, workers: int):
        shards = len(names.classes)
        render = partial(render_named, names=names)
        render_all(folder, shards, workers, names.shard, "named", render=render, what="names")
        super().__init__(folder, shards)
        lines = (read_lines(folder / f"{k:04d}.{FILES[NAMED]}.txt") for k in range(shards))
        self.said = {NAMED: [line for shard in lines for line in shard], PLAIN: self.texts}


def read_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")


def some_of(found: Sequence[Named], names: Names, each: int) -> list[Named]:
    """The first so many of every class."""
    starts = range(0, names.count, names.each)
    return [who for start in starts for who in islice(found, start, start + min(each, names.each))]
