"""Measures beyond the protocol on their way from rows to tables, against plain loops; what they
must not move.
"""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from made_measures import add_measures
from made_run import make_run

from benchmarks import cli
from benchmarks.scoring.measures import MEASURES, in_order, is_ambiguous, measure_of, scorer_of
from benchmarks.store.csv_files import read_frame, rows_text, whole
from benchmarks.tables import build
from benchmarks.tables.measured import with_derived
from benchmarks.tables.sample_rows import is_metric, missing_of, named_by
from benchmarks.tables.statistics import t_quantile
from benchmarks.tables.table_text import beyond_text
from perfusion_core.errors import UserError

OTHER = "dino-0a1b2c3d"
METHODS = {"cd": ("default",)}
CONCEPTS = ["cat", "chair", "teapot"]


def test_columns_are_told_apart():
    """`image_sim_<scorer>` is the protocol's score by another scorer, `image_sim_heldout` a
    measure.
    """
    for name, one in MEASURES.items():
        assert measure_of(name) is one and scorer_of(name) == ""
        column = f"{name}_{OTHER}"
        assert measure_of(column) is one and scorer_of(column) == OTHER and is_metric(column)
        assert named_by(OTHER)[column] == name
    for column in (f"image_sim_{OTHER}", "image_sim", "image_sim_a", f"text_sim_raw_{OTHER}"):
        assert measure_of(column) is None and is_metric(column)
    assert not is_ambiguous(OTHER) and is_ambiguous("heldout_net-0a1b2c3d")
    assert in_order([f"nearer_{OTHER}", "vendi", "n", "nearer"]) == [
        "nearer",
        "vendi",
        f"nearer_{OTHER}",
    ]


def mean_of(said, method, concept, name):
    cells = [
        of[name] for (m, c, _), of in said.items() if (m, c) == (method, concept) and name in of
    ]
    return statistics.fmean(map(statistics.fmean, cells))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("measured") / "run"
    make_run(run, METHODS, CONCEPTS, prompts=4, images=2, pictures=False)
    before = {file.name: file.read_bytes() for file in run.glob("[a-z]*.*")}
    scorer = next((run / "rows").iterdir()).name
    said = add_measures(run, scorer)
    build.write_tables(run)
    return run, before, said


def test_they_reach_every_table(made):
    run, _, said = made
    samples = pd.read_csv(run / "samples.csv")
    assert list(samples)[-3:] == ["image_sim_heldout", "nearer", "variety"]
    metrics = pd.read_csv(run / "metrics.csv").set_index(["method", "concept"])
    table = pd.read_csv(run / "table.csv").set_index("method")
    for method in ("super", "cd"):
        for name in ("image_sim_heldout", "nearer", "variety"):
            means = [mean_of(said, method, concept, name) for concept in CONCEPTS]
            for concept, mean in zip(CONCEPTS, means):
                assert metrics.loc[(method, concept), name] == pytest.approx(mean, abs=1e-9)
            assert table.loc[method, name] == pytest.approx(statistics.fmean(means), abs=1e-6)
            lo, hi = table.loc[method, [f"{name}_lo", f"{name}_hi"]]
            assert lo < table.loc[method, name] < hi


def test_the_copy_gap_is_paired_by_cell(made):
    """Its interval is that of the differences: two-way clustered, by loops."""
    run, _, said = made
    table = pd.read_csv(run / "table.csv").set_index("method")
    gap = {
        (c, p): statistics.fmean(of["image_sim"]) - statistics.fmean(of["image_sim_heldout"])
        for (m, c, p), of in said.items()
        if m == "cd" and "image_sim_heldout" in of
    }
    per = {c: [(p, g) for (d, p), g in gap.items() if d == c] for c in CONCEPTS}
    mean = statistics.fmean(statistics.fmean(g for _, g in of) for of in per.values())
    assert table.loc["cd", "copy_gap"] == pytest.approx(mean, abs=1e-6)
    weighed = {
        (c, p): (g - mean) / (len(CONCEPTS) * len(of)) for c, of in per.items() for p, g in of
    }
    of_c = sum(sum(w for (c, _), w in weighed.items() if c == one) ** 2 for one in CONCEPTS)
    prompts = {p for _, p in weighed}
    of_p = sum(sum(w for (_, p), w in weighed.items() if p == one) ** 2 for one in prompts)
    of_cp = sum(w**2 for w in weighed.values())
    v = len(CONCEPTS) / (len(CONCEPTS) - 1) * max(of_c, of_c + of_p - of_cp)
    half = t_quantile(len(CONCEPTS)) * math.sqrt(v)
    lo, hi = table.loc["cd", ["copy_gap_lo", "copy_gap_hi"]]
    assert (lo, hi) == (pytest.approx(mean - half, abs=2e-6), pytest.approx(mean + half, abs=2e-6))


def test_other_scorers_have_a_view_and_no_columns_there(made):
    """A table of fifteen columns was read by nobody."""
    run, _, _ = made
    table, metrics = pd.read_csv(run / "table.csv"), pd.read_csv(run / "metrics.csv")
    alone = beyond_text(table, metrics)
    names = [name for name in MEASURES if name in table]
    more = {f"{m}_{OTHER}{end}": table[f"{m}{end}"] for m in names for end in ("", "_lo", "_hi")}
    text = beyond_text(table.assign(**more), metrics)
    told = f"The same by {OTHER}: perfbench table RUN --by measures.\n"
    assert told in text and text.replace(told, "") == alone


def test_the_protocol_does_not_move(made):
    """Every number and byte of before is there: measures are columns and rows behind the old."""
    run, before, _ = made
    text = (run / "table.md").read_bytes()
    assert text.startswith(before["table.md"]) and b"# Beyond the protocol" in text
    for name in ("table.csv", "metrics.csv", "samples.csv"):
        old, new = before[name].decode().splitlines(), (run / name).read_text().splitlines()
        assert len(old) == len(new)
        assert all(line.startswith(f"{start},") for start, line in zip(old, new)), name
    lines = (run / "cells.csv").read_text().splitlines()
    kept = [line for line in lines if not any(f",{name}," in line for name in MEASURES)]
    assert kept == before["cells.csv"].decode().splitlines()


def test_a_concept_without_held_out_pictures_is_not_missing(tmp_path, capsys):
    make_run(tmp_path, METHODS, CONCEPTS, prompts=3, images=2, pictures=False)
    scorer = next((tmp_path / "rows").iterdir()).name
    said = add_measures(tmp_path, scorer, gone=("teapot",))
    assert cli.run(["table", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "left out of it: image_sim_heldout 2 of 3, copy_gap 2 of 3, nearer 2 of 3." in printed
    assert "Not measured here: vendi (needs two pictures a cell)" in printed
    table = pd.read_csv(tmp_path / "table.csv").set_index("method")
    means = [mean_of(said, "cd", concept, "image_sim_heldout") for concept in ("cat", "chair")]
    assert table.loc["cd", "image_sim_heldout"] == pytest.approx(statistics.fmean(means), abs=1e-6)


def test_a_run_without_measures_is_as_before(tmp_path):
    make_run(tmp_path, METHODS, CONCEPTS, prompts=2, images=2, pictures=False)
    text = (tmp_path / "table.md").read_text()
    assert "Beyond" not in text and "image_sim_heldout" not in (tmp_path / "table.csv").read_text()
    with pytest.raises(UserError, match="no measure beyond the protocol"):
        cli.run(["table", str(tmp_path), "--by", "measures"])


def test_view(made, capsys):
    run, _, _ = made
    assert cli.run(["table", str(run), "--by", "measures"]) == 0
    printed = capsys.readouterr().out
    assert "copy_gap: image_sim less image_sim_heldout" in printed
    assert [line.split()[1] for line in printed.splitlines()[2:4]] == ["method", "floor"]
    assert "harmonic" not in printed


def test_another_scorer_has_its_own():
    rows = []
    for concept, group in (("cat", "animated"), ("pot", "container")):
        for index in range(2):
            row = ["cd", "default", concept, group, "s1", "shape", index, 1, 0.8, 0.3]
            rows.append((*row, 0.7, 0.5, 0.4 + index / 10))
    names = ["method", "point", "concept", "group", "prompt_id", "kind", "index", "seed"]
    names += ["image_sim", "text_sim_raw", "image_sim_heldout"]
    names += [f"image_sim_{OTHER}", f"image_sim_heldout_{OTHER}"]
    cells = build.cells_of(pd.DataFrame(rows, columns=names))
    table = build.table_of(cells).iloc[0]
    assert table["copy_gap"] == pytest.approx(0.1)
    assert table[f"image_sim_heldout_{OTHER}"] == pytest.approx(0.45)
    assert table[f"copy_gap_{OTHER}"] == pytest.approx(0.05)
    assert table[f"image_sim_{OTHER}"] == pytest.approx(0.5)
    assert set(with_derived(cells)["metric"]) - set(cells["metric"]) == {
        "copy_gap",
        f"copy_gap_{OTHER}",
    }
    planned = cells.drop_duplicates("concept").assign(n=2)
    assert missing_of(cells[cells["concept"] != "pot"], planned)["concept"].tolist() == ["pot"]
    of_one = (cells["metric"] != "image_sim_heldout") | (cells["concept"] == "cat")
    assert missing_of(cells[of_one], planned).empty


def test_rows_files_have_them_before_the_remark(tmp_path):
    row = {"key": "k", "method": "cd", "point": "default", "concept": "cat", "group": "animated"}
    row |= {"prompt_id": "s1", "kind": "shape", "index": 0, "seed": 3, "image_sim": "0.5"}
    rows = [{**row, "variety": "0.000000", "remark": "flat"}, {**row, "index": 1}]
    file = tmp_path / "cat.csv"
    file.write_text(rows_text(rows))
    assert file.read_text().partition("\n")[0].endswith("text_sim_raw,variety,remark")
    frame = read_frame([file])
    assert frame["variety"].dtype == "float64" and frame["variety"].tolist()[0] == 0
    assert np.isnan(frame["variety"][1])
    text = rows_text([{**row, "variety": ""}])
    assert "variety" not in text  # no value: no column
    body = file.read_text().rpartition("# sha256")[0].replace("variety", "varied")
    from benchmarks.store.csv_files import with_digest

    file.write_bytes(with_digest(body.encode()))
    assert whole(file) is None  # a column that nobody knows
