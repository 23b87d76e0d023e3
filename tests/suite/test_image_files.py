"""Images as people have them: each works, or gives one sentence with the file's name. Every file is
made here.
"""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import cli
from benchmarks.suite.image_files import (
    KEEP,
    duplicates,
    frame_of,
    load_image,
    load_mask,
    load_rgb,
)
from perfusion_core.errors import UserError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(size=(40, 20), left=RED, right=BLUE):
    """A wide picture, left half one colour, right half another: turns and mirrors show."""
    picture = Image.new("RGB", size, right)
    picture.paste(left, (0, 0, size[0] // 2, size[1]))
    return picture


def png_of(width, height, rows=b""):
    """A PNG header for any size, with next to no data: what a decompression bomb looks like."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in (*chunks, (b"IEND", b"")):
        out += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return out


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def rotated(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return saved(halves(), "JPEG", exif=exif, quality=95, subsampling=0)


def rgba():
    picture = Image.new("RGBA", (40, 20), (*RED, 255))
    picture.paste((0, 0, 0, 0), (20, 0, 40, 20))
    return picture


def sixteen_bits():
    return Image.fromarray(np.repeat([[0, 128 * 257, 65535]], 3, axis=0).astype(np.uint16))


def phone_mpo():
    """What some phones call .jpg: a main picture with a second, small one behind it."""
    return saved(
        halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=95
    )


# file name, its bytes, and the colours expected at the left and right end (of the middle row) after
# loading
WORKS = {
    "plain": ("a.png", saved(halves(), "PNG"), (RED, BLUE)),
    "jpeg": ("a.JPG", saved(halves(), "JPEG", quality=95, subsampling=0), (RED, BLUE)),
    "EXIF: upside down": ("turned.jpg", rotated(3), (BLUE, RED)),
    "EXIF: mirrored": ("mirrored.jpg", rotated(2), (BLUE, RED)),
    "RGBA over white": ("logo.png", saved(rgba(), "PNG"), (RED, WHITE)),
    "LA over white": ("grey.png", saved(rgba().convert("LA"), "PNG"), ((76,) * 3, WHITE)),
    "palette": (
        "p.png",
        saved(halves().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        (RED, BLUE),
    ),
    "palette with a clear colour": ("t.gif", saved(rgba(), "GIF"), (RED, WHITE)),
    "greyscale": (
        "l.jpg",
        saved(halves().convert("L"), "JPEG", quality=95),
        ((76,) * 3, (29,) * 3),
    ),
    "one bit": (
        "one.png",
        saved(halves((40, 20), (0, 0, 0), WHITE).convert("1"), "PNG"),
        ((0,) * 3, WHITE),
    ),
    "16 bits": ("deep.png", saved(sixteen_bits(), "PNG"), ((0,) * 3, WHITE)),
    "16-bit TIFF": ("deep.tif", saved(sixteen_bits(), "TIFF"), ((0,) * 3, WHITE)),
    "CMYK": (
        "print.jpg",
        saved(halves().convert("CMYK"), "JPEG", quality=95, subsampling=0),
        (RED, BLUE),
    ),
    "WebP": ("w.webp", saved(halves(), "WEBP", lossless=True), (RED, BLUE)),
    "GIF of one frame": ("still.gif", saved(halves(), "GIF"), (RED, BLUE)),
    "phone JPEG with a second picture": ("IMG_0001.jpg", phone_mpo(), (RED, BLUE)),
    "wrong suffix": ("really_png.jpg", saved(halves(), "PNG"), (RED, BLUE)),
    "spaces and unicode": ("Чайник на столе (2).png", saved(halves(), "PNG"), (RED, BLUE)),
}

FRAMES = [halves(), halves(left=BLUE, right=RED)]
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)

# file name, its bytes, and words of the one sentence that the user gets
REFUSED = {
    "HEIC": ("IMG_0002.heic", HEIC, "HEIC photograph"),
    "HEIC called jpg": ("IMG_0003.jpg", HEIC, "HEIC photograph"),
    "animated GIF": (
        "cat.gif",
        saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
        "animation of 2",
    ),
    "animated WebP": (
        "c.webp",
        saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        "animation of 2",
    ),
    "animated PNG": (
        "c.png",
        saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        "animation of 2",
    ),
    "truncated JPEG": (
        "half.jpg",
        saved(halves((400, 300)), "JPEG")[:-900],
        "damaged or cut short",
    ),
    "truncated PNG": (
        "half.png",
        saved(Image.effect_noise((200, 200), 90), "PNG")[:9000],
        "damaged or cut short",
    ),
    "zero bytes": ("none.jpg", b"", "is empty"),
    "text called jpg": ("notes.jpg", b"dear diary, today I photographed a teapot", "not an image"),
    "web page called png": ("page.png", b"<!DOCTYPE html><html></html>", "not an image"),
    "decompression bomb": ("bomb.png", png_of(60_000, 60_000), "at most 120 megapixels"),
    "bomb under Pillow's own limit": (
        "bomb2.png",
        png_of(12_000, 12_000),
        "at most 120 megapixels",
    ),
    "32-bit floats": ("float.tif", saved(Image.new("F", (9, 9)), "TIFF"), "8-bit RGB"),
    "LAB": ("lab.tif", saved(Image.new("LAB", (9, 9)), "TIFF"), "8-bit RGB"),
}


@pytest.mark.parametrize("case", WORKS)
def test_what_people_have_works(case, tmp_path):
    name, data, (left, right) = WORKS[case]
    (tmp_path / name).write_bytes(data)
    picture = load_image(tmp_path / name)
    assert picture.mode == "RGB"
    pixels = np.asarray(picture).astype(int)
    row = pixels[pixels.shape[0] // 2]
    # JPEG is not exact
    assert np.abs(row[0] - left).max() <= 6 and np.abs(row[-1] - right).max() <= 6
    assert load_rgb(tmp_path / name, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_gives_one_sentence(case, tmp_path, capsys, monkeypatch):
    """Through the command: exit status 2, the file's name, nothing written."""
    name, data, words = REFUSED[case]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.png").write_bytes(saved(halves(), "PNG"))
    (photos / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        cli.run(
            [
                "concepts",
                "add",
                str(photos),
                "--super-category",
                "teapot",
                "--dest",
                str(tmp_path / "to"),
            ]
        )
    sentence = str(error.value)
    assert name in sentence and words in sentence and "\n" not in sentence
    assert not (tmp_path / "to").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, of damaged metadata
@pytest.mark.parametrize("case", WORKS)
def test_damaged_files_never_give_a_traceback(case, tmp_path):
    """Each file cut, overwritten and with bytes taken out, at random places: it loads, or gives one
    sentence.
    """
    name, data, _ = WORKS[case]
    rng = np.random.default_rng(0)
    for number in range(40):
        damaged, place = bytearray(data), int(rng.integers(len(data)))
        if number % 3 == 0:
            del damaged[place:]
        elif number % 3 == 1:
            del damaged[place : place + int(rng.integers(1, 40))]
        else:
            for where in rng.integers(0, len(data), 6):
                damaged[where] = rng.integers(256)
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(damaged)
        try:
            assert load_image(path).mode == "RGB"
        except UserError as error:
            assert path.name in str(error)


def test_sixteen_bits_keep_their_middle(tmp_path):
    sixteen_bits().save(tmp_path / "deep.png")
    assert np.asarray(load_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 128, 255]


def test_quarter_turn_changes_the_shape(tmp_path):
    """Orientation 6: the camera was held upright; what is stored left is on top."""
    (tmp_path / "up.jpg").write_bytes(rotated(6))
    picture = load_image(tmp_path / "up.jpg")
    assert picture.size == (20, 40)
    top, bottom = np.asarray(picture)[[2, -3], 10].astype(int)
    assert abs(top - RED).max() <= 6 and abs(bottom - BLUE).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_all_eight_orientations(orientation, kind, tmp_path):
    """Against Pillow's own exif_transpose, on a picture without symmetry; also where it is made
    smaller.
    """
    exif = Image.Exif()
    exif[274] = orientation
    picture = halves((60, 40))
    picture.paste((0, 255, 0), (0, 0, 60, 10))
    for size in ((60, 40), (KEEP + 300, KEEP + 100)) if kind == "TIFF" else ((60, 40),):
        path = tmp_path / f"{size[0]}.{kind}"
        picture.resize(size).save(
            path, kind, exif=exif, **({"quality": 100} if kind in ("JPEG", "WEBP") else {})
        )
        expected = ImageOps.exif_transpose(Image.open(path).convert("RGB")).resize((24, 24))
        assert (
            np.abs(
                np.asarray(load_image(path).resize((24, 24))).astype(int) - np.asarray(expected)
            ).max()
            <= 12
        )


def test_square_keeps_the_middle(tmp_path):
    """A 3:1 picture of three colours: the crop is the middle third, for images and masks alike."""
    thirds = Image.new("RGB", (90, 30), RED)
    thirds.paste(WHITE, (30, 0, 60, 30))
    thirds.paste(BLUE, (60, 0, 90, 30))
    thirds.save(tmp_path / "thirds.png")
    mask = Image.new("L", (90, 30), 0)
    mask.paste(255, (30, 0, 60, 30))
    mask.save(tmp_path / "mask.png")
    assert (load_rgb(tmp_path / "thirds.png", 30) == 255).all()
    assert (load_mask(tmp_path / "mask.png", 30) == 255).all()
    # smaller: resized before it is cropped
    assert load_rgb(tmp_path / "thirds.png", 12).shape == (12, 12, 3)
    assert load_mask(tmp_path / "mask.png", 12)[6].min() > 200


def test_masks_of_other_kinds(tmp_path):
    inside = np.zeros((20, 20), np.uint8)
    inside[5:15, 5:15] = 255
    Image.fromarray(inside).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(np.stack([inside] * 3, -1)).save(tmp_path / "rgb.png")
    for name in ("bits.png", "rgb.png"):
        assert (load_mask(tmp_path / name, 20) == inside).all()
    Image.fromarray(inside).save(tmp_path / "m.jpg")
    with pytest.raises(UserError, match=r"m\.jpg.*PNG"):
        load_mask(tmp_path / "m.jpg", 20)


@pytest.mark.parametrize(
    "mode, kind", [("RGB", "png"), ("P", "png"), ("1", "png"), ("I;16", "png"), ("RGBA", "webp")]
)
def test_large_pictures_are_made_smaller(mode, kind, tmp_path):
    picture = Image.new("RGB", (KEEP + 400, KEEP + 10), RED)
    if mode == "I;16":
        picture = Image.fromarray(np.full((KEEP + 10, KEEP + 400), 65535, np.uint16))
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / f"large.{kind}")
    small = load_image(tmp_path / f"large.{kind}")
    assert min(small.size) == KEEP and max(small.size) == round((KEEP + 400) * KEEP / (KEEP + 10))
    expected = {"RGB": RED, "P": RED, "RGBA": RED, "1": (0, 0, 0), "I;16": WHITE}[mode]
    assert np.abs(np.asarray(small)[5, 5].astype(int) - expected).max() <= (
        90 if mode == "1" else 2
    )  # 1: dithered


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc"
)
def test_a_60_megapixel_photograph_needs_little_memory(tmp_path):
    """In a process of its own: the peak grows by much less than all pixels would take."""
    path = tmp_path / "huge.jpg"
    Image.new("RGB", (9000, 6700), RED).save(path, quality=90)
    measure = (  # VmHWM: the peak of this program alone; ru_maxrss would begin with the parent's
        "import re, sys\n"
        "from benchmarks.suite.image_files import load_image\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', "
        "open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "size = load_image(sys.argv[1]).size\n"
        "print(min(size), peak() - before)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", measure, str(path)], capture_output=True, text=True, check=True
    )
    side, grown = map(int, answer.stdout.split())
    assert side == KEEP
    assert grown < 150_000, "kB; all pixels, as Pillow holds them, are 241 MB"


def test_duplicates_are_found_across_formats(tmp_path):
    halves().save(tmp_path / "a.png")
    halves().save(tmp_path / "b.tif")
    halves(left=WHITE).save(tmp_path / "c.png")
    said = duplicates(sorted(tmp_path.iterdir()))
    assert len(said) == 1 and "b.tif" in said[0] and "a.png" in said[0]


@pytest.mark.parametrize("given", ["missing.jpg", "."])
def test_paths_that_are_no_file(given, tmp_path):
    with pytest.raises(UserError, match=r"there is no|is a folder"):
        load_image(tmp_path / given)


def test_no_torch():
    rooms = "suite.image_files suite.catalog suite.importers suite.download running.listing"
    modules = ", ".join(f"benchmarks.{room}" for room in rooms.split())
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).resolve().parent.parent.parent
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert answer.stdout.strip() == "False"


def test_a_frame_is_of_the_photograph_as_it_was_taken(tmp_path):
    """Its size, and the cut of `load_rgb` once it is scaled; turned as it says, and large."""
    halves().save(tmp_path / "wide.png")
    assert frame_of(tmp_path / "wide.png", 10) == (20, 40, 0, 5)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter
    halves().save(tmp_path / "turned.jpg", exif=turned)
    assert frame_of(tmp_path / "turned.jpg", 10) == (40, 20, 5, 0)
    Image.new("RGB", (2 * KEEP, 3 * KEEP)).save(tmp_path / "large.jpg")
    assert frame_of(tmp_path / "large.jpg", 8) == (3 * KEEP, 2 * KEEP, 2, 0)
