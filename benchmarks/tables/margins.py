"""check.toml: how much a run may lose, written beside the reference.

In: a folder. Out: a margin and a floor for each metric.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError, unknown

SETS = ("same-weights", "retrained")
FILE = "check.toml"
# plain means; text_sim would hide a drift that `super` shares
METRICS = ("image_sim", "text_sim_raw")


@dataclass(frozen=True)
class Margin:
    """Losses in the units of the metric: of the mean over concepts, and of any one concept."""

    margin: float
    floor: float


Margins = Mapping[str, Margin]


def read_margins(folder: Path, given: str | None, otherwise: str) -> tuple[str, Margins]:
    """The set of a reference's check.toml that was asked for; if none was, `otherwise`, or the only
    one there is.
    """
    sets = _read(below(folder, FILE))
    name = given or (otherwise if otherwise in sets or len(sets) != 1 else next(iter(sets)))
    if name not in sets:
        raise UserError(
            f"{folder / FILE} has no [{name}] margins (there: {', '.join(sets) or 'none'}); "
            f"repeat the run a "
            f"few times and give perfbench check --calibrate RUN RUN RUN --margins {name} "
            f"--against {folder}"
        )
    return name, _margins(folder / FILE, name, sets[name])


def _margins(path: Path, name: str, table: Mapping[str, Any]) -> Margins:
    found = {}
    for metric in METRICS:
        limits = table.get(metric)
        if not isinstance(limits, dict):
            raise UserError(
                f"{path} has no [{name}.{metric}]; it holds margin = 0.01 and floor = 0.03, for "
                f"example"
            )
        for key in limits:
            if key not in ("margin", "floor"):
                raise unknown(f"key of [{name}.{metric}] in {path}", key, ("margin", "floor"))
        values = [limits.get(key, 0) for key in ("margin", "floor")]
        if not all(type(value) in (int, float) and value > 0 for value in values):
            raise UserError(f"{path}: [{name}.{metric}] needs margin and floor, numbers above zero")
        found[metric] = Margin(*map(float, values))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return {
            key: value
            for key, value in tomllib.loads(path.read_text(encoding="utf-8")).items()
            if key in SETS
        }
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a TOML file that can be read: {error}") from None


def write_margins(folder: Path, name: str, margins: Margins, runs: Sequence[str]) -> Path:
    """Put one set into check.toml; the other stays."""
    path = folder / FILE
    sets: dict[str, Any] = _read(path)
    sets[name] = {"runs": list(runs)} | {
        m: {"margin": v.margin, "floor": v.floor} for m, v in margins.items()
    }
    lines = [
        "# How much a run may lose against this one; perfbench check --calibrate wrote it from "
        "repeated runs.",
        "",
    ]
    for title in [title for title in SETS if title in sets]:
        lines += [f"[{title}]", f"runs = {_strings(sets[title].get('runs', []))}"]
        for metric, limits in sets[title].items():
            if isinstance(limits, dict):
                lines += [
                    f"[{title}.{metric}]",
                    *(f"{key} = {limits[key]}" for key in ("margin", "floor")),
                ]
        lines.append("")
    Store(folder).write_text(path, "\n".join(lines))
    return path


def _strings(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)
