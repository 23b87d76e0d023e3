"""What the confirmatory run's claims are about, in the concepts of one look.

In: the cells of these concepts. Out: a difference, one on each axis, or two fronts, with 95 %
intervals.

The unit is the concept, and the prompts are the protocol's own, not a sample of others: they are
fixed. So concepts that come later bring information of their own, in proportion to their number,
which the boundaries suppose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from benchmarks.evidence.confirm_plan import BOTH, FRONT, Compared
from benchmarks.evidence.verdicts import Part
from benchmarks.tables.dominance import DECIDING, epsilon
from benchmarks.tables.grid import Grid, Point, grid_of
from benchmarks.tables.measured import measured
from benchmarks.tables.statistics import (
    SEED,
    Interval,
    expanded,
    mean_over,
    relative_text,
    t_quantile,
)
from perfusion_core.errors import UserError

TEXT_OF_DEFORM = "text_sim_deform"
AXES = ("image_sim", "text_sim")


@dataclass(frozen=True)
class Scored:
    """The scores of a look's concepts."""

    cells: pd.DataFrame

    @cached_property
    def grid(self) -> Grid:
        return grid_of(self.cells)

    @cached_property
    def _beyond(self) -> dict[str, np.ndarray]:
        return {name: mean_over(y) for name, y in self._by_prompt.items()}

    @cached_property
    def _by_prompt(self) -> Mapping[str, np.ndarray]:
        """[M, C, P] of measures beyond the protocol."""
        return measured(self.cells, self.grid).values

    @property
    def names(self) -> list[str]:
        return [*self.grid.scores, *self._beyond]

    def of(self, measure: str) -> np.ndarray:
        """[M, C] a concept's own score at each point."""
        if measure == TEXT_OF_DEFORM:
            return self._text_of("deform")
        found = self.grid.scores.get(measure, self._beyond.get(measure))
        if found is None:
            raise UserError(f"the rows have no {measure}; draw with what it needs, and score again")
        return found

    def _text_of(self, kind: str) -> np.ndarray:
        """Relative text similarity on the prompts of one kind."""
        mine = [p for p, one in enumerate(self.grid.kinds) if one == kind]
        raw, base = self.grid.values["text_sim_raw"][..., mine], self.grid.base[..., mine]
        both = ~np.isnan(raw) & ~np.isnan(base)
        above = mean_over(np.where(both, raw, np.nan))
        return relative_text(above, mean_over(np.where(both, base, np.nan)))

    def side(self, measure: str, points: Sequence[Point]) -> np.ndarray:
        """[K, C]; a missing value is refused."""
        mine = [self.grid.row(point) for point in points]
        found = self.of(measure)[mine]
        lacking = np.isnan(found) | self._gaps(measure)[mine]
        if lacking.any():
            k, c = np.argwhere(lacking)[0]
            raise UserError(
                f"{self.grid.concepts[c]} has no {measure} of {'/'.join(points[k])}; the same "
                f"command of the run makes what is missing"
            )
        return found

    def _gaps(self, measure: str) -> np.ndarray:
        """[M, C] where a point lacks a prompt of a concept that another point has: over different
        prompts, means do not compare. Some measures are made of some points only.
        """
        y = self._by_prompt.get(measure)
        if y is None:  # the protocol's own; the plan tells what is missing
            return np.zeros((len(self.grid.points), len(self.grid.concepts)), dtype=bool)
        there = ~np.isnan(y)
        made = there.any((1, 2))
        return made[:, None] & (there[made].any(0) & ~there).any(-1)

    def parts(self, what: Compared) -> tuple[Part, ...]:
        """A difference; of both axes one on each; of fronts, how far each is ahead."""
        if what.measure == FRONT:
            return self._fronts(what)
        return tuple(
            Part(measure, mean_with_interval(difference), len(difference))
            for measure, difference in self.differences(what).items()
        )

    def differences(self, what: Compared) -> dict[str, np.ndarray]:
        """A number a concept; of both axes, one on each."""
        found = {}
        for measure in AXES if what.measure == BOTH else (what.measure,):
            ours, theirs = (self.side(measure, points) for points in (what.of, what.minus))
            found[measure] = ours.mean(0) - theirs.mean(0)
        return found

    def _fronts(self, what: Compared) -> tuple[Part, ...]:
        """Additive epsilons of the mean fronts, over bootstrap draws of concepts. The best of
        several points is too good by chance, which draws do not correct: these decide nothing.
        """
        sides = [
            tuple(self.side(measure, points) for measure in AXES)
            for points in (what.of, what.minus)
        ]
        n = sides[0][0].shape[1]
        rng = np.random.default_rng(SEED)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=DECIDING)
        times = np.vstack([np.ones((1, n)), drawn]) / n  # the estimate first
        (x, y), (u, v) = [[times @ scores.T for scores in side] for side in sides]
        ahead, behind = epsilon(x, y, u, v), epsilon(u, v, x, y)
        return (
            Part("ahead", expanded(ahead, n), n),
            Part("behind", expanded(behind, n), n),
        )


def mean_with_interval(values: np.ndarray) -> Interval:
    """Of a number a concept: the t interval."""
    n, mean = len(values), float(values.mean())
    half = t_quantile(n) * float(values.std(ddof=1)) / float(np.sqrt(n))
    return Interval(mean, mean - half, mean + half)
