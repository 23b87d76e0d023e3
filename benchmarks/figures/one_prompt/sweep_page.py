"""The page of a sweep: every seed beside the others, and a slider for the bias. One file, no
server; page, style and script are the report's.

In: what was asked for, and where its pictures are. Out: HTML that may travel alone.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.disk import write_whole
from benchmarks.figures.one_prompt.prompt_sheet import shown
from benchmarks.figures.one_prompt.wanted import Setting, Wanted
from benchmarks.figures.report.gallery import script_json, thumbnail
from benchmarks.figures.report.report_page import page_text
from perfusion_core.hub_concepts import is_hub_name

SIDE = 512  # pixels of a picture inside the page; smaller ones keep their own
# what the script fills where there is more than one prompt; here it stays out of sight
UNSEEN = """<div hidden><div id="pick-concepts"></div><select id="pick-kind"></select>
<input id="pick-words"><select id="pick-images"></select><select id="pick-order"></select>
<label id="order-by" hidden><select id="pick-order-by"></select></label><span id="count"></span>
</div>"""
SEEN = """<noscript><p>The slider needs JavaScript; sweep.png has the same pictures.</p>
</noscript>
<div class="bar"><div class="line"><div class="chips" id="pick-methods" role="group" \
aria-label="Seeds"></div></div></div>
<div class="bias line">
<label>Bias <input type="range" id="pick-bias" aria-label="Bias"><output id="bias-now" \
for="pick-bias"></output></label>
<span class="note">left: more of the concept; right: more of the prompt</span>
</div>
<div id="gallery-rows"></div>"""


def write_sweep_page(
    out: Path, asked: Wanted, places: Sequence[Sequence[Path]], backbone: str
) -> Path:
    """`places`: of each bias, a picture a seed."""
    write_whole(out, sweep_text(asked, places, backbone))
    return out


def sweep_text(asked: Wanted, places: Sequence[Sequence[Path]], backbone: str) -> str:
    data, thumbs = sweep_data(asked, places)
    kind, key = 'script type="application/json"', escape(key_of(asked))
    blocks = f"""<{kind} id="gallery-data">{script_json(data)}</script>
<{kind} data-thumbs="{key}">{script_json(thumbs)}</script>"""
    return page_text(
        name=asked.prompt,
        lead=f"{len(asked.seeds)} seeds at {len(asked.swept)} biases from "
        f"{shown(asked.swept[0])} to {shown(asked.swept[-1])}, drawn by {escape(backbone)}.",
        sections=[("gallery", "Over the bias", SEEN + UNSEEN), ("how", "How", facts(asked))],
        footer="Made by perfbench generate. This page needs no server and no network.",
        blocks=blocks,
    )


def key_of(asked: Wanted) -> str:
    """What the gallery's script calls a concept; a sweep has one row."""
    return ", ".join(asked.files)


def sweep_data(asked: Wanted, places: Sequence[Sequence[Path]]) -> tuple[dict[str, Any], list[str]]:
    """As the report's gallery has it: a seed is a series of points, each with its bias."""
    thumbs: list[str] = []
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    width, series = 0, []
    for place, seed in enumerate(asked.seeds):
        points = []
        for turn, bias in enumerate(asked.swept):
            name = f"{seed}/{turn}"
            text, width = thumbnail(places[turn][place], SIDE)
            cells[name] = {0: {"n": 1, "thumbs": [len(thumbs)], "files": False, "score": ""}}
            thumbs.append(text)
            points.append({"id": name, "method": "", "point": "", "bias": bias})
        label = f"seed {seed}"
        series.append(
            {"id": label, "label": label, "ink": "#202124", "shown": True, "points": points}
        )
    about = {"concept": key_of(asked), "prompt": f"{asked.lock} lock"}
    row = {"id": 0, **about, "kind": "", "text": asked.prompt}
    return {
        "concepts": [{"name": key_of(asked)}],
        "rows": [row],
        "series": series,
        "cells": cells,
        "examples": {},
        "base": "",
        "pixels": 0 < width <= 96,
    }, thumbs


def facts(asked: Wanted) -> str:
    """What decides these pictures, without a place of this machine."""
    told = {
        "prompt": asked.prompt,
        "negative prompt": asked.negative,
        "concepts": ", ".join(
            f"{{{name}}} = {place if is_hub_name(place) else Path(place).name}"
            for name, place in asked.files.items()
        ),
        "lock": asked.lock,
        "bias": said(asked.biases[0], asked),
        "temperature": said(asked.temperature),
        "scheduler": asked.scheduler,
        "steps": str(asked.steps),
        "guidance": f"{asked.guidance:g}",
    }
    rows = (f"<dt>{key}</dt><dd>{escape(text)}</dd>" for key, text in told.items() if text)
    return f'<dl class="facts">{"".join(rows)}</dl>'


def said(setting: Setting, asked: Wanted | None = None) -> str:
    """0.6, or cat 0.6, pot 0.7; with the range of what is swept."""
    over = f"{shown(asked.swept[0])} to {shown(asked.swept[-1])}" if asked else ""
    if not isinstance(setting, dict):
        return over or f"{setting:g}"
    moved = asked.moved if asked else []
    each = (f"{name} {over if name in moved else f'{bias:g}'}" for name, bias in setting.items())
    return ", ".join(each)
