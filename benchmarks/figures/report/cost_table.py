"""The report's table of costs: a row a method, a column a cost that somebody measured.

In: a run. Out: HTML in which everything that comes from a run is escaped; nothing where no cost is
known.
"""

from html import escape
from typing import Any

from benchmarks.figures import plots
from benchmarks.figures.looks import strangers_among, style_of
from benchmarks.figures.report.html import html_table, row_head, there
from benchmarks.figures.report.result_table import named
from benchmarks.figures.selection import in_order, step_of
from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.tables.costs import DECIMALS, WORDS, costs_view
from benchmarks.tables.run_view import Run

NOTE = (
    "Means over a method's trained concepts. Memory is what was needed beyond the backbone with "
    "nothing applied. A picture: drawn alone, the base model in turn with the concept. A field is "
    "empty where nobody measured; docs/statistics.md has the definitions."
)


def cost_table(run: Run) -> str:
    """In the order of the figures."""
    table = run.first_table
    found = costs_view(table).set_index("method")
    columns = [name for name in NUMBERS if found[name].notna().any()]
    if not columns:
        return ""
    methods = table[(table["kind"] == "method") & step_of(table).isna()]
    order = dict.fromkeys(one.method for one in in_order(plots.series_of(methods)))
    order |= dict.fromkeys(map(str, found.index))
    strangers = strangers_among(methods["method"])
    rows = []
    for method in order:
        row: Any = found.loc[method]
        style = style_of(method, strangers=strangers)
        cells = [row_head(named(style, style.label))]
        cells += [f"<td>{number(float(row[name]), name)}</td>" for name in columns]
        cells.append(f"<td>{escape(str(row[DEVICE] or ''))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = ["Method", *map(heading, columns), "Device"]
    return f'{html_table(head, rows)}<p class="note">{NOTE}</p>'


def heading(name: str) -> str:
    words, unit = WORDS[name]
    return f"{words}<br><small>{unit}</small>" if unit else words


def number(value: float, name: str) -> str:
    return f"{value:,.{DECIMALS[name]}f}" if there(value) else ""
