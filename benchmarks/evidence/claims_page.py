"""docs/claims.md and docs/metrics.md: words written by hand around a table that is made from the
committed results.

In: pages with two marks, and the folder of results. Out: the pages with the tables between the
marks; and results/README.md (results_page.py).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence.all_claims import ledger
from benchmarks.evidence.ledger import Evidence, Row
from benchmarks.evidence.results_page import NOTES, PAGE, results_page
from benchmarks.evidence.validity import answers
from benchmarks.tables.table_text import aligned
from perfusion_core.errors import UserError

BEGIN, END = "<!-- made by `python -m benchmarks.evidence`: begin -->", "<!-- end -->"


def claims_table(rows: Sequence[Row]) -> str:
    counted = Counter(row.finding.verdict for row in rows)
    head = ["claim", "in the paper", "measured as", "figure (95 % interval)", "verdict"]
    lines = [
        [row.claim, row.where, row.measure, row.finding.figure, row.finding.verdict] for row in rows
    ]
    total = ", ".join(f"{n} {verdict}" for verdict, n in counted.most_common())
    return f"{aligned([head, *lines])}\n\n{len(rows)} claims: {total}.\n"


def between(page: str, new: str) -> str:
    """The page with what stands between the marks replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the page has no {BEGIN} ... {END} to write between")
    return f"{before}{BEGIN}\n\n{new}\n{END}{after}"


def metrics_table(evidence: Evidence) -> str:
    try:
        found = answers(evidence)
    except UserError as reason:
        return f"Not measured: {reason}.\n"
    rows = [[one.metric, one.question, one.figure] for one in found]
    return aligned([["score and truth", "question", "figure (95 % interval)"], *rows]) + "\n"


def write_pages(docs: Path, results: Path) -> str:
    """Both pages, and results/README.md where notes.toml is there to make it from; -> the
    ledger.
    """
    for folder, what in ((docs, "pages"), (results, "runs")):
        if not folder.is_dir():
            raise UserError(
                f"there is no folder {folder}/ of {what} here; give the command in the "
                f"repository's folder"
            )
    made = {
        "claims.md": claims_table(ledger(results)),
        "metrics.md": metrics_table(Evidence(results)),
    }
    pages = {
        name: between((docs / name).read_text(encoding="utf-8"), table)
        for name, table in made.items()
    }
    overview = results_page(results) if (results / NOTES).is_file() else None
    for name, page in pages.items():
        (docs / name).write_text(page, encoding="utf-8")
    if overview is not None:
        (results / PAGE).write_text(overview, encoding="utf-8")
    return made["claims.md"]
