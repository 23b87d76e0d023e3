"""What pictures may be of: the concepts and prompts of a run folder, and those of its suite.

In: a plan's cells, a `Catalog`. Out: a `Question` for the names that a picture came with, an id or
a text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from benchmarks.scoring.cell_row import CellRow
from benchmarks.suite.catalog import Catalog, Concept, Prompt, fill, leave_out
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Question:
    """One concept in one prompt, as plan.csv has it."""

    concept: str
    super_category: str
    group: str
    prompt_id: str
    kind: str
    template: str  # "A {cat} on the beach"
    text: str  # what pictures are scored against


class Questions:
    """The questions of a run and of its suite; each concept's are made when it is asked for."""

    def __init__(self, catalog: Catalog | None, planned: Iterable[CellRow] = ()) -> None:
        self.catalog = catalog
        self.planned: dict[str, dict[str, Question]] = {}  # of the run, in its order
        for row in planned:
            if "+" not in row.concept:
                asked = Question(row.concept, row.super_category, row.group, row.prompt_id,
                                 row.kind, row.template, row.text)  # fmt: skip
                self.planned.setdefault(row.concept, {}).setdefault(row.prompt_id, asked)
        self.concepts: dict[str, Concept | None] = {}  # of the suite, of those asked for
        self._of: dict[str, dict[str, Question]] = {}
        self._by_text: dict[str, dict[str, str]] = {}

    def concept(self, name: str) -> Concept | None:
        """The suite's; None where it has none of that name, or no pictures of it."""
        if name not in self.concepts:
            self.concepts[name] = None
            if self.catalog is not None and "/" not in name and "\\" not in name:
                try:
                    self.concepts[name] = self._named.get(name) or self.catalog.concept(name)
                except UserError:
                    return None
        return self.concepts[name]

    @cached_property
    def _named(self) -> Mapping[str, Concept]:
        return (
            {one.name: one for one in self.catalog.concepts if one.images} if self.catalog else {}
        )

    @cached_property
    def _by_group(self) -> Mapping[str, list[Prompt]]:
        """So that a suite with a prompt list a concept is not looked through for each of them."""
        groups: dict[str, list[Prompt]] = {}
        for prompt in self.catalog.prompts if self.catalog else ():
            groups.setdefault(prompt.group, []).append(prompt)
        return groups

    def of(self, concept: str) -> Mapping[str, Question]:
        """By prompt id; empty for an unknown concept."""
        if concept not in self._of:
            found = dict(self.planned.get(concept, {}))
            known = self.concept(concept)
            if known is not None and self.catalog is not None:
                groups = dict.fromkeys(("all", known.group))
                for prompt in (one for group in groups for one in self._by_group.get(group, ())):
                    found.setdefault(prompt.id, asked_of(self.catalog, known, prompt))
            self._of[concept] = found
        return self._of[concept]

    def find(self, concept: str, prompt: str) -> Question | None:
        """`prompt`: an id, or a text: the template, or filled with the word, or as it is scored."""
        of = self.of(concept)
        if prompt in of:
            return of[prompt]
        if concept not in self._by_text:
            texts: dict[str, str] = {}
            for one in of.values():
                bare = one.template.replace(f"{{{one.concept}}}", "{}")
                for text in (bare, fill(bare, one.super_category), leave_out(bare), one.text):
                    texts.setdefault(_plain(text), one.prompt_id)
            self._by_text[concept] = texts
        return of.get(self._by_text[concept].get(_plain(prompt), ""))

    def in_order(self, concept: str, wanted: Iterable[str]) -> list[Question]:
        """Those of a concept whose ids are wanted, in the suite's order."""
        names = set(wanted)
        return [one for id, one in self.of(concept).items() if id in names]

    @property
    def names(self) -> list[str]:
        """Concepts that may be named."""
        return list(dict.fromkeys([*self.planned, *self._named]))


def asked_of(catalog: Catalog, concept: Concept, prompt: Prompt) -> Question:
    return Question(
        concept.name,
        concept.super_category,
        concept.group,
        prompt.id,
        prompt.kind,
        prompt.template.replace("{}", f"{{{concept.name}}}"),
        catalog.scored_text(prompt, concept),
    )


def _plain(text: str) -> str:
    """Compared without case, spacing and the point at the end."""
    return " ".join(text.split()).lower().rstrip(".")
