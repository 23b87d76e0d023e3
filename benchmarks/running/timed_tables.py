"""What the tables of a large run cost: a run folder of a million made-up scores, and `perfbench
table` of it.

In: a folder, how many operating points each method has. Out: seconds of processor time, GiB of
memory.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planning.config import resolve
from benchmarks.planning.units import Cell
from benchmarks.running.prepared import prepare_run
from benchmarks.running.run import open_folder
from benchmarks.scoring.reserved import REAL
from benchmarks.store.run_folder import Store
from perfusion_core.hardware import processor

ABLATED = ("one-shot", "trained-k", "no-mask", "train-bias", "vanilla-rome")
# such as have points to be set; what they are called costs a table nothing
METHODS = ("perfusion", *(f"perfusion-{name}" for name in ABLATED))
POINTS = 44  # of each method: a million images of the paper's concepts, prompts and images a prompt
FIRST = 30  # hundredths of the first point's bias

# in a process of its own: its processor time with all that it imports; peak memory of itself alone
COMMAND = """
import json, sys, time
from benchmarks.cli import run
run(sys.argv[1:])
seconds = time.process_time()
from benchmarks.running.timed_tables import peak_gib
print(json.dumps([seconds, peak_gib()]))
"""


def peak_gib() -> float:
    """The most memory that this process had."""
    # ru_maxrss would begin with the parent's peak
    if (status := Path("/proc/self/status")).exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )


def make_run(folder: Path, points: int = POINTS, **flags: Any) -> int:
    """A planned run whose every image has a score that nobody measured; -> its number of images."""
    names = ",".join(f"local-b{bias / 100:.2f}-t0.15" for bias in range(FIRST, FIRST + points))
    sets = [f"points.{method}={names}" for method in METHODS]
    prepared = prepare_run(
        resolve(flags={"methods": METHODS, "out": str(folder), "drift": False, **flags}, sets=sets)
    )
    store, scorer = open_folder(prepared, ["made up"]), prepared.models.scorers[0].name
    rng = np.random.default_rng(0)
    files: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for cell in prepared.plan.cells:
        files.setdefault((cell.method, cell.point, cell.concept), []).extend(scored(cell, rng))
    for address, rows in files.items():
        store.write_rows(store.rows_file(scorer, *address), rows)
    for concept in prepared.concepts:
        write_ceiling(store, scorer, concept.name, concept.group, rng)
    return prepared.plan.images


def scored(cell: Cell, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of one cell, as a scorer writes them."""
    about = {"key": cell.key, "method": cell.method, "point": cell.point, "concept": cell.concept,
             "group": cell.group, "prompt_id": cell.prompt_id, "kind": cell.kind}  # fmt: skip
    for index, (seed, (image, text)) in enumerate(
        zip(cell.seeds, rng.normal((0.75, 0.27), 0.03, (len(cell.seeds), 2)))
    ):
        seen = f"{image:.6f}" if cell.kind == "shape" else ""
        yield {
            **about,
            "index": index,
            "seed": seed,
            "image_sim": seen,
            "text_sim_raw": f"{text:.6f}",
        }


def write_ceiling(
    store: Store, scorer: str, concept: str, group: str, rng: np.random.Generator
) -> None:
    about = {
        "key": "",
        "method": REAL,
        "point": "default",
        "concept": concept,
        "group": group,
        "kind": "real",
    }
    rows = [
        {**about, "index": n, "seed": 0, "image_sim": f"{v:.6f}"}
        for n, v in enumerate(rng.normal(0.85, 0.01, 5))
    ]
    store.write_rows(store.rows_file(scorer, REAL, "default", concept), rows)


def command_cost(*words: str) -> tuple[float, float]:
    """Seconds of processor time and GiB of a `perfbench` command, imports included."""
    call = [sys.executable, "-c", COMMAND, *words]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, peak


# 52,864 images and 101,952
PLANS = {
    "the paper's protocol": ["--methods", "perfusion,db,ti,cd,lora"],
    "22 points of Perfusion": [
        "--methods",
        "perfusion,db,ti,cd,lora",
        "--set",
        "points.perfusion=" + ",".join(f"local-b{bias / 100:.2f}-t0.15" for bias in range(30, 52)),
    ],
}


def report(repeats: int, points: int = POINTS, **flags: Any) -> list[str]:
    """The table: medians of `repeats` processes."""
    with tempfile.TemporaryDirectory() as folder:
        images = make_run(Path(folder), points, **flags)
        table = f"`table`: {images:,} images, {len(METHODS)} methods of {points} points"
        rows = {table: ["table", folder]}
        for what, words in PLANS.items():
            rows[f"`plan`: {what}"] = ["plan", "--out", f"{folder}/none", *words]
        costs = {
            what: np.median([command_cost(*words) for _ in range(repeats)], axis=0)
            for what, words in rows.items()
        }
    return [
        f"| `perfbench`, {processor()} | s of processor time | peak GiB |",
        "|---|---|---|",
        *(f"| {what} | {seconds:.1f} | {peak:.2f} |" for what, (seconds, peak) in costs.items()),
    ]
