"""docs/claims.md and docs/metrics.md: words written by hand around tables that are made from the
committed results.

In: pages with two marks, the folder of results, and that of the judged runs in it. Out: the pages
with the tables between the marks, the forest plot, claims.csv beside the runs; results/README.md
(results_page.py), and the table of README.md (readme_table.py).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from math import isinf, isnan, nan
from pathlib import Path

from benchmarks.evidence import measure_differences, measure_validity
from benchmarks.evidence.all_claims import ledger
from benchmarks.evidence.forest import forest
from benchmarks.evidence.ledger import Evidence, Row
from benchmarks.evidence.one_world import one_world
from benchmarks.evidence.primary_claims import FOLDER as CONFIRM
from benchmarks.evidence.primary_claims import PICTURE as PRIMARY_PICTURE
from benchmarks.evidence.primary_claims import primary_part, primary_rows
from benchmarks.evidence.readme_table import PAPER_RUN, VERIFIED, readme_table
from benchmarks.evidence.resting import Noted, resting_on, runs_of
from benchmarks.evidence.results_page import NOTES, PAGE, anchor, markdown_table, results_page
from benchmarks.evidence.validity import answers
from benchmarks.evidence.verdicts import OPEN, VERDICTS, bold, settled_by, tally
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.table_text import aligned
from perfusion_core.errors import UserError

PICTURE, TABLE = "claims.svg", "claims.csv"
BEGIN, END = "<!-- made by `python -m benchmarks.evidence`: begin -->", "<!-- end -->"
BEGIN_PRIMARY = "<!-- made by `python -m benchmarks.evidence`: primary -->"
BEGIN_MEASURES = "<!-- made by `python -m benchmarks.evidence`: measures -->"
BEGIN_DIFFERENCES = "<!-- made by `python -m benchmarks.evidence`: differences -->"
MEASURED = "measures"  # the run that has all of them
HEADINGS = [
    "measure",
    "the truth",
    "points ranked alike (Spearman)",
    "told apart, ordered alike",
    "better point of a cell (Pearson)",
    "better image of a cell (Pearson)",
]


FACTS = (
    "claim", "group", "where", "measure", "runs", "verdict", "p_true", "settles", "p", "q",
    "part", "value", "lo", "hi", "least", "delta", "concepts", "p_part", "figure",
)  # fmt: skip


def claims_part(
    rows: Sequence[Row], runs: Mapping[str, Sequence[str]], judged: Path, world: str = ""
) -> str:
    """What stands between the marks: the picture, the table, and how each was measured."""
    total = tally(row.finding.verdict for row in rows)
    drawn = f" All was drawn in the [{world} world](miniature.md#worlds)." if world else ""
    head = ["claim", "figure (95 % interval)", "verdict", "P(true); concepts to settle"]
    decided = sorted(rows, key=lambda row: VERDICTS.index(row.finding.verdict))
    lines = [
        [
            f"[{row.claim.says}](#{_number(rows, row)})",
            row.finding.figure,
            bold(row.finding.verdict),
            _sure(row),
        ]
        for row in decided
    ]
    return "\n".join(
        [
            f"![All claims as intervals against their thresholds]({PICTURE})\n",
            f"{len(rows)} claims: {total}.{drawn}\n",
            markdown_table([head, *lines]),
            "\n### How each is measured\n",
            *(_measured(rows, row, runs.get(row.claim.says, ()), judged) for row in rows),
        ]
    )


def _number(rows: Sequence[Row], row: Row) -> str:
    return f"claim-{rows.index(row) + 1}"


def _sure(row: Row) -> str:
    """How likely it is, and how many concepts would tell; nothing where there is no interval."""
    found = row.finding.judged
    if isnan(found.true):
        return ""
    likely = f"{found.true:.3f}"
    needs = settled_by(found) if found.verdict == OPEN else nan
    if isnan(needs):
        return likely
    return f"{likely}; {'over 1,000' if isinf(needs) else f'{needs:.0f}'}"


def _measured(rows: Sequence[Row], row: Row, runs: Sequence[str], judged: Path) -> str:
    number = _number(rows, row)
    links = ", ".join(f"[{run}](../results/{PAGE}#{anchor(judged, run)})" for run in runs)
    return (
        f'<a id="{number}"></a>**{row.claim.says}** ({row.claim.where}). {_sentence(row)}. '
        f"{f'Rests on {links}.' if links else 'Rests on nothing yet.'}\n"
    )


def _sentence(row: Row) -> str:
    words = row.claim.measure
    return words[0].upper() + words[1:]


def claims_facts(rows: Sequence[Row], runs: Mapping[str, Sequence[str]]) -> str:
    """claims.csv: a line a part of a claim, one fact a field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FACTS)
    for row in rows:
        claim, found = row.claim, row.finding.judged
        same = [claim.says, claim.group, claim.where, claim.measure]
        same += [" ".join(runs.get(claim.says, ())), found.verdict]
        same += list(map(_fact, (found.true, settled_by(found), found.p, row.q)))
        for part in found.parts or (None,):
            own: list[str] = [""] * 8
            if part:
                numbers = (*part.found, part.least, part.delta)
                own = [part.name, *map(_fact, numbers), str(part.concepts), _fact(part.against)]
            writer.writerow([*same, *own, row.finding.figure])
    return out.getvalue()


def _fact(value: float) -> str:
    """Six decimals; empty where there is none."""
    return "" if isnan(value) else f"{value:.6g}"


def between(page: str, new: str, mark: str = BEGIN) -> str:
    """The page with what stands between the marks replaced."""
    before, begin, rest = page.partition(mark)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the page has no {mark} ... {END} to write between")
    return f"{before}{mark}\n\n{new}\n{END}{after}"


def metrics_table(evidence: Evidence) -> str:
    try:
        found = answers(evidence)
    except UserError as reason:
        return f"Not measured: {reason}.\n"
    rows = [[one.metric, one.question, one.figure] for one in found]
    return aligned([["score and truth", "question", "figure (95 % interval)"], *rows]) + "\n"


def tables_beyond(evidence: Evidence) -> dict[str, str]:
    """By their marks: what each measure beyond the protocol is worth, beside the protocol's two
    scores in the same cells; and by which of them methods differ."""
    try:
        run = evidence.run(MEASURED)
    except UserError as reason:
        return dict.fromkeys((BEGIN_MEASURES, BEGIN_DIFFERENCES), f"Not measured: {reason}.\n")
    found = measure_validity.answers(run.cells, sample_rows(run.folder))
    worth = [HEADINGS, *([*astuple(one)] for one in found)]
    differ = measure_differences.differences(run.cells)
    return {BEGIN_MEASURES: aligned(worth) + "\n", BEGIN_DIFFERENCES: aligned(differ) + "\n"}


def write_pages(docs: Path, results: Path, judged: Path | None = None) -> str:
    """Both pages, results/README.md where notes.toml is there to make it from, and the table of
    a README.md beside docs/ that has the marks; -> the ledger. `judged`: where the claims' runs
    lie, if not in results itself.
    """
    judged = judged or results
    for folder, what in ((docs, "pages"), (judged, "runs")):
        if not folder.is_dir():
            raise UserError(
                f"there is no folder {folder}/ of {what} here; give the command in the "
                f"repository's folder"
            )
    rows, resting = ledger(judged), resting_on(judged)
    runs = runs_of(resting)
    evidence = Noted(judged)
    metrics, beyond = metrics_table(evidence), tables_beyond(evidence)
    beside = {VERIFIED} if judged == results else set()  # elsewhere its row says its own world
    world = one_world(judged, {*resting, *evidence.seen, PAPER_RUN, *beside})
    made = {"claims.md": claims_part(rows, runs, judged, world), "metrics.md": metrics}
    pages = {
        name: between((docs / name).read_text(encoding="utf-8"), table)
        for name, table in made.items()
    }
    for mark, table in beyond.items():
        pages["metrics.md"] = between(pages["metrics.md"], table, mark)
    primary = primary_rows(results / CONFIRM)
    pages["claims.md"] = between(pages["claims.md"], primary_part(primary), BEGIN_PRIMARY)
    overview = results_page(results, resting, judged) if (results / NOTES).is_file() else None
    for name, page in pages.items():
        (docs / name).write_text(page, encoding="utf-8")
    (docs / PICTURE).write_text(forest(rows), encoding="utf-8")
    if primary:
        drawn = forest([one.row for one in primary])
        (docs / PRIMARY_PICTURE).write_text(drawn, encoding="utf-8")
    (judged / TABLE).write_text(claims_facts(rows, runs), encoding="utf-8")
    if overview is not None:
        (results / PAGE).write_text(overview, encoding="utf-8")
    readme = docs.parent / "README.md"
    if readme.is_file() and BEGIN in (text := readme.read_text(encoding="utf-8")):
        readme.write_text(between(text, readme_table(results, docs, judged)), encoding="utf-8")
    return made["claims.md"]
