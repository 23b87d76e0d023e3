"""The page of `perfbench evaluate`: which file to keep, its table, and the pictures side by side.

In: a finished run folder. Out: evaluation.md with figures/evaluation.png, and index.html, in which
every picture is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.disk import write_whole
from benchmarks.exchange.which_to_keep import METRICS, Choice, Scored, choose
from benchmarks.figures.registry import plot
from benchmarks.figures.report.report_page import write_report
from benchmarks.figures.selection import Wish
from benchmarks.running.given_files import Guest
from benchmarks.running.prepared import Prepared, scorer_names
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.run_folder import figures_folder
from benchmarks.tables.run_view import Run, open_run
from benchmarks.tables.table_text import aligned, estimate

PAGE, FIGURE = "evaluation.md", "evaluation.png"
COLUMNS = 8  # of pictures beside each other: the best ones, in the order of the training
WORDS = {
    "image_sim": "image similarity",
    "text_sim": "text similarity",
    "harmonic": "harmonic mean",
}


def write_page(prepared: Prepared, guests: Sequence[Guest]) -> str:
    """Everything into the run folder; -> the verdict, and where the page is."""
    run = open_run(str(prepared.folder))
    names = [guest.method.name for guest in guests]
    concepts = [concept.name for concept in prepared.concepts]
    first, *others = scorer_names(prepared.models)
    choices = [choose(run.cells, names, concepts)]
    choices += [choose(run.cells, names, concepts, other) for other in others]
    shown = pictures(run, choices[0], concepts)
    text = page(run, prepared, guests, choices, [first, *others], shown)
    write_whole(prepared.folder / PAGE, text)
    report = write_report(run, prepared.folder / "index.html")
    told = verdict(choices, [first, *others])
    return f"\n{told}\n{prepared.folder / PAGE}, and every picture: {report}"


def pictures(run: Run, choice: Choice, concepts: Sequence[str]) -> Path | None:
    """The files beside each other, row by row the same prompt and seed; None where none is left."""
    ranked = sorted(choice.rows, key=lambda row: -row.scores[choice.decides].value)
    kept = {row.name for row in ranked[: COLUMNS - 1]}
    columns = (FLOOR, *(row.name for row in choice.rows if row.name in kept))
    if not any(
        run.shows([(name, "default") for name in columns], concept, prompt)
        for concept in concepts
        for prompt in run.plan["prompt_id"].unique()
    ):
        return None
    wish = Wish(concepts=tuple(concepts[:5]), methods=columns)
    return plot("gallery", [run], wish, figures_folder(run.folder) / FIGURE)[0]


# ---- in words ----


def verdict(choices: Sequence[Choice], scorers: Sequence[str]) -> str:
    """Which to keep, how sure that is, and what the other scorers say."""
    choice = choices[0]
    lines = [sentence(choice)]
    floor = choice.floor.behind
    if choice.best and np.isfinite(floor.value) and not floor.lo > 0:
        lines.append(
            f"It is not ahead of the plain word, `{FLOOR}` ({signed(floor)}): perhaps the trigger "
            f"is not what it was trained with."
        )
    for other, scorer in zip(choices[1:], scorers[1:]):
        if not other.best:
            lines.append(f"{scorer} gave no score to pick by.")
            continue
        same = "picks the same" if other.best == choice.best else f"picks {other.best}"
        level = f", level with {', '.join(other.level)}" if other.level else ""
        by = "" if other.decides == choice.decides else f" by {WORDS[other.decides]}"
        lines.append(f"{scorer} {same}{by}{level}.")
    return "\n".join(lines)


def sentence(choice: Choice) -> str:
    word, best = WORDS[choice.decides], choice.best
    if not best:
        return "No pick: no file has a score."
    value = next(row for row in choice.rows if row.name == best).scores[choice.decides]
    told = f"Keep {best}: {word} {estimate(*value, choice.decides)}"
    if len(choice.rows) == 1:
        return f"{best}: {word} {estimate(*value, choice.decides)}; there is no other to compare."
    if choice.prompts < 2:
        return f"{told}. One prompt of a kind gives no interval: give more, such as --prompts 10."
    if not choice.others:
        return f"{told}. No other file has a score."
    near = min(choice.others, key=lambda row: row.behind.value)
    if not choice.level:
        return f"{told}. It is ahead of every other, of {near.name} by {signed(near.behind)}."
    others = " and ".join(choice.level)
    which = f"{near.name}: " if len(choice.level) > 1 else ""
    return (
        f"{told}. {others} cannot be told apart from it ({which}{signed(near.behind)}); more "
        f"prompts or images tell more, such as --prompts all."
    )


def signed(difference: "Sequence[float]") -> str:
    value, lo, hi = difference
    if np.isnan(value):
        return ""
    return f"{value:+.3f}" + ("" if np.isnan(lo) else f" [{lo:+.3f}, {hi:+.3f}]")


def table(choice: Choice) -> str:
    """A row a file, in the order of the training."""

    def cells(row: Scored) -> list[str]:
        behind = "best" if row.name == choice.best else signed(row.behind)
        name = f"**{row.name}**" if row.name == choice.best else row.name
        scores = [estimate(*row.scores[metric], metric) for metric in METRICS]
        return [name, *scores, behind]

    head = ["file", *(WORDS[metric] for metric in METRICS), "behind the best"]
    return aligned([head, *map(cells, choice.rows), cells(choice.floor)])


def page(
    run: Run,
    prepared: Prepared,
    guests: Sequence[Guest],
    choices: Sequence[Choice],
    scorers: Sequence[str],
    shown: Path | None,
) -> str:
    """evaluation.md."""
    concepts = ", ".join(concept.name for concept in prepared.concepts)
    parts = ["# Which file to keep", verdict(choices, scorers)]
    for choice, scorer in zip(choices, scorers):
        parts += [f"Scored by {scorer}, on {concepts}:", table(choice)]
    parts.append(
        f"Every file has the same prompts, seeds and noise. Intervals are of 95 %, over prompts "
        f"(at least {choices[0].prompts} of a kind); those of *behind the best* are paired by "
        f"concept, prompt and seed. A file is behind where its interval lies above 0. `{FLOOR}` is "
        f"the plain word without any file: text similarity is relative to it."
    )
    if shown:
        parts.append(f"![The files side by side]({shown.relative_to(run.folder).as_posix()})")
    parts.append("Files:")
    parts.append(
        "\n".join(
            f"- {guest.method.name}: {guest.given.about['kind']}, written "
            f"`{guest.given.about['trigger']}`, sha256 {guest.given.files[-1][2][:16]}"
            for guest in guests
        )
    )
    return "\n\n".join(parts) + "\n"
