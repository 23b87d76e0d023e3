"""The verb `perfbench board`: a leaderboard of runs and submissions."""

import argparse

from benchmarks.verb import Run, verb


@verb("board")
def board(parser: argparse.ArgumentParser) -> Run:
    """A leaderboard of runs and submissions, as a static page.

    One table for each protocol, scorer and set of questions; different ones never share one. A
    rank is an interval: 1-3 where the paired differences leave it open. A submission is checked
    before it stands there (docs/submit.md). Writes index.html, front-*.svg and board.json.

      perfbench board results/miniature-quick results/mine --out board
      perfbench board results/mine theirs.perfbench.tar.xz --out board --explorer ../explorer
    """
    parser.add_argument(
        "entries", nargs="+", metavar="RUN_OR_ARCHIVE", help="run folders, names under results/, "
        "archives by `perfbench submission make`",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write the page into")
    parser.add_argument(
        "--explorer",
        default="",
        metavar="PLACE",
        help="address of a `perfbench view --bundle`, as seen from the page: rows link to their "
        "cells there",
    )
    parser.add_argument(
        "--backbone",
        default="",
        metavar="WHICH",
        help="name or folder of an archive's backbone that is not shipped",
    )
    parser.add_argument(
        "--suite",
        default="",
        metavar="WHICH",
        help="name or folder of an archive's suite that is not shipped",
    )
    parser.add_argument(
        "--scorers",
        default="",
        metavar="A,B",
        help="scorers that archives may name beside the shipped ones",
    )

    def act(args: argparse.Namespace) -> None:
        import os
        from pathlib import Path

        # its matrices are small: threads would wait for one another longer than they work
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from benchmarks.exchange.board.board_page import write_board
        from benchmarks.exchange.submissions.known_here import Places

        scorers = tuple(filter(None, args.scorers.split(",")))
        places = Places(args.backbone, args.suite, scorers)
        print(write_board(args.entries, Path(args.out), args.explorer, places))

    return act
