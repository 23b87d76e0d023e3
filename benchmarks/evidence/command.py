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
    "measure what the models draw (exit status 1 if a goal is not met)",
    after="build",
)
def verify(parser: argparse.ArgumentParser) -> Run:
    parser.description = (
        "Measure what the models draw against what was asked. The world is drawn by a program, so "
        "this is known exactly."
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("miniature-verify"),
        metavar="DIR",
        help="folder for verify.md, verify.csv, verify.json and the observations "
        "(default: miniature-verify)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use only a few pictures for each figure, and fit nothing",
    )
    parser.add_argument(
        "--sheets",
        type=Path,
        metavar="DIR",
        help="only write 200 generated pictures to DIR, to be labelled by eye",
    )
    parser.add_argument(
        "--looked", type=Path, metavar="DIR", help="only compare the labels in DIR with the judges'"
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
