"""The contract that every method keeps, and what breaking it says; the method of docs/methods.md is
one of them.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from run_kit import ROOT, environment, run_here, shared

from benchmarks.cli import run
from benchmarks.contract import Broken, check_method
from benchmarks.figures.looks import STRANGERS, family_of, looks_of_runs, style_of
from benchmarks.figures.plots import series_of
from benchmarks.figures.registry import plot
from benchmarks.figures.report.report_page import write_report
from benchmarks.figures.selection import Wish
from benchmarks.figures.style import styled
from benchmarks.planning import methods
from benchmarks.planning.config import resolve
from benchmarks.planning.method_text import OPTIONAL
from benchmarks.running.prepared import prepare_run
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

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
    check_method(methods.load_method(name), backbone, tell=said.append)
    assert said[-1] == "restores after an exception"


def test_the_method_of_the_page_is_short_and_keeps_the_contract(offset, backbone):
    assert len([line for line in OFFSET.splitlines() if line.strip()]) < 60
    said = []
    check_method(methods.load_method("offset", [str(offset)]), backbone, tell=said.append)
    assert "changes the picture" in said


SAVE = 'save_file({"offset": offset.detach().cpu()}, folder / "offset.safetensors")'
MISTAKES = [
    (
        "        del backbone.pipe.encode_prompt",
        "        pass",
        "after apply it must draw as before",
    ),
    (
        "return encoding + named.get(text, 0), *rest",
        "return encoding, *rest",
        "the picture must change",
    ),
    ("seed=seed", "seed=torch.seed() % 2**31", "the same seed must give the same bytes"),
    ("keep=keep", "keep=()", "must also write out/step-2/"),
    ("progress=progress", "progress=None", "must be called after each"),
    (SAVE, f'torch.save(offset, folder / "offset.pt"); {SAVE}', "never as pickles"),
    (
        "    pictures =",
        "    backbone.unet.conv_in.weight.data += 1\n    pictures =",
        "nothing of itself",
    ),
]


@pytest.mark.parametrize(("correct", "wrong", "told"), MISTAKES)
def test_what_breaks_it_is_named(correct, wrong, told, tmp_path):
    from perfusion_core.backbone import Backbone

    assert correct in OFFSET
    file = tmp_path / "offset.py"
    file.write_text(OFFSET.replace(correct, wrong))
    fresh = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    with pytest.raises(Broken, match=told):
        check_method(methods.load_method("offset", [str(file)]), fresh, tell=lambda line: None)


def test_the_command_runs_it(offset, tmp_path, capsys):
    out = tmp_path / "run"
    more = (
        "--method-file",
        str(offset),
        "--methods",
        "offset,offset-selected",
        "--concepts",
        "cat",
    )
    assert run_here(shared(), out, *more) == 0
    table = capsys.readouterr().out
    assert "| offset " in table and "| offset-selected " in table
    assert len(list((out / "fits" / "offset").iterdir())) == 2
    told = Run(out).about["methods"]
    assert told["offset"]["label"] == told["offset-selected"]["label"] == "Offset"
    assert "label" not in told["super"] and "style" not in told["offset"]


STYLED = 'STYLE = {"colour": "#88641f", "marker": "d", "dash": (0, (4, 1))}'
HEAD = "TRAINED, PRIOR = True, False\n"
# what a file says wrongly, and what the contract, or any command that reads the file, answers
WRONG = [
    ("PAIRS = False", "PAIRS = False, but apply takes two concepts"),
    (
        'ONE_FILE = "other.safetensors"',
        "but fit left offset.safetensors, step-2/offset.safetensors",
    ),
    (
        'ONE_FILE = "offset.safetensors"',
        "the header of offset.safetensors must say the super_category",
    ),
    ('FILES = {"word.safetensors": "offset"}', "but fit left offset.safetensors otherwise"),
    ('FILES = {"offset.safetensors": "word"}', "but fit left offset.safetensors otherwise"),
    ('FILES = ("offset.safetensors",)', "is not files such as {"),
    ('FILES = {"offset.safetensors": "("}', "FILES: '(' is no regular expression"),
    ('TUNED = ("rate",)', "TUNED names rate, which is no number of Config"),
    ("SELECTS = 1", "SELECTS: 1 is neither True nor False"),
    ('TUNED = "lr"', "TUNED: 'lr' is not a tuple of texts"),
    ('TUNED_RANGES = {"lr": (0.1, 0.001)}', "lr is (0.1, 0.001); two rates above 0 are wanted"),
    ('TUNED_RANGES = {"lr": (0.001, 0.1)}', "TUNED_RANGES names lr, which TUNED does not"),
    ('POINTS = ("strongly",)', "operating point 'strongly'"),
    ('POINTS = ("strength=1", "default")', "POINTS names points whose pictures are the same"),
    (
        'STYLE = {"colour": "red", "marker": "o"}',
        "colour is 'red'; a colour such as #88641f is wanted",
    ),
    ('STYLE = {"colour": "#123456"}', "colour and marker are wanted"),
    ('STYLE = {"colour": "#123456", "marker": "o", "size": 3}', "'size' is not colour, marker"),
    ("STYLE = dict(colour='#123456', marker='o')", "a plain constant is wanted"),
    ('FAMILY = "words"', "FAMILY: 'words' is not word, adapter, model, perfusion"),
    ("KILOBYTES = 0.5", "KILOBYTES: 0.5 is not a whole number above 0"),
    ('SUMMARY = ""', "SUMMARY: '' is not one line of at most 120 characters"),
    ('CITE = "@book{a2026, title = {b}"', "is no whole entry, such as @inproceedings{"),
    ('CITE = "Somebody 2026"', "CITE: no entry begins with @"),
    (STYLED + "\nSTYLE['marker'] = 'o'", "STYLE must not be changed after the line that says it"),
]


@pytest.mark.parametrize(("more", "told"), WRONG)
def test_what_a_file_says_wrongly_is_named(more, told, tmp_path, backbone):
    file = tmp_path / "offset.py"
    file.write_text(OFFSET.replace(HEAD, f"{HEAD}{more}\n"))
    with pytest.raises(UserError) as caught:
        check_method(methods.load_method("offset", [str(file)]), backbone, tell=lambda line: None)
    assert told in str(caught.value)


def test_a_byte_that_depends_on_c_is_noticed(tmp_path, backbone):
    file = tmp_path / "offset.py"
    zeros = "torch.zeros(backbone.text_encoder.config.hidden_size, device=backbone.device)"
    looking = OFFSET.replace(zeros, "backbone.c_inv[0].float().clone()")
    file.write_text(looking.replace(HEAD, f"{HEAD}USES_COVARIANCE = False\n"))
    with pytest.raises(Broken, match="USES_COVARIANCE = False, and with another C"):
        check_method(methods.load_method("offset", [str(file)]), backbone, tell=lambda line: None)


def test_every_optional_name_stands_on_the_page():
    assert all(f"`{name}" in PAGE for name in OPTIONAL)


def test_what_a_file_says_is_planned(tmp_path):
    """Points, C and pairs of a file that says them; those of one that is silent are as they
    were.
    """
    file = tmp_path / "offset.py"
    said = (
        'SELECTS, USES_COVARIANCE, PAIRS = True, False, False\nPOINTS = ("strength=0.5", '
        '"strength=1")\n' + STYLED
    )
    plans = {}
    for name, text in (("silent", OFFSET), ("said", OFFSET.replace(HEAD, f"{HEAD}{said}\n"))):
        file.write_text(text)
        flags = {
            "methods": ("offset",),
            "method_files": (str(file),),
            "concepts": ("cat",),
            "prompts": ("1",),
            "pairs": ("cat+teapot",),
            "backbone": str(shared() / "tiny"),
            "suite": str(shared() / "concepts"),
            "dtype": "float32",
            "device": "cpu",
        }
        prepared = prepare_run(resolve(preset="micro", flags=flags))
        [offset] = [one for one in prepared.methods if one.name == "offset"]
        plans[name] = (
            offset,
            {(cell.point, cell.concept) for cell in prepared.plan.cells if cell.method == "offset"},
        )
    silent, cells = plans["silent"]
    assert (silent.select, silent.covariance, silent.needs_covariance, silent.one_file) == (
        False,
        True,
        False,
        "",
    )
    assert cells == {("default", "cat"), ("default", "cat+teapot")} and not silent.style
    told, cells = plans["said"]
    assert (told.select, told.covariance, told.pairs) == (True, False, False)
    assert cells == {("strength=0.5", "cat"), ("strength=1", "cat")} and told.style["marker"] == "d"
    assert "offset-selected" not in methods.method_names(
        [str(file)]
    ) and "ti-selected" in methods.method_names([])


def test_a_method_that_needs_c_is_refused_where_there_is_none(offset, tmp_path):
    offset.write_text(OFFSET.replace(HEAD, f"{HEAD}USES_COVARIANCE = True\n"))
    bare = shutil.copytree(shared() / "tiny", tmp_path / "bare")
    (bare / "covariance.safetensors").unlink()
    more = ("--method-file", str(offset), "--methods", "offset", "--backbone", str(bare))
    with pytest.raises(
        UserError, match="has no C yet, which offset needs: perfbench covariance --backbone"
    ):
        run_here(shared(), tmp_path / "run", *more)


def test_one_file_is_fitted_tuned_and_given_to_a_run(offset, tmp_path):
    """A method of one's own in every verb that takes the built-in ones."""
    save = f'{SAVE[:-1]}, {{"super_category": subject.super_category}})'
    text = OFFSET.replace(
        HEAD, f'{HEAD}ONE_FILE = "offset.safetensors"\nTUNED = ("lr",)\n'
    ).replace(SAVE, save)
    offset.write_text(text)
    kit, files = shared(), tmp_path / "files"
    tiny = ["--method-file", str(offset), "--backbone", str(kit / "tiny"), "--device", "cpu"]
    few = ["--steps", "2", "--set", "batch=2"]
    fit = ["fit", "offset", "--concept", str(kit / "concepts" / "cat"), *few, *tiny]
    assert run([*fit, "--out", str(files / "cat.safetensors")]) == 0
    assert {path.name for path in files.iterdir()} == {"cat.safetensors", "cat.json"}
    more = (
        "--method-file",
        str(offset),
        "--methods",
        "offset",
        "--concepts",
        "cat",
        "--trained",
        f"offset={files}",
    )
    assert run_here(kit, tmp_path / "run", *more) == 0
    [given] = (tmp_path / "run" / "fits" / "offset").glob("cat-*/offset.safetensors")
    assert given.read_bytes() == (files / "cat.safetensors").read_bytes()
    tune = [
        "tune",
        "--methods",
        "offset",
        "--suite",
        str(kit / "concepts"),
        "--prompts",
        "1",
        "--steps",
        "2",
        "--factors",
        "1,2",
        "--parts",
        "0.02",
        "--threads",
        "1",
        "--set",
        "concepts=cat",
        "--set",
        "dtype=float32",
        *tiny,
        "--out",
        str(tmp_path / "tuned"),
    ]
    assert run(tune) == 0
    with (tmp_path / "tuned" / "trials.csv").open(newline="") as stream:
        rates = {row["rates"] for row in csv.DictReader(stream) if row["method"] == "offset"}
    assert rates == {"lr=0.01", "lr=0.02"}
    offset.write_text(OFFSET)
    with pytest.raises(UserError, match="offset leaves a folder, not one file"):
        run([*fit, "--out", str(files / "again.safetensors")])
    with pytest.raises(UserError, match="offset is not tuned"):
        run(tune)


def test_an_unfinished_file_says_what_is_missing(tmp_path, backbone):
    (tmp_path / "half.py").write_text('NAME = "half"\nTRAINED = True\n')
    with pytest.raises(
        ValueError, match="has no LABEL, VERSION, PRIOR, Config, MINIATURE, fit, apply"
    ):
        methods.load_method("half", [str(tmp_path / "half.py")])


def test_figures_draw_it_in_its_own_style(offset, tmp_path):
    """Also where its file is gone: the run remembers. Without STYLE it takes one that is left."""
    cite = "@misc{offset2026, title = {Offset}}"
    said = f'{STYLED}\nFAMILY = "adapter"\nCITE = "{cite}"\n'
    offset.write_text(OFFSET.replace(HEAD, f"{HEAD}{said}"))
    out = tmp_path / "run"
    more = (
        "--method-file",
        str(offset),
        "--methods",
        "offset,offset-selected",
        "--concepts",
        "cat",
    )
    assert run_here(shared(), out, *more) == 0
    offset.unlink()
    run = Run(out)
    assert (
        run.about["methods"]["offset"]["style"]["marker"] == "d"
        and "style" not in run.about["methods"]["super"]
    )
    assert run.about["methods"]["offset-selected"]["family"] == "adapter"
    assert run.about["methods"]["offset"]["cite"] == cite
    assert "cite" not in run.about["methods"]["super"]
    with looks_of_runs([run]):
        assert family_of("offset") == family_of("offset-selected") == "adapter"
    with styled(), looks_of_runs([run]):
        series = {one.method: one.style for one in series_of(run.table)}
    mine, selected = series["offset"], series["offset-selected"]
    assert (mine.label, mine.colour, mine.marker, mine.dash) == (
        "Offset",
        "#88641f",
        "d",
        (0, (4, 1)),
    )
    assert (selected.label, selected.marker, selected.fill) == ("Offset, selected step", "d", False)
    for file in plot("pareto", [run], Wish(), tmp_path / "pareto.svg"):
        assert "#88641f" in file.read_text()
    assert write_report(run, tmp_path / "index.html").read_text().count("#88641f") > 2
    [unstyled] = [one.style for one in series_of(run.table) if one.method == "offset"]
    assert unstyled.label == "offset" and unstyled.colour == STRANGERS[0].colour
    about = json.loads((out / "run.json").read_text())
    for name in ("offset", "offset-selected"):
        about["methods"][name]["style"]["colour"] = 'red"><script>'  # a run of somebody else
    (out / "run.json").write_text(json.dumps(about))
    with looks_of_runs([Run(out)]):
        assert style_of("offset", strangers=["offset"]) == unstyled


@pytest.mark.slow
def test_authors_can_run_it(offset):
    call = [
        sys.executable,
        "-m",
        "benchmarks.contract",
        str(offset),
        "--backbone",
        str(shared() / "tiny"),
    ]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "offset keeps the contract" in done.stdout, done.stderr
