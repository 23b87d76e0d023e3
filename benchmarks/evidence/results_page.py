"""results/README.md: what lies in results/, a row a folder.

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

This page is written by `python -m benchmarks.evidence`, from `notes.toml` and from what lies in \
the folders.

The table has one row a folder. A folder's name leads to its commands and its claims.

- *World* names the generation of the [miniature](../docs/miniature.md#worlds) that drew and \
scored. Numbers of two worlds
  share no table.
- *Pictures* counts those that were drawn and scored.
- *Date*, *commit* and *state* are those of the last command that was given in the folder. \
Without a run they are those of
  the commit that brought its newest file.
- *Dirty* means that files differed from the commit. The [last section](#dirty-runs) says what \
is known of it.
- *Claims* counts the rows of [the claims](../docs/claims.md) that rest on a folder.

[Another page](../docs/run-folder.md) says what lies in a run folder. Long tables are packed there \
into `packed.tar.xz`,
which every command reads.

<!-- not run on this page: takes hours; it is how the folders were made -->
"""


def read_notes(results: Path) -> dict[str, Any]:
    """Folder -> what its files do not say; and `dirty`, on the runs that say so."""
    with (results / NOTES).open("rb") as file:
        return tomllib.load(file)


def results_page(results: Path, claims: Mapping[str, Sequence[str]]) -> str:
    """The whole page; `claims` by folder, as resting.py finds them."""
    folders = read_notes(results)
    dirty = folders.pop("dirty")
    for name in folders:
        if not (results / name).is_dir():
            raise UserError(
                f"{results / NOTES} has {name}, and {results} has no such folder; leave it out"
            )
    rows = [_row(results / name, note, len(claims.get(name, ()))) for name, note in folders.items()]
    parts = [
        INTRO,
        markdown_table([HEAD, *rows]),
        f"{len(CLAIMS)} claims in all; one may rest on several folders.\n",
    ]
    parts += [_section(name, note, claims.get(name, ())) for name, note in folders.items()]
    parts += ["## Dirty runs\n", dirty["text"], _compared(results, dirty["compared"])]
    return "\n".join(parts)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _row(folder: Path, note: Mapping[str, Any], claims: int) -> list[str]:
    about = read_json(folder / "run.json")
    if about is None:
        pictures, date, commit, state = "", note["date"], note["commit"], "no run"
        world = note["world"]
    else:
        pictures = f"{read_plan(folder)['n'].sum():,}"
        world = world_of_run(about)
        date, commit = str(about["finished"] or about["started"])[:10], about["commit"][:7]
        state = "[dirty](#dirty-runs)" if about["dirty"] else "clean"
    name, figure = folder.name, note["figure"]
    look = f"[{Path(figure).name}]({figure})"
    return [
        f"[{name}](#{name})",
        note["question"],
        world,
        pictures,
        date,
        commit,
        state,
        str(claims or ""),
        look,
    ]


def _section(name: str, note: Mapping[str, Any], claims: Sequence[str]) -> str:
    commands = note.get("commands") or COMMANDS[name.removeprefix("miniature-")]
    lines = [f"## {name}\n", "```bash", *commands, "```\n"]
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
