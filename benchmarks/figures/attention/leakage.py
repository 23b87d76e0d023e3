"""What was measured of attention: kept a method and a concept, and as the tables and maps that
figures show.

    attention/parts/<method>/<point>/<concept>.npz   leakage and maps of one method and point on one
                                                     concept, with a key
    attention/cells.csv     a row a (method, point, concept, prompt_id, t): leakage, area
    attention/leakage.csv   a row a (method, point, t): class-balanced means with 95 % intervals,
                            and, where one is untuned, which method's rates are a guess
    attention/maps.npz      one picture a concept, and every method's map of it

In: `Part`s and what was `Found` of them. Out: these files. No torch.
"""

import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.digests import digest
from benchmarks.disk import on_disk, replace
from benchmarks.figures.attention.known_pictures import Known
from benchmarks.store.reading import untuned_methods
from benchmarks.store.run_folder import Store, attention_file, attention_folder
from benchmarks.tables.grid import FLOOR
from benchmarks.tables.run_view import Run, starred
from benchmarks.tables.statistics import clustered
from benchmarks.tables.table_text import aligned, estimate, label, untuned_words, with_untuned

LEVELS = (250, 500, 750)  # timesteps of 1,000
SIDE = 256  # pixels of the pictures kept for the figure


@dataclass(frozen=True, eq=False)
class Part:
    """One method and point on one concept: what is measured in one go."""

    method: str
    point: str
    base: str
    concept: str
    super_category: str
    fit: str  # its key; empty where nothing is trained
    known: tuple[Known, ...]
    key: str

    @property
    def column(self) -> str:
        return f"{self.method}/{self.point}"


@dataclass(frozen=True)
class Found:
    """What a part gave: leakage [n, levels], maps [n, h, w] averaged over the levels."""

    leakage: np.ndarray
    maps: np.ndarray


def part_file(store: Store, part: Part) -> Path:
    return attention_file(store.root, "parts", part.method, part.point, f"{part.concept}.npz")


def read_part(store: Store, part: Part) -> Found | None:
    """None where it is absent, damaged, or of another key."""
    try:
        with np.load(part_file(store, part), allow_pickle=False) as arrays:
            if str(arrays["key"]) != part.key:
                return None
            return Found(arrays["leakage"], arrays["maps"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_part(store: Store, part: Part, found: Found) -> None:
    write_arrays(
        store,
        part_file(store, part),
        key=np.array(part.key),
        leakage=found.leakage,
        maps=found.maps,
    )


def write_arrays(store: Store, target: Path, **arrays: np.ndarray) -> None:
    """One .npz, published; the same arrays give the same bytes."""
    name = digest(["arrays", target.relative_to(store.root).as_posix()])
    with on_disk(store.root), store.locks.locked(name), store.aside(name) as aside:
        np.savez_compressed(aside / target.name, **arrays)  # type: ignore[arg-type]  # numpy's own keyword is a bool
        replace(aside / target.name, target)


def cells_of(found: Mapping[Part, Found]) -> pd.DataFrame:
    """A row a column, concept, picture and level; `area` is the share of the picture outside the
    object, which is what a word leaks that attends to everything alike."""
    return pd.DataFrame(
        [
            {
                "method": part.method,
                "point": part.point,
                "concept": part.concept,
                "prompt_id": known.name,
                "t": t,
                "leakage": float(leak),
                "area": 1 - float(known.mask.mean()) / 255,
            }
            for part, one in found.items()
            for known, leaks in zip(part.known, one.leakage)
            for t, leak in zip(LEVELS, leaks)
        ]
    )


def leakage_of(cells: pd.DataFrame, prompts: Collection[str]) -> pd.DataFrame:
    """Class-balanced means over concepts with their 95 % intervals; `excess` is what a word leaks
    more than the plain super-category does in the same pictures. Concepts share `prompts`; anything
    else is a picture of one concept."""
    shared = cells["prompt_id"].isin(list(prompts))
    cells = cells.assign(
        column=cells["prompt_id"].where(shared, cells["concept"] + "/" + cells["prompt_id"])
    )
    plain = cells[cells["method"] == FLOOR][["concept", "column", "t", "leakage"]]
    cells = cells.merge(plain, on=["concept", "column", "t"], how="left", suffixes=("", "_plain"))
    cells["excess"] = cells["leakage"] - cells["leakage_plain"]
    rows = []
    for (method, point, t), mine in cells.groupby(["method", "point", "t"], sort=False):
        leakage, excess = clustered(_wide(mine, "leakage")), clustered(_wide(mine, "excess"))
        rows.append(
            {
                "method": method,
                "point": point,
                "t": t,
                "leakage": leakage.value,
                "leakage_lo": max(leakage.lo, 0.0),
                "leakage_hi": min(leakage.hi, 1.0),
                "excess": excess.value,
                "excess_lo": excess.lo,
                "excess_hi": excess.hi,
                "area": clustered(_wide(mine, "area")).value,
                "n_concepts": mine["concept"].nunique(),
                "n_pictures": len(mine),
            }
        )
    return pd.DataFrame(rows)


def concepts_of(cells: pd.DataFrame) -> pd.DataFrame:
    """A row a column and concept: means over its pictures and levels, and `mean_*` over the
    column's concepts.
    """
    keys = ["method", "point"]
    means = cells.groupby([*keys, "concept"], sort=False)[["leakage", "area"]].mean().reset_index()
    over = means.groupby(keys, sort=False)[["leakage", "area"]].transform("mean")
    return means.assign(mean_leakage=over["leakage"], mean_area=over["area"])


def _wide(cells: pd.DataFrame, column: str) -> np.ndarray:
    """[C, P]"""
    return cells.pivot(index="concept", columns="column", values=column).to_numpy(float)


def write_attention(run: Run, store: Store, found: Mapping[Part, Found]) -> str:
    """cells.csv, leakage.csv, and maps.npz with one picture a concept, each time of another
    prompt.
    """
    folder, cells = attention_folder(run.folder), cells_of(found)
    own = {part.concept: [known.name for known in part.known] for part in found}
    leaks = leakage_of(cells, set(run.plan["prompt_id"]))
    shown = {
        concept: turn * len(names) // len(own) for turn, (concept, names) in enumerate(own.items())
    }
    columns = {name: list(group) for name, group in groupby(found, key=lambda part: part.column)}
    first = next(iter(columns.values()))
    picked = [part.known[shown[part.concept]] for part in first]
    maps = {
        f"map/{name}": np.stack([found[part].maps[shown[part.concept]] for part in parts])
        for name, parts in columns.items()
    }
    write_arrays(
        store, folder / "maps.npz", **maps,
        pictures=np.stack([smaller(one.picture) for one in picked]),
        masks=np.stack([smaller(one.mask) for one in picked]),
        concepts=np.array([part.concept for part in first]),
        texts=np.array([starred(one.template, run.words) for one in picked]),
    )  # fmt: skip
    untuned = untuned_methods(run.about)
    for name, frame in (("cells", cells), ("leakage", with_untuned(leaks, untuned))):
        rounded = frame.round(dict.fromkeys(frame.select_dtypes("float"), 6))
        store.write_text(folder / f"{name}.csv", rounded.to_csv(index=False, lineterminator="\n"))
    return text_of(leaks, untuned)


def smaller(picture: np.ndarray) -> np.ndarray:
    """At most SIDE pixels high: enough for a figure."""
    step = max(picture.shape[0] // SIDE, 1)
    high, wide = (size // step * step for size in picture.shape[:2])
    blocks = picture[:high, :wide].reshape(high // step, step, wide // step, step, -1)
    return (
        blocks.mean((1, 3))
        .round()
        .astype(np.uint8)
        .reshape(high // step, wide // step, *picture.shape[2:])
    )


def text_of(leaks: pd.DataFrame, untuned: Collection[str] = ()) -> str:
    """The table for people; `untuned`: methods whose rates are a guess."""
    against = leaks["method"].eq(FLOOR).any()
    head = [
        "leakage",
        "",
        *(f"t = {t}" for t in LEVELS),
        *(f"more than super, t = {t}" for t in LEVELS if against),
    ]
    rows = [head]
    for (method, point), mine in leaks.groupby(["method", "point"], sort=False):
        records = mine.to_dict("records")
        values = [estimate(r["leakage"], r["leakage_lo"], r["leakage_hi"]) for r in records]
        values += [
            estimate(r["excess"], r["excess_lo"], r["excess_hi"]) for r in records if against
        ]
        named = label("method", str(method), "default", untuned)
        rows.append([named, "" if point == "default" else str(point), *values])
    area, n = leaks["area"].iloc[0], int(leaks["n_concepts"].max())
    return f"""{aligned(rows)}

Share of the attention of the concept's word that lies outside the object, means over {n} \
concept{"s" * (n > 1)} with
95 % intervals. A word that attended to everything alike would leak {area:.3f}.
{untuned_words(leaks, untuned)}"""
