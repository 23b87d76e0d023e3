"""The table of README.md: what was reached, a row a question.

In: the folder of results, that of the judged runs in it, and docs/, once claims.csv and metrics.md
are made. Out: the table, each number from a committed file that its row links to.
"""

import csv
import re
from collections import Counter
from pathlib import Path

from benchmarks.evidence.one_world import one_world
from benchmarks.evidence.results_page import markdown_table
from benchmarks.evidence.verdicts import FAILS, HOLDS, OPEN, SAME, TRADE_OFF, counted
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError

PAPER_RUN, VERIFIED, SMALL = "miniature-paper", "miniature-verify", "A trained concept is small"
RANKED = "| image similarity, true identity | operating points ranked alike (Spearman) |"


def readme_table(results: Path, docs: Path, judged: Path | None = None) -> str:
    """`judged`: where the claims' runs and claims.csv lie, if not in results itself."""
    judged = judged or results
    claims = list(csv.DictReader((judged / "claims.csv").open(encoding="utf-8", newline="")))
    world = one_world(judged, [PAPER_RUN])
    told = f" ([{world} world](docs/miniature.md#worlds))" if world else ""
    paper = (judged.relative_to(results) / PAPER_RUN).as_posix()
    rows = [
        ["what", f"reached{told}", "where"],
        ["the whole protocol", _pictures(judged), f"[table](results/{paper}/table.md)"],
        ["the paper's claims", _verdicts(claims), "[claims](docs/claims.md)"],
        ["a concept's file", _size(claims), "[claim](docs/claims.md)"],
        [
            "CLIP's ranks of points against the [truth](docs/glossary.md#truth)",
            _rank(docs),
            "[metrics](docs/metrics.md)",
        ],
        ["goals of the miniature", _goals(results, world), "[miniature](docs/miniature.md)"],
    ]
    return markdown_table(rows)


def _pictures(judged: Path) -> str:
    table = open_run(str(judged / PAPER_RUN)).table
    drawn = table[table["kind"].isin(["method", "floor"])]
    there, planned = int(drawn["n_images"].sum()), int(drawn["n_planned"].sum())
    return f"{there:,} of {planned:,} pictures, {int(drawn['n_concepts'].max())} concepts"


def _verdicts(claims: list[dict[str, str]]) -> str:
    """How many there are, and how many of each verdict."""
    verdicts = Counter({row["claim"]: row["verdict"] for row in claims}.values())
    told = [counted(verdicts[one], one) for one in (HOLDS, FAILS, OPEN, TRADE_OFF, SAME)]
    return f"of {verdicts.total()}: {', '.join(told)}"


def _size(claims: list[dict[str, str]]) -> str:
    found = [row["figure"] for row in claims if row["claim"].startswith(SMALL)]
    if not found:
        raise UserError(f"claims.csv has no claim that begins with {SMALL!r}")
    kilobytes, others = found[0].split("; ")
    return f"{kilobytes}; {others}"


def _rank(docs: Path) -> str:
    """Spearman's rho of docs/metrics.md, with its interval."""
    page = re.sub(r" +", " ", (docs / "metrics.md").read_text(encoding="utf-8"))
    line = next((line for line in page.splitlines() if line.startswith(RANKED)), None)
    if line is None:
        raise UserError("docs/metrics.md has no row of operating points ranked alike")
    return f"image similarity: rho {line.split('|')[3].strip().replace('+', '')}"


def _goals(results: Path, others: str) -> str:
    """Of today's weights, whose world is told where it is not that of the other rows."""
    page = (results / VERIFIED / "verify.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    found = Counter(cell for line in cells for cell in line if cell in ("met", "not met"))
    world = one_world(results, [VERIFIED])
    told = f" ({world} world)" if world != others else ""
    return f"{found['met']} of {found.total()} met{told}"
