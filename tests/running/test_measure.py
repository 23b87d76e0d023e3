"""`perfbench measure`: the same numbers as a run's rows, known answers, and one sentence for every
mistake.
"""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from run_kit import reference, shared

from benchmarks.cli import run
from benchmarks.store.reading import read_cells, read_rows
from benchmarks.suite.catalog import leave_out
from perfusion_core.errors import UserError

SCORER = ["--scorers", str(shared() / "tiny" / "scorer"), "--device", "cpu"]


def measured(capsys, *words):
    capsys.readouterr()
    assert run(["measure", *map(str, words), *SCORER, "--json"]) == 0
    return json.loads(capsys.readouterr().out)[0]


def test_the_numbers_are_those_of_a_run(capsys):
    """Pictures of a cell, measured alone, have the scores of its rows to the last digit."""
    out, cell = (
        reference(),
        next(
            cell
            for cell in read_cells(reference())
            if cell.kind == "shape" and cell.concept == "cat"
        ),
    )
    folder = out / "images" / cell.method / cell.point / cell.concept / cell.prompt_id
    row = measured(capsys, folder, "--references", out / "concepts" / "cat",
                   "--prompt", cell.template.replace("{cat}", "{}"))  # fmt: skip
    assert leave_out(cell.template.replace("{cat}", "{}")) == cell.text
    rows = read_rows(out)
    rows = rows[rows["key"] == cell.key]
    assert [round(one["image_sim"], 6) for one in row["each"]] == rows["image_sim"].tolist()
    assert [round(one["text_sim_raw"], 6) for one in row["each"]] == rows["text_sim_raw"].tolist()
    real = read_rows(out)
    real = real[(real["method"] == "real") & (real["concept"] == "cat")]
    assert row["ceiling"] == pytest.approx(real["image_sim"].mean(), abs=1e-6)


def test_known_answers(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for number in range(3):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture.save(tmp_path / "one" / f"{number}.png")
    shutil.copy(tmp_path / "one" / "0.png", tmp_path / "two" / "0.png")
    same = measured(capsys, tmp_path / "two", "--references", tmp_path / "two")
    assert same["image_sim"] == pytest.approx(1.0) and same["ceiling"] is None
    assert same["text_sim_raw"] is None
    texts = measured(capsys, tmp_path / "two", "--prompt", "A {} on the beach",
                     "--super-category", "cat")  # fmt: skip
    assert texts["image_sim"] is None and texts["text_sim_word"] != texts["text_sim_raw"]
    lines = tmp_path / "prompts.txt"
    lines.write_text("A {} on the beach\nA {}\n\nA {} in a box\n")
    each = measured(capsys, tmp_path / "one", "--prompts", lines)
    whole = measured(capsys, tmp_path / "one", "--prompt", "A {} in a box")
    assert each["each"][2]["text_sim_raw"] == whole["each"][2]["text_sim_raw"]
    assert each["each"][0]["text_sim_raw"] != whole["each"][0]["text_sim_raw"]
    assert (
        run(["measure", str(tmp_path / "one"), "--references", str(tmp_path / "one"), *SCORER]) == 0
    )
    told = capsys.readouterr().out
    assert "references among themselves" in told and "text" not in told.splitlines()[0]
    assert "factor of 2.5 is not in them" in told


def test_the_miniatures_scorer_needs_no_download(tmp_path, capsys):
    from benchmarks.suite.catalog import load_catalog

    concept = load_catalog("miniature").concepts[0]
    folder = str(concept.images[0].parent)
    words = [
        "--references",
        folder,
        "--prompt",
        "A {}",
        "--scorers",
        "miniature",
        "--device",
        "cpu",
    ]
    assert run(["measure", folder, *words, "--super-category", concept.super_category]) == 0
    assert "miniature-scorer-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["PICTURES"], "nothing to compare with"),
        (["NOWHERE", "--prompt", "A {}"], "there is no"),
        (["EMPTY", "--prompt", "A {}"], "no pictures are in this folder"),
        (["PICTURES", "--references", "EMPTY"], "--references .* no pictures"),
        (["PICTURES", "--references", "NOWHERE"], "--references: there is no"),
        (["TEXT", "--prompt", "A {}"], "is not an image|starts with"),
        (["PICTURES", "--prompt", "A cat"], r"needs one \{\}"),
        (["PICTURES", "--prompt", "A {} and {}"], r"needs one \{\}"),
        (["PICTURES", "--prompt", "A {} {x}"], r"needs one \{\}"),
        (["PICTURES", "--prompt", ""], r"needs one \{\}"),
        (["PICTURES", "--prompts", "LINES"], "2 prompts and 3 pictures"),
        (["PICTURES", "--prompts", "NOWHERE"], "cannot be read"),
        (["PICTURES", "--prompts", "LINES", "--prompt", "A {}"], "not both"),
        (["PICTURES", "--prompt", "A {}", "--scorers", "auto"], "the scorer of a run's backbone"),
        (["PICTURES", "--prompt", "A {}", "--scorers", "zzz"], "unknown scorer 'zzz'"),
        (["PICTURES", "--prompt", "A {}", "--device", "zzz"], "zzz"),
        (["PICTURES", "--prompt", "A {}", "--scorers", "miniature,dino"], "dino reads no text"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, words, told):
    places = {name: tmp_path / name for name in ("PICTURES", "EMPTY", "NOWHERE", "TEXT", "LINES")}
    for name in ("PICTURES", "EMPTY"):
        places[name].mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(places["PICTURES"] / f"{number}.png")
    places["TEXT"].write_text("no picture")
    places["LINES"].write_text("A {}\nA {} too\n")
    words = [str(places.get(word, word)) for word in words]
    with pytest.raises(UserError, match=told):
        run(["measure", words[0], *SCORER, *words[1:]])
