"""The pictures of a model card: of a run, of `perfbench generate`, or drawn now.

In: where they come from. Out: PNG files in the card's folder, each with its prompt.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.exchange.file_scores import FileScores, points_figure, run_pictures
from benchmarks.exchange.parcel import Parcel
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.style import styled, write_figure
from benchmarks.safe_paths import leads_out
from benchmarks.suite.image_files import load_image
from perfusion_core.errors import UserError

FIGURE = "points.png"
MOST = 8  # of the gallery
PROMPTS = ("A photo of a {}", "A {} on the beach", "A {} in the snow", "A {} on the moon")
BIAS, TEMPERATURE, SWEEP = 0.6, 0.15, (0.4, 0.5, 0.6, 0.7, 0.8)
Shown = list[tuple[str, str]]  # prompt, place in the folder


def of_run(folder: Path, scores: FileScores) -> Shown:
    """Of the run that scored this file, and its curves over the bias."""
    shown = [copied(folder, turn, *one) for turn, one in enumerate(run_pictures(scores, MOST))]
    with styled(), looks_of_runs([scores.run]):
        if (figure := points_figure(scores)) is not None:
            write_figure(figure, folder / FIGURE)
    return shown


def of_folder(folder: Path, given: Path) -> Shown:
    """What `perfbench generate` left: its pictures tell their prompts, its sweep is the figure."""
    if not given.is_dir():
        raise UserError(f"--pictures {given} is no folder; `perfbench generate --out` makes one")
    found = []
    for path in sorted(given.rglob("*.png")):
        if leads_out(path) or path.name in ("sweep.png", "grid.png"):
            continue
        try:
            with Image.open(path) as image:
                prompt = prompt_told(getattr(image, "text", {}))
        except (OSError, ValueError, SyntaxError):
            continue
        if prompt:
            found.append((prompt, path))
    if not found:
        raise UserError(
            f"--pictures {given} has no picture that tells its prompt; `perfbench generate` "
            f"writes such ones"
        )
    step = max(1, len(found) // MOST)
    shown = [copied(folder, turn, *one) for turn, one in enumerate(found[::step][:MOST])]
    if (given / "sweep.png").is_file() and not leads_out(given / "sweep.png"):
        shutil.copyfile(given / "sweep.png", folder / FIGURE)
    return shown


def prompt_told(texts: Mapping[str, str]) -> str:
    """What `perfbench generate` wrote into a picture; of other programs' pictures nothing. ComfyUI
    calls a whole workflow, with the paths of its owner, `prompt`.
    """
    prompt = str(texts.get("prompt", ""))
    if not str(texts.get("seed", "")).isdigit():
        return ""
    try:
        json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt
    return ""


def copied(folder: Path, turn: int, prompt: str, path: Path) -> tuple[str, str]:
    """The pixels alone: metadata of other programs may tell more than their owner knows."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    load_image(path).save(folder / "images" / f"{turn}.png")
    return prompt, f"images/{turn}.png"


def drawn(folder: Path, sent: Parcel, args: argparse.Namespace) -> Shown:
    """A picture of each usual prompt, and one prompt over the bias, on the concept's backbone."""
    from benchmarks.figures.one_prompt.drawn_prompt import opened, pictures_of, write_picture
    from benchmarks.figures.one_prompt.prompt_sheet import sweep_sheet
    from benchmarks.figures.one_prompt.wanted import Wanted

    assert sent.concept is not None
    print(
        f"perfbench: drawing {len(PROMPTS) + len(SWEEP)} pictures for the card; --run, "
        f"--pictures DIR or --pictures none draws nothing",
        file=sys.stderr,
    )
    backbone = opened(args)
    name = sent.concept.placeholder
    asked = Wanted(
        prompt="",
        files={name: str(sent.files[0])},
        lock="local",
        biases=(BIAS,),
        swept=(),
        temperature=TEMPERATURE,
        seeds=(args.seed,),
        steps=50,
        guidance=6.0,
    )
    shown = []
    for turn, template in enumerate(PROMPTS):
        one = replace(asked, prompt=template.replace("{}", f"{{{name}}}"))
        [[picture]] = pictures_of(backbone, one)
        place = f"images/{turn}.png"
        write_picture(folder / place, picture, one.about(0, args.seed))
        shown.append((one.prompt, place))
    if sent.concept.gate != "linear":
        prompt = PROMPTS[1].replace("{}", f"{{{name}}}")
        sweep = replace(asked, prompt=prompt, biases=SWEEP, swept=SWEEP)
        sweep_sheet(folder / FIGURE, sweep, list(pictures_of(backbone, sweep)))
    return shown
