"""Every prompt as the world draws it, one picture: `python -m benchmarks.miniature.sheet docs/images/world.png`.

The 86 prompts and the pairs, in their order, with the concepts of each prompt's group in turn.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.catalog import load_catalog
from benchmarks.miniature.captions import read
from benchmarks.miniature.world import render

ACROSS, ENLARGED = 16, 64


def world_sheet() -> Image.Image:
    catalog = load_catalog()
    pictures = []
    for number, prompt in enumerate(catalog.prompts):
        fitting = [c.super_category for c in catalog.concepts if prompt in catalog.prompts_for(c)]
        pictures.append(render(read(prompt.template.format(fitting[number % len(fitting)]), seed=number), number)[0])
    blank = np.full_like(pictures[0], 255)
    pictures += [blank] * (-len(pictures) % ACROSS)
    rows = [np.concatenate(pictures[k : k + ACROSS], axis=1) for k in range(0, len(pictures), ACROSS)]
    sheet = Image.fromarray(np.concatenate(rows))
    return sheet.resize((ACROSS * ENLARGED, len(rows) * ENLARGED), Image.Resampling.NEAREST)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    world_sheet().quantize(128).save(out, optimize=True)
