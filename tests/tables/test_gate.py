"""The gate: planted losses are caught, harmless drift is not, and runs that cannot be compared are
not compared.
"""

import json
import shutil
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run

from benchmarks import cli
from benchmarks.store.csv_files import PLAN_ROW, planned_text
from benchmarks.tables import gate
from benchmarks.tables.margins import Margin
from benchmarks.tables.statistics import clustered, t_quantile
from perfusion_core.errors import UserError

CONCEPTS = [f"c{i:02d}" for i in range(11)]
PROMPTS = {**{f"s{i}": "shape" for i in range(5)}, **{f"d{i}": "deform" for i in range(5)}}
POINTS = [
    ("cd", "default"),
    ("perfusion", "local-b0.60-t0.15"),
    ("perfusion", "global-b0.40-t0.15"),
    ("super", "default"),
]
COLUMNS = [
    "method",
    "point",
    "concept",
    "group",
    "prompt_id",
    "kind",
    "metric",
    "n",
    "mean",
    "sd",
    "even",
    "odd",
]
ABOUT = {
    "schema": 2,
    "digests": {
        "plan": "cc" * 32,
        "texts": "aa" * 8,
        "concepts": {name: f"bytes of {name}" for name in CONCEPTS if name != "c10"},
        "masks": {},
        "prompts": {name: f"text of {name}" for name in PROMPTS if name != "d4"},
    },
    "backbone": {"id": "miniature", "sha256": "dd" * 32},
    "scorers": [{"name": "scorer-12345678", "weights": "ee" * 32, "preprocessing": "resize 32"}],
    "protocol": {
        "images": 2,
        "steps": 20,
        "guidance": 6.0,
        "seed": 0,
        "dtype": "float32",
        "suite": "",
        "keep": [],
    },
    "version": "0.1.0",
    "commit": "0123456789ab",
    "device": "cpu",
    "dtype": "float32",
}


@cache
def cells_of_repeat(seed: int, noise: float = 0.008, retrained: float = 0.003) -> pd.DataFrame:
    """One repeat of the same thing: concept and prompt effects that stay, what training and
    sampling add by chance.
    """
    world, chance = np.random.default_rng(1), np.random.default_rng(1000 + seed)
    level = {c: world.normal(0, 0.04, 2) for c in CONCEPTS}
    ease = {p: world.normal(0, 0.02, 2) for p in PROMPTS}
    rows = []
    for method, point in POINTS:
        for c in CONCEPTS:
            own = chance.normal(0, retrained, 2)
            for p, kind in PROMPTS.items():
                for k, metric in enumerate(("image_sim", "text_sim_raw")):
                    if metric == "text_sim_raw" or kind == "shape":
                        mean = (
                            (0.7, 0.3)[k]
                            + level[c][k]
                            + ease[p][k]
                            + own[k]
                            + chance.normal(0, noise)
                        )
                        rows.append(
                            (
                                method,
                                point,
                                c,
                                "animated",
                                p,
                                kind,
                                metric,
                                2,
                                mean,
                                0.01,
                                mean,
                                mean,
                            )
                        )
    real = [
        ("real", "default", c, "animated", "", "real", "image_sim", 5, 0.8, 0.01, 0.8, 0.8)
        for c in CONCEPTS
    ]
    return pd.DataFrame(rows + real, columns=COLUMNS)


def keep(folder: Path, cells: pd.DataFrame, **about) -> Path:
    """What is kept of a run as a reference: run.json and cells.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**ABOUT, **about}))
    cells.to_csv(folder / "cells.csv", index=False)
    return folder


def planted(
    cells: pd.DataFrame, losses: dict[str, float], concept: str | None = None
) -> pd.DataFrame:
    """The same cells with a loss in every metric named, of all concepts or of one."""
    lost = cells["metric"].map(losses).fillna(0.0).where(cells["method"] != "real", 0.0)
    if concept:
        lost = lost.where(cells["concept"] == concept, 0.0)
    return cells.assign(mean=cells["mean"] - lost)


@pytest.fixture(scope="module")
def margins() -> gate.Margins:
    return gate.margins_from([cells_of_repeat(seed) for seed in range(1, 6)])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A reference with margins from five repeats, written by the command."""
    place = tmp_path_factory.mktemp("calibrated")
    folder = keep(place / "reference", cells_of_repeat(0))
    repeats = [str(keep(place / f"repeat-{seed}", cells_of_repeat(seed))) for seed in range(1, 6)]
    assert cli.run(["check", "--calibrate", *repeats, "--against", str(folder)]) == 0
    return place


@pytest.fixture
def reference(calibrated, tmp_path) -> Path:
    """A copy of it, and of the repeats beside it."""
    shutil.copytree(calibrated, tmp_path, dirs_exist_ok=True)
    return tmp_path / "reference"


def verdicts(reference: pd.DataFrame, run: pd.DataFrame, margins: gate.Margins) -> list[str]:
    """Of all prompts together, and of each kind of them."""
    return [finding.verdict for finding in gate.compare(reference, run, margins)]


def together(
    reference: pd.DataFrame, run: pd.DataFrame, margins: gate.Margins
) -> list[gate.Finding]:
    """The findings of all prompts together."""
    return [finding for finding in gate.compare(reference, run, margins) if not finding.kind]


# ---- planted losses ----


def test_a_repeat_of_the_same_thing_passes(margins):
    """Twenty repeats that the margins were not made from: none may fail, and hardly any may be left
    undecided.
    """
    found = [
        v
        for seed in range(10, 30)
        for v in verdicts(cells_of_repeat(0), cells_of_repeat(seed), margins)
    ]
    assert len(found) == 20 * 16  # four points, two metrics; of text two kinds besides
    assert found.count("FAIL") == 0
    assert found.count("PASS") >= 0.95 * len(found)


@pytest.mark.parametrize("seed", range(10, 15))
def test_twice_the_margin_everywhere_fails_everywhere(margins, seed):
    worse = planted(
        cells_of_repeat(seed), {metric: 2 * limit.margin for metric, limit in margins.items()}
    )
    found = together(cells_of_repeat(0), worse, margins)
    assert [finding.verdict for finding in found] == ["FAIL"] * 8


@pytest.mark.parametrize("seed", range(10, 15))
def test_a_fifth_of_the_margin_everywhere_passes(margins, seed):
    worse = planted(
        cells_of_repeat(seed), {metric: limit.margin / 5 for metric, limit in margins.items()}
    )
    assert verdicts(cells_of_repeat(0), worse, margins) == ["PASS"] * 16


@pytest.mark.parametrize("seed", range(10, 15))
def test_three_floors_on_one_concept_fail_and_name_it(margins, seed):
    worse = planted(
        cells_of_repeat(seed), {m: 3 * limit.floor for m, limit in margins.items()}, "c04"
    )
    found = together(cells_of_repeat(0), worse, margins)
    assert [finding.verdict for finding in found] == ["FAIL"] * 8
    assert all([name for name, _ in finding.fallen] == ["c04"] for finding in found)


def test_a_gain_passes(margins):
    better = planted(
        cells_of_repeat(10), {metric: -3 * limit.margin for metric, limit in margins.items()}
    )
    assert verdicts(cells_of_repeat(0), better, margins) == ["PASS"] * 16


def test_a_loss_of_one_method_is_not_hidden_by_the_others(margins):
    cells = cells_of_repeat(10)
    mine = cells["method"] == "cd"
    worse = pd.concat(
        [cells[~mine], planted(cells[mine], {"text_sim_raw": 2 * margins["text_sim_raw"].margin})]
    )
    found = {(f.method, f.metric): f.verdict for f in together(cells_of_repeat(0), worse, margins)}
    assert [key for key, verdict in found.items() if verdict == "FAIL"] == [("cd", "text_sim_raw")]


def test_wide_noise_is_inconclusive_and_says_what_would_settle_it():
    tight = {"image_sim": Margin(0.02, 1.0), "text_sim_raw": Margin(0.02, 1.0)}
    found = gate.compare(
        cells_of_repeat(0, retrained=0.05), cells_of_repeat(1, retrained=0.05), tight
    )
    undecided = [finding for finding in found if finding.verdict == "INCONCLUSIVE"]
    assert len(undecided) >= 4
    for finding in undecided:
        se = (finding.loss.hi - finding.loss.value) / t_quantile(11)
        margin = finding.margin  # of a kind it is wider
        room = margin - finding.loss.value if finding.loss.value <= margin else finding.loss.value

        def half(n: int, se: float = se) -> float:
            return float(t_quantile(n) * se * (11 / n) ** 0.5)

        if finding.settled_by:
            assert half(finding.settled_by) < room <= half(finding.settled_by - 1)
        else:
            assert half(1000) >= room


def test_one_concept_is_judged_by_its_floor_alone(margins):
    one, other = (
        cells.query("concept == 'c03'") for cells in (cells_of_repeat(0), cells_of_repeat(10))
    )
    assert set(verdicts(one, other, margins)) == {"INCONCLUSIVE"}
    worse = planted(other, {metric: 2 * limit.floor for metric, limit in margins.items()})
    assert set(verdicts(one, worse, margins)) == {"FAIL"}


def test_the_power_row_keeps_its_promise():
    """Plant exactly the loss that is said to be caught 9 times in 10, many times over."""
    rng = np.random.default_rng(2)

    def draw(loss: float) -> gate.Finding:
        cells = loss + rng.normal(0, 0.02, (11, 1)) + rng.normal(0, 0.01, (11, 10))
        words = ("concepts", "cd", "default", "text_sim_raw")
        return gate.Finding(*words, 0.3, 0.3 - loss, clustered(cells), 0.01, 1.0, 11, ())

    promised = np.mean([draw(0.0).caught for _ in range(1000)])
    assert promised > 0.01
    caught = np.mean([draw(promised).verdict == "FAIL" for _ in range(2000)])
    assert 0.86 <= caught <= 0.94


def test_pairs_are_judged_apart(margins):
    def with_pairs(seed: int) -> pd.DataFrame:
        cells = cells_of_repeat(seed)
        pairs = cells[cells["concept"].isin(["c00", "c01"]) & (cells["kind"] == "shape")]
        names = {"c00": "c00+c02", "c01": "c01+c03"}
        return pd.concat(
            [cells, pairs.assign(concept=pairs["concept"].map(names), kind="pair", group="pair")]
        )

    found = gate.compare(with_pairs(0), with_pairs(10), margins)
    assert sorted({(finding.of, finding.n) for finding in found}) == [
        ("concepts", 11),
        ("pairs", 2),
    ]


# ---- what makes no difference, and what makes a comparison impossible ----


def test_order_of_rows_and_columns_makes_no_difference(margins):
    run = cells_of_repeat(10)
    shuffled = run.sample(frac=1, random_state=0)[COLUMNS[::-1]]
    assert gate.compare(cells_of_repeat(0), shuffled, margins) == gate.compare(
        cells_of_repeat(0), run, margins
    )


def run_check(reference: Path, cells: pd.DataFrame, *flags: str, **about) -> tuple[int, Path]:
    run = keep(reference.parent / "run", cells, **about)
    return cli.run(["check", str(run), "--against", str(reference), *flags]), run


def with_digests(**changes) -> dict:
    """Digests of a run that has one of them changed, or others besides."""
    known = ABOUT["digests"]
    return {
        "digests": {
            k: {**known[k], **v} if isinstance(v, dict) else v
            for k, v in {**known, **changes}.items()
        }
    }


@pytest.mark.parametrize("change, says", [
    (with_digests(prompts={"s1": "other"}), "prompt s1: text of s1 -> other"),
    (with_digests(concepts={"c03": "other"}), "concept c03: bytes of c03 -> other"),
    (with_digests(texts="other"), "training and validation texts: aaaaaaaaaaaaaaaa -> other"),
    ({"backbone": {"id": "sd", "sha256": "00" * 32}}, "backbone: "),
    ({"scorers": [{"name": "other-87654321"}]}, "scorer: scorer-12345678 -> other-87654321"),
    ({"protocol": {**ABOUT["protocol"], "steps": 50}}, "steps: 20 -> 50"),
    ({"protocol": {**ABOUT["protocol"], "guidance": 7.5}}, "guidance: 6.0 -> 7.5"),
    ({"protocol": {**ABOUT["protocol"], "something new": 1}}, "something new: None -> 1"),
])  # fmt: skip
def test_another_protocol_is_not_comparable(reference, change, says, capsys):
    status, _ = run_check(reference, cells_of_repeat(10), **change)
    out = capsys.readouterr().out
    assert status == 2
    assert "NOT COMPARABLE" in out and f"differs: {says}" in out


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": {**ABOUT["protocol"], "dtype": "bfloat16", "keep": ["50"]}},
        {"protocol": {**ABOUT["protocol"], "compile": True}},
        {"device": "cuda"},
        {"backbone": {"id": "elsewhere/the-same", "sha256": "dd" * 32}},
        with_digests(
            plan="00" * 32,
            concepts={"c99": "new"},
            prompts={"d99": "new"},
            masks={"c03": "by CLIPSeg"},
        ),
        {"commit": "fedcba987654"},
    ],
)
def test_what_may_differ(reference, change, capsys):
    status, _ = run_check(reference, cells_of_repeat(10), **change)
    assert status == 0, capsys.readouterr().out


def test_conditions_that_differ_are_mentioned(reference, capsys):
    run_check(reference, cells_of_repeat(10), device="cuda", commit="fedcba987654")
    out = capsys.readouterr().out
    assert (
        "also differs, which is allowed: device: cpu -> cuda" in out
        and "commit: 0123456789ab -> fedcba987654" in out
    )


def test_a_method_that_was_untuned_in_either_run_is_marked(reference, capsys):
    methods = {"cd": {"of": "cd", "config": {}, "untuned": True}}
    run_check(reference, cells_of_repeat(10), methods=methods)
    out = capsys.readouterr().out
    assert "| cd (untuned) " in out and "Untuned: the rates of cd are a guess" in out


def test_compiling_is_a_condition_as_the_dtype_is(reference, capsys):
    run_check(reference, cells_of_repeat(10), config={"compile": True}, dtype="bfloat16")
    out = capsys.readouterr().out
    assert "dtype: float32 -> bfloat16" in out and "compile: False -> True" in out


def without(cells: pd.DataFrame, query: str) -> pd.DataFrame:
    return cells.drop(cells.query(query).index)


@pytest.mark.parametrize("query, says", [
    ("concept == 'c07'", "1 concept (c07) without any score in the run"),
    ("prompt_id == 'd2'", "1 prompt (d2) without any score in the run"),
    ("concept == 'c07' and prompt_id == 's1' and method == 'cd'",
     "2 cells (cd default c07 s1 image_sim, cd default c07 s1 text_sim_raw) without a score, not "
     "in the run"),
    ("concept == 'c10' and method == 'cd'", "and 12 more) without a score, not in the run"),
])  # fmt: skip
def test_lost_cells_are_not_comparable(reference, query, says, capsys):
    """The run was asked for them (its run.json names the concept and the prompt), or has their like
    elsewhere.
    """
    status, _ = run_check(reference, without(cells_of_repeat(10), query))
    assert status == 2 and says in capsys.readouterr().out


@pytest.mark.parametrize(
    "query, name", [("concept == 'c10'", "1 concept (c10)"), ("prompt_id == 'd4'", "1 prompt (d4)")]
)
def test_a_run_of_less_is_compared_on_what_both_have(reference, query, name, capsys):
    """Neither run.json names them: nobody asked the run for them. What both have is judged; the
    rest is undecided.
    """
    worse = cells_of_repeat(10)
    run = without(worse, query)
    assert run_check(reference, run)[0] == 0
    out = capsys.readouterr().out
    assert "INCONCLUSIVE: run against reference" in out and f"not in the run: {name}" in out
    assert run_check(reference, run, "--strict")[0] == 1
    capsys.readouterr()
    assert run_check(reference, planted(run, {"text_sim_raw": 1.0}))[0] == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_run_of_more_is_compared_on_what_both_have(reference, capsys):
    """A concept or a prompt was added since: the old reference still judges what it knows."""
    cells = cells_of_repeat(10)
    more = pd.concat([
        cells, cells.query("concept == 'c07'").assign(concept="c99", mean=0.0),
        cells.query("prompt_id == 'd2'").assign(prompt_id="d99", mean=0.0),
    ])  # fmt: skip
    assert (
        run_check(reference, more, "--format", "json", **with_digests(concepts={"c99": "new"}))[0]
        == 0
    )
    grown = json.loads(capsys.readouterr().out)
    assert run_check(reference, cells, "--format", "json")[0] == 0
    same = json.loads(capsys.readouterr().out)
    assert grown["findings"] == same["findings"] and grown["verdict"] == "PASS"
    assert grown["notes"] == [
        "1 concept (c99) not in the reference",
        "1 prompt (d99) not in the reference",
    ]


def test_a_method_that_only_the_run_has_is_mentioned(reference, capsys):
    cells = cells_of_repeat(10)
    more = pd.concat([cells, cells.query("method == 'cd'").assign(method="mine", mean=0.0)])
    assert run_check(reference, more, "--format", "json", "--strict")[0] == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"] == ["1 operating point (mine default) not in the reference"]
    assert "mine" not in {finding["method"] for finding in found["findings"]}


def test_no_concept_in_common(reference, capsys):
    other = cells_of_repeat(10).assign(concept=lambda cells: "x" + cells["concept"])
    assert run_check(reference, other)[0] == 2
    assert "no concept is in both" in capsys.readouterr().out


def test_run_json_of_another_version_is_a_sentence(reference):
    with pytest.raises(
        UserError,
        match=r"run.json is of schema 1, and only schema 2 can be compared: make that run ag",
    ):
        run_check(
            reference,
            cells_of_repeat(10),
            schema=1,
            digests={"prompts": "00", "concepts": "00", "plan": "00"},
        )


def test_nan_never_passes(reference, capsys):
    cells = cells_of_repeat(10).copy()
    at = cells.query(
        "method == 'perfusion' and concept == 'c02' and prompt_id == 's0' and metric == 'image_sim'"
    ).index
    cells.loc[at, "mean"] = np.nan
    status, _ = run_check(reference, cells)
    assert status == 2
    assert "2 cells (perfusion global-b0.40-t0.15 c02 s0 image_sim" in capsys.readouterr().out


def test_another_number_of_images_is_not_comparable(reference, capsys):
    cells = cells_of_repeat(10).copy()
    cells.loc[
        cells.query("method == 'cd' and concept == 'c02' and prompt_id == 'd0'").index, "n"
    ] = 1
    status, _ = run_check(reference, cells)
    assert (
        status == 2
        and "1 cell (cd default c02 d0 text_sim_raw) of another number of images"
        in capsys.readouterr().out
    )


def test_a_method_that_was_not_run_is_said_and_is_undecided(reference, capsys):
    cells = without(cells_of_repeat(10), "method == 'cd'")
    assert run_check(reference, cells)[0] == 0
    out = capsys.readouterr().out
    assert "INCONCLUSIVE: run against reference" in out and "not in the run: cd default" in out
    assert run_check(reference, cells, "--strict")[0] == 1


def test_a_method_that_failed_everywhere_is_lost(reference, capsys):
    """The run's plan names it, so that somebody asked for it; a run of everything else is no run of
    less.
    """
    run = reference.parent / "run"
    keep(run, cells_of_repeat(10))
    plan = [
        dict.fromkeys(PLAN_ROW, "") | {"method": method, "point": point, "n": 2}
        for method, point in POINTS
    ]
    (run / "plan.csv").write_text(planned_text(plan))
    assert run_check(reference, cells_of_repeat(10))[0] == 0
    assert run_check(reference, without(cells_of_repeat(10), "method == 'cd'"))[0] == 2
    assert (
        "differs: 1 operating point (cd default) without any score in the run"
        in capsys.readouterr().out
    )


def test_cells_without_a_row(reference, capsys):
    assert run_check(reference, cells_of_repeat(10).iloc[:0])[0] == 2
    assert "no method and operating point is in both" in capsys.readouterr().out


def test_nothing_in_common(reference, capsys):
    cells = cells_of_repeat(10)
    status, _ = run_check(reference, cells.assign(method="my-" + cells["method"]))
    assert status == 2 and "no method and operating point is in both" in capsys.readouterr().out


# ---- the command ----


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("loss, status", [(0.0, 0), (2.0, 1)])
def test_exit_status(reference, margins, loss, status, strict, capsys):
    cells = planted(
        cells_of_repeat(10), {metric: loss * limit.margin for metric, limit in margins.items()}
    )
    assert run_check(reference, cells, *(["--strict"] if strict else []))[0] == status
    out = capsys.readouterr().out
    assert ("FAIL: run against reference" if status else "PASS: run against reference") in out
    assert (
        "power: a loss of image_sim 0.0" in out and "would be caught with 90 % probability" in out
    )


def test_undecided_fails_only_where_strict(reference, capsys):
    (reference / "check.toml").write_text(
        "[retrained.image_sim]\nmargin = 0.0021\nfloor = 1\n[retrained.text_sim_raw]\nmargin = "
        "0.0021\nfloor = 1.0\n"
    )
    assert run_check(reference, cells_of_repeat(10))[0] == 0
    assert "concepts like these would settle it" in capsys.readouterr().out
    assert run_check(reference, cells_of_repeat(10), "--strict")[0] == 1


def test_calibrated_margins_are_the_noise_of_the_repeats(reference):
    found = tomllib.loads((reference / "check.toml").read_text())
    assert list(found) == ["retrained"] and found["retrained"]["runs"] == [
        f"repeat-{seed}" for seed in range(1, 6)
    ]
    worst = {metric: [0.0, 0.0] for metric in ("image_sim", "text_sim_raw")}
    for a in range(1, 6):
        for b in range(a + 1, 6):
            both = cells_of_repeat(a).merge(
                cells_of_repeat(b), on=["method", "point", "concept", "prompt_id", "metric"]
            )
            both = both[both["method"] != "real"].assign(loss=lambda f: f["mean_x"] - f["mean_y"])
            for (_, _, metric), cells in both.groupby(["method", "point", "metric"]):
                wide = cells.pivot(index="concept", columns="prompt_id", values="loss").to_numpy()
                interval = clustered(wide)
                worst[metric][0] = max(worst[metric][0], -interval.lo, interval.hi)
                worst[metric][1] = max(worst[metric][1], *np.abs(wide.mean(1)))
    for metric, (limit, concept) in worst.items():
        assert 1.5 * limit <= found["retrained"][metric]["margin"] <= 1.5 * limit + 0.001
        assert 1.5 * concept <= found["retrained"][metric]["floor"] <= 1.5 * concept + 0.001


def test_few_repeats_only_widen_limits_of_prompts_and_kinds():
    """What they do not write is implied, and what they write is no less than that."""
    repeats = [cells_of_repeat(seed) for seed in range(1, 6)]
    many, few = gate.margins_from(repeats), gate.margins_from(repeats[:2])
    two = gate.paired(*map(gate.scored, repeats[:2]))
    narrower = 0
    for (_, _, _, metric), rows in two.items():
        limit, every = few[metric], ~np.isnan(rows.loss)
        assert many[metric].prompt and set(many[metric].kinds) == set(rows.several)
        assert limit.prompt is None or limit.prompt > gate.UNTOLD * limit.floor
        for kind in rows.several:
            implied = gate.of_fewer(limit, every, ~np.isnan(rows.of_kind(kind).loss))
            narrower += kind not in limit.kinds
            own = limit.kinds.get(kind, implied)
            assert own.margin >= implied.margin and own.floor >= implied.floor
    assert narrower, "nothing was left out"


def test_a_prompt_far_off_in_two_repeats_widens_its_limit():
    one, other = cells_of_repeat(1), cells_of_repeat(2)
    far = other["mean"].where(other["prompt_id"] != other["prompt_id"].iloc[0], other["mean"] - 0.2)
    for metric, limit in gate.margins_from([one, other.assign(mean=far)]).items():
        assert limit.prompt is not None and limit.prompt > gate.UNTOLD * limit.floor, metric


def test_two_sets_of_margins_side_by_side(reference, capsys):
    """Repeats with the same weights differ less; each set is made on its own, and run.json says
    which one applies.
    """
    weights = {"cd": {"c01": "11" * 32, "c02": "12" * 32}, "perfusion": {"c01": "22" * 32}}
    same = [
        str(
            keep(
                reference.parent / f"same-{seed}",
                cells_of_repeat(seed, noise=0.002, retrained=0),
                weights=weights,
            )
        )
        for seed in range(1, 4)
    ]
    assert cli.run(["check", "--calibrate", *same, "--against", str(reference)]) == 0
    found = tomllib.loads((reference / "check.toml").read_text())
    assert list(found) == ["same-weights", "retrained"]
    assert (
        found["same-weights"]["image_sim"]["margin"]
        < 0.5 * found["retrained"]["image_sim"]["margin"]
    )

    keep(reference, cells_of_repeat(0, noise=0.002, retrained=0), weights=weights)
    for mine, name in (
        (weights, "same-weights"),
        ({"cd": {**weights["cd"], "c99": "a concept more"}}, "same-weights"),
        ({**weights, "cd": {"c01": "33" * 32}}, "retrained"),
        ({}, "retrained"),
    ):
        run_check(reference, cells_of_repeat(10, noise=0.002, retrained=0), weights=mine)
        assert f"{name} margins" in capsys.readouterr().out
    run_check(reference, cells_of_repeat(10, noise=0.002, retrained=0), "--margins", "same-weights")
    assert "same-weights margins" in capsys.readouterr().out


def test_identical_repeats_still_leave_a_margin():
    cells = cells_of_repeat(0)
    least = Margin(0.002, 0.002)
    kinds = {"deform": least, "shape": least}
    assert gate.margins_from([cells] * 5) == {
        "image_sim": Margin(0.002, 0.002, 0.002),
        "text_sim_raw": Margin(0.002, 0.002, 0.002, kinds),
    }
    assert gate.margins_from([cells, cells]) == {"image_sim": least, "text_sim_raw": least}
    assert set(verdicts(cells, cells, gate.margins_from([cells, cells]))) == {"PASS"}


@pytest.mark.parametrize("text, says", [
    (None, r"has no \[retrained\] margins \(there: none\).*perfbench check --calibrate RUN RUN "
           r"RUN"),
    ("[retrained", "is not a TOML file"),
    ("[retrained.image_sim]\nmargin = 0.01\nfloor = 0.02\n", r"has no \[retrained.text_sim_raw\]"),
    ("[retrained.image_sim]\nmargins = 0.01\n", "did you mean 'margin'"),
    ("[retrained.image_sim]\nmargin = 0\nfloor = 0.1\n", "numbers above zero"),
    ("[retrained.image_sim]\nmargin = true\nfloor = 0.1\n", "numbers above zero"),
    ("[retrained.image_sim]\nmargin = inf\nfloor = 0.1\n", "numbers above zero"),
    ("[retrained.image_sim]\nmargin = 0.1\nfloor = 0.1\nprompt = '1'\n", "numbers above zero"),
    ("[retrained.image_sim]\nmargin = 0.1\nfloor = 0.1\nshape = 0.1\n", "unknown key of "),
    ("[retrained.image_sim]\nmargin = 0.1\nfloor = 0.1\n[retrained.image_sim.shape]\nmargin = 1",
     r"\[retrained.image_sim.shape\] needs margin and floor"),
])  # fmt: skip
def test_margins_that_cannot_be_used(reference, text, says):
    (reference / "check.toml").unlink()
    if text is not None:
        (reference / "check.toml").write_text(text)
    with pytest.raises(UserError, match=says):
        run_check(reference, cells_of_repeat(10))


def test_mistakes_in_what_was_asked(reference):
    one, two = (str(reference.parent / f"repeat-{seed}") for seed in (1, 2))
    keep(reference.parent / "other", cells_of_repeat(3), scorers=[{"name": "other"}])
    for words, says in [
        ([one], "write perfbench check RUN --against REFERENCE"),
        ([one, two, "--against", str(reference)], "one run is checked at a time, not 2"),
        ([str(reference), "--against", str(reference)], "against itself"),
        ([one, "--against", str(reference), "--format", "xml"], "unknown format 'xml'"),
        ([one, "--against", str(reference), "--margins", "retrain"], "did you mean 'retrained'"),
        ([one, "--against", "nowhere"], "nowhere is not a run folder"),
        (["--calibrate", one], "needs repeated runs"),
        (["--calibrate", one, one], "the same run twice"),
        (["--calibrate", one, str(reference.parent / "other")], "is no repeat of"),
    ]:
        with pytest.raises(UserError, match=says):
            cli.run(["check", *words])


def test_real_run_folders_and_the_newest_one(tmp_path, monkeypatch, capsys):
    """From rows on: two runs as the harness leaves them, the second one the newest under
    results/.
    """
    methods = {"perfusion": (LOCAL[0], GLOBAL[0]), "cd": ("default",)}
    for seed, name in enumerate(("before", "again", "now")):
        started = {"started": f"2026-11-2{seed}T09:00:00+00:00"}
        small = {
            "concepts": ["cat", "teapot", "chair", "dog"],
            "prompts": 4,
            "images": 2,
            "pictures": False,
        }
        make_run(tmp_path / "results" / name, methods, **small, seed=seed, extra=started)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["check", "--calibrate", "before", "again"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(Path("results/before/check.toml"))
    assert cli.run(["check", "--against", "before"]) in (0, 1)
    assert "now against before" in capsys.readouterr().out
