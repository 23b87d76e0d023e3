"""`perfbench miniature show`: a prompt in, one picture out: what the models draw above what the
renderer draws.

The words that both know are the tables of language.py; any other word is refused with a sentence.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.disk import ask_for, written_whole
from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.instance import PATTERNS, Instance, make_instance
from benchmarks.miniature.world.language import (
    ACTIVITY,
    CONDITION,
    LOOK,
    MADE_OF,
    OUTFIT,
    PLACE,
    RARE,
    TOGETHER,
    read,
)
from benchmarks.miniature.world.picture import CLASSES, PIXELS, POOL, Picture, render
from perfusion_core.errors import UserError

ZOOM, GAP, LINE = 3, 6, 16  # pixels
MOST = 64


def words() -> str:
    """What a prompt may say, for --help."""

    def phrases(table: dict[str, list[str]]) -> str:
        return ", ".join(options[0].replace("{}", "...") for options in table.values())

    kinds = {
        "things": ", ".join(CLASSES),
        "colours": ", ".join(COLORS),
        "patterns": ", ".join(PATTERNS[1:]),
        "places": phrases(PLACE),
        "outfits": phrases(OUTFIT),
        "doing": phrases(ACTIVITY),
        "made of": phrases(MADE_OF),
        "condition": phrases(CONDITION),
        "style": phrases(LOOK),
        "two things": ", ".join(options[0] for options in TOGETHER.values()),
    }
    return "\n".join(_wrapped(kind, text) for kind, text in kinds.items())


def _wrapped(kind: str, text: str, width: int = 112) -> str:
    import textwrap

    return textwrap.fill(text, width, initial_indent=f"  {kind:<12}", subsequent_indent=" " * 14)


def asked(prompt: str, seed: object) -> Picture:
    """The picture of a prompt; a colour or a pattern before a thing chooses an instance that has
    it.
    """
    described = _described(prompt)
    adjectives = (*COLORS, *PATTERNS, *RARE)
    bare = re.sub(
        rf"\b({'|'.join(adjectives)})\b(?=(?: (?:{'|'.join(adjectives)}))* "
        rf"(?:{'|'.join(CLASSES)})\b)",
        "",
        prompt.lower(),
    )
    picture = read(re.sub(r"\s+", " ", bare), seed=seed)
    one = _like(picture.one, described[0], seed) if described else picture.one
    other = picture.other
    if other is not None and len(described) > 1:
        other = _like(other, described[1], seed)
    return replace(picture, one=one, other=other)


def _described(prompt: str) -> list[set[str]]:
    """Of every thing in the prompt, in order: the colours and patterns right before it."""
    found = []
    said: set[str] = set()
    for word in re.findall(r"[a-z]+", prompt.lower()):
        if word in CLASSES:
            found.append(said)
            said = set()
        elif word in COLORS or word in PATTERNS:
            said = said | {word}
        elif word not in RARE:
            said = set()
    return found


def _like(one: Instance, wanted: set[str], seed: object) -> Instance:
    """The first instance of a class that is as described."""
    if not wanted:
        return one
    for k in range(POOL):
        other = make_instance(one.cls, ("described", seed, k))
        if wanted <= {other.main_name, other.pattern}:
            return other
    raise UserError(
        f"a {one.cls} cannot be {' and '.join(sorted(wanted))}: ask for one colour and one pattern "
        f"at most"
    )


def rendered(prompt: str, seeds: list[int]) -> np.ndarray:
    return np.stack([render(asked(prompt, seed), ("show", seed))[0] for seed in seeds])


def sheet(rows: dict[str, np.ndarray], title: str) -> Image.Image:
    """Rows of pictures under each other, each with its name, below a title."""
    n, side = max(map(len, rows.values())), PIXELS * ZOOM
    width, height = GAP + n * (side + GAP), LINE + GAP + len(rows) * (LINE + side + GAP)
    page = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(page)
    draw.text((GAP, 3), title, fill=(0, 0, 0))
    for line, (name, pictures) in enumerate(rows.items()):
        top = LINE + GAP + line * (LINE + side + GAP)
        draw.text((GAP, top), name, fill=(90, 90, 90))
        for k, picture in enumerate(pictures):
            large = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            page.paste(large, (GAP + k * (side + GAP), top + LINE))
    return page


def show_verb(
    prompt: str, n: int, out: Path, *, weights: Path, seed: int, device: str, dtype: str
) -> Path:
    """Write the sheet; -> its path."""
    if not 1 <= n <= MOST:
        raise UserError(f"--n {n}: between 1 and {MOST} pictures are shown")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--out {out}: one picture is written; give it a name that ends in .png")
    ask_for(out)
    seeds = list(range(seed, seed + n))
    below = rendered(prompt, seeds)  # first: an unknown word is told at once
    from benchmarks.miniature.opening import drawn, opened

    above = drawn(opened(weights, device, dtype), [prompt] * n, seeds)
    drawn_as = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(out.suffix.lower(), "PNG")
    with written_whole(out) as aside:
        sheet({"generated": above, "rendered": below}, prompt).save(aside, format=drawn_as)
    return out
