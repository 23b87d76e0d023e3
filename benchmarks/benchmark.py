"""`perfbench run` and `plan`: a Config in; a run folder with its table out.

Reading order: prepare (what is asked) -> open_folder (may it be done here) -> work (do it) -> finish (tables).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import masks, methods, provenance
from benchmarks.catalog import PERFUSION, Catalog, Concept
from benchmarks.config import Config, difference, digest
from benchmarks.drive import Driver, Outcome, summary
from benchmarks.forecast import as_text, forecast
from benchmarks.models import Models, backbone_names, device_name, find
from benchmarks.plan import Method, Plan, choose_prompts, make
from benchmarks.progress import Progress, duration
from benchmarks.scoring import Scoring
from benchmarks.store import RESULTS, Store, planned_text, read_json, read_planned, read_weights
from benchmarks.tasks import as_row
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """All that is decided before anything is done."""

    config: Config
    catalog: Catalog
    concepts: tuple[Concept, ...]
    methods: tuple[Method, ...]
    models: Models
    plan: Plan
    protocol: Mapping[str, Any]
    folder: Path
    device: str


def prepare(config: Config) -> Prepared:
    """Names first, which costs no torch and finds typing mistakes at once; then models, methods and the plan."""
    methods.check_names(config.methods, config.method_files)
    catalog = open_catalog(config)
    config = with_suite(config, catalog)
    concepts = tuple({c.name: c for name in config.concepts for c in catalog.select_concepts(name)}.values())
    for concept in concepts:
        choose_prompts(config.prompts, catalog.prompts, concept.group)
    models = find(config)
    chosen = methods.resolve(config, models.miniature)
    chosen, catalog, concepts = with_masks(config, chosen, catalog, concepts)
    if not models.covariance and any(method.base == "perfusion" for method in chosen):
        raise UserError(f"the backbone {models.name} has no C yet, which perfusion needs: "
                        f"perfbench covariance --backbone {config.backbone}")  # fmt: skip
    plan = make(config, catalog, concepts, chosen, models.facts)
    device = device_name(config.device, elsewhere=config.engine == "ray")
    fixed = provenance.resolved_protocol(config, models, catalog)
    folder = (
        Path(config.out)
        if config.out
        else RESULTS / f"{config.preset}-{models.name.replace('/', '-')}-{digest(fixed)[:8]}"
    )
    return Prepared(config, catalog, concepts, chosen, models, plan, fixed, folder, device)


def open_catalog(config: Config) -> Catalog:
    """The suite that was asked for; else the drawn concepts for a miniature, the photographs for anything else."""
    from benchmarks.importers import open_suite

    place = backbone_names().get(config.backbone, Path(config.backbone))
    return open_suite(config.suite or ("miniature" if (place / "scorer").is_dir() else "photos"))


def with_suite(config: Config, catalog: Catalog) -> Config:
    """Another suite brings its own number of images, steps and guidance, where nothing else was asked for."""
    theirs, plain = catalog.protocol, Config()
    wanted: dict[str, Any] = {"images": theirs.images_per_prompt, "steps": theirs.steps, "guidance": theirs.guidance}
    if theirs == PERFUSION or config.preset != "paper":
        return config
    return replace(
        config, **{key: value for key, value in wanted.items() if getattr(config, key) == getattr(plain, key)}
    )


def with_masks(
    config: Config, chosen: tuple[Method, ...], catalog: Catalog, concepts: tuple[Concept, ...]
) -> tuple[tuple[Method, ...], Catalog, tuple[Concept, ...]]:
    """The masks that were asked for, where a method looks at masks at all; `none` also tells the methods so."""
    if config.masks == "none":
        chosen = tuple(replace(m, config={**m.config, "masks": False}) if "masks" in m.config else m for m in chosen)
    elif not any(method.config.get("masks") for method in chosen):
        return chosen, catalog, concepts
    masked = masks.chooser(config.masks, config.clipseg)
    pairs = {name for pair in config.pairs for name in pair.split("+")}
    others = tuple(masked(c) if c.images and c.name in pairs else c for c in catalog.concepts)
    return chosen, replace(catalog, concepts=others), tuple(masked(concept) for concept in concepts)


# ---- the verbs ----


def plan(config: Config, as_json: bool) -> int:
    """Print what is planned and done; write nothing."""
    prepared = prepare(config)
    about = look(prepared)
    print(json.dumps(about, indent=1) if as_json else f"{prepared.folder}\n{as_text(about)}")
    return 0


def look(prepared: Prepared) -> dict[str, Any]:
    store = Store(prepared.folder)
    done = store.done(prepared.plan, scorer_names(prepared.models)) if prepared.folder.is_dir() else set()
    return {"out": str(prepared.folder), **forecast(store, prepared.plan, done)}


def run(config: Config, argv: Sequence[str], *, dry_run: bool = False, allow_missing: bool = False) -> int:
    """Train, generate, score what is missing; write and print the tables."""
    if dry_run:
        return plan(config, as_json=False)
    prepared = prepare(config)
    store = open_folder(prepared, argv)
    outcome = work(prepared, store)
    return finish(prepared, store, outcome, allow_missing)


def open_folder(prepared: Prepared, argv: Sequence[str]) -> Store:
    """Refuse another protocol's folder; record what is asked; put the concepts' pictures there."""
    store, models = Store(prepared.folder), prepared.models
    with store.locks.locked("run.json"):
        old = read_json(prepared.folder / "run.json") or {}
        if old and old.get("protocol") != prepared.protocol:
            refuse(prepared, old["protocol"])
        rows = {_address(row): row for row in (read_planned(prepared.folder) if old else ())}
        rows |= {_address(row): row for row in map(as_row, prepared.plan.cells)}
        store.write_text(prepared.folder / "plan.csv", planned_text(rows.values()))
        digests = {**prepared.catalog.digests, "plan": prepared.plan.digest}
        about = provenance.about_run(
            old,
            prepared.config,
            models,
            prepared.methods,
            argv=argv,
            protocol=prepared.protocol,
            digests=digests,
            device=prepared.device,
        )
        store.write_text(prepared.folder / "run.json", json.dumps(about, indent=1) + "\n")
    masks.make_missing(planned_concepts(prepared), prepared.config.clipseg, prepared.device)
    for concept in planned_concepts(prepared):
        store.publish_concept(concept.name, concept_key(concept, models), partial(pictures, concept, models.size))
    return store


def refuse(prepared: Prepared, old: Mapping[str, Any]) -> None:
    changes = "; ".join(difference(old, prepared.protocol))
    other = (
        RESULTS / f"{prepared.config.preset}-{prepared.models.name.replace('/', '-')}-{digest(prepared.protocol)[:8]}"
    )
    if other == prepared.folder:
        other = prepared.folder.with_name(prepared.folder.name + "-2")
    raise UserError(
        f"{prepared.folder} holds a run of another protocol ({changes}); numbers of both must not be mixed: "
        f"give the old settings, or another folder, such as --out {other}"
    )


def _address(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["method"], row["point"], row["concept"], row["prompt_id"]


def planned_concepts(prepared: Prepared) -> list[Concept]:
    """The selected concepts, and those of pairs."""
    known = {concept.name: concept for concept in prepared.concepts}
    names = dict.fromkeys(name for cell in prepared.plan.cells for name in cell.concepts)
    return [known[name] if name in known else prepared.catalog.concept(name) for name in names]


def concept_key(concept: Concept, models: Models) -> str:
    return digest(["concept", concept.digest, models.size])


def pictures(concept: Concept, size: int, out: Path) -> None:
    """A concept's images, and masks where it has them, as the backbone draws: squares of its size."""
    from PIL import Image

    from benchmarks.images import load_mask, load_rgb

    for number, path in enumerate(concept.images):
        Image.fromarray(load_rgb(path, size)).save(out / f"{number}.png")
    if concept.masks:
        (out / "masks").mkdir()
    for number, path in enumerate(concept.masks):
        Image.fromarray(load_mask(path, size)).save(out / "masks" / f"{number}.png")


def scorer_names(models: Models) -> list[str]:
    return [scorer.name for scorer in models.scorers]


# ---- doing it ----


def work(prepared: Prepared, store: Store) -> Outcome:
    """Everything that is missing, by the engine that was asked for."""
    from benchmarks.engines import make_pool
    from benchmarks.work import Job

    plan, models = prepared.plan, prepared.models
    resumed = [fit.key for fit in plan.fits]
    store.sweep(keep=resumed)
    done = store.done(plan, scorer_names(models))
    concepts = {c.name: (concept_key(c, models), c.group, len(c.images)) for c in planned_concepts(prepared)}
    cells = [{**as_row(cell), "seeds": cell.seeds} for cell in plan.cells]
    scoring = Scoring(store, cells, concepts, scorer_names(models), drop=prepared.config.drop_images)
    about = forecast(store, plan, done)
    total = about["total"]
    print(f"perfbench: {prepared.folder}: {total['fits'] - total['fits_done']} fits and "
          f"{total['images'] - total['images_done']} images to do", file=sys.stderr)  # fmt: skip
    progress = Progress(total["images"] - total["images_done"])
    job = Job(
        config=prepared.config,
        models=models,
        asymmetric=frozenset(c.name for c in planned_concepts(prepared) if c.asymmetric),
        validation=prepared.catalog.validation,
        every_prompt=prepared.catalog.protocol.image_prompts == "all",
        device=prepared.device,
        threads=prepared.config.threads,
    )
    driver = Driver(store, plan, scoring, done, progress)
    try:
        return driver.run(make_pool(job, store))
    finally:
        progress.close()
        record(store, plan, driver.outcome)
        store.sweep(keep=[key for key in resumed if key not in driver.outcome.done])


def record(store: Store, plan: Plan, outcome: Outcome) -> None:
    """Counts, failures and seconds into run.json."""
    units = {"priors": plan.priors, "fits": plan.fits, "cells": plan.cells}
    keys = {kind: {unit.key for unit in of} for kind, of in units.items()}  # type: ignore[attr-defined]
    failed, done = outcome.failed.keys() | outcome.skipped.keys(), outcome.done
    counts = {k: {"planned": len(v), "done": len(v & done), "failed": len(v & failed)} for k, v in keys.items()}
    failures = [{"unit": name, "error": text.strip().splitlines()[-1]} for name, text in outcome.failed.values()]

    def change(about: dict[str, Any]) -> None:
        seconds = about.get("seconds", {})
        about["units"], about["failures"], about["weights"] = counts, failures, read_weights(store.root)
        about["seconds"] = {k: round(seconds.get(k, 0.0) + v, 3) for k, v in outcome.seconds.items()}
        whole = all(c["done"] == c["planned"] for c in counts.values())
        about["finished"] = provenance.now() if whole else None

    change_run(store, change)


def change_run(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    """run.json, changed while nobody else changes it."""
    with store.locks.locked("run.json"):
        about = read_json(store.root / "run.json") or {}
        change(about)
        store.write_text(store.root / "run.json", json.dumps(about, indent=1) + "\n")


def finish(prepared: Prepared, store: Store, outcome: Outcome, allow_missing: bool) -> int:
    """The tables on stdout; failures on stderr and as exit status."""
    from benchmarks.tables import write_tables

    seconds = sum(outcome.seconds.values())
    made = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in outcome.made.items() if n) or "nothing new"
    print(f"perfbench: {made} in {duration(seconds)} of work", file=sys.stderr)
    if outcome.failed:
        print(f"perfbench: {len(outcome.failed)} failed (tracebacks in {store.failures}):\n{summary(outcome)}",
              file=sys.stderr)  # fmt: skip
    if outcome.failed and not allow_missing:
        print("perfbench: no table, because it would not be the planned one; the same command tries again, "
              "--allow-missing averages what is there", file=sys.stderr)  # fmt: skip
        return 1
    print(write_tables(store.root, allow_missing=allow_missing))
    store.sweep(keep=[fit.key for fit in prepared.plan.fits])
    return 1 if outcome.failed else 0
