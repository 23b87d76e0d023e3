"""`perfbench score`: rows again from the images of a run folder, on this machine or another. Needs no backbone.

In: plan.csv, concepts/ and images/. Out: rows/ and the tables.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import change_run
from benchmarks.config import Config, resolve
from benchmarks.drive import Driver, summary
from benchmarks.engines import make_pool
from benchmarks.models import Models, Scorer, backbone_names, device_name, find_scorer
from benchmarks.plan import Plan
from benchmarks.progress import Progress
from benchmarks.provenance import scorer_about
from benchmarks.scoring import Scoring
from benchmarks.store import Store, find_run, read_json, read_planned, read_run, verified
from benchmarks.work import Job
from perfusion_core.errors import UserError


def rescore(given: str | None, scorers: Sequence[str] = (), *, again: bool = False, device: str = "auto") -> int:
    """Rows that are missing, or all of them with `again`; more `scorers` are added to the run."""
    from benchmarks.tables import write_tables

    folder = find_run(given)
    about, store = read_run(folder), Store(folder)
    config = recorded_config(about)
    models = recorded_models(about, config, scorers)
    cells, gone = scorable(store)
    names = [scorer.name for scorer in models.scorers]
    if gone:
        print(f"perfbench: {gone} of {gone + len(cells)} planned cells have no whole images here", file=sys.stderr)
    if again:
        for cell in cells:
            for name in names:
                store.drop_rows(name, cell["method"], cell["point"], cell["concept"])
    scoring = Scoring(store, cells, concepts_of(store, cells), names)
    driver = Driver(store, Plan((), (), ()), scoring, {cell["key"] for cell in cells}, Progress(0))
    job = Job(config, models, frozenset(), (), about["protocol"].get("image_prompts") == "all", device_name(device))
    outcome = driver.run(make_pool(job, store))
    change_run(store, lambda run: run.update(scorers=[scorer_about(scorer) for scorer in models.scorers]))
    if outcome.failed:
        print(f"perfbench: {len(outcome.failed)} failed:\n{summary(outcome)}", file=sys.stderr)
        return 1
    print(write_tables(folder))
    return 0


def recorded_config(about: dict[str, Any]) -> Config:
    """The configuration of a run, with this machine's place for the work."""
    kept = {key: value for key, value in about["config"].items() if key in ("preset", "backbone", "scorers")}
    return resolve(preset=kept["preset"], flags={"backbone": kept["backbone"], "scorers": kept["scorers"]})


def recorded_models(about: dict[str, Any], config: Config, more: Sequence[str]) -> Models:
    """The scorers of a run as they are found here; the reported one must be the same."""
    place = backbone_names().get(config.backbone, Path(config.backbone).expanduser())
    found: list[Scorer] = []
    for given in (*config.scorers, *more):
        scorer = find_scorer(given, about["backbone"]["id"], place)
        if scorer.weights == about["select_scorer"]["weights"]:
            raise UserError(f"{given} picked this run's training steps; nothing may be fitted to the judge")
        if scorer.name not in {other.name for other in found}:
            found.append(scorer)
    reported = about["scorers"][0]["name"]
    if found[0].name != reported:
        raise UserError(
            f"the run was scored by {reported}, and {config.scorers[0]!r} is {found[0].name} on this machine; "
            "their rows are not comparable"
        )
    backbone = about["backbone"]
    return Models(
        backbone["id"], "", "", backbone["sha256"], "", about["dtype"], backbone["size"], False, tuple(found), found[0]
    )


def scorable(store: Store) -> tuple[list[dict[str, Any]], int]:
    """Planned cells whose images are here and whole, with their seeds; and how many are not."""
    cells: list[dict[str, Any]] = []
    planned = read_planned(store.root)
    for row in planned:
        folder = store.images(row["method"], row["point"], row["concept"], row["prompt_id"])
        found = verified(folder, "cell.json", row["key"])
        if found:
            cells.append({**row, "seeds": found["seeds"]})
    return cells, len(planned) - len(cells)


def concepts_of(store: Store, cells: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str, int]]:
    """name -> key of its pictures, group, how many."""
    groups = {row["concept"]: row["group"] for row in cells}
    out = {}
    for name in dict.fromkeys(part for row in cells for part in row["concept"].split("+")):
        about = read_json(store.concept(name) / "concept.json")
        if about is None or verified(store.concept(name), "concept.json", about.get("key", "")) is None:
            raise UserError(f"{store.concept(name)} is missing or damaged: the concept's images are needed to score")
        count = sum(path.count("/") == 0 for path in about["files"])
        out[name] = (about["key"], groups.get(name, ""), count)
    return out
