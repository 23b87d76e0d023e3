"""What only the pictures of a run can tell, judged by the miniature's judges: `python -m benchmarks.evidence look RUN`.

In: a run folder whose images are there. Out: looked-cells.csv in it, a row a cell:

    good       share of images that show the concept's instance and all that the prompt asks for
    several    1 where two images or more are good, else 0
    outline    share of images that the judge takes for the super-category's; empty where it does not know that kind
    styled     share of images in which the judge finds a style
    variety    how far the images lie from each other: their variance in the judge's features

and looked.csv, a row an operating point: the means of these with intervals, and

    frechet    distance of its pictures from renders of what they should show, in the judge's features; empty where the
               concepts are not the world's own
    harm       the same, less that of `super`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.evidence import LOOKED, LOOKED_CELLS
from benchmarks.grid import FLOOR, Point
from benchmarks.known_pictures import drawn_here, in_scenes, pictures_in
from benchmarks.miniature.data import FACTORS
from benchmarks.miniature.judges import Judges
from benchmarks.miniature.truth import granted
from benchmarks.runs import Run
from benchmarks.stats import clustered, crossed_draws, expanded
from benchmarks.store import Store, cell_folder, concept_folder
from perfusion_core.errors import UserError

DRAWS = 500  # of concepts, for the intervals of distances
SEEN = ("good", "several", "outline", "styled", "variety")


# ---- distances between sets of pictures


@dataclass(frozen=True)
class Moments:
    """Number, sum and sum of outer products of features: sets of pictures that can be added up."""

    n: float
    first: np.ndarray
    second: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> "Moments":
        features = features.astype(np.float64)
        return Moments(len(features), features.sum(0), features.T @ features)

    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.first / self.n
        return mean, self.second / self.n - np.outer(mean, mean)


def total(parts: Sequence[Moments], times: np.ndarray) -> Moments:
    """The sum of sets, each taken so many times."""
    kept = [(part, k) for part, k in zip(parts, times) if k]
    return Moments(
        sum(k * part.n for part, k in kept),
        np.sum([k * part.first for part, k in kept], axis=0),
        np.sum([k * part.second for part, k in kept], axis=0),
    )


def frechet(a: Moments, b: Moments) -> float:
    """Distance between two sets as if they were normal: |m - n|^2 + tr(C + D - 2 (CD)^1/2)."""
    (m, c), (n, d) = a.normal(), b.normal()
    roots = np.sqrt(np.clip(np.linalg.eigvals(c @ d).real, 0, None))  # also where a feature never moves
    return float(((m - n) ** 2).sum() + np.trace(c + d) - 2 * roots.sum())


# ---- a run


def look(run: Run, judges: Judges) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Operating points, and cells, of single concepts."""
    plan = run.plan[run.plan["kind"] != "pair"]
    if FLOOR not in set(plan["method"]):
        raise UserError(f"{run.name} has no images of super to compare with")
    concepts = sorted(set(plan["concept"]))
    own = {name: judges.identity(np.stack(pictures_in(concept_folder(run.folder, name)))).mean(0) for name in concepts}
    cells: list[dict[str, Any]] = []
    moments: dict[Point, list[Moments]] = {}
    for (method, point), mine in plan.groupby(["method", "point"], sort=False):
        by_concept = [_concept(run, judges, mine[mine["concept"] == name], own[name]) for name in concepts]
        moments[str(method), str(point)] = [one for one, _ in by_concept]
        cells += [cell for _, found in by_concept for cell in found]
    seen = pd.DataFrame(cells)
    distances = _distances(run, judges, plan, concepts, moments)
    plain = next((drawn for (method, _), drawn in distances.items() if method == FLOOR), np.full(1, np.nan))
    rows = []
    for method, point in moments:
        row: dict[str, object] = {"method": method, "point": point}
        drawn = distances.get((method, point), np.full(1, np.nan))
        row |= expanded(drawn, len(concepts)).named("frechet")
        row |= expanded(drawn - plain, len(concepts)).named("harm")
        mine = seen[(seen["method"] == method) & (seen["point"] == point)].set_index(["concept", "prompt_id"])
        for name in SEEN:
            row |= clustered(mine[name].unstack("prompt_id").to_numpy(float)).named(name)
        rows.append(row)
    return pd.DataFrame(rows), seen


def _concept(run: Run, judges: Judges, mine: pd.DataFrame, own: np.ndarray) -> tuple[Moments, list[dict[str, Any]]]:
    """The cells of one point and concept."""
    rows = mine.to_dict("records")
    if not rows:
        raise UserError(f"{run.name} has not the same concepts at every operating point; look at a finished run")
    pictures = [_pictures(run, row) for row in rows]
    every = np.concatenate(pictures)
    features, said = judges.features(every), judges.factors(every)
    same = judges.identity(every) @ own >= judges.same
    cells, begin = [], 0
    for row, few in zip(rows, pictures):
        part = slice(begin, begin := begin + len(few))
        right = same[part] & granted({name: values[part] for name, values in said.items()}, row["text"])
        known = row["super_category"] in FACTORS["cls"]
        cells.append({
            **{name: row[name] for name in ("method", "point", "concept", "prompt_id", "kind")}, "n": len(few),
            "good": right.mean(), "several": float(right.sum() >= 2),
            "outline": (said["cls"][part] == row["super_category"]).mean() if known else np.nan,
            "styled": (said["style"][part] != "none").mean(),
            "variety": features[part].var(0, ddof=1).sum() if len(few) > 1 else np.nan,
        })  # fmt: skip
    return Moments.of(features), cells


def _pictures(run: Run, row: Mapping[Any, Any]) -> np.ndarray:
    folder = cell_folder(run.folder, row["method"], row["point"], row["concept"], row["prompt_id"])
    found = pictures_in(folder) if folder.is_dir() else []
    if len(found) < row["n"]:
        raise UserError(
            f"{run.name} has {len(found)} of {row['n']} images of {folder.relative_to(run.folder)}: they must be kept"
        )
    return np.stack(found)


def _distances(
    run: Run, judges: Judges, plan: pd.DataFrame, concepts: Sequence[str], moments: Mapping[Point, Sequence[Moments]]
) -> dict[Point, np.ndarray]:
    """Of every point from what it should show, in draws of concepts; without those of which that is not known."""
    times = crossed_draws(len(concepts), np.zeros(1), n=DRAWS).concepts
    true = {plain: [_renders(run, judges, plan, name, own=not plain) for name in concepts] for plain in (True, False)}
    found = {}
    for point, sets in moments.items():
        aims = [aim for aim in true[point[0] == FLOOR] if aim is not None]
        if len(aims) == len(concepts):
            found[point] = np.array([frechet(total(sets, t), total(aims, t)) for t in times])
    return found


def _renders(run: Run, judges: Judges, plan: pd.DataFrame, concept: str, own: bool) -> Moments | None:
    """As many pictures as there should be, drawn by the world; None where it has no such instance, or no word."""
    if own and not drawn_here(concept_folder(run.folder, concept), concept):
        return None
    mine = plan[plan["concept"] == concept].drop_duplicates("prompt_id")
    templates = dict(zip(mine["prompt_id"], mine["template"]))
    word, n = mine["super_category"].iloc[0], int(mine["n"].max())
    known = [one for index in range(n) for one in in_scenes(concept, word, templates, index=index, own=own)]
    return Moments.of(judges.features(np.stack([one.picture for one in known]))) if known else None


def write(folder: Path, judges: Judges) -> pd.DataFrame:
    points, cells = look(Run(folder), judges)
    for name, frame in ((LOOKED_CELLS, cells), (LOOKED, points)):
        text = frame.round(6).to_csv(index=False, lineterminator="\n")
        Store(folder).write_text(folder / name, text)
    return points
