"""`perfbench attention`, `plot`, `report`, `generate`: what people look at."""

import argparse

from benchmarks.options import DDIM_STEPS, GUIDANCE, add_device, add_vae, number, whole
from benchmarks.verb import Run, verb


@verb("attention")
def attention(parser: argparse.ArgumentParser) -> Run:
    """Measure what the concept's word attends to, and how much of that leaves the object.

    The miniature's own concepts are rendered in the prompts' scenes. Any other concept is shown by
    its images and masks. Each picture is noised to t = 250, 500 and 750, and seen once at each. The
    results go to RUN/attention/. What is already there is not measured again.

      perfbench attention && perfbench plot attention
      perfbench attention results/mine --methods ti,perfusion,perfusion-trained-k,super
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--methods",
        metavar="A,B",
        default="",
        help="methods to measure, in this order, as METHOD or METHOD/POINT",
    )
    parser.add_argument(
        "--method-file", metavar="FILE,..", default="", help="files of your own methods in this run"
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
    """Draw a figure of one run or several: fronts, concepts, trainings or pictures.

    Writes PDF, SVG and PNG into the first run's figures/, or the one FILE of --out. The figures
    pareto, dynamics, ablation and gallery take several runs.

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
        help="pareto, bias, dynamics, ablation, attention, per-concept, attainment, "
        "breakdown, measures, cost, difficulty, training, drift, gallery, or "
        "tuning (of a folder that `perfbench tune --halving` wrote)",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        default=[],
        metavar="RUN",
        help="run folders, or names under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="file to write: .pdf, .svg or .png; without a suffix, all three",
    )
    pictured = {
        "concepts": "gallery, bias, dynamics and attention",
        "prompts": "gallery, bias and dynamics",
        "methods": "gallery",
    }
    for name, figures in pictured.items():
        parser.add_argument(
            f"--{name}",
            metavar="A,B",
            default="",
            help=f"with {figures}: {name} to show, in this order",
        )
    parser.add_argument(
        "--images",
        type=int,
        default=1,
        metavar="N",
        help="with gallery: pictures of each cell (default: 1)",
    )
    parser.add_argument(
        "--scorer",
        default="",
        metavar="NAME",
        help="another of the run's scorers than the first, such as a judge, ratings or truth",
    )

    parser.add_argument(
        "--score",
        default="",
        metavar="COLUMN",
        help="with cost and difficulty: score of the table to draw, such as harmonic or image_sim",
    )
    parser.add_argument(
        "--cost",
        default="",
        metavar="COLUMN",
        help="with cost: train_seconds (default), kilobytes, trainable, "
        "train_peak_megabytes, draw_peak_megabytes, picture_seconds, "
        "base_picture_seconds or apply_seconds",
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
    """Write a run's report: table, figures and images in one index.html.

    The page needs no server and no network, and may be sent to somebody without the run.

      perfbench report
      perfbench report results/quick-miniature-0a1b2c3d
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument("--out", metavar="FILE", help="file to write (default: RUN/index.html)")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.report.report_page import report_verb

        print(report_verb(args.run, args.out))

    return act


@verb("generate")
def generate(parser: argparse.ArgumentParser) -> Run:
    """Draw a prompt in which each {name} stands for a concept file, here or on the hub.

    A range of biases, LO:HI:N, draws each seed at every bias. Beside the pictures it writes
    sweep.png with all of them, and sweep.html with a slider.

      perfbench generate "A {cat} reading a book" --concept cat=cat.safetensors --out pictures
      perfbench generate "A {cat} in a {pot}" --concept cat=FILE --concept pot=owner/name \\
          --bias cat=0.5,pot=0.7 --out pictures
      perfbench generate "A {cat} in the snow" --concept cat=FILE --bias 0.3:1.0:8 -n 4 --out sweep
    """
    from benchmarks.figures.one_prompt.wanted import size_of
    from benchmarks.running.fit_command import add_model_flags
    from perfusion_core.schedulers import DDIM, SCHEDULERS

    parser.add_argument("prompt", help='the prompt in quotes: "A {teddy} on the beach"')
    parser.add_argument(
        "--concept",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="concept for {name}, given once for each; FILE may be on the hub: "
        "owner/name or owner/name@revision",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the pictures, <seed>.png"
    )
    parser.add_argument(
        "-n", type=whole(1), default=8, metavar="N", help="number of pictures (default: 8)"
    )
    parser.add_argument(
        "--bias",
        default="0.6",
        metavar="B",
        help="bias of the gate; lower means more concept (default: 0.6). For each concept: "
        "teddy=0.5,brew=0.7. A sweep: LO:HI:N",
    )
    parser.add_argument(
        "--temperature", default="0.15", metavar="T", help="temperature of the gate (default: 0.15)"
    )
    parser.add_argument(
        "--lock",
        default="local",
        metavar="LOCK",
        help="local (default) or global; with global try --bias 0.4 to 0.6",
    )
    parser.add_argument(
        "--negative", default="", metavar="TEXT", help="negative prompt: what shall not be drawn"
    )
    parser.add_argument(
        "--scheduler",
        default=DDIM,
        metavar="NAME",
        help=f"{', '.join(sorted(SCHEDULERS))} (default: {DDIM}, the protocol's)",
    )
    parser.add_argument(
        "--steps",
        type=whole(1, DDIM_STEPS),
        default=50,
        metavar="N",
        help="sampling steps (default: 50)",
    )
    parser.add_argument(
        "--guidance",
        type=number(0, GUIDANCE),
        default=6.0,
        metavar="G",
        help="classifier-free guidance (default: 6)",
    )
    parser.add_argument(
        "--size",
        type=size_of,
        metavar="WxH",
        help="size in pixels, as 512 or 768x512 (default: the backbone's own)",
    )
    parser.add_argument(
        "--grid", action="store_true", help="also write all pictures as one grid.png"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="draw even if the concept seems to belong to another text encoder",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already at --out")
    add_model_flags(parser)
    add_vae(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.figures.one_prompt.drawn_prompt import generate

        generate(args)

    return act
