"""Trainings as a figure: losses, validation scores, the step that was kept; a fit.json may
be anybody's.
"""

import json

import pytest
from made_run import GLOBAL, LOCAL, make_run

from benchmarks.cli import run as perfbench
from benchmarks.figures.looks import looks_of_runs
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import styled
from benchmarks.figures.training_curves import training, trainings
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

METHODS = {"perfusion": LOCAL[::3] + GLOBAL[::4], "cd": ("default",), "db": ("default",)}


def with_losses(run, **changes):
    """A loss and a validation score in every fit.json; -> how many there are."""
    files = sorted((run.folder / "fits").glob("*/*/fit.json"))
    for file in files:
        about = json.loads(file.read_text())
        about |= {
            "losses": [1 / step for step in range(1, 41)],
            "validation": [[10, 0.3], [20, 0.5], [40, 0.4]],
            "steps": 20,
        }
        file.write_text(json.dumps(about | changes))
    return len(files)


@pytest.fixture
def trained(tmp_path):
    make_run(tmp_path / "run", METHODS, ["cat", "dog"], prompts=1, images=1, pictures=False)
    return Run(tmp_path / "run")


def test_trainings_are_drawn_with_the_step_that_was_kept(trained):
    assert with_losses(trained) == 6
    figure = training([trained], Wish())
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "Perfusion", "DreamBooth", "Custom Diffusion",
    ]  # fmt: skip
    for losses, looks in zip(figure.axes[:3], figure.axes[3:]):
        lines = [line for line in losses.lines if len(line.get_xdata()) == 40]
        dots = [line.get_xydata() for line in looks.lines if line.get_marker() == "o"]
        assert len(lines) == 2, "a line a concept"
        assert [dot.tolist() for dot in dots] == [[[20.0, 0.5]]] * 2
        assert lines[0].get_ydata()[10] == pytest.approx((1 / 10 + 1 / 11) / 2), "a running mean"
    assert perfbench(["plot", "training", str(trained.folder)]) == 0
    assert (trained.folder / "figures/training.svg").is_file()


def test_a_title_as_wide_as_its_panel_is_broken_between_words(tmp_path):
    runs = dict.fromkeys(("lora", "cd", "db", "ti"), ("default",))
    make_run(tmp_path / "run", runs, ["cat"], prompts=1, images=1, pictures=False)
    run = Run(tmp_path / "run")
    with_losses(run)
    run.__dict__["about"] = {**run.about, "methods": {"ti": {"of": "ti", "untuned": True}}}
    with styled(), looks_of_runs([run]):
        figure = training([run], Wish())
        figure.draw_without_rendering()
    titles = [axes._left_title for axes in figure.axes]
    assert "Textual Inversion\n(untuned)" in [title.get_text() for title in titles]
    for title in titles:
        assert title.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    "bad",
    [{"losses": "x"}, {"losses": [1, "2"]}, {"losses": [float("nan")]}, {"losses": [10**400]},
     {"losses": {"a": 1}}],
)  # fmt: skip
def test_losses_that_are_no_numbers_are_left_out(trained, bad):
    with_losses(trained, **bad)
    with pytest.raises(UserError, match="no fit in it tells its losses"):
        training([trained], Wish())


@pytest.mark.parametrize("bad", [5, [[1]], [["a", 1]], [[1, 2, 3]], None])
def test_a_training_without_validation_is_drawn_by_its_losses(trained, bad):
    with_losses(trained, validation=bad, steps="x")
    found = [one for of in trainings(trained).values() for one in of]
    assert len(found) == 6 and all(len(one.looks) == one.kept == 0 for one in found)
    assert len(training([trained], Wish()).axes) == 3, "one row: nothing was validated"


def test_what_several_methods_draw_with_is_drawn_once(tmp_path):
    """A variant that differs at run time only shares the fits of its method."""
    methods = {"perfusion-infer-temperature": LOCAL[:1], "perfusion": LOCAL[:1]}
    make_run(tmp_path, methods, ["cat"], prompts=1, images=1, pictures=False)
    run = Run(tmp_path)
    with_losses(run)
    plan = run.plan
    key = plan.loc[plan["method"] == "perfusion", "fit"].iloc[0]
    plan.loc[plan["method"] != "super", "fit"] = key
    plan.to_csv(tmp_path / "plan.csv", index=False)
    assert {name: len(of) for name, of in trainings(Run(tmp_path)).items()} == {"perfusion": 1}


def test_a_row_of_methods_without_validation_has_no_empty_panels(tmp_path):
    names = ("perfusion", "db", "ti", "cd", "cd-better", "lora")
    methods = {name: LOCAL[:1] if name == "perfusion" else ("default",) for name in names}
    make_run(tmp_path, methods, ["cat"], prompts=1, images=1, pictures=False)
    run = Run(tmp_path)
    with_losses(run, validation=[])
    for file in (tmp_path / "fits" / "perfusion").glob("*/fit.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"validation": [[20, 0.5]]}))
    figure = training([run], Wish())
    assert len(figure.axes) == 3 * 4, "four methods with two panels each, two with one"
    assert [axes.get_xlabel() for axes in figure.axes[-4:-2]] == ["Training step"] * 2
