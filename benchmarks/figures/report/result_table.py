"""The report's table of results: its rows in the figures' order, intervals drawn, the best in bold.

In: the rows of table.csv. Out: HTML in which everything that comes from a run is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures import plots
from benchmarks.figures.looks import Style, known_looks, split_variant, strangers_among, style_of
from benchmarks.figures.report.html import (
    between,
    format_score,
    html_table,
    interval,
    mark,
    row_head,
    there,
)
from benchmarks.figures.selection import is_main
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import FLOOR, OURS
from benchmarks.tables.table_text import HONEST, seconds_text

METRICS = {
    "image_sim": "Image similarity",
    "text_sim": "Text similarity",
    "harmonic": "Harmonic mean",
}


def reading(table: pd.DataFrame) -> str:
    """What the table's rows, numbers and bold numbers are."""
    n = int(table["n_concepts"].max())
    means = (
        f"Class-balanced means over {n} concepts with 95 % intervals; the concept, not the image, "
        f"is what was replicated."
        if n > 1
        else "Scores of one concept, without intervals: these would need several concepts."
    )
    bold = (
        "Bold: the best of the methods' operating points, and what its interval does not exclude."
        if n > 1
        else "Bold: the best of the methods' operating points."
    )
    best_h = (
        "Best H picks each concept's best operating point on the images it is reported on, so it "
        "is never bold; with split halves it picks on one half of them and reports on the other."
        if (table["kind"] == "best-h").any()
        else ""
    )
    parts = (
        means,
        bold if bars(table) else "",
        "Text similarity is relative to the super-category's, which is 1 by definition.",
        best_h,
        "Copied: cells more similar to the concept's images than these are to each other.",
        "Click a heading to sort.",
    )
    return " ".join(filter(None, parts))


def bars(table: pd.DataFrame) -> dict[str, float]:
    """From which value on a number of each column is bold: the lower end of the best one's interval
    among the methods' operating points. Where there is but one, nothing is the best.
    """
    rows = table[table["kind"] == "method"]
    found = {}
    for metric in METRICS:
        known = rows[rows[metric].notna()]
        if len(rows) < 2 or known.empty:
            continue
        best = known.iloc[int(np.argmax(known[metric].to_numpy(float)))]
        lowest = best[f"{metric}_lo"]
        found[metric] = float(lowest if there(lowest) else best[metric])
    return found


def result_table(table: pd.DataFrame) -> str:
    """The rows of table.csv, in the order of the figures."""
    ranges = {name: column_range(table, name) for name in METRICS}
    titles = (f'<button type="button">{title}</button>' for title in METRICS.values())
    head = ["Method", *titles, "Copied", "Images", "KB", "Training"]
    records = [dict(zip(map(str, table), row)) for row in table.to_numpy()]
    strangers, best = strangers_among(table["method"]), bars(table)
    rows = [result_row(row, ranges, strangers, best) for row in sorted(records, key=row_order)]
    return html_table(head, rows, "full sortable")


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
    row: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float]],
    strangers: Sequence[str],
    best: Mapping[str, float],
) -> str:
    style, name, under = row_name(row, strangers)
    cells = [row_head(named(style, name, under))]
    for metric, (low, high) in ranges.items():
        value, lo, hi = (row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
        if not there(value):
            cells.append("<td></td>")
            continue
        number = format_score(value)
        if row["kind"] == "method" and value >= best.get(metric, np.inf):
            number = f"<strong>{number}</strong>"
        text = f"{number} <small>{between(lo, hi)}</small>"
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


def in_a_sentence(name: str, *more: str) -> str:
    """`DreamBooth (selected step)`, where a comma would read as the sentence's."""
    first, _, rest = name.partition(", ")
    inside = ", ".join(filter(None, (rest, *more)))
    return f"{first} ({inside})" if inside else first


def named(style: Style, name: str, under: str = "") -> str:
    """A series as the first cell of its row."""
    small = f" <small>{escape(under)}</small>" if under else ""
    return f"{mark(style)}{escape(name)}{small}"


def main_methods(table: pd.DataFrame) -> list[str]:
    """Methods as published, in the order of the figures."""
    place = {name: number for number, name in enumerate(known_looks())}
    names = [
        str(name)
        for name in table.loc[table["kind"] == "method", "method"].unique()
        if is_main(name)
    ]
    return sorted(names, key=lambda name: (place.get(split_variant(name)[0], len(place)), name))
