"""Words of the command line that several verbs read alike."""

from collections.abc import Sequence

from perfusion_core.errors import UserError


def named(given: Sequence[str], flag: str, shape: str, advice: str = "") -> dict[str, str]:
    """`NAME=VALUE` words of a flag; `shape` says how they look, `advice` what to do about a name
    that comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{flag} {text!r} is not {shape}")
        if name in found:
            raise UserError(f"{flag} names {name!r} twice ({found[name]} and {value}){advice}")
        found[name] = value
    return found
