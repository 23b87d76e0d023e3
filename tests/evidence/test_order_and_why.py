"""The two experiments behind the confirmatory run, by their rules: intervals against t by hand, and
made-up runs read from their folders.
"""

import json

import numpy as np
import pytest
from made_run import make_run
from scipy import stats
from test_confirm import LOCAL, plan_text

from benchmarks.evidence import order, why
from benchmarks.evidence.confirm_ledger import BEGUN, COLUMNS, add_whole
from benchmarks.evidence.confirm_measures import Scored
from benchmarks.evidence.confirm_plan import PLAN
from benchmarks.evidence.order import Axis, compared, of_both, order_csv, order_text
from benchmarks.evidence.why import STEPS, read_scores, said, steps_csv, steps_of, why_text
from benchmarks.tables.build import cells_of
from benchmarks.tables.sample_rows import sample_rows
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

NAMES = ["cat", "dog", "teapot", "chair", "teddy", "pot"]
POINTS = {"perfusion": (LOCAL,), "cd-selected": ("default",)}
CLAIMS = [("front", "both_axes", [f"perfusion/{LOCAL}"], ["cd-selected/default"], 0.02)]


def half_width(values):
    return stats.t(len(values) - 1).ppf(0.975) * values.std(ddof=1) / np.sqrt(len(values))


def a_run(folder, points, claims, seed, sizes=(4, 6)):
    """A made-up run of a plan, all concepts whole."""
    make_run(folder, points, NAMES, prompts=5, images=1, pictures=False, seed=seed)
    (folder / PLAN).write_text(plan_text(sizes, ["images = 1"], points, claims))
    (folder / BEGUN).write_text(json.dumps({"claims": {}, "concepts": NAMES}))
    for number, name in enumerate(NAMES, 1):
        add_whole(folder, dict.fromkeys(COLUMNS, "x") | {"number": number, "concept": name})
    return folder


# ---- the order ----


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((0.1, 0.05, 0.15), (0.2, 0.01, 0.4), "holds"),
        ((-0.1, -0.15, -0.05), (-0.2, -0.4, -0.01), "holds"),
        ((0.1, 0.05, 0.15), (-0.1, -0.15, -0.05), "reversed"),
        ((0.1, 0.05, 0.15), (0.1, -0.05, 0.25), "open"),
        ((0.0, -0.01, 0.01), (0.1, 0.05, 0.15), "open"),
    ],
)
def test_the_verdict_of_an_axis(first, second, verdict):
    found = Axis("a", "a", "image_sim", 22, *map(Interval._make, (first, second, first)))
    assert found.verdict == verdict


def test_of_both_axes():
    assert of_both(["holds", "holds"]) == "holds" and of_both(["holds", "open"]) == "open"
    assert of_both(["holds", "reversed"]) == of_both(["open", "reversed"]) == "reversed"


def test_the_order_is_compared_on_the_same_concepts(tmp_path, capsys, monkeypatch):
    first = a_run(tmp_path / "first", POINTS, CLAIMS, seed=0)
    second = a_run(tmp_path / "second", POINTS, CLAIMS, seed=7, sizes=(4, 5))
    rows = compared(first, second)
    assert [(row.claim, row.axis, row.concepts) for row in rows] == [
        ("front", "image_sim", 5),
        ("front", "text_sim", 5),
    ]
    one, other = (by_hand(folder, NAMES[:5], "image_sim") for folder in (first, second))
    for found, values in zip((rows[0].first, rows[0].second, rows[0].change),
                             (one, other, other - one)):  # fmt: skip
        assert found.value == pytest.approx(values.mean())
        assert found.hi - found.value == pytest.approx(half_width(values))
    table = order_csv(rows).splitlines()
    assert len(table) == 3 and table[1].startswith("front,image_sim,5,")
    assert f"front is so: **{of_both([row.verdict for row in rows])}**" in order_text(rows)
    call = ["order", "--first", str(first), "--second", str(second)]
    monkeypatch.setattr("sys.argv", call)
    order.main()
    assert (second / "order.csv").read_text() == order_csv(rows)
    assert (second / "order.md").read_text() == capsys.readouterr().out
    (first / "whole.csv").unlink()
    with pytest.raises(SystemExit, match="2"):
        order.main()
    assert "cat is not whole in" in capsys.readouterr().err


def by_hand(folder, names, measure):
    """Perfusion's mean less Custom Diffusion's, a number a concept, from the sample rows."""
    rows = sample_rows(folder)
    rows = rows[rows["concept"].isin(names) & rows["method"].isin([*POINTS])]
    means = rows.groupby(["method", "concept", "prompt_id"])[measure].mean()
    means = means.groupby(["method", "concept"]).mean()
    return np.array([means["perfusion"][name] - means["cd-selected"][name] for name in names])


# ---- why ----


def arms(image, **more):
    """Scores by arm: `image` a value an arm, with noise that a concept's arms share."""
    noise = np.random.default_rng(2).normal(0, 0.1, 22)
    own = np.random.default_rng(3).normal(0, 0.004, (7, 22))
    names = ("A", "B", "C", "D", "E", "published", "no mask")
    values = dict(zip(names, (0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6))) | image
    return {
        name: {"image_sim": values[name] + noise + own[k], **more} for k, name in enumerate(names)
    }


def test_a_step_explains_what_is_half_of_the_whole():
    found = steps_of(arms({"D": 0.61, "E": 0.7}))
    assert [step.name for step in found if step.explains] == ["structure: all attention"]
    scores = arms({"D": 0.61, "E": 0.7})
    difference = scores["E"]["image_sim"] - scores["D"]["image_sim"]
    mine = found[[*STEPS].index("structure: all attention") + 1].found["image_sim"]
    assert mine.value == pytest.approx(difference.mean())
    assert mine.hi - mine.value == pytest.approx(half_width(difference))
    assert said(found).endswith("structure: all attention.")
    two = steps_of(arms({"B": 0.66, "C": 0.66, "D": 0.66, "E": 0.7, "no mask": 0.66}))
    assert [step.arms for step in two if step.explains] == [("B", "A"), ("no mask", "A")]
    spread = steps_of(arms({"B": 0.62, "C": 0.64, "D": 0.67, "E": 0.7}))
    assert not any(step.explains for step in spread) and "spread over the steps" in said(spread)
    rates = steps_of(arms({"E": 0.7, "D": 0.7, "published": 0.53}))
    assert "rates: found instead of published" in said(rates)


@pytest.mark.parametrize("last", [0.6, 0.5])
def test_where_nothing_is_behind_nothing_is_explained(last):
    """Behind, too: any step above zero would be more than half of a whole below it."""
    found = steps_of(arms({"B": 0.7, "E": last}))
    assert not any(step.explains for step in found) and "nothing to explain" in said(found)


def test_arms_are_read_from_their_runs(tmp_path, capsys, monkeypatch):
    ours = {
        "perfusion": (LOCAL,),
        "perfusion-published": (LOCAL,),
        "perfusion-no-mask": (LOCAL,),
        "lora-selected": ("default",),
    }
    claims = [("front", "both_axes", [f"perfusion/{LOCAL}"], ["lora-selected/default"], 0.02)]
    confirm = a_run(tmp_path / "confirm", ours, claims, seed=0)
    for seed, name in enumerate("bcd", 1):
        make_run(tmp_path / "why" / name, {"lora-selected": ("default",)}, NAMES, prompts=5,
                 images=1, pictures=False, seed=seed)  # fmt: skip
    scores = read_scores(confirm, tmp_path / "why")
    assert list(scores) == ["A", "B", "C", "D", "E", "published", "no mask"]
    cells = cells_of(sample_rows(tmp_path / "why" / "c"))
    grid = Scored(cells[cells["concept"].isin(NAMES[:4])])
    expected = grid.side("image_sim", [("lora-selected", "default")])[0]
    assert scores["C"]["image_sim"] == pytest.approx(expected) and len(expected) == 4
    monkeypatch.setattr(
        "sys.argv", ["why", "--confirm", str(confirm), "--folder", str(tmp_path / "why")]
    )
    why.main()
    steps = steps_of(scores)
    assert (tmp_path / "why" / "steps.csv").read_text() == steps_csv(steps)
    assert capsys.readouterr().out == why_text(steps)
    assert len(steps_csv(steps).splitlines()) == 1 + sum(len(one.found) for one in steps)
    (tmp_path / "why" / "b").rename(tmp_path / "why" / "other")
    with pytest.raises(SystemExit, match="2"):
        why.main()
    said_there = capsys.readouterr().err
    assert "Traceback" not in said_there and "why/b" in said_there
    (confirm / "whole.csv").unlink()
    with pytest.raises(UserError, match=r"the first look of .* is not whole"):
        read_scores(confirm, tmp_path / "why")
