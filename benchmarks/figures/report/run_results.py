"""The results of the report: the table with its intervals drawn, the headline comparison, hard
cells, uncertainty.

In: a run. Out: HTML in which everything that comes from a run is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures import plots
from benchmarks.figures.report.html import (
    between,
    format_score,
    html_table,
    interval,
    mark,
    plural,
    there,
)
from benchmarks.figures.selection import best_point, is_main
from benchmarks.figures.style import Style, known_looks, split_variant, strangers_among, style_of
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import FLOOR, OURS
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.run_view import Run
from benchmarks.tables.table_text import HONEST, seconds_text

METRICS = {
    "image_sim": "Image similarity",
    "text_sim": "Text similarity",
    "harmonic": "Harmonic mean",
}


def results(run: Run, plane: str) -> str:
    """The table with its intervals drawn, the plane beside the headline comparison, and where the
    uncertainty is.
    """
    table = run.table
    if table.empty:
        return pairs(run)
    n = int(table["n_concepts"].max())
    notes = f"""<p class="note">Class-balanced means over {plural(n, "concept")} with 95 % \
intervals; the
concept, not the image, is what was replicated. Text similarity is relative to the \
super-category's, which is 1 by
definition. Best H picks each concept's best operating point on the images it is reported on; with \
split halves it picks
on one half of them and reports on the other. Copied: cells more similar to the concept's images \
than these are to each
other. Click a heading to sort.</p>"""
    beside = f'<div class="beside">{plane}<div>{gaps(run)}</div></div>' if plane else gaps(run)
    return result_table(table) + notes + beside + pairs(run) + hard_cells(run) + spread(run)


def result_table(table: pd.DataFrame) -> str:
    """The rows of table.csv, in the order of the figures."""
    ranges = {name: column_range(table, name) for name in METRICS}
    titles = (f'<button type="button">{title}</button>' for title in METRICS.values())
    head = ["Method", *titles, "Copied", "Images", "KB", "Training"]
    records = [dict(zip(map(str, table), row)) for row in table.to_numpy()]
    strangers = strangers_among(table["method"])
    rows = [result_row(row, ranges, strangers) for row in sorted(records, key=row_order)]
    return html_table(head, rows, "full sortable")


def pairs(run: Run) -> str:
    """Two concepts in one picture have a table of their own."""
    if run.pair_table is None:
        return ""
    text = '<p class="note">Image similarity is the mean over both concepts.</p>'
    return f"<h3>Pairs of concepts</h3>{result_table(run.pair_table)}{text}"


def row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Methods as in the figures, local before global lock, Best H after its points; floor and
    ceiling last.
    """
    place = {name: number for number, name in enumerate(known_looks())}
    last = {"floor": 1, "ceiling": 2}.get(row["kind"], 0)
    base, variant = split_variant(row["method"])
    best = row["kind"] == "best-h"
    point = OperatingPoint.parse(row["point"]) if row["kind"] == "method" else OperatingPoint()
    return (
        last, place.get(base, len(place)), base, variant, best, best and row["point"] == HONEST,
        point.lock != "local", point.bias or 0.0, row["point"],
    )  # fmt: skip


def column_range(table: pd.DataFrame, metric: str) -> tuple[float, float]:
    """What the little interval lines of a column have in common."""
    values = table[[metric, f"{metric}_lo", f"{metric}_hi"]].to_numpy(float)
    return (float(pd.Series(values.ravel()).min()), float(pd.Series(values.ravel()).max()))


def row_name(row: Mapping[str, Any], strangers: Sequence[str] = ()) -> tuple[Style, str, str]:
    """A row's look, its name, and the operating point under it."""
    kind, method, point = row["kind"], row["method"], row["point"]
    if kind == "best-h":
        honest = point == HONEST
        style = plots.best_look(method, honest)
        name = plots.best_look(method, False).label if method == OURS else style.label
        return style, name, "split halves" if honest else ""
    if kind == "ceiling":
        return Style("", "#5f6368", "D", fill=False), "Real images", "ceiling"
    if kind == "floor":
        return style_of(FLOOR), "Super-category", "floor"
    parsed = OperatingPoint.parse(point)
    style = style_of(method, parsed.lock, strangers)
    if point == "default":
        return style, style.label, ""
    if parsed.bias is None:
        return style, style.label, point
    warmth = "" if parsed.temperature is None else f", τ {parsed.temperature:g}"
    step = "" if parsed.step is None else f", s = {parsed.step}"
    return style, style.label, f"β {parsed.bias:.2f}{warmth}{step}"


def result_row(
    row: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], strangers: Sequence[str]
) -> str:
    style, name, under = row_name(row, strangers)
    cells = [
        f"<td>{mark(style)}{escape(name)}{f' <small>{escape(under)}</small>' if under else ''}</td>"
    ]
    for metric, (low, high) in ranges.items():
        value, lo, hi = (row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
        if not there(value):
            cells.append("<td></td>")
            continue
        text = f"{format_score(value)} <small>{between(lo, hi)}</small>"
        line = interval(value, lo, hi, low, high, style.colour)
        cells.append(f'<td data-value="{value:.6f}">{text}{line}</td>')
    copied = f"{row['copied']:.0%}" if there(row["copied"]) else ""
    n, planned = int(row["n_images"]), int(row["n_planned"])
    images = f"{n:,}" if n == planned else f'<span class="bad">{n:,} of {planned:,}</span>'
    size = f"{row['kilobytes']:,.0f}" if there(row["kilobytes"]) else ""
    cells += [
        f"<td>{text}</td>" for text in (copied, images, size, seconds_text(row["train_seconds"]))
    ]
    classes = f"{row['kind']} honest" if row["point"] == HONEST else row["kind"]
    return f'<tr class="{classes}">{"".join(cells)}</tr>'


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
    rows = []
    for row in sorted(
        (dict(zip(map(str, others), one)) for one in others.to_numpy()), key=row_order
    ):
        style, name, under = row_name(row, [row["method"]])
        words = [format_score(row["image_sim"]), f"{row['gap']:+.3f}" if there(row["gap"]) else "–"]
        words.append(between(row["lo"], row["hi"]) or "–")
        under = f" <small>{escape(under)}</small>" if under else ""
        rest = "".join(f"<td>{word}</td>" for word in words)
        rows.append(f"<tr><td>{mark(style)}{escape(name)}{under}</td>{rest}</tr>")
    if not rows:
        return ""
    head = ["Against", "At image<br>similarity", "Text similarity<br>gained", "95 % interval"]
    text = (
        "<p>Text similarity of Perfusion's front where it is as similar to the concept as the "
        "other method is.</p>"
    )
    note = (
        '<p class="note">– where the front does not reach that far, or the interval would lie '
        "beyond its ends.</p>"
    )
    note = note if any("–" in row for row in rows) else ""
    return f"<h3>Perfusion's front against the others</h3>{text}{html_table(head, rows)}{note}"


def main_methods(table: pd.DataFrame) -> list[str]:
    """Methods as published, in the order of the figures."""
    place = {name: number for number, name in enumerate(known_looks())}
    names = [
        str(name)
        for name in table.loc[table["kind"] == "method", "method"].unique()
        if is_main(name)
    ]
    return sorted(names, key=lambda name: (place.get(split_variant(name)[0], len(place)), name))


def hard_cells(run: Run) -> str:
    """Where the best operating point of each method does worst."""
    found = frames.hardest(singles(run), n=5)
    names = {
        "image_sim": "least like the concept",
        "text_gain": "least like the prompt, against the super-category",
    }
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
                f"{escape(run.text(row['prompt_id'], row['concept']))} "
                f"<small>({row['value']:.3f})</small>"
                for row in mine.to_dict("records")
            )
            cells = f'<td class="left">{words}</td><td class="left">{cells}</td>'
            rows.append(f"<tr><td>{mark(style)}{escape(name)}</td>{cells}</tr>")
    head = ["Method", "Hardest by", "Cells, the hardest first"]
    return (
        f"<details><summary>Hardest cells of each "
        f"method</summary>{html_table(head, rows, 'full words')}</details>"
    )


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
            rows.append(f"<tr><td>{mark(style)}{escape(name)}</td>{cells}</tr>")
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
