"""`perfbench table` for people and for programs: legends, JSON, CSV, intervals within their
scale.
"""

import csv
import io
import json
import re

import numpy as np
import pytest
from made_run import LOCAL, make_run
from run_kit import small_file_system

from benchmarks.api import open_run
from benchmarks.cli import run
from benchmarks.tables.table_text import estimate
from benchmarks.tables.views import LEGENDS, OF_RUN, VIEWS
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("views") / "made"
    points = {"perfusion": LOCAL[:3], "cd": ("default",)}
    grades = {"columns": {"concepts": {"difficulty": {"cat": "easy", "teapot": "hard"}}}}
    make_run(out, points, ["cat", "teapot"], prompts=6, images=2, size=16, extra=grades)
    return out


def printed(capsys, *words):
    capsys.readouterr()
    assert run(["table", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "by", [by for by in (*VIEWS, *OF_RUN) if by not in ("scorers", "measures")]
)
def test_every_view_has_a_legend_and_says_the_same_to_programs(made, capsys, by):
    text = printed(capsys, made, "--by", by)
    head = [name.strip() for name in text.splitlines()[0].strip("|").split("|")]
    rows = json.loads(printed(capsys, made, "--by", by, "--json"))
    table = list(csv.DictReader(io.StringIO(printed(capsys, made, "--by", by, "--csv"))))
    assert len(rows) == len(table) == len(text.split("\n\n")[0].splitlines()) - 2 > 0
    assert set(head) <= rows[0].keys() == table[0].keys()
    for row, line in zip(rows, table):
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(float(line[name])), name
            else:
                assert line[name] == ("" if value is None else str(value)), name
    for name in set(head) & set(LEGENDS):
        assert f"\n{LEGENDS[name]}" in text


def test_the_table_itself_for_programs(made, capsys):
    rows = json.loads(printed(capsys, made, "--json"))
    assert printed(capsys, made, "--csv") == (made / "table.csv").read_text()
    assert [row["method"] for row in rows] == [
        line.split(",")[1] for line in (made / "table.csv").read_text().splitlines()[1:]
    ]


def test_programs_are_told_whose_rates_are_a_guess(tmp_path, capsys):
    """A last column in table.csv and what is printed, and none where all were tuned."""
    said = {"methods": {"cd": {"of": "cd", "config": {}, "untuned": True}}}
    points = {"perfusion": LOCAL[:2], "cd": ("default",)}
    for name, extra in (("guess", said), ("tuned", None)):
        make_run(tmp_path / name, points, ["cat", "teapot"], prompts=4, images=2, extra=extra,
                 pictures=False)  # fmt: skip
    guess, tuned = tmp_path / "guess", tmp_path / "tuned"
    rows = json.loads(printed(capsys, guess, "--json"))
    assert {row["method"] for row in rows if row["untuned"] is True} == {"cd"}
    assert all(row["untuned"] is False for row in rows if row["method"] != "cd")
    head, *lines = (guess / "table.csv").read_text().splitlines()
    assert printed(capsys, guess, "--csv").splitlines() == [head, *lines]
    plain_head, *plain = (tuned / "table.csv").read_text().splitlines()
    assert head == f"{plain_head},untuned"
    marks = [f",{line.split(',')[1] == 'cd'}" for line in plain]
    assert lines == [line + mark for line, mark in zip(plain, marks, strict=True)]
    # in views of methods, and of two methods side by side
    for row in json.loads(printed(capsys, guess, "--by", "kind", "--json")):
        assert row["untuned"] == (row["method"] == "cd")
    [row, *_] = json.loads(printed(capsys, guess, "--by", "difference", "--json"))
    names = {row["method"]: row["untuned"], row["other"]: row["other_untuned"]}
    assert names == {"perfusion": False, "cd": True}
    for more in (["--json"], ["--by", "kind", "--csv"], ["--by", "scenario", "--json"]):
        assert "untuned" not in printed(capsys, tuned, *more)


def test_a_table_that_tells_it_is_read_back(tmp_path, capsys):
    said = {"methods": {"cd": {"of": "cd", "config": {}, "untuned": True}}}
    make_run(tmp_path / "run", {"cd": ("default",)}, ["cat"], prompts=2, images=2, extra=said,
             pictures=False)  # fmt: skip
    first = printed(capsys, tmp_path / "run", "--csv")
    table = open_run(tmp_path / "run").table
    assert table.loc[table["untuned"], "method"].unique().tolist() == ["cd"]
    assert printed(capsys, tmp_path / "run", "--csv") == first


def test_an_interval_does_not_leave_its_scale(made, capsys):
    assert estimate(0.4, -0.807, 1.599, "image_sim") == "0.400 [-0.807, 1.000]"
    assert estimate(0.4, -0.2, 1.6, "text_sim") == "0.400 [0.000, 1.600]"
    assert estimate(0.4, -1.2, 1.6, "text_sim_raw") == "0.400 [-1.000, 1.000]"
    assert estimate(-0.4, -1.2, 0.2, "text_gain") == "-0.400 [-1.200, 0.200]"
    assert estimate(0.4, np.nan, np.nan, "image_sim") == "0.400"
    text = printed(capsys, made)
    ends = re.findall(r"\[(-?[\d.]+), (-?[\d.]+)\]", text)
    assert ends and all(float(lo) >= -1 for lo, _ in ends)


def test_best_h_has_one_name(made, capsys):
    text = printed(capsys, made)
    assert "perfusion Best H (split halves)" in text and "honest" not in text


def test_a_run_on_a_medium_that_takes_nothing_is_still_printed(made, tmp_path, capsys):
    import shutil
    import subprocess

    with small_file_system(tmp_path / "disk", "4m") as disk:
        shutil.copytree(made, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        capsys.readouterr()
        assert run(["table", str(disk / "run")]) == 0
        told = capsys.readouterr()
    assert told.out == (made / "table.md").read_text() and "printed, and not written" in told.err


@pytest.mark.parametrize("by", ["front", "gap"])
def test_comparing_methods_takes_two_of_them(tmp_path, by):
    make_run(tmp_path / "alone", {"perfusion": LOCAL[:1]}, ["cat", "teapot"], images=2, size=16)
    with pytest.raises(UserError, match="alone has one method beside super"):
        run(["table", str(tmp_path / "alone"), "--by", by])
