"""The served explorer: what is sent, what is refused, and that nothing is written."""

import http.client
import io
import shutil
import threading

import pytest
from explorer_kit import two_runs
from PIL import Image

from benchmarks.site.explored import open_runs
from benchmarks.site.picture_strips import strip
from benchmarks.site.view_server import make_view_server
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def ask(runs):
    server, address = make_view_server([*map(str, runs)], 0, 128)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    port = int(address.rstrip("/").rpartition(":")[2])

    def asked(path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.headers
        finally:
            connection.close()

    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_page_comes_with_its_guards(ask):
    status, body, headers = ask("/")
    assert status == 200 and b"Perfbench explorer" in body
    assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert ask("/", "HEAD")[:2] == (200, b"")


def test_sheets_and_pictures(ask, runs):
    status, body, headers = ask("/strips/0/0-0.webp")
    assert status == 200 and headers.get_content_type() == "image/webp"
    points = 7  # super, four of Perfusion, cd, db
    assert Image.open(io.BytesIO(body)).size == (points * 128, 128)
    status, body, _ = ask("/own/0/0.webp")
    assert status == 200 and Image.open(io.BytesIO(body)).size == (8 * 128, 2 * 128)
    status, body, headers = ask("/pictures/1/0/0-1.png")
    assert status == 200 and headers.get_content_type() == "image/png"
    files = [one.read_bytes() for one in (runs[1] / "images").rglob("1.png")]
    assert body in files


OUTSIDE = [
    "/etc/passwd",
    "/../run.json",
    "/%2e%2e/run.json",
    "/strips/0/../../run.json",
    "/pictures/0/0/..%2f..%2frun.json",
    "/run.json",
    "/plan.csv",
    "/images/",
    "/strips/0/0-0.webp%00",
    "/strips/0/0-0.webp/",
    "/strips/0/0-9.webp",
    "/strips/0/9999999-0.webp",
    "/strips/7/0-0.webp",
    "/strips/-1/0-0.webp",
    "/strips/0/99999999999999999999-0.webp",
    "/own/0/99.webp",
    "/pictures/0/999/0-0.png",
    "/pictures/0/0/0-999999.png",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_there(ask, path):
    status, body, _ = ask(path)
    assert status == 404 and b"there is nothing here" in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8017", "127.0.0.1.evil.example", ""]
)
def test_another_name_is_refused(ask, host):
    for path in ("/", "/strips/0/0-0.webp"):
        assert ask(path, Host=host)[0] == 403
    assert ask("/", "POST", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8017"])
def test_names_of_this_machine_are_taken(ask, host):
    assert ask("/", Host=host)[0] == 200


def test_pages_of_other_sites_get_no_picture(ask):
    assert ask("/strips/0/0-0.webp", **{"Sec-Fetch-Site": "cross-site"})[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_it_is_for_looking(ask, method):
    status, body, _ = ask("/", method)
    assert status == 405 and b"GET and HEAD" in body


def test_nothing_is_written(ask, runs):
    def seen():
        return sorted((str(p), p.stat().st_mtime_ns) for r in runs for p in r.rglob("*"))

    before = seen()
    ask("/")
    ask("/strips/0/1-0.webp")
    ask("/own/1/0.webp")
    assert seen() == before


def test_a_broken_picture_leaves_its_place_empty(runs, tmp_path):
    run = open_runs([str(shutil.copytree(runs[1], tmp_path / "run"))])[0]
    run.picture_file(0, 0, 0).write_bytes(b"\x89PNG no")
    sheet = Image.open(io.BytesIO(strip(run, 0, 0, 32))).convert("RGBA")
    assert sheet.getpixel((16, 16))[3] == 0 and sheet.getpixel((48, 16))[3] == 255


def test_a_link_out_of_the_run_is_not_followed(runs, tmp_path):
    one = shutil.copytree(runs[1], tmp_path / "run")
    file = open_runs([str(one)])[0].picture_file(0, 0, 0)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    file.unlink()
    file.symlink_to(secret)
    run = open_runs([str(one)])[0]
    assert run.images[0][0] == (1,)
    with pytest.raises(UserError, match="leads out"):
        run.picture_file(0, 0, 0)


def test_a_port_that_is_taken_or_none_is_a_sentence(runs):
    server, address = make_view_server([str(runs[1])], 0, 128)
    port = int(address.rstrip("/").rpartition(":")[2])
    try:
        with pytest.raises(UserError, match="cannot listen on"):
            make_view_server([str(runs[1])], port, 128)
    finally:
        server.server_close()
    with pytest.raises(UserError, match="is no port"):
        make_view_server([str(runs[1])], 70000, 128)
