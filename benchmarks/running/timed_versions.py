"""This version beside an earlier commit: the same commands, in turn, each in a process of its own.

In: a commit of this checkout. Out: a table of what each took, and the ratios.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.running.timed_tables import processor

ROOT = Path(__file__).resolve().parents[2]
# one fit with validation as the whole protocol has it, and cells with two images a prompt
CELLS = ["--preset", "quick", "--methods", "perfusion", "--concepts", "cat"]
FIT = ["--set", "train_steps=100", "--set", "fit.perfusion.batch=16"]
MICRO = ["--preset", "micro"]
WEIGHTS = Path("benchmarks", "miniature", "weights")  # in a checkout
Measures = dict[str, float]


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own for a while."""
    with tempfile.TemporaryDirectory() as place:
        tree, git = Path(place) / "tree", ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def command(root: Path, out: Path, words: Sequence[str], cache: str = "none") -> Measures:
    """Seconds of `perfbench run` by the files in `root`: by the clock, and of processor time."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PERFBENCH_CACHE": cache}
    call = [sys.executable, "-m", "benchmarks.cli", "run", *words, "--out", str(out)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(call, cwd=root, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = [now.ru_utime + now.ru_stime for now in (before, after)]
    return {"wall": time.perf_counter() - started, "processor": spent[1] - spent[0]}


def cells_and_fit(root: Path, more: Sequence[str]) -> Measures:
    """One training with its validation, then a hundred pictures of two a prompt."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        took = command(root, out, [*CELLS, *FIT, *more])
        about = json.loads((out / "run.json").read_text())
        cells = len(list(out.glob("images/*/*/*/*/cell.json")))
        images = len(list(out.glob("images/*/*/*/*/*.png")))
        assert images == 2 * cells, "every prompt has two pictures"
        return {
            "s a picture, two a prompt, 20 steps": about["seconds"]["images"] / images,
            "s a Perfusion fit with validation (100 steps)": about["seconds"]["fits"],
            f"s of `run {' '.join([*CELLS, *FIT])}`": took["wall"],
        }


def from_cold(root: Path, more: Sequence[str]) -> Measures:
    with tempfile.TemporaryDirectory() as folder:
        took = command(root, Path(folder) / "run", [*MICRO, *more])
    return {
        f"s of `run {' '.join(MICRO)}` from cold": took["wall"],
        "the same, processor time": took["processor"],
    }


def shared(root: Path, more: Sequence[str]) -> Measures:
    """What trainings and the floor take in a second folder, beside the first."""
    with tempfile.TemporaryDirectory() as folder:
        cache, spent = f"{folder}/cache", []
        for number in (1, 2):
            out = Path(folder) / f"run-{number}"
            command(root, out, [*CELLS, *FIT, *more], cache)
            spent.append(fits_and_floor(out))
    return {"first": spent[0], "second": spent[1]}


def fits_and_floor(run: Path) -> float:
    """Seconds that this run spent on its fits, and on the cells of the plain word."""
    about = json.loads((run / "run.json").read_text())
    cells = [json.loads(path.read_text()) for path in run.glob("images/super/*/*/*/cell.json")]
    floor = sum(0.0 if cell.get("cached") else cell["seconds"] for cell in cells)
    return float(about["seconds"]["fits"] + floor)


def interleaved(
    roots: Mapping[str, Path], repeats: int, more: Sequence[str]
) -> dict[str, np.ndarray]:
    """Measure -> [repeats, versions]."""
    found: dict[str, list[list[float]]] = {}
    for number in range(repeats):
        names = list(roots)[:: 1 if number % 2 == 0 else -1]
        took: dict[str, Measures] = {}
        for name in names:
            took[name] = cells_and_fit(roots[name], more) | from_cold(roots[name], more)
        for measure in took[names[0]]:
            found.setdefault(measure, []).append([took[name][measure] for name in roots])
    return {measure: np.array(values) for measure, values in found.items()}


def report(commit: str, repeats: int, dtypes: Sequence[str]) -> list[str]:
    """A table a dtype: medians, and the median of the rounds' ratios with its extremes. Both use
    the older version's weights: the miniature of another world is another model.
    """
    lines: list[str] = []
    with checked_out(commit) as old:
        for dtype in dtypes:
            more = ["--dtype", dtype, "--backbone", str(old / WEIGHTS)]
            found = interleaved({commit: old, "this": ROOT}, repeats, more)
            lines += [
                f"| {dtype}, {processor()}, {repeats} rounds | {commit} | this version | ratio | "
                f"least and most |",
                "|---|---|---|---|---|",
            ]
            for measure, values in found.items():
                each = values[:, 1] / values[:, 0]
                before, now = np.median(values, axis=0)
                lines.append(
                    f"| {measure} | {before:.3g} | {now:.3g} | {np.median(each):.2f} | "
                    f"{each.min():.2f} to {each.max():.2f} |"
                )
            took = shared(ROOT, more)
            lines += [
                f"| s on fits and floor, in a second folder | {took['first']:.3g} (the first) | "
                f"{took['second']:.3g} | {took['second'] / took['first']:.2f} | |",
                "",
            ]
    return lines
