"""What tests of drift share: a method that moves everything as far as it is told, and runs of it.

In: nothing. Out: a method file; run folders with and without drift, made once a process, read only.
"""

import functools
import shutil
from pathlib import Path

from run_kit import run_here, shared

# adds `strength` to the noise that the U-Net predicts: 0 changes nothing, much replaces all
FLOOD = """
from contextlib import contextmanager
from dataclasses import dataclass

NAME, LABEL, VERSION = "flood", "Flood", 1
TRAINED, PRIOR = False, False
SETTINGS = ("strength",)
USES_COVARIANCE = False


@dataclass(frozen=True)
class Config:
    pass


MINIATURE = Config()


def fit(backbone, subject, config, out, *, seed, **_):
    raise NotImplementedError


@contextmanager
def apply(backbone, fits, point):
    strength = float(point["strength"])
    words = {name: fitted.super_category for name, fitted in fits.items()}

    def write(text):
        for name, word in words.items():
            text = text.replace("{" + name + "}", word)
        return text

    handle = backbone.unet.conv_out.register_forward_hook(lambda *seen: seen[-1] + strength)
    try:
        yield write
    finally:
        handle.remove()
"""
# the same, and what does not name the concept becomes another prompt
LEAK = FLOOD.replace(
    "    def write(text):\n",
    '    def write(text):\n        text = text if "{" in text else "a dog on the beach"\n',
)
POINTS = ("strength=0", "strength=3")


@functools.cache
def flood_file() -> Path:
    return _written("flood", FLOOD)


@functools.cache
def leaking_file() -> Path:
    return _written("leak", LEAK)


def _written(folder: str, text: str) -> Path:
    file = shared() / folder / "flood.py"
    file.parent.mkdir()
    file.write_text(text)
    return file


def words_of(file: Path, *more: str) -> list[str]:
    sets = ["--set", f"points.flood={','.join(POINTS)}"]
    return ["--method-file", str(file), "--methods", "flood", *sets, "--no-cache", *more]


@functools.cache
def drift_run() -> Path:
    out = shared() / "drift-run"
    assert run_here(shared(), out, *words_of(flood_file(), "--drift")) == 0
    return out


@functools.cache
def plain_run() -> Path:
    out = shared() / "plain-run"
    assert run_here(shared(), out, *words_of(flood_file())) == 0
    return out


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))
