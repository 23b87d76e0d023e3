"""The primary claims in docs/claims.md: what the confirmatory run says of each.

In: the run's folder, once `python -m benchmarks.evidence.confirm judge` has written looks.csv. Out:
rows for the forest plot and the part of the page. Without looks there are no rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from scipy.special import ndtr

from benchmarks.evidence.confirm_looks import CROSSED
from benchmarks.evidence.confirm_page import EXPLORATORY, LOOKS_TABLE, read_looks
from benchmarks.evidence.confirm_plan import BOTH, PLAN, Primary, read_confirm_plan
from benchmarks.evidence.ledger import Claim, Evidence, Finding, Row
from benchmarks.evidence.results_page import markdown_table
from benchmarks.evidence.verdicts import OPEN, VERDICTS, Judged, Part, bold, tally, told
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

FOLDER, PICTURE = "confirm", "claims-primary.svg"
GROUP = "Primary, written down before the data"
NOT_MADE = (
    "The [confirmatory run](experiments.md#the-confirmatory-run) has not been looked at yet.\n"
)


@dataclass(frozen=True)
class PrimaryRow:
    """A claim at the look that counts; its row as the forest plot takes it."""

    row: Row
    look: int
    concepts: int
    power: float  # of the whole plan, for a difference of the claim's delta
    crossed: bool
    exploratory: bool  # its rule is younger than its data

    @property
    def word(self) -> str:
        """The verdict, as the table shows it."""
        return f"{EXPLORATORY if self.exploratory else ''}{bold(self.row.finding.verdict)}"

    @property
    def sure(self) -> str:
        finding = self.row.finding
        likely = f"{finding.judged.true:.3f}"
        if self.crossed and finding.verdict != OPEN:
            return likely
        return f"{likely}; {f'q {self.row.q:.3f}' if self.crossed else f'{self.power:.2f}'}"


def primary_rows(folder: Path) -> list[PrimaryRow]:
    """A row a claim of the plan, in its order."""
    if not (folder / LOOKS_TABLE).is_file():
        return []
    final = {row["claim"]: row for row in read_looks(folder) if row["q"]}
    claims = read_confirm_plan(folder / PLAN).claims
    if lost := [claim.name for claim in claims if claim.name not in final]:
        raise UserError(
            f"{folder / LOOKS_TABLE} says nothing of {lost[0]}; `python -m "
            f"benchmarks.evidence.confirm judge` writes it again"
        )
    return [_row(claim, final[claim.name]) for claim in claims]


def _row(claim: Primary, found: dict[str, str]) -> PrimaryRow:
    concepts = int(found["concepts"])
    first = _interval(found, "value", "lo", "hi")
    parts = [Part("image" if claim.part.measure == BOTH else "", first, concepts)]
    if found["text"]:
        parts.append(Part("text", _interval(found, "text", "text_lo", "text_hi"), concepts))
    judged = Judged(
        found["verdict"], float(ndtr(float(found["z"]))), float(found["p"]), tuple(parts)
    )
    figure = ", ".join(f"{part.name} {told(part.found)}".strip() for part in parts)
    row = Row(
        Claim(claim.says, claim.where, claim.part.words, GROUP, _not_here),
        Finding(figure, judged),
        float(found["q"]),
    )
    power = float(found["power"]) if found["power"] else nan
    return PrimaryRow(row, int(found["look"]), concepts, power, found["status"] == CROSSED,
                      found["exploratory"] == "yes")  # fmt: skip


def _interval(found: dict[str, str], *names: str) -> Interval:
    return Interval(*(float(found[name]) if found[name] else nan for name in names))


def _not_here(_: Evidence) -> Finding:
    raise UserError("primary claims are judged by `python -m benchmarks.evidence.confirm judge`")


def primary_part(rows: Sequence[PrimaryRow]) -> str:
    """What stands between the page's marks: the picture, and the table with decided rows first."""
    if not rows:
        return NOT_MADE
    total = tally(one.row.finding.verdict for one in rows)
    looked = max(one.concepts for one in rows)
    head = ["claim", "figure (its look's interval)", "verdict", "P(true); where open, power or q"]
    by_verdict = sorted(rows, key=lambda one: VERDICTS.index(one.row.finding.verdict))
    lines = [
        [
            f"{one.row.claim.says} ({one.row.claim.where})",
            one.row.finding.figure,
            one.word,
            one.sure,
        ]
        for one in by_verdict
    ]
    return "\n".join(
        [
            f"![Primary claims as intervals against zero]({PICTURE})\n",
            f"{len(rows)} claims: {total}, on up to {looked} concepts. Every look, with its "
            f"boundary, is in [looks.md](../results/{FOLDER}/looks.md).\n",
            markdown_table([head, *lines]),
        ]
    )
