"""May two runs be compared, and what of them? In: run.json and cells of both. Out: what differs, in
words; cells.

Runs of two drawn worlds differ in that alone, in words: all else follows from it.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.miniature.which_world import one_generation, world_here, worlds_apart, xl_of
from benchmarks.store.run_json import changed
from benchmarks.tables.grid import CEILING
from benchmarks.tables.margins import METRICS

KEYS = ["method", "point", "concept", "prompt_id", "metric"]
# parts of a run's protocol that may differ: what is being judged, repeats, and what other fields
# say better
FREE = {
    "preset",
    "seed",
    "dtype",
    "compile",
    "rows",
    "fit",
    "trained",
    "keep",
    "revision",
    "backbone",
    "backbone_digest",
    "scorers",
}


def protocol_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree in two run.json: with what and by whom the numbers were measured."""
    return {
        "backbone": (about.get("backbone") or {}).get("sha256"),
        "scorer": (about.get("scorers") or [None])[0],
        **{key: value for key, value in (about.get("protocol") or {}).items() if key not in FREE},
    }


def conditions_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ, and is worth a line where it does."""
    protocol = about.get("protocol") or {}
    # as the command said it: an older run's protocol does not name it
    compiled = bool((about.get("config") or {}).get("compile"))
    return {key: about.get(key) for key in ("version", "commit", "device", "dtype")} | {
        "compile": compiled,
        "seed": seed_of(about),
        "rows": protocol.get("rows"),
    }


def seed_of(about: Mapping[str, Any]) -> Any:
    """Of all noise that a run draws; margins say whether another one may be compared."""
    return (about.get("protocol") or {}).get("seed")


def changes(reference: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """`steps: 50 -> 20` for all that differs."""
    return [
        f"{key}: {_short(reference.get(key))} -> {_short(run.get(key))}"
        for key in {**reference, **run}
        if reference.get(key) != run.get(key)
    ]


def differing(reference: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """What keeps two run.json from being compared: of their protocols, and of the texts and
    concepts that both have.
    """
    if apart := worlds_apart(reference, run):
        return [f"world: {' -> '.join(apart)}"]
    return changes(protocol_of(reference), protocol_of(run)) + changed(
        reference["digests"], run["digests"]
    )


def of_two_worlds(
    one: str, about_one: Mapping[str, Any], other: str, about_other: Mapping[str, Any]
) -> str:
    """The sentence that refuses to put two runs into one table; empty where they are of one
    world."""
    apart = worlds_apart(about_one, about_other)
    if not apart:
        return ""
    if one_generation(apart):
        return (
            f"{one} was drawn in the {apart[0]} world and {other} in the {apart[1]}, by another "
            f"backbone: numbers of two worlds share no table; compare methods within each"
        )
    return (
        f"{one} was drawn in the {apart[0]} world and {other} in the {apart[1]}: numbers of two "
        f"worlds share no table; make {_older(apart, one, other)} again with this version's "
        f"miniature, in another folder"
    )


def _older(apart: tuple[str, str], one: str, other: str) -> str:
    """Which of two can be made again here: the one that is not of the shipped weights' world."""
    return other if xl_of(apart[0]) == xl_of(world_here()) else one


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("id") or dict(value))
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def scored(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that are judged: those of methods, with a score."""
    mine = cells[(cells["method"] != CEILING) & cells["metric"].isin(METRICS)].dropna(
        subset=["mean"]
    )
    return (
        mine.astype(dict.fromkeys(KEYS, str))
        .sort_values(KEYS, kind="stable")
        .reset_index(drop=True)
    )


def points_of(cells: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(cells["method"], cells["point"]))


def within(cells: pd.DataFrame, points: Container[tuple[str, str]]) -> pd.DataFrame:
    inside = [point in points for point in zip(cells["method"], cells["point"])]
    return cells[pd.Series(inside, index=cells.index, dtype=bool)]


def apart(
    reference: pd.DataFrame, run: pd.DataFrame, wanted: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str], list[str], list[str]]:
    """Both without the concepts and prompts that only one of them has, within the operating points
    that both have.

    -> them, what was lost on the way, what the run was not asked for, what the reference was not.
    `wanted`: digests of the run; what is in there and has no score at all was lost.
    """
    shared = points_of(reference) & points_of(run)
    new = [" ".join(point) for point in sorted(points_of(run) - points_of(reference))]
    lost, not_asked, more = (
        [],
        [],
        [f"{some(new, 'operating point')} not in the reference"] if new else [],
    )
    for column, name, part in (
        ("concept", "concept", "concepts"),
        ("prompt_id", "prompt", "prompts"),
    ):
        before, now = (set(within(cells, shared)[column]) for cells in (reference, run))
        if shared and not before & now:
            lost += [f"no {name} is in both"]
        gone = sorted(before - now)
        asked = [one for one in gone if one in wanted[part]]
        lost += [f"{some(asked, name)} without any score in the run"] if asked else []
        gone = [one for one in gone if one not in asked]
        not_asked += [some(gone, name)] if gone else []
        more += [f"{some(sorted(now - before), name)} not in the reference"] if now - before else []
        reference, run = (cells[cells[column].isin(before & now)] for cells in (reference, run))
    return reference, run, lost, not_asked, more


def unpaired(reference: pd.DataFrame, run: pd.DataFrame) -> list[str]:
    """Concepts, prompts and cells that only one of the two has, within the operating points that
    both have.
    """
    shared = points_of(reference) & points_of(run)
    if not shared:
        return ["no method and operating point is in both"]
    before, now = within(reference, shared), within(run, shared)
    found = []
    for one, other, where in (
        (before, now, "not in the run"),
        (now, before, "not in the reference"),
    ):
        for column, name in (("concept", "concept"), ("prompt_id", "prompt")):
            lacking = sorted(set(one[column]) - set(other[column]))
            found += [f"{some(lacking, name)} {where}"] if lacking else []
            one = one[~one[column].isin(lacking)]
        lacking_cells = one.merge(other[KEYS], on=KEYS, how="left", indicator="where").query(
            "where == 'left_only'"
        )
        named = [" ".join(row) for row in lacking_cells[KEYS].itertuples(index=False)]
        found += [f"{some(named, 'cell')} without a score, {where}"] if named else []
    n = before.merge(now, on=KEYS).query("n_x != n_y")
    named = [" ".join(row) for row in n[KEYS].itertuples(index=False)]
    return found + ([f"{some(named, 'cell')} of another number of images"] if named else [])


def some(names: Sequence[str], what: str) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({', '.join(names[:3])}{rest})"


def same_weights(reference: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether run.json says that both sampled from the same trained files, of all fits that both
    have.
    """
    mine, theirs = reference.get("weights") or {}, run.get("weights") or {}
    shared = [
        (method, c)
        for method in mine.keys() & theirs.keys()
        for c in mine[method].keys() & theirs[method].keys()
    ]
    return bool(shared) and all(
        mine[method][concept] == theirs[method][concept] for method, concept in shared
    )
