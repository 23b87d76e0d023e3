"""The results of a study: means, pairs, agreement, correlation with the metrics.

In: the answers that count. Out: `Results`, frames of all that is computed.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from benchmarks.study.agreement import alpha_of_coincidences, coincidences, ordinal_distances
from benchmarks.study.estimate import Estimate, balanced, holm, wilcoxon_concepts
from benchmarks.study.material import SCORES
from benchmarks.tables.statistics import Interval, expanded

# Mean and SEM as the paper prints them, section 5.2: its raters, its images, its prompts.
PAPER = {
    "ranking": {"perfusion": (2.18, 0.02), "cd": (2.06, 0.02), "db": (1.75, 0.02)},
    "realism": {"perfusion": (1.885, 0.017), "super": (1.894, 0.017)},
}
DRAWS = 1000
VALUES = np.array([1.0, 2.0, 3.0])


@dataclass(frozen=True)
class Results:
    """All that is computed of one study."""

    means: pd.DataFrame  # method, mean, sem, lo, hi, share_3, share_2, share_1, n, paper, paper_sem
    # method, other, difference, lo, hi, p, p_holm, p_wilcoxon, win_rate, win_lo, win_hi
    pairs: pd.DataFrame
    concepts: pd.DataFrame  # concept, group, a column a method
    correlation: pd.DataFrame  # metric, tau, lo, hi, p, spearman, n_pictures
    places: pd.DataFrame  # place, mean, lo, hi: whether the place on the screen mattered
    alpha: Interval


def wide(ratings: pd.DataFrame, methods: list[str], column: str = "score") -> pd.DataFrame:
    """A row an answer: its rater, concept and task, and a column a method."""
    table = ratings.pivot(
        index=["rater", "trial", "concept", "task"], columns="method", values=column
    )
    return table[methods].reset_index()


def balanced_mean(rows: pd.DataFrame, y: ArrayLike) -> Estimate:
    """The class-balanced mean of one value a row."""
    return balanced(
        np.asarray(y, dtype=float), rows["concept"].to_numpy(), rows["rater"].to_numpy()
    )


def interval_columns(
    e: Estimate, prefix: str = "", bounds: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, float]:
    """lo and hi of an interval, within what is possible."""
    lo, hi = (float(np.clip(end, *bounds)) for end in (e.lo, e.hi))
    return {f"{prefix}lo": lo, f"{prefix}hi": hi}


def means(ratings: pd.DataFrame, methods: list[str], kind: str) -> pd.DataFrame:
    rows = []
    for method in methods:
        mine = ratings[ratings["method"] == method]
        e = balanced_mean(mine, mine["score"])
        shares = {
            f"share_{value}": balanced_mean(mine, mine["score"] == value).value
            for value in (3, 2, 1)
        }
        paper = dict(zip(("paper", "paper_sem"), PAPER[kind].get(method, (np.nan, np.nan))))
        rows.append(
            {
                "method": method,
                "mean": e.value,
                "sem": e.sem,
                **interval_columns(e),
                **shares,
                "n": len(mine),
                **paper,
            }
        )
    return pd.DataFrame(rows)


def pairs(ratings: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Differences within a trial: the same rater, concept, prompt and moment."""
    table = wide(ratings, methods)
    rows = []
    for a, b in combinations(methods, 2):
        d = table[a] - table[b]
        # a tie is half a win for either
        e, win = (balanced_mean(table, d), balanced_mean(table, (np.sign(d) + 1) / 2))
        rows.append(
            {
                "method": a,
                "other": b,
                "difference": e.value,
                **interval_columns(e),
                "p": e.p,
                "p_holm": np.nan,
                "p_wilcoxon": wilcoxon_concepts(d.to_numpy(float), table["concept"].to_numpy()),
                "win_rate": win.value,
                **interval_columns(win, "win_", (0.0, 1.0)),
                "ties": float((d == 0).mean()),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(p_holm=holm(frame["p"].tolist()))


def concept_means(ratings: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    table = ratings.pivot_table(
        index=["concept", "group"], columns="method", values="score", aggfunc="mean"
    )
    return table[methods].reset_index()


def agreement(ratings: pd.DataFrame, seed: int = 0) -> Interval:
    """Krippendorff's alpha, ordinal; a unit is a picture in its task. The interval draws concepts
    with replacement.
    """
    table = ratings.pivot_table(
        index=["concept", "task", "method"],
        columns="score",
        values="trial",
        aggfunc="count",
        fill_value=0,
    )
    table = table.reindex(columns=VALUES, fill_value=0)
    # [C, V, V]
    met = np.array([coincidences(part.to_numpy()) for _, part in table.groupby(level="concept")])
    draws = np.random.default_rng(seed).integers(len(met), size=(DRAWS, len(met)))
    sums = [met.sum(0), *(met[draw].sum(0) for draw in draws)]
    return expanded(
        np.array([alpha_of_coincidences(total, ordinal_distances(total)) for total in sums]),
        len(met),
    )


def correlation(ratings: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """How far people and a metric order the same pictures alike.

    tau: Kendall's, within a trial, averaged like a score. spearman: over pictures, both sides minus
    their task's mean.
    """
    scores = wide(ratings, methods)
    rows = []
    for metric in SCORES:
        values = wide(ratings, methods, metric)
        alike = [
            np.sign(scores[a] - scores[b]) * np.sign(values[a] - values[b])
            for a, b in combinations(methods, 2)
        ]
        e = balanced_mean(scores, np.mean(alike, axis=0))
        if np.isnan(e.value):
            continue
        pictures = ratings.groupby(["task", "method"])[["score", metric]].mean()
        centred = (pictures - pictures.groupby(level="task").transform("mean")).dropna()
        varied = centred["score"].nunique() > 1 and centred[metric].nunique() > 1
        rho = float(spearmanr(centred["score"], centred[metric]).statistic) if varied else np.nan
        row = {
            "metric": metric,
            "tau": e.value,
            **interval_columns(e, bounds=(-1.0, 1.0)),
            "p": e.p,
            "spearman": rho,
        }
        rows.append({**row, "n_pictures": len(centred)})
    return pd.DataFrame(rows, columns=["metric", "tau", "lo", "hi", "p", "spearman", "n_pictures"])


def places(ratings: pd.DataFrame) -> pd.DataFrame:
    """The mean score of what stood first, second, third: equal where only the pictures mattered."""
    rows = []
    for place, letter in enumerate("ABC"[: ratings["place"].max() + 1]):
        mine = ratings[ratings["place"] == place]
        e = balanced_mean(mine, mine["score"])
        rows.append({"place": letter, "mean": e.value, **interval_columns(e)})
    return pd.DataFrame(rows)


def results_of(ratings: pd.DataFrame, methods: list[str], kind: str) -> Results:
    return Results(
        means(ratings, methods, kind), pairs(ratings, methods), concept_means(ratings, methods),
        correlation(ratings, methods), places(ratings), agreement(ratings),
    )  # fmt: skip
