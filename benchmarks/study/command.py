"""`perfbench study export | serve | analyse`: the arguments, and what each of them runs. Nothing
heavy at import.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.options import whole
from benchmarks.study.design import Design
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError

EXAMPLES = """
examples:
  perfbench study export results/paper-sd15 --study ranking --out studies/ranking
  perfbench study serve studies/ranking --host 0.0.0.0
  perfbench study analyse studies/ranking
docs/studies.md explains every step, from the first look to the table.
"""


@verb("study")
def study(parser: argparse.ArgumentParser) -> Run:
    """Run the paper's two rating studies: a page for raters, their answers, the analysis."""
    parser.epilog = EXAMPLES
    verbs = parser.add_subparsers(dest="step", required=True, metavar="export|serve|analyse")
    export_arguments(
        verbs.add_parser(
            "export",
            help="make a page for raters from the images of a run",
            description=export_arguments.__doc__,
        )
    )
    serve_arguments(
        verbs.add_parser(
            "serve",
            help="serve the page on one network and collect answers",
            description=serve_arguments.__doc__,
        )
    )
    analyse_arguments(
        verbs.add_parser(
            "analyse",
            help="make table and figure from the answers",
            description=analyse_arguments.__doc__,
        )
    )
    return lambda args: args.act(args)


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Make a self-contained page from a run's images, and a key that only you keep."""
    d = Design()
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--study",
        required=True,
        help="ranking (three methods, unique ranks) or realism (two methods, scores 1-3)",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to make for the study"
    )
    parser.add_argument(
        "--methods",
        type=words,
        default=[],
        metavar="A,B,C",
        help="methods to compare (default: perfusion,cd,db; for realism perfusion,super)",
    )
    parser.add_argument(
        "--responses",
        type=int,
        default=d.responses,
        metavar="N",
        help=f"raters who see each prompt of a concept (default: {d.responses})",
    )
    parser.add_argument(
        "--session",
        type=int,
        default=d.session,
        metavar="N",
        help=f"about this many trials in one sitting (default: {d.session})",
    )
    parser.add_argument(
        "--qualify",
        type=int,
        default=d.qualify,
        metavar="N",
        help=f"trials with a known answer at the start of a sitting (default: {d.qualify})",
    )
    parser.add_argument(
        "--pass-mark",
        type=int,
        metavar="N",
        help="number of these that must be right (default: all)",
    )
    parser.add_argument(
        "--reject",
        type=words,
        default=[],
        metavar="NAMES",
        help="qualification trials to leave out because their answer is not clear "
        "(see private/qualification.html)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=d.repeats,
        metavar="N",
        help=f"trials that come twice in a sitting (default: {d.repeats})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=d.seed,
        help="seed that decides who sees what in which order (default: 0)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="study only the prompts whose pictures are complete",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier export; answers to pages that you handed out are lost",
    )
    parser.set_defaults(act=run_export)


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Hand the page to raters on one network and collect their answers in DIR/answers."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study folder")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on: 0.0.0.0 for the network, with a token in the "
        "link (default: this machine only)",
    )
    parser.add_argument(
        "--port", type=whole(0, 65535), default=8765, help="port to listen on (default: 8765)"
    )
    parser.add_argument(
        "--name",
        default="",
        metavar="HOST",
        help="name of a server of yours in front of this one: ratings.example.org",
    )
    parser.set_defaults(act=run_serve)


def analyse_arguments(parser: argparse.ArgumentParser) -> None:
    """Make DIR/analysis from DIR/answers/*.json: table, figure, and a row an answer."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study folder")
    share = (
        "leave out raters who order repeated pairs the same way less often than this "
        "(default: 0.5, chance)"
    )
    parser.add_argument("--min-agreement", type=float, default=0.5, metavar="SHARE", help=share)
    parser.set_defaults(act=run_analyse)


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def run_export(args: argparse.Namespace) -> None:
    from benchmarks.store.reading import find_run
    from benchmarks.study.export import export

    mark = args.qualify if args.pass_mark is None else args.pass_mark
    if (args.out / "private" / "key.json").is_file() and not args.overwrite:
        raise UserError(
            f"{args.out} is a study already: a new key would orphan the answers to pages that you "
            f"handed out; choose another folder with --out, or --overwrite"
        )
    design = Design(args.responses, args.session, args.qualify, mark, args.repeats, args.seed)
    print(
        export(
            find_run(args.run),
            args.study,
            args.out,
            design,
            args.methods,
            args.reject,
            args.allow_missing,
        )
    )


def run_serve(args: argparse.Namespace) -> None:
    from benchmarks.study.serve import serve

    serve(args.folder, args.host, args.port, args.name)


def run_analyse(args: argparse.Namespace) -> None:
    from benchmarks.study.analysis import analyse

    report = analyse(args.folder, args.min_agreement)
    print(report.text)
    print(f"written to {report.folder}", file=sys.stderr)
