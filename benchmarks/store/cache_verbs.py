"""What `perfbench cache list`, `prune` and `check` do. In: their arguments. Out: text or JSON, and
an exit status.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from benchmarks.store.unit_cache import Entry, UnitCache, size_of, unit_cache
from perfusion_core.errors import UserError


def show(as_json: bool) -> int:
    """What is there, a row a kind and method; as JSON also each entry, with what its key was made
    of.
    """
    cache = unit_cache()
    found = sorted(cache.entries(), key=lambda entry: entry.used)
    rows = by_kind(found)
    if as_json:
        return _told({**_about(cache, found), "kinds": rows, "entries": list(map(_entry, found))})
    print(f"{cache.root}: {shown(_bytes(found))} of {shown(cache.limit)}")
    line = "{kind:<9}{of:<18}{entries:>8}{size:>10}  {newest}".format
    print(line(kind="kind", of="of", entries="entries", size="size", newest="last used"))
    for row in rows:
        print(line(**{**row, "size": shown(row["bytes"])}))
    return 0


def prune(to: str | None, as_json: bool) -> int:
    cache = unit_cache()
    limit = cache.limit if to is None else size_of(to, "--to")
    gone = cache.prune(limit)
    _refuse_trouble(cache)
    left = list(cache.entries())
    if as_json:
        return _told(
            {**_about(cache, left), "removed": {"entries": len(gone), "bytes": _bytes(gone)}}
        )
    print(
        f"{cache.root}: removed {len(gone)} entries, {shown(_bytes(gone))}; {len(left)} are left, "
        f"{shown(_bytes(left))}"
    )
    return 0


def check(as_json: bool) -> int:
    """1 where something was damaged."""
    cache = unit_cache()
    whole, bad = cache.check()
    _refuse_trouble(cache)
    if as_json:
        damaged = [{"key": key, "why": why} for key, why in bad]
        _told({"folder": str(cache.root), "whole": whole, "damaged": damaged})
        return int(bool(bad))
    for key, why in bad:
        print(f"{key[:16]}: {why}; removed")
    print(f"{cache.root}: {whole} entries are whole, {len(bad)} were damaged")
    return int(bool(bad))


def by_kind(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Counts, bytes and newest use of each kind, and of each method or judge in it."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        of = entry.of.get("method") or entry.of.get("model") or ""
        groups.setdefault((entry.kind, str(of)), []).append(entry)
    return [
        {
            "kind": kind,
            "of": method,
            "entries": len(some),
            "bytes": _bytes(some),
            "newest": _when(max(entry.used for entry in some)),
        }
        for (kind, method), some in sorted(groups.items())
    ]


def shown(size: int) -> str:
    """1.2 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _about(cache: UnitCache, entries: Iterable[Entry]) -> dict[str, Any]:
    return {"folder": str(cache.root), "bytes": _bytes(entries), "limit": cache.limit}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.path.name,
        "kind": entry.kind,
        "bytes": entry.bytes,
        "used": _when(entry.used),
        "of": dict(entry.of),
    }


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(entry.bytes for entry in entries)


def _when(used: float) -> str:
    return datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds") if used else "never"


def _told(about: dict[str, Any]) -> int:
    print(json.dumps(about, indent=1))
    return 0


def _refuse_trouble(cache: UnitCache) -> None:
    if cache.trouble:
        raise UserError(f"the cache cannot be changed: {cache.trouble}")
