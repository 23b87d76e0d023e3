"""A concept in a diffusers pipeline: load it, turn its bias, put it beside another, leave it.

    python docs/examples/concept_in_diffusers.py results/miniature-concepts/cat.safetensors out

The pipeline is the miniature's here; any Stable Diffusion 1.x, 2.x or XL of diffusers does the
same with a concept that was trained on it (docs/library.md).
"""

import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from benchmarks.paths import backbone_names
from perfusion_core import load_concepts


def main(concept: Path, out: Path, backbone: str = "miniature") -> None:
    out.mkdir(parents=True, exist_ok=True)
    where = backbone_names().get(backbone, Path(backbone))
    pipe = StableDiffusionPipeline.from_pretrained(where)
    pipe.set_progress_bar_config(disable=True)

    def draw(prompt: str, name: str) -> None:
        noise = torch.Generator().manual_seed(0)  # the same for every picture
        pipe(prompt, generator=noise, num_inference_steps=10).images[0].save(out / f"{name}.png")

    # The name in braces is yours to choose. A lower bias gives more of the concept.
    for bias in (0.3, 0.6, 0.9):
        with load_concepts(pipe, {"pet": str(concept)}, lock="local", bias=bias, temperature=0.15):
            draw("A photo of a {pet} on the beach", f"bias-{bias}")

    # Outside of the block the pipeline is bit for bit what it was.
    draw("A photo of a cat on the beach", "plain")
    print(*sorted(path.name for path in out.glob("*.png")))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), *sys.argv[3:4])
