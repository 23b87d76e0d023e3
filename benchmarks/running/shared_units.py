"""Which units a run shares with earlier runs of this machine, and all that decides their bytes.

In: a Job, a run folder, a unit. Out: the unit taken from the cache and published, or put there.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import read_json, read_manifest
from benchmarks.planning import methods
from benchmarks.planning.units import FLOOR, Cell, Fit, Prior, Unit
from benchmarks.running.tasks import Event, Job
from benchmarks.store.run_folder import MANIFEST, Store
from benchmarks.store.run_json import libraries
from benchmarks.store.unit_cache import UnitCache, key_of, unit_cache
from perfusion_core import hardware

# what tells libraries of kernels how to calculate
KERNELS = ("ATEN_", "CUBLAS_", "DNNL_", "MKL_", "NVIDIA_", "ONEDNN_")


class SharedUnits:
    """The cache as one worker uses it; a unit's lock is held by whoever calls."""

    def __init__(self, job: Job, store: Store, say: Callable[[Event], None]) -> None:
        self.job, self.store, self.say = job, store, say
        self.cache: UnitCache = unit_cache()
        self.on = job.config.cache != "none" and self.cache.limit > 0
        files = job.config.method_files
        self.sources = list(source_files(files)) if self.on else []
        # the code of an installed method lies elsewhere, and may change without its version
        self.known = {
            name
            for name, where in (methods.sources(files) if self.on else {}).items()
            if name in methods.BUILT_IN or where.endswith(".py")
        }
        self.seen, self.shortages, self.told = _stamps(self.sources), _shortages(), ""
        self.sources_digest = sources_digest(self.sources) if self.on else ""

    def has(self, unit: Unit) -> bool:
        """Whether `take` will find it, as far as can be told without reading its files."""
        of = self.of(unit)
        return of is not None and self.cache.has(key_of(_kind(unit), of))

    def take(self, unit: Unit) -> bool:
        """Published as if it had been made here; what it cost to make stays in its manifest."""
        of = self.of(unit)
        if of is None or not self.cache.has(key := key_of(_kind(unit), of)):
            self._tell(unit)
            return False
        with self.store.aside(unit.key) as out:
            about = self.cache.take(key, out)
            if about is not None:
                self.store.publish(unit, out, {**about, "cached": True})
        self._tell(unit)
        return about is not None

    def put(self, unit: Unit) -> None:
        """What was made in batches of the usual size by sources that nobody changed meanwhile."""
        if (of := self.of(unit)) is None:
            return
        manifest = read_json(self.store.folder(unit) / MANIFEST[type(unit)]) or {}
        plain = "files" in manifest and "batches" not in manifest
        same = _shortages() == self.shortages and _stamps(self.sources) == self.seen
        if plain and same:
            self.cache.put(_kind(unit), of, self.store.folder(unit), manifest)
            self._tell(unit)

    def _tell(self, unit: Unit) -> None:
        """One line about a cache that cannot be used; the run goes on without it."""
        if (trouble := self.cache.trouble) and not self.told:
            self.told = f"the run goes on without the cache of earlier runs: {trouble}"
            self.say(Event("note", unit, text=self.told))

    # ---- what a unit's entry is called by ----

    def wanted(self, unit: Unit) -> bool:
        if isinstance(unit, Cell):
            asked = self.job.config.cache == "all" or unit.base == FLOOR
            return self.on and asked and unit.base in self.known
        fitted = isinstance(unit, Prior) or (unit.method in self.known and not unit.given)
        return self.on and fitted

    def of(self, unit: Unit) -> dict[str, Any] | None:
        """All that decides the bytes of its files and what its manifest tells; None: not shared.

        A unit's key names what it was planned to be made of. Files that it reads may have been made
        in this folder by an earlier version, so their digests are asked for as well.
        """
        if not self.wanted(unit):
            return None
        read = [_files(place) for place in self._inputs(unit)]
        if None in read:
            return None
        about = {"unit": unit.key, **_told(unit), "reads": read}
        return {**about, "sources": self.sources_digest, **self.circumstances}

    def _inputs(self, unit: Unit) -> list[Path]:
        """Manifests of what is read in the making."""
        store, fit = self.store, MANIFEST[Fit]
        if isinstance(unit, Cell):
            return [store.folder(one) / fit for one in unit.fits]
        if isinstance(unit, Fit):
            prior = [store.folder(unit.prior) / MANIFEST[Prior]] if unit.prior else []
            return [store.concept(unit.concept) / "concept.json", *prior]
        return []

    @cached_property
    def circumstances(self) -> dict[str, Any]:
        """What calculates, and how the backbone does."""
        return {
            **calculating(self.job.device),
            "dtype": self.job.models.dtype,
            "compiled": self.job.models.rows if self.job.config.compile else False,
        }


def calculating(on: str) -> dict[str, Any]:
    """What calculates. No promise of equal bytes goes beyond one kind of processor."""
    import torch

    flags = hardware.processor_flags(Path("/proc/cpuinfo")) or ()
    about: dict[str, Any] = {
        "libraries": libraries(),
        "processor": hardware.processor(),
        "instructions": [
            torch.backends.cpu.get_cpu_capability(),
            *sorted(flag for flag in flags if flag.startswith(("amx", "avx512"))),
        ],
        "kernels": {k: v for k, v in sorted(os.environ.items()) if k.startswith(KERNELS)},
        "device": on.partition(":")[0],
        "threads": torch.get_num_threads(),
    }
    if about["device"] == "cuda":
        versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        about |= {"gpu": torch.cuda.get_device_name(on), **versions}
    return about


def _kind(unit: Unit) -> str:
    return type(unit).__name__.lower()


def _told(unit: Unit) -> dict[str, Any]:
    """What is no part of the unit's key, and words for people."""
    if isinstance(unit, Prior):
        return {"super_category": unit.super_category}
    if isinstance(unit, Fit):
        return {"method": unit.method, "concept": unit.concept, "keep": list(unit.keep)}
    return {"method": unit.method, "point": unit.point, "concept": unit.concept,
            "prompt": unit.prompt_id, "text": unit.text}  # fmt: skip


def _files(manifest: Path) -> str | None:
    """One digest of the files that a manifest names."""
    if (found := read_manifest(manifest)) is None:
        return None
    return digest({name: file["sha256"] for name, file in found["files"].items()})


def _shortages() -> int:
    from perfusion_core import memory

    return memory.shortages


# ---- the sources ----


def source_files(
    method_files: Sequence[str], packages: Sequence[Path] | None = None
) -> Iterable[tuple[str, Path]]:
    """Every module of this installation, and the method files that the command names, by a name
    that is the same on every machine.
    """
    for package in packages or _packages():
        for path in sorted(package.rglob("*.py")):
            yield path.relative_to(package.parent).as_posix(), path
    for file in sorted(method_files, key=lambda file: Path(file).name):
        yield Path(file).name, Path(file)


def _packages() -> list[Path]:
    import baselines
    import benchmarks
    import perfusion_core

    return [Path(str(p.__file__)).parent for p in (baselines, benchmarks, perfusion_core)]


def sources_digest(files: Iterable[tuple[str, Path]]) -> str:
    return digest([[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files])


def _stamps(files: Iterable[tuple[str, Path]]) -> list[tuple[int, int]]:
    """Whether somebody works on them while they run: modules are imported when they are needed."""
    found = [path.stat() if path.is_file() else None for _, path in files]
    return [(about.st_mtime_ns, about.st_size) if about else (0, 0) for about in found]
