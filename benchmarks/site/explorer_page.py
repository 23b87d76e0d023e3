"""The explorer's page: a template, its style and scripts, and the data inside.

In: what explorer_data.py makes of runs. Out: HTML that needs nothing from elsewhere.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.figures.report.gallery import script_json
from benchmarks.figures.report.report_page import PAGE as REPORT
from benchmarks.figures.report.report_page import policy

ASSETS = Path(__file__).parent / "assets"
# in this order they are one script
SCRIPTS = (
    "tools", "data", "address", "rows", "filters", "plane", "pictures", "compare", "cell", "keys",
)  # fmt: skip


def page_text(data: Mapping[str, Any]) -> str:
    """The whole page; `data` has `full`, whether single pictures have addresses of their own."""
    styles = [(REPORT / "page.css"), (ASSETS / "explorer.css")]
    css = f"\n{''.join(file.read_text(encoding='utf-8') for file in styles).strip()}\n"
    script = f"\n{script_text()}\n"
    names = [str(run["name"]) for run in data["runs"]]
    title = names[0] if len(names) == 1 else f"{len(names)} runs"
    return Template((ASSETS / "explorer.html").read_text(encoding="utf-8")).substitute(
        policy=page_policy(css, script),
        title=escape(title),
        css=css,
        data=script_json(data),
        script=script,
    )


def script_text() -> str:
    files = (ASSETS / f"{name}.js" for name in SCRIPTS)
    body = "\n".join(file.read_text(encoding="utf-8").strip() for file in files)
    return f'"use strict";\n(() => {{\n{body}\n}})();'


def page_policy(css: str, script: str) -> str:
    return f"{policy([css], [script])}; base-uri 'none'; form-action 'none'"
