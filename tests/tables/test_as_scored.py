"""A run as another of its scorers sees it, and figures of that."""

from pathlib import Path

import pytest

from benchmarks.cli import run
from benchmarks.paths import FIRST_WORLD
from benchmarks.tables.as_scored import as_scored
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError

PAPER = Path(__file__).parents[2] / FIRST_WORLD / "miniature-paper"


def test_the_tables_are_that_scorers_columns():
    """The truth's, of a committed run: means as its own table has them beside the reported ones."""
    paper = open_run(str(PAPER))
    name = next(one["name"] for one in paper.about["scorers"] if one["name"].startswith("truth"))
    seen = as_scored(paper, "truth")
    assert seen.about["scorers"][0]["name"] == name and len(seen.about["scorers"]) == 2
    mine, theirs = (table.set_index(["method", "point"]) for table in (seen.table, paper.table))
    methods = theirs.index[theirs["kind"] == "method"]
    for score in ("image_sim", "text_sim_raw"):
        for end in ("", "_lo", "_hi"):
            expected = theirs.loc[methods, f"{score}_{name}{end}"]
            assert mine.loc[methods, f"{score}{end}"].to_numpy() == pytest.approx(
                expected.to_numpy(), abs=2e-6
            )
    assert (mine.loc[methods, "n_images"] == mine.loc[methods, "n_planned"]).all()
    # of a committed run, whose trained files are not here
    costs = theirs.loc[methods, "kilobytes"].to_numpy()
    assert mine.loc[methods, "kilobytes"].to_numpy() == pytest.approx(costs) and costs.min() > 0
    assert set(seen.cells["metric"]) == {"image_sim", "text_sim_raw"}
    assert as_scored(paper, paper.about["scorers"][0]["name"]) is paper


def test_figures_of_it_have_its_name(tmp_path, capsys):
    assert run(["plot", "pareto", str(PAPER), "--scorer", "truth",
                "--out", str(tmp_path / "truth.svg")]) == 0  # fmt: skip
    drawn = (tmp_path / "truth.svg").read_bytes()
    assert run(["plot", "pareto", str(PAPER), "--out", str(tmp_path / "own.svg")]) == 0
    assert drawn != (tmp_path / "own.svg").read_bytes()
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "truth.svg"),
        str(tmp_path / "own.svg"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pareto", "--scorer", "trust"], "unknown scorer 'trust'.*truth"),
        (["per-concept", "--scorer", "t" * 300], "unknown scorer"),
        (["gallery", "--scorer", "truth"], "shows no scores"),
    ],
)
def test_mistakes_are_one_sentence(words, told):
    with pytest.raises(UserError, match=told):
        run(["plot", words[0], str(PAPER), *words[1:]])
