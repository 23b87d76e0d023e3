"""What only the pictures of a run can tell, judged by the miniature's judges: `python -m
benchmarks.evidence look RUN`.

In: a run folder whose images are there. Out: looked-cells.csv in it, a row a cell:

    good       share of images that show the concept's instance and all that the prompt asks for;
               empty where it asks for nothing that the judge knows
    several    1 where two images or more are good, else 0
    outline    share of images that the judge takes for the super-category's; empty where it does
               not know that kind
    styled     share of images in which the judge finds a style
    variety    how far the images that show the instance lie from each other: their variance in the
               judge's features

and looked.csv, a row an operating point: the means of these with intervals, and

    frechet    distance of its pictures from renders of what they should show, in the judge's
               features, every concept counting the same; empty where the concepts are not the
               world's own
    harm       the same, less that of `super`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.evidence import LOOKED, LOOKED_CELLS
from benchmarks.figures.attention.known_pictures import drawn_here, in_scenes, pictures_in
from benchmarks.miniature.training.judges import Judges
from benchmarks.miniature.training.training_data import FACTORS
from benchmarks.scoring.truth import granted, wishes
from benchmarks.store.run_folder import Store, cell_folder, concept_folder
from benchmarks.tables.grid import FLOOR, Point
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import Interval, clustered
from perfusion_core.errors import UserError

SEEN = ("good", "several", "outline", "styled", "variety")


# ---- distances between sets of pictures


@dataclass(frozen=True)
class Moments:
    """Means of features and of their outer products, over a set of pictures."""

    first: np.ndarray
    second: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> "Moments":
        features = features.astype(np.float64)
        return Moments(features.mean(0), features.T @ features / len(features))

    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        return self.first, self.second - np.outer(self.first, self.first)


def mean_moments(sets: Sequence[Moments]) -> Moments:
    """Of all sets, each counting the same whatever its number of pictures."""
    return Moments(
        np.mean([one.first for one in sets], axis=0), np.mean([one.second for one in sets], axis=0)
    )


def frechet(a: Moments, b: Moments) -> float:
    """Distance between two sets as if they were normal: |m - n|^2 + tr(C + D - 2 (CD)^1/2)."""
    (m, c), (n, d) = a.normal(), b.normal()
    # also where a feature never moves
    roots = np.sqrt(np.clip(np.linalg.eigvals(c @ d).real, 0, None))
    return float(((m - n) ** 2).sum() + np.trace(c + d) - 2 * roots.sum())


def leaving_out(sets: Sequence[Moments], aims: Sequence[Moments]) -> np.ndarray:
    """[1 + C] the distance of all concepts' sets from their aims, then without each concept in
    turn.
    """
    every = range(len(sets))
    kept = [list(every), *([k for k in every if k != gone] for gone in every if len(sets) > 1)]
    return np.array(
        [
            frechet(mean_moments([sets[k] for k in who]), mean_moments([aims[k] for k in who]))
            for who in kept
        ]
    )


def jackknife(values: np.ndarray) -> Interval:
    """Mean and t interval of the pseudo-values of what `leaving_out` gives. In a bootstrap,
    concepts taken twice would let sets look further apart than they are: what is particular to a
    concept averages out the less."""
    n = len(values) - 1
    if n < 2:
        return Interval(float(values[0]), np.nan, np.nan)
    return clustered((n * values[0] - (n - 1) * values[1:])[:, None])


# ---- a run


def judge_run(run: Run, judges: Judges) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Operating points, and cells, of single concepts."""
    plan = run.plan[run.plan["kind"] != "pair"]
    if FLOOR not in set(plan["method"]):
        raise UserError(f"{run.name} has no images of super to compare with")
    concepts = sorted(set(plan["concept"]))
    own = {
        name: judges.identity(np.stack(pictures_in(concept_folder(run.folder, name)))).mean(0)
        for name in concepts
    }
    cells: list[dict[str, Any]] = []
    moments: dict[Point, list[Moments]] = {}
    for (method, point), mine in plan.groupby(["method", "point"], sort=False):
        by_concept = [
            _concept(run, judges, mine[mine["concept"] == name], own[name]) for name in concepts
        ]
        moments[str(method), str(point)] = [one for one, _ in by_concept]
        cells += [cell for _, found in by_concept for cell in found]
    seen = pd.DataFrame(cells)
    distances = _distances(run, judges, plan, concepts, moments)
    plain = next(
        (found for (method, _), found in distances.items() if method == FLOOR), np.full(1, np.nan)
    )
    rows = []
    for method, point in moments:
        row: dict[str, object] = {"method": method, "point": point}
        found = distances.get((method, point), np.full(1, np.nan))
        row |= jackknife(found).named("frechet") | jackknife(found - plain).named("harm")
        mine = seen[(seen["method"] == method) & (seen["point"] == point)].set_index(
            ["concept", "prompt_id"]
        )
        for name in SEEN:
            row |= clustered(mine[name].unstack("prompt_id").to_numpy(float)).named(name)
        rows.append(row)
    return pd.DataFrame(rows), seen


def _concept(
    run: Run, judges: Judges, mine: pd.DataFrame, own: np.ndarray
) -> tuple[Moments, list[dict[str, Any]]]:
    """The cells of one point and concept."""
    rows = mine.to_dict("records")
    if not rows:
        raise UserError(
            f"{run.name} has not the same concepts at every operating point; look at a finished run"
        )
    pictures = [_pictures(run, row) for row in rows]
    every = np.concatenate(pictures)
    features, said = judges.features(every), judges.factors(every)
    same = judges.identity(every) @ own >= judges.same
    cells, begin = [], 0
    for row, few in zip(rows, pictures):
        part = slice(begin, begin := begin + len(few))
        shown = same[part]
        right = shown & granted({name: values[part] for name, values in said.items()}, row["text"])
        asked = bool(wishes()[row["text"]])
        known = row["super_category"] in FACTORS["cls"]
        cells.append(
            {
                **{name: row[name] for name in ("method", "point", "concept", "prompt_id", "kind")},
                "n": len(few),
                "good": right.mean() if asked else np.nan,
                "several": float(right.sum() >= 2) if asked else np.nan,
                "outline": (said["cls"][part] == row["super_category"]).mean() if known else np.nan,
                "styled": (said["style"][part] != "none").mean(),
                "variety": features[part][shown].var(0, ddof=1).sum()
                if shown.sum() > 1
                else np.nan,
            }
        )
    return Moments.of(features), cells


def _pictures(run: Run, row: Mapping[Any, Any]) -> np.ndarray:
    folder = cell_folder(run.folder, row["method"], row["point"], row["concept"], row["prompt_id"])
    found = pictures_in(folder) if folder.is_dir() else []
    if len(found) < row["n"]:
        raise UserError(
            f"{run.name} has {len(found)} of {row['n']} images of "
            f"{folder.relative_to(run.folder)}: they must be kept"
        )
    return np.stack(found)


def _distances(
    run: Run,
    judges: Judges,
    plan: pd.DataFrame,
    concepts: Sequence[str],
    moments: Mapping[Point, Sequence[Moments]],
) -> dict[Point, np.ndarray]:
    """Of every point from what it should show, as `leaving_out` has it; without those of which that
    is not known.
    """
    true = {
        plain: [_renders(run, judges, plan, name, own=not plain) for name in concepts]
        for plain in (True, False)
    }
    found = {}
    for point, sets in moments.items():
        aims = [aim for aim in true[point[0] == FLOOR] if aim is not None]
        if len(aims) == len(concepts):
            found[point] = leaving_out(sets, aims)
    return found


def _renders(
    run: Run, judges: Judges, plan: pd.DataFrame, concept: str, own: bool
) -> Moments | None:
    """As many pictures as there should be, drawn by the world; None where it has no such instance,
    or no word.
    """
    if own and not drawn_here(concept_folder(run.folder, concept), concept):
        return None
    mine = plan[plan["concept"] == concept].drop_duplicates("prompt_id")
    templates = dict(zip(mine["prompt_id"], mine["template"]))
    word, n = mine["super_category"].iloc[0], int(mine["n"].max())
    known = [
        one
        for index in range(n)
        for one in in_scenes(concept, word, templates, index=index, own=own)
    ]
    return Moments.of(judges.features(np.stack([one.picture for one in known]))) if known else None


def write_judged(folder: Path, judges: Judges) -> pd.DataFrame:
    points, cells = judge_run(Run(folder), judges)
    for name, frame in ((LOOKED_CELLS, cells), (LOOKED, points)):
        text = frame.round(6).to_csv(index=False, lineterminator="\n")
        Store(folder).write_text(folder / name, text)
    return points
