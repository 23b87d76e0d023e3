"""The contract that every method keeps, and what breaking it says; the method of docs/methods.md is one of them."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from run_kit import ROOT, environment, run_here, shared

from benchmarks.contract import Broken, check
from benchmarks.planning import methods

PAGE = (ROOT / "docs" / "methods.md").read_text()
OFFSET = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]
# methods that are not written yet are not here; the list of names is checked by test_cli_run.py
BUILT_IN = [name for name, where in methods.BUILT_IN.items() if find_spec(where)]


@pytest.fixture(scope="module")
def backbone():
    from perfusion_core.backbone import Backbone

    return Backbone.open(shared() / "tiny", device="cpu", dtype="float32")


@pytest.fixture
def offset(tmp_path):
    file = tmp_path / "offset.py"
    file.write_text(OFFSET)
    return file


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_methods(name, backbone):
    said = []
    check(methods.load(name), backbone, tell=said.append)
    assert said[-1] == "restores after an exception"


def test_the_method_of_the_page_is_short_and_keeps_the_contract(offset, backbone):
    assert len([line for line in OFFSET.splitlines() if line.strip()]) < 60
    said = []
    check(methods.load("offset", [str(offset)]), backbone, tell=said.append)
    assert "changes the picture" in said


SAVE = 'save_file({"offset": offset.detach().cpu()}, folder / "offset.safetensors")'
MISTAKES = [
    ("        del backbone.pipe.encode_prompt", "        pass", "after apply it must draw as before"),
    ("return encoding + named.get(text, 0), *rest", "return encoding, *rest", "the picture must change"),
    ("seed=seed", "seed=torch.seed() % 2**31", "the same seed must give the same bytes"),
    ("keep=keep", "keep=()", "must also write out/step-2/"),
    ("progress=progress", "progress=None", "must be called after each"),
    (SAVE, f'torch.save(offset, folder / "offset.pt"); {SAVE}', "never as pickles"),
    ("    pictures =", "    backbone.unet.conv_in.weight.data += 1\n    pictures =", "nothing of itself"),
]


@pytest.mark.parametrize(("correct", "wrong", "told"), MISTAKES)
def test_what_breaks_it_is_named(correct, wrong, told, tmp_path):
    from perfusion_core.backbone import Backbone

    assert correct in OFFSET
    file = tmp_path / "offset.py"
    file.write_text(OFFSET.replace(correct, wrong))
    fresh = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    with pytest.raises(Broken, match=told):
        check(methods.load("offset", [str(file)]), fresh, tell=lambda line: None)


def test_the_command_runs_it(offset, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("--method-file", str(offset), "--methods", "offset,offset-selected", "--concepts", "cat")
    assert run_here(shared(), out, *more) == 0
    table = capsys.readouterr().out
    assert "| offset " in table and "| offset-selected " in table
    assert len(list((out / "fits" / "offset").iterdir())) == 2


def test_an_unfinished_file_says_what_is_missing(tmp_path, backbone):
    (tmp_path / "half.py").write_text('NAME = "half"\nTRAINED = True\n')
    with pytest.raises(ValueError, match="has no LABEL, VERSION, PRIOR, Config, MINIATURE, fit, apply"):
        methods.load("half", [str(tmp_path / "half.py")])


@pytest.mark.slow
def test_authors_can_run_it(offset):
    call = [sys.executable, "-m", "benchmarks.contract", str(offset), "--backbone", str(shared() / "tiny")]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "offset keeps the contract" in done.stdout, done.stderr
