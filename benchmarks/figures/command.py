"""`perfbench attention`, `plot`, `report`, `generate`: what people look at."""

import argparse

from benchmarks.options import DDIM_STEPS, GUIDANCE, add_device, number, whole
from benchmarks.verb import Run, verb


@verb("attention")
def attention(parser: argparse.ArgumentParser) -> Run:
    """Measure what the concept's word attends to, and how much of that leaves the object.

    The miniature's own concepts are drawn in the prompts' scenes, any other is shown by its images
    and masks. Each picture is noised to t = 250, 500 and 750, and seen once at each. Writes
    RUN/attention/; what is there is not measured again.

      perfbench attention && perfbench plot attention
      perfbench attention results/mine --methods ti,perfusion,perfusion-trained-k,super
    """
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run folder, or a name under results/"
    )
    parser.add_argument(
        "--methods", metavar="A,B", default="", help="in this order; a method, or METHOD/POINT"
    )
    parser.add_argument(
        "--method-file", metavar="FILE,..", default="", help="methods of your own in this run"
    )
    add_device(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.attention.measuring import attention

        wanted, files = (
            tuple(filter(None, words.split(","))) for words in (args.methods, args.method_file)
        )
        print(attention(args.run, wanted, args.device, files), end="")

    return act


@verb("plot")
def plot(parser: argparse.ArgumentParser) -> Run:
    """Draw a figure of one run or several: its plane, concepts, trainings or pictures.

    Without RUN, the newest run. Writes PDF, SVG and PNG into the (first) run's figures/, or the one
    FILE of --out. Several runs share pareto, dynamics, ablation and gallery.

      perfbench plot pareto
      perfbench plot pareto results/mine --scorer truth
      perfbench plot cost results/mine --score image_sim --cost trainable
      perfbench plot gallery results/mine --concepts cat,teapot --methods perfusion,cd,db
      perfbench plot gallery --concepts cat --prompts a02 --images 8 --out cat.pdf
      perfbench plot gallery --concepts teddy+teapot
      perfbench plot gallery results/one-backbone results/another --concepts cat --methods perfusion
    """
    parser.add_argument(
        "figure",
        help="pareto, bias, dynamics, ablation, attention, per-concept, attainment, breakdown, "
        "measures, cost, difficulty, training, drift or gallery; tuning, of a folder that "
        "`perfbench tune --halving` wrote",
    )
    parser.add_argument(
        "runs", nargs="*", default=[], metavar="RUN", help="run folders, or names under results/"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=".pdf, .svg or .png; without a suffix, all three"
    )
    pictured = {
        "concepts": "gallery, bias, dynamics and attention",
        "prompts": "gallery, bias and dynamics",
        "methods": "gallery",
    }
    for name, figures in pictured.items():
        parser.add_argument(
            f"--{name}", metavar="A,B", default="", help=f"of {figures}, in this order"
        )
    parser.add_argument(
        "--images",
        type=int,
        default=1,
        metavar="N",
        help="pictures of each cell in `gallery`; default 1",
    )
    parser.add_argument(
        "--scorer",
        default="",
        metavar="NAME",
        help="another of the run's scorers than the first: a judge, ratings, truth",
    )

    parser.add_argument(
        "--score",
        default="",
        metavar="COLUMN",
        help="of cost and difficulty: a score of the table, such as harmonic or image_sim",
    )
    parser.add_argument(
        "--cost",
        default="",
        metavar="COLUMN",
        help="of cost: train_seconds, kilobytes, trainable, train_peak_megabytes, "
        "draw_peak_megabytes, picture_seconds, base_picture_seconds or apply_seconds",
    )

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.registry import plot_verb
        from benchmarks.figures.selection import Wish

        concepts, prompts, methods = (
            tuple(filter(None, words.split(",")))
            for words in (args.concepts, args.prompts, args.methods)
        )
        for file in plot_verb(
            args.figure,
            args.runs,
            args.out,
            Wish(concepts, prompts, methods, args.images, args.score, args.cost),
            args.scorer,
        ):
            print(file)

    return act


@verb("report")
def report(parser: argparse.ArgumentParser) -> Run:
    """Write the page that people look at: table, figures and images of a run in one index.html.

    Without RUN, the newest run. The page needs no server and no network, and may be sent to
    somebody without the run.

      perfbench report
      perfbench report results/quick-miniature-0a1b2c3d
    """
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run folder, or a name under results/"
    )
    parser.add_argument("--out", metavar="FILE", help="where to write it; default RUN/index.html")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.report.report_page import report_verb

        print(report_verb(args.run, args.out))

    return act


@verb("generate")
def generate(parser: argparse.ArgumentParser) -> Run:
    """Draw a prompt with concepts in it: each {name} stands for a concept file, or one of the hub.

    A range of biases, LO:HI:N, draws each seed at every bias: the pictures, sweep.png with all of
    them, and sweep.html with a slider.

      perfbench generate "A {cat} reading a book" --concept cat=cat.safetensors --out pictures
      perfbench generate "A {cat} in a {pot}" --concept cat=FILE --concept pot=owner/name \\
          --bias cat=0.5,pot=0.7 --out pictures
      perfbench generate "A {cat} in the snow" --concept cat=FILE --bias 0.3:1.0:8 -n 4 --out sweep
    """
    from benchmarks.figures.one_prompt.wanted import size_of
    from benchmarks.running.fit_command import add_model_flags
    from perfusion_core.schedulers import DDIM, SCHEDULERS

    parser.add_argument("prompt", help='such as "A {teddy} on the beach"; quote it')
    parser.add_argument(
        "--concept",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="once for each {name}; FILE may be of the hub: owner/name, owner/name@revision",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="<seed>.png are written there")
    parser.add_argument("-n", type=whole(1), default=8, metavar="N", help="images; default 8")
    parser.add_argument(
        "--bias",
        default="0.6",
        metavar="B",
        help="of the gate, lower is more concept; or teddy=0.5,brew=0.7; a sweep is LO:HI:N",
    )
    parser.add_argument(
        "--temperature", default="0.15", metavar="T", help="of the gate; default 0.15"
    )
    parser.add_argument(
        "--lock",
        default="local",
        metavar="LOCK",
        help="local or global (try --bias 0.4 to 0.6 with it)",
    )
    parser.add_argument("--negative", default="", metavar="TEXT", help="what shall not be drawn")
    parser.add_argument(
        "--scheduler",
        default=DDIM,
        metavar="NAME",
        help=f"default {DDIM}, the protocol's; {', '.join(sorted(SCHEDULERS))}",
    )
    parser.add_argument(
        "--steps",
        type=whole(1, DDIM_STEPS),
        default=50,
        metavar="N",
        help="of the scheduler; default 50",
    )
    parser.add_argument(
        "--guidance", type=number(0, GUIDANCE), default=6.0, metavar="G", help="default 6"
    )
    parser.add_argument(
        "--size",
        type=size_of,
        metavar="WxH",
        help="in pixels, 512 or 768x512; default the backbone's own",
    )
    parser.add_argument("--grid", action="store_true", help="all of them in grid.png, too")
    parser.add_argument(
        "--force",
        action="store_true",
        help="even if the concept seems to be of another text encoder",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what --out has already")
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.one_prompt.drawn_prompt import generate

        generate(args)

    return act
