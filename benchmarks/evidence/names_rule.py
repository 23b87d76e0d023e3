"""Are names kept? The rule of their trial, written before its data (docs/experiments.md).

In: rows of the judged pictures, true identities of trained concepts, and how close old encodings
stayed. Out: a `Clause` each, and the verdict.

The numbers and their reasons. The identity judge's cosine is 0.75 for renders of one instance and
0.01 for two of a class; so much of the way between them was measured before the trial.

- GAIN: what Textual Inversion gains over the class word by training a word alone, 0.20 on eleven
  concepts (results/first-world/miniature-measures). A name that was trained with the U-Net must
  gain as much.
- SURE: half of that, by the interval's lower end, so that a few lucky instances do not decide.
- NEARER: the same for its own instance less others of the class that have names: a name that draws
  any individual gains, too.
- ALIKE: a tenth of the way. Pictures of an unused word that are more alike than that show the word
  to be somebody.
- CLASS: one picture in twenty more that shows another class would be seen in every table.
- TEXT: old captions are to be read as before; by construction the cosine is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.tables.statistics import N_DRAWS, SEED, Interval, clustered, expanded

GAIN, SURE, NEARER, ALIKE, CLASS, TEXT = 0.20, 0.10, 0.10, 0.075, 0.05, 0.999
METHODS = ("ti", "perfusion")  # whose true identity on new concepts names are for
NAME, WORD, UNUSED, CONTROL = "name", "class word", "unused word", "class word, other arm"


@dataclass(frozen=True)
class Clause:
    """One part of the rule: what was measured, with its 95 % interval, and whether it holds."""

    what: str
    wanted: str
    value: float
    lo: float
    hi: float
    holds: bool


@dataclass(frozen=True)
class Verdict:
    clauses: tuple[Clause, ...]
    of_use: tuple[str, ...]  # methods whose true identity rises by more than chance

    @property
    def kept(self) -> bool:
        return all(clause.holds for clause in self.clauses)


def decided(
    names: pd.DataFrame, unused: pd.DataFrame, concepts: pd.DataFrame, closest: float
) -> Verdict:
    """The verdict, from the rows of names_pictures.py and true identities: a row a concept and
    method, with the columns `named` and `plain`."""
    change = {m: change_of(concepts[concepts["method"] == m]) for m in METHODS}
    clauses = (
        *draws_its_instance(names),
        *stays_neutral(unused),
        Clause("least cosine of old encodings", f">= {TEXT}", closest, closest, closest,
               closest >= TEXT),
        *(Clause(f"true identity by {m}, with names less without", "interval not below 0",
                 *change[m], change[m].hi >= 0) for m in METHODS),
    )  # fmt: skip
    return Verdict(clauses, tuple(m for m in METHODS if change[m].lo > 0))


def draws_its_instance(rows: pd.DataFrame) -> tuple[Clause, ...]:
    """By instance: likeness of pictures by its name, less those by its class word; and its name's
    pictures, less their likeness to others."""
    of = rows.groupby(["word", "kind"])[["own", "other"]].mean().unstack("kind")
    gain = over(of["own"][NAME] - of["own"][WORD])
    nearer = over(of["own"][NAME] - of["other"][NAME])
    return (
        Clause("likeness by name less by class word", f">= {GAIN}, interval above {SURE}",
               *gain, gain.value >= GAIN and gain.lo > SURE),
        Clause("likeness to its own less to other named instances", f"interval above {NEARER}",
               *nearer, nearer.lo > NEARER),
    )  # fmt: skip


def stays_neutral(rows: pd.DataFrame) -> tuple[Clause, ...]:
    """By unused word: how alike its pictures are and how often they show the class, less those of
    the class word alone with the same noise."""
    of = rows.groupby(["word", "kind"])[["alike", "right"]].mean().unstack("kind")
    alike = over(of["alike"][UNUSED] - of["alike"][WORD])
    right = over(of["right"][UNUSED] - of["right"][WORD])
    return (
        Clause("an unused word's pictures: how alike", f"interval within +- {ALIKE}",
               *alike, alike.lo > -ALIKE and alike.hi < ALIKE),
        Clause("an unused word's pictures: the right class", f"interval above -{CLASS}",
               *right, right.lo > -CLASS),
    )  # fmt: skip


def over(differences: Sequence[float] | pd.Series) -> Interval:
    """The mean over instances or words, with its bootstrap interval."""
    y = np.asarray(differences, dtype=float)
    draws = np.random.default_rng(SEED).integers(len(y), size=(N_DRAWS, len(y)))
    return expanded(np.concatenate([[y.mean()], y[draws].mean(1)]), len(y))


def change_of(rows: pd.DataFrame) -> Interval:
    """Over concepts, a t interval."""
    return clustered((rows["named"] - rows["plain"]).to_numpy(dtype=float)[:, None])
