"""Runs of earlier versions: what can be read is read, the rest is one sentence."""

import json
import shutil

import made_run
import pytest
from run_kit import perfbench

from benchmarks.cli import run
from benchmarks.store.reading import SCHEMA, read_run
from perfusion_core.errors import UserError

DIGEST = "0123456789abcdef" * 4


def as_schema_1(about: dict) -> dict:
    """run.json as it was written until 21 November 2026: one digest of all prompts, one of all
    concepts, one of a method's trained files."""
    digests = dict.fromkeys(("prompts", "concepts", "plan"), DIGEST)
    return {**about, "schema": 1, "digests": digests, "weights": {"perfusion": DIGEST}}


@pytest.fixture
def older(tmp_path):
    """The same run twice: as this version writes it, and as schema 1."""
    methods = {"perfusion": made_run.LOCAL[:2], "cd": ("default",)}
    made_run.make_run(tmp_path / "now", methods, ["cat", "teapot"], prompts=3, images=2, size=16)
    shutil.copytree(tmp_path / "now", tmp_path / "then")
    file = tmp_path / "then" / "run.json"
    file.write_text(json.dumps(as_schema_1(json.loads(file.read_text()))))
    return tmp_path / "then"


def test_its_table_figure_and_report_are_made(older, capsys):
    before = (older / "run.json").read_bytes()
    for name in ("table.csv", "cells.csv", "metrics.csv", "samples.csv"):
        (older / name).unlink()
    then = str(older)
    for words in (["table", then], ["plot", "pareto", then], ["report", then]):
        assert not run(words)
    assert not run(["table", then, "--by", "difference"])
    for name in ("table.csv", "cells.csv", "metrics.csv", "samples.csv"):
        assert (older / name).read_bytes() == (older.parent / "now" / name).read_bytes()
    assert (older / "index.html").is_file() and (older / "figures" / "pareto.png").is_file()
    assert (older / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["check", "THEN", "--against", "NOW"],
        ["check", "NOW", "--against", "THEN"],
        ["check", "--calibrate", "NOW", "THEN"],
        ["plot", "pareto", "NOW", "THEN"],
        ["score", "THEN"],
    ],
)
def test_what_needs_a_digest_of_each_concept_says_so(older, words):
    places = {"THEN": str(older), "NOW": str(older.parent / "now")}
    before = (older / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"then/run\.json is of schema 1, and only schema 2 can be"):
        run([places.get(word, word) for word in words])
    assert (older / "run.json").read_bytes() == before


def test_it_is_listed_beside_others(older):
    results = older.parent / "results"
    results.mkdir()
    older.rename(results / "then")
    done = perfbench("ls", "runs", cwd=older.parent)
    assert done.returncode == 0 and "then" in done.stdout


def test_what_no_version_wrote_is_refused(older):
    file = older / "run.json"
    about = json.loads(file.read_text())
    for wrong in (
        {"schema": 1, "digests": {"concepts": {}, "prompts": {}, "plan": ""}},
        {"schema": 1, "digests": {}},
        {"schema": 0},
        {"schema": SCHEMA + 1},
        {"schema": "1"},
    ):
        file.write_text(json.dumps({**about, **wrong}))
        with pytest.raises(UserError, match=r"is of schema .*make that run again"):
            read_run(older)
