"""Do methods differ in what is measured beyond the protocol? Perfusion less each other one.

In: the cells of a run. Out: a row a measure, with 95 % intervals of differences that are paired by
concept and prompt.
"""

import numpy as np
import pandas as pd

from benchmarks.evidence.verdicts import told
from benchmarks.scoring.measures import MEASURES
from benchmarks.scoring.reserved import OURS
from benchmarks.tables.grid import FLOOR, Grid, grid_of
from benchmarks.tables.measured import measured
from benchmarks.tables.statistics import clustered

POINT = "local-b0.60-t0.15"  # where Perfusion's trained files were picked


def differences(cells: pd.DataFrame, point: str = POINT) -> list[list[str]]:
    """The head, then a row a measure; empty where a method has no cell with the measure."""
    grid = grid_of(cells)
    of = measured(cells, grid)
    values = {name: grid.values[name] for name in ("image_sim", "text_sim_raw")}
    values |= {name: of.values[name] for name in MEASURES if name in of.values}
    ours, others = grid.row((OURS, point)), rivals(grid)
    rows = [["measure", *(method for method, _ in others)]]
    for name, y in values.items():
        told_of = [_told(y[ours] - y[grid.row(other)]) for other in others]
        rows.append([name, *told_of])
    return rows


def rivals(grid: Grid) -> list[tuple[str, str]]:
    return [one for one in grid.points if one[0] not in (OURS, FLOOR)]


def _told(difference: np.ndarray) -> str:
    """[C, P], NaN where one of both has no cell."""
    return "" if np.isnan(difference).all() else told(clustered(difference))
