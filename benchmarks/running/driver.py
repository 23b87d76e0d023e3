"""The driver: hands tasks to a pool of workers until everything is done or has failed. No torch.

In: a plan, a store, a pool (inline, processes or ray: all do the same tasks). Out: an `Outcome`;
the units on disk.
"""

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.planning.units import Cell, Fit, Plan, Prior, Unit
from benchmarks.running.missing_rows import Scoring
from benchmarks.running.progress import Progress, doing
from benchmarks.running.tasks import (
    Event,
    ScoringTask,
    Task,
    Units,
    concept_tasks,
    name_of,
    needs_of,
    unit_tasks,
)
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

STAGES = {Prior: "priors", Fit: "fits", Cell: "images"}
TRIES = 3  # of a task whose worker dies under it
HOPELESS = 8  # deaths without one finished unit
POLL = 0.2  # seconds between looks at what another run in the same folder is doing


class Watch(Protocol):
    """Who looks on (training_log.py); it raises nothing."""

    def handle(self, event: Event) -> None: ...


class Pool(Protocol):
    """Workers. `start` may return at once; `pump` hands events to the driver and returns workers
    that became free.
    """

    def idle(self) -> list[int]: ...
    def start(self, worker: int, task: Task) -> None: ...
    def pump(self, handle: Callable[[Event], None], timeout: float) -> list[tuple[int, Task, str]]:
        """-> (worker, task, why it died or "") of the tasks that ended."""

    def close(self, kill: bool) -> None: ...


@dataclass(frozen=True)
class Stops:
    """Where a run ends before its plan does, and whether a long one may begin unasked."""

    images: int = 0  # drawn in this call; 0: all
    failures: int = 0  # 0: any number
    sure: bool = True
    calls: int = 0  # of judges; 0: none


@dataclass
class Outcome:
    """What a run did: keys, counts by kind, failures by key (name, traceback), seconds by stage."""

    done: set[str]
    made: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)  # from the cache of earlier runs
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # their fit failed
    stopped: str = ""  # before the end of the plan, and why
    unjudged: str = ""  # why a judge gave no more answers
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys((*STAGES.values(), "scores"), 0.0)
    )


class Driver:
    """One `run` in one folder."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        scoring: Scoring,
        done: set[str],
        progress: Progress,
        stops: Stops = Stops(),
        watch: Watch | None = None,
        by_concept: bool = False,
        scored: Callable[[ScoringTask], None] = lambda task: None,
    ) -> None:
        """`scored` is told of each task whose rows were written."""
        self.store, self.scoring, self.progress, self.stops = store, scoring, progress, stops
        self.watch, self.scored = watch, scored
        self.scores_only = not plan.units  # then progress counts images as they are scored
        # images that workers drew for this command, and those that they were told to draw
        self.drawn, self.in_hands = 0, 0
        self.time_left = progress.time_left
        self.outcome = Outcome(set(done))
        ordered = concept_tasks if by_concept else unit_tasks
        self.waiting: deque[Units] = deque(ordered(plan, done))
        self.groups = scoring.groups()
        self.deaths: Counter[str] = Counter()
        self.settled = set(done)  # done, failed or left out
        self.noted: set[str] = set()  # every worker says it, people read it once
        self.stalled = 0  # tasks in a row that were all in the hands of another run

    def run(self, pool: Pool) -> Outcome:
        """Until nothing is left."""
        running: dict[int, Task] = {}
        finished = False
        try:
            while True:
                for worker in pool.idle():
                    if worker not in running and (task := self.next_task()):
                        running[worker] = task
                        pool.start(worker, task)
                if not running and not self.waiting and not self.groups:
                    break
                if not running:
                    time.sleep(POLL)  # what is left is in the hands of another run
                for worker, task, why in pool.pump(self.handle, POLL):
                    running.pop(worker, None)
                    self.ended(task, why)
            finished = True
        finally:
            pool.close(kill=not finished)
        return self.outcome

    # ---- what next ----

    def next_task(self) -> Task | None:
        """The first group whose cells are there, else the first units whose needs are met."""
        for address, needs in list(self.groups.items()):
            if needs <= self.settled and (scoring := self.ready_scoring(address)):
                return scoring
        place = 0
        while place < len(self.waiting):
            task = self.waiting[place]
            todo = self.left_of(task)
            needs = frozenset().union(*map(needs_of, todo))
            if todo and not needs <= self.outcome.done:
                place += 1  # it keeps its place, before what the plan has after it
                continue
            del self.waiting[place]
            if not todo:
                continue
            mine = self.within_limit(todo)
            if rest := todo[len(mine) :]:  # found again, and stopped at, by the next call
                self.waiting.appendleft(Units(rest, needs))
            if mine:
                return Units(mine, needs)
            if not self.in_hands:  # else some of these may be given back, and are drawn then
                self.stop(f"by --limit after {self.drawn} images")
            return None
        return None

    def within_limit(self, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
        """As many cells as may still be drawn; a training, or class images, where any may."""
        kept = []
        for unit in units:
            images = images_of(unit)
            beyond = self.drawn + self.in_hands + max(images, 1) > self.stops.images
            if self.stops.images and beyond:
                break
            self.in_hands += images
            kept.append(unit)
        return tuple(kept)

    def stop(self, why: str) -> None:
        """Nothing new is handed out; what is whole is still scored."""
        self.outcome.stopped = why
        self.waiting.clear()
        self.groups = {a: needs for a, needs in self.groups.items() if needs <= self.settled}

    def left_of(self, task: Units) -> tuple[Unit, ...]:
        """What of a task is still to be done; what has lost a fit or its class images is left out
        for good.
        """
        left, lost = [], self.outcome.failed.keys() | self.outcome.skipped.keys()
        for unit in task.units:
            if unit.key in self.settled:
                continue
            if broken := needs_of(unit) & lost:
                self.skip([unit], next(iter(broken)))
            else:
                left.append(unit)
        return tuple(left)

    def skip(self, units: Iterable[Unit], because: str) -> None:
        why = self.outcome.failed.get(because, (self.outcome.skipped.get(because, ""), ""))[0]
        for unit in units:
            self.outcome.skipped[unit.key] = why
            self.settled.add(unit.key)
            self.progress.add(images_of(unit))

    def ready_scoring(self, address: tuple[str, str, str]) -> ScoringTask | None:
        """The rows file's task with what it still lacks; None where nothing is lacking or another
        run is scoring it.
        """
        task = self.scoring.task(address, self.outcome.done)
        if task is None:
            del self.groups[address]
            return None
        if not self.store.locks.try_lock(task.lock):
            return None
        # again: it may have been scored a moment ago
        task = self.scoring.task(address, self.outcome.done)
        del self.groups[address]
        if task is None:
            self.store.locks.unlock(self.scoring.lock(address))
        return task

    # ---- what happened ----

    def handle(self, event: Event) -> None:
        unit = event.unit
        if self.watch:
            self.watch.handle(event)
        if event.kind in ("begin", "step"):
            if event.kind == "step" and self.time_left and not isinstance(unit, ScoringTask):
                self.time_left.step(unit, event.share)
            self.progress.current(doing(unit, event.text))
        elif event.kind == "note":
            if event.text not in self.noted:
                self.noted.add(event.text)
                self.progress.note(event.text)
        elif event.kind == "failed":
            self.in_hands -= images_of(unit)
            self.drawn += images_of(unit)  # of what failed nobody knows how far it came
            self.fail(unit, event.text)
        elif event.kind == "rows":
            assert isinstance(unit, ScoringTask)
            self.scoring.publish(unit, event.rows)
            self.store.forget_failures([unit.lock])
            self.outcome.seconds["scores"] += event.seconds
            self.progress.add(unit.images if self.scores_only else 0)
            self.scored(unit)
        elif event.kind == "done":
            assert not isinstance(unit, ScoringTask)
            self.outcome.done.add(unit.key)
            self.settled.add(unit.key)
            self.in_hands -= images_of(unit)
            # neither of the cache of earlier runs, nor of another run in this folder
            self.drawn += images_of(unit) if event.seconds and not event.taken else 0
            self.stalled = 0
            if self.time_left:
                self.time_left.ended(unit, 0.0 if event.taken else event.seconds)
            kind = type(unit).__name__.lower()
            self.outcome.made[kind] += event.seconds > 0 and not event.taken
            self.outcome.taken[kind] += event.taken
            self.outcome.seconds[STAGES[type(unit)]] += event.seconds
            self.progress.add(images_of(unit))

    def fail(self, unit: Unit | ScoringTask, traceback: str) -> None:
        name, key = name_of(unit), unit.lock if isinstance(unit, ScoringTask) else unit.key
        self.outcome.failed[key] = name, traceback
        self.settled.add(key)
        self.store.write_failure(key, name, traceback)
        self.progress.note(f"failed: {name}: {last_line(traceback)}")
        if len(self.outcome.failed) == self.stops.failures:
            self.stop(f"by --max-failures {self.stops.failures}; what was begun was finished")

    def ended(self, task: Task, why: str) -> None:
        if isinstance(task, ScoringTask):
            self.store.locks.unlock(task.lock)
            if why:
                self.groups[task.method, task.point, task.concept] = task.needs
                self.died(task, task.lock, why)
            return
        left = tuple(unit for unit in task.units if unit.key not in self.settled)
        self.in_hands -= sum(map(images_of, left))  # given back
        if left and why:
            # what it published and could not tell any more was drawn by this command
            self.drawn += sum(images_of(unit) for unit in left if self.store.verified(unit))
            self.died(left[0], left[0].key, why)
            self.waiting.appendleft(Units(left, task.needs))
        elif left:  # another run has them
            self.waiting.append(Units(left, task.needs))
            self.stalled += 1
            if self.stalled > len(self.waiting):
                time.sleep(POLL)
                self.stalled = 0

    def died(self, unit: Unit | ScoringTask, key: str, why: str) -> None:
        """A worker went away in the middle of this; once more, then it is a failure."""
        self.deaths[key] += 1
        if self.deaths.total() >= HOPELESS and not self.outcome.made.total():
            raise UserError(
                f"workers keep dying before they finish anything ({why}); try --engine inline to "
                f"see why"
            )
        self.progress.note(f"{why} during {name_of(unit)}")
        if self.deaths[key] >= TRIES:
            self.fail(unit, f"{why} {self.deaths[key]} times during {name_of(unit)}")
            if isinstance(unit, ScoringTask):
                self.groups.pop((unit.method, unit.point, unit.concept), None)


def images_of(unit: Unit | ScoringTask) -> int:
    """What --limit counts: pictures of cells."""
    return len(unit.seeds) if isinstance(unit, Cell) else 0


def last_line(traceback: str) -> str:
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    return re.sub(r"^perfusion_core\.errors\.\w+: ", "", lines[-1]) if lines else ""


def counted(units: Counter[str]) -> str:
    """2 fits, 40 cells."""
    return ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in units.items() if n)


def failures_text(outcome: Outcome) -> str:
    """What failed, in lines for stderr."""
    lines = [f"  {name}: {last_line(text)}" for name, text in outcome.failed.values()]
    if outcome.skipped:
        lines.append(f"  {len(outcome.skipped)} cells were left out because of that")
    return "\n".join(lines)
