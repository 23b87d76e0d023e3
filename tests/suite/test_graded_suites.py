"""Suites that grade: DSH-Bench in both published forms, MultiBanana, and columns of one's own."""

import json
import shutil
from pathlib import Path

import made_run
import numpy as np
import pandas as pd
import pytest
from hostile_kit import NAMES
from PIL import Image

from benchmarks.cli import run
from benchmarks.store.csv_files import read_plan_file
from benchmarks.suite.columns import TAKEN, columns_of
from benchmarks.suite.importers import open_suite
from benchmarks.tables.views import VIEWS
from perfusion_core.errors import UserError

PROMPTS = {
    "A mug placed on a table.": "background_changes",
    "A metallic Mug with a polished surface.": "attribute_changes",
    "Nothing that names it.": "imagination",
    "A gigantic mug, and another mug.": "imagination",
}


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def rows(image: str = "origin_img/431.jpg", hard: object = "mid") -> list[dict]:
    return [
        {
            "ref_images": [{"image_path": image, "mask_path": "null", "height": 8, "width": 8}],
            "prompt": text,
            "entities": "mug",
            "collection_id": "271999_mug",
            "metadata": {"prompt_level": level, "subject_hard_level": hard, "cate1": "realistic"},
        }
        for text, level in PROMPTS.items()
    ]


def dsh(home: Path, found: object) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "final_data.json").write_text(json.dumps(found), encoding="utf-8")
    return home


def later_form(image: str = "./images/431.jpg") -> dict:
    prompts = [{"prompt": text, "prompt_scenario": level} for text, level in PROMPTS.items()]
    about = {"subject_difficulty_level": "mid", "cate1": "Photorealistic"}
    one = {"ref_image": {"image_path": image}, "prompt": prompts, "subject": "mug"}
    return {image: {**one, "metadata": about}}


@pytest.mark.parametrize("form", ("rows", "pictures"))
def test_dsh_bench_brings_its_grades(tmp_path, form):
    home = dsh(tmp_path, rows() if form == "rows" else later_form())
    picture(home / "images" / "431.jpg")
    suite = open_suite(f"dsh-bench:{home}")
    assert [(c.name, c.super_category) for c in suite.concepts] == [("mug_431", "mug")]
    templates = {prompt.id: prompt.template for prompt in suite.prompts}
    assert templates == {
        "mug_431-01": "A {} placed on a table.",
        "mug_431-02": "A metallic {} with a polished surface.",
        "mug_431-04": "A gigantic {}, and another mug.",
    }
    levels = suite.columns["prompts"]["prompt_level"]
    assert [levels[id] for id in templates] == [
        "background_changes",
        "attribute_changes",
        "imagination",
    ]
    assert suite.columns["concepts"] == {"subject_hard_level": {"mug_431": "mid"}}
    assert suite.notes == ("1 prompts do not name their subject and are left out",)
    cat = suite.scored_text(suite.prompts[0], suite.concepts[0])
    assert cat == "A mug placed on a table."


def test_dsh_bench_tells_subjects_of_one_file_name_apart(tmp_path):
    """a/1.jpg and b/1.jpg are two mugs; their names do not hang on the order of rows, and others
    keep theirs."""
    images = ("a/1.jpg", "b/1.jpg", "./a/1.jpg", "c/2.jpg")
    found = [row for image in images for row in rows(image)]
    for image in images:
        picture(tmp_path / "one" / image)
    suite = open_suite(f"dsh-bench:{dsh(tmp_path / 'one', found)}")
    named = {concept.name: concept.images[0].parent.name for concept in suite.concepts}
    assert sorted(named.values()) == ["a", "b", "c"] and named["mug_2"] == "c"
    assert len({prompt.id for prompt in suite.prompts}) == 12
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    again = open_suite(f"dsh-bench:{dsh(tmp_path / 'two', found[::-1])}")
    assert {concept.name: concept.images[0].parent.name for concept in again.concepts} == named


def test_no_view_is_left_to_a_column():
    assert {*VIEWS, "cost"} <= TAKEN


DSH_BROKEN = {
    "no file": (None, "has 0 .json files"),
    "another layout": ([{"image": 1}], "is not in DSH-Bench's layout: KeyError('metadata')"),
    "a number": (5, "is not in DSH-Bench's layout"),
    "no picture": ([{**rows()[0], "ref_images": []}], "is not in DSH-Bench's layout"),
    "prompt a list": ([{**rows()[0], "prompt": ["A mug"]}], "is not in DSH-Bench's layout"),
    "grade a list": (rows(hard=["mid"]), "is no value of a column"),
    "grade with a line end": (rows(hard="\x1b[31m"), "is no value of a column"),
    "pictures are gone": (rows("origin_img/9.jpg"), "has no images in the layout of dsh-bench"),
}


@pytest.mark.parametrize("kind", DSH_BROKEN)
def test_a_broken_dsh_bench(tmp_path, kind):
    found, said = DSH_BROKEN[kind]
    picture(tmp_path / "images" / "431.jpg")
    if found is not None:
        dsh(tmp_path, found)
    with pytest.raises(UserError) as caught:
        open_suite(f"dsh-bench:{tmp_path}")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_dsh_bench_names_no_picture_outside(tmp_path, name):
    home = dsh(tmp_path / "in" / "side", rows(NAMES[name]))
    with pytest.raises(UserError):
        open_suite(f"dsh-bench:{home}")


def test_multibanana_is_a_set_a_concept(tmp_path):
    for task in ("3_back", "4_global"):
        for index in (0, 1, 10):
            picture(tmp_path / task / f"006_{index}.jpg")
        picture(tmp_path / task / "006_generated.jpg")
        (tmp_path / task / "006_prompt.txt").write_text("Put the cat\nof image 1, here.")
        (tmp_path / task / "007_prompt.txt").write_text("Without pictures.")
    (tmp_path / "3_back" / "types.json").write_text(json.dumps({"006": ["domain", "rare"]}))
    suite = open_suite(f"multibanana:{tmp_path}")
    names = ["task_3_back_006", "task_4_global_006"]
    assert [concept.name for concept in suite.concepts] == names
    assert [path.stem for path in suite.concepts[0].images] == ["006_0", "006_1", "006_10"]
    text = suite.scored_text(suite.prompts[0], suite.concepts[0])
    assert text == "Put the cat of image 1, here."
    assert suite.columns["prompts"] == {
        "task": {"task_3_back_006-1": "3_back", "task_4_global_006-1": "4_global"},
        "type": {"task_3_back_006-1": "domain+rare"},
    }
    assert suite.notes[0] == "2 of 4 sets are here"
    (tmp_path / "3_back" / "types.json").write_text("[1]")
    with pytest.raises(UserError, match="a kind for each set is wanted"):
        open_suite(f"multibanana:{tmp_path}")


# ---- columns of any suite ----


def own_suite(home: Path, concepts: str, prompts: str = "prompt,scene\np01,sea\n") -> str:
    for name in ("red_cat", "blue_dog"):
        picture(home / name / "0.png")
    (home / "prompts.txt").write_text("A {} on the beach\nA {} on the moon\n")
    (home / "concept-columns.csv").write_text(concepts)
    (home / "prompt-columns.csv").write_text(prompts)
    return f"folder:{home}"


def test_any_suite_brings_columns(tmp_path):
    suite = open_suite(own_suite(tmp_path, "concept,hard,fur\nred_cat,yes,long\nblue_dog,no,\n"))
    assert suite.columns == {
        "concepts": {"hard": {"red_cat": "yes", "blue_dog": "no"}, "fur": {"red_cat": "long"}},
        "prompts": {"scene": {"p01": "sea"}},
    }
    assert columns_of(suite, ["blue_dog"], ["p02"]) == {"concepts": {"hard": {"blue_dog": "no"}}}
    assert not open_suite("miniature").columns


COLUMNS_BROKEN = {
    "no columns": ("concept\n", "the first line must be concept and the names of columns"),
    "empty": ("", "the first line must be concept"),
    "twice a column": ("concept,a,a\n", "each once"),
    "a name to type": ("concept,a b\n", "needs a name of letters"),
    "a view's name": ("concept,front\n", "the column front needs another name"),
    "a table's column": ("concept,Kind\n", "the column Kind needs another name"),
    "of both": ("concept,scene\nred_cat,1\n", "the column scene is one of its concepts and one of"),
    "unknown concept": ("concept,a\ngreen_cow,1\n", ":2: 'green_cow' is no concept of this suite"),
    "twice a concept": ("concept,a\nred_cat,1\nred_cat,2\n", ":3: 'red_cat' is there twice"),
    "short": ("concept,a,b\nred_cat,1\n", ":2: 2 cells, and 3 are wanted"),
    "long": ("concept,a\nred_cat," + "x" * 100, "is no value of a column"),
    "escape": ("concept,a\nred_cat,\x1b[2J", "is no value of a column"),
}


@pytest.mark.parametrize("kind", COLUMNS_BROKEN)
def test_broken_columns(tmp_path, kind):
    text, said = COLUMNS_BROKEN[kind]
    with pytest.raises(UserError) as caught:
        open_suite(own_suite(tmp_path, text))
    assert said in str(caught.value)


def test_columns_are_no_link_out(tmp_path):
    spec = own_suite(tmp_path / "in", "concept,a\nred_cat,1\n")
    secret = tmp_path / "secret.csv"
    shutil.move(tmp_path / "in" / "concept-columns.csv", secret)
    (tmp_path / "in" / "concept-columns.csv").symlink_to(secret)
    with pytest.raises(UserError, match="leads out"):
        open_suite(spec)


# ---- tables ----


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """A run of four concepts whose suite brought a column of each part."""
    folder = tmp_path_factory.mktemp("graded") / "run"
    concepts = list(made_run.CONCEPTS)[:4]
    hard = dict(zip(concepts, ("easy", "hard", "easy", "hard")))
    columns = {"concepts": {"hard_level": hard}, "prompts": {"scene": {"s01": "sea"}}}
    made_run.make_run(
        folder, {"ti": ("default",)}, concepts, prompts=6, images=2, pictures=False,
        extra={"columns": columns},
    )  # fmt: skip
    return folder


def test_a_table_is_split_by_a_column(graded, capsys):
    """Class-balanced means, by a loop over the cells."""
    cells = pd.read_csv(graded / "cells.csv")
    hard = json.loads((graded / "run.json").read_text())["columns"]["concepts"]["hard_level"]
    run(["table", str(graded), "--by", "hard_level", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {(row["method"], row["hard_level"]) for row in rows} == {
        (method, level) for method in ("super", "ti") for level in ("easy", "hard")
    }
    for row in rows:
        mine = cells[(cells["method"] == row["method"]) & (cells["metric"] == "text_sim_raw")]
        means = [
            np.mean([cell.mean for cell in mine[mine["concept"] == name].itertuples(index=False)])
            for name, level in hard.items()
            if level == row["hard_level"]
        ]
        assert abs(row["text_sim_raw"] - np.mean(means)) < 1e-9
        assert row["n_cells"] == sum(hard[name] == row["hard_level"] for name in mine["concept"])
    run(["table", str(graded), "--by", "scene", "--json"])
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    sea = cells[(cells["method"] == "ti") & (cells["prompt_id"] == "s01")]
    mean = sea[sea["metric"] == "image_sim"]["mean"].mean()
    assert abs(rows["ti"]["image_sim"] - mean) < 1e-9 and rows["ti"]["scene"] == "sea"
    assert read_plan_file(graded / "plan.csv")


def test_an_unknown_column_names_those_that_are_there(graded):
    with pytest.raises(UserError, match="hard_level"):
        run(["table", str(graded), "--by", "hard_lvl"])


@pytest.mark.parametrize(
    "columns", ([], {"runs": {}}, {"concepts": []}, {"concepts": {"a": {"cat": 5}}},
                {"concepts": {"a": {"cat": "\x1b[2J"}}}, {"prompts": {"a": "b"}}),
)  # fmt: skip
def test_columns_that_are_none_are_a_damaged_run(graded, tmp_path, columns):
    folder = shutil.copytree(graded, tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "columns": columns}))
    with pytest.raises(UserError, match="is missing or damaged"):
        run(["table", str(folder), "--by", "scene"])


def test_grades_of_concepts_are_a_column_unless_the_suite_has_its_own():
    from dataclasses import replace

    from benchmarks.suite.columns import with_grades

    suite = open_suite("miniature")
    grades = {one.name: one.difficulty for one in suite.concepts}
    assert len(grades) == 11 and set(grades.values()) == {"easy", "middling", "hard"}
    assert columns_of(with_grades(suite), ["cat", "pot"], []) == {
        "concepts": {"difficulty": {"cat": grades["cat"], "pot": grades["pot"]}}
    }
    own = replace(suite, columns={"concepts": {"difficulty": {"cat": "mid"}}})
    assert with_grades(own) is own
    bare = replace(suite, concepts=tuple(replace(c, difficulty="") for c in suite.concepts))
    assert with_grades(bare) is bare
    beside = replace(suite.concepts[0], name="mine", difficulty="hard")
    assert with_grades(bare, [beside]).columns == {"concepts": {"difficulty": {"mine": "hard"}}}
