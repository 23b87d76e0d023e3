"""Small pieces of the report's HTML: tables, markers, numbers.

In: values. Out: HTML; what comes from a run is escaped by whoever hands it in.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.figures.looks import Style

SHAPES: dict[str, str] = {
    "o": '<circle cx="7" cy="7" r="4.6"/>',
    "s": '<path d="M2.8 2.8h8.4v8.4H2.8z"/>',
    "^": '<path d="M7 1.8 12.2 11.4H1.8z"/>',
    "v": '<path d="M7 12.2 1.8 2.6h10.4z"/>',
    ">": '<path d="M12.2 7 2.6 12.2V1.8z"/>',
    "<": '<path d="M1.8 7 11.4 1.8v10.4z"/>',
    "D": '<path d="M7 1.4 12.6 7 7 12.6 1.4 7z"/>',
    "d": '<path d="M7 1 11 7 7 13 3 7z"/>',
    "P": '<path d="M5.2 1.6h3.6v3.6h3.6v3.6H8.8v3.6H5.2V8.8H1.6V5.2h3.6z"/>',
    "X": '<path d="M3.4 1.4 7 5l3.6-3.6 2 2L9 7l3.6 3.6-2 2L7 9l-3.6 3.6-2-2L5 7 1.4 3.4z"/>',
    "*": '<path d="M7 .8 8.6 5.2l4.7.1-3.7 2.9 1.3 4.5L7 10.1l-3.9 2.6 1.3-4.5L.7 5.3l4.7-.1z"/>',
}


def html_table(head: Sequence[str], rows: Iterable[str], classes: str = "full") -> str:
    """A table that scrolls sideways where the screen is narrow; the rows are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(rows)
    return (
        f'<div class="scroll"><table '
        f'class="{classes}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def row_head(content: str) -> str:
    """The first cell of a row, which says what the others are of."""
    return f'<th scope="row">{content}</th>'


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def mark(style: Style) -> str:
    """A series' marker as it is in the figures."""
    fill = style.colour if style.fill else "none"
    line = f' stroke="{style.colour}" stroke-width="1.4"' if not style.fill else ""
    shape = SHAPES.get(style.marker, SHAPES["o"])
    return (
        f'<svg class="mark" viewBox="0 0 14 14" fill="{fill}"{line} '
        f'aria-hidden="true">{shape}</svg>'
    )


def there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def format_score(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if there(value) else ""


def between(low: float, high: float, digits: int = 3) -> str:
    return f"[{low:.{digits}f}, {high:.{digits}f}]" if there(low) and there(high) else ""


def interval(value: float, lo: float, hi: float, low: float, high: float, colour: str) -> str:
    """An interval as a line with its value as a dot, on the scale that its column shares."""
    scale = 110 / max(high - low, 1e-9)

    def x(at: float) -> str:
        return f"{4 + (at - low) * scale:.1f}"

    line = (
        f'<path d="M{x(lo)} 4.5H{x(hi)}" stroke="{colour}" stroke-width="1.6"/>'
        if there(lo) and there(hi)
        else ""
    )
    return (
        f'<svg class="strip" viewBox="0 0 118 9" aria-hidden="true"><line x1="0" x2="118" '
        f'y1="4.5" y2="4.5"/>{line}'
        f'<circle cx="{x(value)}" cy="4.5" r="3" fill="{colour}"/></svg>'
    )
