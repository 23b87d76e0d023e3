"""`perfbench view`: the explorer of one run or several."""

import argparse
from pathlib import Path

from benchmarks.options import whole
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError

SMALLEST, TILE, LARGEST = 16, 128, 512  # pixels of a thumbnail's side


@verb("view")
def view(parser: argparse.ArgumentParser) -> Run:
    """Explore runs in a browser: planes, cells, pictures of one prompt by all methods, comparisons.

    Without RUN, the newest run. Serves a page for this machine alone until Ctrl-C. With --bundle it
    writes the page and its thumbnails into a folder, which opens by a double click and on any
    static host. Runs without pictures are shown by their scores. docs/view.md tells more.

      perfbench view
      perfbench view results/mine results/theirs
      perfbench view results/mine results/theirs --bundle view
    """
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders, or names under results/"
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="write a folder instead: a new one, an empty one, or an earlier bundle to replace",
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="port to serve on; 8017 unless given, 0 takes any that is free",
    )
    parser.add_argument(
        "--side",
        type=whole(SMALLEST, LARGEST),
        default=TILE,
        metavar="N",
        help=f"pixels of a thumbnail's side (default: {TILE})",
    )
    parser.add_argument(
        "--images",
        type=whole(1),
        metavar="N",
        help="pictures of each cell in a bundle (default: all)",
    )

    def act(args: argparse.Namespace) -> None:
        refuse_mixed(args)
        if args.bundle is not None:
            from benchmarks.site.view_bundle import write_bundle

            print(write_bundle(args.runs, args.bundle, args.side, args.images))
        else:
            from benchmarks.site.view_server import PORT, serve_view

            serve_view(args.runs, PORT if args.port is None else args.port, args.side)

    return act


def refuse_mixed(args: argparse.Namespace) -> None:
    if args.bundle is not None and args.port is not None:
        raise UserError(
            "--port is of a served page, and --bundle writes a folder: give one of them"
        )
    if args.bundle is None and args.images is not None:
        raise UserError(
            "--images is of a bundle: add --bundle DIR; what is served has all pictures"
        )
