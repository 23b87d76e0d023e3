"""Suites, concepts and archives of somebody else: words are words, and files are those of their own
folder.
"""

import json
import os
import zipfile

import pytest
from hostile_kit import NAMES, command, content, make_victim, refused, untouched
from PIL import Image
from run_kit import make_concepts, shared

from benchmarks.suite.concept_folder import make_concept, read_concept, write_concept
from benchmarks.suite.download import unpack_archive
from benchmarks.suite.importers import open_suite
from perfusion_core.errors import UserError

WORDS = {
    **NAMES,
    "": "",
    "space": " ",
    "braces": "tea{pot}",
    "tag": "<b>",
    "list": "a,b",
    "folder": "a/b",
    "outside": "../../../../ESCAPED",
    "backslash inside": "a\\b",
}


@pytest.fixture
def victim(tmp_path, monkeypatch):
    """A folder of the user beside the hostile one, and his data folder."""
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    made = make_victim(tmp_path / "victim")
    Image.new("RGB", (24, 16), (1, 2, 3)).save(made / "private.png")
    return made


def picture(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (shade, 80, 40)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---- concept.toml ----


def concept(folder, **changes):
    """A concept folder without recorded files, whose concept.toml says what is asked."""
    about = {
        "name": folder.name,
        "super_category": "teapot",
        "group": "container",
        "source": "x",
        "licence": "x",
    } | changes
    picture(folder / "images" / "0.png")
    write(
        folder / "concept.toml",
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in about.items()),
    )
    return folder


@pytest.mark.parametrize("kind", WORDS)
def test_a_super_category_is_a_word(victim, tmp_path, monkeypatch, capsys, kind):
    concept(tmp_path / "shelf" / "pot", super_category=WORDS[kind])
    with untouched(victim):
        said = refused(monkeypatch, capsys, "ls", "concepts", "--suite", tmp_path / "shelf")
    assert "super_category" in said or "is not a word" in said
    picture(tmp_path / "photos" / "0.png")
    words = [
        "concepts",
        "add",
        tmp_path / "photos",
        "--name",
        "mine",
        f"--super-category={WORDS[kind]}",
    ]
    assert "is not a word" in refused(monkeypatch, capsys, *words)
    assert not (tmp_path / "data").exists()


def test_class_images_stay_in_the_run(victim, tmp_path, monkeypatch, capsys):
    """They landed where the super-category pointed."""
    shelf = make_concepts(tmp_path / "deep" / "er" / "shelf", ("cat",))
    toml = shelf / "cat" / "concept.toml"
    toml.write_text(
        toml.read_text().replace('super_category = "cat"', 'super_category = "../../../ESCAPED"')
    )
    before = content(tmp_path)
    words = [
        "--preset",
        "micro",
        "--backbone",
        shared() / "tiny",
        "--suite",
        shelf,
        "--out",
        tmp_path / "a" / "run",
    ]
    words += [
        "--methods",
        "cd",
        "--concepts",
        "cat",
        "--masks",
        "none",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert "is not a word" in refused(monkeypatch, capsys, "run", *words)
    assert content(tmp_path) == before


@pytest.mark.parametrize("kind", NAMES)
def test_a_concept_is_called_like_its_folder(victim, tmp_path, monkeypatch, capsys, kind):
    concept(tmp_path / "shelf" / "pot", name=NAMES[kind])
    with untouched(victim):
        assert "pot" in refused(
            monkeypatch, capsys, "ls", "concepts", "--suite", tmp_path / "shelf"
        )
    picture(tmp_path / "photos" / "0.png")
    words = [
        "concepts",
        "add",
        tmp_path / "photos",
        f"--name={NAMES[kind]}",
        "--super-category",
        "pot",
    ]
    assert "cannot be named" in refused(monkeypatch, capsys, *words)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("table", ["images", "masks"])
def test_recorded_files_are_those_of_the_folder(victim, tmp_path, kind, table):
    folder = concept(tmp_path / "shelf" / "pot")
    with (folder / "concept.toml").open("a") as file:
        file.write(f"[{table}]\n{json.dumps(NAMES[kind])} = {json.dumps('0' * 64)}\n")
    with untouched(victim), pytest.raises(UserError, match=r"concept\.toml"):
        read_concept(folder)


@pytest.mark.parametrize("name", ["images/0.png", "images", "masks", "concept.toml"])
def test_links_out_of_a_concept_are_refused(victim, tmp_path, monkeypatch, capsys, name):
    folder = concept(tmp_path / "shelf" / "pot")
    place = folder / name
    target = victim if name in ("images", "masks") else victim / "private.png"
    if name == "images":
        (folder / "images" / "0.png").unlink()
        place.rmdir()
    place.unlink(missing_ok=True)
    os.symlink(target, place)
    (victim / "0.png").unlink()  # of masks/, a file of the image's name would be the mask
    with untouched(victim):
        said = refused(monkeypatch, capsys, "ls", "concepts", "--suite", tmp_path / "shelf")
    assert "leads out" in said


def test_a_concept_that_is_a_link_is_no_part_of_a_suite(victim, tmp_path, monkeypatch, capsys):
    concept(victim / "pot")
    (tmp_path / "shelf").mkdir()
    os.symlink(victim / "pot", tmp_path / "shelf" / "pot")
    with untouched(victim):
        assert "leads out" in refused(
            monkeypatch, capsys, "ls", "concepts", "--suite", tmp_path / "shelf"
        )


def test_masks_are_written_into_the_concept(victim, tmp_path):
    from benchmarks.suite.concept_masks import place_of

    made = write_concept(
        tmp_path / "shelf" / "pot",
        super_category="pot",
        group="container",
        source="x",
        licence="x",
        images=[Image.new("RGB", (8, 8))],
    )
    os.symlink(victim, tmp_path / "shelf" / "pot" / "clipseg-0123")
    with pytest.raises(UserError, match="leads out"):
        place_of(made, "0123")


@pytest.mark.parametrize("target", ["victim/private.png", "shelf/pot/notes.txt"])
def test_the_look_at_masks_follows_no_link(victim, tmp_path, monkeypatch, capsys, target):
    """A link out is refused before anything is drawn; one inside is replaced."""
    monkeypatch.setattr("perfusion_core.masks.open_clipseg", lambda *_: None)
    monkeypatch.setattr(
        "benchmarks.suite.concept_masks.draw_masks", lambda *_: [Image.new("L", (24, 16), 255)]
    )
    monkeypatch.setattr("benchmarks.suite.concept_masks.write_masks", save_masks)
    folder = concept(tmp_path / "shelf" / "pot")
    write(folder / "notes.txt", "mine")
    os.symlink(tmp_path / target, folder / "masks.png")
    with untouched(victim):
        status, said = command(monkeypatch, capsys, "masks", "pot", "--suite", tmp_path / "shelf")
    assert (folder / "notes.txt").read_text() == "mine"
    if target.startswith("victim"):
        assert status == 2 and "leads out" in said and not (folder / "masks").exists()
    else:
        assert status == 0 and not (folder / "masks.png").is_symlink()


def save_masks(found, paths):
    for mask, path in zip(found, paths, strict=True):
        path.parent.mkdir(exist_ok=True)
        mask.save(path)


# ---- the layouts of other suites ----


def custom101(folder, **changes):
    entry = {
        "class_prompt": "cat",
        "instance_data_dir": "./benchmark_dataset/cat",
        "prompt_filename": "prompts/cat.txt",
    }
    write(folder / "dataset.json", json.dumps([{**entry, **changes}]))
    write(folder / "prompts" / "cat.txt", "Photo of a {}.\n")
    picture(folder / "benchmark_dataset" / "cat" / "0.png")


def dreambench(folder):
    write(
        folder / "dataset" / "prompts_and_classes.txt",
        "subject_name,class\ncat,cat\n\nObject Prompts\n'a {0} {1} in snow'.format(x)\n"
        "Live Subject Prompts\n'a {0} {1} in a hat'.format(x)\n",
    )
    picture(folder / "dataset" / "cat" / "0.png")


def customdiffusion(folder, word="cat"):
    write(folder / "prompts" / "cat.txt", f"a <new1> {word} in snow\na <new1> {word} on a hill\n")
    picture(folder / "data" / "cat" / "0.png")


def dreambench_plus(folder):
    write(folder / "captions" / "animal" / "0.txt", "cat\na cat in snow\n")
    picture(folder / "images" / "animal" / "0.png")


def plain(folder):
    write(folder / "prompts.txt", "a {} in snow\n")
    picture(folder / "cat" / "0.png")


LAYOUTS = {
    "customconcept101": custom101,
    "dreambench": dreambench,
    "customdiffusion": customdiffusion,
    "dreambench++": dreambench_plus,
    "folder": plain,
}
PARTS = {  # a picture, a folder of pictures, a text
    "customconcept101": [
        "benchmark_dataset/cat/0.png",
        "benchmark_dataset/cat",
        "benchmark_dataset",
        "dataset.json",
        "prompts/cat.txt",
    ],
    "dreambench": [
        "dataset/cat/0.png",
        "dataset/cat",
        "dataset",
        "dataset/prompts_and_classes.txt",
    ],
    "customdiffusion": ["data/cat/0.png", "data/cat", "data", "prompts/cat.txt", "prompts"],
    "dreambench++": [
        "images/animal/0.png",
        "images/animal",
        "images",
        "captions/animal/0.txt",
        "captions",
    ],
    "folder": ["cat/0.png", "cat", "prompts.txt"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_this_file_are_read(victim, tmp_path, layout):
    LAYOUTS[layout](tmp_path / "suite")
    suite = open_suite(f"{layout}:{tmp_path / 'suite'}")
    assert (
        [one.super_category for one in suite.concepts] == ["cat"]
        and suite.concepts[0].images
        and suite.prompts
    )


@pytest.mark.parametrize(
    ("layout", "part"), [(layout, part) for layout, parts in PARTS.items() for part in parts]
)
def test_links_out_of_a_suite_are_refused(victim, tmp_path, monkeypatch, capsys, layout, part):
    """What they lead to would be the pictures and prompts of a run."""
    import shutil

    LAYOUTS[layout](tmp_path / "suite")
    there = tmp_path / "suite" / part
    shutil.move(there, victim / "moved")
    os.symlink(victim / "moved", there)
    with untouched(victim):
        said = refused(
            monkeypatch, capsys, "ls", "concepts", "--suite", f"{layout}:{tmp_path / 'suite'}"
        )
    assert "leads out" in said


NOT_WORDS = {**WORDS, "number": 5, "in a list": ["a"], "nothing": None, "object": {}}


@pytest.mark.parametrize("kind", NOT_WORDS)
def test_importers_check_the_word(victim, tmp_path, monkeypatch, capsys, kind):
    custom101(tmp_path / "suite", class_prompt=NOT_WORDS[kind])
    spec = f"customconcept101:{tmp_path / 'suite'}"
    for words in (["ls", "concepts", "--suite", spec], ["concepts", "import", spec]):
        assert "is not a word" in refused(monkeypatch, capsys, *words)
    assert not (tmp_path / "data").exists(), "complete or not at all"


@pytest.mark.parametrize("kind", [*NAMES, "number", "in a list", "nothing", "object"])
@pytest.mark.parametrize("key", ["instance_data_dir", "prompt_filename"])
def test_image_and_prompt_files_are_those_of_the_suite(
    victim, tmp_path, monkeypatch, capsys, key, kind
):
    given = {**NAMES, **NOT_WORDS}[kind]
    custom101(tmp_path / "suite", **{key: given})
    with untouched(victim):
        said = refused(
            monkeypatch,
            capsys,
            "ls",
            "concepts",
            "--suite",
            f"customconcept101:{tmp_path / 'suite'}",
        )
    assert "refused" in said or "not a text" in said or "layout" in said


@pytest.mark.parametrize(
    "place", ["../victim", "VICTIM", "./../victim", "benchmark_dataset/../../victim"]
)
def test_an_image_folder_outside_is_not_read(victim, tmp_path, monkeypatch, capsys, place):
    custom101(tmp_path / "suite", instance_data_dir=place.replace("VICTIM", str(victim)))
    with untouched(victim):
        said = refused(
            monkeypatch,
            capsys,
            "ls",
            "concepts",
            "--suite",
            f"customconcept101:{tmp_path / 'suite'}",
        )
    assert "is not a path inside its folder" in said


@pytest.mark.parametrize("word", ["../victim", "../../victim", "/etc", "..", "a/b"])
def test_the_word_of_a_prompt_file_is_no_path(victim, tmp_path, monkeypatch, capsys, word):
    customdiffusion(tmp_path / "suite", word)
    with untouched(victim):
        refused(
            monkeypatch,
            capsys,
            "ls",
            "concepts",
            "--suite",
            f"customdiffusion:{tmp_path / 'suite'}",
        )


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '"x"', "5", '["x"]', '[["x"]]', '{"a": [1]}', "[" + "9" * 5000 + "]"]
)
@pytest.mark.parametrize("file", ["dataset.json", "dataset_multiconcept.json"])
def test_json_of_nonsense_is_one_sentence(victim, tmp_path, monkeypatch, capsys, file, text):
    custom101(tmp_path / "suite")
    write(tmp_path / "suite" / file, text)
    refused(
        monkeypatch, capsys, "ls", "concepts", "--suite", f"customconcept101:{tmp_path / 'suite'}"
    )


def test_a_table_of_pictures_names_no_file_of_the_user(victim, tmp_path, monkeypatch):
    """A data set's rows may hold a path and no bytes."""
    import datasets
    import datasets.config
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    picture(tmp_path / "own.png")
    folder = tmp_path / "suite"
    folder.mkdir()
    features = datasets.Features({"image": datasets.Image(), "concept": datasets.Value("string")})

    def rows(path, data):
        table = pyarrow.table(
            {"image": [{"bytes": data, "path": path}], "concept": ["cat"]},
            schema=features.arrow_schema,
        )
        pyarrow.parquet.write_table(table, folder / "train.parquet")
        return open_suite(f"datasets:{folder}")

    with pytest.raises(UserError, match="is refused"):
        rows(str(victim / "private.png"), None)
    (one,) = rows(str(victim / "private.png"), (tmp_path / "own.png").read_bytes()).concepts
    assert one.images[0].read_bytes() == (tmp_path / "own.png").read_bytes(), (
        "its own picture, not the user's"
    )


# ---- archives ----


# zip files end names at NUL
@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind not in ("NUL", "flag")])
def test_archives_write_plain_names_only(victim, tmp_path, kind):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat/1.jpg", b"one")
        file.writestr(
            f"cat/{NAMES[kind]}" if not NAMES[kind].startswith("/") else NAMES[kind], b"x"
        )
    with untouched(victim), pytest.raises(UserError, match="refused"):
        unpack_archive(archive, tmp_path / "to")
    assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]


def test_archives_follow_no_link_that_is_there(victim, tmp_path):
    (tmp_path / "to").mkdir()
    os.symlink(victim, tmp_path / "to" / "cat")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("cat/secret", b"x")
    with untouched(victim), pytest.raises(UserError, match="leads out"):
        unpack_archive(tmp_path / "photos.zip", tmp_path / "to")


def test_a_word_is_checked_wherever_a_concept_is_made():
    for word in ("../x", 5, None, "a\nb", "tea{pot}"):
        with pytest.raises(UserError, match="is not a word"):
            make_concept("pot", word, "other", [])
