"""`perfbench gpu-day`: one command for a day on a GPU.

In: a backbone and the hours. Out: a folder with two runs, tables of speed and memory, and one
archive to send. Reading order: day_cost (what it would cost), day_stages (what is done),
day_folder (how it is kept), day_facts, day_archive.
"""

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name, device_type
from benchmarks.disk import Locks, ask_for
from benchmarks.paths import backbone_names
from benchmarks.planning import methods
from benchmarks.running import day_cost, day_stages
from benchmarks.running.day_archive import pack
from benchmarks.running.day_folder import (
    DONE,
    FAILED,
    LEFT_OUT,
    STOPPED,
    last_words,
    log_of,
    open_day,
    run_command,
    state_of,
    took,
    write_day,
)
from benchmarks.running.day_stages import PAPER, QUICK, TABLES, Asked, Stage, perfbench
from benchmarks.running.progress import duration
from perfusion_core.errors import UserError
from perfusion_core.places import on_this_machine

AFTER = 300.0  # seconds that are kept for tables and the archive, of an hour or more


def gpu_day(asked: Asked, dry_run: bool) -> int:
    """Says what it would do; then does it, or goes on with it."""
    check(asked)
    stages = day_stages.before_the_protocol(asked)
    print(plan_text(asked, stages))
    if dry_run:
        return 0
    if device_type(device_name(asked.device)) != "cuda" and asked.device == "auto":
        raise UserError(
            "no CUDA device is here, and on a processor a day is weeks; --device cpu goes through "
            "the stages all the same, --dry-run only says them"
        )
    if not Locks(asked.root).try_lock("day"):
        raise UserError(f"another `perfbench gpu-day` is at work in {asked.root}: let it end first")
    return Work(asked).go_through(stages)


def check(asked: Asked) -> None:
    """Mistakes are found before anything is fetched."""
    if asked.root.exists() and not asked.root.is_dir():
        raise UserError(f"{asked.root} is a file, and a folder is wanted; give --out another name")
    ask_for(asked.root)
    on_this_machine(asked.backbone, backbone_names())
    day_stages.check_sets(asked.sets)
    for preset in (QUICK, PAPER):
        methods.check_names(asked.config(preset).methods)
    day_stages.check_kind(asked)
    day_stages.given_folders(asked)
    if asked.captions != day_cost.USUAL_CAPTIONS and not Path(asked.captions).is_file():
        raise UserError(
            f"--captions {asked.captions}: there is no such file; without --captions they are "
            f"streamed from the hub"
        )


def plan_text(asked: Asked, stages: list[Stage]) -> str:
    rows = [(one.name, one.what, day_stages.planned_hours(one)) for one in (*stages, TABLES)]
    paper = asked.config(PAPER)
    return day_cost.told(
        asked.root,
        rows,
        day_cost.downloads(paper, bool(asked.photos), asked.captions),
        day_cost.hours_of(paper, 1),
        asked.hours,
    )


class Work:
    """One call: the day as it was left, and the seconds since it was taken up again."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.root = asked, asked.root
        self.day = open_day(asked.root, asked.fixed)
        self.before, self.began = float(self.day["spent"]), time.monotonic()

    def go_through(self, stages: list[Stage]) -> int:
        for stage in stages:
            self.do(stage, bounded=True, again=stage.name == "facts")  # of the machine of this call
        for concept in day_stages.present(self.asked):
            self.protocol(concept)
        self.do(TABLES, again=True)
        archive = pack(self.root, self.runs(), self.report)
        failed = [name for name in self.day["stages"] if state_of(self.day, name) == FAILED]
        say(f"{archive}: tables, rows, logs, figures and reports; no photographs, no weights")
        say(
            "look into it, then attach it to a new issue on the page where you found this "
            "repository: what it holds was never measured before"
        )
        if failed:
            say(f"failed: {', '.join(failed)}; the same command tries them again")
        return 1 if failed else 0

    # ---- time ----

    def spent(self) -> float:
        return self.before + time.monotonic() - self.began

    def left(self) -> float:
        return self.asked.hours * 3600 - AFTER * min(self.asked.hours, 1.0) - self.spent()

    def write(self, stage: str, **what: Any) -> None:
        entry = self.day["stages"].setdefault(stage, {})
        entry.update(what)
        self.day["spent"] = round(self.spent(), 1)
        write_day(self.root, self.day)

    # ---- stages ----

    def protocol(self, concept: str) -> None:
        """One more concept, if it can end in time by what the others took."""
        stage = day_stages.protocol_stage(self.asked, concept)
        known = [
            took(self.day, name)
            for name in self.day["stages"]
            if name.startswith(f"{PAPER}-") and state_of(self.day, name) == DONE
        ]
        needed = max(known, default=0.0) - took(self.day, stage.name)
        if state_of(self.day, stage.name) != DONE and self.left() < needed:
            self.leave_out(stage, f"{duration(needed)} would be needed, {self.time()}")
        else:
            self.do(stage, bounded=True)

    def do(self, stage: Stage, *, bounded: bool = False, again: bool = False) -> None:
        """Its commands, unless it is done; `bounded`: within the hours."""
        if state_of(self.day, stage.name) == DONE and not again:
            return say(f"{stage.name}: done before")
        if lacking := [name for name in stage.needs if state_of(self.day, name) != DONE]:
            return self.leave_out(stage, f"it needs {', '.join(lacking)}")
        commands = stage.commands(self.asked)
        if isinstance(commands, str):
            return self.leave_out(stage, commands)
        if bounded and commands and self.left() <= 0:
            return self.leave_out(stage, self.time())
        earlier, began = took(self.day, stage.name) * (not again), time.monotonic()
        self.write(stage.name, state=STOPPED, commands=[one.shown for one in commands])
        statuses: list[int | None] = []
        try:
            for command in commands:
                say(f"{stage.name}: {command.shown}")
                limit = max(self.left(), 1.0) if bounded else None
                statuses.append(run_command(command, self.root, stage.name, limit))
                if statuses[-1] is None:
                    break
        finally:  # also where we are ended
            seconds = round(earlier + time.monotonic() - began, 1)
            self.write(stage.name, seconds=seconds)
        self.conclude(stage, statuses)

    def conclude(self, stage: Stage, statuses: list[int | None]) -> None:
        wrong = [status for status in statuses if status]
        because = last_words(self.root, stage.name) if wrong else ""
        state = FAILED if wrong and not stage.enough(self.asked) else DONE
        if None in statuses:
            state, because = STOPPED, self.time()
        self.write(stage.name, state=state, status=wrong[-1] if wrong else 0, because=because)
        ended = f"{stage.name}: {state} in {duration(took(self.day, stage.name))}"
        say(f"{ended}: {because}; see {log_of(self.root, stage.name)}" if because else ended)

    def leave_out(self, stage: Stage, because: str) -> None:
        self.write(stage.name, state=LEFT_OUT, because=because)
        say(f"{stage.name}: left out: {because}")

    def time(self) -> str:
        return f"{duration(max(self.left(), 0.0))} of {self.asked.hours:g} h are left"

    # ---- the archive ----

    def runs(self) -> list[str]:
        return [name for name in (QUICK, PAPER) if day_stages.is_run(self.root / name)]

    def report(self, run: Path) -> None:
        """The page of a copy without pictures; the archive goes without it where it fails."""
        run_command(perfbench("report", str(run)), self.root, "archive", None)


def say(sentence: str) -> None:
    print(f"perfbench: {sentence}", file=sys.stderr, flush=True)
