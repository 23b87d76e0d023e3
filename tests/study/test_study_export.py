"""The exported page: what it asks whom, and that it tells nothing about the methods."""

import io
import json
import re
import struct
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from made_run import CONCEPTS
from PIL import Image
from study_kit import METHODS, make_run, write_rows

from benchmarks.store import reading, run_folder
from benchmarks.store.csv_files import planned_text
from benchmarks.study.answers import read_key
from benchmarks.study.design import QUALIFY, RATE, REPEAT, Design, sessions
from benchmarks.study.desk import Desk
from benchmarks.study.export import export
from benchmarks.study.material import best_point, read_source
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "toy", ("cat", "teapot", "chair"), prompts=4)


@pytest.fixture(scope="module")
def ranking(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "ranking"
    export(run, "ranking", out, Design(session=6))
    return out


def page_data(folder):
    text = (folder / "page" / "index.html").read_text()
    return json.loads(
        re.search(r'<script type="application/json" id="study">(.*?)</script>', text, re.S)[1]
    )


def chunks(data):
    at, names = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        names.append(data[at + 4 : at + 8].decode())
        at += 12 + length
    return names


# ---- design ----


def test_the_papers_study_has_2104_trials_and_each_response_once():
    concepts = [
        name
        for name, (group, _) in CONCEPTS.items()
        for _ in range({"animated": 30, "container": 16, "furniture": 11, "wearable": 10}[group])
    ]
    assert len(concepts) == 263
    made = sessions(concepts, 3, [3] * 11, Design())
    rated = [trial.task for _, trials in made for trial in trials if trial.role == RATE]
    assert len(rated) == 2104
    assert set(Counter(rated).values()) == {8}
    for _, trials in made:
        assert [t.role for t in trials[:5]] == [QUALIFY] * 5 and QUALIFY not in [
            t.role for t in trials[5:]
        ]
        assert len({t.task for t in trials if t.role == RATE}) == sum(
            t.role == RATE for t in trials
        )


def test_a_rater_who_takes_one_session_of_each_block_meets_no_task_twice():
    made = sessions([f"c{i % 5}" for i in range(60)], 3, [3] * 6, Design(session=12))
    tasks = {}
    for block, trials in made:
        tasks.setdefault(block, set()).add(frozenset(t.task for t in trials if t.role == RATE))
    # a block is the same in every round
    assert all(len(variants) == 1 for variants in tasks.values())
    parts = [next(iter(variants)) for variants in tasks.values()]
    assert sum(map(len, parts)) == len(frozenset().union(*parts)) == 60


def test_repeats_come_later_and_the_other_way_round():
    for _, trials in sessions(["a", "b"] * 20, 3, [3] * 6, Design(session=20)):
        again = [(at, t) for at, t in enumerate(trials) if t.role == REPEAT]
        assert len(again) == 3
        for at, t in again:
            first = trials[t.first]
            assert first.role == RATE and first.task == t.task and first.order == t.order[::-1]
            assert at - t.first >= 3


def test_every_order_of_the_pictures_is_used_as_often():
    made = sessions(["a"] * 50, 3, [3] * 6, Design(responses=12, repeats=0))
    by_task = {}
    for _, trials in made:
        for t in trials:
            if t.role == RATE:
                by_task.setdefault(t.task, []).append(t.order)
    # 6 orders, 12 responses
    assert all(set(Counter(orders).values()) == {2} for orders in by_task.values())


def test_the_seed_and_nothing_else_decides():
    def made(seed):
        return sessions(["a", "b", "c"] * 10, 3, [3] * 6, Design(seed=seed))

    assert made(4) == made(4)
    assert made(4) != made(5)


def test_two_exports_show_the_same_study_under_other_names(run, ranking, tmp_path):
    export(run, "ranking", tmp_path / "again", Design(session=6))
    one, two = read_key(ranking).about, read_key(tmp_path / "again").about
    strip = [
        [{k: v for k, v in t.items() if k != "id"} for s in about["sessions"] for t in s["trials"]]
        for about in (one, two)
    ]
    assert strip[0] == strip[1] and one["tasks"] == two["tasks"]
    assert one["secret"] != two["secret"]
    names = [
        {p.name for p in (folder / "page" / "images").iterdir()}
        for folder in (ranking, tmp_path / "again")
    ]
    assert not names[0] & names[1]


# ---- what is shown ----


def test_each_screen_shows_one_picture_of_each_method_of_the_same_noise(ranking):
    key = read_key(ranking)
    for task in key.about["tasks"]:
        assert [choice["method"] for choice in task["choices"]] == ["perfusion", "cd", "db"]
        assert len({choice["index"] for choice in task["choices"]}) == 1
        assert task["prompt_id"][0] in "aocfw" and not task["prompt_id"].startswith("s")


def test_perfusion_is_the_variant_with_the_best_harmonic_mean_of_the_prompt(tmp_path):
    run = make_run(tmp_path / "run", ("cat",), prompts=2)
    frame = reading.read_rows(run)
    a, b = METHODS["perfusion"]
    ids = sorted(frame.loc[frame["kind"] == "deform", "prompt_id"].unique())
    # the second prompt speaks for b so loudly that its lower image similarity does not matter
    frame.loc[frame["kind"] == "shape", "image_sim"] = (
        frame["point"].map({a: 0.8, b: 0.7}).fillna(0.6)
    )
    frame["text_sim_raw"] = 0.25
    frame.loc[(frame["point"] == b) & (frame["prompt_id"] == ids[1]), "text_sim_raw"] = 0.5
    write_rows(run, frame)
    source = read_source(run, ["perfusion"])
    assert [best_point(source, "perfusion", "cat", prompt) for prompt in ids] == [a, b]
    h = source.scores["perfusion", b, "cat", ids[1]]
    assert h["harmonic"] == pytest.approx(2 * 0.7 * 2 / 2.7)


def test_the_page_shows_the_pixels_of_the_run(run, ranking):
    key = read_key(ranking)
    shown = {
        bytes(np.asarray(Image.open(p).convert("RGB")))
        for p in (ranking / "page" / "images").iterdir()
    }
    for task in key.about["tasks"]:
        for c in task["choices"]:
            path = (
                run_folder.cell_folder(
                    run, c["method"], c["point"], task["concept"], task["prompt_id"]
                )
                / f"{c['index']}.png"
            )
            assert bytes(np.asarray(Image.open(path).convert("RGB"))) in shown


def test_qualification_answers_are_not_in_the_page_but_can_be_checked(ranking):
    import hashlib

    key = read_key(ranking)
    for session, screens in zip(key.sessions, page_data(ranking)["sessions"]):
        for trial, screen in zip(session["trials"], screens):
            if trial["role"] == QUALIFY:
                assert (
                    screen["check"]
                    == hashlib.sha256(
                        f"{screen['id']}|{trial['order'].index(0)}".encode()
                    ).hexdigest()
                )
            else:
                assert set(screen) == {"id", "text", "references", "images"}


def test_realism_compares_perfusion_with_the_plain_model(run, tmp_path):
    export(run, "realism", tmp_path / "real", Design(session=6))
    key = read_key(tmp_path / "real")
    assert {tuple(c["method"] for c in t["choices"]) for t in key.about["tasks"]} == {
        ("perfusion", "super")
    }
    assert all(
        not screen["references"] and len(screen["images"]) == 2
        for s in page_data(tmp_path / "real")["sessions"]
        for screen in s
    )


@pytest.mark.slow
def test_a_real_run_can_be_studied(tmp_path):
    """What `perfbench run` leaves, not what the kit of these tests does: fits, cells and scores of
    a tiny backbone.
    """
    from run_kit import reference

    from benchmarks.cli import run as perfbench

    out = tmp_path / "study"
    few = ["--qualify", "3", "--responses", "2"]
    assert (
        perfbench(
            ["study", "export", str(reference()), "--study", "realism", "--out", str(out), *few]
        )
        == 0
    )
    key = read_key(out)
    planned = {
        (r["concept"], r["prompt_id"])
        for r in reading.read_planned(reference())
        if r["kind"] == "deform"
    }
    assert planned and {(t["concept"], t["prompt_id"]) for t in key.about["tasks"]} == planned
    for task in key.about["tasks"]:
        assert "{" not in task["text"] and task["concept"] in task["text"]
        assert [c["method"] for c in task["choices"]] == ["perfusion", "super"]
        assert all(
            set(c["scores"]) == {"image_sim", "text_sim_raw", "harmonic"} for c in task["choices"]
        )


# ---- blinding ----


def test_nothing_in_the_page_names_a_method(ranking):
    words = [
        "perfusion",
        "local-b",
        "global-b",
        "custom",
        "dreambooth",
        '"cd"',
        '"db"',
        "super",
        "rate",
        "repeat",
        '"order"',
        "prompt_id",
        "secret",
    ]
    data = page_data(ranking)
    for screen in (screen for session in data["sessions"] for screen in session):
        del screen["text"]  # prompts are words too: "dressed as a superhero"
    for word in words:
        assert word not in json.dumps(data).lower()
    key = read_key(ranking)
    everything = (ranking / "page" / "index.html").read_text()
    assert key.secret not in everything
    assert {p.relative_to(ranking / "page").parts[0] for p in (ranking / "page").rglob("*")} == {
        "index.html",
        "images",
    }


def test_pictures_carry_no_metadata_and_have_random_names_and_one_time(ranking):
    files = sorted((ranking / "page" / "images").iterdir())
    for path in files:
        assert re.fullmatch(r"[0-9a-f]{16}\.png", path.name)
        assert set(chunks(path.read_bytes())) <= {"IHDR", "IDAT", "fiLl", "IEND"}
        assert path.stat().st_mtime == 946_684_800
        with Image.open(path) as image:
            image.load()
            assert not image.info


def test_all_rated_pictures_have_one_size(ranking):
    rated = {
        name for s in page_data(ranking)["sessions"] for screen in s for name in screen["images"]
    }
    sizes = {(ranking / "page" / "images" / name).stat().st_size for name in rated}
    assert len(sizes) == 1
    assert len({Image.open(ranking / "page" / "images" / name).size for name in rated}) == 1


def test_a_picture_that_is_reference_and_choice_has_two_names(ranking):
    data = page_data(ranking)
    rated = {name for s in data["sessions"] for screen in s for name in screen["images"]}
    given = {name for s in data["sessions"] for screen in s for name in screen["references"]}
    assert rated and given and not rated & given
    assert rated | given == {p.name for p in (ranking / "page" / "images").iterdir()}


def test_the_page_loads_nothing_from_elsewhere(ranking):
    text = (ranking / "page" / "index.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= {"http://www.w3.org/2000/svg"}
    # every slot of the template was filled
    assert "@" not in re.sub(r"@media", "", re.sub(r"<script.*?</script>", "", text, flags=re.S))


def test_the_key_stays_private(ranking):
    assert (ranking / "private").stat().st_mode & 0o077 == 0
    assert (ranking / "private" / "key.json").stat().st_mode & 0o077 == 0


# ---- mistakes ----


def test_a_damaged_or_missing_picture_is_refused_unless_allowed(tmp_path):
    run = make_run(tmp_path / "run", ("cat", "teapot"), prompts=3)
    task = next(
        row
        for row in reading.read_planned(run)
        if row["method"] == "db" and row["kind"] == "deform"
    )
    for path in run_folder.cell_folder(
        run, task["method"], task["point"], task["concept"], task["prompt_id"]
    ).glob("*.png"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="1 of 6 prompts lack"):
        export(run, "ranking", tmp_path / "out", Design())
    assert not (tmp_path / "out").exists()
    assert "(5 of 6 prompts" in export(
        run, "ranking", tmp_path / "out", Design(), allow_missing=True
    )


def test_mistakes_are_one_sentence(run, tmp_path):
    with pytest.raises(UserError, match="did you mean 'ranking'"):
        export(run, "rankin", tmp_path / "x", Design())
    with pytest.raises(UserError, match="compares 3 different methods"):
        export(run, "ranking", tmp_path / "x", Design(), ["perfusion", "cd"])
    with pytest.raises(UserError, match="unknown method 'tii'"):
        export(run, "ranking", tmp_path / "x", Design(), ["perfusion", "cd", "tii"])
    with pytest.raises(UserError, match="--pass-mark is 6"):
        export(run, "ranking", tmp_path / "x", Design(pass_mark=6))
    with pytest.raises(UserError, match="unknown qualification trial"):
        export(run, "ranking", tmp_path / "x", Design(), rejected=["scene:cat:s99"])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is not a study"):
        export(run, "ranking", tmp_path / "x", Design())
    assert (tmp_path / "x" / "mine.txt").read_text() == "keep"


def test_a_study_with_answers_is_not_replaced(run, tmp_path):
    export(run, "ranking", tmp_path / "s", Design())
    study = read_key(tmp_path / "s").study
    export(run, "ranking", tmp_path / "s", Design())  # without answers it may be made again
    assert read_key(tmp_path / "s").study != study
    (tmp_path / "s" / "answers" / "001.json").write_text("{}")
    with pytest.raises(UserError, match="has answers"):
        export(run, "ranking", tmp_path / "s", Design())


def test_rejected_qualification_trials_are_replaced(run, tmp_path):
    export(run, "ranking", tmp_path / "a", Design())
    names = [task["name"] for task in read_key(tmp_path / "a").about["pool"]]
    assert len(names) == 11 and names[0].startswith("scene:")
    export(run, "ranking", tmp_path / "b", Design(), rejected=names[:2])
    again = [task["name"] for task in read_key(tmp_path / "b").about["pool"]]
    assert not set(names[:2]) & set(again) and names[2] in again
    assert all(
        name in (tmp_path / "b" / "private" / "qualification.html").read_text() for name in again
    )


def test_without_scenes_the_qualification_is_made_of_concept_images(run, tmp_path):
    few = make_run(tmp_path / "run", ("cat", "teapot", "chair"), prompts=2)
    frame = reading.read_rows(few)
    planned = [
        row
        for row in reading.read_planned(few)
        if row["kind"] == "deform" and row["point"] != METHODS["perfusion"][1]
    ]
    (few / "plan.csv").write_text(planned_text(planned))
    assert len(frame)
    export(few, "ranking", tmp_path / "s", Design(qualify=3, pass_mark=3))
    assert {task["name"] for task in read_key(tmp_path / "s").about["pool"]} == {
        "plain:cat",
        "plain:teapot",
        "plain:chair",
    }


def test_scrambling_moves_every_tile():
    from benchmarks.study.blinding import TILES, scramble

    pixels = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3)
    moved = scramble(pixels, "x")
    side = 32 // TILES
    for y in range(0, 32, side):
        for x in range(0, 32, side):
            assert not (
                moved[y : y + side, x : x + side] == pixels[y : y + side, x : x + side]
            ).any()
    assert sorted(moved.ravel()) == sorted(pixels.ravel())


def test_padding_keeps_the_picture():
    from benchmarks.study.blinding import padded, png

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = padded(png(pixels), 4000)
    assert len(data) == 4000
    assert (np.asarray(Image.open(io.BytesIO(data))) == pixels).all()
    with pytest.raises(ValueError):
        padded(png(pixels), 20)


def test_help_is_quick_and_loads_nothing_heavy():
    code = """
import sys
from benchmarks.cli import run
try:
    run(["study", "export", "--help"])
except SystemExit:
    pass
bad = {"numpy", "pandas", "torch", "PIL"} & set(sys.modules)
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--responses" in done.stdout


def test_a_study_that_was_handed_out_is_not_replaced(run, tmp_path):
    """Raters hold screens that a new key would not know; their answers would be refused."""
    export(run, "ranking", tmp_path / "s", Design())
    Desk(read_key(tmp_path / "s")).hand_out("0" * 32)
    with pytest.raises(UserError, match="has handed out sessions"):
        export(run, "ranking", tmp_path / "s", Design())


def test_a_file_where_a_folder_should_be(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="choose another folder"):
        export(run, "ranking", tmp_path / "file" / "s", Design())
    with pytest.raises(UserError, match="is not a study"):
        read_key(tmp_path / "file")
