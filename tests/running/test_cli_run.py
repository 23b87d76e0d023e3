"""The verbs of the harness as a user meets them: quick help, mistakes in one sentence, a broken
installation.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from run_kit import environment, perfbench
from safetensors.numpy import save_file

from benchmarks import cli
from benchmarks.advice import advised
from benchmarks.cli import mismatched, run
from benchmarks.planning.ablations import ABLATIONS
from benchmarks.planning.config import PRESETS
from benchmarks.planning.methods import VARIANTS
from benchmarks.running.flags import ablated
from perfusion_core.errors import MissingMasks, UserError


def sentence(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        run(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_help_groups_every_verb_by_its_purpose():
    grouped = [name for verbs in cli.GROUPS.values() for name in verbs]
    assert sorted(grouped) == sorted(cli.VERBS), "each verb stands in one group, once"
    for purpose, verbs in cli.GROUPS.items():
        after = cli.usage().partition(f"\n{purpose}:\n")[2].splitlines()
        assert [line.split()[0] for line in after[: len(verbs)]] == list(verbs)


def test_help_of_every_verb_is_quick_and_has_examples():
    code = """
import contextlib, io, sys, time
started = time.process_time()
from benchmarks import cli
loading = time.process_time() - started
for verb in cli.VERBS:
    started, out = time.process_time(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.run([verb, "--help"])
    seconds = loading + time.process_time() - started
    assert seconds < 0.5, (verb, seconds)
    assert not {"torch", "pandas", "diffusers"} & set(sys.modules), verb
    assert f"usage: perfbench {verb}" in out.getvalue()
    assert f"perfbench {verb} " in out.getvalue().split("options:")[0].split("\\n", 1)[1] or verb \
== "study", verb
print(*cli.VERBS)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {"run", "plan", "score", "table", "check", "plot", "report", "ls", "fit"} <= set(
        done.stdout.split()
    )


def test_a_reader_that_leaves_early_is_no_error():
    """`perfbench ls prompts | head -1`, with a reader that is gone before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    call = [sys.executable, "-m", "benchmarks.cli", "ls", "prompts"]
    done = subprocess.run(
        call, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_typing_mistake_costs_less_than_a_second():
    """No torch, no model: names are looked at first."""
    code = (
        "import sys; from benchmarks import cli\ntry: cli.main()\nfinally: assert 'torch' not "
        "in sys.modules"
    )
    for words, told in (
        (
            ["run", "--methods", "perfusoin"],
            "unknown method 'perfusoin'; did you mean 'perfusion'?",
        ),
        (
            ["fit", "perfusoin", "--concept", "cat", "--out", "c.safetensors"],
            "unknown method 'perfusoin'; did you",
        ),
        (["run", "--methods", "ti-slected"], "did you mean 'ti-selected'?"),
        (["run", "--ablation", "one-shoot"], "did you mean 'one-shot'?"),
    ):
        started = time.process_time(), os.times().children_user + os.times().children_system
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment(), capture_output=True, text=True
        )
        spent = os.times().children_user + os.times().children_system - started[1]
        assert (
            done.returncode == 2
            and told in done.stderr
            and "Traceback" not in done.stderr
            and spent < 1
        )


def test_mistakes(tmp_path):
    assert "did you mean 'quick'" in sentence("run", "--preset", "qick")
    assert "did you mean 'images'" in sentence("plan", "--set", "image=4")
    assert "a whole number is wanted" in sentence("run", "--seed", "one")
    assert "did you mean 'processes'" in sentence("run", "--engine", "process")
    assert "did you mean 'run'" in sentence("rnu")
    assert "--help` shows what is allowed" in sentence("run", "--metods", "perfusion")
    assert "there is no method file" in sentence(
        "run", "--method-file", str(tmp_path / "none.py"), "--methods", "mine"
    )
    (tmp_path / "empty.py").write_text("x = 1")
    assert 'NAME = "..." is missing' in sentence("run", "--method-file", str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("def f(:")
    assert "is not a Python file" in sentence("run", "--method-file", str(tmp_path / "broken.py"))
    (tmp_path / "taken.py").write_text('NAME = "db"')
    assert "is a built-in method" in sentence("run", "--method-file", str(tmp_path / "taken.py"))
    assert "is not a run folder" in sentence("score", str(tmp_path))


def test_the_command_says_what_to_type_where_the_core_says_what_is_missing(tmp_path):
    """A file of another kind, found by the core; the command that makes the right one, known to the
    harness.
    """
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "cat.safetensors")
    words = [
        "A {cat} on the beach",
        "--concept",
        f"cat={tmp_path / 'cat.safetensors'}",
        "--out",
        str(tmp_path / "out"),
    ]
    done = perfbench("generate", *words, "--device", "cpu")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.endswith(
        "is a safetensors file but not a concept; concepts are made by `perfbench fit perfusion`"
    )
    told = advised(MissingMasks("the concept 'cat' has no masks"))
    assert told == "the concept 'cat' has no masks; `perfbench masks` makes them"
    assert advised(UserError("as it is")) == "as it is"


def test_ablations_stand_beside_the_method_itself():
    assert ablated("lock") == ["perfusion"]  # its points have both locks
    assert ablated("one-shot, lock") == ["perfusion", "perfusion-one-shot"]
    every = ablated(",".join(one.name for one in ABLATIONS))
    variants = {name for name in VARIANTS if name.startswith("perfusion-")}
    assert set(every) == {"perfusion", *variants} - {"perfusion-published"}, "which ablates nothing"


def test_lists(capsys):
    assert run(["ls", "methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {
        "perfusion",
        "db",
        "ti",
        "cd",
        "lora",
        "super",
        "cd-better",
        "perfusion-one-shot",
    } <= rows.keys()
    assert rows["super"]["label"] == "SuperCategory" and rows["super"]["trained"] == "no"
    assert run(["ls", "presets", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(PRESETS)
    assert run(["ls", "backbones"]) == 0
    assert "miniature" in capsys.readouterr().out


def test_torch_and_torchvision_that_do_not_match(tmp_path):
    """As it happens: the import of torchvision fails deep inside another library's."""
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    code = (
        "from benchmarks import cli, verb\n@verb.verb('broken')\ndef describe(parser):\n '''x'''\n"
        " def act(args):\n  try: import torchvision\n"
        "  except RuntimeError as error: raise ImportError('no CLIP') from error\n"
        " return act\ncli.main()"
    )
    env = {**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code, "broken"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "torch and torchvision do not belong together" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
    assert mismatched(ImportError("something else")) is None


def test_version_and_unknown_verb_in_a_process_of_its_own():
    done = perfbench("--version")
    assert done.returncode == 0 and "perfbench " in done.stdout and "torch " in done.stdout
    done = perfbench("runn")
    assert done.returncode == 2 and "did you mean 'run'" in done.stderr
