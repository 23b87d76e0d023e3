"""`perfbench table`, `check`: numbers from a run's rows, and the regression gate."""

import argparse
import os
import sys

from benchmarks.options import number
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError


@verb("table")
def table(parser: argparse.ArgumentParser) -> Run:
    """Make a run's tables again from its scores, and print the table or a view behind it.

    Without RUN, the newest run. A run whose plan is not finished is refused unless --allow-missing.

      perfbench table
      perfbench table results/quick-miniature-0a1b2c3d --by scenario
    """
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run folder, or a name under results/"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="average what is there; every row says n/planned",
    )
    parser.add_argument(
        "--by",
        metavar="VIEW",
        help="print instead: kind, group, scenario, prompt, concept, hardest, difference, front, "
        "hypervolume, best-h, scorers (do they agree), "
        "variance (whether to buy more concepts, prompts or images), or a column that the suite "
        "brings",
    )

    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", default="text",
                      help="rows for programs")  # fmt: skip
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="the same")

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
    """The regression gate: is a run worse than a reference, by more than repeated runs differ?

    Exit status: 0 nothing lost (or undecided), 1 a loss (or, with --strict, anything undecided), 2
    not comparable. Margins are in check.toml beside the reference; --calibrate makes them from
    repeated runs of one thing.

      perfbench check results/mine --against results/miniature-quick
      perfbench check results/mine --against results/miniature-quick --format junit > check.xml
      perfbench check --calibrate repeat-1 repeat-2 repeat-3 --against results/miniature-quick
    """
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a run folder; without one, the newest"
    )
    parser.add_argument("--against", metavar="REFERENCE", help="the run to compare with")
    parser.add_argument("--strict", action="store_true", help="undecided is a failure")
    parser.add_argument(
        "--margins", metavar="SET", help="same-weights or retrained; default: what run.json says"
    )
    parser.add_argument(
        "--format", default="text", metavar="FORMAT", help="text, markdown, json, junit or github"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="write margins from these repeated runs"
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
    """Two tables of scores by anybody, paired: difference, interval, wins, what could be seen.

    A and B are CSV, TSV, JSON lines, JSON or parquet files, or operating points of run folders.
    Rows are paired by the columns of --by; several of one cell are averaged first.

      perfbench compare results/mine::perfusion/local-b0.60-t0.15 results/mine::cd
      perfbench compare ours.csv theirs.csv --score clip_i --by subject,prompt --margin 0.01
      perfbench compare samples_a.jsonl samples_b.jsonl --score acc --by doc_id
    """
    parser.add_argument("a", metavar="A", help="a file, or RUN::METHOD/POINT")
    parser.add_argument("b", metavar="B", help="the same")
    parser.add_argument(
        "--score", default="image_sim", metavar="COL", help="higher is better; default image_sim"
    )
    parser.add_argument(
        "--by",
        default="concept,prompt_id",
        metavar="C[,C]",
        help="what was replicated: one column, or two that are crossed, the first of which counts; "
        "default concept,prompt_id",
    )
    parser.add_argument("--where", action="append", default=[], metavar="COL=VALUE",
                        help="only rows with this value; may be given several times")  # fmt: skip
    parser.add_argument(
        "--margin",
        type=number(0),
        metavar="X",
        help="are they the same within X? (two one-sided tests at 5 %%)",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.tables.comparing import compare_verb

        where = [pair_of(text) for text in args.where]
        by = [column.strip() for column in args.by.split(",") if column.strip()]
        print(compare_verb(args.a, args.b, args.score, by, where, args.margin, args.json), end="")

    return act


def pair_of(text: str) -> tuple[str, str]:
    """COL=VALUE"""
    column, equals, value = text.partition("=")
    if not (column and equals):
        raise UserError(f"--where {text!r} is not COL=VALUE")
    return column, value
