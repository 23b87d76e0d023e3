"""Are the judges right about what the models draw? Numbered sheets for a person to label, and the
comparison.

In: weights and a folder. Out: pictures, sheets and an empty looked.csv there; then, filled in,
agreement as Figures.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.evidence.miniature_measures import Figure, rate_of, wording
from benchmarks.miniature.opening import drawn
from benchmarks.miniature.training.judges import JUDGED, Judges
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.picture import held_out
from benchmarks.suite.catalog import fill, load_catalog
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError, unknown

COLUMNS, ZOOM, GAP = 5, 3, 18
UNSURE = ("", "?")  # a cell that is left out of the comparison


def prompts(n: int) -> list[str]:
    """Held-out pairs and the benchmark's own prompts, in an order that tells nothing."""
    pairs = [wording(cls, *pair.split(":"))[0] for cls, pair in sorted(held_out())]
    catalog = load_catalog("miniature")
    own = [
        fill(p.template, c.super_category) for c in catalog.concepts for p in catalog.prompts_for(c)
    ]
    rng = stream("looking")
    texts = (
        [*pairs, *rng.permutation(own)][:n]
        if n > len(pairs)
        else list(rng.choice(pairs, n, replace=False))
    )
    return [str(text) for text in rng.permutation(texts)]


def write_sheets(backbone: Backbone, folder: Path, n: int = 200) -> None:
    """`pictures/`, `sheets/`, `asked.csv` (not to be read before labelling) and `looked.csv`, to be
    filled in.
    """
    if (folder / "looked.csv").exists():
        raise UserError(
            f"{folder / 'looked.csv'} is there already; choose another folder, or compare with "
            f"--looked"
        )
    texts = prompts(n)
    images = drawn(backbone, texts, range(n))
    for name in ("pictures", "sheets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "pictures" / f"{number:03d}.png")
    for start in range(0, n, COLUMNS**2):
        label_sheet(images[start : start + COLUMNS**2], start).save(
            folder / "sheets" / f"{start:03d}.png"
        )
    write_label_file(folder / "asked.csv", ("number", "prompt"), enumerate(texts))
    write_label_file(
        folder / "looked.csv",
        ("number", *JUDGED),
        ((number, *[""] * len(JUDGED)) for number in range(n)),
    )


def label_sheet(images: np.ndarray, start: int) -> Image.Image:
    side = images.shape[1] * ZOOM
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + 4), rows * (side + GAP)), (255, 255, 255))
    for k, image in enumerate(images):
        x, y = k % COLUMNS * (side + 4), k // COLUMNS * (side + GAP)
        ImageDraw.Draw(sheet).text((x + 2, y + 3), str(start + k), fill=(0, 0, 0))
        sheet.paste(
            Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, y + GAP)
        )
    return sheet


def write_label_file(path: Path, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def agreement(judges: Judges, folder: Path) -> list[Figure]:
    """Of the cells that a person filled in: how many the judges say as well."""
    path = folder / "looked.csv"
    if not path.is_file():
        raise UserError(
            f"there is no {path}; `perfbench miniature verify --sheets {folder}` makes the sheets "
            f"to look at"
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if any(row[name].strip() not in UNSURE for name in JUDGED)
        ]
    if not rows:
        raise UserError(
            f"{path} is empty: look at the sheets and write what they show, none where there is "
            f"none"
        )
    pictures = np.stack(
        [
            np.asarray(Image.open(folder / "pictures" / f"{int(row['number']):03d}.png"))
            for row in rows
        ]
    )
    said, found = judges.factors(pictures), []
    for name, values in JUDGED.items():
        seen = [
            (k, row[name].strip()) for k, row in enumerate(rows) if row[name].strip() not in UNSURE
        ]
        for _, value in seen:
            if value not in values:
                raise unknown(f"{name} in {path.name}", value, values)
        if seen:
            same = [said[name][k] == value for k, value in seen]
            found.append(
                rate_of(f"judge of {name}: agrees with labels given by looking", np.array(same))
            )
    return found
