"""`perfbench fit`, `tune`, `covariance`: models and concepts outside of a run."""

import argparse

from benchmarks.options import SEEDS, add_device, add_dtype, whole
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError

HALVING_ROUNDS = "16x4,8x8,4x16,2x22"  # 140 fits a method at most
# what `tune` takes where nothing else is said, of either way
GRID = {"factors": "0.25,0.5,1,2,4", "parts": "0.25,0.5,1", "suite": "tuning"}
HALVING = {"rounds": HALVING_ROUNDS, "seed": 0, "suite": "world-tuning:22"}


@verb("fit")
def fit(parser: argparse.ArgumentParser) -> Run:
    """Train one concept by one method, outside a benchmark; interrupted, the same command goes on.

    perfbench fit perfusion --concept cat --out cat.safetensors
    perfbench fit cd --concept my_concepts/teapot --out fits/teapot-cd --set steps=100
    """
    parser.add_argument("method", help="`perfbench ls methods`")
    parser.add_argument(
        "--suite",
        metavar="DIR",
        help="where the name is looked up; default: the backbone's own concepts",
    )
    parser.add_argument(
        "--concept",
        required=True,
        metavar="NAME|DIR",
        help="`perfbench ls concepts`, or its folder",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE|DIR",
        help="FILE.safetensors for perfusion, else a folder",
    )
    parser.add_argument("--set", metavar="KEY=VALUE", dest="sets", action="append", default=[],
                        help="of the method's recipe: lr=0.01, images=1, train_k=true")  # fmt: skip
    parser.add_argument("--steps", metavar="N", help="of training; default the method's own recipe")
    parser.add_argument(
        "--for",
        metavar="WHAT",
        dest="purpose",
        help="lora: with the gate that `perfbench export` can express exactly",
    )
    parser.add_argument(
        "--masks", metavar="WHICH", help="auto, none, clipseg, or a folder of masks"
    )
    parser.add_argument(
        "--method-file", metavar="FILE", dest="method_files", help="a method of your own"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what --out has already")
    add_model_flags(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.running.one_fit import fit

        fit(args)

    return act


@verb("tune")
def tune(parser: argparse.ArgumentParser) -> Run:
    """Try learning rates and steps on the tuning concepts, the same number for every method.

    One fit a factor, looked at on its way; the best harmonic mean is chosen, and every trial is a
    row of trials.csv.

    With --halving: rates drawn at random around each recipe, validation picks the step, and of many
    settings on few concepts the better half goes on to more. Chosen is the middle of those within
    one standard error of the best (docs/baselines.md).

      perfbench tune
      perfbench tune --methods ti,cd --factors 0.25,0.5,1,2,4 --parts 0.25,0.5,1
      perfbench tune --halving --suite world-tuning:22 --engine processes --workers 2 --threads 1
      perfbench tune --halving --rounds 8x4,4x8 --methods lora --out results/lora-rates
    """
    parser.add_argument(
        "--methods", metavar="A,B", help="default: all that say what to tune (docs/methods.md)"
    )
    parser.add_argument(
        "--method-file", metavar="FILE,..", dest="method_files", help="methods of your own"
    )
    parser.add_argument(
        "--factors",
        metavar="X,Y",
        help=f"of the recipe's learning rates; default {GRID['factors']}",
    )
    parser.add_argument(
        "--parts", metavar="X,Y", help=f"of the recipe's steps; default {GRID['parts']}"
    )
    parser.add_argument("--prompts", metavar="N", default="24", help="for each concept; default 24")
    parser.add_argument("--images", metavar="N", default="1", help="a prompt; default 1")
    parser.add_argument("--steps", metavar="N", default="25", help="of DDIM; default 25")
    parser.add_argument(
        "--suite",
        metavar="DIR",
        help="default: the three tuning concepts; with --halving world-tuning:22",
    )
    parser.add_argument(
        "--backbone", metavar="WHICH", default="miniature", help="a name, folder, file, hub id"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="default: results/tuning-<backbone>, or halving-<backbone>"
    )
    parser.add_argument(
        "--halving",
        action="store_true",
        help="successive halving over concepts, in place of the grid of --factors and --parts",
    )
    parser.add_argument(
        "--rounds",
        metavar="SxC,..",
        help=f"of --halving: S settings on C concepts in all; default {HALVING_ROUNDS}",
    )
    parser.add_argument(
        "--seed", type=whole(0, SEEDS), metavar="N", help="of --halving's settings; default 0"
    )
    for name in ("device", "engine", "workers", "threads"):
        parser.add_argument(f"--{name}", metavar="X", help=f"as in `perfbench run --{name}`")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="sets", action="append", default=[], help="as in run"
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


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone",
        default="miniature",
        metavar="WHICH",
        help="a name, folder, .safetensors file, hub id",
    )
    parser.add_argument("--revision", metavar="NAME", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--seed", type=whole(0, SEEDS), default=0, metavar="N", help="default 0")
    add_device(parser)
    add_dtype(parser)


@verb("covariance")
def covariance(parser: argparse.ArgumentParser) -> Run:
    """Estimate C of a backbone's text encoder, which Perfusion needs.

    Stored beside the backbone, or by the text encoder's digest in $PERFBENCH_CACHE (default
    ~/.cache/perfbench).

      perfbench covariance --backbone sd15
      perfbench covariance --backbone my/model --captions captions.txt --limit 20000
    """
    usual = "google-research-datasets/conceptual_captions"
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="WHICH",
        help="a name, folder, .safetensors file, hub id",
    )
    parser.add_argument("--revision", metavar="NAME", help="of a hub id: a branch, tag or commit")
    parser.add_argument(
        "--captions",
        default=usual,
        metavar="FILE|DATASET",
        help=f"text, csv, jsonl or parquet, or a hub data set; default {usual}",
    )
    parser.add_argument(
        "--limit", type=whole(1), default=100_000, metavar="N", help="captions; default 100000"
    )
    parser.add_argument("--column", metavar="NAME", help="that holds the captions; usually found")
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="of a hub data set; default train"
    )
    parser.add_argument("--batch", type=whole(1), default=64, metavar="N", help="default 64")
    add_device(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.suite.mask_making import covariance

        covariance(args)

    return act
