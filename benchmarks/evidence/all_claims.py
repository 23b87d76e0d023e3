"""All claims with what was found: the modules of claims fill the ledger in the order of their
imports.

In: the committed runs. Out: a row a claim.
"""

from pathlib import Path

from benchmarks.evidence import claims_front, claims_parts, claims_seen
from benchmarks.evidence.ledger import CLAIMS, SEEDS, Evidence, Row, settled

FAMILIES = (claims_front, claims_parts, claims_seen)  # as the page lists them


def ledger(results: Path) -> list[Row]:
    """Every claim with what was found in a folder of runs."""
    drawn = [Evidence(results, seed) for seed in SEEDS]
    return [
        Row(says, where, measure, settled(find, drawn)) for says, where, measure, find in CLAIMS
    ]
