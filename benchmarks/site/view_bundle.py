"""The explorer as a folder for any static host, or for a double click: a page and its thumbnails.

In: runs and a folder. Out: DIR/index.html, DIR/strips/ and DIR/own/; the folder is whole or as it
was before.
"""

import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from benchmarks.disk import ask_for, on_disk, remove, replace
from benchmarks.site.explored import Explored, open_runs
from benchmarks.site.explorer_data import explorer_data
from benchmarks.site.explorer_page import page_text
from benchmarks.site.picture_strips import numbers_in, own_name, own_strip, strip, strip_name
from perfusion_core.errors import UserError

MADE_BY = b'<meta name="generator" content="perfbench view">'
PARTS = {"index.html", "strips", "own"}  # what a bundle has, and nothing else

Sheet = tuple[str, Callable[[], bytes]]


def write_bundle(given: Sequence[str], out: Path, tile: int, most: int | None) -> Path:
    """`perfbench view --bundle DIR`; `most`: pictures of each cell at most."""
    refuse_place(out)
    runs = open_runs(given)
    refuse_inside(out, runs)
    if most is not None:
        for one in runs:
            one.keep_first(most)
    aside = out.resolve().with_name(f".{out.resolve().name}.{secrets.token_hex(4)}")
    page = page_text({**explorer_data(runs, tile), "full": False})
    sheets = [*all_sheets(runs, tile)]
    with on_disk(out.parent):
        try:
            aside.mkdir(parents=True)
            quiet = not sys.stderr.isatty()
            for name, make in tqdm(sheets, desc="thumbnails", unit="sheet", disable=quiet):
                file = aside / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(make())
            (aside / "index.html").write_text(page, encoding="utf-8")
            replace(aside, out)
        finally:
            remove(aside)
    return out / "index.html"


def all_sheets(runs: Sequence[Explored], tile: int) -> Iterator[Sheet]:
    for run, one in enumerate(runs):
        for question in range(len(one.questions) if one.pictured else 0):
            for number in numbers_in(one, question):
                yield strip_name(run, question, number), partial(strip, one, question, number, tile)
        for concept, name in enumerate(one.concepts):
            if one.training(name) or one.held_out(name):
                yield own_name(run, concept), partial(own_strip, one, concept, tile)


def refuse_place(out: Path) -> None:
    """A folder that is new, empty, or an earlier bundle; nobody's files are replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} is no folder; name a new one, such as --bundle view")
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"{out} is where you are; name a folder in it, such as --bundle view")
    if out.is_dir() and any(out.iterdir()) and not is_bundle(out):
        raise UserError(
            f"{out} holds other files than a bundle does; name a new folder, such as "
            f"--bundle {out / 'view'}"
        )
    ask_for(out)


def is_bundle(folder: Path) -> bool:
    page = folder / "index.html"
    if {entry.name for entry in folder.iterdir()} - PARTS or not page.is_file():
        return False
    with page.open("rb") as stream:
        return MADE_BY in stream.read(4096)


def refuse_inside(out: Path, runs: Sequence[Explored]) -> None:
    for one in runs:
        folder = one.run.folder.resolve()
        if out.resolve() in (folder, *folder.parents):
            raise UserError(f"{out} holds the run {one.name}; name another folder for --bundle")
