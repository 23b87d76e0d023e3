"""The figure and the report of measures beyond the protocol: they show what the table says."""

import pandas as pd
import pytest
from made_measures import add_measures
from made_run import LOCAL, make_run

from benchmarks.cli import run as perfbench
from benchmarks.figures.measure_panels import measure_rows, measures
from benchmarks.figures.report.report_page import write_report
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import styled
from benchmarks.tables import build
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

CONCEPTS = ["cat", "chair", "teapot"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panels") / "run"
    make_run(folder, {"cd": ("default",), "perfusion": LOCAL[:1]}, CONCEPTS, prompts=3, images=2,
             pictures=False)  # fmt: skip
    add_measures(folder, next((folder / "rows").iterdir()).name)
    build.write_tables(folder)
    return folder


def test_a_dot_a_method_and_measure(made):
    table = pd.read_csv(made / "table.csv").set_index("method")
    with styled():
        figure = measures([Run(made)], Wish())
    panels = {
        axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")
    }
    assert list(panels) == [
        "Image similarity, held-out",
        "Copy gap",
        "Nearer to a training picture",
        "Variety",
    ]
    axes = panels["Copy gap"]
    assert axes.get_xlabel() == "less is better" != panels["Variety"].get_xlabel()
    dots = [float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert dots == table.loc[["cd", "super"], "copy_gap"].tolist()
    spans = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert tuple(table.loc["cd", ["copy_gap_lo", "copy_gap_hi"]]) in spans


def test_no_interval_reaches_what_a_measure_cannot_be(made):
    """As the table says it: of few concepts an interval by t can end below nothing at all."""
    table = Run(made).table.copy()
    table.loc[table["method"] == "cd", ["nearer_lo", "nearer_hi", "variety_lo"]] = -0.4, 1.3, -0.2
    [cd, *_], _, _ = measure_rows(table)
    assert (cd[2]["nearer_lo"], cd[2]["nearer_hi"], cd[2]["variety_lo"]) == (0.0, 1.0, 0.0)
    assert cd[2]["variety_hi"] == table.set_index("method").loc["cd", "variety_hi"]


def test_rows_are_the_methods_that_have_any(made):
    rows, names, ceiling = measure_rows(Run(made).table)
    assert [row["method"] for _, _, row in rows] == ["cd", "super"]  # perfusion was not measured
    assert names == ["image_sim_heldout", "copy_gap", "nearer", "variety"] and ceiling is None


def test_the_command_and_the_report(made, tmp_path):
    assert perfbench(["plot", "measures", str(made), "--out", str(tmp_path / "m.svg")]) == 0
    assert (tmp_path / "m.svg").read_text().startswith("<?xml")
    page = write_report(Run(made), tmp_path / "index.html").read_text()
    assert "<h3>Beyond the protocol</h3>" in page and "copy_gap: image_sim less" in page
    assert "Copy gap: " in page and "Not measured here: " in page
    assert "vendi (needs two pictures a cell)" in page


def test_a_run_without_any(tmp_path):
    make_run(tmp_path, {"cd": ("default",)}, CONCEPTS, prompts=2, images=2, pictures=False)
    with pytest.raises(UserError, match="no measure beyond the protocol"):
        perfbench(["plot", "measures", str(tmp_path)])
    assert (
        "<h3>Beyond the protocol"
        not in write_report(Run(tmp_path), tmp_path / "i.html").read_text()
    )
