"""Answer files -> the ratings that count, and who was left out for what reason.

In: a study folder with `answers/*.json`. Out: `Collected`: a row a rated picture, a row a rater,
counts.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.safe_paths import leads_out
from benchmarks.study.agreement import same_order
from benchmarks.study.answers import (
    MAX_BYTES,
    Answers,
    Key,
    Refused,
    by_choice,
    parse_answers,
    right_answers,
)
from benchmarks.study.design import QUALIFY, RATE, REPEAT
from benchmarks.study.material import SCORES
from perfusion_core.errors import UserError

COLUMNS = [
    "rater",
    "session",
    "trial",
    "place",
    "task",
    "concept",
    "group",
    "prompt_id",
    "method",
    "point",
    "index",
    "score",
    *SCORES,
]


@dataclass
class Collected:
    """`ratings`: of the raters who count. `raters`: everyone; status counted, unqualified,
    inconsistent or stopped.
    """

    ratings: pd.DataFrame
    raters: pd.DataFrame
    refused: list[str] = field(default_factory=list)  # "file: why"
    repeated: int = 0  # answers that a rater had given before

    def n(self, status: str) -> int:
        return int((self.raters["status"] == status).sum())


def collect(key: Key, min_agreement: float) -> Collected:
    """Read every file; leave out raters who failed the qualification or contradict themselves."""
    there = sorted(path for path in key.answers.glob("[!.]*") if path.is_file())
    files = [path for path in there if path.suffix.lower() == ".json"]
    if not files:
        raise UserError(
            f"{key.answers} has no answers yet; put the downloaded files there, or `perfbench "
            f"study serve {key.folder}`"
        )
    by_rater: dict[str, list[Answers]] = defaultdict(list)
    refused = [
        f"{path.name}: its name does not end in .json" for path in there if path not in files
    ]
    for path in files:
        if leads_out(path):
            refused.append(f"{path.name}: a link to another folder")
            continue
        try:
            with path.open("rb") as stream:
                answers = parse_answers(stream.read(MAX_BYTES + 1), key)
            by_rater[answers.rater].append(answers)
        except Refused as refusal:
            refused.append(f"{path.name}: {refusal}")
    people, rows, repeated = [], [], 0
    for rater, handed_in in by_rater.items():
        ranks: dict[str, tuple[int, ...]] = {}
        # of two files of one session, the fuller one first
        for answers in sorted(handed_in, key=lambda a: -len(a.ranks)):
            repeated += len(ranks.keys() & answers.ranks.keys())
            ranks = {**answers.ranks, **ranks}
        about = about_rater(rater, handed_in, ranks, key, min_agreement)
        people.append(about)
        if about["status"] == "counted":
            rows += ratings(rater, handed_in, ranks, key)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return Collected(
        frame,
        pd.DataFrame(people).sort_values("rater", ignore_index=True) if people else no_raters(),
        refused,
        repeated,
    )


def about_rater(
    rater: str,
    handed_in: list[Answers],
    ranks: dict[str, tuple[int, ...]],
    key: Key,
    min_agreement: float,
) -> dict[str, Any]:
    """One row of raters.csv."""
    trials = [key.trials[name] for name in ranks]
    known = [trial for trial in trials if trial["role"] == QUALIFY]
    agreed = self_agreement(ranks, key)
    status = "counted"
    if any(answers.tested and not answers.qualified for answers in handed_in):
        status = "unqualified"
    elif not any(answers.qualified for answers in handed_in):
        status = "stopped"  # before the qualification was over
    elif agreed and np.mean(agreed) < min_agreement:
        status = "inconsistent"
    return {
        "rater": rater,
        "sessions": len({answers.session for answers in handed_in}),
        "trials": sum(trial["role"] == RATE for trial in trials),
        "known": len(known),
        "right": right_answers(ranks, known, key),
        "repeated_pairs": len(agreed),
        "self_agreement": float(np.mean(agreed)) if agreed else np.nan,
        "status": status,
    }


def self_agreement(ranks: dict[str, tuple[int, ...]], key: Key) -> list[float]:
    """For each pair of each repeated trial, whether it was ordered as the first time."""
    agreed: list[float] = []
    for name, given in ranks.items():
        trial = key.trials[name]
        if trial["role"] != REPEAT:
            continue
        first = key.sessions[trial["session"] - 1]["trials"][trial["first"]]
        if first["id"] in ranks:
            agreed += same_order(by_choice(first, ranks[first["id"]]), by_choice(trial, given))
    return agreed


def ratings(
    rater: str, handed_in: list[Answers], ranks: dict[str, tuple[int, ...]], key: Key
) -> list[dict[str, Any]]:
    """A row a picture of every trial of the study itself, from sessions whose qualification was
    passed.
    """
    passed = {answers.session for answers in handed_in if answers.qualified}
    rows = []
    for name, given in ranks.items():
        trial = key.trials[name]
        if trial["role"] != RATE or trial["session"] not in passed:
            continue
        task = key.task(trial)
        for place, choice in enumerate(trial["order"]):
            picture = task["choices"][choice]
            rows.append(
                {
                    "rater": rater,
                    "session": trial["session"],
                    "trial": name,
                    "place": place,
                    "task": trial["task"],
                    **{column: task[column] for column in ("concept", "group", "prompt_id")},
                    **{column: picture[column] for column in ("method", "point", "index")},
                    "score": given[place],
                    **{score: picture["scores"].get(score, np.nan) for score in SCORES},
                }
            )
    return rows


def no_raters() -> pd.DataFrame:
    return pd.DataFrame(
        columns=[
            "rater",
            "sessions",
            "trials",
            "known",
            "right",
            "repeated_pairs",
            "self_agreement",
            "status",
        ]
    )


def refusal_counts(collected: Collected) -> dict[str, int]:
    return dict(Counter(line.split(": ", 1)[1] for line in collected.refused))
