"""Cells as arrays, so that statistics are plain functions of them.

In: the rows of cells.csv. Out: a Grid of [operating point, concept, prompt], and what the bootstrap
draws make of it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from benchmarks.scoring.measures import is_measure
from benchmarks.scoring.reserved import FLOOR as FLOOR
from benchmarks.scoring.reserved import REAL
from benchmarks.tables.statistics import (
    N_DRAWS,
    SEED,
    Draws,
    crossed_draws,
    drawn_means,
    harmonic,
    over_concepts,
    relative_text,
)

CEILING = REAL
Point = tuple[str, str]  # (method, point)


@dataclass(frozen=True)
class Grid:
    """Cell means of every (method, point), NaN where there is no cell."""

    points: list[Point]
    concepts: list[str]
    prompts: list[str]  # ids
    groups: list[str]  # of each concept
    kinds: list[str]  # of each prompt
    values: dict[str, np.ndarray]  # metric -> [M, C, P]
    halves: dict[str, np.ndarray]  # metric -> [2, M, C, P]: means over even and over odd indices
    n: dict[str, np.ndarray]  # metric -> [M, C, P] images
    sd: dict[str, np.ndarray]
    seed: int = SEED  # of the bootstrap
    n_draws: int = N_DRAWS

    def row(self, point: Point) -> int:
        return self.points.index(point)

    def rows(self, method: str) -> list[int]:
        return [m for m, (name, _) in enumerate(self.points) if name == method]

    @cached_property
    def strata(self) -> np.ndarray:
        """[P] what a prompt is exchangeable with: prompts of its kind that the same groups, or the
        same pairs, have.
        """
        there = np.any([~np.isnan(v).all(0) for v in self.values.values()], axis=0)  # [C, P]
        groups = np.array(
            self.concepts if set(self.groups) == {"pair"} else self.groups, dtype=object
        )
        names = [
            f"{kind} {' '.join(sorted(set(groups[there[:, p]])))}"
            for p, kind in enumerate(self.kinds)
        ]
        return np.array(names, dtype=object)

    @cached_property
    def draws(self) -> Draws:
        return crossed_draws(len(self.concepts), self.strata, self.n_draws, self.seed)

    @cached_property
    def base(self) -> np.ndarray:
        """[C, P] raw text similarity of `super`, which normalised text similarity divides by; NaN
        without it.
        """
        rows = self.rows(FLOOR)
        return self.values["text_sim_raw"][rows[0]] if rows else np.full(self.shape, np.nan)

    @property
    def extra(self) -> list[str]:
        """Metrics beside the two that the protocol reports: of a second scorer, or of a pair's
        concepts. Measures beyond the protocol are no part of a grid (measured.py).
        """
        return [metric for metric in self.values if metric not in ("image_sim", "text_sim_raw")]

    @cached_property
    def images(self) -> np.ndarray:
        """[M, C, P] scored images."""
        return np.max(list(self.n.values()), axis=0)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Per-concept scores, metric -> [M, C]."""
        c, p = self.shape
        once = Draws(np.ones((1, c), dtype=np.int64), np.ones((1, p), dtype=np.int64))
        return {metric: drawn[0] for metric, drawn in _scores(self.values, self.base, once).items()}

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.concepts), len(self.prompts)

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """Per-concept scores in every bootstrap draw, metric -> [D, M, C]; draw 0 is the
        estimate.
        """
        return _scores(self.values, self.base, self.draws)

    @cached_property
    def drawn_halves(self) -> list[dict[str, np.ndarray]]:
        """The same from images of even index alone, and from those of odd index alone."""
        return [
            _scores({k: v[h] for k, v in self.halves.items()}, self.base, self.draws)
            for h in (0, 1)
        ]

    @cached_property
    def balanced(self) -> dict[str, np.ndarray]:
        """The means over concepts in every draw, metric -> [D, M]."""
        return {metric: over_concepts(drawn, self.draws) for metric, drawn in self.drawn.items()}


def _scores(values: dict[str, np.ndarray], base: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """Per-concept means, and from them the two scores that are not means: text_sim and harmonic."""
    raw = values["text_sim_raw"]
    scores = {metric: drawn_means(y, draws) for metric, y in values.items()}
    shared = ~np.isnan(raw) & ~np.isnan(base)  # a ratio of means over the same prompts
    same = (shared == ~np.isnan(raw)).all()
    above = scores["text_sim_raw"] if same else drawn_means(np.where(shared, raw, np.nan), draws)
    # every point has the same cells: then one divisor is enough
    whole = (shared == shared[:1]).all()
    below = drawn_means(np.where(shared[:1] if whole else shared, base, np.nan), draws)
    scores["text_sim"] = relative_text(above, below)
    scores["harmonic"] = harmonic(scores["image_sim"], scores["text_sim"])
    return scores


def grid_of(cells: pd.DataFrame) -> Grid:
    """Arrange cells. `real` has no prompts and is left out, and so are measures beyond the
    protocol, which need not be of the same cells; pairs and single concepts come apart
    (tables.split).
    """
    cells = protocol_cells(cells[cells["method"] != CEILING])
    named = [_ranked(cells, names) for names in (["method", "point"], ["concept"], ["prompt_id"])]
    of_point, of_concept, of_prompt = (first for first, _ in named)
    at = tuple(rank for _, rank in named)
    points = list(of_point[["method", "point"]].itertuples(index=False, name=None))
    shape = len(points), len(of_concept), len(of_prompt)
    values, halves, n, sd = {}, {}, {}, {}
    for metric in [
        "image_sim",
        "text_sim_raw",
        *sorted(set(cells["metric"].unique()) - {"image_sim", "text_sim_raw"}),
    ]:
        mine = (cells["metric"] == metric).to_numpy()
        where = tuple(axis[mine] for axis in at)

        def fill(
            column: str,
            empty: float,
            mine: np.ndarray = mine,
            where: tuple[np.ndarray, ...] = where,
        ) -> np.ndarray:
            out = np.full(shape, empty)
            out[where] = cells[column].to_numpy(dtype=float)[mine]
            return out

        values[metric], n[metric], sd[metric] = (
            fill("mean", np.nan),
            fill("n", 0),
            fill("sd", np.nan),
        )
        halves[metric] = np.stack([fill("even", np.nan), fill("odd", np.nan)])
    return Grid(
        points,
        list(of_concept["concept"]),
        list(of_prompt["prompt_id"]),
        list(of_concept["group"].astype(str)),
        list(of_prompt["kind"]),
        values,
        halves,
        n,
        sd,
    )


def protocol_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of measures."""
    measures = [one for one in cells["metric"].unique() if is_measure(str(one))]
    return cells[~cells["metric"].isin(measures)] if measures else cells


def ceilings_of(cells: pd.DataFrame) -> pd.Series:
    """concept -> real-against-real similarity: the mean over its own images of the similarity to
    the others.
    """
    real = cells[(cells["method"] == CEILING) & (cells["metric"] == "image_sim")]
    return real.set_index("concept")["mean"]


def _ranked(cells: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The first row of each combination of values, in their order; and [n] the place of every row's
    among them.
    """
    codes = np.zeros(len(cells), dtype=np.int64)
    for name in names:
        code, values = pd.factorize(cells[name], sort=True)
        codes = codes * len(values) + code
    _, first, rank = np.unique(codes, return_index=True, return_inverse=True)
    return cells.iloc[first], rank
