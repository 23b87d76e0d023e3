"""The images of a run as the report's page carries them.

In: a run. Out: JSON for page.js: rows (a concept and a prompt), series (a method, its biases),
cells, thumbnails; and what page.js fills and listens to.
"""

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from benchmarks.figures import plots
from benchmarks.figures.looks import split_variant
from benchmarks.figures.selection import in_order
from benchmarks.planning.points import OperatingPoint
from benchmarks.suite.image_files import load_image
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

SIDE = 128  # pixels of a thumbnail; smaller images keep their own
# bytes of thumbnails inside the page; what is beyond stays a file beside it, loaded when seen
BUDGET = 16_000_000
QUALITY = 80
# series that are switched on when the page opens, published methods before their variants
SHOWN = 5
# of the gallery's rows; page.js reads the score and the direction
ORDERS = """<option value="">as planned</option>
<option value="image up">image similarity, lowest first</option>
<option value="image down">image similarity, highest first</option>
<option value="text up">text similarity, lowest first</option>
<option value="text down">text similarity, highest first</option>"""


def gallery(
    run: Run, out: Path, budget: int = BUDGET
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The gallery's data, and each concept's thumbnails (base64 WebP). Every cell's first image
    comes before any second one, so that where the budget ends, each cell still shows something when
    the page travels alone."""
    series = list(all_series(run))
    rows = all_rows(run)
    wanted = {
        point["id"]: (point["method"], point["point"]) for one in series for point in one["points"]
    }
    scores = score_texts(run.cells)
    planned = run.plan.set_index(["method", "point", "concept", "prompt_id"])["n"].to_dict()
    cells: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in wanted}
    pending: list[tuple[int, str, dict[str, Any], str, Path]] = []
    for name, (method, point) in wanted.items():
        for row in rows:
            n = int(planned.get((method, point, row["concept"], row["prompt"]), 0))
            folder = run.image_file(method, point, row["concept"], row["prompt"], 0).parent
            there = os.scandir(folder) if n and folder.is_dir() else ()
            here = {entry.name for entry in there if not entry.is_symlink()}
            files = [index for index in range(n) if f"{index}.png" in here]
            score = scores.get((method, point, row["concept"], row["prompt"]), "")
            if not files and not score:
                continue
            cell: dict[str, Any] = {
                "n": max(files, default=-1) + 1,
                "thumbs": [None] * n,
                "files": bool(files),
                "score": score,
            }
            cells[name][row["id"]] = cell
            pending += [
                (index, row["concept"], cell, str(index), folder / f"{index}.png")
                for index in files
            ]
    thumbs: dict[str, list[str]] = {}
    used, size, unreadable = 0, 0, []
    for index, concept, cell, _, file in sorted(pending, key=lambda item: item[0]):
        if used >= budget:
            break
        try:
            text, size = thumbnail(file)
        except UserError as error:
            unreadable.append(str(error))
            continue
        used += len(text)
        cell["thumbs"][index] = len(thumbs.setdefault(concept, []))
        thumbs[concept].append(text)
    seen = {row for by_row in cells.values() for row, cell in by_row.items() if cell["files"]}
    data = {
        "concepts": [
            {"name": name}
            for name in dict.fromkeys(row["concept"] for row in rows if row["id"] in seen)
        ],
        "rows": [row for row in rows if row["id"] in seen],
        "series": series,
        "cells": cells,
        "examples": {
            name: examples(run, name) for name in dict.fromkeys(row["concept"] for row in rows)
        },
        "base": base_of(run, out),
        "pixels": 0 < size <= 96,
        "left_out": len(rows) - len(seen),
        "unreadable": unreadable,
    }
    return data, thumbs


def gallery_controls(data: Mapping[str, Any]) -> str:
    """What page.js fills and listens to."""
    if not data["rows"]:
        return "<p>This run keeps no images: they were dropped after scoring.</p>"
    kinds = dict.fromkeys(row["kind"] for row in data["rows"])
    methods = "".join(
        f'<option value="{escape(one["id"])}">{escape(one["label"])}</option>'
        for one in data["series"]
    )
    words = {
        "shape": "that keep the shape",
        "deform": "that deform it",
        "pair": "with two concepts",
    }
    options = "".join(
        f'<option value="{escape(kind)}">{escape(words.get(kind, kind))}</option>' for kind in kinds
    )
    most = max(cell["n"] for cells in data["cells"].values() for cell in cells.values())
    counts = "".join(
        f'<option value="{n}">{n}</option>' for n in sorted({1, 2, 4, most}) if n <= most
    )
    notes = []
    if data["left_out"]:
        rows = "row has" if data["left_out"] == 1 else "rows have"
        notes.append(
            f"{data['left_out']} {rows} no images here: dropped after scoring, or not drawn yet."
        )
    if data["unreadable"]:
        notes.append(
            f"{len(data['unreadable'])} images could not be read: "
            f"{escape('; '.join(data['unreadable'][:3]))}"
        )
    note = "".join(f'<p class="note">{text}</p>' for text in notes)
    return f"""{note}<noscript><p>The gallery needs JavaScript; the tables and figures above do \
not.</p></noscript>
<div class="bar">
<div class="line"><div class="chips" id="pick-concepts" role="group" \
aria-label="Concepts"></div></div>
<div class="line"><div class="chips" id="pick-methods" role="group" \
aria-label="Methods"></div></div>
<div class="line">
<label>Prompts <select id="pick-kind"><option value="">all</option>{options}</select></label>
<input type="search" id="pick-words" placeholder="words of a prompt, or its id" aria-label="Search \
prompts">
<label>Images <select id="pick-images">{counts}</select></label>
<label>Order <select id="pick-order">{ORDERS}</select></label>
<label id="order-by" hidden>of <select id="pick-order-by">{methods}</select></label>
</div>
</div>
<div class="bias line">
<label>Bias <input type="range" id="pick-bias" aria-label="Bias"><output id="bias-now" \
for="pick-bias"></output></label>
<span id="count"></span>
</div>
<div id="gallery-rows"></div>"""


def all_series(run: Run) -> Iterator[dict[str, Any]]:
    """Methods in the order of the figures; the points of one lock and temperature are one series
    with a bias.
    """
    table = run.first_table[run.first_table["kind"].isin(["method", "floor"])].assign(kind="method")
    found = in_order(plots.series_of(table))
    opening = sorted(
        range(len(found)), key=lambda number: split_variant(found[number].method)[1] != ""
    )[:SHOWN]
    for number, one in enumerate(found):
        points = list(one.rows["point"])
        parsed = [OperatingPoint.parse(point) for point in points]
        if any(point.step is not None for point in parsed):  # kept training steps: each on its own
            groups = [
                ([name], f"{one.style.label}, s = {point.step}")
                for name, point in zip(points, parsed)
            ]
        else:
            same = (
                sum(other.style.label == one.style.label for other in found) > 1
                and one.temperature is not None
            )
            groups = [
                (points, f"{one.style.label}, τ {one.temperature:g}" if same else one.style.label)
            ]
        for names, label in groups:
            yield {
                "id": f"{one.method}/{names[0]}",
                "label": label.replace(" lock", ""),
                "ink": one.style.text,
                "shown": number in opening and parsed[0].step is None,
                "points": [
                    {
                        "id": f"{one.method}/{name}",
                        "method": one.method,
                        "point": name,
                        "bias": OperatingPoint.parse(name).bias,
                    }
                    for name in names
                ],
            }


def all_rows(run: Run) -> list[dict[str, Any]]:
    """Every planned (concept, prompt), with its text."""
    plan = run.plan.drop_duplicates(["concept", "prompt_id"])
    return [
        {
            "id": number,
            "concept": row["concept"],
            "prompt": row["prompt_id"],
            "kind": row["kind"],
            "text": run.text(row["prompt_id"], row["concept"]),
        }
        for number, row in enumerate(plan.to_dict("records"))
    ]


def score_texts(cells: pd.DataFrame) -> dict[tuple[str, str, str, str], str]:
    """What stands under the images of a cell."""
    names = {"image_sim": "image", "text_sim_raw": "text"}
    wide = cells[cells["metric"].isin(names)].pivot_table(
        index=["method", "point", "concept", "prompt_id"],
        columns="metric",
        values="mean",
        aggfunc="first",
    )
    return {
        key: " · ".join(
            f"{names[metric]} {row[metric]:.3f}"
            for metric in names
            if metric in row and row[metric] == row[metric]
        )
        for key, row in zip(wide.index, wide.to_dict("records"))
    }


def thumbnail(file: Path, side: int = SIDE) -> tuple[str, int]:
    """base64 of a WebP of at most `side` pixels, and the width of the image it was made of."""
    image = load_image(file)
    width = image.width
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(stream.getvalue()).decode(), width


def examples(run: Run, concept: str) -> list[str]:
    """Data URIs of a few concept images."""
    return [
        f"data:image/webp;base64,{thumbnail(file, 80)[0]}"
        for file in run.concept_files(concept)[:4]
    ]


def base_of(run: Run, out: Path) -> str:
    """From the page to the run folder, as an address that ends in a slash, or nothing where they
    are together.
    """
    way = Path(os.path.relpath(run.folder.resolve(), out.resolve().parent)).as_posix()
    return "" if way == "." else quote(way) + "/"


def script_json(value: Any) -> str:
    """JSON that cannot end its script element, whatever a prompt says."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
