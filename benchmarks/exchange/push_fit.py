"""`perfbench fit --push`: what can be refused before hours of training is refused then.

In: the arguments of fit. Out: the concept on the hub, once it is trained.
"""

import argparse
from pathlib import Path

from benchmarks.exchange.push import check_may_send, check_repo, push
from perfusion_core.errors import UserError


def before_fit(args: argparse.Namespace) -> None:
    check_repo(args.push)
    if Path(args.out).suffix != ".safetensors":
        raise UserError(
            f"--push sends a concept file, and {args.out} is none; write --out FILE.safetensors, "
            f"or `perfbench export` what was trained and push that"
        )
    args.yes = True  # typed, and nobody may be there when the training ends
    check_may_send(args)


def after_fit(args: argparse.Namespace) -> None:
    more = {"what": args.out, "repo": args.push, "run": None, "pictures": None, "out": None}
    more |= {"base_model": None, "dry_run": False}
    push(argparse.Namespace(**{**vars(args), **more}))
