"""The page that people look at: pictures, table, figures, concepts, gallery, how it was made, what
failed. One file, no server.

In: a run folder. Out: `index.html`, self-contained; its sections are in at_a_glance.py,
run_results.py and sections.py, its script is assets/page.js.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from benchmarks.disk import ask_for, write_whole
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.report import sections as parts
from benchmarks.figures.report.at_a_glance import at_a_glance
from benchmarks.figures.report.cost_table import cost_table
from benchmarks.figures.report.gallery import BUDGET, gallery, gallery_controls, script_json
from benchmarks.figures.report.run_results import results
from benchmarks.tables.run_view import Run, open_run
from perfusion_core.errors import UserError

PAGE = Path(__file__).parent / "assets"


def report_verb(given: str | None, out: str | None) -> Path:
    """`perfbench report [RUN]`."""
    run = open_run(given)
    return write_report(run, Path(out) if out else run.folder / "index.html")


def write_report(run: Run, out: Path, budget: int = BUDGET) -> Path:
    """Build the page and put it in place in one step."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the page, such as --out {out / 'index.html'}")
    ask_for(out)
    with looks_of_runs([run]):
        write_whole(out, report_text(run, out, budget))
    return out


def report_text(run: Run, out: Path, budget: int = BUDGET) -> str:
    """The whole page as text."""
    data, thumbs = gallery(run, out, budget)
    plane, figures = parts.figures(run, out)
    opening, costs = at_a_glance(run, data, thumbs), cost_table(run)
    sections = [
        *([("glance", "At a glance", opening)] if opening else []),
        ("results", "Results", results(run, plane, data)),
        ("figures", "Figures", figures),
        ("concepts", "Concepts", parts.concepts(run)),
        *([("costs", "Costs", costs)] if costs else []),
        ("gallery", "Gallery", gallery_controls(data)),
        ("how", "How it was made", parts.provenance(run)),
        ("failures", "Failures", parts.failures(run)),
    ]
    blocks = (
        [f'<script type="application/json" id="gallery-data">{script_json(data)}</script>']
        if data["rows"]
        else []
    )
    blocks += [
        f'<script type="application/json" '
        f'data-thumbs="{escape(concept)}">{script_json(texts)}</script>'
        for concept, texts in thumbs.items()
    ]
    return page_text(
        name=run.name,
        lead=parts.lead(run),
        sections=sections,
        footer=parts.footer(run),
        blocks="\n".join(blocks),
    )


def page_text(
    name: str, lead: str, sections: Sequence[tuple[str, str, str]], footer: str, blocks: str
) -> str:
    """A page of the report's kind. The name is text, all else HTML; a section is its id, its title
    and its body; `blocks` hold what the script reads.
    """
    css, script = (
        (PAGE / file).read_text(encoding="utf-8").strip() for file in ("page.css", "page.js")
    )
    return Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=policy([f"\n{css}\n"], [f"\n{script}\n"]),
        title=f"{escape(name)} · Perfbench",
        name=escape(name),
        lead=lead,
        css=css,
        nav="".join(f'<a href="#{part}">{title}</a>' for part, title, _ in sections),
        sections="\n".join(
            f'<section id="{part}"><h2>{title}</h2>\n{body}\n</section>'
            for part, title, body in sections
        ),
        footer=footer,
        data=blocks,
        script=script,
    )


def policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Nothing from elsewhere, and no style or script but our own: a prompt that says <script> stays
    a prompt.
    """

    def allowed(texts: Sequence[str]) -> str:
        digests = (
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts
        )
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data: file: 'self'; style-src {allowed(styles)}; "
        f"script-src {allowed(scripts)}"
    )
