"""README's picture: which places get pictures, what lies where, and that the committed one is of
the committed rows.
"""

from pathlib import Path

import numpy as np
import pytest
from made_run import GLOBAL, LOCAL, make_run
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image

from benchmarks.figures import front_picture
from benchmarks.figures.front_picture import REAL
from benchmarks.tables.run_view import open_run
from perfusion_core.errors import UserError

ROOT = Path(__file__).parent.parent.parent
DEFAULT = ("default",)
POINTS = {
    "perfusion": (*LOCAL, *GLOBAL[:2]),
    "cd": DEFAULT,
    "cd-better": DEFAULT,
    "db": DEFAULT,
    "db-selected": DEFAULT,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front") / "run"
    make_run(folder, POINTS, ["cat", "dog", "teddy"], images=2)
    return open_run(str(folder))


def places(run):
    return front_picture.places_of(run.table)


def test_methods_get_pictures_and_variants_do_not(run):
    table = run.table[run.table["method"] == "perfusion"].set_index("point")
    best = {
        lock: table.loc[[p for p in table.index if p.startswith(lock)], "harmonic"].idxmax()
        for lock in ("local", "global")
    }
    assert places(run) == [
        ("perfusion", best["local"]),
        ("perfusion", best["global"]),
        ("db", "default"),
        ("cd", "default"),
        ("super", "default"),
    ]


def test_a_strip_comes_back_as_it_was_taken(run, tmp_path):
    strip = front_picture.take_strip(run, places(run), "cat", ["s01", "a01"], size=32)
    assert strip.places[-1] == REAL and strip.pictures.shape == (6, 2, 32, 32, 3)
    file = run.image_file("cd", "default", "cat", "a01", 0)
    with Image.open(file) as image:
        small = np.asarray(image.convert("RGB").resize((32, 32)), int)
    shown = strip.pictures[strip.places.index(("cd", "default")), 1].astype(int)
    assert np.abs(shown - small).mean() < 16, "the first picture of this very cell"
    front_picture.write_strip(strip, tmp_path / "strip.png")
    again = front_picture.read_strip(tmp_path / "strip.png")
    assert (again.concept, again.prompts, again.places) == ("cat", strip.prompts, strip.places)
    assert np.array_equal(again.pictures, strip.pictures)


def test_each_slot_is_tied_to_its_point(run):
    strip = front_picture.take_strip(run, places(run), "cat", ["s01", "a01"])
    figure = front_picture.front(run.table, strip)
    plane, over, *_ = figure.axes
    frames = [one for one in over.patches if isinstance(one, Rectangle)]
    ties = [one for one in over.patches if isinstance(one, ConnectionPatch)]
    assert len(frames) == len(ties) == len(strip.places) == 6
    ends = {tuple(np.round(tie.xy2, 6)) for tie in ties}
    for method, point in strip.places[:-1]:
        row = run.table[(run.table["method"] == method) & (run.table["point"] == point)].iloc[0]
        assert (round(row["text_sim"], 6), round(row["image_sim"], 6)) in ends
    ceiling = run.table.loc[run.table["kind"] == "ceiling", "image_sim"].iloc[0]
    assert any(up == round(ceiling, 6) for _, up in ends)
    low, high = plane.get_ylim()
    assert low < run.table["image_sim"].min() and high > ceiling
    written = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"DreamBooth", "Custom Diffusion", "Perfusion, local lock"} <= written


def test_what_is_missing_is_named(run):
    with pytest.raises(UserError, match=r"no picture images/.*/s99/0\.png"):
        front_picture.take_strip(run, places(run), "cat", ["s01", "s99"])
    strip = front_picture.take_strip(run, places(run), "cat", ["s01", "a01"])
    table = run.table[run.table["method"] != "cd"]
    with pytest.raises(UserError, match="shows cd default, and the table has no such row"):
        front_picture.front(table, strip)
    with pytest.raises(UserError, match="no row of real images"):
        front_picture.front(run.table[run.table["kind"] != "ceiling"], strip)


def test_the_committed_picture_is_of_the_committed_rows_and_small(tmp_path):
    figure, strip = ROOT / front_picture.FIGURE, ROOT / front_picture.STRIP
    table = ROOT / front_picture.RUN / "table.csv"
    assert front_picture.made_of(figure) == tuple(
        front_picture.digest(file.read_bytes()) for file in (table, strip)
    ), "python -m benchmarks.figures.front_picture draws it again"
    assert figure.stat().st_size < 250_000 and strip.stat().st_size < 150_000
    again = front_picture.draw(open_run(str(table.parent)), strip, tmp_path / "front.png")
    with Image.open(again) as new, Image.open(figure) as old:
        assert new.size == old.size
        apart = np.abs(np.asarray(new.convert("RGB"), int) - np.asarray(old.convert("RGB"), int))
    assert apart.mean() < 2, "what is drawn now is what is committed"
