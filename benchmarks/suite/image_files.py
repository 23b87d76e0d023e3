"""Images as people have them. In: a file. Out: upright RGB pixels, or one sentence that names the
file.

Turned as EXIF says, transparency over white, 16 bits and CMYK to 8-bit RGB, at most `KEEP` pixels
on the short side.
"""

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from benchmarks.safe_paths import leads_out
from perfusion_core.errors import UserError

# refused above: no camera that we know of makes more in one frame of a concept photograph
MAX_PIXELS = 120_000_000
KEEP = 2048  # the short side that is kept; twice what the largest backbone looks at
# a second frame here is animation; in MPO (phones) and TIFF it is not
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
# what Pillow's readers raise on damaged files, as thousands of them showed
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    TypeError,
    LookupError,
    ArithmeticError,
    StructError,
)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, RGB."""
    path = Path(path)
    with _open(path) as image:
        picture = _decoded(image, path)
        return as_rgb(picture, path.name)


@dataclass(frozen=True)
class Looked:
    """What one reading of a picture file tells."""

    sha256: str
    bytes: int
    width: int
    height: int
    plain: bool  # a PNG whose pixels are those that `load_image` makes


def look_at(path: Path) -> Looked:
    """The file read once: its digest and size. What is no picture or cut short, and every picture
    that `load_image` would refuse, is one sentence."""
    content = path.read_bytes()
    with _open(path, io.BytesIO(content)) as image:
        (width, height), png = image.size, image.format == "PNG"
        plain = (
            png
            and image.mode in ("1", "L", "P", "RGB")
            and not image.has_transparency_data
            and min(width, height) <= KEEP
            and b"eXIf" not in content  # may turn the picture
        )
        try:
            if png:
                image.verify()  # the checksum of every chunk
            elif image.format == "JPEG" and b"\xff\xd9" not in content[-4096:]:
                raise OSError("its end is missing")
        except BROKEN as error:
            raise _damaged(path, error) from None
    if png and not _png_ends(content):
        raise _damaged(path, "its end is missing")
    with _open(path, io.BytesIO(content)) as image:  # again: verify leaves nothing to decode
        picture = _decoded(image, path)
        if not plain:
            as_rgb(picture, path.name)
    digest = hashlib.sha256(content).hexdigest()
    return Looked(digest, len(content), width, height, plain)


def _png_ends(content: bytes) -> bool:
    return b"IEND" in content[-4096:]


def numbered(folder: Path) -> list[Path]:
    """`0.png`, `1.png`, ... of a folder, in order; no link to a picture outside of it."""
    found = (
        path
        for path in folder.glob("*.png")
        if re.fullmatch(r"\d{1,9}", path.stem) and not leads_out(path)
    )
    return sorted(found, key=lambda path: int(path.stem))


def load_rgb(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the short side resized to `size`, the middle kept."""
    return np.asarray(_square(load_image(path), size))


def frame_of(path: str | os.PathLike[str], size: int) -> tuple[int, int, int, int]:
    """Height and width of a photograph as it was taken, and where `load_rgb` cuts it (top and left)
    once it is scaled.
    """
    path = Path(path)
    with _open(path) as image:
        larger = max(1.0, min(image.size) / KEEP)  # than what is kept of it
        wide, high = _decoded(image, path).size
    scale = size / min(high, wide)
    top, left = (max(0, round(side * scale) - size) // 2 for side in (high, wide))
    return round(high * larger), round(wide * larger), top, left


def load_mask(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """uint8 [size, size], 255 inside the object; the same geometry as `load_rgb`."""
    path = Path(path)
    with _open(path) as image:
        if image.format == "JPEG":
            raise UserError(f"{path.name}: a mask saved as JPEG has blurred edges; save it as PNG")
        picture = _decoded(image, path)
        if picture.mode in ("1", "L"):
            grey = picture.convert("L")
        else:
            grey = as_rgb(picture, path.name).convert("L")
        return np.asarray(_square(grey, size))


def duplicates(paths: Iterable[Path]) -> list[str]:
    """A sentence for each file that shows the same picture as an earlier one: it would weigh twice
    in every score.
    """
    first: dict[str, Path] = {}
    said = []
    for path in paths:
        key = hashlib.sha256(load_rgb(path, 64).tobytes()).hexdigest()
        if key in first:
            said.append(
                f"{path.name} is the same picture as {first[key].name}: it would count twice; "
                f"leave one out"
            )
        first.setdefault(key, path)
    return said


FEW, MANY = 3, 30  # photographs of one thing: methods are made for 4 to 8
SMALL, LONG = 64, 3.0  # pixels of the short side; the long side beside it


def oddities(paths: Sequence[Path]) -> list[str]:
    """A sentence for each thing that a set of photographs can hardly be meant to have."""
    said = []
    if not FEW <= len(paths) <= MANY:
        said.append(f"{len(paths)} pictures; 4 to 8 of one thing are what methods are made for")
    for path in paths:
        picture = load_image(path)
        short, long = sorted(picture.size)
        if short < SMALL:
            said.append(f"{path.name} has a side of {short} pixels, and will be blurred")
        elif long > LONG * short:
            said.append(
                f"{path.name} is {long} x {short}; the square in its middle is what is seen"
            )
        elif is_flat(picture):
            said.append(f"{path.name} is of one colour")
    return said


def is_flat(picture: Image.Image) -> bool:
    """One colour all over: a failed drawing, or what a safety checker leaves."""
    return all(least == most for least, most in picture.getextrema())  # type: ignore[misc]


def passed_over(folder: Path, taken: Iterable[Path]) -> list[str]:
    """The files of a folder that are not taken as pictures: other kinds, broken links."""
    known = {path.name for path in taken}
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.name not in known and not path.name.startswith(".") and not path.is_dir()
    ]


def _open(path: Path, content: io.BytesIO | None = None) -> Image.Image:
    """The file's header read: a known format, one frame, a sane size. `content`: of the file, where
    it was read.
    """
    if not path.exists():
        raise UserError(f"there is no {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image")
    if path.stat().st_size == 0:
        raise UserError(f"{path.name} is empty (0 bytes): copy or download it again")
    try:
        with warnings.catch_warnings():
            # MAX_PIXELS below is our limit
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(content or path)
        frames = getattr(image, "n_frames", 1)  # reads on in the file
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except UnidentifiedImageError:
        raise UserError(_unidentified(path)) from None
    except BROKEN as error:
        raise UserError(f"{path.name} cannot be read as an image: {error}") from None
    refusal = None
    if image.width * image.height > MAX_PIXELS:
        refusal = _too_large(path, image.size)
    elif frames > 1 and image.format in ANIMATED:
        refusal = UserError(
            f"{path.name} is an animation of {frames} frames: save the frame that you want as PNG "
            f"or JPEG"
        )
    if refusal:
        image.close()
        raise refusal
    return image


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path.name} is damaged or cut short: {why}; copy or download it again")


def _too_large(path: Path, size: tuple[int, int] | None = None) -> UserError:
    shown = f"{size[0]} x {size[1]} pixels" if size else "far more pixels than a camera makes"
    return UserError(
        f"{path.name} has {shown}; at most {MAX_PIXELS // 10**6} megapixels are read: make it "
        f"smaller"
    )


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC:
        return (
            f"{path.name} is a HEIC photograph, which is not supported: export it as JPEG "
            "(on an iPhone: Settings > Camera > Formats > Most Compatible)"
        )
    return (
        f"{path.name} is not an image that can be read (it starts with {start[:8]!r}): use "
        f"PNG, JPEG, WebP or TIFF"
    )


def _decoded(image: Image.Image, path: Path) -> Image.Image:
    """All pixels read, upright, short side at most KEEP; JPEG is decoded small, so a huge
    photograph stays cheap.
    """
    scale = min(image.size) / KEEP
    if scale > 1:
        # no-op beside JPEG
        image.draft(image.mode, (round(image.width / scale), round(image.height / scale)))
    try:
        image.load()
        # after load: TIFF turns itself
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except BROKEN as error:
        raise _damaged(path, error) from None
    scale = min(image.size) / KEEP
    if scale > 1:
        if image.mode in ("P", "PA", "1"):  # a palette cannot be averaged
            image = image.convert("L" if image.mode == "1" else "RGBA")
        image = image.resize(
            (round(image.width / scale), round(image.height / scale)), Image.Resampling.BOX
        )
    return image if turn is None else image.transpose(turn)


def as_rgb(image: Image.Image, name: str = "the picture") -> Image.Image:
    """Any of Pillow's modes as 8-bit RGB."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"{name} has 32 bits a pixel: save it with 8 or 16")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F" or image.mode == "LAB":
        raise UserError(f"{name} is stored as {image.mode} pixels: save it as ordinary 8-bit RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
