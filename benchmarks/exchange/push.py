"""`perfbench push`: a concept or an export goes to the hub, with its card.

In: the verb's arguments. Out: a repository, by one commit; or the folder that would be sent.
Nothing is sent before it was said what.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.disk import ask_for, remove, replace, write_whole
from benchmarks.exchange.card_pictures import FIGURE, drawn, of_folder, of_run
from benchmarks.exchange.file_scores import file_scores
from benchmarks.exchange.model_card import card
from benchmarks.exchange.parcel import Parcel, parcel
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError
from perfusion_core.hub import amount, first_line
from perfusion_core.hub_concepts import EXPORTS, NAME


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
    if args.dry_run:
        ask_for(kept)
        if kept.exists() and not args.overwrite:
            raise UserError(f"{kept} is there already; give another --out, or --overwrite")
    else:
        check_may_send(args)
    with tempfile.TemporaryDirectory(prefix="perfbench-push-") as aside:
        folder = Path(aside) / "repository"
        make_folder(folder, sent, args)
        names = tell(folder, args)
        if args.dry_run:
            settle(folder, kept)
            print(kept)
            return
        if not args.yes and not agreed():
            raise UserError("nothing was sent")
        revision = send(folder, names, sent, args)
    tell_where(args.repo, revision, sent)


def check_repo(repo: str) -> None:
    if not NAME.fullmatch(repo) or "@" in repo or ".." in repo or "--" in repo or len(repo) > 96:
        raise UserError(
            f"{repo!r} cannot be a repository of the hub; write owner/name, in letters, digits, "
            f"-, _ and ."
        )


def check_base(base: str) -> None:
    if not NAME.fullmatch(base) or "@" in base:
        raise UserError(f"--base-model {base!r} is no hub id such as owner/name")


def check_may_send(args: argparse.Namespace) -> None:
    """Before anything is drawn: somebody to ask, a network, a token."""
    from huggingface_hub import constants, get_token

    if not args.yes and not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            "push asks before it sends, and there is no terminal to ask at: --yes sends, "
            "--dry-run shows what"
        )
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing is sent; --dry-run writes the folder")
    if not get_token():
        raise UserError(
            "the hub takes files of somebody whom it knows: type `hf auth login` or set HF_TOKEN "
            "(a token that may write); --dry-run needs none"
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
        args.backbone = args.backbone or sent.concept.backbone.rsplit(" ", 1)[0]
        shown = drawn(folder, sent, args)
    for path in sent.files:
        shutil.copyfile(path, folder / path.name)
    base = args.base_model or sent.base_model
    figure = (folder / FIGURE).is_file()
    write_whole(folder / "README.md", card(sent, args.repo, base, shown, figure, scores))


def settle(folder: Path, kept: Path) -> None:
    """The finished folder in its place, whole, also where that is on another disk."""
    aside = kept.with_name(f".{kept.name}.new")
    remove(aside)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, aside)
    replace(aside, kept)


def tell(folder: Path, args: argparse.Namespace) -> list[str]:
    """Every file that is sent, where to, and who can see it. -> their names"""
    from huggingface_hub import constants

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    who = "private" if args.private else "for all to see"
    would = "would send" if args.dry_run else "sends"
    print(
        f"perfbench: {would} {len(sizes)} files, {amount(sum(sizes.values()))}, to "
        f"{constants.ENDPOINT}/{args.repo} ({who}):",
        *(f"  {name} ({amount(size)})" for name, size in sizes.items()),
        sep="\n",
        file=sys.stderr,
    )
    return list(sizes)


def agreed() -> bool:
    print("perfbench: send them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def send(folder: Path, names: list[str], sent: Parcel, args: argparse.Namespace) -> str:
    """One commit with all of them; -> its digest."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with said_plainly(args.repo):
        api.create_repo(args.repo, private=args.private or None, exist_ok=True)
        there = set(api.list_repo_files(args.repo))
    gone = outdated(there, names)
    changed = sorted(there & set(names) | gone)
    if changed and not args.overwrite:
        raise UserError(
            f"{args.repo} holds {', '.join(changed)[:200]} already; give another name, or "
            f"--overwrite puts these files in their place"
        )
    adds = [CommitOperationAdd(name, folder / name) for name in names]
    removes = [CommitOperationDelete(name) for name in sorted(gone)]
    with said_plainly(args.repo):
        done = api.create_commit(
            args.repo, [*adds, *removes], commit_message=f"Add {sent.word} with its card"
        )
    return str(done.oid)


def outdated(there: set[str], names: list[str]) -> set[str]:
    """Of an earlier push: another concept beside this one could not be told from it."""
    ours = any(n.endswith(".safetensors") and not n.endswith(EXPORTS) for n in names)
    concepts = {n for n in there if n.endswith(".safetensors") and "/" not in n}
    concepts = {n for n in concepts if not n.endswith(EXPORTS)} if ours else set()
    pictures = {n for n in there if n.startswith("images/") or n == FIGURE}
    return (concepts | pictures) - set(names)


@contextmanager
def said_plainly(repo: str) -> Iterator[None]:
    """What the hub or the network answers is one sentence, without a token."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub does not take {repo} ({first_line(error)}): check the owner's name, and that "
            f"your token may write there (`hf auth login`, HF_TOKEN)"
        ) from error
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{repo} was not sent: the hub cannot be reached or refuses it ({first_line(error)}); "
            f"the same command tries again"
        ) from error


def tell_where(repo: str, revision: str, sent: Parcel) -> None:
    """The page, and the calls that open exactly what was sent."""
    from huggingface_hub import constants

    print(f"{constants.ENDPOINT}/{repo}/tree/{revision}")
    if sent.concept:
        word, pinned = sent.word, f"{repo}@{revision}"
        print(f'load_concepts(pipe, {{"{word}": "{pinned}"}})')
        print(f'perfbench generate "A photo of a {{{word}}}" --concept {word}={pinned} --out DIR')
