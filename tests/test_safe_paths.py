"""A name is one path component; a path stays below its root."""

import json
import os
from pathlib import Path

import pytest
from hostile_kit import NAMES

from benchmarks.disk import digests_of, read_json, read_manifest, remove, verified
from benchmarks.safe_paths import below, is_name, leads_out, lies_below, safe_name, safe_parts
from perfusion_core.errors import UserError

GOOD = [
    "cat",
    "my_teapot_2",
    "local-b0.60-t0.15",
    "strength=0.5",
    "teddy+teapot",
    "tea pot",
    "чайник",
    "concept.toml",
    "s01",
    ".gitattributes",
    "nan",
    "console",
    "perfusion-one-shot",
    "a" * 200,
]
MORE = {
    "empty": "",
    "dot": ".",
    "space": " cat",
    "space at the end": "cat ",
    "star": "*",
    "question": "what?",
    "turned": "a\u202eb",
    "surrogate": "a\ud800",
    "COM1": "com1",
    "bytes": "ш" * 101,
}


@pytest.mark.parametrize("name", GOOD)
def test_names_of_ordinary_runs_are_names(name):
    assert is_name(name) and safe_name(name) == name and safe_parts(name) == (name,)


@pytest.mark.parametrize("kind", [*NAMES, *MORE])
def test_anything_else_is_one_short_sentence(kind):
    given = {**NAMES, **MORE}[kind]
    assert not is_name(given)
    for check in (safe_name, safe_parts):
        with pytest.raises(UserError) as caught:
            check(given, "the file")
        said = str(caught.value)
        assert (
            said.startswith("the file ")
            and "\n" not in said
            and len(said) < 250
            and said.isprintable()
        )


@pytest.mark.parametrize("given", [None, 5, ["a"], b"a", {}])
def test_what_is_no_text_is_no_name(given):
    assert not is_name(given)
    for check in (safe_name, safe_parts):
        with pytest.raises(UserError, match="is not a text"):
            check(given)


def test_a_relative_path_has_plain_names_only():
    assert safe_parts("step-100/concept.safetensors") == ("step-100", "concept.safetensors")
    for given in ("a//b", "/a", "a/", "./a", "a/..", "a/../b", "a/\0", "/".join(["a"] * 2000)):
        with pytest.raises(UserError, match="refused"):
            safe_parts(given)


def test_links_may_lead_anywhere_inside_and_nowhere_outside(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("precious")
    (root / "file").write_text("ours")
    links = {
        "in": root / "file",
        "out": outside / "file",
        "away": outside,
        "gone": outside / "nothing",
        "up": "..",
    }
    for name, target in links.items():
        os.symlink(target, root / name)
    os.symlink("../file", root / "deep" / "in")
    assert (
        below(root, "in").read_text() == "ours" and below(root, "deep", "in").read_text() == "ours"
    )
    assert below(root, "new", "file") == root / "new" / "file", "what is not there yet may be made"
    for names in (["out"], ["away"], ["away", "file"], ["gone"], ["up"], ["up", "outside", "file"]):
        with pytest.raises(UserError, match="leads out of"):
            below(root, *names)
    assert leads_out(root / "out") and not leads_out(root / "in") and not leads_out(root / "file")
    os.symlink(root, tmp_path / "known")
    assert below(tmp_path / "known", "file").read_text() == "ours", (
        "the root itself may be a link: the user named it"
    )
    assert lies_below(root, root) and not lies_below(root, Path(f"{root}-2"))


@pytest.mark.parametrize("kind", NAMES)
def test_a_manifest_names_files_of_its_own_folder_only(kind, tmp_path):
    """Of a cell, a fit, class images and a concept's pictures: such a unit counts as absent."""
    folder = tmp_path / "a" / "unit"
    folder.mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "secret").write_text("precious")
    sums = digests_of(tmp_path / "victim")["secret"]
    (folder / "cell.json").write_text(json.dumps({"key": "k", "files": {NAMES[kind]: sums}}))
    assert (
        read_manifest(folder / "cell.json") is None and verified(folder, "cell.json", "k") is None
    )


def test_manifests_that_are_nonsense_count_as_absent(tmp_path):
    file = tmp_path / "fit.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"key": 5, "files": {}}',
        '{"key": "k"}',
        '{"key": "k", "files": []}',
        '{"key": "k", "files": {"a": 5}}',
        '{"key": "k", "files": {"a": {"sha256": "", "bytes": "1"}}}',
        "[" * 100_000,
        '{"key": "k", "files": {"a": {}}}',
    ):
        file.write_text(text)
        assert read_manifest(file) is None, text[:40]
    file.unlink()
    os.symlink("/dev/zero", file)
    assert read_json(file) is None, "a device never ends"


def test_of_a_link_the_link_alone_is_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    os.symlink(tmp_path / "mine", tmp_path / "link")
    remove(tmp_path / "link")
    assert (
        not (tmp_path / "link").is_symlink()
        and (tmp_path / "mine" / "file").read_text() == "precious"
    )


def test_the_files_of_every_published_layout_are_plain_names():
    """Custom Diffusion's embedding is called <new1>: a fit with it counts as one."""
    assert safe_parts("<new1>.safetensors") == ("<new1>.safetensors",)
    assert safe_parts("unet/diffusion_pytorch_model.safetensors")[0] == "unet"
