"""`perfbench board`: the page, its figures, and the same as JSON. No script, no server.

In: runs and archives. Out: DIR/index.html, DIR/front-KEY.svg and DIR/board.json; everything that
comes from a run is escaped.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from benchmarks.disk import ask_for, write_whole
from benchmarks.exchange.board.board_rows import METRICS, BoardRow, board_rows
from benchmarks.exchange.board.entries import OWN, RECOMPUTED, VERIFIED, Board, boards_of, opened
from benchmarks.exchange.submissions.known_here import Places, of_preset
from benchmarks.figures.charts import pareto
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.report.html import (
    between,
    format_score,
    html_table,
    interval,
    plural,
    row_head,
    there,
)
from benchmarks.figures.report.report_page import policy
from benchmarks.figures.report.result_table import named
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import styled, write_figure
from benchmarks.miniature.which_world import with_world
from benchmarks.planning.config import PRESETS
from benchmarks.store.fit_costs import DEVICE, NUMBERS
from benchmarks.tables.costs import DECIMALS, WORDS
from benchmarks.tables.table_text import seconds_text
from perfusion_core.errors import UserError

ASSETS = Path(__file__).parent / "assets"
WORDS_OF = {
    "harmonic": "Harmonic mean",
    "image_sim": "Image similarity",
    "text_sim": "Text similarity",
}
CHECKED = {
    OWN: "made in this checkout",
    RECOMPUTED: "every table was made again from its rows",
    VERIFIED: "and a random sample of its cells was drawn again",
}
SECONDS = ("train_seconds", "picture_seconds", "base_picture_seconds", "apply_seconds")


def write_board(given: Sequence[str], out: Path, explorer: str, places: Places) -> Path:
    """`perfbench board RUN_OR_ARCHIVE... --out DIR`."""
    if out.is_file():
        raise UserError(f"{out} is a file; --out names a folder")
    ask_for(out / "index.html")
    with opened(given, places) as entries:
        boards = boards_of(entries)
        parts, told = [], []
        for board in boards:
            rows, left = board_rows(board, explorer)
            if not any(row.ranks for row in rows):
                names = ", ".join(entry.name for entry in board.entries)
                raise UserError(f"{names}: no method has both similarities, so nothing is ranked")
            front = write_front(board, out)
            with looks_of_runs([entry.run for entry in board.entries]):
                parts.append(section(board, rows, left, front))
            told.append(
                {
                    "key": board.key,
                    "protocol": dict(board.protocol),
                    "scorer": dict(board.scorer),
                    "questions": dict(board.questions),
                    "rows": [row.json() for row in rows],
                }
            )
        text = json.dumps({"boards": told}, indent=1) + "\n"
        write_whole(out / "board.json", text)
        write_whole(out / "index.html", page(boards, parts))
    return out / "index.html"


def write_front(board: Board, out: Path) -> str:
    """The figure of this board's methods; its file's name."""
    name = f"front-{board.key}.svg"
    runs = [entry.run for entry in board.entries]
    with styled(), looks_of_runs(runs):
        write_figure(pareto(runs, Wish()), out / name)
    return name


# ---- the page ----


def page(boards: Sequence[Board], parts: Sequence[str]) -> str:
    css = (ASSETS / "board.css").read_text(encoding="utf-8").strip()
    links = "".join(f'<a href="#{board.key}">{escape(title(board))}</a>' for board in boards)
    return Template((ASSETS / "board.html").read_text(encoding="utf-8")).substitute(
        policy=policy([f"\n{css}\n"], []),
        css=css,
        nav=links,
        sections="\n".join(parts),
    )


def title(board: Board) -> str:
    """The protocol's name, what of it is not the preset's, the backbone with its world, how many
    concepts."""
    preset, about = board.protocol.get("preset"), board.entries[0].about
    backbone = with_world(str(about["backbone"].get("id")), about)
    usual = of_preset(preset) if preset in PRESETS else {}
    other = [
        f"{key.replace('_', ' ')} {board.protocol.get(key)}"
        for key, value in usual.items()
        if board.protocol.get(key, value) != value
    ]
    changed = f" ({', '.join(other)})" if other else ""
    return f"{preset}{changed} on {backbone}, {plural(board.questions['concepts'], 'concept')}"


def section(board: Board, rows: Sequence[BoardRow], left: int, front: str) -> str:
    head = f'<h2>{escape(title(board))}</h2>\n<p class="note">{escape(measured(board))}</p>'
    alt = f"Image against text similarity of every operating point on this board, {title(board)}"
    figure = (
        f'<figure><img src="{front}" alt="{escape(alt)}" loading="lazy" width="475" '
        f'height="418"><figcaption>Every operating point with 95 % intervals.</figcaption></figure>'
    )
    return (
        f'<section id="{board.key}">{head}\n{ranking(rows)}\n'
        f'<p class="note">{escape(reading(rows, left))}</p>\n{figure}\n{costs(rows)}\n'
        f"{sources(board, rows)}</section>"
    )


def measured(board: Board) -> str:
    """What every row of this board has in common."""
    protocol, asked = board.protocol, board.questions
    return (
        f"{plural(asked['concepts'], 'concept')}, {plural(asked['prompts'], 'prompt')}, "
        f"{plural(asked['images'], 'image')} a prompt, {protocol.get('steps')} steps, guidance "
        f"{protocol.get('guidance')}, seed {protocol.get('seed')}, suite {protocol.get('suite')}; "
        f"scorer {board.scorer['name']}; board {board.key}"
    )


def reading(rows: Sequence[BoardRow], left: int) -> str:
    """How the ranks came about."""
    n = sum(bool(row.ranks) for row in rows)
    concepts = (
        "Each pair of rows was compared cell by cell; a row is ahead where the 95 % interval of "
        "the difference lies above 0."
    )
    example = (
        "1-3: none is certainly ahead, and all but two others are certainly behind. Each pair is "
        f"asked by itself: of {n * (n - 1) // 2:,} pairs some are apart by chance."
    )
    out = (
        f"Not ranked: {plural(left, 'point')} of ablations and kept training steps." if left else ""
    )
    return " ".join(filter(None, (concepts, example, out)))


def ranking(rows: Sequence[BoardRow]) -> str:
    ranges = {
        name: (
            min(min(row.scores[name]) for row in rows if there(row.scores[name].lo)),
            max(max(row.scores[name]) for row in rows if there(row.scores[name].hi)),
        )
        if any(there(row.scores[name].lo) for row in rows)
        else (0.0, 1.0)
        for name in METRICS
    }
    head = ["Method", "Rank", *(WORDS_OF[name] for name in METRICS), "Copied", "Images", "From"]
    return html_table(head, (ranking_row(row, ranges) for row in rows), "full board")


def ranking_row(row: BoardRow, ranges: dict[str, tuple[float, float]]) -> str:
    cells = [row_head(named(row.style, row.label, row.under))]
    first = row.ranks.get("harmonic")
    cells.append(f'<td class="rank">{first or ""}</td>')
    for name in METRICS:
        value, lo, hi = row.scores[name]
        if not there(value):
            cells.append("<td></td>")
            continue
        place = f' <small class="place">{row.ranks[name]}</small>' if row.ranks else ""
        line = interval(value, lo, hi, *ranges[name], row.style.colour)
        text = f"{format_score(value)} <small>{between(lo, hi)}</small>"
        cells.append(f"<td>{text}{place if name != METRICS[0] else ''}{line}</td>")
    copied = f"{row.copied:.0%}" if there(row.copied) else ""
    images = f"{row.n_images:,}"
    if row.n_images != row.n_planned:
        images = f'<span class="bad">{images} of {row.n_planned:,}</span>'
    cells += [f"<td>{copied}</td>", f"<td>{images}</td>", f'<td class="from">{origin(row)}</td>']
    return f'<tr class="{escape(row.kind)}">{"".join(cells)}</tr>'


def origin(row: BoardRow) -> str:
    """Whose it is, how it was checked, where its pictures are."""
    if not row.ranks:
        return ""
    link = f' · <a href="{escape(row.explorer)}">cells</a>' if row.explorer else ""
    by = f"{escape(row.entry.by)}: " if row.entry.by else ""
    return f"{by}{escape(row.entry.name)} <small>{row.entry.checked}</small>{link}"


def costs(rows: Sequence[BoardRow]) -> str:
    """A row a method of an entry, and the columns that somebody measured."""
    mine: dict[tuple[str, str], BoardRow] = {}
    for row in rows:
        if row.ranks:
            mine.setdefault((row.entry.name, row.method), row)
    columns = [name for name in NUMBERS if any(there(row.costs[name]) for row in mine.values())]
    if not columns:
        return ""
    head = ["Method", *(heading(name) for name in columns), "Measured on"]
    lines = [
        "<tr>"
        + row_head(named(row.style, row.label.partition(",")[0], row.entry.name))
        + "".join(f"<td>{cost(row.costs[name], name)}</td>" for name in columns)
        + f'<td class="from">{escape(row.device)}</td></tr>'
        for row in mine.values()
    ]
    note = "Costs are as each run tells them, and nobody can make them again from rows."
    return f'<h3>Costs</h3>{html_table(head, lines, "full")}<p class="note">{note}</p>'


def heading(name: str) -> str:
    words, unit = WORDS[name]
    return f"{words}<br><small>{unit}</small>" if unit and name not in SECONDS else words


def cost(value: float, name: str) -> str:
    if not there(value):
        return ""
    if name in SECONDS and value >= 10:
        return seconds_text(value)
    return f"{value:,.{DECIMALS[name]}f}{' s' if name in SECONDS else ''}"


def sources(board: Board, rows: Sequence[BoardRow]) -> str:
    """The command that made each row, once a command."""
    mine: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.ranks and row.command:
            names = mine.setdefault((row.entry.name, row.command), [])
            names += [row.method] * (row.method not in names)
    blocks = [
        f"<p>{escape(', '.join(names))} <small>of {escape(entry)}</small></p>"
        f"<pre>{escape(command)}</pre>"
        for (entry, command), names in mine.items()
    ]
    used = dict.fromkeys(entry.checked for entry in board.entries)
    legend = "; ".join(f"{word}: {CHECKED[word]}" for word in used)
    return (
        f"<details><summary>The command that made each row</summary>{''.join(blocks)}</details>"
        f'<p class="note">{escape(legend[:1].upper() + legend[1:])}. '
        f"{escape(DEVICE.capitalize())}s and versions are in each run.json.</p>"
    )
