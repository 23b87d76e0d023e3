"""`perfbench miniature`: its help, its sentences, a recipe that is changed, a prompt that is
shown.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.miniature.show import asked, rendered, sheet, words
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import CLASSES, make_instance
from perfusion_core.errors import UserError

# ---- the command


def test_help_lists_the_words_and_imports_no_torch():
    text = words()
    for word in (
        *CLASSES,
        "on the moon",
        "reading a book",
        "wearing a sombrero",
        "filled with flowers",
        "purple",
        "pixel art",
    ):
        assert word in " ".join(text.split()), word
    code = "import sys, argparse; from benchmarks.miniature.command import miniature\n"
    code += "miniature(argparse.ArgumentParser())\n"
    code += "print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["show", "a dog juggling on the moon"], "no drawing for 'juggling'"),
        (["show", "a dog on the moon", "--n", "0"], "between 1 and 64"),
        (["show", "a dog on the moon", "--out", "dog.gif"], "ends in .png"),
        (["build", "--minutes", "0"], "training takes time"),
        (["build", "--stages", "unett"], "did you mean 'unet'"),
        (["build", "--start", "nowhere"], "no packed training"),
        (["build", "--set", "own_tokens=0"], "did you mean 'own_token'"),
        (["build", "--set", "settle=soon"], "settle=soon: a number like 0.25"),
        (["build", "--set", "shards=0"], "at least 1"),
        (["verify", "--weights", "nowhere"], "judges"),
    ],
)
def test_mistakes_are_told_in_a_sentence(args, sentence, tmp_path, monkeypatch):
    from benchmarks.cli import run

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        run(["miniature", *args])
    assert not any(tmp_path.iterdir())


def test_a_recipe_may_be_changed():
    from benchmarks.miniature.training.building import recipe_of
    from benchmarks.miniature.training.hyperparameters import ON_GPU, Recipe

    assert recipe_of("cpu", ["own_token=0", "text_batch=64"]) == Recipe(
        own_token=0.0, text_batch=64
    )
    assert recipe_of("cuda:0", []) == ON_GPU


def test_a_mistake_ends_the_command_with_status_2(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "benchmarks.cli", "miniature", "show", "a unicorn on the moon"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 2 and "perfbench: " in done.stderr and "Traceback" not in done.stderr
    assert "unicorn" in done.stderr


def test_a_room_above_adds_a_subverb_in_its_place(capsys):
    from benchmarks.cli import run

    with pytest.raises(SystemExit) as end:
        run(["miniature", "--help"])
    said = capsys.readouterr().out
    assert (
        end.value.code == 0 and "miniature [-h] build|verify|show|restyle|contrastive ..." in said
    )
    assert [
        line.split()[0]
        for line in said.splitlines()
        if line.startswith("    ") and "    " in line.strip()
    ] == ["build", "verify", "show", "restyle", "contrastive"]
    code = "import benchmarks.miniature.command; from benchmarks.verb import SUBVERBS\n"
    code += "print(*[name for name, _, _ in SUBVERBS['miniature']])"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert alone.stdout.split() == ["build", "show", "restyle", "contrastive"], (
        "the miniature knows no evidence"
    )


def test_the_stages_that_can_be_asked_for_are_those_that_are_trained():
    from benchmarks.miniature.training.hyperparameters import MINUTES, STAGES
    from benchmarks.miniature.training.recipe import TRAIN

    assert list(TRAIN) == list(STAGES) and all(
        list(each) == list(STAGES) for each in MINUTES.values()
    )


# ---- show


def test_colours_and_patterns_choose_the_instance():
    picture = asked("a red striped cat on the moon", seed=3)
    assert (picture.one.cls, picture.one.main_name, picture.one.pattern) == (
        "cat",
        "red",
        "striped",
    )
    assert picture.scene == "moon"
    pair = asked("a blue cat next to a spotted teapot", seed=0)
    assert (
        pair.one.main_name == "blue"
        and pair.other.pattern == "spotted"
        and pair.other.cls == "teapot"
    )
    assert asked("a dog wearing a red scarf", seed=0).wear == "scarf"
    assert asked("a golden chair", seed=0).material == "gold"
    assert asked("a dog", seed=1) == read("a dog", seed=1)
    with pytest.raises(UserError, match="one colour"):
        asked("a red blue cat", seed=0)


def test_a_sheet_shows_every_picture():
    pictures = rendered("a dog reading a book on the moon", [0, 1, 2])
    assert pictures.shape == (3, 64, 64, 3) and len({p.tobytes() for p in pictures}) == 3
    page = np.asarray(sheet({"generated": pictures[::-1], "rendered": pictures}, "a dog"))
    assert page.shape == (16 + 6 + 2 * (16 + 192 + 6), 6 + 3 * 198, 3)
    for row, order in ((0, (2, 1, 0)), (1, (0, 1, 2))):
        for column, k in enumerate(order):
            top, left = 22 + row * 214 + 16, 6 + column * 198
            assert np.array_equal(page[top : top + 192 : 3, left : left + 192 : 3], pictures[k])


def test_the_command_draws_with_a_backbone(tiny_pipe_dir, tmp_path):
    from PIL import Image

    from benchmarks.miniature.show import show_verb

    out = show_verb(
        "a cat on the beach",
        2,
        tmp_path / "cat.png",
        weights=Path(tiny_pipe_dir),
        seed=4,
        device="cpu",
        dtype="float32",
    )
    page = np.asarray(Image.open(out))
    below = rendered("a cat on the beach", [4, 5])
    assert np.array_equal(page[22 + 214 + 16 :: 3, 6::3][:64, :64], below[0])
    assert page[38:230, 6:198].std() > 1
    assert make_instance("cat", 0).cls == "cat"
