"""What only the pictures of a run can tell, judged by the miniature's judges: `python -m benchmarks.evidence look RUN`.

In: a run folder whose images are there. Out: looked.csv in it, a row an operating point:

    frechet    distance of its pictures from renders of what they should show, in the judge's features
    harm       the same, less that of `super`
    good       share of images that show the concept's instance and all that the prompt asks for
    several    share of cells with two good images or more
    outline    share of images that the judge takes for the super-category's
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.linalg import sqrtm

from benchmarks.evidence import LOOKED
from benchmarks.grid import FLOOR
from benchmarks.known_pictures import in_scenes, pictures_in
from benchmarks.miniature.data import FACTORS
from benchmarks.miniature.judges import Judges
from benchmarks.miniature.truth import WISHES, wishes
from benchmarks.runs import Run
from benchmarks.stats import Interval, clustered, crossed_draws, expanded
from benchmarks.store import Store, cell_folder, concept_folder
from perfusion_core.errors import UserError

DRAWS = 200  # of concepts, for the intervals of distances


@dataclass
class Moments:
    """Number, sum and sum of outer products of features: sets of pictures that can be added up."""

    n: float = 0.0
    first: np.ndarray = field(default_factory=lambda: np.zeros(0))
    second: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @staticmethod
    def of(features: np.ndarray) -> "Moments":
        features = features.astype(np.float64)
        return Moments(len(features), features.sum(0), features.T @ features)

    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.first / self.n
        return mean, self.second / self.n - np.outer(mean, mean)


def total(parts: list[Moments], times: np.ndarray) -> Moments:
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
    root = np.real(sqrtm(c @ d))
    return float(((m - n) ** 2).sum() + np.trace(c + d - 2 * root))


@dataclass(frozen=True)
class Point:
    """One operating point: by concept, what its pictures are like; by concept and prompt, how many are good."""

    moments: list[Moments]
    good: np.ndarray  # [C, P]
    several: np.ndarray
    outline: np.ndarray


def look(run: Run, judges: Judges) -> pd.DataFrame:
    """Of every operating point of single concepts."""
    plan = run.plan[run.plan["kind"] != "pair"]
    concepts, prompts = sorted(set(plan["concept"])), sorted(set(plan["prompt_id"]))
    points: dict[tuple[str, str], Point] = {}
    for (method, point), mine in plan.groupby(["method", "point"], sort=False):
        points[str(method), str(point)] = _point(run, judges, mine, concepts, prompts)
    true = {own: [_renders(judges, plan, concept, own) for concept in concepts] for own in (True, False)}
    times = crossed_draws(len(concepts), np.zeros(1), n=DRAWS).concepts
    distances = {
        name: np.array([frechet(total(one.moments, t), total(true[name[0] != FLOOR], t)) for t in times])
        for name, one in points.items()
    }
    plain = next((distance for (method, _), distance in distances.items() if method == FLOOR), None)
    if plain is None:
        raise UserError(f"{run.name} has no images of super to compare with")
    rows = []
    for (method, point), one in points.items():
        row: dict[str, object] = {"method": method, "point": point}
        row |= _named("frechet", expanded(distances[method, point], len(concepts)))
        row |= _named("harm", expanded(distances[method, point] - plain, len(concepts)))
        for name in ("good", "several", "outline"):
            row |= _named(name, clustered(getattr(one, name)))
        rows.append(row)
    return pd.DataFrame(rows)


def _named(name: str, interval: Interval) -> dict[str, float]:
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), interval))


def _point(run: Run, judges: Judges, mine: pd.DataFrame, concepts: list[str], prompts: list[str]) -> Point:
    shape = len(concepts), len(prompts)
    good, several, outline = (np.full(shape, np.nan) for _ in range(3))
    moments = []
    for c, concept in enumerate(concepts):
        own = judges.identity(np.stack(pictures_in(concept_folder(run.folder, concept)))).mean(0)
        features = []
        for row in mine[mine["concept"] == concept].to_dict("records"):
            folder = cell_folder(run.folder, row["method"], row["point"], concept, row["prompt_id"])
            pictures = pictures_in(folder) if folder.is_dir() else []
            if not pictures:
                raise UserError(f"{run.name} has no images of {folder.relative_to(run.folder)}: they must be kept")
            seen = np.stack(pictures)
            features.append(judges.features(seen))
            said = judges.factors(seen)
            right = (judges.identity(seen) @ own >= judges.same) & _granted(said, row["text"])
            p = prompts.index(row["prompt_id"])
            good[c, p], several[c, p] = right.mean(), right.sum() >= 2
            if row["super_category"] in FACTORS["cls"]:
                outline[c, p] = (said["cls"] == row["super_category"]).mean()
        moments.append(Moments.of(np.concatenate(features)))
    return Point(moments, good, several, outline)


def _granted(said: Mapping[str, np.ndarray], text: str) -> np.ndarray:
    """Which pictures show all that a prompt asks for."""
    right = np.ones(len(said[WISHES[0]]), dtype=bool)
    for name, value in wishes().get(text, ()):
        right &= said[name] == value
    return right


def _renders(judges: Judges, plan: pd.DataFrame, concept: str, own: bool) -> Moments:
    """As many pictures as there should be, drawn by the world itself."""
    mine = plan[plan["concept"] == concept].drop_duplicates("prompt_id")
    templates = dict(zip(mine["prompt_id"], mine["template"]))
    word, n = mine["super_category"].iloc[0], int(mine["n"].max())
    known = [one for index in range(n) for one in in_scenes(concept, word, templates, index=index, own=own)]
    return Moments.of(judges.features(np.stack([one.picture for one in known])))


def write(folder: Path, judges: Judges) -> pd.DataFrame:
    frame = look(Run(folder), judges).round(6)
    Store(folder).write_text(folder / LOOKED, frame.to_csv(index=False, lineterminator="\n"))
    return frame
