"""`perfbench tune`: every method gets the same trials over its learning rate and its steps; a table
of all of them out.

In: the verb's arguments. Trials are ordinary runs on the tuning concepts, one folder a factor of
the learning rates, scored by the scorer that picks training steps and is never reported.
"""

import argparse
import csv
import dataclasses
import io
import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.disk import read_json, write_whole
from benchmarks.planning import methods
from benchmarks.planning.config import Config, resolve
from benchmarks.planning.points import OperatingPoint
from benchmarks.planning.units import Plan
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import anonymous
from perfusion_core.errors import UserError

COLUMNS = (
    "backbone",
    "digest",
    "method",
    "factor",
    "rates",
    "steps",
    "image_sim",
    "text_sim",
    "harmonic",
    "n_images",
    "n_planned",
    "train_seconds",
    "chosen",
    "command",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Trials:
    """What one method is tried with."""

    method: str
    rates: dict[str, float]  # its learning rates, as its recipe has them
    steps: tuple[int, ...]  # checkpoints of one fit
    where: str = "default"  # the operating point that it is looked at

    def changed(self, factor: float) -> dict[str, float]:
        return {name: float(f"{rate * factor:.6g}") for name, rate in self.rates.items()}

    def point(self, step: int) -> str:
        return str(dataclasses.replace(OperatingPoint.parse(self.where), step=step))


def tune(args: argparse.Namespace) -> int:
    """All trials, the table, and what it says; an error where one failed for another reason than
    its learning rate.
    """
    from benchmarks.planning.backbones import find_models
    from benchmarks.running.refusals import refuse_known

    factors, parts = numbers(args.factors, "--factors"), numbers(args.parts, "--parts")
    files = tuple(filter(None, (args.method_files or "").split(",")))
    tuned = methods.tuned(files)
    wanted = [
        name
        for name in methods.check_names(args.methods.split(",") if args.methods else tuned, files)
        if name != FLOOR
    ]
    for name in wanted:
        if name not in tuned:
            raise UserError(
                f"{name} is not tuned: its recipe follows from {', '.join(tuned)}; tune that"
            )
    plain = resolve(flags={"backbone": args.backbone, "device": args.device}, sets=args.sets)
    refuse_known(dataclasses.replace(plain, methods=tuple(wanted), method_files=files))
    models = find_models(plain)
    all_trials = [trials_of(name, parts, models.miniature, files) for name in tuned]
    out = Path(args.out or f"results/tuning-{models.name.replace('/', '-')}")
    rows = trials_beside(out / "trials.csv", wanted, models.digest[:12])
    command = shlex.join(["perfbench", *map(str, anonymous(sys.argv[1:]))])
    made = {"backbone": models.name, "digest": models.digest[:12], "command": command}
    for factor in factors:
        config = config_of(args, all_trials, wanted, factor, models, out / "runs" / f"x{factor:g}")
        table = measured(config, out / "runs")
        for trials in all_trials:
            if trials.method in wanted:
                rows += trial_rows(trials, factor, table, made)
    floor = [row for row in table if row["kind"] == "floor"]
    rows += [{**dict.fromkeys(COLUMNS, ""), **known(row), **made} for row in floor]
    mark(rows)
    write_trials(out / "trials.csv", rows)
    print(told(rows, wanted), end="")
    print(out / "trials.csv")
    return 0


def trials_beside(path: Path, wanted: Sequence[str], digest: str) -> list[Row]:
    """What was tried of other methods before; trials of other weights share no table with these."""
    rows = [row for row in read_trials(path) if row["method"] not in (*wanted, FLOOR)]
    if others := sorted({str(row["method"]) for row in rows if row["digest"] != digest}):
        raise UserError(
            f"{path} has trials of {', '.join(others)} with other weights, whose numbers share no "
            f"table with these: give another folder with --out, or tune these methods too"
        )
    return rows


def numbers(text: str, flag: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0 or not all(map(math.isfinite, found)):
        raise UserError(
            f"{flag} {text!r} is not a list of numbers above 0; write for example {flag} 0.5,1,2"
        )
    return found


def trials_of(
    name: str, parts: Sequence[float], miniature: bool, files: Sequence[str] = ()
) -> Trials:
    said, recipe = (
        methods.said(name, files),
        methods.recipe(methods.load_method(name, files), name, {}, miniature),
    )
    if missing := [
        rate for rate in said.tuned if not isinstance(getattr(recipe, rate, None), float)
    ]:
        raise UserError(
            f"{name}: TUNED names {missing[0]}, which is no number of its Config such as 0.01"
        )
    rates = {rate: getattr(recipe, rate) for rate in said.tuned}
    steps = sorted({max(1, round(part * recipe.steps)) for part in parts})
    if len(steps) < len(parts):
        raise UserError(
            f"--parts leaves {name} {len(steps)} different checkpoints of {recipe.steps} steps; "
            f"spread them"
        )
    where = (*Config().points.get(name, ()), *said.points, "default")[0]
    return Trials(name, rates, tuple(steps), where)


def config_of(
    args: argparse.Namespace,
    all_trials: Sequence[Trials],
    wanted: Sequence[str],
    factor: float,
    models: Any,
    out: Path,
) -> Config:
    """One run: all methods at this factor. What is not asked for is set as well, so that a later
    call may add it.
    """
    # The run's reported scorer is the one that picks steps; a method that validates gets the other
    # one, and what it picks is not looked at: every trial is a kept step.
    flags = {
        "backbone": args.backbone,
        "suite": args.suite,
        "methods": tuple(wanted),
        "prompts": args.prompts,
        "scorers": (place_of(models.selector),),
        "select_scorer": place_of(models.scorers[0]),
        "device": args.device,
        "engine": args.engine,
        "workers": args.workers,
        "threads": args.threads,
        "out": str(out),
        "method_files": args.method_files,
        "drift": False,  # of which nothing is tuned
        "cache": "none",  # its table has the seconds of training, measured now
        "keep": tuple(
            str(step) for step in sorted({step for trials in all_trials for step in trials.steps})
        ),
    }
    sets = [f"images={args.images}", f"steps={args.steps}", "validate_every=1000000"]
    for trials in all_trials:
        sets.append(f"points.{trials.method}={','.join(map(trials.point, trials.steps))}")
        sets.append(f"fit.{trials.method}.steps={trials.steps[-1]}")
        sets += [
            f"fit.{trials.method}.{name}={rate!r}" for name, rate in trials.changed(factor).items()
        ]
    return resolve(flags=flags, sets=[*sets, *args.sets])


def place_of(scorer: Any) -> str:
    return str(scorer.source) if Path(scorer.source).is_dir() else f"{scorer.kind}:{scorer.source}"


def measured(config: Config, runs: Path) -> list[Row]:
    """The run's table, of what could be trained; class images are made once for all factors."""
    from benchmarks.running.prepared import prepare_run
    from benchmarks.running.run import open_folder, work
    from benchmarks.tables.build import write_tables

    for made in sorted(runs.glob("*/priors/*")):
        if not (there := Path(config.out) / "priors" / made.name).exists():
            shutil.copytree(made, there)
    prepared = prepare_run(config)
    store = open_folder(prepared, sys.argv[1:])
    outcome = work(prepared, store)
    refuse_other_failures([text for _, text in outcome.failed.values()], store.failures)
    write_tables(store.root, allow_missing=True)
    with (store.root / "table.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def has_diverged(traceback: str) -> bool:
    """The training, or a picture drawn with what it left."""
    return any(kind in traceback for kind in ("Diverged", "NotFinite"))


def diverged(store: Store, plan: Plan) -> dict[str, str]:
    """Of fits and cells that an earlier call saw diverge, by their keys: the tracebacks."""
    told = {unit.key: read_json(store.failure_file(unit.key)) for unit in plan.units}
    return {
        key: failure["traceback"]
        for key, failure in told.items()
        if failure and failure["key"] == key and has_diverged(failure["traceback"])
    }


def refuse_other_failures(tracebacks: Sequence[str], folder: Path) -> None:
    """Whatever failed for another reason than its rates ends the search."""
    if others := [text for text in tracebacks if not has_diverged(text)]:
        raise UserError(f"a trial failed: {others[0].strip().splitlines()[-1]}; see {folder}")


# ---- the table ----


def known(row: Row) -> Row:
    return {key: row[key] for key in COLUMNS if key in row}


def trial_rows(trials: Trials, factor: float, table: Sequence[Row], made: Row) -> list[Row]:
    """A row a checkpoint; its scores are empty where the training diverged."""
    found = {(row["method"], row["point"]): row for row in table if row["kind"] == "method"}
    rates = " ".join(f"{name}={rate:g}" for name, rate in trials.changed(factor).items())
    rows = []
    for step in trials.steps:
        row = found.get((trials.method, trials.point(step)), {})
        whole = bool(row) and row["n_images"] == row["n_planned"]
        rows.append({
            **dict.fromkeys(COLUMNS, ""), **(known(row) if whole else {}), **made,
            "method": trials.method, "factor": f"{factor:g}", "rates": rates, "steps": str(step),
        })  # fmt: skip
    return rows


def mark(rows: list[Row]) -> None:
    """`chosen`: the highest harmonic mean of each method."""
    for method in {row["method"] for row in rows} - {FLOOR}:
        scored = [row for row in rows if row["method"] == method and row["harmonic"]]
        best = max(scored, key=lambda row: float(row["harmonic"]), default=None)
        for row in rows:
            if row["method"] == method:
                row["chosen"] = "yes" if row is best else ""


def told(rows: Sequence[Row], wanted: Sequence[str]) -> str:
    """What was chosen, whether it lies at the edge of what was tried, and whether it beats the
    floor.
    """
    floor = next((float(row["image_sim"]) for row in rows if row["method"] == FLOOR), None)
    lines = []
    for method in wanted:
        mine = [row for row in rows if row["method"] == method]
        best = next((row for row in mine if row["chosen"]), None)
        if best is None:
            lines.append(f"{method}: every trial diverged; try smaller --factors")
            continue
        changes = ", ".join([f"steps={best['steps']}", *best["rates"].split()])
        line = (
            f"{method}: {changes}; harmonic {float(best['harmonic']):.3f}, image "
            f"{float(best['image_sim']):.3f}"
        )
        line += "" if floor is None else f" (super {floor:.3f})"
        for what, kind in (("factor", "learning rates"), ("steps", "steps")):
            values = sorted({float(row[what]) for row in mine})
            if len(values) > 1 and float(best[what]) in (values[0], values[-1]):
                line += f"; at the edge of the {kind} tried"
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def read_trials(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_trials(path: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
