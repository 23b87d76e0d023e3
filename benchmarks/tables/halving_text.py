"""What a search by successive halving says: a table of methods, and a line a method.

In: the rows of trainings.csv and the rounds. Out: text.
"""

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.tables.halving import (
    Round,
    count_fits,
    expected_at,
    expected_maximum,
    first_trials,
    read_rates,
    settings_table,
)
from benchmarks.tables.one_number import SCALED
from benchmarks.tables.table_text import aligned

HEAD = ("method", "fits", "seconds", "best of 1", "best of all", "best in equal seconds")


def told(rows: pd.DataFrame, rounds: Sequence[Round]) -> str:
    """The budget of every method and what it bought, then what was chosen."""
    methods = list(dict.fromkeys(rows["method"]))
    trials = {name: first_trials(rows[rows["method"] == name]) for name in methods}
    # what the cheapest method's first round takes: the seconds that all can be given
    took = [float(one["seconds"].mean()) * len(one) for one in trials.values()]
    common = min((seconds for seconds in took if not math.isnan(seconds)), default=0.0)
    table = [list(HEAD)]
    for name in methods:
        mine, scores = rows[rows["method"] == name], list(trials[name]["score"])
        table.append(
            [
                name,
                str(len(mine)),
                f"{mine['train_seconds'].sum():.0f}",
                number(expected_maximum(scores, 1)),
                number(expected_maximum(scores, len(scores))),
                number(expected_at(mine, common)),
            ]
        )
    first, lines = rounds[0], [aligned(table), ""]
    concepts = f"{first.concepts} concepts" if first.concepts > 1 else "concept"
    lines += [
        f"At most {count_fits(rounds)} fits a method. Best of 1 and of all: the expected best of 1 "
        f"and of {first.settings} settings",
        f"on the first {concepts}; in equal seconds: of as many as {common:.0f} s "
        f"of training pay for.",
        "The score is the harmonic mean of relative text similarity and of image similarity from "
        "floor to ceiling.",
        "",
    ]
    settings = settings_table(rows)
    lines += [chosen_line(settings[settings["method"] == name]) for name in methods]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def chosen_line(settings: pd.DataFrame) -> str:
    """Of one method: the middle of the plateau, and whether that reaches an end of what was
    tried.
    """
    method = settings["method"].iloc[0]
    chosen = settings[settings["chosen"] == "yes"]
    if chosen.empty:
        return f"{method}: every setting diverged; give lower TUNED_RANGES in its file"
    [row] = chosen.to_dict("records")
    level = settings[settings["plateau"] == "yes"]
    [top] = settings.loc[settings["best"] == "yes", "setting"]
    line = (
        f"{method}: setting {row['setting']} ({', '.join(row['rates'].split())}), the middle of "
        f"{len(level)} within one standard error of the best (setting {top}); "
        f"{number(row[SCALED])} on {row['concepts']} concepts"
    )
    tried = [read_rates(text) for text in settings["rates"]]
    for name in tried[0]:
        values = [one[name] for one in tried]
        on = [read_rates(text)[name] for text in level["rates"]]
        if len(set(values)) > 1 and {min(values), max(values)} & set(on):
            line += f"; it reaches the edge of {name} as tried"
    return line
