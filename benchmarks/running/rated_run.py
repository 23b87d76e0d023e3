"""`perfbench score RUN --from FILE --scorer NAME`: scores from outside become a scorer of the run.

In: a run folder whose pictures are here, a table of ratings. Out: rows, a copy of what was taken
with the pictures' digests, run.json and the tables.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digests import canonical, digest
from benchmarks.running.ratings_file import (
    COLUMNS,
    Picture,
    Rating,
    pictures_of,
    read_ratings,
    scale_of,
)
from benchmarks.running.rescore import scorable
from benchmarks.running.run import change_run
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import RATINGS
from benchmarks.scoring.similarity import Row, cell_rows
from benchmarks.store.reading import find_run, read_rows, read_run, refuse_older, refuse_without
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

# - and . alone: columns are called image_sim_NAME, and parts of them mean something
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,59}")
TAKEN = ("truth", "judge")  # first words of scorers of another kind


def take_ratings(
    given: str | None, file: str, name: str, scale: str = "0:1", allow_missing: bool = False
) -> int:
    """All or nothing: rows that are wrong, or belong to other pictures, are refused first."""
    from benchmarks.tables.build import write_tables

    refuse_name(name)
    ends, folder = scale_of(scale), find_run(given)
    about, store = read_run(folder), Store(folder)
    refuse_older(folder, about)
    refuse_without(folder, about, ("protocol",))
    refuse_unscored(folder, about)
    cells, gone = scorable(store)
    if gone:
        raise UserError(
            f"{gone} of {gone + len(cells)} planned cells of {folder} have no whole images here, "
            f"and ratings belong to pictures: finish the run, or bring its images"
        )
    pictures = pictures_of(store, cells)
    ratings = read_ratings(Path(file), pictures, ends)
    every = about["protocol"].get("image_prompts") == "all"
    if not allow_missing:
        refuse_unrated(file, pictures.every, ratings, every)
    scorer = scorer_of(name, ratings, ends)
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for cell, mine in by_cell(pictures.every).items():
        groups.setdefault(cell.address, []).extend(rows_of(cell, mine, ratings, every))
    for address, rows in groups.items():
        rows.sort(key=lambda row: (row["prompt_id"], row["index"]))
        store.write_rows(store.rows_file(scorer["name"], *address), rows)
    store.write_text(store.ratings_file(scorer["name"]), text_of(ratings))

    def record(run: dict[str, Any]) -> None:
        """In the place of earlier ratings of that name."""
        kept = [one for one in run["scorers"] if not same_raters(one, name)]
        run["scorers"] = [*kept, scorer]

    change_run(store, record)
    print(write_tables(folder))
    return 0


def refuse_unscored(folder: Path, about: Mapping[str, Any]) -> None:
    """Tables are the reported scorer's, and ratings stand beside its rows: an import without
    scoring has none."""
    if about.get("scorers") and read_rows(folder).empty:
        raise UserError(
            f"{folder} was never scored by its reported scorer {about['scorers'][0]['name']}, "
            f"beside whose rows ratings stand: give `perfbench score {folder}` first, then this "
            f"command again"
        )


def refuse_name(name: str) -> None:
    if not NAME.fullmatch(name) or name.lower().startswith(TAKEN):
        raise UserError(
            f"--scorer {name!r:.80} cannot be a scorer's name: letters, digits, - and . are "
            f"allowed, at most 60, and not {' or '.join(TAKEN)} at its beginning; write for "
            f"example --scorer raters"
        )


def by_cell(pictures: Iterable[Picture]) -> dict[CellRow, list[Picture]]:
    found: dict[CellRow, list[Picture]] = {}
    for picture in pictures:
        found.setdefault(picture.cell, []).append(picture)
    return found


def refuse_unrated(
    file: str, pictures: Iterable[Picture], ratings: Mapping[Picture, Rating], every: bool
) -> None:
    """Of each kind of score that the file brings, a picture that it should have it for and has not.
    Deforming prompts need no image score: the reported scorer gives them none."""
    brought = {
        name: any(getattr(one, name) is not None for one in ratings.values())
        for name in ("image", "text")
    }
    lacking, planned = [], 0
    for picture in pictures:
        said = ratings.get(picture, Rating(None, None))
        wanted = [said.text] if brought["text"] else []
        wanted += (
            [said.image] if brought["image"] and (every or picture.cell.kind != "deform") else []
        )
        planned += bool(wanted)
        if any(score is None for score in wanted):
            lacking.append(picture)
    if lacking:
        cell = lacking[0].cell
        raise UserError(
            f"{file}: {len(lacking)} of {planned} pictures lack a score, the first is image "
            f"{lacking[0].index} of {cell.method} {cell.point} {cell.concept} {cell.prompt_id}; "
            f"--allow-missing takes the others, and means are over what was rated"
        )


def scorer_of(
    name: str, ratings: Mapping[Picture, Rating], scale: tuple[float, float]
) -> dict[str, str]:
    """What run.json says of it; its name ends in the digest of all pictures with their scores."""
    rated = sorted(
        [one.cell.key, one.index, one.sha256, said.image, said.text]
        for one, said in ratings.items()
    )
    content = digest(rated)
    return {
        "name": f"{name}-{content[:8]}",
        "kind": RATINGS,
        "source": name,
        "weights": content,
        "preprocessing": "",
        "pixels": canonical({"scale": scale}),
    }


def same_raters(scorer: Mapping[str, Any], name: str) -> bool:
    return scorer.get("kind") == RATINGS and scorer.get("source") == name


def rows_of(
    cell: CellRow, pictures: Iterable[Picture], ratings: Mapping[Picture, Rating], every: bool
) -> list[Row]:
    """A row a picture, empty where nobody said anything; of a pair both image scores are the one
    that was given."""
    said = [ratings.get(one, Rating(None, None)) for one in pictures]
    images, texts = (
        np.array([np.nan if score is None else score for score in scores])
        for scores in ([one.image for one in said], [one.text for one in said])
    )
    return cell_rows(cell, (), [images] * len(cell.concept.split("+")), texts, every)


def text_of(ratings: Mapping[Picture, Rating]) -> str:
    """What was taken, in the columns that are read, on the scale of 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS[1:])
    for picture, said in ratings.items():
        cell = picture.cell
        place = (cell.method, cell.point, cell.concept, cell.prompt_id, picture.index)
        scores = ["" if score is None else score for score in (said.image, said.text)]
        writer.writerow([picture.sha256, *place, *scores])
    return text.getvalue()
