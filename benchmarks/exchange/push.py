"""`perfbench push`: a concept or an export goes to the hub, with its card.

In: the verb's arguments. Out: a repository, by one commit; or the folder that would be sent.
Nothing is sent before it was said what.
"""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.disk import ask_for, remove, replace, write_whole
from benchmarks.exchange.card_pictures import FIGURE, drawn, of_folder, of_run
from benchmarks.exchange.file_scores import file_scores
from benchmarks.exchange.hub_repository import (
    MODEL,
    Repository,
    check_seen,
    check_there,
    look,
    said_plainly,
    send,
)
from benchmarks.exchange.model_card import CARD, card, named_by
from benchmarks.exchange.parcel import Parcel, parcel
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError
from perfusion_core.hub import amount
from perfusion_core.hub_concepts import NAME

OVER = "--overwrite puts these files in their place"


def push(args: argparse.Namespace) -> None:
    """Make the folder, say what is in it, ask, and send it; or leave it here."""
    check_repo(args.repo)
    if args.base_model:
        check_base(args.base_model)
    sent = parcel(Path(args.what))
    if args.run and args.pictures:
        raise UserError("--run has pictures of its own; leave --pictures or --run out")
    if args.run and not sent.concept:
        raise UserError("--run knows the scores of a concept, and this is an export; leave it out")
    kept = Path(args.out or args.repo.partition("/")[2])
    there = None
    if args.dry_run:
        check_kept(kept, args)
    else:
        check_may_send(args)
        there = look(args.repo)
        check_seen(args.repo, there, args.private)
        known = {CARD, *(path.name for path in sent.files)}
        check_there(args.repo, there, known, args.overwrite, OVER)
    with tempfile.TemporaryDirectory(prefix="perfbench-push-") as aside:
        folder = Path(aside) / "repository"
        make_folder(folder, sent, args)
        names = tell(folder, args, there)
        if there is None:
            settle(folder, kept)
            print(kept)
            return
        check_there(args.repo, there, names, args.overwrite, OVER)
        if not args.yes and not agreed():
            raise UserError("nothing was sent")
        if not there.revision:
            there = made(args, names)
        revision = send(args.repo, folder, names, there, f"Add {sent.title} with its card")
    tell_where(args, revision, sent)


def made(args: argparse.Namespace, names: list[str]) -> Repository:
    """A new repository; somebody may have made it meanwhile, so it is looked at."""
    from huggingface_hub import HfApi

    kind = getattr(args, "kind", MODEL)
    with said_plainly(args.repo):
        HfApi().create_repo(args.repo, repo_type=kind, private=args.private or None, exist_ok=True)
    there = look(args.repo, kind)
    check_seen(args.repo, there, args.private)
    check_there(args.repo, there, names, False, "give the same command again")
    return there


def check_kept(kept: Path, args: argparse.Namespace) -> None:
    """--out of a dry run: a new folder, or that of an earlier card and nothing else."""
    place, here = Path(os.path.abspath(kept)).resolve(), Path.cwd().resolve()
    if place in (here, *here.parents):
        raise UserError(
            f"--out {kept} is the current folder or one above it, and a card needs one of its own; "
            f"give --out a new name"
        )
    shown = args.pictures if args.pictures != "none" else None
    given = [Path(one).resolve() for one in (args.what, shown, args.run) if one]
    if any(place in (one, *one.parents) for one in given):
        raise UserError(
            f"--out {kept} holds what is sent or shown, and that is never written over; give "
            f"another --out"
        )
    ask_for(place)
    if not place.exists():
        return
    if not args.overwrite:
        raise UserError(f"{kept} is there already; give another --out, or --overwrite")
    if not place.is_dir():
        raise UserError(f"--out {kept} is a file, and a folder is written; give another --out")
    known = place / CARD
    ours = named_by(known.read_text(errors="replace")) if known.is_file() else frozenset()
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    if strange := sorted(files - ours):
        raise UserError(
            f"--out {kept} holds {strange[0]}, which no earlier card names, and --overwrite would "
            f"delete it; give another --out"
        )


def check_repo(repo: str) -> None:
    if not NAME.fullmatch(repo) or "@" in repo or ".." in repo or "--" in repo or len(repo) > 96:
        raise UserError(
            f"{repo!r} cannot be a repository of the hub; write owner/name, in letters, digits, "
            f"-, _ and ."
        )


def check_base(base: str) -> None:
    if not NAME.fullmatch(base) or "@" in base:
        raise UserError(f"--base-model {base!r} is no hub id such as owner/name")


def check_may_send(args: argparse.Namespace, dry: str = "--dry-run") -> None:
    """Before anything is drawn: somebody to ask, a network, a token. `dry`: what sends nothing."""
    from huggingface_hub import constants, get_token

    if not args.yes and not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            f"push asks before it sends, and there is no terminal to ask at: --yes sends, "
            f"{dry} shows what"
        )
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"HF_HUB_OFFLINE is set, so nothing is sent; {dry} writes the folder")
    if not get_token():
        raise UserError(
            f"the hub takes files of somebody whom it knows: type `hf auth login` or set HF_TOKEN "
            f"(a token that may write); {dry} needs none"
        )


def make_folder(folder: Path, sent: Parcel, args: argparse.Namespace) -> None:
    """README.md, the safetensors files, the pictures and the figure."""
    folder.mkdir(parents=True)
    scores = file_scores(open_run(args.run), sent.files[0]) if args.run else None
    if scores:
        shown = of_run(folder, scores)
    elif args.pictures and args.pictures != "none":
        shown = of_folder(folder, Path(args.pictures))
    elif args.pictures == "none" or not sent.concept:
        shown = []
    else:
        args.backbone = args.backbone or sent.backbone
        shown = drawn(folder, sent, args)
    for path in sent.files:
        shutil.copyfile(path, folder / path.name)
    base = args.base_model or sent.base_model
    figure = (folder / FIGURE).is_file()
    write_whole(folder / CARD, card(sent, args.repo, base, shown, figure, scores))


def settle(folder: Path, kept: Path) -> None:
    """The finished folder in its place, whole, also where that is on another disk."""
    aside = kept.with_name(f".{kept.name}.new")
    remove(aside)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, aside)
    replace(aside, kept)


def tell(folder: Path, args: argparse.Namespace, there: Repository | None) -> list[str]:
    """Every file that is sent, where to, who can see it, and what is lost. -> their names"""
    from huggingface_hub import constants

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    private = args.private or (there is not None and there.private)
    who = "private" if private else "for all to see"
    below = "" if getattr(args, "kind", MODEL) == MODEL else f"{args.kind}s/"
    would = "would send" if args.dry_run else "sends"
    print(
        f"perfbench: {would} {len(sizes)} files, {amount(sum(sizes.values()))}, to "
        f"{constants.ENDPOINT}/{below}{args.repo} ({who}):",
        *(f"  {name} ({amount(size)})" for name, size in sizes.items()),
        sep="\n",
        file=sys.stderr,
    )
    lost = (there.replaced(sizes), there.deleted(sizes)) if there else ()
    for what, names in zip(("replaces", "deletes"), lost):
        if names:
            print(f"perfbench: {what} there: {', '.join(names)}", file=sys.stderr)
    return list(sizes)


def agreed() -> bool:
    print("perfbench: send them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def tell_where(args: argparse.Namespace, revision: str, sent: Parcel) -> None:
    """The page, and the calls that open exactly what was sent."""
    from huggingface_hub import constants

    print(f"{constants.ENDPOINT}/{args.repo}/tree/{revision}")
    if sent.concept:
        [word], pinned = sent.words, f"{args.repo}@{revision}"
        backbone = shlex.quote(args.backbone or sent.backbone)
        print(f'load_concepts(pipe, {{"{word}": "{pinned}"}})')
        print(
            f'perfbench generate "A photo of a {{{word}}}" --concept {word}={pinned} '
            f"--backbone {backbone} --out DIR"
        )
