"""The results of a study for people: a page of text, and a figure.

In: Results. Out: Markdown that is readable in a terminal; PDF, SVG and PNG. Nothing is computed
here.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import style
from benchmarks.figures.looks import style_of
from benchmarks.scoring.reserved import FLOOR
from benchmarks.study.answers import Key
from benchmarks.study.collect import Collected, refusal_counts
from benchmarks.study.design import RATE
from benchmarks.study.results import Results
from benchmarks.tables.statistics import Interval
from benchmarks.tables.table_text import aligned, untuned_words

METRICS = {
    "image_sim": "image similarity",
    "text_sim_raw": "text similarity",
    "harmonic": "harmonic mean",
}
STRENGTH = {3: 1.0, 2: 0.55, 1: 0.2}  # strength of a method's colour for a share


def label(method: str, kind: str = "") -> str:
    if kind == "realism" and method == FLOOR:
        return "Plain model"
    return style_of(method, strangers=[method]).label


def format_rating(value: float, digits: int = 2) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def interval_text(lo: float, hi: float, digits: int = 2) -> str:
    return "" if np.isnan(lo) else f"[{lo:.{digits}f}, {hi:.{digits}f}]"


def share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0%}"


def chance(p: float) -> str:
    return "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def digits_of(kind: str) -> int:
    return 2 if kind == "ranking" else 3  # as many as the paper prints


def markdown(key: Key, collected: Collected, results: Results, min_agreement: float) -> str:
    kind = key.about["kind"]
    unit = "rank" if kind == "ranking" else "score"
    return f"""# {kind.capitalize()} study {key.study}

{means_table(kind, unit, results)}

Mean {unit} from 1 to 3, 3 is best: the mean of the concepts' means. SEM as in the paper, as if \
answers were independent
of each other; the 95 % interval is clustered by rater and by concept. The paper's figures are \
those it printed for its
own raters, images and prompts (section 5.2).
{untuned_words(results.means, key.untuned)}
## In pairs

{pairs_table(kind, results)}

Differences within a trial. p: t test clustered by rater and concept; Holm: for all pairs at once; \
Wilcoxon: signed
ranks of the concepts' means. A tie is half a win for either.

## Agreement

Krippendorff's alpha (ordinal) over pictures: {alpha_text(results.alpha)}.
Mean {unit} by place on the screen: {places_text(results)}.

## People and metrics

{correlation_table(results)}

## Who was counted

{counted_text(key, collected, min_agreement)}"""


def means_table(kind: str, unit: str, results: Results) -> str:
    d = digits_of(kind)
    rows = [
        [
            "",
            f"mean {unit}",
            "SEM",
            "95 %",
            "given 3",
            "given 2",
            "given 1",
            "trials",
            "the paper's",
        ]
    ]
    for row in results.means.to_dict("records"):
        paper = "" if np.isnan(row["paper"]) else f"{row['paper']:.{d}f} ± {row['paper_sem']:.{d}f}"
        mean = [
            format_rating(row["mean"], d),
            "" if np.isnan(row["sem"]) else f"± {format_rating(row['sem'], 3)}",
            interval_text(row["lo"], row["hi"], d),
        ]
        shares = [share(row[f"share_{value}"]) for value in (3, 2, 1)]
        rows.append([label(row["method"], kind), *mean, *shares, f"{row['n']:,}", paper])
    return aligned(rows)


def pairs_table(kind: str, results: Results) -> str:
    d = digits_of(kind)
    rows = [["", "difference", "95 %", "p", "Holm", "Wilcoxon", "wins", "95 %", "ties"]]
    for row in results.pairs.to_dict("records"):
        names = f"{label(row['method'], kind)} − {label(row['other'], kind)}"
        difference = [f"{row['difference']:+.{d}f}", interval_text(row["lo"], row["hi"], d)]
        tests = [chance(row[name]) for name in ("p", "p_holm", "p_wilcoxon")]
        between = "" if np.isnan(row["win_lo"]) else f"[{row['win_lo']:.0%}, {row['win_hi']:.0%}]"
        rows.append(
            [names, *difference, *tests, share(row["win_rate"]), between, share(row["ties"])]
        )
    return aligned(rows)


def alpha_text(alpha: Interval) -> str:
    if np.isnan(alpha.value):
        return "not defined, because no picture has two answers or all answers are equal"
    between = "" if np.isnan(alpha.lo) else f" {interval_text(alpha.lo, alpha.hi, 3)}"
    return f"{alpha.value:.3f}{between}; 0 is chance, 1 is unanimity"


def places_text(results: Results) -> str:
    rows = results.places.to_dict("records")
    return ", ".join(
        f"{row['place']} {row['mean']:.2f} {interval_text(row['lo'], row['hi'])}".strip()
        for row in rows
    )


def correlation_table(results: Results) -> str:
    if not len(results.correlation):
        return "The run had no scores when the study was exported."
    rows = [["", "tau in a trial", "95 %", "p", "Spearman", "pictures"]]
    for row in results.correlation.to_dict("records"):
        tau = [f"{row['tau']:+.2f}", interval_text(row["lo"], row["hi"]), chance(row["p"])]
        rows.append(
            [METRICS[row["metric"]], *tau, format_rating(row["spearman"]), str(row["n_pictures"])]
        )
    return f"""{aligned(rows)}

Kendall's tau between people's order and the metric's, within a trial; Spearman's rho over \
pictures, within their
prompt. Of prompts that deform the concept, image similarity is the concept's mean at the same \
operating point."""


def counted_text(key: Key, collected: Collected, min_agreement: float) -> str:
    raters, design = collected.raters, key.about["design"]
    n, trials = collected.n, collected.ratings["trial"].nunique()
    planned = sum(trial["role"] == RATE for session in key.sessions for trial in session["trials"])
    given = len(collected.ratings.drop_duplicates(["rater", "trial"]))
    answers = f"with {given:,} answers to {trials:,} of {planned:,} planned trials"
    lines = [
        f"- {n('counted')} of {len(raters)} raters counted, {answers}",
        f"- {n('unqualified')} unqualified: not {design['pass_mark']} of {design['qualify']} "
        f"known answers right",
        f"- {n('inconsistent')} inconsistent: less than {min_agreement:.0%} of repeated pairs "
        f"ordered the same way",
        f"- {n('stopped')} stopped before the qualification was over",
        f"- {collected.repeated} answers given twice by the same rater, counted once",
        f"- {len(collected.refused)} files refused",
        *(f"  - {count} x {why}" for why, count in sorted(refusal_counts(collected).items())),
    ]
    own = raters.loc[raters["status"] == "counted", "self_agreement"]
    if own.notna().any():
        lines.append(f"- those counted ordered {own.mean():.0%} of repeated pairs the same way")
    return "\n".join(lines)


# ---- the figure ----


def draw(kind: str, results: Results, out: Path) -> list[Path]:
    """Means with intervals and the paper's beside them; shares of 3, 2 and 1."""
    with style.styled():
        n = len(results.means)
        figure = Figure(figsize=(style.PAGE, 0.9 + 0.34 * n), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        draw_means(left, kind, results)
        draw_shares(right, kind, results)
        return style.write_figure(figure, out)


def draw_means(axes: Axes, kind: str, results: Results) -> None:
    rows = results.means.to_dict("records")
    methods = [row["method"] for row in rows]
    for y, row in enumerate(rows):
        colour = style_of(row["method"], strangers=methods).colour
        if not np.isnan(row["lo"]):
            axes.plot([row["lo"], row["hi"]], [y, y], color=colour, linewidth=1.1)
        sem = [row["mean"] - row["sem"], row["mean"] + row["sem"]]
        axes.plot(sem, [y, y], color=colour, linewidth=3.2, solid_capstyle="butt", alpha=0.45)
        axes.plot(row["mean"], y, marker="o", color=colour, linestyle="none", markersize=5)
    draw_paper(axes, rows)
    axes.axvline(2.0, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [label(method, kind) for method in methods])
    axes.set_ylim(len(rows) - 0.5, -0.55)
    axes.set_xlabel(
        f"Mean {'rank' if kind == 'ranking' else 'realism score'}, 3 is best (bar: SEM, line: 95 %)"
    )
    axes.grid(axis="y", visible=False)


def draw_paper(axes: Axes, rows: Sequence[Mapping[Hashable, Any]]) -> None:
    """The paper's figures, hollow, above ours."""
    known = [(y - 0.27, row) for y, row in enumerate(rows) if not np.isnan(row["paper"])]
    if not known:
        return
    axes.errorbar(
        [row["paper"] for _, row in known],
        [y for y, _ in known],
        xerr=[row["paper_sem"] for _, row in known],
        fmt="D",
        markersize=3.4,
        color=style.GREY,
        markerfacecolor="white",
        elinewidth=0.9,
        label="the paper's own, ± SEM",
    )
    above = (1.0, 1.0 + 0.42 / len(rows))
    axes.legend(
        loc="upper right", bbox_to_anchor=above, frameon=False, handletextpad=0.3, borderpad=0
    )


def draw_shares(axes: Axes, kind: str, results: Results) -> None:
    rows = results.means.to_dict("records")
    for y, row in enumerate(rows):
        colour = style_of(row["method"], strangers=[r["method"] for r in rows]).colour
        left = 0.0
        for value, strength in STRENGTH.items():
            width = row[f"share_{value}"]
            axes.barh(y, width, left=left, height=0.6, color=colour, alpha=strength, linewidth=0)
            if width > 0.07:
                ink = "white" if strength == 1 else "#202124"
                axes.text(
                    left + width / 2,
                    y,
                    f"{value}: {width:.0%}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color=ink,
                )
            left += width
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_xlabel("How often each number was given")
    axes.tick_params(axis="y", left=False)
    axes.grid(visible=False)
