"""README.md, CONTRIBUTING.md and all pages: commands that run or parse, names that exist.

The README's two set-up commands themselves are what .ci/run runs.
"""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_concept
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks import cli
from benchmarks.planning import methods
from benchmarks.planning.config import PRESETS
from perfusion_core.errors import UserError
from website.navigation import pages
from website.page_blocks import PYTHON, commands, page_blocks, told
from website.run_blocks import micro

ROOT = Path(__file__).parent.parent
# the changelog speaks of commands that were
PAGES = [page for page in pages() if page != "CHANGELOG.md"]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
ALL = [(page, line) for page in PAGES for line in commands(TEXTS[page])]
# than micro: what is trained and drawn is the same, and less of it
SMALLER = ("--set", "images=1", "--set", "steps=2", "--set", "train_steps=2", "--threads", "1")
TOLD = [(page, line) for page in PAGES for line in told(TEXTS[page])]


def parsed(line):
    """`perfbench ...` as the command line takes it."""
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in cli.VERBS
    parser = cli.Parser(prog=words[0])
    cli.VERBS[words[0]](parser)
    args = parser.parse_args(words[1:])
    if words[0] in ("run", "plan"):
        from benchmarks.running.flags import config_of

        config = config_of(args)
        if not config.method_files:
            methods.check_names(config.methods)
        assert config.preset in PRESETS


@pytest.mark.parametrize(("page", "line"), ALL)
def test_commands_parse(page, line):
    parsed(line)


@pytest.mark.parametrize(("page", "line"), TOLD)
def test_commands_in_sentences_parse(page, line):
    """They may leave out what everybody has to give: `perfbench fit --for lora`."""
    if line != "perfbench --version":
        try:
            parsed(line)
        except UserError as error:
            assert "the following arguments are required" in str(error), line


def test_the_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch):
    """As written, in an empty folder with some photographs; only smaller. Stable Diffusion's need a
    download. Processes of their own are those of `website.run_blocks`.
    """
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "concepts" / "teapot" / "images", tmp_path / "my_photos")
    run = [line for page, line in ALL if page == "README.md" and "sd15" not in line]
    assert len(run) >= 6
    for line in run:
        words = shlex.split(micro(line), comments=True)[1:]
        assert cli.run([*words, *(SMALLER if words[0] == "run" else ())]) == 0, line
    assert list(tmp_path.glob("results/*/table.md")) and list(tmp_path.glob("results/*/index.html"))


def test_the_readme_shows_the_verbs_of_the_main_way():
    assert {line.split()[1] for page, line in ALL if page == "README.md"} >= {
        "ls",
        "run",
        "plot",
        "report",
        "covariance",
    }


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/run-folder.md"]
)
def test_files_on_the_page_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/.-])((?:docs|tests|benchmarks|perfusion_core|prompts|\.ci)/[\w./-]+\w)", text
    )
    assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_the_example_for_your_own_pipeline_runs_as_written(
    tmp_path, monkeypatch, tiny_backbone, tiny_c_inv
):
    """Every line of it; only the hub's checkpoint is a folder here, with C beside it."""
    found = page_blocks("README.md", TEXTS["README.md"])
    [code] = [block.text for block in found if block.kind == PYTHON]
    hub_id = '"stable-diffusion-v1-5/stable-diffusion-v1-5"'
    assert hub_id in code
    monkeypatch.chdir(tmp_path)
    make_concept(tiny_backbone).save("teddy.safetensors")
    names: dict[str, Any] = {}
    exec(code.replace(hub_id, repr(str(tiny_backbone.place))), names)
    assert Image.open("samurai.png").size == (16, 16)
    pipe = names["pipe"]
    assert type(pipe) is StableDiffusionPipeline and "encode_prompt" not in vars(pipe)
    fresh = StableDiffusionPipeline.from_pretrained(tiny_backbone.place)
    assert all(map(torch.equal, pipe.unet.state_dict().values(), fresh.unet.state_dict().values()))
    assert [*map(str, pipe.unet.modules())] == [*map(str, fresh.unet.modules())]


def test_ci_stops_when_it_says():
    """The limit that .ci/run prints is the one at which the workflow ends."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    [stops] = re.findall(r"timeout-minutes: (\d+)", workflow)
    [aim, limit] = re.search(
        r"^aim=(\d+) limit=(\d+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M
    ).groups()
    assert stops == limit and int(aim) <= int(limit)


def test_the_two_commands_are_tox_environments():
    text, tox = (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        (ROOT / "tox.ini").read_text(encoding="utf-8"),
    )
    named = re.findall(r"tox -q -e (\w+)$", text, re.M)
    assert named == ["quickstart", "tests"]
    assert all(f"[testenv:{name}]" in tox for name in named)


def test_the_pictures_of_the_miniature_can_be_drawn_again(tmp_path, monkeypatch):
    """By the commands below them; of what the models draw, eight prompts of the last word."""
    from benchmarks.miniature import sheet

    whole = sheet.load_catalog()
    few = replace(whole, prompts=whole.prompts[:8])
    text = " ".join((ROOT / "docs" / "miniature.md").read_text(encoding="utf-8").split())
    told = [
        span.split()
        for span in re.findall(r"`python -m benchmarks\.miniature\.sheet ([^`]+)`", text)
    ]
    assert [len(words) for words in told] == [1, 5]
    for out, *words in told:
        monkeypatch.setattr(sheet, "load_catalog", lambda asked=few if words else whole: asked)
        sheet.main(tmp_path / out, words[-1:])
        now, committed = Image.open(tmp_path / out), Image.open(ROOT / out)
        assert now.width == committed.width
        assert words or now.convert("RGB").tobytes() == committed.convert("RGB").tobytes()
