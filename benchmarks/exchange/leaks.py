"""What must not be published: paths of a machine, tokens, passwords.

In: texts. Out: what is wrong with one, in words that repeat no secret.
"""

import re
from collections.abc import Iterable
from pathlib import Path

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


def refuse_leaks(where: str, texts: Iterable[object]) -> None:
    """One sentence at the first text that may not be published."""
    for text in texts:
        if why := leak(str(text)):
            raise UserError(
                f"{where} would publish {why}, so nothing is written; take it out where it stands "
                f"and score or make that run again"
            )
