"""The arguments of `perfbench run`, `plan` and `score`, and how they become a Config. Light:
`--help` imports this.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.planning.ablations import ABLATIONS, BASE
from benchmarks.planning.config import CHOICES, PRESETS, Config, resolve

FLAGS = {  # flag -> key of Config, metavar, help
    "--methods": (
        "methods",
        "A,B",
        "methods to run (`perfbench ls methods`), or all; super is always planned",
    ),
    "--concepts": (
        "concepts",
        "A,B",
        "all, names (`perfbench ls concepts`) or concept folders",
    ),
    "--prompts": (
        "prompts",
        "A,B",
        "all, shape, deform, prompt ids, or a number of prompts for each concept",
    ),
    "--trained": (
        "trained",
        "M=PLACE,..",
        "use trained files instead of training; PLACE is another run or a folder of concepts",
    ),
    "--pairs": (
        "pairs",
        "A+B,..",
        "pairs to draw in one picture: teddy+teapot,cat+chair",
    ),
    "--backbone": (
        "backbone",
        "WHICH",
        "miniature (default), sd15, sd21, sdxl, a folder in diffusers layout, a .safetensors "
        "file or a hub id",
    ),
    "--revision": (
        "revision",
        "NAME",
        "branch, tag or commit of a hub id (default: its newest)",
    ),
    "--vae": (
        "vae",
        "WHICH",
        "another VAE for the backbone's own: fp16-fix (of sdxl, for float16), a folder or a hub id",
    ),
    "--suite": (
        "suite",
        "LAYOUT:DIR",
        "another suite, with its own protocol (`perfbench ls suites` lists them)",
    ),
    "--masks": (
        "masks",
        "WHICH",
        "auto (the concepts' own, else CLIPSeg's; default), none, clipseg, or a folder of masks",
    ),
    "--out": (
        "out",
        "DIR",
        "run folder (default: results/<preset>-<backbone>-<digest of the protocol>)",
    ),
    "--seed": ("seed", "N", "seed of everything (default: 0)"),
    "--scorers": (
        "scorers",
        "A,B",
        "auto (default), truth, modern, a folder, clip:MODEL:TAG, dino, timm:MODEL, "
        "judge:URL#MODEL; the first one is the reported scorer",
    ),
    "--device": ("device", "NAME", "auto (default), cpu, cuda or cuda:N"),
    "--dtype": ("dtype", "NAME", f"{', '.join(CHOICES['dtype'])} (default: auto)"),
    "--engine": (
        "engine",
        "NAME",
        "inline (default), processes (one worker a GPU, or N on the CPU) or ray",
    ),
    "--workers": (
        "workers",
        "N",
        "workers of processes and ray (default: one a GPU, or half the cores; with ray: the CPUs "
        "divided by --threads)",
    ),
    "--threads": (
        "threads",
        "N",
        "threads of each worker (default of processes on a CPU: the cores divided by the workers)",
    ),
    "--ray-address": (
        "ray_address",
        "HOST:PORT",
        "address of an existing Ray cluster (default: start one on this machine)",
    ),
    "--cache": (
        "cache",
        "WHICH",
        "units to take from earlier runs of this machine: usual (class images, fits, cells of "
        "super; default), all (every cell too) or none",
    ),
    "--method-file": ("method_files", "FILE,..", "files of your own methods (docs/methods.md)"),
}
SWITCHES = ("select_step", "drop_images", "drop_fits", "by_concept", "drift")


def add_flags(parser: argparse.ArgumentParser, preset: str = Config.preset) -> None:
    """What run and plan share. `preset`: the one that the verb starts from where none is named."""
    about = "; ".join(f"{name}: {words}" for name, (words, _) in PRESETS.items())
    about = f"settings to start from (default: {preset}). {about}"
    parser.add_argument("--preset", metavar="NAME", default="", help=about)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="TOML file with the same keys as --set"
    )
    for flag, (key, metavar, words) in FLAGS.items():
        parser.add_argument(flag, dest=key, metavar=metavar, help=words)
    parser.add_argument("--no-cache", dest="cache", action="store_const", const="none",
                        help="the same as --cache none")  # fmt: skip
    ablations = ", ".join(one.name for one in ABLATIONS)
    parser.add_argument(
        "--ablation", metavar="A,B", help=f"ablations of Perfusion to add to --methods: {ablations}"
    )
    parser.add_argument("--select-step", dest="select_step", action="store_true", default=None,
                        help="pick every method's training step by validation")  # fmt: skip
    parser.add_argument(
        "--drop-images",
        dest="drop_images",
        action="store_true",
        default=None,
        help="remove images once they are scored, except for a small gallery",
    )
    parser.add_argument(
        "--drop-fits",
        dest="drop_fits",
        action="store_true",
        default=None,
        help="remove trained files once all pictures that need them are scored",
    )
    parser.add_argument(
        "--by-concept",
        dest="by_concept",
        action="store_true",
        default=None,
        help="finish one concept with all methods before the next (default: one method after the "
        "other)",
    )
    drift = (
        "also draw what a loaded concept does to unrelated prompts and to its plain class word "
        "(default: only in the preset paper)"
    )
    parser.add_argument("--drift", action=argparse.BooleanOptionalAction, default=None, help=drift)
    any_key = (
        "set any key of the configuration: images=4, fit.ti.lr=0.01, "
        "points.perfusion=local-b0.65-t0.15"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="sets", action="append", default=[], help=any_key
    )


def config_of(args: argparse.Namespace) -> Config:
    """One object from preset, file, flags and --set."""
    keys = [key for key, _, _ in FLAGS.values()] + list(SWITCHES)
    flags: dict[str, Any] = {key: getattr(args, key) for key in keys}
    config = resolve(preset=args.preset, toml=args.config, flags=flags, sets=args.sets)
    if not args.ablation:
        return config
    return resolve(
        preset=args.preset,
        toml=args.config,
        flags={**flags, "methods": (*config.methods, *ablated(args.ablation))},
        sets=[text for text in args.sets if not text.startswith("methods=")],
    )


def ablated(given: str) -> list[str]:
    """Names of ablations -> methods; `lock` is Perfusion itself, whose points have both locks."""
    from perfusion_core.errors import unknown

    known = {one.name: one.method for one in ABLATIONS}
    names = []
    for name in filter(None, (part.strip() for part in given.split(","))):
        if name not in known:
            raise unknown("ablation", name, known)
        names.append(known[name])
    return list(dict.fromkeys([BASE, *names]))
