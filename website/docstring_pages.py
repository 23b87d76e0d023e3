"""Reference pages of what may be imported, made from docstrings.

In: names of modules. Out: Markdown. The source is read, not run: a signature stands as it was
written, and a site can be built where torch is missing.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from website.command_pages import cell, code
from website.navigation import MADE, ROOT

LIBRARY = "docs/library.md"
DEFINED = (ast.FunctionDef, ast.ClassDef)
Defined = ast.FunctionDef | ast.ClassDef
# modules whose names docs/library.md promises; of each, what that page speaks of
CORE = (
    "editing",
    "concept",
    "rank_one",
    "static_map",
    "backbone",
    "subject",
    "sampling",
    "schedulers",
    "prompts",
    "training",
    "covariance",
    "errors",
)


def source_of(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def tree_of(module: str) -> ast.Module:
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


def definition(module: str, name: str) -> tuple[str, Defined]:
    """Where a name is defined, through `from other import name as another`."""
    for node in tree_of(module).body:
        if isinstance(node, DEFINED) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(node.module, alias.name)
    raise LookupError(f"{module} has no {name}")


def public_names(module: str) -> list[str]:
    """`__all__`, else what is defined there without an underscore."""
    tree = tree_of(module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [
        node.name
        for node in tree.body
        if isinstance(node, DEFINED) and not node.name.startswith("_")
    ]


def functions(module: str) -> list[str]:
    """Those of the public names that are called."""
    names = public_names(module)
    return [one for one in names if isinstance(definition(module, one)[1], ast.FunctionDef)]


def signature(node: ast.FunctionDef, name: str = "") -> str:
    """One line where it fits, else a line an argument."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    words = ast.unparse(node.args)
    whole = f"{name or node.name}({words}){returns}"
    if len(whole) <= 88:
        return whole
    parts = arguments(node.args)
    body = "".join(f"    {part},\n" for part in parts)
    return f"{name or node.name}(\n{body}){returns}"


def arguments(args: ast.arguments) -> Iterator[str]:
    """Each as it is written, with `*` and `/` where they stand."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    for number, (one, default) in enumerate(zip(plain, defaults, strict=True)):
        yield argument(one, default)
        if args.posonlyargs and number == len(args.posonlyargs) - 1:
            yield "/"
    if args.vararg:
        yield f"*{argument(args.vararg, None)}"
    elif args.kwonlyargs:
        yield "*"
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield argument(one, default)
    if args.kwarg:
        yield f"**{argument(args.kwarg, None)}"


def argument(one: ast.arg, default: ast.expr | None) -> str:
    words = one.arg + (f": {ast.unparse(one.annotation)}" if one.annotation else "")
    equals = " = " if one.annotation else "="
    return words + (f"{equals}{ast.unparse(default)}" if default is not None else "")


def fenced(text: str, language: str = "text") -> list[str]:
    return [f"```{language}", text, "```", ""]


def prose(text: str) -> list[str]:
    """A docstring as Markdown: paragraphs, lists of indented lines as they stand, examples."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.lstrip().startswith(">>>"):
            lines += fenced(textwrap.dedent(paragraph), "pycon")
        elif paragraph.startswith("Args:\n"):
            lines += argument_table(paragraph)
        elif paragraph.startswith("    "):
            lines += fenced(textwrap.dedent(paragraph))
        else:
            lines += [literal(paragraph), ""]
    return lines


def literal(text: str) -> str:
    """Stars and brackets of a sentence mean themselves; inside of `code` nothing is escaped."""
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"([\\*\[\]<])", r"\\\1", parts[number])
    return "`".join(parts)


def argument_table(paragraph: str) -> list[str]:
    """`Args:` and its indented lines, a row an argument."""
    rows: list[list[str]] = []
    for line in paragraph.splitlines()[1:]:
        named = re.match(r" {4}(\w+): (.*)", line)
        if named:
            rows.append([named[1], named[2]])
        elif rows:
            rows[-1][1] += f" {line.strip()}"
    body = [f"| {code(name)} | {cell(words)} |" for name, words in rows]
    return ["| argument | what it is |", "|---|---|", *body, ""]


def described(home: str, node: Defined, level: str) -> list[str]:
    lines = [f"{level} {node.name}", ""]
    if isinstance(node, ast.FunctionDef):
        lines += fenced(signature(node), "text")
    said = ast.get_docstring(node) or ""
    lines += prose(said) if said else []
    if isinstance(node, ast.ClassDef):
        lines += members(node)
    return [*lines, f"Defined in `{source_of(home).relative_to(ROOT).as_posix()}`.", ""]


def members(node: ast.ClassDef) -> list[str]:
    """Fields of a dataclass, properties and methods."""
    rows = []
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            if not one.target.id.startswith("_"):
                rows.append(ast.unparse(one))
        elif isinstance(one, ast.FunctionDef) and shown(one):
            is_property = any("property" in ast.unparse(mark) for mark in one.decorator_list)
            one.args.args = one.args.args[1:] if not is_static(one) else one.args.args
            returns = f": {ast.unparse(one.returns)}" if one.returns else ""
            line = f"{one.name}{returns}" if is_property else signature(one)
            said = (ast.get_docstring(one) or "").partition("\n\n")[0]
            note = textwrap.wrap(" ".join(said.split()), 84)
            rows.append("\n".join([line, *(f"    {words}" for words in note)]))
    return fenced("\n".join(rows)) if rows else []


def shown(node: ast.FunctionDef) -> bool:
    return node.name == "__init__" or not node.name.startswith("_")


def is_static(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(mark) == "staticmethod" for mark in node.decorator_list)


def module_part(module: str, names: Sequence[str], level: str) -> list[str]:
    lines: list[str] = []
    for name in names:
        home, node = definition(module, name)
        lines += described(home, node, level)
    return lines


def docstring_pages() -> dict[str, str]:
    api = [
        "# benchmarks.api",
        "",
        "<!-- given: results/miniature-quick -->",
        "",
        *prose(ast.get_docstring(tree_of("benchmarks.api")) or ""),
        "Made from the docstrings. [A page with examples](../api.md).",
        "",
        "```python",
        f"from benchmarks.api import {', '.join(functions('benchmarks.api'))}",
        "```",
        "",
        *module_part("benchmarks.api", public_names("benchmarks.api"), "##"),
    ]
    core = [
        "# perfusion_core",
        "",
        "Made from the docstrings of what [the library](../library.md) names.",
        "",
    ]
    page = (ROOT / LIBRARY).read_text(encoding="utf-8")
    promised = {*re.findall(r"\b(\w+)\(", page), *re.findall(r"\b[A-Z]\w+", page)}
    for module in CORE:
        name = f"perfusion_core.{module}"
        names = [one for one in public_names(name) if one in promised]
        core += [f"## {name}", "", *prose(ast.get_docstring(tree_of(name)) or "")]
        core += module_part(name, names, "###")
    return {f"{MADE}api.md": "\n".join(api), f"{MADE}core.md": "\n".join(core)}
