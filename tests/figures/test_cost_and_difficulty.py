"""Quality against cost and against difficulty: known numbers of a made-up run, in view, figure and
report.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
from made_run import LOCAL, make_run

from benchmarks.cli import run as perfbench
from benchmarks.figures import cost_plot, difficulty_plot
from benchmarks.figures.label_placing import Drawn
from benchmarks.figures.registry import plot_verb
from benchmarks.figures.report.cost_table import cost_table
from benchmarks.figures.report.report_page import report_text
from benchmarks.figures.selection import Wish
from benchmarks.store.fit_costs import NUMBERS
from benchmarks.tables.build import write_tables
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

GRADES = {"cat": "easy", "dog": "easy", "pot": "hard", "teapot": "hard", "chair": "middling"}
# of each method's first concept: what its fit.json says beside its seconds
KNOWN = {
    "perfusion": (1_000, 2e6, 3e6, 0.5, 0.4, 0.01),
    "cd": (50_000, 4e6, 6e6, 0.45, 0.4, 0.02),
    "db": (2_000_000, 8e7, 9e7, 0.4, 0.4, 1.5),
}
POINTS = {"perfusion": LOCAL[:2], "cd": ("default",), "db": ("default",)}


def grade(folder, grades):
    about = json.loads((folder / "run.json").read_text())
    about["columns"] = {"concepts": {"difficulty": grades}}
    (folder / "run.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costs") / "made"
    make_run(folder, POINTS, list(GRADES), prompts=5, images=2, size=16, pictures=False)
    grade(folder, GRADES)
    for method, (trainable, train, draw, with_it, base, load) in KNOWN.items():
        for number, path in enumerate(sorted(folder.glob(f"fits/{method}/*/fit.json"))):
            about = json.loads(path.read_text()) | {"seconds": 10.0 + 2 * number}
            about |= {"trainable": trainable, "peak_above_bytes": train, "device": "cpu (one)"}
            if not number:
                about["drawing"] = {
                    "peak_above_bytes": draw, "picture_seconds": with_it, "device": "cpu (two)",
                    "base_picture_seconds": base, "apply_seconds": load,
                }  # fmt: skip
            path.write_text(json.dumps(about))
    write_tables(folder)
    return Run(folder)


def rows_of(capsys, folder, by):
    capsys.readouterr()
    assert perfbench(["table", str(folder), "--by", by, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_known_costs_are_in_the_view_and_the_table(made, capsys):
    rows = {row["method"]: row for row in rows_of(capsys, made.folder, "cost")}
    assert set(rows) == set(KNOWN)
    for method, (trainable, train, draw, with_it, base, load) in KNOWN.items():
        expected = {
            "train_seconds": 14.0,  # 10, 12, 14, 16, 18
            "trainable": trainable,
            "train_peak_megabytes": train / 1e6,
            "draw_peak_megabytes": draw / 1e6,
            "picture_seconds": with_it,
            "base_picture_seconds": base,
            "apply_seconds": load,
            "device": "cpu (one) + cpu (two)",
        }
        assert {name: rows[method][name] for name in expected} == expected
        mine = made.table[made.table["method"] == method]
        assert all((mine[name] == value).all() for name, value in expected.items())
    capsys.readouterr()
    assert perfbench(["table", str(made.folder), "--by", "cost"]) == 0
    text = capsys.readouterr().out
    assert "2,000,000" in text and "\ntrainable: how many numbers" in text and "None" not in text


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ({"trainable": "many"}, "trainable"),
        ({"trainable": -1}, "trainable"),
        ({"peak_above_bytes": True}, "train_peak_megabytes"),
        ({"drawing": [1]}, "picture_seconds"),
        ({"drawing": {"picture_seconds": math.inf}}, "picture_seconds"),
    ],
)
def test_what_is_no_measurement_is_empty(about, name):
    from benchmarks.store.fit_costs import measured_of

    found = measured_of(about | {"device": "a\nb"})
    assert math.isnan(found[name]) and found["device"] == ""


def test_a_table_of_somebody_else_prints_no_control_characters(made, tmp_path, capsys):
    import shutil

    shutil.copytree(made.folder, tmp_path / "theirs")
    file = tmp_path / "theirs" / "table.csv"
    file.write_text(file.read_text().replace("cpu (one) + cpu (two)", "a\x1b[31m"))
    capsys.readouterr()
    assert perfbench(["table", str(tmp_path / "theirs"), "--by", "cost"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_points_of_the_figure_are_the_table_s(made):
    table = made.table.set_index(["method", "point"])
    points = cost_plot.priced(made, "trainable", "image_sim")
    assert [one.cost for one in points] == [1_000, 2_000_000, 50_000]  # as figures order methods
    best = made.table.query("method == 'perfusion' and kind == 'method'")
    point = best.loc[best["harmonic"].idxmax(), "point"]
    row = table.loc[("perfusion", point)]
    [mine] = [one for one in points if one.cost == 1_000]
    assert (mine.score, mine.lo, mine.hi) == tuple(
        row[["image_sim", "image_sim_lo", "image_sim_hi"]]
    )


def test_the_axis_is_logarithmic_where_costs_span_a_decade(made):
    for name, scale in (("trainable", "log"), ("train_seconds", "linear"),
                        ("picture_seconds", "linear"), ("apply_seconds", "log")):  # fmt: skip
        figure = cost_plot.cost([made], Wish(cost=name, score="image_sim"))
        [axes] = figure.axes
        assert axes.get_xscale() == scale, name
        assert cost_plot.WORDS[name][0] in axes.get_xlabel()
        words = {text.get_text() for text in axes.texts}
        assert {"DreamBooth", "Custom Diffusion"} < words and "floor: super-category" in words
        left, right = axes.get_xlim()
        low, high = axes.get_ylim()
        for one in cost_plot.priced(made, name, "image_sim"):
            assert left < one.cost < right and low < one.score < high
    assert not cost_plot.spans_decades([1, 9.9]) and cost_plot.spans_decades([1, 10])
    assert not cost_plot.spans_decades([0, 10])


def test_intervals_are_drawn(made):
    from matplotlib.figure import Figure

    points = cost_plot.priced(made, "kilobytes", "harmonic")
    drawn = cost_plot.drawn_points(Figure().subplots(), points, 0.5)
    assert isinstance(drawn, Drawn) and len(drawn.faint) == len(points) == 3
    for one, line in zip(points, drawn.faint):
        assert line[:, 0].tolist() == [one.cost] * 2 and line[0, 1] <= one.score <= line[1, 1]


def test_the_commands(made, tmp_path, capsys):
    for words in (["cost", "--cost", "kilobytes", "--score", "text_sim"],
                  ["difficulty", "--score", "harmonic"], ["difficulty"], ["cost"]):  # fmt: skip
        file = tmp_path / f"{'-'.join(words)}.svg"
        assert perfbench(["plot", words[0], str(made.folder), *words[1:], "--out", str(file)]) == 0
        assert file.stat().st_size > 5_000
    for words, told in (
        (["cost", "--cost", "money"], "cost"),
        (["cost", "--score", "beauty"], "score"),
        (["difficulty", "--score", "beauty"], "score"),
        (["difficulty", "--cost", "kilobytes"], "--cost is of cost"),
        (["pareto", "--score", "image_sim"], "--score is of cost, difficulty"),
    ):
        with pytest.raises(UserError, match=told):
            perfbench(["plot", words[0], str(made.folder), *words[1:]])


def test_what_nobody_measured_is_no_figure_and_no_column(made, tmp_path):
    import shutil

    shutil.copytree(made.folder, tmp_path / "old")
    old = tmp_path / "old" / "table.csv"
    table = pd.read_csv(old)
    rest = [name for name in NUMBERS if name not in ("kilobytes", "train_seconds")]
    table.drop(columns=[*rest, "device"]).to_csv(old, index=False)
    run = Run(tmp_path / "old")
    with pytest.raises(UserError, match="of no method both harmonic and trainable are known"):
        plot_verb("cost", [str(run.folder)], None, Wish(cost="trainable"))
    text = cost_table(run)
    assert "Size of a trained concept" in text and "Loading a concept" not in text
    table.drop(columns=[*NUMBERS, "device"]).to_csv(old, index=False)
    assert cost_table(Run(tmp_path / "old")) == ""


def test_scores_by_grade_against_a_formula(made, capsys):
    rows = rows_of(capsys, made.folder, "difficulty")
    assert [row["difficulty"] for row in rows[:3]] == ["easy", "middling", "hard"]
    counts = {row["difficulty"]: row["n_concepts"] for row in rows}
    assert counts == {"easy": 2, "middling": 1, "hard": 2}
    cells = made.cells[(made.cells["method"] == "cd") & (made.cells["metric"] == "image_sim")]
    for row in (row for row in rows if row["method"] == "cd"):
        mine = cells[cells["concept"].map(GRADES) == row["difficulty"]]
        each = mine.groupby("concept")["mean"].mean().to_numpy(np.float64)
        assert row["image_sim"] == pytest.approx(each.sum() / len(each))
        assert (row["image_sim_lo"] is None) == (len(each) == 1)


def test_the_figure_has_each_method_at_each_grade(made):
    names = ["easy", "middling", "hard"]
    found = difficulty_plot.climbs(made, "harmonic", names)
    assert [one.method for one in found] == ["perfusion", "db", "cd"]
    metrics = made.metrics
    for one in found:
        mine = metrics[(metrics["method"] == one.method) & (metrics["point"] == one.point)]
        for name, mean in zip(names, one.means):
            values = mine.loc[mine["concept"].map(GRADES) == name, "harmonic"].to_numpy(float)
            assert mean.value == pytest.approx(values.mean())
            if len(values) == 2:  # Student's t with one degree of freedom
                half = 12.7062047364 * values.std(ddof=1) / math.sqrt(2)
                assert mean.hi - mean.value == pytest.approx(half, rel=1e-6)
    figure = difficulty_plot.difficulty([made], Wish())
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["easy\n2 concepts", "middling\n1 concept", "hard\n2 concepts"]
    assert len(figure.axes) == 2
    assert len(difficulty_plot.difficulty([made], Wish(score="harmonic")).axes) == 1


def test_a_run_without_grades_says_so(made, tmp_path, capsys):
    import shutil

    shutil.copytree(made.folder, tmp_path / "none")
    about = json.loads((tmp_path / "none" / "run.json").read_text())
    about["columns"] = {"concepts": {"hard_level": {"cat": "mid"}}}
    (tmp_path / "none" / "run.json").write_text(json.dumps(about))
    for words in (["table", "--by", "difficulty"], ["plot", "difficulty"]):
        with pytest.raises(
            UserError, match=r"no concept of it has a grade.*columns are hard_level"
        ):
            perfbench([words[0], *words[1:], str(tmp_path / "none")])
    grade(tmp_path / "none", dict.fromkeys(GRADES, "easy"))
    with pytest.raises(UserError, match="all its graded concepts are easy"):
        perfbench(["plot", "difficulty", str(tmp_path / "none")])
    grade(tmp_path / "none", {"cat": "mid", "dog": "easy"})  # a suite's own words, and some without
    rows = rows_of(capsys, tmp_path / "none", "difficulty")
    assert [row["difficulty"] for row in rows[:2]] == ["easy", "mid"]


def test_a_run_of_shipped_concepts_has_their_grades_by_digest(made, tmp_path, capsys):
    """An earlier version recorded none; another picture is another concept, without a grade."""
    import shutil

    from benchmarks.suite.catalog import load_catalog
    from benchmarks.tables.difficulty import grades_of

    shutil.copytree(made.folder, tmp_path / "old")
    about = json.loads((tmp_path / "old" / "run.json").read_text())
    del about["columns"]
    shipped = {one.name: one for one in load_catalog("miniature").concepts}
    about["digests"]["concepts"] = {
        "cat": shipped["cat"].digest[:16], "pot": shipped["pot"].digest[:16], "dog": "0" * 16,
    }  # fmt: skip
    (tmp_path / "old" / "run.json").write_text(json.dumps(about))
    expected = {name: shipped[name].difficulty for name in ("cat", "pot")}
    assert grades_of(Run(tmp_path / "old")) == expected


def test_the_report_has_both(made, tmp_path):
    text = report_text(made, tmp_path / "index.html", 10**6)
    assert '<section id="costs"><h2>Costs</h2>' in text and "2,000,000" in text
    assert "cpu (one) + cpu (two)" in text
    assert "What quality costs" in text and "Quality by how far concepts lie" in text
    assert "Harmonic mean, and seconds of a training: " in text
    assert "Image similarity by grade: " in text
