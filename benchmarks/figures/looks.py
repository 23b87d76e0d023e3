"""How methods look: one colour, marker and dash for each, whichever figure shows it.

In: names of methods and locks; the runs at hand, whose own methods, untuned ones and crowds count
inside a block. Out: `Style`s.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from benchmarks.planning import methods
from benchmarks.planning.ablations import ABLATIONS
from benchmarks.planning.method_families import FAMILIES
from benchmarks.planning.method_text import MARKERS, is_label, said_of, style_problem
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import OURS
from benchmarks.store.reading import untuned_methods
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Style:
    """What tells a series apart: any one of colour, marker and dash is enough."""

    label: str
    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]] = "-"
    ink: str = ""  # the colour of its text, dark enough to read on white
    fill: bool = True
    best: str = ""  # the colour of its Best H; empty: its own

    @property
    def text(self) -> str:
        return self.ink or self.colour

    @property
    def face(self) -> str:
        return self.colour if self.fill else "white"


def looks_of(name: str, label: str, style: Mapping[str, Any]) -> dict[str, Style]:
    """A method's looks by name, and by `name/lock`, from the STYLE that its file says."""
    look = _changed(Style(label, "", ""), style)
    locks = {f"{name}/{lock}": _changed(replace(look, label=f"{look.label}, {lock} lock"), changes)
             for lock, changes in style.get("locks", {}).items()}  # fmt: skip
    return locks | {name: look}


def _changed(look: Style, style: Mapping[str, Any]) -> Style:
    parts = {key: value for key, value in style.items() if key != "locks"}
    if "dash" in parts and parts["dash"] != "-":
        start, lengths = parts["dash"]
        parts["dash"] = (start, tuple(lengths))  # run.json has lists
    return replace(look, **parts)


def best_of(look: Style) -> Style:
    """Of Best H: a star, in the method's own colour or the one it has for that."""
    return replace(look, marker="*", colour=look.best or look.colour, label=f"{look.label} Best H")


def _built_in() -> dict[str, Style]:
    """Okabe and Ito's colours (safe for every kind of colour blindness), in the paper's roles:
    Perfusion is blue and cyan."""
    found: dict[str, Style] = {}
    for name in methods.BUILT_IN:
        told = said_of(methods.BUILT_IN[name])
        found |= looks_of(name, told.label, told.style)
        if name == OURS:
            found["best-h"] = best_of(found[name])
        for variant, what in methods.VARIANTS.items():
            if what.base == name and what.style:
                found |= looks_of(variant, what.label, what.style)
    return found


STYLES = _built_in()
# methods that came by entry point or by file, in the order of their names
STRANGERS = [
    Style("", "#332288", "p", (0, (2, 1))),
    Style("", "#882255", "h", (0, (7, 2))),
    Style("", "#117733", "<", (0, (1, 1))),
    Style("", "#88641f", "d", (0, (4, 1, 1, 1))),
    Style("", "#444444", "8", (0, (2, 2))),
]


NONE: Mapping[str, Style] = MappingProxyType({})
_BROUGHT: ContextVar[Mapping[str, Style]] = ContextVar(
    "looks of methods that runs brought", default=NONE
)
PLAIN: Mapping[str, str] = MappingProxyType({})
_LABELS: ContextVar[Mapping[str, str]] = ContextVar(
    "labels of methods without a style that runs brought", default=PLAIN
)
_UNTUNED: ContextVar[frozenset[str]] = ContextVar(
    "methods of the runs at hand whose rates are a guess", default=frozenset()
)


MANY = 8  # names that a plane has room for
_FAMILIES: ContextVar[Mapping[str, str]] = ContextVar(
    "families of methods of a user's own that runs brought", default=PLAIN
)
_BY_FAMILY: ContextVar[bool] = ContextVar(
    "whether the runs at hand have too many methods for a colour each", default=False
)


def known_looks() -> Mapping[str, Style]:
    """The built-in methods, and those whose style the runs at hand recorded."""
    return {**STYLES, **_BROUGHT.get()}


def _recorded(run: Run) -> list[Any]:
    """What run.json says of each method. Where it cannot be read, the figure that needs it says
    so.
    """
    try:
        return list(run.about.get("methods", {}).values())
    except UserError:
        return []


def _untuned(run: Run) -> list[str]:
    try:
        return untuned_methods(run.about)
    except UserError:
        return []


@contextmanager
def looks_of_runs(runs: Iterable[Run]) -> Iterator[None]:
    """Inside the block methods of a user's own look as their files said when they were run
    (run.json), and a method whose rates are a guess has that in its label. Where their plane is
    crowded, all figures have a colour a family.
    """
    runs = list(runs)
    found: dict[str, Style] = {}
    labels: dict[str, str] = {}
    families = {name: family for run in runs for name, family in _families_in(run)}
    for told in (one for run in runs for one in _recorded(run) if isinstance(one, Mapping)):
        name, style = str(told.get("of", "")), told.get("style")
        if name in STYLES or name in methods.VARIANTS:
            continue
        if style is None and is_label(told.get("label")):
            labels[name] = told["label"]
        if not isinstance(style, Mapping):
            continue
        style = {"label": told.get("label") or name, **style}
        if not style_problem(style):  # run.json may be anybody's
            found |= looks_of(name, style["label"], style)
    before, unnamed = _BROUGHT.set(found), _LABELS.set(labels)
    related = _FAMILIES.set(families)
    marked = _UNTUNED.set(frozenset(name for run in runs for name in _untuned(run)))
    try:
        with coloured_as_in(runs):
            yield
    finally:
        _FAMILIES.reset(related)
        _BROUGHT.reset(before)
        _LABELS.reset(unnamed)
        _UNTUNED.reset(marked)


@contextmanager
def untuned_here(names: Iterable[str]) -> Iterator[None]:
    """Inside the block these methods alone have it in their label: those of one run among
    several."""
    marked = _UNTUNED.set(frozenset(names))
    try:
        yield
    finally:
        _UNTUNED.reset(marked)


@contextmanager
def coloured_as_in(runs: Sequence[Run]) -> Iterator[None]:
    """Inside the block colours are those of the figures of these runs."""
    before = _BY_FAMILY.set(named_points(runs) > MANY)
    try:
        yield
    finally:
        _BY_FAMILY.reset(before)


def named_points(runs: Sequence[Run]) -> int:
    """How many points a plane of these runs has to name: a main method at a lock and temperature
    as its fit ended. A front has one name for its line, a selected step none beside its method.
    """
    points: Counter[tuple[int, str, tuple[object, ...]]] = Counter()
    for number, run in enumerate(runs):
        for method, told in _scored_points(run):
            if told.step is None and split_variant(method)[1] in ("", "selected"):
                points[number, method, told.family] += 1
    single = [(number, method) for (number, method, _), count in points.items() if count == 1]
    methods_of = Counter(single)

    def joined(number: int, method: str) -> bool:
        base, variant = split_variant(method)
        return variant == "selected" and methods_of[number, base] == 1

    return sum(not joined(*one) for one in single)


def _scored_points(run: Run) -> list[tuple[str, OperatingPoint]]:
    """Method and point of each row that has a place on the plane."""
    try:
        table = run.table
        there = table[["text_sim", "image_sim"]].notna().all(axis=1)
        rows = table[(table["kind"] == "method") & there]
        return list(zip(rows["method"], map(OperatingPoint.parse, rows["point"])))
    except UserError:  # the figure that needs the table says so
        return []


def _families_in(run: Run) -> Iterator[tuple[str, str]]:
    """The family of each method of a user's own, by its name and its base's."""
    try:
        told = run.about.get("methods", {})
    except UserError:
        return
    for name, one in told.items() if isinstance(told, Mapping) else ():
        family = one.get("family") if isinstance(one, Mapping) else None
        if isinstance(family, str) and family in FAMILIES:
            yield from ((name, family), (str(one.get("of", name)), family))


def family_of(method: str) -> str:
    """What the file of a method, or of a variant's base, says; else empty."""
    base = split_variant(method)[0]
    base = methods.VARIANTS[base].base if base in methods.VARIANTS else base
    if base in methods.BUILT_IN:
        return said_of(methods.BUILT_IN[base]).family
    told = _FAMILIES.get()
    return told.get(method) or told.get(base, "")


VARIANTS = {"selected": "selected step", **{one.name: one.label for one in ABLATIONS}}


def split_variant(method: str) -> tuple[str, str]:
    """`perfusion-one-shot` -> (`perfusion`, `one-shot`): a method that is no method of ours but
    begins like one.
    """
    known = known_looks()
    if method in known:
        return method, ""
    bases = [base for base in known if method.startswith(f"{base}-")]
    base = max(bases, key=len, default=method)
    return base, method[len(base) + 1 :]


def strangers_among(names: Iterable[str]) -> list[str]:
    """Methods without a style: they take those that are left, in the order of their names."""
    return sorted({name for name in names if split_variant(name)[0] not in known_looks()})


def style_of(method: str, lock: str | None = None, strangers: Sequence[str] = ()) -> Style:
    """The look of a method (and lock). A variant is its method's, hollow; a method nobody knows
    takes its turn.
    """
    look = _look_of(method, lock, strangers)
    if _BY_FAMILY.get() and f"{split_variant(method)[0]}/{lock}" not in known_looks():
        look = _in_family_colour(look, method)
    return replace(look, label=f"{look.label} (untuned)") if method in _UNTUNED.get() else look


def _look_of(method: str, lock: str | None, strangers: Sequence[str]) -> Style:
    base, variant = split_variant(method)
    looks = known_looks()
    known = looks.get(f"{base}/{lock}") or looks.get(base)
    if known and variant:
        # local is the lock of every ablation
        name = looks[base].label if lock == "local" else known.label
        return replace(known, label=f"{name}, {variant_words(variant)}", fill=False)
    if known:
        return known
    turn = sorted(strangers).index(method) if method in strangers else 0
    look = replace(STRANGERS[turn % len(STRANGERS)], label=stranger_label(method))
    if _BY_FAMILY.get() and (family := family_of(method)):
        used = {one.marker for name, one in looks.items() if family_of(name) == family}
        free = [marker for marker in MARKERS if marker not in used] or MARKERS
        related = [name for name in sorted({*strangers, method}) if family_of(name) == family]
        look = replace(look, marker=free[related.index(method) % len(free)])
    return look


def _in_family_colour(look: Style, method: str) -> Style:
    """A method's look among many: its marker, and the colour of its family."""
    family = FAMILIES.get(family_of(method))
    changes: dict[str, Any] = {"ink": "", **family.style} if family else {}
    return replace(look, **changes)


def stranger_label(method: str) -> str:
    """The LABEL that its run recorded, for a variant with what is changed; else the name."""
    labels = _LABELS.get()
    bases = [base for base in labels if method == base or method.startswith(f"{base}-")]
    if not bases:
        return method
    base = max(bases, key=len)
    variant = method[len(base) + 1 :]
    return labels[base] + (f", {variant_words(variant)}" if variant else "")


def variant_words(variant: str) -> str:
    return VARIANTS.get(variant, variant.replace("-", " "))
