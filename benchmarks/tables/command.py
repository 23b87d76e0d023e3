"""`perfbench table`, `check`, `compare`, `design`: numbers from a run's rows, the gate, a size."""

import argparse
import os
import sys
from collections.abc import Callable

from benchmarks.options import number, whole
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError


@verb("table")
def table(parser: argparse.ArgumentParser) -> Run:
    """Make a run's tables again from its scores, and print the table or one of its views.

    An unfinished run is refused unless --allow-missing is given. docs/statistics.md explains the
    views. Among them, variance says whether to buy more concepts, prompts or images.

      perfbench table
      perfbench table results/quick-miniature-0a1b2c3d --by scenario
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="average the cells that exist; every row says n/planned",
    )
    parser.add_argument(
        "--by",
        metavar="VIEW",
        help="print this view instead: kind, group, scenario, prompt, concept, "
        "hardest, difference, front, gap, summary, hypervolume, best-h, "
        "measures, cost, difficulty, scorers, variance, or a column of the "
        "suite (docs/statistics.md)",
    )

    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", default="text",
                      help="print the rows as JSON")  # fmt: skip
    form.add_argument(
        "--csv", dest="form", action="store_const", const="csv", help="print the rows as CSV"
    )

    def act(args: argparse.Namespace) -> None:
        # its matrices are small: threads would wait for one another longer than they work
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        if args.by is not None:
            from benchmarks.tables.views import view

            print(view(args.run, args.by, args.form, args.allow_missing), end="")
            return
        from benchmarks.disk import DiskError
        from benchmarks.store.reading import find_run
        from benchmarks.tables.build import publish, tables_of
        from benchmarks.tables.views import formed

        run = find_run(args.run)
        tables = tables_of(run, args.allow_missing)
        try:
            publish(run, tables)
        except DiskError as error:  # somebody else's run, or a medium that takes nothing
            print(f"perfbench: printed, and not written: {error}", file=sys.stderr)
        frame = tables.table if len(tables.table) else tables.pair_table
        print(tables.text if args.form == "text" else formed(frame, args.form), end="")

    return act


@verb("check")
def check(parser: argparse.ArgumentParser) -> Run:
    """The regression gate: is a run worse than a reference, by more than repeats differ?

    It judges all prompts together, each kind of prompts, every concept and every prompt.

    exit status:
      0  nothing lost, or undecided
      1  a loss; with --strict also anything undecided
      2  not comparable; another seed is not, unless repeats of other seeds made margins for it

    Margins are in check.toml beside the reference. --calibrate makes them from repeated runs.

      perfbench check results/mine --against results/miniature-quick
      perfbench check results/mine --against results/miniature-quick --format junit > check.xml
      perfbench check --calibrate repeat-1 repeat-2 repeat-3 --against results/miniature-quick
    """
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run folder to judge (default: the newest run); several with --calibrate",
    )
    parser.add_argument("--against", metavar="REFERENCE", help="reference to compare with")
    parser.add_argument("--strict", action="store_true", help="fail if anything is undecided")
    parser.add_argument(
        "--margins",
        metavar="SET",
        help="same-weights, retrained or other-seed (default: as run.json says)",
    )
    parser.add_argument(
        "--format",
        default="text",
        metavar="FORMAT",
        help="text (default), markdown, json, junit or github",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="write margins from these repeated runs into the reference's check.toml",
    )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.tables.gate_report import check_verb

        text, status = check_verb(
            args.runs,
            args.against,
            args.margins,
            strict=args.strict,
            form=args.format,
            repeats=args.calibrate,
        )
        print(text, end="")
        return status

    return act


@verb("compare")
def compare(parser: argparse.ArgumentParser) -> Run:
    """Compare two tables of scores, paired: difference, interval, wins, detectable effect.

    A and B are CSV, TSV, JSON lines, JSON or parquet files, or operating points of run folders.
    Rows are paired by the columns of --by. Several rows of one cell are averaged first.

      perfbench compare results/mine::perfusion/local-b0.60-t0.15 results/mine::cd
      perfbench compare ours.csv theirs.csv --score clip_i --by subject,prompt --margin 0.01
      perfbench compare samples_a.jsonl samples_b.jsonl --score acc --by doc_id
    """
    parser.add_argument("a", metavar="A", help="a file, or RUN::METHOD/POINT")
    parser.add_argument("b", metavar="B", help="the same, to compare with A")
    parser.add_argument(
        "--score",
        default="image_sim",
        metavar="COL",
        help="column to compare, in which higher is better (default: image_sim)",
    )
    parser.add_argument(
        "--by",
        default="concept,prompt_id",
        metavar="C[,C]",
        help="column that names what was replicated, or two that are crossed; the "
        "first one counts (default: concept,prompt_id)",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COL=VALUE",
        help="take only rows with this value; may be given several times",
    )
    parser.add_argument(
        "--margin",
        type=number(0),
        metavar="X",
        help="also test whether A and B are the same within X (two one-sided tests at 5 %%)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.tables.comparing import compare_verb

        where = [pair_of(text) for text in args.where]
        by = [column.strip() for column in args.by.split(",") if column.strip()]
        print(compare_verb(args.a, args.b, args.score, by, where, args.margin, args.json), end="")

    return act


@verb("design")
def design(parser: argparse.ArgumentParser) -> Run:
    """Say how large the next run should be, from the scores of one that was made.

    RUN may be small or unfinished. The question is about the mean of one operating point, or about
    the difference between two. The answer says what concepts, prompts and images contribute to the
    interval. It also names the cheapest size for a wanted width or power, or the best for some
    hours.

      perfbench design results/first-world/miniature-paper --of perfusion/local-b0.60-t0.15 \\
          --minus cd-selected
      perfbench design results/mine --of mine --minus db --width 0.05
      perfbench design results/mine --of mine --minus db --effect 0.05 --power 0.9 --hours 8
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--of",
        metavar="METHOD/POINT",
        help="operating point in question (default: Perfusion's first)",
    )
    parser.add_argument(
        "--minus", metavar="METHOD/POINT", help="ask about the difference to this operating point"
    )
    parser.add_argument(
        "--score",
        default="image_sim",
        metavar="COL",
        help="image_sim (default), text_sim, text_sim_raw or a column of another scorer",
    )
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--width",
        type=number(1e-6),
        metavar="X",
        help="find the cheapest run whose 95 %% interval reaches at most X to either side",
    )
    goal.add_argument(
        "--effect",
        type=number(1e-6),
        metavar="X",
        help="find the cheapest run that detects a difference of X",
    )
    parser.add_argument(
        "--power",
        type=number(0.05, 0.999),
        metavar="P",
        help="with --effect: probability of detecting it (default: 0.8)",
    )
    parser.add_argument(
        "--hours", type=number(0.001, 1e6), metavar="H", help="show what this many hours buy"
    )
    for name in ("concepts", "prompts", "images"):
        least = 2 if name == "concepts" else 1
        parser.add_argument(f"--{name}", type=several(least), default=(), metavar="N[,N]",
                            help=f"consider only these numbers of {name}")  # fmt: skip
    parser.add_argument("--seconds-a-fit", type=number(0, 1e7), metavar="S",
                        help="seconds of one fit (default: as the run measured)")  # fmt: skip
    parser.add_argument(
        "--seconds-an-image",
        type=number(0, 1e5),
        metavar="S",
        help="seconds of one image (default: as the run measured)",
    )
    parser.add_argument(
        "--workers",
        type=whole(1, 10000),
        metavar="N",
        help="number of workers (default: the run's)",
    )
    parser.add_argument("--whole", action="store_true",
                        help="let the hours pay for every method and point of the run")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.tables.design_verb import Asked, design_verb
        from benchmarks.tables.sample_size import Goal

        if args.power is not None and args.effect is None:
            raise UserError("--power is the probability of finding an effect; add --effect X")
        asked = Asked(
            args.of,
            args.minus,
            args.score,
            Goal(args.width, args.effect, args.power or 0.8),
            args.hours,
            args.concepts,
            args.prompts,
            args.images,
            args.seconds_a_fit,
            args.seconds_an_image,
            args.workers,
            args.whole,
        )
        print(design_verb(args.run, asked, "json" if args.json else "text"), end="")

    return act


def several(least: int) -> Callable[[str], tuple[int, ...]]:
    """The type of a flag that takes whole numbers with commas between."""
    one = whole(least, 1_000_000)
    return lambda text: tuple(dict.fromkeys(one(part.strip()) for part in text.split(",")))


def pair_of(text: str) -> tuple[str, str]:
    """COL=VALUE"""
    column, equals, value = text.partition("=")
    if not (column and equals):
        raise UserError(f"--where {text!r} is not COL=VALUE")
    return column, value
