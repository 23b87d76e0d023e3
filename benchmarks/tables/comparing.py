"""`perfbench compare`: two tables of scores by anybody, paired by what they have in common.

In: CSV, JSON lines, JSON or parquet files, or run folders; a score's column, and the columns that
say what was replicated. Out: the difference with its interval, wins, what could have been seen,
and, within a margin, whether they are the same.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from benchmarks.tables.statistics import Interval, clustered, t_quantile, wins
from benchmarks.tables.table_text import GUESSED
from perfusion_core.errors import UserError, unknown

POWER = 0.8
MOST = 500_000_000  # bytes of a file
POINT = "::"  # RUN::METHOD/POINT
RUN = "run"  # in a frame's attrs: the folder that its rows are of
GUESS = "guess"  # there: the method, where its rates are a guess
FEW = 20  # values of a column that tells rows of one cell apart
UNPAIRED = "unpaired"  # column of imported rows
OF_RUNS = ("concept", "prompt_id")  # what is replicated in a run
# grades as evaluation logs spell them
GRADES = {
    "C": 1.0,
    "I": 0.0,
    "P": 0.5,
    "N": 0.0,
    "true": 1.0,
    "false": 0.0,
    "True": 1.0,
    "False": 0.0,
}


@dataclass(frozen=True)
class Comparison:
    """A less B. Numbers of single cells count once each, those of one cluster go together."""

    difference: Interval
    a: float
    b: float
    win_rate: Interval
    clusters: int
    cells: int
    only_a: int  # cells without a partner
    only_b: int
    detectable: float  # found with probability POWER at this spread
    margin: float | None
    verdict: str
    unpaired: bool = False  # over images: one side was drawn from other noise

    def row(self) -> dict[str, Any]:
        """For programs: one flat row."""
        return {
            "a": self.a, "b": self.b, **self.difference.named("difference"),
            **self.win_rate.named("win_rate"), "clusters": self.clusters, "cells": self.cells,
            "only_a": self.only_a, "only_b": self.only_b, "detectable": self.detectable,
            "margin": self.margin, "verdict": self.verdict,
            **({UNPAIRED: "images"} if self.unpaired else {}),
        }  # fmt: skip


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    score: str,
    by: Sequence[str] = OF_RUNS,
    margin: float | None = None,
) -> Comparison:
    """Several numbers of one cell are averaged first. `by`: one column, whose values are
    replicated; or two that are crossed, of which the first counts (two-way clustered).
    """
    if not 1 <= len(by) <= 2:
        raise UserError(f"by {','.join(by) or 'nothing'}: one column, or two that are crossed")
    if margin is not None and not margin > 0:
        raise UserError(f"margin {margin:g}: a number above 0 is wanted")
    refuse_unlike(a, b)
    a, b = prompts_named(a, by), prompts_named(b, by)
    cells = [cells_of_scores(frame, score, by) for frame in (a, b)]
    both = pd.concat(cells, axis=1, keys=["a", "b"], join="inner")
    lost = [len(mine) - len(both) for mine in cells]
    if both.empty:
        raise UserError(
            f"the two have no {' and '.join(by)} in common, so nothing can be paired; compare the "
            f"spelling of these columns"
        )
    grids = [as_grid(both[side], by) for side in ("a", "b")]
    difference = clustered(grids[0] - grids[1])
    clusters = len(grids[0])
    error = (difference.hi - difference.value) / t_quantile(clusters) if clusters > 1 else np.nan
    rate = clustered(wins(*grids))
    degrees = max(clusters - 1, 1)
    detectable = (stdtrit(degrees, 0.975) + stdtrit(degrees, POWER)) * error
    return Comparison(
        difference=difference,
        a=clustered(grids[0]).value,
        b=clustered(grids[1]).value,
        win_rate=Interval(rate.value, max(rate.lo, 0.0), min(rate.hi, 1.0)),
        clusters=clusters,
        cells=len(both),
        only_a=lost[0],
        only_b=lost[1],
        detectable=float(detectable),
        margin=margin,
        verdict=verdict(difference, error, degrees, margin),
        unpaired=UNPAIRED in a or UNPAIRED in b,
    )


def verdict(difference: Interval, error: float, degrees: int, margin: float | None) -> str:
    """`same` within the margin by two one-sided tests at 5 %; else what the 95 % interval says."""
    if np.isnan(error):
        return "one cluster: no interval"
    half = stdtrit(degrees, 0.95) * error
    inside = margin is not None and abs(difference.value) + half < margin
    apart = difference.lo > 0 or difference.hi < 0
    if inside:
        return f"the same within {margin:g}" + (", and apart from 0" if apart else "")
    if apart:
        return "A is ahead" if difference.value > 0 else "B is ahead"
    return "cannot be told apart"


def refuse_unlike(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Rows of two runs are compared where these were measured alike; of a file nobody can tell."""
    runs = [frame.attrs.get(RUN) for frame in (a, b)]
    if all(runs) and runs[0] != runs[1]:
        from benchmarks.tables.run_view import open_run, same_protocol, same_scorer, same_world

        opened = [open_run(run) for run in runs]
        same_world(opened)
        same_scorer(opened)
        same_protocol(opened)


def prompts_named(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """`prompt` is what rows of a run call prompt_id."""
    if "prompt" in by and "prompt" not in frame and "prompt_id" in frame:
        return frame.rename(columns={"prompt_id": "prompt"})
    return frame


def averaged(frame: pd.DataFrame, score: str, by: Sequence[str]) -> list[str]:
    """Columns of words that differ between rows of one cell, which are averaged: two filters of an
    answer, say. Of a run's rows none: those are images.
    """
    if RUN in frame.attrs:
        return []
    frame = prompts_named(frame, by)
    rows = frame[frame[score].astype(str).str.strip() != ""]
    keys = [rows[column].map(str) for column in by]
    found = []
    for column in rows.columns.difference([score, *by]):
        words = rows[column].dropna().map(str)
        words_few = 1 < words.nunique() <= FEW
        if words_few and pd.to_numeric(words, errors="coerce").notna().all():
            continue  # numbers, such as an index
        if words_few and rows[column].map(str).groupby(keys).nunique().max() > 1:
            found.append(str(column))
    return found


def cells_of_scores(frame: pd.DataFrame, score: str, by: Sequence[str]) -> "pd.Series[float]":
    """A mean a cell, by the values of `by` as text; rows without a number do not count."""
    for column in (score, *by):
        if column not in frame:
            raise unknown("column", column, map(str, frame.columns))
    values = numbers(frame[score], score)
    keys = [frame[column].map(str) for column in by]
    return values[values.notna()].groupby([key[values.notna()] for key in keys]).mean()


def numbers(column: pd.Series, name: str) -> "pd.Series[float]":
    """Numbers, truth values, or the letters that evaluation logs give (C, P, I, N)."""
    if column.dtype == bool:
        return column.astype(float)
    plain = pd.to_numeric(column, errors="coerce")
    graded = column.map(lambda value: GRADES.get(str(value), np.nan))
    found = plain.astype(float).where(plain.notna(), graded)
    wrong = found.isna() & column.notna() & (column.astype(str).str.strip() != "")
    wrong &= column.astype(str).str.lower() != "nan"
    if wrong.any():
        raise UserError(
            f"the column {name} holds {str(column[wrong].iloc[0])!r:.60}, no number; name "
            f"another column"
        )
    if found.notna().sum() == 0:
        raise UserError(f"the column {name} holds no number; name another column")
    return found.where(np.isfinite(found))


def as_grid(cells: "pd.Series[float]", by: Sequence[str]) -> np.ndarray:
    """[clusters, what is crossed with them], NaN where there is no cell."""
    if len(by) == 1:
        return cells.to_numpy(dtype=float)[:, None]
    return cells.unstack().to_numpy(dtype=float)


# ---- reading ----


def read_scores(given: str, where: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """A file, a run folder with one method besides super, or RUN::METHOD/POINT; the rows whose
    columns have these values.
    """
    frame = of_run(given) if is_run(given) else of_file(Path(given))
    for column, value in where:
        if column not in frame:
            raise unknown("column", column, map(str, frame.columns))
        frame = frame[frame[column].map(str) == value]
    if frame.empty:
        told = " and ".join(f"{column}={value}" for column, value in where)
        raise UserError(
            f"{given} has no rows" + (f" with {told}; give another --where" if told else "")
        )
    return frame


def is_run(given: str) -> bool:
    return POINT in given or (Path(given) / "run.json").is_file()


def of_run(given: str) -> pd.DataFrame:
    """The scores of one operating point."""
    from benchmarks.scoring.reserved import FLOOR, REAL
    from benchmarks.store.reading import find_run, imported_methods, read_run, untuned_methods
    from benchmarks.tables.sample_rows import both_concepts, sample_rows

    place, _, point = given.partition(POINT)
    run = find_run(place)
    rows = both_concepts(sample_rows(run))
    names = rows["method"] + "/" + rows["point"]
    known = dict.fromkeys(names[rows["method"] != REAL])
    mine = [name for name in known if point in (name, name.partition("/")[0])]
    if not point:
        mine = [name for name in known if not name.startswith(f"{FLOOR}/")]
    if len(mine) != 1:
        raise UserError(
            f"{given}: which operating point? Write one after {POINT}, of {', '.join(known)}"
        )
    method, about = mine[0].partition("/")[0], read_run(run)
    theirs = method in imported_methods(about)
    found = rows[names == mine[0]].assign(**({UNPAIRED: True} if theirs else {}))
    found.attrs[RUN] = str(run.resolve())
    if method in untuned_methods(about):
        found.attrs[GUESS] = method
    return found


def of_file(path: Path) -> pd.DataFrame:
    """CSV, TSV, JSON lines, JSON (a list of rows) or parquet, by its suffix; nothing is run."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        raise UserError(f"{path}: .csv, .tsv, .jsonl, .json, .parquet or a run folder is wanted")
    try:
        if path.stat().st_size > MOST:
            raise UserError(
                f"{path} is larger than {MOST // 1_000_000} MB; take out what is needed"
            )
        content = path.read_bytes()
        if kind == ".parquet":
            return pd.read_parquet(io.BytesIO(content))
        if kind in (".csv", ".tsv"):
            sep = "," if kind == ".csv" else "\t"
            return pd.read_csv(io.BytesIO(content), sep=sep, keep_default_na=False, dtype=str)
        text = content.decode("utf-8-sig")
        lines = text.split("\n") if kind == ".jsonl" else []  # signs such as U+2028 end no line
        rows = [json.loads(line) for line in lines if line.strip()] or json.loads(text)
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as {kind[1:]}: {str(error)[:120]}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: a list of rows is wanted, each with names and values")
    return pd.DataFrame(
        [{name: value for name, value in row.items() if is_plain(value)} for row in rows]
    )


def is_plain(value: object) -> bool:
    """A number, a text, a truth value; what is nested is left out."""
    return value is None or isinstance(value, (bool, int, float, str))


# ---- telling ----


def told(found: Comparison, score: str, by: Sequence[str], names: Mapping[str, str]) -> str:
    """Lines for people."""
    d, w = found.difference, found.win_rate
    spread = "" if np.isnan(d.lo) else f" [{d.lo:.4g}, {d.hi:.4g}]"
    rate = "" if np.isnan(w.lo) else f" [{w.lo:.0%}, {w.hi:.0%}]"
    lines = [
        f"A: {names['a']}: mean {score} {found.a:.4g}",
        f"B: {names['b']}: mean {score} {found.b:.4g}",
        f"A less B: {d.value:+.4g}{spread}, 95 % interval over {found.clusters} values of {by[0]}"
        + (f", clustered by {by[1]}, too" if len(by) > 1 else ""),
        f"A is above B in {w.value:.0%}{rate} of {found.cells} cells (ties count half)",
    ]
    if not np.isnan(found.detectable):
        lines.append(
            f"a difference of {found.detectable:.3g} would have been found with {POWER:.0%} "
            f"probability"
        )
    if found.only_a or found.only_b:
        lines.append(
            f"without a partner, and left out: {found.only_a} cells of A, {found.only_b} of B"
        )
    return "\n".join([*lines, found.verdict]) + "\n"


def compare_verb(
    a: str,
    b: str,
    score: str,
    by: Sequence[str],
    where: Sequence[tuple[str, str]],
    margin: float | None,
    as_json: bool,
) -> str:
    """`perfbench compare A B`."""
    of_a, of_b = read_scores(a, where), read_scores(b, where)
    found = compare(of_a, of_b, score, by, margin)
    differ = {side: averaged(frame, score, by) for side, frame in (("a", of_a), ("b", of_b))}
    guessed = list(dict.fromkeys(f.attrs[GUESS] for f in (of_a, of_b) if GUESS in f.attrs))
    if as_json:
        row = {k: None if v != v else v for k, v in found.row().items()}
        row |= {"averaged_over": differ} if any(differ.values()) else {}
        row |= {"untuned": guessed} if guessed else {}
        return json.dumps({"score": score, "by": list(by), **row}, indent=1) + "\n"
    notes = [
        f"{side.upper()}: rows of one cell differ in {', '.join(columns)}, and their mean is "
        f"taken; --where {columns[0]}=VALUE takes one of them\n"
        for side, columns in differ.items()
        if columns
    ]
    if found.unpaired:
        paired = " and ".join(by)
        notes.append(f"unpaired over images (one is imported), paired over {paired}\n")
    if guessed:
        notes.append(f"{GUESSED.format(', '.join(guessed))}\n")
    return told(found, score, by, {"a": a, "b": b}) + "".join(notes)
