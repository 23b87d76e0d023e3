"""The page that raters see: one index.html, and pictures under names that tell nothing.

In: the study's key, its tasks and qualification trials. Out: HTML text; files in `images/`.
"""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.study.blinding import choice_pixels, padded, png, reference_pixels, side_of
from benchmarks.study.design import QUALIFY
from benchmarks.study.material import Choice, Task
from benchmarks.study.signing import known_answer, sign
from perfusion_core.errors import UserError

TITLES = {"ranking": "Which picture fits best?", "realism": "How real does it look?"}
KEYS = {"ranking": "<kbd>B</kbd> <kbd>C</kbd>", "realism": "<kbd>B</kbd>"}
SCRIPTS = ("keep.js", "sha256.js", "base.js", "session.js", "screen.js", "keys.js")


def identity(choice: Choice) -> str:
    """What a picture is, for signing only."""
    return f"{choice.path}|{choice.scrambled}"


def choice_file(secret: str, choice: Choice) -> str:
    return f"{sign(secret, 'choice', identity(choice), length=16)}.png"


def reference_file(secret: str, path: Path) -> str:
    return f"{sign(secret, 'reference', path, length=16)}.png"


def write_pictures(
    folder: Path, key: dict[str, Any], tasks: Sequence[Task], pool: Sequence[Task]
) -> None:
    """Every picture once. Those that are rated have one size in pixels and one in bytes, whoever
    made them.
    """
    secret = key["secret"]
    side = side_of(tasks[0].choices[0].path)
    for choice in (choice for task in tasks for choice in task.choices):
        if side_of(choice.path) != side:
            raise UserError(
                f"{choice.path} is not {side} pixels wide like the others, and its size would tell "
                f"the method; leave that method out, or draw all at one size"
            )
    choices = {choice_file(secret, c): c for task in (*tasks, *pool) for c in task.choices}
    for name, c in choices.items():
        (folder / name).write_bytes(png(choice_pixels(c.path, side, c.scrambled)))
    size = max((folder / name).stat().st_size for name in choices) + 12
    for name in choices:
        (folder / name).write_bytes(padded((folder / name).read_bytes(), size))
    if key["kind"] == "ranking":
        shown = {
            reference_file(secret, path): path
            for task in (*tasks, *pool)
            for path in task.references
        }
        for name in sorted(shown):
            (folder / name).write_bytes(png(reference_pixels(shown[name])))


def page_data(key: dict[str, Any], tasks: Sequence[Task], pool: Sequence[Task]) -> dict[str, Any]:
    """What the page knows: texts, file names, signed ids, and digests of the qualification's known
    answers.
    """
    secret, ranking = key["secret"], key["kind"] == "ranking"

    def screen(trial: dict[str, Any]) -> dict[str, Any]:
        known = trial["role"] == QUALIFY
        task = (pool if known else tasks)[trial["task"]]
        shown = {
            "id": trial["id"],
            "text": task.text,
            "references": [reference_file(secret, path) for path in task.references]
            if ranking
            else [],
            "images": [choice_file(secret, task.choices[place]) for place in trial["order"]],
        }
        return shown | (
            {"check": known_answer(trial["id"], trial["order"].index(0))} if known else {}
        )

    about = {"study": key["study"], "kind": key["kind"]}
    gate = {name: key["design"][name] for name in ("qualify", "pass_mark")}
    return {
        **about,
        **gate,
        "sessions": [[screen(trial) for trial in s["trials"]] for s in key["sessions"]],
    }


def screens_page(key: dict[str, Any], tasks: Sequence[Task], pool: Sequence[Task]) -> str:
    """index.html with style, script and data inside: it works from a folder as from a server."""
    kind = key["kind"]
    welcome, guide = asset(f"{kind}.html").split("<!-- guide -->")
    data = json.dumps(page_data(key, tasks, pool), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "TITLE": escape(TITLES[kind]),
        "KIND": kind,
        "STYLE": asset("style.css"),
        "DRAWINGS": asset("drawings.svg"),
        "WELCOME": welcome,
        "GUIDE": guide,
        "LETTERS": KEYS[kind],
        "SCRIPT": "\n".join(asset(name) for name in SCRIPTS),
        "DATA": data.replace("<", "\\u003c"),  # a prompt cannot end the script element
    }
    text = asset("page.html")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def asset(name: str) -> str:
    return (files("benchmarks.study") / "page" / name).read_text(encoding="utf-8")
