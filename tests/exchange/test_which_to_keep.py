"""Which file to keep: the scores are the table's, the differences are paired, one prompt says
nothing.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks.exchange.evaluation_page import sentence, table, verdict
from benchmarks.exchange.which_to_keep import choose
from benchmarks.tables.build import cells_of, metrics_of

NAMES = ["e1", "e2", "e3"]


def rows(lift, *, prompts=6, noise=0.0, seed=0, scorer="", concepts=("cat",)):
    """A row an image: prompts differ a lot, files by `lift` in image similarity; two kinds."""
    rng, out = np.random.default_rng(seed), []
    for concept in concepts:
        for number in range(2 * prompts):
            kind = "shape" if number < prompts else "deform"
            ease = rng.normal(0, 0.1)
            for method, more in {"super": -0.2, **lift}.items():
                for index in range(2):
                    out.append(
                        {
                            "method": method, "point": "default", "concept": concept,
                            "group": "animated", "prompt_id": f"p{number:02}", "kind": kind,
                            "index": index, "key": "",
                            f"image_sim{scorer}": 0.6 + more + ease + rng.normal(0, 1) * noise
                            if kind == "shape" else np.nan,
                            f"text_sim_raw{scorer}": 0.3 + ease / 4,
                        }
                    )  # fmt: skip
    return pd.DataFrame(out)


LIFT = {"e1": 0.0, "e2": 0.05, "e3": 0.02}


@pytest.mark.parametrize("concepts", [("cat",), ("cat", "dog")])
def test_the_scores_are_those_of_the_table(concepts):
    cells = cells_of(rows(LIFT, concepts=concepts))
    found = choose(cells, NAMES, concepts)
    told = metrics_of(cells).groupby("method").mean(numeric_only=True)
    for row in (*found.rows, found.floor):
        for metric, interval in row.scores.items():
            assert interval.value == pytest.approx(told.loc[row.name, metric], abs=1e-9)
    assert found.best == "e2" and [row.name for row in found.rows] == NAMES


def test_differences_are_paired_by_prompt():
    """Prompts differ far more than files do: alone each is uncertain, their difference is not."""
    found = choose(cells_of(rows(LIFT)), NAMES, ["cat"])
    by_name = {row.name: row for row in found.rows}
    alone = by_name["e3"].scores["harmonic"]
    paired = by_name["e3"].behind
    assert paired.lo > 0 and (paired.hi - paired.lo) < (alone.hi - alone.lo) / 4
    assert found.level == [] and "ahead of every other, of e3 by" in sentence(found)
    assert by_name["e2"].behind[:] == (0.0, 0.0, 0.0)


def test_what_noise_hides_cannot_be_told_apart():
    lift = {"e1": -0.3, "e2": 0.002, "e3": 0.0}
    found = choose(cells_of(rows(lift, noise=0.1)), NAMES, ["cat"])
    assert found.level == [({"e2", "e3"} - {found.best}).pop()]
    assert "cannot be told apart" in sentence(found)


def test_files_that_are_alike_are_rarely_told_apart():
    """Nothing differs: in most worlds nothing is said to."""
    told = [
        choose(
            cells_of(rows(dict.fromkeys(NAMES, 0.0), noise=0.05, seed=seed)), NAMES, ["cat"]
        ).level
        == []
        for seed in range(40)
    ]
    assert sum(told) <= 4


def test_one_prompt_of_a_kind_gives_no_interval():
    found = choose(cells_of(rows(LIFT, prompts=1)), NAMES, ["cat"])
    assert all(np.isnan(row.behind.lo) for row in found.rows)
    assert "no interval" in sentence(found) and "e2" in sentence(found)


def test_prompts_that_change_the_object_alone_are_chosen_by_their_text():
    frame = rows(LIFT)
    frame = frame[frame["kind"] == "deform"]
    better = frame["method"] == "e3"
    frame["text_sim_raw"] += 0.05 * better
    found = choose(cells_of(frame), NAMES, ["cat"])
    assert (found.best, found.decides) == ("e3", "text_sim")
    assert "text similarity" in sentence(found)


def test_another_scorer_is_asked_by_its_columns():
    frame = rows(LIFT)
    other = rows({"e1": 0.1, "e2": 0.0, "e3": 0.0}, scorer="_truth-1")
    cells = cells_of(frame.assign(**{c: other[c] for c in other if c.endswith("_truth-1")}))
    choices = [choose(cells, NAMES, ["cat"], scorer) for scorer in ("", "truth-1")]
    assert [choice.best for choice in choices] == ["e2", "e1"]
    assert "truth-1 picks e1" in verdict(choices, ["clip", "truth-1"])


def test_a_scorer_without_text_picks_by_pictures_and_one_without_numbers_picks_none():
    frame = rows(LIFT)
    other = rows({"e1": 0.0, "e2": 0.0, "e3": 0.1})["image_sim"]
    cells = cells_of(frame.assign(image_sim_dino=other))
    found = choose(cells, NAMES, ["cat"], "dino")
    assert (found.best, found.decides) == ("e3", "image_sim")
    first, gone = choose(cells, NAMES, ["cat"]), choose(cells, NAMES, ["cat"], "gone")
    told = verdict([first, found, gone], ["clip", "dino", "gone"])
    assert "dino picks e3 by image similarity" in told and "gone gave no score to pick by" in told
    assert gone.best == "" and gone.level == [] and "No pick" in sentence(gone)
    assert "nan" not in told + table(found) + verdict([gone], ["gone"]) + table(gone)


def test_no_file_that_beats_the_plain_word_is_said():
    found = choose(cells_of(rows({"e1": -0.4, "e2": -0.3, "e3": -0.5})), NAMES, ["cat"])
    assert "perhaps the trigger" in verdict([found], ["clip"])
    assert "perhaps" not in verdict([choose(cells_of(rows(LIFT)), NAMES, ["cat"])], ["clip"])


def test_the_table_has_a_row_a_file_in_the_order_of_the_training():
    lines = table(choose(cells_of(rows(LIFT)), NAMES, ["cat"])).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["e1", "**e2**", "e3", "super"]
