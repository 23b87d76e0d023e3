"""A run sent as one archive and checked: what is packed, verdicts, exit statuses, and a redraw of a
real run on a tiny backbone.
"""

import io
import json
import shutil
import tarfile

import numpy as np
import pandas as pd
import pytest
import submission_kit as kit
from PIL import Image
from run_kit import perfbench, run_here, shared

from benchmarks.cli import run
from benchmarks.exchange.leaks import leak, texts_in
from benchmarks.exchange.submissions.drawn_pixels import pixels_digest
from benchmarks.exchange.submissions.redraw_limits import CELL, PICTURE, SURE, Compared, judge
from benchmarks.exchange.submissions.submission_archive import Refused, read_submission
from benchmarks.exchange.submissions.submitted_tables import same_table
from benchmarks.store.csv_files import plain
from benchmarks.store.reading import read_rows
from benchmarks.tables.derived import read_table
from perfusion_core.errors import UserError


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    """A real run of the tiny backbone: trained, drawn and scored."""
    out = tmp_path_factory.mktemp("sent") / "mine"
    assert run_here(shared(), out) == 0
    return out


@pytest.fixture(scope="session")
def sent(micro, tmp_path_factory):
    """The same as an archive."""
    out = tmp_path_factory.mktemp("archive") / "mine.perfbench.tar.xz"
    words = ["submission", "make", str(micro), "--out", str(out), "--by", "A. Author"]
    assert run(words) in (0, None)
    return out


def places() -> list[str]:
    return ["--backbone", str(shared() / "tiny"), "--suite", str(shared() / "concepts")]


def verify(archive, *more) -> int:
    return run(["submission", "verify", str(archive), *places(), *map(str, more)])


def test_an_earlier_table_may_be_silent_about_rates_that_are_a_guess():
    """And one that tells them tells the truth."""
    head = {"kind": "method", "method": "dora", "point": "default", "image_sim": 0.5}
    made = pd.DataFrame([{**head, "untuned": True}, {**head, "method": "cd", "untuned": False}])
    same_table(made.drop(columns="untuned"), made, "table.csv")
    same_table(made, made, "table.csv")
    with pytest.raises(Refused, match="untuned of method dora default is False, and its rows make"):
        same_table(made.assign(untuned=False), made, "table.csv")
    with pytest.raises(Refused, match="its rows or columns are not those"):
        same_table(made, made.drop(columns="untuned"), "table.csv")


# ---- what is packed ----


def test_the_archive_of_a_committed_run_has_rows_plan_tables_and_digests(tmp_path):
    files, about = kit.real_parts()
    assert about["by"] == "A. Author" and about["name"] == "theirs"
    assert {"run.json", "plan.csv", "cells.csv", "metrics.csv", "table.csv"} <= files.keys()
    assert sum(name.startswith("rows/") for name in files) == 21  # 5 points, super, real; 3 things
    weights = json.loads((kit.RUN / "run.json").read_text())["weights"]
    trained = json.loads(files["trained.json"])
    assert {m: {c: e["digest"] for c, e in of.items()} for m, of in trained.items()} == weights


def test_the_packed_tables_are_those_of_the_run(tmp_path):
    """Of an older run's table.csv, the columns that it has; costs had more decimals."""
    files, _ = kit.real_parts()
    assert files["cells.csv"] == plain(kit.RUN / "cells.csv")
    kit.assert_to_the_last_digits(files["metrics.csv"], (kit.RUN / "metrics.csv").read_bytes())
    old = pd.read_csv(kit.RUN / "table.csv")
    new = pd.read_csv(io.BytesIO(files["table.csv"]))
    costs = ["kilobytes", "train_seconds"]
    pd.testing.assert_frame_equal(new[list(old)].drop(columns=costs), old.drop(columns=costs))
    pd.testing.assert_frame_equal(new[costs], old[costs], atol=0.051, rtol=0)


def test_tar_opens_it(tmp_path):
    archive = kit.place(tmp_path, kit.real_archive())
    with tarfile.open(archive) as tar:
        assert "manifest.json" in tar.getnames()


def test_pictures_have_digests_and_thumbnails_without_metadata(micro, sent):
    found = read_submission(sent)
    lines = found.files["pictures.csv"].decode().splitlines()[1:]
    cells = list(micro.glob("images/*/*/*/*/cell.json"))
    assert len(lines) == len(cells) > 0
    method, point, concept, prompt, pixels = lines[0].split(",")
    folder = micro / "images" / method / point / concept / prompt
    pictures = [np.asarray(Image.open(folder / f"{n}.png").convert("RGB")) for n in (0, 1)]
    assert pixels == pixels_digest(pictures)
    small = [name for name in found.files if name.startswith("thumbnails/")]
    assert len(small) == len(cells)
    assert all(b"seed" not in found.files[name] for name in small)


def test_the_same_run_gives_the_same_bytes(micro, sent, tmp_path):
    again = tmp_path / sent.name
    run(["submission", "make", str(micro), "--out", str(again), "--by", "A. Author"])
    assert again.read_bytes() == sent.read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["results/nowhere", "--out", "x.perfbench.tar.xz"], "is not a run folder"),
        ([str(kit.RUN), "--out", "x.zip"], "a name that ends in .perfbench.tar.xz"),
        ([str(kit.RUN), "--out", ".perfbench.tar.xz"], "the name before the suffix"),
        ([str(kit.RUN), "--out", "x.perfbench.tar.xz", "--by", "a\nb"], "printed characters"),
    ],
)
def test_a_mistake_in_make_is_a_sentence(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        run(["submission", "make", *words])
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_not_packed(micro, tmp_path):
    half = shutil.copytree(micro, tmp_path / "half")
    next(half.glob("rows/*/perfusion/*/cat.csv")).unlink()
    with pytest.raises(UserError, match="planned images have no score"):
        run(["submission", "make", str(half), "--out", str(tmp_path / "h.perfbench.tar.xz")])


def told_more(micro, folder, **more):
    """A run whose run.json has some other texts."""
    run_folder = shutil.copytree(micro, folder)
    about = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps({**about, **more}))
    return run_folder


def test_paths_of_a_machine_are_not_sent(micro, tmp_path):
    argv = ["run", "--out", "/data/somebody/mine", "--set", "x=C:\\Users\\somebody\\y.z", "a/b"]
    failures = [{"error": "no file:///srv/somebody/cat.png, see https://example.org/a/b"}]
    more = {"argv": argv, "failures": failures}
    run_folder = told_more(micro, tmp_path / "run", **more)
    out = tmp_path / "theirs.perfbench.tar.xz"
    run(["submission", "make", str(run_folder), "--out", str(out)])
    sent = read_submission(out)
    about = sent.json("run.json")
    assert about["argv"] == ["run", "--out", "mine", "--set", "x=y.z", "a/b"]
    assert about["failures"] == [{"error": "no cat.png, see https://example.org/a/b"}]
    assert not [text for text in texts_in(about) if leak(text)]
    assert not any(b"somebody" in data or b"~/" in data for data in sent.files.values())
    assert verify(out) == 0


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("hf_" + "aB3" * 10, "a token or a password"),
        ("password=correcthorse", "a token or a password"),
        ("https://me:secret@hub.example/x", "an address with a password"),
    ],
)
@pytest.mark.parametrize("part", ["argv", "commands", "notes"])
def test_a_token_in_run_json_is_refused(part, word, why, micro, tmp_path):
    words = ["run", "--set", word]
    value = {"argv": words, "commands": [{"argv": words}], "notes": {word: "mine"}}[part]
    run_folder = told_more(micro, tmp_path / "run", **{part: value})
    out = tmp_path / "theirs.perfbench.tar.xz"
    with pytest.raises(UserError, match=r"run\.json would publish") as found:
        run(["submission", "make", str(run_folder), "--out", str(out)])
    assert why in str(found.value) and word not in str(found.value)
    assert not out.exists()


# ---- verdicts ----


def test_rows_without_pictures_earn_recomputed(tmp_path):
    """By the command itself; its JSON is what a workflow reads."""
    archive = kit.place(tmp_path, kit.real_archive())
    done = perfbench("submission", "verify", str(archive), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"], found["told"]) == (0, "recomputed", [])
    assert (found["images"], found["cells"], found["by"]) == (360, 180, "A. Author")
    assert "no cell was drawn again" in found["why"]


def test_a_mistake_of_whoever_checks_is_no_verdict(tmp_path):
    archive = kit.place(tmp_path, kit.real_archive())
    done = perfbench("submission", "verify", str(tmp_path / "none.perfbench.tar.xz"))
    assert done.returncode == 2 and "there is no" in done.stderr
    with pytest.raises(UserError, match="are of --redraw N"):
        run(["submission", "verify", str(archive), "--trained", str(tmp_path)])
    with pytest.raises(UserError, match="is a folder"):
        run(["submission", "verify", str(tmp_path)])
    with pytest.raises(UserError, match="there is no such folder"):
        run(["submission", "verify", str(archive), "--redraw", "5", "--trained", "nowhere"])
    with pytest.raises(UserError, match="a run folder with its fits/"):
        words = ["submission", "verify", str(archive), "--redraw", "5"]
        run([*words, "--trained", str(kit.RUN)])
    with pytest.raises(UserError, match="no such folder or file"):
        run(["submission", "verify", str(archive), "--backbone", "nowhere"])


def test_a_verdict_is_written_for_the_board(tmp_path, capsys):
    archive = kit.place(tmp_path, kit.real_archive())
    beside = tmp_path / f"{archive.name}.verdict.json"
    assert run(["submission", "verify", str(archive), "--verdict", str(beside)]) == 0
    assert json.loads(beside.read_text())["sha256"] == read_submission(archive).sha256
    assert capsys.readouterr().out.splitlines()[-1].startswith("recomputed (")


def test_what_nobody_here_can_tell_is_said(sent, capsys):
    """A backbone and a suite of one's own, which whoever checks has not named."""
    with_scorer = ["--scorers", str(shared() / "tiny" / "scorer")]
    status = run(["submission", "verify", str(sent), *with_scorer])
    said = capsys.readouterr().out
    assert status == 1 and "is another than those known here" in said  # its name has the place's
    assert verify(sent, "--json") == 0
    assert json.loads(capsys.readouterr().out)["told"] == []


# ---- drawn again ----


def test_a_run_that_is_drawn_again_is_verified(micro, sent, tmp_path, capsys):
    """On the same machine every pixel comes back."""
    assert verify(sent, "--trained", micro, "--redraw", 5, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "verified" and set(found["redrawn"]) == {"super", "perfusion"}
    assert sum(of["cells"] for of in found["redrawn"].values()) == 5
    assert all(of["cells"] == of["same_bytes"] for of in found["redrawn"].values())


def test_forged_rows_that_fit_their_tables_are_found_by_a_redraw(micro, tmp_path, capsys):
    """Every image similarity of a method a little better, before it is packed by the command."""
    better = shutil.copytree(micro, tmp_path / "better")
    for file in better.glob("rows/*/perfusion/*/*.csv"):
        lines = file.read_text().splitlines(keepends=True)[:-1]
        head = lines[0].rstrip("\n").split(",")
        at = head.index("image_sim")
        rows = [line.rstrip("\n").split(",") for line in lines[1:]]
        for row in rows:
            row[at] = f"{float(row[at]) + 0.02:.6f}" if row[at] else ""
        body = "".join([lines[0], *(",".join(row) + "\n" for row in rows)]).encode()
        file.write_bytes(kit.with_digest(body))
    archive = tmp_path / "better.perfbench.tar.xz"
    run(["submission", "make", str(better), "--out", str(archive)])
    assert verify(archive) == 0
    assert verify(archive, "--trained", micro, "--redraw", 8) == 1
    said = capsys.readouterr().out
    assert "was drawn again byte for byte, and its image_sim is -0.02" in said


def test_other_trained_files_than_it_tells_are_refused(micro, sent, tmp_path, capsys):
    """A folder METHOD/CONCEPT/ with its own files, then with one bit of one of them turned."""
    for name in ("cat", "teapot"):
        [fit] = micro.glob(f"fits/perfusion/{name}-*")
        shutil.copytree(fit, tmp_path / "files" / "perfusion" / name)
    assert verify(sent, "--trained", tmp_path / "files", "--redraw", 4) == 0
    [concept] = (tmp_path / "files" / "perfusion" / "cat").glob("*.safetensors")
    changed = bytearray(concept.read_bytes())
    changed[-1] ^= 1
    concept.write_bytes(bytes(changed))
    (tmp_path / "files" / "perfusion" / "cat" / "fit.json").unlink()
    (tmp_path / "files" / "perfusion" / "teapot" / "fit.json").unlink()
    capsys.readouterr()
    with_all = ["--trained", tmp_path / "files", "--redraw", 8]
    assert verify(sent, *with_all) == 1
    assert "are not those whose digest it tells" in capsys.readouterr().out


def test_without_trained_files_only_the_floor_is_drawn_again(sent, capsys):
    assert verify(sent, "--redraw", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "recomputed" and found["why"] == "not drawn again: perfusion"
    assert list(found["redrawn"]) == ["super"]


def test_a_number_chooses_the_sample(sent):
    from benchmarks.exchange.submissions.checked_submission import Asked
    from benchmarks.exchange.submissions.redraw import choose
    from benchmarks.exchange.submissions.submitted_rows import planned_cells

    found = read_submission(sent)
    rows = planned_cells(found.files["plan.csv"], found.json("run.json"))
    methods = ("super", "perfusion")
    one, same, other = (choose(rows, methods, Asked(5, seed=seed)) for seed in (3, 3, 4))
    assert one == same and one.rows != other.rows
    unknown = choose(rows, methods, Asked(5))
    assert {row.method for row in unknown.rows} == {*methods} and len(set(unknown.rows)) == 5
    with pytest.raises(UserError, match="at least a cell a method"):
        choose(rows, methods, Asked(1))


# ---- the limits ----


def cells_apart(values, same=None):
    return [Compared("m", f"cell {n}", [("image_sim", v)], same) for n, v in enumerate(values)]


def test_low_bits_pass_and_a_shift_of_all_cells_does_not():
    honest = [0.01, -0.012, 0.004, -0.006, 0.0, 0.009, -0.004, 0.002]
    assert judge(cells_apart(honest), False, 0)["m"]["cells"] == 8
    shift = 1.05 * SURE * CELL / len(honest) ** 0.5
    with pytest.raises(Refused, match="on average"):
        judge(cells_apart([value + shift - np.mean(honest) for value in honest]), False, 0)
    with pytest.raises(Refused, match="another machine's"):
        judge(cells_apart([0.0, PICTURE + 0.001]), False, 0)


def test_bytes_have_to_come_back_where_all_is_the_same():
    assert judge(cells_apart([0.0, 0.0], True), True, 0)["m"]["same_bytes"] == 2
    with pytest.raises(Refused, match="another picture than the one that was scored"):
        judge(cells_apart([0.0, 0.0], False), True, 0)
    with pytest.raises(Refused, match="byte for byte"):
        judge(cells_apart([0.001], True), False, 0)


def test_the_committed_run_is_what_its_rows_say():
    """The independent way: means of rows, without the tables' code."""
    rows = read_rows(kit.RUN)
    rows = rows[(rows["method"] == "cd") & (rows["kind"] == "shape")]
    each = rows.groupby(["concept", "prompt_id"])["image_sim"].mean().groupby("concept").mean()
    table = read_table(kit.RUN, "table")
    assert abs(table.loc[table["method"] == "cd", "image_sim"].iloc[0] - each.mean()) < 1e-6
