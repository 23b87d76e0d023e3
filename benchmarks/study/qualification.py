"""Trials with a known answer, the paper's way, from the material of the run.

In: the run. Out: named trials whose first choice is the right one; the organiser looks at them and rejects bad ones.

    ranking   one method's best-scored picture of the concept in a shape-preserving scene (right), the same scene with
              another object of its kind (`super`), a concept image; or, `plain:`, where the run has no such scenes: a
              third concept image (right), an image of another concept, a scrambled one
    realism   a concept image (right), the same cut into tiles and shuffled
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from random import Random

from benchmarks.study.material import Choice, Source, Task, choose, intact
from perfusion_core.errors import UserError, unknown

POOL = 11  # as many as in the paper
FLOOR = "super"
OWN = "own"  # method of a concept image


def make_pool(source: Source, kind: str, method: str, rejected: list[str], need: int, seed: int) -> dict[str, Task]:
    """name -> trial, at most POOL of them, no name among the rejected."""
    candidates = dict(interleaved([scenes(source, method, seed), plains(source, seed)] if kind == "ranking" else [shuffles(source, seed)]))
    for name in rejected:
        if name not in candidates:
            raise unknown("qualification trial", name, candidates)
    kept = {name: task for name, task in candidates.items() if name not in rejected}
    if kind == "ranking" and sum(name.startswith("scene:") for name in kept) >= need:
        kept = {name: task for name, task in kept.items() if name.startswith("scene:")}
    if len(kept) < need:
        raise UserError(f"{len(kept)} qualification trials can be made from this run and {need} are asked for; --qualify {len(kept)} is possible")
    return dict(list(kept.items())[:POOL])


def interleaved(sources: list[dict[str, dict[str, Task]]]) -> Iterator[tuple[str, Task]]:
    """The best of each concept, then the second of each, and so on; one source after the other."""
    for by_concept in sources:
        for row in zip_longest(*(tasks.items() for tasks in by_concept.values())):
            yield from (item for item in row if item)


def scenes(source: Source, method: str, seed: int) -> dict[str, dict[str, Task]]:
    """concept -> trials, the best-scored scene first."""
    out: dict[str, dict[str, Task]] = {}
    plan = source.plan[(source.plan["kind"] == "shape") & (source.plan["method"] == method)].drop_duplicates(["concept", "prompt_id"])
    if FLOOR not in source.points:
        return out
    for concept, rows in plan.groupby("concept", sort=True):
        images = source.references(str(concept))
        if len(images) < 3:
            continue
        scored = []
        for row in rows.itertuples():
            random = Random(f"scene {seed} {concept} {row.prompt_id}")
            index = random.randrange(int(row.n))
            if not any((method, point, concept, row.prompt_id) in source.scores for point in source.points[method]):
                continue
            good = choose(source, method, str(concept), row.prompt_id, index)
            other = choose(source, FLOOR, str(concept), row.prompt_id, index)
            if intact(good.path) and intact(other.path) and good.scores["harmonic"] == good.scores["harmonic"]:
                *shown, third = random.sample(images, 3)
                text = source.text(row.template, str(concept))
                task = Task(str(concept), row.group, row.prompt_id, text, tuple(shown), (good, other, own(third)))
                scored.append((good.scores["harmonic"], row.prompt_id, task))
        ranked = sorted(scored, key=lambda item: (-item[0], item[1]))
        out[str(concept)] = {f"scene:{concept}:{prompt_id}": task for _, prompt_id, task in ranked}
    return out


def plains(source: Source, seed: int) -> dict[str, dict[str, Task]]:
    """concept -> one trial, certain without any model."""
    out: dict[str, dict[str, Task]] = {}
    groups = dict(zip(source.plan["concept"], source.plan["group"]))
    for concept, group in groups.items():
        images = source.references(concept)
        others = [name for name in groups if source.super_words[name] != source.super_words[concept] and source.references(name)]
        if len(images) < 3 or not others:
            continue
        random = Random(f"plain {seed} {concept}")
        *shown, third = random.sample(images, 3)
        stranger = own(source.references(random.choice(others))[0])
        text = f"A {source.super_words[concept]}"
        task = Task(concept, group, "plain", text, tuple(shown), (own(third), stranger, replace(own(shown[0]), scrambled=True)))
        out[concept] = {f"plain:{concept}": task}
    return out


def shuffles(source: Source, seed: int) -> dict[str, dict[str, Task]]:
    """concept -> trials: a real picture and the same one in pieces."""
    out: dict[str, dict[str, Task]] = {}
    groups = dict(zip(source.plan["concept"], source.plan["group"]))
    for concept, group in groups.items():
        images = source.references(concept)
        text = f"A {source.super_words[concept]}"
        order = Random(f"shuffle {seed} {concept}").sample(images, len(images))
        out[concept] = {
            f"real:{concept}:{path.stem}": Task(concept, group, "real", text, (), (own(path), replace(own(path), scrambled=True)))
            for path in order
        }
    return out


def own(path) -> Choice:
    return Choice(OWN, "default", 0, path)
