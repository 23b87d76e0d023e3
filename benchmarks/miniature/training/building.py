"""`perfbench miniature build`: the recipe from the command line, to be stopped and run again at
will.

In: where to write, a device, how long. Out: a folder of weights, beside it the work folder with its
checkpoints.
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name
from benchmarks.miniature.training.carry import pack_stages, unpack_stages
from benchmarks.miniature.training.hyperparameters import (
    JOINT_MINUTES,
    MINUTES,
    ON_GPU,
    Recipe,
    joint,
)
from benchmarks.options import named
from benchmarks.paths import miniature_dir
from perfusion_core.errors import UserError, unknown


def shares(
    device: str,
    minutes: float | None,
    only: str | None,
    table: Mapping[str, Mapping[str, float]] = MINUTES,
) -> dict[str, float]:
    """Minutes of every stage: the usual ones, or `minutes` divided in their proportion."""
    usual = table["cuda" if device.startswith("cuda") else "cpu"]
    names = only.split(",") if only else list(usual)
    for name in names:
        if name not in usual:
            raise unknown("stage", name, usual)
    chosen = {name: usual[name] for name in names}
    if minutes is None:
        return chosen
    if minutes <= 0:
        raise UserError(
            f"--minutes {minutes:g}: training takes time; leave it out for "
            f"{sum(chosen.values()):g} minutes"
        )
    return {name: minutes * share / sum(chosen.values()) for name, share in chosen.items()}


def recipe_of(device: str, sets: Sequence[str], xl: bool = False) -> Recipe:
    """The recipe of this device, with NAME=VALUE changed."""
    usual = ON_GPU if device.startswith("cuda") else Recipe()
    usual = joint(usual) if xl else usual
    changes = {}
    for name, text in named(
        sets, "--set", "NAME=VALUE; write for example --set settle=0.5"
    ).items():
        if name not in (known := asdict(usual)):
            raise unknown("part of the recipe", name, known)
        kind = type(known[name])
        least = {"seed": 0, "settle": 0.01}.get(name, 1 if kind is int else 0)
        try:
            changes[name] = kind(text)
        except ValueError:
            changes[name] = math.nan
        if not least <= changes[name] < math.inf:
            raise UserError(
                f"--set {name}={text}: a number like {known[name]} is wanted, at least {least}"
            )
    return replace(usual, **changes)


def build_verb(
    out: Path,
    *,
    work: Path | None,
    device: str,
    minutes: float | None,
    only: str | None,
    pause: float | None,
    start: Path | None,
    pack_to: Path | None,
    sets: Sequence[str],
    compile: bool,
    xl: bool = False,
) -> int:
    """Train what is missing, then export; 0: the weights are there, 3: paused."""
    from benchmarks.miniature.training.joint_recipe import build_joint
    from benchmarks.miniature.training.onwards import are_weights
    from benchmarks.miniature.training.recipe import build_miniature
    from benchmarks.miniature.training.workshop import Paused

    begun = time.monotonic()
    device, work = device_name(device), work or out.with_name(f"{out.name}.build")
    wanted = shares(device, minutes, only, JOINT_MINUTES if xl else MINUTES)
    recipe = recipe_of(device, sets, xl)
    weights = start if start and are_weights(start) else None
    if start and not weights:
        taken = unpack_stages(start, work)
        print(
            f"perfbench: goes on from {', '.join(taken) or 'nothing: the work folder is further'}",
            file=sys.stderr,
        )
    deadline = begun + 60 * pause if pause is not None else float("inf")
    how: dict[str, Any] = {
        "device": device,
        "minutes": wanted,
        "deadline": deadline,
        "compile": compile,
    }
    try:
        if xl:
            build_joint(work, out, recipe, weights or miniature_dir(), **how)
        else:
            build_miniature(work, out, recipe, weights=weights, **how)
        print(out)
        return 0
    except Paused:
        print("perfbench: paused; the same command goes on from here", file=sys.stderr)
        return 3
    finally:
        if pack_to and any((work / f"{name}.safetensors").exists() for name in wanted):
            pack_stages(work, pack_to, list(wanted))
