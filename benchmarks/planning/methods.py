"""The methods by name: built in, installed (entry points `perfbench.methods`), or in a file of the
user's.

In: names. Out: modules with the names of the method contract, and what the plan must know of them.
Knowing the names costs no import.
"""

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.planning.ablations import ABLATIONS, BASE
from benchmarks.planning.config import Config
from benchmarks.planning.method_families import FAMILIES, cited
from benchmarks.planning.method_text import Said, assigned, constants, said_of
from benchmarks.planning.units import FLOOR, Method
from perfusion_core.errors import UserError, unknown

BUILT_IN = {
    "perfusion": "perfusion_core.perfusion",
    "db": "baselines.dreambooth",
    "ti": "baselines.textual_inversion",
    "cd": "baselines.custom_diffusion",
    "lora": "baselines.lora",
    "dora": "baselines.dora",
    "loha": "baselines.loha",
    "lokr": "baselines.lokr",
    "oft": "baselines.oft",
    "pivotal": "baselines.pivotal",
    "xti": "baselines.xti",
    "attndreambooth": "baselines.attndreambooth",
    "classdiffusion": "baselines.classdiffusion",
    "super": "baselines.super_category",
}
# What others trained, named by their files (`perfbench evaluate`); nobody types it as a method.
ELSEWHERE = {"adapter": "baselines.adapter"}
EVERY = "all"  # in --methods: each built-in method that is trained, once
AT_LEAST_0 = ("images", "weight_decay", "prior_weight")
CONTRACT = ("NAME", "LABEL", "VERSION", "TRAINED", "PRIOR", "Config", "MINIATURE", "fit", "apply")


@dataclass(frozen=True)
class Variant:
    """A named change of a method; variants that differ at run time only share fits."""

    base: str
    config: Mapping[str, Any] = field(default_factory=dict)
    select: bool | None = None  # None: as the base
    steps: float = 1.0  # times the base's
    points: tuple[str, ...] = ()  # its own; empty: those of the base
    label: str = ""  # with a style of its own; else it looks like its base, hollow
    style: Mapping[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "cd-better": Variant(  # Custom Diffusion as the paper tuned it: 200 steps (Sec. 5)
        "cd",
        steps=200 / 250,
        label="CD Better-HP",
        style={
            "colour": "#E69F00",
            "marker": ">",
            "dash": (0, (3, 1.2, 1, 1.2, 1, 1.2)),
            "ink": "#946600",
        },
    ),
    # Perfusion by the paper's own rates (Sec. 4.4), on whatever backbone and beside tuned ones
    f"{BASE}-published": Variant(BASE, {"lr": 0.03, "lr_embedding": 0.006}),
    **{
        one.method: Variant(BASE, one.config, points=one.points)
        for one in ABLATIONS
        if one.method != BASE
    },
}


def sources(files: Sequence[str] = ()) -> dict[str, str]:
    """Name -> where it is: a module, or a path that ends in .py. Reads files without running
    them.
    """
    found = dict(BUILT_IN)
    for point in entry_points(group="perfbench.methods"):
        found.setdefault(point.name, point.value)
    for file in files:
        name = _name_in(Path(file))
        if name in BUILT_IN:
            raise UserError(f"{file}: NAME = {name!r} is a built-in method; choose another name")
        found[name] = str(Path(file).resolve())
    return found


def _name_in(path: Path) -> str:
    """The constant NAME of a method file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"there is no method file {path}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} is not a Python file that can be read: {error}") from None
    name = assigned(tree).get("NAME")
    if isinstance(name, str):
        return name
    raise UserError(
        f'{path} is not a method: NAME = "..." is missing; docs/methods.md shows a complete one'
    )


def method_names(files: Sequence[str] = ()) -> list[str]:
    """Every name that --methods takes."""
    known = sources(files)
    usual = [
        name
        for name, where in known.items()
        if name != FLOOR and constants(where).get("SELECTS") is not True
    ]
    return [*known, *VARIANTS, *(f"{name}-selected" for name in usual)]


def expanded(given: Iterable[str]) -> list[str]:
    """The names with `all` written out."""
    every = [name for name, where in BUILT_IN.items() if said_of(where).trained]
    return [one for name in given for one in (every if name == EVERY else [name])]


def check_names(given: Iterable[str], files: Sequence[str] = ()) -> list[str]:
    """The names without repeats, super first, `all` written out; an unknown one is an error that
    names the nearest."""
    given = expanded(given)
    known = method_names(files)
    for name in given:
        if name not in known:
            hint = "; a method of your own needs --method-file FILE in each command that uses it"
            raise UserError(f"{unknown('method', name, known)}{hint}")
    return list(dict.fromkeys([FLOOR, *given]))


def check_name(name: str, files: Sequence[str] = ()) -> None:
    """Of one method, where `all` is none."""
    if name == EVERY:
        raise UserError(f"{EVERY} names several methods, and one is wanted here; name it")
    check_names([name], files)


def variant(name: str, files: Sequence[str] = ()) -> Variant:
    """What a name stands for."""
    if name in VARIANTS:
        return VARIANTS[name]
    if name.endswith("-selected") and name not in sources(files):
        return Variant(name.removesuffix("-selected"), select=True)
    return Variant(name)


def said(base: str, files: Sequence[str] = ()) -> Said:
    """What the file of a method says of it beside its recipe; imports nothing."""
    return said_of(sources(files)[base])


def tuned(files: Sequence[str] = ()) -> list[str]:
    """The methods whose learning rates `perfbench tune` varies."""
    return [name for name, where in sources(files).items() if said_of(where).tuned]


def load_method(base: str, files: Sequence[str] = ()) -> ModuleType:
    """The module of a method, checked against the contract."""
    where = ELSEWHERE.get(base) or sources(files)[base]
    module = (
        _from_file(base, Path(where)) if where.endswith(".py") else importlib.import_module(where)
    )
    missing = [name for name in CONTRACT if not hasattr(module, name)]
    if missing:
        raise UserError(
            f"the method {base} ({where}) has no {', '.join(missing)}; docs/methods.md shows a "
            f"complete one"
        )
    return module


def _from_file(name: str, path: Path) -> ModuleType:
    # as in its version: a file that was changed is read again
    text = hashlib.sha256(path.read_bytes()).hexdigest()
    address = f"perfbench_method_{name.replace('-', '_')}_{text[:12]}"
    if address in sys.modules and sys.modules[address].__file__ == str(path):
        return sys.modules[address]
    spec = importlib.util.spec_from_file_location(address, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[address] = module  # dataclasses look their module up while it is being made
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[address]
        raise
    return module


def recipe(module: ModuleType, name: str, changes: Mapping[str, Any], miniature: bool) -> Any:
    """The method's Config with changes; an unknown option is an error that lists the known ones."""
    base = module.MINIATURE if miniature else module.Config()
    known = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    for key, value in changes.items():
        if key not in known:
            raise unknown(f"option of {name}", key, known)
        old = known[key]
        wrong = (
            old is not None
            and type(value) is not type(old)
            and not (type(old) is float and type(value) is int)
        )
        if wrong and not (isinstance(old, (tuple, list)) and isinstance(value, (tuple, list))):
            raise UserError(f"fit.{name}.{key}={value!r}: give a value like {old!r}")
        refuse_out_of_range(f"fit.{name}.{key}", key, value)
    with called(name, known):
        return dataclasses.replace(base, **changes)


@contextmanager
def called(name: str, options: Collection[str]) -> Iterator[None]:
    """A sentence that begins with an option names it as it is set for this method: a Config knows
    no name of its variants."""
    try:
        yield
    except UserError as error:
        if str(error).partition("=")[0] not in options:
            raise
        raise UserError(f"fit.{name}.{error}") from None


def refuse_out_of_range(what: str, key: str, value: Any) -> None:
    """Options that all methods mean alike: counts, rates, weights, the gate's temperatures."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if key in ("steps", "batch", "accumulate", "rank", "blocks", "words") and value < 1:
        raise UserError(f"{what}={value!r}: at least 1 is needed")
    # a gradient that is cut to the length 0 trains nothing
    if (key.endswith("temperature") or key == "clip") and value <= 0:
        raise UserError(f"{what}={value!r}: a number above 0 is needed")
    if (key.startswith("lr") or key in AT_LEAST_0) and value < 0:
        raise UserError(f"{what}={value!r}: at least 0 is needed")


def refuse_uneven_parts(name: str, made: Any) -> None:
    """Of the whole recipe: a batch and its parts may be set in different places."""
    batch, parts = getattr(made, "batch", 1), getattr(made, "accumulate", 1)
    if isinstance(batch, int) and isinstance(parts, int) and parts > 0 and batch % parts:
        raise UserError(
            f"fit.{name}.accumulate={parts} does not divide fit.{name}.batch={batch}; give one "
            f"that does, such as --set fit.{name}.accumulate={batch}"
        )


def resolve_methods(config: Config, miniature: bool, joint: bool = False) -> tuple[Method, ...]:
    """The configured methods as the plan sees them; imports their modules. `joint`: for a backbone
    of several text encoders, whose miniature no method's rates were tuned on.
    """
    known = method_names(config.method_files)
    for key, named in (("fit", config.fit), ("points", config.points)):
        for name in named:
            if name not in known:
                raise unknown(f"method in {key}", name, known)
    names = check_names(config.methods, config.method_files)
    for name in config.fit:
        if name not in names:  # a slip in a recipe that is not trained now is one, too
            _method(config, name, miniature, joint)
    return tuple(_method(config, name, miniature, joint) for name in names)


def _method(config: Config, name: str, miniature: bool, joint: bool) -> Method:
    what = variant(name, config.method_files)
    module = load_method(what.base, config.method_files)
    asked, own = config.fit.get(what.base, {}), config.fit.get(name, {})
    changes = {**asked, **what.config}
    if config.train_steps and module.TRAINED and "steps" not in asked:  # of a preset that is short
        changes["steps"] = min(config.train_steps, recipe(module, name, changes, miniature).steps)
    if what.steps != 1.0:
        changes["steps"] = round(what.steps * recipe(module, name, changes, miniature).steps)
    changes |= own
    made = recipe(module, name, changes, miniature)
    refuse_uneven_parts(name, made)
    told = said(what.base, config.method_files)
    select = what.select if what.select is not None else config.select_step or told.selects
    where = sources(config.method_files)[what.base]
    version = str(module.VERSION)
    if where.endswith(".py"):  # an author at work changes code more often than the number
        version += "+" + hashlib.sha256(Path(where).read_bytes()).hexdigest()[:12]
    return Method(
        name=name,
        base=what.base,
        version=version,
        trained=module.TRAINED,
        prior=module.PRIOR,
        config=_keyed(made),
        select=select and module.TRAINED,
        points=what.points or (() if what.base in config.points else told.points),
        settings=told.settings,
        pairs=told.pairs,
        text_side=told.text_side,
        covariance=told.uses_covariance is not False,
        needs_covariance=told.uses_covariance is True,
        one_encoder=told.one_encoder,
        unet_only=told.unet_only,
        masks=bool(made.masks) if module.TRAINED and hasattr(made, "masks") else None,
        one_file=told.one_file,
        untuned=miniature and _is_guess(told, joint) and not _rates_chosen(told, changes),
        label="" if what.base in BUILT_IN else told.label,
        family="" if what.base in BUILT_IN else told.family,
        style={} if what.base in BUILT_IN else told.style,
        cite="" if what.base in BUILT_IN else told.cite,
    )


def _is_guess(told: Said, joint: bool) -> bool:
    """Whether nobody searched for the rates of MINIATURE on such a backbone."""
    return told.untuned or (joint and bool(told.tuned))


def _rates_chosen(told: Said, changes: Mapping[str, Any]) -> bool:
    """Whether each rate was set, by the user or a variant: one that was not is still a guess."""
    return bool(told.tuned) and all(rate in changes for rate in told.tuned)


def _keyed(recipe: Any) -> dict[str, Any]:
    """A recipe as fits are keyed by it: without later fields that it does not use, so that the keys
    of earlier fits stay."""
    return {
        f.name: getattr(recipe, f.name)
        for f in dataclasses.fields(recipe)
        if not f.metadata.get("later") or getattr(recipe, f.name) != f.default
    }


def without_masks(method: Method, files: Sequence[str] = ()) -> Method:
    """The same without masks, with the key of such a fit; a method without any stays as it is."""
    if "masks" not in method.config:
        return method
    made = load_method(method.base, files).Config(**{**method.config, "masks": False})
    return dataclasses.replace(
        method, config=_keyed(made), masks=None if method.masks is None else False
    )


def listed(files: Sequence[str] = ()) -> list[dict[str, Any]]:
    """For `perfbench ls methods`: what each says of itself, by family; read without importing
    torch.
    """
    rows: list[dict[str, Any]] = []
    for name, where in sources(files).items():
        told = said_of(where)
        rows.append(
            {
                "name": name,
                "label": told.label or name,
                "family": told.family,
                "trained": "yes" if told.trained else "no",
                "tuned": "no" if told.untuned else "yes" if told.tuned else "",
                "kilobytes": told.kilobytes,
                "format": told.format,
                "summary": told.summary,
                "of": where,
            }
        )
    order = [*FAMILIES, ""]
    rows.sort(key=lambda row: order.index(row["family"]))
    bases = {row["name"]: row for row in rows}
    rows += [
        {
            **bases[what.base],
            "name": name,
            "label": f"a variant of {what.base}",
            "summary": f"a variant of {what.base}",
            "of": what.base,
        }
        for name, what in VARIANTS.items()
    ]
    return rows


def citations(files: Sequence[str] = ()) -> str:
    """BibTeX of every method, each entry once."""
    return cited(said_of(where).cite for where in sources(files).values())


def uncited(files: Sequence[str]) -> list[str]:
    """The methods in files of the user's that say nothing to cite."""
    known = sources(files)
    own = [name for name in known if name not in sources()]
    return [name for name in own if not said_of(known[name]).cite]


def cite_of(base: str) -> str:
    """BibTeX of a built-in or installed method; empty for any other."""
    known = sources()
    return said_of(known[base]).cite if base in known else ""
