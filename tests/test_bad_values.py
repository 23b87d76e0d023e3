"""Every verb over one table of bad values: one sentence, no traceback, nothing written.

In: words as a user types them, with places for the words in capitals. Out: exit status 2 and one
line, and a folder in which every byte is as before.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_concept
from hostile_kit import command, content, make_victim, refused
from made_run import LOCAL, make_run
from run_kit import ROOT, copy_of_reference, environment, run_here, shared, small_file_system

from benchmarks.cli import run as run_words

SMALL = "--backbone TINY --device cpu --dtype float32"
RUN = f"--preset micro --suite CONCEPTS --threads 1 {SMALL}"
FIT = f"fit perfusion --concept CAT --set batch=4 --steps 2 {SMALL}"
DRAW = f"generate 'A cat' -n 1 --steps 2 {SMALL}"
CONCEPT = f"generate 'A {{cat}}' --concept cat=CATFILE -n 1 --steps 2 --out NEW {SMALL}"
STUDY = "study export MADE --study realism --methods perfusion,super --responses 1"

# a place that cannot be written: a file, below a file, a folder that nobody can make one in
NO_FOLDER = ["FILE", "FILE/x", "/proc/x", "/proc/x/y"]
NO_FILE = ["FILE/x.png", "/proc/x.png", "/proc/x/y.png", f"NEW/{'a' * 300}.png"]

TABLE = [
    # ---- places ----
    *(f"run {RUN} --out {place}" for place in NO_FOLDER),
    *(f"tune --suite CONCEPTS --backbone TINY --methods ti --out {place}" for place in NO_FOLDER),
    *(f"{DRAW} --out {place}" for place in NO_FOLDER),
    *(f"{FIT} --out {place}/cat.safetensors" for place in ("FILE", "FILE/x", "/proc", "/proc/x")),
    *(f"fit ti --concept CAT --set batch=4 --steps 2 {SMALL} --out {place}" for place in NO_FOLDER),
    *(f"plot pareto MADE --out {place}" for place in NO_FILE),
    *(f"plot gallery MADE --out {place}" for place in NO_FILE[:3]),
    *(f"report MADE --out {place}" for place in ("FOLDER", "FILE/x.html", "FILE/x/y.html")),
    *(f"{STUDY} --out {place}" for place in NO_FOLDER),
    *(
        f"concepts add PHOTOS --super-category cat --name mine --dest {place}"
        for place in NO_FOLDER
    ),
    *(f"concepts import folder:SUITE --dest {place}" for place in NO_FOLDER),
    *(f"masks cat --suite CONCEPTS --show {place}" for place in ("FOLDER", *NO_FILE)),
    *(f"miniature show 'a dog' --n 1 --out {place}" for place in ("FOLDER", *NO_FILE)),
    "miniature build --out FILE",
    "miniature build --out /proc/x",
    "miniature verify --looked FILE",
    "miniature verify --quick --out FILE",
    "miniature restyle oil --out FILE",
    "miniature contrastive --out FILE",
    "covariance --backbone TINY --captions FOLDER",
    "covariance --backbone TINY --captions NOWHERE.txt",
    "covariance --backbone FILE --captions WORDS",
    "covariance --backbone TINY --captions WORDS --limit 0",
    "covariance --backbone TINY --captions WORDS --limit -1",
    "covariance --backbone TINY --captions WORDS --batch 0",
    "covariance --backbone TINY --captions WORDS --batch -1",
    # ---- a folder where a file is wanted, and the reverse ----
    f"run {RUN} --out NEW --config FOLDER",
    f"run {RUN} --out NEW --config FILE",
    f"run {RUN} --out NEW --config NOWHERE",
    f"run {RUN} --out NEW --method-file FOLDER",
    f"run {RUN} --out NEW --method-file NOWHERE.py",
    f"run {RUN} --out NEW --method-file FILE",
    f"run {RUN} --out NEW --trained perfusion=FILE",
    f"run {RUN} --out NEW --trained perfusion=NOWHERE",
    f"run {RUN} --out NEW --trained perfusion",
    f"run {RUN} --out NEW --masks FILE",
    f"run {RUN} --out NEW --masks NOWHERE",
    f"run {RUN} --out NEW --suite FILE",
    f"run {RUN} --out NEW --suite NOWHERE",
    f"run {RUN} --out NEW --backbone FILE",
    f"run {RUN} --out NEW --backbone FOLDER",
    f"run {RUN} --out NEW --scorers FOLDER",
    f"run {RUN} --out NEW --scorers FILE",
    f"{DRAW.replace('TINY', 'FILE')} --out NEW",
    f"{DRAW.replace('TINY', 'FOLDER')} --out NEW",
    CONCEPT.replace("CATFILE", "FILE"),
    CONCEPT.replace("CATFILE", "FOLDER"),
    CONCEPT.replace("CATFILE", "NOWHERE"),
    CONCEPT.replace("CATFILE", "owner/nowhere"),
    CONCEPT.replace("CATFILE", "owner/nowhere@v1"),
    CONCEPT.replace("CATFILE", "owner/no..where"),
    *(f"{verb} FILE" for verb in ("table", "report", "score", "attention", "plot pareto")),
    *(f"{verb} FOLDER" for verb in ("table", "report", "score", "attention", "plot pareto")),
    *(f"{verb} NOWHERE" for verb in ("table", "report", "score", "attention", "plot pareto")),
    "submission make NOWHERE --out NEW.perfbench.tar.xz",
    "submission make FILE --out NEW.perfbench.tar.xz",
    "submission make MADE --out NEW.zip",
    "submission make MADE --out FILE/x.perfbench.tar.xz",
    "submission make MADE --out /proc/x.perfbench.tar.xz",
    "submission make MADE --out NEW.perfbench.tar.xz --thumbnails -1",
    "submission verify NOWHERE",
    "submission verify FOLDER",
    "submission verify FILE --redraw -1",
    "submission verify FILE --trained FOLDER",
    "submission verify FILE --sample 3",
    "submission",
    *(f"board MADE --out {place}" for place in NO_FOLDER),
    "board NOWHERE --out NEW",
    "board FILE --out NEW",
    "board NOWHERE.perfbench.tar.xz --out NEW",
    "board MADE MADE --out NEW",
    "check MADE --against FILE",
    "check FILE --against MADE",
    "study export FILE --study realism --out NEW",
    "study serve FILE",
    "study serve FOLDER",
    "study serve NOWHERE",
    "study analyse FILE",
    "view FILE",
    "view FOLDER",
    "view NOWHERE",
    "view MADE --bundle FILE",
    "view MADE --bundle MADE",
    "study analyse FOLDER",
    "study analyse NOWHERE",
    "concepts add FILE --super-category cat --name mine --dest NEW",
    "concepts add NOWHERE --super-category cat --name mine --dest NEW",
    "concepts adopt cat FILE --dest NEW",
    "concepts import folder:FILE --dest NEW",
    "concepts import folder:NOWHERE --dest NEW",
    "ls concepts --suite FILE",
    "ls concepts --suite folder:FILE",
    "catalog check --suite FILE",
    "catalog check --suite NOWHERE",
    "catalog check --suite CONCEPTS --backbone FILE",
    "masks FILE",
    "masks NOWHERE --suite CONCEPTS",
    "masks cat --suite CONCEPTS --model FILE",
    "miniature show 'a dog' --weights FILE --out NEW.png",
    "miniature show 'a dog' --weights NOWHERE --out NEW.png",
    # ---- numbers out of range ----
    *(
        f"run {RUN} --out NEW --set {setting}"
        for setting in (
            "steps=0",
            "steps=-1",
            "steps=1001",
            "steps=nan",
            "steps=1e3",
            "steps=100000000000",
            "images=0",
            "images=-1",
            "images=nan",
            "images=1e3",
            "guidance=nan",
            "guidance=inf",
            "guidance=-5",
            "guidance=1e308",
            "seed=-1",
            "seed=100000000000000000000000",
            "seed=18446744073709551616",
            "train_steps=-1",
            "prior_images=0",
            "validate_every=0",
            "rows=-1",
            "workers=-1",
            "threads=-1",
            "threads=100000",
            "keep=-1",
            "keep=x",
            "fit.perfusion.steps=0",
            "fit.perfusion.steps=-1",
            "fit.perfusion.batch=0",
            "fit.perfusion.batch=-1",
            "fit.perfusion.lr_embedding=-1",
            "fit.perfusion.images=-1",
            "fit.perfusion.lr_embedding=nan",
            "fit.perfusion.steps=1e3",
            "fit.zzz.steps=1",
            "points.perfusion=local-b0.6-t0",
            "points.perfusion=local-b0.6-t-1",
            "points.perfusion=local-bnan",
            "points.perfusion=local-b99999999",
            "points.perfusion=b",
            "points.zzz=default",
            "zzz=1",
            "images",
            "=1",
        )
    ),
    f"plan {RUN} --set steps=1001",
    f"plan {RUN} --set points.perfusion=local-b0.6-t0",
    f"plan {RUN} --set fit.perfusion.steps=0",
    f"plan {RUN} --prompts 0",
    f"plan {RUN} --methods ''",
    f"run {RUN} --out NEW --device cuda:99",
    f"run {RUN} --out NEW --device cpu:99",
    *(
        f"{DRAW} --out NEW {flag}"
        for flag in (
            "-n 0",
            "-n -1",
            "-n x",
            "--steps 0",
            "--steps -1",
            "--steps 1001",
            "--steps 1e3",
            "--guidance nan",
            "--guidance inf",
            "--guidance -5",
            "--guidance 1e308",
            "--seed -1",
            "--seed 18446744073709551616",
            "--seed 18446744073709551615 -n 2",
            "--seed x",
            "--device cpu:99",
            "--dtype float8",
            "--backbone ''",
            "--scheduler zzz",
            "--scheduler ''",
            "--size 0",
            "--size 7",
            "--size 512x",
            "--size x512",
            "--size 16x16x16",
            "--size 99999",
            "--size 17",
            "--size 16.5",
            "--negative 'a {cat}'",
            "--negative 'a {'",
            "--negative snow --guidance 1",
            "--bias 0.3:1.0:8",
        )
    ),
    *(
        f"{CONCEPT} {flag}"
        for flag in (
            "--bias 0.3:1.0",
            "--bias 0.3:1.0:8:2",
            "--bias 0.3:1.0:x",
            "--bias 0.3:1.0:1",
            "--bias 0.3:1.0:0",
            "--bias 0.3:1.0:-3",
            "--bias 0.3:1.0:65",
            "--bias 0.3:0.3:4",
            "--bias 0.3:0.30001:4",
            "--bias nan:1.0:4",
            "--bias 0.3:inf:4",
            "--bias 0.3:99:4",
            "--bias :::",
            "--bias dog=0.3:1.0:8",
            "--bias cat=0.3:1.0:8,dog=0.3:1.0:8",
            "--bias cat=",
            "--concept dog=owner/dog",
            "--concept cat=owner/cat",
            "--bias nan",
            "--bias inf",
            "--bias dog=0.5",
            "--temperature 0",
            "--temperature -1",
            "--temperature nan",
            "--bias 1e308",
            "--lock foo",
        )
    ),
    *(
        f"{FIT} --out NEW.safetensors {flag}"
        for flag in (
            "--steps 0",
            "--steps -1",
            "--steps x",
            "--set batch=0",
            "--set lr_embedding=-1",
            "--set lr_embedding=nan",
            "--set zzz=1",
            "--set images=-1",
            "--seed -1",
            "--seed 18446744073709551616",
            "--masks NOWHERE",
            "--suite NOWHERE",
        )
    ),
    *(
        f"fit perfusion --suite CONCEPTS --concept {both} --out NEW.safetensors {SMALL}"
        for both in ("cat,teapot", "all")
    ),
    *(
        f"generate '{prompt}' --concept cat=CATFILE -n 1 --steps 2 --out NEW {SMALL}"
        for prompt in (
            "A cat",
            "A {cat",
            "A {cat} in a {",
            "A {cat} {}",
            "A {{cat}}",
            "",
            "A {dog}",
            "A {cat} and a {dog}",
            "{cat!r}",
        )
    ),
    f"fit super --concept CAT --out NEW {SMALL}",
    f"fit zzz --concept CAT --out NEW {SMALL}",
    f"fit perfusion --concept cat --out NEW.safetensors {SMALL} --suite FILE",
    "view MADE --port -1",
    "view MADE --port 99999",
    "view MADE --port abc",
    "view MADE --bundle NEW --port 0",
    "view MADE --images 2",
    "view MADE --bundle NEW --images 0",
    "view MADE --bundle NEW --side 0",
    "view MADE --bundle NEW --side 9999",
    "view MADE MADE",
    "study serve STUDIED --port -1",
    "study serve STUDIED --port 99999",
    "study serve STUDIED --port abc",
    "study serve STUDIED --host ''",
    *(
        f"{STUDY} --out NEW {flag}"
        for flag in (
            "--responses 0",
            "--responses -1",
            "--session 0",
            "--qualify -1",
            "--pass-mark -1",
            "--repeats -1",
            "--methods zzz",
            "--responses 1e3",
        )
    ),
    *(f"study analyse STUDIED --min-agreement {n}" for n in ("nan", "inf", "-1", "5", "x")),
    *(f"plot gallery MADE --out NEW.png --images {n}" for n in ("0", "-1", "x", "nan", "99")),
    "plot zzz MADE",
    "plot gallery MADE --concepts zzz --out NEW.png",
    "plot pareto MADE --concepts cat --out NEW.png",
    "plot per-concept MADE --prompts s01 --out NEW.png",
    "plot attention MADE --methods perfusion --out NEW.png",
    "plot pareto MADE --images 2 --out NEW.png",
    f"plan {RUN} --methods cd --set points.cd=strength=0.5",
    f"plan {RUN} --methods ti --set points.ti=b0.60",
    f"plan {RUN} --set points.perfusion=strength=0.5",
    "plan --preset micro --suite CONCEPTS --backbone miniatur",
    f"run {RUN} --out NEW --limit 0",
    f"run {RUN} --out NEW --max-failures -1",
    "table MADE --json --csv",
    "clean NOWHERE",
    "ls concepts --suite ''",
    "plan --preset quick --suite CONCEPTS --backbone TINY",
    "plot pareto MADE --out NEW.txt",
    "plot pareto MADE --out FOLDER",
    "table MADE --by zzz",
    "check MADE --against MADE --margins zzz",
    "check MADE --against MADE --format zzz",
    "miniature show 'a dog' --n 0 --out NEW.png",
    "miniature show 'a dog' --n -1 --out NEW.png",
    "miniature show 'a dog' --seed -1 --out NEW.png",
    "miniature show 'a dog' --seed 18446744073709551616 --out NEW.png",
    "miniature show 'a zebra' --n 1 --out NEW.png",
    "miniature build --out NEW --minutes nan",
    "miniature build --out NEW --minutes -1",
    "miniature build --out NEW --minutes inf",
    "miniature build --out NEW --pause nan",
    "miniature build --out NEW --stages zzz",
    "miniature build --out NEW --set zzz=1",
    "miniature restyle zzz --out NEW",
    "miniature restyle oil --steps 0 --out NEW",
    "miniature restyle oil --steps -1 --out NEW",
    "miniature contrastive --out NEW --minutes nan",
    "miniature contrastive --out NEW --minutes -1",
    "tune --suite CONCEPTS --backbone TINY --out NEW --factors nan",
    "tune --suite CONCEPTS --backbone TINY --out NEW --factors -1",
    "tune --suite CONCEPTS --backbone TINY --out NEW --factors x",
    "tune --suite CONCEPTS --backbone TINY --out NEW --factors ''",
    "tune --suite CONCEPTS --backbone TINY --out NEW --parts 0",
    "tune --suite CONCEPTS --backbone TINY --out NEW --parts -1",
    "tune --suite CONCEPTS --backbone TINY --out NEW --parts inf",
    "tune --suite CONCEPTS --backbone TINY --out NEW --prompts 0",
    "tune --suite CONCEPTS --backbone TINY --out NEW --images 0",
    "tune --suite CONCEPTS --backbone TINY --out NEW --steps 1001",
    # ---- words ----
    "zzz",
    "run --zzz",
    "study",
    "concepts",
    "ls zzz",
    "ls prompts --concept zzz",
    "ls concepts --suite zzz:DIR",
    "concepts fetch zzz",
    "concepts add PHOTOS --super-category 'a/b' --name mine --dest NEW",
    "concepts add PHOTOS --super-category '' --name mine --dest NEW",
    "concepts add PHOTOS --super-category cat --name all --dest NEW",
    "concepts add PHOTOS --super-category cat --name ../x --dest NEW",
]
assert len(TABLE) == len(set(TABLE)) >= 200


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the words in capitals stand for."""
    root = tmp_path_factory.mktemp("user")
    kit = shared()
    make_run(
        root / "made",
        {"perfusion": LOCAL[:1]},
        ["cat", "teapot"],
        prompts=3,
        images=1,
        size=16,
    )
    (root / "a file").write_text("precious")
    (root / "words.txt").write_text("a cat on the beach\n" * 50)
    shutil.copy(ROOT / "results" / "miniature-quick" / "check.toml", root / "made")
    make_victim(root / "folder")
    shutil.copytree(kit / "concepts" / "cat" / "images", root / "photos")
    shutil.copytree(kit / "concepts" / "cat" / "images", root / "suite" / "cat")
    (root / "suite" / "prompts.txt").write_text("a {} on the beach\n")
    from perfusion_core.backbone import Backbone

    make_concept(Backbone.open(kit / "tiny", device="cpu", dtype="float32"), "cat", "cat").save(
        root / "cat.safetensors"
    )
    return {
        "TINY": kit / "tiny",
        "CONCEPTS": kit / "concepts",
        "CATFILE": root / "cat.safetensors",
        "CAT": kit / "concepts" / "cat",
        "MADE": root / "made",
        "FILE": root / "a file",
        "FOLDER": root / "folder",
        "PHOTOS": root / "photos",
        "SUITE": root / "suite",
        "WORDS": root / "words.txt",
        "NOWHERE": root / "nowhere",
        "STUDIED": root / "studied",
        "NEW": root / "new",
    }


def words_of(line: str, places: dict) -> list[str]:
    words = shlex.split(line)
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    return words


@pytest.fixture
def beside(places, monkeypatch):
    """The working directory of the user."""
    root = places["FILE"].parent
    monkeypatch.chdir(root)
    monkeypatch.setenv("PERFBENCH_DATA", str(root / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # read once, when the library was loaded
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return root


@pytest.mark.parametrize("line", TABLE)
def test_a_bad_value_is_one_sentence(places, beside, monkeypatch, capsys, line):
    if "STUDIED" in line and not places["STUDIED"].exists():
        command(monkeypatch, capsys, *words_of(f"{STUDY} --out STUDIED", places))
    before = content(beside)
    status, said = command(monkeypatch, capsys, *words_of(line, places))
    assert status == 2, said
    assert [text[:11] for text in said.splitlines()][-1] == "perfbench: ", said
    assert content(beside).keys() == before.keys()


# ---- what a run made of its rows, and can make again ----

READERS = {  # what reads a table first
    "table.csv": ("plot pareto RUN", "report RUN"),
    "metrics.csv": ("plot per-concept RUN",),
    "cells.csv": ("check RUN --against MADE", "check MADE --against RUN"),
}
DAMAGE = {
    "empty": lambda text: "",
    "a header alone": lambda text: text.splitlines(keepends=True)[0],
    "cut off": lambda text: text[: len(text) * 2 // 3],
    "without a column": lambda text: text.replace("point,", "pint,", 1),
    "without its scores": lambda text: text.replace("image_sim", "x").replace("mean", "x"),
    "a word for a number": lambda text: text.replace(",0.", ",zero.", 1),
    "of zeros": lambda text: "\0" * 100,
    "no text": lambda text: "\udcff\udcfe" * 50,
}


@pytest.fixture
def damaged(places, tmp_path):
    """A copy of the run that somebody's disk has hurt."""
    return shutil.copytree(places["MADE"], tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in READERS
        for kind in DAMAGE
        # what `check` says of a run without a score: it has no operating point
        if (name, kind) != ("cells.csv", "a header alone")
    ],
)
def test_a_damaged_table_is_made_again(damaged, places, beside, monkeypatch, capsys, name, kind):
    whole = (damaged / name).read_text()
    (damaged / name).write_text(DAMAGE[kind](whole), errors="surrogateescape")
    for line in READERS[name]:
        words = [str(damaged) if word == "RUN" else word for word in words_of(line, places)]
        said = refused(monkeypatch, capsys, *words)
        assert f"`perfbench table {damaged}` makes it again" in said
    assert command(monkeypatch, capsys, "table", damaged)[0] == 0
    assert (damaged / name).read_text() == whole


@pytest.mark.parametrize(
    "key", [None, "scorers", "digests", "protocol", "backbone", "config", "methods", "commands"]
)
def test_run_mends_a_run_json_without_its_keys(tmp_path, beside, monkeypatch, capsys, key):
    out = copy_of_reference(tmp_path / "run")
    about = json.loads((out / "run.json").read_text())
    left = {} if key is None else {name: value for name, value in about.items() if name != key}
    (out / "run.json").write_text(json.dumps(left))
    for line in ("table", "report", "score", "plot pareto", "attention", "check --against"):
        assert command(monkeypatch, capsys, *line.split(), out)[0] in (0, 2), line
    assert run_here(shared(), out) == 0
    assert set(json.loads((out / "run.json").read_text())) == set(about)


@pytest.mark.parametrize("key", ["key", "files", "method", "concept", "config", "seconds"])
def test_run_mends_a_fit_json_without_its_keys(tmp_path, beside, monkeypatch, capsys, key):
    out = copy_of_reference(tmp_path / "run")
    file = next(out.glob("fits/perfusion/cat-*/fit.json"))
    about = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in about.items() if name != key}))
    assert command(monkeypatch, capsys, "table", out)[0] == 0
    assert run_here(shared(), out) == 0
    assert command(monkeypatch, capsys, "table", out)[0] == 0


# ---- the disk and the terminal ----


def test_a_read_only_disk_is_one_sentence(places, beside, tmp_path, monkeypatch, capsys):
    with small_file_system(tmp_path / "small", "4m") as disk:
        run = shutil.copytree(places["MADE"], disk / "made")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = content(disk)
        for line in (
            "report RUN", "plot pareto RUN", "score RUN", f"{DRAW} --out DISK/new",
            f"{FIT} --out DISK/cat.safetensors", "masks cat --suite CONCEPTS --show DISK/m.png",
            f"{STUDY} --out DISK/study", "miniature show 'a dog' --n 1 --out DISK/show.png",
            "concepts add PHOTOS --super-category cat --name mine --dest DISK",
            "concepts import folder:SUITE --dest DISK", f"run {RUN} --out DISK/run",
        ):  # fmt: skip
            words = words_of(line, {**places, "RUN": run, "DISK": disk})
            status, said = command(monkeypatch, capsys, *words)
            assert status in (1, 2) and "perfbench: " in said, (line, said)
        assert content(disk) == before


@pytest.mark.parametrize("end", ["closed", "full"])
def test_nobody_can_read_what_is_printed(beside, end):
    """The interpreter's own end says nothing either."""
    words = "-m benchmarks.cli ls methods " + {"closed": ">&-", "full": ">/dev/full"}[end]
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {words}"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode == {"closed": 0, "full": 2}[end], done.stderr
    assert ("full" in done.stderr) == (end == "full")


def test_our_own_mistakes_keep_their_traceback(monkeypatch, tmp_path):
    """A file that no word of the command names is one of ours."""
    lost = Path("/ours/lost")
    monkeypatch.setattr("benchmarks.running.listing.show_list", lambda args: lost.read_bytes())
    with pytest.raises(FileNotFoundError):
        run_words(["ls", "methods"])
