"""The subject alone: cutting by known answers; the same thing on another background; what is not
found; whose segmenter counts.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from run_kit import copy_of_reference

from benchmarks.cli import run
from benchmarks.evidence.segmenter_measures import labelled, overlap, redrawn
from benchmarks.miniature.opening import opened
from benchmarks.miniature.training.judges import judges_digest, open_judges
from benchmarks.miniature.world.instance import make_instance
from benchmarks.miniature.world.picture import Picture, render
from benchmarks.paths import miniature_dir
from benchmarks.planning.backbones import find_models
from benchmarks.planning.config import resolve
from benchmarks.running import subject_scores
from benchmarks.running.tasks import Job, ScoringTask
from benchmarks.running.worker_scores import WorkerScores
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import open_scorer
from benchmarks.scoring.subject_alone import DECIDES, GREY, LEAST, MEASURED, SHOWN_FROM, cut_to
from benchmarks.store.csv_files import read_frame, rows_text
from benchmarks.store.run_folder import Store

CELL = CellRow(
    "m",
    "default",
    "one",
    "animated",
    "s01",
    "shape",
    3,
    "k",
    "",
    "A {one}",
    "A",
    "teddy",
    (1, 2, 3),
)


def test_the_box_of_the_thing_on_a_square_of_grey():
    pixels = np.random.default_rng(0).integers(0, 120, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[4:10, 5:17] = True
    mask[5, 6] = False  # a hole
    cut = cut_to(Image.fromarray(pixels), mask)
    assert cut.size == (12, 12)
    found = np.asarray(cut)
    assert (
        (found[:3] == GREY[0]).all() and (found[9:] == GREY[0]).all() and tuple(found[4, 1]) == GREY
    )
    expected = pixels[4:10, 5:17].copy()
    expected[1, 1] = GREY
    assert (found[3:9] == expected).all()
    other = pixels[::-1].copy()
    other[4:10, 5:17] = pixels[4:10, 5:17]
    assert (np.asarray(cut_to(Image.fromarray(other), mask)) == found).all(), "whatever is behind"
    few = np.zeros((20, 30), bool)
    few[0, :5] = True
    assert cut_to(Image.fromarray(pixels), few) is None, "five pixels of 600 are nothing"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A concept of one drawn thing with masks, and a cell: the thing on two backgrounds, and none
    of it."""
    place = miniature_dir()
    monkeypatch.setitem(MEASURED, judges_digest(place), SHOWN_FROM)  # whatever is known of them
    thing = make_instance("teddy", ("verify", 3))
    own = tmp_path / "concepts" / "one"
    (own / "masks").mkdir(parents=True)
    for number, scene in enumerate(("beach", "garden", "kitchen")):
        image, mask = render(Picture(thing, scene), ("subject", number))
        Image.fromarray(image).save(own / f"{number}.png")
        Image.fromarray(mask).save(own / "masks" / f"{number}.png")
    cell = tmp_path / "images" / "m" / "default" / "one" / "s01"
    cell.mkdir(parents=True)
    kept = np.asarray(Image.open(own / "0.png"))
    inside = np.asarray(Image.open(own / "masks" / "0.png"))[..., None] > 127
    rows = np.linspace(0, 1, 64)[:, None, None]
    plain = np.broadcast_to(np.uint8([30, 60, 120]) + np.uint8(60 * rows), (64, 64, 3))
    for number, picture in enumerate((kept, np.where(inside, kept, plain), plain)):
        Image.fromarray(np.ascontiguousarray(picture)).save(cell / f"{number}.png")
    return tmp_path


def scores(folder, **changes):
    config = resolve(preset="micro", flags={"backbone": "miniature", "device": "cpu"})
    job = Job(config, find_models(config), frozenset(), (), False, **changes)
    task = ScoringTask(
        "m", "default", "one", "animated", (CELL,), tuple(s.name for s in job.models.scorers)
    )
    worker = WorkerScores(job, Store(folder))
    (rows,) = worker.rows(task).values()
    real = replace(task, method="real", cells=(), key="r")
    (own,) = worker.rows(real).values()
    return rows, own


def test_the_same_thing_on_another_background(folder, tmp_path):
    rows, own = scores(folder, segmenter=subject_scores.usual_segmenter(miniature_dir()))
    kept, moved, bare = rows
    cell = folder / "images" / "m" / "default" / "one" / "s01"
    seen = np.stack([np.asarray(Image.open(cell / f"{number}.png")) for number in range(3)])
    found = [int(mask.mean() >= LEAST) for mask in open_judges(miniature_dir()).segment(seen)]
    assert [row["found"] for row in rows] == found and found[:2] == [1, 1]
    assert (bare["image_sim_subject"] != "") == bool(found[2]) and bare["image_sim"] != ""
    alone, whole = (
        [float(row[name]) for row in (kept, moved)] for name in ("image_sim_subject", "image_sim")
    )
    assert abs(alone[0] - alone[1]) < whole[0] - whole[1], (alone, whole)
    assert all(0 < float(row["image_sim_subject"]) < 1 and row["found"] == 1 for row in own)
    # by hand, from the judge's own mask and the scorer
    scorer = open_scorer(find_scorer("auto", "miniature", miniature_dir()), "cpu")
    judges = open_judges(miniature_dir())

    def cut(path, mask):
        image = np.asarray(Image.open(path).convert("RGB")).copy()
        image[~mask] = 128
        y, x = np.nonzero(mask)
        box = image[y.min() : y.max() + 1, x.min() : x.max() + 1]
        side = max(box.shape[:2])
        top, left = ((side - length) // 2 for length in box.shape[:2])
        square = np.full((side, side, 3), 128, np.uint8)
        square[top : top + box.shape[0], left : left + box.shape[1]] = box
        return scorer.images([Image.fromarray(square)])[0].astype(float)

    place = folder / "images" / "m" / "default" / "one" / "s01" / "1.png"
    seen = cut(place, judges.segment(np.asarray(Image.open(place))[None])[0])
    real = [
        cut(path, np.asarray(Image.open(path.parent / "masks" / path.name)) > 127)
        for path in sorted((folder / "concepts" / "one").glob("*.png"))
    ]
    assert alone[1] == pytest.approx(np.mean([seen @ one for one in real]), abs=2e-5)
    # and as a rows file has it
    (tmp_path / "rows.csv").write_text(rows_text(rows))
    frame = read_frame([tmp_path / "rows.csv"])
    assert frame["found"].tolist() == found
    assert frame["image_sim_subject"].notna().astype(int).tolist() == found


def test_without_masks_or_without_a_segmenter_there_is_no_column(folder):
    rows, own = scores(folder)
    assert not any("found" in row or "image_sim_subject" in row for row in (*rows, *own))
    shutil.rmtree(folder / "concepts" / "one" / "masks")
    rows, own = scores(folder, segmenter=subject_scores.usual_segmenter(miniature_dir()))
    assert not any("found" in row or "image_sim_subject" in row for row in (*rows, *own))


def test_a_segmenter_that_nobody_measured_or_that_is_bad_is_not_used(monkeypatch, tmp_path):
    place = miniature_dir()
    digest = judges_digest(place)
    assert (MEASURED.get(digest, 0) >= SHOWN_FROM) == bool(subject_scores.usual_segmenter(place))
    monkeypatch.setitem(MEASURED, digest, SHOWN_FROM - 0.001)
    assert subject_scores.usual_segmenter(place) == ""
    monkeypatch.delitem(MEASURED, digest)
    assert subject_scores.usual_segmenter(place) == subject_scores.usual_segmenter(tmp_path) == ""


def test_what_was_measured_is_measured_again_on_a_few():
    place = miniature_dir()
    pictures, truth, texts = labelled(12)
    drawn = redrawn(opened(place, "cpu", "float32"), pictures, texts, DECIDES)
    iou = overlap(open_judges(place).segment(drawn), truth)
    assert abs(iou.mean() - MEASURED[judges_digest(place)]) < 0.1
    halves = np.zeros((2, 4, 4), bool)
    halves[0, :2], halves[1, 1:3] = True, True
    assert overlap(halves[:1], halves[1:]) == pytest.approx([1 / 3])


def test_clipseg_counts_where_it_draws_the_concepts_own_masks(
    clipseg, tmp_path, capsys, monkeypatch
):
    import pandas as pd

    out = copy_of_reference(tmp_path / "run")
    words = ["score", str(out), "--again", "--device", "cpu", "--subject", str(clipseg)]
    assert run(words) == 0
    assert "no image_sim_subject of cat: CLIPSeg has" in capsys.readouterr().err
    assert "image_sim_subject" not in pd.read_csv(out / "table.csv")
    monkeypatch.setattr(subject_scores, "SHOWN_FROM", 0.0)
    monkeypatch.setattr(
        subject_scores.Segmenter,
        "masks",
        lambda self, pictures, word: [np.pad(np.ones((8, 8), bool), 4) for _ in pictures],
    )
    assert run(words) == 0
    table = pd.read_csv(out / "table.csv").set_index("method")
    assert table.loc["perfusion", "found"] == 1 and table.loc["super", "image_sim_subject"] > 0
    assert "image_sim_subject" in (out / "table.md").read_text()
    monkeypatch.setattr(
        subject_scores.Segmenter,
        "masks",
        lambda self, pictures, word: [np.zeros((16, 16), bool) for _ in pictures],
    )
    assert run(words) == 0
    table = pd.read_csv(out / "table.csv").set_index("method")
    assert table.loc["perfusion", "found"] == 0, "it counts, and is not left out"
    assert "image_sim_subject" not in table, "what is not found has no likeness"
    about = json.loads((out / "run.json").read_text())
    assert about["config"]["scorers"] == ["auto"], "the command is not another run"
