"""`perfbench score`: rows again from the images of a run folder, on this machine or another. Needs
no backbone.

In: plan.csv, concepts/ and images/. Out: rows/ and the tables.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name
from benchmarks.disk import read_manifest, verified
from benchmarks.paths import backbone_place
from benchmarks.planning.backbones import Models
from benchmarks.planning.config import Config, resolve
from benchmarks.planning.units import Plan
from benchmarks.running.driver import Driver, failures_text
from benchmarks.running.engines import make_pool
from benchmarks.running.missing_rows import Scoring
from benchmarks.running.progress import Progress, duration
from benchmarks.running.run import change_run, complete, to_be_scored
from benchmarks.running.scorers_beforehand import tell_modern
from benchmarks.running.subject_scores import CLIPSEG, usual_segmenter
from benchmarks.running.tasks import Job
from benchmarks.scoring.calls import Calls
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import MAY_BE_SILENT, Scorer, find_scorer, is_judge
from benchmarks.scoring.modern import spelled_out
from benchmarks.store.reading import find_run, read_cells, read_run, refuse_older, refuse_without
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import scorer_about
from perfusion_core.errors import UserError

NEEDED = (
    "config.preset",
    "config.backbone",
    "config.scorers",
    "backbone.id",
    "backbone.sha256",
    "backbone.size",
    "select_scorer.weights",
    "dtype",
    "protocol",
)


def rescore(
    given: str | None,
    scorers: Sequence[str] = (),
    *,
    again: bool = False,
    device: str = "auto",
    allow_missing: bool = False,
    limit: int = 0,
    cache: str = "usual",
    measures: bool = False,
    subject: str = "",
) -> int:
    """Rows that are missing, or all of them with `again`, and the tables. `limit`: calls of
    judges. `measures`: also rows without measures beyond the protocol that they could have.
    `cache`: `none` takes nothing of what is known, and keeps nothing. `subject`: the CLIPSeg that
    cuts the thing out."""
    from benchmarks.tables.build import write_tables

    folder = find_run(given)
    wanted: dict[str, Any] = {"again": again, "device": device, "limit": limit, "cache": cache}
    wanted |= {"measures": measures, "subject": subject}
    if status := score_missing(folder, scorers, **wanted):
        return status
    print(write_tables(folder, allow_missing))
    return 0


def score_missing(
    folder: Path,
    scorers: Sequence[str] = (),
    *,
    again: bool = False,
    device: str = "auto",
    limit: int = 0,
    cache: str = "usual",
    measures: bool = False,
    subject: str = "",
) -> int:
    """The rows alone; more `scorers` are added to the run. -> 1 where any failed."""
    from benchmarks.running.judged_cells import announce, judges_of, known_answers, told

    about, store = read_run(folder), Store(folder)
    refuse_older(folder, about)  # run.json would be written again
    refuse_without(folder, about, NEEDED)
    config = replace(recorded_config(about), cache=cache)
    cells, gone = scorable(store, drift=True)
    place = backbone_place(config.backbone)
    scorers = spelled_out(scorers, place)
    tell_modern(scorers, sum(len(cell.seeds) for cell in cells), device_name(device))
    models = recorded_models(about, config, scorers)
    names = [scorer.name for scorer in models.scorers]
    if gone:
        print(
            f"perfbench: {gone} of {gone + len(cells)} planned cells have no whole images here",
            file=sys.stderr,
        )
    concepts = concepts_of(store, cells)
    measured = {one.name for one in models.scorers if one.kind not in MAY_BE_SILENT}
    if measures:
        bring_heldout(store, about, config, models.size, list(concepts))
    segmenter = f"{CLIPSEG}:{subject}" if subject else usual_segmenter(place)
    scoring = Scoring(
        store, cells, concepts, names, again=again,
        measured=measured if measures or subject else (), alone=bool(segmenter),
    )  # fmt: skip
    here = {cell.key for cell in cells}
    judges, calls, answers = judges_of(models.scorers), Calls(limit), known_answers(config.cache)
    if judges:
        announce(scoring, judges, answers, limit, "--limit")
    progress = Progress(scoring.images(here))
    driver = Driver(store, Plan((), (), ()), scoring, here, progress)
    job = Job(
        config,
        models,
        frozenset(),
        (),
        about["protocol"].get("image_prompts") == "all",
        device_name(device),
        segmenter=segmenter,
        calls=calls,
    )
    try:
        outcome = driver.run(make_pool(job, store))
    finally:
        progress.close()
    planned = to_be_scored(store, about, read_cells(folder))

    def record(run: dict[str, Any]) -> None:
        reported, *others = joined(run["scorers"], models.scorers)
        run["scorers"] = [reported, *complete(store, others, planned)]

    change_run(store, record)
    if outcome.failed:
        print(
            f"perfbench: {len(outcome.failed)} failed:\n{failures_text(outcome)}", file=sys.stderr
        )
        return 1
    if judges:
        print(f"perfbench: {told(calls)}", file=sys.stderr)
    if seconds := outcome.seconds["scores"]:
        print(f"perfbench: scoring took {duration(seconds)}", file=sys.stderr)
        answers.cache.prune()
    return int(calls.failed)


def joined(recorded: Sequence[dict[str, str]], scorers: Sequence[Scorer]) -> list[dict[str, str]]:
    """What run.json says of scorers: those that were asked for, and those of other commands, whose
    rows stay.
    """
    found = {scorer.name: scorer_about(scorer) for scorer in scorers}
    return [*found.values(), *(about for about in recorded if about["name"] not in found)]


def recorded_config(about: dict[str, Any]) -> Config:
    """The configuration of a run, with this machine's place for the work."""
    kept = {
        key: value
        for key, value in about["config"].items()
        if key in ("preset", "backbone", "scorers")
    }
    return resolve(
        preset=kept["preset"], flags={"backbone": kept["backbone"], "scorers": kept["scorers"]}
    )


def recorded_models(about: dict[str, Any], config: Config, more: Sequence[str]) -> Models:
    """The scorers of a run as they are found here, the reported one first: it must be the same,
    wherever it lies.
    """
    place = backbone_place(config.backbone)
    reported = about["scorers"][0]["name"]

    def named(given: Sequence[str]) -> dict[str, Scorer]:
        found = (
            as_recorded(find_scorer(name, about["backbone"]["id"], place), about) for name in given
        )
        return {scorer.name: scorer for scorer in found}

    extra = named(more)
    # where pictures and a key are sent, this command says, and never a file
    recorded = [name for name in spelled_out(config.scorers, place) if not is_judge(name)]
    known = named(recorded[1:] if reported in extra else recorded)
    found = {**known, **extra}
    for scorer in found.values():
        if scorer.weights == about["select_scorer"]["weights"]:
            raise UserError(
                f"{scorer.name} picked this run's training steps, so it must not be reported "
                f"too; name another scorer"
            )
    if reported not in found:
        raise UserError(
            f"the run was scored by {reported}, but {config.scorers[0]!r} is "
            f"{next(iter(known), 'nothing')} on this machine, and their rows are not comparable: "
            f"name the folder of the run's scorer with --scorers"
        )
    first = found.pop(reported)
    backbone = about["backbone"]
    return Models(
        backbone["id"], "", "", backbone["sha256"], "", about["dtype"], backbone["size"], 0, False,
        (first, *found.values()), first,
    )  # fmt: skip


def as_recorded(scorer: Scorer, about: dict[str, Any]) -> Scorer:
    """The same model has the run's name for it, wherever its folder lies here."""
    same = (scorer.kind, scorer.weights, scorer.preprocessing)
    told = ("kind", "weights", "preprocessing")
    names = [one["name"] for one in about["scorers"] if tuple(map(one.get, told)) == same]
    return replace(scorer, name=names[0]) if names else scorer


def scorable(store: Store, drift: bool = False) -> tuple[list[CellRow], int]:
    """Planned cells whose images are here and whole, with their seeds; and how many are not.
    `drift`: with those that measure it, which nobody is asked about."""
    cells: list[CellRow] = []
    planned = read_cells(store.root, drift)
    for cell in planned:
        found = verified(store.images(*cell.address, cell.prompt_id), "cell.json", cell.key)
        if found and seeds_fit(found.get("seeds"), cell, bool(found.get("unpaired"))):
            cells.append(replace(cell, seeds=tuple(found["seeds"])))
    return cells, len(planned) - len(cells)


def bring_heldout(
    store: Store, about: dict[str, Any], config: Config, size: int, concepts: Sequence[str]
) -> None:
    """Held-out pictures that the run's suite has of its concepts, where the run was made without
    any: of the same pictures, by their digests.
    """
    from benchmarks.running.prepared import open_catalog, publish_heldout

    lacking = [name for name in concepts if not store.heldout(name).is_dir()]
    known = about.get("digests", {}).get("concepts", {})
    try:
        suite = str(about["config"].get("suite") or "")
        catalog = open_catalog(replace(config, suite=suite)) if lacking else None
    except UserError as error:
        print(f"perfbench: no held-out pictures are looked for: {error}", file=sys.stderr)
        return
    for name in lacking:
        found = {one.name: one for one in (catalog.concepts if catalog else ())}.get(name)
        if found and found.digest[:16] == known.get(name):
            publish_heldout(store, found, size)
    if without := [name for name in lacking if not store.heldout(name).is_dir()]:
        print(
            f"perfbench: without held-out pictures, and so without likeness to them: "
            f"{', '.join(without[:8])}{' ...' if len(without) > 8 else ''}",
            file=sys.stderr,
        )


def seeds_fit(seeds: Any, cell: CellRow, some: bool = False) -> bool:
    """Whether cell.json tells a seed for each planned image; of what was imported `some` are
    enough.
    """
    return (
        isinstance(seeds, list)
        and (len(seeds) == cell.n or (some and 0 < len(seeds) < cell.n))
        and all(type(seed) is int for seed in seeds)
    )


def refuse_damaged(heldout: Path) -> None:
    """Held-out pictures are whole, or not there."""
    if not heldout.is_dir():
        return
    about = read_manifest(heldout / "heldout.json")
    if about is None or verified(heldout, "heldout.json", about["key"]) is None:
        raise UserError(
            f"{heldout} is damaged; remove it, and `perfbench score --measures` brings it back "
            f"from the run's suite"
        )


def concepts_of(store: Store, cells: Sequence[CellRow]) -> dict[str, tuple[str, str, int]]:
    """name -> key of its pictures, group, how many."""
    cells = [cell for cell in cells if not cell.is_base]
    groups = {cell.concept: cell.group for cell in cells}
    out = {}
    for name in dict.fromkeys(part for cell in cells for part in cell.concept.split("+")):
        about = read_manifest(store.concept(name) / "concept.json")
        if about is None or verified(store.concept(name), "concept.json", about["key"]) is None:
            raise UserError(
                f"{store.concept(name)} is missing or damaged, and the concept's images are "
                f"needed to score: bring that folder back, or make the run again"
            )
        refuse_damaged(store.heldout(name))
        count = sum(path.count("/") == 0 for path in about["files"])
        out[name] = (about["key"], groups.get(name, ""), count)
    return out
