"""`perfbench run`, `plan`, `score`, `ls`: what is asked for becomes a filled run folder."""

import argparse
import sys

from benchmarks.verb import Run, verb


@verb("run")
def run_benchmark(parser: argparse.ArgumentParser) -> Run:
    """Train, generate and score what is missing, then write and print the tables.

    Interrupted at any moment, the same command goes on. Adding methods, concepts or prompts extends
    the run folder.

      perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
      perfbench run --methods perfusion,cd --concepts all --engine processes
      perfbench run --preset paper --backbone owner/name --out results/mine --set images=4
      perfbench run --methods perfusion --trained perfusion=results/mine --backbone tuned
    """
    from benchmarks.running.flags import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--allow-missing", action="store_true", help="tables of what is there, with n/planned"
    )

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        from benchmarks.running.run import run

        return run(config, sys.argv[1:], dry_run=args.dry_run, allow_missing=args.allow_missing)

    return act


@verb("plan")
def plan(parser: argparse.ArgumentParser) -> Run:
    """Print what a run would do: fits, cells, images, what is done, the time that is left.

    perfbench plan --methods perfusion,cd --concepts all
    perfbench plan --preset paper --json
    """
    from benchmarks.running.flags import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        from benchmarks.running.run import plan

        return plan(config, as_json=args.json)

    return act


@verb("score")
def score(parser: argparse.ArgumentParser) -> Run:
    """Score the images of a run again, or by more scorers, and write the tables. Needs no backbone.

    Without RUN, the newest run.

      perfbench score results/paper-miniature-0a1b2c3d --again
      perfbench score --scorers dino
    """
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run folder, or a name under results/"
    )
    parser.add_argument(
        "--scorers",
        metavar="A,B",
        default="",
        help="more: truth, a folder, clip:MODEL:TAG, dino, dinov2, timm:MODEL",
    )
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.running.rescore import rescore

        more = [name for name in args.scorers.split(",") if name]
        return rescore(args.run, more, again=args.again, device=args.device)

    return act


@verb("ls")
def ls(parser: argparse.ArgumentParser) -> Run:
    """List methods, concepts, prompts, suites, backbones, presets or runs.

    examples:
      perfbench ls prompts --concept cat
      perfbench ls concepts --suite dreambench:DIR --json
    """
    parser.add_argument(
        "kind", help="methods, concepts, prompts, suites, backbones, presets or runs"
    )
    parser.add_argument("--concept", metavar="NAME", help="with prompts: those of one concept")
    parser.add_argument(
        "--suite",
        default="miniature",
        help="of concepts and prompts: miniature, photos, a folder of concepts, or LAYOUT:DIR",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.running.listing import show_list

        show_list(args)

    return act
