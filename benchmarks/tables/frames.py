"""Tidy frames for figures, the report and people with questions.

In: the rows of cells.csv, single concepts and pairs apart (tables.split). Out: one row a thing that
is drawn or named.

    fronts(cells)          method, point, the four SCORES with _lo _hi, on_front (of its method)
    best_h(cells)          method, concept, half (all, even, odd: what chose), point, image_sim,
                           text_sim, harmonic
    per_concept(cells)     method, point, concept, group, SCORES with _lo _hi over this concept's
                           prompts, n_prompts
    differences(cells)     method, point, other, other_point, metric, difference, lo, hi, win_rate,
                           win_lo, win_hi, concepts_won, n_concepts, n_cells: `method` against every
                           other, paired by cell
    hypervolumes(cells)    method, hypervolume, lo, hi, n_front, n_points
    front_gaps(cells)      method, other, other_point, image_sim, gap, lo, hi, inside (share of
                           draws within the front)
    variance(cells)        method, point, metric, component, variance, share, of_mean,
                           share_of_mean, if_doubled
    breakdown(cells, by)   method, point, <by>, image_sim, text_sim_raw, text_gain with _lo _hi,
                           n_cells
    hardest(cells)         method, point, metric, concept, prompt_id, value, below (the method's
                           mean)
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.planning.points import is_variant
from benchmarks.scoring.reserved import OURS
from benchmarks.tables.grid import FLOOR, Grid, grid_of
from benchmarks.tables.statistics import (
    clustered,
    components,
    crossed,
    expanded,
    front_at,
    hypervolume,
    mean_variance,
    non_dominated,
    over_concepts,
    wins,
)
from perfusion_core.errors import unknown

SCORES = ["image_sim", "text_sim", "text_sim_raw", "harmonic"]
MEANS = ["image_sim", "text_sim_raw"]  # plain means over cells: closed-form intervals
TEXT_REFERENCE = 0.5  # of the hypervolume; on the other axis it is the image similarity of `super`


def variants(grid: Grid, method: str) -> list[int]:
    return [m for m in grid.rows(method) if is_variant(grid.points[m][1])]


def score_intervals(grid: Grid, m: int) -> dict[str, float]:
    """Every score of one operating point: the closed form for means, the bootstrap for what is not
    one.
    """
    row: dict[str, float] = {}
    for metric, y in grid.values.items():
        row |= clustered(y[m]).named(metric)
    for metric in ("text_sim", "harmonic"):
        n_concepts = int((~np.isnan(grid.scores[metric][m])).sum())
        row |= crossed(grid.balanced[metric][:, m], grid.draws, n_concepts).named(metric)
    return row


def fronts(cells: pd.DataFrame) -> pd.DataFrame:
    """Every operating point on the plane, and whether it lies on its method's own front."""
    grid = grid_of(cells)
    out = []
    for method in sorted({name for name, _ in grid.points}):
        rows = grid.rows(method)
        x, y = grid.balanced["image_sim"][0, rows], grid.balanced["text_sim"][0, rows]
        for m, on in zip(rows, non_dominated(x, y)):
            out.append(
                {
                    "method": method,
                    "point": grid.points[m][1],
                    **score_intervals(grid, m),
                    "on_front": bool(on),
                }
            )
    return pd.DataFrame(out)


def best_h(cells: pd.DataFrame) -> pd.DataFrame:
    """Which run-time variant Best H chose for each concept: from all images (naive), and from each
    half (honest).
    """
    grid = grid_of(cells)
    out = []
    for method in sorted({name for name, _ in grid.points} - {FLOOR}):
        rows = variants(grid, method)
        if len(rows) < 2:
            continue
        for half, chosen in (
            ("all", grid.scores),
            ("even", _first(grid, 0)),
            ("odd", _first(grid, 1)),
        ):
            h = chosen["harmonic"][rows]
            for c, concept in enumerate(grid.concepts):
                if np.isnan(h[:, c]).all():
                    continue
                m = rows[int(np.nanargmax(h[:, c]))]
                scores = {
                    metric: chosen[metric][m, c] for metric in ("image_sim", "text_sim", "harmonic")
                }
                out.append(
                    {
                        "method": method,
                        "concept": concept,
                        "half": half,
                        "point": grid.points[m][1],
                        **scores,
                    }
                )
    return pd.DataFrame(
        out, columns=["method", "concept", "half", "point", "image_sim", "text_sim", "harmonic"]
    )


def _first(grid: Grid, half: int) -> dict[str, np.ndarray]:
    return {metric: drawn[0] for metric, drawn in grid.drawn_halves[half].items()}


def per_concept(cells: pd.DataFrame) -> pd.DataFrame:
    """Scores of each concept with 95 % intervals over its prompts: how sure we are of this concept,
    not of the next.
    """
    grid = grid_of(cells)
    out = []
    for m, (method, point) in enumerate(grid.points):
        for c, concept in enumerate(grid.concepts):
            n_prompts = {"image_sim": int((~np.isnan(grid.values["image_sim"][m, c])).sum())}
            n_prompts["text"] = int((~np.isnan(grid.values["text_sim_raw"][m, c])).sum())
            if not n_prompts["text"]:
                continue
            row: dict[str, object] = {
                "method": method,
                "point": point,
                "concept": concept,
                "group": grid.groups[c],
            }
            for metric in SCORES:
                n = n_prompts["image_sim" if metric in ("image_sim", "harmonic") else "text"]
                row |= expanded(grid.drawn[metric][:, m, c], n).named(metric)
            out.append({**row, "n_prompts": n_prompts["text"]})
    return pd.DataFrame(out)


def differences(cells: pd.DataFrame, method: str = OURS) -> pd.DataFrame:
    """`method` minus every other method, each operating point against each, paired by cell."""
    grid = grid_of(cells)
    _known(grid, method)
    others = [m for m, (name, _) in enumerate(grid.points) if name != method]
    return pd.DataFrame(
        [row for a in grid.rows(method) for b in others for row in paired(grid, a, b)]
    )


def paired(grid: Grid, a: int, b: int) -> list[dict[str, object]]:
    """Operating point a minus operating point b, a row a metric. A win is counted per cell and
    class-balanced; text_sim wins where text_sim_raw does (same divisor), the harmonic mean exists
    per concept only."""
    out = []
    for metric in SCORES:
        per = grid.scores[metric][a] - grid.scores[metric][b]
        n_concepts = int((~np.isnan(per)).sum())
        cell = (
            grid.values["text_sim_raw" if metric == "text_sim" else metric]
            if metric != "harmonic"
            else None
        )
        if metric in MEANS:
            difference = clustered(grid.values[metric][a] - grid.values[metric][b])
        else:
            drawn = over_concepts(grid.drawn[metric][:, a] - grid.drawn[metric][:, b], grid.draws)
            difference = crossed(drawn, grid.draws, n_concepts)
        if cell is None:
            won = wins(grid.scores[metric][a], grid.scores[metric][b])[:, None]
        else:
            won = wins(cell[a], cell[b])
        rate = clustered(won)
        names = dict(
            zip(("method", "point", "other", "other_point"), (*grid.points[a], *grid.points[b]))
        )
        out.append(
            {
                **names,
                "metric": metric,
                "difference": difference.value,
                "lo": difference.lo,
                "hi": difference.hi,
                "win_rate": rate.value,
                "win_lo": max(rate.lo, 0.0),
                "win_hi": min(rate.hi, 1.0),
                "concepts_won": int((per > 1e-9).sum()),
                "n_concepts": n_concepts,
                "n_cells": int((~np.isnan(won)).sum()),
            }
        )
    return out


def _known(grid: Grid, method: str) -> None:
    if not grid.rows(method):
        raise unknown("method", method, {name for name, _ in grid.points})


def hypervolumes(cells: pd.DataFrame) -> pd.DataFrame:
    """Area between a method's front and (image similarity of super, text 0.5). It favours methods
    with many points.
    """
    grid = grid_of(cells)
    image, text = grid.balanced["image_sim"], grid.balanced["text_sim"]
    floor = grid.rows(FLOOR)
    out = []
    for method in sorted({name for name, _ in grid.points} - {FLOOR}) if floor else []:
        rows = variants(grid, method)
        if not rows:
            continue
        x, y = image[:, rows], text[:, rows]
        area = hypervolume(x, y, image[:, floor[0]], TEXT_REFERENCE)
        counted = non_dominated(x[0], y[0]) & (x[0] > image[0, floor[0]]) & (y[0] > TEXT_REFERENCE)
        value, lo, hi = crossed(area, grid.draws, len(grid.concepts))
        out.append(
            {
                "method": method,
                "hypervolume": value,
                "lo": lo,
                "hi": hi,
                "n_front": int(counted.sum()),
                "n_points": len(rows),
            }
        )
    return pd.DataFrame(out, columns=["method", "hypervolume", "lo", "hi", "n_front", "n_points"])


def front_gaps(cells: pd.DataFrame, method: str = OURS) -> pd.DataFrame:
    """Text similarity of `method`'s front, interpolated at another method's image similarity, minus
    that method's.

    No value beyond the front's ends; no interval where more than one bootstrap draw in twenty falls
    beyond them.
    """
    grid = grid_of(cells)
    _known(grid, method)
    image, text = grid.balanced["image_sim"], grid.balanced["text_sim"]
    rows = variants(grid, method)
    others = [m for m, (name, _) in enumerate(grid.points) if name not in (method, FLOOR)]
    # [D, others]
    front = np.array([front_at(x[rows], y[rows], x[others]) for x, y in zip(image, text)])
    out = []
    for k, m in enumerate(others):
        gap = front[:, k] - text[:, m]
        inside = float((~np.isnan(gap[1:])).mean())
        value, lo, hi = crossed(gap, grid.draws, len(grid.concepts))
        if inside < 0.95:
            lo = hi = float("nan")
        other, other_point = grid.points[m]
        row = {
            "method": method,
            "other": other,
            "other_point": other_point,
            "image_sim": image[0, m],
        }
        out.append({**row, "gap": value, "lo": lo, "hi": hi, "inside": inside})
    return pd.DataFrame(
        out, columns=["method", "other", "other_point", "image_sim", "gap", "lo", "hi", "inside"]
    )


def variance(cells: pd.DataFrame) -> pd.DataFrame:
    """Where the spread of images comes from (`share`), where the uncertainty of the mean comes from
    (`share_of_mean`), and the factor on an interval's width of twice as many concepts, prompts, or
    images (`if_doubled`)."""
    grid = grid_of(cells)
    out = []
    for m, (method, point) in enumerate(grid.points):
        for metric in MEANS:
            y, n = grid.values[metric][m], grid.n[metric][m]
            one = components(y, n, grid.sd[metric][m])
            # a single concept, or a single prompt: nothing can be told apart
            if np.isnan(one.cell):
                continue
            mean = mean_variance(y, n, one)
            total, whole = np.nansum(one), np.nansum(mean)
            halved = {"concept": [0, 2, 3], "prompt": [1, 2, 3], "cell": [], "image": [3]}
            for k, name in enumerate(one._fields):
                less = np.nansum([mean[j] for j in halved[name]]) / 2
                out.append(
                    {
                        "method": method,
                        "point": point,
                        "metric": metric,
                        "component": name,
                        "variance": one[k],
                        "share": one[k] / total,
                        "of_mean": mean[k],
                        "share_of_mean": mean[k] / whole,
                        "if_doubled": float(np.sqrt(1 - less / whole))
                        if halved[name] and not np.isnan(one[k])
                        else np.nan,
                    }
                )
    names = [
        "method",
        "point",
        "metric",
        "component",
        "variance",
        "share",
        "of_mean",
        "share_of_mean",
        "if_doubled",
    ]
    return pd.DataFrame(out, columns=names)


def breakdown(
    cells: pd.DataFrame,
    by: str,
    labels: Mapping[str, str] | None = None,
    of_concepts: bool = False,
) -> pd.DataFrame:
    """Scores by `kind`, `group`, `concept` or `prompt_id`; or by `labels` of prompts (id -> label)
    or of concepts, `by` their name.

    text_gain is the raw text similarity minus that of `super` in the same cell.
    """
    grid = grid_of(cells)
    shape = grid.shape
    if labels is not None:
        names = grid.concepts if of_concepts else grid.prompts
        said = np.array([labels.get(name, "") for name in names], dtype=object)
        of = np.broadcast_to(said[:, None] if of_concepts else said, shape)
    elif by in ("kind", "prompt_id"):
        of = np.broadcast_to(
            np.array(grid.kinds if by == "kind" else grid.prompts, dtype=object), shape
        )
    elif by in ("group", "concept"):
        of = np.broadcast_to(
            np.array(grid.groups if by == "group" else grid.concepts, dtype=object)[:, None], shape
        )
    else:
        raise unknown("breakdown", by, ("kind", "group", "concept", "prompt_id"))
    out = []
    for m, (method, point) in enumerate(grid.points):
        parts = {name: grid.values[name][m] for name in MEANS}
        parts["text_gain"] = parts["text_sim_raw"] - grid.base
        for label in sorted(set(of.ravel()) - {""}):
            mine = {name: np.where(of == label, y, np.nan) for name, y in parts.items()}
            n_cells = int((~np.isnan(mine["text_sim_raw"])).sum())
            row: dict[str, object] = {"method": method, "point": point, by: label}
            for name, y in mine.items():
                row |= clustered(y).named(name)
            if n_cells:
                out.append({**row, "n_cells": n_cells})
    return pd.DataFrame(out)


def hardest(cells: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """Of every operating point the n cells with the lowest image similarity, and with the lowest
    text gain.
    """
    grid = grid_of(cells)
    out = []
    for m, (method, point) in enumerate(grid.points):
        for metric, y in (
            ("image_sim", grid.values["image_sim"][m]),
            ("text_gain", grid.values["text_sim_raw"][m] - grid.base),
        ):
            if method == FLOOR and metric == "text_gain":
                continue
            mean = clustered(y).value
            order = np.argsort(np.where(np.isnan(y), np.inf, y), axis=None, kind="stable")[
                : min(n, int((~np.isnan(y)).sum()))
            ]
            for c, p in zip(*np.unravel_index(order, y.shape)):
                where = {"concept": grid.concepts[c], "prompt_id": grid.prompts[p]}
                out.append(
                    {
                        "method": method,
                        "point": point,
                        "metric": metric,
                        **where,
                        "value": y[c, p],
                        "below": mean - y[c, p],
                    }
                )
    return pd.DataFrame(out)
