"""Code comes from files that the command names, never from those that a run names."""

import json

import pytest
from hostile_kit import command, refused
from made_run import LOCAL, make_run
from run_kit import run_here, shared

METHOD = """from baselines.super_category import MINIATURE, Config, apply, fit
NAME, LABEL, VERSION = "still", "Still", 1
TRAINED, PRIOR = False, False
"""
CODE = "\nfrom pathlib import Path\nPath(r'{}').write_text('the code of a run has run')\n"
READERS = [
    ["attention", "RUN"],
    ["plot", "pareto", "RUN"],
    ["plot", "gallery", "RUN"],
    ["report", "RUN"],
    ["table", "RUN"],
    ["score", "RUN"],
    ["check", "RUN", "--against", "RUN"],
    ["ls", "runs"],
]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """A run of a method in a file, and that file with other code in it now."""
    folder = tmp_path_factory.mktemp("downloads")
    (folder / "still.py").write_text(METHOD)
    more = ("--method-file", str(folder / "still.py"), "--methods", "still", "--concepts", "cat")
    assert run_here(shared(), folder / "run", *more) == 0
    (folder / "still.py").write_text(METHOD + CODE.format(folder / "CODE_RAN"))
    return folder


def test_attention_runs_no_code_that_only_the_run_names(downloaded, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "attention", downloaded / "run", "--methods", "still")
    assert not (downloaded / "CODE_RAN").exists()
    assert "add --method-file FILE" in said and "still.py" in said


def test_attention_runs_the_file_that_the_command_names(downloaded, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(METHOD + CODE.format(tmp_path / "MINE_RAN"))
    words = [
        "attention",
        downloaded / "run",
        "--methods",
        "still",
        "--method-file",
        tmp_path / "mine.py",
    ]
    assert command(monkeypatch, capsys, *words)[0] == 0
    assert (tmp_path / "MINE_RAN").exists() and not (downloaded / "CODE_RAN").exists()


@pytest.mark.parametrize("words", READERS, ids=lambda words: " ".join(words[:2]))
def test_no_reader_runs_a_file_that_a_run_names(words, tmp_path, monkeypatch, capsys):
    """Whatever the verb makes of such a run."""
    run = tmp_path / "results" / "run"
    make_run(run, {"perfusion": LOCAL[:1]}, ["cat", "teapot"], prompts=2, images=1, size=16)
    (run / "evil.py").write_text(
        METHOD.replace("still", "perfusion2") + CODE.format(tmp_path / "CODE_RAN")
    )
    about = json.loads((run / "run.json").read_text())
    for method_files in ([str(run / "evil.py")], ["evil.py"], str(run / "evil.py")):
        about["config"] |= {"method_files": method_files, "methods": ["perfusion2"]}
        about["methods"] = {
            "perfusion2": {
                "of": str(run / "evil.py"),
                "version": "1",
                "config": {},
                "select": False,
            }
        }
        (run / "run.json").write_text(json.dumps(about))
        monkeypatch.chdir(tmp_path)
        command(monkeypatch, capsys, *(run if word == "RUN" else word for word in words))
        assert not (tmp_path / "CODE_RAN").exists()
