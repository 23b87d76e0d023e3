"""Trainings with two threads give the same bytes again: in another process, and killed and gone on
with.

Where threads add gradients in any order, two runs of one command differ in low bits.
"""

import functools
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from run_kit import arguments, context, shared

from benchmarks.paths import miniature_dir
from perfusion_core import checkpoint

TRAINED = ("perfusion", "perfusion-trained-k", "perfusion-vanilla-rome", "db", "ti", "cd", "lora")
TRAINED += ("dora", "loha", "lokr", "oft", "pivotal", "xti", "attndreambooth", "classdiffusion")
WORDS = ("--methods", ",".join(TRAINED), "--concepts", "cat", "--threads", "2")
QUICK = ("images=1", "steps=1", "train_steps=6")  # it is about the fits
QUICK += ("fit.attndreambooth.word_steps=2", "fit.attndreambooth.attention_steps=2")


def start(out: Path, *more: str):
    """`perfbench run` in a process of its own, with a checkpoint after every step."""
    words = [*arguments(shared(), out, *WORDS), *more]
    process = context().Process(target=_child, args=(words, out.with_suffix(".log")))
    process.start()
    return process


def _child(words: list[str], log: Path) -> None:
    from benchmarks import cli

    begin = checkpoint.Checkpoint.__init__
    checkpoint.Checkpoint.__init__ = functools.partialmethod(begin, seconds=0.0)
    sys.stdout = sys.stderr = log.open("a", buffering=1)
    sys.argv = ["perfbench", "run", *words]
    cli.main()


def ended(process, out: Path) -> dict[str, bytes]:
    """Every file that was trained, by its place in the run."""
    process.join(1800)  # two threads wait for each other where others need the cores
    process.kill()
    assert process.exitcode == 0, out.with_suffix(".log").read_text()[-3000:]
    fits = {path.relative_to(out).as_posix(): path for path in out.glob("fits/**/*.safetensors")}
    assert len(list(out.glob("fits/*/*/fit.json"))) == len(TRAINED)
    return {name: path.read_bytes() for name, path in fits.items()}


def killed_in_every_fit(out: Path, *more: str) -> None:
    """One kill in the middle of each method's fit, while its checkpoint lies there."""
    seen: set[Path] = set()
    while len(seen) < len(TRAINED):
        process = start(out, *more)
        while process.is_alive():
            halves = set((out / ".tmp").glob(f"*/{checkpoint.FILE}")) - seen
            if halves:
                os.kill(process.pid, signal.SIGKILL)
                seen |= halves
            time.sleep(0.002)
        process.join()
        assert process.exitcode == -signal.SIGKILL, out.with_suffix(".log").read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["miniature", "published"])
def test_two_processes_and_a_killed_one_train_the_same_bytes(tmp_path, recipe):
    """The miniature's recipes on the miniature, whose tensors are large enough for two threads; the
    published ones, with their views and micro-batches, on a tiny backbone.
    """
    more = [word for value in (f"recipe={recipe}", *QUICK) for word in ("--set", value)]
    if recipe == "miniature":
        more += ["--backbone", str(miniature_dir())]
    first, second, killed = (tmp_path / name for name in ("first", "second", "killed"))
    whole = ended(start(first, *more), first)
    assert ended(start(second, *more), second) == whole
    killed_in_every_fit(killed, *more)
    assert ended(start(killed, *more), killed) == whole
