"""What is there already stays: refused in one sentence, or replaced where --overwrite says so."""

import json
import shutil

import pytest
from hostile_kit import content, refused
from made_run import LOCAL, make_run
from run_kit import ROOT, copy_of_reference, files, run_here, shared, small_file_system

from benchmarks.cli import run
from perfusion_core.errors import UserError


def flags() -> list[str]:
    return ["--backbone", str(shared() / "tiny"), "--device", "cpu", "--dtype", "float32"]


def fit_words(method: str, out, *more: str) -> list[str]:
    cat = str(shared() / "concepts" / "cat")
    few = ["--steps", "2", "--set", "batch=4"]
    return ["fit", method, "--concept", cat, "--out", str(out), *few, *flags(), *more]


def draw_words(out, *more: str) -> list[str]:
    return ["generate", "A cat", "-n", "2", "--steps", "1", "--out", str(out), *flags(), *more]


@pytest.mark.parametrize("name", ["cat.safetensors", "cat.json"])
def test_fit_replaces_no_file(tmp_path, monkeypatch, capsys, name):
    (tmp_path / name).write_text("precious")
    words = fit_words("perfusion", tmp_path / "cat.safetensors")
    said = refused(monkeypatch, capsys, *words)
    assert f"{tmp_path / name} is there already" in said and "--overwrite" in said
    assert content(tmp_path) == {str(tmp_path / name): b"precious"}
    assert run([*words, "--overwrite"]) == 0
    assert files(tmp_path) == {"cat.safetensors", "cat.json"}
    assert json.loads((tmp_path / "cat.json").read_text())["steps"]


def test_fit_replaces_no_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes").write_text("precious")
    words = fit_words("ti", tmp_path / "cat")
    assert "--overwrite replaces it" in refused(monkeypatch, capsys, *words)
    assert files(tmp_path) == {"cat/notes"}
    assert run([*words, "--overwrite"]) == 0
    assert "cat/fit.json" in files(tmp_path) and "cat/notes" not in files(tmp_path)


def test_generate_replaces_no_picture(tmp_path, monkeypatch, capsys):
    (tmp_path / "1.png").write_text("precious")
    said = refused(monkeypatch, capsys, *draw_words(tmp_path))
    assert f"{tmp_path / '1.png'} is there already" in said and "--overwrite" in said
    assert content(tmp_path) == {str(tmp_path / "1.png"): b"precious"}
    assert run(draw_words(tmp_path, "--overwrite")) == 0
    assert (tmp_path / "1.png").read_bytes()[1:4] == b"PNG"
    assert run(draw_words(tmp_path, "--seed", "2")) == 0  # beside them


def test_a_study_is_not_exported_over(tmp_path, monkeypatch, capsys):
    """Also where no answer is here: a page may have been sent on a stick."""
    methods = {"perfusion": LOCAL[:1]}
    make_run(tmp_path / "run", methods, ["cat"], prompts=2, images=1, size=16)
    words = ["study", "export", str(tmp_path / "run"), "--study", "realism", "--responses", "1",
             "--qualify", "0", "--out", str(tmp_path / "study")]  # fmt: skip
    assert run(words) == 0
    before = content(tmp_path / "study")
    said = refused(monkeypatch, capsys, *words)
    assert "would orphan the answers" in said and "--overwrite" in said
    assert content(tmp_path / "study") == before
    assert run([*words, "--overwrite"]) == 0
    key = str(tmp_path / "study" / "private" / "key.json")
    assert content(tmp_path / "study")[key] != before[key]
    (tmp_path / "study" / "answers" / "1.json").write_text("{}")
    assert "has answers" in refused(monkeypatch, capsys, *words, "--overwrite")


def test_another_protocol_is_refused_without_run_json(tmp_path):
    out = copy_of_reference(tmp_path / "run")
    (out / "run.json").unlink()
    before = content(out)
    with pytest.raises(UserError, match=r"no run\.json .* other settings"):
        run_here(shared(), out, "--set", "guidance=3")
    assert {name: data for name, data in content(out).items() if name in before} == before
    assert run_here(shared(), out) == 0  # the old settings mend it


def test_a_broken_concept_hides_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path))
    for name in ("mine", "yours"):
        shutil.copytree(shared() / "concepts" / "cat", tmp_path / "concepts" / name)
        toml = tmp_path / "concepts" / name / "concept.toml"
        toml.write_text(toml.read_text().replace('"cat"', f'"{name}"', 1))
    (tmp_path / "concepts" / "mine" / "concept.toml").write_text("{")
    assert run(["ls", "concepts"]) == 0
    said = capsys.readouterr()
    assert "yours" in said.out and "teapot" in said.out and "mine" not in said.out
    assert "passed over: " in said.err and "mine" in said.err


def test_a_concept_that_cannot_be_read_back_is_not_left(tmp_path):
    """Its reader refuses an empty licence; the folder then hid all others."""
    from benchmarks.suite.concept_folder import write_concept

    pictures = sorted((shared() / "concepts" / "cat" / "images").iterdir())
    with pytest.raises(UserError, match="licence"):
        write_concept(tmp_path / "mine", super_category="cat", group="animated", source="x",
                      licence="", images=pictures)  # fmt: skip
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_no_half_picture(tmp_path, monkeypatch, capsys):
    run_folder = tmp_path / "run"
    make_run(run_folder, {"perfusion": LOCAL[:1]}, ["cat"], prompts=2, images=1, size=16)
    concepts = str(shared() / "concepts")
    with small_file_system(tmp_path / "small", "64k") as disk:
        (disk / "filling").write_bytes(b"x" * 65_536)
        for words in (
            ["plot", "pareto", run_folder, "--out", disk / "pareto.pdf"],
            draw_words(disk),
            ["masks", "all", "--suite", concepts, "--show", disk / "m.png"],
            ["miniature", "show", "a dog", "--n", "1", "--out", disk / "show.png"],
            ["report", run_folder, "--out", disk / "page.html"],
        ):
            assert "is full" in refused(monkeypatch, capsys, *words), words
        assert files(disk) == {"filling"}


def test_the_page_that_tells_how_to_export_twice_uses_the_flag():
    assert "--overwrite" in (ROOT / "docs" / "studies.md").read_text()
