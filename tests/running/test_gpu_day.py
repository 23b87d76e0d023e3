"""`perfbench gpu-day`: what it says beforehand, mistakes, how stages end; a whole rehearsal."""

import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import made_run
import numpy as np
import pytest
from conftest import WORDS
from hostile_kit import command
from PIL import Image
from run_kit import environment, make_scorer
from sd_kit import pipe_of, tiny_layouts

from benchmarks.cli import run
from benchmarks.planning.config import resolve
from benchmarks.running import day_cost, day_stages
from benchmarks.running.day_archive import pack
from benchmarks.running.day_folder import Command, open_day, run_command, write_day
from benchmarks.running.day_stages import Asked, Stage, perfbench
from benchmarks.running.gpu_day import Work
from perfusion_core.errors import UserError

DAY = ["gpu-day", "--backbone", "sd15", "--hours", "8", "--out"]


def asked(root: Path, **more) -> Asked:
    return Asked(**{"root": root, "backbone": "miniature", "hours": 8.0, "device": "cpu", **more})


# ---- what is said beforehand ----


def test_a_dry_run_says_stages_times_and_downloads_and_does_nothing(tmp_path, capsys):
    assert run([*DAY, str(tmp_path / "day"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for stage in ("facts", "photographs", "masks", "covariance", "quick", "speed", "tests"):
        assert f"  {stage} " in said
    for part in ("4.3 GB", "CIDAS/clipseg", "captions", "photographs of ten", "ViT-B-32:laion2b"):
        assert part in said
    assert "none was measured" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_named_is_not_downloaded(tmp_path, capsys):
    (tmp_path / "photos" / "teapot").mkdir(parents=True)
    (tmp_path / "captions.txt").write_text("a cat\n")
    local = ["--photos", str(tmp_path / "photos"), "--captions", str(tmp_path / "captions.txt")]
    local += ["--set", f"clipseg={tmp_path}", "--set", f"scorers={tmp_path}"]
    words = ["gpu-day", "--backbone", "miniature", "--hours", "8", "--out", str(tmp_path / "day")]
    assert run([*words, *local, "--dry-run"]) == 0
    assert "nothing is downloaded" in capsys.readouterr().out


def test_hours_follow_the_protocol():
    """The page's arithmetic (docs/scale-out.md): 52 hours for the whole paper's concepts."""
    whole = day_cost.hours_of(resolve(preset="paper"), 11)
    assert 48 < whole < 56
    assert day_cost.hours_of(resolve(preset="quick"), 3) < whole / 20
    few = resolve(preset="paper", flags={"methods": "perfusion"})
    assert day_cost.hours_of(few, 11) < whole
    assert day_cost.hours_of(resolve(sets=["images=4"]), 1) < day_cost.hours_of(resolve(), 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--hours", "0"], "0.0 is out of range"),
        (["--hours", "soon"], "not a finite number"),
        (["--out", "FILE"], "is a file, and a folder is wanted"),
        (["--backbone", "sd16"], "unknown backbone 'sd16'"),
        (["--methods", "prefusion"], "did you mean 'perfusion'"),
        (["--set", "concepts=cat"], "a day chooses concepts itself"),
        (["--set", "images=0"], "at least 1 is needed"),
        (["--photos", "EMPTY"], "no folder with the name of a concept"),
        (["--captions", "EMPTY/none.txt"], "there is no such file"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_done(
    words, sentence, tmp_path, monkeypatch, capsys
):
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "EMPTY").mkdir()
    monkeypatch.chdir(tmp_path)
    status, said = command(monkeypatch, capsys, *DAY, "day", "--dry-run", *words)
    assert status == 2 and sentence in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EMPTY", "FILE"]


# ---- how stages end ----

WAIT = Command(("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)"))


def stage(
    name: str, *commands: Command, needs: tuple[str, ...] = (), enough: bool = False
) -> Stage:
    return Stage(name, name, lambda asked: list(commands), needs, lambda asked: enough)


def states(work: Work) -> dict[str, str]:
    kept = json.loads((work.root / "day.json").read_text())
    return {name: one["state"] for name, one in kept["stages"].items()}


def test_a_failed_stage_is_told_and_what_does_not_need_it_goes_on(tmp_path, capsys):
    work = Work(asked(tmp_path))
    work.do(stage("one", perfbench("ls", "nonsense")))
    work.do(stage("two", perfbench("ls", "presets"), needs=("one",)))
    work.do(stage("three", perfbench("ls", "nonsense"), perfbench("ls", "presets"), enough=True))
    work.do(Stage("four", "", lambda asked: "no GPU is here"))
    assert states(work) == {"one": "failed", "two": "left out", "three": "done", "four": "left out"}
    said = capsys.readouterr().err
    assert "one: failed in" in said and "logs/one.log" in said and "Traceback" not in said
    assert "two: left out: it needs one" in said and "four: left out: no GPU is here" in said
    assert "protocol" in (tmp_path / "logs" / "three.log").read_text()
    again = Work(asked(tmp_path))
    again.do(stage("three", WAIT))  # done: not given again
    again.do(stage("one", perfbench("ls", "presets")))
    again.do(stage("two", perfbench("ls", "presets"), needs=("one",)))
    assert set(states(again).values()) == {"done", "left out"}
    assert again.day["spent"] >= work.day["spent"] > 0


def test_a_stage_ends_with_the_hours(tmp_path, capsys):
    work = Work(asked(tmp_path, hours=0.1))
    work.before = 0.1 * 3600 - 31.5  # what is kept for tables and the archive is half a minute
    work.do(stage("long", WAIT, perfbench("ls", "presets")), bounded=True)
    assert states(work) == {"long": "stopped"} and "are left" in capsys.readouterr().err
    work.do(stage("next", WAIT), bounded=True)
    assert states(work)["next"] == "left out"


def test_a_concept_is_begun_only_where_it_can_end(tmp_path, capsys):
    day = open_day(tmp_path, asked(tmp_path).fixed)
    day["stages"]["paper-cat"] = {"state": "done", "seconds": 7200.0}
    day["spent"] = 7.5 * 3600
    write_day(tmp_path, day)
    Work(asked(tmp_path)).protocol("dog")
    assert "paper-dog: left out: 2 h 0 min would be needed" in capsys.readouterr().err


def test_what_a_command_prints_is_there_whole_or_not_at_all(tmp_path):
    shown = Command(("benchmarks.cli", "ls", "presets"), to="presets.txt")
    assert run_command(shown, tmp_path, "ls", None) == 0
    assert "paper" in (tmp_path / "presets.txt").read_text()
    wrong = Command(("benchmarks.cli", "ls", "nonsense"), to="nonsense.txt")
    assert run_command(wrong, tmp_path, "ls", None) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "presets.txt"]


def test_a_day_is_gone_on_with_by_the_same_words(tmp_path):
    write_day(tmp_path, open_day(tmp_path, asked(tmp_path).fixed))
    assert open_day(tmp_path, asked(tmp_path, hours=16.0).fixed)["stages"] == {}
    with pytest.raises(UserError, match="asked for otherwise"):
        open_day(tmp_path, asked(tmp_path, methods=("cd",)).fixed)
    (tmp_path / "day.json").write_text("{")  # damaged: every stage goes on by itself
    assert open_day(tmp_path, asked(tmp_path).fixed)["stages"] == {}


# ---- the archive ----


def test_the_archive_has_no_weights_and_shows_no_photograph(tmp_path, monkeypatch):
    """Of a run with pictures: its own report shows them, the archive's report has none to show."""
    monkeypatch.setenv("HOME", str(tmp_path))
    made_run.make_run(tmp_path / "quick", {"cd": ("default",)}, ["cat", "teapot"], prompts=3,
                      images=2, size=16)  # fmt: skip
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "quick.log").write_text(f"written to {tmp_path}/quick\n")
    (tmp_path / "quick" / "mine.safetensors").write_bytes(b"weights")
    (tmp_path / "quick" / "linked.csv").symlink_to("/etc/hostname")
    assert run(["report", str(tmp_path / "quick")]) == 0

    def report(folder: Path) -> None:
        assert run(["report", str(folder)]) == 0

    with tarfile.open(pack(tmp_path, ["quick"], report)) as archive:
        archive.extractall(tmp_path / "got", filter="data")
        assert {(one.uid, one.uname) for one in archive} == {(0, "")}
    got = tmp_path / "got" / "gpu-day"
    kept = {path.relative_to(got).as_posix() for path in got.rglob("*") if path.is_file()}
    assert {"logs/quick.log", "quick/run.json", "quick/plan.csv", "quick/table.md"} <= kept
    assert not [name for name in kept if "/images/" in name or "/concepts/" in name]
    assert not [name for name in kept if name.endswith(("safetensors", "linked.csv"))]
    assert (got / "logs" / "quick.log").read_text() == "written to ~/quick\n"
    pages = [tmp_path / "quick" / "index.html", got / "quick" / "index.html"]
    # WebP, JPEG and PNG begin so in base64
    pictures = [re.findall(r"(?:UklGR|/9j/|iVBORw0)[\w+/]{20}", page.read_text()) for page in pages]
    assert len(pictures[0]) > 8 and pictures[1] == []


# ---- the rehearsal ----


@pytest.fixture
def offline(tmp_path, clipseg, monkeypatch):
    """Everything that a day needs, in files: a tiny model of Stable Diffusion's layout with its
    true vocabulary, two scorers, CLIPSeg, captions, photographs of four concepts."""
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "data"))
    pipe_of(tiny_layouts()[32]).save_pretrained(tmp_path / "sd")
    scorers = [make_scorer(tmp_path / f"scorer-{n}", n) for n in (1, 2)]
    rng = np.random.default_rng(0)
    for name in ("teapot", "cat", "chair", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(3):
            picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            picture.save(folder / f"IMG_{number}.png")
    lines = [" ".join(rng.choice(WORDS, 8)) for _ in range(200)]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    sets = ["images=1", "steps=2", "train_steps=2", "validate_every=2", "prior_images=2"]
    sets += ["prompts=2", "points.perfusion=local-b0.60-t0.15", "fit.perfusion.batch=2"]
    sets += [f"clipseg={clipseg}", f"scorers={scorers[0]}", f"select_scorer={scorers[1]}"]
    return [
        "gpu-day",
        *("--backbone", str(tmp_path / "sd"), "--hours", "4", "--out", str(tmp_path / "day")),
        *("--photos", str(tmp_path / "photos"), "--captions", str(tmp_path / "captions.txt")),
        *("--methods", "perfusion,cd", "--device", "cpu", "--dtype", "float32"),
        *(word for one in sets for word in ("--set", one)),
    ]


@pytest.mark.slow
def test_a_day_from_end_to_end_killed_once(offline, tmp_path):
    day, call = tmp_path / "day", [sys.executable, "-m", "benchmarks.cli", *offline]
    log = day / "logs" / "quick.log"
    with (tmp_path / "first.log").open("w") as out:
        first = subprocess.Popen(call, env=environment(), stdout=out, stderr=out)
        while not (log.is_file() and "images to do" in log.read_text()):
            assert first.poll() is None, (tmp_path / "first.log").read_text()
            time.sleep(0.5)
        first.send_signal(signal.SIGTERM)
        assert first.wait(180) == 143
    kept = json.loads((day / "day.json").read_text())["stages"]
    assert kept["quick"]["state"] == "stopped" and kept["covariance"]["state"] == "done"

    done = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "covariance: done before" in done.stderr and "Traceback" not in done.stderr
    kept = json.loads((day / "day.json").read_text())["stages"]
    paper = ["paper-cat", "paper-chair", "paper-dog", "paper-teapot"]
    told = ["facts", "photographs", "masks", "covariance", "quick", "speed", *paper, "tables"]
    assert {name for name in kept if kept[name]["state"] == "done"} == {*told}
    assert kept["tests"]["because"] == "no CUDA device is used"

    with tarfile.open(day / "gpu-day.tar.gz") as archive:
        names = archive.getnames()
        texts = b"".join(
            archive.extractfile(name).read() for name in names if name.endswith((".json", ".log"))
        )
    for part in ("day.json", "facts.json", "speed.md", "logs/quick.log", "quick/table.md",
                 "quick/run.json", "quick/index.html", "paper/table.csv", "paper/index.html",
                 "paper/figures/pareto.png"):  # fmt: skip
        assert f"gpu-day/{part}" in names
    assert any(name.startswith("gpu-day/paper/rows/") for name in names)
    pictures = [name for name in names if name.endswith((".png", ".jpg"))]
    assert all("/figures/" in name for name in pictures)
    assert not any(name.endswith(".safetensors") for name in names)
    assert str(Path.home()).encode() not in texts or str(Path.home()) == "/"
    table = (day / "paper" / "table.md").read_text()
    assert "perfusion" in table.lower() and "n/planned" not in table
    speed = (day / "speed.md").read_text()
    assert "images a second" in speed and "peak GiB" in speed

    third = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert third.returncode == 0 and "paper-dog: done before" in third.stderr


def test_every_stage_of_the_plan_is_known(tmp_path):
    """Needs are names of earlier stages, and each has a planned time."""
    known: list[str] = []
    for one in [*day_stages.before_the_protocol(asked(tmp_path)), day_stages.TABLES]:
        assert set(one.needs) <= set(known) and day_stages.planned_hours(one) > 0
        known.append(one.name)
    assert set(day_stages.protocol_stage(asked(tmp_path), "cat").needs) <= set(known)
