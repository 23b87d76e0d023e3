"""The page of all settings: what a key means, its role, its default; presets; methods' own keys.

In: `benchmarks.planning.config` and the configurations of the methods, with the comments that stand
beside their fields. Out: Markdown.
"""

import ast
import inspect
import io
import tokenize
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.planning import config as settings
from benchmarks.planning.methods import BUILT_IN
from website.command_pages import cell, code
from website.navigation import MADE

ROLES = {
    "choice": "may grow in a run folder that is there",
    "protocol": "may not change in a run folder that is there",
    "place": "where and how the work is done; changes no result",
}

NONE = "none"  # a default that is empty


def comments_of_fields(module: ModuleType, name: str) -> dict[str, tuple[str, str]]:
    """Field of a dataclass -> its annotation, and the comment on its lines or right above it."""
    source = inspect.getsource(module)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments, alone = {}, set()
    lines = source.splitlines()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
            if not lines[token.start[0] - 1][: token.start[1]].strip():
                alone.add(token.start[0])
    [found] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    told = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own = [
                comments[n]
                for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if n in comments
            ]
            above: list[str] = []
            line = node.lineno - 1
            while line in alone:
                above.insert(0, comments[line])
                line -= 1
            told[node.target.id] = (ast.unparse(node.annotation), " ".join([*above, *own]))
    return told


def shown(value: Any) -> str:
    """A default as it is written after `--set key=`."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {shown(part)}" for key, part in value.items())
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def allowed(key: str, words: str) -> str:
    """The values that a key may have, where its comment does not name them all."""
    values = settings.CHOICES.get(key, ())
    return "" if all(one in words for one in values) else f"One of {', '.join(values)}."


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def key_table() -> list[str]:
    told = comments_of_fields(settings, "Config")
    lines = []
    for role, meaning in ROLES.items():
        lines += ["", f"### {role.capitalize()}", "", f"{meaning.capitalize()}.", ""]
        lines += ["| key | default | what it is |", "|---|---|---|"]
        for one in fields(settings.Config):
            if settings.role(one.name) == role:
                default = shown(getattr(settings.Config(), one.name))
                words = told[one.name][1]
                words = " ".join(filter(None, (words, allowed(one.name, words))))
                lines.append(row(code(one.name), code(default) if default else NONE, cell(words)))
    return lines


def preset_table() -> list[str]:
    lines = ["| preset | what it is | keys |", "|---|---|---|"]
    for name, (about, keys) in settings.PRESETS.items():
        words = " ".join(code(f"{key}={shown(value)}") for key, value in keys.items())
        lines.append(row(code(name), cell(about), words or "every default"))
    return lines


def method_tables() -> list[str]:
    """`fit.METHOD.KEY`: a method's recipe, as published and as tuned on the miniature."""
    lines: list[str] = []
    for name, home in BUILT_IN.items():
        module = import_module(home)
        published = getattr(module, "Config", None)
        if published is None or not fields(published):
            continue
        tuned = getattr(module, "MINIATURE", published())
        told = comments_of_fields(import_module(published.__module__), published.__name__)
        lines += ["", f"### {code('fit.' + name)}", ""]
        lines += [
            "| key | published | miniature | what it is, or its source |",
            "|---|---|---|---|",
        ]
        for one in fields(published):
            pair = [code(shown(getattr(of, one.name))) for of in (published(), tuned)]
            lines.append(row(code(one.name), *pair, cell(told.get(one.name, ("", ""))[1])))
    return lines


def setting_pages() -> dict[str, str]:
    lines = [
        "# Settings",
        "",
        "A run is described by one configuration. Later ones win: the preset, a TOML file",
        "(`--config FILE`), flags, `--set key=value`. This page is made from the code.",
        "",
        "## Keys",
        *key_table(),
        "",
        "## Presets",
        "",
        *preset_table(),
        "",
        "## Methods",
        "",
        "`--set fit.METHOD.KEY=VALUE` changes one key of a method's recipe. On the miniature the",
        "tuned values hold, elsewhere the published ones; `recipe` says which",
        "([the compared methods](../baselines.md)).",
        *method_tables(),
    ]
    return {f"{MADE}settings.md": "\n".join([*lines, ""])}
