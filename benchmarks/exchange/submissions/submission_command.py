"""The verb `perfbench submission`: a run as one archive, and the check of one that was sent."""

import argparse
import sys

from benchmarks.options import whole
from benchmarks.verb import Run, add_subverbs, subverb, verb


@verb("submission")
def submission(parser: argparse.ArgumentParser) -> Run:
    """Send a run as one archive, or check one that somebody sent.

    `make` packs plan, rows, tables, run.json, digests of trained files and thumbnails. `verify`
    makes every table again from the rows, and draws a random sample of cells again where it is
    given the trained files (docs/submit.md).

      perfbench submission make results/mine --out mine.perfbench.tar.xz --by "A. Name"
      perfbench submission verify mine.perfbench.tar.xz
      perfbench submission verify mine.perfbench.tar.xz --trained results/mine --redraw 20
    """
    return add_subverbs(parser, "submission")


@subverb("submission", "make", "pack a finished run into one archive")
def make(parser: argparse.ArgumentParser) -> Run:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a name under results/")
    parser.add_argument(
        "--out", required=True, metavar="ARCHIVE", help="a file that ends in .perfbench.tar.xz"
    )
    parser.add_argument("--by", default="", metavar="WHO", help="who made it, for the board")
    parser.add_argument(
        "--thumbnails",
        type=whole(0, 5000),
        default=400,
        metavar="N",
        help="most small pictures to pack, where the run has pictures (default: 400)",
    )

    def act(args: argparse.Namespace) -> None:
        from pathlib import Path

        from benchmarks.exchange.submissions.submission_make import make_submission

        made = make_submission(args.run, Path(args.out), args.by, args.thumbnails)
        print(
            f"{made.place}: {made.bytes:,} bytes, {made.images:,} images scored, "
            f"{made.pictures:,} cells with a digest of their pixels, {made.thumbnails} thumbnails, "
            f"{made.trained} trained concepts"
        )

    return act


@subverb("submission", "verify", "make its tables again, and draw a sample of its cells again")
def verify_verb(parser: argparse.ArgumentParser) -> Run:
    """Exit status: 0 recomputed or verified, 1 refused, 2 a mistake in what was asked."""
    parser.add_argument(
        "archive", metavar="ARCHIVE", help="a file made by `perfbench submission make`"
    )
    parser.add_argument(
        "--trained",
        default="",
        metavar="DIR",
        help="its trained files: the run folder, or a folder METHOD/CONCEPT/",
    )
    parser.add_argument(
        "--redraw",
        type=whole(0, 100_000),
        default=0,
        metavar="N",
        help="draw N cells again, chosen at random (default: none)",
    )
    parser.add_argument(
        "--sample",
        type=whole(0),
        metavar="SEED",
        help="seed that chooses the cells again (default: a new one)",
    )
    parser.add_argument(
        "--backbone",
        default="",
        metavar="WHICH",
        help="name or folder of its backbone, if that is not shipped",
    )
    parser.add_argument(
        "--vae",
        default="",
        metavar="WHICH",
        help="folder or hub id of another VAE that it was drawn with",
    )
    parser.add_argument(
        "--suite",
        default="",
        metavar="WHICH",
        help="name or folder of its suite, if that is not shipped",
    )
    parser.add_argument(
        "--scorers", default="", metavar="A,B", help="scorers to know beside the shipped ones"
    )
    parser.add_argument(
        "--method-file",
        dest="method_files",
        default="",
        metavar="FILE,..",
        help="file of a method that is not built in; it is run, so read it first",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="device to draw on with --redraw"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument(
        "--verdict", default="", metavar="FILE", help="file to write the verdict into as well"
    )

    def act(args: argparse.Namespace) -> int:
        from pathlib import Path

        from benchmarks.disk import write_whole
        from benchmarks.exchange.submissions.checked_submission import Asked
        from benchmarks.exchange.submissions.known_here import Places
        from benchmarks.exchange.submissions.submission_verify import (
            REFUSED,
            refuse_idle_flags,
            told_text,
            verify,
        )

        words = {name: tuple(filter(None, getattr(args, name).split(",")))
                 for name in ("scorers", "method_files")}  # fmt: skip
        places = Places(args.backbone, args.suite, words["scorers"], args.vae)
        asked = Asked(args.redraw, args.trained, args.sample, words["method_files"], args.device)
        refuse_idle_flags(asked)
        found = verify(Path(args.archive), places, asked)
        if args.verdict:
            write_whole(Path(args.verdict), found.json())
        print(found.json() if args.json else told_text(found), end="")
        if found.verdict == REFUSED and args.json:
            print(f"perfbench: {found.archive} is refused: {found.why}", file=sys.stderr)
        return int(found.verdict == REFUSED)

    return act
