"""Where the work is done: in this process, in several, or on a Ray cluster. All call worker.py with
the same tasks.

In: a Job and a store. Out: a `Pool` for the driver; with the same device, dtype and threads, the
same bytes.
"""

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.advice import advised
from benchmarks.disk import DiskError
from benchmarks.planning.backbones import Models
from benchmarks.running.driver import Pool
from benchmarks.running.tasks import Event, Job, Task
from benchmarks.running.worker import Worker
from benchmarks.running.worker_devices import devices
from benchmarks.scoring.scorers import needs_open_clip
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError


def make_pool(job: Job, store: Store) -> Pool:
    """The pool that the configuration asks for."""
    config = job.config
    if config.engine == "inline":
        return Inline(job, store)
    if config.engine == "processes":
        return Processes(job, store)
    from benchmarks.running.ray_pool import RayPool

    return RayPool(job, store)


class Inline:
    """One worker, in this process: the twin of all others."""

    def __init__(self, job: Job, store: Store) -> None:
        self.worker = Worker(job, store, self._say)
        self.handle: Callable[[Event], None] | None = None
        self.task: Task | None = None

    def _say(self, event: Event) -> None:
        assert self.handle
        self.handle(event)

    def idle(self) -> list[int]:
        return [0] if self.task is None else []

    def start(self, worker: int, task: Task) -> None:
        self.task = task

    def pump(self, handle: Callable[[Event], None], timeout: float) -> list[tuple[int, Task, str]]:
        self.handle, task = handle, self.task
        if task is None:
            return []
        self.worker.do(task)
        self.task = None
        return [(0, task, "")]

    def close(self, kill: bool) -> None:
        self.worker.close()


@dataclass
class _Child:
    process: Any
    pipe: Connection
    device: str
    task: Task | None = field(default=None)


class Processes:
    """One worker a device, or several on the CPU. A worker that dies is replaced."""

    def __init__(self, job: Job, store: Store) -> None:
        self.root, self.context = store.root, fresh_processes(job.models)
        places, threads = devices(job.config, job.device)
        self.job = replace(job, threads=threads)
        self.children = [self._spawn(device) for device in places]

    def _spawn(self, device: str) -> _Child:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(
            target=_serve, args=(theirs, replace(self.job, device=device), self.root), daemon=True
        )
        process.start()
        theirs.close()
        return _Child(process, ours, device)

    def idle(self) -> list[int]:
        return [i for i, child in enumerate(self.children) if child.task is None]

    def start(self, worker: int, task: Task) -> None:
        child = self.children[worker]
        child.task = task
        try:
            child.pipe.send(task)
        except OSError:  # it died while idle
            self.children[worker] = replacement = self._spawn(child.device)
            replacement.task = task
            replacement.pipe.send(task)

    def pump(self, handle: Callable[[Event], None], timeout: float) -> list[tuple[int, Task, str]]:
        ended = []
        ready = wait([child.pipe for child in self.children if child.task is not None], timeout)
        for number, child in enumerate(self.children):
            if child.pipe not in ready or child.task is None:
                continue
            try:
                kind, content = child.pipe.recv()
                while kind == "event":
                    handle(content)
                    kind, content = child.pipe.recv() if child.pipe.poll() else ("", "")
            except (EOFError, ConnectionError):
                child.process.join()
                ended.append((number, child.task, died(child.process.exitcode)))
                self.children[number] = self._spawn(child.device)
                continue
            if kind == "end":
                ended.append((number, child.task, ""))
                child.task = None
            elif kind:
                raise DiskError(content) if kind == "disk" else UserError(content)
        return ended

    def close(self, kill: bool) -> None:
        for child in self.children:
            if kill:
                child.process.kill()
            child.pipe.close()  # an idle worker ends when its pipe does
        for child in self.children:
            child.process.join(10)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()


def fresh_processes(models: Models) -> Any:
    """Processes that share nothing with this one; where the system can, the libraries are imported
    once for all.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    ours = ["benchmarks.running.worker", "perfusion_core.training"]
    judges = (*models.scorers, models.selector)
    context.set_forkserver_preload([*ours, *["open_clip"] * any(map(needs_open_clip, judges))])
    return context


def died(code: int | None) -> str:
    """An exit status in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"a worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"a worker ended with status {code}"


def _serve(pipe: Connection, job: Job, root: Path) -> None:
    """A worker process: tasks from the pipe until it is closed."""
    # Ctrl-C is the driver's to handle, and what ends a whole group of processes
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def say(event: Event) -> None:
        try:
            pipe.send(("event", event))
        except OSError:  # the driver is gone: nobody waits for this
            raise SystemExit(1) from None

    worker = Worker(job, Store(root), say)
    try:
        while True:
            task = pipe.recv()
            worker.do(task)
            pipe.send(("end", None))
    except EOFError:
        worker.close()
    except UserError as error:
        pipe.send(("disk" if isinstance(error, DiskError) else "stop", advised(error)))
