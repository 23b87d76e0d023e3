"""Where a run is watched: TensorBoard and Weights & Biases, through accelerate's trackers.

In: the words of `--log`. Out: `Tracker`s that take numbers, pictures, tables and texts. What is
missing or cannot begin is one sentence before any work; what fails later is told once, and that
tracker is left alone. Nothing is opened or sent where nobody asked.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.disk import ask_for
from perfusion_core.errors import UserError

TENSORBOARD, WANDB = "tensorboard", "wandb"
PROJECT = "perfbench"
UNTOLD = "not told"  # the name of a machine and of its user
INSTALL = "pip install 'perfbench[log]'"


@dataclass(frozen=True)
class Target:
    """One `--log`: which library, and its folder or project."""

    kind: str
    where: str


def targets(given: Sequence[str]) -> list[Target]:
    """`tensorboard:DIR`, `wandb`, `wandb:PROJECT`; each library once, and it is installed."""
    found: list[Target] = []
    for text in given:
        kind, colon, where = text.partition(":")
        if kind not in (TENSORBOARD, WANDB):
            raise UserError(f"--log {text!r:.80} is not tensorboard:DIR, wandb or wandb:PROJECT")
        if kind == TENSORBOARD and not where:
            raise UserError("--log tensorboard needs a folder: --log tensorboard:DIR")
        if colon and not where:
            raise UserError("--log wandb: names no project; write --log wandb or wandb:PROJECT")
        if any(one.kind == kind for one in found):
            raise UserError(f"--log {kind} is given twice; leave one out")
        for library in (kind, "accelerate"):
            if importlib.util.find_spec(library) is None:
                raise UserError(f"--log {kind} needs {library}, which is not installed: {INSTALL}")
        if kind == TENSORBOARD:
            place = Path(where)
            if place.exists() and not place.is_dir():
                raise UserError(f"--log {text}: {where} is a file; give a folder")
            ask_for(place)
        found.append(Target(kind, where or PROJECT))
    return found


class Tracker:
    """One library, which may fail: what it raises ends it, and never a run."""

    def __init__(self, target: Target, name: str, config: Mapping[str, str]) -> None:
        self.kind, self.alive = target.kind, True
        try:
            opening = _tensorboard if target.kind == TENSORBOARD else _wandb
            self.own = opening(target.where, name, config)
        except Exception as error:  # of a library that may raise anything
            raise UserError(
                f"--log {target.kind} cannot begin ({_line(error)}); mend that, or leave it out"
                + (" (WANDB_MODE=offline sends nothing)" if target.kind == WANDB else "")
            ) from error

    def safely(self, act: Callable[[], object]) -> None:
        """What raises is told once, and nothing more is logged there."""
        if not self.alive:
            return
        try:
            act()
        except Exception as error:
            self.alive = False
            print(
                f"perfbench: {self.kind} failed ({_line(error)}); nothing more is logged there, "
                f"and the work goes on",
                file=sys.stderr,
            )

    def numbers(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Of one training, at one of its steps; `loss` becomes `loss/<name>`."""
        told = {f"{what}/{name}": value for what, value in values.items()}
        if self.kind == TENSORBOARD:
            self.safely(lambda: self.own.log(told, step=step))
        else:  # trainings go on side by side, so each has a step of its own
            self.safely(lambda: self.own.log({**told, f"step/{name}": step}))

    def axis(self, name: str) -> None:
        """Curves of one training are drawn over its own step."""
        if self.kind == WANDB:
            for what in ("loss", "validation", "pictures"):
                self.safely(
                    lambda what=what: self.own.tracker.define_metric(  # type: ignore[misc]
                        f"{what}/{name}", step_metric=f"step/{name}"
                    )
                )

    def pictures(self, name: str, step: int, images: Any) -> None:
        """uint8 [n, H, W, 3]"""
        key = f"pictures/{name}"
        if self.kind == TENSORBOARD:
            self.safely(lambda: self.own.log_images({key: images}, step=step, dataformats="NHWC"))
        else:
            self.safely(lambda: self.own.log({key: _images(images), f"step/{name}": step}))

    def table(self, name: str, frame: Any, text: str) -> None:
        """A table as a frame, or as Markdown where the library has no tables."""
        if self.kind == TENSORBOARD:
            self.safely(lambda: self.own.log({f"tables/{name}": text}, step=0))
        else:
            self.safely(lambda: self.own.log_table(f"tables/{name}", dataframe=frame))

    def close(self) -> None:
        self.safely(self.own.finish)
        self.alive = False


def _tensorboard(where: str, name: str, config: Mapping[str, str]) -> Any:
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(name, logging_dir=where)
    _start(tracker)
    rows = "\n".join(f"| {key} | {value} |" for key, value in config.items())
    tracker.log({"run": f"| | |\n|---|---|\n{rows}"}, step=0)
    return tracker


def _wandb(project: str, name: str, config: Mapping[str, str]) -> Any:
    """Without what wandb usually takes of a machine: host, user, command, code, its use."""
    import wandb
    from accelerate.tracking import WandBTracker

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        host=UNTOLD,
        username=UNTOLD,
    )
    tracker = WandBTracker(project, name=name, config=dict(config), settings=settings)
    _start(tracker)
    return tracker


def _images(images: Any) -> list[Any]:
    import wandb

    return [wandb.Image(image) for image in images]


def _start(tracker: Any) -> None:
    """One process, on the CPU: accelerate wants to know, and no device is touched for it."""
    from accelerate.state import PartialState

    PartialState(cpu=True)
    tracker.start()


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
