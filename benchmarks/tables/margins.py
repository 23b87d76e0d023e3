"""check.toml: how much a run may lose, written beside the reference.

In: a folder. Out: a margin and floors for each metric, and for each kind of prompts where repeats
told them.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below
from benchmarks.scoring.measures import is_measure
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError, unknown

OTHER_SEED = "other-seed"
SETS = ("same-weights", "retrained", OTHER_SEED)
FILE = "check.toml"
# plain means; text_sim would hide a drift that `super` shares. Every set has these; measures beyond
# the protocol (scoring/measures.py) where repeats had them
METRICS = ("image_sim", "text_sim_raw")
LIMITS = ("margin", "floor", "prompt")


@dataclass(frozen=True)
class Margin:
    """Losses in the units of the metric: of the mean over concepts, of any one concept, and of any
    one prompt that as many concepts have as a concept has prompts (judging.py: of others); of each
    kind of prompts. What no repeat told follows from margin and floor.
    """

    margin: float
    floor: float
    prompt: float | None = None
    kinds: Mapping[str, "Margin"] = field(default_factory=dict)


Margins = Mapping[str, Margin]


def read_margins(folder: Path, given: str | None, otherwise: str) -> tuple[str, Margins]:
    """The set of a reference's check.toml that was asked for; if none was, `otherwise`, or the only
    one there is.
    """
    sets = _read(below(folder, FILE))
    # those of other seeds forgive more than a run of the same one needs
    near = [one for one in sets if one != OTHER_SEED] or list(sets)
    name = given or (otherwise if otherwise in sets or len(near) != 1 else near[0])
    if name not in sets:
        raise UserError(
            f"{folder / FILE} has no [{name}] margins (there: {', '.join(sets) or 'none'}); "
            f"repeat the run a "
            f"few times and give perfbench check --calibrate RUN RUN RUN --margins {name} "
            f"--against {folder}"
        )
    return name, _margins(folder / FILE, name, sets[name])


def has_margins(folder: Path, name: str) -> bool:
    return name in _read(below(folder, FILE))


def _margins(path: Path, name: str, table: Mapping[str, Any]) -> Margins:
    found = {}
    for metric in [*METRICS, *filter(is_measure, table)]:
        limits = table.get(metric)
        if not isinstance(limits, dict):
            raise UserError(
                f"{path} has no [{name}.{metric}]; it holds margin = 0.01 and floor = 0.03, for "
                f"example"
            )
        kinds = {key: value for key, value in limits.items() if isinstance(value, dict)}
        own = _limits(path, f"{name}.{metric}", limits, tuple(kinds))
        of_kinds = {
            kind: _limits(path, f"{name}.{metric}.{kind}", value) for kind, value in kinds.items()
        }
        found[metric] = Margin(own.margin, own.floor, own.prompt, of_kinds)
    return found


def _limits(path: Path, where: str, table: Mapping[str, Any], tables: Sequence[str] = ()) -> Margin:
    for key in table:
        if key not in (*LIMITS, *tables):
            raise unknown(f"key of [{where}] in {path}", key, LIMITS)
    values = [table.get(key, 0) for key in ("margin", "floor")] + [table.get("prompt", 1)]
    if not all(type(value) in (int, float) and 0 < value < inf for value in values):
        raise UserError(f"{path}: [{where}] needs margin and floor, numbers above zero")
    prompt = table.get("prompt")
    margin, floor = map(float, values[:2])
    return Margin(margin, floor, None if prompt is None else float(prompt))


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
    sets[name] = {"runs": list(runs)} | {m: _plain(v) for m, v in margins.items()}
    lines = [
        "# How much a run may lose against this one; perfbench check --calibrate wrote it from "
        "repeated runs.",
        "",
    ]
    for title in [title for title in SETS if title in sets]:
        lines += [f"[{title}]", f"runs = {_strings(sets[title].get('runs', []))}"]
        for metric, limits in sets[title].items():
            if isinstance(limits, dict):
                lines += _table(f"{title}.{_key(metric)}", limits)
        lines.append("")
    Store(folder).write_text(path, "\n".join(lines))
    return path


def _plain(limit: Margin) -> dict[str, Any]:
    told = {key: getattr(limit, key) for key in LIMITS if getattr(limit, key) is not None}
    return told | {kind: _plain(own) for kind, own in limit.kinds.items()}


def _table(title: str, limits: Mapping[str, Any]) -> list[str]:
    """A metric's limits, and those of its kinds."""
    tables = {title: limits} | {
        f"{title}.{_key(kind)}": own for kind, own in limits.items() if isinstance(own, dict)
    }
    lines = []
    for name, own in tables.items():
        plain = {key: own[key] for key in LIMITS if isinstance(own.get(key), (int, float))}
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in plain.items())]
    return lines


def _key(name: str) -> str:
    """As TOML writes a key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _strings(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)
