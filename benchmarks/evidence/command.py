"""`perfbench miniature verify`: its arguments; the miniature itself knows nothing of how it is
measured.

In: a parser. Out: what runs it, exit status 1 where a goal is not met. Nothing heavy at import.
"""

import argparse
from pathlib import Path

from benchmarks.disk import ask_for
from benchmarks.miniature.command import add_model_flags
from benchmarks.verb import Run, subverb


@subverb(
    "miniature",
    "verify",
    "figures beside their goals; exit status 1 where one is not met",
    after="build",
)
def verify(parser: argparse.ArgumentParser) -> Run:
    parser.description = (
        "Measure what the models draw, against what was asked; the world is known, so it can be."
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("miniature-verify"),
        metavar="DIR",
        help="verify.md, verify.csv, verify.json, observations; default miniature-verify",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few pictures for each figure, nothing fitted"
    )
    parser.add_argument(
        "--sheets",
        type=Path,
        metavar="DIR",
        help="instead: 200 generated pictures to be labelled by looking",
    )
    parser.add_argument(
        "--looked", type=Path, metavar="DIR", help="instead: compare those labels with the judges'"
    )
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> int:
        from benchmarks.evidence.miniature_verify import looked_verb, sheets_verb, verify_verb

        if args.sheets:
            return sheets_verb(args.weights, args.sheets, device=args.device, dtype=args.dtype)
        if args.looked:
            return looked_verb(args.weights, args.looked)
        ask_for(args.out / "verify.csv")
        return verify_verb(
            args.weights, args.out, quick=args.quick, device=args.device, dtype=args.dtype
        )

    return act
