"""The other sections of the report: figures, concepts, how it was made, what failed.

In: a run. Out: HTML in which everything that comes from a run is escaped.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from benchmarks.figures import plots
from benchmarks.figures.looks import Style
from benchmarks.figures.registry import FIGURES
from benchmarks.figures.report.figure_words import figure_words
from benchmarks.figures.report.gallery import base_of
from benchmarks.figures.report.html import (
    format_score,
    html_table,
    mark,
    plural,
    row_head,
    there,
)
from benchmarks.figures.report.result_table import METRICS
from benchmarks.figures.report.run_results import singles
from benchmarks.figures.selection import Wish, best_point, in_order, is_main, short, step_of
from benchmarks.figures.style import FORMATS, styled, write_figure
from benchmarks.miniature.which_world import with_world
from benchmarks.running.driver import last_line
from benchmarks.scoring.reserved import OURS, REAL
from benchmarks.store.run_folder import figures_folder
from benchmarks.tables import frames
from benchmarks.tables.run_view import Run
from benchmarks.tables.table_text import commands_of, seconds_text, short_fits
from perfusion_core.errors import UserError

CAPTIONS = {
    "pareto": "Every method{intervals}. Perfusion's lines are one trained model at several biases.",
    "per-concept": "Each concept: local against global key locking, and every method at its best "
    "operating point.",
    "breakdown": "Where each method is good: by group of concepts, and by what the prompt asks of "
    "the concept.",
    "measures": "Beyond the protocol{intervals}: each method at its best operating point; the "
    "dashed line is the concepts' own images.",
    "cost": "What quality costs: the harmonic mean{intervals} over the seconds of a training.",
    "difficulty": "Quality by how far concepts lie from what is usual for their class; faint dots "
    "are concepts, bars are 95 % intervals over them.",
    "bias": "The bias trades the concept against the prompt, at run time.",
    "dynamics": "Where training takes locked and trained keys, step by step.",
    "ablation": "What each part of the method contributes: its front without it.",
    "attention": "Where the concept's word attends, and how much of it leaves the object.",
    "drift": "What a loaded concept does to pictures of other things, of unrelated prompts and of "
    "its plain class word{intervals}. Below, what moved most: without the concept, and with it.",
    "training": "Loss of every training (a running mean over a twentieth of the steps) and "
    "validation score; a line a concept, the dot is the step that was kept.",
}


def lead(run: Run) -> str:
    """One sentence: what was compared, on what, by whose eyes, and whether it is complete."""
    table, about = run.first_table, run.about
    shown = table[table["kind"] == "method"]
    methods = list(dict.fromkeys(shown["method"]))
    there_, planned = int(shown["n_images"].sum()), int(shown["n_planned"].sum())
    count, unit = run.metrics.loc[run.metrics["method"] != REAL, "concept"].nunique(), "concept"
    if run.table.empty:
        count, unit = run.plan["concept"].nunique(), "pair"
    backbone = str(about.get("backbone", {}).get("id", "unknown"))
    words = [
        f"{plural(len(methods), 'method')} on {plural(int(count), unit)}",
        f"{there_:,} images"
        if there_ == planned
        else f'<span class="bad">{there_:,} of {planned:,} images</span>',
        f"backbone {escape(with_world(backbone, about))}",
        f"scored by {escape(str(about['scorers'][0].get('id') or about['scorers'][0]['name']))}",
    ]
    if short := short_fits(about):
        words.append(f'<span class="bad">{escape(short)}</span>')
    if about.get("finished"):
        words.append(f"finished {escape(str(about['finished'])[:16].replace('T', ' '))}")
    return " · ".join(words)


def footer(run: Run) -> str:
    version = escape(str(run.about.get("version", "")))
    return (
        f"Made by <code>perfbench report</code> {version} from the tables and images of "
        f"{escape(run.name)}."
    )


def figures(run: Run, out: Path) -> tuple[str, str]:
    """Every figure that this run has data for, drawn anew, beside the page and in it: the plane,
    and the others.
    """
    shown, absent = {}, []
    several = run.first_table["n_concepts"].max() > 1
    intervals = ", with 95 % intervals" if several else ""
    for name, caption in CAPTIONS.items():
        try:
            shown[name] = figure_html(run, out, name, caption.format(intervals=intervals))
        except UserError as error:
            absent.append(
                f"<li>{escape(name)}: {escape(str(error).partition(': ')[2] or str(error))}</li>"
            )
    plane = shown.pop("pareto", "")
    missing = (
        f"<details><summary>Not in this run</summary><ul "
        f'class="note">{"".join(absent)}</ul></details>'
        if absent
        else ""
    )
    return plane, f'<div class="figures">{"".join(shown.values())}</div>{missing}'


def figure_html(run: Run, out: Path, name: str, caption: str) -> str:
    """One figure: as SVG where it is all lines, as PNG where it holds pictures."""
    with styled():
        figure = FIGURES[name]([run], Wish())
        files = write_figure(figure, figures_folder(run.folder) / name)
    file = files[FORMATS.index("png" if any(axes.images for axes in figure.axes) else "svg")]
    kind = "image/png" if file.suffix == ".png" else "image/svg+xml"
    source = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    here = base_of(run, out)
    links = " · ".join(
        f'<a href="{here}figures/{quote(one.name)}">{one.suffix[1:].upper()}</a>' for one in files
    )
    wide = "page" if figure.get_size_inches()[0] > 4 else "column"
    alt = escape(f"{caption} {figure_words(name, run)}".strip())
    hint = '<p class="hint">Wider than the screen: swipe or scroll sideways →</p>' * (
        wide == "page"
    )
    picture = f'<div class="scroll"><img src="{source}" alt="{alt}"></div>'
    return f'''<figure class="{wide}">{hint}{picture}
<figcaption>{caption} {links}</figcaption></figure>'''


def concepts(run: Run) -> str:
    """Concepts by methods, one table for each metric, tinted; and which operating point Best H
    chose.
    """
    if run.table.empty:
        return "<p>This run has pairs of concepts alone.</p>"
    metrics, table = run.metrics, run.table
    rows_of = table[
        table["kind"].isin(["method", "floor"]) & table["method"].map(is_main).astype(bool)
    ]
    main = rows_of[step_of(rows_of).isna()].assign(kind="method")
    series = in_order(plots.series_of(main))
    columns = [(one.style, one.method, best_point(one.rows)) for one in series]
    choices = "".join(f'<option value="{name}">{title}</option>' for name, title in METRICS.items())
    parts = [f'<p><label>Show <select data-switch="metric">{choices}</select></label></p>']
    for metric in METRICS:
        body = concept_table(run, metrics, metric, columns)
        hidden = "" if metric == "image_sim" else " hidden"
        parts.append(f'<div data-part="metric" data-name="{metric}"{hidden}>{body}</div>')
    chosen = frames.best_h(singles(run))
    chosen = chosen[(chosen["half"] == "all") & (chosen["method"] == OURS)]
    if len(chosen):
        rows = []
        for row in chosen.to_dict("records"):
            words = [
                row["point"],
                *(format_score(row[metric]) for metric in METRICS),
            ]
            concept = row_head(escape(row["concept"].replace("_", " ")))
            cells = "".join(f"<td>{escape(word)}</td>" for word in words)
            rows.append(f"<tr>{concept}{cells}</tr>")
        head = ["Concept", "Best operating point", *METRICS.values()]
        parts.append(
            f"<details><summary>What Best H chose</summary>{html_table(head, rows, '')}</details>"
        )
    return "".join(parts)


def concept_table(
    run: Run, metrics: pd.DataFrame, metric: str, columns: Sequence[tuple[Style, str, str]]
) -> str:
    values = {
        (row["method"], row["point"], row["concept"]): row[metric]
        for row in metrics.to_dict("records")
    }
    names = list(dict.fromkeys(metrics.loc[metrics["method"] != REAL, "concept"]))
    shown = [values.get((method, point, name)) for _, method, point in columns for name in names]
    known = [float(value) for value in shown if value is not None and there(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    ceiling = metric == "image_sim" and any(method == REAL for method, _, _ in values)
    rows = []
    for name in names:
        cells = [
            tinted(values.get((method, point, name)), low, high) for _, method, point in columns
        ]
        if ceiling:
            cells.append(f"<td>{format_score(values.get((REAL, 'default', name), math.nan))}</td>")
        concept = row_head(escape(name.replace("_", " ")))
        rows.append(f"<tr>{concept}{''.join(cells)}</tr>")
    head = [
        "Concept",
        *(
            f"{mark(style)}{escape(style.label)}<br><small>{escape(short(point))}</small>"
            for style, _, point in columns
        ),
    ]
    return html_table(head + ["Real images"] * ceiling, rows, "full heat")


def tinted(value: float | None, low: float, high: float) -> str:
    """A number whose cell is the bluer the higher it is; one of eleven classes, as inline styles
    are barred.
    """
    if value is None or not there(value):
        return "<td></td>"
    level = round(10 * (value - low) / max(high - low, 1e-9))
    return f'<td class="h{level}">{value:.3f}</td>'


def provenance(run: Run) -> str:
    """run.json for people: the commands first, then everything."""
    about = dict(run.about)
    lines = commands_of(about)
    about.pop("commands", None)
    about.pop("argv", None)
    times = about.get("seconds") or {}
    first = {
        "Started": str(about.pop("started", "") or "")[:19].replace("T", " "),
        "Finished": str(about.pop("finished", "") or "")[:19].replace("T", " "),
        "Time spent": ", ".join(
            f"{stage} {seconds_text(float(value))}" for stage, value in times.items()
        ),
        "Device": " ".join(str(about.get(name, "")) for name in ("device", "dtype")),
        "Commit": str(about.get("commit") or "")
        + (", changed since" if about.get("dirty") else ""),
    }
    top = f"<pre><code>{escape(chr(10).join(lines))}</code></pre>" if any(lines) else ""
    facts = "".join(
        f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in first.items() if text.strip()
    )
    rest = "".join(nested(name, value) for name, value in about.items())
    return (
        f'{top}<dl class="facts">{facts}</dl><details><summary>Everything in '
        f"run.json</summary>{rest}</details>"
    )


def nested(name: str, value: Any) -> str:
    """Mappings and lists of mappings as open sections, the rest as a line."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        value = {
            str(item.get("name") or item.get("id") or number): item
            for number, item in enumerate(value, 1)
        }
    if isinstance(value, Mapping):
        plain = {k: v for k, v in value.items() if not isinstance(v, Mapping)}
        facts = "".join(
            f"<dt>{escape(str(k))}</dt><dd>{escape(plainly(v))}</dd>" for k, v in plain.items()
        )
        inner = "".join(nested(k, v) for k, v in value.items() if isinstance(v, Mapping))
        return f'<h3>{escape(str(name))}</h3><dl class="facts">{facts}</dl>{inner}'
    return f'<dl class="facts"><dt>{escape(str(name))}</dt><dd>{escape(plainly(value))}</dd></dl>'


def plainly(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(plainly, value))
    return "" if value is None else str(value)


def failures(run: Run) -> str:
    """Every unit that failed, with its traceback."""
    found = run.failures()
    if not found:
        return "<p>None.</p>"
    text = f'<p class="bad">{len(found)} failed. The same command tries them again.</p>'
    for one in found:
        trace = str(one.get("traceback", ""))
        summary = escape(f"{one.get('name', '')}: {last_line(trace)}")
        text += f"<details><summary>{summary}</summary><pre>{escape(trace)}</pre></details>"
    return text
