"""The arguments of `perfbench run`, `plan` and `score`, and how they become a Config. Light:
`--help` imports this.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.planning.ablations import ABLATIONS, BASE
from benchmarks.planning.config import CHOICES, PRESETS, Config, resolve

FLAGS = {  # flag -> key of Config, metavar, help
    "--methods": ("methods", "A,B", "`perfbench ls methods`; super is always planned"),
    "--concepts": ("concepts", "A,B", "all, names (`perfbench ls concepts`) or folders"),
    "--prompts": (
        "prompts",
        "A,B",
        "all, shape, deform, ids, or a number: so many for each concept",
    ),
    "--trained": (
        "trained",
        "M=PLACE,..",
        "trained files instead of training: another run, or a folder of concepts",
    ),
    "--pairs": ("pairs", "A+B,..", "two concepts in one picture: teddy+teapot,cat+chair"),
    "--backbone": (
        "backbone",
        "WHICH",
        "miniature, sd15, sd21, a folder of diffusers, a .safetensors file, a hub id",
    ),
    "--revision": ("revision", "NAME", "of a hub id: a branch, tag or commit; default its newest"),
    "--suite": (
        "suite",
        "LAYOUT:DIR",
        "another suite, with its own protocol (`perfbench ls suites`)",
    ),
    "--masks": (
        "masks",
        "WHICH",
        "auto (the concepts' own, else CLIPSeg's), none, clipseg, or a folder of masks",
    ),
    "--out": ("out", "DIR", "default: results/<preset>-<backbone>-<digest of the protocol>"),
    "--seed": ("seed", "N", "of everything; default 0"),
    "--scorers": (
        "scorers",
        "A,B",
        "auto, truth, modern, a folder, clip:MODEL:TAG, dino, timm:MODEL, judge:URL#MODEL; first: "
        "reported",
    ),
    "--device": ("device", "NAME", "auto, cpu, cuda, cuda:N"),
    "--dtype": ("dtype", "NAME", "/".join(CHOICES["dtype"])),
    "--engine": ("engine", "NAME", "inline, processes (a worker a GPU, or N on the CPU), ray"),
    "--workers": (
        "workers",
        "N",
        "of processes and ray; default one a GPU, or half the cores (ray: CPUs by threads)",
    ),
    "--threads": (
        "threads",
        "N",
        "a worker; default of processes on a CPU: the cores divided by the workers",
    ),
    "--ray-address": (
        "ray_address",
        "HOST:PORT",
        "an existing Ray cluster; default one on this machine",
    ),
    "--cache": (
        "cache",
        "WHICH",
        "what is taken from earlier runs of this machine: usual (class images, fits, cells of "
        "super), all (every cell too), none",
    ),
    "--method-file": ("method_files", "FILE,..", "methods of your own (docs/methods.md)"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What run and plan share."""
    about = "; ".join(f"{name}: {words}" for name, (words, _) in PRESETS.items())
    parser.add_argument("--preset", metavar="NAME", default="", help=about)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="a TOML file with the same keys as --set"
    )
    for flag, (key, metavar, words) in FLAGS.items():
        parser.add_argument(flag, dest=key, metavar=metavar, help=words)
    parser.add_argument("--no-cache", dest="cache", action="store_const", const="none",
                        help="the same as --cache none")  # fmt: skip
    ablations = ", ".join(one.name for one in ABLATIONS)
    parser.add_argument("--ablation", metavar="A,B", help=f"added to --methods: {ablations}")
    parser.add_argument("--select-step", dest="select_step", action="store_true", default=None,
                        help="pick every method's training step by validation")  # fmt: skip
    parser.add_argument("--drop-images", dest="drop_images", action="store_true", default=None,
                        help="remove images once scored, but for a small gallery")  # fmt: skip
    drift = (
        "draw, too, what a loaded concept does to unrelated prompts and to its plain class word; "
        "the paper preset does, micro and quick do not"
    )
    parser.add_argument("--drift", action=argparse.BooleanOptionalAction, default=None, help=drift)
    any_key = (
        "any key of the configuration: images=4, fit.ti.lr=0.01, points.perfusion=local-b0.65-t0.15"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="sets", action="append", default=[], help=any_key
    )


def config_of(args: argparse.Namespace) -> Config:
    """One object from preset, file, flags and --set."""
    keys = [key for key, _, _ in FLAGS.values()] + ["select_step", "drop_images", "drift"]
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
