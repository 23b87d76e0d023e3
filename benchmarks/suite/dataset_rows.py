"""Rows of a `datasets` data set as image files. In: a folder or a hub id. Out: paths with the
concept they show.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.paths import user_dir
from benchmarks.safe_paths import lies_below, shown
from benchmarks.suite.concept_folder import slug
from perfusion_core.errors import UserError

HELDOUT = ("heldout", "test", "validation")  # splits that nobody trains with, the first there is


@dataclass(frozen=True)
class Row:
    """One image: where it lies, what concept it shows, and the word for it where the data set has
    one.
    """

    path: Path
    concept: str
    super_category: str | None
    heldout: bool = False  # of a split that is not for training


def image_rows(where: str) -> list[Row]:
    """All rows of the training split, or of the first one, and behind them those of its held-out
    split; images inside tables go to the user's data folder.
    """
    from datasets import load_dataset
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    local = Path(where).expanduser()
    try:
        splits = load_dataset(str(local.resolve()) if local.is_dir() else where)
    except (
        DatasetNotFoundError,
        DataFilesNotFoundError,
        FileNotFoundError,
        ConnectionError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{where!r} is neither a folder of images nor a hub data set that can be read: {reason}"
        ) from None
    rows = splits.get("train", next(iter(splits.values())))
    apart = next((splits[name] for name in HELDOUT if name in splits), None)
    found = _rows_of(rows, where, local)
    if apart is None or apart is rows:
        return found
    return [*found, *_rows_of(apart, where, local, heldout=True)]


def _rows_of(rows: Any, where: str, local: Path, heldout: bool = False) -> list[Row]:
    from datasets import Image as ImageColumn

    column = next(
        (name for name, kind in rows.features.items() if isinstance(kind, ImageColumn)), None
    )
    if column is None:
        raise UserError(
            f"data set {where!r} has no image column (it has {', '.join(rows.features)}); give "
            f"another data set, or a folder of images"
        )
    rows = rows.cast_column(column, ImageColumn(decode=False))
    labels = getattr(rows.features.get("label"), "names", None)
    homes = [local.resolve()] if local.is_dir() else hub_homes()
    aside = user_dir() / "datasets" / slug(where) / ("heldout" if heldout else "")
    found = []
    for number, row in enumerate(rows):
        concept = row.get("concept") or _label(row, labels) or Path(where).name
        found.append(
            Row(
                _file(row[column], aside, number, homes),
                str(concept),
                row.get("super_category"),
                heldout,
            )
        )
    return found


def _label(row: dict[str, Any], labels: list[str] | None) -> str | None:
    label = row.get("label")
    return labels[label] if labels and isinstance(label, int) else label


def hub_homes() -> list[Path]:
    """Where `datasets` puts the files of a hub data set."""
    from datasets import config
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(HF_HUB_CACHE), Path(config.HF_DATASETS_CACHE)]


def _file(image: dict[str, Any], aside: Path, number: int, homes: list[Path]) -> Path:
    """The file itself where there is one of the data set; else its bytes, as they are, under the
    data set's own folder. A table may name any path of this machine."""
    if (
        image["path"]
        and Path(image["path"]).is_file()
        and any(lies_below(home, Path(image["path"])) for home in homes)
    ):
        return Path(image["path"])
    if not image["bytes"]:
        raise UserError(
            f"the data set's row {number} is no picture of its own: {shown(image['path'])} is "
            f"refused"
        )
    with Image.open(io.BytesIO(image["bytes"])) as opened:
        suffix = (opened.format or "png").lower().replace("jpeg", "jpg")
    path = aside / f"{number:05d}.{suffix}"
    if not (path.is_file() and path.read_bytes() == image["bytes"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image["bytes"])
    return path
