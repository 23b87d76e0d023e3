"""What `perfbench concepts` and `perfbench catalog` do. In: arguments. Out: lines on stdout, an
exit status.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.paths import user_dir
from benchmarks.suite import catalog_problems, photographs
from benchmarks.suite.concept_folder import Concept, list_images, slug, write_concept
from benchmarks.suite.image_files import duplicates, oddities, passed_over
from benchmarks.suite.importers import open_suite
from perfusion_core.errors import UserError

T = TypeVar("T")


def fetch_concepts(args: Namespace) -> int:
    """One concept after the other; what cannot be had is said, and the others go on."""
    home = _chosen(args, "photos")

    def get(name: str) -> Concept:
        concept = photographs.fetch_photographs(name, home)
        _note(f"{name}: {concept.source}; licence: {concept.licence}")
        return concept

    return _each(photographs.select_names(args.names), get)


def adopt(args: Namespace) -> int:
    """A folder as one of the photographs' concepts."""
    folder = Path(args.dir).expanduser()
    _say(photographs.adopt(args.name, folder, _chosen(args, "photos")), list_images(folder))
    return 0


def add(args: Namespace) -> int:
    """A user's photographs as a new concept."""
    concept = photographs.add(
        Path(args.dir).expanduser(), args.super_category, name=args.name, group=args.group,
        asymmetric=args.asymmetric, licence=args.licence, home=_chosen(args, "concepts"),
        heldout=args.heldout,
    )  # fmt: skip
    folder = Path(args.dir).expanduser()
    _say(concept, list_images(folder))
    if args.heldout:
        kept = ", ".join(path.name for path in _pictures_of(folder)[-args.heldout :])
        _note(f"held out, no method sees them: {kept}")
    if not (folder / "concept.toml").is_file():
        for sentence in oddities(list_images(folder)):
            _note(f"warning: {sentence}")
        if others := passed_over(folder, list_images(folder)):
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            _note(f"passed over, not a picture that is read: {', '.join(others[:5])}{more}")
    if len(concept.super_category.split()) > 1:
        _note(
            f"warning: {concept.super_category!r} is several words; methods that start from one "
            f"word need one"
        )
    if concept.group == "other":
        _note(
            "it gets the 19 prompts that all concepts share; --group "
            "animated|container|furniture|wearable adds more"
        )
    chosen = concept.name if args.dest is None else concept.images[0].parent.parent
    _note(f"next: perfbench run --backbone sd15 --methods perfusion --concepts {chosen}")
    _note(
        f"or, to see without a GPU or a download that all works (the miniature has seen no "
        f"photograph): perfbench run --preset quick --methods perfusion --concepts {chosen} "
        f"--masks none"
    )
    return 0


def _pictures_of(folder: Path) -> list[Path]:
    """By the names that the user knows."""
    inner = folder / "images" if (folder / "concept.toml").is_file() else folder
    return list_images(inner)


def import_suite(args: Namespace) -> int:
    """The concepts of another suite as concept folders, to be measured with our prompts and
    protocol.
    """
    suite = open_suite(args.suite)
    home = _chosen(args, "concepts")

    def copy(concept: Concept) -> Concept:
        return write_concept(
            home / f"{slug(suite.name)}_{concept.name}",
            super_category=concept.super_category,
            group=photographs.usual_group(concept.super_category),
            source=concept.source,
            licence=concept.licence,
            images=photographs.readable(concept.images),
            heldout=photographs.readable(concept.heldout),
        )

    for note in suite.notes:
        _note(note)
    return _each(suite.concepts, copy)


def check_catalog(args: Namespace) -> int:
    """0 where nothing is wrong."""
    tokenizer = catalog_problems.open_tokenizer(args.backbone)
    wrong = 0
    for spec in [args.suite] if args.suite else ["miniature", "tuning", "photos"]:
        catalog = open_suite(spec)
        found = catalog_problems.problems(catalog, tokenizer)
        if spec in ("miniature", "photos"):
            found += catalog_problems.shipped_problems(catalog)
        for note in catalog_problems.notes(catalog):
            _note(f"{spec}: {note}")
        for problem in found:
            print(f"{spec}: {problem}")
        wrong += len(found)
        print(
            f"{spec}: {len(catalog.concepts)} concepts, {len(catalog.prompts)} prompts, "
            f"{len(found)} problems"
        )
    return 1 if wrong else 0


def _each(items: Sequence[T], do: Callable[[T], Concept]) -> int:
    failed = 0
    for item in items:
        try:
            _say(do(item))
        except UserError as error:
            failed += 1
            _note(str(error))
    return 1 if failed else 0


def _chosen(args: Namespace, usual: str) -> Path:
    return Path(args.dest).expanduser().resolve() if args.dest else user_dir() / usual


def _say(concept: Concept, originals: Sequence[Path] = ()) -> None:
    for sentence in duplicates(originals or concept.images):  # by the names that the user knows
        _note(f"warning: {sentence}")
    print(
        f"{concept.name}: {len(concept.images)} images of a {concept.super_category} in "
        f"{concept.images[0].parent}"
    )


def _note(sentence: str) -> None:
    print(f"perfbench: {sentence}", file=sys.stderr)
