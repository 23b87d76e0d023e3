"""Mistakes that a user can make and mend: one sentence, no traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What was given, what is allowed, what to do; the command prints it and exits with 2."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is."""
    names = sorted(allowed)
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return UserError(f"unknown {kind} {given!r}{hint} (known: {shown or 'none'})")
