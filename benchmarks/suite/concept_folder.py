"""A concept folder: `concept.toml` beside `images/` and perhaps `masks/`.

In: a folder, or what to write into one. Out: a `Concept` whose files are the ones that its
concept.toml records.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paths import data_dir
from benchmarks.safe_paths import UnsafePath, is_name, lies_below, shown
from perfusion_core.errors import UserError, unknown
from perfusion_core.weight_digests import file_sha256

# of the paper; "other" has the shared prompts only
GROUPS = ("animated", "container", "furniture", "wearable")
IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".gif",
    ".heic",
    ".heif",
)
_KEYS = {
    "name",
    "super_category",
    "group",
    "asymmetric",
    "source",
    "licence",
    "images",
    "masks",
    "heldout",
    "difficulty",
    "fetch",
}
GRADES = ("easy", "middling", "hard")  # how far a concept is from what is usual for its kind


@dataclass(frozen=True)
class Concept:
    """What a method learns: a few images of one thing, and the ordinary word for that kind of
    thing.
    """

    name: str
    super_category: str
    group: str
    asymmetric: bool  # True: never flip it in training
    source: str
    licence: str
    images: tuple[Path, ...]  # empty where the photographs were not fetched yet
    masks: tuple[Path, ...]  # as many as images, in their order, or none
    digest: str  # of what training sees: image and mask bytes, super-category, asymmetric
    heldout: tuple[Path, ...] = ()  # pictures of the same thing that no method ever sees
    difficulty: str = ""  # one of GRADES, where somebody said so


def check_name(name: str) -> str:
    """A name that is safe as a folder, in a prompt's braces and in a comma-separated list."""
    if name == "all":  # of --concepts
        raise UserError("a concept cannot be named 'all': it stands for all concepts; try 'my_all'")
    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) and is_name(name):
        return name
    near = slug(name)
    hint = f"; try {near!r}" if near else ""
    raise UserError(
        f"a concept cannot be named {name!r}: use a-z, 0-9 and _, starting with a letter{hint}"
    )


def slug(text: str) -> str:
    """The nearest allowed name, empty where no letter is left: 'My Teapot (2)' -> 'my_teapot_2'."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_").lstrip("0123456789_")[:64]


def check_word(word: object, where: str = "") -> None:
    """A super-category stands in prompts, where braces would be something else, and in names of
    folders.
    """
    if not isinstance(word, str) or re.search(r"[{}<>,]", word) or not is_name(word.strip(" ")):
        raise UserError(
            f"{where}super-category {shown(word)} is not a word: name the kind of thing, as in "
            f"teapot"
        )


def list_images(folder: Path) -> list[Path]:
    """The image files directly inside `folder`, by name; hidden files and other types are passed
    over.
    """
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(
        (path for path in files if path.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda path: path.name,
    )


def own(root: Path, path: Path) -> Path:
    """The path of a file or folder of `root`. One that is or follows a link out of `root` is
    refused, because a suite of somebody else would show what it finds there. What is shipped may be
    an installer's links."""
    if not (lies_below(root, path) or path.is_relative_to(data_dir("concepts"))):
        raise UnsafePath(
            f"{path} is or follows a link that leads out of {root}: refused; put a copy in its "
            f"place"
        )
    return path


def own_images(root: Path, folder: Path) -> list[Path]:
    """The images of a folder below `root`."""
    return [own(root, path) for path in list_images(own(root, folder))] if folder.is_dir() else []


def make_concept(
    name: str,
    super_category: str,
    group: str,
    images: Sequence[Path],
    *,
    masks: Sequence[Path] = (),
    asymmetric: bool = False,
    source: str = "",
    licence: str = "",
    hashes: Mapping[Path, str] | None = None,
    heldout: Sequence[Path] = (),
    difficulty: str = "",
) -> Concept:
    """A Concept of files that are read where they lie; its digest does not depend on their names or
    places.
    """
    check_word(super_category, f"concept {name!r}: ")
    known = dict(hashes or {})
    for path in heldout:  # of other suites
        known[path] = known.get(path) or file_sha256(path)
    seen: dict[str, Any] = {
        "images": [known.get(path) or file_sha256(path) for path in images],
        "masks": [known.get(path) or file_sha256(path) for path in masks],
        "super_category": super_category,
        "asymmetric": asymmetric,
    }
    refuse_trained(images, heldout, {**known, **dict(zip(images, seen["images"]))})
    # not the canonical text of digests.py: it is in the keys of committed runs
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    return Concept(
        check_name(name),
        super_category,
        group,
        asymmetric,
        source,
        licence,
        tuple(images),
        tuple(masks),
        digest,
        tuple(heldout),
        difficulty,
    )


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, or one sentence about why it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"there is no {path}; `perfbench concepts add DIR --super-category WORD` makes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def read_about(folder: Path) -> dict[str, Any]:
    """What concept.toml says, checked: required keys, their types, nothing unknown."""
    path = own(folder, folder / "concept.toml")
    about = read_toml(path)
    for key in about:
        if key not in _KEYS:
            raise UserError(f"{path}: {unknown('key', key, _KEYS)}")
    for key in ("name", "super_category", "group", "licence", "source"):
        if not isinstance(about.get(key), str) or not about[key].strip():
            raise UserError(f'{path}: {key} = "..." is missing or not a text')
    if not isinstance(about.get("asymmetric", False), bool):
        raise UserError(
            f"{path}: asymmetric is {about['asymmetric']!r}, allowed are true and false"
        )
    if about["group"] not in (*GROUPS, "other"):
        raise UserError(f"{path}: {unknown('group', about['group'], (*GROUPS, 'other'))}")
    if about.get("difficulty", GRADES[0]) not in GRADES:
        raise UserError(f"{path}: {unknown('difficulty', str(about['difficulty']), GRADES)}")
    for key in ("images", "masks", "heldout"):
        table = about.get(key, {})
        if not isinstance(table, dict) or not all(
            isinstance(value, str) for value in table.values()
        ):
            raise UserError(
                f'{path}: [{key}] needs a line "FILE" = "sha256" for each file; without [{key}] '
                f"all count"
            )
    check_word(about["super_category"], f"{path}: ")
    if about["name"] != folder.name:
        raise UserError(
            f"{path}: name is {about['name']!r} but the folder is {folder.name!r}; make them equal"
        )
    return about


def read_concept(folder: Path, about: Mapping[str, Any] | None = None) -> Concept:
    """The concept of one folder; files that are missing, foreign or changed are named. No images:
    allowed, empty.
    """
    about = about or read_about(folder)
    hashes: dict[Path, str] = {}
    images = _listed(folder / "images", about.get("images"), hashes)
    masks = _listed(folder / "masks", about.get("masks"), hashes)
    heldout = _listed(folder / "heldout", about.get("heldout"), hashes)
    if masks and [path.stem for path in masks] != [path.stem for path in images]:
        raise UserError(
            f"{folder}: every image needs a mask of its name, or none has one; masks/ and images/ "
            f"differ"
        )
    return make_concept(
        about["name"],
        about["super_category"].strip(),
        about["group"],
        images,
        masks=masks,
        asymmetric=about.get("asymmetric", False),
        source=about["source"],
        licence=about["licence"],
        hashes=hashes,
        heldout=heldout,
        difficulty=about.get("difficulty", ""),
    )


def refuse_trained(
    images: Sequence[Path], heldout: Sequence[Path], hashes: Mapping[Path, str]
) -> None:
    """One sentence about a picture that is on both sides."""
    twice = {hashes[path] for path in heldout} & {hashes[path] for path in images}
    if twice:
        same = next(path for path in heldout if hashes[path] in twice)
        raise UserError(
            f"{same} is also among the images that are trained: a held-out picture is one that "
            f"nobody trains; remove it from one of the two folders"
        )


def _listed(
    folder: Path, recorded: Mapping[str, str] | None, hashes: dict[Path, str]
) -> list[Path]:
    """The images of a folder, verified against the recorded sha256 where there are any; fills
    `hashes`.
    """
    files = own_images(folder.parent, folder)
    for path in files:
        hashes[path] = file_sha256(path)
    if recorded is None:
        return files
    again = "remove the folder and add, fetch or adopt the concept again"
    for name in recorded:
        if folder / name not in hashes:
            raise UserError(
                f"{folder / name} is recorded in concept.toml but not there: restore it, or {again}"
            )
    for path in files:
        if path.name not in recorded:
            raise UserError(f"{path} is not recorded in concept.toml: take it out, or {again}")
        if hashes[path] != recorded[path.name]:
            raise UserError(
                f"{path} is not the file that concept.toml records (another sha256): restore it, "
                f"or {again}"
            )
    return files


def write_concept(
    folder: Path,
    *,
    super_category: str,
    group: str,
    source: str,
    licence: str,
    images: Sequence[Any],
    masks: Sequence[Any] = (),
    asymmetric: bool = False,
    heldout: Sequence[Any] = (),
    difficulty: str = "",
) -> Concept:
    """A new concept folder, complete or not at all; the folder's name is the concept's.

    images, masks, heldout: Pillow images or uint8 arrays ([H, W, 3]; masks [H, W]), saved as PNG;
    or the bytes of a PNG, or paths, which are copied as they are.
    """
    name = check_name(folder.name)
    check_word(super_category, f"concept {name!r}: ")
    if group not in (*GROUPS, "other"):
        raise unknown("group", group, (*GROUPS, "other"))
    if masks and len(masks) != len(images):
        raise UserError(
            f"concept {name!r} has {len(images)} images and {len(masks)} masks; give every image "
            f"one, or none"
        )
    if not images:
        raise UserError(f"concept {name!r} has no images; put some into its images/")
    if folder.exists():
        raise UserError(f"{folder} exists already; remove it or choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        about: dict[str, Any] = {
            "name": name,
            "super_category": super_category,
            "group": group,
            "asymmetric": asymmetric,
            "source": source,
            "licence": licence,
        } | ({"difficulty": difficulty} if difficulty else {})
        for kind, pictures in (("images", images), ("masks", masks), ("heldout", heldout)):
            if pictures:
                saved = _save(aside / kind, pictures)
                about[kind] = {path.name: file_sha256(path) for path in saved}
        (aside / "concept.toml").write_text(toml(about), encoding="utf-8")
        aside.chmod(0o755)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    try:
        return read_concept(folder)
    except UserError:  # what its reader refuses would hide what is beside it
        shutil.rmtree(folder)
        raise


def _save(folder: Path, pictures: Sequence[Any]) -> list[Path]:
    """Numbered files: PNG from a picture, a copy of a path's bytes with its own suffix."""
    from PIL import Image

    folder.mkdir()
    saved = []
    for number, picture in enumerate(pictures):
        if isinstance(picture, Path):
            saved.append(folder / f"{number:02d}{picture.suffix.lower()}")
            shutil.copyfile(picture, saved[-1])
        else:
            saved.append(folder / f"{number:02d}.png")
            if isinstance(picture, bytes):
                saved[-1].write_bytes(picture)
                continue
            (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
                saved[-1]
            )
    return saved


def toml(table: Mapping[str, Any]) -> str:
    """Texts, numbers, booleans, lists and one level of tables as TOML, whose texts are spelled like
    JSON's.
    """
    plain = [
        f"{_key(key)} = {_value(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            plain += [
                "",
                f"[{_key(key)}]",
                *(f"{_key(name)} = {_value(item)}" for name, item in value.items()),
            ]
    return "\n".join(plain) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
