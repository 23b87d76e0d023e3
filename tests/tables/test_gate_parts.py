"""The gate's finer eyes: each kind of prompts, each prompt, another seed; limits that no repeat
told; and the tables that a simulation of it writes.
"""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_kit import ROOT
from test_gate import ABOUT, PROMPTS, cells_of_repeat, keep, together

from benchmarks import cli
from benchmarks.tables import gate, gate_simulation
from benchmarks.tables.comparable import scored
from benchmarks.tables.judging import Scores, judge
from benchmarks.tables.margins import Margin, read_margins
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError

QUICK = ROOT / "results" / "miniature-quick"
KEY = ("concepts", "cd", "default", "text_sim_raw")
TEXT = {"text_sim_raw"}


@pytest.fixture(scope="module")
def margins() -> gate.Margins:
    return gate.margins_from([cells_of_repeat(seed) for seed in range(1, 6)])


def lost(cells: pd.DataFrame, where: pd.Series, loss: float) -> pd.DataFrame:
    """A loss of raw text similarity in some cells."""
    mine = where & cells["metric"].isin(TEXT)
    return cells.assign(mean=cells["mean"].where(~mine, cells["mean"] - loss))


# ---- kinds ----


@pytest.mark.parametrize("kind", ["deform", "shape"])
def test_a_loss_of_one_kind_fails_in_its_own_finding(margins, kind):
    """Half of the prompts lose, so all together lose half; the other kind loses nothing."""
    cells = cells_of_repeat(10)
    worse = lost(cells, cells["kind"] == kind, 2 * margins["text_sim_raw"].kinds[kind].margin)
    found = gate.compare(cells_of_repeat(0), worse, margins)
    of_kind = {one.kind: one.verdict for one in found if one.metric in TEXT and one.method == "cd"}
    other = {"deform": "shape", "shape": "deform"}[kind]
    assert (of_kind[kind], of_kind[other]) == ("FAIL", "PASS")
    assert {one.kind for one in found if one.metric == "image_sim"} == {""}  # it has shape alone


def test_a_kind_of_one_half_of_the_cells_is_root_two_wider():
    """Standard errors of a balanced layout, were all noise one of cells: by simulated means."""
    rng = np.random.default_rng(1)
    kinds = np.array(list(PROMPTS.values()), dtype=object)
    zero = np.zeros((11, 10))
    names = [f"c{k}" for k in range(11)]
    limit = Margin(0.01, 0.03)
    scores = Scores(names, list(PROMPTS), kinds, zero, zero)
    whole, deform, shape = judge(KEY, scores, limit)
    assert (whole.margin, whole.kind) == (0.01, "")
    for one in (deform, shape):
        drawn = rng.normal(0, 1, (4000, 11, 10))
        ratio = drawn[..., kinds == one.kind].mean((1, 2)).std() / drawn.mean((1, 2)).std()
        assert one.margin == pytest.approx(0.01 * ratio, rel=0.06)
        assert one.margin == pytest.approx(0.01 * 2**0.5) and one.floor == pytest.approx(0.06)
    told = replace(limit, kinds={"deform": Margin(0.5, 0.7)})
    _, deform, shape = judge(KEY, scores, told)
    assert (deform.margin, deform.floor) == (0.5, 0.7)
    assert shape.margin == pytest.approx(0.01 * 2**0.5)


def test_concepts_without_a_kind_are_not_counted_in_it():
    now = np.zeros((4, 4))
    now[2:, 2:] = np.nan  # two concepts have the first two prompts only
    scores = Scores(list("abcd"), list("wxyz"), np.array(["s", "s", "d", "d"], dtype=object),
                    np.zeros((4, 4)), now)  # fmt: skip
    scores = replace(scores, before=np.where(np.isnan(now), np.nan, 0.0))
    assert [(one.kind, one.n) for one in judge(KEY, scores, Margin(0.1, 0.1))] == [
        ("", 4),
        ("d", 2),
        ("s", 4),
    ]


# ---- prompts ----


def test_a_loss_of_one_prompt_everywhere_fails_and_names_it(margins):
    cells = cells_of_repeat(10)
    floor = margins["text_sim_raw"].prompt
    worse = lost(cells, cells["prompt_id"] == "s3", 2.5 * floor)
    for one in together(cells_of_repeat(0), worse, margins):
        named = [name for name, _, _ in one.prompts]
        assert (one.verdict, named) == (("FAIL", ["s3"]) if one.metric in TEXT else ("PASS", []))


@pytest.mark.parametrize("concepts, prompts", [(11, 5), (3, 10), (1, 10), (40, 10)])
def test_the_floor_of_a_prompt_goes_with_its_concepts(concepts, prompts):
    """One and a half of a concept's floor where as many concepts have it as a concept has prompts;
    of n concepts by max(sqrt(K/n), K/n)."""
    further = max((prompts / concepts) ** 0.5, prompts / concepts)
    kinds = np.full(prompts, "shape", dtype=object)
    names = [f"c{k}" for k in range(concepts)], [f"p{k}" for k in range(prompts)]
    for prompt, floor in ((None, 0.03 * further), (0.05, 0.05 * further)):
        for share, fails in ((0.99, False), (1.01, True)):
            now = np.zeros((concepts, prompts))
            now[:, 2] = -share * floor
            scores = Scores(*names, kinds, np.zeros_like(now), now)
            [one] = judge(KEY, scores, Margin(10.0, 0.02, prompt))
            assert [name for name, _, _ in one.prompts if name == "p2"] == ["p2"] * fails
            if fails:
                assert one.prompts[0][1:] == pytest.approx((share * floor, floor))


def test_repeats_tell_every_limit_and_check_toml_keeps_it(tmp_path, margins, capsys):
    reference = keep(tmp_path / "reference", cells_of_repeat(0))
    repeats = [str(keep(tmp_path / f"r{n}", cells_of_repeat(n))) for n in range(1, 6)]
    assert cli.run(["check", "--calibrate", *repeats, "--against", str(reference)]) == 0
    out = capsys.readouterr().out
    assert "text_sim_raw (deform): margin 0.0" in out and ", floor of a prompt 0.0" in out
    assert read_margins(reference, None, "retrained") == ("retrained", margins)
    written = (reference / "check.toml").read_text()
    found = tomllib.loads(written)["retrained"]["text_sim_raw"]
    assert set(found) == {"margin", "floor", "prompt", "deform", "shape"}
    # by hand: the largest mean of a prompt over its concepts between two repeats, all have eleven
    most = 0.0
    keys = ["method", "point", "concept", "prompt_id", "metric"]
    for a in range(1, 6):
        for b in range(a + 1, 6):
            both = scored(cells_of_repeat(a)).merge(scored(cells_of_repeat(b)), on=keys)
            both = both[both["metric"] == "text_sim_raw"]
            by = (both["mean_x"] - both["mean_y"]).groupby(
                [both["method"], both["point"], both["prompt_id"]]
            )
            most = max(most, by.mean().abs().max())
    assert found["prompt"] == pytest.approx(1.5 * most / (10 / 11) ** 0.5, abs=0.00101)
    # a second set leaves the first as it was
    again = [str(keep(tmp_path / f"s{n}", cells_of_repeat(n), protocol=seeded(n))) for n in (1, 2)]
    assert cli.run(["check", "--calibrate", *again, "--against", str(reference)]) == 0
    assert (reference / "check.toml").read_text().startswith(written.rstrip())


# ---- another seed ----


def seeded(seed: int) -> dict:
    return {**ABOUT["protocol"], "seed": seed}


def test_another_seed_is_refused_without_margins_of_its_own(tmp_path, capsys):
    reference = keep(tmp_path / "reference", cells_of_repeat(0))
    same = [str(keep(tmp_path / f"same-{n}", cells_of_repeat(n))) for n in (1, 2, 3)]
    assert cli.run(["check", "--calibrate", *same, "--against", str(reference)]) == 0
    run = str(keep(tmp_path / "run", cells_of_repeat(9), protocol=seeded(7)))
    capsys.readouterr()
    for words in ((), ("--margins", "retrained"), ("--margins", "other-seed")):
        assert cli.run(["check", run, "--against", str(reference), *words]) == 2
        out = capsys.readouterr().out
        assert "differs: seed: 0 -> 7, which draws other noise" in out and "other-seed" in out

    others = [str(keep(tmp_path / f"other-{n}", cells_of_repeat(n, noise=0.03), protocol=seeded(n)))
              for n in (1, 2, 3)]  # fmt: skip
    assert cli.run(["check", "--calibrate", *others, "--against", str(reference)]) == 0
    found = tomllib.loads((reference / "check.toml").read_text())
    assert list(found) == ["retrained", "other-seed"]
    assert found["other-seed"]["image_sim"]["margin"] > found["retrained"]["image_sim"]["margin"]
    capsys.readouterr()
    assert cli.run(["check", run, "--against", str(reference), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["margins"], told["notes"]) == ("other-seed", ["seed: 0 -> 7"])
    assert cli.run(["check", run, "--against", str(reference), "--margins", "retrained"]) == 2
    # nor do they stand in for the only one there was, where that would be taken
    weights = {"weights": {"cd": {"c01": "11" * 32}}}
    keep(reference, cells_of_repeat(0), **weights)
    keep(tmp_path / "same-1", cells_of_repeat(1), **weights)
    assert cli.run(["check", same[0], "--against", str(reference)]) == 0
    assert "retrained margins" in capsys.readouterr().out


def test_margins_of_one_seed_are_not_made_of_others(tmp_path):
    one = [str(keep(tmp_path / f"one-{n}", cells_of_repeat(n))) for n in (1, 2)]
    two = [str(keep(tmp_path / f"two-{n}", cells_of_repeat(n), protocol=seeded(n))) for n in (1, 2)]
    for runs, name, says in (
        (one, "other-seed", "one seed"),
        (two, "retrained", "seeds of their own"),
    ):
        with pytest.raises(UserError, match=f"--margins {name} does not fit .* have {says}"):
            cli.run(["check", "--calibrate", *runs, "--margins", name])


# ---- committed references, and the page ----


@pytest.mark.parametrize("name", ["miniature-quick", "miniature-quickstart"])
def test_a_committed_check_toml_is_opened_and_judges_every_kind(name):
    folder = ROOT / "results" / name
    title, limits = read_margins(folder, None, "retrained")
    cells = open_run(str(folder)).cells
    found = gate.compare(cells, cells, limits)
    assert {one.kind for one in found} == {"", "deform", "shape"}
    assert {one.verdict for one in found} == {"PASS"} and title in ("same-weights", "retrained")


def test_the_page_says_what_the_simulation_finds():
    """Three places of the committed table again, by fewer runs."""
    page = (ROOT / "docs" / "statistics.md").read_text()
    told = page.split(gate_simulation.BEGIN)[1].split(gate_simulation.END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in told.splitlines() if line.startswith("|")]  # fmt: skip
    world = gate_simulation.world_of(QUICK, "same-weights")
    places = ["all", "shape prompts only", "one shape prompt, all concepts"]
    n = 25
    for place, axis, *shares in gate_simulation.detection(world, n, places):
        [known] = [row[2:] for row in rows if row[:2] == [place, axis]]
        for mine, theirs in zip(shares, known, strict=True):
            for a, b in zip(pair(mine), pair(theirs), strict=True):
                assert abs(a - b) <= 4 * (max(b * (1 - b), 0.02) / n) ** 0.5, (place, axis)
    alarms = [row for row in rows if row[0] == "miniature-quick" and row[1] == "normal"]
    assert alarms and all(float(share) <= 1.0 for share in alarms[0][2:])


def pair(text: str) -> list[float]:
    """`3 / 40` or `100`: FAIL, and with --strict."""
    parts = [float(part) / 100 for part in text.split("/")]
    return parts if len(parts) == 2 else parts * 2


def test_the_command_writes_the_tables_between_their_marks(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gate_simulation.BEGIN}\nold\n{gate_simulation.END}\nafter\n")
    monkeypatch.setattr(gate_simulation, "PAGE", page)
    monkeypatch.setattr(gate_simulation, "PLACES", {"one cell": gate_simulation.PLACES["one cell"]})
    for name in ("DRAWS", "REPEATS"):
        monkeypatch.setattr(gate_simulation, name, 2)
    gate_simulation.main()
    first = page.read_text()
    assert first.startswith("before\n") and first.endswith("\nafter\n") and "old" not in first
    assert first.count("| one cell") == 2 and "miniature-quickstart" in first
    gate_simulation.main()
    assert page.read_text() == first  # the same each time
