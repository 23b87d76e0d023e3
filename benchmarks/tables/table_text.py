"""The table for people: Markdown that is a table in a terminal as well.

In: the rows of table.csv. Out: text.
"""

import shlex
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.miniature.which_world import world_of_run
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.reading import untuned_methods
from benchmarks.tables.measured import (
    absent,
    concepts_without,
    legend_of,
    measure_table,
    measures_in,
    shown_first,
)

REMARKS = {
    "flat": "of one colour all over, counted like any other: a drawing that failed, or what a "
    "safety checker leaves",
    "cut": "of a prompt whose end the text encoder did not read, counted like any other",
    "unpaired": "imported, made elsewhere: comparisons with these are unpaired over images, paired "
    "over concept and prompt",
}
NAIVE, HONEST = "naive", "honest"  # the points of the two Best H rows


UNTUNED = "(untuned)"
UNTUNED_COLUMNS = {"untuned": "method", "other_untuned": "other"}  # for programs -> of which column
GUESSED = (
    "Untuned: the rates of {} are a guess for this backbone, so that a low score says little of "
    "the method"
)


def label(kind: str, method: str, point: str, untuned: Collection[str] = ()) -> str:
    """How a row of the table is called; `untuned`: methods whose rates are a guess."""
    if method in untuned:
        method = f"{method} {UNTUNED}"
    if kind == "best-h":
        return f"{method} Best H" + (" (split halves)" if point == HONEST else "")
    if kind in ("floor", "ceiling"):
        return {"floor": f"{method} (floor)", "ceiling": "real images (ceiling)"}[kind]
    return method if point == "default" else f"{method} {point}"


def markdown(
    table: pd.DataFrame,
    about: Mapping[str, Any] | None = None,
    title: str = "Results",
    remarks: Mapping[str, int] | None = None,
    silence: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """table.md: what people read. Intervals in brackets; n/planned where they differ or not.
    `remarks`: how many images have each (similarity.py); `silence`: of how many a scorer said
    nothing, of how many."""
    head = {
        "image_sim": "image similarity",
        "text_sim": "text similarity",
        "harmonic": "harmonic mean",
        "text_sim_raw": "text, raw cosine",
    }
    measures = measures_in(table)
    extra = [str(c) for c in table if f"{c}_lo" in table and c not in (*head, *measures)]
    untuned = untuned_methods(about or {})
    rows: list[list[str]] = [["", *head.values(), *extra, "copied", "images", "KB", "training"]]
    for row in table.to_dict("records"):
        estimates = [estimate(row[m], row[f"{m}_lo"], row[f"{m}_hi"], m) for m in [*head, *extra]]
        images = (
            f"{row['n_images']:,}"
            if row["kind"] == "ceiling"
            else f"{row['n_images']:,}/{row['n_planned']:,}"
        )
        copied = "" if np.isnan(row["copied"]) else f"{row['copied']:.0%}"
        size = "" if np.isnan(row["kilobytes"]) else f"{row['kilobytes']:,.0f}"
        rows.append(
            [
                label(row["kind"], row["method"], row["point"], untuned),
                *estimates,
                copied,
                images,
                size,
                seconds_text(row["train_seconds"]),
            ]
        )
    n = table["n_concepts"].max()
    unit = "pairs" if title.startswith("Pairs") else "concepts"
    means = (
        f"means over {n} {unit} with 95 % intervals"
        if n > 1
        else f"means of one {unit[:-1]}, without intervals"
    )
    measured = f"Scorer: {about['scorers'][0]['name']}.\n" if about and about.get("scorers") else ""
    if world := world_of_run(about or {}):
        measured += f"Drawn in the {world} world of the miniature.\n"
    for kind, sentence in REMARKS.items():
        if n := (remarks or {}).get(kind):
            measured += f"{plural(n)} {sentence}.\n"
    for name, (n, of) in (silence or {}).items():
        measured += (
            f"{name} gave no score for {n:,} of {of:,} images: its means are without them.\n"
        )
    if told := untuned_words(table, untuned):
        measured += told
    measured += masked_fits(about or {})
    if short := short_fits(about or {}):
        measured += (
            f"{short[0].upper()}{short[1:]}. This shows that all works, and not which "
            f"method is better.\n"
        )
    made = "".join([*(f"    {command}\n" for command in commands_of(about or {})), "\n"]).lstrip(
        "\n"
    )
    return f"""# {title}

{made}{aligned(rows)}

{reading(table)}
Class-balanced {means}; what counts is the number of {unit}, not of images.
Text similarity is relative to `super`, which is 1 by definition. Best H is chosen on the images \
that it is reported on,
Best H (split halves) on one half of them and reported on the other. `copied`: cells above the \
ceiling. Images: there/planned.
Training: of one concept, with the drawing of validation images where these pick the step.
{measured}"""


def untuned_words(frame: pd.DataFrame, untuned: Collection[str]) -> str:
    """A line that names those methods of a table that were not tuned; empty where all were."""
    named = {*frame.get("method", ()), *frame.get("other", ())}
    found = [name for name in untuned if name in named]
    return f"{GUESSED.format(', '.join(found))}.\n" if found else ""


def with_untuned(frame: pd.DataFrame, untuned: Collection[str]) -> pd.DataFrame:
    """For programs: a last column that says of each row whether its method's rates are a guess, and
    of the method that it is compared with. The frame as it is where all were tuned."""
    if not untuned_words(frame, untuned):
        return frame
    told = {
        column: frame[name].isin(untuned)
        for column, name in UNTUNED_COLUMNS.items()
        if name in frame
    }
    return frame.assign(**told)


def beyond_text(
    table: pd.DataFrame, metrics: pd.DataFrame, about: Mapping[str, Any] | None = None
) -> str:
    """The second table of table.md: measures beyond the protocol, each with its legend. Those of
    other scorers would make it too wide to read, and have a view of their own."""
    shown, untuned = measure_table(table), untuned_methods(about or {})
    names, others = shown_first(measures_in(table))
    rows: list[list[str]] = [["", *names]]
    for row in shown.to_dict("records"):
        numbers = [estimate(row[m], row[f"{m}_lo"], row[f"{m}_hi"], m) for m in names]
        rows.append([label(row["kind"], row["method"], row["point"], untuned), *numbers])
    notes = [legend_of(name) for name in names]
    if others:
        notes.append(f"The same by {', '.join(others)}: perfbench table RUN --by measures")
    if few := concepts_without(metrics):
        notes.append(f"Concepts that lack what a measure needs are left out of it: {few}")
    if lacking := absent(table):
        notes.append(f"Not measured here: {lacking}")
    lines = "\n".join(f"{note}." for note in notes)
    return f"# Beyond the protocol\n\n{aligned(rows)}\n\n{lines}\n"


def plural(images: int) -> str:
    return f"{images:,} image is" if images == 1 else f"{images:,} images are"


def reading(table: pd.DataFrame) -> str:
    """What rows and columns are, for somebody who reads such a table for the first time."""
    points = table.loc[~table["kind"].isin(["best-h", "floor", "ceiling"]), "point"].astype(str)
    locked = [point for point in points if point.startswith(("local-b", "global-b"))]
    told = [
        "Image similarity: how much the pictures look like the concept. Text similarity: how well "
        "they fit their prompts.",
        "Harmonic mean: one number for both. Floor: the plain word in the concept's place. "
        "Ceiling: the concept's own pictures.",
    ]
    if locked:
        told.append(
            f"`{locked[0]}`: the lock, and how much the concept is held back (b); a lower b gives "
            f"more of the concept."
        )
    return "\n".join(told)


def short_fits(about: Mapping[str, Any]) -> str:
    """The methods whose fits a preset cut short, in words; empty where none was."""
    config = about.get("config", {})
    given = {str(place).partition("=")[0] for place in config.get("trained", ())}
    cut = sorted(
        name
        for name, method in about.get("methods", {}).items()
        if config.get("train_steps")
        and method["config"].get("steps") == config["train_steps"]
        and name not in given
    )
    return (
        f"short fits: {', '.join(cut)} had {config['train_steps']} training steps at most"
        if cut
        else ""
    )


def masked_fits(about: Mapping[str, Any]) -> str:
    """Who was trained with masks, in a sentence; empty where a run does not tell."""
    told = {
        name: method["masks"]
        for name, method in about.get("methods", {}).items()
        if isinstance(method.get("masks"), bool)
    }
    if not told:
        return ""
    masked, plain = (sorted(n for n, one in told.items() if one is kind) for kind in (True, False))
    if not masked or not plain:
        silent = about["methods"].keys() - told.keys() - {FLOOR}  # trained elsewhere, or not at all
        who = ", ".join(masked or plain) if silent else "every method"
        return f"Trained {'with' if masked else 'without'} masks: {who}.\n"
    return f"Trained with masks: {', '.join(masked)}. Without: {', '.join(plain)}.\n"


def commands_of(about: Mapping[str, Any]) -> list[str]:
    """What was given in a run's folder, oldest first, as it is typed."""
    given = about.get("commands") or [{"argv": about.get("argv", [])}]
    words = [[str(word) for word in command.get("argv", [])] for command in given]
    return [shlex.join(["perfbench", *argv[argv[0] == "perfbench" :]]) for argv in words if argv]


# The ends of what a number can be. An interval of two or three concepts leaves them: Student's t
# knows no scale; what is read is cut to it, what is stored is not.
SCALES = {
    "copy_gap": (-2.0, 2.0),
    "found": (0.0, 1.0),
    "image_sim_subject": (-1.0, 1.0),
    "nearer": (0.0, 1.0),
    "variety": (0.0, 2.0),
    "vendi": (1.0, np.inf),
    "image_sim": (-1.0, 1.0),
    "text_sim_raw": (-1.0, 1.0),
    "text_sim": (0.0, np.inf),
    "harmonic": (0.0, np.inf),
    "hypervolume": (0.0, np.inf),
    "agreement": (-1.0, 1.0),
    "drift": (0.0, np.inf),
}


def estimate(value: float, lo: float, hi: float, metric: str = "") -> str:
    """A number and its interval, empty where there is none."""
    if np.isnan(value):
        return ""
    least, most = scale_of(metric)
    lo, hi = max(lo, least), min(hi, most)
    return f"{value:.3f}" if np.isnan(lo) else f"{value:.3f} [{lo:.3f}, {hi:.3f}]"


def scale_of(metric: str) -> tuple[float, float]:
    """What a metric can be at least and at most: no interval is told to reach further."""
    found = (ends for name, ends in SCALES.items() if metric.startswith(name))
    return next(found, (-np.inf, np.inf))


def seconds_text(seconds: float) -> str:
    """119 s, 2.0 min; empty where it is not known."""
    if np.isnan(seconds):
        return ""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def aligned(rows: list[list[str]]) -> str:
    """A Markdown table that is a table in a terminal as well; the first row is its head. Words
    left, numbers right.
    """
    columns = list(zip(*rows))
    widths = [max(map(len, column)) for column in columns]
    words = [any(text[:1].isalpha() for text in column[1:]) for column in columns]

    def line(row: list[str]) -> str:
        return (
            "| "
            + " | ".join(
                t.ljust(w) if left else t.rjust(w) for t, w, left in zip(row, widths, words)
            )
            + " |"
        )

    rule = "|".join(
        "-" * (w + 2) if left else "-" * (w + 1) + ":" for w, left in zip(widths, words)
    )
    return "\n".join([line(rows[0]), f"|{rule}|", *map(line, rows[1:])])
