"""What methods are grouped by, and what is cited for them.

In: the FAMILY and CITE that a method's file says. Out: the family's title and colour; BibTeX
entries, each once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Family:
    """Methods that leave the same kind of thing: one heading of `ls methods`, one colour."""

    title: str
    colour: str
    ink: str = ""  # of its names, where the colour is too light to be read

    @property
    def style(self) -> dict[str, str]:
        """What a method's STYLE need not say."""
        return {"colour": self.colour} | ({"ink": self.ink} if self.ink else {})


# By the FAMILY that a method's file says, in the order in which they are listed. The colours are
# those of the family's oldest method.
FAMILIES = {
    "word": Family("A word", "#CC79A7", "#a64f80"),
    "adapter": Family("An adapter", "#6F4E37"),
    "model": Family("A whole model", "#009E73", "#00795a"),
    "perfusion": Family("Perfusion", "#0072B2"),
}


def styled_by_family(style: Any, family: Any) -> Any:
    """A STYLE with its family's colour where it has none of its own."""
    if not isinstance(style, Mapping) or not isinstance(family, str) or family not in FAMILIES:
        return style
    return {**style} if "colour" in style else {**FAMILIES[family].style, **style}


def bibtex_entries(text: str) -> dict[str, str]:
    """Key -> entry, from its @ to the brace that closes it; a UserError where one is not whole."""
    found: dict[str, str] = {}
    place = 0
    while (start := text.find("@", place)) >= 0:
        head = re.compile(r"@\w+\{\s*([\w:.-]+)\s*,").match(text, start)
        end = _closing(text, text.find("{", start))
        if head is None or end is None:
            raise UserError(
                f"BibTeX: {text[start : start + 40]!r} is no whole entry, such as "
                f"@inproceedings{{name2026, title = {{...}}}}"
            )
        found[head[1]] = text[start : end + 1]
        place = end + 1
    return found


def _closing(text: str, start: int) -> int | None:
    """Where the brace that opens at `start` closes."""
    depth = 0
    for place in range(max(start, 0), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place if start >= 0 else None
    return None


def cited(texts: Iterable[str]) -> str:
    """All entries of several methods, each once, in their order."""
    entries: dict[str, str] = {}
    for text in texts:
        for key, entry in bibtex_entries(text).items():
            entries.setdefault(key, entry)
    return "\n\n".join(entries.values())
