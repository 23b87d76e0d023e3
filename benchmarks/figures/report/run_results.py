"""The results of the report: the table, the headline comparison, hard cells, uncertainty.

In: a run. Out: HTML in which everything that comes from a run is escaped.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures.looks import strangers_among
from benchmarks.figures.report.html import between, format_score, html_table, row_head, there
from benchmarks.figures.report.result_table import (
    in_a_sentence,
    main_methods,
    named,
    reading,
    result_table,
    row_name,
    row_order,
)
from benchmarks.figures.selection import best_point, is_main, step_of
from benchmarks.scoring.reserved import OURS
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.measured import (
    absent,
    legend_of,
    measure_table,
    measures_in,
    shown_first,
)
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import non_dominated
from benchmarks.tables.table_text import estimate


def results(run: Run, plane: str, data: Mapping[str, Any]) -> str:
    """The table with its intervals drawn, the plane beside the headline comparison, and where the
    uncertainty is; `data`: the gallery's.
    """
    table = run.table
    if table.empty:
        return pairs(run)
    notes = f'<p class="note">{reading(table)}</p>'
    beside = f'<div class="beside">{plane}<div>{gaps(run)}</div></div>' if plane else gaps(run)
    parts = [beside, beyond(run), pairs(run), hard_cells(run, data), spread(run)]
    return result_table(table) + notes + "".join(parts)


def beyond(run: Run) -> str:
    """Measures beyond the protocol, as table.md has them; empty where the run has none."""
    shown, every = measure_table(run.table), measures_in(run.table)
    if not every or shown.empty:
        return ""
    names, others = shown_first(every)
    strangers = strangers_among(run.table["method"])
    body = []
    rows: list[Any] = shown.to_dict("records")
    for row in sorted(rows, key=row_order):
        numbers = [
            estimate(row[name], row[f"{name}_lo"], row[f"{name}_hi"], name) for name in names
        ]
        cells = "".join(f"<td>{escape(number)}</td>" for number in numbers)
        body.append(f"<tr>{row_head(named(*row_name(row, strangers)))}{cells}</tr>")
    legends = "".join(f"<li>{escape(legend_of(name))}</li>" for name in names)
    lacking = absent(run.table)
    note = f'<p class="note">Not measured here: {escape(lacking)}.</p>' if lacking else ""
    if others:
        who = escape(", ".join(others))
        note += f'<p class="note">The same by {who}: perfbench table RUN --by measures</p>'
    table = html_table(["Method", *map(escape, names)], body)
    return f'<h3>Beyond the protocol</h3>{table}<ul class="note">{legends}</ul>{note}'


def pairs(run: Run) -> str:
    """Two concepts in one picture have a table of their own."""
    if run.pair_table is None:
        return ""
    text = '<p class="note">Image similarity is the mean over both concepts.</p>'
    return f"<h3>Pairs of concepts</h3>{result_table(run.pair_table)}{text}"


def singles(run: Run) -> pd.DataFrame:
    return split_pairs(run.cells)[0]


def gaps(run: Run) -> str:
    """The headline comparison: how far Perfusion's front lies beyond each method, at that method's
    image similarity.
    """
    cells = singles(run)
    if OURS not in set(cells["method"]):
        return ""
    found = frames.front_gaps(cells)
    names = {"other": "method", "other_point": "point"}
    # a mask also where there are none
    shown = np.array([is_main(name) for name in found["other"]], dtype=bool)
    others = found[shown].drop(columns="method").rename(columns=names).assign(kind="method")
    rows = sorted((dict(zip(map(str, others), one)) for one in others.to_numpy()), key=row_order)
    if not rows:
        return ""
    title = "<h3>Perfusion's front against the others</h3>"
    met = [row for row in rows if there(row["gap"])]
    if not met:
        return f"{title}<p>{why_no_gap(run.table)}</p>"
    bounded = [row for row in met if there(row["lo"])]
    head = ["Against", "At image<br>similarity", "Text similarity<br>gained"]
    head += ["95 % interval"] * bool(bounded)
    body = []
    for row in met:
        words = [format_score(row["image_sim"]), f"{row['gap']:+.3f}"]
        words += [between(row["lo"], row["hi"])] * bool(bounded)
        cells_ = "".join(f"<td>{word}</td>" for word in words)
        body.append(f"<tr>{row_head(named(*row_name(row, [row['method']])))}{cells_}</tr>")
    text = (
        "<p>Text similarity of Perfusion's front where it is as similar to the concept as the "
        "other method is.</p>"
    )
    notes = []
    if len(bounded) < len(met) and run.table["n_concepts"].max() > 1:
        notes.append(
            "No interval where more than one bootstrap draw in twenty leaves the other method "
            "beyond the front's ends."
        )
    if beyond := [row_name(row, [row["method"]]) for row in rows if not there(row["gap"])]:
        missed = ", ".join(in_a_sentence(name, under) for _, name, under in beyond)
        notes.append(f"The front does not reach the image similarity of {escape(missed)}.")
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return f"{title}{text}{html_table(head, body)}{note}"


def why_no_gap(table: pd.DataFrame) -> str:
    """Why Perfusion's front can be held against none of the others."""
    rows = table[(table["method"] == OURS) & (table["kind"] == "method") & step_of(table).isna()]
    rows = rows[rows["image_sim"].notna() & rows["text_sim"].notna()]
    if len(rows) < 2:
        return "Perfusion was run at one operating point; a front needs several."
    x, y = (rows[metric].to_numpy(float) for metric in ("image_sim", "text_sim"))
    on = x[non_dominated(x, y)]
    reach = f"{on.min():.3f} to {on.max():.3f}" if len(on) > 1 else f"{on[0]:.3f} alone"
    return (
        f"No other method has an image similarity that Perfusion's front reaches ({reach}), so no "
        f"text similarity can be compared at the same image similarity."
    )


def hard_cells(run: Run, data: Mapping[str, Any]) -> str:
    """Where the best operating point of each method does worst, each cell a link to its picture in
    the gallery where that is there.
    """
    found = frames.hardest(singles(run), n=5)
    names = {
        "image_sim": "least like the concept",
        "text_gain": "least like the prompt, against the super-category",
    }
    places = {(row["concept"], row["prompt"]): row["id"] for row in data["rows"]}
    table = run.table[run.table["kind"] == "method"]
    rows = []
    for method in main_methods(table):
        point = best_point(table[table["method"] == method])
        style, name, _ = row_name({"kind": "method", "method": method, "point": point}, [method])
        for metric, words in names.items():
            mine = found[
                (found["method"] == method)
                & (found["point"] == point)
                & (found["metric"] == metric)
            ]
            cells = "; ".join(
                f"{in_gallery(run, row, places, data)} <small>({row['value']:.3f})</small>"
                for row in mine.to_dict("records")
            )
            cells = f'<td class="left">{words}</td><td class="left">{cells}</td>'
            rows.append(f"<tr>{row_head(named(style, name))}{cells}</tr>")
    head = ["Method", "Hardest by", "Cells, the hardest first"]
    return (
        f"<details><summary>Hardest cells of each "
        f"method</summary>{html_table(head, rows, 'full words')}</details>"
    )


def in_gallery(
    run: Run,
    row: Mapping[Any, Any],
    places: Mapping[tuple[str, str], int],
    data: Mapping[str, Any],
) -> str:
    """The prompt of a cell; page.js leads from it to the cell's picture."""
    text = escape(run.text(row["prompt_id"], row["concept"]))
    place = places.get((row["concept"], row["prompt_id"]))
    point = f"{row['method']}/{row['point']}"
    if not data["cells"].get(point, {}).get(place, {}).get("files"):
        return text
    return f'<a href="#gallery" data-shows="{place}" data-point="{escape(point)}">{text}</a>'


def spread(run: Run) -> str:
    """Where uncertainty comes from: tells whether to buy more concepts, more prompts or more
    images.
    """
    found = frames.variance(singles(run))
    table = run.table[run.table["kind"] == "method"]
    rows = []
    for method in main_methods(table):
        point = best_point(table[table["method"] == method])
        style, name, _ = row_name({"kind": "method", "method": method, "point": point}, [method])
        for metric, title in (("image_sim", "image"), ("text_sim_raw", "text")):
            mine = found[
                (found["method"] == method)
                & (found["point"] == point)
                & (found["metric"] == metric)
            ]
            parts = {row["component"]: row for row in mine.to_dict("records")}
            if not parts:
                continue
            shares = [parts[key]["share_of_mean"] for key in ("concept", "prompt", "cell", "image")]
            shares += [1 - parts[key]["if_doubled"] for key in ("concept", "prompt", "image")]
            texts = (f"{share:.0%}" if there(share) else "–" for share in shares)
            cells = "".join(f"<td>{text}</td>" for text in (title, *texts))
            rows.append(f"<tr>{row_head(named(style, name))}{cells}</tr>")
    head = ["Method", "Similarity", "concepts", "prompts", "their pairing", "images",
            "twice the concepts", "twice the prompts", "twice the images"]  # fmt: skip
    text = """<p class="note">How much of the variance of the mean each contributes, and by how \
much its interval would
narrow with twice as many: what to buy next. With one image a cell, images count as part of the \
pairing.</p>"""
    if not rows:
        return ""
    return (
        f"<details><summary>Where the uncertainty comes "
        f"from</summary>{text}{html_table(head, rows)}</details>"
    )
