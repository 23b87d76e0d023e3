"""What the report opens with: a sentence of verdict, and a few concepts beside what each method
draws of them.

In: a run, and the gallery's data and thumbnails. Out: HTML in which everything that comes from a
run is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures.looks import Style, strangers_among, style_of
from benchmarks.figures.report.html import between, mark, there
from benchmarks.figures.report.result_table import in_a_sentence, main_methods, row_name
from benchmarks.figures.report.run_results import singles
from benchmarks.figures.selection import best_point, gallery_columns, short, without_room
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import FLOOR, OURS
from benchmarks.tables import frames
from benchmarks.tables.run_view import Run
from benchmarks.tables.table_text import short_fits

CONCEPTS, PROMPTS = 3, 2  # what is shown at most: concepts, and prompts of each
MEASURES = {"image_sim": "image similarity", "text_sim": "text similarity"}
VERBS = {"ahead": "is ahead of", "behind": "is behind", "level": "cannot be told apart from"}


def at_a_glance(run: Run, data: Mapping[str, Any], thumbs: Mapping[str, Sequence[str]]) -> str:
    """Both, or what of them the run has; empty where it has neither."""
    return verdict(run) + pictures(run, data, thumbs)


# ---- the verdict ----


def verdict(run: Run) -> str:
    """One sentence: Perfusion (or the best of a run without it) against the best of the others,
    each at its best operating point; the other comparisons on request.
    """
    points = compared(run.table)
    if len(points) < 2:
        return ""
    (method, point), *others = points
    found = frames.differences(singles(run), method)
    found = found[found["point"] == point]
    sentences = []
    for other, other_point in others:
        mine = found[(found["other"] == other) & (found["other_point"] == other_point)]
        rows = {row["metric"]: row for row in mine.to_dict("records")}
        if text := sentence(called(run, method, point), called(run, other, other_point), rows):
            sentences.append(text)
    if not sentences:
        return ""
    n = int(found["n_concepts"].max())
    how = (
        "Paired by concept and prompt, each method at the operating point of its best harmonic mean"
    )
    how += f"; means over {n} concepts, with 95 % intervals." if n > 1 else "."
    if short_fits(run.about):
        how += " The fits were cut short: this does not tell which method is better."
    first, *rest = (f"{escape(text)}" for text in sentences)
    more = "".join(f"<li>{text}</li>" for text in rest)
    listed = (
        f"<details><summary>Against each of the others</summary><ul>{more}</ul></details>"
        if rest
        else ""
    )
    return f'<p class="verdict">{first}</p><p class="note">{how}</p>{listed}'


def compared(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(method, point) of what the sentences are about: ours first, then the others, the best first;
    the floor where there is no other.
    """
    rows = table[table["kind"] == "method"]
    names = main_methods(table)
    points = {name: best_point(rows[rows["method"] == name]) for name in names}
    harmonic = {
        name: rows.loc[(rows["method"] == name) & (rows["point"] == point), "harmonic"]
        .fillna(-np.inf)
        .max()
        for name, point in points.items()
    }
    order = sorted(names, key=lambda name: (name != OURS, -harmonic[name]))
    floor = table.loc[table["kind"] == "floor", ["method", "point"]]
    if len(order) == 1 and len(floor):
        return [(order[0], points[order[0]]), (FLOOR, str(floor["point"].iloc[0]))]
    return [(name, points[name]) for name in order]


def called(run: Run, method: str, point: str) -> str:
    """A method and its operating point in a sentence."""
    if method == FLOOR:
        return "the super-category's plain word"
    strangers = strangers_among(run.table["method"])
    _, name, _ = row_name({"kind": "method", "method": method, "point": point}, strangers)
    return in_a_sentence(name, short(point))


def sentence(name: str, other: str, rows: Mapping[str, Mapping[Any, Any]]) -> str:
    """`A is ahead of B in image similarity by x [lo, hi] and is behind it in text similarity by y
    [lo, hi].` An interval that includes zero tells nothing apart; without one nothing is claimed
    beyond the concept. Empty where nothing was measured.
    """
    known = {m: rows[m] for m in MEASURES if m in rows and there(rows[m]["difference"])}
    if not known:
        return ""
    if not all(there(row["lo"]) and there(row["hi"]) for row in known.values()):
        parts = [one_concept(MEASURES[metric], row) for metric, row in known.items()]
        return f"On this one concept {name} is, against {other}, {' and '.join(parts)}; one \
concept gives no interval."
    told: list[tuple[str, list[str]]] = []
    for metric, row in known.items():
        kind, phrase = with_interval(MEASURES[metric], row)
        if told and told[-1][0] == kind:
            told[-1][1].append(phrase)
        else:
            told.append((kind, [phrase]))
    clauses = [
        f"{VERBS[kind]} {other if number == 0 else 'it'} {' and '.join(phrases)}"
        for number, (kind, phrases) in enumerate(told)
    ]
    return f"{name} {', and '.join(clauses)}."


def with_interval(measure: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    """Ahead, behind or level, and by how much."""
    value, lo, hi = (float(row[key]) for key in ("difference", "lo", "hi"))
    if lo > 0:
        return "ahead", f"in {measure} by {value:.3f} {between(lo, hi)}"
    if hi < 0:
        return "behind", f"in {measure} by {-value:.3f} {between(-hi, -lo)}"
    return "level", f"in {measure} ({value:+.3f} {between(lo, hi)})"


def one_concept(measure: str, row: Mapping[Any, Any]) -> str:
    value = float(row["difference"])
    return f"{abs(value):.3f} {'higher' if value >= 0 else 'lower'} in {measure}"


# ---- the pictures ----


def pictures(run: Run, data: Mapping[str, Any], thumbs: Mapping[str, Sequence[str]]) -> str:
    """Each of a few concepts beside two prompts, drawn by every method that there is room for, at
    its best operating point; empty where the run has no images.
    """
    columns = gallery_columns(run, ())
    if all(method == FLOOR for method, _ in columns):
        return ""
    shown = chosen(columns, data)
    rows = [row for of_concept in shown.values() for row in of_concept]
    columns = [
        column
        for column in columns
        if any(first_thumb(column, row, data) is not None for row in rows)
    ]
    strangers = strangers_among(run.first_table["method"])
    looks = [
        (column, style_of(column[0], OperatingPoint.parse(column[1]).lock, strangers))
        for column in columns
    ]
    blocks = [concept_html(name, mine, looks, data, thumbs) for name, mine in shown.items()]
    absent, count = without_room(run, gallery_columns(run, ()))
    if blocks and absent:
        blocks.append(
            f'<p class="note">{count - len(absent)} of {count} methods are shown here; the gallery '
            f"below has them all.</p>"
        )
    return "".join(blocks)


def chosen(
    columns: Sequence[tuple[str, str]], data: Mapping[str, Any]
) -> dict[str, list[Mapping[str, Any]]]:
    """concept -> rows of the gallery: concepts evenly over all that have pictures, of each one
    prompt that keeps the shape and one that changes it, other ones for each concept.
    """
    by_concept: dict[str, list[Mapping[str, Any]]] = {}
    for row in data["rows"]:
        have = [first_thumb(column, row, data) is not None for column in columns]
        if any(have):
            by_concept.setdefault(row["concept"], []).append({**row, "whole": all(have)})
    names = list(by_concept)
    if len(names) > CONCEPTS:
        names = [names[turn * len(names) // CONCEPTS] for turn in range(CONCEPTS)]
    return {name: two_of(by_concept[name], turn) for turn, name in enumerate(names)}


def two_of(rows: Sequence[Mapping[str, Any]], turn: int) -> list[Mapping[str, Any]]:
    """Of one concept's rows one of each kind, or two of the only kind; those that every method has
    drawn, where there are any.
    """
    whole = [row for row in rows if row["whole"]] or list(rows)
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(whole, key=lambda row: row["kind"] != "shape"):
        kinds.setdefault(row["kind"], []).append(row)
    found = [of_kind[turn % len(of_kind)] for of_kind in kinds.values()][:PROMPTS]
    found += [row for row in whole if row not in found][: PROMPTS - len(found)]
    return found


def first_thumb(
    column: tuple[str, str], row: Mapping[str, Any], data: Mapping[str, Any]
) -> int | None:
    """Which thumbnail of the concept shows the first image of a cell; None without one."""
    cell = data["cells"].get("/".join(column), {}).get(row["id"])
    return cell["thumbs"][0] if cell and cell["thumbs"] else None


def concept_html(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    looks: Sequence[tuple[tuple[str, str], Style]],
    data: Mapping[str, Any],
    thumbs: Mapping[str, Sequence[str]],
) -> str:
    """The concept at the left; its prompts, each with a picture of every method, at the right."""
    words = escape(name.replace("_", " ").replace("+", " + "))
    pixels = ' class="pixels"' if data["pixels"] else ""
    own = "".join(
        f'<img{pixels} src="{source}" alt="concept image {number} of {words}">'
        for number, source in enumerate(data["examples"].get(name, [])[:4], 1)
    )
    prompts = []
    for row in rows:
        tiles = "".join(
            tile(column, style, row, data, thumbs[name], pixels)
            for column, style in looks
            if first_thumb(column, row, data) is not None
        )
        said = f'<p class="prompt">“{escape(row["text"])}”</p>'
        prompts.append(f'<div>{said}<ul class="tiles">{tiles}</ul></div>')
    return (
        f'<div class="glance"><div class="who"><div class="examples">{own}</div>'
        f'<p>{words}</p></div><div class="prompts">{"".join(prompts)}</div></div>'
    )


def tile(
    column: tuple[str, str],
    style: Style,
    row: Mapping[str, Any],
    data: Mapping[str, Any],
    thumbs: Sequence[str],
    pixels: str,
) -> str:
    """One picture, with its method under it and its scores in words for those who cannot see it."""
    number = first_thumb(column, row, data)
    assert number is not None
    at = short(column[1])
    score = data["cells"]["/".join(column)][row["id"]]["score"].replace(" · ", ", ")
    alt = f"{style.label}{f' ({at})' if at else ''}, {row['text']}" + (
        f": {score}" if score else ""
    )
    under = f" <small>{escape(at)}</small>" if at else ""
    return (
        f'<li><img{pixels} src="data:image/webp;base64,{thumbs[number]}" alt="{escape(alt)}">'
        f"<span>{mark(style)}{escape(style.label.replace(' lock', ''))}{under}</span></li>"
    )
