"""The four tables of a published run: pictures, rows, prompts, concepts.

In: a run folder, what is said of photographs. Out: parquet files in a folder, and what is in them.
Pictures are read, checked against their digests and written one after the other; what other
programs wrote into them stays here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.digests import digest
from benchmarks.disk import read_manifest
from benchmarks.exchange.leaks import refuse_leaks
from benchmarks.exchange.licences import (
    HIDDEN,
    ask_for_photographs,
    said_of_photographs,
    shipped_concepts,
)
from benchmarks.exchange.parquet_files import ParquetFiles, write_frame
from benchmarks.exchange.plain_png import pixels_alone
from benchmarks.options import SEEDS
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import REAL
from benchmarks.store.reading import read_cells
from benchmarks.store.run_folder import Store, concept_pictures
from benchmarks.suite.image_files import numbered
from benchmarks.tables.sample_rows import sample_rows
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

PICTURES, ROWS, PROMPTS, CONCEPTS = "pictures", "rows", "prompts", "concepts"
OURS = ("concept", "super_category", "group", "licence", "images", "heldout")
SHIPPED = "apache-2.0"  # of the drawn concepts of this package


@dataclass
class Described:
    """A concept, and which of its pictures may be published."""

    name: str
    super_category: str
    group: str
    licence: str = ""
    pictures: Sequence[Path] = ()
    heldout: Sequence[Path] = ()
    hidden: bool = False  # it has pictures, and they stay here


@dataclass
class Written:
    """What was written, for the card."""

    configs: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    pictures: int = 0
    planned: int = 0
    rows: int = 0
    prompts: int = 0
    drift: bool = False  # pictures that measure it are in the run, and not here
    concepts: list[Described] = field(default_factory=list)


def write_tables_of(run: Path, about: Mapping[str, Any], photographs: str, folder: Path) -> Written:
    """All of them; a table that has nothing is not there."""
    cells = read_cells(run)
    if not cells:
        raise UserError(f"{run} has planned nothing, so there is nothing to publish")
    concepts = described(run, about, cells, photographs)
    refuse_leaks("a name in plan.csv", {text for cell in cells for text in told_of(cell)})
    frame = rows_of(run)
    done = Written(concepts=concepts, rows=len(frame), planned=sum(cell.n for cell in cells))
    done.methods = list(dict.fromkeys(cell.method for cell in cells))
    done.drift = any(cell.drifts for cell in read_cells(run, drift=True))
    done.pictures = write_pictures(run, cells, frame, folder / PICTURES)
    write_frame(folder / ROWS, frame)
    prompts = prompts_of(cells, about)
    write_frame(folder / PROMPTS, prompts)
    done.prompts = len(prompts)
    write_concepts(concepts, about, folder / CONCEPTS)
    done.configs = [PICTURES] * bool(done.pictures) + [ROWS, PROMPTS, CONCEPTS]
    return done


def told_of(cell: CellRow) -> tuple[str, ...]:
    return (*cell.address, cell.group, cell.prompt_id, cell.template, cell.text)


# ---- rows and prompts ----


def rows_of(run: Path) -> pd.DataFrame:
    """All scores of all scorers, a row a picture; texts and numbers alone."""
    frame = sample_rows(run)
    if not (frame["method"] != REAL).any():
        raise UserError(
            f"{run} has no scored picture yet; finish it by the `perfbench run` command that began "
            f"it"
        )
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    for name in texts:
        found = pd.to_numeric(frame[name], errors="coerce")
        empty = frame[name].isna() | (frame[name] == "")
        if found.notna().any() and (found.notna() | empty).all():
            frame[name] = found
        else:
            frame[name] = frame[name].fillna("").astype(str)
            refuse_leaks(f"the column {name} of rows", frame[name].unique())
    return frame


def prompts_of(cells: Sequence[CellRow], about: Mapping[str, Any]) -> pd.DataFrame:
    """A row a prompt, with the suite's own columns; `{}` stands for the concept."""
    columns = about.get("columns", {}).get("prompts", {})
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        template = cell.template
        if "+" not in cell.concept:
            template = template.replace(f"{{{cell.concept}}}", "{}")
        more = {name: values.get(cell.prompt_id, "") for name, values in columns.items()}
        one = {"prompt_id": cell.prompt_id, "kind": cell.kind, "template": template}
        rows.setdefault(cell.prompt_id, {**more, **one, "scored_text": cell.text})
    frame = pd.DataFrame(list(rows.values()))
    for name in frame:
        refuse_leaks(f"the column {name} of prompts", frame[name].unique())
    return frame


# ---- pictures ----


def picture_features() -> Any:
    from datasets import Features, Image, Value

    texts = ("method", "point", "concept", "group", "prompt_id", "kind", "prompt", "sha256")
    numbers = {"index": Value("int32"), "seed": Value("int64")}
    scores = {name: Value("float64") for name in ("image_sim", "text_sim_raw")}
    return Features(
        {"image": Image(), **{name: Value("string") for name in texts}, **numbers, **scores}
    )


def write_pictures(run: Path, cells: Sequence[CellRow], frame: pd.DataFrame, folder: Path) -> int:
    """Of all planned cells whose pictures are here; -> how many."""
    place = ["method", "point", "concept", "prompt_id", "index"]
    scores = frame[["image_sim", "text_sim_raw"]].astype(float).to_numpy()
    known = dict(zip(frame[place].itertuples(index=False, name=None), scores))
    with ParquetFiles(folder, picture_features()) as files:
        for cell in cells:
            for index, seed, content in pictures_in(Store(run), cell):
                where = (*cell.address, cell.prompt_id, index)
                image, text = known.get(where, (None, None))
                name = "/".join(map(str, where)) + ".png"
                pixels = pixels_alone(content, name)
                row = {
                    "image": {"bytes": pixels, "path": name},
                    **dict(zip(place, where)),
                    "group": cell.group,
                    "kind": cell.kind,
                    "prompt": cell.template,
                    "sha256": sha256(content).hexdigest(),
                    "seed": seed,
                    "image_sim": number(image),
                    "text_sim_raw": number(text),
                }
                files.add(row, len(pixels))
    return files.count


def number(value: float | None) -> float | None:
    """Parquet has a word of its own for what is not there."""
    return None if value is None or value != value else float(value)


def pictures_in(store: Store, cell: CellRow) -> Iterator[tuple[int, int | None, bytes]]:
    """Index, seed and bytes of a cell's pictures, as they were published."""
    folder = store.images(*cell.address, cell.prompt_id)
    manifest = read_manifest(folder / "cell.json")
    if manifest is None or manifest["key"] != cell.key:
        return
    seeds = manifest.get("seeds")
    for path in numbered(folder):
        if path.name not in manifest["files"]:
            continue
        content = path.read_bytes()
        if sha256(content).hexdigest() != manifest["files"][path.name]["sha256"]:
            raise UserError(
                f"{path} is not what was drawn there, so nothing is published; the `perfbench run` "
                f"command that made it draws it again"
            )
        index = int(path.stem)
        seed = seeds[index] if isinstance(seeds, list) and index < len(seeds) else None
        yield index, seed if isinstance(seed, int) and 0 <= seed <= SEEDS else None, content


# ---- concepts ----


def described(
    run: Path, about: Mapping[str, Any], cells: Sequence[CellRow], photographs: str
) -> list[Described]:
    """The run's concepts, each with its licence; asks for what nobody told."""
    singles = {
        name: cell
        for cell in reversed(cells)
        for name in cell.concept.split("+")
        if cell.concept == name
    }
    names = dict.fromkeys(name for cell in cells for name in cell.concept.split("+"))
    said = said_of_photographs(photographs, names)
    shipped, words = shipped_concepts(about), about.get("super_categories", {})
    found, unknown = [], []
    for name in names:
        cell = singles.get(name)
        one = Described(name, words.get(name) or (cell.super_category if cell else ""),
                        cell.group if cell else "")  # fmt: skip
        one.pictures = concept_pictures(run, name)
        one.heldout = numbered(Store(run).heldout(name))
        if name in shipped and name not in said and drawn_heldout(run, name, shipped[name]):
            one.licence = SHIPPED
        elif one.pictures or one.heldout:
            one.licence = said.get(name, "")
            unknown += [name] * (not one.licence)
            one.hidden = one.licence == HIDDEN
        if one.hidden:
            one.licence, one.pictures, one.heldout = "", (), ()
        found.append(one)
    if unknown:
        raise ask_for_photographs(unknown)
    refuse_leaks("a super-category", (one.super_category for one in found))
    return found


def drawn_heldout(run: Path, name: str, concept: Any) -> bool:
    """Whether the held-out pictures, of which a concept's digest says nothing, are the package's,
    too.
    """
    from PIL import Image

    files = numbered(Store(run).heldout(name))
    if not files:
        return True
    with Image.open(files[0]) as image:
        size = image.width
    key = digest(["heldout", [file_sha256(path) for path in concept.heldout], size])
    manifest = read_manifest(Store(run).heldout(name) / "heldout.json")
    return manifest is not None and manifest["key"] == key


def write_concepts(concepts: Sequence[Described], about: Mapping[str, Any], folder: Path) -> None:
    """A row a concept, with the pictures that may be published and the suite's own columns."""
    from datasets import Features, Image, List, Value

    columns = about.get("columns", {}).get("concepts", {})
    for name, values in columns.items():
        refuse_leaks(f"the column {name} of concepts", values.values())
    columns = {name: values for name, values in columns.items() if name not in OURS}
    texts = [*OURS[:4], *columns]
    pictures = {"images": List(Image()), "heldout": List(Image())}
    features = Features({**{name: Value("string") for name in texts}, **pictures})
    with ParquetFiles(folder, features) as files:
        for one in concepts:
            row = {
                "concept": one.name,
                "super_category": one.super_category,
                "group": one.group,
                "licence": one.licence,
                **{name: values.get(one.name, "") for name, values in columns.items()},
                "images": as_images(one.pictures, one.name),
                "heldout": as_images(one.heldout, f"{one.name}/heldout"),
            }
            files.add(row, sum(len(i["bytes"]) for i in (*row["images"], *row["heldout"])))


def as_images(paths: Sequence[Path], where: str) -> list[dict[str, Any]]:
    names = [f"{where}/{path.name}" for path in paths]
    return [
        {"bytes": pixels_alone(path.read_bytes(), name), "path": name}
        for path, name in zip(paths, names)
    ]
