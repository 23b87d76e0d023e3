"""README.md, CONTRIBUTING.md and the pages without tests of their own: commands that run or parse, names that exist.

The README's two set-up commands themselves are what .ci/run runs.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from run_kit import perfbench

from benchmarks import cli, methods
from benchmarks.config import PRESETS

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/miniature.md",
    "docs/scale-out.md",
    "docs/statistics.md",
    "docs/baselines.md",
]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def commands(page):
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("perfbench ")]


ALL = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), ALL)
def test_commands_parse(page, line):
    words = shlex.split(line, comments=True)[1:]
    parser = cli.Parser(prog=words[0])
    assert words[0] in cli.VERBS
    cli.VERBS[words[0]](parser)
    args = parser.parse_args(words[1:])
    if words[0] in ("run", "plan"):
        from benchmarks.run_verbs import config_of

        config = config_of(args)
        if not config.method_files:
            methods.check_names(config.methods)
        assert config.preset in PRESETS


def test_the_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch):
    """As written, in an empty folder with some photographs; only smaller. Stable Diffusion's need a download."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    shutil.copytree(ROOT / "concepts" / "teapot" / "images", tmp_path / "my_photos")
    run = [line for page, line in ALL if page == "README.md" and "sd15" not in line]
    assert len(run) >= 6
    for line in run:
        words = shlex.split(line.replace("--preset quick", "--preset micro"), comments=True)[1:]
        done = perfbench(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert list(tmp_path.glob("results/*/table.md")) and list(tmp_path.glob("results/*/index.html"))


def test_the_readme_shows_the_verbs_of_the_main_way():
    assert {line.split()[1] for page, line in ALL if page == "README.md"} >= {
        "ls",
        "run",
        "plot",
        "report",
        "covariance",
    }


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_files_on_the_page_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])((?:docs|tests|benchmarks|perfusion_core|prompts|\.ci)/[\w./-]+\w)", text)
    assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_python_on_the_page_is_python():
    for code in blocks("README.md", "python"):
        compile(code, "README.md", "exec")


def test_the_two_commands_are_tox_environments():
    text, tox = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / "tox.ini").read_text(encoding="utf-8")
    named = re.findall(r"tox -q -e (\w+)$", text, re.M)
    assert named == ["quickstart", "tests"]
    assert all(f"[testenv:{name}]" in tox for name in named)
