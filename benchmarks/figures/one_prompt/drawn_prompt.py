"""`perfbench generate`: one prompt drawn, outside a benchmark.

In: the verb's arguments. Out: pictures, each with its prompt and seed in the metadata; a sheet of
them and, of a sweep over the bias, a page with a slider.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.devices import device_name
from benchmarks.disk import ask_for, written_whole
from benchmarks.figures.one_prompt.prompt_sheet import grid_sheet, sweep_sheet
from benchmarks.figures.one_prompt.sweep_page import write_sweep_page
from benchmarks.figures.one_prompt.wanted import PLACEHOLDER, Wanted, wanted
from benchmarks.paths import backbone_names
from perfusion_core.admission import as_concept
from perfusion_core.backbone import Backbone
from perfusion_core.concept import Concept
from perfusion_core.editing import load_concepts
from perfusion_core.errors import UserError
from perfusion_core.memory import draw_what_fits
from perfusion_core.sampling import Manner, prepared


def generate(args: argparse.Namespace) -> None:
    """Draw a prompt whose {names} are concept files, and print each file that was written."""
    asked, out = wanted(args), Path(args.out)
    places = [
        [asked.file(out, turn, seed) for seed in asked.seeds] for turn in range(len(asked.biases))
    ]
    more = [out / "sweep.png", out / "sweep.html"] if asked.swept else []
    more += [out / "grid.png"] if args.grid and not asked.swept else []
    ask_for(places[0][0])
    there = [place for place in [*more, *chain(*places)] if place.exists()]
    if there and not args.overwrite:
        raise UserError(
            f"{there[0]} is there already; give another --out or --seed, or --overwrite replaces it"
        )
    backbone = opened(args)
    tell_unread(backbone, asked)
    drawn = []
    for turn, pictures in enumerate(pictures_of(backbone, asked)):
        for seed, place, picture in zip(asked.seeds, places[turn], pictures):
            write_picture(place, picture, asked.about(turn, seed))
            print(place)
        drawn.append(pictures)
    if asked.swept:
        sweep_sheet(out / "sweep.png", asked, drawn)
        print(out / "sweep.png")
        print(write_sweep_page(out / "sweep.html", asked, places, backbone.name))
    elif args.grid:
        grid_sheet(out / "grid.png", asked, drawn[0])
        print(out / "grid.png")


def opened(args: argparse.Namespace) -> Backbone:
    """The backbone that a verb's flags name."""
    diffusers_logging.set_verbosity_error()  # a prompt that is cut is said here
    return Backbone.open(
        args.backbone,
        device=device_name(args.device),
        dtype=None if args.dtype == "auto" else args.dtype,
        revision=args.revision,
        names=backbone_names(),
        vae=getattr(args, "vae", None),
    )


def tell_unread(backbone: Backbone, asked: Wanted) -> None:
    """A line about what is cut off a prompt; a concept is one token of text."""
    for what, text in (("prompt", asked.prompt), ("negative prompt", asked.negative)):
        shown, negative = PLACEHOLDER.sub("x", text), what != "prompt"
        if rest := backbone.text.unread(shown, negative):
            print(
                f"perfbench: the {what} is longer than the text encoder reads; not drawn: "
                f"{rest!r:.200}",
                file=sys.stderr,
            )


def pictures_of(backbone: Backbone, asked: Wanted) -> Iterator[np.ndarray]:
    """uint8 [n, H, W, 3] for each bias. A step of a sweep has the bytes that its bias has alone."""
    check_size(backbone, asked.size)
    concepts = {name: as_concept(given) for name, given in asked.files.items()}
    check_swept(asked, concepts)
    how = Manner(asked.scheduler, asked.size)
    for bias in asked.biases:
        with load_concepts(
            backbone.pipe, concepts, asked.lock, bias, asked.temperature, force=asked.force
        ):
            texts = [asked.prompt] * len(asked.seeds)
            pictures = prepared(backbone, texts, asked.seeds, asked.guidance, asked.negative)
            yield draw_what_fits(
                backbone, pictures, steps=asked.steps, guidance=asked.guidance, how=how
            )[0]


def check_size(backbone: Backbone, size: tuple[int, int] | None) -> None:
    """Latents have whole numbers of pixels; every level of a U-Net halves them, and a transformer
    takes them by patches.
    """
    config = backbone.unet.config
    levels = config.get("block_out_channels")
    step = backbone.down * (2 ** (len(levels) - 1) if levels else config.patch_size)
    if size and any(side % step for side in size):
        high, wide = (max(step, round(side / step) * step) for side in size)
        raise UserError(
            f"--size {size[1]}x{size[0]}: this backbone draws sides that are multiples of {step} "
            f"pixels; the nearest is {wide}x{high}"
        )


def check_swept(asked: Wanted, concepts: dict[str, Concept]) -> None:
    """A linear gate has no bias, so all pictures of its sweep would be one."""
    known = [name for name in asked.moved if name in concepts]  # `load_concepts` refuses others
    if known and all(concepts[name].gate == "linear" for name in known):
        raise UserError(
            f"--bias sweeps {', '.join(known)}, whose gate is linear and has no bias; give no range"
        )


def write_picture(place: Path, picture: np.ndarray, about: dict[str, str]) -> None:
    told = PngInfo()
    for key, text in about.items():
        told.add_text(key, text)
    with written_whole(place) as aside:
        Image.fromarray(picture).save(aside, format="PNG", pnginfo=told)
