"""results/README.md: what lies in results/, a row a folder, in two parts: what stands on today's
weights, and what was made on the first world.

In: notes.toml beside the folders, their run.json and plans, and the ledger. Out: the page as text.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.disk import read_json
from benchmarks.evidence.commands import COMMANDS
from benchmarks.evidence.ledger import CLAIMS
from benchmarks.miniature.which_world import world_of_run
from benchmarks.paths import FIRST_WORLD
from benchmarks.store.reading import read_plan, read_rows, read_run
from benchmarks.tables.grid import CEILING
from benchmarks.tables.sample_rows import CELL
from perfusion_core.errors import UserError

NOTES, PAGE = "notes.toml", "README.md"
SCORES = ("image_sim", "text_sim_raw")
HEAD = (
    "folder",
    "what it answers",
    "world",
    "pictures",
    "date",
    "commit",
    "state",
    "claims",
    "look at",
)
INTRO = """# Results

This page is written by `python -m benchmarks.evidence`, from each `notes.toml` and from what lies \
in the folders.

Each table has one row a folder. A folder's name leads to its commands and its claims.

- *World* names the generation of the [miniature](../docs/miniature.md#worlds) that drew and \
scored. Numbers of two worlds
  share no table.
- *Pictures* counts those that were drawn and scored.
- *Date*, *commit* and *state* are those of the last command that was given in the folder. \
Without a run they are those of
  the commit that brought its newest file.
- *Dirty* means that files differed from the commit. A section on dirty runs says what is known \
of it.
- *Claims* counts the rows of [the claims](../docs/claims.md) that rest on a folder.

[Another page](../docs/run-folder.md) says what lies in a run folder. Long tables are packed there \
into `packed.tar.xz`,
which every command reads.

<!-- not run on this page: takes hours; it is how the folders were made -->
"""
TODAY = "## On today's weights\n"
OLDER = f"""## Of the first world

These folders were made on the first miniature. They are kept in `{FIRST_WORLD.name}/` because the \
claims rest on them until they
are made again. A command says where its folder lay then; given again, it makes a new one.
"""


def read_notes(home: Path) -> dict[str, Any]:
    """Folder -> what its files do not say; and `dirty`, on the runs that say so."""
    with (home / NOTES).open("rb") as file:
        return tomllib.load(file)


def results_page(
    results: Path, claims: Mapping[str, Sequence[str]], judged: Path | None = None
) -> str:
    """The whole page; `claims` by folder of the judged runs, as resting.py finds them."""
    judged, older = judged or results, results / FIRST_WORLD.name
    parts = [INTRO, TODAY, *_part(results, results, claims if judged == results else {})]
    if (older / NOTES).is_file():
        parts += [OLDER, *_part(results, older, claims if judged == older else {})]
    return "\n".join(parts)


def heading(home: Path, name: str) -> str:
    """Of a section: two folders of one name may lie in the two parts."""
    return f"{name}, first world" if home.name == FIRST_WORLD.name else name


def anchor(home: Path, name: str) -> str:
    """Of the section of a folder, on this page."""
    return heading(home, name).lower().replace(",", "").replace(" ", "-")


def _part(results: Path, home: Path, claims: Mapping[str, Sequence[str]]) -> list[str]:
    """A table of the folders in `home`, and a section each."""
    folders = read_notes(home)
    dirty = folders.pop("dirty", None)
    for name in folders:
        if not (home / name).is_dir():
            raise UserError(
                f"{home / NOTES} has {name}, and {home} has no such folder; leave it out"
            )
    place = home.relative_to(results)
    rows = [
        _row(home / name, note, len(claims.get(name, ())), place) for name, note in folders.items()
    ]
    parts = [markdown_table([HEAD, *rows])]
    if claims:
        parts.append(f"{len(CLAIMS)} claims in all; one may rest on several folders.\n")
    parts += [
        _section(heading(home, name), note, commands_of(name, note), claims.get(name, ()))
        for name, note in folders.items()
    ]
    if dirty:
        compared = _compared(home, dirty["compared"])
        parts += [f"### {heading(home, 'Dirty runs')}\n", dirty["text"], compared]
    return parts


def commands_of(name: str, note: Mapping[str, Any]) -> Sequence[str]:
    """How a folder is made."""
    return note.get("commands") or COMMANDS[name.removeprefix("miniature-")]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _row(folder: Path, note: Mapping[str, Any], claims: int, place: Path) -> list[str]:
    about = read_json(folder / "run.json")
    if about is None:
        pictures, date, commit, state = "", note["date"], note["commit"], "no run"
        world = note["world"]
    else:
        pictures = f"{read_plan(folder)['n'].sum():,}"
        world = world_of_run(about)
        date, commit = str(about["finished"] or about["started"])[:10], about["commit"][:7]
        state = f"[dirty](#{anchor(folder.parent, 'Dirty runs')})" if about["dirty"] else "clean"
    name, figure = folder.name, (place / note["figure"]).as_posix()
    look = f"[{Path(figure).name}]({figure})"
    return [
        f"[{name}](#{anchor(folder.parent, name)})",
        note["question"],
        world,
        pictures,
        date,
        commit,
        state,
        str(claims or ""),
        look,
    ]


def _section(
    title: str, note: Mapping[str, Any], commands: Sequence[str], claims: Sequence[str]
) -> str:
    lines = [f"### {title}\n", "```bash", *commands, "```\n"]
    lines += [f"{note['note']}\n"] if "note" in note else []
    lines += (
        ["Claims that rest on it:\n", *(f"- {claim}" for claim in claims), ""] if claims else []
    )
    return "\n".join(lines)


# ---- runs that are marked dirty, against runs that are not


def _compared(results: Path, pairs: Sequence[Sequence[str]]) -> str:
    head = [
        "run",
        "clean run",
        "same trained files",
        "images that both have",
        "same scores",
        "image similarity: median difference",
        "mean",
        "raw text similarity: median",
        "mean",
    ]
    return markdown_table(
        [head, *(_differences(results / one, results / other) for one, other in pairs)]
    )


def _differences(one: Path, other: Path) -> list[str]:
    """How far two runs are apart on the images that both have: same words, noise and operating
    point.
    """
    image = [*CELL, "index", "seed"]
    frames = [read_rows(run) for run in (one, other)]
    left, right = (frame.loc[frame["method"] != CEILING, [*image, *SCORES]] for frame in frames)
    both = left.merge(right, on=image, suffixes=("", " there"))
    apart = pd.DataFrame({score: both[score] - both[f"{score} there"] for score in SCORES})
    same = (apart.fillna(0) == 0).all(axis=1)
    told = [
        f"{value:.4f}"
        for s in SCORES
        for value in (np.nanmedian(apart[s].abs()), abs(np.nanmean(apart[s])))
    ]
    return [
        one.name,
        other.name,
        _same_files(one, other),
        f"{len(both):,}",
        f"{same.mean():.0%}",
        *told,
    ]


def _same_files(one: Path, other: Path) -> str:
    """How many of a run's trained files are those of the other one."""
    mine, theirs = (
        {
            (method, concept): digest
            for method, of in read_run(run)["weights"].items()
            for concept, digest in of.items()
        }
        for run in (one, other)
    )
    return f"{len(mine.items() & theirs.items())} of {len(mine)}"
