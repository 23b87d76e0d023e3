"""What `perfbench generate` was asked for. In: the words of its flags. Out: a `Wanted`, or one
sentence. Imports no torch.
"""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import named
from benchmarks.planning.points import BIASES, OperatingPoint
from perfusion_core.errors import UserError, unknown
from perfusion_core.guidance import NONE
from perfusion_core.schedulers import DDIM, SCHEDULERS

OR_RANGE = ", nor LO:HI:N"
OWN = "; give each concept its own name"
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")  # as perfusion_core.prompts has it, which loads torch
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MOST = 64  # biases of a sweep
SIDES = (8, 4096)  # pixels
Setting = float | dict[str, float]  # one for all concepts, or by name


@dataclass(frozen=True)
class Wanted:
    """A prompt, its concepts, and all that decides its pictures but the backbone."""

    prompt: str
    files: Mapping[str, str]
    lock: str
    biases: tuple[Setting, ...]  # several where it is swept
    swept: tuple[float, ...]  # what stands for each of them; empty: nothing is swept
    temperature: Setting
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    negative: str = ""
    scheduler: str = DDIM
    size: tuple[int, int] | None = None  # height and width; None: the backbone's own
    force: bool = False

    @property
    def moved(self) -> list[str]:
        """The concepts whose bias is swept."""
        if not self.swept:
            return []
        first, last = self.biases[0], self.biases[-1]
        if not (isinstance(first, dict) and isinstance(last, dict)):
            return list(self.files)
        return [name for name in first if first[name] != last[name]]

    def file(self, out: Path, turn: int, seed: int) -> Path:
        """Where a picture lies: of a sweep in a folder for each bias."""
        folder = out / str(OperatingPoint(bias=self.swept[turn])) if self.swept else out
        return folder / f"{seed}.png"

    def about(self, turn: int, seed: int) -> dict[str, str]:
        """What stands in a picture's metadata: the prompt, the seed, and what is not usual."""
        more = {"negative": self.negative} if self.negative else {}
        more |= {"scheduler": self.scheduler} if self.scheduler != DDIM else {}
        more |= {"bias": f"{self.swept[turn]:g}"} if self.swept else {}
        return {"prompt": self.prompt, "seed": str(seed), **more}


def wanted(args: argparse.Namespace) -> Wanted:
    """Of the flags, checked as far as they tell by themselves."""
    files = named(args.concept, "--concept", "NAME=FILE", OWN)
    check_names(args.prompt, args.negative, files)
    if args.negative and args.guidance == NONE:
        raise UserError(
            "--guidance 1 draws without the branch that --negative is for; leave one of them out"
        )
    if args.scheduler not in SCHEDULERS:
        raise unknown("scheduler", args.scheduler, SCHEDULERS)
    biases, swept = settings(args.bias)
    if swept and not files:
        raise UserError(
            f"--bias {args.bias} sweeps the gate of a concept, and the prompt names none; write "
            f"{{NAME}} into it and add --concept NAME=FILE"
        )
    if swept and args.grid:
        raise UserError(
            f"--bias {args.bias} has a sheet of its own, sweep.png, which holds all pictures; "
            f"leave --grid out"
        )
    if Path(args.out).suffix.lower() in PICTURES:
        raise UserError(
            f"--out {args.out} would be a folder, for one or more pictures, and is named as a "
            f"picture; write --out DIR"
        )
    return Wanted(
        prompt=args.prompt,
        files=files,
        lock=args.lock,
        biases=biases,
        swept=swept,
        temperature=numbers(args.temperature, "--temperature"),
        seeds=tuple(range(args.seed, args.seed + args.n)),
        steps=args.steps,
        guidance=args.guidance,
        negative=args.negative,
        scheduler=args.scheduler,
        size=args.size,
        force=args.force,
    )


def check_names(prompt: str, negative: str, files: Mapping[str, str]) -> None:
    """Every {name} has its file and every file its {name}."""
    names = [name for text in (prompt, negative) for name in PLACEHOLDER.findall(text)]
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(
            f"the prompt names {{{missing[0]}}} but no file stands for it; add --concept "
            f"{missing[0]}=FILE"
        )
    if idle := [name for name in files if name not in names]:
        raise UserError(
            f"the prompt does not name {{{idle[0]}}}, so its concept would not be drawn; write "
            f"{{{idle[0]}}} into the prompt, or leave --concept {idle[0]}=... out"
        )
    for what, text in (("prompt", prompt), ("negative prompt", negative)):
        if set(PLACEHOLDER.sub("", text)) & set("{}"):
            raise UserError(
                f"the {what} {text!r} has a brace that belongs to no {{name}}; it would be "
                f"drawn as text, so take it out"
            )


def settings(given: str) -> tuple[tuple[Setting, ...], tuple[float, ...]]:
    """--bias: 0.6; teddy=0.5,teapot=0.65; 0.3:1.0:8; teddy=0.3:1.0:8,teapot=0.65. -> one setting a
    step, and the bias that each step stands for (none where nothing is swept).
    """
    if ":" not in given:
        setting = numbers(given, "--bias", OR_RANGE)
        check_biases(given, list(setting.values()) if isinstance(setting, dict) else [setting])
        return (setting,), ()
    if "=" not in given:
        swept = range_of(given)
        return swept, swept
    each = named(given.split(","), "--bias", "NAME=NUMBER", OWN)
    ranges = [name for name, text in each.items() if ":" in text]
    if len(ranges) > 1:
        raise UserError(
            f"--bias sweeps {' and '.join(ranges)}, and one slider moves one concept; give the "
            f"others a number, or one LO:HI:N for all"
        )
    fixed = {
        name: number_of(text, given, "--bias", OR_RANGE)
        for name, text in each.items()
        if name not in ranges
    }
    check_biases(given, list(fixed.values()))
    swept = range_of(each[ranges[0]])
    steps = ({name: fixed.get(name, bias) for name in each} for bias in swept)
    return tuple(steps), swept


def range_of(text: str) -> tuple[float, ...]:
    """0.3:1.0:8 -> eight numbers, both ends among them."""
    parts = text.split(":")
    try:
        low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
        if len(parts) > 3 or not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(f"--bias {text!r} is not LO:HI:N, such as 0.3:1.0:8") from None
    if not 2 <= count <= MOST:
        raise UserError(f"--bias {text}: a sweep has 2 to {MOST} pictures in a row, not {count}")
    check_biases(text, [low, high])
    found = tuple(round(low + (high - low) * step / (count - 1), 4) for step in range(count))
    if len(set(found)) < count:
        raise UserError(
            f"--bias {text}: from {low:g} to {high:g} there are not {count} biases; give a wider "
            f"range, or fewer"
        )
    return tuple(sorted(found))


def numbers(given: str, flag: str, more: str = "") -> Setting:
    """0.6, or teddy=0.5,teapot=0.65; `more` is what else the flag takes."""
    if "=" not in given:
        return number_of(given, given, flag, more)
    each = named(given.split(","), flag, "NAME=NUMBER", OWN)
    return {name: number_of(text, given, flag, more) for name, text in each.items()}


def number_of(text: str, given: str, flag: str, more: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{flag} {given!r} is neither a number nor NAME=NUMBER,...{more}") from None


def check_biases(given: str, biases: list[float]) -> None:
    if any(abs(bias) > BIASES for bias in biases):
        raise UserError(
            f"--bias {given}: a bias above {BIASES} turns every concept off; give a lower one"
        )


def size_of(text: str) -> tuple[int, int]:
    """The type of --size: 512, or WIDTHxHEIGHT; -> height and width."""
    found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is neither PIXELS nor WIDTHxHEIGHT")
    wide, high = int(found[1]), int(found[2] or found[1])
    least, most = SIDES
    if not (least <= wide <= most and least <= high <= most):
        raise argparse.ArgumentTypeError(
            f"{text} is out of range; each side is {least} to {most} pixels"
        )
    return high, wide
