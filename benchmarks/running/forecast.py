"""What is planned, done and left, and how long it may take, learned from finished units. No
torch.
"""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.disk import read_json
from benchmarks.planning.units import Cell, Plan
from benchmarks.running.progress import duration
from benchmarks.running.time_left import words
from benchmarks.store.run_folder import MANIFEST, Store

LOOK = 50  # finished units of a kind that are looked at


def forecast(store: Store, plan: Plan, done: set[str], workers: int = 1) -> dict[str, Any]:
    """Counts by method, and the seconds left; None for those where nothing of the kind was finished
    yet.
    """
    rows: dict[str, dict[str, Any]] = {}
    for cell in plan.cells:
        empty = {
            "points": set(),
            "fits": set(),
            "fits_done": 0,
            "cells": 0,
            "cells_done": 0,
            "images": 0,
            "images_done": 0,
        }
        row = rows.setdefault(cell.method, {"method": cell.method, **empty})
        row["points"].add(cell.point)
        row["fits"] |= {fit.key for fit in cell.fits}
        row["cells"] += 1
        row["images"] += len(cell.seeds)
        if cell.key in done:
            row["cells_done"] += 1
            row["images_done"] += len(cell.seeds)
    for row in rows.values():
        row["points"], fits = len(row["points"]), row["fits"]
        row["fits"], row["fits_done"] = len(fits), len(fits & done)
    total = {
        name: sum(row[name] for row in rows.values())
        for name in ("cells", "cells_done", "images", "images_done")
    }
    for kind, units in (("fits", plan.fits), ("priors", plan.priors)):
        total |= {kind: len(units), f"{kind}_done": sum(unit.key in done for unit in units)}
    seconds, unknown = seconds_left(store, plan, done)
    return {
        "methods": list(rows.values()),
        "total": total,
        **({"drift": drift_left(plan, done)} if plan.drift else {}),
        "plan": plan.digest,
        "seconds_left": None if seconds is None else round(seconds / workers, 1),
        "not_timed": unknown,
    }


def drift_left(plan: Plan, done: set[str]) -> dict[str, int]:
    """Pictures beside the protocol's: of all, and of the plain backbone."""
    counts = {"images": 0, "images_done": 0, "plain": 0}
    for cell in plan.drift:
        counts["images"] += len(cell.seeds)
        counts["images_done"] += len(cell.seeds) * (cell.key in done)
        counts["plain"] += len(cell.seeds) * cell.row.is_base
    return counts


def images_left(about: Mapping[str, Any]) -> int:
    """Pictures still to be drawn, those of drift among them."""
    parts = [about["total"], about.get("drift", {"images": 0, "images_done": 0})]
    return sum(int(part["images"]) - int(part["images_done"]) for part in parts)


def seconds_left(store: Store, plan: Plan, done: set[str]) -> tuple[float | None, list[str]]:
    """Seconds of one worker, and what they leave out because nothing like it was finished yet."""
    image: dict[str, list[float]] = defaultdict(list)
    fit: dict[str, list[float]] = defaultdict(list)
    prior: list[float] = []
    looked: dict[str, int] = defaultdict(int)
    for unit in plan.units:
        kind = f"{type(unit).__name__} {getattr(unit, 'method', '')}"
        if unit.key not in done or looked[kind] >= LOOK:
            continue
        about = read_json(store.folder(unit) / MANIFEST[type(unit)]) or {}
        if "seconds" not in about:
            continue
        looked[kind] += 1
        if isinstance(unit, Cell):
            image[unit.method].append(about["seconds"] / len(unit.seeds))
        elif hasattr(unit, "method"):
            fit[unit.method].append(about["seconds"])
        else:
            prior.append(about["seconds"])
    usual = median([s for times in image.values() for s in times]) if image else None
    left, unknown = 0.0, []
    todo: dict[tuple[str, str], int] = defaultdict(int)
    for unit in plan.units:
        # what is given is copied, which takes no time
        if unit.key not in done and not getattr(unit, "given", None):
            kind = (
                "image" if isinstance(unit, Cell) else "fit" if hasattr(unit, "method") else "prior"
            )
            todo[kind, getattr(unit, "method", "")] += (
                len(unit.seeds) if isinstance(unit, Cell) else 1
            )
    for (kind, method), n in todo.items():
        times = {
            "image": image[method] or ([usual] if usual else []),
            "fit": fit[method],
            "prior": prior,
        }[kind]
        if times:
            left += n * median(times)
        else:
            unknown.append(
                {"image": "images", "fit": f"fits of {method}", "prior": "class images"}[kind]
            )
    return (None if unknown and not left else left), sorted(set(unknown))


def as_text(about: Mapping[str, Any]) -> str:
    """The forecast for people."""
    total = about["total"]
    lines = [f"{'method':<24}{'points':>7}{'fits':>12}{'cells':>16}{'images':>18}"]
    for row in [*about["methods"], {"method": "together", "points": "", **total}]:
        fits, cells, images = (f"{row[f'{k}_done']}/{row[k]}" for k in ("fits", "cells", "images"))
        lines.append(f"{row['method']:<24}{row['points']:>7}{fits:>12}{cells:>16}{images:>18}")
    lines.append(
        "(done/planned)"
        + (f"; class images of {total['priors']} super-categories" if total["priors"] else "")
    )
    if beside := about.get("drift"):
        lines.append(
            f"beside these, for drift: {beside['images_done']}/{beside['images']} images, "
            f"{beside['plain']} of them by the backbone alone"
        )
    return "\n".join([*lines, time_left(about)])


def time_left(about: Mapping[str, Any]) -> str:
    total, unknown = about["total"], about["not_timed"]
    if not images_left(about) and total["fits_done"] == total["fits"]:
        return "nothing is left to do"
    if about.get("seconds_range"):
        return f"time left: {words(*about['seconds_range'])}, by what was measured before"
    if about["seconds_left"] is None:
        return "time left: not known before the first units are finished"
    without = f", without {', '.join(unknown)}: none is finished yet" if unknown else ""
    return f"time left: about {duration(about['seconds_left'])}{without}"
