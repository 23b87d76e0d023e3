"""What can be wrong with a submission's plan and rows: cells, images, seeds, numbers.

In: the files of an archive. Out: the planned cells; one sentence at the first thing that is wrong.
Every row is read as text here, and none is passed over: readers of a run leave out what does not
belong to its plan.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmarks.exchange.submissions.submission_archive import PLAN, ROWS, Refused, number_of
from benchmarks.planning.plan import seed_of
from benchmarks.safe_paths import is_name, safe_parts, shown
from benchmarks.scoring.cell_row import COLUMNS, CellRow
from benchmarks.scoring.measures import SCORED
from benchmarks.scoring.reserved import FLOOR, REAL
from benchmarks.store.csv_files import MARK, PAIR_ROW, REMARK, ROW, with_digest
from benchmarks.store.reading import imported_methods
from benchmarks.suite.drift_kinds import DRIFT

COSINES = (
    "image_sim",
    "text_sim_raw",
    "image_sim_a",
    "image_sim_b",
    "image_sim_heldout",
    "image_sim_subject",
)
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(COSINES, (-1.0, 1.0)),
    "nearer": (0.0, 1.0),
    "found": (0.0, 1.0),
    "variety": (0.0, 2.0),
    "drift": (0.0, 2.0),
    "drift_class": (0.0, 2.0),
    "drift_pixels": (0.0, 1.0),
}
SLACK = 1e-6  # a cosine of six decimals may be 1.000001
SAME = ("method", "point", "concept", "group", "prompt_id", "kind")  # as in the plan
HEX = frozenset("0123456789abcdef")


# ---- the plan ----


def planned_cells(data: bytes, about: Mapping[str, Any]) -> list[CellRow]:
    """plan.csv: each cell once, and the same ones at every operating point as at the floor."""
    try:
        table = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
        lines = list(table)
    except (UnicodeDecodeError, csv.Error):
        raise Refused(f"{PLAN} is no table that can be read") from None
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise Refused(f"{PLAN} has other columns than {', '.join(COLUMNS)}")
    rows = [planned_cell(line, number) for number, line in enumerate(lines, 2)]
    if not rows:
        raise Refused(f"{PLAN} plans nothing")
    places = Counter((*row.address, row.prompt_id) for row in rows)
    keys = Counter(row.key for row in rows)
    for found in (places, keys):
        if (twice := next((one for one, n in found.items() if n > 1), None)) is not None:
            raise Refused(f"{PLAN} has a cell twice: {shown(twice)}")
    same_cells(rows, about)
    return rows


def planned_cell(line: Mapping[str, Any], number: int) -> CellRow:
    where = f"{PLAN}, line {number}"
    if None in line or None in line.values():
        raise Refused(f"{where}: a row has {len(COLUMNS)} values")
    if not is_count(line["n"]) or not int(line["n"]):
        raise Refused(f"{where}: n is {shown(line['n'])}, and a number of images is wanted")
    names = [line["method"], line["point"], line["concept"], line["prompt_id"]]
    for name in names:
        if not is_name(name):
            raise Refused(f"{where}: {shown(name)} cannot be the name of a file")
    for key in (line["key"], *filter(None, line["fit"].split("+"))):
        if len(key) != 64 or not HEX.issuperset(key):
            raise Refused(f"{where}: {shown(key)} is no key")
    for column, text in line.items():
        if not text.isprintable():
            raise Refused(f"{where}: {column} has a character that is not printed")
    row = CellRow.read(line)
    if row.method == REAL:
        raise Refused(f"{where}: {REAL} is no method that is planned")
    return row


def is_count(text: str) -> bool:
    """A whole number as this program writes it: no sign, no zero before it, no other digits."""
    return text.isascii() and text.isdecimal() and len(text) < 7 and str(int(text)) == text


def same_cells(rows: Sequence[CellRow], about: Mapping[str, Any]) -> None:
    """What the floor has of single concepts, every point has, with as many images."""
    asked: dict[tuple[str, str], set[tuple[str, str]]] = {}
    wanted = about.get("protocol", {}).get("images")
    for row in rows:
        if row.method not in about.get("methods", {}):
            raise Refused(f"run.json does not tell the method {shown(row.method)}")
        if row.drifts:
            continue
        if row.n != wanted:
            raise Refused(
                f"{PLAN} has {row.n} images of {row.method}/{row.point} {row.concept} "
                f"{row.prompt_id}, and the protocol has {shown(wanted)}"
            )
        if row.kind != "pair":
            asked.setdefault((row.method, row.point), set()).add((row.concept, row.prompt_id))
    floor = next((cells for (method, _), cells in asked.items() if method == FLOOR), None)
    if floor is None and asked:
        raise Refused(f"{PLAN} has no {FLOOR}, which relative text similarity needs")
    for (method, point), cells in asked.items():
        for other, word in ((floor or set()) - cells, "lacks"), (cells - (floor or set()), "has"):
            if other:
                first = " ".join(min(other))
                raise Refused(
                    f"{PLAN}: {method}/{point} {word} {len(other)} cells that {FLOOR} "
                    f"{'has' if word == 'lacks' else 'lacks'}, such as {first}"
                )


# ---- rows ----


def check_rows(
    files: Mapping[str, bytes], about: Mapping[str, Any], rows: Sequence[CellRow]
) -> int:
    """Every row of every scorer; -> how many images the reported one scored."""
    cells = {row.key: row for row in rows}
    scorers = [one["name"] for one in about["scorers"]]
    rules = Rules(about)
    there: dict[str, Counter[str]] = {name: Counter() for name in scorers}
    for name, data in files.items():
        if not name.startswith(f"{ROWS}/"):
            continue
        _, scorer, method, point, file = safe_parts(name)
        concept = file.removesuffix(".csv")
        if scorer not in there:
            raise Refused(f"{shown(name)} is by a scorer that run.json does not name")
        found = rows_of(data, name)
        if method == REAL:
            check_real(found, (method, point, concept), name, cells)
        else:
            there[scorer] += check_file(found, (method, point, concept), name, cells, rules)
    for scorer in scorers:
        lacking = [
            row
            for row in rows
            if there[scorer][row.key] != row.n and needs(row, scorer == scorers[0])
        ]
        if lacking:
            row = lacking[0]
            raise Refused(
                f"{len(lacking)} planned cells have not all their rows by {scorer}, such as "
                f"{row.method}/{row.point} {row.concept} {row.prompt_id}: "
                f"{there[scorer][row.key]} of {row.n}"
            )
    return sum(row.n for row in rows if not row.drifts)


def needs(row: CellRow, reported: bool) -> bool:
    """The plain backbone's cells are what drift is measured from; drift itself need not be scored
    by a scorer beside the reported one."""
    return not row.is_base and (reported or not row.drifts)


def rows_of(data: bytes, name: str) -> list[dict[str, str]]:
    """The rows of one file, whose last line is the digest of what stands above it."""
    body, mark, _ = data.rpartition(MARK)
    if not mark or with_digest(body) != data:
        raise Refused(f"{name} is not as it was scored: its last line is another digest")
    try:
        table = csv.DictReader(io.StringIO(body.decode(), newline=""), strict=True)
        found = list(table)
    except (UnicodeDecodeError, csv.Error):
        raise Refused(f"{name} is no table that can be read") from None
    columns = tuple(table.fieldnames or ())
    own = PAIR_ROW if columns[: len(PAIR_ROW)] == PAIR_ROW else ROW
    more = columns[len(own) :]
    fine = columns[: len(own)] == own and {*more} <= {*SCORED, REMARK}
    if not fine or len({*more}) < len(more) or REMARK in more[:-1]:
        raise Refused(f"{name} has other columns than rows have")
    for row in found:
        if None in row or None in row.values():
            raise Refused(f"{name}: a row has {len(columns)} values")
    return found


class Rules:
    """What the protocol says of one row: its seed, and which scores it has."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        protocol = about.get("protocol", {})
        if type(protocol.get("seed")) is not int:
            raise Refused("its protocol tells no seed")
        self.seed: int = protocol["seed"]
        self.every = protocol.get("image_prompts") == "all"
        self.imported = imported_methods(about)
        self.reported = about["scorers"][0]["name"]

    def seed_of(self, cell: CellRow, index: int) -> int:
        """A hash of base seed, concept, prompt and index: everybody's noise is the same."""
        concept = DRIFT if cell.drifts else cell.concept
        return seed_of(self.seed, concept, cell.prompt_id, index)

    def may_have(self, cell: CellRow) -> tuple[str, ...]:
        """Columns of the protocol for such a prompt; one more would come into a mean."""
        if cell.drifts:
            return ()
        if cell.kind == "pair":
            return ("text_sim_raw", "image_sim_a", "image_sim_b")
        image = self.every or cell.kind != "deform"
        return ("text_sim_raw", "image_sim") if image else ("text_sim_raw",)


def check_file(
    found: Sequence[Mapping[str, str]],
    address: tuple[str, str, str],
    name: str,
    cells: Mapping[str, CellRow],
    rules: Rules,
) -> Counter[str]:
    """Rows of one method, point and concept by one scorer; -> how many by key."""
    scorer = safe_parts(name)[1]
    there: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for row in found:
        cell = cells.get(row["key"])
        if cell is None or cell.address != address:
            raise Refused(f"{name} has a row of no planned cell: {shown(row['prompt_id'])}")
        where = f"{name}, {cell.prompt_id} image {row['index']}"
        if any(row[column] != getattr(cell, column) for column in SAME):
            raise Refused(f"{where}: the row says something else than {PLAN} of its cell")
        if (row["key"], row["index"]) in seen:
            raise Refused(f"{where}: this image has a row twice")
        seen.add((row["key"], row["index"]))
        if not is_count(row["index"]) or int(row["index"]) >= cell.n:
            raise Refused(f"{where}: {cell.n} images are planned, numbered from 0")
        check_seed(row, cell, rules, where)
        check_numbers(row, where)
        check_present(row, rules.may_have(cell), scorer == rules.reported, where)
        there[row["key"]] += 1
    return there


def check_seed(row: Mapping[str, str], cell: CellRow, rules: Rules, where: str) -> None:
    if cell.method in rules.imported:  # other noise, and its rows say so
        if "unpaired" not in row.get(REMARK, "").split():
            raise Refused(f"{where}: an imported picture without the remark that it is unpaired")
        return
    wanted = str(rules.seed_of(cell, int(row["index"])))
    if row["seed"] != wanted:
        raise Refused(
            f"{where}: its seed is {shown(row['seed'])}, and the protocol's is {wanted}: other "
            f"noise than everybody's"
        )


def check_numbers(row: Mapping[str, str], where: str) -> None:
    """Every score that is there is finite and possible."""
    for column in (*PAIR_ROW[-4:], *SCORED):
        if not (text := row.get(column, "")):
            continue
        try:
            value = number_of(text)
        except ValueError:
            raise Refused(f"{where}: {column} is {shown(text)}, which is no number") from None
        low, high = RANGES.get(column, (0.0, float("inf")))
        if not low - SLACK <= value <= high + SLACK:
            raise Refused(
                f"{where}: {column} is {shown(text)}, which cannot be: it lies between {low:g} and "
                f"{high:g}"
            )


def check_present(
    row: Mapping[str, str], allowed: Collection[str], reported: bool, where: str
) -> None:
    """The reported scorer says something of every picture: an empty score would be left out of a
    mean. Another one need not have an opinion of every prompt; the tables see to the rest."""
    for column in PAIR_ROW[-4:]:
        if reported and column in allowed and not row.get(column):
            raise Refused(f"{where}: {column} is empty, and every picture has one")
        if column not in allowed and row.get(column):
            raise Refused(f"{where}: {column} is there, and the protocol has none of this prompt")


def check_real(
    found: Sequence[Mapping[str, str]],
    address: tuple[str, str, str],
    name: str,
    cells: Mapping[str, CellRow],
) -> None:
    """The concept's own pictures: numbered from 0, one row each, one key, no prompt."""
    known = {part for cell in cells.values() for part in cell.concept.split("+")}
    if address[1] != "default" or address[2] not in known:
        raise Refused(f"{shown(name)} is of no planned concept")
    if [row["index"] for row in found] != [str(number) for number in range(len(found))]:
        raise Refused(f"{name}: its rows are not one a picture, numbered from 0")
    if len({row["key"] for row in found}) > 1 or any(row["key"] in cells for row in found):
        raise Refused(f"{name}: its rows have not one key of their own")
    for row in found:
        where = f"{name}, picture {row['index']}"
        mine = row["method"], row["point"], row["concept"]
        if mine != address or row["prompt_id"] or row["kind"] != REAL:
            raise Refused(f"{where}: the row says that it is of something else")
        check_numbers(row, where)


def check_ceilings(
    files: Mapping[str, bytes], about: Mapping[str, Any], pictures: Mapping[str, int]
) -> None:
    """The reported scorer's ceiling stands on each of a concept's pictures; `pictures`: how many
    each concept has, where that is known here."""
    scorer = about["scorers"][0]["name"]
    for concept, n in pictures.items():
        name = f"{ROWS}/{scorer}/{REAL}/default/{concept}.csv"
        there = len(rows_of(files[name], name)) if name in files else 0
        if there != n and (n or not there):
            wanted = f"it has {n} pictures" if n else "each of its pictures has one"
            raise Refused(f"{concept} has {there} rows of its own pictures by {scorer}: {wanted}")


def check_all(files: Mapping[str, bytes], about: Mapping[str, Any]) -> tuple[list[CellRow], int]:
    """The planned cells, and how many images were scored."""
    rows = planned_cells(files[PLAN], about)
    return rows, check_rows(files, about, rows)
