"""Suites that grade their concepts and prompts: DSH-Bench and MultiBanana, read where they lie.

In: their folders. Out: a `Catalog` with their protocol, and with their grades as columns.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below, shown
from benchmarks.suite.catalog import Catalog, Prompt, Protocol
from benchmarks.suite.columns import checked_value
from benchmarks.suite.concept_folder import Concept, make_concept, own_images, slug
from benchmarks.suite.importer_parts import (
    make_prompt,
    make_suite,
    place_in,
    present,
    read_json,
    read_lines,
    without_subject,
)
from perfusion_core.errors import UserError

DSH_BENCH = Protocol(
    "dsh-bench", 1, "kept", "all", False, 50, 7.5,
    "its published data and metrics (arXiv:2603.08090); steps and guidance: ours",
)  # fmt: skip
# "left out": the scored text is the instruction alone, which has no place for a word of ours
MULTIBANANA = Protocol(
    "multibanana", 1, "left out", "all", False, 50, 7.5,
    "its published layout (arXiv:2511.22989), by similarities instead of its judge",
)  # fmt: skip
Row = tuple[str, str, str, str, str]  # image, subject, prompt, its level, the subject's
Rows = Iterator[Row]
TASK_TYPES = "types.json"


def dsh_bench(folder: Path) -> Catalog:
    """A `.json` with `subject_hard_level` and `prompt_level` (or `subject_difficulty_level` and
    `prompt_scenario`, as in its later form), pictures as named there or under `images/`.
    """
    files = sorted(path.name for path in folder.glob("*.json"))
    if len(files) != 1:
        raise UserError(
            f"{folder} has {len(files)} .json files ({', '.join(files)[:80]}); DSH-Bench is one "
            f"with its pictures: leave the one that you mean there"
        )
    path = below(folder, files[0])
    try:
        rows = list(_rows(read_json(path)))
        names = _dsh_names(path, rows)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is not in DSH-Bench's layout: {error!r:.80}") from None
    concepts: dict[str, Concept | None] = {}
    prompts: list[Prompt] = []
    columns: dict[str, dict[str, dict[str, str]]] = {
        "concepts": {"subject_hard_level": {}},
        "prompts": {"prompt_level": {}},
    }
    numbers: dict[str, int] = {}
    missed = 0
    for image, subject, text, level, hard in rows:
        name = names[subject, image]
        if name not in concepts:
            concepts[name] = _dsh_concept(folder, name, image, subject)
            columns["concepts"]["subject_hard_level"][name] = checked_value(hard, str(path))
        numbers[name] = numbers.get(name, 0) + 1
        if concepts[name] is None:
            continue
        if template := without_subject(text, subject):
            prompt = make_prompt(f"{name}-{numbers[name]:02d}", name, template, path)
            prompts.append(prompt)
            columns["prompts"]["prompt_level"][prompt.id] = checked_value(level, str(path))
        missed += not template
    here = [concept for concept in concepts.values() if concept]
    notes = present(len(here), len(concepts), "subjects")
    if missed:
        notes += (f"{missed} prompts do not name their subject and are left out",)
    suite = make_suite("dsh-bench", DSH_BENCH, folder, here, prompts, notes=notes)
    return replace(suite, columns=columns)


def _dsh_names(path: Path, rows: Iterable[Row]) -> dict[tuple[str, str], str]:
    """(subject, image) -> the concept's name: subject and file, and where other images would have
    the same name, digits of the image's path, so that no row's name hangs on another's place."""
    images: dict[str, set[str]] = {}
    out: dict[tuple[str, str], str] = {}
    for image, subject, text, *_ in rows:
        if not all(isinstance(one, str) for one in (image, subject, text)):
            raise UserError(f"{path} is not in DSH-Bench's layout: {shown(text)} is no prompt")
        name = out[subject, image] = slug(f"{subject}_{Path(image).stem}")
        images.setdefault(name, set()).add(image.removeprefix("./"))
    for (subject, image), name in out.items():
        if len(images[name]) > 1:
            digits = hashlib.sha256(image.removeprefix("./").encode()).hexdigest()[:8]
            out[subject, image] = f"{name[:55]}_{digits}"
    return out


def _rows(found: Any) -> Rows:
    """Of both published forms: a row a prompt, or a picture with its prompts."""
    if isinstance(found, list):
        for row in found:
            about = row["metadata"]
            picture = row["ref_images"][0]["image_path"]
            yield (
                picture, row["entities"], row["prompt"], about["prompt_level"],
                about["subject_hard_level"],
            )  # fmt: skip
        return
    for one in found.values():
        hard = one["metadata"]["subject_difficulty_level"]
        for prompt in one["prompt"]:
            words, level = prompt["prompt"], prompt["prompt_scenario"]
            yield one["ref_image"]["image_path"], one["subject"], words, level, hard


def _dsh_concept(folder: Path, name: str, image: str, subject: str) -> Concept | None:
    """The subject with its one picture; None where that is not here."""
    written = place_in(folder, image.removeprefix("./"))
    places = (written, below(folder, "images", written.name))
    there = [path for path in places if path.is_file()]
    if not there:
        return None
    return make_concept(
        name,
        subject.lower(),
        name,
        there[:1],
        source=f"DSH-Bench, {written.name}",
        licence="see its repository",
    )


def set_name(task: str, number: str) -> str:
    """A set of MultiBanana as a concept: its references together."""
    return slug(f"task_{task}_{number}")


def multibanana(folder: Path) -> Catalog:
    """`<task>/<set>_0.jpg`, `<set>_1.jpg`, ... and `<set>_prompt.txt`, with `types.json` a task: a
    set is a concept, its references are its pictures.
    """
    folder = below(folder, "data") if (folder / "data").is_dir() else folder
    concepts: list[Concept] = []
    prompts: list[Prompt] = []
    kinds: dict[str, str] = {}
    tasks: dict[str, str] = {}
    planned = 0
    for task in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if task.startswith("."):
            continue
        home = below(folder, task)
        references: dict[str, list[Path]] = {}
        for path in own_images(folder, home):
            number, _, index = path.stem.rpartition("_")
            if index.isdecimal():
                references.setdefault(number, []).append(path)
        types = _types(home)
        for file in sorted(path.name for path in home.glob("*_prompt.txt")):
            planned += 1
            number = file.removesuffix("_prompt.txt")
            name, pictures = set_name(task, number), references.get(number)
            text = " ".join(read_lines(below(home, file)))
            if not pictures or not text:
                continue
            concepts.append(
                make_concept(
                    name,
                    "picture",
                    name,
                    sorted(pictures, key=lambda path: (len(path.name), path.name)),
                    source=f"MultiBanana, {task}/{number}",
                    licence="CC BY-NC 4.0",
                )
            )
            prompt = make_prompt(f"{name}-1", name, "{} " + text.translate(BRACES), home / file)
            prompts.append(prompt)
            tasks[prompt.id] = checked_value(task, str(home))
            if kind := types.get(number):
                kinds[prompt.id] = kind
    notes = present(len(concepts), planned, "sets")
    notes += (
        "its instructions have no place for one thing's word: for pictures made elsewhere "
        "(perfbench import), not for methods that learn one thing",
    )
    suite = make_suite("multibanana", MULTIBANANA, folder, concepts, prompts, notes=notes)
    return replace(suite, columns={"prompts": {"task": tasks, "type": kinds}})


BRACES = str.maketrans("{}", "()")  # of a text that has no slot


def _types(home: Path) -> Mapping[str, str]:
    """set -> its kind, several joined by +; nothing where the task has no such file."""
    path = below(home, TASK_TYPES)
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is not in MultiBanana's layout: a kind for each set is wanted")
    out = {}
    for name, kind in found.items():
        each = kind if isinstance(kind, list) else [kind]
        if each:
            out[str(name)] = "+".join(checked_value(one, str(path)) for one in each)
    return out
