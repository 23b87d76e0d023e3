"""All engines give the same bytes; workers that die are replaced; a Ray cluster loses a node and
finishes.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from run_kit import (
    arguments,
    content,
    context,
    environment,
    files,
    perfbench,
    reference,
    run_here,
    shared,
)

from benchmarks.planning.config import resolve
from benchmarks.running.engines import died
from benchmarks.running.ray_pool import connect, import_ray
from benchmarks.running.worker_devices import devices
from perfusion_core.errors import UserError

TWO = ("--engine", "processes", "--workers", "2")


def test_two_processes_give_the_bytes_of_one(tmp_path):
    context()  # the engine's processes start from the libraries that are loaded for all tests
    out = tmp_path / "run"
    assert run_here(shared(), out, *TWO) == 0
    assert content(out) == content(reference()) and files(out) == files(reference())


def test_a_worker_that_is_killed_is_replaced(tmp_path, capsys):
    """The first process that publishes something is killed, as the system does when memory runs
    out.
    """
    context()
    out, victims = tmp_path / "run", []

    def murder() -> None:
        import multiprocessing

        while not victims:
            if list(out.glob("images/*/*/*/*/cell.json")):
                children = multiprocessing.active_children()
                victims.append(children[0].pid)
                os.kill(children[0].pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=murder)
    killer.start()
    assert run_here(shared(), out, *TWO) == 0
    killer.join()
    assert content(out) == content(reference()) and files(out) == files(reference())


def test_a_worker_that_always_dies_is_a_failure_of_its_unit(tmp_path, capsys):
    context()
    (tmp_path / "deadly.py").write_text(
        "import os, signal\nfrom contextlib import contextmanager\nfrom dataclasses import "
        "dataclass\n"
        'NAME, LABEL, VERSION, TRAINED, PRIOR = "deadly", "Deadly", 1, True, False\n'
        "@dataclass(frozen=True)\nclass Config:\n    steps: int = 1\nMINIATURE = Config()\n"
        "def fit(*args, **kwargs):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "@contextmanager\ndef apply(*args):\n    yield str\n"
    )
    words = (
        "--method-file",
        str(tmp_path / "deadly.py"),
        "--methods",
        "deadly",
        "--concepts",
        "cat",
        "--prompts",
        "s01",
    )
    assert (
        run_here(shared(), tmp_path / "run", *words, "--engine", "processes", "--workers", "1") == 1
    )
    told = capsys.readouterr().err
    assert "a worker was killed by SIGKILL (out of memory?) 3 times during fit deadly/cat" in told
    assert len(list((tmp_path / "run").glob("images/super/*/*/*/cell.json"))) == 1, (
        "the others finish"
    )


def test_a_worker_on_each_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices(resolve(), "cuda") == (["cuda:0", "cuda:1", "cuda:2"], 0)
    assert devices(resolve(sets=["workers=4"]), "cuda")[0] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:0",
    ]


def test_devices_and_threads():
    cores = len(os.sched_getaffinity(0))
    assert devices(resolve(sets=["workers=2"]), "cpu") == (["cpu", "cpu"], max(1, cores // 2))
    assert devices(resolve(sets=["workers=3", "threads=1"]), "cpu") == (["cpu"] * 3, 1)
    assert devices(resolve(sets=["workers=2"]), "cuda:1") == (["cuda:1", "cuda:1"], 0)
    assert (
        died(-9) == "a worker was killed by SIGKILL (out of memory?)"
        and died(1) == "a worker ended with status 1"
    )


def ray_or_skip() -> None:
    pytest.importorskip("ray", reason="needs perfbench[ray]")


@pytest.mark.parametrize(
    "address, place", [("", "this machine"), ("10.0.0.9:6379", "10.0.0.9:6379")]
)
def test_ray_that_cannot_start_is_a_sentence(address, place):
    """Ray raises whatever its processes died of; people read its first line, and what to type."""

    class Dead:
        def init(self, **settings):
            assert settings["address"] == (address or "local")
            raise RuntimeError(
                "The current node timed out during startup.\nCheck the logs:\n  gcs_server.out"
            )

    with pytest.raises(UserError) as caught:
        connect(Dead(), address)
    assert str(caught.value) == (
        f"cannot connect to Ray at {place}: The current node timed out during startup.; `ray "
        f"status` tells more"
    )


def test_ray_that_is_not_installed_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray needs Ray: pip install 'perfbench\[ray\]'"):
        import_ray()


@pytest.mark.slow
def test_ray_gives_the_same_bytes(tmp_path):
    ray_or_skip()
    out = tmp_path / "run"
    words = ["--engine", "ray", "--workers", "2"]
    done = perfbench("run", *arguments(shared(), out, *words))
    assert done.returncode == 0, done.stderr[-3000:]
    assert content(out) == content(reference()) and files(out) == files(reference())


@pytest.mark.slow
def test_ray_loses_a_node_in_the_middle(tmp_path):
    """Two nodes on one machine; one is killed while it works: the run finishes with the undisturbed
    bytes.
    """
    ray_or_skip()
    from ray.cluster_utils import Cluster

    out = tmp_path / "run"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        lost = cluster.add_node(num_cpus=1)
        words = arguments(
            shared(), out, "--engine", "ray", "--workers", "2", "--ray-address", cluster.address
        )
        call = [sys.executable, "-m", "benchmarks.cli", "run", *words]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(call, env=environment(), stdout=log, stderr=log)
        while not list(out.glob("images/*/*/*/*/cell.json")):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        assert process.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        cluster.shutdown()
    assert content(out) == content(reference()) and files(out) == files(reference())
