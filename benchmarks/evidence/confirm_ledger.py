"""What the folder of the confirmatory run records beside its rows: what was decided before them,
each concept as it becomes whole, and those in which a training diverged.

In: a folder, a plan. Out: begun.json, written once; whole.csv and aside.csv, a row a concept;
sentences where a rule is not committed, or was changed.
"""

import csv
import io
import json
import subprocess
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.disk import read_json, write_whole
from benchmarks.evidence.confirm_plan import PLAN, ConfirmPlan
from benchmarks.planning.units import Cell, Fit, Plan
from benchmarks.running.tune import diverged
from benchmarks.store.csv_files import count_keys
from benchmarks.store.fit_costs import DEVICE, devices, measured_of
from benchmarks.store.packed import PACKED
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import now
from benchmarks.tables.halving_rows import TRAININGS
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

BEGUN, WHOLE, ASIDE, REASONS = "begun.json", "whole.csv", "aside.csv", "plan.md"
# of a run that has begun
MADE = (WHOLE, ASIDE, "run.json", PACKED, "rows", "fits", "images", "priors")
COLUMNS = (
    "number", "concept", "finished", "images", "processor", "dtype", "threads", "workers", "torch",
    "commit",
)  # fmt: skip
ASIDE_COLUMNS = ("number", "concept", "finished", "what", "why")
LONG = 200  # characters of an error that are kept


def begin(
    folder: Path, plan: ConfirmPlan, rates: Mapping[str, float], rates_file: Path,
    concepts: Sequence[str], here: str,
) -> Mapping[str, Any]:  # fmt: skip
    """What was decided before the first fit: as it was written down then, or now if nothing was.
    The rules must be committed first. `here`: the processor of the first fit.
    """
    frame = frame_of(plan, rates, concepts)
    if begun := read_begun(folder):
        refuse_changed(folder, frame, begun)
        refuse_lost_claims(folder, plan, begun)
        return begun
    if older := [name for name in MADE if (folder / name).exists()]:
        raise UserError(
            f"{folder} has {older[0]} but no {BEGUN}: rows older than their rules confirm nothing; "
            f"`git checkout -- {BEGUN}` brings it back, or begin in another folder"
        )
    rules = (folder / PLAN, folder / REASONS, rates_file, rates_file.with_name(TRAININGS))
    commits = {path.name: committed_as(path) for path in rules}
    about = {
        "begun": now(),
        "processor": here,
        "plan": file_sha256(folder / PLAN),
        "commits": commits,
        **frame,
        "claims": {claim.name: plan.rule(claim) for claim in plan.claims},
    }
    write_whole(folder / BEGUN, json.dumps(about, indent=1) + "\n")
    return about


def frame_of(
    plan: ConfirmPlan, rates: Mapping[str, float], concepts: Sequence[str]
) -> dict[str, Any]:
    """What no claim may change: by their keys in begun.json."""
    return {"frame": plan.frame, "rates": dict(rates), "concepts": list(concepts)}


def refuse_changed(folder: Path, now: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    """Where something is not as it was when the run began."""
    if changed := [key for key, value in now.items() if begun.get(key) != value]:
        raise UserError(
            f"{folder / PLAN} or its rates have changed since the run began ({changed[0]}); "
            f"bring them back, or begin in another folder"
        )


def read_begun(folder: Path) -> Mapping[str, Any]:
    """Empty where no run has begun."""
    found = read_json(folder / BEGUN)
    if found is None and (folder / BEGUN).exists():
        raise UserError(f"{folder / BEGUN} is damaged; `git checkout -- {BEGUN}` brings it back")
    return found or {}


def refuse_lost_claims(folder: Path, plan: ConfirmPlan, begun: Mapping[str, Any]) -> None:
    """A claim that is taken out once its scores are there would make the others look better."""
    if lost := sorted(begun["claims"].keys() - {claim.name for claim in plan.claims}):
        raise UserError(
            f"{folder / PLAN} lacks the claim {lost[0]}, which was there when the run began; bring "
            f"it back"
        )


def committed_as(path: Path) -> str:
    """The commit that brought a file as it is."""
    try:
        changed = _git(path, "status", "--porcelain", "--", path.name)
        commit = _git(path, "log", "-1", "--format=%H", "--", path.name)
    except (OSError, subprocess.CalledProcessError):
        changed, commit = "", ""
    if changed or not commit:
        raise UserError(
            f"{path} is not committed as it is: what decides is written down before the first fit; "
            f"commit it, then give the same command"
        )
    return commit


def _git(path: Path, *words: str) -> str:
    call = ["git", "-C", str(path.parent), *words]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


# ---- whole concepts ----


def read_whole(folder: Path) -> list[dict[str, str]]:
    return _read_rows(folder / WHOLE, COLUMNS)


def whole_concepts(folder: Path) -> set[str]:
    return {row["concept"] for row in read_whole(folder)}


def add_whole(folder: Path, row: Mapping[str, Any]) -> bool:
    """Whether it was not there yet."""
    return _add_row(folder / WHOLE, COLUMNS, row)


def _read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if any(set(row) != set(columns) for row in rows):
        raise UserError(f"{path} is damaged; `git checkout -- {path.name}` brings it back")
    return rows


def _add_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> bool:
    rows: list[Mapping[str, Any]] = list(_read_rows(path, columns))
    if any(one["concept"] == row["concept"] for one in rows):
        return False
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*rows, row], key=lambda one: int(one["number"])))
    write_whole(path, text.getvalue())
    return True


def refuse_half_made(
    store: Store, plan: Plan, whole: Container[str], here: str, scorers: Sequence[str]
) -> None:
    """A concept is made on one kind of processor, since low bits differ between kinds: what is
    compared of it then shares them.
    """
    untrained: set[str] = set()
    for fit in (one for one in plan.fits if one.concept not in whole):
        there = trained_on(store, fit)
        if not there:
            untrained.add(fit.key)
        elif there != here:
            raise UserError(
                f"{fit.concept} was begun on {there}, and this is {here}: a concept is made on one "
                f"kind of processor; go on there, or delete {store.root} but its committed files"
            )
    lacking = [cell for cell in plan.drawn if untrained.intersection(fit.key for fit in cell.fits)]
    for method, point, name in dict.fromkeys((c.method, c.point, c.concept) for c in lacking):
        if count_keys(store.rows_file(scorer, method, point, name) for scorer in scorers):
            raise UserError(
                f"{name} has scores of {method}, and neither a row of {WHOLE} nor its trainings "
                f"are here; go on where it was begun, or bring {PACKED} and {WHOLE} of one commit "
                f"back"
            )


# ---- concepts in which a training diverged ----


def read_aside(folder: Path) -> list[dict[str, str]]:
    return _read_rows(folder / ASIDE, ASIDE_COLUMNS)


def left_out(folder: Path) -> set[str]:
    return {row["concept"] for row in read_aside(folder)}


def set_aside(folder: Path, store: Store, plan: Plan, names: Sequence[str]) -> list[str]:
    """The concepts that leave all claims from now on, as plan.md says: one row each, with all
    methods of it that diverged.
    """
    found: list[str] = []
    tracebacks = diverged(store, plan)
    units: list[Fit | Cell] = [*plan.fits, *plan.drawn]
    failed = [one for one in units if one.key in tracebacks and one.concept in names]
    for name in dict.fromkeys(one.concept for one in failed):
        mine = [one for one in failed if one.concept == name]
        row = {
            "number": names.index(name) + 1,
            "concept": name,
            "finished": now(),
            "what": ", ".join(dict.fromkeys(one.method for one in mine)),
            "why": tracebacks[mine[0].key].strip().splitlines()[-1][:LONG],
        }
        if _add_row(folder / ASIDE, ASIDE_COLUMNS, row):
            found.append(name)
    return found


def made_on(rows: Sequence[Mapping[str, str]]) -> str:
    """How many whole concepts each kind of processor made, in words."""
    counts = Counter(row["processor"] for row in rows)
    return "; ".join(f"{n} on {name}" for name, n in sorted(counts.items()))


def processors_of(store: Store, plan: Plan, concept: str, here: str) -> str:
    """Where a concept's fits were trained, by their manifests, and where its last row was made."""
    told = [trained_on(store, fit) for fit in plan.fits if fit.concept == concept]
    return devices([*told, here])


def trained_on(store: Store, fit: Fit) -> str:
    """The processor of a fit, by its manifest; empty where it is not there."""
    return str(measured_of(store.manifest(fit) or {})[DEVICE])
