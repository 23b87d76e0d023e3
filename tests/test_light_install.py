"""A machine without torch: tables, checks, figures and plans are made there as elsewhere; what
needs torch says so in one sentence.

In: a process in which no library for models can be imported. Out: exit status and words.
"""

import re
import shutil
import subprocess
import sys

import pytest
from run_kit import ROOT, environment

from benchmarks.cli import HEAVY

QUICK = ROOT / "results" / "miniature-quick"
WRAPPER = f"""
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(HEAVY)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nowhere())
sys.argv = ["perfbench", *sys.argv[1:]]
from benchmarks.cli import main
main()
"""


@pytest.fixture
def light(tmp_path):
    """-> the command as somebody without torch has it."""
    shutil.copytree(QUICK, tmp_path / "results" / "quick")

    def call(words: str):
        return subprocess.run(
            [sys.executable, "-c", WRAPPER, *words.split()],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )

    return call


@pytest.mark.parametrize(
    "words",
    [
        "--version",
        "ls runs",
        "ls methods",
        "ls prompts --concept cat",
        "plan --preset quick --out results/quick",
        "table quick",
        "table quick --by difference",
        f"check quick --against {QUICK} --format json",
        "plot pareto quick --out pareto.png",
        "report quick",
        "submission make quick --out quick.perfbench.tar.xz",
        "board quick --out board",
        "view quick --bundle view",
        "gpu-day --backbone sd15 --hours 8 --out day --dry-run",
    ],
)
def test_what_needs_no_torch(light, words):
    done = light(words)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "words",
    [
        "run --preset micro",
        "fit perfusion --concept cat --out cat.safetensors",
        "generate Acat --out pictures",
        "covariance --backbone sd15",
        "score quick",
        "attention quick",
        "miniature show cat",
        "masks cat --suite miniature",
        "catalog check",  # whose vocabulary is open_clip's
    ],
)
def test_what_needs_torch_says_so(light, words):
    done = light(words)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    libraries = "|".join(HEAVY)
    assert re.fullmatch(rf"perfbench: this needs ({libraries}), which is not installed: .*", said)
