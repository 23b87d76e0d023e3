"""The texts on which a gate is replaced by a linear probe, and those on which that is judged.

In: a backbone's name, or a file of captions. Out: templates with `{}` where a concept stands, and
plain captions, in two sets that share no phrase where that can be; then texts with {names}.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, permutations
from pathlib import Path
from typing import Any

from benchmarks.suite.catalog import fill, load_catalog
from perfusion_core.errors import UserError

FIT, HELD_OUT = 600, 200  # templates of the miniature's world
LEAST, MOST = 50, 5_000  # captions of a file: with the thing in them, and read at all
FIFTH = 5  # of a file every fifth caption is held out
TENTH = 10  # of templates, so many are filled with the plain word


@dataclass(frozen=True)
class Captions:
    """Templates hold `{}`; what holds none is a plain caption, in which every gate has to shut."""

    fit: tuple[str, ...]
    held_out: tuple[str, ...]
    source: str


def of_miniature() -> Captions:
    """What C was estimated on: captions of random pictures of the drawn world."""
    from dataclasses import replace

    from benchmarks.miniature.world import language
    from benchmarks.miniature.world.instance import stream
    from benchmarks.miniature.world.picture import draw_random

    tables = {
        "scene": language.PLACE,
        "wear": language.OUTFIT,
        "do": language.ACTIVITY,
        "state": language.CONDITION,
        "material": language.MADE_OF,
        "style": language.LOOK,
    }
    kept = {name: set(list(table)[3::4]) for name, table in tables.items()}  # for the second set
    rng = stream("captions of the gate")
    fit: list[str] = []
    held: list[str] = []
    while len(fit) < FIT or len(held) < HELD_OUT:
        picture = draw_random(rng)
        said = [(name, value) for name in tables if (value := getattr(picture, name))]
        aside = [value in kept[name] for name, value in said]
        into, most = (held, HELD_OUT) if all(aside) else (fit, 0 if any(aside) else FIT)
        if len(into) < most:
            thing = replace(picture.one, cls="{}")
            text = language.caption(replace(picture, one=thing), rng)
            if not any(word in text for word in _looks_of(thing)):  # a concept's need no telling
                into.append(text)
    return Captions(tuple(fit), tuple(held), "the miniature's captions")


def _looks_of(thing: Any) -> tuple[str, ...]:
    """Words by which a caption tells this instance from others of its class."""
    return (f"{thing.main_name} {{}}", f"{thing.pattern} {{}}", f"{{}} with {thing.second_name} ")


def of_prompts() -> Captions:
    """Photographs of a thing in many places to fit; the benchmark's prompts, and no place of
    theirs, to judge."""
    from baselines.captions import DOING, LOOKS

    catalog = load_catalog()
    held = tuple(prompt.template for prompt in catalog.prompts)
    places = [place for place in DOING if not any(place in prompt.lower() for prompt in held)]
    looks = [*catalog.templates, *(look.format("a {}") for look in LOOKS)]
    fit = (*looks, *(f"{look} {place}" for place in places for look in looks))
    return Captions(fit, held, "the shipped prompts")


def of_file(source: str, words: Sequence[str]) -> Captions:
    """Captions of a file or data set; one of the super-categories in a caption is the concept's
    place, as `{}` is."""
    from perfusion_core.covariance import read_captions

    any_word = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    found = [
        text if "{}" in text else any_word.sub("{}", text, count=1)
        for text in islice(read_captions(source), MOST)
        if not set(text.replace("{}", "")) & set("{}")
    ]
    with_it = [text for text in found if "{}" in text]
    if len(with_it) < LEAST:
        raise UserError(
            f"--captions {source}: {len(with_it)} of {len(found)} captions have "
            f"{' or '.join(map(repr, words))} or {{}} in them, and {LEAST} are needed; leave it "
            f"out to take the shipped ones"
        )
    plain = [text for text in found if "{}" not in text]
    fit = [text for part in (with_it, plain) for n, text in enumerate(part) if n % FIFTH]
    held = [text for part in (with_it, plain) for text in part[::FIFTH]]
    name = Path(source).name if Path(source).exists() else source  # no machine path in a header
    return Captions(tuple(fit), tuple(held), name)


def captions_for(miniature: bool, source: str | None, words: Sequence[str]) -> Captions:
    if source:
        return of_file(source, words)
    return of_miniature() if miniature else of_prompts()


def texts_of(templates: Sequence[str], supers: dict[str, str], tokenizer: Any) -> list[str]:
    """With {names}: each concept alone, two of them together, and one text in ten with the plain
    word. What the text encoder would not read to its end is left out."""
    from perfusion_core.prompts import unread

    fillings = cycle(_fillings(supers))
    found = []
    for template in templates:
        filled = fill(template, next(fillings)) if "{}" in template else template
        plain = filled
        for name, word in supers.items():
            plain = plain.replace(f"{{{name}}}", word)
        if not unread(tokenizer, plain):
            found.append(filled)
    return found


def _fillings(supers: dict[str, str]) -> Iterator[str]:
    """What stands for `{}`, in turn; the plain words come once in ten."""
    names = [f"{{{name}}}" for name in supers]
    alone_and_together = names + [f"{a} and a {b}" for a, b in permutations(names, 2)]
    each = cycle(alone_and_together)
    for word in cycle(supers.values()):
        yield from islice(each, TENTH - 1)
        yield word
