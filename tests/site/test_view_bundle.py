"""The explorer as a folder: what is in it, and whose files it never replaces."""

import io
import re
import shutil

import pytest
from explorer_kit import two_runs
from PIL import Image

from benchmarks.cli import run as perfbench
from benchmarks.site.view_bundle import PARTS
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [*map(str, two_runs(tmp_path_factory.mktemp("bundled")))]


def test_a_bundle_is_a_page_and_its_sheets(runs, tmp_path, capsys):
    out = tmp_path / "view"
    assert perfbench(["view", *runs, "--bundle", str(out), "--side", "32"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    assert {entry.name for entry in out.iterdir()} == PARTS
    assert all(re.fullmatch(r"[\w.-]+", file.name) for file in out.rglob("*"))
    sheets = [*(out / "strips").rglob("*.webp")]
    assert len(sheets) == 2 * 12 * 2  # runs, prompts of concepts, pictures
    assert Image.open(io.BytesIO(sheets[0].read_bytes())).height == 32
    assert not [*tmp_path.glob(".view*")]  # nothing half written is left


def test_the_same_runs_make_the_same_bundle(runs, tmp_path):
    for name in ("a", "b"):
        assert perfbench(["view", *runs, "--bundle", str(tmp_path / name), "--images", "1"]) == 0
    a, b = (
        {file.relative_to(tmp_path / n).as_posix(): file.read_bytes() for file in
         (tmp_path / n).rglob("*") if file.is_file()}
        for n in ("a", "b")
    )  # fmt: skip
    assert a == b and not any(name.endswith("-1.webp") for name in a)


def test_an_earlier_bundle_is_replaced_and_nothing_else(runs, tmp_path):
    out = tmp_path / "view"
    perfbench(["view", *runs, "--bundle", str(out)])
    perfbench(["view", runs[0], "--bundle", str(out), "--images", "1"])
    assert not (out / "strips" / "1").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        perfbench(["view", runs[0], "--bundle", str(out)])
    assert (out / "notes.txt").read_text() == "mine"


def test_places_that_are_refused(runs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<html>somebody's page</html>")
    for place, why in (
        ("file", "is no folder"),
        ("link", "is no folder"),
        ("site", "holds other files"),
    ):
        with pytest.raises(UserError, match=why):
            perfbench(["view", runs[0], "--bundle", str(tmp_path / place)])
    with pytest.raises(UserError, match="holds other files"):
        perfbench(["view", runs[0], "--bundle", runs[0]])
    monkeypatch.chdir(site)
    for place in (".", "..", "/"):
        with pytest.raises(UserError, match="is where you are"):
            perfbench(["view", runs[0], "--bundle", place])
    with pytest.raises(UserError, match="give one of them"):
        perfbench(["view", runs[0], "--bundle", str(tmp_path / "new"), "--port", "0"])


def test_a_run_without_pictures_is_one_page(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs[0], bare)
    shutil.rmtree(bare / "images")
    assert perfbench(["view", str(bare), "--bundle", str(tmp_path / "view")]) == 0
    assert {entry.name for entry in (tmp_path / "view").iterdir()} == {"index.html", "own"}
