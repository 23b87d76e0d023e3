"""What must not be published: paths of a machine, tokens, passwords.

In: texts. Out: what is wrong with one, in words that repeat no secret; a value without its paths.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perfusion_core.errors import UserError

_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:api[_-]?key|access[_-]?token|secret|password|passwd)\s*[=:]\s*\S{6,}"
    r"|\bBearer\s+\S{12,}",
    re.I,
)
_LOGIN = re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@")
# /home/me, ~/runs, C:\Users, \\server\share, file:///; an address of the web has // or a word
# before its slash
_PATH = re.compile(
    r"(?<![\w.:/~])(?:~[\w.-]*(?:/[^\s/\"'`]+)+|(?:/[^\s/\"'`|<>(){}]+){2,})"
    r"|\b[A-Za-z]:[\\/](?![\\/])[^\s\"']+|\\\\[\w.-]+\\[^\s\"']+|\bfile:/"
)
_FILE = re.compile(r"\bfile:/+")


def leak(text: str) -> str:
    """What a text should not tell; empty where it may be published."""
    if _TOKEN.search(text):
        return "what looks like a token or a password"
    if _LOGIN.search(text):
        return "an address with a password"
    home = str(Path.home())
    if found := _PATH.search(text):
        return f"a path of a machine ({found[0][:60]})"
    if len(home) > 5 and home in text:
        return "the home folder of a machine"
    return ""


def without_paths(value: Any) -> Any:
    """A JSON value in whose texts each path of a machine is its last name alone."""
    if isinstance(value, str):
        return _PATH.sub(_last_name, _FILE.sub("/", value))
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def _last_name(found: re.Match[str]) -> str:
    return re.split(r"[\\/]", found[0].rstrip("\\/"))[-1]


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a JSON value, names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def refuse_leaks(where: str, texts: Iterable[object]) -> None:
    """One sentence at the first text that may not be published."""
    for text in texts:
        if why := leak(str(text)):
            raise UserError(
                f"{where} would publish {why}, so nothing is written; take it out where it stands "
                f"and score or make that run again"
            )
