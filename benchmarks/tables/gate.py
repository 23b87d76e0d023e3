"""The regression gate: two run folders and margins in; verdicts and an exit status out.

Runs that cannot be compared are not; cells are paired, and judging.py says what was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, isfinite
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.store.csv_files import is_there
from benchmarks.store.reading import imported_methods, refuse_older, untuned_methods
from benchmarks.tables import judged_measures
from benchmarks.tables.comparable import (
    KEYS,
    apart,
    changes,
    conditions_of,
    differing,
    of_two_worlds,
    points_of,
    same_weights,
    scored,
    seed_of,
    some,
    unpaired,
)
from benchmarks.tables.judging import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    UNTOLD,
    Finding,
    Key,
    Scores,
    judge,
    of_fewer,
    wider,
)
from benchmarks.tables.margins import (
    METRICS,
    OTHER_SEED,
    SETS,
    Margin,
    Margins,
    has_margins,
    read_margins,
    write_margins,
)
from benchmarks.tables.run_view import Run, open_run
from benchmarks.tables.statistics import clustered, mean_over
from perfusion_core.errors import UserError, unknown

ENOUGH = 5  # repeats: what fewer tell of prompts and kinds only widens what margin and floor imply


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
    untuned: tuple[str, ...] = ()  # methods whose rates were a guess in either run

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


def paired(reference: pd.DataFrame, run: pd.DataFrame) -> dict[Key, Scores]:
    """Concepts or pairs, method, point, metric -> the scores of the cells that both have."""
    both = reference.merge(run[[*KEYS, "mean"]], on=KEYS, suffixes=("_reference", "_run"))
    both["of"] = np.where(both["kind"] == "pair", "pairs", "concepts")
    groups = both.groupby(["of", "method", "point", "metric"], sort=True)
    return {
        (str(of), str(method), str(point), str(metric)): layout(cells)
        for (of, method, point, metric), cells in groups
    }


def layout(cells: pd.DataFrame) -> Scores:
    wide = cells.pivot(
        index="concept", columns="prompt_id", values=["mean_reference", "mean_run"]
    ).astype(float)
    before, now = wide["mean_reference"], wide["mean_run"]
    kinds = cells.drop_duplicates("prompt_id").set_index("prompt_id")["kind"]
    return Scores(
        [str(name) for name in wide.index],
        [str(name) for name in before.columns],
        kinds.reindex(before.columns).astype(str).to_numpy(dtype=object),
        before.to_numpy(),
        now.to_numpy(),
    )


def compare(reference: pd.DataFrame, run: pd.DataFrame, margins: Margins) -> tuple[Finding, ...]:
    """A verdict a method, point and metric that both have, and one a kind of prompts; cells in any
    order of rows and columns.
    """
    found = paired(scored(reference), scored(run))
    return tuple(
        one for key, scores in found.items() for one in judge(key, scores, margins[key[3]])
    )


def compare_measures(
    reference: pd.DataFrame, run: pd.DataFrame, margins: Margins
) -> tuple[tuple[Finding, ...], list[str]]:
    """The same of measures beyond the protocol that both have and that have a margin; and what of
    them is not judged.
    """
    notes = []
    if others := judged_measures.other_pictures(reference, run):
        notes = [f"other held-out pictures of {', '.join(others)}: likeness to them is not judged"]
    before, now = (
        judged_measures.without(judged_measures.measure_cells(cells), others)
        for cells in (reference, run)
    )
    found = judged_measures.signed(paired(before, now))
    findings = tuple(
        one
        for key, scores in found.items()
        if key[3] in margins
        for one in judge(key, scores, margins[key[3]])
    )
    return findings, notes + judged_measures.untold(before, now, margins)


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
    margins = _set_name(margins)
    before, now = reference.about, mine.about
    wanted = SETS[0] if same_weights(before, now) else SETS[1]
    refused = of_two_worlds("the reference", before, "the run", now)
    differences = [refused] if refused else differing(before, now)
    if seed_of(before) != seed_of(now) and not refused:
        wanted = OTHER_SEED
        if margins not in (None, OTHER_SEED) or not has_margins(reference.folder, OTHER_SEED):
            differences.append(
                f"seed: {seed_of(before)} -> {seed_of(now)}, which draws other noise: of "
                f"{'those' if margins else 'the'} margins none are for that; repeats of other "
                f"seeds make [{OTHER_SEED}] (perfbench check --calibrate RUN RUN RUN --against "
                f"{reference.folder})"
            )
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
    findings: tuple[Finding, ...] = ()
    if not differences:
        found, told = compare_measures(reference.cells, mine.cells, limits)
        findings, notes = compare(of_reference, of_run, limits) + found, notes + told
    return Report(
        run=mine.name,
        reference=reference.name,
        margins=name,
        findings=findings,
        differences=tuple(differences),
        notes=tuple(notes),
        not_run=tuple(not_run),
        strict=strict,
        untuned=tuple(dict.fromkeys(untuned_methods(before) + untuned_methods(now))),
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
    name = _set_name(margins) or _kind_of_repeats(opened)
    seeds = {seed_of(run.about) for run in opened}
    if (len(seeds) > 1) != (name == OTHER_SEED):
        raise UserError(
            f"--margins {name} does not fit these repeats, which have "
            f"{'seeds of their own' if len(seeds) > 1 else 'one seed'}: make [{OTHER_SEED}] from "
            f"repeats of different seeds, and the others from repeats of one"
        )
    found = margins_from([run.cells for run in opened])
    return write_margins(target.folder, name, found, [run.name for run in opened]), found


def _kind_of_repeats(runs: Sequence[Run]) -> str:
    """Which margins they make: what else but chance differs between them."""
    first = runs[0].about
    if len({seed_of(run.about) for run in runs}) > 1:
        return OTHER_SEED
    return SETS[0] if all(same_weights(first, run.about) for run in runs[1:]) else SETS[1]


def margins_from(repeats: Sequence[pd.DataFrame]) -> Margins:
    """One and a half of the largest loss that an interval between two repeats still allows: a
    repeat that they did not see passes as well, a fifth of the margin lost besides. A floor: the
    same of the largest loss of one concept, and of one prompt. Each kind of prompts has its own.
    Fewer repeats than ENOUGH only widen the limits of prompts and kinds."""
    limits: dict[str, list[Margin]] = {metric: [] for metric in METRICS}
    kinds: dict[str, dict[str, list[Margin]]] = {}
    first: dict[str, Scores] = {}
    judged = [pd.concat([scored(one), judged_measures.measure_cells(one)]) for one in repeats]
    for one, other in combinations(judged, 2):
        for (_, _, _, metric), scores in paired(one, other).items():
            limits.setdefault(metric, []).append(allowed(scores))
            kinds.setdefault(metric, {})
            first.setdefault(metric, scores)
            for kind in scores.several:
                kinds[metric].setdefault(kind, []).append(allowed(scores.of_kind(kind)))
    for metric, found in limits.items():
        if not found:
            raise UserError(
                f"the repeats have no {metric} in common, so nothing tells how much it differs by "
                f"chance; repeat the run with the same concepts and prompts"
            )
    told = {
        metric: replace(
            widest(found),
            kinds={k: replace(widest(own), prompt=None) for k, own in kinds[metric].items()},
        )
        for metric, found in limits.items()
    }
    if len(repeats) >= ENOUGH:
        return told
    return {metric: only_wider(limit, first[metric]) for metric, limit in told.items()}


def only_wider(limit: Margin, scores: Scores) -> Margin:
    """Without limits of prompts and kinds that are under what margin and floor imply: the largest
    of a few repeats' many differences does not show that less suffices."""
    prompt = limit.prompt if (limit.prompt or 0.0) > UNTOLD * limit.floor else None
    every, kinds = ~np.isnan(scores.loss), {}
    for kind, own in limit.kinds.items():
        implied = of_fewer(limit, every, ~np.isnan(scores.of_kind(kind).loss))
        if own.margin > implied.margin or own.floor > implied.floor:
            margin = _up(max(own.margin, implied.margin))
            kinds[kind] = Margin(margin, _up(max(own.floor, implied.floor)))
    return replace(limit, prompt=prompt, kinds=kinds)


def allowed(scores: Scores) -> Margin:
    loss = scores.loss
    value, _, hi = clustered(loss)
    half = hi - value if isfinite(hi) else 0.0
    per_concept = float(np.nanmax(np.abs(mean_over(loss))))
    per_prompt = float(np.nanmax(np.abs(mean_over(loss.T)) / wider(loss)))
    return Margin(1.5 * (abs(value) + half), 1.5 * per_concept, 1.5 * per_prompt)


def widest(found: Sequence[Margin]) -> Margin:
    margin = _up(max(limit.margin for limit in found))
    floor = _up(max(limit.floor for limit in found))
    prompt = _up(max(limit.prompt or 0.0 for limit in found))
    return Margin(margin, max(margin, floor), max(margin, prompt))


def _up(value: float) -> float:
    """Rounded up to a thousandth, and not under two: less than that nobody sees in an image."""
    return max(ceil(round(value * 1000, 6)) / 1000, 0.002)
