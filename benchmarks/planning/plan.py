"""Config, catalog, methods and the models' digests in; the units of work out. Pure, no torch."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.digests import digest
from benchmarks.planning.config import Config, look_steps
from benchmarks.planning.drift_plan import drift_cells, drifting
from benchmarks.planning.points import OperatingPoint
from benchmarks.planning.units import FLOOR, Cell, Facts, Fit, Given, Method, Plan, Prior
from benchmarks.suite.catalog import Catalog, Concept, Pair, Prompt
from perfusion_core.errors import UserError, unknown
from perfusion_core.guidance import per_batch

Subject = tuple[tuple[Concept, ...], Prompt | Pair]


def seed_of(base: int, concept: str, prompt_id: str, index: int) -> int:
    """The seed of an image; 48 bits, so that it survives any table."""
    return int.from_bytes(
        hashlib.sha256(f"{base}|{concept}|{prompt_id}|{index}".encode()).digest()[:6], "big"
    )


def prior_text(super_category: str) -> str:
    """What class images are generated from."""
    return f"a photo of a {super_category}"


def make_plan(
    config: Config,
    catalog: Catalog,
    concepts: Sequence[Concept],
    methods: Sequence[Method],
    facts: Facts,
    given: Mapping[tuple[str, str], Given] | None = None,
) -> Plan:
    """The whole plan for these concepts; `given`: trained files by names of method and concept.
    `super` comes first: the others are compared with it."""
    floor = [method for method in methods if method.base == FLOOR]
    if not floor:
        raise UserError(
            "the method super must be planned, because normalised text similarity needs it; "
            "leave it in"
        )
    planner = _Planner(config, catalog, facts, given or {})
    subjects: list[Subject] = [
        *_single(config, catalog, concepts),
        *_pairs(config, catalog, concepts),
    ]
    if not subjects:
        raise UserError(
            f"no prompt is left of {','.join(config.prompts)} for "
            f"{', '.join(c.name for c in concepts)}; give others by --prompts"
        )
    cells: list[Cell] = []
    for method in [*floor, *(method for method in methods if method.base != FLOOR)]:
        mine = (
            subjects if method.pairs else [subject for subject in subjects if len(subject[0]) == 1]
        )
        for point in method_points(config, method):
            cells += planner.cells(method, point, mine)
    fits = {fit.key: fit for fit in planner.fits.values()}
    batch = per_batch(facts.rows, config.guidance)
    beside: tuple[Cell, ...] = ()
    if config.drift and catalog.drift:
        seeds = partial(seed_of, config.seed, "drift")
        asked = drifting(cells, config.drift_of)
        beside = drift_cells(asked, planner.shared, catalog, concepts, seeds)
    return Plan(tuple(planner.priors.values()), tuple(fits.values()), tuple(cells), batch, beside)


def method_points(config: Config, method: Method) -> list[str]:
    """The operating points of a method: its own, its base's, or the one called default."""
    names = (
        config.points.get(method.name)
        or method.points
        or config.points.get(method.base)
        or ("default",)
    )
    points = [OperatingPoint.parse(name) for name in names]
    for point in points:
        point.refuse_out_of_range()
        allowed = point.settings if method.settings is None else method.settings
        if ignored := sorted(set(point.settings) - set(allowed)):
            raise UserError(
                f"point {point} of {method.name}: it does not look at {ignored[0]}, so the "
                f"pictures would be those of another point ({_what_it_sets(method)})"
            )
    return list(dict.fromkeys(map(str, points)))


def _what_it_sets(method: Method) -> str:
    return (
        f"its points set {', '.join(method.settings)}"
        if method.settings
        else ("its points set nothing; docs/methods.md shows how a method of your own reads them")
    )


@dataclass
class _Planner:
    """Units with their keys; fits and priors that several cells need are made once."""

    config: Config
    catalog: Catalog
    facts: Facts
    given: Mapping[tuple[str, str], Given]
    priors: dict[str, Prior] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    seeds: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    # by method and point, of all that decides bytes but fits and texts
    shared: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config, facts = self.config, self.facts
        self.model = facts.model
        self.sampling = {
            "sampler": config.scheduler,
            "steps": config.steps,
            "guidance": config.guidance,
            "rows": facts.rows,
        }
        self.training = digest(self.catalog.templates)
        self.selection = {
            "scorer": facts.selector,
            "prompts": [[prompt.id, prompt.template] for prompt in self.catalog.validation],
            "every": config.validate_every,
            **self.sampling,
            "steps": look_steps(config),
        }

    def selected(self, method: Method) -> dict[str, Any]:
        """What decides which training step is picked: a fit on a few of the images is judged by
        these alone.
        """
        few = method.config.get("images")
        return {**self.selection, "images": few} if few else self.selection

    def cells(
        self,
        method: Method,
        point: str,
        subjects: Sequence[tuple[tuple[Concept, ...], Prompt | Pair]],
    ) -> list[Cell]:
        """The cells of one method at one point."""
        parsed = OperatingPoint.parse(point)
        settings, step = parsed.settings, parsed.step or 0
        if step and str(step) not in self.config.keep:
            raise UserError(
                f"point {point}: training step {step} is not kept; add --set keep={step}"
            )
        # then what there is of it decides
        given = any(name == method.name for name, _ in self.given)
        if not given and step > (steps := method.config.get("steps", 0)):
            raise UserError(
                f"point {point}: {method.name} trains {steps} steps; name another step, or "
                f"another method"
            )
        how = {
            "name": method.name,
            "at": point,
            "method": method.base,
            "version": method.version,
            "point": settings,
            "step": step,
        }
        how["covariance"] = self.facts.covariance if method.covariance else ""
        shared = digest({"unit": "cell", **self.model, **self.sampling, **how})
        self.shared[method.name, point] = shared
        return [
            self.cell(method, point, settings, step, shared, concepts, prompt)
            for concepts, prompt in subjects
        ]

    def cell(
        self,
        method: Method,
        point: str,
        settings: Mapping[str, Any],
        step: int,
        shared: str,
        concepts: tuple[Concept, ...],
        prompt: Prompt | Pair,
    ) -> Cell:
        names, supers = tuple(c.name for c in concepts), tuple(c.super_category for c in concepts)
        fits = tuple(self.fit(method, concept) for concept in concepts) if method.trained else ()
        for fit in fits:
            if step and fit.given and step not in fit.keep:
                raise UserError(
                    f"point {point}: the trained files of {method.name} for {fit.concept} have no "
                    f"state of step {step}; name another step, or train without --trained"
                )
        seeds = self.noise("+".join(names), prompt.id)
        template = _placed(prompt, names)
        key = digest(
            {
                "shared": shared,
                "fits": [fit.key for fit in fits],
                "template": template,
                "super": supers,
                "seeds": seeds,
            }
        )
        single = isinstance(prompt, Prompt)
        return Cell(
            method.name,
            method.base,
            point,
            settings,
            step,
            names,
            supers,
            concepts[0].group if single else "pair",
            prompt.id,
            prompt.kind if isinstance(prompt, Prompt) else "pair",
            template,
            self.catalog.scored_text(prompt, *concepts),
            seeds,
            fits,
            key,
            method.text_side,
        )

    def noise(self, concept: str, prompt_id: str) -> tuple[int, ...]:
        """The seeds of a cell: the same for every method and point."""
        if (concept, prompt_id) not in self.seeds:
            base, n = self.config.seed, self.config.images
            self.seeds[concept, prompt_id] = tuple(
                seed_of(base, concept, prompt_id, index) for index in range(n)
            )
        return self.seeds[concept, prompt_id]

    def fit(self, method: Method, concept: Concept) -> Fit:
        """The fit of a method on a concept, made once; what decides its bytes is its key."""
        # Planned already?
        address = f"{method.name}/{concept.name}"
        if address in self.fits:
            return self.fits[address]
        # What the training sees.
        given = self.given.get((method.name, concept.name))
        prior = self.prior(concept.super_category) if method.prior and not given else None
        select = method.select and not given
        if select and not self.catalog.validation:
            raise UserError(
                f"{method.name} picks its training step by prompts/validation.csv, and all of "
                f"these are among the "
                "suite's own prompts; leave at least one of them out"
            )
        seed = seed_of(self.config.seed, concept.name, "fit", 0)
        # All that decides bytes.
        what: dict[str, Any] = {
            "unit": "fit",
            **self.model,
            "method": method.base,
            "version": method.version,
            "name": concept.name,
        }
        what["covariance"] = self.facts.covariance if method.covariance else ""
        if given:
            what["given"] = given.digest
        else:
            what |= {
                "config": dict(method.config),
                "concept": concept.digest,
                "training": self.training,
                "seed": seed,
                "select": self.selected(method) if select else None,
                "prior": prior.key if prior else None,
            }
        key = digest(what)
        keep = self.kept(method, given)
        # Shared with equal variants.
        # of a variant that differs at run time only
        same = [fit for fit in self.fits.values() if fit.key == key]
        self.fits[address] = (
            same[0]
            if same
            else Fit(
                method.base,
                concept.name,
                concept.super_category,
                method.config,
                prior,
                select,
                keep,
                seed,
                key,
                given,
            )
        )
        return self.fits[address]

    def kept(self, method: Method, given: Given | None) -> tuple[int, ...]:
        """The kept training steps that this method comes to, or that its given files have."""
        last = method.config.get("steps", 0)
        steps = sorted(map(int, self.config.keep))
        return tuple(step for step in steps if (step in given.steps if given else step <= last))

    def prior(self, word: str) -> Prior:
        if word not in self.priors:
            seeds = tuple(
                seed_of(self.config.seed, word, "prior", i) for i in range(self.config.prior_images)
            )
            key = digest(
                {
                    "unit": "prior",
                    **self.model,
                    **self.sampling,
                    "text": prior_text(word),
                    "seeds": seeds,
                }
            )
            self.priors[word] = Prior(word, seeds, key)
        return self.priors[word]


# ---- which prompts ----


def _single(config: Config, catalog: Catalog, concepts: Sequence[Concept]) -> Iterable[Subject]:
    for concept in concepts:
        for prompt in choose_prompts(config.prompts, catalog.prompts, concept.group):
            yield (concept,), prompt


def choose_prompts(given: Sequence[str], prompts: Sequence[Prompt], group: str) -> list[Prompt]:
    """The prompts for a concept of this group: `all`, `shape`, `deform`, ids, or so many of them,
    half of each kind.
    """
    mine = [prompt for prompt in prompts if prompt.group in ("all", group)]
    known, picked = {prompt.id for prompt in prompts}, set[str]()
    for word in given:
        if word in ("all", "shape", "deform"):
            picked |= {prompt.id for prompt in mine if word in ("all", prompt.kind)}
        elif word.isdigit() and word not in known:
            shape = [prompt.id for prompt in mine if prompt.kind == "shape"]
            deform = [prompt.id for prompt in mine if prompt.kind != "shape"]
            n_shape = min(len(shape), max((int(word) + 1) // 2, int(word) - len(deform)))
            picked |= {*_spread(shape, n_shape), *_spread(deform, int(word) - n_shape)}
        elif word in known:
            picked.add(word)
        else:
            raise unknown("prompt", word, known | {"all", "shape", "deform"})
    return [prompt for prompt in mine if prompt.id in picked]


def _spread(items: Sequence[str], n: int) -> list[str]:
    """`n` of the items, evenly over the list."""
    return [items[i * len(items) // n] for i in range(min(n, len(items)))] if n > 0 else []


def _pairs(config: Config, catalog: Catalog, concepts: Sequence[Concept]) -> Iterable[Subject]:
    known = {concept.name: concept for concept in concepts}
    for text in config.pairs:
        names = text.split("+")
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"--pairs {text!r} is not two concepts; write for example teddy+teapot")
        a, b = (known[name] if name in known else catalog.concept(name) for name in names)
        prompts = catalog.pairs_for(a, b)
        if not prompts:
            raise UserError(
                f"--pairs {text}: no pair prompt is for {a.group} with {b.group}; try "
                f"{names[1]}+{names[0]}"
            )
        for prompt in prompts:
            yield (a, b), prompt


def _placed(prompt: Prompt | Pair, names: Sequence[str]) -> str:
    if isinstance(prompt, Prompt):
        return prompt.template.replace("{}", f"{{{names[0]}}}")
    return prompt.template.replace("{a}", f"{{{names[0]}}}").replace("{b}", f"{{{names[1]}}}")
