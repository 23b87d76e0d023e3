"""Suites that a program makes: `world:66`. Rooms above register what makes them.

In: a layout's name and what stands behind its colon. Out: whatever the room registered, which gives
a `Catalog`.
"""

from collections.abc import Callable
from typing import Any

GENERATED: dict[str, tuple[Callable[[str], Any], str]] = {}  # layout -> what makes it; in a line


def generated(layout: str, what: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Register a layout; the function gets the text behind the colon."""

    def register(make: Callable[[str], Any]) -> Callable[[str], Any]:
        GENERATED[layout] = make, what
        return make

    return register
