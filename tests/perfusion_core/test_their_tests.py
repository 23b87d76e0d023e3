"""diffusers' own fast tests of its pipelines, with a concept around every call.

Their sources are not installed with the package: PERFBENCH_DIFFUSERS_SOURCES names a checkout, at
best of the installed version. What passes plainly has to pass with a concept, but for tests whose
own premise is another picture.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import diffusers
import pytest

SOURCES = os.environ.get("PERFBENCH_DIFFUSERS_SOURCES", "")
TESTS = Path(__file__).parent.parent
FILES = (
    "stable_diffusion/test_stable_diffusion.py",
    "stable_diffusion/test_stable_diffusion_img2img.py",
    "stable_diffusion/test_stable_diffusion_inpaint.py",
    "controlnet/test_controlnet.py",
)
FAST = "Fast or TestStable or TestControlNet"  # as older and newer versions call them
# what a test asks for that a concept must not give
PREMISES = {
    "fused_qkv_projections": "refused with a concept, by name",
    "prompt_embeds": "encodes with the bare text encoder, which knows no concept",
    "encode_prompt_works_in_isolation": "encodes with one pipeline and draws with another",
    "pag_disable_enable": "two pipelines on one U-Net",
}
# how a comparison with pictures that are written out in a test fails: |difference| < tolerance
NUMBER = r"(?:np\.\w+\()?[\d.]+(?:e[+-]?\d+)?\)?"
CLOSE = r"AssertionError:\s*Tensors not close!"  # newer ones; between own pictures it has a name
PIXELS = re.compile(rf"(?:AssertionError: )?assert {NUMBER} < {NUMBER}\s|{CLOSE}")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(SOURCES, "tests", "pipelines").is_dir() or not SOURCES,
        reason="PERFBENCH_DIFFUSERS_SOURCES names no folder with diffusers' sources and tests",
    ),
]


def outcomes(folder: Path, concept: bool) -> dict[str, tuple[bool, str]]:
    """Of every test that was not skipped: whether it passed, and what it said."""
    (folder / "conftest_of_ours.py").write_bytes((TESTS / "conftest.py").read_bytes())
    report = folder / f"{'concept' if concept else 'plain'}.xml"
    package = Path(diffusers.__file__).parent.parent  # the installed one, not that of the sources
    places = (folder, TESTS, TESTS.parent, package, os.environ.get("PYTHONPATH", ""))
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PERFBENCH_CONCEPT_AROUND": "1" if concept else "",
        "HF_HUB_OFFLINE": "1",
    }
    files = [f"tests/pipelines/{file}" for file in FILES]
    there = [file for file in files if Path(SOURCES, file).is_file()]
    words = ["-q", "-p", "concept_around", "-p", "no:cacheprovider", f"--junitxml={report}"]
    words += ["--continue-on-collection-errors"]  # a file may need what is not installed here
    words += ["-m", "not slow and not nightly", "-k", os.environ.get("PERFBENCH_THEIR_K", FAST)]
    command = [sys.executable, "-m", "pytest", *words, *there]
    done = subprocess.run(command, cwd=SOURCES, env=env, capture_output=True, text=True)
    assert report.is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        bad = [part for part in case if part.tag in ("failure", "error")]
        if not any(part.tag == "skipped" for part in case):
            said = bad[0].get("message", "") if bad else ""
            found[f"{case.get('classname')}::{case.get('name')}"] = (not bad, said)
    return found


def is_premise(name: str, said: str) -> bool:
    """Whether another picture, or a refusal, is what a concept has to lead to there."""
    test = name.split("::")[1]
    return any(word in test for word in PREMISES) or PIXELS.match(f"{said} ") is not None


def test_their_fast_tests_pass_with_a_concept(tmp_path):
    about = Path(SOURCES, "src", "diffusers", "__init__.py").read_text(encoding="utf-8")
    version = about.split('__version__ = "')[1].split('"')[0]
    if version != diffusers.__version__:
        warnings.warn(f"tests of diffusers {version} on {diffusers.__version__}", stacklevel=1)
    plain, concept = outcomes(tmp_path, False), outcomes(tmp_path, True)
    passed = {name for name, (fine, _) in plain.items() if fine}
    least = 1 if "PERFBENCH_THEIR_K" in os.environ else 20
    assert len(passed) >= least, f"{len(passed)} of {len(plain)} pass without a concept"
    lost = {name: concept[name][1] for name in passed if not concept.get(name, (False, ""))[0]}
    unexpected = {name: said for name, said in lost.items() if not is_premise(name, said)}
    print(f"{len(passed)} of {len(plain)} pass plainly, {len(passed) - len(lost)} with a concept")
    for name, said in lost.items():
        print("lost:", name, said[:150])
    assert not unexpected
