"""`perfbench miniature verify`: does the miniature draw what prompts say? The world is known, so it
is measured.

In: a folder of weights. Out: a table of figures beside their goals, as text and JSON, with the
weights' digests; the goals alone as CSV.
"""

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name
from benchmarks.evidence import (
    marks_measures,
    miniature_gates,
    miniature_measures,
    segmenter_measures,
)
from benchmarks.evidence.miniature_measures import Figure, Rows
from benchmarks.miniature.opening import opened
from benchmarks.miniature.training.judges import judges_digest, open_judges
from benchmarks.miniature.which_world import world_of_weights
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import Clip
from benchmarks.suite.catalog import load_catalog
from benchmarks.tables.table_text import aligned


@dataclass(frozen=True)
class Sizes:
    """How many pictures each figure rests on."""

    fresh: int = 2000  # renders for the VAE and the judges
    instances: int = 12  # of each class, in four scenes
    each: int = 8  # drawn for every held-out pair
    asked: int = 4  # renders of every prompt, for the scorers
    redrawn: int = 200  # renders drawn anew, for the segmenter
    again: int = 2  # renders of each instance drawn anew, for its marks
    supers: int = 4  # drawn for every shape-preserving prompt and super-category
    fit: bool = True  # the tuning concepts, for the gate after fitting


QUICK = Sizes(fresh=300, instances=6, each=1, asked=1, redrawn=24, again=1, supers=1, fit=False)


def verify(
    weights: Path, sizes: Sizes, device: str = "auto", dtype: str = "auto"
) -> tuple[list[Figure], dict, dict[str, Rows]]:
    """-> the figures, what they were measured on, and the single observations by file name."""
    judges = open_judges(weights, device_name(device))
    backbone = opened(weights, device, dtype)
    assert backbone.c_inv is not None  # a clear sentence now, not after minutes
    found = {
        name: find_scorer("auto", "miniature", weights, selects=name == "scorer2")
        for name in ("scorer", "scorer2")
    }
    scorers = {name: Clip(scorer, device_name(device)) for name, scorer in found.items()}
    catalog, tuning = load_catalog("miniature"), load_catalog("tuning")
    figures: list[Figure] = []
    rows: dict[str, Rows] = {}
    seconds: dict[str, float] = {}

    def part(name: str, measure: Callable[[], tuple[list[Figure], Rows] | list[Figure]]) -> None:
        start = time.monotonic()
        result = measure()
        new, rows[name] = result if isinstance(result, tuple) else (result, [])
        figures.extend(new)
        seconds[name] = round(time.monotonic() - start, 1)
        print(f"perfbench: {name}: {seconds[name]:.0f} s", file=sys.stderr, flush=True)

    part("vae", lambda: miniature_measures.vae(backbone, sizes.fresh // 2))
    part("judges", lambda: miniature_measures.judges_on_renders(backbone, judges, sizes.fresh))
    first, second = (
        partial(miniature_measures.looks, scorers[name]) for name in ("scorer", "scorer2")
    )
    sets = list(miniature_measures.instances(sizes.instances))
    spoilt = [
        (cls, miniature_measures.harsh(backbone, pictures), who, where)
        for cls, pictures, who, where in sets
    ]
    part("segmenter", lambda: segmenter_measures.on_drawn(backbone, judges, sizes.redrawn))
    part(
        "identity",
        lambda: [
            *miniature_measures.identity(
                sets, judges.identity, "identity verifier: AUC on fresh renders", 0.98
            ),
            *miniature_measures.identity(
                spoilt, judges.identity, "identity verifier: AUC on round trips", 0.95
            ),
            *miniature_measures.identity(sets, first, "scorer: AUC of one instance", 0.95),
            *miniature_measures.identity(sets, second, "second scorer: AUC of one instance", 0.95),
        ],
    )
    part("marks", lambda: marks_measures.marks(backbone, judges, sets, sizes.again))
    prompts = list(miniature_measures.prompt_renders(catalog, sizes.asked))
    part(
        "retrieval",
        lambda: [
            *miniature_measures.retrieval(scorers["scorer"], prompts, "scorer", True),
            *miniature_measures.retrieval(scorers["scorer2"], prompts, "second scorer", False),
        ],
    )
    part("gates", lambda: miniature_gates.before(backbone, catalog))
    part("rare", lambda: miniature_gates.rare_word(backbone, catalog))
    part("generated", lambda: miniature_measures.generated(backbone, judges, sizes.each))
    part(
        "super",
        lambda: miniature_gates.super_gap(
            backbone, scorers["scorer"], (catalog, tuning), sizes.supers
        ),
    )
    if sizes.fit:
        part("fitted-gates", lambda: miniature_gates.after(backbone, tuning))
    about = {
        "digests": {
            "backbone": backbone.digest,
            "text_encoder": backbone.text_digest,
            "scorer": found["scorer"].weights[:16],
            "scorer2": found["scorer2"].weights[:16],
            "judges": judges_digest(weights)[:16],
        },
        "world": world_of_weights(weights, backbone.digest),
        "build": read_build(weights),
        "device": backbone.device.type,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "sizes": vars(sizes),
        "seconds": seconds,
    }
    return figures, about, rows


def read_build(weights: Path) -> dict:
    path = weights / "build.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# ---- the table


def verdict_of(met: bool | None) -> str:
    return {None: "", True: "met", False: "not met"}[met]


def format_figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def goals_table(figures: Sequence[Figure]) -> str:
    """Markdown that is a table in a terminal as well."""
    lines = [["figure", "value", "95 % interval", "n", "goal", "verdict", "note"]]
    for f in figures:
        interval = f"{format_figure(f.lo)} to {format_figure(f.hi)}" if not math.isnan(f.lo) else ""
        goal = "" if f.goal is None else f"at {'most' if f.below else 'least'} {f.goal:g}"
        value, met = format_figure(f.value), verdict_of(f.met)
        lines.append([f.what, value, interval, str(f.n), goal, met, f.note])
    return aligned(lines)


def goals_summary(figures: Sequence[Figure], about: dict) -> str:
    goals = [f for f in figures if f.goal is not None]
    met = sum(bool(f.met) for f in goals)
    digests = ", ".join(f"{name} {value}" for name, value in about["digests"].items())
    return (
        f"{met} of {len(goals)} goals met. Weights: {digests}. {about['device']}, {about['dtype']}."
    )


def write_figures(out: Path, figures: Sequence[Figure], about: dict, rows: dict[str, Rows]) -> None:
    """verify.json and verify.md, the goals alone as verify.csv, and a CSV for each kind of single
    observation.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "what": f.what,
            "value": f"{f.value:.6f}",
            "lo": finite(f.lo),
            "hi": finite(f.hi),
            "n": f.n,
            "goal": "" if f.goal is None else f.goal,
            "verdict": verdict_of(f.met),
            "note": f.note,
        }
        for f in figures
    ]
    write_csv(out / "verify.csv", goal_rows(lines))
    for name, observed in rows.items():
        if observed:
            write_csv(out / f"{name}.csv", observed)
    (out / "verify.json").write_text(
        json.dumps({**about, "figures": lines}, indent=1) + "\n", encoding="utf-8"
    )
    (out / "verify.md").write_text(
        f"{goals_table(figures)}\n\n{goals_summary(figures, about)}\n", encoding="utf-8"
    )


def goal_rows(figures: Sequence[Mapping[str, Any]]) -> Rows:
    """A row a goal, of the figures as verify.json has them."""
    return [
        {
            "name": figure["what"],
            "reached": figure["value"],
            "goal": f"{figure['goal']:g}",
            "met": "yes" if figure["verdict"] == verdict_of(True) else "no",
        }
        for figure in figures
        if figure["goal"] != ""
    ]


def finite(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def verify_verb(weights: Path, out: Path, *, quick: bool, device: str, dtype: str) -> int:
    """0: every goal met; 1: not."""
    figures, about, rows = verify(weights, QUICK if quick else Sizes(), device, dtype)
    write_figures(out, figures, about, rows)
    print(f"{goals_table(figures)}\n{goals_summary(figures, about)}")
    print(f"perfbench: written to {out}", file=sys.stderr)
    return 0 if all(f.met is not False for f in figures) else 1


def sheets_verb(weights: Path, folder: Path, *, device: str, dtype: str) -> int:
    from benchmarks.evidence.miniature_labels import write_sheets

    write_sheets(opened(weights, device, dtype), folder)
    print(folder / "looked.csv")
    return 0


def looked_verb(weights: Path, folder: Path) -> int:
    from benchmarks.evidence.miniature_labels import agreement

    print(goals_table(agreement(open_judges(weights), folder)))
    return 0
