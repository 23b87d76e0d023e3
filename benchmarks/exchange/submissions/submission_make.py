"""`perfbench submission make`: a finished run as one archive that anybody can check.

In: a run folder. Out: its plan, rows, tables, run.json, digests of trained files and pictures, and
thumbnails. Scores of people and judging models stay out: nobody could make them again.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import ask_for, write_whole
from benchmarks.exchange.leaks import refuse_leaks, texts_in, without_paths
from benchmarks.exchange.submissions.drawn_pixels import pictures_text, thumbnails_of
from benchmarks.exchange.submissions.submission_archive import (
    PICTURES,
    PLAN,
    ROWS,
    RUN,
    SUFFIX,
    TABLES,
    TRAINED,
    submission_bytes,
)
from benchmarks.safe_paths import safe_name
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import MAY_BE_SILENT
from benchmarks.scoring.reserved import REAL
from benchmarks.store.csv_files import planned_text, whole, with_digest
from benchmarks.store.frame_text import text_of_frame
from benchmarks.store.reading import find_run, planned_fits, read_cells, read_run, refuse_older
from benchmarks.store.run_folder import Store, table_file
from benchmarks.store.run_json import libraries
from benchmarks.tables.build import publish, tables_of
from benchmarks.tables.costs import all_costs, costs_of_methods
from perfusion_core import __version__, hardware
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Made:
    """What was packed."""

    place: Path
    bytes: int
    images: int
    pictures: int  # cells with a digest of their pixels
    thumbnails: int
    trained: int  # concepts with digests of their files


def make_submission(given: str, out: Path, by: str = "", thumbnails: int = 400) -> Made:
    """`perfbench submission make RUN --out ARCHIVE`."""
    if not out.name.endswith(SUFFIX):
        raise UserError(f"--out {out}: a name that ends in {SUFFIX} is wanted")
    if not by.isprintable() or len(by) > 200:
        raise UserError("--by: at most 200 printed characters are taken")
    name = safe_name(out.name.removesuffix(SUFFIX), "--out: the name before the suffix")
    ask_for(out)
    run = find_run(given)
    about = read_run(run)
    refuse_older(run, about)
    rows = read_cells(run, drift=True)
    files = {**tables_files(run, about, rows), TRAINED: trained_text(run, about).encode()}
    drawn = [row for row in rows if not row.drifts]
    if pictures := pictures_text(run, drawn):
        files[PICTURES] = pictures.encode()
    small = thumbnails_of(run, drawn, thumbnails)
    told = {"name": name, "by": by, "perfbench": __version__, "machine": machine(about)}
    data = submission_bytes({**files, **small}, told)
    write_whole(out, data)
    return Made(
        out,
        len(data),
        sum(row.n for row in drawn),
        max(pictures.count("\n") - 1, 0),
        len(small),
        sum(map(len, json.loads(files[TRAINED]).values())),
    )


def tables_files(run: Path, about: Mapping[str, Any], rows: Sequence[CellRow]) -> dict[str, bytes]:
    """run.json, plan.csv, rows and the tables that are made of these alone."""
    mine = without_paths({**about, "scorers": kept_scorers(about)})
    refuse_leaks(RUN, texts_in(mine))
    refuse_leaks(f"a name in {PLAN}", {str(text) for row in rows for text in vars(row).values()})
    files = {
        RUN: (json.dumps(mine, indent=1) + "\n").encode(),
        PLAN: planned_text(map(vars, rows)).encode(),
        **rows_files(run, [one["name"] for one in mine["scorers"]], rows),
    }
    with tempfile.TemporaryDirectory(prefix="perfbench-submission-") as aside:
        folder = Path(aside)
        place_files(folder, files)
        costs = costs_of_methods(all_costs(run)).assign(kind="method")
        table_file(folder, "table").write_text(text_of_frame(costs), encoding="utf-8")
        publish(folder, tables_of(folder))
        for name in TABLES:
            if (folder / name).is_file():
                files[name] = (folder / name).read_bytes()
    return files


def place_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Files under a folder of ours; their names were checked, or are our own."""
    for name, data in files.items():
        place = folder.joinpath(*name.split("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def kept_scorers(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that somebody else can ask again."""
    left = [one["name"] for one in about["scorers"] if one.get("kind") in MAY_BE_SILENT]
    if left:
        print(
            f"perfbench: left out, as nobody else can make them again: {', '.join(left)}",
            file=sys.stderr,
        )
    return [one for one in about["scorers"] if one["name"] not in left]


def rows_files(run: Path, scorers: Sequence[str], rows: Sequence[CellRow]) -> dict[str, bytes]:
    """The rows of planned cells, and those of the concepts' own pictures."""
    store, planned = Store(run), {row.key for row in rows}
    addresses = dict.fromkeys(row.address for row in rows if not row.is_base)
    names = dict.fromkeys(name for row in rows if not row.drifts for name in row.concept.split("+"))
    found = {}
    for scorer in scorers:
        for address in (*addresses, *((REAL, "default", name) for name in names)):
            body = whole(store.rows_file(scorer, *address))
            if body is None:
                continue  # the tables tell what is missing
            if address[0] != REAL:
                head, *lines = body.decode().splitlines(keepends=True)
                body = "".join(
                    [head, *(line for line in lines if line.partition(",")[0] in planned)]
                ).encode()
            method, point, concept = address
            found[f"{ROWS}/{scorer}/{method}/{point}/{concept}.csv"] = with_digest(body)
    return found


def trained_text(run: Path, about: Mapping[str, Any]) -> str:
    """trained.json: method -> concept -> digest of its trained files, and each file where it is
    here."""
    found: dict[str, dict[str, Any]] = {
        method: {concept: {"digest": value} for concept, value in of.items()}
        for method, of in about.get("weights", {}).items()
    }
    for method, concept, fit in planned_fits(run):
        entry = found.setdefault(method, {}).setdefault(concept, {})
        entry["files"] = dict(sorted(fit["files"].items()))
        entry.setdefault("digest", weights_digest(entry["files"]))
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def weights_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Of a fit's trained files, as run.json has it."""
    mine = {
        name: file["sha256"]
        for name, file in files.items()
        if name.endswith(".safetensors") and not name.startswith("step-")
    }
    return digest(mine)


def machine(about: Mapping[str, Any]) -> dict[str, Any]:
    """What calculated, where this is the machine of the run by all that run.json tells."""
    if about.get("libraries") != libraries():
        return {}
    return machine_here()


def machine_here() -> dict[str, Any]:
    """The processor and what of it decides low bits."""
    flags = hardware.processor_flags(Path("/proc/cpuinfo")) or ()
    kinds = ("avx", "amx", "fma")
    return {
        "processor": hardware.processor(),
        "instructions": sorted(flag for flag in flags if flag.startswith(kinds)),
    }
