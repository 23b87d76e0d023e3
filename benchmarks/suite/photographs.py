"""Photographs that are not ours to ship, and those of users. In: a name and where it comes from.
Out: concept folders.

The shipped `concepts/photos/<name>/concept.toml` says where each comes from; images live in the
user's data folder.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.disk import Locks, write_whole
from benchmarks.paths import data_dir, user_dir
from benchmarks.safe_paths import below
from benchmarks.suite.concept_folder import (
    Concept,
    check_name,
    check_word,
    list_images,
    read_about,
    read_concept,
    read_toml,
    slug,
    toml,
    write_concept,
)
from benchmarks.suite.download import download, names, unpack_archive
from perfusion_core.errors import UserError, unknown
from perfusion_core.weight_digests import file_sha256

LIMIT = 10**9  # bytes of one download
SHORT_SIDE = 1024  # of a user's photograph as it is kept: twice what Stable Diffusion 1.5 looks at


def shipped() -> dict[str, dict[str, Any]]:
    """What concept.toml says of each concept of the photographs' catalogue."""
    folder = data_dir("concepts") / "photos"
    return {
        path.parent.name: read_about(path.parent)
        for path in sorted(folder.glob("[!.]*/concept.toml"))
    }


def read_photos(home: Path | None = None) -> list[Concept]:
    """The eleven, with images where they were fetched or adopted, without where not."""
    home = home or user_dir() / "photos"
    found = []
    for name, about in shipped().items():
        folder = home / name
        if (folder / "concept.toml").is_file():
            try:
                found.append(read_concept(folder))
                continue
            except UserError as error:  # a broken one hides no other
                print(f"perfbench: passed over: {error}", file=sys.stderr)
        found.append(read_concept(data_dir("concepts") / "photos" / name, about))
    return found


def select_names(wanted: str) -> list[str]:
    """The names that were asked for: all, or some with commas between them."""
    known = shipped()
    chosen = (
        list(known)
        if wanted == "all"
        else [part.strip() for part in wanted.split(",") if part.strip()]
    )
    for name in chosen:
        if name not in known:
            raise unknown("concept", name, known)
    return chosen


def fetch_photographs(name: str, home: Path | None = None, *, pause: float = 1.0) -> Concept:
    """The photographs of one concept, from the address in its concept.toml; as they are, verified,
    complete or not.
    """
    home = home or user_dir() / "photos"
    if (home / name / "concept.toml").is_file():
        return read_concept(home / name)  # verifies what is there
    about = shipped()[name]
    source = about.get("fetch", {})
    otherwise = f"get it from {source.get('page')} and type `perfbench concepts adopt {name} DIR`"
    if not Locks(home).try_lock("fetch"):  # two into one .part would record the sha256 of a mixture
        raise UserError(
            f"another `perfbench concepts fetch` is writing into {home}: let it end, then type "
            f"this again"
        )
    # kept until the concept is complete, so that a second call goes on
    aside = home / "downloads" / name
    if "archive" in source:
        pictures = _from_archive(source["archive"], source["folder"], home, aside, otherwise, pause)
    elif "files" in source:
        pictures = _from_files(source["files"], home, aside, pause)
    elif "hub" in source:
        pictures = _from_files(_hub_files(source["hub"], home, pause), home, aside, pause)
    else:
        raise UserError(f"concept {name!r} has no address that can be fetched: {otherwise}")
    concept = _publish(about, pictures, home)
    shutil.rmtree(aside)
    return concept


def adopt(name: str, folder: Path, home: Path | None = None) -> Concept:
    """A folder of photographs that the user already has, as one concept of the catalogue; copied as
    they are.
    """
    home = home or user_dir() / "photos"
    if name not in shipped():
        raise unknown("concept", name, shipped())
    return _publish(shipped()[name], images_in(folder), home)


OWNERS = "the owner's; not for redistribution"
TRAINED = 3  # pictures of a concept that are left for training at least


def add(
    folder: Path,
    super_category: str,
    *,
    name: str | None = None,
    group: str | None = None,
    asymmetric: bool = False,
    licence: str = "",
    home: Path | None = None,
    heldout: int = 0,
) -> Concept:
    """A user's own photographs as a new concept: upright PNG of moderate size, without the camera's
    metadata. A concept folder: the same images and masks under another name, perhaps as another
    kind of thing (Fig. 13). `heldout`: how many of the last pictures no method shall see."""
    known = read_concept(folder) if (folder / "concept.toml").is_file() else None
    pictures = known.images if known else images_in(folder)
    own = folder.resolve().name
    if not (name or slug(own)):
        raise UserError(
            f"a concept cannot be named {own!r}, like its folder: choose a-z, 0-9 and _, as in "
            f"--name my_mug"
        )
    chosen = check_name(name or slug(own))
    if chosen in shipped():
        raise UserError(
            f"{chosen!r} is one of the eleven concepts; give yours another name: --name my_{chosen}"
        )
    check_word(super_category)
    if heldout and known and known.heldout:
        raise UserError(
            f"{folder} has {len(known.heldout)} held-out pictures already, which come along; leave "
            f"--heldout out"
        )
    if heldout and len(pictures) - heldout < TRAINED:
        most = max(len(pictures) - TRAINED, 0)
        raise UserError(
            f"--heldout {heldout} of {len(pictures)} pictures leaves fewer than {TRAINED} to "
            f"train with; {f'give at most {most}' if most else 'add some pictures'}"
        )
    left = len(pictures) - heldout
    every = list(known.images) if known else [_moderate(path) for path in pictures]
    return write_concept(
        (home or user_dir() / "concepts") / chosen,
        super_category=super_category.strip(),
        group=group or (known.group if known else usual_group(super_category)),
        asymmetric=asymmetric or bool(known and known.asymmetric),
        source=known.source if known else "the user's own photographs",
        licence=licence or (known.licence if known else OWNERS),
        images=every[:left],
        masks=known.masks[:left] if known else (),
        heldout=known.heldout if known and known.heldout else every[left:],
        difficulty=known.difficulty if known else "",
    )


def usual_group(super_category: str) -> str:
    """The group that the eleven concepts have for this word; "other", with the shared prompts only,
    for any other.
    """
    groups = {about["super_category"]: about["group"] for about in shipped().values()}
    return groups.get(super_category.strip().lower(), "other")


def images_in(folder: Path) -> list[Path]:
    """The images of a folder; a bad one is named before anything is written."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of images")
    pictures = list_images(folder)
    if not pictures:
        raise UserError(
            f"{folder} has no images (.jpg, .png, .webp, .tif ... directly inside it); name a "
            f"folder that has some"
        )
    return readable(pictures)


def readable(pictures: Sequence[Path]) -> list[Path]:
    """The same files, each decoded once."""
    from benchmarks.suite.image_files import load_image

    for path in pictures:
        load_image(path)
    return list(pictures)


def _moderate(path: Path) -> Any:
    from benchmarks.suite.image_files import load_image

    image = load_image(path)
    image.thumbnail((_long_side(image.size), _long_side(image.size)))
    image.info.clear()  # colour profiles and EXIF, with the place where a phone took it
    return image


def _long_side(size: tuple[int, int]) -> int:
    return round(SHORT_SIDE * max(size) / min(size))


def _publish(about: dict[str, Any], pictures: Sequence[Path], home: Path) -> Concept:
    """The files as a concept folder of the user's, with what the shipped concept.toml says of
    them.
    """
    return write_concept(
        home / about["name"],
        super_category=about["super_category"],
        group=about["group"],
        asymmetric=about.get("asymmetric", False),
        source=about["source"],
        licence=about["licence"],
        images=list(pictures),
    )


def _from_archive(
    url: str, folder: str, home: Path, aside: Path, otherwise: str, pause: float
) -> list[Path]:
    """The images of the folder of that name, wherever it stands in the archive; the archive is kept
    for the others.
    """
    archive = home / "downloads" / Path(urlsplit(url).path).name
    _recorded_download(url, archive, home, pause)

    def wanted(path: PurePosixPath) -> bool:
        return (
            path.parent.name == folder
            and not path.name.startswith(".")
            and "__MACOSX" not in path.parts
        )

    shutil.rmtree(aside, ignore_errors=True)
    found = {path.parent for path in unpack_archive(archive, aside, keep=wanted)}
    if len(found) != 1:
        inside = sorted(
            {path.parent.name for path in names(archive) if "__MACOSX" not in path.parts}
        )
        raise UserError(
            f"{archive.name} has {len(found) or 'no'} folder {folder!r} (it has "
            f"{', '.join(inside[:40])}): {otherwise}"
        )
    return images_in(found.pop())


def _from_files(urls: Sequence[str], home: Path, aside: Path, pause: float) -> list[Path]:
    for url in urls:
        _recorded_download(url, below(aside, Path(urlsplit(url).path).name), home, pause)
    return images_in(aside)


def _hub_files(page: str, home: Path, pause: float) -> list[str]:
    """The image files of a hub data set, by its listing."""
    listing = home / "downloads" / "listing.json"
    download(
        page.replace("/datasets/", "/api/datasets/", 1) + "/tree/main",
        listing,
        limit=10**7,
        pause=pause,
    )
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        files = [str(entry["path"]) for entry in entries if entry["type"] == "file"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{page} does not list its files as the hub does") from None
    finally:
        listing.unlink()
    pictures = [
        path for path in files if Path(path).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    ]
    return [f"{page}/resolve/main/{quote(path)}" for path in sorted(pictures)]


def _recorded_download(url: str, to: Path, home: Path, pause: float) -> None:
    """Download; the first time the sha256 is recorded in `home`/downloads.toml, from then on it
    must be the same.
    """
    record = home / "downloads.toml"
    known = read_toml(record).get("sha256", {}) if record.is_file() else {}
    if to.is_file() and file_sha256(to) == known.get(url):
        return
    known[url] = download(url, to, limit=LIMIT, sha256=known.get(url), pause=pause)
    write_whole(record, toml({"sha256": known}))
