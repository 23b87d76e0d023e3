"""Downloads and archives, against a server on the loopback that misbehaves as servers do, and
archives made here.
"""

import gzip
import hashlib
import io
import json
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from benchmarks import cli
from benchmarks.suite import download as fetch
from benchmarks.suite import photographs
from benchmarks.suite.catalog import load_catalog
from benchmarks.suite.concept_folder import read_concept, write_concept
from benchmarks.suite.download import download, names, unpack_archive
from perfusion_core.errors import UserError

BODY = bytes(range(256)) * 2000  # 512,000 bytes, no two blocks of a download alike


class Server:
    """Serves `files`; `plan` says of each path how the next answers go wrong. Remembers what was
    asked for.
    """

    def __init__(self):
        self.files, self.plan, self.asked, self.etag, self.ranges = {}, {}, [], '"v1"', True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        steps = self.plan.get(request.path, [])
        step = steps.pop(0) if steps else {}
        body = self.files.get(request.path)
        if "redirect" in step:
            request.send_response(302)
            request.send_header("Location", step["redirect"])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        status = step.get("status", 200 if body is not None else 404)
        if status != 200:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.etag:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        request.send_response(status)
        if step.get("length", True):
            request.send_header("Content-Length", str(len(body) - start))
        else:
            request.send_header("Connection", "close")
        if self.etag:
            request.send_header("ETag", self.etag)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        request.wfile.write(body[start : step.get("cut", len(body))])
        if "cut" in step or not step.get("length", True):
            request.close_connection = True
            request.wfile.flush()


@pytest.fixture
def server():
    made = Server()
    made.files["/a.bin"] = BODY
    yield made
    made.http.shutdown()
    made.http.server_close()


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- download ----


def test_download(server, tmp_path):
    digest = download(f"{server.url}/a.bin", tmp_path / "deep" / "a.bin", limit=10**6)
    assert (tmp_path / "deep" / "a.bin").read_bytes() == BODY
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert left_over(tmp_path / "deep") == ["a.bin"]


def test_goes_on_after_a_broken_connection(server, tmp_path):
    """Within one call: the second answer is asked for the rest only."""
    server.plan["/a.bin"] = [{"cut": 200_000}]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [asked[1] for asked in server.asked] == [None, "bytes=200000-"]


def test_goes_on_in_a_second_call(server, tmp_path):
    server.plan["/a.bin"] = [{"cut": 200_000}]
    with pytest.raises(UserError, match="goes on from where it stopped"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, attempts=1)
    assert left_over(tmp_path) == ["a.bin.part", "a.bin.part.tag"]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, attempts=1)
    assert (tmp_path / "a.bin").read_bytes() == BODY and left_over(tmp_path) == ["a.bin"]
    assert server.asked[1][1] == "bytes=200000-"


@pytest.mark.parametrize("change", ["another file", "no ranges", "no tag"])
def test_starts_anew_where_the_rest_would_not_fit(change, server, tmp_path):
    if change == "no tag":
        server.etag = ""
    server.plan["/a.bin"] = [{"cut": 200_000}]
    with pytest.raises(UserError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, attempts=1)
    server.files["/a.bin"] = BODY[::-1]
    if change == "another file":
        server.etag = '"v2"'
    if change == "no ranges":
        server.ranges = False
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6)
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]


def test_complete_part_left_by_a_kill(server, tmp_path):
    """Killed between the last byte and the rename: the server answers 416 to a range behind the
    end.
    """
    (tmp_path / "a.bin.part").write_bytes(BODY)
    (tmp_path / "a.bin.part.tag").write_text('"v1"')
    server.plan["/a.bin"] = [{"status": 416}]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_server_errors_are_tried_again(server, tmp_path):
    server.plan["/a.bin"] = [{"status": 503}, {"status": 500}]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, pause=0)
    assert len(server.asked) == 3
    with pytest.raises(UserError, match="answers 404 Not Found"):
        download(f"{server.url}/none.bin", tmp_path / "b", limit=10**6, pause=0)
    assert len(server.asked) == 4, "a missing file is not asked for twice"


@pytest.mark.parametrize("told", [True, False])
def test_size_limit(told, server, tmp_path):
    """Where the server tells the length, at once; where not, after as many bytes as are allowed."""
    server.plan["/a.bin"] = [{"length": told}]
    with pytest.raises(UserError, match=r"more than the 0\.1 MB"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=100_000)
    assert left_over(tmp_path) == []


def test_wrong_sha256(server, tmp_path):
    with pytest.raises(UserError, match="not the recorded file"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, sha256="0" * 64)
    assert left_over(tmp_path) == []


def test_a_corrupted_part_is_caught_by_the_sha256(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.bin.part.tag").write_text('"v1"')
    digest = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(UserError, match="nothing was kept"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, sha256=digest)
    download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, sha256=digest)


@pytest.mark.parametrize(
    "url", ["http://example.org/a.zip", "ftp://127.0.0.1/a", "file:///etc/passwd", "a.zip"]
)
def test_only_https(url, tmp_path):
    with pytest.raises(UserError, match="not an https address"):
        download(url, tmp_path / "a", limit=10**6)
    assert left_over(tmp_path) == []


def test_redirects_stay_on_safe_addresses(server, tmp_path):
    server.plan["/old.bin"] = [
        {"redirect": f"{server.url}/a.bin"},
        {"redirect": "http://example.org/a.bin"},
    ]
    download(f"{server.url}/old.bin", tmp_path / "a.bin", limit=10**6)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    with pytest.raises(UserError, match=r"example\.org.*not an https address"):
        download(f"{server.url}/old.bin", tmp_path / "b.bin", limit=10**6)


def test_no_server(server, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match="cannot be read"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", limit=10**6, attempts=2, pause=0)


# ---- archives ----


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data, **options)
    return path


def tarred(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def tar_entry(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_link(path):
    info = zipfile.ZipInfo("images/evil")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, "/etc/passwd")
    return path


GOOD = [
    ("data/cat/1.jpg", b"one"),
    ("data/cat/2.jpg", b"two"),
    ("data/dog/1.jpg", b"three"),
    ("readme.txt", b"hello"),
]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_unpack(kind, tmp_path):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, GOOD)
    else:
        tarred(archive, GOOD, "w:" + kind.removeprefix("tar").removeprefix("."))
    written = unpack_archive(archive, tmp_path / "to", keep=lambda path: path.parent.name == "cat")
    assert [path.relative_to(tmp_path / "to").as_posix() for path in written] == [
        "data/cat/1.jpg",
        "data/cat/2.jpg",
    ]
    assert [path.read_bytes() for path in written] == [b"one", b"two"]
    assert [str(name) for name in names(archive)] == [name for name, _ in GOOD]


def sneaky(kind, path):
    """An archive that tries to leave its folder, made with the first, harmless member in front."""
    first = ("cat/1.jpg", b"one")
    entries = {
        "zip ..": lambda: zipped(path, [first, ("../evil.txt", b"x")]),
        "zip inner ..": lambda: zipped(path, [first, ("cat/../../evil.txt", b"x")]),
        "zip absolute": lambda: zipped(path, [first, ("/tmp/evil.txt", b"x")]),
        "zip backslash": lambda: zipped(path, [first, ("cat\\..\\..\\evil.txt", b"x")]),
        "zip drive": lambda: zipped(path, [first, ("C:/evil.txt", b"x")]),
        "zip link": lambda: zip_link(path),
        "tar ..": lambda: tarred(path, [first, ("../evil.txt", b"x")]),
        "tar absolute": lambda: tarred(path, [first, ("/tmp/evil.txt", b"x")]),
        "tar link": lambda: tarred(
            path, [first, (tar_entry("cat/evil", tarfile.SYMTYPE, "/etc"), b"")]
        ),
        "tar hard link": lambda: tarred(
            path, [first, (tar_entry("cat/evil", tarfile.LNKTYPE, "/etc/passwd"), b"")]
        ),
        "tar device": lambda: tarred(path, [first, (tar_entry("cat/evil", tarfile.CHRTYPE), b"")]),
        "tar pipe": lambda: tarred(path, [first, (tar_entry("cat/evil", tarfile.FIFOTYPE), b"")]),
        "link, then through it": lambda: tarred(
            path, [(tar_entry("cat", tarfile.SYMTYPE, "../outside"), b""), ("cat/evil.txt", b"x")]
        ),
        "file and folder": lambda: zipped(path, [("cat", b"x"), ("cat/evil.txt", b"x")]),
    }
    return entries if kind is None else entries[kind]()


@pytest.mark.parametrize("kind", sneaky(None, None))
def test_archives_that_would_write_elsewhere(kind, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").mkdir()
    archive = tmp_path / "in" / "photos.archive"
    sneaky(kind, archive)
    with pytest.raises(UserError) as error:
        unpack_archive(archive, tmp_path / "in" / "to")
    assert "photos.archive" in str(error.value) and "\n" not in str(error.value)
    files = [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert files == [archive], "neither outside nor inside"


def lying_zip(path):
    """A member that declares 10 bytes and holds 10 million."""
    zipped(path, [("cat/1.jpg", bytes(10**7))])
    data = path.read_bytes()
    path.write_bytes(data.replace((10**7).to_bytes(4, "little"), (10).to_bytes(4, "little")))


def test_bombs(tmp_path):
    zipped(tmp_path / "bomb.zip", [(f"cat/{i}.jpg", bytes(10**6)) for i in range(30)])
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"bomb\.zip unpacks to more than 5\.0 MB"):
        unpack_archive(tmp_path / "bomb.zip", tmp_path / "to", limit=5 * 10**6)
    tarred(tmp_path / "bomb.tgz", [("cat/1.jpg", bytes(3 * 10**7))])
    with pytest.raises(UserError, match=r"bomb\.tgz unpacks to more than"):
        unpack_archive(tmp_path / "bomb.tgz", tmp_path / "to", limit=5 * 10**6)
    lying_zip(tmp_path / "lies.zip")
    with pytest.raises(UserError, match=r"lies\.zip is damaged"):
        unpack_archive(tmp_path / "lies.zip", tmp_path / "to", limit=5 * 10**6)
    assert (
        sum(path.stat().st_size for path in (tmp_path / "to").rglob("*") if path.is_file())
        <= 5 * 10**6
    )


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_FILES", 50)
    zipped(tmp_path / "many.zip", [(f"cat/{i}.jpg", b"") for i in range(60)])
    with pytest.raises(UserError, match="or 50 files"):
        unpack_archive(tmp_path / "many.zip", tmp_path / "to")
    assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]


def locked_zip():
    """One stored member with the password flag set in both headers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("cat/1.jpg", b"secret")
    data = bytearray(out.getvalue())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("page.zip", b"<!DOCTYPE html>", "is not a zip or tar archive"),
        ("empty.zip", b"", "is not a zip or tar archive"),
        ("locked.zip", locked_zip(), "locked by a password"),
        ("short.tar.gz", gzip.compress(bytes(range(256)) * 40)[:300], "tar archive"),
    ],
)
def test_broken_archives(name, data, words, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        unpack_archive(tmp_path / name, tmp_path / "to")
    assert name in str(error.value) and words in str(error.value)


def test_truncated_archives(tmp_path):
    noise = [(f"cat/{i}.jpg", Image.effect_noise((64, 64), 90).tobytes()) for i in range(9)]
    for archive in (zipped(tmp_path / "t.zip", noise), tarred(tmp_path / "t.tgz", noise)):
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
        with pytest.raises(UserError, match=archive.name):
            unpack_archive(archive, tmp_path / "to")
        assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]


# ---- the photographs' catalogue ----


def jpeg(seed, size=(60, 40)):
    out = io.BytesIO()
    Image.new("RGB", size, (seed * 20 % 256, 90, 30)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def home(server, tmp_path, monkeypatch):
    """The shipped catalogue with its addresses moved to the loopback; the user's data in a
    temporary folder.
    """
    shipped = photographs.shipped()
    archive = zipped(
        tmp_path / "data.zip",
        [(f"data/{name}/{i}.jpg", jpeg(i)) for name in ("cat", "wooden_pot") for i in (2, 10, 1)]
        + [("__MACOSX/data/cat/._1.jpg", b"x"), ("data/cat/.DS_Store", b"x")],
    )
    server.files["/data.zip"] = archive.read_bytes()
    for about in shipped.values():
        source = about["fetch"]
        if "archive" in source:
            source["archive"] = f"{server.url}/data.zip"
        if "files" in source:
            source["files"] = [
                f"{server.url}/{about['name']}/{url.rsplit('/')[-1]}" for url in source["files"]
            ]
            server.files |= {
                f"/{about['name']}/{i:02d}.jpg": jpeg(i) for i in range(len(source["files"]))
            }
        if "hub" in source:
            source["hub"] = f"{server.url}/datasets/diffusers/cat_toy_example"
            paths = ["b 2.jpeg", "a.jpeg", ".gitattributes", "README.md"]
            listing = [{"type": "file", "path": path} for path in paths] + [
                {"type": "directory", "path": "x"}
            ]
            server.files["/api/datasets/diffusers/cat_toy_example/tree/main"] = json.dumps(
                listing
            ).encode()
            for i, path in enumerate(("b%202.jpeg", "a.jpeg")):
                server.files[f"/datasets/diffusers/cat_toy_example/resolve/main/{path}"] = jpeg(
                    i + 3
                )
    monkeypatch.setattr(photographs, "shipped", lambda: shipped)
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "user"))
    return tmp_path / "user" / "photos"


def test_fetch_by_the_command(home, server, capsys):
    """An archive once for two concepts, single files, a hub data set; what has no address is told,
    status 1.
    """
    assert cli.run(["concepts", "fetch", "cat,pot,puppy,cat_toy,sculpture"]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["cat", "pot", "puppy", "cat_toy"]
    assert (
        "licence: Unsplash" in err
        and "perfbench concepts adopt sculpture DIR" in err
        and "github.com/rinongal/textual_inversion" in err
    )
    assert sum(path == "/data.zip" for path, _ in server.asked) == 1
    concepts = {concept.name: concept for concept in load_catalog("photos").concepts}
    assert {
        name: len(concepts[name].images) for name in ("cat", "pot", "puppy", "cat_toy", "dog")
    } == {"cat": 3, "pot": 3, "puppy": 5, "cat_toy": 2, "dog": 0}
    assert [path.read_bytes() for path in concepts["puppy"].images] == [
        jpeg(i) for i in range(5)
    ], "as they are"
    assert "__MACOSX" not in str(concepts["cat"].images)
    assert not [path for path in (home / "downloads").iterdir() if path.is_dir()]


def test_fetched_once_verified_from_then_on(home, server):
    first = photographs.fetch_photographs("puppy", home)
    asked = len(server.asked)
    assert photographs.fetch_photographs("puppy", home) == first and len(server.asked) == asked, (
        "what is here is not fetched again"
    )
    first.images[0].write_bytes(jpeg(99))
    with pytest.raises(UserError, match=r"00\.jpg is not the file that concept\.toml records"):
        photographs.fetch_photographs("puppy", home)
    # removed and fetched again: the address must still give the file that was recorded the first
    # time
    for path in (*first.images, home / "puppy" / "concept.toml"):
        path.unlink()
    (home / "puppy" / "images").rmdir()
    (home / "puppy").rmdir()
    server.files["/puppy/00.jpg"] = jpeg(77)
    with pytest.raises(UserError, match="not the recorded file"):
        photographs.fetch_photographs("puppy", home, pause=0)
    server.files["/puppy/00.jpg"] = jpeg(0)
    assert photographs.fetch_photographs("puppy", home).digest == first.digest


def test_fetch_goes_on_after_an_interruption(home, server):
    server.plan["/puppy/03.jpg"] = [{"status": 404}]
    with pytest.raises(UserError, match="404"):
        photographs.fetch_photographs("puppy", home)
    assert not (home / "puppy").exists(), "complete or not at all"
    photographs.fetch_photographs("puppy", home)
    assert sum(path == "/puppy/00.jpg" for path, _ in server.asked) == 1


def test_a_folder_that_the_archive_lacks(home):
    with pytest.raises(UserError) as error:
        photographs.fetch_photographs("teddy", home)
    assert "no folder 'teddybear'" in str(error.value) and "cat, wooden_pot" in str(error.value)
    assert (
        "perfbench concepts adopt teddy DIR" in str(error.value) and not (home / "teddy").exists()
    )


def test_a_hub_that_answers_otherwise(home, server):
    server.files["/api/datasets/diffusers/cat_toy_example/tree/main"] = b"<html>sign in</html>"
    with pytest.raises(UserError, match="does not list its files as the hub does"):
        photographs.fetch_photographs("cat_toy", home)


def test_a_damaged_photograph_is_named(home, server):
    server.files["/puppy/02.jpg"] = jpeg(2)[:-20]
    with pytest.raises(UserError, match=r"02\.jpg is damaged"):
        photographs.fetch_photographs("puppy", home)
    assert not (home / "puppy").exists()


def test_fetch_to_a_chosen_folder(home, tmp_path, capsys):
    assert cli.run(["concepts", "fetch", "cat", "--dest", str(tmp_path / "mine")]) == 0
    assert [concept.name for concept in load_catalog(tmp_path / "mine").select_concepts()] == [
        "cat"
    ]
    assert not home.exists()


def test_adopt(home, tmp_path, capsys):
    have = tmp_path / "Downloads" / "headless statue"
    have.mkdir(parents=True)
    for i in (1, 2):
        (have / f"IMG {i}.JPG").write_bytes(jpeg(i))
    (have / "again.jpg").write_bytes(jpeg(1))
    assert cli.run(["concepts", "adopt", "sculpture", str(have)]) == 0
    out, err = capsys.readouterr()
    assert "sculpture: 3 images of a sculpture" in out
    assert "same picture" in err
    concept = read_concept(home / "sculpture")
    assert concept.images[0].read_bytes() == jpeg(1) and "Textual Inversion" in concept.source
    with pytest.raises(UserError, match="exists already"):
        cli.run(["concepts", "adopt", "sculpture", str(have)])
    with pytest.raises(UserError, match="has no images"):
        cli.run(["concepts", "adopt", "cat", str(tmp_path / "Downloads")])


# ---- a user's own photographs ----


def phone_photo(path, size=(3000, 4000)):
    """A JPEG with the camera's orientation and the place where it was taken."""
    exif = Image.Exif()
    exif[274] = 6
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    exif[271] = "Maker of phones"
    Image.new("RGB", size, (200, 120, 40)).save(path, exif=exif)


def test_add_makes_upright_moderate_copies_without_metadata(home, tmp_path, capsys):
    have = tmp_path / "My Teapot (2)"
    have.mkdir()
    phone_photo(have / "IMG_1.jpg")
    Image.new("RGB", (300, 200), (1, 2, 3)).save(have / "small.webp", lossless=True)
    assert cli.run(["concepts", "add", str(have), "--super-category", "teapot"]) == 0
    out, err = capsys.readouterr()
    assert "my_teapot_2: 2 images of a teapot" in out
    assert "perfbench run" in err and "--concepts my_teapot_2" in err
    concept = load_catalog("photos").concept("my_teapot_2")
    assert concept.group == "container"
    first, second = (Image.open(path) for path in concept.images)
    assert first.size == (1366, 1024) and second.size == (300, 200)
    for picture in (first, second):
        picture.load()
        assert (
            picture.format == "PNG"
            and picture.mode == "RGB"
            and not picture.getexif()
            and not picture.info
        )
    assert b"Maker of phones" not in concept.images[0].read_bytes()
    assert sorted(path.name for path in have.iterdir()) == ["IMG_1.jpg", "small.webp"], (
        "the originals stay"
    )


def test_a_concept_under_another_word_keeps_its_images_and_masks(tmp_path, capsys):
    old = load_catalog("miniature").concept("pot")
    folder = old.images[0].parent.parent
    words = ["concepts", "add", str(folder), "--super-category", "clock", "--name", "pot_as_clock"]
    assert cli.run([*words, "--dest", str(tmp_path)]) == 0
    new = read_concept(tmp_path / "pot_as_clock")
    assert (new.super_category, new.group, new.licence) == ("clock", old.group, old.licence)
    for before, after in ((old.images, new.images), (old.masks, new.masks)):
        assert [path.read_bytes() for path in after] == [path.read_bytes() for path in before]
    assert new.digest != old.digest, "another thing to learn"


def test_add_says_which_prompts_it_gets(home, tmp_path, capsys):
    (tmp_path / "boat").mkdir()
    phone_photo(tmp_path / "boat" / "a.jpg", (64, 64))
    words = [
        "concepts",
        "add",
        str(tmp_path / "boat"),
        "--super-category",
        "boat",
        "--dest",
        str(tmp_path / "shelf"),
    ]
    assert cli.run(words) == 0
    assert "19 prompts" in capsys.readouterr().err
    concept = read_concept(tmp_path / "shelf" / "boat")
    assert (
        concept.group == "other"
        and len(load_catalog(tmp_path / "shelf").prompts_for(concept)) == 19
    )
    with pytest.raises(UserError, match="exists already"):
        cli.run(words)
    assert cli.run([*words, "--name", "my_boat", "--group", "wearable", "--asymmetric"]) == 0
    assert read_concept(tmp_path / "shelf" / "my_boat").asymmetric


@pytest.mark.parametrize(
    "more, words",
    [
        (["--name", "teapot"], "one of the eleven"),
        (["--super-category", "{}"], "is not a word"),
        (["--super-category", " "], "is not a word"),
        (["--group", "vessel"], "invalid choice"),
    ],
)
def test_add_refuses(more, words, home, tmp_path):
    (tmp_path / "pics").mkdir()
    phone_photo(tmp_path / "pics" / "a.jpg", (64, 64))
    with pytest.raises(UserError, match=words):
        cli.run(["concepts", "add", str(tmp_path / "pics"), "--super-category", "pot", *more])
    assert not home.parent.exists()


def test_a_folder_whose_name_has_no_letter(home, tmp_path):
    (tmp_path / "чайник").mkdir()
    phone_photo(tmp_path / "чайник" / "фото 1.jpg", (64, 64))
    with pytest.raises(UserError, match=r"cannot be named 'чайник'.*--name"):
        cli.run(["concepts", "add", str(tmp_path / "чайник"), "--super-category", "teapot"])
    assert (
        cli.run(
            [
                "concepts",
                "add",
                str(tmp_path / "чайник"),
                "--super-category",
                "teapot",
                "--name",
                "kettle",
            ]
        )
        == 0
    )


def test_warnings_of_add_name_the_users_own_files(home, tmp_path, capsys):
    (tmp_path / "pics").mkdir()
    for name in ("IMG_1.jpg", "IMG_1 (1).jpg"):
        phone_photo(tmp_path / "pics" / name, (64, 64))
    assert cli.run(["concepts", "add", str(tmp_path / "pics"), "--super-category", "tea pot"]) == 0
    said = capsys.readouterr().err
    assert (
        "IMG_1.jpg is the same picture as IMG_1 (1).jpg" in said
        and "'tea pot' is several words" in said
    )


def test_what_can_hardly_be_meant_is_told(home, tmp_path, capsys):
    """By their names; nothing is refused, because a thing may be seen once, and small."""
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.effect_noise((40, 200), 50).convert("RGB").save(folder / "small.png")
    Image.effect_noise((900, 100), 50).convert("RGB").save(folder / "long.png")
    for name in ("raw.CR2", "film.mp4", ".hidden"):
        (folder / name).write_bytes(b"x")
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert (
        cli.run(["concepts", "add", str(folder), "--super-category", "mug", "--name", "odd"]) == 0
    )
    told = capsys.readouterr().err
    assert "2 pictures; 4 to 8" in told and "small.png has a side of 40 pixels" in told
    assert "long.png is 900 x 100" in told and ".hidden" not in told
    assert "not a picture that is read: film.mp4, gone.jpg, raw.CR2" in told
    plain = tmp_path / "plain"
    plain.mkdir()
    for number in range(4):
        Image.effect_noise((90, 90), 50 + number).convert("RGB").save(plain / f"{number}.png")
    Image.new("RGB", (90, 90)).save(plain / "9.png")
    assert cli.run(["concepts", "add", str(plain), "--super-category", "mug", "--name", "two"]) == 0
    told = capsys.readouterr().err
    assert told.count("warning") == 1 and "9.png is of one colour" in told


def test_two_fetches_at_once(home):
    """They would write into one .part file, and the sha256 of the mixture would be recorded."""
    other = """
import sys
from pathlib import Path
from benchmarks.disk import Locks
print(Locks(Path(sys.argv[1])).try_lock("fetch"), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", other, str(home)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "True\n"
        with pytest.raises(UserError, match="another `perfbench concepts fetch` is writing"):
            photographs.fetch_photographs("cat", home, pause=0)
        process.stdin.close()
    assert len(photographs.fetch_photographs("cat", home, pause=0).images) == 3


# ---- pictures that no method sees ----


def shades(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (64, 64), (20 * number, 90, 40)).save(folder / f"{number:02d}.png")
    return folder


def test_the_last_pictures_are_held_out(home, tmp_path, capsys):
    have = shades(tmp_path / "mine", 6)
    words = ["concepts", "add", str(have), "--super-category", "teapot", "--dest", str(tmp_path)]
    assert cli.run([*words, "--name", "some", "--heldout", "2"]) == 0
    assert "held out, no method sees them: 04.png, 05.png" in capsys.readouterr().err
    some = read_concept(tmp_path / "some")
    assert len(some.images) == 4 and len(some.heldout) == 2
    assert [Image.open(path).getpixel((0, 0))[0] for path in some.heldout] == [80, 100]
    shades(tmp_path / "four", 4)
    alone = read_concept(tmp_path / "some").digest
    words[2] = str(tmp_path / "four")
    assert cli.run([*words, "--name", "same"]) == 0
    assert read_concept(tmp_path / "same").digest == alone, "training sees the same"


def test_a_concept_folder_keeps_its_masks_in_step(tmp_path):
    images = [Image.new("RGB", (32, 32), (50 * k, 9, 9)) for k in range(5)]
    masks = [Image.new("L", (32, 32), 40 * k) for k in range(5)]
    write_concept(
        tmp_path / "own",
        super_category="mug",
        group="container",
        source="made",
        licence="CC0-1.0",
        images=images,
        masks=masks,
    )
    made = photographs.add(tmp_path / "own", "mug", name="less", home=tmp_path, heldout=2)
    assert len(made.images) == len(made.masks) == 3 and len(made.heldout) == 2
    assert [path.read_bytes() for path in made.heldout] == [
        path.read_bytes() for path in sorted((tmp_path / "own" / "images").iterdir())[3:]
    ]
    with pytest.raises(UserError, match="has 2 held-out pictures already"):
        photographs.add(tmp_path / "less", "mug", name="more", home=tmp_path, heldout=1)


@pytest.mark.parametrize(
    "count, asked, words", [(4, 2, "give at most 1"), (3, 1, "add some pictures"), (6, 6, "most 3")]
)
def test_three_are_left_to_train_with(count, asked, words, home, tmp_path):
    have = shades(tmp_path / "mine", count)
    with pytest.raises(UserError, match=f"fewer than 3 to train with; .*{words}"):
        photographs.add(have, "teapot", name="mine", home=tmp_path / "home", heldout=asked)
    assert not (tmp_path / "home").exists()


def test_the_same_picture_cannot_be_held_out_and_trained(home, tmp_path):
    have = shades(tmp_path / "mine", 4)
    Image.open(have / "00.png").save(have / "09.png")
    with pytest.raises(UserError, match="also among the images that are trained"):
        photographs.add(have, "teapot", name="mine", home=tmp_path / "home", heldout=1)
    assert not (tmp_path / "home" / "mine").exists()
