"""The masks that training sees: a concept's own, none, CLIPSeg's, or a folder's. In and out:
concepts.

CLIPSeg's lie beside the concept (or in the cache) under the digest of what made them; a plan knows
them by that digest.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import written_whole
from benchmarks.safe_paths import below
from benchmarks.suite.concept_folder import Concept
from perfusion_core.errors import UserError
from perfusion_core.hardware import has_gpu
from perfusion_core.weight_digests import file_sha256

VERSION = 1  # of what is done with CLIPSeg's output
CHOICES = ("auto", "none", "clipseg")


def chooser(given: str, model: str) -> Callable[[Concept], Concept]:
    """`auto`: the concept's own masks, else CLIPSeg's; `none`; `clipseg`; or a folder with masks in
    it.
    """
    if given == "none":
        return without
    if given in ("auto", "clipseg"):
        made_by = model_digest(model)
        return lambda concept: (
            concept if given == "auto" and concept.masks else by_clipseg(concept, made_by)
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"masks={given!r} is not a folder; allowed: {', '.join(CHOICES)}, or a folder of masks"
        )
    return lambda concept: from_folder(concept, folder)


def without(concept: Concept) -> Concept:
    return (
        replace(concept, masks=(), digest=digest([concept.digest, "no masks"]))
        if concept.masks
        else concept
    )


def by_clipseg(concept: Concept, made_by: str) -> Concept:
    """Masks that may not be there yet: `make_missing` draws them."""
    if not concept.images:
        return concept
    recipe = [
        "clipseg",
        VERSION,
        made_by,
        concept.super_category,
        [file_sha256(path) for path in concept.images],
    ]
    key = digest(recipe)[:16]
    folder = place_of(concept, key)
    masks = tuple(folder / f"{path.stem}.png" for path in concept.images)
    return replace(concept, masks=masks, digest=digest([concept.digest, recipe]))


def from_folder(concept: Concept, folder: Path) -> Concept:
    """FOLDER/<concept>/<image>.png, or FOLDER/<image>.png."""
    if not concept.images:
        return concept
    inside = folder / concept.name if (folder / concept.name).is_dir() else folder
    masks = tuple(inside / f"{path.stem}.png" for path in concept.images)
    for mask in masks:
        if not mask.is_file():
            raise UserError(
                f"{mask} is missing: a folder of masks has a PNG of each image's name, in "
                f"{folder}/{concept.name}"
            )
    return replace(
        concept, masks=masks, digest=digest([concept.digest, [file_sha256(mask) for mask in masks]])
    )


def place_of(concept: Concept, key: str) -> Path:
    """Beside the concept's images where that can be written; else the cache."""
    from perfusion_core.places import cache_dir

    home = concept.images[0].parent.parent
    own = (home / "concept.toml").is_file() and os.access(home, os.W_OK)
    return below(home, f"clipseg-{key}") if own else cache_dir() / "masks" / key


def model_digest(model: str) -> str:
    """Of a folder's weights; a hub id stands for itself."""
    weights = Path(model) / "model.safetensors"
    return file_sha256(weights) if weights.is_file() else model


def make_missing(concepts: Iterable[Concept], model: str, device: str) -> None:
    """CLIPSeg for the concepts whose masks are planned and not there; opened once, and only where
    it is needed.

    A driver may have no GPU though its workers have: masks are drawn here, by what is here.
    """
    opened: Any = None
    for concept in concepts:
        if not concept.masks or all(mask.is_file() for mask in concept.masks):
            continue
        from perfusion_core.masks import open_clipseg

        if opened is None:
            opened = open_clipseg(model, here(device))
        print(
            f"perfbench: masks of {concept.name} by CLIPSeg ({concept.super_category})",
            file=sys.stderr,
        )
        write_masks(draw_masks(opened, concept), concept.masks)


def here(device: str) -> str:
    return device if not device.startswith("cuda") or has_gpu() else "cpu"


def draw_masks(opened: Any, concept: Concept) -> list[Any]:
    from benchmarks.suite.image_files import load_image
    from perfusion_core.masks import soft_masks

    model, processor = opened
    return soft_masks(
        model, processor, [load_image(path) for path in concept.images], concept.super_category
    )


def write_masks(found: Sequence[Any], paths: Sequence[Path]) -> None:
    """8-bit grey, each stretched to its own maximum, because CLIPSeg's may be faint; whole or
    absent.
    """
    from PIL import Image

    for mask, path in zip(found, paths, strict=True):
        with written_whole(path) as aside:
            Image.fromarray(grey(mask)).save(aside, format="PNG")


def grey(mask: Any) -> Any:
    import numpy as np

    return np.round(mask / max(float(mask.max()), 1e-12) * 255).astype(np.uint8)


# Looking at them


def sheet(concepts: Sequence[Concept], side: int = 192, columns: int = 4) -> Any:
    """A picture of pictures: each image, and beside it the same with what is outside of its mask in
    red.
    """
    import numpy as np
    from PIL import Image

    from benchmarks.suite.image_files import load_mask, load_rgb

    tiles = []
    for concept in concepts:
        for path, mask in zip(concept.images, concept.masks, strict=True):
            image = load_rgb(path, side).astype(np.float64)
            inside = load_mask(mask, side)[..., None] / 255.0
            shown = inside * image + (1 - inside) * (
                0.35 * image + 0.65 * np.array([200.0, 30.0, 30.0])
            )
            tiles.append(np.concatenate([image, shown], axis=1))
    if not tiles:
        raise UserError("there is no mask to show; `perfbench masks CONCEPT` makes them")
    while len(tiles) % columns and len(tiles) > columns:
        tiles.append(np.full_like(tiles[0], 255))
    columns = min(columns, len(tiles))
    rows = [
        np.concatenate(tiles[start : start + columns], axis=1)
        for start in range(0, len(tiles), columns)
    ]
    return Image.fromarray(np.round(np.concatenate(rows)).astype(np.uint8))
