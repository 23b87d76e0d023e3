"""Names and paths that other people wrote: each is hostile until it was checked here.

In: a name or a relative path from a file or a flag, and the folder that it must stay in.
Out: the path, or one sentence.
"""

import os
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NewType

from perfusion_core.errors import UserError

Name = NewType("Name", str)  # one safe path component
MOST = 200  # bytes: file systems take 255, and the harness adds digests and suffixes
SHOWN = 60  # characters of a bad name that an error prints
# separators, drives, and what Windows takes in no name; but for < and >, which Custom Diffusion's
# published layout has in the name of its embedding, <new1>
SIGNS = '/\\:*?"|'
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"
}


class UnsafePath(UserError):
    """A name that is no plain name, or a path that leaves its folder."""


@lru_cache(maxsize=65536)
def problem(name: str) -> str:
    """What keeps a text from being one path component on every system; empty for a safe one."""
    if not name:
        return "it is empty"
    # NUL, line ends, signs that turn the direction of writing, lone surrogates
    if not name.isprintable():
        return "it has a character that is not printed"
    if len(name.encode()) > MOST:
        return f"it is longer than {MOST} bytes"
    if name in (".", ".."):
        return "it is the folder itself or the one above"
    if found := [sign for sign in SIGNS if sign in name]:
        return f"it has {found[0]}"
    if name[0] in " -" or name[-1] in " .":  # read as a flag; dropped by Windows
        return "it begins with a space or -, or ends with a space or ."
    if name.partition(".")[0].rstrip().upper() in DEVICES:
        return "Windows has a device of that name"
    return ""


def is_name(given: object) -> bool:
    return isinstance(given, str) and not problem(given)


def safe_name(given: object, what: str = "name") -> Name:
    """The text as one path component; anything else is one sentence."""
    if not isinstance(given, str):
        raise UnsafePath(f"{what} {shown(given)} is not a text; a plain name is wanted")
    if why := problem(given):
        raise UnsafePath(
            f"{what} {shown(given)} cannot be the name of a file: {why}; use letters, digits, _ "
            f"and -"
        )
    return Name(given)


def safe_parts(given: object, what: str = "path") -> tuple[Name, ...]:
    """The components of a relative path with / between them: `unet/config.json`."""
    if not isinstance(given, str):
        raise UnsafePath(f"{what} {shown(given)} is not a text; a relative path is wanted")
    why = "it is absolute" if given.startswith("/") else ""
    why = why or next((why for part in given.split("/") if (why := problem(part))), "")
    if why or len(given) > 10 * MOST:
        raise UnsafePath(
            f"{what} {shown(given)} is not a path inside its folder ({why or 'it is too long'}): "
            f"refused; "
            "write it relative, with / between plain names"
        )
    return tuple(Name(part) for part in given.split("/"))


def below(root: Path, *names: str) -> Path:
    """`root` / names, each of them one safe component, with no link on the way that leads out of
    `root`.
    """
    path = root.joinpath(*(safe_name(name) for name in names))
    steps = list(accumulate(names, os.path.join, initial=os.fspath(root)))[1:]
    # without a link among these steps there is none to follow; asking that is a fifth of the time
    if any(map(os.path.islink, steps)) and not lies_below(root, path):
        raise UnsafePath(
            f"{path} is or follows a link that leads out of {root}: refused; put a copy in its "
            f"place"
        )
    return path


def lies_below(root: Path, path: Path) -> bool:
    """Whether `path`, with every link followed, is inside `root`; it need not exist."""
    home, end = os.path.realpath(root), os.path.realpath(path)
    return end == home or end.startswith(home.rstrip(os.sep) + os.sep)


def leads_out(path: Path) -> bool:
    """Whether a file or folder is a link to a place outside of the folder that it stands in."""
    return path.is_symlink() and not lies_below(path.parent, path)


def one_line(text: str) -> str:
    """The text with an escape for all that is not printed: a log takes a line of somebody else's
    that begins with `::` for a command."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def shown(given: object) -> str:
    """A bad value as an error prints it."""
    text = repr(given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}...'"
