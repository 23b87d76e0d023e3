"""Every prompt in one picture: as the world draws it or, for the words behind the file, as the
models draw it.

python -m benchmarks.miniature.sheet docs/images/world.png
python -m benchmarks.miniature.sheet docs/images/generated.jpg cat teapot chair sunglasses
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.miniature.opening import drawn
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import render
from benchmarks.paths import miniature_dir
from benchmarks.suite.catalog import Catalog, load_catalog
from perfusion_core.backbone import Backbone
from perfusion_core.errors import unknown

ACROSS, PIXELS_BETWEEN = 16, 12


def world_sheet(catalog: Catalog) -> list[np.ndarray]:
    """The 86 prompts and the pairs, in their order, with the concepts of each prompt's group in
    turn.
    """
    pictures = []
    for number, prompt in enumerate(catalog.prompts):
        fitting = [c.super_category for c in catalog.concepts if prompt in catalog.prompts_for(c)]
        pictures.append(
            render(
                read(prompt.template.format(fitting[number % len(fitting)]), seed=number), number
            )[0]
        )
    return pictures


def generated_sheet(catalog: Catalog, word: str, backbone: Backbone) -> list[np.ndarray]:
    """The prompts of a super-category's group, in their order, as the models draw them."""
    known = {c.super_category: c for c in catalog.concepts}
    if word not in known:
        raise unknown("super-category", word, known)
    texts = [p.template.format(word) for p in catalog.prompts_for(known[word])]
    return list(drawn(backbone, texts, range(len(texts))))


def tiled(pictures: list[np.ndarray]) -> np.ndarray:
    pictures = [*pictures, *[np.full_like(pictures[0], 255)] * (-len(pictures) % ACROSS)]
    return np.concatenate(
        [np.concatenate(pictures[k : k + ACROSS], axis=1) for k in range(0, len(pictures), ACROSS)]
    )


def main(out: Path, words: list[str]) -> None:
    catalog = load_catalog()
    if words:
        backbone = Backbone.open(miniature_dir())
        parts = [tiled(generated_sheet(catalog, word, backbone)) for word in words]
    else:
        parts = [tiled(world_sheet(catalog))]
    gap = np.full((PIXELS_BETWEEN, parts[0].shape[1], 3), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([row for part in parts for row in (part, gap)][:-1]))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        whole = whole.quantize(128)
    whole.save(out, optimize=True, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
