"""What is said before anything is done: how long it may take, what would shorten it, whether other
work is in the way; and the one question of a long run.

In: a `Prepared`. Out: sentences, seconds.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmarks.planning.config import look_steps
from benchmarks.running.driver import Stops
from benchmarks.running.forecast import images_left
from benchmarks.running.known_seconds import known_seconds
from benchmarks.running.prepared import Prepared
from benchmarks.running.time_left import TimeLeft, words
from perfusion_core.errors import UserError
from perfusion_core.hardware import BUSY, busy_cores

LONG = 2000  # images for which a minute of compiling is worth it
ASKED = 2 * 3600.0  # seconds that nobody starts by accident


def workers(prepared: Prepared) -> int:
    """How many will share the work; of a Ray cluster that was not asked for a number, nobody knows
    yet.
    """
    from benchmarks.running.worker_devices import devices

    config = prepared.config
    if config.engine == "processes":
        return len(devices(config, prepared.device)[0])
    return config.workers or 1 if config.engine == "ray" else 1


def time_left(prepared: Prepared, done: Collection[str]) -> TimeLeft:
    config = prepared.config
    # as so many pictures of the usual steps
    look = len(prepared.catalog.validation) * look_steps(config) / config.steps
    units = [unit for unit in prepared.plan.units if unit.key not in done]
    return TimeLeft(
        units,
        workers(prepared),
        steps=config.steps,
        look=look,
        every=config.validate_every,
        known=known_seconds(config, prepared.models, prepared.device, workers(prepared)),
    )


def faster(prepared: Prepared, left: int) -> str:
    """What would shorten the drawing of so many images; measured for the miniature on a CPU. In
    float32 compiled code took as long as other code.
    """
    config = prepared.config
    if not prepared.models.miniature or prepared.device != "cpu" or left <= LONG:
        return ""
    if config.compile or prepared.models.dtype != "bfloat16":
        return ""
    return (
        "a new run with --set compile=true draws about twice as fast, after a minute of compiling"
    )


def crowded(device: str, threads: int) -> str:
    """A hint where other processes keep cores busy: threads that share a core with other work wait
    for each other.
    """
    cores = os.cpu_count() or 1
    if device != "cpu" or threads == 1 or cores == 1 or (taken := busy_cores()) < BUSY:
        return ""
    return (
        f"other work keeps about {taken:.1f} of {cores} cores busy; with --threads 1 a run may be "
        f"faster beside it"
    )


def without_drift(prepared: Prepared) -> str:
    """Where drift was asked for and the suite has nothing to measure it on."""
    if not prepared.config.drift or prepared.catalog.drift:
        return ""
    return (
        f"the suite {prepared.catalog.name} has no unrelated prompts (a drift.csv in its folder), "
        f"so drift is not measured"
    )


def without_pairs(prepared: Prepared) -> str:
    """Where pairs were asked for and some methods draw one concept in a picture."""
    alone = [method.name for method in prepared.methods if not method.pairs]
    if not prepared.config.pairs or not alone:
        return ""
    return f"no pairs are planned for {listed(alone)}, because one picture holds one concept there"


def listed(names: Sequence[str]) -> str:
    """As a sentence names several: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def tell(prepared: Prepared, about: Mapping[str, Any], ahead: TimeLeft, stops: Stops) -> None:
    """Counts, time and advice on stderr; a run of hours asks once, where somebody can answer."""
    total, left = about["total"], images_left(about)
    found = ahead.range() if left else None
    print(
        f"perfbench: {prepared.folder}: {total['fits'] - total['fits_done']} fits and {left} "
        f"images to do (a fit: one method trained on one concept)"
        + (f", {words(*found)}" if found else "")
        + (f"; at most {stops.images} images of these now" if 0 < stops.images < left else ""),
        file=sys.stderr,
    )
    advice = [faster(prepared, left), crowded(prepared.device, prepared.config.threads)]
    for sentence in filter(None, (without_drift(prepared), without_pairs(prepared))):
        print(f"perfbench: {sentence}", file=sys.stderr)
    for sentence in filter(None, advice if left else ()):
        print(f"perfbench: {sentence}", file=sys.stderr)
    unasked = stops.sure or 0 < stops.images < left  # a part of it is no accident
    if found and found[1] > ASKED and not unasked and not _goes_on(words(*found)):
        raise UserError(
            f"not begun; add --yes to begin without being asked, or make it smaller by --preset "
            f"quick or fewer --concepts and --prompts ({prepared.folder} has the plan)"
        )


def _goes_on(long: str) -> bool:
    """Asked at a terminal only: a script, a queue or CI has said what it wants."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(f"perfbench: this may take {long}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
