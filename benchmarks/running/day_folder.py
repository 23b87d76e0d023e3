"""The folder of a day on a GPU: what was asked, how each stage ended, and commands with their logs.

In: a folder, commands. Out: day.json, written whole after every stage; logs/STAGE.log.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.digests import difference
from benchmarks.disk import read_json, replace, write_whole
from benchmarks.safe_paths import below
from benchmarks.store.run_json import anonymous, now
from perfusion_core.errors import UserError

FILE, SCHEMA = "day.json", 1
DONE, FAILED, STOPPED, LEFT_OUT = "done", "failed", "stopped", "left out"
PATIENCE = 120.0  # seconds that a command has to close what it has open


@dataclass(frozen=True)
class Command:
    """The words behind `python -m`."""

    words: tuple[str, ...]
    to: str = ""  # a file of the day's folder that takes what it prints

    @property
    def shown(self) -> str:
        """As a user would type it."""
        first = "perfbench" if self.words[0] == "benchmarks.cli" else f"python -m {self.words[0]}"
        return shlex.join([*first.split(), *self.words[1:]])


# ---- day.json ----


def open_day(root: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of this day; of a damaged file nothing, as every stage goes on by itself."""
    found, asked = read_json(root / FILE), anonymous(asked)
    if found is None or not _well_formed(found):
        return {"schema": SCHEMA, "asked": asked, "spent": 0.0, "stages": {}}
    if changes := difference(found["asked"], asked):
        raise UserError(
            f"{root} holds a day that was asked for otherwise ({'; '.join(changes)}): give the "
            f"same words, or another --out"
        )
    return found


def _well_formed(found: Mapping[str, Any]) -> bool:
    stages = found.get("stages")
    return (
        found.get("schema") == SCHEMA
        and isinstance(found.get("asked"), dict)
        and isinstance(found.get("spent"), (int, float))
        and isinstance(stages, dict)
        and all(isinstance(one, dict) and "state" in one for one in stages.values())
    )


def write_day(root: Path, day: Mapping[str, Any]) -> None:
    write_whole(root / FILE, json.dumps(anonymous(day), indent=1) + "\n")


def state_of(day: Mapping[str, Any], stage: str) -> str:
    return str(day["stages"].get(stage, {}).get("state", ""))


def took(day: Mapping[str, Any], stage: str) -> float:
    """Seconds of a stage, of all calls together."""
    return float(day["stages"].get(stage, {}).get("seconds", 0.0))


# ---- a command ----


def log_of(root: Path, stage: str) -> Path:
    return below(root, "logs", f"{stage}.log")


def run_command(command: Command, root: Path, stage: str, seconds: float | None) -> int | None:
    """Its exit status; None where the seconds were over and it was ended.

    What it prints goes to the stage's log; the results of one with `to` there, whole or not at all.
    """
    log, aside = log_of(root, stage), below(root, f".{stage}.part")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        stream.write(f"== {now()} {anonymous(command.shown)}\n".encode())
        stream.flush()
        if not command.to:
            return _wait(_start(command, stream, stream), seconds)
        try:
            with aside.open("wb") as results:
                status = _wait(_start(command, results, stream), seconds)
            if status == 0:
                replace(aside, below(root, command.to))
            return status
        finally:
            aside.unlink(missing_ok=True)


def _start(command: Command, out: Any, log: Any) -> subprocess.Popen[bytes]:
    # a session of its own: a Ctrl-C in the terminal is for us, and we end it properly
    return subprocess.Popen(
        [sys.executable, "-m", *command.words],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=log,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    except KeyboardInterrupt:  # and SIGTERM, SIGHUP (cli.py)
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to it and what it started: checkpoints and finished units stay."""
    try:
        _signal(process, signal.SIGTERM)
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it ended by itself, just now
            return
    else:
        process.terminate()


def last_words(root: Path, stage: str) -> str:
    """The last line of its log that says something: most commands end in one sentence."""
    text = log_of(root, stage).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[:3] != "== "]
    return str(anonymous(lines[-1].removeprefix("perfbench: ")[:300])) if lines else ""


def words_of(values: Mapping[str, str], sets: Sequence[str]) -> tuple[str, ...]:
    """`--flag VALUE` for every value that is not empty, and `--set` for each of the settings."""
    flags = [word for flag, value in values.items() if value for word in (f"--{flag}", value)]
    return (*flags, *(word for one in sets for word in ("--set", one)))
