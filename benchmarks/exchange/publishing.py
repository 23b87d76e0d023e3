"""`perfbench publish`: a run becomes a data set that `datasets` opens, here and on the hub.

In: the verb's arguments. Out: a folder, whole or not there; with --push a data set of the hub, by
one commit, private unless it is asked to be public. Nothing is sent before it was said what.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.disk import ask_for, on_disk, remove, replace, write_whole
from benchmarks.exchange.data_card import data_card
from benchmarks.exchange.hub_repository import check_seen, check_there, look, send
from benchmarks.exchange.leaks import refuse_leaks
from benchmarks.exchange.licences import checked_licence
from benchmarks.exchange.model_card import CARD, named_by
from benchmarks.exchange.push import OVER, agreed, check_may_send, check_repo, made, tell
from benchmarks.exchange.run_dataset import write_tables_of
from benchmarks.store.reading import find_run, read_run
from benchmarks.tables.derived import read_table
from perfusion_core.errors import UserError
from perfusion_core.hub import amount

WITHOUT = "the same command without --push"
DATASET = "dataset"  # the hub's kind of repository


def publish(args: argparse.Namespace) -> None:
    """Write the folder; then, where it was asked for, say what is in it, ask, and send it."""
    check_asked(args)
    run, out = find_run(args.run), Path(args.to)
    about = read_run(run)
    if not args.licence:
        raise UserError(
            "under which licence may others use it? Nobody else can say: --licence cc-by-4.0, "
            "cc0-1.0, apache-2.0 or another identifier"
        )
    licence = checked_licence(args.licence, "--licence")
    check_place(out, run, args.overwrite)
    there = None
    if args.push:
        check_may_send(args, WITHOUT)
        there = look(args.push, DATASET)
        check_seen(args.push, there, not args.public)
        check_there(args.push, there, {CARD}, args.overwrite, OVER)
    written = write_folder(run, about, out, args.photographs, licence)
    told(out, written)
    if there is None:
        print(out)
        return
    sending = argparse.Namespace(
        repo=args.push, private=not args.public, dry_run=False, kind=DATASET
    )
    names = tell(out, sending, there)
    check_there(args.push, there, names, args.overwrite, OVER)
    if not args.yes and not agreed():
        raise UserError(f"nothing was sent; the folder is {out}")
    if not there.revision:
        there = made(sending, names)
    revision = send(args.push, out, names, there, f"Publish {out.name}", DATASET)
    from huggingface_hub import constants

    print(f"{constants.ENDPOINT}/datasets/{args.push}/tree/{revision}")
    print(f'datasets.load_dataset("{args.push}", "{written[0]}", revision="{revision}")')


def check_asked(args: argparse.Namespace) -> None:
    """Flags that mean nothing without --push, and the name of what is pushed to."""
    if args.push:
        check_repo(args.push)
        return
    for flag in ("public", "yes"):
        if getattr(args, flag):
            raise UserError(f"--{flag} is of --push; add --push OWNER/NAME, or leave it out")


def check_place(out: Path, run: Path, overwrite: bool) -> None:
    """A new folder, or an earlier publication and nothing else."""
    place, here, source = Path(os.path.abspath(out)).resolve(), Path.cwd().resolve(), run.resolve()
    if place in (here, *here.parents) or place in (source, *source.parents):
        raise UserError(
            f"--to {out} is the run, the current folder or one above it, and a data set needs a "
            f"folder of its own; give another name"
        )
    if source in place.parents:
        raise UserError(f"--to {out} lies in the run that is published; give a place outside of it")
    ask_for(place)
    if not place.exists():
        return
    if not overwrite:
        raise UserError(f"{out} is there already; give another --to, or --overwrite")
    card = place / CARD
    ours = named_by(card.read_text(errors="replace")) if card.is_file() else frozenset()
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    if not place.is_dir() or (strange := sorted(files - ours)):
        what = f"holds {strange[0]}, which no earlier card names" if place.is_dir() else "is a file"
        raise UserError(f"--to {out} {what}, and --overwrite would delete it; give another --to")


def write_folder(
    run: Path, about: Mapping[str, Any], out: Path, photographs: str, licence: str
) -> tuple[str, ...]:
    """Aside, then in its place; -> the names of its tables."""
    aside = out.with_name(f".{out.name}.new")
    try:
        with on_disk(out):
            remove(aside)
            aside.mkdir(parents=True)
            done = write_tables_of(run, about, photographs, aside)
            text = data_card(aside, about, table_of(run), done, out.name, licence)
            refuse_leaks("the card", text.splitlines())
            write_whole(aside / CARD, text)
            replace(aside, out)
    finally:
        remove(aside)
    if not done.pictures:
        print(
            f"perfbench: {run} has no pictures, so rows are published without them (the card says "
            f"so)",
            file=sys.stderr,
        )
    elif done.pictures < done.planned:
        print(
            f"perfbench: {done.planned - done.pictures} of {done.planned} planned pictures are not "
            f"in {run} (the card says so)",
            file=sys.stderr,
        )
    return tuple(done.configs)


def table_of(run: Path) -> pd.DataFrame | None:
    """The run's main table; none where it was never finished."""
    try:
        return read_table(run, "table")
    except UserError:
        return None


def told(out: Path, names: tuple[str, ...]) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"perfbench: wrote {', '.join(names)} ({amount(size)})", file=sys.stderr)
