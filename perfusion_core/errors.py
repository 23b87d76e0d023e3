"""Mistakes that a user can make and mend: one sentence, no traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What was given, what is allowed, what is needed; the kinds below tell a caller what it may
    advise.
    """


class MissingCovariance(UserError):
    """A text encoder has no C, or none that can be used."""

    def __init__(self, sentence: str, backbone: str = "") -> None:
        super().__init__(sentence)
        self.backbone = backbone  # as it was asked for; empty where nothing but a file is known


class MissingMasks(UserError):
    """A concept has no masks, and its training looks at them."""


class NotAConcept(UserError):
    """A safetensors file that holds something else."""


class NotFinite(UserError):
    """A number has left the finite ones: no picture can be made of it."""


class MissingClassImages(UserError):
    """A method learns beside images of the super-category, and was given none."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is."""
    names = sorted(allowed)
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return UserError(f"unknown {kind} {given!r}{hint} (known: {shown or 'none'})")
