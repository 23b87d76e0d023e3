"""The verb `perfbench miniature`: its arguments, described without importing torch.

In: a parser. Out: what runs the subverb that was asked for; rooms above may add some of their own.
"""

import argparse
from pathlib import Path

from benchmarks.disk import ask_for
from benchmarks.options import SEEDS, add_device, add_dtype, number, whole
from benchmarks.paths import BackboneNames, miniature_dir
from benchmarks.suite.generated import generated
from benchmarks.verb import Run, add_subverbs, subverb, verb


@generated("world", "N drawn concepts, to report on: held-out pictures, masks, grades")
def world(number: str) -> object:
    from benchmarks.miniature.worlds import world_suite

    return world_suite("world", number)


@generated("world-tuning", "N other drawn concepts, to tune on")
def world_tuning(number: str) -> object:
    from benchmarks.miniature.worlds import world_suite

    return world_suite("world-tuning", number)


@verb("miniature")
def miniature(parser: argparse.ArgumentParser) -> Run:
    """Show, measure or train the miniature: the drawn world and its models in the package.

    perfbench miniature show "a dog reading a book on the moon" --n 8
    perfbench miniature verify --quick
    perfbench miniature build --out my-miniature --minutes 60
    perfbench miniature build --xl --work my-miniature.build --start my-miniature --out my-xl
    """
    return add_subverbs(parser, "miniature")


@subverb("miniature", "build", "train all models of the miniature")
def build(parser: argparse.ArgumentParser) -> Run:
    parser.description = (
        "Render, train every model for its minutes, export. The work folder keeps a checkpoint a "
        "minute: if it is interrupted, give the same command again."
    )
    parser.add_argument("--out", type=Path, default=Path("miniature-weights"), metavar="DIR",
                        help="folder for the weights (default: miniature-weights)")  # fmt: skip
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for pictures and checkpoints (default: OUT.build)",
    )
    parser.add_argument(
        "--xl",
        action="store_true",
        help="grow miniature-xl from finished weights: those of --start, or in the package",
    )
    add_device(parser)
    parser.add_argument(
        "--minutes",
        type=number(0),
        metavar="N",
        help="minutes of training, all stages together (default: 215 on a CPU, 23 on a GPU; with "
        "--xl 155 and 18)",
    )
    parser.add_argument(
        "--stages",
        metavar="A,B",
        help="train only these: text, vae, unet, scorer, scorer2, factors, identity, segment; with "
        "--xl text-xl, unet-xl",
    )
    parser.add_argument(
        "--pause",
        type=number(0),
        metavar="N",
        help="stop after N minutes with exit status 3; the same command goes on later",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="DIR",
        help="start from what --pack wrote elsewhere, or from a folder of weights",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        metavar="DIR",
        help="write the averaged weights to DIR at the end or at a pause, in files of 15 MB",
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change the recipe: own_token=0 leaves out the loss that keeps words apart",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks by torch.compile; on a GPU this pays after minutes",
    )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.miniature.training.building import build_verb

        ask_for(args.out / "unet")
        return build_verb(
            args.out,
            work=args.work,
            device=args.device,
            minutes=args.minutes,
            only=args.stages,
            pause=args.pause,
            start=args.start,
            pack_to=args.pack,
            sets=args.sets,
            compile=args.compile,
            xl=args.xl,
        )

    return act


@subverb("miniature", "show", "draw a prompt, generated above rendered")
def show(parser: argparse.ArgumentParser) -> Run:
    from benchmarks.miniature.show import words

    parser.description = (
        "Draw a prompt by the models and by the renderer: one picture, the models' above."
    )
    parser.epilog = f"words of this world:\n{words()}"
    parser.add_argument("prompt", help='the prompt in quotes: "a dog reading a book on the moon"')
    parser.add_argument(
        "--n", type=int, default=8, metavar="N", help="number of pictures (default: 8)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("show.png"),
        metavar="FILE",
        help="file to write (default: show.png)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, SEEDS),
        default=0,
        metavar="N",
        help="seed of the first picture (default: 0)",
    )
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.miniature.show import show_verb

        weights, device, dtype = args.weights, args.device, args.dtype
        print(
            show_verb(
                args.prompt,
                args.n,
                args.out,
                weights=weights,
                seed=args.seed,
                device=device,
                dtype=dtype,
            )
        )

    return act


@subverb("miniature", "restyle", "make a fine-tuned copy that draws everything in one style")
def restyle(parser: argparse.ArgumentParser) -> Run:
    parser.description = (
        "Fine-tune a copy of the U-Net on one style. Trained concepts can be carried over to it."
    )
    parser.add_argument("style", help="oil, watercolor, sketch or pixel")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the new backbone (default: STYLE-miniature)",
    )
    parser.add_argument(
        "--steps",
        type=whole(1),
        default=400,
        metavar="N",
        help="training steps of 32 pictures (default: 400)",
    )
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.miniature.training.restyle import restyle

        out = args.out or Path(f"{args.style}-miniature")
        ask_for(out / "unet")
        print(
            restyle(
                args.weights,
                args.style,
                out,
                steps=args.steps,
                device=args.device,
                dtype=args.dtype,
            )
        )

    return act


@subverb(
    "miniature", "contrastive", "make a copy whose text encoder was not taught to keep words apart"
)
def contrastive(parser: argparse.ArgumentParser) -> Run:
    parser.description = (
        "Train a text encoder by the contrastive loss alone, as CLIP's was. Then train a copy of "
        "the U-Net until it understands the new encodings. If it is interrupted, give the same "
        "command again."
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("contrastive-miniature"),
        metavar="DIR",
        help="folder of the new backbone (default: contrastive-miniature)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for pictures and checkpoints (default: OUT.build)",
    )
    parser.add_argument(
        "--minutes",
        type=number(0),
        default=60,
        metavar="N",
        help="minutes of training (default: 60)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the networks by torch.compile"
    )
    add_place_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.devices import device_name
        from benchmarks.miniature.training.contrastive import contrastive

        ask_for(args.out / "unet")
        work = args.work or args.out.with_name(f"{args.out.name}.build")
        device, minutes = device_name(args.device), args.minutes
        print(
            contrastive(
                args.weights,
                args.out,
                work=work,
                minutes=minutes,
                device=device,
                compile=args.compile,
            )
        )

    return act


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which weights, on which device, in which dtype."""
    add_place_flags(parser)
    add_dtype(parser)


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Which weights, on which device."""
    parser.add_argument(
        "--weights",
        type=lambda text: BackboneNames().get(text) or Path(text),
        default=miniature_dir(),
        metavar="DIR",
        help="folder of the weights, or miniature-xl (default: the miniature in the package)",
    )
    add_device(parser)
