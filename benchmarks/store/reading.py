"""Reading a run folder: which runs there are, what they planned, what was scored, what fits cost.

In: a run folder of anybody. Out: run.json, rows and frames; one sentence where something is wrong.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import digest
from benchmarks.disk import read_json, read_manifest
from benchmarks.paths import RESULTS
from benchmarks.safe_paths import below, is_name, lies_below
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import IMPORTED, REAL
from benchmarks.store.csv_files import PLACES, read_frame, read_plan_file, read_plan_frame
from benchmarks.store.fit_costs import DEVICE, NUMBERS, measured_of
from benchmarks.store.older_runs import OLDER, upgraded
from benchmarks.store.run_folder import Store
from benchmarks.suite.drift_kinds import DRIFTS, OF_DRIFT, PLAIN
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


SCHEMA = 2  # of run.json


def find_run(given: str | Path | None = None, results: Path | None = None) -> Path:
    """A path, a name under results/, or the newest run."""
    results = results or RESULTS
    if given is None:
        runs = list_runs(results)
        if not runs:
            raise UserError(
                f"there is no run under {results}/; `perfbench run --preset quick` makes one"
            )
        return runs[-1]
    for path in (Path(given), results / given):
        if (path / "run.json").is_file():
            return path
    names = [run.name for run in list_runs(results)]
    shown = (
        f" (known: {', '.join(names)})" if names else "; `perfbench run --preset quick` makes one"
    )
    raise UserError(f"{given} is not a run folder: there is no run.json in it{shown}")


def known_run(run: Path) -> dict[str, Any]:
    """run.json for lists of runs: nothing where it cannot be read, which no other run should suffer
    from.
    """
    with suppress(UserError):
        return read_run(run)
    return {}


def list_runs(results: Path | None = None) -> list[Path]:
    """The runs under results/, the newest last."""
    runs = [
        (read_json(path) or {}, path.parent) for path in (results or RESULTS).glob("*/run.json")
    ]
    return [
        run
        for _, run in sorted(runs, key=lambda item: (str(item[0].get("started", "")), item[1].name))
    ]


def read_run(run: Path) -> dict[str, Any]:
    """run.json, the one reader of it; of an earlier version as if this one had written it."""
    found = read_json(run / "run.json")
    found = found if found is None else upgraded(found, SCHEMA) or found
    if found is not None and found.get("schema") != SCHEMA:
        raise _of_another_version(run, found.get("schema"))
    if found is None or not well_formed(found):
        raise UserError(
            f"{run / 'run.json'} is missing or damaged; give the same `perfbench run` command again"
        )
    return found


def imported_methods(about: Mapping[str, Any]) -> set[str]:
    """The methods of a run whose pictures were made elsewhere (`perfbench import`)."""
    methods = about.get("methods", {})
    return {name for name, method in methods.items() if method.get("of") == IMPORTED}


def untuned_methods(about: Mapping[str, Any]) -> list[str]:
    """The methods of a run whose rates for its backbone are a guess, as they were when it ran."""
    methods = about.get("methods", {})
    every = methods.items() if isinstance(methods, Mapping) else ()
    return [n for n, one in every if isinstance(one, Mapping) and one.get("untuned") is True]


def refuse_older(run: Path, about: Mapping[str, Any]) -> None:
    """Where more is needed than an earlier version recorded: digests of each concept and prompt."""
    if OLDER in about:
        raise _of_another_version(run, about[OLDER])


def _of_another_version(run: Path, schema: object) -> UserError:
    return UserError(
        f"{run}/run.json is of schema {schema!r:.60}, and only schema {SCHEMA} can be compared: "
        "make that run again with this version of perfbench"
    )


OBJECTS = (
    "config",
    "protocol",
    "digests",
    "super_categories",
    "backbone",
    "select_scorer",
    "methods",
    "libraries",
    "units",
    "seconds",
)


def well_formed(about: Mapping[str, Any]) -> bool:
    """Whether what run.json names is what it should be, and its names are names of folders."""
    scorers, methods = about.get("scorers"), about.get("methods", {})
    digests = about.get("digests", {})
    if not all(isinstance(about.get(key, {}), dict) for key in (*OBJECTS, "weights")):
        return False
    if not all(isinstance(digests.get(key, {}), dict) for key in ("concepts", "masks", "prompts")):
        return False
    if not all(isinstance(about.get(key, []), list) for key in ("commands", "failures", "argv")):
        return False
    if not _inner_ones_are_well(about):
        return False
    named = isinstance(scorers, list) and all(
        isinstance(one, dict) and is_name(one.get("name")) for one in scorers
    )
    return bool(named and scorers) and all(map(is_name, methods))


def _inner_ones_are_well(about: Mapping[str, Any]) -> bool:
    """The same of what stands inside of those objects and lists, wherever it does."""
    parts = [
        part for key in ("methods", "weights", "units") for part in about.get(key, {}).values()
    ]
    commands = about.get("commands", [])
    methods, backbone = about.get("methods", {}), about.get("backbone", {})
    vae = backbone.get("vae", {})
    if not all(isinstance(part, dict) for part in (*parts, *commands, vae)):
        return False
    config = about.get("config", {})
    lists = [one.get("argv", []) for one in (about, *commands)]
    texts = [about.get("started", ""), backbone.get("id", ""), *vae.values()]
    texts += about.get("super_categories", {}).values()
    return (
        _are_columns(about.get("columns", {}))
        and all(isinstance(one.get("config", {}), dict) for one in (*methods.values(), *commands))
        and all(map(_are_texts, [*lists, config.get("trained", [])]))
        and all(isinstance(text, str) and text.isprintable() for text in texts)
    )


def _are_columns(found: object) -> bool:
    """part -> column -> name -> value, as run.json has them of a suite that brings columns."""
    if not isinstance(found, dict) or not set(found) <= {"concepts", "prompts"}:
        return False
    parts = list(found.values())
    columns = [column for part in parts if isinstance(part, dict) for column in part.values()]
    return all(isinstance(one, dict) for one in (*parts, *columns)) and all(
        isinstance(value, str) and value.isprintable() for one in columns for value in one.values()
    )


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def refuse_without(run: Path, about: Mapping[str, Any], needed: Iterable[str]) -> None:
    """One sentence where run.json does not tell what a verb needs; `config.seed` is the key of a
    part.
    """
    for place in needed:
        part: Any = about
        for key in place.split("."):
            if not isinstance(part, Mapping) or key not in part:
                raise UserError(
                    f"{run / 'run.json'} is damaged: it does not tell {place}; make that run again"
                )
            part = part[key]


def read_planned(run: Path) -> list[dict[str, str]]:
    """plan.csv as plain rows: a planned cell of all commands given in this folder, without those
    that measure drift."""
    rows = read_plan_file(run / "plan.csv")
    if rows is None:
        raise _no_plan(run)
    return [row for row in rows if row["kind"] not in DRIFTS]


def read_cells(run: Path, drift: bool = False) -> list[CellRow]:
    """The same as planned cells, without their seeds; `drift`: with those that measure it."""
    rows = (read_plan_file(run / "plan.csv") if drift else None) or read_planned(run)
    return list(map(CellRow.read, rows))


def read_plan(run: Path) -> "pd.DataFrame":
    """The same as a frame, in a tenth of the time."""
    plan = _whole_plan(run)
    return plan[~plan["kind"].isin(DRIFTS)].reset_index(drop=True)


def read_drift_plan(run: Path) -> "pd.DataFrame":
    """The cells of plan.csv that measure drift, without the plain backbone's."""
    plan = _whole_plan(run)
    mine = plan["kind"].isin(DRIFTS) & (plan["concept"] != PLAIN)
    return plan[mine].reset_index(drop=True)


def _whole_plan(run: Path) -> "pd.DataFrame":
    plan = read_plan_frame(run / "plan.csv")
    if plan is None:
        raise _no_plan(run)
    return plan


def _no_plan(run: Path) -> UserError:
    return UserError(
        f"{run / 'plan.csv'} is missing or damaged; give the same `perfbench run` command again"
    )


def read_rows(
    run: Path, scorer: str | None = None, plan: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """All rows of one scorer (the reported one) that belong to planned cells, as planned; and the
    ceiling's. `plan`: what read_plan says, where it is known."""
    import pandas as pd

    name = scorer or read_run(run)["scorers"][0]["name"]
    store, plan = Store(run), read_plan(run) if plan is None else plan
    rows = planned_rows(run, name, plan).drop(columns=list(OF_DRIFT), errors="ignore")
    singles = dict.fromkeys(part for names in plan["concept"].unique() for part in names.split("+"))
    real = read_frame(store.rows_file(name, REAL, "default", concept) for concept in singles)
    real = real[
        (real["method"] == REAL) & (real["point"] == "default") & real["concept"].isin(singles)
    ]
    return pd.concat([rows, real], ignore_index=True)


def planned_rows(run: Path, scorer: str, plan: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of one scorer that belong to these planned cells, as planned."""
    import numpy as np
    import pandas as pd

    store = Store(run)
    addresses = (
        plan[["method", "point", "concept"]].drop_duplicates().itertuples(index=False, name=None)
    )
    rows = read_frame(store.rows_file(scorer, *address) for address in addresses)
    code, keys = pd.factorize(pd.concat([plan["key"], rows["key"]]))
    place = np.full(len(keys), -1)  # of a key in the plan; -1: not planned
    place[code[: len(plan)]] = np.arange(len(plan))
    place = place[code[len(plan) :]]
    # a file may say anything of its rows: they are those of the cell that has their key
    for column in PLACES:
        place[rows[column].to_numpy() != plan[column].to_numpy()[place]] = -1
    order = np.lexsort((rows["index"].to_numpy(), place))
    return rows.take(order[place[order] >= 0])


def planned_fits(run: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, concept and fit.json of the fits that planned cells need and that are here."""
    fits = below(run, "fits")
    paths = (path for path in sorted(fits.glob("*/*/fit.json")) if lies_below(fits, path))
    by_key = {about["key"]: about for about in map(read_manifest, paths) if about}
    rows = (
        read_plan(run)[["method", "concept", "fit"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    )
    pairs = (
        (method, *one)
        for method, concepts, keys in rows
        for one in zip(concepts.split("+"), keys.split("+"))
    )
    for method, concept, key in dict.fromkeys(pairs):
        if key in by_key:
            yield method, concept, by_key[key]


def read_fits(run: Path) -> "pd.DataFrame":
    """What each method's fits cost: method, concept, key, kilobytes (of 1,000 bytes), and what was
    measured of them (fit_costs.py).
    """
    import pandas as pd

    rows = []
    for method, concept, about in planned_fits(run):
        size = sum(
            file["bytes"] for name, file in about["files"].items() if not name.startswith("step-")
        )
        measured = measured_of(about).values()
        rows.append((method, concept, about["key"], size / 1000, *measured))
    return pd.DataFrame(rows, columns=["method", "concept", "key", *NUMBERS, DEVICE])


def read_weights(run: Path) -> dict[str, dict[str, str]]:
    """method -> concept -> digest of its trained files; runs that agree in it sampled from the same
    weights.
    """
    found: dict[str, dict[str, str]] = {}
    for method, concept, about in planned_fits(run):
        trained = {
            n: f["sha256"]
            for n, f in about["files"].items()
            if n.endswith(".safetensors") and n[:5] != "step-"
        }
        found.setdefault(method, {})[concept] = digest(trained)
    return found
