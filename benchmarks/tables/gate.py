"""The regression gate: the cells of two runs, paired, and margins in; verdicts and an exit status
out.

A loss FAILS where it is beyond the margin and its 95 % interval excludes zero, or where one concept
loses more than its floor. It PASSES where the interval shows that it is smaller than the margin.
Anything else is INCONCLUSIVE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, isfinite, nan, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from benchmarks.store.csv_files import is_there
from benchmarks.store.reading import imported_methods, refuse_older
from benchmarks.tables.comparable import (
    KEYS,
    apart,
    changes,
    conditions_of,
    differing,
    points_of,
    same_weights,
    scored,
    some,
    unpaired,
)
from benchmarks.tables.margins import METRICS, SETS, Margin, Margins, read_margins, write_margins
from benchmarks.tables.run_view import Run, open_run
from benchmarks.tables.statistics import Interval, clustered, mean_over, t_quantile
from perfusion_core.errors import UserError, unknown

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
POWER = 0.90


@dataclass(frozen=True)
class Finding:
    """What is known about one metric of one operating point. A loss is reference minus run; a gain
    is negative.
    """

    of: str  # concepts, or pairs
    method: str
    point: str
    metric: str
    reference: float
    run: float
    loss: Interval
    margin: float
    floor: float
    n: int  # concepts
    fallen: tuple[tuple[str, float], ...]  # concepts that lost more than the floor, and how much

    @property
    def verdict(self) -> str:
        if self.fallen or (self.loss.value > self.margin and self.loss.lo > 0):
            return FAIL
        return PASS if self.loss.hi < self.margin else INCONCLUSIVE

    @property
    def caught(self) -> float:
        """The smallest loss that would FAIL with 90 % probability, given this many concepts and
        this much noise.
        """
        half = self.loss.hi - self.loss.value
        se = half / t_quantile(self.n)
        return max(self.margin, half) + float(t.ppf(POWER, self.n - 1)) * se if self.n > 1 else nan

    @property
    def settled_by(self) -> int | None:
        """How many concepts of this kind would settle an INCONCLUSIVE; None where not even 1,000
        would.
        """
        if self.n < 2:
            return None
        value, se = self.loss.value, (self.loss.hi - self.loss.value) / t_quantile(self.n)
        room = self.margin - value if value <= self.margin else value
        needed = (
            n for n in range(self.n + 1, 1001) if t_quantile(n) * se * sqrt(self.n / n) < room
        )
        return next(needed, None)


@dataclass(frozen=True)
class Report:
    """A comparison of two runs. `differences` make it impossible; `notes` are what else differs,
    and may.
    """

    run: str
    reference: str
    margins: str
    findings: tuple[Finding, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    # operating points, concepts and prompts of the reference that the run was not asked for
    not_run: tuple[str, ...]
    strict: bool

    @property
    def undecided(self) -> bool:
        return bool(self.not_run) or any(
            finding.verdict == INCONCLUSIVE for finding in self.findings
        )

    @property
    def verdict(self) -> str:
        if self.differences:
            return "NOT COMPARABLE"
        if any(finding.verdict == FAIL for finding in self.findings):
            return FAIL
        return INCONCLUSIVE if self.undecided else PASS

    @property
    def status(self) -> int:
        """The exit status."""
        if self.differences:
            return 2
        return int(self.verdict == FAIL or (self.strict and self.undecided))


# ---- what was lost? ----


def losses(
    reference: pd.DataFrame, run: pd.DataFrame
) -> dict[tuple[str, str, str, str], pd.DataFrame]:
    """(concepts or pairs, method, point, metric) -> cells by concept and prompt: reference, run and
    loss.
    """
    paired = reference.merge(run[[*KEYS, "mean"]], on=KEYS, suffixes=("_reference", "_run"))
    paired["of"] = np.where(paired["kind"] == "pair", "pairs", "concepts")
    paired["loss"] = paired["mean_reference"] - paired["mean_run"]
    return {
        (str(of), str(method), str(point), str(metric)): cells
        for (of, method, point, metric), cells in paired.groupby(
            ["of", "method", "point", "metric"], sort=True
        )
    }


def layout(cells: pd.DataFrame, column: str) -> tuple[list[str], np.ndarray]:
    """Concepts, and [C, P] of a column."""
    wide = cells.pivot(index="concept", columns="prompt_id", values=column)
    return [str(name) for name in wide.index], wide.to_numpy(dtype=float)


def finding(key: tuple[str, str, str, str], cells: pd.DataFrame, margin: Margin) -> Finding:
    concepts, loss = layout(cells, "loss")
    before, now = (
        clustered(layout(cells, f"mean_{which}")[1]).value for which in ("reference", "run")
    )
    per_concept = mean_over(loss)
    fallen = tuple(
        (name, float(lost)) for name, lost in zip(concepts, per_concept) if lost > margin.floor
    )
    return Finding(
        *key, before, now, clustered(loss), margin.margin, margin.floor, len(concepts), fallen
    )


def compare(reference: pd.DataFrame, run: pd.DataFrame, margins: Margins) -> tuple[Finding, ...]:
    """A verdict a method, point and metric that both have; cells in any order of rows and
    columns.
    """
    found = losses(scored(reference), scored(run))
    return tuple(finding(key, cells, margins[key[3]]) for key, cells in found.items())


# ---- run folders ----


def gate_runs(
    run: str | None, against: str, margins: str | None = None, strict: bool = False
) -> Report:
    """`run` (none: the newest) judged by the margins beside the reference."""
    mine, reference = open_run(run), open_run(against)
    if mine.folder.resolve() == reference.folder.resolve():
        raise UserError(
            f"{mine.folder} cannot be checked against itself; name another run, or another "
            f"reference"
        )
    for one in (reference, mine):
        refuse_older(one.folder, one.about)
    wanted = SETS[0] if same_weights(reference.about, mine.about) else SETS[1]
    margins = _set_name(margins)
    before, now = reference.about, mine.about
    differences = differing(before, now)
    of_reference, of_run = scored(reference.cells), scored(mine.cells)
    gone = points_of(of_reference) - points_of(of_run)
    lost = [" ".join(point) for point in sorted(gone & asked_points(mine))]
    not_run = [point for point in map(" ".join, sorted(gone)) if point not in lost]
    notes = changes(conditions_of(before), conditions_of(now))
    if imported := sorted(imported_methods(before) | imported_methods(now)):
        notes += [f"unpaired over images, as imported: {', '.join(imported)}"]
    if not differences:
        of_reference, of_run, differences, not_asked, more = apart(
            of_reference, of_run, now["digests"]
        )
        differences += (
            [f"{some(lost, 'operating point')} without any score in the run"] if lost else []
        )
        differences = differences or unpaired(of_reference, of_run)
        not_run, notes = not_run + not_asked, notes + more
    name, limits = ("", {}) if differences else read_margins(reference.folder, margins, wanted)
    return Report(
        run=mine.name,
        reference=reference.name,
        margins=name,
        findings=() if differences else compare(of_reference, of_run, limits),
        differences=tuple(differences),
        notes=tuple(notes),
        not_run=tuple(not_run),
        strict=strict,
    )


def asked_points(run: Run) -> set[tuple[str, str]]:
    """The operating points of its plan; what is kept of a run as a reference has none."""
    return points_of(run.plan) if is_there(run.folder / "plan.csv") else set()


def _set_name(margins: str | None) -> str | None:
    if margins is not None and margins not in SETS:
        raise unknown("margins", margins, SETS)
    return margins


def calibrate_margins(
    runs: Sequence[str], against: str | None = None, margins: str | None = None
) -> tuple[Path, Margins]:
    """Margins from runs of one thing, repeated; written to check.toml beside the reference, or the
    first of them.
    """
    if len(runs) < 2:
        raise UserError(
            "--calibrate needs repeated runs, five or more; write perfbench check --calibrate RUN "
            "RUN RUN"
        )
    opened = [open_run(run) for run in runs]
    if len({run.folder.resolve() for run in opened}) < len(opened):
        raise UserError(
            "--calibrate was given the same run twice; every repeat is a run folder of its own"
        )
    first = opened[0]
    target = open_run(against) if against else first
    for one in [*opened, target]:
        refuse_older(one.folder, one.about)
    for other in [*opened[1:], target]:
        differences = differing(first.about, other.about)
        if not differences and other is not target:  # a reference may have more
            differences = unpaired(scored(first.cells), scored(other.cells))
        if differences:
            raise UserError(
                f"{other.folder} is no repeat of {first.folder}: {'; '.join(differences)}"
            )
    name = (
        _set_name(margins)
        or SETS[0 if all(same_weights(first.about, run.about) for run in opened[1:]) else 1]
    )
    found = margins_from([run.cells for run in opened])
    return write_margins(target.folder, name, found, [run.name for run in opened]), found


def margins_from(repeats: Sequence[pd.DataFrame]) -> Margins:
    """One and a half of the largest loss that an interval between two repeats still allows: a
    repeat that they did not see passes as well, a fifth of the margin lost besides. A floor: the
    same of the largest loss of one concept."""
    limits: dict[str, list[Margin]] = {metric: [] for metric in METRICS}
    for one, other in combinations([scored(cells) for cells in repeats], 2):
        for (_, _, _, metric), cells in losses(one, other).items():
            _, loss = layout(cells, "loss")
            value, _, hi = clustered(loss)
            half = hi - value if isfinite(hi) else 0.0
            per_concept = float(np.abs(mean_over(loss)).max())
            limits[metric].append(Margin(1.5 * (abs(value) + half), 1.5 * per_concept))
    for metric, found in limits.items():
        if not found:
            raise UserError(
                f"the repeats have no {metric} in common, so nothing tells how much it differs by "
                f"chance"
            )
    return {metric: _widest(found) for metric, found in limits.items()}


def _widest(found: Sequence[Margin]) -> Margin:
    margin = _up(max(limit.margin for limit in found))
    return Margin(margin, max(margin, _up(max(limit.floor for limit in found))))


def _up(value: float) -> float:
    """Rounded up to a thousandth, and not under two: less than that nobody sees in an image."""
    return max(ceil(round(value * 1000, 6)) / 1000, 0.002)
