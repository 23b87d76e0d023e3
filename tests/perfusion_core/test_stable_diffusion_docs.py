"""docs/stable-diffusion.md: every command in it is one that the command line takes, with names that
exist.
"""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.planning import methods
from benchmarks.scoring.lookup import DINO
from perfusion_core.hub import HUB

PAGE = (Path(__file__).parent.parent.parent / "docs" / "stable-diffusion.md").read_text(
    encoding="utf-8"
)
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.S))
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("perfbench ")]


def parsed(words):
    parser = cli.Parser(prog=words[0])
    cli.VERBS[words[0]](parser)
    return parser.parse_args(words[1:])


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line):
    words = shlex.split(line, comments=True)[1:]
    args = parsed(words)
    if words[0] in ("run", "plan"):
        from benchmarks.running.flags import config_of

        config = config_of(args)
        assert methods.check_names(config.methods) and config.backbone in HUB
    if words[0] == "fit":
        assert args.method in methods.method_names()


def test_the_page_leaves_no_verb_of_the_way_out():
    said = {line.split()[1] for line in COMMANDS}
    assert said >= {
        "concepts",
        "masks",
        "covariance",
        "fit",
        "generate",
        "plan",
        "run",
        "score",
        "plot",
        "report",
    }


def test_names_on_the_page_are_the_codes():
    for name, hub_id in HUB.items():
        assert f"| `{name}` | `{hub_id}`" in PAGE
    for model in DINO.values():
        assert model.removeprefix("timm:") in PAGE
    for option in re.findall(r"--set ([a-z_.]+)=(\S+?)`", PAGE):
        from benchmarks.planning.config import resolve

        resolve(sets=["=".join(option)])


def test_examples_in_python_are_python():
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        compile(code, "the page", "exec")
