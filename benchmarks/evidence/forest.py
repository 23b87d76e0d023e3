"""The forest plot of docs/claims.md: a line a claim, its interval against its threshold, its colour
the verdict.

In: rows of the ledger. Out: an SVG as text, the same bytes for the same rows, in light and dark.
"""

import textwrap
from collections.abc import Sequence
from html import escape
from itertools import groupby

from benchmarks.evidence.ledger import Row
from benchmarks.evidence.verdicts import (
    ABSENT,
    FAILS,
    HOLDS,
    OPEN,
    SAME,
    TRADE_OFF,
)

# told apart by everybody (Okabe and Ito), and by their marks
COLOURS = {
    HOLDS: "#0072b2",
    FAILS: "#d55e00",
    TRADE_OFF: "#cc79a7",
    SAME: "#009e73",
    OPEN: "#8a8a8a",
    ABSENT: "#8a8a8a",
}
REACH = 0.25  # of the axis to either side; what lies further out ends in an arrow
TEXT, PLOT, EDGE = 470, 360, 24  # pixels
LINE, HEAD, WRAP = 15, 26, 72
STYLE = """text{font:12px system-ui,sans-serif;fill:#1f2328}
.group{font-weight:600}.small{font-size:11px;fill:#59636e}
.axis{stroke:#59636e}.grid{stroke:#d1d9e0}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}
.axis{stroke:#9198a1}.grid{stroke:#3d444d}}"""


def forest(rows: Sequence[Row]) -> str:
    """All claims, in their groups."""
    parts, y = [_legend()], 2 * HEAD
    top = y
    for group, members in groupby(rows, key=lambda row: row.claim.group):
        y += HEAD
        parts.append(f'<text class="group" x="{EDGE}" y="{y - 8}">{escape(group)}</text>')
        for row in members:
            lines = textwrap.wrap(row.claim.says, WRAP, break_on_hyphens=False)
            parts.append(_line(row, lines, y))
            y += LINE * len(lines) + 5
    parts.insert(1, _axis(top, y))
    width, height = TEXT + PLOT + 2 * EDGE, y + 2 * HEAD
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Forest plot of all claims">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _x(value: float) -> float:
    share = min(max(value / REACH, -1.0), 1.0)
    return round(EDGE + TEXT + PLOT / 2 * (1 + share), 1)


def _legend() -> str:
    x, out = EDGE, []
    for verdict in (HOLDS, FAILS, TRADE_OFF, SAME, OPEN):
        out.append(_mark(verdict, x + 6, HEAD - 6))
        out.append(f'<text x="{x + 18}" y="{HEAD - 2}">{verdict}</text>')
        x += 36 + 7 * len(verdict)
    return "\n".join(out)


def _axis(top: int, bottom: int) -> str:
    out = []
    for tick in (-0.2, -0.1, 0.0, 0.1, 0.2):
        kind = "grid" if tick else "axis"
        out.append(f'<path class="{kind}" d="M{_x(tick)} {top}V{bottom}"/>')
        label = f"{tick:+.1f}" if tick else "threshold"
        out.append(
            f'<text class="small" x="{_x(tick)}" y="{bottom + 16}" text-anchor="middle">'
            f"{label}</text>"
        )
    words = "below: against the claim"
    out.append(
        f'<text class="small" x="{_x(-REACH)}" y="{bottom + 34}">{words}</text>'
        f'<text class="small" x="{_x(REACH)}" y="{bottom + 34}" text-anchor="end">'
        "above: for the claim</text>"
    )
    return "\n".join(out)


def _line(row: Row, lines: Sequence[str], y: int) -> str:
    """Its words, and the interval of the part on which it hangs."""
    verdict, part = row.finding.verdict, row.finding.judged.limiting
    colour, middle = COLOURS[verdict], y + LINE * len(lines) / 2
    out = [
        f'<text x="{EDGE}" y="{y + LINE * (k + 1) - 4}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    ]
    if part is None:
        out.append(
            f'<text class="small" x="{_x(0) + 6}" y="{middle + 4}">{escape(verdict)}'
            f"{'' if verdict == ABSENT else ', no interval'}</text>"
        )
    else:
        value, lo, hi = (each - part.least for each in part.found)
        ends = f"M{_x(lo)} {middle}H{_x(hi)}"
        arrows = "".join(
            f"M{_x(end) + side * 8} {middle - 4}L{_x(end) + side * 13} {middle}"
            f"L{_x(end) + side * 8} {middle + 4}"
            for end, side in ((lo, -1), (hi, 1))
            if side * end > REACH
        )
        out.append(f'<path d="{ends}{arrows}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(_mark(verdict, _x(value), middle))
    title = f"<title>{escape(row.finding.figure)}: {verdict}</title>"
    return f"<g>{title}\n" + "\n".join(out) + "\n</g>"


def _mark(verdict: str, x: float, y: float) -> str:
    """A shape of its own for each verdict."""
    shapes = {
        HOLDS: f'<circle cx="{x}" cy="{y}" r="5"',
        FAILS: f'<rect x="{x - 4.5}" y="{y - 4.5}" width="9" height="9"',
        TRADE_OFF: f'<path d="M{x} {y - 6}L{x + 6} {y}L{x} {y + 6}L{x - 6} {y}Z"',
        SAME: f'<path d="M{x - 5} {y - 4}H{x + 5}V{y - 1}H{x - 5}ZM{x - 5} {y + 1}H{x + 5}'
        f'V{y + 4}H{x - 5}Z"',
    }
    shape = shapes.get(verdict, f'<circle cx="{x}" cy="{y}" r="3"')
    return f'{shape} fill="{COLOURS[verdict]}"/>'
