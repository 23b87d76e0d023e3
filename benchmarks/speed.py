"""What personalisation costs, measured side by side (`python -m benchmarks.speed`).

In: a backbone (the miniature, or the true configuration of Stable Diffusion 1.5 or XL with random
weights). Out: Markdown tables. Everything that is compared is timed in turn, `--repeats` times
over, so that a busy moment hits all alike.

    python -m benchmarks.speed
    python -m benchmarks.speed --backbone sd15-random --recipes
    python -m benchmarks.speed --backbone sdxl-small-random --repeats 15
    python -m benchmarks.speed --tables --repeats 3
    python -m benchmarks.speed --batch 16 --compile
    python -m benchmarks.speed --against 018088a --repeats 3
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.planning import methods
from benchmarks.planning.config import Config
from benchmarks.running import paper_cost, timed_tables, timed_versions
from benchmarks.running.random_models import RANDOM
from benchmarks.running.timed_jobs import (
    TRAINED,
    job_of,
    recipes,
    sampling_jobs,
    synchronised,
)
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.hardware import processor
from perfusion_core.memory import free, out_of_memory

NO_ROOM = "memory does not suffice"

# ---- timing ----


def timed(act: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    """The seconds that it takes, all of it."""

    def job() -> float:
        started = synchronised(device)
        act()
        return synchronised(device) - started

    return job


def interleaved(jobs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, np.ndarray]:
    """What each job says that it took, [repeats], after one round that is thrown away. A job for
    which memory does not suffice in that round has no times.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs if not too_large(jobs[name])}
    for number in range(repeats):
        names = list(seconds)
        # another one begins each round
        first = (number + 1) % max(1, len(names))
        for name in names[first:] + names[:first]:
            gc.collect()
            seconds[name].append(jobs[name]())
    return {name: np.array(values) for name, values in seconds.items()}


def too_large(job: Callable[[], float]) -> bool:
    """Whether memory does not suffice for it; done once."""
    gc.collect()
    try:
        job()
    except Exception as error:
        if not out_of_memory(error):
            raise
    else:
        return False
    free()  # outside the block, which holds what the try made
    return True


def ratio(times: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Median of the rounds' ratios and its 95 % interval by bootstrap over rounds."""
    each = times / base
    draws = np.random.default_rng(0).choice(each, (2000, len(each)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(each)), float(low), float(high)


def peak_memory(args: argparse.Namespace, name: str, device: torch.device) -> float:
    """GiB of one method's training alone, in a process of its own: the device's, or the whole
    process's on the CPU.
    """
    free()  # what this process keeps in store would be missing there
    call = [
        sys.executable,
        "-m",
        "benchmarks.speed",
        "--memory-of",
        name,
        "--backbone",
        args.backbone,
        "--device",
        str(device),
        "--dtype",
        args.dtype,
        "--train-batch",
        str(args.train_batch),
    ]
    done = subprocess.run(
        call + ["--checkpointing"] * args.checkpointing,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def memory_of(backbone: Backbone, args: argparse.Namespace) -> float:
    job_of(backbone, args.memory_of, args.train_batch, args.checkpointing)()
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device) / 2**30
    return timed_tables.peak_gib()


# ---- the tables ----


def open_backbone(args: argparse.Namespace) -> Backbone:
    from benchmarks.devices import device_name
    from benchmarks.paths import backbone_names
    from perfusion_core.backbone import as_dtype, fast_dtype

    device = device_name(args.device)
    dtype = fast_dtype(torch.device(device)) if args.dtype == "auto" else as_dtype(args.dtype)
    if args.backbone in RANDOM:
        return RANDOM[args.backbone](device, dtype)
    return Backbone.open(args.backbone, device=device, dtype=dtype, names=backbone_names())


def report(args: argparse.Namespace) -> str:
    backbone = open_backbone(args)
    device = backbone.device
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads of an {processor()}"
    )
    lines = [
        f"`python -m benchmarks.speed {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"{backbone.name}, {backbone.size}x{backbone.size}, "
        f"{str(backbone.dtype).removeprefix('torch.')}, {where}, "
        f"torch {torch.__version__.split('+')[0]}; medians of {args.repeats} interleaved repeats.",
    ]
    if args.compile:
        from perfusion_core.compiling import compile_backbone

        seconds = compile_backbone(backbone, args.batch, 2 * args.batch)
        lines[-1] += f" Compiled, with {seconds:.0f} s of warm-up."
    drawn, image = sampling(backbone, args)
    lines += ["", *drawn]
    if args.compile:  # a training is never compiled
        return "\n".join(lines)
    lines += ["", *training(backbone, args)]
    if args.recipes:
        trained, fits, looks = by_recipe(backbone, args)
        lines += ["", *trained, "", *paper_cost.cost_table(paper_cost.paper(image, fits, looks))]
    return "\n".join(lines)


def sampling(backbone: Backbone, args: argparse.Namespace) -> tuple[list[str], float]:
    """The table, and seconds of a personalised image of 50 steps."""
    acts = sampling_jobs(backbone, args.batch, args.steps)
    times = interleaved(
        {name: timed(act, backbone.device) for name, act in acts.items()}, args.repeats
    )
    if len(times) < len(acts):
        raise UserError(
            f"memory does not suffice for {args.batch} pictures at once; give a smaller --batch"
        )
    base = next(iter(times.values()))
    lines = [
        f"| sampling: {args.batch} images, {args.steps} steps, guidance 6 | s | images a second | "
        f"against stock | 95 % "
        "interval |",
        "|---|---|---|---|---|",
    ]
    for name, values in times.items():
        middle, low, high = ratio(values, base)
        took = float(np.median(values))
        lines.append(
            f"| {name} | {took:.3f} | {args.batch / took:.3g} | {middle:.3f} | "
            f"{low:.3f}-{high:.3f} |"
        )
    return lines, float(
        np.median(times["`sample`, 1 concept"])
    ) / args.batch * Config().steps / args.steps


def training(backbone: Backbone, args: argparse.Namespace) -> list[str]:
    jobs = {name: job_of(backbone, name, args.train_batch, args.checkpointing) for name in TRAINED}
    times, names = interleaved(jobs, args.repeats), list(jobs)
    del jobs
    how = ", gradient checkpointing" if args.checkpointing else ""
    lines = [
        f"| training: batch {args.train_batch}{how} | s a step | steps a second | peak GiB |",
        "|---|---|---|---|",
    ]
    for name in names:
        if name not in times:
            lines.append(f"| {name} | {NO_ROOM} | | |")
            continue
        step, peak = float(np.median(times[name])), peak_memory(args, name, backbone.device)
        lines.append(f"| {name} | {step:.3f} | {1 / step:.2f} | {peak:.2f} |")
    return lines


def by_recipe(
    backbone: Backbone, args: argparse.Namespace
) -> tuple[list[str], dict[str, float], int]:
    """The table of all methods, seconds of a fit of each that the paper has, and how often
    Perfusion's validates.
    """
    configs = recipes(backbone)
    jobs = {
        name: job_of(backbone, f"recipe of {name}", args.train_batch, args.checkpointing)
        for name in configs
    }
    steps = {
        name: float(np.median(values)) for name, values in interleaved(jobs, args.repeats).items()
    }
    del jobs
    lines = [
        "| a fit by the recipe | batch | steps | s a step | s a fit | peak GiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, config in configs.items():
        row = f"| {name} | {config.batch} | {config.steps} |"
        if (step := steps.get(name)) is None:
            lines.append(f"{row} {NO_ROOM} | | |")
            continue
        peak = peak_memory(args, f"recipe of {name}", backbone.device)
        lines.append(f"{row} {step:.3f} | {config.steps * step:.3g} | {peak:.2f} |")
    fits = {}
    for name in Config().methods:
        what = methods.variant(name)
        if what.base in steps:
            fits[name] = what.steps * configs[what.base].steps * steps[what.base]
    return lines, fits, -(-configs["perfusion"].steps // Config().validate_every)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backbone",
        default="miniature",
        help="name, folder, hub id, or random weights: sd15-random and sdxl-random (the "
        "configurations of Stable Diffusion 1.5 and, for a GPU, XL), or sdxl-small-random (of XL's "
        "kind, for a CPU)",
    )
    parser.add_argument("--batch", type=int, default=8, help="images drawn at once (default: 8)")
    parser.add_argument(
        "--steps", type=int, default=50, help="sampling steps of DDIM (default: 50)"
    )
    parser.add_argument(
        "--train-batch", type=int, default=16, help="pictures in one training step (default: 16)"
    )
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations in training"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="measure only pictures, with networks compiled by torch.compile",
    )
    parser.add_argument(
        "--recipes",
        action="store_true",
        help="also measure every method by its own recipe, and estimate the cost of "
        "the whole paper",
    )
    parser.add_argument(
        "--tables",
        action="store_true",
        help="only measure the tables of a million images; needs no model",
    )
    parser.add_argument(
        "--against",
        metavar="COMMIT",
        help="only measure this version beside a commit, by the same commands in turn",
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="repeats of each measurement (default: 7)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(memory_of(open_backbone(args), args))
    elif args.tables:
        print("\n".join(timed_tables.report(args.repeats)))
    elif args.against:
        dtypes = ["bfloat16", "float32"] if args.dtype == "auto" else [args.dtype]
        print("\n".join(timed_versions.report(args.against, args.repeats, dtypes)))
    else:
        print(report(args))


if __name__ == "__main__":
    main()
