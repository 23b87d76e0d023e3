"""Successive halving over concepts: which settings go on, which are level with the best, and what a
search of so many trials may expect.

In: a row a training (method, setting, rates, round, concept) with its scores, missing where it
diverged. Out: a row a setting with the chosen one marked, and a method's expected best by trials
and by seconds.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.tables.one_number import SCALED
from benchmarks.tables.statistics import mean_over
from perfusion_core.errors import UserError

SHARE = "image_floor_to_ceiling"
SCORES = ("image_sim", "text_sim", "harmonic", SHARE, SCALED)
DIVERGED = 0.0  # what the plain word has on this scale: who has nothing better draws that


class Round(NamedTuple):
    """So many settings, each trained on so many concepts in all."""

    settings: int
    concepts: int


def read_rounds(text: str, known: int) -> tuple[Round, ...]:
    """`16x4,8x8,...`: settings by concepts; `known` concepts are there."""
    example = "write for example --rounds 16x4,8x8,4x16,2x22"
    parts = [re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", part) for part in text.split(",")]
    rounds = [Round(int(found[1]), int(found[2])) for found in parts if found]
    if len(rounds) < len(parts):
        raise UserError(f"--rounds {text!r} is not a list of SETTINGSxCONCEPTS; {example}")
    for before, after in pairwise(rounds):
        if after.settings > before.settings:
            raise UserError(
                f"--rounds {text}: {after.settings} settings after {before.settings}; no round has "
                f"more settings than the one before it"
            )
        if after.concepts <= before.concepts:
            raise UserError(
                f"--rounds {text}: {after.concepts} concepts after {before.concepts}; each round "
                f"adds concepts to those before it"
            )
    if (most := rounds[-1].concepts) > known:
        raise UserError(
            f"--rounds {text} asks for {most} concepts and the suite has {known}: give a larger "
            f"--suite, or fewer concepts in --rounds"
        )
    return tuple(rounds)


def count_fits(rounds: Sequence[Round]) -> int:
    """Trainings of a method at most: a later round trains only the concepts that it adds."""
    before = [0, *(one.concepts for one in rounds)]
    return sum(one.settings * (one.concepts - seen) for one, seen in zip(rounds, before))


def survivors(rows: pd.DataFrame, alive: Sequence[str], count: int) -> list[str]:
    """The best of the settings that are alive, by their means; one that diverged is out."""
    of_method = Standing.of(rows[rows["setting"].isin(alive)])
    fine = [name for name in of_method.settings if not of_method.lost[name]]
    ranked = sorted(fine, key=lambda name: (-of_method.mean(name), name))
    return sorted(ranked[:count])


def is_over(rows: pd.DataFrame, rounds: Sequence[Round]) -> bool:
    """Of one method: no setting of any round is left to be trained."""
    alive, before = sorted(set(rows["setting"])), 0
    if len(alive) < rounds[0].settings:
        return False
    for number, (count, concepts) in enumerate(rounds, 1):
        if number > 1:
            alive = survivors(rows[rows["round"] < number], alive, count)
        trained = rows.loc[rows["round"] == number, "setting"].value_counts()
        if any(trained.get(name, 0) < concepts - before for name in alive):
            return False
        before = concepts
    return True


class Standing(NamedTuple):
    """The settings of one method, side by side."""

    scores: pd.DataFrame  # [setting, concept], NaN where there is none
    lost: "pd.Series[bool]"  # by setting: a training diverged
    reached: "pd.Series[int]"  # by setting: its last round

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Standing":
        by_setting = rows.groupby("setting", sort=True)
        scores = rows.pivot(index="setting", columns="concept", values=SCALED).astype(float)
        lost = rows["image_sim"].isna().groupby(rows["setting"]).any()
        return cls(scores.sort_index(), lost.sort_index(), by_setting["round"].max())

    @property
    def settings(self) -> list[str]:
        return list(self.scores.index)

    def mean(self, setting: str) -> float:
        """Over its concepts; without any score the lowest of all."""
        mean = float(mean_over(self.scores.loc[setting].to_numpy(dtype=float)))
        return -math.inf if math.isnan(mean) else mean

    @property
    def best(self) -> str | None:
        """Of those that came farthest the highest mean."""
        fine = [name for name in self.settings if not self.lost[name]]
        return max(fine, key=lambda s: (self.reached[s], self.mean(s)), default=None)

    def behind(self, setting: str) -> tuple[float, float]:
        """By how much it is behind the best on the concepts that both have, and the standard error
        of that over concepts; NaN where fewer than two tell.
        """
        apart = (self.scores.loc[self.best] - self.scores.loc[setting]).dropna().to_numpy()
        error = float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(apart) > 1 else math.nan
        return float(apart.mean()) if len(apart) else math.nan, error

    @property
    def plateau(self) -> list[str]:
        """Settings within one standard error of the best. Those that the first of several rounds
        dropped are none: their few concepts have so wide an error that a bad one would be level.
        """
        first = 1 if self.reached.max() > 1 else 0
        found = []
        for name in self.settings:
            if name == self.best:
                found.append(name)
            elif not self.lost[name] and self.reached[name] > first:
                behind, error = self.behind(name)
                found += [name] if behind <= error else []
        return found


def middle(standing: Standing, rates: "pd.Series[str]") -> str | None:
    """Of the plateau the setting whose logarithms of rates are nearest to their mean; of equally
    near ones the better.
    """
    if not (level := standing.plateau):
        return None
    logs = {name: np.log(list(read_rates(rates[name]).values())) for name in level}
    centre = np.mean(list(logs.values()), axis=0)

    def order(name: str) -> tuple[float, float, str]:
        away = float(np.linalg.norm(logs[name] - centre))
        return round(away, 9), -standing.mean(name), name

    return min(level, key=order)


def read_rates(text: str) -> dict[str, float]:
    """`lr=0.03 lr_embedding=0.006`."""
    return {name: float(value) for name, value in (part.split("=") for part in text.split())}


# ---- tables ----


def settings_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a (method, setting): means over its concepts, how far it is behind, and what was
    chosen.
    """
    out = []
    for method, mine in rows.groupby("method", sort=False):
        standing = Standing.of(mine)
        rates = mine.groupby("setting")["rates"].first()
        level, chosen = standing.plateau, middle(standing, rates)
        for name in standing.settings:
            own = mine[mine["setting"] == name]
            behind, error = (
                standing.behind(name) if not standing.lost[name] else (math.nan, math.nan)
            )
            out.append(
                {
                    "method": method,
                    "setting": name,
                    "rates": rates[name],
                    "round": int(standing.reached[name]),
                    "concepts": len(own),
                    "diverged": int(own["image_sim"].isna().sum()),
                    **{score: own[score].mean() for score in SCORES},
                    "behind": behind,
                    "behind_error": error,
                    "train_seconds": own["train_seconds"].sum(),
                    "best": "yes" if name == standing.best else "",
                    "plateau": "yes" if name in level else "",
                    "chosen": "yes" if name == chosen else "",
                }
            )
    decimals = dict.fromkeys((*SCORES, "behind", "behind_error"), 6) | {"train_seconds": 3}
    return pd.DataFrame(out).round(decimals)


def expected_maximum(values: Sequence[float], draws: float) -> float:
    """The mean of the highest of so many draws, with replacement, from the values: each is the
    highest with the probability that all draws are at most it, less that all are below it.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(ordered @ np.diff(steps**draws))


def first_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a setting: its score and seconds on the concepts of the first round, which all settings
    have. One that diverged has what the plain word has; its seconds are not known.
    """
    first = rows[rows["round"] == 1]
    found = first.groupby("setting", sort=True).agg(
        score=(SCALED, "mean"), lost=("image_sim", lambda one: one.isna().any())
    )
    seconds = first.groupby("setting", sort=True)["train_seconds"].sum(min_count=1)
    found["score"] = found["score"].where(~found["lost"].astype(bool), DIVERGED).fillna(DIVERGED)
    found["seconds"] = seconds.where(~found["lost"].astype(bool))
    return found


def expected_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Expected best score of so many trials of each method, with the seconds that these take."""
    out = []
    for method, mine in rows.groupby("method", sort=False):
        trials = first_trials(mine)
        each = float(trials["seconds"].mean())
        out += [
            (method, k, round(k * each, 3), round(expected_maximum(list(trials["score"]), k), 6))
            for k in range(1, len(trials) + 1)
        ]
    return pd.DataFrame(out, columns=["method", "trials", "seconds", "expected"])


def expected_at(rows: pd.DataFrame, seconds: float) -> float:
    """Of one method, after so many seconds; NaN where they do not pay for one trial."""
    trials = first_trials(rows)
    draws = seconds / float(trials["seconds"].mean())
    return expected_maximum(list(trials["score"]), draws) if draws >= 1 else math.nan
