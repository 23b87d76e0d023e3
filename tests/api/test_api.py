"""`benchmarks.api`: doctests, the notebook as it is shipped, the same numbers as the commands, and
one sentence for every mistake.
"""

import doctest
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from run_kit import copy_of_reference, reference, shared

from benchmarks import api
from benchmarks.cli import run
from perfusion_core.errors import UserError

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))
# shown with its outputs, which tests/test_examples.py compares
NOTEBOOKS = [path for path in NOTEBOOKS if path.stem != "reading_a_run"]
TINY = [str(shared() / "tiny" / "scorer")]


def test_the_examples_of_its_docstrings():
    found = doctest.testmod(api, extraglobs={})
    assert found.attempted >= 10 and not found.failed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_as_they_are_shipped(path, monkeypatch, capsys):
    """Every code cell in order, from the checkout's root; no outputs are committed."""
    monkeypatch.chdir(ROOT)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert 1 <= sum(len(cell["source"]) for cell in code) <= 25
    names: dict[str, object] = {}
    for cell in code:
        assert not cell["outputs"] and cell["execution_count"] is None
        exec(compile("".join(cell["source"]), str(path), "exec"), names)
    assert capsys.readouterr().out.count("\n") >= 3


def test_measuring_what_lies_in_memory_is_measuring_its_files(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(3)]
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))  # seen over white
    clear.save(tmp_path / "3.png")
    given = {"prompts": "A {} on the beach", "word": "cat", "scorers": TINY, "device": "cpu"}
    [files] = api.measure(tmp_path, references=tmp_path, **given)
    pictures = [arrays[0], Image.fromarray(arrays[1]), tmp_path / "2.png", clear]
    [memory] = api.measure(pictures, references=pictures, **given)
    assert memory.image_sim == files.image_sim and memory.ceiling == files.ceiling
    assert memory.text_sim_word == files.text_sim_word and memory.pictures == 4
    assert [row["picture"] for row in memory.each] == [0, 1, str(tmp_path / "2.png"), 3]


def test_one_picture_needs_no_list():
    grey = np.full((16, 16, 3), 90, np.uint8)
    given = {"prompts": None, "scorers": TINY[0], "device": "cpu"}
    [array] = api.measure(grey, references=grey, **given)
    [image] = api.measure(Image.fromarray(grey), references=[grey], **given)
    assert array.image_sim == image.image_sim == pytest.approx(1) and array.pictures == 1
    [alone] = api.measure(grey, None, "A {}", scorers=TINY, device="cpu")
    assert alone.image_sim is None and alone.text_sim_raw is not None


def test_frames_are_those_of_the_tables():
    out = reference()
    opened = api.open_run(str(out))
    assert opened.name == out.resolve().name and opened.about["scorers"]
    assert opened.samples is opened.samples, "read once"
    assert len(opened.samples) == opened.table.query("kind != 'best-h'")["n_images"].sum()
    assert {"image_sim", "image_sim_lo"} <= set(opened.table)
    assert set(opened.metrics["concept"]) == set(opened.samples["concept"])
    shape = opened.samples[opened.samples["kind"] == "shape"]
    cells = opened.cells[opened.cells["metric"] == "image_sim"]
    assert (cells["n"] * cells["mean"]).sum() / cells["n"].sum() == pytest.approx(
        pd.concat([shape, opened.samples.query("kind == 'real'")])["image_sim"].mean(), abs=1e-6
    )


def test_compare_is_the_verb(tmp_path, capsys):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        [(c, p, rng.normal()) for c in range(5) for p in range(4)],
        columns=["concept", "prompt_id", "image_sim"],
    )
    other = frame.assign(image_sim=frame["image_sim"] + rng.normal(size=len(frame)))
    found = api.compare(frame, other)
    frame.to_csv(tmp_path / "a.csv", index=False)
    other.to_csv(tmp_path / "b.csv", index=False)
    assert run(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert found.difference.value == pytest.approx(told["difference"], abs=1e-12)
    assert found.win_rate.value == pytest.approx(told["win_rate"])
    mixed = api.compare(tmp_path / "a.csv", other.rename(columns={"prompt_id": "prompt"}))
    assert mixed.difference.value == pytest.approx(found.difference.value, abs=1e-12)
    assert api.compare(frame, other, by="concept").clusters == 5


def test_pictures_that_are_imported_are_a_method_of_the_run(tmp_path):
    """Those of `super`, exported as plain folders: the same scores under another name."""
    out = copy_of_reference(tmp_path / "run")
    super_cells = out / "images" / "super" / "default"
    done = api.import_pictures(super_cells, "theirs", out, device="cpu")
    assert done.methods == ("theirs",) and done.pictures == done.planned > 0
    table = api.open_run(out).table.set_index("method")
    for score in ("image_sim", "text_sim_raw"):
        assert table.loc["theirs", score] == table.loc["super", score]
    with pytest.raises(UserError, match="has drawn perfusion itself"):
        api.import_pictures(super_cells, "perfusion", out)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: api.measure([]), "no images were given"),
        (lambda: api.measure("nowhere.png", references="nowhere"), "there is no nowhere.png"),
        (lambda: api.measure([np.zeros((4, 4, 3))], prompts="A {}", scorers=TINY), "is uint8"),
        (lambda: api.measure([np.zeros((4, 4, 3), np.uint8)]), "nothing to compare with"),
        (lambda: api.measure([np.zeros((4, 4, 3), np.uint8)], prompts="A cat"), "needs one {}"),
        (lambda: api.open_run("nowhere"), "is not a run folder"),
        (lambda: api.compare("nowhere.csv", "nowhere.csv"), "there is no nowhere.csv"),
        (lambda: api.compare("a.txt", "b.txt"), "is wanted"),
        (lambda: api.compare(pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]})), "column"),
        (lambda: api.compare(pd.DataFrame(), pd.DataFrame(), by=()), "one column, or two"),
    ],
)
def test_mistakes_are_one_sentence(call, told):
    with pytest.raises(UserError, match=told) as error:
        call()
    assert "\n" not in str(error.value)
