"""The figure of drift: every operating point, and the pictures that moved most; in the report."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from drift_kit import POINTS, copied, drift_run, plain_run
from PIL import Image

from benchmarks import cli
from benchmarks.figures.drift_chart import lines_of, worst_pictures
from benchmarks.suite.drift_kinds import PLAIN
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError


@pytest.fixture
def run(tmp_path):
    return copied(drift_run(), tmp_path / "run")


def test_every_operating_point_is_a_line(run):
    lines = lines_of(open_run(str(run)))
    assert [line.row["point"] for line in lines] == list(POINTS)
    assert lines_of(open_run(str(plain_run()))) == []


def test_the_worst_stand_beside_what_they_were(run):
    found = worst_pictures(open_run(str(run)))
    cells = pd.read_csv(run / "cells.csv")
    worst = cells[cells["metric"].isin(["drift", "drift_class"])].nlargest(1, "mean").iloc[0]
    first = found[0]
    assert (first.point, first.concept) == (worst["point"], worst["concept"])
    assert len(found) == 6 and all(one.point == POINTS[1] for one in found)
    index = int(worst["odd"] > worst["even"])
    prompt = worst["prompt_id"]
    for picture, place in (
        (first.plain, f"super/default/{PLAIN}"),
        (first.drawn, f"flood/{worst['point']}/{worst['concept']}"),
    ):
        file = run / "images" / place / prompt / f"{index}.png"
        assert np.array_equal(picture, np.asarray(Image.open(file)))
    texts = dict(pd.read_csv(run / "plan.csv")[["prompt_id", "template"]].to_numpy())
    assert first.text == texts[prompt]


def test_it_is_drawn_with_and_without_pictures(run):
    assert cli.run(["plot", "drift", str(run)]) == 0
    whole = Image.open(run / "figures" / "drift.png").size
    shutil.rmtree(run / "images")
    assert cli.run(["plot", "drift", str(run)]) == 0
    assert Image.open(run / "figures" / "drift.png").size[1] < whole[1]


def test_a_run_without_drift_is_one_sentence(tmp_path):
    run = copied(plain_run(), tmp_path / "run")
    with pytest.raises(UserError, match="no drift in its table; `perfbench run --drift`"):
        cli.run(["plot", "drift", str(run)])


def test_the_report_has_it(run):
    assert cli.run(["report", str(run)]) == 0
    page = (run / "index.html").read_text()
    assert "What a loaded concept does to pictures of other things" in page
    assert "Drift of unrelated prompts and of the class word: " in page
    assert PLAIN not in page.partition('id="gallery-data"')[2].partition("</script>")[0]
    assert json.loads((run / "run.json").read_text())["units"]["drift"]["done"] == 56
