"""What runs in different folders share: the same bytes as made anew, never those of other sources,
and no run that fails for want of a cache.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from run_kit import arguments, content, files, perfbench, run_here, shared, small_file_system
from safetensors.numpy import load_file, save_file

from benchmarks.disk import digests_of, read_json
from benchmarks.running.shared_units import source_files, sources_digest
from benchmarks.store.unit_cache import UnitCache, unit_cache

ROOT = Path(__file__).parent.parent.parent
TRAINED = ("--methods", "perfusion,db", "--concepts", "cat")
FLOOR = ("--methods", "super", "--concepts", "cat")


def units(run: Path) -> dict[str, int]:
    """How many of each kind run.json says were taken."""
    found = read_json(run / "run.json")["units"]
    return {kind: of["taken"] for kind, of in found.items() if "taken" in of}


def manifests(run: Path) -> dict[str, dict]:
    """But for what they took, of time and memory, and where that was."""
    found = {
        path.relative_to(run).as_posix(): json.loads(path.read_text())
        for name in ("prior", "fit", "cell")
        for path in run.rglob(f"{name}.json")
    }
    return {
        place: {
            name: value
            for name, value in about.items()
            if not ("second" in name or name in ("cached", "drawing", "peak_above_bytes"))
        }
        for place, about in found.items()
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run that filled a cache, which every test here may read."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFBENCH_CACHE", str(folder / "cache"))
        patch.setenv("PERFBENCH_CACHE_SIZE", "100MB")
        assert run_here(shared(), folder / "run", *TRAINED, "--cache", "all") == 0
        assert not units(folder / "run")
    return folder


@pytest.fixture
def cache(first, tmp_path, monkeypatch):
    """A copy of that cache, with the times at which its entries were used."""
    shutil.copytree(first / "cache", tmp_path / "cache")
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "100MB")
    return unit_cache()


def entries(cache: UnitCache, kind: str, method: str = "") -> list[Path]:
    found = [one for one in cache.entries() if one.kind == kind]
    return [one.path for one in found if not method or one.of["method"] == method]


def test_with_and_without_every_byte_is_the_same(first, cache, tmp_path, capsys):
    """`usual` takes class images, fits and the floor; `all` every cell; `none` nothing."""
    took = {
        "none": {},
        "usual": {"priors": 1, "fits": 2, "cells": 2},
        "all": {"priors": 1, "fits": 2, "cells": 6},
    }
    capsys.readouterr()
    for which, wanted in took.items():
        out = tmp_path / which
        words = (
            ("--no-cache",) if which == "none" else () if which == "usual" else ("--cache", "all")
        )
        assert run_here(shared(), out, *TRAINED, *words) == 0
        assert content(out) == content(first / "run") and files(out) == files(first / "run")
        assert manifests(out) == manifests(first / "run") and units(out) == wanted
        said = capsys.readouterr().err
        assert ("were taken from the cache of earlier runs; --no-cache makes" in said) == bool(
            wanted
        )
    assert "nothing new in" in said and "2 fits, 1 prior, 6 cells were taken" in said
    fit = next(first.glob("run/fits/perfusion/*/fit.json")).relative_to(first / "run")
    costs = [read_json(run / fit)["seconds"] for run in (first / "run", tmp_path / "usual")]
    assert costs[0] == costs[1] > 0, "what the training took, not the copying"
    assert read_json(tmp_path / "usual" / fit)["cached"] is True
    # the same command in the same folder: what was taken stays told, and nothing is taken again
    assert run_here(shared(), tmp_path / "usual", *TRAINED) == 0
    assert units(tmp_path / "usual") == took["usual"]


def test_cells_that_need_not_be_drawn_leave_the_batch(first, cache, tmp_path):
    words = (*TRAINED, "--prompts", "3", "--cache", "all")
    assert run_here(shared(), tmp_path / "run", *words) == 0
    made, there = content(tmp_path / "run"), content(first / "run")
    pictures = [name for name in there if name.endswith(".png")]
    assert pictures and all(made[name] == there[name] for name in pictures)
    assert units(tmp_path / "run") == {"priors": 1, "fits": 2, "cells": 6}


def test_a_damaged_entry_is_made_again(first, cache, tmp_path):
    [fit], [prior] = entries(cache, "fit", "db"), entries(cache, "prior")
    weights = next(path for path in (fit / "files").rglob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (prior / "entry.json").write_text("{")
    assert run_here(shared(), tmp_path / "run", *TRAINED) == 0
    assert content(tmp_path / "run") == content(first / "run")
    assert units(tmp_path / "run") == {"fits": 1, "cells": 2}
    whole, bad = cache.check()
    features = len(entries(cache, "features"))
    assert (whole, bad) == (9 + features, [])
    assert digests_of(fit)[weights.relative_to(fit).as_posix()]


MINE = """
from contextlib import contextmanager
from dataclasses import dataclass
NAME, LABEL, VERSION, TRAINED, PRIOR = "mine", "Mine", "1", True, False
@dataclass(frozen=True)
class Config:
    steps: int = 1
MINIATURE = Config()
def fit(backbone, subject, config, out, **more):
    (out / "trained.txt").write_text("trained")
    if (note := out.parents[1] / "note").exists():
        open(__file__, "a").write("# a thought while it runs\\n")
    return {"steps": 1}
@contextmanager
def apply(backbone, fits, point):
    yield lambda text: text.format(**{name: one.super_category for name, one in fits.items()})
"""


def test_changed_sources_share_nothing(cache, tmp_path):
    """A method file that was edited, and one that is edited while it runs."""
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    words = (*FLOOR, "--methods", "mine", "--method-file", str(mine))

    def taken(name: str) -> dict[str, int]:
        assert run_here(shared(), tmp_path / name, *words) == 0
        return units(tmp_path / name)

    assert taken("with-a-file") == {}, "not even the floor: these are other sources"
    assert taken("again") == {"fits": 1, "cells": 2}
    mine.write_text(MINE + "# edited\n")
    assert taken("edited") == {}
    edited = MINE + "# to be edited again\n"
    mine.write_text(edited)
    (tmp_path / "while-it-runs").mkdir()
    (tmp_path / "while-it-runs" / "note").touch()
    assert taken("while-it-runs") == {} and mine.read_text() != edited
    mine.write_text(edited)
    assert taken("as-it-was") == {}, "what was made meanwhile was not put there"


def test_an_installed_method_is_not_shared(cache, tmp_path, monkeypatch):
    """Its sources lie where nobody looks, and change without a new version."""
    about = tmp_path / "installed" / "mine-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[perfbench.methods]\nmine = mine_method\n")
    (about.parent / "mine_method.py").write_text(MINE)
    monkeypatch.syspath_prepend(about.parent)
    words = ("--methods", "mine", "--concepts", "cat", "--cache", "all")
    for name in ("one", "two"):
        assert run_here(shared(), tmp_path / name, *words) == 0
        assert units(tmp_path / name) == {"cells": 2}, "the floor"


def test_the_digest_of_the_sources_sees_every_module(tmp_path):
    packages = [tmp_path / name for name in ("baselines", "benchmarks", "perfusion_core")]
    for package in packages:
        shutil.copytree(ROOT / package.name, package, ignore=shutil.ignore_patterns("weights"))
    here, copy = sources_digest(source_files([])), sources_digest(source_files([], packages))
    assert here == copy, "wherever they lie"
    for place in ("baselines/dreambooth.py", "benchmarks/scoring/similarity.py"):
        with (tmp_path / place).open("a") as file:
            file.write("\n")
        before, copy = copy, sources_digest(source_files([], packages))
        assert copy != before
    (tmp_path / "perfusion_core" / "sampling.py").rename(tmp_path / "perfusion_core" / "other.py")
    assert sources_digest(source_files([], packages)) != copy


def test_other_circumstances_share_nothing(cache, tmp_path, monkeypatch):
    """Threads and what libraries of kernels were told are in no unit's key."""
    assert run_here(shared(), tmp_path / "threads", *FLOOR, "--threads", "2") == 0
    assert units(tmp_path / "threads") == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert run_here(shared(), tmp_path / "kernels", *FLOOR) == 0
    assert units(tmp_path / "kernels") == {}


def test_kept_steps_are_part_of_a_fit(cache, tmp_path):
    words = ("--methods", "perfusion", "--concepts", "cat", "--set", "keep=5")
    for name, wanted in (("kept", {"cells": 2}), ("again", {"cells": 2, "fits": 1})):
        assert run_here(shared(), tmp_path / name, *words) == 0
        assert units(tmp_path / name) == wanted
        assert [*(tmp_path / name).glob("fits/perfusion/*/step-5/*.safetensors")]


def test_cells_of_another_fit_are_not_taken(first, cache, tmp_path):
    """A fit that an earlier version trained in this folder has the key of today's, and other
    bytes.
    """
    out = tmp_path / "run"
    shutil.copytree(first / "run", out)
    for place in ("images/perfusion", "rows"):
        shutil.rmtree(out / place)
    [manifest] = out.glob("fits/perfusion/*/fit.json")
    [weights] = manifest.parent.glob("*.safetensors")
    from safetensors import safe_open

    with safe_open(weights, "np") as file:
        about = file.metadata()
    tensors = {name: tensor + 0.5 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, about)
    told = json.loads(manifest.read_text())
    told["files"][weights.name] = digests_of(manifest.parent)[weights.name]
    manifest.write_text(json.dumps(told))
    assert run_here(shared(), out, *TRAINED, "--cache", "all") == 0
    assert units(out) == {}


def test_halves_are_not_shared(cache, tmp_path):
    """Where memory did not suffice: low bits differ from what another run would make."""
    (tmp_path / "odd.py").write_text(
        MINE.replace("import contextmanager", "import contextmanager\nimport torch").replace(
            "    yield lambda",
            "    def memory(unet, arguments):\n"
            "        if len(arguments[0]) > 2:\n"
            "            raise torch.OutOfMemoryError('CUDA out of memory')\n"
            "    hook = backbone.unet.register_forward_pre_hook(memory)\n"
            "    yield lambda",
        )
        + "    hook.remove()\n"
    )
    words = ("--methods", "mine", "--concepts", "cat", "--method-file", str(tmp_path / "odd.py"))
    before = {one.path for one in cache.entries() if one.kind != "features"}
    assert run_here(shared(), tmp_path / "run", *words, "--cache", "all") == 0
    added = [x for x in cache.entries() if x.path not in before and x.kind != "features"]
    assert {(one.kind, one.of["method"]) for one in added} == {("fit", "mine")}, "nor what follows"


@pytest.fixture
def small_disk(first, tmp_path, monkeypatch):
    """A cache with a file system of its own."""
    with small_file_system(tmp_path / "small", "20m") as folder:
        shutil.copytree(first / "cache", folder / "cache")
        monkeypatch.setenv("PERFBENCH_CACHE", str(folder / "cache"))
        monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "100MB")
        yield folder


def test_a_cache_that_can_only_be_read_is_read(small_disk, tmp_path, capsys):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = (*FLOOR, "--prompts", "4")
    assert run_here(shared(), tmp_path / "run", *words) == 0
    said = capsys.readouterr().err
    assert units(tmp_path / "run") == {"cells": 2}
    assert said.count("goes on without the cache") == 1 and "Read-only file system" in said


def test_a_cache_whose_disk_is_full(small_disk, tmp_path, capsys):
    with pytest.raises(OSError), (small_disk / "full").open("wb") as file:
        while True:
            file.write(b"0" * 4096)
    assert run_here(shared(), tmp_path / "run", *FLOOR, "--prompts", "4") == 0
    said = capsys.readouterr().err
    assert units(tmp_path / "run") == {"cells": 2}
    assert said.count("goes on without the cache") == 1 and "full" in said


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1MB")
    assert run_here(shared(), tmp_path / "run", *FLOOR) == 0
    assert capsys.readouterr().err.count("goes on without the cache") == 1


def test_a_run_ends_with_no_more_than_the_bound(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "30kB")
    assert run_here(shared(), tmp_path / "run", *FLOOR, "--prompts", "4") == 0
    left = [*cache.entries()]
    assert 0 < sum(entry.bytes for entry in left) <= 30_000
    assert {entry.of.get("unit") for entry in left} >= {
        read_json(path)["key"] for path in (tmp_path / "run").rglob("cell.json")
    }, "what was used last stays"


def test_a_worker_shares_as_well(first, cache, tmp_path):
    """In a process of its own, with one thread as the first run; so is the command, because workers
    have the environment in which their server was started.
    """
    words = ("--engine", "processes", "--workers", "1", "--cache", "all")
    done = perfbench("run", *arguments(shared(), tmp_path / "run", *TRAINED, *words))
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "run") == content(first / "run")
    assert units(tmp_path / "run") == {"priors": 1, "fits": 2, "cells": 6}
