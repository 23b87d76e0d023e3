"""Trials with a known answer, the paper's way, from the material of the run.

In: the run. Out: named trials whose first choice is the right one; the organiser looks at them and
rejects bad ones.

    ranking   one method's best-scored picture of the concept in a shape-preserving scene (right),
              the same scene with another object of its kind (`super`), a concept image; or,
              `plain:`, where the run has no such scenes: a third concept image (right), an image of
              another concept, a scrambled one
    realism   a concept image (right), the same cut into tiles and shuffled
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from random import Random

from benchmarks.scoring.reserved import FLOOR
from benchmarks.study.material import Choice, Row, Source, Task, choose_pictures, intact
from perfusion_core.errors import UserError, unknown

POOL = 11  # as many as in the paper
Named = dict[str, dict[str, Task]]  # concept -> name -> trial, the best first


def make_pool(
    source: Source, kind: str, method: str, rejected: list[str], need: int, seed: int
) -> dict[str, Task]:
    """name -> trial, at most POOL of them, no name among the rejected."""
    makers = (
        (scenes(source, method, seed), plains(source, seed))
        if kind == "ranking"
        else (shuffles(source, seed),)
    )
    candidates = {name: task for maker in makers for name, task in in_turn(maker)}
    for name in rejected:
        if name not in candidates:
            raise unknown("qualification trial", name, candidates)
    kept = {name: task for name, task in candidates.items() if name not in rejected}
    staged = {name: task for name, task in kept.items() if name.startswith("scene:")}
    if len(staged) >= need:
        kept = staged or kept
    if len(kept) < need:
        raise UserError(
            f"{need} qualification trials are asked for and {len(kept)} can be made from this run; "
            f"--qualify {len(kept)} is possible"
        )
    return dict(list(kept.items())[:POOL])


def in_turn(by_concept: Named) -> Iterator[tuple[str, Task]]:
    """The first of each concept, then the second of each, and so on."""
    for row in zip_longest(*(tasks.items() for tasks in by_concept.values())):
        yield from (item for item in row if item)


def scenes(source: Source, method: str, seed: int) -> Named:
    """The concept in a scene; the best-scored first."""
    found: dict[str, list[tuple[float, str, Task]]] = {}
    for row in source.prompts("shape", [method]) if FLOOR in source.points else []:
        concept, prompt_id = row["concept"], row["prompt_id"]
        if scene := make_scene(source, method, row, Random(f"scene {seed} {concept} {prompt_id}")):
            found.setdefault(concept, []).append(
                (-scene.choices[0].scores["harmonic"], prompt_id, scene)
            )
    return {
        concept: {
            f"scene:{concept}:{prompt_id}": task
            for _, prompt_id, task in sorted(rows, key=lambda r: r[:2])
        }
        for concept, rows in sorted(found.items())
    }


def make_scene(source: Source, method: str, row: Row, random: Random) -> Task | None:
    """None where a picture or a score is missing."""
    index = random.randrange(int(row["n"]))
    images = source.references(row["concept"])
    scored = any(
        (method, p, row["concept"], row["prompt_id"]) in source.scores
        for p in source.points[method]
    )
    if not scored or len(images) < 3:
        return None
    good, other = (
        choose_pictures(source, method, row, index),
        choose_pictures(source, FLOOR, row, index),
    )
    if (
        not (intact(good.path) and intact(other.path))
        or good.scores["harmonic"] != good.scores["harmonic"]
    ):
        return None
    *shown, third = random.sample(images, 3)
    text = source.text(row)
    return Task(
        row["concept"],
        row["group"],
        row["prompt_id"],
        text,
        tuple(shown),
        (good, other, own(third)),
    )


def plains(source: Source, seed: int) -> Named:
    """The concept among other things: certain without any model."""
    out: Named = {}
    for concept, group in source.groups.items():
        images = source.references(concept)
        word = source.super_words[concept]
        others = [
            name
            for name in source.groups
            if source.super_words[name] != word and source.references(name)
        ]
        if len(images) < 3 or not others:
            continue
        random = Random(f"plain {seed} {concept}")
        *shown, third = random.sample(images, 3)
        choices = (
            own(third),
            own(source.references(random.choice(others))[0]),
            own(shown[0], scrambled=True),
        )
        out[concept] = {
            f"plain:{concept}": Task(concept, group, "plain", f"A {word}", tuple(shown), choices)
        }
    return out


def shuffles(source: Source, seed: int) -> Named:
    """A real picture and the same one in pieces."""
    out: Named = {}
    for concept, group in source.groups.items():
        images = source.references(concept)
        text = f"A {source.super_words[concept]}"
        out[concept] = {
            f"real:{concept}:{path.stem}": Task(
                concept, group, "real", text, (), (own(path), own(path, scrambled=True))
            )
            for path in Random(f"shuffle {seed} {concept}").sample(images, len(images))
        }
    return out


def own(path: Path, scrambled: bool = False) -> Choice:
    """A concept image as something to be rated."""
    return replace(Choice("own", "default", 0, path), scrambled=scrambled)
