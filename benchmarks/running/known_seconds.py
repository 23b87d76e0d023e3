"""What a row through the U-Net took: on this machine, where it worked before; else on one like it.

In: what is about to be done. Out: seconds a row of trainings and of pictures, with the range that
they stand for. After a run, what it took is kept in the cache folder.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.digests import digest
from benchmarks.disk import DiskError, read_json, write_whole
from benchmarks.planning.backbones import Models
from benchmarks.planning.config import Config
from benchmarks.running.time_left import FITS, PICTURES, TimeLeft
from benchmarks.store.unit_cache import unit_cache
from perfusion_core import hardware
from perfusion_core.places import cache_dir

Known = Mapping[str, tuple[float, float, float]]  # kind -> seconds a row; the range: from and to
LIKELY = 1e-7, 1e4  # seconds a row, of any backbone on any machine
LEAST = 2000.0  # rows of a kind: what fewer took says little of the next run
HERE, ELSEWHERE = (0.7, 1.5), (0.5, 2.5)
# Seconds a row of one worker with two threads, of the first miniature on a CPU
# (results/first-world/speed)
MEASURED = {
    "bfloat16": {FITS: 0.0041, PICTURES: 0.0037},
    "float32": {FITS: 0.0051, PICTURES: 0.0055},
}


def known_seconds(config: Config, models: Models, device: str, workers: int) -> Known:
    """Empty where nothing like it was ever measured."""
    told = read_json(_place(config, models, device, workers)) or {}
    mine = {kind: told[kind] for kind in (FITS, PICTURES) if is_likely(told.get(kind))}
    if mine and config.cache != "none":
        return {kind: (seconds, *HERE) for kind, seconds in mine.items()}
    if models.name != "miniature" or device != "cpu":
        return {}
    return {kind: (seconds, *ELSEWHERE) for kind, seconds in MEASURED.get(models.dtype, {}).items()}


def remember(
    config: Config, models: Models, device: str, workers: int, left: TimeLeft | None
) -> None:
    """What this run took a row; a cache that takes nothing costs the next estimate only."""
    if left is None or config.cache == "none" or not unit_cache().limit:
        return
    if not (learned := left.prices(LEAST)):
        return
    place = _place(config, models, device, workers)
    told = {**(read_json(place) or {}), **learned}
    with suppress(OSError, DiskError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(told) + "\n")


def is_likely(seconds: object) -> bool:
    """A number that some machine could take for a row; anything else is damage."""
    return isinstance(seconds, float) and LIKELY[0] < seconds < LIKELY[1]


def _place(config: Config, models: Models, device: str, workers: int) -> Path:
    about = {
        "backbone": models.digest,
        "dtype": models.dtype,
        "device": device.partition(":")[0],
        "processor": hardware.processor(),
        "engine": [config.engine, workers, config.threads, config.compile],
        "rows": models.rows,
    }
    return cache_dir() / "seconds" / f"{digest(about)[:32]}.json"
