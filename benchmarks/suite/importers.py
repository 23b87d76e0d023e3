"""Other people's suites, read where they lie. In: "dreambench:DIR" and the like. Out: a `Catalog`
with their protocol.

One function a layout; `open_suite` picks it. In every suite kind `shape` means "counts for image
similarity".
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below
from benchmarks.suite.catalog import (
    PERFUSION,
    Catalog,
    Prompt,
    Protocol,
    load_catalog,
    read_text,
    shipped_prompts,
)
from benchmarks.suite.columns import with_columns
from benchmarks.suite.concept_folder import Concept, make_concept, own_images, slug
from benchmarks.suite.drift_prompts import with_drift
from benchmarks.suite.generated import GENERATED
from benchmarks.suite.graded_suites import DSH_BENCH, MULTIBANANA, dsh_bench, multibanana
from benchmarks.suite.importer_parts import (
    common_words,
    make_pairs,
    make_prompt,
    make_suite,
    pictures,
    place_in,
    present,
    read_json,
    read_lines,
    without_subject,
    word_of,
    word_pairs,
    words_noted,
)
from benchmarks.suite.photographs import usual_group
from perfusion_core.errors import UserError, unknown

DREAMBENCH = Protocol(
    "dreambench",
    4,
    "kept",
    "all",
    False,
    50,
    7.5,
    "DreamBooth, section 4 (arXiv:2208.12242); steps and guidance: ours",
)
CUSTOM101 = Protocol(
    "customconcept101",
    50,
    "kept",
    "all",
    False,
    50,
    6.0,
    "Custom Diffusion (arXiv:2212.04488) and the set's README",
)
CUSTOM = Protocol(
    "customdiffusion",
    50,
    "kept",
    "all",
    False,
    200,
    6.0,
    "Custom Diffusion, section 4 (arXiv:2212.04488)",
)
DREAMBENCH_PLUS = Protocol(
    "dreambench++",
    1,
    "kept",
    "all",
    False,
    100,
    7.5,
    "the defaults of its published code (arXiv:2406.16855)",
)
OWN = replace(
    PERFUSION,
    name="own",
    image_prompts="all",
    source="your prompts, measured as the paper measures its own",
)


def open_suite(spec: str) -> Catalog:
    """A catalogue by one text: miniature, photos, tuning, a folder of concept folders, or
    LAYOUT:DIR.
    """
    if not spec.strip():  # it would be the folder where the command is given
        raise UserError("--suite is empty; `perfbench ls suites` tells what there is")
    layout, colon, where = spec.partition(":")
    if layout in GENERATED:
        made: Catalog = GENERATED[layout][0](where)
        return made
    if colon and len(layout) > 1:  # one letter: a drive of Windows
        if layout not in SUITES:
            raise unknown("suite", layout, [*SUITES, *GENERATED])
        if not where:
            raise UserError(f"suite {spec!r} names no folder: write {layout}:DIR")
        if layout == "datasets":
            return datasets_suite(where)
        folder = Path(where).expanduser().resolve()
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; `--suite {layout}:DIR` reads the suite where you have "
                f"unpacked it"
            )
        return with_drift(with_columns(SUITES[layout](folder), folder), folder)
    if spec in ("miniature", "photos", "tuning"):
        return load_catalog(spec)
    if (folder := Path(spec).expanduser()).is_dir():
        return with_drift(with_columns(load_catalog(folder), folder.resolve()), folder.resolve())
    raise unknown(
        "suite",
        spec,
        [
            "miniature",
            "photos",
            "tuning",
            *(f"{name}:N" for name in GENERATED),
            *(f"{name}:DIR" for name in SUITES),
        ],
    )


def dreambench(folder: Path) -> Catalog:
    """`[dataset/]<subject>/NN.jpg` and `prompts_and_classes.txt`, as github.com/google/dreambooth
    publishes them.
    """
    folder = below(folder, "dataset") if (folder / "dataset").is_dir() else folder
    text = read_text(below(folder, "prompts_and_classes.txt"))
    classes = dict(re.findall(r"^([a-z0-9_]+),([a-z ]+?)\s*$", text, re.M))
    classes.pop("subject_name", None)
    head, _, live_text = text.partition("Live Subject Prompts")
    objects, lives = (
        re.findall(r"^\s*(['\"])(.*?)\1\.format", part, re.M) for part in (head, live_text)
    )
    texts = {"object": [text for _, text in objects], "live": [text for _, text in lives]}
    if not classes or not texts["object"] or not texts["live"]:
        raise UserError(
            f"{folder / 'prompts_and_classes.txt'} does not have DreamBench's classes and two "
            f"prompt lists"
        )
    both = set(texts["object"]) & set(texts["live"])
    prompts = []
    for number, line in enumerate(dict.fromkeys(texts["object"] + texts["live"]), 1):
        group = (
            "all" if line in both else next(name for name, lines in texts.items() if line in lines)
        )
        prompts.append(make_prompt(f"d{number:02d}", group, line.replace("{0} {1}", "{}"), folder))
    here = [
        make_concept(
            slug(name),
            word,
            "live" if word in ("cat", "dog") else "object",
            pictures(folder, name),
            source=f"DreamBench, dataset/{name}",
            licence="see references_and_licenses.txt of the data set",
        )
        for name, word in classes.items()
        if pictures(folder, name)
    ]
    return make_suite(
        "dreambench",
        DREAMBENCH,
        folder,
        here,
        prompts,
        notes=present(len(here), len(classes), "subjects"),
    )


def customconcept101(folder: Path) -> Catalog:
    """`dataset.json`, `dataset_multiconcept.json` and `prompts/*.txt` with `{}`, images under
    `benchmark_dataset/`.
    """
    try:
        return _customconcept101(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder / 'dataset.json'} is not in CustomConcept101's layout: {error!r}"
        ) from None


def _customconcept101(folder: Path) -> Catalog:
    entries = read_json(below(folder, "dataset.json"))
    multi = below(folder, "dataset_multiconcept.json")
    groups = read_json(multi) if multi.is_file() else []
    every = {
        _last(entry): entry
        for entry in reversed([*entries, *(part for group in groups for part in group[:-1])])
    }
    concepts: dict[str, Concept] = {}
    prompts: dict[str, list[Prompt]] = {}
    for name, entry in sorted(every.items()):
        images = own_images(folder, place_in(folder, entry["instance_data_dir"]))
        if not images:
            continue
        prompt_file = place_in(folder, entry["prompt_filename"])
        group = prompt_file.stem
        word = entry["class_prompt"]
        concepts[name] = make_concept(
            slug(name),
            word,
            group,
            images,
            source=f"CustomConcept101, {name}",
            licence="see its README",
        )
        if group not in prompts:
            lines = read_lines(prompt_file)
            prompts[group] = [
                make_prompt(f"{group}-{i:02d}", group, line, folder)
                for i, line in enumerate(lines, 1)
            ]
    pairs = []
    for first, second, compose in groups:
        a, b = concepts.get(_last(first)), concepts.get(_last(second))
        if a and b:
            lines = read_lines(place_in(folder, compose["prompt_filename_compose"]))
            texts = [line.replace("{0}", "{a}").replace("{1}", "{b}") for line in lines]
            pairs += make_pairs(a.name, b.name, texts, folder)
    flat = [prompt for lines in prompts.values() for prompt in lines]
    notes = present(len(concepts), len(every), "concepts")
    return make_suite(
        "customconcept101",
        CUSTOM101,
        folder,
        list(concepts.values()),
        flat,
        pairs=pairs,
        notes=notes,
    )


def customdiffusion(folder: Path) -> Catalog:
    """Custom Diffusion's own `prompts/*.txt` (`<new1> class`) beside `data/<class>/`, as its
    repository has them.
    """
    concepts: list[Concept] = []
    prompts: list[Prompt] = []
    others: list[Path] = []
    for file in sorted(below(folder, "prompts").glob("*.txt")):
        lines = read_lines(below(folder, "prompts", file.name))
        word = common_words(
            [line.split("<new1>")[1] for line in lines if line.count("<new1>") == 1]
        )
        images = pictures(folder, "data", word.replace(" ", "_")) if word else []
        if not word:
            others.append(file)
        elif images:
            name = slug(word)
            concepts.append(
                make_concept(
                    name,
                    word,
                    name,
                    images,
                    source=f"Custom Diffusion, data/{name}",
                    licence="see the repository",
                )
            )
            texts = [re.sub(rf"<new1>\s+{re.escape(word)}", "{}", line) for line in lines]
            prompts += [
                make_prompt(f"{name}-{i:02d}", name, text, file) for i, text in enumerate(texts, 1)
            ]
    pairs, left_out = [], 0
    for file in others:
        found, missed = word_pairs(file, concepts)
        pairs += found
        left_out += missed
    notes = (
        (f"{left_out} two-concept prompts do not name both and are left out",) if left_out else ()
    )
    return make_suite(
        "customdiffusion", CUSTOM, folder, concepts, prompts, pairs=pairs, notes=notes
    )


def dreambench_plus(folder: Path) -> Catalog:
    """`images/<category>/NN.jpg` and `captions/<category>/NN.txt`: first line the subject, then a
    caption a line.
    """
    concepts, prompts, missing = [], [], 0
    files = sorted(below(folder, "captions").rglob("*.txt"))
    for file in files:
        lines = read_lines(below(folder, *file.relative_to(folder).parts))
        stem = file.relative_to(folder / "captions").with_suffix("")
        images = [
            path
            for path in pictures(folder, "images", *stem.parent.parts)
            if path.stem == stem.name
        ]
        if not images or len(lines) < 2:
            continue
        subject = lines[0]
        name = slug(f"{stem.parent.name}_{stem.name}_{subject}")
        concepts.append(
            make_concept(
                name,
                subject.lower(),
                name,
                images,
                source=f"DreamBench++, {stem}",
                licence="see its project page",
            )
        )
        for number, caption in enumerate(lines[1:], 1):
            template = without_subject(caption, subject)
            if template:
                prompts.append(make_prompt(f"{name}-{number}", name, template, file))
            missing += not template
    notes = present(len(concepts), len(files), "subjects")
    if missing:
        notes += (f"{missing} captions do not name their subject and are left out",)
    return make_suite("dreambench++", DREAMBENCH_PLUS, folder, concepts, prompts, notes=notes)


def plain_folder(folder: Path) -> Catalog:
    """Images in `folder`, or in one folder a concept, and `prompts.txt` with `{}`; held-out ones in
    `heldout/` beside them. The folder's name is the word.
    """
    folders = sorted(folder.iterdir())
    places = (
        [folder]
        if own_images(folder, folder)
        else [path for path in folders if own_images(folder, path)]
    )
    words = [word_of(place.name) for place in places]
    concepts = [
        make_concept(
            slug(place.name),
            word,
            usual_group(word),
            own_images(folder, place),
            source=place.name,
            licence="yours",
            heldout=own_images(folder, place / "heldout"),
        )
        for place, word in zip(places, words)
    ]
    own = below(folder, "prompts.txt")
    prompts = [
        make_prompt(f"p{number:02d}", "all", line, own)
        for number, line in enumerate(read_lines(own), 1)
    ]
    return make_suite("folder", OWN, folder, concepts, prompts, notes=words_noted(concepts))


def datasets_suite(where: str) -> Catalog:
    """A `datasets` image folder or hub data set: columns image, then concept or label, then
    super_category if any; of its second split (test, validation or heldout) the held-out pictures.
    """
    from benchmarks.suite.dataset_rows import image_rows

    rows = image_rows(where)
    concepts = []
    for name in dict.fromkeys(row.concept for row in rows):
        mine = [row for row in rows if row.concept == name and not row.heldout]
        if not mine:
            continue
        word = mine[0].super_category or word_of(name)
        concepts.append(
            make_concept(
                slug(name),
                word,
                usual_group(word),
                [row.path for row in mine],
                source=where,
                licence="see its page",
                heldout=[row.path for row in rows if row.concept == name and row.heldout],
            )
        )
    own = Path(where).expanduser() / "prompts.txt"
    if not own.is_file():
        return replace(shipped_prompts("datasets", concepts), notes=words_noted(concepts))
    prompts = [
        make_prompt(f"p{number:02d}", "all", line, own)
        for number, line in enumerate(read_lines(own), 1)
    ]
    return make_suite("datasets", OWN, own.parent, concepts, prompts, notes=words_noted(concepts))


SUITES: dict[str, Callable[[Any], Catalog]] = {
    "dreambench": dreambench,
    "customconcept101": customconcept101,
    "customdiffusion": customdiffusion,
    "dreambench++": dreambench_plus,
    "dsh-bench": dsh_bench,
    "multibanana": multibanana,
    "folder": plain_folder,
    "datasets": datasets_suite,
}

PROTOCOLS = {"dreambench": DREAMBENCH, "customconcept101": CUSTOM101, "customdiffusion": CUSTOM,
             "dreambench++": DREAMBENCH_PLUS, "dsh-bench": DSH_BENCH, "multibanana": MULTIBANANA,
             "folder": OWN, "datasets": OWN}  # fmt: skip


def _last(entry: dict[str, str]) -> str:
    return Path(entry["instance_data_dir"]).name
