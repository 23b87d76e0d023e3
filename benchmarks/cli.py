"""The `perfbench` command: one function a verb. Nothing heavy is imported before a verb runs.

A verb is a function decorated with `verb`: it describes its arguments on a parser and returns what to run.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from perfusion_core.errors import UserError, unknown

Run = Callable[[argparse.Namespace], int | None]
VERBS: dict[str, Callable[[argparse.ArgumentParser], Run]] = {}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UserErrors, and whose help keeps the examples' line breaks."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message}; `{self.prog} --help` shows what is allowed")


def verb(name: str) -> Callable[[Callable[[argparse.ArgumentParser], Run]], Callable[[argparse.ArgumentParser], Run]]:
    """Register a verb; the function's docstring is its help, the first line its summary."""

    def register(describe: Callable[[argparse.ArgumentParser], Run]) -> Callable[[argparse.ArgumentParser], Run]:
        VERBS[name] = describe
        return describe

    return register


def versions() -> str:
    """Our version and commit, and those of the libraries that decide the numbers; read without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    from benchmarks.paths import git_commit
    from perfusion_core import __version__

    lines = [f"perfbench {__version__}" + (f" ({commit})" if (commit := git_commit()) else "")]
    for name in ("torch", "diffusers", "transformers", "open_clip_torch"):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} missing: pip install {name}")
    return "\n".join(lines)


def usage() -> str:
    """The page of `perfbench --help`."""
    rows = "\n".join(
        f"  {name:<12}{(describe.__doc__ or '').strip().splitlines()[0]}" for name, describe in VERBS.items()
    )
    return f"""usage: perfbench VERB [options]

Text-to-image personalization, measured: trains, generates, scores and plots.

verbs:
{rows}

examples:
  perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
  perfbench run --methods perfusion,cd --concepts all
  perfbench plot pareto
  perfbench VERB --help

  --version    this program's version and those of torch, diffusers, transformers, open_clip"""


def run(argv: Sequence[str]) -> int:
    """One verb, from its words to its exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(versions())
        return 0
    if argv[0] not in VERBS:
        raise unknown("verb", argv[0], VERBS)
    describe = VERBS[argv[0]]
    parser = Parser(prog=f"perfbench {argv[0]}", description=describe.__doc__)
    act = describe(parser)
    return act(parser.parse_args(argv[1:])) or 0


@verb("run")
def run_benchmark(parser: argparse.ArgumentParser) -> Run:
    """Train, generate and score what is missing, then write and print the tables.

    Interrupted at any moment, the same command goes on. Adding methods, concepts or prompts extends the run folder.

      perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
      perfbench run --methods perfusion,cd --concepts all --engine processes
      perfbench run --preset paper --backbone owner/name --out results/mine --set images=4
    """
    from benchmarks.run_verbs import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--allow-missing", action="store_true", help="tables of what is there, with n/planned")

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        from benchmarks.benchmark import run

        return run(config, sys.argv[1:], dry_run=args.dry_run, allow_missing=args.allow_missing)

    return act


@verb("plan")
def plan(parser: argparse.ArgumentParser) -> Run:
    """Print what a run would do: fits, cells, images, what is done, the time that is left.

    perfbench plan --methods perfusion,cd --concepts all
    perfbench plan --preset paper --json
    """
    from benchmarks.run_verbs import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        from benchmarks.benchmark import plan

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
    parser.add_argument("--scorers", metavar="A,B", default="", help="more of them: a folder, clip:MODEL:TAG, dino")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.rescore import rescore

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
        from benchmarks.store import find_run
        from benchmarks.tables import write_tables
        from benchmarks.views import view

        print(view(args.run, args.by) if args.by else write_tables(find_run(args.run), args.allow_missing), end="")

    return act


@verb("check")
def check(parser: argparse.ArgumentParser) -> Run:
    """The regression gate: is a run worse than a reference, by more than repeated runs differ?

    Exit status: 0 nothing lost (or undecided), 1 a loss (or, with --strict, anything undecided), 2 not comparable.
    Margins are in check.toml beside the reference; --calibrate makes them from repeated runs of one thing.

      perfbench check results/mine --against results/miniature-quick
      perfbench check results/mine --against results/miniature-quick --format junit > check.xml
      perfbench check --calibrate results/repeat-1 results/repeat-2 results/repeat-3 --against results/miniature-quick
    """
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run folder; without one, the newest")
    parser.add_argument("--against", metavar="REFERENCE", help="the run to compare with")
    parser.add_argument("--strict", action="store_true", help="undecided is a failure")
    parser.add_argument("--margins", metavar="SET", help="same-weights or retrained; default: what run.json says")
    parser.add_argument("--format", default="text", metavar="FORMAT", help="text, markdown, json, junit or github")
    parser.add_argument("--calibrate", action="store_true", help="write margins from these repeated runs")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.check_report import check_verb

        text, status = check_verb(
            args.runs, args.against, args.margins, strict=args.strict, form=args.format, repeats=args.calibrate
        )
        print(text, end="")
        return status

    return act


@verb("plot")
def plot(parser: argparse.ArgumentParser) -> Run:
    """Draw a figure of a run: pareto, bias, dynamics, ablation, attention, per-concept, gallery.

    Without RUN, the newest run. Writes PDF, SVG and PNG into the run's figures/, or the one FILE of --out.

      perfbench plot pareto
      perfbench plot gallery results/paper-miniature-0a1b2c3d --concepts cat,teapot --methods perfusion,cd,db
      perfbench plot gallery --concepts cat --prompts a02 --methods perfusion/local-b0.60-t0.15 --images 8 --out cat.pdf
    """
    parser.add_argument("figure", help="pareto, bias, dynamics, ablation, attention, per-concept or gallery")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders, or names under results/")
    parser.add_argument("--out", metavar="FILE", help=".pdf, .svg or .png; without a suffix, all three")
    for name in ("concepts", "prompts", "methods"):
        parser.add_argument(f"--{name}", metavar="A,B", default="", help="of a figure with pictures, in this order")
    parser.add_argument(
        "--images", type=int, default=1, metavar="N", help="pictures of each cell in `gallery`; default 1"
    )

    def act(args: argparse.Namespace) -> None:
        from benchmarks.choices import Wish
        from benchmarks.figures import plot_verb

        concepts, prompts, methods = (
            tuple(filter(None, words.split(","))) for words in (args.concepts, args.prompts, args.methods)
        )
        for file in plot_verb(args.figure, args.runs, args.out, Wish(concepts, prompts, methods, args.images)):
            print(file)

    return act


@verb("report")
def report(parser: argparse.ArgumentParser) -> Run:
    """Write the page that people look at: one index.html with the table, the figures and the images of a run.

    Without RUN, the newest run. The page needs no server and no network, and may be sent to somebody without the run.

      perfbench report
      perfbench report results/quick-miniature-0a1b2c3d
    """
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or a name under results/")
    parser.add_argument("--out", metavar="FILE", help="where to write it; default RUN/index.html")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.report import report_verb

        print(report_verb(args.run, args.out))

    return act


@verb("study")
def study(parser: argparse.ArgumentParser) -> Run:
    """The paper's two rating studies: a page for raters, collecting their answers, the analysis."""
    from benchmarks.study.command import describe

    describe(parser)
    return lambda args: args.act(args)


@verb("ls")
def ls(parser: argparse.ArgumentParser) -> Run:
    """List concepts, prompts and suites (and other kinds that this installation has).

    examples:
      perfbench ls prompts --concept cat
      perfbench ls concepts --suite dreambench:DIR --json
    """
    parser.add_argument("kind", help="what to list: concepts, prompts, suites ...")
    parser.add_argument("--concept", metavar="NAME", help="with prompts: those of one concept")
    parser.add_argument("--suite", default="miniature", help="miniature, photos, a folder of concepts, or LAYOUT:DIR")
    parser.add_argument("--json", action="store_true", help="machine-readable")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.listing import show

        show(args)

    return act


@verb("concepts")
def concepts(parser: argparse.ArgumentParser) -> Run:
    """Get, adopt, add or import concepts: folders of images of one thing.

    examples:
      perfbench concepts add photos/my_teapot --super-category teapot
      perfbench concepts fetch all
      perfbench concepts adopt sculpture downloads/headless_statue
      perfbench concepts import dreambench:DIR
    """
    doing = parser.add_subparsers(dest="do", required=True, metavar="fetch|adopt|add|import")
    fetch = doing.add_parser("fetch", help="download the photographs of the paper's concepts")
    fetch.add_argument("names", help="all, or names with commas between them")
    adopt = doing.add_parser("adopt", help="take a folder that you have as one of the paper's concepts")
    adopt.add_argument("name")
    adopt.add_argument("dir")
    add = doing.add_parser("add", help="make a concept of your own photographs")
    add.add_argument("dir")
    add.add_argument("--super-category", required=True, metavar="WORD", help="the kind of thing, one word: teapot")
    add.add_argument("--name", help="default: the folder's name")
    add.add_argument("--group", choices=("animated", "container", "furniture", "wearable", "other"),
                     help="whose prompts it gets; default: by the super-category")  # fmt: skip
    add.add_argument("--asymmetric", action="store_true", help="never mirror it in training (writing, one-sided marks)")
    add.add_argument("--licence", default="the owner's; not for redistribution")
    suite = doing.add_parser("import", help="copy the concepts of another suite, to be used with our prompts")
    suite.add_argument("suite", metavar="LAYOUT:DIR", help="`perfbench ls suites` tells the layouts")
    for each in (fetch, adopt, add, suite):
        each.add_argument("--dest", metavar="DIR", help="default: your data folder ($PERFBENCH_DATA)")

    def act(args: argparse.Namespace) -> int:
        from benchmarks import catalog_verbs as do

        return {"fetch": do.fetch, "adopt": do.adopt, "add": do.add, "import": do.import_suite}[args.do](args)

    return act


@verb("catalog")
def catalog(parser: argparse.ArgumentParser) -> Run:
    """Check prompts and concepts: counts, ids, groups, images, licences, words that the tokenizer knows whole.

    examples:
      perfbench catalog check
      perfbench catalog check --backbone miniature
      perfbench catalog check --suite dreambench:DIR
    """
    check = parser.add_subparsers(dest="do", required=True, metavar="check").add_parser(
        "check", help="0: nothing wrong"
    )
    check.add_argument("--suite", help="default: everything that is shipped")
    check.add_argument("--backbone", metavar="NAME|DIR|HUB_ID", help="whose tokenizer; default: CLIP's, of SD 1 and 2")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.catalog_verbs import check

        return check(args)

    return act


@verb("fit")
def fit(parser: argparse.ArgumentParser) -> Run:
    """Train one concept by one method, outside a benchmark; interrupted, the same command goes on.

    perfbench fit perfusion --concept cat --out cat.safetensors
    perfbench fit cd --concept my_concepts/teapot --out fits/teapot-cd --set steps=100
    """
    parser.add_argument("method", help="`perfbench ls methods`")
    parser.add_argument(
        "--suite", metavar="DIR", help="where the name is looked up; default: the backbone's own concepts"
    )
    parser.add_argument("--concept", required=True, metavar="NAME|DIR", help="`perfbench ls concepts`, or its folder")
    parser.add_argument(
        "--out", required=True, metavar="FILE|DIR", help="FILE.safetensors for perfusion, else a folder"
    )
    parser.add_argument("--set", metavar="KEY=VALUE", dest="sets", action="append", default=[],
                        help="of the method's recipe: lr=0.01, images=1, train_k=true")  # fmt: skip
    parser.add_argument("--steps", metavar="N", help="of training; default the method's own recipe")
    parser.add_argument("--masks", metavar="WHICH", help="auto, none, clipseg, or a folder of masks")
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.single import fit

        fit(args)

    return act


@verb("tune")
def tune(parser: argparse.ArgumentParser) -> Run:
    """Try every method's learning rates and steps on the tuning concepts: the same number of trials for each.

    One fit a factor, looked at on its way; the best harmonic mean is chosen, and every trial is a row of trials.csv.

      perfbench tune
      perfbench tune --methods ti,cd --factors 0.25,0.5,1,2,4 --parts 0.25,0.5,1
    """
    parser.add_argument("--methods", metavar="A,B", default="perfusion,db,ti,cd,lora", help="default: all that train")
    parser.add_argument("--factors", metavar="X,Y", default="0.25,0.5,1,2,4", help="of the recipe's learning rates")
    parser.add_argument("--parts", metavar="X,Y", default="0.25,0.5,1", help="of the recipe's steps")
    parser.add_argument("--prompts", metavar="N", default="24", help="for each concept; default 24")
    parser.add_argument("--images", metavar="N", default="1", help="a prompt; default 1")
    parser.add_argument("--steps", metavar="N", default="25", help="of DDIM; default 25")
    parser.add_argument("--suite", metavar="DIR", default="tuning", help="default: the three tuning concepts")
    parser.add_argument("--backbone", metavar="WHICH", default="miniature", help="a name, folder, file, hub id")
    parser.add_argument("--out", metavar="DIR", help="default: results/tuning-<backbone>")
    for name in ("device", "engine", "workers", "threads"):
        parser.add_argument(f"--{name}", metavar="X", help=f"as in `perfbench run --{name}`")
    parser.add_argument("--set", metavar="KEY=VALUE", dest="sets", action="append", default=[], help="as in run")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.tune import tune

        return tune(args)

    return act


@verb("generate")
def generate(parser: argparse.ArgumentParser) -> Run:
    """Draw a prompt with concepts in it: each {name} stands for a concept file.

    perfbench generate "A {cat} reading a book" --concept cat=cat.safetensors --lock global --bias 0.45 --out pictures
    perfbench generate "A {teddy} sailing in a {pot}" --concept teddy=a.safetensors --concept pot=b.safetensors --out b
    """
    parser.add_argument("prompt", help='such as "A {teddy} on the beach"; quote it')
    parser.add_argument("--concept", metavar="NAME=FILE", action="append", default=[], help="once for each {name}")
    parser.add_argument("--out", required=True, metavar="DIR", help="<seed>.png are written there")
    parser.add_argument("-n", type=int, default=8, metavar="N", help="images; default 8")
    parser.add_argument(
        "--bias", default="0.6", metavar="B", help="of the gate, lower is more concept; or teddy=0.5,brew=0.7"
    )
    parser.add_argument("--temperature", default="0.15", metavar="T", help="of the gate; default 0.15")
    parser.add_argument(
        "--lock", default="local", metavar="LOCK", help="local or global (try --bias 0.4 to 0.6 with it)"
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of DDIM; default 50")
    parser.add_argument("--guidance", type=float, default=6.0, metavar="G", help="default 6")
    parser.add_argument("--force", action="store_true", help="even if the concept seems to be of another text encoder")
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.single import generate

        generate(args)

    return act


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone", default="miniature", metavar="WHICH", help="a name, folder, .safetensors file, hub id"
    )
    parser.add_argument("--revision", metavar="NAME", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--dtype", default="auto", metavar="NAME", help="auto, float32, bfloat16, float16")


@verb("covariance")
def covariance(parser: argparse.ArgumentParser) -> Run:
    """Estimate C of a backbone's text encoder, which Perfusion needs; interrupted, the same command goes on.

    Stored beside the backbone, or by the text encoder's digest in $PERFBENCH_CACHE (default ~/.cache/perfbench).

      perfbench covariance --backbone sd15
      perfbench covariance --backbone my/model --captions captions.txt --limit 20000
    """
    usual = "google-research-datasets/conceptual_captions"
    parser.add_argument("--backbone", required=True, metavar="WHICH", help="a name, folder, .safetensors file, hub id")
    parser.add_argument("--revision", metavar="NAME", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--captions", default=usual, metavar="FILE|DATASET",
                        help=f"text, csv, jsonl or parquet, or a hub data set; default {usual}")  # fmt: skip
    parser.add_argument("--limit", type=int, default=100_000, metavar="N", help="captions; default 100000")
    parser.add_argument("--column", metavar="NAME", help="that holds the captions; usually found")
    parser.add_argument("--split", default="train", metavar="NAME", help="of a hub data set; default train")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="default 64")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.preparation import covariance

        covariance(args)

    return act


@verb("masks")
def masks(parser: argparse.ArgumentParser) -> Run:
    """Make soft masks of concepts' images with CLIPSeg, prompted with the super-category; or look at those they have.

    perfbench masks my_teapot
    perfbench masks all --suite photos --device cuda
    perfbench masks cat,teapot --suite miniature --show masks.png
    """
    parser.add_argument("concepts", help="all, or names and folders with commas between them")
    parser.add_argument(
        "--suite", default="photos", metavar="SUITE", help="where the names are looked up; default photos"
    )
    parser.add_argument("--show", metavar="FILE", help="make none; draw those that are there over the images")
    parser.add_argument("--model", default="CIDAS/clipseg-rd64-refined", metavar="HUB_ID|DIR", help="of CLIPSeg")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.preparation import masks

        masks(args)

    return act


@verb("miniature")
def miniature(parser: argparse.ArgumentParser) -> Run:
    """The embedded world: train its models, measure whether they draw what prompts say, look at it.

    examples:
      perfbench miniature show "a dog reading a book on the moon" --n 8
      perfbench miniature verify --quick
      perfbench miniature build --out my-miniature --minutes 60
    """
    from benchmarks.miniature.command import describe

    describe(parser)
    return lambda args: args.act(args)


def mismatched(error: BaseException | None) -> UserError | None:
    """torch and torchvision from different builds fail deep inside other imports; say what it is and what to type."""
    while error is not None:
        if "torchvision::nms does not exist" in str(error):
            return UserError(
                "torch and torchvision do not belong together (operator torchvision::nms does not exist); install both "
                "from one place: pip install --force-reinstall torch torchvision, with the same --index-url for both"
            )
        error = error.__cause__ or error.__context__
    return None


def main() -> None:
    """The console script: 0 done, 1 something failed, 2 a mistake in what was asked, 130 interrupted."""
    try:
        status = run(sys.argv[1:])
    except UserError as error:
        print(f"perfbench: {error}", file=sys.stderr)
        status = 2
    except (ImportError, RuntimeError) as error:
        if not (mistake := mismatched(error)):
            raise
        print(f"perfbench: {mistake}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("perfbench: interrupted; the same command goes on from here", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        status = 0
    sys.exit(status)


if __name__ == "__main__":
    main()
