"""`perfbench import`: pictures made elsewhere become methods of a run folder.

In: a folder, a list or a published layout; a name; a run folder, or what a new one is about. Out:
plan.csv, run.json and images/ of that folder, and, once scored, its tables. Nothing is trained or
drawn, and the pictures that were given are only read.
"""

import dataclasses
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.disk import on_disk, read_json, read_manifest, replace, verified
from benchmarks.exchange.import_check import Wrong, first_of, refuse, sort_pictures
from benchmarks.exchange.import_folder import MINIATURE, Into, Wishes, first_about, open_into
from benchmarks.exchange.import_plan import Planned, plan_cells
from benchmarks.exchange.import_questions import Questions
from benchmarks.exchange.listed_pictures import Listing, list_pictures
from benchmarks.planning.methods import method_names
from benchmarks.planning.units import Plan
from benchmarks.running.prepared import concept_key, publish_heldout, publish_pictures
from benchmarks.safe_paths import safe_name
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import is_judge
from benchmarks.scoring.reserved import FLOOR, IMPORTED, REAL
from benchmarks.store import run_json
from benchmarks.store.csv_files import planned_text, read_plan_file
from benchmarks.suite.catalog import Concept
from benchmarks.suite.image_files import load_image
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

TOGETHER = 8  # cells that are copied at a time: the disk is waited for


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    run: Path
    methods: tuple[str, ...]
    pictures: int
    planned: int
    left_out: tuple[str, ...]  # a sentence a kind, with --allow-missing
    status: int = 0  # of the scoring: 1 where something failed
    table: str = ""  # table.md, once scored


def import_pictures(
    pictures: str | Path,
    name: str,
    out: str | Path,
    *,
    suite: str = "",
    backbone: str = "",
    scorers: Sequence[str] = (),
    preset: str = "",
    link: bool = False,
    allow_missing: bool = False,
    score: bool = True,
    device: str = "auto",
    argv: Sequence[str] = (),
) -> Imported:
    """The whole of it. `suite`, `backbone`, `scorers` and `preset` are for a new folder; `name`
    may be empty where a list names the method of every row. `link`: hard links to PNGs instead of
    copies."""
    refuse_judges(scorers, Path(out))
    listing = list_pictures(str(pictures))
    into = open_into(Path(out), Wishes(suite, backbone, tuple(scorers), preset))
    names = [*filter(None, [name]), *(one.method for one in listing.pictures if one.method)]
    for method in dict.fromkeys(names):
        refuse_name(method, into)
    for point in dict.fromkeys(one.point for one in listing.pictures):
        safe_name(point, "the point")
    questions, wrong = Questions(into.catalog, into.planned), Wrong()
    found = sort_pictures(listing, questions, name, wrong)
    cells, images = plan_cells(into, found, questions, wrong)
    refuse(str(pictures), wrong, allow_missing)
    if not found.pictures:
        refuse(str(pictures), wrong, allow_missing=False)
    told(listing, wrong)
    record(into, cells, questions, images, argv)
    publish_concepts(into, cells, questions)
    publish(into, cells, link)
    done = Imported(
        run=into.store.root,
        methods=tuple(dict.fromkeys(one.cell.method for one in cells)),
        pictures=sum(len(one.pictures) for one in cells),
        planned=sum(len(one.cell.seeds) for one in cells),
        left_out=tuple(wrong.sentences()),
    )
    print(summary(done), file=sys.stderr)
    if FLOOR not in {*done.methods, *(row.method for row in into.planned)}:
        print(
            f"perfbench: without {FLOOR} there is no relative text similarity: import pictures of "
            f"the plain word --as {FLOOR} into the same folder, or read the raw cosine",
            file=sys.stderr,
        )
    return scored(done, scorers, allow_missing, device) if score else done


def summary(done: Imported) -> str:
    return (
        f"perfbench: {done.run}: {done.pictures:,}/{done.planned:,} planned pictures imported as "
        f"{', '.join(done.methods)}, unpaired over images with what else is there"
    )


def told(listing: Listing, wrong: Wrong) -> None:
    """What goes on without being taken."""
    for sentence in wrong.sentences():
        print(f"perfbench: left out: {sentence}", file=sys.stderr)
    if listing.passed_over:
        print(
            f"perfbench: passed over, no pictures: {len(listing.passed_over):,} files: "
            f"{first_of(listing.passed_over)}",
            file=sys.stderr,
        )


def scored(done: Imported, scorers: Sequence[str], allow_missing: bool, device: str) -> Imported:
    """What lacks rows, with progress; interrupted, `perfbench score` or the same import goes on."""
    from benchmarks.running.rescore import score_missing
    from benchmarks.tables.build import write_tables

    more = [name for name in scorers if name != MINIATURE]
    if status := score_missing(done.run, more, device=device):
        return dataclasses.replace(done, status=status)
    return dataclasses.replace(done, table=write_tables(done.run, allow_missing))


def refuse_judges(scorers: Sequence[str], out: Path) -> None:
    """Their calls are bounded, and told beforehand, by `score`."""
    if any(map(is_judge, scorers)):
        raise UserError(
            f"--scorers: a judge is asked later and with a limit: import without it, then "
            f"`perfbench score {out} --scorers judge:URL#MODEL --limit N`"
        )


def refuse_name(name: str, into: Into) -> None:
    """A name means one thing in a run folder, and none means what another program trains."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name) or name in (REAL, IMPORTED):
        raise UserError(
            f"--as {name!r:.80}: a name of letters, digits and . _ + - is wanted, and neither "
            f"{REAL} nor {IMPORTED}"
        )
    safe_name(name, "--as")
    if name in into.imported:
        return
    if any(row.method == name for row in into.planned):
        raise UserError(
            f"--as {name}: {into.store.root} has drawn {name} itself; give another name"
        )
    if name != FLOOR and name in method_names():
        raise UserError(
            f"--as {name}: that is what `perfbench run --methods {name}` makes; give another name, "
            f"such as {name}-elsewhere"
        )


# ---- what is written ----


def record(
    into: Into, cells: Sequence[Planned], questions: Questions, images: int, argv: Sequence[str]
) -> None:
    """plan.csv and run.json: the cells beside what is there, the methods with their mark."""
    store, root = into.store, into.store.root
    mine = list(dict.fromkeys(one.cell.method for one in cells))
    concepts = list(dict.fromkeys(one.cell.concept for one in cells))
    fresh = [
        one.cell
        for one in cells
        if one.cell.prompt_id not in questions.planned.get(one.cell.concept, {})
    ]
    with store.locks.locked("run.json"):
        old = read_json(root / "run.json")
        about = old or first_about(into, mine, concepts, images, argv)
        about["digests"] = digests(root, old, fresh, questions)
        before = map(CellRow.read, read_plan_file(root / "plan.csv") or ()) if old else ()
        rows = [*before, *(one.cell.row for one in cells)]
        rows = list({(*row.address, row.prompt_id): row for row in rows}.values())
        store.write_text(root / "plan.csv", planned_text(map(vars, rows)))
        about["methods"] = {**about.get("methods", {}), **{name: mark() for name in mine}}
        words = {one.cell.concept: one.cell.super_categories[0] for one in cells}
        about["super_categories"] = {**about.get("super_categories", {}), **words}
        run_json.add_columns(about, into.catalog, rows)
        if old:
            command = {"argv": run_json.anonymous(list(argv)), "started": run_json.now(),
                       "config": {"imported": mine}}  # fmt: skip
            others = [
                one for one in about.get("commands", []) if one["config"] != command["config"]
            ]
            about["commands"] = [*others, command]
        else:
            about["finished"] = run_json.now()
        store.write_text(root / "run.json", json.dumps(about, indent=1) + "\n")


def mark() -> dict[str, Any]:
    """What run.json says of an imported method."""
    return {"of": IMPORTED, "version": "", "config": {}, "select": False}


def digests(
    root: Path, old: dict[str, Any] | None, fresh: Iterable[Any], questions: Questions
) -> dict[str, Any]:
    """Of the concepts and prompts that are new here; a suite that has changed since is refused."""
    before: dict[str, Any] = (old or {}).get("digests", {})
    cells = tuple(fresh)
    if not cells:
        return before
    assert questions.catalog is not None
    named = [questions.concept(name) for name in dict.fromkeys(cell.concept for cell in cells)]
    new = run_json.selected(
        questions.catalog, [one for one in named if one], {}, Plan((), (), cells)
    )
    if old and (changes := run_json.changed(before, new)):
        raise UserError(
            f"{root} was made with another version of its suite ({'; '.join(changes)}): give "
            f"another folder with --out"
        )
    return run_json.joined(before, new)


def publish_concepts(into: Into, cells: Sequence[Planned], questions: Questions) -> None:
    """The pictures of concepts that scorers compare with, where they are not there already."""
    store = into.store
    for name in dict.fromkeys(one.cell.concept for one in cells):
        about = read_manifest(store.concept(name) / "concept.json")
        concept: Concept | None = questions.concept(name)
        if about and verified(store.concept(name), "concept.json", about["key"]):
            if concept and about["key"] == concept_key(concept, into.size):
                publish_heldout(store, concept, into.size)
            continue
        if concept is None:
            raise UserError(
                f"{store.concept(name)} is missing or damaged, the run's suite has no {name}, "
                f"and its pictures are needed to score: bring that folder back"
            )
        publish_pictures(store, concept, into.size)


def publish(into: Into, cells: Sequence[Planned], link: bool) -> None:
    """Every cell whole or not there; what is there already stays."""
    mine = [one for one in cells if one.pictures]
    with ThreadPoolExecutor(TOGETHER) as pool:
        for _ in pool.map(lambda one: publish_cell(into, one, link), mine):
            pass


def publish_cell(into: Into, one: Planned, link: bool) -> None:
    store, cell = into.store, one.cell
    folder = store.images(cell.method, cell.point, cell.concept, cell.prompt_id)
    if verified(folder, "cell.json", cell.key) is not None:
        return
    with store.locks.locked(cell.key), store.aside(cell.key) as aside, on_disk(store.root):
        files, told = {}, []
        for number, (listed, looked) in enumerate(one.pictures):
            place = aside / f"{number}.png"
            if listed.path in one.kept:  # of an earlier import: as it is
                take(listed.path, place, link)
                files[place.name] = dict(one.kept[listed.path])
            elif looked.plain:
                take(listed.path, place, link)
                files[place.name] = {"sha256": looked.sha256, "bytes": looked.bytes}
            else:  # the same pixels, losslessly; turned and laid on white as load_image does
                load_image(listed.path).save(place, compress_level=1)
                files[place.name] = {"sha256": file_sha256(place), "bytes": place.stat().st_size}
            told.append(
                {
                    "name": listed.name,
                    "sha256": looked.sha256,
                    "size": [looked.width, looked.height],
                    "index": listed.index,
                }
            )
        manifest = {
            "key": cell.key,
            "files": files,
            "seeds": one.seeds,
            "unpaired": True,
            "from": told,
        }
        (aside / "cell.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        replace(aside, folder)


def take(source: Path, place: Path, link: bool) -> None:
    """A copy, or another name of the same file."""
    if not link:
        shutil.copyfile(source, place)
        return
    try:
        os.link(os.path.realpath(source), place)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"--link: {source.name} cannot be linked ({error.strerror}), as it lies on another "
            f"disk or belongs to somebody else; leave --link out to copy it"
        ) from None
