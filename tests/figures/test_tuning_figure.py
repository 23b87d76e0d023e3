"""`perfbench plot tuning`: a line a method, by trials and by seconds, from the rows alone."""

import itertools

import numpy as np
import pytest

from benchmarks.cli import run
from benchmarks.figures.tuning_figure import tuning
from benchmarks.tables.halving import SCORES
from benchmarks.tables.halving_rows import TRAININGS, frame_of, read_trainings
from perfusion_core.errors import UserError

SCORED = {"lora": [0.2, 0.5, 0.4], "db": [0.7, 0.1, 0.3], "mine": [0.6, 0.6, 0.0]}
SECONDS = {"lora": 10, "db": 60, "mine": 20}


@pytest.fixture
def searched(tmp_path):
    rows = [
        {
            "method": method,
            "setting": f"{n:02d}",
            "rates": f"lr={n + 1}",
            "round": 1,
            "concept": "cat",
            **dict.fromkeys(SCORES, score),
            "train_seconds": SECONDS[method],
        }
        for method, scores in SCORED.items()
        for n, score in enumerate(scores)
    ]
    frame_of(rows).to_csv(tmp_path / TRAININGS, index=False)
    return tmp_path


def test_lines_are_expected_maxima_over_trials_and_over_seconds(searched):
    by_trials, by_seconds = tuning(read_trainings(searched / TRAININGS)).axes
    for panel, unit in ((by_trials, dict.fromkeys(SCORED, 1)), (by_seconds, SECONDS)):
        lines = dict(zip(SCORED, panel.lines))
        for method, scores in SCORED.items():
            brute = [
                np.mean([max(draws) for draws in itertools.product(scores, repeat=k)])
                for k in (1, 2, 3)
            ]
            assert lines[method].get_ydata() == pytest.approx(brute, abs=1e-6)
            assert list(lines[method].get_xdata()) == [k * unit[method] for k in (1, 2, 3)]
    # the cheapest method's three trials
    assert by_seconds.lines[-1].get_xdata()[0] == 30
    labels = [text.get_text() for text in by_trials.figure.legends[0].get_texts()]
    assert labels == ["LoRA", "DreamBooth", "mine"]


def test_the_command_writes_it_beside_the_rows_and_the_same_again(searched, capsys):
    assert run(["plot", "tuning", str(searched)]) == 0
    files = [searched / f"tuning.{kind}" for kind in ("pdf", "svg", "png")]
    assert capsys.readouterr().out.split() == list(map(str, files))
    before = [file.read_bytes() for file in files]
    assert run(["plot", "tuning", str(searched)]) == 0
    assert [file.read_bytes() for file in files] == before
    assert run(["plot", "tuning", str(searched), "--out", str(searched / "one.png")]) == 0
    assert (searched / "one.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name it: perfbench plot tuning"),
        (("nowhere",), "nowhere has no trainings.csv"),
        (("nowhere", "--scorer", "truth"), "leave --scorer out"),
        (("nowhere", "--concepts", "cat"), "tuning draws all that a run has"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UserError) as caught:
        run(["plot", "tuning", *words])
    assert message in str(caught.value)


def test_a_damaged_table_is_one_sentence(tmp_path):
    (tmp_path / TRAININGS).write_text("method,setting\nlora,01\n")
    with pytest.raises(UserError, match="is damaged"):
        run(["plot", "tuning", str(tmp_path)])
