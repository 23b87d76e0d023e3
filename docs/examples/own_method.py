"""A method of your own in one file: the concept's word, with the name of its colour before it.

    perfbench run --method-file docs/examples/own_method.py --methods colour,super --preset quick
    python -m benchmarks.contract docs/examples/own_method.py

A method that trains by gradients has the same names; docs/methods.md has one.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file

NAME, LABEL, VERSION = "colour", "Colour word", 1
TRAINED, PRIOR, USES_COVARIANCE, TEXT_SIDE, SETTINGS = True, False, False, True, ()
COLOURS = {"red": (0.7, 0.1, 0.1), "green": (0.1, 0.6, 0.1), "blue": (0.1, 0.2, 0.7),
           "white": (0.9, 0.9, 0.9), "black": (0.1, 0.1, 0.1), "grey": (0.5, 0.5, 0.5)}  # fmt: skip


@dataclass(frozen=True)
class Config:
    steps: int = 10


MINIATURE = Config()


def fit(backbone, subject, config, out, *, seed, prior=None, validate=None, keep=(), progress=None):
    masks = torch.ones_like(subject.images[:, :1]) if subject.masks is None else subject.masks
    seen = ((subject.images + 1) / 2 * masks).sum((2, 3)) / masks.sum((2, 3))  # [n, 3] in [0, 1]
    colour, losses = seen[0], []
    for step in range(1, config.steps + 1):
        gap = seen[step % len(seen)] - colour
        colour = colour + gap / (step + 1)
        losses.append(gap.square().mean().item())
        for folder in [out / f"step-{step}"] * (step in keep) + [out] * (step == config.steps):
            folder.mkdir(parents=True, exist_ok=True)
            save_file({"colour": colour.contiguous()}, folder / "colour.safetensors")
        if progress:
            progress(step, config.steps, losses[-1])
    return {"steps": config.steps, "losses": losses, "trainable": 3}


@contextmanager
def apply(backbone, fits, point):
    words = {}
    for name, fitted in fits.items():
        mean = load_file(fitted.folder / "colour.safetensors")["colour"]
        near = min(COLOURS, key=lambda word: (torch.tensor(COLOURS[word]) - mean).norm().item())
        words[f"{{{name}}}"] = f"{near} {fitted.super_category}"

    def write(text):
        for name, word in words.items():
            text = text.replace(name, word)
        return text

    yield write
