"""`perfbench run` and `plan`: a Config in; a run folder with its table out.

Reading order: prepare (prepared.py: what is asked) -> open_folder (may it be done here) -> work ->
finish (tables).
"""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.digests import difference
from benchmarks.disk import read_json, read_manifest
from benchmarks.planning.backbones import preset_note, vae_note
from benchmarks.planning.config import Config
from benchmarks.planning.units import Plan
from benchmarks.running.beforehand import (
    faster,
    tell,
    time_left,
    without_drift,
    without_pairs,
    workers,
)
from benchmarks.running.driver import Driver, Outcome, Stops, counted, failures_text
from benchmarks.running.familiar import warnings_of
from benchmarks.running.forecast import as_text, forecast, images_left
from benchmarks.running.given_files import place_given
from benchmarks.running.known_seconds import remember
from benchmarks.running.missing_rows import Scoring
from benchmarks.running.prepared import (
    Prepared,
    concept_key,
    frames_of,
    planned_concepts,
    prepare_run,
    publish_pictures,
    refuse_imported,
    scorer_names,
    usual_folder,
)
from benchmarks.running.progress import Progress, duration
from benchmarks.running.ratings_file import same_pictures
from benchmarks.running.trackers import Target, targets
from benchmarks.running.training_log import TrainingLog, logged
from benchmarks.running.whole_concepts import WholeConcepts
from benchmarks.scoring.calls import Calls
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import RATINGS
from benchmarks.store import run_json
from benchmarks.store.csv_files import count_keys, keys_of, planned_text, read_plan_file
from benchmarks.store.reading import imported_methods, read_weights
from benchmarks.store.run_folder import Store
from benchmarks.store.unit_cache import unit_cache
from benchmarks.suite import concept_masks
from perfusion_core.errors import UserError


def plan(config: Config, as_json: bool) -> int:
    """Print what is planned and done; write nothing."""
    return show_plan(prepare_run(config), as_json)


def show_plan(prepared: Prepared, as_json: bool = False) -> int:
    about = plan_status(prepared)
    if as_json:
        print(json.dumps(about, indent=1))
        return 0
    print(f"{prepared.folder}\n{as_text(about)}")
    for told in filter(None, (without_drift(prepared), without_pairs(prepared))):
        print(told)
    if advice := faster(prepared, images_left(about)):
        print(advice)
    for told in (preset_note(prepared.models, prepared.config.preset), vae_note(prepared.models)):
        if told:
            print(told)
    return 0


def plan_status(prepared: Prepared) -> dict[str, Any]:
    store = Store(prepared.folder)
    done = (
        store.done(prepared.plan, scorer_names(prepared.models))
        if prepared.folder.is_dir()
        else set()
    )
    done |= prepared.plan.spared(done)
    about = forecast(store, prepared.plan, done, workers(prepared))
    found = time_left(prepared, done).range() if about["not_timed"] else None
    return {"out": str(prepared.folder), **about, "seconds_range": found}


def run(
    config: Config,
    argv: Sequence[str],
    *,
    dry_run: bool = False,
    allow_missing: bool = False,
    stops: Stops = Stops(),  # noqa: B008  frozen
    log: Sequence[str] = (),
) -> int:
    """Train, generate, score what is missing; write and print the tables. `log`: who is told."""
    where = targets(log)
    prepared = prepare_run(config)
    if dry_run:
        return show_plan(prepared)
    return run_prepared(prepared, argv, allow_missing=allow_missing, stops=stops, log=where)


def run_prepared(
    prepared: Prepared,
    argv: Sequence[str],
    *,
    allow_missing: bool = False,
    stops: Stops = Stops(),  # noqa: B008  frozen
    log: Sequence[Target] = (),
    whole: Callable[[str], None] | None = None,
) -> int:
    """The same of what was found and planned. `whole` is told of each concept that has all
    scores."""
    most = max((len(cell.seeds) for cell in prepared.plan.cells), default=0)
    if 0 < stops.images < most:
        raise UserError(
            f"--limit {stops.images}: a prompt has {most} images, which are drawn together; give "
            f"at least {most}"
        )
    for told in warnings_of(planned_concepts(prepared), prepared.models, prepared.device):
        print(f"perfbench: {told}", file=sys.stderr)
    if told := preset_note(prepared.models, prepared.config.preset):
        print(f"perfbench: {told}", file=sys.stderr)
    with logged(log, prepared.folder, prepared.protocol) as watch:
        store = open_folder(prepared, argv)
        outcome = work(prepared, store, stops, watch, whole)
        status = finish_run(prepared, store, outcome, allow_missing)
        if watch and status == 0 and not outcome.stopped:
            watch.tables(store.root)
        return status


def open_folder(prepared: Prepared, argv: Sequence[str]) -> Store:
    """Refuse another protocol's folder; record what is asked; put the concepts' pictures there."""
    store, models, plan_file = Store(prepared.folder), prepared.models, prepared.folder / "plan.csv"
    with store.locks.locked("run.json"):
        old = read_json(prepared.folder / "run.json") or {}
        # damaged: made again
        old = old if old.get("schema") != run_json.SCHEMA or run_json.can_go_on(old) else {}
        refuse_others(prepared, old)
        before = read_plan_file(plan_file) or ()
        if not old:
            refuse_lost(prepared, map(CellRow.read, before))
            before = ()
        planned = (*prepared.plan.cells, *prepared.plan.drift)
        rows = [*map(CellRow.read, before), *(cell.row for cell in planned)]
        # of one place the later command's
        rows = list({(*row.address, row.prompt_id): row for row in rows}.values())
        store.write_text(plan_file, planned_text(map(vars, rows)))
        about = run_json.about_run(
            old,
            prepared.config,
            models,
            prepared.methods,
            argv=argv,
            protocol=prepared.protocol,
            digests=run_json.joined(old.get("digests", {}), prepared.digests),
            words={one.name: one.super_category for one in planned_concepts(prepared)},
            device=prepared.device,
        )
        run_json.add_columns(about, prepared.catalog, rows, prepared.concepts)
        mine = {scorer["name"] for scorer in about["scorers"]}
        # by `perfbench score`
        added = [scorer for scorer in old.get("scorers", ()) if scorer["name"] not in mine]
        about["scorers"] += complete(store, added, to_be_scored(store, about, rows))
        store.write_text(prepared.folder / "run.json", json.dumps(about, indent=1) + "\n")
        # of a method that was changed since
        store.forget_failures(keys_of(before) - store.planned_keys())
    concept_masks.make_missing(planned_concepts(prepared), prepared.config.clipseg, prepared.device)
    for concept in planned_concepts(prepared):
        publish_pictures(store, concept, models.size)
    return store


def complete(
    store: Store, scorers: Iterable[dict[str, str]], rows: Collection[CellRow]
) -> list[dict[str, str]]:
    """Of scorers beside the reported one those that have scored every planned image: the tables
    need all of it.
    """
    kept = []
    groups = dict.fromkeys(row.address for row in rows)
    for scorer in scorers:
        there = count_keys(store.rows_file(scorer["name"], *group) for group in groups)
        whole = all(there[row.key] == row.n for row in rows)
        if whole and (scorer.get("kind") != RATINGS or same_pictures(store, scorer["name"])):
            kept.append(scorer)
        else:
            rated = scorer.get("kind") == RATINGS
            again = f"--from FILE --scorer {scorer.get('source')}" if rated else "--scorers ..."
            print(
                f"perfbench: {scorer['name']} has not scored every planned image"
                f"{' as it is now' * rated}: the tables are without it until "
                f"`perfbench score {store.root} {again}` names it again",
                file=sys.stderr,
            )
    return kept


def to_be_scored(
    store: Store, about: Mapping[str, Any], rows: Collection[CellRow]
) -> list[CellRow]:
    """The planned cells, of imported ones as many images as there are."""
    imported, kept = imported_methods(about), []
    for row in rows:
        if row.drifts:  # which no table needs of a scorer beside the reported one
            continue
        if row.method in imported:
            found = read_manifest(store.images(*row.address, row.prompt_id) / "cell.json") or {}
            row = replace(row, n=len(found.get("files", ())))
        kept += [row] if row.n else []
    return kept


def refuse_others(prepared: Prepared, old: Mapping[str, Any]) -> None:
    """A folder holds one protocol, and a name in it means one thing."""
    if not old:
        return
    refuse_imported(prepared.folder, old, [method.name for method in prepared.methods])
    other = usual_folder(prepared.config, prepared.models, prepared.protocol)
    if other.absolute() == prepared.folder.absolute() or old.get("protocol") == prepared.protocol:
        other = prepared.folder.with_name(prepared.folder.name + "-2")
    if old.get("schema") != run_json.SCHEMA:
        raise UserError(
            f"{prepared.folder} was made by another version of perfbench (run.json of schema "
            f"{old.get('schema')}, "
            f"this one writes {run_json.SCHEMA}); give another folder, such as --out {other}"
        )
    changes = difference(old["protocol"], prepared.protocol) + run_json.changed(
        old["digests"], prepared.digests
    )
    if changes:
        what = (
            "with other concepts or prompts"
            if old["protocol"] == prepared.protocol
            else "of another protocol"
        )
        raise UserError(
            f"{prepared.folder} holds a run {what} ({'; '.join(changes)}); numbers of both must "
            f"not be mixed: "
            f"give the old settings, or another folder, such as --out {other}"
        )


def refuse_lost(prepared: Prepared, before: Iterable[CellRow]) -> None:
    """Without a run.json plan.csv alone tells whose pictures lie here: what both plan, they plan
    alike."""
    keys = {(*row.address, row.prompt_id): row.key for row in before}
    for cell in (*prepared.plan.cells, *prepared.plan.drift):
        row = cell.row
        if keys.get((*row.address, row.prompt_id), row.key) != row.key:
            raise UserError(
                f"{prepared.folder} has no run.json that can be read, and its plan.csv has other "
                f"settings for {row.concept} {row.prompt_id} than these: give the old settings, or "
                f"another folder, such as --out {prepared.folder}-2"
            )


# ---- doing it ----


def work(
    prepared: Prepared,
    store: Store,
    stops: Stops = Stops(),  # noqa: B008  frozen
    watch: TrainingLog | None = None,
    whole: Callable[[str], None] | None = None,
) -> Outcome:
    """Everything that is missing, by the engine that was asked for."""
    from benchmarks.running.engines import make_pool
    from benchmarks.running.judged_cells import announce, judges_of, known_answers, told
    from benchmarks.running.subject_scores import usual_segmenter
    from benchmarks.running.tasks import Job

    plan, models = prepared.plan, prepared.models
    cache = unit_cache()  # its size may be none
    store.sweep()
    done = store.done(plan, scorer_names(models))
    drawn = plan.drawn
    done |= place_given(store, drawn, done)
    concepts = {
        c.name: (concept_key(c, models.size), c.group, len(c.images))
        for c in planned_concepts(prepared)
    }
    cells = [cell.row for cell in drawn]
    scoring = Scoring(
        store, cells, concepts, scorer_names(models), drop=prepared.config.drop_images
    )
    concepts_whole = WholeConcepts(store, plan, scoring, prepared.config.drop_fits, whole)
    done |= concepts_whole.spent
    judges, calls = judges_of(models.scorers), Calls(stops.calls)
    if judges:
        answers = known_answers(prepared.config.cache)
        announce(scoring, judges, answers, stops.calls, "--judge-limit")
    settled = done | plan.spared(done)
    about = forecast(store, plan, settled)
    left = images_left(about)
    ahead = time_left(prepared, settled)
    tell(prepared, about, ahead, stops)
    progress = Progress(left, left=ahead)
    job = Job(
        config=prepared.config,
        models=models,
        asymmetric=frozenset(c.name for c in planned_concepts(prepared) if c.asymmetric),
        validation=prepared.catalog.validation,
        every_prompt=prepared.catalog.protocol.image_prompts == "all",
        device=prepared.device,
        threads=prepared.config.threads,
        segmenter=usual_segmenter(Path(models.place)),
        frames=frames_of(planned_concepts(prepared), models),
        watched=watch is not None,
        calls=calls,
    )
    driver = Driver(
        store,
        plan,
        scoring,
        done,
        progress,
        stops,
        watch,
        by_concept=prepared.config.by_concept,
        scored=concepts_whole.scored,
    )
    try:
        outcome = driver.run(make_pool(job, store))
        for address in scoring.cells:
            scoring.drop_images(address)
        if judges:
            progress.note(told(calls))
            outcome.unjudged = calls.stopped if calls.failed else ""
        return outcome
    finally:
        progress.close()
        if watch:
            watch.finished(plan.fits)
        record(store, plan, driver.outcome)
        store.sweep(driver.outcome.done)
        known = (prepared.config, models, prepared.device, workers(prepared))
        remember(*known, progress.time_left)
        if prepared.config.cache != "none" and cache.limit and driver.outcome.made.total():
            cache.prune()


def record(store: Store, plan: Plan, outcome: Outcome) -> None:
    """Counts, failures and seconds into run.json."""
    units = {"priors": plan.priors, "fits": plan.fits, "cells": plan.cells}
    units |= {"drift": plan.drift} if plan.drift else {}
    keys = {kind: {unit.key for unit in of} for kind, of in units.items()}  # type: ignore[attr-defined]
    failed, done = outcome.failed.keys() | outcome.skipped.keys(), outcome.done
    counts = {
        k: {"planned": len(v), "done": len(v & done), "failed": len(v & failed)}
        for k, v in keys.items()
    }
    failures = [
        {"unit": name, "error": text.strip().splitlines()[-1]}
        for name, text in outcome.failed.values()
    ]

    def change(about: dict[str, Any]) -> None:
        seconds = about.get("seconds", {})
        before = about.get("units", {})
        for kind, count in counts.items():  # of all commands that were given in this folder
            taken = before.get(kind, {}).get("taken", 0) + outcome.taken[kind.removesuffix("s")]
            count.update({"taken": min(taken, count["done"])} if taken else {})
        about["units"], about["failures"] = counts, failures
        weights = about.get("weights", {})  # stay known where the trained files are gone
        about["weights"] = weights | {
            k: weights.get(k, {}) | new for k, new in read_weights(store.root).items()
        }
        about["seconds"] = {
            k: round(seconds.get(k, 0.0) + v, 3) for k, v in outcome.seconds.items()
        }
        # from committed rows: no fits
        cells = [count for kind, count in counts.items() if kind in ("cells", "drift")]
        whole = not failures and all(count["done"] == count["planned"] for count in cells)
        about["finished"] = run_json.now() if whole else None

    change_run(store, change)


def change_run(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    """run.json, changed while nobody else changes it."""
    with store.locks.locked("run.json"):
        about = read_json(store.root / "run.json") or {}
        change(about)
        store.write_text(store.root / "run.json", json.dumps(about, indent=1) + "\n")


def finish_run(prepared: Prepared, store: Store, outcome: Outcome, allow_missing: bool) -> int:
    """The tables on stdout; failures on stderr and as exit status."""
    from benchmarks.tables.build import write_tables

    seconds = sum(outcome.seconds.values())
    made = counted(outcome.made) or "nothing new"
    print(f"perfbench: {made} in {duration(seconds)} of work", file=sys.stderr)
    if taken := counted(outcome.taken):
        were = "was" if outcome.taken.total() == 1 else "were"
        print(
            f"perfbench: {taken} {were} taken from the cache of earlier runs; "
            f"--no-cache makes them again",
            file=sys.stderr,
        )
    if outcome.failed:
        print(
            f"perfbench: {len(outcome.failed)} failed (tracebacks in "
            f"{store.failures}):\n{failures_text(outcome)}",
            file=sys.stderr,
        )
    if outcome.stopped:
        print(
            f"perfbench: stopped {outcome.stopped}; the same command goes on from here",
            file=sys.stderr,
        )
    if outcome.stopped and not outcome.failed and not allow_missing:
        return 0
    if outcome.failed and not allow_missing:
        print(
            "perfbench: no table, because it would not be the planned one; the same command tries "
            "again, "
            "--allow-missing averages what is there",
            file=sys.stderr,
        )
        return 1
    print(write_tables(store.root, allow_missing=allow_missing))
    store.sweep(outcome.done)
    return 1 if outcome.failed or outcome.unjudged else 0
