"""`perfbench score RUN --from FILE --scorer NAME`: the scores that were given are the scores that
stand in the tables, whichever way a picture is called; of any mistake one sentence, and nothing is
taken.
"""

import csv
import json
import shutil

import pandas as pd
import pytest
from hostile_kit import NAMES, command, make_victim, refused, untouched
from PIL import Image
from run_kit import copy_of_reference, files, reference, run_here, shared

from benchmarks.cli import run
from benchmarks.disk import read_json
from benchmarks.running.ratings_file import scale_of
from benchmarks.store.reading import read_cells, read_rows, read_run
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

PLACE = ["method", "point", "concept", "prompt", "index"]


def test_an_import_that_was_never_scored_is_one_sentence_and_nothing_is_taken(tmp_path):
    """Afterwards it goes on as the sentence says."""
    folder, source = tmp_path / "run", reference()
    cells = [one for one in read_cells(source) if one.method == "super"]
    for cell in cells:
        place = tmp_path / "pictures" / cell.concept / cell.prompt_id
        shutil.copytree(Store(source).images(*cell.address, cell.prompt_id), place)
        (place / "cell.json").unlink()
    words = ["--suite", str(shared() / "concepts"), "--backbone", str(shared() / "tiny")]
    take = ["import", str(tmp_path / "pictures"), "--as", "super", "--out", str(folder), *words]
    assert run([*take, "--no-score"]) == 0
    rows = every_row(folder)
    table = write(tmp_path / "ratings.csv", rows)
    ask = ["score", str(folder), "--from", str(table), "--scorer", "raters"]
    before = files(folder), (folder / "run.json").read_bytes()
    with pytest.raises(UserError) as told:
        run(ask)
    said = str(told.value)
    assert said.startswith(f"{folder} was never scored by its reported scorer ")
    assert f"give `perfbench score {folder}` first" in said
    assert "\n" not in said and len(said.split()) <= 40
    assert before == (files(folder), (folder / "run.json").read_bytes())
    assert run(["score", str(folder), "--device", "cpu"]) == 0 and run(ask) == 0
    assert [one["source"] for one in read_run(folder)["scorers"]][-1] == "raters"


@pytest.fixture
def there(tmp_path):
    return copy_of_reference(tmp_path / "run")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """One copy for all tables that are refused: nothing of it changes."""
    return copy_of_reference(tmp_path_factory.mktemp("still") / "run")


def every_row(out, low=0.0, high=1.0):
    """A row a picture with all that can be said of it; scores that differ from row to row."""
    rows, store = [], Store(out)
    for cell in read_cells(out):
        folder = store.images(*cell.address, cell.prompt_id)
        about = read_json(folder / "cell.json")
        for index in range(cell.n):
            k = len(rows)
            rows.append(
                {
                    "path": f"{folder.relative_to(out).as_posix()}/{index}.png",
                    "sha256": about["files"][f"{index}.png"]["sha256"],
                    "method": cell.method,
                    "point": cell.point,
                    "concept": cell.concept,
                    "prompt": cell.prompt_id,
                    "index": str(index),
                    "image_score": f"{low + (high - low) * (k % 5) / 4:g}",
                    "text_score": f"{low + (high - low) * (k % 3) / 2:g}",
                }
            )
    return rows


def write(path, rows, columns=None):
    columns = columns or list(rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def take(out, file, *words, name="raters"):
    return run(["score", str(out), "--from", str(file), "--scorer", name, *map(str, words)])


WAYS = {
    "all of it": ["path", "sha256", *PLACE],
    "path": ["path"],
    "digest": ["sha256"],
    "place": PLACE,
    "digest and method": ["sha256", "method"],
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_given_stands_in_the_tables(there, tmp_path, capsys, way):
    rows = every_row(there, 1, 5)
    file = write(tmp_path / "mine" / "r.csv", rows, [*WAYS[way], "image_score", "text_score"])
    assert take(there, file, "--scale", "1:5") == 0
    _, scorer = read_run(there)["scorers"]
    assert scorer["kind"] == "ratings" and scorer["name"].startswith("raters-")
    told = read_rows(there, scorer["name"]).set_index(["method", "point", "concept", "prompt_id",
                                                       "index"]).sort_index()  # fmt: skip
    assert len(told) == len(rows)
    for row in rows:
        found = told.loc[(*(row[name] for name in PLACE[:-1]), int(row["index"]))]
        assert found["text_sim_raw"] == pytest.approx((float(row["text_score"]) - 1) / 4)
        shape = found["kind"] != "deform"
        assert pd.isna(found["image_sim"]) is not shape
        if shape:
            assert found["image_sim"] == pytest.approx((float(row["image_score"]) - 1) / 4)
    column = f"text_sim_raw_{scorer['name']}"
    assert column in capsys.readouterr().out
    table = pd.read_csv(there / "table.csv").set_index("method")
    mine = told.loc["super", "text_sim_raw"].groupby("concept").mean().mean()
    assert table.loc["super", column] == pytest.approx(mine, abs=1e-6)
    before = pd.read_csv(reference() / "table.csv").set_index("method")
    assert table["image_sim"].equals(before["image_sim"])
    assert {"ratings"} == {name.split("/")[0] for name in files(there) - files(reference())
                           if not name.startswith("rows/")}  # fmt: skip
    assert (there / "ratings" / f"{scorer['name']}.csv").read_text().count("\n") == len(rows) + 1


def test_blind_copies_are_known_by_their_bytes(there, tmp_path):
    """Pictures that were shown under other names, in a folder beside the table."""
    rows = every_row(there)
    (tmp_path / "blind").mkdir()
    for k, row in enumerate(rows):
        shutil.copy(there / row["path"], tmp_path / "blind" / f"{k}.png")
        row["path"] = f"{k}.png"
    file = write(tmp_path / "blind" / "r.csv", rows, ["path", "text_score"])
    assert take(there, file) == 0
    name = read_run(there)["scorers"][1]["name"]
    cells = pd.read_csv(there / "cells.csv")
    assert f"text_sim_raw_{name}" in set(cells["metric"])
    assert f"image_sim_{name}" not in set(cells["metric"])


def test_later_ratings_of_a_name_take_the_place_of_earlier_ones(there, tmp_path):
    rows = every_row(there)
    assert take(there, write(tmp_path / "one.csv", rows)) == 0
    (first,) = read_run(there)["scorers"][1:]
    assert take(there, write(tmp_path / "one.csv", rows), name="others") == 0
    rows[0]["text_score"] = "0.25"
    assert take(there, write(tmp_path / "two.csv", rows)) == 0
    names = [one["name"] for one in read_run(there)["scorers"][1:]]
    assert len(names) == 2 and first["name"] not in names
    assert [name.rpartition("-")[0] for name in names] == ["others", "raters"]
    assert run(["score", str(there), "--device", "cpu"]) == 0  # they stay
    assert [one["name"] for one in read_run(there)["scorers"][1:]] == names
    assert run_here(shared(), there) == 0
    assert [one["name"] for one in read_run(there)["scorers"][1:]] == names


def test_a_part_is_taken_only_when_asked(there, tmp_path, monkeypatch, capsys):
    rows = every_row(there)
    file = write(tmp_path / "r.csv", rows[:-3], ["path", "text_score"])
    told = refused(monkeypatch, capsys, "score", there, "--from", file, "--scorer", "raters")
    assert f"3 of {len(rows)} pictures lack a score" in told
    assert files(there) == files(reference())
    assert take(there, file, "--allow-missing") == 0
    name = read_run(there)["scorers"][1]["name"]
    said = capsys.readouterr().out
    assert f"{name} gave no score for 3 of {len(rows)} images" in said
    assert run(["table", str(there)]) == 0


def test_pictures_that_changed_have_no_ratings(there, tmp_path, capsys):
    """The same place, drawn anew: ratings belonged to other pictures."""
    assert take(there, write(tmp_path / "r.csv", every_row(there))) == 0
    cell = read_cells(there)[0]
    manifest = Store(there).images(*cell.address, cell.prompt_id) / "cell.json"
    about = json.loads(manifest.read_text())
    about["files"]["0.png"]["sha256"] = about["files"]["1.png"]["sha256"]
    shutil.copy(manifest.parent / "1.png", manifest.parent / "0.png")
    about["files"]["0.png"]["bytes"] = about["files"]["1.png"]["bytes"]
    manifest.write_text(json.dumps(about))
    assert run(["score", str(there), "--device", "cpu"]) == 0
    assert "as it is now" in capsys.readouterr().err
    assert len(read_run(there)["scorers"]) == 1


@pytest.fixture(scope="module")
def with_imported(tmp_path_factory):
    """`theirs`, from JPEGs whose numbers begin with 1, and from copies of pictures of `super`."""
    home = tmp_path_factory.mktemp("imported")
    out = copy_of_reference(home / "run")
    for cell in read_cells(out):
        for index in range(cell.n if cell.method == "super" else 0):
            source = Store(out).images(*cell.address, cell.prompt_id) / f"{index}.png"
            place = home / "in" / cell.concept / cell.prompt_id / f"{index + 1}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            if cell.concept == "cat":
                Image.open(source).save(place.with_suffix(".jpg"))
            else:
                shutil.copy(source, place)
    words = ["import", str(home / "in"), "--as", "theirs", "--out", str(out), "--device", "cpu"]
    assert run(words) == 0
    return out


def theirs(out):
    return [row for row in every_row(out) if row["method"] == "theirs"]


def taken_of(out, rows):
    """What was taken of rows: index in the run -> text score, by cell."""
    name = read_run(out)["scorers"][-1]["name"]
    with (out / "ratings" / f"{name}.csv").open(encoding="utf-8") as file:
        found = {
            tuple(row[name] for name in PLACE): row["text_score"] for row in csv.DictReader(file)
        }
    assert len(found) == len(rows)
    return found


def test_imported_pictures_are_known_by_what_was_given(
    with_imported, tmp_path, monkeypatch, capsys
):
    """By their own digest or file, and by their own index where that can mean nothing else."""
    out = shutil.copytree(with_imported, tmp_path / "run")
    rows = theirs(out)
    right = {tuple(row[name] for name in PLACE): float(row["text_score"]) for row in rows}
    for row in rows:
        about = read_json((out / row["path"]).with_name("cell.json"))["from"][int(row["index"])]
        row |= {"sha256": about["sha256"], "index": str(about["index"]), "path": ""}
        assert int(row["index"]) > 0
    file = write(tmp_path / "r.csv", rows)
    assert take(out, file, "--allow-missing") == 0
    taken = taken_of(out, rows)
    assert {place: float(score) for place, score in taken.items()} == right
    # an index alone: 1 is our second and their first picture, 2 is only theirs
    file = write(tmp_path / "r.csv", rows, [*PLACE, "text_score"])
    said = refused(monkeypatch, capsys, "score", out, "--from", file, "--scorer", "raters",
                   "--allow-missing")  # fmt: skip
    assert "index that is one picture's in the run and another's in what was imported" in said
    file = write(tmp_path / "r.csv", [row for row in rows if row["index"] == "2"],
                 [*PLACE, "text_score"])  # fmt: skip
    assert take(out, file, "--allow-missing") == 0
    assert {place[-1] for place in taken_of(out, rows[::2])} == {"1"}


def test_a_table_in_the_run_means_its_places(with_imported, tmp_path):
    """Two methods with the same bytes: what lies beside such a table is a place in the run."""
    out = shutil.copytree(with_imported, tmp_path / "run")
    rows = every_row(out)
    file = write(out / "r.csv", rows, ["path", "text_score"])
    assert take(out, file) == 0
    taken = taken_of(out, rows)
    assert all(
        float(taken[tuple(row[n] for n in PLACE)]) == float(row["text_score"]) for row in rows
    )


# ---- hostile tables ----


def changed(**what):
    """The first row, changed."""

    def change(rows):
        rows[0] |= what
        return rows

    return change


def swapped(rows):
    rows[0]["sha256"], rows[-1]["sha256"] = rows[-1]["sha256"], rows[0]["sha256"]
    return rows


WRONG = {  # what was done to a good table -> what is said
    "another picture's digest": (swapped, "2 rows (lines 2, "),
    "a digest of nothing here": (changed(sha256="0" * 64), "those of this run"),
    "a digest that is none": (changed(sha256="zzz"), "those of this run"),
    "another method": (changed(method="db"), "those of this run"),
    "another point": (changed(point="nowhere"), "those of this run"),
    "another concept": (changed(concept="dog"), "those of this run"),
    "another prompt": (changed(prompt="s99"), "those of this run"),
    "another index": (changed(index="9"), "those of this run"),
    "an index that is none": (changed(index="first"), "those of this run"),
    "an absolute path": (changed(path="/etc/passwd"), "leads elsewhere"),
    "a path upwards": (changed(path="../victim/secret"), "leads elsewhere"),
    "a path up in the middle": (changed(path="images/../../victim/0.png"), "leads elsewhere"),
    "a path to nothing": (changed(path="images/0.png"), "neither beside"),
    "a path to a table": (changed(path="table.csv"), "neither beside"),
    "a path that is a folder": (changed(path="images"), "neither beside"),
    "a path with NUL": (changed(path="a\0b.png"), "leads elsewhere|cannot be read"),
    "twice": (lambda rows: [*rows, rows[0]], "a second time"),
    "no picture": (changed(path="", sha256="", method=""), "do not say which picture"),
    "no score": (changed(image_score="", text_score=""), "have no score"),
    "one score missing": (changed(text_score=""), "1 of 16 pictures lack a score"),
    "NaN": (changed(text_score="nan"), "not a finite number"),
    "infinity": (changed(text_score="inf"), "not a finite number"),
    "1e999": (changed(text_score="1e999"), "outside of 0 to 1"),
    "a word": (changed(text_score="good"), "not a finite number"),
    "a comma": (changed(text_score="0,5"), "not a finite number"),
    "an underscore": (changed(text_score="0_1"), "not a finite number"),
    "digits of others": (changed(text_score="\u0661"), "not a finite number"),
    "a formula": (changed(text_score="=1+1"), "not a finite number"),
    "too much": (changed(text_score="1.01"), "outside of 0 to 1: --scale"),
    "too little": (changed(image_score="-0.5"), "outside of 0 to 1: --scale"),
    "no rows": (lambda rows: [], "has no rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rows_are_one_sentence(still, tmp_path, monkeypatch, capsys, case):
    change, told = WRONG[case]
    rows = every_row(still)
    columns = list(rows[0])
    victim = make_victim(tmp_path / "victim")
    file = write(tmp_path / "mine" / "r.csv", change(rows), columns)
    before = files(still)
    with untouched(victim):
        said = refused(monkeypatch, capsys, "score", still, "--from", file, "--scorer", "raters")
    assert any(part in said for part in told.split("|")), said
    assert files(still) == before and len(read_run(still)["scorers"]) == 1


@pytest.mark.parametrize("case", NAMES)
def test_names_that_are_none_lead_nowhere(still, tmp_path, monkeypatch, capsys, case):
    victim = make_victim(tmp_path / "victim")
    for column in ("path", "concept"):
        rows = every_row(still)
        rows[0] |= {"path": "", "sha256": "", column: NAMES[case]}
        file = write(tmp_path / "r.csv", rows)
        with untouched(victim):
            refused(monkeypatch, capsys, "score", still, "--from", file, "--scorer", "raters")


def test_a_link_beside_the_table_leads_nowhere(still, tmp_path, monkeypatch, capsys):
    victim = make_victim(tmp_path / "victim")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "here").symlink_to(victim)
    file = write(tmp_path / "mine" / "r.csv", changed(path="here/0.png")(every_row(still)))
    with untouched(victim):
        said = refused(monkeypatch, capsys, "score", still, "--from", file, "--scorer", "raters")
    assert "leads elsewhere" in said


FILES = {  # bytes of a table -> what is said
    "empty": (b"", "has no scores"),
    "no scores": (b"path\nimages/0.png\n", "has no scores"),
    "no pictures": (b"text_score\n1\n", "does not say which pictures"),
    "half a place": (b"method,concept,text_score\na,b,1\n", "does not say which pictures"),
    "an unknown column": (b"path,text_scor\na,1\n", "has a column 'text_scor'"),
    "a column twice": (b"path,path,text_score\na,b,1\n", "has a column twice"),
    "too many fields": (b"path,text_score\na,1,2\n", "another number of fields"),
    "too few fields": (b"path,text_score\na\n", "another number of fields"),
    "not UTF-8": (b"path,text_score\n\xff,1\n", "cannot be read as a CSV"),
    "an open quote": (b'path,text_score\n"a,1\n', "cannot be read as a CSV"),
    "a field without end": (b"path,text_score\n" + b"a" * 200_000 + b",1\n", "cannot be read"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "cannot be read|has no scores|has a column"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_are_one_sentence(still, tmp_path, monkeypatch, capsys, case):
    content, told = FILES[case]
    (tmp_path / "r.csv").write_bytes(content)
    said = refused(monkeypatch, capsys, "score", still, "--from", tmp_path / "r.csv", "--scorer",
                   "raters")  # fmt: skip
    assert any(part in said for part in told.split("|")), said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "FILE"], "--scorer NAME"),
        (["--from", "NOWHERE", "--scorer", "raters"], "there is no"),
        (["--from", "RUN", "--scorer", "raters"], "cannot be read"),
        (["--from", "FILE", "--scorer", "my raters"], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "../up"], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", ""], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "a_b"], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "truth-x"], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "judge"], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "a" * 61], "cannot be a scorer's name"),
        (["--from", "FILE", "--scorer", "r", "--scale", "5:1"], "is not LOW:HIGH"),
        (["--from", "FILE", "--scorer", "r", "--scale", "1"], "is not LOW:HIGH"),
        (["--from", "FILE", "--scorer", "r", "--scale", "nan:1"], "is not LOW:HIGH"),
        (["--from", "FILE", "--scorer", "r", "--scorers", "dino"], "leave one out"),
        (["--from", "FILE", "--scorer", "r", "--again"], "leave one out"),
        (["--scorer", "raters"], "goes with --from FILE"),
        (["--scale", "1:5"], "goes with --from FILE"),
    ],
)
def test_wrong_words_are_one_sentence(still, tmp_path, monkeypatch, capsys, words, told):
    file = write(tmp_path / "r.csv", every_row(still))
    places = {"FILE": file, "NOWHERE": tmp_path / "nowhere.csv", "RUN": still}
    words = [places.get(word, word) for word in words]
    assert told in refused(monkeypatch, capsys, "score", still, *words)


def test_a_run_without_its_pictures(there, tmp_path, monkeypatch, capsys):
    file = write(tmp_path / "r.csv", every_row(there))
    cell = read_cells(there)[0]
    shutil.rmtree(Store(there).images(*cell.address, cell.prompt_id))
    told = refused(monkeypatch, capsys, "score", there, "--from", file, "--scorer", "raters")
    assert "1 of 8 planned cells" in told and "ratings belong to pictures" in told


def test_equal_pictures_are_told_apart_by_their_place(there, tmp_path, monkeypatch, capsys):
    """Two places with the same bytes: a digest alone does not say which of them was rated."""
    cell = read_cells(there)[0]
    folder = Store(there).images(*cell.address, cell.prompt_id)
    about = json.loads((folder / "cell.json").read_text())
    shutil.copy(folder / "1.png", folder / "0.png")
    about["files"]["0.png"] = about["files"]["1.png"]
    (folder / "cell.json").write_text(json.dumps(about))
    rows = every_row(there)
    file = write(tmp_path / "r.csv", rows, ["sha256", "text_score"])
    told = refused(monkeypatch, capsys, "score", there, "--from", file, "--scorer", "raters")
    assert "2 rows (lines 2, 3) can mean several pictures" in told
    status, _ = command(monkeypatch, capsys, "score", there, "--from",
                        write(tmp_path / "r.csv", rows), "--scorer", "raters")  # fmt: skip
    assert status == 0


def test_scales():
    assert scale_of("-1:1") == (-1, 1) and scale_of("0:100") == (0, 100)
    with pytest.raises(UserError):
        scale_of("1:1")
