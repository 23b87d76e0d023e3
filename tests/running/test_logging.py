"""`--log`: what TensorBoard and Weights & Biases are told, by every engine; and that no byte of a
run depends on it.
"""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from run_kit import content, reference, run_here, shared

from benchmarks.cli import run
from benchmarks.planning.units import Fit
from benchmarks.running import trackers
from benchmarks.running.tasks import Event
from benchmarks.running.trackers import Target, Tracker, targets
from benchmarks.running.training_log import TrainingLog, numbered, packed, shown
from perfusion_core.errors import UserError

pytest.importorskip("tensorboard", reason="pip install 'perfbench[log]'")
TABLES = ("table", "metrics")
LOSS, VALIDATION, PICTURES = (
    f"{what}/perfusion/cat" for what in ("loss", "validation", "pictures")
)


def read_board(folder):
    """Scalars, pictures and texts of a TensorBoard folder, by its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = {path.parent for path in folder.rglob("events.out.*")}
    board = EventAccumulator(str(events), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    scalars = {
        tag: {one.step: one.value for one in board.Scalars(tag)} for tag in board.Tags()["scalars"]
    }
    images = {tag: board.Images(tag) for tag in board.Tags()["images"]}
    texts = {
        tag.removesuffix("/text_summary"): board.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in board.Tags()["tensors"]
    }
    return scalars, images, texts


def fits_of(folder):
    """method/concept -> fit.json"""
    found = {}
    for path in folder.glob("fits/*/*/fit.json"):
        about = json.loads(path.read_text())
        found[f"{about['method']}/{about['concept']}"] = about
    return found


def check_curves(board, folder):
    """What is shown is what the fits recorded, at each of their steps."""
    scalars, images, texts = read_board(board)
    fits = fits_of(folder)
    assert fits and all(about["losses"] for about in fits.values())
    for name, about in fits.items():
        losses = dict(enumerate(about["losses"], 1))
        assert scalars[f"loss/{name}"] == pytest.approx(losses, rel=1e-6)
        scores = dict(map(tuple, about["validation"]))
        assert scalars.get(f"validation/{name}", {}) == pytest.approx(scores, rel=1e-6)
    return scalars, images, texts


@pytest.mark.parametrize("engine", ["inline", "processes", "ray"])
def test_every_engine_shows_the_same_curves_and_no_byte_depends_on_it(engine, tmp_path):
    if engine == "ray":
        pytest.importorskip("ray", reason="the engine ray needs Ray")
    out, board = tmp_path / "run", tmp_path / "board"
    more = ["--engine", engine] + ["--workers", "2"] * (engine != "inline")
    assert run_here(shared(), out, *more, "--log", f"tensorboard:{board}") == 0
    assert content(out) == content(reference())
    _, images, texts = check_curves(board, out)
    # Validation pictures of each look, its first eight prompts side by side.
    about = fits_of(out)["perfusion/cat"]
    looks = [step for step, _ in about["validation"]]
    assert sorted({one.step for one in images[f"{PICTURES}"]}) == looks
    first = images[PICTURES][0]
    assert (first.width, first.height) == (8 * 16, 16)
    assert "| method" in texts["tables/table"] and "perfusion" in texts["tables/table"]
    assert "tables/metrics" in texts and "| backbone | tiny |" in texts["run"]
    assert str(tmp_path) not in "".join(texts.values())


def test_a_finished_run_is_told_by_the_same_command(tmp_path):
    """Fits of an earlier call, trained while nobody watched."""
    import shutil

    out = shutil.copytree(reference(), tmp_path / "run")
    assert run_here(shared(), out, "--log", f"tensorboard:{tmp_path / 'board'}") == 0
    check_curves(tmp_path / "board", out)
    assert content(out) == content(reference())


def test_fit_tells_its_curve_and_trains_the_same_file(tmp_path):
    concept = [
        "--concept",
        str(shared() / "concepts" / "cat"),
        "--backbone",
        str(shared() / "tiny"),
    ]
    few = ["--device", "cpu", "--dtype", "float32", "--steps", "3", "--set", "batch=2"]
    fit = ["fit", "perfusion", *concept, *few]
    for name, more in (("plain", []), ("told", ["--log", f"tensorboard:{tmp_path / 'board'}"])):
        run([*fit, "--out", str(tmp_path / f"{name}.safetensors"), *more])
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("plain", "told")]
    assert files[0] == files[1]
    about = json.loads((tmp_path / "told.json").read_text())
    scalars, images, _ = read_board(tmp_path / "board")
    assert scalars[LOSS] == pytest.approx(dict(enumerate(about["losses"], 1)), rel=1e-6)
    assert scalars[VALIDATION] == pytest.approx(dict(map(tuple, about["validation"])), rel=1e-6)
    assert images[PICTURES]


def test_wandb_offline_has_curves_pictures_and_tables_and_no_machine(tmp_path, monkeypatch):
    """Read back from the file that `wandb sync` would send."""
    wandb = pytest.importorskip("wandb", reason="pip install 'perfbench[log]'")
    import shutil

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    out = shutil.copytree(reference(), tmp_path / "run")
    shutil.rmtree(out / "fits" / "perfusion")
    shutil.rmtree(out / "images" / "perfusion")
    shutil.rmtree(out / "rows")
    assert run_here(shared(), out, "--log", "wandb:mine") == 0
    wandb.teardown()  # what it holds goes to the disk
    assert content(out) == content(reference())
    [file] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history, config, hosts = read_wandb(file)
    about = fits_of(out)["perfusion/cat"]
    losses = {row["step/perfusion/cat"]: row[LOSS] for row in history if LOSS in row}
    assert losses == pytest.approx(dict(enumerate(about["losses"], 1)), rel=1e-6)
    scores = {row["step/perfusion/cat"]: row[VALIDATION] for row in history if VALIDATION in row}
    assert scores == pytest.approx(dict(map(tuple, about["validation"])), rel=1e-6)
    looks = [row["step/perfusion/cat"] for row in history if f"{PICTURES}/count" in row]
    assert looks == list(scores)
    tables = {f"tables/{name}/nrows": len(pd.read_csv(out / f"{name}.csv")) for name in TABLES}
    assert {key: value for row in history for key, value in row.items() if key in tables} == tables
    assert config["backbone"] == "tiny"
    folder = file.parent
    assert list(folder.rglob("media/images/**/*.png")) and list(folder.rglob("*.table.json"))
    names = {path.name for path in (folder / "files").rglob("*.*")}
    assert {path.rsplit(".", 1)[-1] for path in names} == {"png", "json"} and hosts == {"not told"}
    assert "wandb-metadata.json" not in names
    sent = b"".join(path.read_bytes() for path in [file, *folder.rglob("files/**/*.json")])
    for secret in (str(tmp_path), str(shared()), "--backbone"):
        assert secret.encode() not in sent, secret


def wandb_records(content):
    """The pieces of a .wandb file: LevelDB's log, blocks of 32 kB behind a header of 7 bytes."""
    assert content.startswith(b":W&B")
    place, piece = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        piece += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield piece
            piece = b""


def read_wandb(file):
    """Rows of the history, the configuration, and the machines that are named."""
    from wandb.proto import wandb_internal_pb2

    history, config, hosts = [], {}, set()
    for piece in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(piece)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append(
                {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in items}
            )
        if record.WhichOneof("record_type") == "run":
            hosts.add(record.run.host)
        for part in (record.run.config, record.config):
            config |= {one.key: json.loads(one.value_json) for one in part.update}
    return history, config, hosts


# ---- what fails ----


class Failing:
    """A tracker of somebody's that breaks at its third call."""

    name, calls = "failing", 0

    def log(self, values, step=None):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("the disk of the log is full")

    def finish(self):
        self.calls += 100


def test_a_tracker_that_fails_loses_no_work(tmp_path, monkeypatch, capsys):
    failing = Failing()
    monkeypatch.setattr(trackers, "_tensorboard", lambda where, name, config: failing)
    out = tmp_path / "run"
    assert run_here(shared(), out, "--log", f"tensorboard:{tmp_path / 'board'}") == 0
    assert content(out) == content(reference())
    assert failing.calls == 3  # left alone since
    said = capsys.readouterr().err
    assert said.count("tensorboard failed (RuntimeError: the disk of the log is full)") == 1


def test_a_mistake_in_the_showing_is_told_once_and_raises_nothing(monkeypatch, capsys):
    """Whatever a driver hands over: it never sees an exception of who only looks on."""
    monkeypatch.setattr(trackers, "_tensorboard", lambda where, name, config: Failing())
    watch = TrainingLog([Target("tensorboard", "board")], "run", {})
    fit = Fit("perfusion", "cat", "cat", {}, None, True, (), 0, "0" * 64)
    watch.handle(Event("look", fit, step=1, numbers={"score": 0.5}, pictures=(b"no picture",)))
    watch.handle(Event("step", fit, step=2, numbers={"loss": 1.0}))
    watch.trained(fit, {"losses": [1.0]})
    watch.close()
    said = capsys.readouterr().err
    assert said.count("perfbench: logging failed (UnidentifiedImageError") == 1
    assert said.count("\n") == 1


def test_what_cannot_begin_is_one_sentence_before_any_work(tmp_path, monkeypatch):
    def broken(where, name, config):
        raise OSError("no such server\nsecond line")

    monkeypatch.setattr(trackers, "_wandb", broken)
    with pytest.raises(UserError, match=r"wandb cannot begin \(OSError: no such server\).*offline"):
        Tracker(Target("wandb", "perfbench"), "run", {})
    (tmp_path / "file").write_text("")
    for given, says in (
        ("mlflow", "is not tensorboard:DIR, wandb or wandb:PROJECT"),
        ("tensorboard", "needs a folder"),
        ("tensorboard:", "needs a folder"),
        ("wandb:", "names no project"),
        (f"tensorboard:{tmp_path / 'file'}", "is a file; give a folder"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            run_here(shared(), tmp_path / "run", "--log", given)
    with pytest.raises(UserError, match="is given twice"):
        targets(["tensorboard:a", "tensorboard:b"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("library", ["tensorboard", "wandb", "accelerate"])
def test_a_missing_library_is_one_sentence(library, monkeypatch, tmp_path):
    found = trackers.importlib.util.find_spec
    monkeypatch.setattr(
        trackers.importlib.util, "find_spec", lambda name: None if name == library else found(name)
    )
    given = "wandb" if library == "wandb" else f"tensorboard:{tmp_path / 'board'}"
    with pytest.raises(UserError, match=rf"needs {library}, which is not installed: pip install"):
        run_here(shared(), tmp_path / "run", "--log", given)
    assert not list(tmp_path.iterdir())


def test_without_log_nothing_is_opened(tmp_path):
    """Another library may import wandb where it is installed; no run of it is begun."""
    import subprocess

    from run_kit import arguments, environment

    code = """if True:
        import sys
        from benchmarks.cli import run
        run(sys.argv[1:])
        begun = getattr(sys.modules.get("wandb"), "run", None)
        print("tensorboard" in sys.modules, begun)
    """
    words = ["run", *arguments(shared(), tmp_path / "run"), "--methods", "super"]
    call = [sys.executable, "-c", code, *words]
    done = subprocess.run(call, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False None"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_others_recorded_is_read_with_care():
    assert numbered([(1, 0.5), [2, 1], (3, None), "x", (4,), ("5", 1.0)]) == [(1, 0.5), (2, 1.0)]
    assert numbered(()) == []
    pictures = np.random.default_rng(0).integers(0, 256, (10, 512, 512, 3), dtype=np.uint8)
    assert shown(packed(pictures)).shape == (8, 256, 256, 3)
    small = pictures[:2, :16, :16]
    assert np.array_equal(shown(packed(small)), small)
