"""What the organiser keeps: the key, the sessions to hand out, the qualification trials to look at.

In: the study's key and its named qualification trials. Out: files in `private/`.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.disk import write_secret
from benchmarks.study.material import Task
from benchmarks.study.screens import choice_file, reference_file

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Qualification trials</title>
<style>
body { font: 16px/1.4 system-ui, sans-serif; margin: 1.5rem }
img { width: 9rem; margin: .2rem }
.given { outline: 3px solid #0b57a4 }
td, th { padding: .4rem; border-top: 1px solid #ccc; text-align: left }
</style>
<h1>Qualification trials</h1>
<p>Is the picture under “right” clearly the best, for everyone? Where it is not, name the trial:
<code>--reject NAME,NAME</code>, with the same export command.</p>
<table><tr><th>trial</th><th>the object</th><th>right</th><th>wrong</th></tr>
"""


def write_private(folder: Path, key: dict[str, Any], pool: dict[str, Task]) -> None:
    write_secret(folder / "key.json", json.dumps(key, ensure_ascii=False) + "\n")
    rows = ["session,block,screens,link"]
    for n, session in enumerate(key["sessions"], 1):
        rows.append(f"{n},{session['block'] + 1},{len(session['trials'])},index.html#s={n}")
    (folder / "sessions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "qualification.html").write_text(contact_sheet(key, pool), encoding="utf-8")


def contact_sheet(key: dict[str, Any], pool: dict[str, Task]) -> str:
    """The qualification trials, the right answer first: a person looks before other people are
    judged by them.
    """
    rows = []
    for name, task in pool.items():
        right, *wrong = [image(choice_file(key["secret"], choice)) for choice in task.choices]
        given = [image(reference_file(key["secret"], path), "given") for path in task.references]
        cells = (
            f"<code>{escape(name)}</code><br>{escape(task.text)}",
            "".join(given),
            right,
            "".join(wrong),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n")
    return HEAD + "".join(rows) + "</table></html>\n"


def image(name: str, kind: str = "") -> str:
    return f'<img class="{kind}" src="../page/images/{name}" alt="">'
