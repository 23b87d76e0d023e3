"""Features of pictures in the cache: the same rows with and without, no second pass, nothing torn
and nothing believed that is damaged.
"""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from run_kit import copy_of_reference, environment, make_scorer, reference, shared

from benchmarks.cli import run
from benchmarks.disk import digests_of
from benchmarks.running import known_features
from benchmarks.scoring import read_pictures
from benchmarks.store.reading import read_cells
from benchmarks.store.unit_cache import key_of, unit_cache


@pytest.fixture
def place(tmp_path, monkeypatch):
    reference()  # made before this cache is there, or it would hold what that run saw
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "10MB")
    return tmp_path


@pytest.fixture
def opened(place, monkeypatch):
    """Names of the scorers whose weights were opened."""
    names, real = list[str](), known_features.open_scorer
    monkeypatch.setattr(
        known_features,
        "open_scorer",
        lambda scorer, device: names.append(scorer.name) or real(scorer, device),
    )
    return names


def score(out, *words):
    assert run(["score", str(out), "--again", "--device", "cpu", *map(str, words)]) == 0


def rows(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted((out / "rows").rglob("*.csv"))
    }


def features():
    return [entry for entry in unit_cache().entries() if entry.kind == "features"]


def test_rows_are_the_same_with_and_without_and_no_weights_are_opened_twice(place, opened, capsys):
    out, other = copy_of_reference(place / "run"), copy_of_reference(place / "other")
    score(out, "--no-cache")
    assert len(opened) == 1 and not features(), "--no-cache keeps nothing"
    expected = rows(out)
    assert expected == rows(reference())
    score(out)
    assert len(opened) == 2 and rows(out) == expected
    score(out)
    assert len(opened) == 2 and rows(out) == expected, "everything is known"
    score(other)
    assert len(opened) == 2 and rows(other) == expected, "in another run folder, too"
    score(out, "--no-cache")
    assert len(opened) == 3 and rows(out) == expected, "and --no-cache takes nothing"
    assert "perfbench: scoring took" in capsys.readouterr().err


def test_pictures_that_are_measured_alone_are_seen_once(place, opened, capsys):
    [cell, *_] = read_cells(reference())
    folder = reference() / "images" / cell.method / cell.point / cell.concept / cell.prompt_id
    asked = ["measure", str(folder), "--references", str(reference() / "concepts" / cell.concept)]
    scorer = ["--scorers", str(shared() / "tiny" / "scorer"), "--device", "cpu", "--json"]

    def measured(*more: str) -> str:
        assert run([*asked, "--prompt", "A {} in the snow", *scorer, *more]) == 0
        return capsys.readouterr().out

    expected = measured("--no-cache")
    assert len(opened) == 1 and not features(), "--no-cache keeps nothing"
    assert measured() == expected and len(opened) == 2
    assert measured() == expected and len(opened) == 2, "everything is known"
    copied = shutil.copytree(folder, place / "copied")
    Image.new("RGB", (16, 16), "red").save(copied / "0.png")
    asked[1] = str(copied)
    assert measured() != expected and len(opened) == 3, "another picture of the same name"


def test_an_entry_is_a_cell_a_concept_or_a_text_and_never_a_picture(place, capsys):
    out = copy_of_reference(place / "run")
    score(out)
    cells = read_cells(out)
    concepts, texts = {cell.concept for cell in cells}, {cell.text for cell in cells}
    found = features()
    # cells of equal pictures share one: the two methods of a micro run draw their own
    pictures = {tuple(entry.of["picture"]) for entry in found if "picture" in entry.of}
    assert len(found) == len(pictures) + len(concepts) + len(texts)
    assert len(pictures) <= len(cells) and max(map(len, pictures)) == cells[0].n > 1
    for entry in found:
        (file,) = (entry.path / "files").iterdir()
        vectors = np.load(file, allow_pickle=False)
        assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
    capsys.readouterr()
    assert run(["cache", "list"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("features"))
    assert line.split()[1].startswith("clip-") and line.split()[2] == str(len(found))


def test_each_picture_is_decoded_once_for_all_scorers(place, monkeypatch):
    out = copy_of_reference(place / "run")
    many = [make_scorer(place / name, seed) for seed, name in enumerate(("one", "two"), 5)]
    decoded, real = list[int](), Image.open
    monkeypatch.setattr(
        read_pictures.Image,
        "open",
        lambda file, *rest: decoded.append(isinstance(file, io.BytesIO)) or real(file, *rest),
    )
    score(out, "--no-cache", "--scorers", ",".join(map(str, many)))
    drawn = sum(cell.n for cell in read_cells(out))
    concepts = {cell.concept for cell in read_cells(out)}
    of_concepts = sum(len(list((out / "concepts" / name).glob("*.png"))) for name in concepts)
    assert decoded.count(True) == drawn + 3 * of_concepts, "a concept's once a scorer"
    decoded.clear()
    score(out, "--scorers", ",".join(map(str, many)))
    decoded.clear()
    score(out, "--scorers", ",".join(map(str, many)))
    assert not any(decoded), "what is known is not decoded at all"


def test_damage_is_found_and_made_again(place, opened, capsys):
    out = copy_of_reference(place / "run")
    score(out)
    expected = rows(out)
    first, second, third = (entry.path / "files" / known_features.FILE for entry in features()[:3])
    bytes_of = bytearray(first.read_bytes())
    bytes_of[-1] ^= 1
    first.write_bytes(bytes_of)
    second.write_bytes(second.read_bytes()[:-4])
    third.unlink()
    score(out)
    assert len(opened) == 2 and rows(out) == expected
    capsys.readouterr()
    assert run(["cache", "check"]) == 0 and "0 were damaged" in capsys.readouterr().out
    first.write_bytes(bytes_of)
    assert run(["cache", "check"]) == 1 and "another digest" in capsys.readouterr().out


def test_an_array_of_another_kind_is_not_believed(place, opened):
    """Whole by its digest, and not what a scorer left."""
    out = copy_of_reference(place / "run")
    score(out)
    expected = rows(out)
    for entry in features():
        file = entry.path / "files" / known_features.FILE
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
        about = json.loads((entry.path / "entry.json").read_text())
        about["files"] = digests_of(entry.path / "files")
        (entry.path / "entry.json").write_text(json.dumps(about))
    score(out)
    assert len(opened) == 2 and rows(out) == expected


def test_another_picture_or_other_bytes_of_it_are_seen_anew(place, opened):
    out = copy_of_reference(place / "run")
    score(out)
    known = {entry.path.name for entry in features()}
    pictures = read_pictures.read_folder(next((out / "images").rglob("cell.json")).parent)
    one = known_features.known_features("usual", "cpu")
    of = next(entry.of for entry in features() if entry.of.get("picture") == list(pictures.digests))
    assert key_of("features", of) in known and of["by"] == one.circumstances
    changed = {**of, "picture": ["0" * 64, *of["picture"][1:]]}
    assert one.get({k: v for k, v in changed.items() if k != "by"}) is None
    assert one.get({k: v for k, v in of.items() if k != "by"}) is not None


def test_two_processes_leave_whole_entries_and_the_same_rows(place):
    out = [copy_of_reference(place / name) for name in ("a", "b")]
    words = [sys.executable, "-m", "benchmarks.cli", "score", "--again", "--device", "cpu"]
    both = [
        subprocess.Popen([*words, str(one)], env=environment(), stderr=subprocess.PIPE)
        for one in out
    ]
    for process in both:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert rows(out[0]) == rows(out[1]) == rows(reference())
    whole, bad = unit_cache().check()
    assert whole == len(features()) > 0 and not bad


def test_the_cache_stays_bounded(place, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "6kB")
    out = copy_of_reference(place / "run")
    score(out)
    left = features()
    assert left and sum(entry.bytes for entry in left) <= 6000
    assert rows(out) == rows(reference())
