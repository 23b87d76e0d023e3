"""What the tests of the baselines share: a subject, class images, fits that changed something,
stock calls.
"""

import functools
import importlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perfusion_core.sampling import noise, sample
from perfusion_core.subject import Fitted, Subject

MODULES = {
    "db": "dreambooth",
    "ti": "textual_inversion",
    "cd": "custom_diffusion",
    "lora": "lora",
    "dora": "dora",
    "loha": "loha",
    "lokr": "lokr",
    "oft": "oft",
    "pivotal": "pivotal",
    "xti": "xti",
}
# far too high, so that few steps change the pictures a lot
RATES = {"db": 1e-2, "ti": 0.3, "cd": 0.1, "lora": 0.1}
RATES |= {"dora": 0.1, "loha": 0.2, "lokr": 0.1, "oft": 0.1, "pivotal": 0.1, "xti": 0.3}
SEEDS = [3, 4]


def module(name: str):
    return importlib.import_module(f"baselines.{MODULES[name]}")


def prior(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


@functools.cache
def subject(name: str = "teddy", word: str = "toy", asymmetric: bool = False) -> Subject:
    rng = torch.Generator().manual_seed(len(name))
    return Subject(
        name, word, torch.rand(3, 3, 16, 16, generator=rng) * 2 - 1, asymmetric=asymmetric
    )


def quick_fit(
    method: str, backbone, out: Path, who: Subject | None = None, steps: int = 6, **changes
) -> Fitted:
    """A short training at a rate that shows."""
    this, who = module(method), who or subject()
    config = replace(this.MINIATURE, **{"steps": steps, "batch": 4, "lr": RATES[method]} | changes)
    this.fit(backbone, who, config, out, seed=7, prior=prior() if this.PRIOR else None)
    return Fitted(out, who.super_category)


def ours(method: str, backbone, fits: dict[str, Fitted], text: str) -> np.ndarray:
    with module(method).apply(backbone, fits, {}) as write:
        return sample(backbone, write(text), SEEDS, steps=5)


def stock_pipe(backbone):
    """A pipeline of diffusers' own from the same folder, with the protocol's scheduler."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        backbone.place, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = backbone.scheduler()
    return pipe


def stock_draw(pipe, backbone, text: str) -> np.ndarray:
    """The pipeline's own call from the starting noise that `sample` takes."""
    call = {
        "num_inference_steps": 5,
        "guidance_scale": 6.0,
        "output_type": "np",
        "num_images_per_prompt": len(SEEDS),
    }
    return (
        (pipe(text, latents=noise(backbone, SEEDS), **call).images * 255).round().astype(np.uint8)
    )


def page_tells(method: str, published: Any, small: Any) -> None:
    """docs/baselines.md has a row a number: `| method | key | source | SD | miniature | why |`."""
    page = Path(__file__).parent.parent / "docs" / "baselines.md"
    told = [[cell.strip() for cell in row.split("|")] for row in page.read_text().split("\n")]
    rows = {row[2]: row[4:6] for row in told if row[1:2] == [f"`{method}`"] and len(row) == 8}
    both = asdict(published).items(), asdict(small)
    # how, and what is the same for all
    left = ("accumulate", "checkpointing", "masks")
    wanted = {f"`{key}`": [shown(a), shown(both[1][key])] for key, a in both[0] if key not in left}
    assert rows == wanted


def shown(value: float | bool) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())
