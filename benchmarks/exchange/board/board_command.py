"""The verb `perfbench board`: a leaderboard of runs and submissions."""

import argparse

from benchmarks.verb import Run, verb


@verb("board")
def board(parser: argparse.ArgumentParser) -> Run:
    """A leaderboard of runs and submissions, as a static page.

    One table for each protocol, scorer and set of questions; different ones never share one. A
    rank is an interval: 1-3 where the paired differences leave it open. A submission is checked
    before it stands there (docs/submit.md). Writes index.html, front-*.svg and board.json.

      perfbench board results/miniature-paper results/miniature-quick --out board
      perfbench board results/mine theirs.perfbench.tar.xz --out board --explorer ../explorer
    """
    parser.add_argument(
        "entries", nargs="+", metavar="RUN_OR_ARCHIVE", help="run folders, names under results/, "
        "archives by `perfbench submission make`",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="DIR", help="the page is written there")
    parser.add_argument(
        "--explorer",
        default="",
        metavar="PLACE",
        help="an explorer's folder as the page names it (`perfbench view --bundle`): rows link to "
        "their pictures there",
    )
    parser.add_argument(
        "--backbone", default="", metavar="WHICH", help="of archives, where it is not shipped"
    )
    parser.add_argument(
        "--suite", default="", metavar="WHICH", help="of archives, where it is not shipped"
    )
    parser.add_argument(
        "--scorers", default="", metavar="A,B", help="of archives, that are known here"
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
