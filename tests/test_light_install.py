"""A machine without torch: tables, checks, figures and plans are made there as elsewhere; what
needs torch says so in one sentence.

In: a process in which no library for models can be imported. Out: exit status and words.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from run_kit import ROOT, environment

from benchmarks.cli import HEAVY

QUICK = ROOT / "results" / "miniature-quick"
# each call is a process of its own, forked once the libraries of tables are there
WRAPPER = f"""
import json, os, sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(HEAVY)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nowhere())
import pandas, scipy.stats
from benchmarks.cli import main
for number, words in enumerate(json.loads(sys.argv[1])):
    if not os.fork():
        sys.argv = ["perfbench", *words.split()]
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{{number}}.{{name}}", os.O_WRONLY | os.O_CREAT), stream)
        os.chdir(str(number))
        main()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
LIGHT = [
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
]
TORCH = [
    "run --preset micro",
    "fit perfusion --concept cat --out cat.safetensors",
    "generate Acat --out pictures",
    "covariance --backbone sd15",
    "score quick",
    "attention quick",
    "miniature show cat",
    "masks cat --suite miniature",
    "catalog check",  # whose vocabulary is open_clip's
]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """-> exit status, stdout and stderr of each command, as somebody without torch has it."""
    folder, every = tmp_path_factory.mktemp("light"), [*LIGHT, *TORCH]
    for number in range(len(every)):
        shutil.copytree(QUICK, folder / str(number) / "results" / "quick")
    call = [sys.executable, "-c", WRAPPER, json.dumps(every)]
    said = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return {
        words: (int(status), *((folder / f"{n}.{end}").read_text() for end in ("out", "err")))
        for n, (words, status) in enumerate(zip(every, said.stdout.split(), strict=True))
    }


@pytest.mark.parametrize("words", LIGHT)
def test_what_needs_no_torch(done, words):
    status, out, err = done[words]
    assert status == 0 and "Traceback" not in err, err
    assert out.strip()


@pytest.mark.parametrize("words", TORCH)
def test_what_needs_torch_says_so(done, words):
    status, _, err = done[words]
    assert status == 2 and "Traceback" not in err, err
    said = err.strip().splitlines()[-1]
    libraries = "|".join(HEAVY)
    assert re.fullmatch(rf"perfbench: this needs ({libraries}), which is not installed: .*", said)
