"""Claims that scores do not tell: from the pictures as the judges see them (judged.py), from
attention, sizes and times.

In: Evidence. Out: rows of the ledger.
"""

import io
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.evidence import LOOKED, LOOKED_CELLS
from benchmarks.evidence.claim_measures import gain, known, rows, selected
from benchmarks.evidence.claims_front import BASELINES
from benchmarks.evidence.ledger import Evidence, Finding, claim, of_parts, part
from benchmarks.evidence.verdicts import (
    FAILS,
    HOLDS,
    LITTLE,
    OPEN,
    Judged,
    Part,
    flipped,
    judged,
    told,
)
from benchmarks.store.csv_files import is_there, plain
from benchmarks.store.run_folder import attention_folder
from benchmarks.study.material import read_scores
from benchmarks.tables.grid import FLOOR, Point
from benchmarks.tables.statistics import Interval, clustered
from perfusion_core.concept import Concept
from perfusion_core.errors import UserError

CLASS_LOSS = 0.05  # of the share of images in which the judge finds the kind of thing, or a style
PLAIN = (FLOOR, "default")
SEEN, ATTENTION, COSTS = "What the pictures show", "Attention", "Costs"


# ---- what was looked at


def looked(evidence: Evidence, run: str, file: str) -> pd.DataFrame:
    path = evidence.run(run).folder / file
    if not is_there(path):
        raise UserError(f"the pictures of miniature-{run} have not been looked at")
    return pd.read_csv(io.BytesIO(plain(path)), keep_default_na=False, na_values=[""])


def of_point(evidence: Evidence, run: str, point: Point) -> pd.Series:
    """Its row of looked.csv."""
    frame = looked(evidence, run, LOOKED).set_index(["method", "point"])
    if point not in frame.index:
        raise UserError(
            f"the pictures of {'/'.join(point)} in miniature-{run} have not been looked at"
        )
    return frame.loc[[point]].iloc[0]


def seen_gain(
    evidence: Evidence,
    run: str,
    column: str,
    a: Sequence[Point],
    b: Sequence[Point],
    kind: str = "",
) -> Interval:
    """What was seen in the pictures of points a, less that of points b, paired by cell."""
    return known(
        clustered(seen_gains(evidence, run, column, a, b, kind)),
        f"{column} of both in miniature-{run}",
    )


def seen_gains(
    evidence: Evidence,
    run: str,
    column: str,
    a: Sequence[Point],
    b: Sequence[Point],
    kind: str = "",
) -> np.ndarray:
    """[C, P] the same of every cell; NaN where either has none."""
    cells = looked(evidence, run, LOOKED_CELLS)
    cells = cells[cells["kind"] == kind] if kind else cells
    there = set(zip(cells["method"], cells["point"]))

    def table(points: Sequence[Point]) -> pd.DataFrame:
        for point in points:
            if point not in there:
                raise UserError(
                    f"the pictures of {'/'.join(point)} in miniature-{run} have not been looked at"
                )
        mine = cells[[point in points for point in zip(cells["method"], cells["point"])]]
        return mine.pivot_table(index="concept", columns="prompt_id", values=column, aggfunc="mean")

    return (table(a) - table(b)).to_numpy(float)


def shown(
    evidence: Evidence, run: str, methods: Sequence[str], column: str, kind: str
) -> list[pd.DataFrame]:
    """What was seen [concept, prompt] where each method has the point that a study shows: for each
    prompt the one with the highest harmonic mean."""
    cells = looked(evidence, run, LOOKED_CELLS)
    cells = cells[cells["method"].isin(methods) & (cells["kind"] == kind)]
    if missing := [name for name in methods if name not in set(cells["method"])]:
        raise UserError(
            f"the pictures of {', '.join(missing)} in miniature-{run} have not been looked at"
        )
    scores = read_scores(evidence.run(run).folder)
    keys = zip(cells["method"], cells["point"], cells["concept"], cells["prompt_id"])
    harmonic = pd.Series([scores.get(key, {}).get("harmonic", -1.0) for key in keys], cells.index)
    chosen = cells.loc[
        harmonic.groupby([cells["method"], cells["concept"], cells["prompt_id"]]).idxmax()
    ]
    of = [chosen[chosen["method"] == name] for name in methods]
    return [each.pivot(index="concept", columns="prompt_id", values=column) for each in of]


def points(evidence: Evidence, run: str, method: str, lock: str = "") -> list[Point]:
    grid = evidence.grid(run)
    return [grid.points[m] for m in rows(grid, method, lock)]


def best_local(evidence: Evidence, run: str) -> Point:
    """Perfusion's point with local lock and the highest harmonic mean."""
    grid = evidence.grid(run)
    return grid.points[
        max(rows(grid, "perfusion", "local"), key=lambda m: grid.balanced["harmonic"][0, m])
    ]


def interval_in(row: pd.Series, name: str) -> Interval:
    found = Interval(*(float(row[column]) for column in (name, f"{name}_lo", f"{name}_hi")))
    if np.isnan(found.value):
        raise UserError(f"looked.csv has no {name} of this point")
    return found


# ---- the claims


@claim("Global locking allows more variety than local", "6.1, Fig. 10",
       "variance, in the judge's features, of those images of one prompt that it takes for the "
       "concept: global lock minus local lock. Only cells where both have two or more such images "
       "count", SEEN)  # fmt: skip
def variety(evidence: Evidence) -> Finding:
    of_global, of_local = (
        points(evidence, "paper", "perfusion", lock) for lock in ("global", "local")
    )
    each = seen_gains(evidence, "paper", "variety", of_global, of_local)
    difference = known(clustered(each), "variety of both in miniature-paper")
    grid = evidence.grid("paper")
    cells = grid.images[0] > 0
    return Finding(
        f"{told(difference)}, {(~np.isnan(each)).sum()} of {cells.sum()} cells",
        judged(part(grid, "", difference)),
    )


@claim("Raters prefer Perfusion to Custom Diffusion and DreamBooth", "5.2, Appendix I",
       "judges stand in for people. They give the share of images that show the instance and all "
       "that was asked for, on the prompts that change the object: Perfusion minus each, steps "
       "selected. As in the paper, Perfusion is shown for each prompt at its point with the "
       "highest harmonic mean, which favours it", SEEN)  # fmt: skip
def preferred(evidence: Evidence) -> Finding:
    grid, names = evidence.grid("paper"), ("cd", "db")
    chosen = [selected(grid, name) for name in names]
    ours, *others = shown(evidence, "paper", ["perfusion", *chosen], "good", "deform")
    parts = {
        name: known(
            clustered((ours - theirs).to_numpy(float)), f"good of {name} in miniature-paper"
        )
        for name, theirs in zip(names, others)
    }
    figure = "; ".join(f"{name}: {told(found)}" for name, found in parts.items())
    return Finding(figure, judged(*(part(grid, name, found) for name, found in parts.items())))


@claim("The generative prior is preserved", "5.2, Appendix I",
       "Perfusion at its best local point minus the plain word, in two numbers. The Frechet "
       "distance from renders of what was asked for: harm is a quarter of the plain word's own "
       "distance. The share of images in which the judge finds the kind of thing: harm is a loss "
       f"of {CLASS_LOSS}", SEEN)  # fmt: skip
def preserved(evidence: Evidence) -> Finding:
    ours = best_local(evidence, "paper")
    harm = interval_in(of_point(evidence, "paper", ours), "harm")
    own = interval_in(of_point(evidence, "paper", PLAIN), "frechet").value
    kind = seen_gain(evidence, "paper", "outline", [ours], [PLAIN])
    grid = evidence.grid("paper")
    found = judged(
        part(grid, "distance", flipped(harm), -own / 4),
        part(grid, "kind of thing", kind, -CLASS_LOSS),
    )
    return Finding(
        f"distance {told(harm)}, where the plain word has {own:.3f}; kind of thing {told(kind)}",
        found,
    )


@claim("Eight samples suffice for several good ones", "6.2, Fig. 14",
       "share of cells with two or more of eight images that show the instance and all that was "
       "asked for. Over a half suffices", SEEN)  # fmt: skip
def suffice(evidence: Evidence) -> Finding:
    row = of_point(evidence, "paper", best_local(evidence, "paper"))
    several, good = interval_in(row, "several"), row["good"]
    text = f"{several.value:.0%} ({several.lo:.0%} to {several.hi:.0%}); {good:.0%} of all images"
    return Finding(text, judged(part(evidence.grid("paper"), "", several, 0.5)))


@claim("A concept takes the outline of an unusual super-category", "6.2, Fig. 13",
       "pot as clock and shoe, cat as lamp, and three of our own, at the best local point. The "
       "share of images that the judge takes for the new kind is over a half, and image "
       "similarity is above the plain word's", SEEN)  # fmt: skip
def inherits(evidence: Evidence) -> Finding:
    grid, point = evidence.grid("unusual"), best_local(evidence, "unusual")
    image = gain(grid, "image_sim", [grid.row(point)], grid.rows(FLOOR))
    outline = interval_in(of_point(evidence, "unusual", point), "outline")
    shown = f"{outline.value:.0%}" + (
        f" ({outline.lo:.0%} to {outline.hi:.0%})" if outline.lo == outline.lo else ""
    )
    found = judged(part(grid, "outline", outline, 0.5), part(grid, "image", image))
    return Finding(f"outline {shown}, image {told(image)}", found)


@claim("A concept carries over to a fine-tuned backbone", "6.2, Fig. 12",
       "on a copy of the miniature that paints watercolours, image similarity is above the plain "
       "word's. The share of images in which the judge finds a style is no smaller: harm is a "
       f"loss of {CLASS_LOSS}", SEEN)  # fmt: skip
def carries_over(evidence: Evidence) -> Finding:
    grid = evidence.grid("transfer")
    image = gain(grid, "image_sim", rows(grid, "perfusion", "local"), grid.rows(FLOOR))
    style = seen_gain(
        evidence, "transfer", "styled", points(evidence, "transfer", "perfusion", "local"), [PLAIN]
    )
    return of_parts(part(grid, "image", image), part(grid, "style", style, -CLASS_LOSS))


def _leaves(other: str, label: str) -> None:
    @claim(f"{label}'s attention leaves the object", "1, 4, Fig. 2",
           "share of the word's attention outside the object, minus that of Perfusion (local lock, "
           "bias 0.60), mean over t. It is measured in noised pictures of which the truth is "
           f"known. The training step is not selected. Less than {LITTLE} counts as nothing",
           ATTENTION)  # fmt: skip
    def leaves(evidence: Evidence) -> Finding:
        path = attention_folder(evidence.run("paper").folder) / "cells.csv"
        if not is_there(path):
            raise UserError("attention of miniature-paper has not been measured")
        cells = pd.read_csv(io.BytesIO(plain(path)))
        of = cells.groupby(["method", "concept", "prompt_id"])["leakage"].mean().unstack("method")
        if not {other, "perfusion"} <= set(of):
            raise UserError(f"attention of {other} and of perfusion is needed")
        difference = clustered((of[other] - of["perfusion"]).unstack("prompt_id").to_numpy(float))
        concepts = cells["concept"].nunique()
        return of_parts(Part("", difference, concepts, delta=LITTLE))


for _other in ("ti", "cd", "db"):
    _leaves(_other, BASELINES[_other])


# ---- what fits cost, without intervals


@claim("A trained concept is small: 100 KB, where Custom Diffusion needs nearly 100 MB and "
       "DreamBooth several GB",
       "abstract, 5.1",
       "kilobytes of a trained concept here: a hundredth of Custom Diffusion's or less. The ratio "
       "grows with the text encoder's width. docs/baselines.md has the sizes on Stable Diffusion "
       "1.5, where DreamBooth needs 100,000 times as much. Known before any run, from the sizes "
       "of the layers", COSTS)  # fmt: skip
def small(evidence: Evidence) -> Finding:
    of, names = (
        evidence.run("paper").table.groupby("method")["kilobytes"].max(),
        ("perfusion", "cd", "db"),
    )
    if missing := [name for name in names if np.isnan(of.get(name, np.nan))]:
        raise UserError(f"miniature-paper has no kilobytes of {', '.join(missing)}")
    ours, cd, db = (float(of[name]) for name in names)
    figure = (
        f"{ours:,.1f} kB; Custom Diffusion {cd / ours:,.0f} times, DreamBooth "
        f"{db / ours:,.0f} times as much"
    )
    return Finding(figure, Judged(HOLDS if ours <= min(cd, db) / 100 else FAILS))


def compute(evidence: Evidence, steps: float | None = None) -> tuple[float, float]:
    """Perfusion's training up to a step (all of them) in units of Custom Diffusion's; and the
    step.
    """
    (seconds, every), (others, length) = (
        recipe_speed(evidence, name) for name in ("perfusion", "cd")
    )
    n = every if steps is None else steps
    return seconds * n / (others * length), n


def _cheaper(share: float) -> Judged:
    """Sizes and seconds have no interval: a quarter more or less settles nothing."""
    return Judged(HOLDS if share < 0.75 else FAILS if share > 1.25 else OPEN)


@claim("Less compute than Custom Diffusion (a half to a third), up to the step that is picked",
       "4.4",
       "seconds of Perfusion's training up to the step that validation picks, over those of all "
       "of Custom Diffusion's steps. Seconds a step by either recipe were measured side by side. "
       "In the paper, step 210 of 400 is picked on average. Validation and Custom "
       "Diffusion's class images come on top. A quarter more or less settles "
       "nothing", COSTS)  # fmt: skip
def cheap(evidence: Evidence) -> Finding:
    recipe_speed(evidence, "perfusion")  # its absence is told first
    share, steps = compute(evidence, picked_steps(evidence))
    return Finding(f"{share:.2f} of its compute, {steps:.0f} steps on average", _cheaper(share))


@claim("Less compute than Custom Diffusion (a half to a third), with all steps", "4.4",
       "seconds of all steps of Perfusion's recipe over those of all of Custom Diffusion's. All "
       "have to be made to know which one is picked. A quarter more or less settles "
       "nothing", COSTS)  # fmt: skip
def cheap_whole(evidence: Evidence) -> Finding:
    share, steps = compute(evidence)
    return Finding(f"{share:.2f} of its compute, {steps:.0f} steps", _cheaper(share))


def recipe_speed(evidence: Evidence, method: str) -> tuple[float, int]:
    """Seconds a step, and steps, of a fit by the miniature's recipe."""
    path = evidence.folder("speed") / "miniature-cpu.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(rf"^\| {method} \| \d+ \| (\d+) \| ([\d.]+) \|", text, re.MULTILINE)
    if not found:
        raise UserError(f"the speed of a fit of {method} has not been measured")
    return float(found[2]), int(found[1])


def picked_steps(evidence: Evidence) -> float:
    """The training step that validation picked for Perfusion, mean over concepts."""
    files = sorted(evidence.folder("miniature-concepts").glob("*.safetensors"))
    if not files:
        raise UserError("no trained files of perfusion in miniature-concepts")
    return float(np.mean([Concept.load(path).steps for path in files]))
