"""What the columns of a table mean to a reader: a title, which way is better, a line of legend.

In: names of columns. Out: `Words`, or nothing for a column that is no axis.
"""

from typing import NamedTuple

from benchmarks.figures.report.result_table import METRICS
from benchmarks.scoring.measures import HIGHER, LOWER, MEASURES, measure_of, scorer_of
from benchmarks.tables.costs import LEGENDS as COST_LEGENDS
from benchmarks.tables.costs import WORDS as COSTS
from benchmarks.tables.measured import legend_of
from benchmarks.tables.views import LEGENDS

BETTER, WORSE, NEITHER = 1, -1, 0  # what a higher value is
# of the protocol, in the order of the lists
PROTOCOL = {**METRICS, "text_sim_raw": "Text similarity, raw"}
OTHERS = ("image_sim_a", "image_sim_b", "image_sim", "text_sim_raw", "text_sim")


class Words(NamedTuple):
    title: str
    better: int
    legend: str
    fixed: bool = False  # of a whole method: no filter of prompts or concepts moves it


def words_of(column: str) -> Words | None:
    """Of a column that can be an axis; None for names, counts and ends of intervals."""
    if column in PROTOCOL:
        return Words(PROTOCOL[column], BETTER, LEGENDS.get(column, ""))
    if column in COSTS:
        title, unit = COSTS[column]
        legend = COST_LEGENDS.get(column, "")
        return Words(f"{title} ({unit})" if unit else title, WORSE, legend, fixed=True)
    if one := measure_of(column):
        way = {LOWER: BETTER, HIGHER: WORSE}.get(one.loss, NEITHER)
        scorer = scorer_of(column)
        return Words(f"{one.label}, by {scorer}" if scorer else one.label, way, legend_of(column))
    if column == "copied":
        legend = (
            "copied: share of cells more like the concept's images than these are to each other"
        )
        return Words("Cells that copy", WORSE, legend)
    for name in OTHERS:  # of a pair's concepts, of another scorer
        if column == name or column.startswith(f"{name}_"):
            title = PROTOCOL.get(name, f"Image similarity to concept {name[-1]}")
            scorer = column[len(name) + 1 :]
            return Words(f"{title}, by {scorer}" if scorer else title, BETTER, "")
    return None


def in_reading_order(columns: set[str]) -> list[str]:
    """The protocol's columns first, then measures, other scorers, costs."""
    order = [*PROTOCOL, *MEASURES, "copied"]

    def place(column: str) -> tuple[int, int, str]:
        if column in order:
            return 0, order.index(column), column
        return (2 if column in COSTS else 1), 0, column

    return sorted(columns, key=place)
