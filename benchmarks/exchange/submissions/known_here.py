"""What of a submission this version of perfbench knows by itself: scorers, texts, the protocol.

In: a submission's run.json and plan; places that whoever checks it named. Out: what agrees; what
nobody here can tell, in words; a sentence where something is another. Nothing that a submission
names is opened or fetched: what is shipped is here, the rest is named by whoever checks.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.digests import digest
from benchmarks.exchange.submissions.submission_archive import Refused
from benchmarks.exchange.submissions.submitted_vae import check_vae, vae_as_told
from benchmarks.miniature.which_world import world_of_run, world_of_weights
from benchmarks.paths import backbone_names, backbone_place
from benchmarks.planning.config import PRESETS, Config
from benchmarks.safe_paths import one_line, shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import SD_SCORER, Scorer, find_scorer
from benchmarks.scoring.modern import SHORT
from benchmarks.store.run_json import changed, scorer_about
from benchmarks.suite.catalog import Catalog, Concept, Pair, Prompt
from benchmarks.suite.drift_kinds import DRIFT_CLASS, PLAIN
from benchmarks.suite.drift_prompts import class_prompt
from benchmarks.suite.importers import open_suite
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest

SUITES = ("miniature", "photos")  # that are shipped
PUBLIC = (SD_SCORER, *(one.given for one in SHORT.values()))  # told as a hint, never looked up
JUDGED = ("weights", "preprocessing", "kind")
# what of a protocol a preset says; the rest is told beside the numbers, or is a method's own
OF_PRESET = (
    "images", "steps", "scheduler", "guidance", "train_steps", "select_step", "validate_every",
    "validate_steps", "vae",
)  # fmt: skip
OF_SUITE = ("image_prompts", "class_word")
# what a protocol leaves out where it is the usual one
UNSAID = {key: getattr(Config(), key) for key in ("scheduler", "validate_steps")}


@dataclass(frozen=True)
class Places:
    """What whoever checks a submission has here, by flags."""

    backbone: str = ""
    suite: str = ""
    scorers: tuple[str, ...] = ()
    vae: str = ""


@dataclass
class Known:
    """What agreed, and what had to be taken as it is told."""

    scorers: dict[str, Scorer] = field(default_factory=dict)  # by the word that finds each
    catalog: Catalog | None = None
    told: list[str] = field(default_factory=list)


def compare(about: Mapping[str, Any], rows: Sequence[CellRow], places: Places) -> Known:
    """run.json and plan.csv beside what is known here."""
    known = Known()
    check_backbone(about, places, known)
    check_vae(about, places.vae)
    if (told := vae_as_told(about)) and not places.vae:
        known.told.append(told)
    check_scorers(about, places, known)
    check_suite(about, rows, places, known)
    check_protocol(about, known.catalog)
    return known


# ---- models ----


def check_backbone(about: Mapping[str, Any], places: Places, known: Known) -> None:
    told = about.get("backbone", {})
    named = places.backbone or (told.get("id") if told.get("id") in backbone_names() else "")
    if not named:
        known.told.append(f"the backbone {shown(told.get('id'))}: give its place with --backbone")
        return
    place = backbone_place(named)
    if not place.exists():
        raise UserError(f"--backbone {named}: there is no such folder or file here")
    digest = backbone_digest(place)
    theirs, here = world_of_run(about), world_of_weights(place, digest)
    if theirs and here and theirs != here:
        raise Refused(
            f"it was drawn in the {theirs} world of the miniature, and {named} here is of the "
            f"{here}: numbers of two worlds share no table"
        )
    if told.get("sha256") != digest:
        raise Refused(
            f"its backbone {shown(told.get('id'))} has another digest than {named} here: other "
            f"weights drew its pictures"
        )


def check_scorers(about: Mapping[str, Any], places: Places, known: Known) -> None:
    """The archive's own digests are compared, never believed."""
    here = scorers_here(about, places)
    for told in about["scorers"]:
        word, match = next(
            (pair for pair in here.items() if pair[1].name == told["name"]), ("", None)
        )
        if match is None:
            names = ", ".join(one.name for one in here.values()) or "none"
            raise Refused(
                f"its scorer {shown(told['name'])} is another than those known here ({names}): "
                f"score with one of these, or name it for the check: --scorers {word_for(told)}"
            )
        mine = scorer_about(here[word])
        other = next((key for key in JUDGED if mine[key] != told.get(key)), "")
        if other:
            raise Refused(
                f"its scorer {shown(told['name'])} has other {other} than the one of that name "
                f"here: another model gave these scores"
            )
        known.scorers[word] = here[word]
    protocol = about.get("protocol", {})
    if protocol.get("scorers") != [about["scorers"][0]["name"]]:
        raise Refused("its protocol reports another scorer than the first one of run.json")


def scorers_here(about: Mapping[str, Any], places: Places) -> dict[str, Scorer]:
    """The miniature's own, or those of the backbone that was named; and what `--scorers` names.
    Nothing else is looked up: a public scorer may be a download of gigabytes."""
    told = about.get("backbone", {}).get("id")
    backbone = places.backbone or (told if told in backbone_names() else "miniature")
    place = backbone_place(backbone)
    given = []
    if (place / "scorer").is_dir():
        given.append("auto")
        if (place / "judges").is_dir() and any(
            one.get("kind") == "truth" for one in about["scorers"]
        ):
            given.append("truth")
    name = backbone if backbone in backbone_names() else place.name
    return {
        word: find_scorer(word, name, place) for word in dict.fromkeys((*given, *places.scorers))
    }


def word_for(told: Mapping[str, Any]) -> str:
    """What to type for a scorer, where its source is of a public one."""
    source = told.get("source") or "?"
    return next((name for name in PUBLIC if name.endswith(f":{source}")), "NAME")


# ---- texts ----


def check_suite(
    about: Mapping[str, Any], rows: Sequence[CellRow], places: Places, known: Known
) -> None:
    """Concepts and prompts by their digests, and each planned text by the suite's own."""
    named = about.get("protocol", {}).get("suite")
    if not places.suite and named not in SUITES:
        known.told.append(f"the suite {shown(named)}: give its place with --suite")
        return
    catalog = known.catalog = open_suite(places.suite or str(named))
    told = about["digests"]
    concepts = {one.name: one for one in catalog.concepts}
    for row in rows:
        for name in row.concept.split("+") if not row.is_base else ():
            if name not in concepts:
                raise Refused(f"its concept {shown(name)} is none of the suite {catalog.name}")
    mine = {
        "texts": digest_of_texts(catalog),
        "concepts": {n: c.digest[:16] for n, c in concepts.items() if c.images},
        "masks": {},
        "prompts": prompt_digests(catalog),
    }
    if differs := changed(told, mine):
        raise Refused(
            f"it was made of other texts or pictures than the suite {catalog.name} has here "
            f"({'; '.join(differs[:3])})"
        )
    asked = {row.prompt_id for row in rows}, {n for row in rows for n in row.concept.split("+")}
    for part, names in zip(("prompts", "concepts"), asked):
        if lacking := sorted(names - {*told[part]} - {PLAIN}):
            raise Refused(f"its run.json has no digest of {shown(lacking[0])} among its {part}")
    without = sorted({n for row in rows for n in row.concept.split("+")} - {*mine["concepts"]})
    if without := [name for name in without if name in concepts]:
        known.told.append(f"the pictures of {', '.join(without)}, which are not here")
    texts = Texts(catalog, concepts)
    for row in rows:
        texts.check(row)


def digest_of_texts(catalog: Catalog) -> str:
    texts = [
        catalog.templates,
        [[one.id, one.template] for one in catalog.validation],
        asdict(catalog.protocol),
    ]
    return digest(texts)[:16]


def prompt_digests(catalog: Catalog) -> dict[str, str]:
    """Of every prompt and pair, as run.json has them."""
    kinds = {one.id: (one.kind, one.template) for one in (*catalog.prompts, *catalog.drift)}
    kinds |= {one.id: ("pair", one.template) for one in catalog.pairs}
    kinds |= {one.id: (one.kind, one.template) for one in map(class_prompt, catalog.concepts)}
    return {id: digest(kind)[:16] for id, kind in kinds.items()}


@dataclass(frozen=True)
class Texts:
    """What a plan may ask, by the suite that it is of."""

    catalog: Catalog
    concepts: Mapping[str, Concept]

    def check(self, row: CellRow) -> None:
        """Kind, group, template, scored text and super-category of a planned cell."""
        wanted = self.wanted(row)
        given = (row.kind, row.group, row.template, row.text, row.super_category)
        if wanted is None or given != wanted:
            where = f"{row.method}/{row.point} {row.concept} {row.prompt_id}"
            raise Refused(
                f"plan.csv asks something else than the suite {self.catalog.name} does: "
                f"{shown(where)}"
            )

    def wanted(self, row: CellRow) -> tuple[str, str, str, str, str] | None:
        if row.drifts:
            return self.of_drift(row)
        names = row.concept.split("+")
        concepts = [self.concepts[name] for name in names]
        words = "+".join(one.super_category for one in concepts)
        prompt: Prompt | Pair | None
        if len(concepts) == 2:
            prompt = next((one for one in self.catalog.pairs if one.id == row.prompt_id), None)
            if prompt is None or prompt not in self.catalog.pairs_for(*concepts):
                return None
            template = prompt.template
            for slot, name in zip(("{a}", "{b}"), names):
                template = template.replace(slot, f"{{{name}}}")
            return "pair", "pair", template, self.catalog.scored_text(prompt, *concepts), words
        prompt = next((one for one in self.catalog.prompts if one.id == row.prompt_id), None)
        group = concepts[0].group
        if prompt is None or prompt.group not in ("all", group):
            return None
        template = prompt.template.replace("{}", f"{{{names[0]}}}")
        text = self.catalog.scored_text(prompt, *concepts)
        return prompt.kind, group, template, text, words

    def of_drift(self, row: CellRow) -> tuple[str, str, str, str, str] | None:
        """Its text stands for itself; the plain backbone's cells are of no concept."""
        every = (*self.catalog.drift, *map(class_prompt, self.catalog.concepts))
        prompt = next((one for one in every if one.id == row.prompt_id), None)
        if prompt is None or prompt.kind != row.kind:
            return None
        if row.is_base:
            return prompt.kind, "", prompt.template, prompt.template, ""
        mine = self.concepts[row.concept]
        if prompt.kind == DRIFT_CLASS and class_prompt(mine).id != row.prompt_id:
            return None
        return prompt.kind, mine.group, prompt.template, prompt.template, mine.super_category


# ---- the protocol ----


def of_preset(name: str) -> dict[str, Any]:
    """What a protocol of this name says of pictures and training."""
    whole = {**vars(Config()), **PRESETS[name][1]}
    return {key: whole[key] for key in OF_PRESET}


def check_protocol(about: Mapping[str, Any], catalog: Catalog | None) -> None:
    """A protocol is called by a preset's name only where it is that preset's."""
    protocol = about.get("protocol", {})
    name = protocol.get("preset")
    if not isinstance(name, str) or name not in PRESETS:
        raise Refused(
            f"its protocol is called {shown(name)}, and {', '.join(PRESETS)} are known here"
        )
    wanted = of_preset(name)
    del wanted["vae"]  # a model, and compared as one; runs with another share no board
    if catalog is not None:
        theirs = catalog.protocol
        if name == "paper":
            wanted |= {
                "images": theirs.images_per_prompt,
                "steps": theirs.steps,
                "guidance": theirs.guidance,
            }
        wanted |= {key: getattr(theirs, key) for key in OF_SUITE}
    differs = [
        f"{key}: {value} -> {shown(protocol.get(key))}"
        for key, value in wanted.items()
        if protocol.get(key, UNSAID.get(key)) != value
    ]
    if differs:
        raise Refused(
            f"it calls its protocol {name}, and it is another one ({'; '.join(differs[:3])}): "
            f"numbers of two protocols never share a board"
        )


def say(known: Known) -> None:
    for one in known.told:
        print(one_line(f"perfbench: taken as it is told: {one}"), file=sys.stderr)
