"""Words of the command line that several verbs read alike."""

import argparse
import math
from collections.abc import Callable, Sequence

from perfusion_core.errors import UserError

SEEDS = 2**63 - 1  # the largest that every library takes
DDIM_STEPS = 1000  # as many as the models were trained with
GUIDANCE = 1000.0  # beyond it nothing is drawn but noise


def named(given: Sequence[str], flag: str, shape: str, advice: str = "") -> dict[str, str]:
    """`NAME=VALUE` words of a flag; `shape` says how they look, `advice` what to do about a name
    that comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{flag} {text!r} is not {shape}")
        if name in found:
            raise UserError(f"{flag} names {name!r} twice ({found[name]} and {value}){advice}")
        found[name] = value
    return found


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a flag that takes a whole number of a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        _within(number, least, most)
        return number

    return read


def number(least: float, most: float | None = None) -> Callable[[str], float]:
    """The type of a flag that takes a finite number of a range."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
        _within(found, least, most)
        return found

    return read


def _within(found: float, least: float, most: float | None) -> None:
    if found < least or (most is not None and found > most):
        upper = "" if most is None else f" and at most {most}"
        raise argparse.ArgumentTypeError(f"{found} is out of range; at least {least}{upper}")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", metavar="NAME", default="auto", help="auto (default), cpu, cuda or cuda:N"
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        default="auto",
        metavar="NAME",
        help="auto (default), float32, bfloat16 or float16",
    )


def add_vae(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vae",
        metavar="WHICH",
        help="another VAE for the backbone's own: fp16-fix (of sdxl, for float16), a folder or a "
        "hub id",
    )


def add_calls(parser: argparse.ArgumentParser) -> None:
    """`--limit` of verbs that draw nothing: of what judges are asked."""
    parser.add_argument(
        "--limit",
        type=whole(1),
        default=0,
        metavar="N",
        help="send at most N calls to judges (docs/judging.md)",
    )


def add_log(parser: argparse.ArgumentParser) -> None:
    """Of verbs that train."""
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="WHERE",
        help="curves, validation pictures and tables to tensorboard:DIR, wandb or wandb:PROJECT "
        "(docs/logging.md); may come twice",
    )


def add_stops(parser: argparse.ArgumentParser) -> None:
    """How far a verb that draws goes now."""
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--limit",
        type=whole(1),
        default=0,
        metavar="N",
        help="draw at most N images now; the same command goes on later",
    )
    parser.add_argument(
        "--judge-limit",
        type=whole(1),
        default=0,
        metavar="N",
        help="send at most N calls to judges (--scorers auto,judge:URL#MODEL)",
    )
    parser.add_argument(
        "--yes", action="store_true", help="begin a run of hours without asking first"
    )
