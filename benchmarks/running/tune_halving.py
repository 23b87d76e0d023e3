"""`perfbench tune --halving`: many settings on few concepts, the better half on more of them.

In: the verb's arguments. Out: trainings.csv (a row a setting and concept), settings.csv,
expected.csv. Trials are ordinary runs in folders; a later round trains only the concepts it adds,
and a row of trainings.csv stands for its training where the folders are gone.

Validation picks training steps as it does in runs, by the scorer that is never reported, and the
same scorer scores: the reported one's weights decide nothing here.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.disk import write_whole
from benchmarks.planning.backbones import Models, find_models
from benchmarks.planning.config import Config, resolve
from benchmarks.planning.units import FLOOR, Plan, Unit
from benchmarks.running.missing_rows import Scoring
from benchmarks.running.prepared import (
    Prepared,
    chosen_concepts,
    concept_key,
    open_catalog,
    planned_concepts,
    prepare_run,
    scorer_names,
)
from benchmarks.running.refusals import refuse_known
from benchmarks.running.run import open_folder, work
from benchmarks.running.trial_settings import Searched, Setting, methods_to_search, searched
from benchmarks.running.tune import diverged, read_trials, refuse_other_failures
from benchmarks.store import run_json
from benchmarks.store.run_folder import Store
from benchmarks.tables import halving
from benchmarks.tables.build import cells_of
from benchmarks.tables.grid import CEILING, ceilings_of, grid_of
from benchmarks.tables.halving_rows import ABOUT, TRAININGS, frame_of, read_trainings
from benchmarks.tables.halving_text import told
from benchmarks.tables.one_number import SCALED, image_share
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import harmonic
from perfusion_core.errors import UserError

SETTINGS, EXPECTED = "settings.csv", "expected.csv"
FIT_KEY = 16  # digits of a training's key: a row stands for that training and for no other
Row = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """What is common to all trials."""

    args: argparse.Namespace
    models: Models
    rounds: tuple[halving.Round, ...]
    concepts: tuple[str, ...]  # of the suite, in the order in which they are added
    suite: str
    runs: Path
    known: Mapping[tuple[str, str, str], Row]  # method, setting, concept: rows of an earlier call

    @property
    def about(self) -> Row:
        asked = self.args
        rounds = ",".join(f"{one.settings}x{one.concepts}" for one in self.rounds)
        return {
            "backbone": self.models.name,
            "digest": self.models.digest[:12],
            "suite": self.suite,
            "search": f"{rounds}{' published' * bool(asked.published)} seed={asked.seed} "
            f"prompts={asked.prompts} images={asked.images} steps={asked.steps}",
        }


def tune_halving(args: argparse.Namespace) -> int:
    """All rounds of all methods; the tables and what they say."""
    files = tuple(filter(None, (args.method_files or "").split(",")))
    wanted = methods_to_search(args.methods, files)
    plain = config_of(args, (), "", ())
    catalog = open_catalog(plain)
    concepts = tuple(one.name for one in chosen_concepts(plain, catalog))
    rounds = halving.read_rounds(args.rounds, len(concepts))
    refuse_known(replace(plain, methods=tuple(wanted)))
    models = find_models(plain)
    out = Path(args.out or f"results/halving-{models.name.replace('/', '-')}")
    search = Search(args, models, rounds, concepts, catalog.name, out / "runs", {})
    rows, known = kept_rows(out / TRAININGS, wanted, search.about)
    search = replace(search, known=known)
    for name in wanted:
        of_method = searched(name, models.miniature, files, bool(args.published))
        mine: list[Row] = []
        for mine in search_method(search, of_method):
            there = {training_of(row) for row in (*rows, *mine)}
            later = [row for place, row in known.items() if place not in there]
            write_trainings(out, [*rows, *mine, *later])
        rows += mine
        write_tables(out, rows, rounds, wanted)
    write_trainings(out, rows)
    table = frame_of(rows)
    print(told(table[table["method"].isin(wanted)], rounds), end="")
    for name in (TRAININGS, SETTINGS, EXPECTED):
        print(out / name)
    print(f"perfbench plot tuning {shlex.quote(str(out))} draws what more trials would bring")
    return 0


def search_method(search: Search, of_method: Searched) -> Iterable[list[Row]]:
    """The rows so far, after every trial."""
    many, args = search.rounds[0].settings, search.args
    settings = of_method.settings(many, args.seed, bool(args.published))
    by_number = {one.number: one for one in settings}
    rows: list[Row] = []
    alive, before = list(by_number), 0
    for number, (count, concepts) in enumerate(search.rounds, 1):
        if number > 1:
            alive = halving.survivors(frame_of(rows), alive, count)
        for name in alive:
            print(
                f"perfbench: {of_method.method}, round {number} of {len(search.rounds)} "
                f"({len(alive)} settings, {concepts} concepts), setting {name}: "
                f"{by_number[name].words}",
                file=sys.stderr,
            )
            found = trial_rows(search, by_number[name], of_method.point, concepts)
            rows += [{**row, "round": number} for row in found[before:]]
            yield rows
        before = concepts


# ---- one trial ----


def config_of(
    args: argparse.Namespace, methods: Sequence[str], out: str, forced: Sequence[str]
) -> Config:
    """A run of the verb's arguments; what the search decides comes last."""
    flags = {
        "backbone": args.backbone,
        "suite": args.suite,
        "methods": tuple(methods) or (FLOOR,),
        "prompts": args.prompts,
        "device": args.device,
        "engine": args.engine,
        "workers": args.workers,
        "threads": args.threads,
        "out": out,
        "method_files": args.method_files,
        "cache": "none",  # the seconds of training are measured here
        "drift": False,  # of which nothing is tuned
    }
    sets = [f"images={args.images}", f"steps={args.steps}", *args.sets, "select_step=true"]
    return resolve(flags=flags, sets=[*sets, *forced])


def prepare_trial(
    search: Search, setting: Setting, point: str, concepts: Sequence[str]
) -> Prepared:
    """The run of one setting on these concepts. It is scored by what picks its steps, which a run
    that reports its scores may not be.
    """
    name, out = setting.method, search.runs / setting.method / setting.number
    forced = [f"concepts={','.join(concepts)}", f"points.{name}={point}"]
    forced += [f"fit.{name}.{rate}={value!r}" for rate, value in setting.rates.items()]
    config = config_of(search.args, (name,), str(out), forced)
    prepared = prepare_run(config)
    models = replace(prepared.models, scorers=(prepared.models.selector,))
    protocol = run_json.resolved_protocol(prepared.config, models, prepared.catalog)
    return replace(prepared, models=models, protocol=protocol)


def trial_rows(search: Search, setting: Setting, point: str, concepts: int) -> list[Row]:
    """A row a concept, in the search's order; what is missing of it is trained, drawn and
    scored.
    """
    names = search.concepts[:concepts]
    whole = prepare_trial(search, setting, point, names)
    fits = {fit.concept: fit.key[:FIT_KEY] for fit in whole.plan.fits}
    found = {
        name: row
        for name in names
        if (row := search.known.get((setting.method, setting.number, name)))
        and row["fit"] == fits[name]
    }
    if left := [name for name in names if name not in found]:
        if found:
            whole = prepare_trial(search, setting, point, left)
        made = made_rows(search, setting, whole, left)
        found |= {row["concept"]: {**row, "fit": fits[row["concept"]]} for row in made}
    return [found[name] for name in names]


def made_rows(search: Search, setting: Setting, whole: Prepared, names: Sequence[str]) -> list[Row]:
    """Of trainings of which no row was there."""
    store = Store(whole.folder)
    lost = set(diverged(store, whole.plan))  # they are not tried again
    left = replace(whole, plan=without(whole.plan, lost))
    if not is_finished(store, left):
        lend(search.runs, store, left.plan)
        outcome = work(left, open_folder(left, sys.argv[1:]))
        refuse_other_failures([text for _, text in outcome.failed.values()], store.failures)
        if outcome.stopped:
            raise UserError(
                f"the trial in {store.root} stopped {outcome.stopped}; the same command goes on"
            )
    scores = scores_of(store, whole.plan, setting.method)
    costs = {fit.concept: store.manifest(fit) or {} for fit in whole.plan.fits}
    common = {**search.about, "method": setting.method, "setting": setting.number}
    return [
        {
            **common,
            "rates": setting.words,
            "concept": name,
            "step": costs[name].get("steps", "") if name in scores else "",
            **scores.get(name, {}),
            "train_seconds": costs[name].get("seconds", ""),
        }
        for name in names
    ]


def without(plan: Plan, lost: set[str]) -> Plan:
    """The plan but for these units and what needs them."""
    fits = tuple(fit for fit in plan.fits if fit.key not in lost)
    cells = tuple(
        cell for cell in plan.cells if not {cell.key, *(fit.key for fit in cell.fits)} & lost
    )
    return replace(plan, fits=fits, cells=cells)


def is_finished(store: Store, prepared: Prepared) -> bool:
    """Nothing is left to train, to draw or to score, the concepts' own images among that."""
    names, plan, models = scorer_names(prepared.models), prepared.plan, prepared.models
    concepts = {
        one.name: (concept_key(one, models.size), one.group, len(one.images))
        for one in planned_concepts(prepared)
    }
    scoring = Scoring(store, [cell.row for cell in plan.cells], concepts, names)
    return not scoring.groups() and {unit.key for unit in plan.units} <= store.done(plan, names)


def lend(runs: Path, store: Store, plan: Plan) -> None:
    """Class images and pictures of plain words are the same for every setting: made once, then
    copied. Half a copy is found by its digests and made anew.
    """
    others = [Store(path.parent) for path in sorted(runs.glob("*/*/run.json"))]
    shared: list[Unit] = [*plan.priors, *(cell for cell in plan.cells if cell.method == FLOOR)]
    for unit in shared:
        if store.folder(unit).exists():
            continue
        if other := next((one for one in others if one.manifest(unit)), None):
            shutil.copytree(other.folder(unit), store.folder(unit))


def scores_of(store: Store, plan: Plan, method: str) -> dict[str, Row]:
    """concept -> its scores; a concept of which a training or a picture diverged has none."""
    rows = sample_rows(store.root)
    # the folder may hold more, of an earlier call
    here = pd.MultiIndex.from_tuples([(cell.concept, cell.prompt_id) for cell in plan.cells])
    mine = pd.MultiIndex.from_frame(rows[["concept", "prompt_id"]]).isin(here)
    cells = cells_of(rows[mine | (rows["method"] == CEILING)])
    grid, ceilings = grid_of(cells), ceilings_of(cells)
    share = image_share(grid, ceilings, grid.scores)
    scores = {**grid.scores, halving.SHARE: share}
    scores[SCALED] = harmonic(share, grid.scores["text_sim"])
    planned = [cell for cell in plan.cells if cell.method == method]
    found: dict[str, Row] = {}
    for m in grid.rows(method):
        for c, concept in enumerate(grid.concepts):
            wanted = sum(len(cell.seeds) for cell in planned if cell.concept == concept)
            if wanted and grid.images[m, c].sum() == wanted:
                found[concept] = {
                    name: round(float(scores[name][m, c]), 6) for name in halving.SCORES
                }
    return found


# ---- files ----


def kept_rows(
    path: Path, wanted: Sequence[str], about: Row
) -> tuple[list[Row], dict[tuple[str, str, str], Row]]:
    """Rows of methods that are not searched now, which must have been searched alike; and of those
    that are, where an earlier call of the same search trained them.
    """
    frame = read_trainings(path)
    again = frame["method"].isin(wanted)
    kept, same = frame[~again], frame[again]
    for name in ABOUT:
        same = same[same[name] == about[name]]
    for name in ABOUT:
        if others := sorted(set(kept[name]) - {about[name]}):
            raise UserError(
                f"{path} has a search with another {name} ({others[0]}, not {about[name]}); give "
                f"the same, or another folder with --out"
            )
    return records(kept), {training_of(row): row for row in records(same)}


def training_of(row: Row) -> tuple[str, str, str]:
    return row["method"], row["setting"], row["concept"]


def records(frame: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def written(rows: Sequence[Row]) -> pd.DataFrame:
    """As trainings.csv has them, so that what is made of them does not depend on who trained."""
    return frame_of(rows).round({"train_seconds": 3})


def write_trainings(out: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all: what an interruption leaves stands for what was trained."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / TRAININGS, written(rows).to_csv(index=False, lineterminator="\n"))


def write_tables(
    out: Path, rows: Sequence[Row], rounds: Sequence[halving.Round], wanted: Sequence[str]
) -> None:
    """Of methods whose search is over: what is made of trainings.csv, each file whole. Those that
    are not `wanted` keep the command by which they were searched.
    """
    frame = written(rows)
    by_method = frame.groupby("method", sort=False)
    over = [name for name, mine in by_method if halving.is_over(mine, rounds)]
    frame = frame[frame["method"].isin(over)]
    command = shlex.join(["perfbench", *map(str, run_json.anonymous(sys.argv[1:]))])
    earlier = {row["method"]: row["command"] for row in read_trials(out / SETTINGS)}
    kept = {name: words for name, words in earlier.items() if name not in wanted}
    settings = halving.settings_table(frame)
    tables = {
        SETTINGS: settings.assign(command=[kept.get(name, command) for name in settings["method"]]),
        EXPECTED: halving.expected_table(frame),
    }
    for name, table in tables.items():
        write_whole(out / name, table.to_csv(index=False, lineterminator="\n"))
