"""All claims with what was found: the modules of claims fill the ledger in the order of their
imports.

In: the committed runs. Out: a row a claim.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.evidence import claims_front, claims_parts, claims_seen
from benchmarks.evidence.ledger import CLAIMS, Evidence, Finding, Row, found_out
from benchmarks.evidence.verdicts import ABSENT, LEVEL, OPEN, adjusted

FAMILIES = (claims_front, claims_parts, claims_seen)  # as the page lists them


AMONG = "; decided alone, and not among {n} claims (q = {q:.2f})"


def ledger(results: Path) -> list[Row]:
    """Every claim with what was found in a folder of runs. What is decided by itself and would
    stand out among so many by chance is left undecided.
    """
    evidence = Evidence(results)
    found = [found_out(claim, evidence) for claim in CLAIMS]
    qs = adjusted([one.judged.p for one in found])
    n = sum(q == q for q in qs)
    return [
        Row(claim, among(one, q, n), q) for claim, one, q in zip(CLAIMS, found, qs, strict=True)
    ]


def among(found: Finding, q: float, n: int) -> Finding:
    """A finding as one of n."""
    if found.verdict in (ABSENT, OPEN) or not q > LEVEL:
        return found
    figure = found.figure + AMONG.format(n=n, q=q)
    return Finding(figure, replace(found.judged, verdict=OPEN))
