"""`perfbench fit`, `tune`, `covariance`: models and concepts outside of a run."""

import argparse

from benchmarks.options import SEEDS, add_device, add_dtype, add_log, add_vae, whole
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError

HALVING_ROUNDS = "16x4,8x8,4x16,2x22"  # 140 fits a method at most
# what `tune` takes where nothing else is said, of either way
GRID = {"factors": "0.25,0.5,1,2,4", "parts": "0.25,0.5,1", "suite": "tuning"}
HALVING = {"rounds": HALVING_ROUNDS, "published": False, "seed": 0, "suite": "world-tuning:22"}


@verb("fit")
def fit(parser: argparse.ArgumentParser) -> Run:
    """Train one concept by one method, outside a benchmark.

    If it is interrupted, give the same command again: it goes on from there.

      perfbench fit perfusion --concept cat --out cat.safetensors
      perfbench fit cd --concept my_concepts/teapot --out fits/teapot-cd --set steps=100
    """
    parser.add_argument("method", help="method to train; `perfbench ls methods` lists them")
    parser.add_argument(
        "--suite",
        metavar="DIR",
        help="suite that has the concept (default: the backbone's own concepts)",
    )
    parser.add_argument(
        "--concept",
        required=True,
        metavar="NAME|DIR",
        help="name of a concept (`perfbench ls concepts` lists them) or a concept folder",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE|DIR",
        help="where to put the result: FILE.safetensors for perfusion, else a folder",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="sets",
        action="append",
        default=[],
        help="change the method's recipe: lr=0.01, images=1, train_k=true",
    )
    parser.add_argument(
        "--steps", metavar="N", help="training steps (default: the method's own recipe)"
    )
    parser.add_argument(
        "--for",
        metavar="WHAT",
        dest="purpose",
        help="lora: train with the gate that `perfbench export` can express exactly",
    )
    parser.add_argument(
        "--masks",
        metavar="WHICH",
        help="auto (the concept's own, else CLIPSeg's; default), none, clipseg, or a "
        "folder of masks",
    )
    parser.add_argument(
        "--method-file",
        metavar="FILE",
        dest="method_files",
        help="file of a method of your own (docs/methods.md)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already at --out")
    add_model_flags(parser)
    add_vae(parser)
    add_log(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.running.one_fit import fit

        fit(args)

    return act


@verb("tune")
def tune(parser: argparse.ArgumentParser) -> Run:
    """Try learning rates and steps on the tuning concepts, the same number for every method.

    There is one fit for each factor, scored at several steps. The best harmonic mean is chosen.
    Every trial is a row of trials.csv.

    With --halving, rates are drawn at random around each recipe and validation picks the step. Many
    settings start on few concepts, and the better half goes on to more. The middle of those within
    one standard error of the best is chosen (docs/baselines.md).

      perfbench tune
      perfbench tune --methods ti,cd --factors 0.25,0.5,1,2,4 --parts 0.25,0.5,1
      perfbench tune --halving --suite world-tuning:22 --engine processes --workers 2 --threads 1
      perfbench tune --halving --rounds 8x4,4x8 --methods lora --out results/lora-rates
      perfbench tune --halving --rounds 9x4,4x6 --published --methods dora
    """
    parser.add_argument(
        "--methods",
        metavar="A,B",
        help="methods to tune (default: all that say what to tune, docs/methods.md)",
    )
    parser.add_argument(
        "--method-file",
        metavar="FILE,..",
        dest="method_files",
        help="files of your own methods (docs/methods.md)",
    )
    parser.add_argument(
        "--factors",
        metavar="X,Y",
        help=f"factors of the recipe's learning rates to try (default: {GRID['factors']})",
    )
    parser.add_argument(
        "--parts",
        metavar="X,Y",
        help=f"parts of the recipe's steps to look at (default: {GRID['parts']})",
    )
    parser.add_argument(
        "--prompts", metavar="N", default="24", help="prompts for each concept (default: 24)"
    )
    parser.add_argument("--images", metavar="N", default="1", help="images a prompt (default: 1)")
    parser.add_argument(
        "--steps", metavar="N", default="25", help="sampling steps of DDIM (default: 25)"
    )
    parser.add_argument(
        "--suite",
        metavar="DIR",
        help="suite to tune on (default: the three tuning concepts; with --halving "
        "world-tuning:22)",
    )
    parser.add_argument(
        "--backbone",
        metavar="WHICH",
        default="miniature",
        help="name, folder in diffusers layout, .safetensors file or hub id (default: miniature)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the trials (default: results/tuning-<backbone>; with "
        "--halving results/halving-<backbone>)",
    )
    parser.add_argument(
        "--halving",
        action="store_true",
        help="use successive halving over concepts instead of the grid of --factors and --parts",
    )
    parser.add_argument(
        "--rounds",
        metavar="SxC,..",
        help=f"with --halving: rounds of S settings on C concepts in all (default: "
        f"{HALVING_ROUNDS})",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        default=None,
        help="with --halving: the first of the settings has the published rates",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, SEEDS),
        metavar="N",
        help="with --halving: seed of the settings (default: 0)",
    )
    for name in ("device", "engine", "workers", "threads"):
        parser.add_argument(f"--{name}", metavar="X", help=f"{name} to use, as in `perfbench run`")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="sets",
        action="append",
        default=[],
        help="any key of the configuration, as in `perfbench run`",
    )

    def act(args: argparse.Namespace) -> int:
        own, other = (HALVING, GRID) if args.halving else (GRID, HALVING)
        for name, value in own.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
        for name in other.keys() - own.keys():
            if getattr(args, name) is not None:
                raise UserError(
                    f"--{name} is {'not ' * args.halving}of --halving: leave it out, or "
                    f"{'leave --halving out' if args.halving else 'give --halving as well'}"
                )
        if args.halving:
            from benchmarks.running.tune_halving import tune_halving

            return tune_halving(args)
        from benchmarks.running.tune import tune

        return tune(args)

    return act


def add_model_flags(
    parser: argparse.ArgumentParser, backbone: str = "miniature", usual: str = ""
) -> None:
    """`usual`: what the default is called where it is no name."""
    parser.add_argument(
        "--backbone",
        default=backbone,
        metavar="WHICH",
        help="name, folder in diffusers layout, .safetensors file or hub id "
        f"(default: {usual or backbone})",
    )
    parser.add_argument(
        "--revision", metavar="NAME", help="branch, tag or commit of a hub id (default: its newest)"
    )
    parser.add_argument(
        "--seed",
        type=whole(0, SEEDS),
        default=0,
        metavar="N",
        help="seed of the training or the first picture (default: 0)",
    )
    add_device(parser)
    add_dtype(parser)


@verb("covariance")
def covariance(parser: argparse.ArgumentParser) -> Run:
    """Estimate C of a backbone's text encoder, which Perfusion needs.

    C is the covariance of the encoder's outputs over many captions. It is stored beside the
    backbone, or by the text encoder's digest in $PERFBENCH_CACHE (default: ~/.cache/perfbench).

      perfbench covariance --backbone sd15
      perfbench covariance --backbone my/model --captions captions.txt --limit 20000
    """
    usual = "google-research-datasets/conceptual_captions"
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="WHICH",
        help="name, folder in diffusers layout, .safetensors file or hub id",
    )
    parser.add_argument(
        "--revision", metavar="NAME", help="branch, tag or commit of a hub id (default: its newest)"
    )
    parser.add_argument(
        "--captions",
        default=usual,
        metavar="FILE|DATASET",
        help=f"captions: a text, csv, jsonl or parquet file, or a data set of the hub "
        f"(default: {usual})",
    )
    parser.add_argument(
        "--limit",
        type=whole(1),
        default=100_000,
        metavar="N",
        help="number of captions (default: 100000)",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="column that holds the captions (default: found by its name)",
    )
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="split of a hub data set (default: train)"
    )
    parser.add_argument(
        "--batch",
        type=whole(1),
        default=64,
        metavar="N",
        help="captions in one batch (default: 64)",
    )
    add_device(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.suite.mask_making import covariance

        covariance(args)

    return act
