"""What the folder of the confirmatory run records beside its rows: what was decided before them,
and each concept as it becomes whole.

In: a folder, a plan. Out: begun.json, written once; whole.csv, a row a concept; sentences where a
rule is not committed, or was changed.
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
from benchmarks.planning.units import Fit, Plan
from benchmarks.store.fit_costs import DEVICE, devices, measured_of
from benchmarks.store.packed import PACKED
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import now
from benchmarks.tables.halving_rows import TRAININGS
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

BEGUN, WHOLE, REASONS = "begun.json", "whole.csv", "plan.md"
MADE = (WHOLE, "run.json", PACKED, "rows")  # of a run that has begun
COLUMNS = (
    "number", "concept", "finished", "images", "processor", "dtype", "threads", "workers", "torch",
    "commit",
)  # fmt: skip


def begin(
    folder: Path, plan: ConfirmPlan, rates: Mapping[str, float], rates_file: Path,
    concepts: Sequence[str], here: str,
) -> Mapping[str, Any]:  # fmt: skip
    """What was decided before the first fit: as it was written down then, or now if nothing was.
    The rules must be committed first. `here`: the processor of the first fit.
    """
    frame = {"frame": plan.frame, "rates": dict(rates)}
    if begun := read_begun(folder):
        if changed := [key for key, value in frame.items() if begun.get(key) != value]:
            raise UserError(
                f"{folder / PLAN} or its rates have changed since the run began ({changed[0]}); "
                f"bring them back, or begin in another folder"
            )
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
        "concepts": list(concepts),
    }
    write_whole(folder / BEGUN, json.dumps(about, indent=1) + "\n")
    return about


def read_begun(folder: Path) -> Mapping[str, Any]:
    """Empty where no run has begun."""
    found = read_json(folder / BEGUN)
    if found is None and (folder / BEGUN).exists():
        raise UserError(f"{folder / BEGUN} is damaged; `git checkout -- {BEGUN}` brings it back")
    return found or {}


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
    path = folder / WHOLE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if any(set(row) != set(COLUMNS) for row in rows):
        raise UserError(f"{path} is damaged; `git checkout -- {WHOLE}` brings it back")
    return rows


def add_whole(folder: Path, row: Mapping[str, Any]) -> bool:
    """Whether it was not there yet."""
    rows: list[Mapping[str, Any]] = list(read_whole(folder))
    if any(one["concept"] == row["concept"] for one in rows):
        return False
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*rows, row], key=lambda one: int(one["number"])))
    write_whole(folder / WHOLE, text.getvalue())
    return True


def refuse_half_made(store: Store, plan: Plan, whole: Container[str], here: str) -> None:
    """A concept is made on one kind of processor, since low bits differ between kinds: what is
    compared of it then shares them.
    """
    for fit in plan.fits:
        there = trained_on(store, fit)
        if fit.concept not in whole and there and there != here:
            raise UserError(
                f"{fit.concept} was begun on {there}, and this is {here}: a concept is made on one "
                f"kind of processor; go on there, or delete {store.root} but its committed files"
            )


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
