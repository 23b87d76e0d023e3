"""Which drawn world weights and runs are of. A world is one generation of the miniature: models,
scorers and judges that were trained together on what the renderer draws. miniature-xl has a world
of its own beside that of the miniature whose scorers and judges it shares: another model draws.

In: a folder of weights, or run.json. Out: the world's name, empty where there is none, as of Stable
Diffusion. Numbers of two worlds share no table: who draws and who scores are both others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.disk import read_json
from benchmarks.paths import miniature_dir
from perfusion_core.weight_digests import backbone_digest

RECORD = "build.json"  # beside the weights: how they were made, and their world
WORLDS = ("first", "second")
FIRST, BUILT = WORLDS[0], WORLDS[-1]  # BUILT: what this version's recipe makes
XL = "-xl"  # behind the world of what miniature-xl was grown from
KNOWN = (*WORLDS, *(f"{world}{XL}" for world in WORLDS))
# digests of backbones that were made before weights named their world
OF_FIRST = {
    "8209b2c9758de008": "as it was shipped",
    "596ce6d545129ea2": "with less training of its U-Net",
    "6227629b8f2d8854": "interim",
    "ba0f49b3da9b3b93": "interim, with little training",
    "792b207950858368": "its copy that paints watercolours",
    "522762cced61f929": "its copy whose text encoder was not taught to keep words apart",
}


def world_of_weights(place: Path, digest: str = "") -> str:
    """As the record beside them says; of older weights, by their digest, where it is known."""
    told = (read_json(place / RECORD) or {}).get("world")
    if told in KNOWN:
        return str(told)
    if not (place / RECORD).is_file():
        return ""
    return FIRST if (digest or backbone_digest(place)) in OF_FIRST else ""


def world_of_run(about: Mapping[str, Any]) -> str:
    """As run.json says; of a run that is older than the names, by the digest of its backbone."""
    backbone = about.get("backbone") or {}
    told, digest = backbone.get("world"), backbone.get("sha256")
    if told in KNOWN:
        return str(told)
    return FIRST if isinstance(digest, str) and digest in OF_FIRST else ""


def xl_of(world: str) -> str:
    """The world of a miniature-xl that was grown from weights of this one."""
    return world and f"{world.removesuffix(XL)}{XL}"


def one_generation(worlds: tuple[str, str]) -> bool:
    """Whether two worlds share scorers and judges: one is the other's XL."""
    return xl_of(worlds[0]) == xl_of(worlds[1])


def world_here() -> str:
    """Of the weights in the package."""
    return world_of_weights(miniature_dir())


def worlds_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str] | None:
    """The worlds of two run.json, where both have one and they differ."""
    worlds = world_of_run(one), world_of_run(other)
    return worlds if all(worlds) and worlds[0] != worlds[1] else None


def with_world(backbone: str, about: Mapping[str, Any]) -> str:
    """A backbone's name with its world, as titles have it: `miniature (first world)`."""
    world = world_of_run(about)
    return f"{backbone} ({world} world)" if world else backbone
