"""Figures: what is drawn is what the table says, labels keep apart, files are the same every
time.
"""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from benchmarks.cli import run as perfbench
from benchmarks.figures import (
    attainment,
    breakdown,
    charts,
    plots,
    registry,
    selection,
    with_pictures,
)
from benchmarks.figures.crowded import family_of
from benchmarks.figures.label_placing import Drawn, Label, finish_layout
from benchmarks.figures.looks import STYLES, looks_of_runs, split_variant, style_of
from benchmarks.figures.picture_grid import overlay, shorten
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import INK, styled
from benchmarks.planning.points import OperatingPoint
from benchmarks.tables.run_view import Run, spread
from perfusion_core.errors import UserError

BASE = {
    "perfusion": LOCAL + GLOBAL,
    "db": ("default",),
    "ti": ("default",),
    "cd": ("default",),
    "cd-better": ("default",),
}
COOL = tuple(point.replace("t0.15", "t0.10") for point in LOCAL)
STEPS = tuple(f"local-b0.60-t0.15-s{n}" for n in (25, 50, 100, 200))
VARIANTS = ("one-shot", "trained-k", "no-mask", "train-bias")


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Two small runs: `base` with pictures and scores of all methods, `ablated` with scores
    only.
    """
    folder = tmp_path_factory.mktemp("figures") / "results"
    concepts = ["cat", "teapot", "tortoise", "chair"]
    make_run(folder / "base", BASE, concepts, prompts=3, images=2)
    methods = {"perfusion": LOCAL + STEPS, **{f"perfusion-{name}": LOCAL for name in VARIANTS}}
    methods["perfusion-infer-temperature"] = COOL
    methods["perfusion-trained-k"] = LOCAL + STEPS
    make_run(folder / "ablated", methods, concepts[:3], prompts=3, images=2, pictures=False, seed=3)
    return folder


@pytest.fixture
def base(results):
    return Run(results / "base")


@pytest.fixture
def ablated(results):
    return Run(results / "ablated")


def drawn(make, *runs, **wish):
    with styled():
        return make(list(runs), Wish(**wish))


def marked(axes, marker):
    """The points drawn with a marker, [n, 2]."""
    lines = [line.get_xydata() for line in axes.lines if line.get_marker() == marker]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def rows_of(run, method, kind="method"):
    table = run.table
    return table[(table["method"] == method) & (table["kind"] == kind)]


# ---- how things look ----


def test_methods_differ_in_colour_marker_and_dash():
    """In greyscale the colour says little: marker and dash alone must tell methods apart. Methods
    of a family may share its colour, and then not the marker."""
    shown = {name: style for name, style in STYLES.items() if name not in ("perfusion", "best-h")}
    for (a, one), (b, other) in itertools.combinations(shown.items(), 2):
        assert one.dash != other.dash or one.marker != other.marker
        assert one.colour != other.colour or one.marker != other.marker
        related = family_of(a.split("/")[0]) == family_of(b.split("/")[0]) != ""
        assert related or one.colour != other.colour


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("name", STYLES)
def test_text_is_dark_enough_to_read(name):
    """WCAG's contrast for text of this size: 4.5 to 1 on white."""
    assert 1.05 / (luminance(STYLES[name].text) + 0.05) >= 4.5


def deuteranope(colour):
    """How a colour looks without green cones (Machado et al. 2009, severity 1), in linear light."""
    matrix = np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ]
    )
    linear = np.array(
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    )
    return np.clip(matrix @ linear, 0, 1) ** (1 / 2.2)


def test_the_two_fronts_and_custom_diffusion_stay_apart_for_the_colour_blind():
    seen = [
        deuteranope(STYLES[name].colour)
        for name in ("perfusion/local", "perfusion/global", "cd", "cd-better")
    ]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 0.15


def test_a_variant_looks_like_its_method_but_hollow():
    assert split_variant("perfusion-trained-k") == ("perfusion", "trained-k")
    assert split_variant("cd-better") == ("cd-better", "")
    assert split_variant("cd-better-selected") == ("cd-better", "selected")
    style = style_of("perfusion-trained-k", "local")
    assert (style.colour, style.fill, style.label) == (
        STYLES["perfusion/local"].colour,
        False,
        "Perfusion, trained K",
    )
    strangers = [style_of(name, None, ["mine", "yours"]) for name in ("mine", "yours")]
    assert strangers[0].marker != strangers[1].marker and strangers[0].label == "mine"


def test_a_point_is_read_from_its_name():
    point = OperatingPoint.parse("global-b0.55-t0.10-s200")
    assert (point.lock, point.bias, point.temperature, point.step) == ("global", 0.55, 0.10, 200)
    assert (
        OperatingPoint.parse("local-b0.60-t0.15").family
        == OperatingPoint.parse("local-b0.75-t0.15").family
    )
    assert (
        OperatingPoint.parse("local-b0.60-t0.15").family
        != OperatingPoint.parse("local-b0.60-t0.10").family
    )
    assert OperatingPoint.parse("default").bias is None


def test_a_method_of_ones_own_is_shown_by_its_label(base):
    run = Run(base.folder)
    told = {
        "mine": {"of": "mine", "label": "Mine, of course"},
        "mine-selected": {"of": "mine", "label": "Mine, of course"},
        "odd": {"of": "odd", "label": "$x$"},
        "spoilt": {"of": "spoilt", "label": "Spoilt", "style": {"colour": "red"}},
        "cd": {"of": "cd", "label": "Not ours"},
    }
    run.__dict__["about"] = {"methods": told}
    names = ["mine", "mine-selected", "odd", "spoilt", "cd"]
    with looks_of_runs([run]):
        labels = [style_of(name, strangers=names).label for name in names]
    assert labels == [
        "Mine, of course", "Mine, of course, selected step", "odd", "spoilt", "Custom Diffusion",
    ]  # fmt: skip
    assert style_of("mine").label == "mine"


# ---- labels ----


@pytest.mark.parametrize("seed", range(6))
def test_labels_cover_neither_each_other_nor_points(seed):
    random = np.random.default_rng(seed)
    spots = random.uniform(0.05, 0.95, (14, 2))
    with styled():
        figure = Figure(figsize=(3.3, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.plot(*spots.T, "o", markersize=4)
        names = [Label([tuple(spot)], f"method {n}", "black") for n, spot in enumerate(spots)]
        finish_layout(Drawn(axes, names))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(spots)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-0.3).overlaps(other.padded(-0.3))
    pixels = axes.transData.transform(spots)
    for box in boxes:
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in pixels)
        assert axes.bbox.padded(2).contains(box.x0, box.y0) and axes.bbox.padded(2).contains(
            box.x1, box.y1
        )


# ---- the plane ----


def test_pareto_draws_the_table(base):
    (axes,) = drawn(charts.pareto, base).axes
    perfusion = rows_of(base, "perfusion")
    for marker, lock in (("o", "local"), ("s", "global")):
        mine = perfusion[perfusion["point"].str.startswith(lock)].sort_values("point")
        np.testing.assert_allclose(marked(axes, marker), mine[["text_sim", "image_sim"]])
    for method, marker in (("db", "^"), ("ti", "D"), ("cd", "v"), ("cd-better", ">")):
        np.testing.assert_allclose(
            marked(axes, marker), rows_of(base, method)[["text_sim", "image_sim"]]
        )
    stars = rows_of(base, "perfusion", "best-h")
    assert len(stars) == 2
    np.testing.assert_allclose(marked(axes, "*"), stars[["text_sim", "image_sim"]])
    assert (
        axes.get_xlabel().startswith("Text similarity") and axes.get_ylabel() == "Image similarity"
    )


def test_pareto_draws_both_intervals_of_every_point(base):
    (axes,) = drawn(charts.pareto, base).axes
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2]
    table = base.table
    for row in table[table["kind"].isin(["method", "best-h"])].to_dict("records"):
        across = [(row["text_sim_lo"], row["image_sim"]), (row["text_sim_hi"], row["image_sim"])]
        upright = [(row["text_sim"], row["image_sim_lo"]), (row["text_sim"], row["image_sim_hi"])]
        for wanted in (across, upright):
            assert any(np.allclose(line, wanted) for line in lines), row["method"]


def test_pareto_labels_biases_floor_and_ceiling(base):
    (axes,) = drawn(charts.pareto, base).axes
    texts = [text.get_text() for text in axes.texts]
    for label in (
        "β = 0.60",
        ".65",
        ".70",
        ".75",
        "β = 0.40",
        ".45",
        ".50",
        ".55",
        ".60",
        "Perfusion Best H",
        "DreamBooth",
    ):
        assert label in texts
    levels = {
        line.get_ydata()[0]
        for line in axes.lines
        if line.get_xdata()[0] == 0 and line.get_xdata()[-1] == 1
    }
    values = base.table.set_index("kind")["image_sim"]
    for kind in ("floor", "ceiling"):
        said = [text for text in texts if text.startswith(kind) or f" {kind}" in text]
        near = any(abs(level - values[kind]) < 1e-9 for level in levels)
        assert len(said) == 1 and (near or f"{values[kind]:.2f}" in said[0])


def with_selected(frame, *names):
    """Rows as if these methods had been run with their step selected as well: a little elsewhere on
    the plane.
    """
    picked = [frame[frame["method"] == name].assign(method=f"{name}-selected") for name in names]
    for rows in picked:
        for column in [name for name in rows if str(name).startswith(("text_sim", "image_sim"))]:
            rows[column] += 0.04 if str(column).startswith("text") else -0.015
    return pd.concat([frame, *picked], ignore_index=True)


def test_a_selected_step_is_joined_to_its_method_and_hollow_is_explained_once(base):
    table = with_selected(base.table, "cd", "db")

    def plane(rows):
        with styled():
            axes = Figure(figsize=(3.3, 2.9), layout="constrained").subplots()
            finish_layout(plots.pareto(axes, rows))
        return axes, [text.get_text() for text in axes.texts]

    axes, texts = plane(table)
    assert texts.count("hollow: step selected") == 1 and not any(
        "selected step" in text for text in texts
    )
    for name in ("cd", "db"):
        ends = [
            table.loc[table["method"] == one, ["text_sim", "image_sim"]]
            for one in (name, f"{name}-selected")
        ]
        assert any(np.array_equal(line.get_xydata(), pd.concat(ends)) for line in axes.lines)
    _, texts = plane(table[table["method"] != "cd"])  # nothing to be joined to
    assert "Custom Diffusion, selected step" in texts and texts.count("hollow: step selected") == 1


def test_a_ceiling_far_away_is_an_arrow_not_an_empty_figure(base):
    table = base.table.copy()
    table.loc[table["kind"] == "ceiling", "image_sim"] = 3.0
    with styled():
        axes = Figure().subplots()
        plots.pareto(axes, table)
    assert axes.get_ylim()[1] < 1.2
    assert any(text.get_text() == "↑ ceiling: real images, 3.00" for text in axes.texts)


def crossed(axes, name):
    """Whether a line that is no level runs through a label."""
    (label,) = [text for text in axes.texts if text.get_text().startswith(name)]
    box = label.get_window_extent()
    for line in axes.lines:
        ends = line.get_transform().transform(line.get_xydata())
        level = np.ptp(ends[:, 1]) < 1 and np.ptp(ends[:, 0]) > 0.9 * axes.bbox.width
        spots = np.concatenate(
            [np.linspace(a, b, 200) for a, b in itertools.pairwise(ends)] or [ends]
        )
        if not level and any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in spots):
            return True
    return False


def test_no_interval_runs_through_the_name_of_the_floor(base):
    table = base.table.copy()
    table = table[table["kind"] != "best-h"]
    floor = float(table.loc[table["kind"] == "floor", "image_sim"].iloc[0])
    right = table["text_sim"].astype(float).idxmax()
    low = table["method"].isin(["db", "perfusion"]) | (table.index == right)
    table.loc[low & (table["kind"] == "method"), "image_sim_lo"] = floor - 0.02
    with styled():
        axes = Figure(figsize=(3.3, 2.9), layout="constrained").subplots()
        finish_layout(plots.pareto(axes, table))
    assert not crossed(axes, "floor: super-category")


def test_pareto_leaves_out_ablations_and_kept_steps(ablated):
    (axes,) = drawn(charts.pareto, ablated).axes
    points = marked(axes, "o")
    assert len(points) == len(LOCAL)  # no steps, no variants


def test_one_concept_has_points_and_no_intervals(tmp_path):
    make_run(
        tmp_path / "one", {"perfusion": LOCAL[:1]}, ["cat"], prompts=2, images=1, pictures=False
    )
    (axes,) = drawn(charts.pareto, Run(tmp_path / "one")).axes
    assert len(marked(axes, "o")) == 1
    assert np.ptp(axes.get_xlim()) >= 0.1 - 1e-9  # a lone point is not blown up
    assert not [line for line in axes.lines if line.get_alpha()]


def test_an_incomplete_run_says_so_on_the_figure(base):
    short = Run(base.folder)
    short.__dict__["table"] = base.table.assign(n_planned=base.table["n_planned"] + 1)
    figure = drawn(charts.pareto, short)
    (note,) = [text.get_text() for text in figure.texts]
    n = int(base.table.loc[base.table["kind"] == "method", "n_images"].sum())
    assert note.startswith(f"{n} of ") and note.endswith(" images")
    assert not drawn(charts.pareto, base).texts


# ---- other charts ----


def test_ablation_has_the_five_panels_of_the_paper(ablated):
    figure = drawn(charts.ablation, ablated)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title[:3] for title in titles] == ["(a)", "(b)", "(c)", "(d)", "(e)"]
    default = rows_of(ablated, "perfusion")
    default = default[default["point"].isin(LOCAL)].sort_values("point")
    variants = [rows_of(ablated, f"perfusion-{name}") for name in (*VARIANTS, "infer-temperature")]
    for axes, rows in zip(figure.axes, variants, strict=True):
        rows = rows[rows["point"].isin(LOCAL + COOL)]
        np.testing.assert_allclose(marked(axes, "o"), default[["text_sim", "image_sim"]])
        np.testing.assert_allclose(
            marked(axes, "s"), rows.sort_values("point")[["text_sim", "image_sim"]]
        )
        assert (
            axes.get_xlim() == figure.axes[0].get_xlim()
            and axes.get_ylim() == figure.axes[0].get_ylim()
        )
    assert [text.get_text() for text in figure.axes[3].texts] == ["0.75", "0.55"]
    assert [text.get_text() for text in figure.axes[4].texts] == ["τ = 0.15", "τ = 0.1"]


def test_ablation_has_panels_of_the_edit_and_of_the_lock(tmp_path):
    methods = {
        "perfusion": LOCAL + GLOBAL,
        "perfusion-trained-k": LOCAL,
        "perfusion-vanilla-rome": LOCAL[:1],
    }
    make_run(tmp_path / "more", methods, ["cat", "teapot"], prompts=2, images=1, pictures=False)
    run = Run(tmp_path / "more")
    figure = drawn(charts.ablation, run)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "(a) Key locking",
        "(b) Edit",
        "(c) Key lock",
    ]
    _, edit, lock = figure.axes
    columns = ["text_sim", "image_sim"]
    np.testing.assert_allclose(marked(edit, "s"), rows_of(run, "perfusion-vanilla-rome")[columns])
    perfusion = rows_of(run, "perfusion").sort_values("point").set_index("point")
    np.testing.assert_allclose(marked(lock, "o"), perfusion.loc[list(LOCAL), columns])
    np.testing.assert_allclose(marked(lock, "s"), perfusion.loc[list(GLOBAL), columns])


def test_dynamics_joins_the_steps_in_order(ablated):
    axes = drawn(with_pictures.dynamics, ablated).axes[0]
    for method, marker in (("perfusion", "o"), ("perfusion-trained-k", "s")):
        rows = rows_of(ablated, method).set_index("point").loc[list(STEPS)]
        np.testing.assert_allclose(marked(axes, marker), rows[["text_sim", "image_sim"]])
    texts = [text.get_text() for text in axes.texts]
    assert "s = 25" in texts and texts.count("200") == 2


def test_trainings_drawn_at_two_biases_are_two_lines(tmp_path):
    points = tuple(f"local-b{bias}-t0.15-s{n}" for bias in ("0.60", "0.75") for n in (25, 50, 100))
    make_run(tmp_path / "two", {"perfusion": points}, ["cat", "teapot"], prompts=2, images=1)
    figure = drawn(with_pictures.dynamics, Run(tmp_path / "two"))
    axes, rows = figure.axes[0], rows_of(Run(tmp_path / "two"), "perfusion").set_index("point")
    lines = [line.get_xydata() for line in axes.get_lines() if len(line.get_xydata()) == 3]
    for mine, line in zip((points[:3], points[3:]), lines, strict=True):
        np.testing.assert_allclose(line, rows.loc[list(mine), ["text_sim", "image_sim"]])
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    for bias in ("0.60", "0.75"):
        assert f"Perfusion, local lock, β = {bias}" in texts, "the line and its pictures"
    assert len([text for text in texts if text.startswith("s = ")]) == 4, (
        "above the pictures, and one at a line"
    )


def test_of_many_steps_a_few_are_named():
    assert plots.few("abc") == ["a", "b", "c"]
    assert plots.few(range(8)) == [0, 2, 4, 5, 7] and plots.few(range(100), 3)[::2] == [0, 99]


def test_bias_curves_are_the_table_over_the_bias(base):
    image, text, *_ = drawn(with_pictures.bias, base).axes
    rows = rows_of(base, "perfusion")
    for axes, metric in ((image, "image_sim"), (text, "text_sim")):
        for lock, marker in (("local", "o"), ("global", "s")):
            mine = rows[rows["point"].str.startswith(lock)].sort_values("point")
            biases = [float(point[-10:-6]) for point in mine["point"]]
            np.testing.assert_allclose(
                marked(axes, marker), np.column_stack([biases, mine[metric]])
            )


def test_one_concept_is_shown_once_beside_its_prompts(tmp_path):
    """Its next images beside the next prompt; nothing is shown twice."""
    make_run(tmp_path, {"perfusion": LOCAL}, ["cat_toy"], prompts=3, images=1)
    run = Run(tmp_path)
    run.__dict__["about"] = run.about | {"super_categories": {"cat_toy": "toy"}}
    canvas = drawn(with_pictures.bias, run).axes[2]
    own = [opened(file) for file in run.concept_files("cat_toy")]
    counts = [sum(np.array_equal(image.get_array(), one) for image in canvas.images) for one in own]
    assert len(own) == 5 and counts == [1] * 5 and len(canvas.images) == 5 + 3 * len(LOCAL)
    texts = [text.get_text() for text in canvas.texts]
    assert texts.count("cat toy") == 1 and "cat_toy" not in texts
    assert sum("toy*" in text for text in texts) == 3
    assert not any("cat toy*" in text for text in texts)


def test_per_concept_joins_local_and_global(base):
    plane = drawn(charts.per_concept, base).axes[0]
    table, metrics = rows_of(base, "perfusion"), base.metrics
    for lock, marker in (("local", "o"), ("global", "s")):
        mine = table[table["point"].str.startswith(lock)]
        point = mine.loc[mine["harmonic"].idxmax(), "point"]
        at = metrics[(metrics["method"] == "perfusion") & (metrics["point"] == point)].sort_values(
            "concept"
        )
        found = marked(plane, marker)
        np.testing.assert_allclose(
            sorted(map(tuple, found)), sorted(map(tuple, at[["text_sim", "image_sim"]].to_numpy()))
        )
    names = {text.get_text() for text in plane.texts}
    assert names == set(metrics["concept"])


@pytest.fixture
def crowded(base):
    """All methods, and their steps selected: as many as the main run has."""
    run = Run(base.folder)
    for name in ("table", "metrics"):
        run.__dict__[name] = with_selected(getattr(base, name), "db", "ti", "cd")
    return run


def test_a_long_legend_covers_no_axes(crowded):
    figure = drawn(charts.per_concept, crowded)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 9 and figure.bbox.padded(1).contains(box.x0, box.y0)
    assert not any(box.overlaps(axes.bbox) for axes in figure.axes)


def test_names_of_many_columns_keep_apart():
    names = [
        f"{style.label}{more}" for style in STYLES.values() for more in ("", ", selected step")
    ][:12]
    with styled():
        figure = Figure(figsize=(6.9, 2.5), layout="constrained")
        axes = figure.subplots()
        breakdown.heat(axes, pd.DataFrame(np.eye(4, 12), columns=names), signed=False)
        figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) == 12 and all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_heads_of_columns_are_never_broken_inside_words():
    labels = ["AttnDreamBooth (untuned)", "LoRA", "Textual Inversion"]
    for times, slanted in ((1, False), (5, True), (7, True)):
        lines, size, angle = breakdown.heads_of(labels * times)
        assert size > 5 and (angle > 0) == slanted
        assert [line.split() for line in lines] == [label.split() for label in labels * times]


# ---- pictures ----


def tile_colours(figure, folder):
    """The figure's PNG and its axes in pixels."""
    figure.savefig(folder / "figure.png", dpi=300)
    return np.asarray(Image.open(folder / "figure.png").convert("RGB"), int)


def test_gallery_puts_the_right_picture_in_the_right_place(base, tmp_path):
    cells = [("perfusion", LOCAL[0]), ("cd", "default")]
    figure = drawn(
        with_pictures.gallery,
        base,
        concepts=("teapot",),
        prompts=("c01",),
        methods=(f"perfusion/{LOCAL[0]}", "cd"),
    )
    shown = tile_colours(figure, tmp_path)
    (axes,) = figure.axes
    images = axes.images
    assert len(images) == 4 + 2  # four concept images, two methods
    high = shown.shape[0]
    for artist, (method, point) in zip(images[4:], cells):
        left, right, bottom, top = artist.get_extent()
        (x0, y0), (x1, y1) = (
            axes.transData.transform([(left, bottom), (right, top)]) * 300 / figure.dpi
        )
        wanted = np.asarray(
            Image.open(base.image_file(method, point, "teapot", "c01", 0)).convert("RGB"), int
        )
        for part in (0.1, 0.5, 0.9):
            x, y = x0 + part * (x1 - x0), high - (y0 + 0.5 * (y1 - y0))
            seen = wanted[32, int(part * 64)]
            assert (
                np.abs(shown[int(y), int(x)] - seen).max() <= 8
                or np.abs(np.diff(wanted[32], axis=0)).max() > 8
            )
        np.testing.assert_array_equal(artist.get_array(), wanted.astype(np.uint8))


def pasted(figure):
    """The pictures of a gallery, in the order of its places: concept images and cells row by
    row.
    """
    return [image.get_array() for image in figure.axes[0].images]


def opened(file):
    return np.asarray(Image.open(file).convert("RGB"))


PAIR = "cat+teapot"


def add_pairs(folder, columns, alone=False):
    """Two prompts of a pair, planned and drawn, as a run leaves them; `alone`: nothing but them is
    left in the run.
    """
    plan = pd.read_csv(folder / "plan.csv", keep_default_na=False)
    like = plan.iloc[0].to_dict()
    texts = {"p01": "A {cat} sitting in a {teapot}", "p02": "A {cat} beside a {teapot}"}
    rows = []
    for number, (method, point) in enumerate(columns):
        for prompt, template in texts.items():
            where = {"method": method, "point": point, "concept": PAIR, "prompt_id": prompt}
            rows.append(
                {**like, **where, "group": "pair", "kind": "pair", "n": 1, "template": template}
            )
            file = Run(folder).image_file(method, point, PAIR, prompt, 0)
            file.parent.mkdir(parents=True)
            colour = (10 * number, 200, 40 if prompt == "p01" else 240)
            Image.new("RGB", (16, 16), colour).save(file)
    pd.concat([*([] if alone else [plan]), pd.DataFrame(rows)]).to_csv(
        folder / "plan.csv", index=False
    )
    if alone:
        (folder / "table.csv").rename(folder / "pair-table.csv")
        (folder / "table.csv").write_text("\n")
    return Run(folder)


@pytest.fixture
def paired(tmp_path):
    make_run(
        tmp_path / "paired",
        {"perfusion": LOCAL[:1], "db": ("default",)},
        ["cat", "teapot"],
        prompts=1,
        images=1,
    )
    return tmp_path / "paired"


def test_gallery_of_a_pair_shows_both_concepts_and_only_methods_that_can_draw_them(paired):
    run = add_pairs(paired, [("perfusion", LOCAL[0]), ("super", "default")])
    figure = drawn(with_pictures.gallery, run, concepts=(PAIR,))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "“A cat* sitting in a teapot*”" in texts and "cat + teapot" in texts
    assert "DreamBooth" not in texts and "no image" not in texts  # it cannot draw two concepts
    shown = pasted(figure)
    each = [
        [opened(paired / "concepts" / name / f"{n}.png") for n in (0, 1)]
        for name in ("cat", "teapot")
    ]
    for seen, wanted in zip(shown[:4], (each[0][0], each[1][0], each[0][1], each[1][1])):
        np.testing.assert_array_equal(seen, wanted)
    assert [tuple(image[0, 0]) for image in shown[4:6]] == [(0, 200, 40), (10, 200, 40)]
    assert [tuple(image[0, 0]) for image in shown[-2:]] == [(0, 200, 240), (10, 200, 240)]
    asked = drawn(
        with_pictures.gallery, run, concepts=(PAIR,), prompts=("p01",), methods=("perfusion", "db")
    )
    # asked for by name
    assert [text.get_text() for text in asked.axes[0].texts].count("no image") == 1


def test_gallery_leaves_pairs_to_those_who_ask(paired):
    run = add_pairs(paired, [("perfusion", LOCAL[0])])
    columns = [("perfusion", LOCAL[0])]
    assert PAIR not in {concept for concept, _ in run.choose_cells(columns, (), (), limit=9)}
    assert run.choose_cells(columns, (), ("p02",), limit=9) == [(PAIR, "p02")]


def test_gallery_shows_every_concept_that_was_named(tmp_path):
    names = ["cat", "chair", "dog", "pot", "puppy", "teapot", "teddy"]
    points = ("global-b0.50-t0.15-s50", "local-b0.60-t0.15-s100")
    make_run(tmp_path / "many", {"perfusion": points}, names, prompts=2, images=1)
    run = Run(tmp_path / "many")
    columns = [("perfusion", point) for point in points]
    asked = [concept for concept, _ in run.choose_cells(columns, names[::-1], (), limit=5)]
    assert asked == names[::-1] and len(run.choose_cells(columns, (), (), limit=5)) == 5
    texts = [
        text.get_text() for text in drawn(with_pictures.gallery, run, concepts=names).axes[0].texts
    ]
    assert {*names} <= {*texts}
    assert {"global, β = 0.50, s = 50", "local, β = 0.60, s = 100"} <= {*texts}, "kept steps alone"


def test_gallery_of_a_run_of_nothing_but_pairs(paired):
    run = add_pairs(paired, [("perfusion", LOCAL[0])], alone=True)
    texts = [text.get_text() for text in drawn(with_pictures.gallery, run).axes[0].texts]
    assert any(text.startswith("“A cat* beside") for text in texts) and "Perfusion" in texts
    with pytest.raises(UserError, match="no method has both similarities"):
        drawn(charts.pareto, run)
    assert perfbench(["report", str(paired)]) == 0
    page = (paired / "index.html").read_text()
    assert (
        "on 1 pair " in page and "A cat* beside a teapot*" in page and "Pairs of concepts" in page
    )


@pytest.fixture
def carried(tmp_path):
    """The same concepts on another backbone, which has a scorer of its own."""
    other = tmp_path / "another-backbone-0123456789abcdef"
    make_run(
        other, {"perfusion": LOCAL[:1]}, ["teapot", "cat"], prompts=2, images=1, seed=5, size=32
    )
    text = (other / "run.json").read_text()
    (other / "run.json").write_text(text.replace("cd" * 32, "ef" * 32))
    return Run(other)


def test_gallery_shows_a_concept_on_two_backbones(base, carried, tmp_path):
    wish = {"concepts": ("teapot",), "prompts": ("c01",), "methods": (f"perfusion/{LOCAL[0]}",)}
    figure = drawn(with_pictures.gallery, base, carried, **wish)
    *concept, left, right = pasted(figure)
    np.testing.assert_array_equal(concept[0], opened(base.folder / "concepts" / "teapot" / "0.png"))
    for seen, run in ((left, base), (right, carried)):
        np.testing.assert_array_equal(
            seen, opened(run.image_file("perfusion", LOCAL[0], "teapot", "c01", 0))
        )
    assert left.shape[0] == 64 and right.shape[0] == 32
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "base" in texts and any(
        text.startswith("another-back") and text.endswith("…") for text in texts
    )
    out = tmp_path / "both.png"  # scorers do not matter where nothing is scored
    assert (
        perfbench(["plot", "gallery", str(base.folder), str(carried.folder), "--out", str(out)])
        == 0
    )


def test_gallery_of_two_runs_shows_what_both_have(base, carried):
    figure = drawn(with_pictures.gallery, base, carried)
    texts = [text.get_text() for text in figure.axes[0].texts]
    names = {name for name in texts if name in ("cat", "teapot", "chair", "tortoise")}
    assert names == {"cat", "teapot"} and "no image" not in texts
    with pytest.raises(UserError, match="of which each of them has an image"):
        drawn(with_pictures.gallery, base, carried, concepts=("chair",))


def test_runs_of_one_name_are_told_apart_and_one_run_is_not_shown_twice(tmp_path):
    runs = []
    for place in ("here", "there"):
        make_run(
            tmp_path / place / "run",
            {"cd": ("default",)},
            ["cat"],
            prompts=2,
            images=1,
            pictures=False,
        )
        runs.append(Run(tmp_path / place / "run"))
    (axes,) = drawn(charts.pareto, *runs).axes
    texts = [text.get_text() for text in axes.texts]
    assert "Custom Diffusion (here/run)" in texts and "Custom Diffusion (there/run)" in texts
    with pytest.raises(UserError, match="run is given twice"):
        drawn(charts.pareto, runs[0], runs[0])


@pytest.mark.parametrize("text", ["global, β = 0.40", "Textual Inversion"])
def test_a_text_that_fits_its_column_is_not_cut(text):
    """The narrowest columns of a gallery: eight methods on a page."""
    assert shorten(text, 0.81, 6.2) == text and shorten(text, 0.5, 6.2) != text


@pytest.mark.parametrize(
    "text", ["Custom Diffusion", "quick", "another-backbone-0123456789abcdef", "a" * 60, ""]
)
def test_a_text_that_does_not_fit_is_cut_and_not_lost(text):
    cut = shorten(text, 1.0, 6.2)
    assert len(cut) <= 20 and (
        cut == text or (cut.endswith("…") and len(cut) > 8 and text.startswith(cut[:-1]))
    )


def test_attainment_reaches_as_far_as_the_best_concepts_and_no_further(base):
    """Text to the right, image upwards: the lightest field ends at the highest of either."""
    figure = drawn(attainment.attainment, base)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}
    assert "Custom Diffusion" in panels and "Perfusion" in panels
    filled = panels["Custom Diffusion"].collections[0]
    corners = np.concatenate([path.vertices for path in filled.get_paths()]).max(0)
    mine = base.metrics[base.metrics["method"] == "cd"]
    step = np.ptp(panels["Custom Diffusion"].get_xlim()) / attainment.PLACES
    assert corners[0] == pytest.approx(mine["text_sim"].max(), abs=2 * step)
    step = np.ptp(panels["Custom Diffusion"].get_ylim()) / attainment.PLACES
    assert corners[1] == pytest.approx(mine["image_sim"].max(), abs=2 * step)


def test_breakdown_writes_every_value_of_its_fields(base):
    figure = drawn(breakdown.breakdown, base)
    above, below = figure.axes
    groups, rows = (
        [label.get_text() for label in axes.get_yticklabels()] for axes in (above, below)
    )
    assert (
        groups == ["animated", "containers", "furniture"] and rows[:3] == groups and "style" in rows
    )
    labels = [label.get_text().replace("\n", " ") for label in below.get_xticklabels()]
    cells = base.cells[(base.cells["method"] == "cd") & (base.cells["concept"] == "teapot")]
    raw = cells[cells["metric"] == "text_sim_raw"].set_index("prompt_id")["mean"]
    floor = base.cells[(base.cells["method"] == "super") & (base.cells["metric"] == "text_sim_raw")]
    floor = floor[floor["concept"] == "teapot"].set_index("prompt_id")["mean"]
    field = labels.index("Custom Diffusion")
    wanted = {
        (above, "containers"): f"{cells.loc[cells['metric'] == 'image_sim', 'mean'].mean():.3f}",
        (
            below,
            "containers",
        ): f"{(raw - floor).mean():+.3f}",  # the only container, so its mean over prompts
    }
    for (axes, name), text in wanted.items():
        written = [item.get_text() for item in axes.texts]
        assert (
            written[([*groups] if axes is above else rows).index(name) * len(labels) + field]
            == text
        )
    assert {item.get_color() for item in below.texts} == {INK}  # on fields light enough for it
    shades = below.collections[0].get_facecolors()[:, :3]
    assert min(luminance(shade) for shade in shades) > 0.25


def test_figures_of_one_concept_repeat_no_table(tmp_path):
    make_run(tmp_path, {"cd": ("default",)}, ["cat"], prompts=2, images=1, pictures=False)
    run = Run(tmp_path)
    with pytest.raises(UserError, match="only one concept; `perfbench plot pareto` shows"):
        drawn(charts.per_concept, run)
    (axes,) = drawn(breakdown.breakdown, run).axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert "animated" not in rows and "place" in rows, "one group is the whole table"


def test_gallery_of_few_methods_has_the_super_category_beside_them(tmp_path):
    make_run(tmp_path / "few", {"perfusion": LOCAL[:1]}, ["cat"], prompts=1, images=1)
    texts = [
        text.get_text()
        for text in drawn(with_pictures.gallery, Run(tmp_path / "few")).axes[0].texts
    ]
    # headers, from the bottom line up
    assert texts[:4] == ["local, β = 0.60", "Perfusion", "category", "Super-"]


def test_gallery_of_many_methods_shows_the_published_ones(crowded, base):
    assert [method for method, _ in selection.gallery_columns(crowded, ())] == [
        "perfusion", "perfusion", "db", "ti", "cd", "cd-better"
    ]  # fmt: skip
    few = Run(base.folder)
    few.__dict__["table"] = crowded.table[crowded.table["method"].isin(["cd", "cd-selected"])]
    assert [method for method, _ in selection.gallery_columns(few, ())] == ["cd", "cd-selected"]


def test_a_gallery_without_room_for_all_says_who_is_left_out(tmp_path, capsys):
    names = ["ti", "db", "cd", "cd-better", "lora", *(f"{n}-selected" for n in ("ti", "cd", "db"))]
    points = dict.fromkeys(names, ("default",)) | {"perfusion": LOCAL[:1]}
    make_run(tmp_path / "run", points, ["cat"], prompts=1, images=1, size=16)
    run = Run(tmp_path / "run")
    for wish, told in (({}, 1), ({"methods": ("cd", "db")}, 0)):
        drawn(with_pictures.gallery, run, **wish)
        assert capsys.readouterr().err.count("perfbench: run: 6 of 9 methods are shown;") == told
    selection.tell_left_out(run, [("cd", "default")], ())
    assert capsys.readouterr().err.endswith(" and 3 more)\n")


def test_gallery_shows_a_hole_as_a_hole(base):
    base.image_file("cd", "default", "cat", "a01", 0).rename(base.folder / "aside.png")
    try:
        figure = drawn(
            with_pictures.gallery, base, concepts=("cat",), prompts=("a01",), methods=("cd", "db")
        )
    finally:
        (base.folder / "aside.png").rename(base.image_file("cd", "default", "cat", "a01", 0))
    assert [text.get_text() for text in figure.axes[0].texts].count("no image") == 1


def test_gallery_chooses_prompts_that_change_the_object_and_spreads_over_concepts(base):
    columns = [("perfusion", LOCAL[0])]
    chosen = base.choose_cells(columns, (), (), limit=4)
    assert {concept for concept, _ in chosen} == {"cat", "teapot", "tortoise", "chair"}
    assert not any(prompt.startswith("s") for _, prompt in chosen)
    assert base.choose_cells(columns, ("teapot", "cat"), ("s02", "s01"), limit=1) == [
        ("teapot", "s02"), ("teapot", "s01"), ("cat", "s02"), ("cat", "s01"),
    ]  # fmt: skip
    assert spread([("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")], 3) == [
        ("a", "1"),
        ("b", "2"),
        ("a", "2"),
    ]


def test_prompts_are_written_as_the_paper_writes_them(base):
    assert base.text("s01", "cat") == "A cat* on the beach"


def test_prompts_have_the_super_category_s_word_where_it_is_known(base):
    run = Run(base.folder)
    run.__dict__["about"] = {"super_categories": {"cat": "pet"}}
    assert run.text("s01", "cat") == "A pet* on the beach"
    assert run.text("s01", "teapot") == "A teapot* on the beach"


def test_overlay_is_warm_where_the_word_attends_and_grey_elsewhere():
    picture = np.full((32, 32, 3), (20, 120, 220), np.uint8)
    weights = np.zeros((8, 8))
    weights[:, 4:] = 3.0
    seen = overlay(picture, weights).astype(int)
    assert np.ptp(seen[16, 2]) == 0  # grey
    assert seen[16, 29, 0] > seen[16, 29, 2] + 80  # amber


def test_overlay_draws_the_outline_of_the_object_in_white():
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    seen = overlay(np.full((32, 32, 3), 90, np.uint8), np.ones((4, 4)), mask)
    assert seen.shape == (256, 256, 3)
    white = (seen == 255).all(-1)
    assert white[64, 100] and white[63, 100] and not white[60, 100] and not white[128, 128]
    assert 4 * 120 < white.sum() < 4 * 140 * 2  # a thin closed line


def test_attention_draws_the_leakage_it_is_given(base, tmp_path):
    folder = base.folder / "attention"
    folder.mkdir()
    frame = pd.DataFrame(
        [
            (m, t, value + t / 1e4)
            for m, value in (("ti", 0.5), ("perfusion", 0.2))
            for t in (750, 250, 500)
        ],
        columns=["method", "t", "leakage"],
    )
    frame.to_csv(folder / "leakage.csv", index=False)
    images = np.full((2, 64, 64, 3), 128, np.uint8)
    np.savez(
        folder / "maps.npz",
        pictures=images,
        **{f"map/{m}": np.eye(8)[None].repeat(2, 0) for m in ("ti", "perfusion")},
    )
    try:
        chart, sheet = drawn(with_pictures.attention, base).axes
    finally:
        (folder / "maps.npz").unlink()
        (folder / "leakage.csv").unlink()
        folder.rmdir()
    np.testing.assert_allclose(marked(chart, "D"), [(250, 0.525), (500, 0.55), (750, 0.575)])
    np.testing.assert_allclose(marked(chart, "o"), [(250, 0.225), (500, 0.25), (750, 0.275)])
    assert len(sheet.images) == 2 * (1 + 2)


# ---- files ----


def test_files_are_the_same_every_time_and_fit_the_column(results, tmp_path):
    """Another process, another hash seed: the same bytes; a column is 3.3 inches; no dates."""
    script = (
        "import sys; from pathlib import Path; from benchmarks.figures.registry import plot\n"
        "from benchmarks.tables.run_view import Run\n"
        "from benchmarks.figures.selection import Wish\n"
        "plot('pareto', [Run(Path(sys.argv[1]))], Wish(), Path(sys.argv[2]))"
    )
    written = []
    for seed in ("1", "2"):
        out = tmp_path / seed / "pareto"
        environment = {
            "PYTHONHASHSEED": seed,
            "PATH": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path.cwd()),
        }
        subprocess.run(
            [sys.executable, "-c", script, str(results / "base"), str(out)],
            check=True,
            env=environment,
        )
        written.append(
            {kind: out.with_name(f"pareto.{kind}").read_bytes() for kind in ("pdf", "svg", "png")}
        )
    assert written[0] == written[1]
    pdf = written[0]["pdf"]
    assert b"CreationDate" not in pdf and b"dc:date" not in written[0]["svg"]
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", pdf)
    assert box and float(box[1]) == pytest.approx(3.3 * 72, abs=0.5)
    assert b"/Type3" not in pdf  # publishers refuse Type 3 fonts


def test_text_is_readable_in_a_column(base, ablated):
    for make, run in (
        (charts.pareto, base),
        (charts.per_concept, base),
        (charts.ablation, ablated),
        (with_pictures.gallery, base),
    ):
        figure = drawn(make, run)
        sizes = [
            t.get_fontsize()
            for t in figure.findobj(lambda a: hasattr(a, "get_fontsize"))
            if t.get_text()
        ]
        assert min(sizes) >= 5.5 and max(sizes) <= 8


def test_arrows_and_labels_do_not_leave_the_figure(base):
    figure = drawn(charts.pareto, base)
    figure.draw_without_rendering()
    for text in figure.findobj(Annotation):
        box = text.get_window_extent()
        assert figure.bbox.padded(1).contains(box.x0, box.y0) and figure.bbox.padded(1).contains(
            box.x1, box.y1
        )


# ---- the verb ----


def test_plot_without_a_name_takes_the_newest_run(results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    assert perfbench(["plot", "pareto", "base", "--out", str(tmp_path / "a.pdf")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a.pdf")]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pdf"]
    assert perfbench(["plot", "pareto"]) == 0  # both started at the same second: the last name
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.as_posix() for file in files] == [
        f"results/base/figures/pareto.{kind}" for kind in ("pdf", "svg", "png")
    ]
    assert all(file.stat().st_size > 5000 for file in files)


def test_plot_without_a_run_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no run .*`perfbench run --preset quick`"):
        perfbench(["plot", "pareto"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["paretto", "base"], "did you mean 'pareto'"),
        (["pareto", "base", "--out", "a.jpg"], r"\.pdf, \.svg or \.png"),
        (["ablation", "base"], "perfbench run --ablation"),
        (["dynamics", "base"], "keep="),
        (["attention", "base"], "no attention maps"),
        (["gallery", "ablated"], "no images"),
        (["gallery", "base", "--concepts", "teapott"], "did you mean 'teapot'"),
        (["gallery", "base", "--methods", "cdd"], "did you mean 'cd'"),
        (["gallery", "base", "--images", "0"], "at least 1 picture"),
        (
            ["gallery", "base", "--methods", "perfusion/local-b0.61-t0.15"],
            "did you mean 'local-b0.6",
        ),
    ],
)
def test_mistakes_are_one_sentence(results, monkeypatch, words, sentence):
    monkeypatch.chdir(results.parent)
    with pytest.raises(UserError, match=sentence) as caught:
        perfbench(["plot", *words])
    assert "\n" not in str(caught.value)


def test_runs_of_other_scorers_are_not_drawn_together(base, tmp_path):
    other = tmp_path / "other"
    make_run(other, {"cd": ("default",)}, ["cat"], prompts=2, images=1, pictures=False)
    text = (other / "run.json").read_text()
    (other / "run.json").write_text(text.replace("cd" * 32, "ef" * 32))
    with pytest.raises(UserError, match="plot them apart"):
        perfbench(
            ["plot", "pareto", str(base.folder), str(other), "--out", str(tmp_path / "a.png")]
        )


PROTOCOL = {"images": 1, "steps": 50, "seed": 0, "fit": {}}
DIGESTS = {
    "plan": "",
    "texts": "aa",
    "concepts": {"cat": "bb"},
    "masks": {},
    "prompts": {"s01": "cc"},
}


def side_by_side(folder, figure, **changes):
    """`perfbench plot` of two runs, the second with this changed in its run.json; -> its exit
    status.
    """
    about = {"protocol": PROTOCOL, "digests": DIGESTS}
    for name, extra, methods in (
        ("one", about, {"cd": ("default",)}),
        ("two", about | changes, {"db": ("default",)}),
    ):
        make_run(
            folder / name,
            methods,
            ["cat"],
            prompts=2,
            images=1,
            pictures=figure == "gallery",
            extra=extra,
        )
    return perfbench(
        ["plot", figure, str(folder / "one"), str(folder / "two"), "--out", str(folder / "a.png")]
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol": PROTOCOL | {"steps": 20}}, ["steps: 50 -> 20"]),
        (
            {"protocol": PROTOCOL | {"images": 8, "suite": "mine"}},
            ["images: 1 -> 8", "suite: None -> mine"],
        ),
        (
            {"backbone": {"id": "other", "sha256": "ef" * 32}},
            ["backbone: abababababab... -> efefefefefef..."],
        ),
        ({"digests": DIGESTS | {"texts": "dd"}}, ["training and validation texts: aa -> dd"]),
        ({"digests": DIGESTS | {"prompts": {"s01": "dd"}}}, ["prompt s01: cc -> dd"]),
        ({"digests": DIGESTS | {"concepts": {"cat": "dd"}}}, ["concept cat: bb -> dd"]),
    ],
)
def test_runs_that_were_not_measured_alike_are_not_drawn_together(tmp_path, capsys, change, told):
    with pytest.raises(
        UserError, match=r"one and two were not measured alike: .*; plot them apart"
    ) as caught:
        side_by_side(tmp_path, "pareto", **change)
    assert f"({', '.join(told)})" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()
    command = str(caught.value).split("`")[1]
    assert perfbench(command.split()[1:]) == 2
    out = capsys.readouterr().out
    assert all(text in out for text in told)


@pytest.mark.parametrize("name", ["bias", "attention", "per-concept", "attainment", "training"])
def test_no_run_is_passed_over_in_silence(name):
    with pytest.raises(
        UserError, match=f"{name} is a figure of one run; give `perfbench plot {name}` for each of"
    ):
        registry.plot(name, [None, None], Wish())


def test_pictures_of_other_protocols_stand_beside_each_other(tmp_path):
    assert side_by_side(tmp_path, "gallery", protocol=PROTOCOL | {"steps": 20}) == 0


def test_runs_of_other_methods_seeds_recipes_concepts_and_prompts_share_a_plane(tmp_path):
    free = {
        "protocol": PROTOCOL | {"seed": 7, "fit": {"db": {"lr": 0.1}}, "preset": "quick"},
        "dtype": "bfloat16",
    }
    more = {
        "plan": "dd",
        "concepts": {"dog": "dd"},
        "masks": {"cat": "dd"},
        "prompts": {"s02": "dd"},
    }
    assert side_by_side(tmp_path, "pareto", **free, digests=DIGESTS | more) == 0
    assert (tmp_path / "a.png").exists()


def test_two_runs_share_a_plane(base, tmp_path):
    make_run(
        tmp_path / "other",
        {"cd": ("default",)},
        ["cat", "chair"],
        prompts=2,
        images=1,
        pictures=False,
    )
    other = Run(tmp_path / "other")
    (axes,) = drawn(charts.pareto, base, other).axes
    both = pd.concat([rows_of(base, "cd"), rows_of(other, "cd")])
    np.testing.assert_allclose(marked(axes, "v"), both[["text_sim", "image_sim"]])
    texts = [text.get_text() for text in axes.texts]
    assert "Custom Diffusion (base)" in texts and "Custom Diffusion (other)" in texts


def test_intervals_of_two_concepts_do_not_hide_what_differs():
    rows = pd.DataFrame({"text_sim": [0.98, 1.0], "image_sim": [0.70, 0.75]})
    for name in ("text_sim", "image_sim"):
        rows[f"{name}_lo"], rows[f"{name}_hi"] = rows[name] - 0.9, rows[name] + 0.02
    axes = Figure().add_subplot()
    plots.plane(axes, rows)
    for (low, high), name in ((axes.get_xlim(), "text_sim"), (axes.get_ylim(), "image_sim")):
        assert rows[name].min() - 0.25 < low < rows[name].min() - 0.15, (
            "0.9 below would be a picture of one line"
        )
        assert rows[f"{name}_hi"].max() < high < rows[f"{name}_hi"].max() + 0.1
