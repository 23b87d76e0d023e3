"""The plane of many methods: families share a colour and a hull, names stand on the front alone,
all others in a legend; with few methods nothing changes.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from benchmarks.figures import charts, cost_plot, crowded, plots
from benchmarks.figures.looks import MANY, family_of, looks_of_runs, style_of
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import COLUMN, PAGE, styled
from benchmarks.planning import methods
from benchmarks.planning.method_families import FAMILIES
from benchmarks.tables.run_view import Run

# text and image similarity of each; dora and ti lie on the front
SPOTS = {
    "db": (0.80, 0.70),
    "ti": (0.70, 0.86),
    "cd": (0.84, 0.74),
    "cd-better": (0.88, 0.73),
    "lora": (0.86, 0.76),
    "dora": (0.92, 0.80),
    "loha": (0.90, 0.72),
    "lokr": (0.81, 0.78),
    "oft": (0.78, 0.71),
    "mine": (0.75, 0.69),
}
FEW = dict(itertools.islice(SPOTS.items(), MANY))
ON_FRONT = {"ti", "dora"}


def run_of(spots, folder, untuned=(), said=()):
    rows = [
        {"kind": "method", "method": name, "point": "default", "text_sim": x, "image_sim": y}
        for name, (x, y) in spots.items()
    ]
    rows += [{"kind": "floor", "method": "super", "point": "default", "text_sim": 1.0,
              "image_sim": 0.6}]  # fmt: skip
    table = pd.DataFrame(rows)
    for name in ("text_sim", "image_sim"):
        table[f"{name}_lo"], table[f"{name}_hi"] = table[name] - 0.02, table[name] + 0.02
    table["n_images"] = table["n_planned"] = 8
    run = Run(folder)
    run.__dict__["table"] = table
    methods = {name: {"of": name, "untuned": name in untuned} for name in spots}
    run.__dict__["about"] = {"methods": methods | dict(said)}
    return run


def figure_of(run):
    with styled(), looks_of_runs([run]):
        figure = charts.pareto([run], Wish())
        figure.draw_without_rendering()
        return figure, {name: style_of(name, None, ["mine"]).label for name in SPOTS}


def test_the_front_is_what_no_other_beats_in_both():
    points = np.array([(1, 4), (2, 3), (2, 2), (3, 1), (3, 1), (0, 0)], float)
    assert crowded.on_front(points).tolist() == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("points", "patches", "corners"),
    [
        ([(0, 0)], 0, 0),
        ([(0, 0), (1, 1)], 1, 2),
        ([(0, 0), (2, 2), (1, 1)], 1, 2),
        ([(0, 0), (1, 0), (0, 1), (0.2, 0.2)], 2, 3),
    ],
)
def test_a_hull_is_an_area_a_line_or_nothing(points, patches, corners):
    axes = Figure().subplots()
    crowded.draw_hulls(axes, {"word": np.array(points, float)})
    assert len(axes.patches) == patches
    for patch in axes.patches:
        seen = {tuple(corner) for corner in patch.get_xy()}
        assert len(seen) == corners and (0.2, 0.2) not in seen


def test_many_methods_have_names_on_the_front_and_a_legend(tmp_path):
    run = run_of(SPOTS, tmp_path, untuned=["dora", "loha"])
    figure, labels = figure_of(run)
    assert labels["dora"] == "DoRA (untuned)" and labels["lora"] == "LoRA"
    (axes,), (legend,) = figure.axes, figure.legends
    named = {text.get_text() for text in axes.texts} & set(labels.values())
    assert named == {labels[name] for name in ON_FRONT}
    keys = [text.get_text() for text in legend.get_texts()]
    # the other families have a point each, so no hull
    assert keys[0] == FAMILIES["adapter"].title
    assert sorted(keys[1:]) == sorted(labels.values())
    assert figure.get_figwidth() == PAGE
    box = legend.get_window_extent()
    assert not box.overlaps(axes.bbox) and figure.bbox.padded(1).contains(box.x0, box.y0)
    areas = [patch for patch in axes.patches if isinstance(patch, Polygon) and patch.fill]
    assert [to_hex(patch.get_facecolor()) for patch in areas] == [
        FAMILIES["adapter"].colour.lower()
    ]


def test_a_family_shares_a_colour_and_no_marker(tmp_path):
    run = run_of(SPOTS, tmp_path)
    with styled(), looks_of_runs([run]):
        crowd = plots.crowd_of(plots.series_of(run.table))
    assert len(crowd) == len(SPOTS)
    for one, other in itertools.combinations(crowd, 2):
        family = family_of(one.method)
        if family and family == family_of(other.method):
            assert one.style.colour == other.style.colour == FAMILIES[family].colour
            assert one.style.marker != other.style.marker
        else:
            assert one.style.colour != other.style.colour


def test_a_method_of_your_own_stands_with_its_family(tmp_path):
    """Its colour and its hull, by a mark that no other of the family has."""
    spots = {**SPOTS, "other": (0.76, 0.70)}
    said = {name: {"of": name, "family": "adapter"} for name in ("mine", "other")}
    run = run_of(spots, tmp_path, said=said)
    with styled(), looks_of_runs([run]):
        crowd = plots.crowd_of(plots.series_of(run.table))
        family = [one for one in crowd if family_of(one.method) == "adapter"]
        corners = plots.families_of(crowd)["adapter"]
    assert {"mine", "other", "cd-better", "oft"} <= {one.method for one in family}
    assert {one.style.colour for one in family} == {FAMILIES["adapter"].colour}
    assert len({one.style.marker for one in family}) == len(family) == len(corners)
    said = {"mine": {"of": "mine", "family": ["adapter"]}}  # run.json may be anybody's
    with looks_of_runs([run_of(SPOTS, tmp_path, said=said)]):
        assert family_of("mine") == ""


def test_a_method_has_one_colour_in_all_figures_of_a_run(tmp_path):
    for spots, colour in ((SPOTS, FAMILIES["adapter"].colour), (FEW, style_of("cd").colour)):
        run = run_of(spots, tmp_path)
        table = run.table.assign(train_seconds=10.0, kilobytes=1.0)
        for end in ("", "_lo", "_hi"):
            table[f"harmonic{end}"] = table[f"image_sim{end}"]
        run.__dict__["table"] = table
        with styled(), looks_of_runs([run]):
            seen = {style_of("cd").colour}
            for draw in (charts.pareto, cost_plot.cost):
                lines = [line for axes in draw([run], Wish()).axes for line in axes.lines]
                mark = style_of("cd").marker
                seen |= {line.get_color() for line in lines if line.get_marker() == mark}
        assert seen == {colour}
    assert style_of("cd").colour != FAMILIES["adapter"].colour


def test_marks_of_a_family_are_told_apart_at_their_size():
    """Neither the same, nor two of those that are all dots at 4 points."""
    round_ones = set("oph8")
    for family in FAMILIES:
        names = [name for name in methods.BUILT_IN if family_of(name) == family]
        marks = [
            style_of(name).marker for name in [*names, "cd-better"] if family_of(name) == family
        ]
        assert len(set(marks)) == len(marks) and len(round_ones & set(marks)) <= 1


def test_few_methods_look_as_they_always_did(tmp_path):
    figure, labels = figure_of(run_of(FEW, tmp_path))
    (axes,) = figure.axes
    assert not figure.legends and not axes.patches and figure.get_figwidth() == COLUMN
    assert {labels[name] for name in FEW} <= {text.get_text() for text in axes.texts}
    colours = {line.get_color() for line in axes.lines if line.get_marker() == "v"}
    assert colours == {style_of("cd").colour} != {FAMILIES["adapter"].colour}


def test_the_cost_of_many_is_named_on_the_front_and_in_a_legend(tmp_path):
    """The front is what nothing cheaper is as good as; here cost falls as similarity does."""
    run = run_of(SPOTS, tmp_path)
    table = run.table.assign(train_seconds=10.0)
    table.loc[table["method"] == "mine", "train_seconds"] = 1.0
    for end in ("", "_lo", "_hi"):
        table[f"harmonic{end}"] = table[f"image_sim{end}"]
    run.__dict__["table"] = table
    with styled(), looks_of_runs([run]):
        figure = cost_plot.cost([run], Wish())
        figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert len(names) == len(SPOTS)
    # ti is the best, mine the cheapest
    assert {text.get_text() for text in axes.texts} & names == {"Textual Inversion", "mine"}
    assert not legend.get_window_extent().overlaps(axes.bbox)


def test_families_of_variants_and_strangers():
    assert family_of("cd-better") == family_of("cd-selected") == "adapter"
    assert family_of("perfusion-one-shot") == "perfusion"
    assert family_of("mine") == "" == family_of("super")
