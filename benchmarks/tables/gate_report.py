"""A check's report in the words of its reader: terminal, pull request, program, CI server, GitHub.

In: a Report. Out: text; FORMATS by name.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from math import isfinite
from typing import Any
from xml.etree import ElementTree

from benchmarks.tables.gate import Report, calibrate_margins, gate_runs
from benchmarks.tables.judging import FAIL, INCONCLUSIVE, PASS, POWER, Finding
from benchmarks.tables.margins import Margin
from benchmarks.tables.table_text import GUESSED, aligned, label
from perfusion_core.errors import UserError, unknown

HEAD = [
    "verdict",
    "what",
    "metric",
    "reference",
    "run",
    "loss [95 %]",
    "margin",
    "caught",
    "because",
]


def name_of(finding: Finding, untuned: Collection[str] = ()) -> str:
    """As a row of the run's table; a CI server knows a case by its name without a mark."""
    named = label("method", finding.method, finding.point, untuned)
    return named + (" (pairs)" if finding.of == "pairs" else "")


def metric_of(finding: Finding) -> str:
    return f"{finding.metric} ({finding.kind})" if finding.kind else finding.metric


def format_loss(value: float) -> str:
    return f"{value:.4f}" if isfinite(value) else "-"


def because(finding: Finding) -> str:
    """The reason for a verdict, in a few words."""
    reasons = []
    if finding.fallen:
        lost = ", ".join(f"{concept} {value:.4f}" for concept, value in finding.fallen)
        reasons.append(f"lost more than the floor of {finding.floor:.3g}: {lost}")
    if finding.prompts:
        lost = ", ".join(
            f"{prompt} {value:.4f} ({floor:.4f})" for prompt, value, floor in finding.prompts[:4]
        )
        more = f" and {len(finding.prompts) - 4} more" if len(finding.prompts) > 4 else ""
        reasons.append(f"prompts that lost more than their floors: {lost}{more}")
    if reasons:
        return "; ".join(reasons)
    if finding.verdict == FAIL:
        return "loss beyond the margin, and its interval excludes zero"
    if finding.verdict == PASS:
        return ""
    unit = finding.of
    if finding.n < 2:
        return f"one of the {unit} has no interval; only its floor can fail"
    needed = finding.settled_by
    return (
        f"{needed} {unit} like these would settle it"
        if needed
        else f"not even 1,000 {unit} would settle it"
    )


def gate_rows(report: Report) -> list[list[str]]:
    rows = []
    for finding in report.findings:
        loss = (
            f"{format_loss(finding.loss.value)} [{format_loss(finding.loss.lo)}, "
            f"{format_loss(finding.loss.hi)}]"
        )
        means = [
            format_loss(finding.reference),
            format_loss(finding.run),
            loss,
            f"{finding.margin:.3g}",
            format_loss(finding.caught),
        ]
        rows.append(
            [
                finding.verdict,
                name_of(finding, report.untuned),
                metric_of(finding),
                *means,
                because(finding),
            ]
        )
    return rows


def power_row(report: Report) -> list[str]:
    """The smallest loss that would be caught with 90 % probability, at the point where that is
    hardest.
    """
    hardest: dict[str, float] = {}
    for finding in report.findings:
        if isfinite(finding.caught):
            metric = metric_of(finding)
            hardest[metric] = max(finding.caught, hardest.get(metric, 0.0))
    parts = ", ".join(f"{metric} {loss:.4f}" for metric, loss in hardest.items())
    return (
        [
            f"power: a loss of {parts} would be caught with {100 * POWER:.0f} % probability at "
            f"every point"
        ]
        if parts
        else []
    )


def gate_summary(report: Report) -> list[str]:
    """What is said below the table; for runs that cannot be compared, all that is said."""
    title = f"{report.verdict}: {report.run} against {report.reference}"
    if report.differences:
        return [title, *(f"differs: {line}" for line in report.differences)]
    counts = {v: sum(f.verdict == v for f in report.findings) for v in (FAIL, INCONCLUSIVE, PASS)}
    lines = [
        f"{title} ({', '.join(f'{n} {verdict}' for verdict, n in counts.items() if n)}; "
        f"{report.margins} margins)"
    ]
    lines += power_row(report)
    lines += [f"not in the run: {', '.join(report.not_run)}"] if report.not_run else []
    if guessed := guesses_in(report):
        lines.append(GUESSED.format(", ".join(guessed)))
    return lines + [f"also differs, which is allowed: {line}" for line in report.notes]


def guesses_in(report: Report) -> list[str]:
    """The untuned methods that are judged."""
    judged = {finding.method for finding in report.findings}
    return [name for name in report.untuned if name in judged]


def gate_table(report: Report) -> str:
    rows = gate_rows(report)
    return aligned([HEAD, *rows]) + "\n\n" if rows else ""


def as_text(report: Report) -> str:
    return gate_table(report) + "\n".join(gate_summary(report)) + "\n"


def as_markdown(report: Report) -> str:
    """For a comment on a pull request: the verdict first, what passes folded away."""
    first, *rest = gate_summary(report)
    lines = [f"### perfbench check: {first}", "", *(f"- {line}" for line in rest), ""]
    rows = gate_rows(report)
    bad = [row for row in rows if row[0] != PASS]
    lines += [aligned([HEAD, *bad]), ""] if bad else []
    if len(bad) < len(rows):
        passed = aligned([HEAD, *(row for row in rows if row[0] == PASS)])
        lines += ["<details><summary>What passed</summary>", "", passed, "", "</details>", ""]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Every number; null where there is none."""
    document: dict[str, Any] = {
        "verdict": report.verdict,
        "status": report.status,
        "run": report.run,
        "reference": report.reference,
        "margins": report.margins,
        "strict": report.strict,
        "differences": list(report.differences),
        "notes": list(report.notes),
        "not_run": list(report.not_run),
        **({"untuned": guessed} if (guessed := guesses_in(report)) else {}),
        "findings": [_plain(finding) for finding in report.findings],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(finding: Finding) -> dict[str, Any]:
    numbers = {
        "reference": finding.reference,
        "run": finding.run,
        "loss": finding.loss.value,
        "lo": finding.loss.lo,
        "hi": finding.loss.hi,
        "margin": finding.margin,
        "floor": finding.floor,
        "caught": finding.caught,
    }
    return {
        "verdict": finding.verdict,
        "of": finding.of,
        "method": finding.method,
        "point": finding.point,
        "metric": finding.metric,
        "kind": finding.kind or None,
        **{key: round(value, 6) if isfinite(value) else None for key, value in numbers.items()},
        "n": finding.n,
        "fallen": {concept: round(lost, 6) for concept, lost in finding.fallen},
        "fallen_prompts": {
            prompt: {"loss": round(lost, 6), "floor": round(floor, 6)}
            for prompt, lost, floor in finding.prompts
        },
        "settled_by": finding.settled_by if finding.verdict == INCONCLUSIVE else None,
    }


def cases(report: Report) -> list[tuple[str, str, str]]:
    """(name, outcome, message) with JUnit's outcomes: passed, failure, skipped (undecided, unless
    strict), error.
    """
    open_ = "failure" if report.strict else "skipped"
    outcome = {PASS: "passed", FAIL: "failure", INCONCLUSIVE: open_}
    found = [("comparable", "error", line) for line in report.differences]
    for finding, row in zip(report.findings, gate_rows(report)):
        message = f"{finding.verdict}: loss {row[5]}, margin {row[6]}: {because(finding)}"
        name = f"{name_of(finding)} {metric_of(finding)}"
        found.append((name, outcome[finding.verdict], message))
    return found + [(point, open_, "not in the run") for point in report.not_run]


def as_junit(report: Report) -> str:
    """A test case a finding."""
    found = cases(report)
    count = Counter(outcome for _, outcome, _ in found)
    counts = {
        "tests": len(found),
        "failures": count["failure"],
        "skipped": count["skipped"],
        "errors": count["error"],
    }
    suite = ElementTree.Element(
        "testsuite", {"name": "perfbench check", **{k: str(v) for k, v in counts.items()}}
    )
    for name, outcome, message in found:
        case = ElementTree.SubElement(suite, "testcase", classname="perfbench.check", name=name)
        if outcome != "passed":
            ElementTree.SubElement(case, outcome, message=message)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_github(report: Report) -> str:
    """Workflow commands that GitHub shows beside a pull request."""
    level = {"failure": "error", "error": "error", "skipped": "warning"}
    lines = [
        _command(level[outcome], name, message)
        for name, outcome, message in cases(report)
        if outcome in level
    ]
    first, *rest = gate_summary(report)
    lines.append(_command("error" if report.status else "notice", "perfbench check", first))
    if not report.differences:
        lines += [_command("notice", "perfbench check", line) for line in rest]
    return "\n".join(lines) + "\n"


def _command(level: str, title: str, message: str) -> str:
    for mark, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        title, message = title.replace(mark, code), message.replace(mark, code)
    for mark, code in ((":", "%3A"), (",", "%2C")):
        title = title.replace(mark, code)
    return f"::{level} title={title}::{message}"


FORMATS = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
    "github": as_github,
}


def limit_lines(metric: str, limit: Margin) -> list[str]:
    prompt = "" if limit.prompt is None else f", floor of a prompt {limit.prompt:g}"
    line = f"{metric}: margin {limit.margin:g}, floor {limit.floor:g}{prompt}"
    kinds = limit.kinds.items()
    return [line, *(one for kind, own in kinds for one in limit_lines(f"{metric} ({kind})", own))]


def check_verb(
    runs: Sequence[str],
    against: str | None,
    margins: str | None,
    *,
    strict: bool,
    form: str,
    repeats: bool,
) -> tuple[str, int]:
    """What `perfbench check` prints, and its exit status."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if repeats:
        path, found = calibrate_margins(runs, against, margins)
        limits = [line for metric, limit in found.items() for line in limit_lines(metric, limit)]
        return "\n".join([f"{path}", *limits]) + "\n", 0
    if against is None:
        raise UserError(
            "perfbench check compares two runs; write perfbench check RUN --against REFERENCE"
        )
    if len(runs) > 1:
        raise UserError(f"one run is checked at a time, not {len(runs)}; --calibrate takes several")
    report = gate_runs(runs[0] if runs else None, against, margins, strict)
    return FORMATS[form](report), report.status
