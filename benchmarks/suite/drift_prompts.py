"""Prompts that have nothing to do with a concept, and the plain word for its class: what drift is
measured on.

In: `drift.csv` of a suite. Out: the prompts for a concept; no text has a placeholder.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.digests import digest
from benchmarks.safe_paths import below
from benchmarks.suite.catalog import Catalog, Prompt, read_drift
from benchmarks.suite.concept_folder import Concept, slug
from benchmarks.suite.drift_kinds import DRIFT_CLASS

FILE = "drift.csv"
CLASS = "drift.class-"  # what the ids of class words begin with


def with_drift(catalog: Catalog, folder: Path) -> Catalog:
    """The suite with the unrelated prompts that its folder brings; without such a file as it is."""
    for place in (below(folder, FILE), below(folder, "prompts", FILE)):
        if place.is_file():
            return replace(catalog, drift=read_drift(place))
    return catalog


def unrelated(prompts: Iterable[Prompt], concept: Concept) -> list[Prompt]:
    """Those that do not name the concept's class."""
    words = " ".join(re.findall(r"[a-z0-9]+", concept.super_category.lower()))
    named = re.compile(rf"\b{re.escape(words)}(s|es)?\b")
    return [
        prompt
        for prompt in prompts
        if not named.search(" ".join(re.findall(r"[a-z0-9]+", prompt.template.lower())))
    ]


def class_prompt(concept: Concept) -> Prompt:
    """The plain word for the concept's kind; two concepts of one kind share it."""
    word, name = concept.super_category, slug(concept.super_category)
    if name != word:
        name = f"{name}-{digest(word)[:8]}"
    return Prompt(f"{CLASS}{name}", DRIFT_CLASS, "all", f"A photo of a {word}")


def drift_prompts(catalog: Catalog, concept: Concept) -> list[Prompt]:
    """All on which the drift of a concept is measured; none where the suite has no unrelated
    ones."""
    mine = unrelated(catalog.drift, concept)
    return [*mine, class_prompt(concept)] if mine else []
