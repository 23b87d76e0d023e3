"""The plan of the confirmatory run, written before its first fit: `plan.toml` in its folder.

In: the file. Out: a `ConfirmPlan`; one sentence where it lacks something, or contradicts itself.
"""

import csv
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.planning.config import Config
from benchmarks.planning.points import OperatingPoint
from benchmarks.running.flags import FLAGS
from benchmarks.tables.grid import Point
from benchmarks.tables.group_sequential import obrien_fleming
from benchmarks.tables.halving_rows import TRAININGS, read_trainings
from perfusion_core.errors import UserError, unknown

PLAN = "plan.toml"
BOTH = "both_axes"  # image_sim and text_sim of one point a side: ahead where it is on both
FRONT = "front"  # the additive epsilon of one set of points over another (tables/dominance.py)
MEASURES = (BOTH, FRONT, "image_sim", "text_sim", "text_sim_deform", "harmonic",
            "image_sim_heldout", "copy_gap", "drift", "drift_class")  # fmt: skip
DECIMALS = 3  # of the boundaries in the file
OURS = ("concepts", "out", "by_concept", "drop_fits", "method_files")  # not the plan's to say


@dataclass(frozen=True)
class Compared:
    """A measure of some operating points, less that of others; each side the mean over its points,
    or their front.
    """

    measure: str
    of: tuple[Point, ...]
    minus: tuple[Point, ...]

    @property
    def words(self) -> str:
        sides = (", ".join("/".join(point) for point in side) for side in (self.of, self.minus))
        return f"{self.measure}: {' minus '.join(sides)}"


@dataclass(frozen=True)
class Primary:
    """A claim with its one primary part: that the difference is above zero."""

    name: str
    says: str
    where: str  # in the paper
    part: Compared
    delta: float  # what has not crossed and is shown to be smaller is equivalent
    why: str  # of the delta
    beside: tuple[Compared, ...] = ()  # reported with it; decides nothing


@dataclass(frozen=True)
class Looks:
    """When it is looked at, and how far out a difference must lie then."""

    concepts: tuple[int, ...]
    alpha: float  # of a difference, both sides together, all looks together
    boundaries: tuple[float, ...]  # standard errors
    equivalence: float  # of each of two one-sided tests, all looks together
    equivalence_boundaries: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of all concepts: the information of a mean over concepts grows with their number."""
        return tuple(n / self.concepts[-1] for n in self.concepts)


@dataclass(frozen=True)
class ConfirmPlan:
    """All that is decided before the first fit."""

    looks: Looks
    run: Mapping[str, Any]  # keys of `perfbench run`
    rates_file: str  # where the tuning put what it chose
    rates_of: tuple[str, ...]  # the methods whose rates are taken from there
    claims: tuple[Primary, ...]
    carried: str = ""  # why rates of another backbone are taken, where they are

    @property
    def points(self) -> list[Point]:
        return [(name, point) for name in self.run["methods"] for point in self.run["points"][name]]

    @property
    def frame(self) -> str:
        """Digest of all that the claims have in common."""
        carried = [self.carried] if self.carried else []
        return digest([_plain(self.looks), self.run, self.rates_file, self.rates_of, *carried])

    def rule(self, claim: Primary) -> str:
        """Digest of what is claimed, and of what decides about it."""
        return digest([_plain(self.looks), _plain(claim.part), claim.delta, claim.says])

    def command(self, rates: Mapping[str, float], concepts: Iterable[str], out: Path) -> list[str]:
        """`perfbench ...` for these concepts; `rates` by their keys, `fit.ti.lr`."""
        flag_of = {key: flag for flag, (key, _, _) in FLAGS.items()}
        words = ["run", "--by-concept", "--drop-fits", "--out", str(out)]
        words += ["--concepts", ",".join(concepts)]
        for key, value in [*_flat(self.run), *sorted(rates.items())]:
            text = _text(value)
            if key == "preset":
                words += ["--preset", text]
            else:
                words += [flag_of[key], text] if key in flag_of else ["--set", f"{key}={text}"]
        return words


def _plain(value: Any) -> Any:
    """Dataclasses as their fields, tuples as lists."""
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(one) for one in value] if isinstance(value, (tuple, list)) else value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# ---- reading ----


class _Table:
    """A table of the file: what is taken from it is of the right kind, and nothing is left over."""

    def __init__(self, path: Path, name: str, found: Any) -> None:
        self.where = f"{path}, [{name}]"
        if not isinstance(found, dict):
            raise UserError(f"{path} has no [{name}]; docs/experiments.md tells what a plan says")
        self.found, self.taken = found, set[str]()

    def take(self, key: str, kind: type, what: str) -> Any:
        self.taken.add(key)
        value = self.found.get(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or value in ("", [], {}):
            raise UserError(f"{self.where}: {key} is to be {what}")
        return value

    def done(self) -> None:
        if others := sorted(self.found.keys() - self.taken):
            raise UserError(f"{self.where}: {unknown('key', others[0], self.taken)}")


def read_confirm_plan(path: Path) -> ConfirmPlan:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no plan {path}; name the folder that has one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not a TOML file that can be read: {error}") from None
    if others := sorted(found.keys() - {"looks", "run", "rates", "claim"}):
        raise UserError(
            f"{path}: {unknown('table', others[0], ('looks', 'run', 'rates', 'claim'))}"
        )
    run = _read_run(path, found.get("run"))
    rates = _Table(path, "rates", found.get("rates"))
    file = rates.take("file", str, "the settings.csv that `perfbench tune --halving` wrote")
    methods = rates.take("methods", list, "the methods whose rates it has")
    carried = ""
    if "carried" in rates.found:
        carried = rates.take("carried", str, "why rates of another backbone are taken")
    rates.done()
    plan = ConfirmPlan(
        _read_looks(path, found.get("looks")),
        run,
        file,
        _names(rates.where, "methods", methods),
        (),
        carried,
    )
    claims = found.get("claim")
    if not isinstance(claims, list) or not claims:
        raise UserError(f"{path} has no [[claim]]; write one for each primary claim")
    read = tuple(_read_claim(path, one, set(plan.points)) for one in claims)
    names = [claim.name for claim in read]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} has two claims called {twice}; rename one")
    return replace(plan, claims=read)


def _names(where: str, key: str, found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise UserError(f"{where}: {key} is to be a list of names")
    return tuple(found)


def _read_run(path: Path, found: Any) -> Mapping[str, Any]:
    run = _Table(path, "run", found).found
    known = {f.name for f in fields(Config)} - set(OURS)
    if others := sorted(run.keys() - known):
        raise UserError(f"{path}, [run]: {unknown('key', others[0], known)}")
    methods = _names(f"{path}, [run]", "methods", run.get("methods"))
    points = run.get("points") or {}
    if not methods or not isinstance(points, dict):
        raise UserError(f"{path}, [run] says no methods, or no [run.points]; write both")
    for name in methods:
        if name not in points:
            raise UserError(
                f"{path}, [run.points] does not say at which points {name} is drawn; write for "
                f'example {name} = ["default"]'
            )
        for point in _names(f"{path}, [run.points]", name, points[name]):
            if (usual := str(OperatingPoint.parse(point))) != point:
                raise UserError(f"{path}, [run.points]: {name} has {point}; write {usual}")
    if others := sorted(set(points) - set(methods)):
        raise UserError(f"{path}, [run.points]: {unknown('method', others[0], methods)}")
    return run


def _read_looks(path: Path, found: Any) -> Looks:
    table = _Table(path, "looks", found)
    concepts = table.take("concepts", list, "numbers of concepts that grow, such as [22, 44, 66]")
    if not all(type(n) is int and n > 1 for n in concepts) or concepts != sorted(set(concepts)):
        raise UserError(f"{table.where}: concepts is to be numbers above 1 that grow")
    levels = {
        name: table.take(name, float, "a probability, such as 0.05")
        for name in ("alpha", "equivalence")
    }
    shares, edges = tuple(n / concepts[-1] for n in concepts), {}
    # of two one-sided tests, each side has the level by itself
    for name, of, both in (
        ("boundaries", "alpha", 1),
        ("equivalence_boundaries", "equivalence", 2),
    ):
        if not 0 < levels[of] < 0.5:
            raise UserError(f"{table.where}: {of} is to lie between 0 and 0.5")
        said = table.take(name, list, "a number a look")
        right = [round(z, DECIMALS) for z in obrien_fleming(shares, both * levels[of])]
        if said != right:
            raise UserError(
                f"{table.where}: {name} is {said}, and O'Brien and Fleming's for these looks is "
                f"{right}; write that"
            )
        edges[name] = tuple(right)
    table.done()
    return Looks(tuple(concepts), levels["alpha"], edges["boundaries"], levels["equivalence"],
                 edges["equivalence_boundaries"])  # fmt: skip


def _read_claim(path: Path, found: Any, drawn: set[Point]) -> Primary:
    table = _Table(path, "[claim]", found)
    name = table.take("name", str, "a short name")
    table.where = f"{path}, claim {name}"
    says = table.take("says", str, "a sentence")
    where = table.take("where", str, "a place in the paper")
    why = table.take("why", str, "the reason of the delta")
    delta = table.take("delta", float, "the largest difference that is none, above 0")
    if not delta > 0:
        raise UserError(f"{table.where}: delta is {delta:g}; write a number above 0")
    part = _read_compared(table, drawn)
    if part.measure == FRONT:
        raise UserError(
            f"{table.where}: {FRONT} picks the best of its points once their scores are there; "
            f"write {BOTH} and one point a side, and {FRONT} in [[claim.beside]]"
        )
    if part.measure == BOTH and (len(part.of), len(part.minus)) != (1, 1):
        raise UserError(f"{table.where}: {BOTH} compares two points; write one a side")
    beside = table.found.get("beside", [])
    table.taken.add("beside")
    if not isinstance(beside, list):
        raise UserError(f"{table.where}: beside is to be [[claim.beside]]")
    others = []
    for one in beside:
        more = _Table(path, "[claim.beside]", one)
        others.append(_read_compared(more, drawn))
        more.done()
    table.done()
    return Primary(name, says, where, part, delta, why, tuple(others))


def _read_compared(table: _Table, drawn: set[Point]) -> Compared:
    measure = table.take("measure", str, f"one of {', '.join(MEASURES)}")
    if measure not in MEASURES:
        raise UserError(f"{table.where}: {unknown('measure', measure, MEASURES)}")
    sides = []
    for side in ("of", "minus"):
        named = _names(table.where, side, table.take(side, list, "a list of METHOD/POINT"))
        points = tuple((name.partition("/")[0], name.partition("/")[2]) for name in named)
        if lost := [point for point in points if point not in drawn]:
            raise UserError(
                f"{table.where}: {side} names {'/'.join(lost[0])}, which [run] does not draw"
            )
        sides.append(points)
    return Compared(measure, *sides)


# ---- the rates that the tuning chose ----


def tuned_rates(plan: ConfirmPlan, path: Path) -> dict[str, float]:
    """`fit.ti.lr` and so on, as the tuning's settings.csv marks them `chosen`."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(
            f"the rates that were tuned are not there ({path}); `perfbench tune --halving` writes "
            f"them, and plan.md has the whole command"
        ) from None
    found: dict[str, float] = {}
    for method in plan.rates_of:
        chosen = [row for row in rows if (row.get("method"), row.get("chosen")) == (method, "yes")]
        if len(chosen) != 1:
            raise UserError(f"{path} marks {len(chosen)} settings of {method} as chosen, not one")
        for part in str(chosen[0].get("rates", "")).split():
            name, _, value = part.partition("=")
            try:
                found[f"fit.{method}.{name}"] = float(value)
            except ValueError:
                raise UserError(f"{path}: the rates of {method} cannot be read ({part})") from None
    return found


def refuse_other_backbone(plan: ConfirmPlan, path: Path, digest: str) -> None:
    """Rates are of the weights that they were tuned on: trainings.csv beside the settings tells."""
    rows = read_trainings(path.with_name(TRAININGS))
    if untold := [method for method in plan.rates_of if method not in set(rows["method"])]:
        raise UserError(
            f"{path.with_name(TRAININGS)} has no trainings of {untold[0]}, so nobody knows on "
            f"which backbone its rates were tuned; the command in plan.md writes them"
        )
    others = sorted(set(rows["digest"]) - {digest[:12]})
    if others and not plan.carried:
        raise UserError(
            f"{path} was tuned on another backbone ({others[0]}, not {digest[:12]}); tune on this "
            f'one, or write in [rates] why they serve: carried = "..."'
        )
