"""The one world of all folders that a set of pages is made from. In: the folder of results, and the
names of those that are read. Out: the world's name; one sentence where two of them share no table.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.disk import read_json
from benchmarks.evidence.results_page import NOTES
from benchmarks.miniature.which_world import world_of_run
from perfusion_core.errors import UserError

VERIFIED = "verify.json"  # of the shipped weights, by their digests


def one_world(results: Path, folders: Iterable[str]) -> str:
    """Empty where none has a world. In it a backbone has one digest: weights that were trained
    again draw other pictures under the same name.
    """
    worlds: dict[str, str] = {}
    weights: dict[str, dict[str, str]] = {}
    for name in sorted(set(folders)):
        backbone = _backbone(results / name)
        if world := world_of_run({"backbone": backbone}) or _noted(results, name):
            worlds.setdefault(world, name)
        if digest := backbone.get("sha256"):
            weights.setdefault(str(backbone.get("id")), {}).setdefault(str(digest), name)
    if len(worlds) > 1:
        told = " and ".join(f"{name} of the {world} world" for world, name in worlds.items())
        raise _refused(results, told, "world")
    for backbone_id, found in weights.items():
        if len(found) > 1:
            told = " and ".join(f"{name} of {digest}" for digest, name in found.items())
            raise _refused(results, f"{told}, both called {backbone_id}", "backbone")
    return next(iter(worlds), "")


def _refused(results: Path, told: str, one: str) -> UserError:
    return UserError(
        f"the pages would rest on {told}, whose numbers share no table: move the folders of one "
        f"{one} out of {results}/"
    )


def _backbone(folder: Path) -> dict[str, Any]:
    if (about := read_json(folder / "run.json")) is not None:
        return dict(about.get("backbone") or {})
    about = read_json(folder / VERIFIED) or {}
    digest = (about.get("digests") or {}).get("backbone")
    return {"id": "miniature", "sha256": digest, "world": about.get("world")} if digest else {}


def _noted(results: Path, name: str) -> str:
    """Of a folder that is no run, as the notes say."""
    if not (results / NOTES).is_file() or (results / name / "run.json").is_file():
        return ""
    note = tomllib.loads((results / NOTES).read_text(encoding="utf-8")).get(name) or {}
    return str(note.get("world", ""))
