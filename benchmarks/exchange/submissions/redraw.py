"""A random sample of a submission's cells, drawn again here from the trained files that it names.

In: a checked submission, trained files whose digests are those that it told. Out: by method, how
many cells agreed in their bytes or in their scores; one sentence where one does not. What is drawn
is decided by this installation: of the submission, only names, points and settings of the protocol
are taken.
"""

import random
import secrets
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.exchange.submissions.checked_submission import Asked, Checked
from benchmarks.exchange.submissions.drawn_pixels import cell_pixels, read_pictures
from benchmarks.exchange.submissions.known_here import Places
from benchmarks.exchange.submissions.redraw_limits import Compared, judge
from benchmarks.exchange.submissions.submission_archive import PICTURES, Refused
from benchmarks.exchange.submissions.submission_make import machine_here, weights_digest
from benchmarks.exchange.submissions.submitted_vae import vae_to_draw_with
from benchmarks.paths import backbone_names
from benchmarks.planning.config import Config, resolve
from benchmarks.planning.points import OperatingPoint
from benchmarks.planning.units import Cell
from benchmarks.running.prepared import Prepared, prepare_run
from benchmarks.running.run import open_folder, work
from benchmarks.safe_paths import shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import FLOOR
from benchmarks.store.csv_files import read_rows_file
from benchmarks.store.reading import planned_fits
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import device_words, libraries
from perfusion_core.errors import UserError

# whose versions decide low bits of a picture or of its scores
DECIDING = ("torch", "torchvision", "diffusers", "transformers", "numpy", "pillow", "peft",
            "open_clip_torch", "safetensors")  # fmt: skip
SCORES = ("image_sim", "text_sim_raw", "image_sim_a", "image_sim_b")


@dataclass(frozen=True)
class Sample:
    """What is drawn again, and the number that chose it."""

    rows: tuple[CellRow, ...]
    seed: int


def redraw(found: Checked, places: Places, asked: Asked) -> dict[str, Any]:
    """By method: cells, how many had the same bytes, the largest difference of a score."""
    backbone = places.backbone or found.about["backbone"].get("id", "")
    if not places.backbone and backbone not in backbone_names():
        raise UserError(f"--redraw draws on {shown(backbone)}: give its place with --backbone")
    if found.known.catalog is None:
        raise UserError("--redraw needs the suite: give its place with --suite")
    trained = trained_places(Path(asked.trained), found) if asked.trained else {}
    sample = choose(found.rows, {FLOOR, *trained}, asked)
    places = replace(places, vae=vae_to_draw_with(found.about, places.vae))
    print(
        f"perfbench: {len(sample.rows)} cells are drawn again (--sample {sample.seed} draws the "
        f"same)",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="perfbench-redraw-") as aside:
        config = config_of(found, places, asked, sample, trained, Path(aside) / "run")
        prepared = only(prepare_run(config), sample)
        refuse_other_files(prepared, found)
        store = drawn(prepared)
        compared = [compare_cell(found, store, prepared, row) for row in sample.rows]
    return judge(compared, same_machine(found, prepared), sample.seed)


# ---- what is drawn ----


def trained_places(place: Path, found: Checked) -> dict[str, Path]:
    """The trained files of each method: a run folder has those of all; else a folder a method."""
    if not place.is_dir():
        raise UserError(f"--trained {place}: there is no such folder")
    named = sorted(found.trained)
    if (place / "run.json").is_file():
        here = {method for method, _, _ in planned_fits(place)}
        there = {name: place for name in named if name in here}
    else:
        there = {name: place / name for name in named if (place / name).is_dir()}
    if not there and len(named) == 1 and not (place / "run.json").is_file():
        there = {named[0]: place}
    if not there:
        raise UserError(
            f"--trained {place}: a run folder with its fits/, or a folder with "
            f"{' or '.join(named[:3]) or 'trained files'} in it, is wanted"
        )
    return there


def choose(rows: Sequence[CellRow], methods: Iterable[str], asked: Asked) -> Sample:
    """At least one cell of each method, the rest anywhere; by a number that nobody knows before."""
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    mine = sorted(methods)
    cells = [row for row in rows if row.method in mine and not row.drifts]
    mine = [name for name in mine if any(row.method == name for row in cells)]
    if asked.cells < len(mine):
        raise UserError(
            f"--redraw {asked.cells}: at least a cell a method is drawn again, {len(mine)} here"
        )
    random.Random(seed).shuffle(cells)
    first = {name: next(row for row in cells if row.method == name) for name in mine}
    others = [row for row in cells if first[row.method] is not row]
    return Sample((*first.values(), *others[: asked.cells - len(first)]), seed)


def config_of(
    found: Checked,
    places: Places,
    asked: Asked,
    sample: Sample,
    trained: Mapping[str, Path],
    out: Path,
) -> Config:
    """The protocol's settings with this sample's names; places are of this machine."""
    protocol, rows = found.about["protocol"], sample.rows
    points: dict[str, list[str]] = {}
    for row in rows:
        points.setdefault(row.method, []).append(row.point)
    steps = {OperatingPoint.parse(row.point).step for row in rows} - {None}
    single = [row for row in rows if row.kind != "pair"]
    try:
        flags = {
            "backbone": places.backbone or found.about["backbone"]["id"],
            "vae": places.vae,
            "suite": places.suite or protocol["suite"],
            "methods": [name for name in points if name != FLOOR] or [FLOOR],
            "concepts": list(dict.fromkeys(n for row in rows for n in row.concept.split("+"))),
            "prompts": list(dict.fromkeys(row.prompt_id for row in single)) or ["1"],
            "pairs": list(dict.fromkeys(row.concept for row in rows if row.kind == "pair")),
            "trained": [f"{name}={place}" for name, place in trained.items() if name in points],
            "scorers": [*found.known.scorers][:1],
            "dtype": found.about["dtype"],
            "keep": sorted(map(str, steps)),
            "method_files": list(asked.method_files),
            "device": asked.device,
            "out": str(out),
            "cache": "none",
            "drift": False,
            **{key: protocol[key] for key in ("seed", "images", "steps", "guidance", "recipe")},
            "rows": protocol.get("rows", 0),
            **{f"points.{name}": list(dict.fromkeys(of)) for name, of in points.items()},
        }
        return resolve(preset=protocol["preset"], flags=flags)
    except KeyError as error:
        raise Refused(f"its run.json does not tell {error.args[0]}") from None
    except UserError as error:
        raise Refused(f"its protocol cannot be repeated: {error}") from None


def only(prepared: Prepared, sample: Sample) -> Prepared:
    """The same plan without all that was not chosen; what was chosen is asked for alike."""
    wanted = {(*row.address, row.prompt_id): row for row in sample.rows}
    cells = {(*cell.row.address, cell.prompt_id): cell for cell in prepared.plan.cells}
    for address, row in wanted.items():
        mine = cells[address].row if address in cells else None
        told = (row.template, row.text, row.n, row.super_category)
        if mine is None or (mine.template, mine.text, mine.n, mine.super_category) != told:
            raise Refused(f"this version plans another cell for {shown('/'.join(address))}")
    kept = [cell for address, cell in cells.items() if address in wanted]
    fits = {fit.key: fit for cell in kept for fit in cell.fits}
    plan = replace(prepared.plan, priors=(), fits=tuple(fits.values()), cells=tuple(kept), drift=())
    return replace(prepared, plan=plan)


def refuse_other_files(prepared: Prepared, found: Checked) -> None:
    """Trained files that are given are those whose digests the submission told."""
    for cell in prepared.plan.cells:
        for fit in cell.fits:
            given = fit.given
            entry = found.trained.get(cell.method, {}).get(fit.concept)
            if given is None or entry is None:
                raise Refused(f"it tells no digest of the trained files of {cell.method}")
            files = {name: {"sha256": sha256} for name, _, sha256 in given.files}
            if weights_digest(files) != entry["digest"]:
                raise Refused(
                    f"the trained files of {cell.method} for {fit.concept} that were given are "
                    f"not those whose digest it tells"
                )


def drawn(prepared: Prepared) -> Store:
    """Pictures and rows of the sample, by the engine of every run."""
    with redirect_stdout(sys.stderr):
        store = open_folder(prepared, ["submission", "verify"])
        outcome = work(prepared, store)
    if outcome.failed:
        name, text = next(iter(outcome.failed.values()))
        raise UserError(f"{name} could not be drawn again: {text.strip().splitlines()[-1][:200]}")
    return store


# ---- what came of it ----


def compare_cell(found: Checked, store: Store, prepared: Prepared, row: CellRow) -> Compared:
    """One cell beside what the submission says of it."""
    scorer = found.about["scorers"][0]["name"]
    mine = scores_of(Store(found.folder), scorer, row)
    cell = cell_at(prepared, row)
    again = scores_of(store, scorer, replace(row, key=cell.key))
    apart = [
        (name, again[index][name] - mine[index][name])
        for index in mine
        for name in SCORES
        if name in mine[index] and name in again[index]
    ]
    told = {}
    if PICTURES in found.submission.files:
        told = read_pictures(found.submission.files[PICTURES])
    pixels = told.get((*row.address, row.prompt_id), "")
    same = cell_pixels(store.root, row) == pixels if pixels else None
    return Compared(row.method, f"{row.point} {row.concept} {row.prompt_id}", apart, same)


def cell_at(prepared: Prepared, row: CellRow) -> Cell:
    address = (*row.address, row.prompt_id)
    return next(
        cell for cell in prepared.plan.cells if (*cell.row.address, cell.prompt_id) == address
    )


def scores_of(store: Store, scorer: str, row: CellRow) -> dict[int, dict[str, float]]:
    """index -> score -> value, of one cell."""
    rows = read_rows_file(store.rows_file(scorer, *row.address)) or []
    return {
        int(one["index"]): {name: float(one[name]) for name in SCORES if one.get(name)}
        for one in rows
        if one["key"] == row.key
    }


def same_machine(found: Checked, prepared: Prepared) -> bool:
    """Whether bytes have to agree: processor, versions, device and dtype are the same."""
    about, mine = found.about, libraries()
    told = found.submission.manifest.get("machine")
    compiled = any(one.get("config", {}).get("compile") for one in about.get("commands", []))
    return (
        bool(told)
        and told == machine_here()
        and not compiled
        and about.get("device") == device_words(prepared.device)
        and about.get("dtype") == prepared.models.dtype
        and all(about.get("libraries", {}).get(name) == mine.get(name) for name in DECIDING)
    )
