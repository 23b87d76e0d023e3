"""Both similarities in one number: the paper's, and one that ranks as the truth does.

In: the rows of cells.csv. Out: a row an operating point.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.tables.grid import FLOOR, Grid, ceilings_of, grid_of
from benchmarks.tables.statistics import crossed, harmonic, over_concepts
from perfusion_core.errors import UserError

SCALED = "harmonic_floor_to_ceiling"


def summaries(cells: pd.DataFrame) -> pd.DataFrame:
    """The harmonic mean as the paper has it, and with image similarity from floor to ceiling. The
    scale is part of the name.
    """
    grid = grid_of(cells)
    scaled = scaled_harmonic(grid, ceilings_of(cells))
    means = over_concepts(scaled, grid.draws)
    out = []
    for m, (method, point) in enumerate(grid.points):
        n = int((~np.isnan(scaled[0, m])).sum())
        row: dict[str, object] = {"method": method, "point": point}
        row |= crossed(grid.balanced["harmonic"][:, m], grid.draws, n).named("harmonic")
        row |= crossed(means[:, m], grid.draws, n).named(SCALED)
        out.append(row)
    return pd.DataFrame(out)


def scaled_harmonic(grid: Grid, ceilings: pd.Series) -> np.ndarray:
    """[D, M, C]: image similarity is 0 where `super` is in the same draw and 1 where the concept's
    own images are; NaN where a concept's images are no more alike than that.
    """
    return harmonic(image_share(grid, ceilings, grid.drawn), grid.drawn["text_sim"])


def image_share(grid: Grid, ceilings: pd.Series, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """[..., M, C] of scores [..., M, C]: image similarity from floor to ceiling."""
    if not (floor := grid.rows(FLOOR)):
        raise UserError(
            f"this run has no {FLOOR}, from which image similarity would be counted: give the "
            f"`perfbench run` command again with --methods super"
        )
    image = scores["image_sim"]
    low, high = image[..., floor, :], ceilings.reindex(grid.concepts).to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(high > low, (image - low) / (high - low), np.nan)
