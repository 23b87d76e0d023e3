"""A submission that was drawn with another VAE than its backbone's: checked, drawn again with the
recorded one, and refused where that is another. The hub is a cache that was filled before.
"""

import json
import shutil
from contextlib import redirect_stdout

import pytest
import submission_kit
from conftest import make_pipe
from fake_hub import COMMIT
from huggingface_hub import constants
from run_kit import run_here, shared

from benchmarks.cli import run
from perfusion_core.errors import UserError
from perfusion_core.hub import VAE_WEIGHTS, VAES

BELIEVED = "the VAE 'fp16-fix': give its place with --vae"


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """Another VAE."""
    folder = tmp_path_factory.mktemp("vae") / "fixed"
    make_pipe(5).vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def filled(fixed, tmp_path_factory):
    """A cache of the hub that holds it, as an earlier download leaves one."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / f"models--{VAES['fp16-fix'].replace('/', '--')}"
    shutil.copytree(fixed, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return cache


@pytest.fixture(scope="module")
def drawn(filled, tmp_path_factory):
    """A run by the VAE's short name."""
    out = tmp_path_factory.mktemp("sent") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        offline(patch, filled)
        few = ["--methods", "super", "--concepts", "cat", "--no-cache"]
        assert run_here(shared(), out, "--vae", "fp16-fix", *few) == 0
    return out


def offline(patch, cache):
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(filled, tmp_path, monkeypatch):
    """A copy of that cache; no network."""
    offline(monkeypatch, shutil.copytree(filled, tmp_path / "hub"))
    return tmp_path / "hub"


def archive_of(folder, out):
    with redirect_stdout(None):
        run(["submission", "make", str(folder), "--out", str(out / "mine.perfbench.tar.xz")])
    return out / "mine.perfbench.tar.xz"


@pytest.fixture(scope="module")
def sent(drawn, tmp_path_factory):
    return archive_of(drawn, tmp_path_factory.mktemp("archive"))


def told_otherwise(drawn, out, **vae):
    """An archive of the same run whose run.json tells otherwise of its VAE."""
    folder = shutil.copytree(drawn, out / "run")
    about = json.loads((folder / "run.json").read_text())
    about["backbone"]["vae"] |= vae
    (folder / "run.json").write_text(json.dumps(about))
    return archive_of(folder, out)


def verify(archive, *more):
    words = ["--backbone", str(shared() / "tiny"), "--suite", str(shared() / "concepts"), "--json"]
    return run(["submission", "verify", str(archive), *words, *map(str, more)])


def verdict(capsys):
    return json.loads(capsys.readouterr().out)


def test_without_a_redraw_it_is_taken_as_it_is_told_or_compared(sent, fixed, capsys):
    assert verify(sent) == 0
    found = verdict(capsys)
    assert (found["verdict"], found["told"]) == ("recomputed", [BELIEVED])
    assert verify(sent, "--vae", fixed) == 0
    assert verdict(capsys)["told"] == []
    assert verify(sent, "--vae", shared() / "tiny") == 1
    assert "other weights decoded its pictures" in verdict(capsys)["why"]


def test_it_is_drawn_again_with_the_recorded_one(sent, hub, capsys):
    """Every pixel comes back; the cache's newest is another by now."""
    repository = hub / f"models--{VAES['fp16-fix'].replace('/', '--')}"
    shutil.copytree(shared() / "tiny" / "vae", repository / "snapshots" / ("f" * 40))
    (repository / "refs" / "main").write_text("f" * 40)
    assert verify(sent, "--redraw", 2) == 0
    found = verdict(capsys)
    assert (found["verdict"], found["told"]) == ("verified", [])
    assert found["redrawn"]["super"]["same_bytes"] == 2


def test_other_files_at_that_revision_are_refused(sent, hub, capsys):
    [weights] = hub.glob(f"*/snapshots/{COMMIT}/{VAE_WEIGHTS}")
    shutil.copy(shared() / "tiny" / "vae" / VAE_WEIGHTS, weights)
    assert verify(sent, "--redraw", 2) == 1
    why = verdict(capsys)["why"]
    assert why.startswith("its VAE 'fp16-fix' has another digest than the one here")


def test_a_folder_is_named_by_whoever_checks(drawn, fixed, tmp_path, capsys):
    archive = told_otherwise(drawn, tmp_path, id="fixed", revision="")
    with pytest.raises(UserError, match="the VAE 'fixed', and the archive tells no commit") as told:
        verify(archive, "--redraw", 2)
    assert "give its place with --vae" in str(told.value)
    assert verify(archive, "--redraw", 2, "--vae", fixed) == 0
    assert verdict(capsys)["verdict"] == "verified"


def test_one_that_cannot_be_fetched_is_one_sentence(sent, hub):
    shutil.rmtree(hub)
    with pytest.raises(UserError, match="give --vae the path of its folder") as told:
        verify(sent, "--redraw", 2)
    assert "\n" not in str(told.value)


def test_a_name_that_no_hub_has_is_refused(drawn, hub, tmp_path, capsys):
    archive = told_otherwise(drawn, tmp_path, id="no such name")
    assert verify(archive, "--redraw", 2) == 1
    assert "can be no hub id" in verdict(capsys)["why"]


def test_two_vaes_of_one_run_are_refused(drawn, tmp_path, capsys):
    assert verify(told_otherwise(drawn, tmp_path, sha256="ab" * 8)) == 1
    assert "another VAE than its backbone tells" in verdict(capsys)["why"]


def test_a_vae_for_a_run_by_the_backbones_own_is_a_mistake(fixed, tmp_path):
    archive = submission_kit.place(tmp_path, submission_kit.real_archive())
    with pytest.raises(UserError, match="drawn with the backbone's own VAE; leave it out"):
        run(["submission", "verify", str(archive), "--vae", str(fixed)])
