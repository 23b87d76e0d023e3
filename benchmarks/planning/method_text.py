"""What a method's file says of itself at its top, read from its text: the file is not run.

In: where a method is, a module's name or a path that ends in .py. Out: a `Said`, with defaults for
what it leaves out.
"""

import ast
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.planning.method_families import FAMILIES, bibtex_entries, styled_by_family
from benchmarks.planning.points import OperatingPoint
from perfusion_core.errors import UserError

MARKERS = "os^v<>DdPXph8"  # matplotlib's, without the star of Best H
UNREAD = object()  # stands for a value that only running the file would tell
APPLY = "apply's point"  # UNREAD where the function never looks at it


@dataclass(frozen=True)
class Said:
    """The optional names of the method contract (docs/methods.md), and the label."""

    label: str = ""
    trained: bool = True
    # its recipe picks the training step by validation; else it trains to the end
    selects: bool = False
    # True: it needs C; False: C decides none of its bytes; None: keyed, not needed
    uses_covariance: bool | None = None
    one_encoder: bool = False  # it reads one text encoder, and none of a backbone that has two
    # it trains a U-Net that reads CLIP's words, and neither PixArt's nor Sana's kind is one
    unet_only: bool = False
    pairs: bool = True  # two of its concepts can be drawn in one picture
    # what it changes reaches a picture through texts, K and V only: batches are shared with others
    text_side: bool = False
    # all that a fit leaves, with the super-category in its header; empty: a folder
    one_file: str = ""
    # the safetensors files of a fit, with a pattern for the names of their tensors; empty: not said
    files: Mapping[str, str] = field(default_factory=dict)
    # learning rates that `perfbench tune` varies, with the steps; empty: not tuned
    tuned: tuple[str, ...] = ()
    # between which of them `perfbench tune --halving` draws; empty: around the published recipe
    tuned_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    # what its recipe sets for a fit that a LoRA can hold exactly; empty: it has no such fit
    for_lora: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[str, ...] = ()  # its operating points where the configuration names none
    # what its points may set; None: not said, and `apply` looks at what it gets
    settings: tuple[str, ...] | None = None
    # in figures; empty: one of those for methods without
    style: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""  # one of FAMILIES: its group in lists, and its colour
    summary: str = ""  # what is trained, for lists
    format: str = ""  # the files of a fit, and what opens them
    kilobytes: int | None = None  # of a fit on Stable Diffusion 1.5
    cite: str = ""  # BibTeX
    untuned: bool = False  # its recipe for the miniature is a guess, and tables say so


def said_of(where: str) -> Said:
    """A mistake in one of the optional names is a UserError that says what is allowed."""
    told = constants(where)
    if "STYLE" in told:
        told = told | {"STYLE": styled_by_family(told["STYLE"], told.get("FAMILY"))}
    found: dict[str, Any] = {}
    for name, problem in OPTIONAL.items():
        if name not in told:
            continue
        unread = "a plain constant is wanted, which can be read without running the file"
        if wrong := unread if told[name] is UNREAD else problem(told[name]):
            raise UserError(f"{where}: {name}: {wrong}")
        found[name.lower()] = told[name]
    if "settings" not in found and told.get(APPLY) is UNREAD:
        found["settings"] = ()  # whatever a point sets would change nothing
    label = told.get("LABEL")
    return Said(
        label=label if isinstance(label, str) else "",
        trained=told.get("TRAINED") is not False,
        **found,
    )


# ---- what is wrong with a value: a sentence, empty where nothing is ----


def _is_colour(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("#[0-9a-fA-F]{6}", value))


def _is_marker(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1 and value in MARKERS


def is_label(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[^$\n\r]{1,40}", value))


def _is_dash(value: Any) -> bool:
    if value == "-":
        return True
    if not (
        isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], (tuple, list))
    ):
        return False
    start, lengths = value
    numbers = all(isinstance(one, (int, float)) and 0 <= one <= 100 for one in (start, *lengths))
    return numbers and len(lengths) % 2 == 0 and sum(lengths) > 0


STYLE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "colour": (_is_colour, "a colour such as #88641f"),
    "marker": (_is_marker, f"one of {MARKERS}"),
    "dash": (_is_dash, '"-" or (0, (on, off, ...)) in points'),
    "ink": (_is_colour, "a colour such as #88641f, dark enough to be read"),
    "best": (_is_colour, "a colour such as #88641f"),
    "label": (is_label, "at most 40 characters without $"),
}


def style_problem(style: Any) -> str:
    """Of a whole STYLE; `locks` has what differs at operating points of a lock."""
    if not isinstance(style, Mapping) or not {"colour", "marker"} <= style.keys():
        return 'colour and marker are wanted, such as {"colour": "#88641f", "marker": "d"}'
    locks = style.get("locks", {})
    if not isinstance(locks, Mapping):
        return "locks: a mapping is wanted, from a lock to what differs there"
    parts = {"": {key: value for key, value in style.items() if key != "locks"}, **locks}
    return next(filter(None, (_parts_problem(lock, part) for lock, part in parts.items())), "")


def _parts_problem(lock: str, parts: Any) -> str:
    if not isinstance(parts, Mapping):
        return f"{lock}: a mapping is wanted"
    for key, value in parts.items():
        if key not in STYLE:
            return f"{key!r} is not {', '.join(STYLE)} or locks"
        if not STYLE[key][0](value):
            return f"{key} is {value!r}; {STYLE[key][1]} is wanted"
    return ""


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"{value!r} is neither True nor False"


def _one_file(value: Any) -> str:
    fine = isinstance(value, str) and re.fullmatch(r"[\w.-]+\.safetensors", value)
    return "" if fine else f'{value!r} is not a name such as "concept.safetensors"'


def _files(value: Any) -> str:
    fine = isinstance(value, Mapping) and all(
        isinstance(text, str) for pair in value.items() for text in pair
    )
    if not (fine and value and all(name.endswith(".safetensors") for name in value)):
        return f'{value!r:.60} is not files such as {{"offset.safetensors": "offset"}}'
    try:
        for pattern in value.values():
            re.compile(pattern)
    except re.error as error:
        return f"{pattern!r:.60} is no regular expression: {error}"
    return ""


def _texts(value: Any) -> str:
    fine = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    return "" if fine else f'{value!r} is not a tuple of texts, such as ("lr",)'


def _ranges(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f'{value!r} is not ranges of its rates, such as {{"lr": (0.001, 0.1)}}'
    for rate, ends in value.items():
        two = isinstance(ends, (tuple, list)) and len(ends) == 2
        numbers = two and all(type(end) in (int, float) for end in ends)
        if not (isinstance(rate, str) and numbers and 0 < ends[0] < ends[1] < inf):
            return f"{rate} is {ends!r}; two rates above 0 are wanted, the lower one first"
    return ""


def _recipe(value: Any) -> str:
    fine = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return "" if fine else f'{value!r} is not fields of its Config, such as {{"gate": "linear"}}'


def _points(value: Any) -> str:
    if problem := _texts(value):
        return problem
    try:
        for one in value:
            OperatingPoint.parse(one)
    except UserError as error:
        return str(error)
    return ""


def _family(value: Any) -> str:
    known = ", ".join(FAMILIES)
    return "" if isinstance(value, str) and value in FAMILIES else f"{value!r} is not {known}"


def _line(value: Any) -> str:
    fine = isinstance(value, str) and value.isprintable() and 0 < len(value) <= 120
    return "" if fine else f"{value!r:.60} is not one line of at most 120 characters"


def _kilobytes(value: Any) -> str:
    return "" if type(value) is int and value > 0 else f"{value!r} is not a whole number above 0"


def _bibtex(value: Any) -> str:
    if not isinstance(value, str):
        return f"{value!r:.60} is not a text of BibTeX entries"
    try:
        return "" if bibtex_entries(value) or not value else "no entry begins with @"
    except UserError as error:
        return str(error)


OPTIONAL: dict[str, Callable[[Any], str]] = {  # what is wrong with a value
    "SELECTS": _flag,
    "USES_COVARIANCE": _flag,
    "ONE_ENCODER": _flag,
    "UNET_ONLY": _flag,
    "PAIRS": _flag,
    "TEXT_SIDE": _flag,
    "ONE_FILE": _one_file,
    "FILES": _files,
    "TUNED": _texts,
    "TUNED_RANGES": _ranges,
    "FOR_LORA": _recipe,
    "POINTS": _points,
    "SETTINGS": _texts,
    "STYLE": style_problem,
    "FAMILY": _family,
    "SUMMARY": _line,
    "FORMAT": _line,
    "KILOBYTES": _kilobytes,
    "CITE": _bibtex,
    "UNTUNED": _flag,
}


# ---- reading ----


def constants(where: str) -> dict[str, Any]:
    """The constants at the top of a module, from its text; of a file of the user's, as it is
    now.
    """
    return _parsed(Path(where)) if where.endswith(".py") else _of_module(where)


@cache
def _of_module(where: str) -> dict[str, Any]:
    package, _, module = where.partition(":")[0].rpartition(".")
    spec = importlib.util.find_spec(package) if package else None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        return _parsed(Path(place) / f"{module}.py")
    return {}


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return assigned(tree) | ({APPLY: UNREAD} if _point_is_unread(tree) else {})


def _point_is_unread(tree: ast.Module) -> bool:
    """Whether `apply` is written here, and its third argument stands nowhere in it."""
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "apply"]
    if not found or len(found[-1].args.args) < 3:
        return False
    plain = all(ast.unparse(d).endswith("contextmanager") for d in found[-1].decorator_list)
    names = {inner.id for inner in ast.walk(found[-1]) if isinstance(inner, ast.Name)}
    # another decorator, or what sees all names at once, may look for it
    return plain and not names & {found[-1].args.args[2].arg, "locals", "vars", "eval", "exec"}


def assigned(tree: ast.Module) -> dict[str, Any]:
    """What a module assigns at its top: NAME = "ti", also NAME, VERSION = "ti", 1; UNREAD where it
    is no literal.
    """
    found: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        targets, value = node.targets if isinstance(node, ast.Assign) else [node.target], node.value
        for target in targets:
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            names = target.elts if isinstance(target, ast.Tuple) and several else [target]
            values = value.elts if isinstance(value, ast.Tuple) and several else [value]
            for name, one in zip(names, values):
                if isinstance(name, ast.Name):
                    found[name.id] = _literal(one)
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNREAD
