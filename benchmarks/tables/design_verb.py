"""`perfbench design RUN`: the size of the next run, told from the rows of this one.

In: a run folder, what to compare, hours or a goal. Out: text or JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store import reading, run_folder
from benchmarks.store.csv_files import is_there
from benchmarks.tables.derived import read_table
from benchmarks.tables.grid import CEILING, FLOOR
from benchmarks.tables.sample_rows import both_concepts, is_metric, sample_rows
from benchmarks.tables.sample_size import (
    Goal,
    Pilot,
    Price,
    Size,
    cheapest,
    choices,
    doubled,
    pilot_of,
    size_of,
    within,
)
from benchmarks.tables.table_text import aligned
from benchmarks.tables.views import ours
from perfusion_core.errors import UserError, unknown

RELATIVE = "text_sim"  # raw text similarity by that of `super`
RAW = "text_sim_raw"
REPORTED = ("image_sim", RAW)  # of the first scorer
IMAGES = (1, 2, 4, 8)
SHOWN = 8
PLACE = ["concept", "prompt_id", "index"]
PERCENT = "{:.0%}".format


@dataclass(frozen=True)
class Asked:
    """The words of the command line."""

    of: str | None = None
    minus: str | None = None
    score: str = "image_sim"
    goal: Goal = field(default_factory=Goal)
    hours: float | None = None
    concepts: tuple[int, ...] = ()
    prompts: tuple[int, ...] = ()
    images: tuple[int, ...] = ()
    seconds_a_fit: float | None = None
    seconds_an_image: float | None = None
    workers: int | None = None
    whole: bool = False  # the hours pay for all that the run has, not for what is compared


# ---- what was measured ----


def rows_of(run: Path, score: str) -> pd.DataFrame:
    """The images of single concepts; of pairs, in a run that has more of these."""
    if score in (*REPORTED, RELATIVE):
        rows = reading.read_rows(run)
    else:
        rows = sample_rows(run)
    rows = both_concepts(rows)
    rows = rows[rows["method"] != CEILING]
    pair = rows["kind"] == "pair"
    n_single, n_pair = (rows["concept"][one].nunique() for one in (~pair, pair))
    return rows[pair if n_pair > n_single else ~pair]


def named_points(rows: pd.DataFrame) -> "pd.Series[str]":
    return rows["method"] + "/" + rows["point"]


def chosen(known: Sequence[str], given: str | None, flag: str) -> str | None:
    """An operating point by METHOD/POINT, or by a method that has one."""
    if given is None:
        return None
    given = given.strip("/")
    mine = [name for name in known if given in (name, name.partition("/")[0])]
    if len(mine) > 1:
        raise UserError(
            f"{flag} {given} has {len(mine)} operating points; name one of {', '.join(mine)}"
        )
    if not mine:
        raise unknown("operating point", given, known)
    return mine[0]


def compared(rows: pd.DataFrame, asked: Asked) -> tuple[str, str | None]:
    """What is asked about; without --of the first operating point of ours."""
    known = list(dict.fromkeys(named_points(rows)))
    first = next(name for name in known if name.partition("/")[0] == ours(rows))
    of = chosen(known, asked.of, "--of") or first
    minus = chosen(known, asked.minus, "--minus")
    if of == minus:
        raise UserError(f"--minus names {of}, as --of does; name two operating points, or --of")
    return of, minus


def scored_images(rows: pd.DataFrame, score: str) -> "pd.Series[float]":
    """(concept, prompt, index) -> the score of one operating point's image."""
    values = pd.Series(
        rows[score].to_numpy(dtype=float), index=pd.MultiIndex.from_frame(rows[PLACE])
    )
    return values[np.isfinite(values.to_numpy()) & ~values.index.duplicated()]


def measured(rows: pd.DataFrame, of: str, minus: str | None, score: str) -> Pilot:
    """The mean of one operating point, or of the differences between two, image by image."""
    column = RAW if score == RELATIVE else score
    if column not in rows or not is_metric(column):
        known = [RELATIVE, *filter(is_metric, map(str, rows.columns))]
        raise unknown("score", score, known)
    names = named_points(rows)
    d = scored_images(rows[names == of], column)
    if minus is not None:
        # nothing is left of images that only one of them has
        d = (d - scored_images(rows[names == minus], column)).dropna()
    if score == RELATIVE:
        d = d / floor_of(rows, d)
    cells = d.groupby(level=[0, 1]).agg(["mean", "count", "std"])
    y, n, sd = (cells[name].unstack() for name in ("mean", "count", "std"))
    if min(y.shape) < 2:
        raise UserError(
            f"{y.shape[0]} concepts and {y.shape[1]} prompts of {score} cannot tell how much "
            f"either varies; two of each are needed, and ten say something"
        )
    per_concept = rows.drop_duplicates(["concept", "prompt_id"]).groupby("concept").size()
    prompts = float(per_concept.reindex(y.index).mean())
    pilot = pilot_of(y.to_numpy(), n.fillna(0).to_numpy(), sd.to_numpy(), prompts)
    if isnan(sum(pilot.parts[:3])):
        raise UserError(
            f"no two concepts share a prompt of {score}, so what prompts add cannot be told; "
            f"give a run whose concepts have prompts in common"
        )
    return pilot


def floor_of(rows: pd.DataFrame, d: "pd.Series[float]") -> np.ndarray:
    """For each image the mean that `super` has on its concept's prompts; it counts as known."""
    base = rows[rows["method"] == FLOOR]
    if base.empty:
        raise UserError(f"{RELATIVE} is relative to {FLOOR}, which the run lacks; take {RAW}")
    cells = base.groupby(["concept", "prompt_id"])[RAW].mean()
    means = cells.groupby(level=0).mean()
    found: np.ndarray = means.reindex(d.index.get_level_values(0)).to_numpy(dtype=float)
    return found


# ---- what it cost ----


def price_of(run: Path, rows: pd.DataFrame, points: Sequence[str], asked: Asked) -> Price:
    """Seconds of the run itself, where it tells them, or of the flags."""
    about = reading.read_run(run)
    if asked.whole:
        points = list(dict.fromkeys(named_points(rows)))
    methods = dict.fromkeys(point.partition("/")[0] for point in points)
    fits = trained_methods(run)
    trained = [method for method in methods if method in fits]
    if asked.seconds_a_fit is None:
        known = seconds_a_fit(run)
        a_concept = sum(known.get(method, nan) for method in trained)
    else:
        a_concept = asked.seconds_a_fit * len(trained)
    told = about.get("seconds", {}).get("images", 0.0) / max(len(rows), 1)
    measured_image = told if isfinite(told) and told > 0 else nan
    image = measured_image if asked.seconds_an_image is None else asked.seconds_an_image
    known_workers = (about.get("config") or {}).get("workers")
    usual = known_workers if isinstance(known_workers, int) and known_workers > 0 else 1
    return Price(float(a_concept), float(image), len(points), asked.workers or usual)


def trained_methods(run: Path) -> set[str]:
    plan = reading.read_plan(run)
    return set(plan["method"][plan["fit"].astype(str).str.len() > 0])


def seconds_a_fit(run: Path) -> dict[str, float]:
    """The mean of each method's fits: of the fits, or of the table that was made while they were
    there.
    """
    fits = reading.read_fits(run)
    if fits["train_seconds"].notna().any():
        means = fits.groupby("method")["train_seconds"].mean()
    elif is_there(run_folder.table_file(run, "table")):
        table = read_table(run, "table")
        if "train_seconds" not in table:
            return {}
        means = table.groupby("method")["train_seconds"].first()
    else:
        return {}
    return {str(method): float(s) for method, s in means.items() if isfinite(s) and s >= 0}


def refuse_unpriced(price: Price, run: Path) -> None:
    lacking = [
        flag
        for flag, seconds in (
            ("--seconds-a-fit", price.fits),
            ("--seconds-an-image", price.image),
        )
        if isnan(seconds)
    ]
    if lacking:
        raise UserError(
            f"{run} does not say how long that takes (its fits were given, or come from a cache), "
            f"and hours need it; give {' and '.join(f'{flag} S' for flag in lacking)}"
        )
    if price.hours(1, 1, 1) <= 0:
        raise UserError(
            "an image and a fit that take 0 seconds buy any number; give --seconds-an-image S "
            "above 0"
        )


# ---- which sizes ----


def sizes(pilot: Pilot, price: Price, asked: Asked) -> dict[str, list[Size]]:
    """Tables by their headings."""
    goal, one_image = asked.goal, isnan(pilot.parts.image)
    p = max(round(pilot.prompts), 1)
    prompts = asked.prompts or tuple(sorted({max(p // 4, 1), max(p // 2, 1), p}))
    images = asked.images or ((1,) if one_image else IMAGES)
    options = choices(prompts, images)
    if asked.concepts:
        found = [size_of(pilot, price, goal, c, *option) for c in asked.concepts
                 for option in options]  # fmt: skip
        if asked.hours is not None:
            found = [size for size in found if size.hours <= asked.hours]
        return {"these sizes": found}
    out: dict[str, list[Size]] = {}
    if asked.hours is not None:
        out[f"within {asked.hours:g} h, the narrowest first"] = within(
            pilot, price, goal, asked.hours, options
        )
    if goal.there:
        out[f"{aim(goal)}, the cheapest first"] = cheapest(pilot, price, goal, options)
    return out


def aim(goal: Goal) -> str:
    if goal.width is not None:
        return f"to know it to {goal.width:g} either side"
    return f"to find {goal.effect:g} with {goal.power:.0%} probability"


def impossible(pilot: Pilot, goal: Goal, prompts: Sequence[float]) -> str:
    """Why no number of concepts reaches the goal."""
    most = max(prompts)
    floor = replace(pilot, parts=pilot.parts._replace(concept=0.0, cell=0.0, image=0.0))
    size = size_of(floor, Price(nan, nan, 1), goal, 1_000_000, most, 1)
    return (
        f"no number of concepts is enough {aim(goal)}: {most:g} prompts a concept alone leave "
        f"{size.half:.3g} either side; allow more, as --prompts {4 * most:g}"
    )


# ---- telling ----

HEAD = ["", "concepts", "prompts", "images", "hours", "half width", "finds"]


def size_row(name: str, size: Size) -> list[str]:
    row = [
        name,
        f"{size.concepts:,}",
        f"{size.prompts:.0f}",
        f"{size.images:.3g}",
        ""
        if isnan(size.hours)
        else f"{size.hours:.2g}"
        if size.hours < 10
        else f"{size.hours:,.0f}",
        f"{size.half:.3g}",
        f"{size.finds:.3g}",
    ]
    return row + ([] if isnan(size.power) else [PERCENT(size.power)])


def hours_text(hours: float) -> str:
    if isnan(hours):
        return ""
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def size_table(named: Mapping[str, Size], goal: Goal) -> str:
    head = HEAD + ([f"power for {goal.effect:g}"] if goal.effect is not None else [])
    return aligned([head, *(size_row(name, size) for name, size in named.items())])


def heading(what: str, score: str, pilot: Pilot) -> list[str]:
    value, lo, hi = pilot.mean
    parts = pilot.parts
    total = np.nansum(parts)
    shares = [
        f"{name} {PERCENT(part / total)}"
        for name, part in zip(parts._fields, parts)
        if total > 0 and not isnan(part)
    ]
    low, high = pilot.known_to
    lines = [
        f"{what}, {score}: {value:+.3f} [{lo:.3f}, {hi:.3f}] of {pilot.concepts} concepts",
        "variance of that mean: " + (", ".join(shares) or "none"),
    ]
    if isnan(parts.image):
        lines.append("one image a cell: what more of them would bring cannot be told")
    return [
        *lines,
        f"{pilot.concepts} concepts tell these widths to a factor of {low:.2f} to {high:.2f}",
    ]


def as_text(what: str, asked: Asked, pilot: Pilot, price: Price) -> str:
    goal = asked.goal
    lines = [*heading(what, asked.score, pilot), "", size_table(doubled(pilot, price, goal), goal)]
    for title, found in sizes(pilot, price, asked).items():
        lines += ["", f"{title}:"]
        rows = found if asked.concepts else found[:SHOWN]
        if rows:
            lines.append(size_table({f"{k}": one for k, one in enumerate(rows, 1)}, goal))
        elif goal.there and "cheapest" in title:
            lines.append(impossible(pilot, goal, asked.prompts or (round(pilot.prompts),)))
        else:
            lines.append("nothing: three concepts do not fit into so little")
    power = PERCENT(goal.power)
    lines += [
        "",
        "half width: of the 95 % interval; finds: the smallest effect that it would find with "
        f"{power} probability",
        "prompts: a concept, of all kinds, in the run's proportions; more than it has are others "
        "of the same kinds",
    ]
    if not isnan(price.hours(1, 1, 1)):
        paid = "all of the run's operating points" if asked.whole else "what is compared"
        lines.append(
            f"hours: {paid}, {price.fits:.3g} s of training a concept, {price.image:.3g} s an "
            f"image, {price.points} images a prompt and seed, "
            f"{price.workers} worker{'s' if price.workers > 1 else ''}"
        )
    return "\n".join(lines) + "\n"


def plain_size(size: Size) -> dict[str, float | None]:
    return {
        key: (round(value, 6) if isfinite(value) else None) for key, value in asdict(size).items()
    }


def as_json(of: str, minus: str | None, asked: Asked, pilot: Pilot, price: Price) -> str:
    parts = pilot.parts._asdict()
    document: dict[str, Any] = {
        "of": of,
        "minus": minus,
        "score": asked.score,
        **pilot.mean.named("mean"),
        "concepts": pilot.concepts,
        "prompts": pilot.prompts,
        "images": pilot.images,
        "variance_of_mean": {k: None if isnan(v) else v for k, v in parts.items()},
        "price": {k: None if isnan(v) else v for k, v in asdict(price).items()},
        "doubled": {k: plain_size(v) for k, v in doubled(pilot, price, asked.goal).items()},
        "designs": {k: [*map(plain_size, v)] for k, v in sizes(pilot, price, asked).items()},
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def design_verb(given: str | None, asked: Asked, form: str) -> str:
    """What `perfbench design` prints."""
    run = reading.find_run(given)
    rows = rows_of(run, asked.score)
    if rows.empty:
        raise UserError(f"{run} has no scores yet; finish it, or give another run")
    of, minus = compared(rows, asked)
    points = [of, *([minus] if minus else [])]
    pilot = measured(rows, of, minus, asked.score)
    if asked.score == RELATIVE and not any(one.startswith(f"{FLOOR}/") for one in points):
        points.append(f"{FLOOR}/default")  # it is drawn as well
    price = price_of(run, rows, points, asked)
    if asked.hours is not None:
        refuse_unpriced(price, run)
    if form == "json":
        return as_json(of, minus, asked, pilot, price)
    return as_text(of if minus is None else f"{of} minus {minus}", asked, pilot, price)
