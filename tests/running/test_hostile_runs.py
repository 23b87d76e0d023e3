"""A run that somebody else made: nothing outside of it is read or written, whatever its files
say.
"""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hostile_kit import NAMES, command, content, make_victim, refused, untouched
from made_run import LOCAL, make_run
from run_kit import arguments, copy_of_reference, reference, run_here, shared

from benchmarks.disk import digests_of
from benchmarks.store.csv_files import PLAN_ROW, ROW, planned_text, rows_text
from benchmarks.store.reading import read_planned, read_rows
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

READERS = {  # every verb that reads a run without its models
    "table": ["table", "RUN"],
    "view": ["table", "RUN", "--by", "prompt"],
    "report": ["report", "RUN"],
    "pareto": ["plot", "pareto", "RUN"],
    "gallery": ["plot", "gallery", "RUN"],
    "check": ["check", "RUN", "--against", "OTHER"],
    "checked against": ["check", "OTHER", "--against", "RUN"],
    "attention": ["attention", "RUN"],
    "score": ["score", "RUN"],
    "study": ["study", "export", "RUN", "--study", "realism", "--out", "STUDY"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run with pictures; read only."""
    run = tmp_path_factory.mktemp("made") / "run"
    make_run(
        run,
        {"perfusion": LOCAL[:1], "cd": ("default",)},
        ["cat", "teapot"],
        prompts=2,
        images=1,
        size=16,
    )
    return run


@pytest.fixture
def there(made, tmp_path, monkeypatch):
    """A copy of it as it was downloaded, with a folder of the user beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "downloads" / "run")
    make_victim(tmp_path / "victim")
    return tmp_path / "downloads" / "run"


@pytest.fixture
def perfbench(there, made, tmp_path, monkeypatch, capsys):
    """-> what a verb says of the run, which ends with 2; or its status."""
    places = {"RUN": there, "OTHER": made, "STUDY": tmp_path / "study"}

    def call(verb, refuse=True):
        words = [places.get(word, word) for word in READERS[verb]]
        with untouched(tmp_path / "victim"):
            return (refused if refuse else command)(monkeypatch, capsys, *words)

    return call


def edit(run: Path, change) -> None:
    about = json.loads((run / "run.json").read_text())
    change(about)
    (run / "run.json").write_text(json.dumps(about))


# ---- run.json ----


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("schema", [1, None])
def test_every_reader_checks_the_version_of_run_json(there, perfbench, verb, schema):
    edit(there, lambda about: about.update(schema=schema))
    assert f"run.json is of schema {schema!r}, and only schema 2" in perfbench(verb)


@pytest.mark.parametrize("kind", NAMES)
def test_a_scorer_in_run_json_is_no_path(there, perfbench, kind):
    edit(there, lambda about: about["scorers"][0].update(name=NAMES[kind]))
    for verb in ("table", "score"):
        assert "run.json is missing or damaged" in perfbench(verb)


DAMAGE = {
    "a list": lambda about: about.clear(),
    "no scorers": lambda about: about.pop("scorers"),
    "scorers without one": lambda about: about.update(scorers=[]),
    "a scorer that is a text": lambda about: about.update(scorers=["clip"]),
    "digests that are a list": lambda about: about.update(digests=[]),
    "concepts that are a text": lambda about: about["digests"].update(concepts="cat"),
    "a config that is a text": lambda about: about.update(config="paper"),
    "methods that are a list": lambda about: about.update(methods=["cd"]),
    "a method with a path": lambda about: about.update(methods={"../cd": {}}),
    "weights that are a number": lambda about: about.update(weights=5),
    "commands that are an object": lambda about: about.update(commands={}),
    "units of a number": lambda about: about["units"].update(cells=5),
    "trained files that are a number": lambda about: about["config"].update(trained=5),
    "trained files of numbers": lambda about: about["config"].update(trained=[5]),
    "a method that is a number": lambda about: about.update(methods={"cd": 5}),
    "a method's config that is a number": lambda about: about.update(methods={"cd": {"config": 5}}),
    "a command that is a number": lambda about: about.update(commands=[5]),
    "a command's words that are a number": lambda about: about.update(commands=[{"argv": 5}]),
    "a command's config that is a number": lambda about: about.update(commands=[{"config": 5}]),
    "words that are numbers": lambda about: about.update(argv=[5]),
    "weights of a number": lambda about: about.update(weights={"cd": 5}),
    "a backbone that is a number": lambda about: about["backbone"].update(id=5),
    "a backbone with an escape": lambda about: about["backbone"].update(id="a\x1b[2J"),
    "a start that is a number": lambda about: about.update(started=5),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_json_is_one_sentence(there, perfbench, kind):
    edit(there, DAMAGE[kind])
    assert "run.json" in perfbench("table") and "run.json" in perfbench("checked against")


def test_a_damaged_run_hides_no_other(there, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.store.reading.RESULTS", there.parent)
    edit(there, lambda about: about["units"].update(cells=5))
    assert command(monkeypatch, capsys, "ls", "runs") == (0, "")


# ---- plan.csv ----


@pytest.mark.parametrize("column", ["method", "point", "concept", "prompt_id", "key", "fit"])
@pytest.mark.parametrize("kind", NAMES)
def test_a_plan_names_no_place_outside(there, perfbench, kind, column):
    plan = read_planned(there)
    plan[1][column] = NAMES[kind]
    (there / "plan.csv").write_text(planned_text(plan))
    for verb in ("table", "study"):
        assert "plan.csv is missing or damaged" in perfbench(verb), verb


@pytest.mark.parametrize(
    "text",
    ["", "method\n\0\n", "a,b\n1,2\n", ",".join(PLAN_ROW) + "\n" + "x," * 20 + "\n",
     ",".join(PLAN_ROW) + "\n" + ",".join(["x"] * 6 + ["²"] + ["x"] * 5) + "\n",
     ",".join(PLAN_ROW) + "\n" + ",".join(["x"] * 6 + ["9" * 5000] + ["x"] * 5) + "\n", "\udcff"],
)  # fmt: skip
def test_a_plan_that_is_nonsense_is_one_sentence(there, perfbench, text):
    (there / "plan.csv").write_text(text, errors="surrogateescape")
    for verb in ("table", "report"):
        assert perfbench(verb, refuse=False)[0] == 2, verb


# ---- rows ----


@pytest.mark.parametrize("column", ["method", "point", "concept", "prompt_id"])
@pytest.mark.parametrize("kind", ["up", "absolute", "300 characters", "device"])
def test_rows_are_those_of_their_plan(there, perfbench, kind, column):
    """Their digest is right: whoever wrote the names wrote it, too."""
    file = next(
        path for path in sorted((there / "rows").rglob("cat.csv")) if "real" not in path.parts
    )
    rows = list(csv.DictReader(file.read_text().splitlines()[:-1]))
    n = len(read_rows(there))
    file.write_text(rows_text([{**row, column: NAMES[kind]} for row in rows]))
    assert len(read_rows(there)) == n - len(rows)
    assert "planned images have no score" in perfbench("table")


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"\xff\xfe", b"a,b\n1,2\n", (",".join(ROW) + "\n" + "x," * 10 + "x\n").encode()],
)
def test_rows_of_nonsense_count_as_absent(there, perfbench, body):
    file = next(
        path for path in sorted((there / "rows").rglob("cat.csv")) if "real" not in path.parts
    )
    n = len(read_rows(there))
    file.write_bytes(body + b"# sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n")
    assert 0 < len(read_rows(there)) < n
    assert "planned images have no score" in perfbench("table")


# ---- tables and manifests ----


@pytest.mark.parametrize("kind", ["up", "absolute", "300 characters", "NUL", "device"])
@pytest.mark.parametrize("table", ["table.csv", "cells.csv", "metrics.csv"])
def test_tables_lead_nowhere(there, perfbench, table, kind):
    text = (there / table).read_text()
    (there / table).write_text(text.replace("\ncd,", f'\n"{NAMES[kind]}",'))
    for verb in ("report", "gallery"):
        status, _ = perfbench(verb, refuse=False)
        assert status in (0, 2)


LINKS = [
    "images",
    "rows",
    "fits",
    "concepts",
    "failed",
    ".tmp",
    "figures",
    "attention",
    "run.json",
    "plan.csv",
    "table.csv",
    "cells.csv",
    "metrics.csv",
    ".lock",
    "index.html",
    ".index.html.tmp",
    "check.toml",
    "figures/pareto.svg",
    "figures/pareto.png",
]


@pytest.mark.parametrize("name", LINKS)
def test_links_out_of_a_run_are_not_followed(there, perfbench, tmp_path, name):
    """Neither to read what they lead to nor to write there."""
    victim, link = tmp_path / "victim", there / name
    folder = link.is_dir() or name in ("failed", ".tmp", "figures", "attention")
    shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim if folder else victim / "table.csv")
    for verb in ("table", "pareto", "gallery", "report", "checked against"):
        status, _ = perfbench(verb, refuse=False)
        assert status in (0, 1, 2), verb
    assert content(victim) and (victim / "secret").read_text() == "precious"


def test_a_picture_that_is_a_link_is_not_shown(there, perfbench, tmp_path):
    for picture in [*there.glob("images/*/*/cat/*/0.png"), *there.glob("concepts/cat/*.png")]:
        shutil.copyfile(picture, tmp_path / "victim" / "0.png")
        picture.unlink()
        picture.symlink_to(tmp_path / "victim" / "0.png")
    for verb in ("report", "gallery", "study"):
        status, _ = perfbench(verb, refuse=False)
        assert status in (0, 2)


def test_what_is_written_aside_follows_no_link(there, tmp_path):
    """The place of a file that is half written can be foretold."""
    from benchmarks.digests import digest

    (there / ".tmp").mkdir(exist_ok=True)
    for name in ("run.json", "table.csv"):
        (there / ".tmp" / digest(name)).symlink_to(tmp_path / "victim" / "secret")
    with pytest.raises(UserError, match="leads out"):
        Store(there).write_text(there / "table.csv", "x")
    assert (tmp_path / "victim" / "secret").read_text() == "precious"


# ---- with models ----


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A working directory as the user has it, and his folder."""
    monkeypatch.chdir(tmp_path)
    return make_victim(tmp_path / "victim")


def test_run_sweeps_no_folder_of_the_user(beside, tmp_path):
    out = copy_of_reference(tmp_path / "run")
    shutil.rmtree(out / ".tmp", ignore_errors=True)
    (out / ".tmp").symlink_to(beside)
    with (
        untouched(beside),
        pytest.raises(UserError, match=r"/\.tmp/.* follows a link that leads out"),
    ):
        run_here(shared(), out)


def test_trained_files_overwrite_nothing(beside, tmp_path, monkeypatch, capsys):
    """A file of the same name that lies as far above the run folder as above the downloaded one was
    replaced by it.
    """
    place = tmp_path / "dl" / "a" / "b" / "c" / "place"
    shutil.copytree(next(reference().glob("fits/perfusion/cat-*")), place / "cat")
    (place.parents[1] / "victim").mkdir()
    (place.parents[1] / "victim" / "secret").write_text("the attacker's")
    about = json.loads((place / "cat" / "fit.json").read_text())
    about["files"]["../../../victim/secret"] = digests_of(place.parents[1] / "victim")["secret"]
    (place / "cat" / "fit.json").write_text(json.dumps(about))
    out = tmp_path / "run"  # RUN/.tmp/<key>/../../../victim/secret is the user's
    words = [
        "run",
        *arguments(shared(), out),
        "--concepts",
        "cat",
        "--trained",
        f"perfusion={place}",
    ]
    with untouched(beside):
        assert "is damaged" in refused(monkeypatch, capsys, *words)
    assert not out.exists()


@pytest.mark.parametrize("kind", NAMES)
def test_trained_files_have_names_of_their_folder(beside, tmp_path, monkeypatch, capsys, kind):
    place = tmp_path / "place"
    shutil.copytree(next(reference().glob("fits/perfusion/cat-*")), place / "cat")
    about = json.loads((place / "cat" / "fit.json").read_text())
    about["files"][NAMES[kind]] = digests_of(beside)["secret"]
    (place / "cat" / "fit.json").write_text(json.dumps(about))
    words = [
        "run",
        *arguments(shared(), tmp_path / "run"),
        "--concepts",
        "cat",
        "--trained",
        f"perfusion={place}",
    ]
    with untouched(beside):
        assert "is damaged" in refused(monkeypatch, capsys, *words)


def test_trained_files_that_are_links_are_not_copied(beside, tmp_path, monkeypatch, capsys):
    place = tmp_path / "place"
    shutil.copytree(next(reference().glob("fits/perfusion/cat-*")), place / "cat")
    (place / "cat" / "fit.json").unlink()
    (place / "cat" / "mine.txt").symlink_to(beside / "secret")
    words = [
        "run",
        *arguments(shared(), tmp_path / "run"),
        "--concepts",
        "cat",
        "--trained",
        f"perfusion={place}",
    ]
    assert "leads out" in refused(monkeypatch, capsys, *words)


@pytest.mark.parametrize("kind", ["up", "absolute", "300 characters", "NUL"])
def test_a_cell_with_other_files_is_not_scored(beside, tmp_path, capsys, kind):
    from benchmarks.running.rescore import scorable

    out = copy_of_reference(tmp_path / "run")
    whole = len(scorable(Store(out))[0])
    manifest = next(out.glob("images/perfusion/*/cat/*/cell.json"))
    about = json.loads(manifest.read_text())
    about["files"][NAMES[kind]] = digests_of(beside)["secret"]
    manifest.write_text(json.dumps(about))
    other = next(out.glob("images/super/*/cat/*/cell.json"))
    other.write_text(json.dumps({**json.loads(other.read_text()), "seeds": "01"}))
    with untouched(beside):
        cells, gone = scorable(Store(out))
    assert (len(cells), gone) == (whole - 2, 2)


def test_a_run_mends_its_own_folder(tmp_path, monkeypatch):
    """run.json and fit.json without their keys stopped `run` itself."""
    out = copy_of_reference(tmp_path / "run")
    before = {
        name: data for name, data in content(out).items() if name.endswith((".png", "samples.csv"))
    }
    fit = next(out.glob("fits/perfusion/cat-*/fit.json"))
    about = json.loads(fit.read_text())
    del about["files"]
    fit.write_text(json.dumps(about))
    edit(out, lambda told: told.pop("digests"))
    assert run_here(shared(), out) == 0
    assert {name: data for name, data in content(out).items() if name in before} == before
