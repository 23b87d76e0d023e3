"""Prompts and concepts: what a benchmark is about.

In: `prompts/`, `concepts/` (shipped, or a folder of yours). Out: a frozen `Catalog`; nothing here
imports torch.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.digests import digest
from benchmarks.paths import data_dir, user_dir
from benchmarks.safe_paths import below
from benchmarks.suite.concept_folder import GROUPS, Concept, read_concept
from benchmarks.suite.drift_kinds import DRIFT
from perfusion_core.errors import UserError, unknown

__all__ = [
    "GROUPS",
    "PERFUSION",
    "Catalog",
    "Concept",
    "Pair",
    "Prompt",
    "Protocol",
    "load_catalog",
]

KINDS = ("shape", "deform")
Columns = Mapping[str, Mapping[str, Mapping[str, str]]]
TUNING = "tuning"  # folders of concepts/ that are not a concept: other catalogues
PHOTOS = "photos"


@dataclass(frozen=True)
class Prompt:
    """One template; `{}` is where the concept stands. Kind `shape` counts for image similarity,
    `deform` does not.
    """

    id: str
    kind: str
    group: str  # "all", or the group of the concepts that it is for
    template: str


@dataclass(frozen=True)
class Pair:
    """A prompt for two concepts, `{a}` and `{b}`; a slot is a group, a concept's name, or "any"."""

    id: str
    slots: tuple[str, str]
    template: str


@dataclass(frozen=True)
class Protocol:
    """How a suite is measured. Numbers of different protocols never stand in one table."""

    name: str
    images_per_prompt: int
    # in the scored text: "left out" ("A on the beach") or "kept" ("A cat on the beach")
    class_word: str
    image_prompts: str  # image similarity is over: "shape" (the shape-preserving prompts) or "all"
    # do its authors divide text similarity by the super-category's? our tables have both
    normalised: bool
    steps: int = 50
    guidance: float = 6.0
    source: str = ""


PERFUSION = Protocol(
    "perfusion",
    8,
    "left out",
    "shape",
    True,
    source="Key-Locked Rank One Editing, section 5 (arXiv:2305.01644)",
)


def fill(template: str, words: str) -> str:
    """The template with the concept called `words`: "A {} on the beach" -> "A cat on the beach"."""
    return template.replace("{}", words)


def leave_out(template: str) -> str:
    """The template without the concept: "A {} on the beach" -> "A on the beach"."""
    bare = template.replace("{}", " ")
    return re.sub(r"\s+([,.;:!?])", r"\1", " ".join(bare.split()))


def content_words(template: str) -> list[str]:
    """What the scorer can look for once the concept is left out."""
    empty = {
        "a",
        "an",
        "the",
        "of",
        "and",
        "photo",
        "image",
        "picture",
        "shown",
        "in",
        "on",
        "with",
        "is",
        "it",
    }
    return [
        word for word in re.findall(r"[a-z']+", leave_out(template).lower()) if word not in empty
    ]


@dataclass(frozen=True)
class Catalog:
    """Concepts and prompts that belong together, and the protocol they are measured by."""

    name: str
    protocol: Protocol
    concepts: tuple[Concept, ...]
    prompts: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    validation: tuple[Prompt, ...]
    templates: tuple[str, ...]  # training texts, `{}` for the concept
    # what a reader of the numbers should know: "6 of 30 subjects are here"
    notes: tuple[str, ...] = ()
    # what tables can be split by: concepts or prompts -> column -> name -> value (columns.py)
    columns: Columns = field(default_factory=dict)
    # texts that have nothing to do with any concept (drift_prompts.py); a suite may have none
    drift: tuple[Prompt, ...] = ()

    def prompts_for(self, concept: Concept) -> tuple[Prompt, ...]:
        """The shared prompts and those of the concept's group."""
        return tuple(prompt for prompt in self.prompts if prompt.group in ("all", concept.group))

    def pairs_for(self, a: Concept, b: Concept) -> tuple[Pair, ...]:
        """The prompts in which these two can stand, in this order."""
        fits = (("any", a.group, a.name), ("any", b.group, b.name))
        return tuple(
            pair for pair in self.pairs if pair.slots[0] in fits[0] and pair.slots[1] in fits[1]
        )

    def scored_text(self, prompt: Prompt | Pair, *concepts: Concept) -> str:
        """The text that generated images are compared with, by the suite's protocol; a pair keeps
        its two words.

        ("A and a on the beach" would ask for neither thing, so for pairs the paper's rule has no
        meaning.)
        """
        if isinstance(prompt, Pair):
            return prompt.template.replace("{a}", concepts[0].super_category).replace(
                "{b}", concepts[1].super_category
            )
        if self.protocol.class_word == "left out":
            return leave_out(prompt.template)
        return fill(prompt.template, concepts[0].super_category)

    def concept(self, name: str) -> Concept:
        """One concept by name: the catalogue's, or one that was added with `perfbench concepts
        add`, or a folder.
        """
        found = {concept.name: concept for concept in self.concepts}
        if name in found:
            return _with_images(found[name])
        if "/" in name or "\\" in name:
            return _with_images(read_concept(Path(name).resolve()))
        own = {folder.name: folder for folder in _concept_folders(user_dir() / "concepts")}
        if name in own:
            return read_concept(own[name])
        raise unknown("concept", name, [*found, *own])

    def select_concepts(self, names: str = "all") -> tuple[Concept, ...]:
        """What was asked for: all (the catalogue's own), or names and folders with commas between
        them.
        """
        if names == "all" and not self.concepts:
            raise UserError(
                f"the catalogue {self.name!r} has no concepts; `perfbench ls suites` tells what "
                f"there is"
            )
        if names == "all":
            return tuple(_with_images(concept) for concept in self.concepts)
        return tuple(self.concept(name) for name in _split(names, "concept"))

    def select_prompts(self, names: str = "all") -> tuple[Prompt, ...]:
        """What was asked for: all, shape, deform, or ids with commas between them; in the
        catalogue's order.
        """
        wanted = set(_split(names, "prompt"))
        known = {prompt.id for prompt in self.prompts} | {"all", *KINDS}
        for name in wanted - known:
            raise unknown("prompt", name, known)
        return tuple(p for p in self.prompts if wanted & {p.id, p.kind, "all"})

    @property
    def digests(self) -> dict[str, str]:
        """Of the prompts (with the training and validation texts) and of the concepts."""
        texts = {
            key: asdict(self)[key]
            for key in ("prompts", "pairs", "validation", "templates", "protocol")
        }
        return {
            "prompts": digest(texts),
            "concepts": digest({c.name: c.digest for c in self.concepts}),
        }


def _split(names: str, kind: str) -> list[str]:
    parts = list(dict.fromkeys(part.strip() for part in names.split(",") if part.strip()))
    if not parts:
        raise UserError(f"no {kind} was named: give names with commas between them, or all")
    return parts


def _with_images(concept: Concept) -> Concept:
    if concept.images:
        return concept
    raise UserError(
        f"concept {concept.name!r} has no images here: `perfbench concepts fetch {concept.name}` "
        f"(or all) gets the "
        f"photographs, `perfbench concepts adopt {concept.name} DIR` takes a folder that you have"
    )


def _concept_folders(folder: Path) -> list[Path]:
    """Those inside `folder`; a hidden one is what an interrupted writing left."""
    return sorted(path.parent for path in folder.glob("[!.]*/concept.toml"))


def own_concepts() -> list[Concept]:
    """What the user added with `perfbench concepts add`; chosen by name only, never by "all"."""
    found = []
    for folder in _concept_folders(user_dir() / "concepts"):
        try:
            found.append(read_concept(folder))
        except UserError as error:  # a broken one hides no other
            print(f"perfbench: passed over: {error}", file=sys.stderr)
    return found


def load_catalog(kind: str | Path = "miniature") -> Catalog:
    """The shipped "miniature", its "tuning" concepts, the "photos" of the paper, or a folder of
    concepts of yours.
    """
    if kind == "miniature":
        concepts = [read_concept(folder) for folder in _concept_folders(data_dir("concepts"))]
    elif kind == TUNING:
        concepts = [
            read_concept(folder) for folder in _concept_folders(data_dir("concepts") / TUNING)
        ]
    elif kind == PHOTOS:
        from benchmarks.suite.photographs import read_photos

        concepts = read_photos()
    else:
        return _own_catalog(Path(kind).resolve())
    return shipped_prompts(str(kind), concepts)


def _own_catalog(folder: Path) -> Catalog:
    """A folder of concept folders, or one concept folder; with a `prompts/` inside, its prompts are
    used.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; known catalogues: miniature, photos, tuning, or a folder "
            f"of concepts"
        )
    inside = below(folder, "concepts") if (folder / "concepts").is_dir() else folder
    folders = [inside] if (inside / "concept.toml").is_file() else _concept_folders(inside)
    folders = [below(folder, *path.relative_to(folder).parts) for path in folders]
    if not folders:
        raise UserError(
            f"{folder} has no concept: `perfbench concepts add DIR --super-category WORD` makes a "
            f"concept folder"
        )
    own = below(folder, "prompts", "prompts.csv")
    prompts = read_prompts(own) if own.is_file() else None
    return shipped_prompts(folder.name, [read_concept(path) for path in folders], prompts)


def shipped_prompts(
    name: str, concepts: Iterable[Concept], own: Iterable[Prompt] | None = None
) -> Catalog:
    """A catalogue of these concepts with the project's texts and protocol; with `own` prompts in
    the place of ours, and without the validation prompts that are among these: nothing is fitted to
    what is tested."""
    home = data_dir("prompts")
    prompts = read_prompts(home / "prompts.csv") if own is None else tuple(own)
    validation = read_validation(home / "validation.csv")
    if own is not None:
        used = {prompt.template.lower() for prompt in prompts}
        validation = tuple(prompt for prompt in validation if prompt.template.lower() not in used)
    return Catalog(
        name=name,
        protocol=PERFUSION,
        concepts=tuple(concepts),
        prompts=prompts,
        pairs=read_pairs(home / "pairs.csv"),
        validation=validation,
        templates=read_templates(home / "training.txt"),
        drift=read_drift(home / "drift.csv") if own is None else (),
    )


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """prompts.csv: id, kind, group, template."""
    rows = _rows(path, ("id", "kind", "group", "template"))
    for number, row in rows:
        if row["kind"] not in KINDS:
            raise UserError(f"{path}:{number}: {unknown('kind', row['kind'], KINDS)}")
        if row["group"] not in ("all", *GROUPS):
            raise UserError(f"{path}:{number}: {unknown('group', row['group'], ('all', *GROUPS))}")
        check_template(row["template"], f"{path}:{number}")
    return tuple(Prompt(row["id"], row["kind"], row["group"], row["template"]) for _, row in rows)


def read_validation(path: Path) -> tuple[Prompt, ...]:
    """validation.csv: id, template."""
    rows = _rows(path, ("id", "template"))
    for number, row in rows:
        check_template(row["template"], f"{path}:{number}")
    return tuple(Prompt(row["id"], "shape", "all", row["template"]) for _, row in rows)


def read_drift(path: Path) -> tuple[Prompt, ...]:
    """drift.csv: id, text. In a run the ids are `drift.ID`, which is no prompt's id."""
    rows = _rows(path, ("id", "text"))
    for number, row in rows:
        check_template(row["text"], f"{path}:{number}", ())
    return tuple(Prompt(f"{DRIFT}.{row['id']}", DRIFT, "all", row["text"]) for _, row in rows)


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """pairs.csv: id, slots ("group+group"), template with `{a}` and `{b}`."""
    pairs = []
    for number, row in _rows(path, ("id", "slots", "template")):
        slots = tuple(row["slots"].split("+"))
        if len(slots) != 2 or any(slot not in ("any", *GROUPS) for slot in slots):
            raise UserError(
                f"{path}:{number}: slots is {row['slots']!r}; write two of any, "
                f"{', '.join(GROUPS)} as X+Y"
            )
        check_template(row["template"], f"{path}:{number}", ("{a}", "{b}"))
        pairs.append(Pair(row["id"], (slots[0], slots[1]), row["template"]))
    return tuple(pairs)


def read_templates(path: Path) -> tuple[str, ...]:
    """training.txt: a text a line."""
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            check_template(line.strip(), f"{path}:{number}")
    return tuple(line.strip() for line in lines if line.strip())


def check_template(template: str, where: str, slots: Sequence[str] = ("{}",)) -> None:
    """Each slot once and no other brace, else one sentence that says where."""
    braces = re.findall(r"\{[^{}]*\}", template)
    if not slots and re.search(r"[{}]", template):
        raise UserError(f"{where}: {template!r} stands for itself and has no place for a concept")
    if sorted(braces) != sorted(slots) or len(re.findall(r"[{}]", template)) != 2 * len(slots):
        raise UserError(
            f"{where}: {template!r} needs {' and '.join(slots)} exactly once each and no other "
            f"brace"
        )


def read_text(path: Path) -> str:
    """A UTF-8 text file, or one sentence about why it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV whose ids are unique and whose cells are filled."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        lines = [(reader.line_num, [" ".join(cell.split()) for cell in line]) for line in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.line_num}: {error}; is a quotation mark left open?"
        ) from None
    # spreadsheets leave ",,," behind
    lines = [(number, cells) for number, cells in lines if any(cells)]
    first = lines[0][1] if lines else []
    if first != list(columns):
        raise UserError(
            f"{path}: the first line must be {','.join(columns)}, with commas; it is "
            f"{','.join(first)!r:.80}"
        )
    if not lines[1:]:
        raise UserError(f"{path} has no row below {','.join(columns)}")
    seen: set[str] = set()
    for number, cells in lines[1:]:
        if len(cells) != len(columns) or not all(cells):
            raise UserError(
                f"{path}:{number}: a row has {len(columns)} filled cells: {', '.join(columns)}"
            )
        check_id(cells[0], f"{path}:{number}")
        if cells[0].lower() in seen:
            raise UserError(
                f"{path}:{number}: id {cells[0]!r} is used twice; give each row its own"
            )
        seen.add(cells[0].lower())
    return [(number, dict(zip(columns, cells))) for number, cells in lines[1:]]


def check_id(id: str, where: str) -> None:
    """An id is the name of a folder of images and stands in lists with commas."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", id) or id in ("all", *KINDS):
        raise UserError(
            f"{where}: id {id!r} is not allowed: use a-z, 0-9, _ and -, and none of all, "
            f"{', '.join(KINDS)}"
        )
