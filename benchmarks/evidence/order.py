"""Does the order hold with the other text encoder: `python -m benchmarks.evidence.order`.

In: the confirmatory run and the one of the copy, with whole concepts in both. Out: order.csv and
order.md in the copy's folder, by the rule of results/confirm-contrastive/plan.md.
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.advice import advised
from benchmarks.disk import write_whole
from benchmarks.evidence.confirm_ledger import left_out, read_begun, whole_concepts
from benchmarks.evidence.confirm_measures import AXES, Scored, mean_with_interval
from benchmarks.evidence.confirm_page import read_cells
from benchmarks.evidence.confirm_plan import BOTH, PLAN, Compared, ConfirmPlan, read_confirm_plan
from benchmarks.evidence.results_page import markdown_table
from benchmarks.evidence.verdicts import told
from benchmarks.paths import RESULTS
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

TABLE, PAGE = "order.csv", "order.md"
COLUMNS = ("claim", "axis", "concepts", "first", "first_lo", "first_hi", "second", "second_lo",
           "second_hi", "change", "change_lo", "change_hi", "verdict")  # fmt: skip
HOLDS, REVERSED, OPEN = "holds", "reversed", "open"
WORDS = {"image_sim": "image", "text_sim": "text"}


@dataclass(frozen=True)
class Axis:
    """One claim's difference on one axis, with each text encoder."""

    claim: str
    says: str
    axis: str
    concepts: int
    first: Interval
    second: Interval
    change: Interval  # of the second less the first, within each concept

    @property
    def verdict(self) -> str:
        sides = side_of(self.first), side_of(self.second)
        if 0 in sides:
            return OPEN
        return HOLDS if sides[0] == sides[1] else REVERSED


def side_of(found: Interval) -> int:
    """1 above zero, -1 below, 0 where the interval holds zero."""
    return int(found.lo > 0) - int(found.hi < 0)


def of_both(verdicts: Sequence[str]) -> str:
    """Of a rival, by its axes."""
    if REVERSED in verdicts:
        return REVERSED
    return HOLDS if set(verdicts) == {HOLDS} else OPEN


def compared(first: Path, second: Path) -> list[Axis]:
    """Each claim of the second run that compares both axes, on the concepts that both have."""
    plans = [read_confirm_plan(folder / PLAN) for folder in (first, second)]
    names = shared_concepts(first, second, plans[1])
    scored = [
        Scored(read_cells(folder, plan, names)) for folder, plan in zip((first, second), plans)
    ]
    found: list[Axis] = []
    for claim in plans[1].claims:
        if claim.part.measure != BOTH:
            continue
        for axis in AXES:
            one, other = (difference(each, axis, claim.part) for each in scored)
            intervals = [mean_with_interval(values) for values in (one, other, other - one)]
            found.append(Axis(claim.name, claim.says, axis, len(names), *intervals))
    return found


def difference(scored: Scored, axis: str, part: Compared) -> np.ndarray:
    """A number a concept."""
    values: np.ndarray = scored.side(axis, part.of)[0] - scored.side(axis, part.minus)[0]
    return values


def shared_concepts(first: Path, second: Path, plan: ConfirmPlan) -> list[str]:
    """The concepts of the second run's last look, less those that either left out."""
    names = list(read_begun(second).get("concepts") or ())[: plan.looks.concepts[-1]]
    aside = left_out(first) | left_out(second)
    wanted = [name for name in names if name not in aside]
    for folder in (second, first):
        there = whole_concepts(folder)
        if not wanted or (lacking := [name for name in wanted if name not in there]):
            one = f"{lacking[0]} is not" if wanted else "no concept is"
            raise UserError(
                f"{one} whole in {folder}; `python -m benchmarks.evidence.confirm run --folder "
                f"{folder}` goes on"
            )
    return wanted


def order_csv(rows: Sequence[Axis]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = [x for one in (row.first, row.second, row.change) for x in one]
        values = [f"{value:.6g}" for value in numbers]
        writer.writerow([row.claim, row.axis, row.concepts, *values, row.verdict])
    return out.getvalue()


def order_text(rows: Sequence[Axis]) -> str:
    by_claim = {row.claim: [one for one in rows if one.claim == row.claim] for row in rows}
    lines = [
        [
            row.says,
            WORDS[row.axis],
            told(row.first),
            told(row.second),
            told(row.change),
            row.verdict,
        ]
        for row in rows
    ]
    head = ["claim", "axis", "first text encoder", "the other", "change", "order"]
    words = [f"- {each[0].says}: **{of_both([one.verdict for one in each])}**." for each in
             by_claim.values()]  # fmt: skip
    return "\n".join(
        [
            "# Does the order hold with the other text encoder?",
            "",
            "Written by `python -m benchmarks.evidence.order` from the rows of both runs. The rule "
            "is in [plan.md](plan.md). Differences are Perfusion's to a rival; intervals are 95 % "
            f"(t), of the {rows[0].concepts} concepts that both have.",
            "",
            *words,
            "",
            markdown_table([head, *lines]),
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.order",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--first", type=Path, default=RESULTS / "confirm", metavar="DIR")
    parser.add_argument(
        "--second", type=Path, default=RESULTS / "confirm-contrastive", metavar="DIR"
    )
    args = parser.parse_args()

    def made() -> tuple[str, str]:
        rows = compared(args.first, args.second)
        return order_csv(rows), order_text(rows)

    write_both("order", args.second / TABLE, args.second / PAGE, made)


def write_both(name: str, table: Path, page: Path, made: Callable[[], tuple[str, str]]) -> None:
    """An experiment's table and its page, which is shown; what is wrong is one sentence."""
    try:
        rows, text = made()
    except UserError as error:
        print(f"{name}: {advised(error)}", file=sys.stderr)
        sys.exit(2)
    write_whole(table, rows)
    write_whole(page, text)
    print(text, end="")


if __name__ == "__main__":
    main()
