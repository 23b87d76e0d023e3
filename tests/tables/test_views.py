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
