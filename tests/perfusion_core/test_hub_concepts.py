"""Concepts by their names on a hub of our own: what is fetched, what is refused, offline, tokens,
revisions. As in test_hub.py, every case is a process.
"""

import shutil
from types import SimpleNamespace

import pytest
from conftest import make_concept
from fake_hub import COMMIT, Hub
from fake_hub import asked_of as fetch

from perfusion_core.errors import UserError
from perfusion_core.hub import announce_download, fetch_checkpoint
from perfusion_core.hub_concepts import fetch_concept, is_hub_name

CALL = """
import sys
from perfusion_core.errors import UserError
from perfusion_core.hub_concepts import fetch_concept
for name in sys.argv[1:]:
    try:
        print(fetch_concept(name))
    except UserError as error:
        print(f"refused: {error}")
assert "torch" not in sys.modules
"""
LOAD = """
import sys
from perfusion_core.admission import as_concept
from perfusion_core.errors import UserError
for name in sys.argv[1:]:
    try:
        print(as_concept(name).placeholder)
    except UserError as error:
        print(f"refused: {error}")
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, tiny_backbone):
    """Good and bad ones, by name."""
    root = tmp_path_factory.mktemp("repositories")
    made = {}

    def repository(name, **files):
        folder = root / name
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        made[f"owner/{name}"] = folder
        return folder

    file = root / "teddy.safetensors"
    make_concept(tiny_backbone).save(file)
    good = file.read_bytes()
    around = {"README.md": b"# teddy", "images/0.png": b"png", "teddy_lora.safetensors": b"lora"}
    repository("teddy", **{"teddy.safetensors": good}, **around)
    repository("pickle", **{"teddy.bin": b"pickle", "teddy.pt": b"pickle", "README.md": b""})
    repository("two", **{"a.safetensors": good, "b.safetensors": good})
    repository("exports", **{"teddy_emb.safetensors": b"x", "teddy_lora.safetensors": b"x"})
    repository("below", **{"unet/model.safetensors": good})
    repository("strange", **{"-rf \u202e.safetensors": good})
    repository("large", **{"model.safetensors": bytes(17_000_000)})
    repository("other", **{"model.safetensors": b"\2\0\0\0\0\0\0\0{}"})
    repository("broken", **{"model.safetensors": good[:-9]})
    return made


def test_one_small_file_is_fetched_and_then_enough(repositories, tmp_path):
    hub = Hub(repositories)
    names = ("owner/teddy", f"owner/teddy@{COMMIT}", "owner/teddy@main")
    first = fetch(tmp_path, *names, endpoint=hub.address, code=CALL)
    assert first.returncode == 0, first.stderr
    [path, *more] = first.stdout.splitlines()
    assert set(more) == {path} and path.endswith(f"{COMMIT}/teddy.safetensors")
    assert first.stderr.startswith(f"owner/teddy at {COMMIT[:8]}: 1 files, ")
    assert hub.fetched() == {"teddy.safetensors"}
    hub.close()
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):  # told to stay offline, and a silent hub
        offline = fetch(tmp_path, *names, code=CALL, **more)
        assert offline.stdout == first.stdout, offline.stderr


BAD = {
    "owner/pickle": "no .safetensors file at its root; give a repository that was pushed as a "
    "concept (pickles are never read)",
    "owner/two": "2 files that may be the concept (a.safetensors, b.safetensors)",
    "owner/exports": "only files for other programs",
    "owner/below": "no .safetensors file at its root",
    "owner/strange": "a file of a strange name",
    "owner/large": "17.0 MB, and a concept has less than 16.0 MB",
    "owner/teddy@v9": "no revision 'v9'",
    "owner/nothing": "there is no file owner/nothing, and the hub does not give out the concept",
    "owner/no..where": "cannot be the name of a concept on the hub",
}


def test_what_is_no_concept_is_refused_before_it_is_downloaded(repositories, tmp_path):
    hub = Hub(repositories)
    done = fetch(tmp_path, *BAD, endpoint=hub.address, code=CALL)
    hub.close()
    assert done.returncode == 0, done.stderr
    for line, says in zip(done.stdout.splitlines(), BAD.values(), strict=True):
        assert line.startswith("refused: ") and says in line
    assert hub.fetched() == set()


def test_gated_and_missing(repositories, tmp_path):
    hub = Hub(repositories, token="hf_secret")
    closed = fetch(tmp_path, "owner/teddy", endpoint=hub.address, code=CALL)
    assert "the hub does not give out" in closed.stdout and "HF_TOKEN" in closed.stdout
    mine = {"HF_TOKEN": "hf_secret"}
    opened = fetch(tmp_path, "owner/teddy", endpoint=hub.address, code=CALL, **mine)
    assert opened.stdout.strip().endswith("teddy.safetensors"), opened.stderr
    hub.close()
    for more, why in (
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({}, "cannot be reached"),
    ):
        empty = fetch(tmp_path / "empty", "owner/teddy", code=CALL, **more)
        assert "refused: there is no file owner/teddy" in empty.stdout and why in empty.stdout


def test_a_connection_that_breaks_is_one_sentence(repositories, tmp_path, monkeypatch):
    """The errors of the hub's HTTP library, which are no OSErrors, at every step of it."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    kind = HfHubHTTPError.__bases__[0]  # its library's own, of any version
    listed = [SimpleNamespace(filename="a.safetensors", file_size=9, is_cached=True)]
    listed[0].commit_hash = COMMIT

    def cut(*_, **how):
        if how.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing")
        raise kind("Server disconnected without sending a response.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cut)
    with pytest.raises(UserError, match=r"no file owner/teddy, .* the hub cannot be reached"):
        fetch_concept("owner/teddy")
    with pytest.raises(UserError, match=r"sd21 .* is not in .* the hub cannot be reached"):
        fetch_checkpoint("sd21")
    announce_download("owner/teddy", ["*"])  # whoever downloads will say so
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: listed)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cut)
    with pytest.raises(UserError, match=r"the download of owner/teddy stopped \(Server disc"):
        fetch_concept("owner/teddy")


def test_a_file_of_the_hub_is_read_as_any_other(repositories, tmp_path):
    hub = Hub(repositories)
    names = ("owner/teddy", "owner/other", "owner/broken")
    done = fetch(tmp_path, *names, endpoint=hub.address, code=LOAD)
    hub.close()
    teddy, other, broken = done.stdout.splitlines()
    assert teddy == "teddy"
    assert other.startswith("refused: owner/other on the hub is no concept")
    assert broken.startswith("refused: ") and "truncated" in broken


def test_what_is_here_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fits").mkdir()
    shutil.copy(__file__, tmp_path / "fits" / "teddy")
    assert is_hub_name("owner/teddy") and is_hub_name("owner/teddy@v1.0")
    for name in ("fits/teddy", "teddy", "a/b/c", "owner/teddy.safetensors", "./teddy", "../x"):
        assert not is_hub_name(name), name
