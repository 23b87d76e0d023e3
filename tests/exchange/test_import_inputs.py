"""What `perfbench import` reads, and what it refuses: every layout, and every kind of broken input,
each before anything is written.
"""

import json
import os
import random
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hostile_kit import NAMES, untouched
from PIL import Image
from run_kit import files, make_scorer, shared

from benchmarks.cli import run
from benchmarks.exchange.importing import import_pictures
from benchmarks.store.reading import read_planned
from perfusion_core.errors import UserError

CELLS = (("cat", "s01"), ("cat", "a01"), ("teapot", "s01"), ("teapot", "c01"))


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(f"{path.name} {seed}").randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, noise).save(path)
    return path


def folder_of(home: Path, images: int = 2) -> Path:
    for number, (concept, prompt) in enumerate(CELLS):
        for index in range(images):
            draw(home / concept / prompt / f"{index}.png", 10 * number + index)
    return home


def words(pictures: object, out: Path, *more: str) -> list[str]:
    kit = shared()
    asked = ["import", str(pictures), "--as", "theirs", "--out", str(out), "--no-score"]
    return [*asked, "--suite", str(kit / "concepts"), "--backbone", str(kit / "tiny"), *more]


def refused(pictures: object, out: Path, *more: str) -> str:
    """The sentence; and nothing is written."""
    with pytest.raises(UserError) as caught:
        run(words(pictures, out, *more))
    assert not out.exists() or not files(out)
    return str(caught.value)


def imported(out: Path) -> dict[tuple[str, str], int]:
    """(concept, prompt) -> pictures."""
    found = (out / "images" / "theirs" / "default").rglob("*.png")
    return dict(Counter(path.parts[-3:-1] for path in found))


# ---- what is read ----


def test_a_folder_of_any_pictures(tmp_path):
    """Sizes, modes and suffixes are as they are; numbers may have zeros before them."""
    home, out = folder_of(tmp_path / "in"), tmp_path / "out"
    (home / "cat" / "s01" / "0.png").rename(home / "cat" / "s01" / "0007.png")
    seen = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    seen.save(home / "teapot" / "c01" / "0.png")
    draw(home / "teapot" / "s01" / "9.webp", size=(33, 21))
    (home / "teapot" / "s01" / "1.png").unlink()
    assert run(words(home, out)) == 0
    assert imported(out) == dict.fromkeys(CELLS, 2)
    cells = out / "images" / "theirs" / "default"
    assert Image.open(cells / "teapot" / "c01" / "0.png").getpixel((0, 0)) == (255, 255, 255)
    assert Image.open(cells / "teapot" / "s01" / "1.png").size == (33, 21)
    told = json.loads((cells / "cat" / "s01" / "cell.json").read_text())
    assert [one["index"] for one in told["from"]] == [1, 7] and told["seeds"] == [-1, -1]


TEXTS = {  # how a prompt may be named
    "id": "s01",
    "template": "A {} on the beach",
    "filled": "a cat  on the beach.",
    "scored": "A on the beach",
}


@pytest.mark.parametrize("suffix", (".csv", ".jsonl"))
@pytest.mark.parametrize("text", TEXTS)
def test_lists_name_prompts_by_id_or_text(tmp_path, suffix, text):
    prompts = {row["prompt_id"]: row["template"] for row in _shipped()}
    assert prompts["s01"] == TEXTS["template"]
    rows = []
    for index in range(2):
        draw(tmp_path / "in" / f"{index}.png", index)
        rows.append({"path": f"./{index}.png", "concept": "cat", "prompt": TEXTS[text]})
    path = tmp_path / "in" / f"list{suffix}"
    if suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert run(words(path, tmp_path / "out")) == 0
    assert imported(tmp_path / "out") == {("cat", "s01"): 2}


def _shipped() -> list[dict[str, str]]:
    from benchmarks.suite.catalog import load_catalog

    prompts = load_catalog(shared() / "concepts").prompts
    return [{"prompt_id": prompt.id, "template": prompt.template} for prompt in prompts]


def test_dreambench_plus_as_its_code_leaves_it(tmp_path):
    """`tgt_image/live_subject_animal_00_kitten/<caption>_<index>.jpg`, against its own suite."""
    suite, samples = tmp_path / "data", tmp_path / "samples"
    captions = {
        "animal/00": ["kitten", "a kitten in a garden", "a kitten made of glass"],
        "object/01": ["Blue Mug", "a blue mug on a table", "a blue mug on the moon"],
    }
    for place, lines in captions.items():
        draw(suite / "images" / f"{place}.jpg")
        path = suite / "captions" / f"{place}.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines))
    for name in ("live_subject_animal_00_kitten", "object_01_blue_mug"):
        for caption in range(2):
            draw(samples / "tgt_image" / name / f"{caption}_0.jpg", size=(40, 40))
            draw(samples / "src_image" / name / f"{caption}_0.jpg")
            text = samples / "text" / name / f"{caption}_0.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("a text")
    out, scorer = tmp_path / "out", shared() / "tiny" / "scorer"
    done = import_pictures(
        f"dreambench++:{samples}", "theirs", out,
        suite=f"dreambench++:{suite}", scorers=[str(scorer)], score=False,
    )  # fmt: skip
    assert (done.pictures, done.planned, done.methods) == (4, 4, ("theirs",))
    plan = {(row["concept"], row["prompt_id"]): row["text"] for row in read_planned(out)}
    assert plan["animal_00_kitten", "animal_00_kitten-2"] == "a kitten made of glass"
    assert len(imported(out)) == len(plan) == 4
    (samples / "tgt_image" / "object_01_blue_mug" / "9_0.jpg").write_bytes(b"")
    said = refused_api(f"dreambench++:{samples}", tmp_path / "2", f"dreambench++:{suite}")
    assert "1 of an unknown prompt: object_01_blue_mug/9_0.jpg" in said


def refused_api(pictures: str, out: Path, suite: str) -> str:
    scorer = str(shared() / "tiny" / "scorer")
    with pytest.raises(UserError) as caught:
        import_pictures(pictures, "theirs", out, suite=suite, scorers=[scorer], score=False)
    assert not out.exists()
    return str(caught.value)


def test_multibanana_where_its_judge_looks(tmp_path, capsys):
    """Pictures beside the references; scored without a backbone, and split by types.json."""
    home, out = tmp_path / "data", tmp_path / "out"
    for task, number, kind in (("3_back", "006", "rare"), ("3_back", "014", "ling"),
                               ("4_back", "006", "rare")):  # fmt: skip
        for index in range(3):
            draw(home / task / f"{number}_{index}.jpg", index)
        draw(home / task / f"{number}_generated.jpg", 9, (48, 32))
        (home / task / f"{number}_prompt.txt").write_text("Put the cat {of} image 1 on the moon.")
        path = home / task / "types.json"
        kinds = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**kinds, number: kind}))
    where = ["--suite", f"multibanana:{home}", "--scorers", str(shared() / "tiny" / "scorer")]
    asked = ["import", f"multibanana:{home}", "--as", "theirs", "--out", str(out), *where]
    assert run([*asked, "--device", "cpu"]) == 0
    rows = read_planned(out)
    assert {row["text"] for row in rows} == {"Put the cat (of) image 1 on the moon."}
    samples = pd.read_csv(out / "samples.csv")
    mine = samples[samples["method"] == "theirs"].set_index("concept")["image_sim"]
    capsys.readouterr()
    assert run(["table", str(out), "--by", "type", "--json"]) == 0
    split = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    rare = mine[["task_3_back_006", "task_4_back_006"]].mean()
    assert split["rare"]["n_cells"] == 2 and abs(split["rare"]["image_sim"] - rare) < 1e-9
    assert abs(split["ling"]["image_sim"] - mine["task_3_back_014"]) < 1e-9
    assert run(["table", str(out), "--by", "task", "--csv"]) == 0
    assert "3_back" in capsys.readouterr().out


def test_other_files_are_passed_over_with_a_word(tmp_path, capsys):
    home = folder_of(tmp_path / "in")
    (home / "cat" / "s01" / "prompt.txt").write_text("a cat")
    (home / ".DS_Store").write_bytes(b"x")
    assert run(words(home, tmp_path / "out")) == 0
    said = capsys.readouterr().err
    assert "passed over, no pictures: 1 files: cat/s01/prompt.txt" in said


# ---- what is refused ----


def cut(home: Path) -> None:
    path = draw(home / "cat" / "s01" / "0.png", size=(64, 64))
    path.write_bytes(path.read_bytes()[:3000])


def cut_jpeg(home: Path) -> None:
    (home / "cat" / "s01" / "0.png").unlink()
    path = draw(home / "cat" / "s01" / "0.jpg", size=(200, 200))
    path.write_bytes(path.read_bytes()[:9000])


def one_bit(home: Path) -> None:
    path = home / "cat" / "s01" / "0.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def animation(home: Path) -> None:
    (home / "cat" / "s01" / "0.png").unlink()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(home / "cat" / "s01" / "0.gif", save_all=True, append_images=frames[1:])


def link_out(home: Path) -> None:
    path = home / "cat" / "s01" / "0.png"
    path.rename(home.parent / "secret.png")
    path.symlink_to(home.parent / "secret.png")


def short_stream(home: Path) -> None:
    """Every checksum is right, and half of the pixels are not there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    pixels = zlib.compress(random.Random(0).randbytes(16 * (1 + 3 * 16)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    parts = head + chunk(b"IDAT", pixels[: len(pixels) // 2]) + chunk(b"IEND", b"")
    (home / "cat" / "s01" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def as_tiff(picture: Image.Image):
    def change(home: Path) -> None:
        (home / "cat" / "s01" / "0.png").unlink()
        picture.save(home / "cat" / "s01" / "0.tif")

    return change


def rename(old: str, new: str):
    def change(home: Path) -> None:
        (home / new).parent.mkdir(parents=True, exist_ok=True)
        (home / old).rename(home / new)

    return change


def write(name: str, content: bytes):
    return lambda home: (home / name).write_bytes(content)


FIRST = "cat/s01/0.png"
BROKEN_FOLDERS = {  # what is done to a good folder -> what is said of it
    "missing": (lambda home: (home / FIRST).unlink(), "1 missing: cat s01"),
    "a cell is missing": (rename("cat/s01", "../gone"), "2 missing: cat s01, cat s01"),
    "double": (
        lambda home: draw(home / "cat" / "s01" / "00.png"),
        "1 double: cat/s01/00.png (cat s01 has another picture 0)",
    ),
    "empty file": (write(FIRST, b""), "that cannot be read: cat/s01/0.png (0.png is empty"),
    "not a picture": (write(FIRST, b"hello, I am text"), "0.png is not an image"),
    "cut short": (cut, "0.png is damaged or cut short"),
    "cut JPEG": (cut_jpeg, "0.jpg is damaged or cut short"),
    "one bit": (one_bit, "0.png is damaged or cut short"),
    "short stream": (short_stream, "0.png is damaged or cut short"),
    "floats": (as_tiff(Image.new("F", (8, 8))), "0.tif is stored as F pixels"),
    "LAB": (as_tiff(Image.new("LAB", (8, 8))), "0.tif is stored as LAB pixels"),
    "32 bits": (as_tiff(Image.new("I", (8, 8), 70_000)), "0.tif has 32 bits a pixel"),
    "animation": (animation, "0.gif is an animation of 2 frames"),
    "link out": (link_out, "1 behind a link that leads out of its folder: cat/s01/0.png"),
    "unknown concept": (
        rename("teapot", "toaster"),
        "4 of an unknown concept (known: cat, teapot): toaster/",
    ),
    "unknown prompt": (rename("cat/s01", "cat/s99"), "2 of an unknown prompt: cat/s99/0.png (cat"),
    "prompt of another group": (rename("teapot/c01", "teapot/a01"), "2 of an unknown prompt"),
    "no number": (
        rename(FIRST, "cat/s01/first.png"),
        "1 whose name is no number, as INDEX.png has it: cat/s01/first.png",
    ),
    "too high": (rename(FIRST, "cat/0.png"), "1 not at CONCEPT/PROMPT_ID/INDEX.png: cat/0.png"),
    "too deep": (rename(FIRST, "cat/s01/more/0.png"), "1 not at CONCEPT/PROMPT_ID/INDEX.png"),
}


@pytest.mark.parametrize("kind", BROKEN_FOLDERS)
def test_a_broken_folder(tmp_path, kind):
    spoil, said = BROKEN_FOLDERS[kind]
    home = folder_of(tmp_path / "in")
    spoil(home)
    sentence = refused(home, tmp_path / "out")
    assert said in sentence and "nothing was written" in sentence
    assert ("--allow-missing" in sentence) == (kind != "double")


def test_every_kind_is_told_at_once(tmp_path):
    home = folder_of(tmp_path / "in", images=5)
    (home / "teapot" / "s01" / "4.png").unlink()
    for index in range(4):
        (home / "cat" / "s01" / f"{index}.png").write_bytes(b"")
        draw(home / "toaster" / "s01" / f"{index}.png")
    lines = refused(home, tmp_path / "out").splitlines()
    assert len(lines) == 5 and lines[1].strip().startswith("4 of an unknown concept")
    assert lines[1].endswith("and 1 more") and "4 that cannot be read" in lines[2]
    assert "5 missing" in lines[3] and "--allow-missing" in lines[4]


ROW = {"path": "0.png", "concept": "cat", "prompt": "s01"}
BROKEN_LISTS = {  # suffix, text, what is said
    "no columns": (".csv", "file,label\n0.png,cat\n", "has no path and no concept and no prompt"),
    "one column short": (".csv", "path,concept\n0.png,cat\n", "has no prompt (it has path, conc"),
    "empty": (".csv", "", "has no path"),
    "only a head": (".csv", "path,concept,prompt\n", "has no pictures"),
    "open quotation": (
        ".csv",
        'path,concept,prompt\n"0.png,cat,s01\n',
        "is a quotation mark left open?",
    ),
    "not UTF-8": (".csv", b"path,concept,prompt\n\xff\xfe,cat,s01\n", "is not UTF-8 text"),
    "short row": (".csv", "path,concept,prompt\n0.png,cat\n", "1 of rows without concept or prom"),
    "torn": (".jsonl", json.dumps(ROW) + "\n" + json.dumps(ROW)[:25], "list.jsonl:2 is no JSON"),
    "a list a line": (".jsonl", "[1, 2]\n", "list.jsonl:1 is no JSON object, but [1, 2]"),
    "a line separator in a text": (
        ".jsonl",
        json.dumps({**ROW, "prompt": "a\u2028b"}, ensure_ascii=False),
        "1 of an unknown prompt: 0.png (cat a",
    ),
    "deep": (".jsonl", "[" * 100_000 + "\n", "list.jsonl:1 is no JSON object"),
    "no prompt": (".jsonl", '{"path": "0.png", "concept": "cat"}', "list.jsonl:1 has no prompt"),
    "nothing": (".jsonl", "\n\n", "has no pictures"),
    "a number as path": (".jsonl", json.dumps({**ROW, "path": 5}), "leads out of the list's"),
    "gone": (".jsonl", json.dumps({**ROW, "path": "9.png"}), "9.png (it is not there)"),
    "a folder": (".jsonl", json.dumps({**ROW, "path": "in"}), "1 that cannot be read: in ("),
    "twice": (".jsonl", (json.dumps(ROW) + "\n") * 2, "1 double: 0.png (listed twice)"),
    "index below 0": (".jsonl", json.dumps({**ROW, "index": -1}), "1 whose index or seed is no"),
    "index a word": (".jsonl", json.dumps({**ROW, "index": "one"}), "1 whose index or seed is no"),
    "index true": (".jsonl", json.dumps({**ROW, "index": True}), "1 whose index or seed is no"),
    "seed of 30 digits": (".jsonl", json.dumps({**ROW, "seed": "9" * 30}), "1 whose index or seed"),
    "concept a list": (".jsonl", json.dumps({**ROW, "concept": ["cat"]}), "1 of rows without conc"),
    "unknown concept": (".jsonl", json.dumps({**ROW, "concept": "../x"}), "of an unknown concept"),
    "unknown prompt": (
        ".jsonl",
        json.dumps({**ROW, "prompt": "A {} on Mars"}),
        "an unknown prompt",
    ),
    "point": (".jsonl", json.dumps({**ROW, "point": "cfg7"}), "operating point 'cfg7'"),
    "method": (".jsonl", json.dumps({**ROW, "method": "../up"}), "--as '../up': a name of letters"),
    "our method": (".jsonl", json.dumps({**ROW, "method": "db"}), "`perfbench run --methods db` m"),
    "the ceiling": (".jsonl", json.dumps({**ROW, "method": "real"}), "neither real nor imported"),
    **{  # what no folder of a run may be called
        f"method {name}": (
            ".jsonl",
            json.dumps({**ROW, "method": name}),
            f"--as {name!r} cannot be the name of a file",
        )
        for name in ("theirs.", "con", "aux.x")
    },
    "point with a dot": (
        ".jsonl",
        json.dumps({**ROW, "point": "a=b."}),
        "the point 'a=b.' cannot be the name of a file",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_LISTS)
def test_a_broken_list(tmp_path, kind):
    suffix, text, said = BROKEN_LISTS[kind]
    path = draw(tmp_path / "0.png").with_name(f"list{suffix}")
    (tmp_path / "in").mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = refused(path, tmp_path / "out")
    assert said in sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_list_names_nothing_outside_of_its_folder(tmp_path, name):
    victim = tmp_path / "victim"
    draw(victim / "secret.png")
    home = tmp_path / "a" / "b"
    draw(home / "0.png")
    path = home / "list.jsonl"
    path.write_text(json.dumps({**ROW, "path": NAMES[name]}))
    with untouched(victim):
        sentence = refused(path, tmp_path / "out", "--allow-missing")
    assert "1 whose path leads out of the list's folder" in sentence


BAD_WORDS = {
    "nothing there": (lambda t: words(t / "gone", t / "out"), "there is no "),
    "no folder, no list": (lambda t: words(draw(t / "x.png"), t / "out"), "is neither a folder"),
    "empty folder": (lambda t: words(_made(t / "none"), t / "out"), "has no pictures"),
    "unknown layout": (lambda t: words("dreambooth:x", t / "out"), "unknown layout of pictures"),
    "layout of nothing": (lambda t: words("multibanana:", t / "out"), "write multibanana:DIR"),
    "unknown suite": (
        lambda t: [*words(folder_of(t / "in"), t / "out"), "--suite", "photo"],
        "unknown suite",
    ),
    "unknown backbone": (
        lambda t: [*words(folder_of(t / "in"), t / "out"), "--backbone", str(t / "gone")],
        "gone",
    ),
    "no name": (lambda t: [*words(folder_of(t / "in"), t / "out"), "--as", ""], "give --as NAME"),
    "name of two words": (
        lambda t: [*words(folder_of(t / "in"), t / "out"), "--as", "two words"],
        "a name of letters",
    ),
    "our name": (
        lambda t: [*words(folder_of(t / "in"), t / "out"), "--as", "perfusion"],
        "such as perfusion-elsewhere",
    ),
    "some other folder": (
        lambda t: words(folder_of(t / "in"), folder_of(t / "full")),
        "has files in it and is no run folder",
    ),
    "without pictures that count": (
        lambda t: words(_strangers(t / "in"), t / "out", "--allow-missing"),
        "of an unknown concept",
    ),
}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _strangers(home: Path) -> Path:
    draw(home / "toaster" / "s01" / "0.png")
    return home


@pytest.mark.parametrize("kind", BAD_WORDS)
def test_bad_words(tmp_path, kind):
    make, said = BAD_WORDS[kind]
    with pytest.raises(UserError) as caught:
        run(make(tmp_path))
    assert said in str(caught.value) and not (tmp_path / "out").exists()


# ---- what is not whole ----


def test_what_is_missing_is_counted_and_comes_later(tmp_path, capsys):
    home, out = folder_of(tmp_path / "in"), tmp_path / "out"
    (home / "cat" / "s01" / "1.png").rename(tmp_path / "later.png")
    (home / "teapot" / "c01" / "0.png").write_bytes(b"no picture")
    draw(home / "toaster" / "s01" / "0.png")
    asked = [word for word in words(home, out, "--device", "cpu") if word != "--no-score"]
    assert run([*asked, "--allow-missing"]) == 0
    told = capsys.readouterr()
    assert "6/8 planned pictures imported as theirs" in told.err
    assert "left out: 1 of an unknown concept" in told.err and "6/8" in told.out
    with pytest.raises(UserError, match="2 of 8 planned images have no score"):
        run(["table", str(out)])
    assert run(["score", str(out), "--allow-missing", "--device", "cpu"]) == 0
    # a second scorer has scored what is there, and stands in the table
    more = ["--scorers", str(make_scorer(tmp_path / "third", 3)), "--device", "cpu"]
    assert run(["score", str(out), *more, "--allow-missing"]) == 0
    assert "image_sim_third" in (out / "table.csv").read_text().splitlines()[0]
    # what was missing comes, and what was there stays; other pictures under the name are refused
    (tmp_path / "later.png").rename(home / "cat" / "s01" / "1.png")
    draw(home / "teapot" / "c01" / "0.png", 5)
    (home / "toaster" / "s01" / "0.png").unlink()
    assert run(["import", str(home), "--as", "theirs", "--out", str(out), "--device", "cpu"]) == 0
    assert "8/8" in capsys.readouterr().out
    draw(home / "cat" / "s01" / "0.png", 77)
    with pytest.raises(UserError, match="1 other ones than those imported before: theirs cat s01"):
        run(["import", str(home), "--as", "theirs", "--out", str(out)])
    with pytest.raises(UserError, match=r"--suite photos: .* is a run with suite "):
        run(["import", str(home), "--as", "theirs", "--out", str(out), "--suite", "photos"])


def test_what_was_missing_comes_alone(tmp_path):
    """By index, beside what is there: the folder is what one import of everything makes."""
    home, later, out = folder_of(tmp_path / "in"), tmp_path / "later", tmp_path / "out"
    photograph = home / "cat" / "a01" / "0.jpg"
    draw(photograph, 3, (20, 30)).with_suffix(".png").unlink()
    gone = ("cat/s01/0.png", "cat/a01/1.png", "teapot/s01/1.png")
    for name in gone:
        (later / name).parent.mkdir(parents=True)
        (home / name).rename(later / name)
    assert run(words(home, out, "--allow-missing")) == 0
    before = {name: (out / name).read_bytes() for name in files(out)}
    again = ["import", str(later), "--as", "theirs", "--out", str(out), "--no-score"]
    other = later / "cat" / "s01" / "1.png"
    draw(other, 99)
    with pytest.raises(UserError, match="1 other ones than those imported before: theirs cat s01"):
        run(again)
    other.write_bytes((home / "cat" / "s01" / "1.png").read_bytes())  # the one that is there
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert run(again) == 0
    other.unlink()
    for name in gone:
        (later / name).rename(home / name)
    whole = tmp_path / "whole"
    assert run(words(home, whole)) == 0
    made = {name for name in files(whole) if name.startswith("images/") or name == "plan.csv"}
    for name in made:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    # interrupted when the plan was written: the same pictures go on
    for name in before:
        if name.startswith("images/theirs/default/cat/s01/"):
            (out / name).write_bytes(before[name])
    (out / "images/theirs/default/cat/s01/1.png").unlink()
    (later / gone[0]).write_bytes((home / gone[0]).read_bytes())
    assert run([*again, "--allow-missing"]) == 0
    for name in made:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_new_folder_counts_no_refused_picture(tmp_path, capsys):
    """One cell has a second picture, which cannot be taken: one a prompt are planned."""
    home = folder_of(tmp_path / "in", images=1)
    Image.new("F", (8, 8)).save(home / "cat" / "s01" / "1.tif")
    assert run(words(home, tmp_path / "out", "--allow-missing")) == 0
    assert "4/4 planned pictures imported" in capsys.readouterr().err


def test_a_known_run_says_what_is_missing_and_what_is_too_much(tmp_path):
    home, out = folder_of(tmp_path / "in"), tmp_path / "out"
    assert run(words(home, out)) == 0
    draw(home / "cat" / "s01" / "2.png")
    asked = ["import", str(home), "--as", "second", "--out", str(out), "--no-score"]
    with pytest.raises(UserError, match="1 more than the run's 2 of a prompt, in all: cat s01"):
        run(asked)
    (home / "cat" / "s01" / "2.png").unlink()
    for path in (home / "teapot").rglob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="4 missing: teapot s01"):
        run(asked)
    assert {row["method"] for row in read_planned(out)} == {"theirs"}


# ---- many ----


def test_ten_thousand_pictures_are_read_once_each(tmp_path):
    """No file is opened more often than it needs to be: once to look at it, and here, linked, not
    again to copy it."""
    home, names = tmp_path / "in", [row["prompt_id"] for row in _shipped()][:19]
    drawn = [draw(tmp_path / f"{number}.png", number) for number in range(64)]
    each = -(-10_000 // (2 * len(names)))
    for number, (concept, prompt) in enumerate((c, p) for c in ("cat", "teapot") for p in names):
        (home / concept / prompt).mkdir(parents=True)
        for index in range(each):
            source = drawn[(number + index) % len(drawn)]
            os.link(source, home / concept / prompt / f"{index}.png")
    opened: Counter[str] = Counter()
    watched, inside = [True], str(home) + os.sep

    def hook(event: str, args: tuple) -> None:
        if watched and event == "open" and str(args[0]).startswith(inside):
            opened[str(args[0])] += 1

    sys.addaudithook(hook)
    assert run(words(home, tmp_path / "out", "--link")) == 0
    watched.clear()
    assert len(opened) == 2 * len(names) * each >= 10_000
    assert set(opened.values()) == {1}
    assert sum(imported(tmp_path / "out").values()) == len(opened)


def test_a_copied_picture_is_read_twice_at_most(tmp_path):
    home = folder_of(tmp_path / "in")
    opened: Counter[str] = Counter()
    watched, inside = [True], str(home) + os.sep

    def hook(event: str, args: tuple) -> None:
        if watched and event == "open" and str(args[0]).startswith(inside):
            opened[str(args[0])] += 1

    sys.addaudithook(hook)
    assert run(words(home, tmp_path / "out")) == 0
    watched.clear()
    assert set(opened.values()) == {2} and len(opened) == 8


DAMAGED = {
    "suite a list": lambda about: about["config"].update(suite=["photos"]),
    "no suite": lambda about: about["config"].pop("suite"),
    "size a text": lambda about: about["backbone"].update(size="16"),
    "size too large": lambda about: about["backbone"].update(size=10**9),
    "images below 1": lambda about: about["protocol"].update(images=-2),
    "no texts": lambda about: about["digests"].pop("texts"),
    "methods a list": lambda about: about.update(methods=[]),
    "another version": lambda about: about.update(schema=1),
    "a later version": lambda about: about.update(schema=99),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_run_is_not_written_into(tmp_path, kind):
    home, out = folder_of(tmp_path / "in"), tmp_path / "out"
    assert run(words(home, out)) == 0
    about = json.loads((out / "run.json").read_text())
    DAMAGED[kind](about)
    (out / "run.json").write_text(json.dumps(about))
    before = {name: (out / name).read_bytes() for name in files(out)}
    with pytest.raises(UserError, match=r"damaged|only schema 2 can be compared"):
        run(["import", str(home), "--as", "second", "--out", str(out), "--no-score"])
    assert {name: (out / name).read_bytes() for name in files(out)} == before
