"""The same work on a Ray cluster. No shared file system: what a task needs travels with it, what it
made travels back.

In: a Job and the driver's run folder. Out: a `Pool`; only the driver writes the run folder.
"""

import os
import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.advice import advised
from benchmarks.disk import on_disk, verified
from benchmarks.disk import replace as take_place
from benchmarks.planning.backbones import Models, find_models
from benchmarks.planning.units import Cell, Fit, Unit
from benchmarks.running.tasks import Event, Job, ScoringTask, Task, Units
from benchmarks.running.worker import Worker
from benchmarks.safe_paths import below, safe_parts
from benchmarks.scoring.reserved import REAL
from benchmarks.store.run_folder import MANIFEST, Store
from perfusion_core.errors import UserError

Files = dict[str, bytes]  # by their place in a run folder
PATIENCE = 60.0  # seconds between words about workers that do not start
LEAVING = 5.0  # seconds that workers have to remove their folders
KEEP = 4  # fits that the driver holds ready for workers; another one is read again


class Remote:
    """A worker on some node, with a run folder of its own that nobody else sees. An actor: its
    models stay loaded.
    """

    def __init__(self, job: Job, method_files: Mapping[str, bytes]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="perfbench-"))
        places = []
        for name, text in method_files.items():
            (self.root / name).write_bytes(text)
            places.append(str(self.root / name))
        config = replace(job.config, method_files=tuple(places), dtype=job.models.dtype)
        models = same_models(find_models(config), job.models)
        self.events: list[Event] = []
        self.latest: Event | None = None
        self.there: set[str] = set()
        self.store = Store(self.root / "run")
        self.worker = Worker(replace(job, config=config, models=models), self.store, self._say)

    def _say(self, event: Event) -> None:
        if event.kind in ("begin", "step"):
            self.latest = event
        else:
            self.events.append(event)

    def ready(self) -> bool:
        return True

    def leave(self) -> None:
        """Take everything along: a killed process runs nothing at its end."""
        shutil.rmtree(self.root, ignore_errors=True)

    def news(self) -> Event | None:
        """What it is doing; answered beside the work."""
        event, self.latest = self.latest, None
        return event

    def do(self, task: Task, inputs: Mapping[str, Any]) -> tuple[list[Event], dict[str, Files]]:
        """-> events, and the files of the units that were made, by key."""
        import ray

        for address, files in inputs.items():
            if address not in self.there:
                unpack_folder(self.store.root, ray.get(files))
                self.there.add(address)
        self.worker.do(task)
        events, self.events = self.events, []
        made: dict[str, Files] = {}
        for unit in (event.unit for event in events if event.kind == "done"):
            assert not isinstance(unit, ScoringTask)
            made[unit.key] = pack_folder(self.store.root, self.store.folder(unit))
            if isinstance(unit, Cell):
                shutil.rmtree(self.store.folder(unit))
            else:
                self.there.add(unit.key)
        if isinstance(task, ScoringTask):
            for cell in task.cells:
                self.there.discard(cell.key)
                shutil.rmtree(
                    self.store.images(task.method, task.point, task.concept, cell.prompt_id)
                )
        return events, made


def same_models(found: Models, wanted: Models) -> Models:
    """The models of this node, if they are the driver's to the byte."""
    mine, theirs = (
        (
            one.digest,
            one.vae.digest if one.vae else "",
            one.covariance,
            one.selector.name,
            *(scorer.name for scorer in one.scorers),
        )
        for one in (found, wanted)
    )
    if mine != theirs:
        raise UserError(
            f"this node has another backbone, VAE, C or scorer under the name {wanted.name} than "
            f"the driver has; put the driver's files there"
        )
    return found


def pack_folder(root: Path, folder: Path) -> Files:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpack_folder(root: Path, files: Files) -> None:
    for name, data in files.items():
        target = below(root, *safe_parts(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


@dataclass
class _Actor:
    handle: Any
    task: Task | None = None
    result: Any = None
    locked: list[str] = field(default_factory=list)


class RayPool:
    """Actors of a cluster; one that is lost with its node is replaced on another, and its task is
    given again.
    """

    def __init__(self, job: Job, store: Store) -> None:
        ray = import_ray()
        self.ray, self.store, self.config = ray, store, job.config
        self.began = not ray.is_initialized()
        if self.began:
            connect(ray, job.config.ray_address)
        cuda = job.device.startswith("cuda")
        have = ray.cluster_resources()
        self.threads = job.config.threads or (4 if cuda else 2)
        usual = int(have.get("GPU", 0)) if cuda else int(have.get("CPU", 1)) // self.threads
        if not (job.config.workers or usual):
            raise UserError(
                f"the Ray cluster has no {'GPU' if cuda else 'free CPU'} (it has {dict(have)})"
            )
        self.job = replace(job, device="cuda:0" if cuda else job.device, threads=self.threads)
        self.resources = {
            "num_cpus": self.threads,
            "num_gpus": 1 if cuda else 0,
            "max_concurrency": 2,
        }
        self.methods = {
            Path(file).name: Path(file).read_bytes() for file in job.config.method_files
        }
        self.inputs: OrderedDict[str, Any] = OrderedDict()
        self.early: list[Event] = []
        self.actors = [_Actor(self._spawn()) for _ in range(job.config.workers or usual)]
        self._first_ready()

    def _spawn(self) -> Any:
        environment = {"env_vars": {"OMP_NUM_THREADS": str(self.threads)}}
        remote = self.ray.remote(Remote).options(**self.resources, runtime_env=environment)
        return remote.remote(self.job, self.methods)

    def _first_ready(self) -> None:
        """Wait for one worker: what keeps it from starting keeps all of them."""
        found: list[Any] = []
        asked = [actor.handle.ready.remote() for actor in self.actors]
        while not found:
            found, _ = self.ray.wait(asked, num_returns=1, timeout=PATIENCE)
            if not found:
                print(
                    "perfbench: waiting for a Ray worker to start; `ray status` tells what is free",
                    file=sys.stderr,
                )
        try:
            self.ray.get(found[0])
        except self.ray.exceptions.RayActorError as error:
            self.close(kill=True)
            raise UserError(
                f"a Ray worker cannot start: {str(error).strip().splitlines()[-1]}"
            ) from error

    def idle(self) -> list[int]:
        return [number for number, actor in enumerate(self.actors) if actor.task is None]

    def start(self, worker: int, task: Task) -> None:
        actor = self.actors[worker]
        actor.task, actor.locked = task, []
        if isinstance(task, Units):
            units = tuple(unit for unit in task.units if self._ours(unit, actor))
            todo: Task = Units(units, task.needs)
        else:
            todo = task
        if isinstance(todo, Units) and not todo.units:
            actor.result = self.ray.put(([], {}))
        else:
            actor.result = actor.handle.do.remote(todo, self._inputs(todo))

    def _ours(self, unit: Unit, actor: _Actor) -> bool:
        """Lock the unit here, where the run folder is; others may be working in it."""
        if not self.store.locks.try_lock(unit.key):
            self.early.append(Event("busy", unit))
            return False
        if self.store.finished(unit, [scorer.name for scorer in self.job.models.scorers]):
            self.early.append(Event("done", unit))
            self.store.locks.unlock(unit.key)
            return False
        actor.locked.append(unit.key)
        return True

    def _inputs(self, task: Task) -> dict[str, Any]:
        """References to what the task reads, by address; workers fetch what they do not have
        yet.
        """
        folders: dict[str, Path] = {}
        if isinstance(task, ScoringTask):
            folders |= {
                f"concept {name}": self.store.concept(name) for name in task.concept.split("+")
            }
            if task.method != REAL:
                for cell in task.cells:
                    folders[cell.key] = self.store.images(
                        task.method, task.point, task.concept, cell.prompt_id
                    )
            return {
                address: self.ray.put(pack_folder(self.store.root, folder))
                for address, folder in folders.items()
            }
        for unit in task.units:
            if isinstance(unit, Fit):
                folders[f"concept {unit.concept}"] = self.store.concept(unit.concept)
                if unit.prior:
                    folders[unit.prior.key] = self.store.folder(unit.prior)
            elif isinstance(unit, Cell):
                folders |= {fit.key: self.store.folder(fit) for fit in unit.fits}
        return {address: self._put(address, folder) for address, folder in folders.items()}

    def _put(self, address: str, folder: Path) -> Any:
        if address not in self.inputs:
            self.inputs[address] = self.ray.put(pack_folder(self.store.root, folder))
            while len(self.inputs) > KEEP:
                self.inputs.popitem(last=False)
        self.inputs.move_to_end(address)
        return self.inputs[address]

    def pump(self, handle: Callable[[Event], None], timeout: float) -> list[tuple[int, Task, str]]:
        early, self.early = self.early, []
        for event in early:
            handle(event)
        busy = {
            actor.result: number
            for number, actor in enumerate(self.actors)
            if actor.task is not None
        }
        ready, _ = self.ray.wait(list(busy), num_returns=len(busy), timeout=timeout)
        ended = [
            (busy[result], *self._collect(self.actors[busy[result]], handle)) for result in ready
        ]
        for number, _, why in ended:
            if why:
                self.actors[number] = _Actor(self._spawn())
        self._news(handle)
        return ended

    def _collect(self, actor: _Actor, handle: Callable[[Event], None]) -> tuple[Task, str]:
        """Publish what a task made. -> the task, and why it died or ""."""
        task, why = actor.task, ""
        assert task is not None
        try:
            events, made = self.ray.get(actor.result)
            for event in events:
                if event.kind == "done":
                    self._adopt(event.unit, made[event.unit.key])
                handle(event)
        except self.ray.exceptions.RayActorError as error:
            why = f"a Ray worker was lost ({str(error).strip().splitlines()[0]})"
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(advised(error.cause)) from None
            raise
        finally:
            for key in actor.locked:
                self.store.locks.unlock(key)
            actor.task, actor.result, actor.locked = None, None, []
        return task, why

    def _adopt(self, unit: Unit, files: Files) -> None:
        """A unit that was made elsewhere, published here once its digests hold."""
        folder = self.store.folder(unit)
        with self.store.aside(unit.key) as aside, on_disk(self.store.root):
            inside = folder.relative_to(self.store.root).as_posix() + "/"
            unpack_folder(aside, {name.removeprefix(inside): data for name, data in files.items()})
            assert verified(aside, MANIFEST[type(unit)], unit.key), "a unit was damaged on its way"
            take_place(aside, folder)
        self.store.forget_failures([unit.key])

    def _news(self, handle: Callable[[Event], None]) -> None:
        """One worker's current unit, for the progress bar."""
        working = [actor for actor in self.actors if actor.task is not None]
        if not working:
            return
        answer = working[0].handle.news.remote()
        ready, _ = self.ray.wait([answer], timeout=0.5)
        try:
            event = self.ray.get(answer) if ready else None
        except self.ray.exceptions.RayActorError:
            return  # the next look at its task tells
        if event:
            handle(event)

    def close(self, kill: bool) -> None:
        left = [actor.handle.leave.remote() for actor in self.actors]
        self.ray.wait(left, num_returns=len(left), timeout=LEAVING)
        for actor in self.actors:
            self.ray.kill(actor.handle)
        if self.began:
            self.ray.shutdown()


def import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'perfbench[ray]'") from None
    return ray


def connect(ray: Any, address: str) -> None:
    """An existing cluster, or one of this machine for the time of the run."""
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            include_dashboard=False if not address else None,
            logging_level="WARNING",
        )
    except Exception as error:  # Ray raises nothing narrower where its processes do not start
        shown = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot connect to Ray at {address or 'this machine'}: {shown}; `ray status` tells "
            f"more"
        ) from error
