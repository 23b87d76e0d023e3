"""The looks at the confirmatory run as files: looks.csv, a row a claim and look, and looks.md.

In: the run's folder, with the rows of whole concepts. Out: both files, and the page's text.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isclose, isnan
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.disk import write_whole
from benchmarks.evidence.confirm_ledger import (
    ASIDE,
    REASONS,
    WHOLE,
    made_on,
    read_aside,
    read_begun,
    read_whole,
    refuse_changed,
    refuse_lost_claims,
)
from benchmarks.evidence.confirm_looks import (
    CROSSED,
    LAST,
    NOT_YET,
    Look,
    among_all,
    decided,
    look_at,
)
from benchmarks.evidence.confirm_measures import Scored
from benchmarks.evidence.confirm_plan import PLAN, Compared, ConfirmPlan, read_confirm_plan
from benchmarks.evidence.results_page import markdown_table
from benchmarks.evidence.verdicts import LEVEL, OPEN, told
from benchmarks.scoring.reserved import REAL
from benchmarks.store.packed import PACKED
from benchmarks.store.reading import read_drift_plan, read_plan
from benchmarks.tables.build import cells_of
from benchmarks.tables.drift_table import drift_cells, lacking
from benchmarks.tables.grid import FLOOR
from benchmarks.tables.sample_rows import missing_of, sample_rows
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

LOOKS_TABLE, LOOKS_PAGE = "looks.csv", "looks.md"
COLUMNS = (
    "claim", "look", "concepts", "status", "verdict", "exploratory", "measure", "value", "lo",
    "hi", "text", "text_lo", "text_hi", "z", "boundary", "p", "q", "delta", "power", "unskewed",
)  # fmt: skip
EXPLORATORY = "exploratory: "
SEEN = ("value", "lo", "hi", "text", "text_lo", "text_hi", "z")  # of a look, whatever comes later
PRECISION = 1e-4  # to which these are the same on another processor


def judge_folder(folder: Path) -> str:
    """Every look whose concepts are whole, into the two files."""
    plan = read_confirm_plan(folder / PLAN)
    begun = read_begun(folder)
    if not begun:
        raise UserError(
            f"no run has begun in {folder}; `python -m benchmarks.evidence.confirm run` begins it"
        )
    refuse_changed(folder, {"frame": plan.frame}, begun)
    refuse_lost_claims(folder, plan, begun)
    names, aside = begun["concepts"], read_aside(folder)
    made = [row for row in read_whole(folder) if row["concept"] in names]
    left_out = {row["concept"] for row in aside}
    if both := [row["concept"] for row in made if row["concept"] in left_out]:
        raise UserError(
            f"{both[0]} is in {WHOLE} and in {ASIDE} of {folder}: a concept is whole or left out; "
            f"`git checkout -- {WHOLE} {ASIDE}` brings both back"
        )
    there = {row["concept"] for row in made} | left_out
    whole = [n for n in plan.looks.concepts if there.issuperset(names[:n])]
    if not whole:
        first = plan.looks.concepts[0]
        raise UserError(
            f"{len(there.intersection(names[:first]))} of the {first} concepts of the first look "
            f"are whole in {folder}; `python -m benchmarks.evidence.confirm run` goes on"
        )
    taken = {n: [name for name in names[:n] if name not in left_out] for n in whole}
    cells = read_cells(folder, plan, taken[whole[-1]])
    scored = [Scored(cells[cells["concept"].isin(taken[n])]) for n in whole]
    history = {
        claim.name: [
            labelled(look_at(claim, plan.looks, number, one), plan, begun)
            for number, one in enumerate(scored)
        ]
        for claim in plan.claims
    }
    final = among_all([decided(looks) for looks in history.values()], begun["claims"])
    table = looks_csv(history, final)
    refuse_other_looks(folder, table)
    write_whole(folder / LOOKS_TABLE, table)
    judged = [row for row in made if row["concept"] in taken[whole[-1]]]
    lost = [row for row in aside if row["concept"] in names[: whole[-1]]]
    same = begun.get("plan") in (None, file_sha256(folder / PLAN))
    text = looks_text(plan, history, final, scored[-1], made_on(judged), lost, same)
    write_whole(folder / LOOKS_PAGE, text)
    return text


def refuse_other_looks(folder: Path, table: str) -> None:
    """What a look has said stays: scores that are replaced afterwards would make it another one.
    Rules that are changed afterwards are exploratory, and may say what they like.
    """
    now = {(row["claim"], row["look"]): row for row in csv.DictReader(io.StringIO(table))}
    for row in read_looks(folder):
        other = now.get((row["claim"], row["look"]))
        if other is None or row["exploratory"] or other["exploratory"]:
            continue
        if changed := [name for name in SEEN if not _same(row[name], other[name])]:
            raise UserError(
                f"look {row['look']} at {row['claim']} said {changed[0]} "
                f"{row[changed[0]] or 'nothing'}, and its rows say "
                f"{other[changed[0]] or 'nothing'} now: bring them back, or tell why in "
                f"{REASONS} and delete {folder / LOOKS_TABLE}"
            )


def _same(one: str, other: str) -> bool:
    if not one or not other:
        return one == other
    return isclose(float(one), float(other), rel_tol=PRECISION, abs_tol=PRECISION**2)


def labelled(look: Look, plan: ConfirmPlan, begun: Mapping[str, Any]) -> Look:
    """Exploratory where the rule is not the one that was there before the first fit."""
    same = begun["claims"].get(look.claim.name) == plan.rule(look.claim)
    return replace(look, exploratory=not same)


def read_cells(folder: Path, plan: ConfirmPlan, names: Sequence[str]) -> pd.DataFrame:
    """Cell means of these concepts at the plan's points, with those of drift; what is missing is
    refused.
    """
    wanted = {*plan.points, (FLOOR, "default")}
    planned = read_plan(folder)
    planned = planned[planned["concept"].isin(names)]
    planned = planned[[point in wanted for point in zip(planned["method"], planned["point"])]]
    rows = sample_rows(folder)
    rows = rows[rows["concept"].isin(names)]
    cells = cells_of(rows)
    points = zip(cells["method"], cells["point"])
    cells = cells[[point in wanted or point[0] == REAL for point in points]]
    have = set(zip(planned["method"], planned["point"], planned["concept"]))
    lost = next(
        ((*p, name) for p in sorted(wanted) for name in names if (*p, name) not in have), None
    )
    if len(broken := cells[cells["mean"].isna()]):
        first = tuple(broken.iloc[0][["metric", "method", "point", "concept"]])
        raise UserError(
            f"{folder} has a score that is not finite: {first[0]} of {'/'.join(first[1:])}; "
            f"`git checkout -- {PACKED}` brings the rows back"
        )
    missing = missing_of(cells[cells["method"] != REAL], planned)
    if lost or len(missing):
        first = lost or tuple(missing.iloc[0][["method", "point", "concept"]])
        raise UserError(
            f"{folder} has no whole scores of {'/'.join(map(str, first))}; `python -m "
            f"benchmarks.evidence.confirm run` makes what is missing"
        )
    return pd.concat([cells, _drift_cells(folder, names)], ignore_index=True)


def _drift_cells(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """Of unrelated prompts; none where none are planned."""
    planned = read_drift_plan(folder)
    planned = planned[planned["concept"].isin(names)]
    if planned.empty:
        return pd.DataFrame()
    drift = drift_cells(folder, cells_of, allow_missing=True)
    drift = drift[drift["concept"].isin(names)] if len(drift) else drift
    if short := lacking(drift, planned):
        raise UserError(
            f"{folder} lacks the scores of {short} pictures that measure drift; `python -m "
            f"benchmarks.evidence.confirm run` makes what is missing"
        )
    return drift


# ---- files ----


def read_looks(folder: Path) -> list[dict[str, str]]:
    """The rows of looks.csv; none where nothing was judged yet."""
    if not (folder / LOOKS_TABLE).is_file():
        return []
    with (folder / LOOKS_TABLE).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def looks_csv(history: Mapping[str, Sequence[Look]], final: Sequence[Look]) -> str:
    """One fact a field. The row of the look that counts has the claim's p and q, and the verdict
    that is left among all claims; other rows say what their look said alone.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    counted = {(one.claim.name, one.look): one for one in final}
    for looks in history.values():
        for one in (counted.get((one.claim.name, one.look), one) for one in looks):
            text = one.text or (float("nan"),) * 3
            numbers = {
                "value": one.found.value, "lo": one.found.lo, "hi": one.found.hi,
                "text": text[0], "text_lo": text[1], "text_hi": text[2],
                "z": one.z, "p": one.p, "q": one.q,
                "power": one.power,
            }  # fmt: skip
            writer.writerow({
                "claim": one.claim.name, "look": one.look, "concepts": one.concepts,
                "status": one.status, "verdict": one.verdict,
                "exploratory": "yes" if one.exploratory else "",
                "unskewed": one.unskewed,
                "measure": one.claim.part.words, "boundary": one.boundary,
                "delta": one.claim.delta,
                **{name: "" if isnan(value) else f"{value:.6g}" for name, value in numbers.items()},
            })  # fmt: skip
    return out.getvalue()


def looks_text(
    plan: ConfirmPlan,
    history: Mapping[str, Sequence[Look]],
    final: Sequence[Look],
    scored: Scored,
    where: str,
    aside: Sequence[Mapping[str, str]] = (),
    same: bool = True,
) -> str:
    """The page; `where`: on which processors the concepts were made; `aside`: those left out;
    `same`: whether the plan is the file that was there when the run began.
    """
    made = len(next(iter(history.values())))
    sizes = plan.looks.concepts
    head = ["claim", *(f"look {k + 1}, {sizes[k]} concepts" for k in range(made)), "verdict", "q"]
    rows = [
        [claim.says, *(_cell(one) for one in history[claim.name]), _word(last), f"{last.q:.3f}"]
        for claim, last in zip(plan.claims, final)
    ]
    lines = [
        "# Looks at the confirmatory run",
        "",
        "Written by `python -m benchmarks.evidence.confirm judge` from the rows beside it. The "
        "rules are in [plan.toml](plan.toml), their reasons in [plan.md](plan.md).",
        "",
        f"Boundaries in standard errors: {_numbers(plan.looks.boundaries)} at "
        f"{_numbers(sizes)} concepts. An interval reaches as far as its look's boundary.",
        "",
        f"Concepts made, each on one kind of processor: {where}.",
        "",
        *([] if same else [f"{PLAN} is not the file that was there when the run began.", ""]),
        *([left_out_text(aside), ""] if aside else []),
        *([f"Rates are those of another backbone: {plan.carried}.", ""] if plan.carried else []),
        markdown_table([head, *rows]),
        what_next(plan, history, final),
        "",
        "## Under other assumptions",
        "",
        "These decide nothing.",
        "",
        f"- *Differences may be skew* (Hall's transformation): {_without_skewness(history)}.",
        f"- *Claims may depend on each other in any way* (Benjamini and Yekutieli): "
        f"{_whatever_the_dependence(final)}.",
        "",
    ]
    if beside := _beside(plan, scored):
        lines += [
            "## Beside the claims",
            "",
            "These decide nothing. Intervals are 95 %, of all concepts so far.",
            "",
            markdown_table([["claim", "measure", "value"], *beside]),
        ]
    return "\n".join(lines)


def left_out_text(aside: Sequence[Mapping[str, str]]) -> str:
    told = "; ".join(f"{row['concept']} ({row['what']}: {row['why']})" for row in aside)
    return f"Left out of all claims, because a training diverged: {told}."


def what_next(
    plan: ConfirmPlan, history: Mapping[str, Sequence[Look]], final: Sequence[Look]
) -> str:
    """Whether the run goes on: until every claim has a verdict among all, or the last look."""
    crossed = {name for name, looks in history.items() if any(o.status == CROSSED for o in looks)}
    uncrossed = [name for name in history if name not in crossed]
    still_open = [one.claim.name for one in final if one.verdict == OPEN]
    by_chance = [name for name in still_open if name in crossed]
    if not uncrossed and not by_chance:
        return "Every primary claim has crossed a boundary and is decided: the run stops here."
    made = len(next(iter(history.values())))
    last = made == len(plan.looks.concepts)
    lines = ["This was the last look."] if last else []
    if uncrossed:
        power = " Their power is in the table." if last else ""
        lines.append(f"Not crossed{'' if last else ' yet'}: {', '.join(uncrossed)}.{power}")
    if by_chance:
        lines.append(f"Crossed alone, and open among all claims: {', '.join(by_chance)}.")
    if not last:
        lines.append(f"The next look is at {plan.looks.concepts[made]} concepts.")
    return " ".join(lines)


def _without_skewness(history: Mapping[str, Sequence[Look]]) -> str:
    """At which looks the verdict of a claim alone would be another one."""
    others = [
        f"{one.claim.name} at look {one.look}, {one.unskewed} instead of {one.verdict}"
        for looks in history.values()
        for one in looks
        if one.unskewed != one.verdict
    ]
    return "; ".join(others) or "each look says the same of each claim alone"


def _whatever_the_dependence(final: Sequence[Look]) -> str:
    """Which verdicts would be left open if nothing were known about how claims go together."""
    found = [one for one in final if one.verdict != OPEN and not one.exploratory]
    times = sum(1 / k for k in range(1, 1 + len(final)))
    lost = [one.claim.name for one in found if one.q * times > LEVEL]
    if not lost:
        return f"all {len(found)} that are decided stay so"
    return f"{len(found) - len(lost)} of {len(found)} stay decided, without {', '.join(lost)}"


def _cell(one: Look) -> str:
    found = f"image {told(one.found)}; text {told(one.text)}" if one.text else told(one.found)
    if one.status == CROSSED:
        return f"{CROSSED} ({one.verdict}): {found}"
    word = LAST if one.status == LAST else NOT_YET
    return f"{word}: {found}; power {one.power:.2f} for {one.claim.delta:g}"


def _word(one: Look) -> str:
    return f"{EXPLORATORY if one.exploratory else ''}{one.verdict}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _beside(plan: ConfirmPlan, scored: Scored) -> list[list[str]]:
    def row(name: str, what: Compared) -> list[str]:
        found = "; ".join(f"{part.name} {told(part.found)}" for part in scored.parts(what))
        return [name, what.words, found]

    return [row(claim.name, what) for claim in plan.claims for what in claim.beside]
