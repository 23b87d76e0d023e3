"""`perfbench fit --push`: what can be refused before hours of training is refused then.

In: the arguments of fit. Out: the concept on the hub, once it is trained.
"""

import argparse
from pathlib import Path

from benchmarks.exchange.card_pictures import FIGURE, PROMPTS
from benchmarks.exchange.hub_repository import check_seen, check_there, look
from benchmarks.exchange.model_card import CARD
from benchmarks.exchange.parcel import check_name
from benchmarks.exchange.push import check_may_send, check_repo, push
from perfusion_core.errors import UserError
from perfusion_core.hub_concepts import EXPORTS

LATER = "train without --push, then `perfbench push FILE {repo} --overwrite`"


def before_fit(args: argparse.Namespace) -> None:
    check_repo(args.push)
    out = Path(args.out)
    if out.suffix != ".safetensors" or out.name.endswith(EXPORTS):
        raise UserError(
            f"--push sends a concept file, and {args.out} is named as none; write --out "
            f"FILE.safetensors, or `perfbench export` what was trained and push that"
        )
    check_name(out)
    args.yes = True  # typed, and nobody may be there when the training ends
    check_may_send(args)
    there = look(args.push)
    check_seen(args.push, there, args.private)
    pictures = [f"images/{turn}.png" for turn in range(len(PROMPTS))]
    names = {CARD, out.name, FIGURE, *pictures}
    check_there(args.push, there, names, False, LATER.format(repo=args.push))


def after_fit(args: argparse.Namespace) -> None:
    more = {"what": args.out, "repo": args.push, "run": None, "pictures": None, "out": None}
    more |= {"base_model": None, "dry_run": False}
    more |= {"overwrite": False}  # that of fit is of --out
    push(argparse.Namespace(**{**vars(args), **more}))
