"""`perfbench run`, `plan`, `score`, `table`: from what is asked to a table."""

import argparse
import sys

from benchmarks.verb import Run, verb


@verb("run")
def run_benchmark(parser: argparse.ArgumentParser) -> Run:
    """Train, generate and score what is missing, then write and print the tables.

    Interrupted at any moment, the same command goes on. Adding methods, concepts or prompts extends the run folder.

      perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
      perfbench run --methods perfusion,cd --concepts all --engine processes
      perfbench run --preset paper --backbone owner/name --out results/mine --set images=4
      perfbench run --methods perfusion --trained perfusion=results/mine --backbone fine-tuned --out results/carried
    """
    from benchmarks.running.flags import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--allow-missing", action="store_true", help="tables of what is there, with n/planned")

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
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or a name under results/")
    parser.add_argument(
        "--scorers", metavar="A,B", default="", help="more: truth, a folder, clip:MODEL:TAG, dino, dinov2, timm:MODEL"
    )
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.running.rescore import rescore

        more = [name for name in args.scorers.split(",") if name]
        return rescore(args.run, more, again=args.again, device=args.device)

    return act


@verb("table")
def table(parser: argparse.ArgumentParser) -> Run:
    """Make a run's tables again from its scores, and print the table; or one of the views behind it.

    Without RUN, the newest run. A run whose plan is not finished is refused unless --allow-missing.

      perfbench table
      perfbench table results/quick-miniature-0a1b2c3d --by scenario
    """
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or a name under results/")
    parser.add_argument("--allow-missing", action="store_true", help="average what is there; every row says n/planned")
    parser.add_argument(
        "--by",
        metavar="VIEW",
        help="print instead: kind, group, scenario, prompt, concept, hardest, difference, front, hypervolume, best-h "
        "or variance (whether to buy more concepts, prompts or images)",
    )

    def act(args: argparse.Namespace) -> None:
        from benchmarks.store.run_folder import find_run
        from benchmarks.tables.build import write_tables
        from benchmarks.tables.views import view

        print(view(args.run, args.by) if args.by else write_tables(find_run(args.run), args.allow_missing), end="")

    return act
