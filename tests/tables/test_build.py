"""Sample rows to cells, metrics and table, against plain loops over the rows; what is refused; what
is written.
"""

import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run

from benchmarks import cli
from benchmarks.store.run_folder import Store
from benchmarks.tables import build
from benchmarks.tables.sample_rows import CELL
from benchmarks.tables.statistics import clustered
from benchmarks.tables.table_text import short_fits
from benchmarks.tables.views import VIEWS, scenario_of
from perfusion_core.errors import UserError

CONCEPTS = {"cat": "animated", "dog": "animated", "teapot": "container", "chair": "furniture"}
PROMPTS = [
    *[(f"s{i}", "shape", "all") for i in range(4)],
    *[(f"a{i}", "deform", "animated") for i in range(3)],
    *[(f"c{i}", "deform", "container") for i in range(2)],
    ("f0", "deform", "furniture"),
]
POINTS = [
    ("perfusion", "local-b0.60-t0.15"),
    ("perfusion", "global-b0.40-t0.15"),
    ("perfusion", "local-b0.60-t0.15-s50"),
    ("cd", "default"),
    ("super", "default"),
]
NO_FITS = pd.DataFrame(columns=["method", "concept", "key", "kilobytes", "train_seconds"])


def make_samples(images: int = 4, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for k, (method, point) in enumerate(POINTS):
        for concept, group in CONCEPTS.items():
            for prompt, kind, of in PROMPTS:
                if of in ("all", group):
                    for index in range(images):
                        image = (
                            round(0.6 + 0.04 * k + rng.normal(0, 0.06), 6)
                            if kind == "shape"
                            else math.nan
                        )
                        text = round(0.3 - 0.01 * k + rng.normal(0, 0.02), 6)
                        rows.append(
                            (method, point, concept, group, prompt, kind, index, 7, image, text)
                        )
    for concept, group in CONCEPTS.items():
        for index in range(5):
            rows.append(
                (
                    "real",
                    "default",
                    concept,
                    group,
                    "",
                    "real",
                    index,
                    0,
                    round(0.7 + rng.normal(0, 0.02), 6),
                    math.nan,
                )
            )
    columns = [
        "method",
        "point",
        "concept",
        "group",
        "prompt_id",
        "kind",
        "index",
        "seed",
        "image_sim",
        "text_sim_raw",
    ]
    return pd.DataFrame(rows, columns=columns)


def plan_of(samples: pd.DataFrame) -> pd.DataFrame:
    mine = samples[samples["method"] != "real"]
    keys = ["method", "point", "concept", "group", "prompt_id", "kind"]
    return mine.groupby(keys, sort=False).size().rename("n").reset_index()


@pytest.fixture(scope="module")
def samples() -> pd.DataFrame:
    return make_samples()


@pytest.fixture(scope="module")
def cells(samples) -> pd.DataFrame:
    return build.cells_of(samples)


@pytest.fixture(scope="module")
def table(cells, samples) -> pd.DataFrame:
    return build.table_of(cells, plan_of(samples), NO_FITS)


class Loops:
    """The protocol in plain loops over rows, for one table of samples."""

    def __init__(self, samples: pd.DataFrame) -> None:
        self.rows = samples.to_dict("records")

    def cell(self, method, point, concept, prompt, metric, parity=None) -> list[float]:
        return [
            r[metric]
            for r in self.rows
            if (r["method"], r["point"], r["concept"], r["prompt_id"])
            == (method, point, concept, prompt)
            and not math.isnan(r[metric])
            and parity in (None, r["index"] % 2)
        ]

    def concept(self, method, point, concept, metric, parity=None, among=None) -> float:
        means = []
        for prompt, _, _ in PROMPTS:
            values = self.cell(method, point, concept, prompt, metric, parity)
            if values and (among is None or prompt in among):
                means.append(statistics.fmean(values))
        return statistics.fmean(means)

    def scores(self, method, point, concept, parity=None) -> dict[str, float]:
        both = [
            p
            for p, _, _ in PROMPTS
            if self.cell(method, point, concept, p, "text_sim_raw")
            and self.cell("super", "default", concept, p, "text_sim_raw")
        ]
        image = self.concept(method, point, concept, "image_sim", parity)
        above = self.concept(method, point, concept, "text_sim_raw", parity, both)
        text = above / self.concept("super", "default", concept, "text_sim_raw", None, both)
        raw = self.concept(method, point, concept, "text_sim_raw", parity)
        return {
            "image_sim": image,
            "text_sim": text,
            "text_sim_raw": raw,
            "harmonic": 2 * image * text / (image + text),
        }


def test_cells_against_loops(samples, cells):
    loops = Loops(samples)
    for row in cells.sample(40, random_state=0).to_dict("records"):
        key = row["method"], row["point"], row["concept"], row["prompt_id"], row["metric"]
        values = loops.cell(*key)
        assert row["n"] == len(values)
        assert row["mean"] == pytest.approx(statistics.fmean(values), abs=1e-9)
        assert row["sd"] == pytest.approx(statistics.stdev(values), abs=1e-9)
        assert row["even"] == pytest.approx(statistics.fmean(loops.cell(*key, 0)), abs=1e-9)
        assert row["odd"] == pytest.approx(statistics.fmean(loops.cell(*key, 1)), abs=1e-9)
    deform = cells[cells["kind"] == "deform"]
    assert set(deform["metric"]) == {"text_sim_raw"}
    assert len(cells) == len(cells.drop_duplicates([*CELL, "metric"]))


def test_order_of_rows_and_columns_changes_no_byte(samples, cells):
    shuffled = samples.sample(frac=1, random_state=1)[samples.columns[::-1]]
    assert build.cells_of(shuffled).to_csv() == cells.to_csv()


def test_one_image_has_no_spread_and_no_second_half():
    cells = build.cells_of(make_samples(images=1))
    mine = cells[cells["method"] == "cd"]
    assert (
        mine["sd"].isna().all() and mine["odd"].isna().all() and mine["even"].equals(mine["mean"])
    )
    table = build.table_of(cells)
    # there is nothing to be honest with
    assert list(table.loc[table["kind"] == "best-h", "point"]) == ["naive"]


def test_metrics_against_loops(samples, cells):
    metrics = build.metrics_of(cells)
    loops = Loops(samples)
    for row in metrics[metrics["method"] != "real"].to_dict("records"):
        expected = loops.scores(row["method"], row["point"], row["concept"])
        assert {m: row[m] for m in expected} == pytest.approx(expected, abs=1e-8)
        assert row["n"] == 4 * sum(of in ("all", row["group"]) for _, _, of in PROMPTS)
    floor = metrics[metrics["method"] == "super"]
    assert floor["text_sim"].to_numpy() == pytest.approx(1.0)
    real = metrics[metrics["method"] == "real"]
    assert len(real) == 4 and real["text_sim"].isna().all() and (real["n"] == 5).all()


def test_table_means_are_class_balanced(samples, table):
    loops = Loops(samples)
    for row in table[table["kind"].isin(["method", "floor"])].to_dict("records"):
        per = [loops.scores(row["method"], row["point"], concept) for concept in CONCEPTS]
        for metric in ("image_sim", "text_sim", "text_sim_raw", "harmonic"):
            assert row[metric] == pytest.approx(statistics.fmean(s[metric] for s in per), abs=1e-6)
            assert row[f"{metric}_lo"] <= row[metric] <= row[f"{metric}_hi"]
        assert (row["n_concepts"], row["n_images"], row["n_planned"]) == (4, 100, 100)


def test_table_intervals_are_those_of_stats(samples, table):
    """Means: the closed form, over an array that is laid out by hand."""
    loops = Loops(samples)
    y = np.array(
        [
            [
                statistics.fmean(loops.cell("cd", "default", c, p, "text_sim_raw") or [math.nan])
                for p, _, _ in PROMPTS
            ]
            for c in CONCEPTS
        ]
    )
    row = table[table["method"] == "cd"].iloc[0]
    assert (row["text_sim_raw"], row["text_sim_raw_lo"], row["text_sim_raw_hi"]) == pytest.approx(
        clustered(y), abs=1e-6
    )


def test_floor_and_ceiling(samples, table):
    floor, ceiling = (table[table["kind"] == kind].iloc[0] for kind in ("floor", "ceiling"))
    assert floor["method"] == "super" and floor["text_sim"] == 1
    real = samples[samples["method"] == "real"].groupby("concept")["image_sim"].mean()
    assert ceiling["image_sim"] == pytest.approx(real.mean(), abs=1e-6)
    assert ceiling["n_images"] == 20 and math.isnan(ceiling["text_sim"])


def test_copying_is_being_above_the_ceiling(samples):
    copies = samples.copy()
    mine = (copies["method"] == "cd") & (copies["concept"] == "cat") & (copies["kind"] == "shape")
    copies.loc[mine, "image_sim"] = 0.99
    copies.loc[(copies["method"] == "cd") & ~mine & (copies["kind"] == "shape"), "image_sim"] = 0.1
    cells = build.cells_of(copies)
    metrics = build.metrics_of(cells).query("method == 'cd'").set_index("concept")["copied"]
    assert metrics.to_dict() == {"cat": 1.0, "chair": 0.0, "dog": 0.0, "teapot": 0.0}
    assert build.table_of(cells).query("method == 'cd'")["copied"].tolist() == [0.25]


def test_best_h_naive_and_honest_against_loops(samples, table):
    loops = Loops(samples)
    # s50: a training step
    variants = [point for method, point in POINTS if method == "perfusion" and "-s50" not in point]
    best = table[table["kind"] == "best-h"].set_index("point")
    assert list(best.index) == ["naive", "honest"] and set(best["method"]) == {"perfusion"}

    def pick(concept, parity):
        return max(
            variants,
            key=lambda point: loops.scores("perfusion", point, concept, parity)["harmonic"],
        )

    for metric in ("image_sim", "text_sim", "harmonic"):
        naive = [loops.scores("perfusion", pick(c, None), c)[metric] for c in CONCEPTS]
        honest = [
            statistics.fmean(
                loops.scores("perfusion", pick(c, chosen), c, told)[metric]
                for chosen, told in ((0, 1), (1, 0))
            )
            for c in CONCEPTS
        ]
        assert best.loc["naive", metric] == pytest.approx(statistics.fmean(naive), abs=1e-6)
        assert best.loc["honest", metric] == pytest.approx(statistics.fmean(honest), abs=1e-6)
    assert best["n_images"].tolist() == [100, 100]


def test_choosing_on_the_scored_images_is_optimistic():
    """Variants that do not differ: naive Best H finds a gain in the noise, honest Best H does
    not.
    """
    gains: dict[str, list[float]] = {"naive": [], "honest": []}
    for seed in range(40):
        samples = make_samples(images=4, seed=seed)
        samples = samples[
            samples["method"].isin(["perfusion", "super"]) & ~samples["point"].str.endswith("-s50")
        ]
        rng = np.random.default_rng(seed + 100)
        image, text = rng.normal(0.7, 0.1, len(samples)), rng.normal(0.3, 0.03, len(samples))
        samples = samples.assign(
            image_sim=np.where(samples["kind"] == "shape", image, np.nan), text_sim_raw=text
        )
        table = build.table_of(build.cells_of(samples))
        plain = table[table["kind"] == "method"]["harmonic"].mean()
        for row in table[table["kind"] == "best-h"].itertuples():
            gains[row.point].append(row.harmonic - plain)
    assert np.mean(gains["naive"]) > 0.006  # of 0.010, over many more seeds
    assert abs(np.mean(gains["honest"])) < 0.004  # of -0.001, with a standard error of 0.0014


def test_costs_are_means_over_fits(cells):
    fits = pd.DataFrame(
        {
            "method": ["cd", "cd"],
            "concept": ["cat", "dog"],
            "key": "",
            "kilobytes": [100.0, 200],
            "train_seconds": [50, 70],
        }
    )
    row = build.table_of(cells, None, fits).query("method == 'cd'").iloc[0]
    assert (row["kilobytes"], row["train_seconds"]) == (150, 60)


def test_fits_that_a_preset_cut_short_are_named():
    """Whose recipe is long loses by it: such a table is no comparison of methods."""
    steps = {"cd": 100, "lora": 75, "perfusion": 100, "db": 100}
    about = {
        "config": {"train_steps": 100, "trained": ["db=results/other"]},
        "methods": {name: {"config": {"steps": number}} for name, number in steps.items()},
    }
    assert short_fits(about) == "short fits: cd, perfusion had 100 training steps at most"
    assert short_fits({**about, "config": {"train_steps": None}}) == ""
    assert short_fits({}) == ""


def test_an_incomplete_plan_is_refused_and_named(samples):
    planned = plan_of(samples)
    gone = (
        (samples["method"] == "cd")
        & (samples["concept"] == "dog")
        & (samples["prompt_id"].isin(["s1", "a2"]))
    )
    with pytest.raises(
        UserError,
        match=r"8 of 500 planned images have no score: cd/default dog \(2 cells\); "
        r".*--allow-missing",
    ):
        build.make_tables(samples[~gone], planned, NO_FITS)
    built = build.make_tables(samples[~gone], planned, NO_FITS, allow_missing=True)
    row = built.table.query("method == 'cd'").iloc[0]
    assert (row["n_images"], row["n_planned"]) == (92, 100)
    assert "92/100" in built.text


@pytest.mark.parametrize("column, prompt", [("text_sim_raw", "a0"), ("image_sim", "s0")])
def test_an_image_without_a_score_is_missing(samples, column, prompt):
    broken = samples.copy()
    first = broken.index[
        (broken["method"] == "cd") & (broken["concept"] == "cat") & (broken["prompt_id"] == prompt)
    ][0]
    broken.loc[first, column] = math.nan
    with pytest.raises(UserError, match="1 of 500 planned images have no score"):
        build.make_tables(broken, plan_of(samples), NO_FITS)


def test_text_similarity_divides_by_the_same_prompts(samples):
    gone = (
        (samples["method"] == "super")
        & (samples["concept"] == "cat")
        & (samples["prompt_id"] == "a1")
    )
    partial = samples[~gone]
    metrics = build.make_tables(partial, plan_of(samples), NO_FITS, allow_missing=True).metrics
    got = metrics.query("method == 'cd' and concept == 'cat'").iloc[0]
    assert got["text_sim"] == pytest.approx(
        Loops(partial).scores("cd", "default", "cat")["text_sim"], abs=1e-8
    )


def test_a_whole_missing_concept_is_not_averaged_as_zero(samples):
    gone = (samples["method"] == "cd") & (samples["concept"] == "dog")
    row = (
        build.make_tables(samples[~gone], plan_of(samples), NO_FITS, allow_missing=True)
        .table.query("method == 'cd'")
        .iloc[0]
    )
    loops = Loops(samples[~gone])
    mean = statistics.fmean(
        loops.scores("cd", "default", c)["image_sim"] for c in CONCEPTS if c != "dog"
    )
    assert row["n_concepts"] == 3 and row["image_sim"] == pytest.approx(mean, abs=1e-6)


def test_no_scores_at_all(samples):
    with pytest.raises(UserError, match="no image of this run has a score"):
        build.make_tables(samples.iloc[:0], plan_of(samples), NO_FITS, allow_missing=True)


def pair_rows(samples: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        {
            "method": method,
            "point": point,
            "concept": pair,
            "group": "pair",
            "prompt_id": f"m{p}",
            "kind": "pair",
            "index": i,
            "seed": 1,
            "image_sim": math.nan,
            "image_sim_a": 0.5 + rng.normal(0, 0.02),
            "image_sim_b": 0.7 + rng.normal(0, 0.02),
            "text_sim_raw": 0.3 + rng.normal(0, 0.02),
        }
        for method, point in POINTS[-2:]
        for pair in ("cat+teapot", "dog+chair")
        for p in range(3)
        for i in range(2)
    ]
    return pd.concat([samples, pd.DataFrame(rows)], ignore_index=True)


def test_pairs_form_a_table_of_their_own(samples, table):
    both = pair_rows(samples)
    built = build.make_tables(both, plan_of(both), NO_FITS)
    pd.testing.assert_frame_equal(built.table, table)
    assert built.samples.columns.tolist() == samples.columns.tolist() and len(built.samples) == len(
        samples
    )
    assert len(built.pairs) == 24 and set(built.pairs["kind"]) == {"pair"}
    row = built.pair_table.query("method == 'cd'").iloc[0]
    mine = built.pairs.query("method == 'cd'")
    for metric, values in (
        ("image_sim_a", mine["image_sim_a"]),
        ("image_sim_b", mine["image_sim_b"]),
    ):
        assert row[metric] == pytest.approx(values.mean(), abs=1e-6)
    assert row["image_sim"] == pytest.approx(
        (row["image_sim_a"] + row["image_sim_b"]) / 2, abs=2e-6
    )
    assert (row["n_concepts"], row["n_images"]) == (2, 12)
    assert "# Pairs of concepts" in built.text and "over 2 pairs" in built.text
    assert set(built.metrics["concept"]) == {*CONCEPTS, "cat+teapot", "dog+chair"}


def test_only_pairs(samples):
    both = pair_rows(samples)
    built = build.make_tables(
        both[both["kind"] == "pair"], plan_of(both).query("kind == 'pair'"), NO_FITS
    )
    assert built.table.empty and built.text.startswith("# Pairs of concepts")


def test_another_scorer_adds_columns(samples):
    more = samples.assign(image_sim_dino=samples["image_sim"] / 2)
    built = build.make_tables(more, plan_of(samples), NO_FITS)
    for row in built.table.query("kind in ['method', 'floor', 'ceiling']").to_dict("records"):
        for end in ("", "_lo", "_hi"):
            assert row[f"image_sim_dino{end}"] == pytest.approx(
                row[f"image_sim{end}"] / 2, abs=1e-6
            )
    more.loc[
        more.index[(more["method"] == "cd") & (more["kind"] == "shape")][:3], "image_sim_dino"
    ] = math.nan
    with pytest.raises(UserError, match="3 of 500 planned images have no score"):
        build.make_tables(more, plan_of(samples), NO_FITS)


# ---- a run folder, through the command ----


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "made"
    methods = {"perfusion": (LOCAL[0], LOCAL[-1], GLOBAL[0]), "cd": ("default",)}
    make_run(folder, methods, ["cat", "teapot", "chair"], prompts=4, images=2, pictures=False)
    return folder


def files_of(run: Path) -> dict[str, bytes]:
    names = ("samples.csv", "cells.csv", "metrics.csv", "table.csv", "table.md")
    return {name: (run / name).read_bytes() for name in names}


def test_table_writes_the_same_bytes_again(run, capsys):
    before = files_of(run)
    for name in before:
        (run / name).unlink()
    assert cli.run(["table", str(run)]) == 0
    assert files_of(run) == before
    text = before["table.md"].decode()
    assert capsys.readouterr().out == text
    assert text.startswith("# Results\n\n    perfbench run --methods perfusion,cd\n\n|"), (
        "the commands that made it"
    )
    assert not [path for path in run.rglob("*") if ".tmp" in path.parts and path.is_file()]


def test_table_columns_are_the_contract(run):
    samples, cells, metrics, table = (
        pd.read_csv(run / f"{n}.csv") for n in ("samples", "cells", "metrics", "table")
    )
    assert list(samples) == list(make_samples().columns)
    assert list(cells) == build.CELL_COLUMNS
    assert list(metrics) == ["method", "point", "concept", "group", *build.SCORES, "copied", "n"]
    estimates = [f"{score}{end}" for score in build.SCORES for end in ("", "_lo", "_hi")]
    costs = ["kilobytes", "train_seconds", "trainable", "train_peak_megabytes",
             "draw_peak_megabytes", "picture_seconds", "base_picture_seconds", "apply_seconds",
             "device"]  # fmt: skip
    counts = ["copied", "n_concepts", "n_images", "n_planned", *costs]
    assert list(table) == ["kind", "method", "point", *estimates, *counts]


def test_tables_come_from_cells_csv_alone(run):
    """What a kept run still has: cells.csv read back makes the same table."""
    from benchmarks.store.reading import read_fits, read_plan
    from benchmarks.tables.run_view import Run

    again = build.table_of(Run(run).cells, read_plan(run), read_fits(run))
    pd.testing.assert_frame_equal(again, build.tables_of(run).table)


def test_table_refuses_a_run_that_lost_rows(tmp_path, capsys):
    folder = tmp_path / "made"
    make_run(folder, {"cd": ("default",)}, ["cat", "teapot"], prompts=2, images=2, pictures=False)
    next((folder / "rows").rglob("cd/default/cat.csv")).unlink()
    with pytest.raises(UserError, match=r"cd/default cat \(4 cells\)"):
        cli.run(["table", str(folder)])
    assert cli.run(["table", str(folder), "--allow-missing"]) == 0
    assert "8/16" in capsys.readouterr().out


@pytest.mark.parametrize("view", [view for view in VIEWS if view not in ("scorers", "measures")])
def test_every_view_prints_a_table(run, view, capsys):
    assert cli.run(["table", str(run), "--by", view]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| ") and len(out.splitlines()) > 2 and "nan" not in out


def test_unknown_view(run):
    with pytest.raises(UserError, match="did you mean 'scenario'"):
        cli.run(["table", str(run), "--by", "scenarios"])


@pytest.mark.parametrize(
    "template, kind, scenario",
    [
        ("A {cat} on the beach", "shape", "place"),
        ("A {cat} dressed as a samurai", "deform", "outfit"),
        ("A {cat} dressed in a blue suit is cooking a gourmet meal", "deform", "outfit"),
        ("A {cat} is acting in a play wearing a costume", "deform", "outfit"),
        ("A {cat} is reading a book", "deform", "activity"),
        ("A {pot} made out of pure gold", "deform", "material"),
        ("A golden {chair}", "deform", "material"),
        ("A {pot} oil painting ghibli inspired", "deform", "style"),
        ("A {cat} in pixel art style", "deform", "style"),
        ("A broken {pot}", "deform", "state"),
        ("A {pot} full of gold coins", "deform", "state"),
        ("A {pot} lying on its side and spilling water", "deform", "state"),
        ("A cat wearing {sunglasses}", "deform", "activity"),
    ],
)
def test_scenarios(template, kind, scenario):
    assert scenario_of(template, kind) == scenario


def test_a_second_scorer_of_a_run_stands_beside_the_first(tmp_path):
    scorers = [{"name": "ViT-B-32-quickgelu-openai-0a1b2c3d"}, {"name": "dino-0a1b2c3d"}]
    folder = tmp_path / "made"
    made = {"concepts": ["cat", "teapot"], "prompts": 2, "images": 2, "pictures": False}
    make_run(folder, {"cd": ("default",)}, **made, extra={"scorers": scorers[:1]})
    alone = build.tables_of(folder).table
    store = Store(folder)
    for rows in sorted((folder / "rows" / scorers[0]["name"]).rglob("*.csv")):
        *_, method, point, concept = rows.with_suffix("").parts
        frame = pd.read_csv(rows, comment="#", keep_default_na=False, na_values={"image_sim": [""]})
        frame["image_sim"], frame["text_sim_raw"] = frame["image_sim"] - 0.5, ""  # DINO has no text
        frame = frame.astype(object).where(frame.notna(), "")
        store.write_rows(
            store.rows_file("dino-0a1b2c3d", method, point, concept), frame.to_dict("records")
        )
    make_about = (folder / "run.json").read_text()
    (folder / "run.json").write_text(make_about.replace('"}]', '"}, {"name": "dino-0a1b2c3d"}]', 1))
    both = build.tables_of(folder)
    pd.testing.assert_frame_equal(both.table[alone.columns], alone)
    assert both.table["image_sim_dino-0a1b2c3d"].to_numpy() == pytest.approx(
        both.table["image_sim"] - 0.5, abs=2e-6
    )
    assert not [column for column in both.table if column.startswith("text_sim_raw_dino")]
    head = next(line for line in both.text.splitlines() if line.startswith("|"))
    assert "image_sim_dino-0a1b2c3d" in head
