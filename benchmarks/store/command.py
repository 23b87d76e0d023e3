"""`perfbench cache`: what the runs of this machine share."""

import argparse

from benchmarks.verb import Run, add_subverbs, subverb, verb


@verb("cache")
def cache(parser: argparse.ArgumentParser) -> Run:
    """List, shrink or verify what the runs of this machine share.

    A run takes class images, fits and cells of super from earlier runs if everything that decides
    their bytes is the same.

      perfbench cache list
      perfbench cache prune --to 2GB
      perfbench cache check
    """
    return add_subverbs(parser, "cache")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


@subverb("cache", "list", "list kinds, counts, sizes, and when they were last used")
def list_cache(parser: argparse.ArgumentParser) -> Run:
    _json(parser)

    def act(args: argparse.Namespace) -> int:
        from benchmarks.store.cache_verbs import show

        return show(args.json)

    return act


@subverb("cache", "prune", "remove what was unused for longest")
def prune_cache(parser: argparse.ArgumentParser) -> Run:
    parser.add_argument(
        "--to",
        metavar="SIZE",
        help="size that may stay: 5GB, 500MB, 0 (default: $PERFBENCH_CACHE_SIZE, or 10GB)",
    )
    _json(parser)

    def act(args: argparse.Namespace) -> int:
        from benchmarks.store.cache_verbs import prune

        return prune(args.to, args.json)

    return act


@subverb(
    "cache", "check", "read every byte and remove what is damaged (exit status 1 if anything was)"
)
def check_cache(parser: argparse.ArgumentParser) -> Run:
    _json(parser)

    def act(args: argparse.Namespace) -> int:
        from benchmarks.store.cache_verbs import check

        return check(args.json)

    return act


@verb("clean")
def clean(parser: argparse.ArgumentParser) -> Run:
    """List what interrupted runs and trainings left half written; --yes removes it.

    Without RUN it looks under results/, and at trainings of `perfbench fit` begun here. Finished
    work stays. `perfbench cache prune` is for what runs share.

      perfbench clean
      perfbench clean results/mine --images --yes
    """
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run folders, or names under results/ (default: all under results/)",
    )
    parser.add_argument(
        "--images", action="store_true", help="also list images that every scorer has scored"
    )
    parser.add_argument("--yes", action="store_true", help="remove what is listed")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.store.cleaning import clean

        return clean(args.runs, images=args.images, really=args.yes)

    return act
