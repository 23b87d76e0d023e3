"""Grades of concepts reach the run folder, and change nothing else of it."""

import json
import shutil

from run_kit import content, run_here, shared

from benchmarks.cli import run as perfbench

MORE = ("--methods", "super", "--concepts", "cat,teapot", "--prompts", "1", "--set", "images=1")


def test_a_run_records_the_grades_of_its_concepts(tmp_path, capsys):
    suite = tmp_path / "graded"
    shutil.copytree(shared() / "concepts", suite)
    for name, grade in (("cat", "hard"), ("teapot", "easy")):
        path = suite / name / "concept.toml"
        path.write_text(f'difficulty = "{grade}"\n{path.read_text()}')
    plain, graded = tmp_path / "plain", tmp_path / "with"
    assert run_here(shared(), plain, *MORE) == 0
    assert run_here(shared(), graded, *MORE, "--suite", str(suite)) == 0
    about = json.loads((graded / "run.json").read_text())
    assert about["columns"] == {"concepts": {"difficulty": {"cat": "hard", "teapot": "easy"}}}
    before = json.loads((plain / "run.json").read_text())
    assert "columns" not in before
    assert before["digests"]["concepts"] == about["digests"]["concepts"]  # and so all keys
    assert {n: b for n, b in content(plain).items() if n.endswith(".png")} == {
        n: b for n, b in content(graded).items() if n.endswith(".png")
    }
    capsys.readouterr()
    assert perfbench(["table", str(graded), "--by", "difficulty", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["difficulty"], row["n_concepts"]) for row in rows] == [("easy", 1), ("hard", 1)]
