"""docs/concepts.md: every command in it is run, in order, by a newcomer's folder of files made
here.
"""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from run_kit import make_backbone
from test_importers import DREAMBENCH, write
from test_photographs import home, phone_photo, server  # noqa: F401  (fixtures)

from benchmarks import cli
from benchmarks.paths import data_dir

PAGE = Path(__file__).parent.parent.parent / "docs" / "concepts.md"


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def newcomer(folder):
    """What the page supposes: photos, a clone of DreamBench, a set of one's own, a downloaded
    folder.
    """
    for i in range(6):
        (folder / "my_teapot").mkdir(exist_ok=True)
        phone_photo(folder / "my_teapot" / f"IMG_{i}.jpg", (80 + i, 60))
        subject = folder / "dreambooth" / "dataset" / "teapot"
        subject.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (i, 90, 90)).save(subject / f"{i:02d}.jpg")
        for place in ("headless_statue", "my_set/red boat"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (9, i, 90)).save(folder / place / f"{i}.png")
    write(
        folder / "dreambooth" / "dataset" / "prompts_and_classes.txt",
        DREAMBENCH.replace("backpack,backpack", "teapot,teapot"),
    )
    write(folder / "my_set" / "prompts.txt", "a {} on the moon\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


def test_every_command_of_the_page(home, tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    """`plan` and `run` look at the tiny backbone of the tests (run: without doing it). What may
    fail says so here.
    """
    (tmp_path / "desk").mkdir()
    newcomer(tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    said = {}
    for line in commands():
        words = shlex.split(line, comments=True)
        assert words[0] == "perfbench", line
        if words[1] in ("plan", "run"):
            words += ["--backbone", str(tiny), *(["--dry-run"] if words[1] == "run" else [])]
        # as many as the page says are drawn by test_worlds.py
        words = [re.sub(r"^(world(?:-tuning)?):\d+$", r"\1:2", word) for word in words]
        status = cli.run(words[1:])
        said[line] = capsys.readouterr()
        # fetch: the loopback archive has two of six folders, and the sculpture has no address:
        # told, the others go on
        assert status == (1 if line == "perfbench concepts fetch all" else 0), (line, said[line])
    assert (
        "my_teapot: 6 images of a teapot"
        in said["perfbench concepts add my_teapot --super-category teapot"].out
    )
    fetched = said["perfbench concepts fetch all"]
    assert {line.split(":")[0] for line in fetched.out.splitlines()} == {
        "cat",
        "cat_toy",
        "pot",
        "puppy",
        "sunglasses",
        "teapot",
    }
    assert len(said["perfbench ls prompts --concept my_teapot"].out.splitlines()) == 1 + 19 + 16
    assert "c01" in said["perfbench ls prompts"].out


def test_the_page_names_every_suite():
    from benchmarks.suite.importers import SUITES

    for name in SUITES:
        assert f"`{name}:DIR" in PAGE.read_text(encoding="utf-8")


def test_prompts_readme_tells_the_true_numbers():
    text = (data_dir("prompts") / "README.md").read_text(encoding="utf-8")
    assert "our own reconstruction" in text and 7 * 30 + 2 * 16 + 11 + 10 == 263
    for file in ("prompts.csv", "validation.csv", "training.txt", "pairs.csv"):
        assert f"`{file}`" in text and (data_dir("prompts") / file).is_file()
