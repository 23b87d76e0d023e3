"""Methods by family: what their files say, how they are listed and cited, and who is untuned."""

import json
import re

import pytest

from benchmarks.cli import run
from benchmarks.planning import methods
from benchmarks.planning.config import resolve
from benchmarks.planning.method_families import FAMILIES, bibtex_entries, cited, styled_by_family
from benchmarks.planning.method_text import said_of
from benchmarks.running.day_cost import hours_of
from perfusion_core.errors import UserError

ONE = "@article{one2020, title = {A {B} c}, year = {2020}}"
TWO = '@book{two2021,\n  title = {M{\\"u}ller}\n}'
TRAINED = [name for name, where in methods.BUILT_IN.items() if said_of(where).trained]
ADAPTERS = ["dora", "loha", "lokr", "oft"]


# ---- what a file says ----


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_method_says_all_of_itself(name):
    said = said_of(methods.BUILT_IN[name])
    assert said.family in FAMILIES and said.summary and said.format and said.tuned and said.files
    assert {"colour", "marker"} <= said.style.keys()
    [*entries] = bibtex_entries(said.cite).values()
    assert entries and all(re.search(r"\byear = \{\d{4}\}", entry) for entry in entries)


def test_a_style_takes_its_familys_colour_where_it_has_none():
    bare, own = {"marker": "d"}, {"marker": "d", "colour": "#123456"}
    assert styled_by_family(bare, "word") == {
        "marker": "d",
        "colour": FAMILIES["word"].colour,
        "ink": FAMILIES["word"].ink,
    }
    assert styled_by_family(own, "word") == own
    assert styled_by_family(bare, "") == bare and styled_by_family("red", "word") == "red"
    assert said_of(methods.BUILT_IN["loha"]).style["colour"] == FAMILIES["adapter"].colour


# ---- BibTeX ----


def test_entries_are_read_whole_and_told_once():
    assert bibtex_entries(f"{ONE}\n\n{TWO}") == {"one2020": ONE, "two2021": TWO}
    assert cited([ONE, "", f"{TWO}\n{ONE}"]) == f"{ONE}\n\n{TWO}"
    assert bibtex_entries("") == {}


@pytest.mark.parametrize("text", [ONE[:-1], "@article{}", "@article one2020", "@", "}@{"])
def test_half_an_entry_is_refused(text):
    with pytest.raises(UserError, match="is no whole entry"):
        bibtex_entries(text)


# ---- lists ----


def test_ls_methods_is_grouped_and_tells_sizes(capsys):
    assert run(["ls", "methods"]) == 0
    parts = capsys.readouterr().out.split("\n\n")
    found = {part.splitlines()[0]: part.splitlines()[1:] for part in parts[:-1]}
    assert list(found) == [*(one.title for one in FAMILIES.values()), "Others"]
    lines = {line.split()[0]: line for part in found.values() for line in part}
    assert set(methods.BUILT_IN) | set(methods.VARIANTS) <= set(lines)
    assert "3,226 kB" in lines["lora"] and "matrices of rank 4" in lines["lora"]
    assert [name for name in lines if "(untuned)" in lines[name]] == [
        name for name in lines if name in methods.BUILT_IN and untuned(name)
    ]
    assert any(line.split()[0] == "dora" for line in found["An adapter"])
    assert parts[-1].strip() == "Sizes are of a fit on Stable Diffusion 1.5."


def untuned(name):
    return said_of(methods.BUILT_IN[name]).untuned


def test_ls_methods_cites(capsys):
    assert run(["ls", "methods", "--cite"]) == 0
    found = bibtex_entries(capsys.readouterr().out)
    keys = {"tewel2023keylocked", "hu2022lora", "liu2024dora", "yeh2024lycoris", "qiu2023oft"}
    assert keys <= found.keys()
    for words in (["presets", "--cite"], ["methods", "--cite", "--json"]):
        with pytest.raises(UserError, match="--cite goes with `perfbench ls methods` alone"):
            run(["ls", *words])


def test_ls_methods_knows_a_method_of_ones_own(tmp_path, capsys):
    files = []
    for name, cite in (("mine", f'\nCITE = "{ONE}"'), ("plain", "")):
        file = tmp_path / f"{name}.py"
        file.write_text(f'NAME, LABEL = "{name}", "A {name} one"\nFAMILY = "word"{cite}\n')
        files.append(str(file))
    call = ["ls", "methods", "--method-file", ",".join(files)]
    assert run(call) == 0
    assert "  plain " in capsys.readouterr().out
    assert run([*call, "--cite"]) == 0
    printed = capsys.readouterr()
    assert bibtex_entries(printed.out)["one2020"] == ONE
    assert printed.err == "perfbench: nothing to cite was given for plain\n"
    with pytest.raises(UserError, match="--method-file goes with `perfbench ls methods`"):
        run(["ls", "presets", *call[2:]])


def test_ls_methods_as_json_has_the_same(capsys):
    assert run(["ls", "methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["dora"]["family"], rows["dora"]["tuned"]) == ("adapter", "no")
    assert rows["lora"]["kilobytes"] == 3226 and rows["lora"]["tuned"] == "yes"
    assert rows["perfusion-one-shot"]["family"] == "perfusion"


# ---- all ----


def test_all_is_each_trained_method_once():
    assert methods.expanded(["all"]) == TRAINED
    assert methods.check_names(["cd", "all", "lora-selected"]) == [
        "super",
        "cd",
        *(name for name in TRAINED if name != "cd"),
        "lora-selected",
    ]
    config = resolve(flags={"methods": "all"}, sets=[])
    assert [one.name for one in methods.resolve_methods(config, True)] == ["super", *TRAINED]
    assert hours_of(config, 1) > hours_of(resolve(flags={"methods": "cd"}, sets=[]), 1)


def test_all_is_not_one_method():
    with pytest.raises(UserError, match="all names several methods, and one is wanted here"):
        run(["fit", "all", "--concept", "cat", "--out", "nowhere"])


# ---- untuned ----


def guesses(names, *sets, miniature=True, joint=False):
    config = resolve(flags={"methods": names}, sets=list(sets))
    found = methods.resolve_methods(config, miniature, joint)
    return [one.name for one in found if one.untuned]


def test_a_guess_is_one_on_the_miniature_until_somebody_chooses_the_rates():
    assert guesses("dora,lora") == ["dora"]
    assert guesses("dora,lora", miniature=False) == []  # the published recipe is no guess
    assert guesses("dora", "fit.dora.steps=10") == ["dora"]
    assert guesses("dora", "fit.dora.lr=0.001") == []
    three = [f"fit.attndreambooth.{rate}=0.001" for rate in ("lr_word", "lr_attention", "lr")]
    assert guesses("attndreambooth", *three[:2]) == ["attndreambooth"]
    assert guesses("attndreambooth", *three) == []


def test_nothing_was_tuned_on_a_miniature_of_several_text_encoders():
    names = "lora,cd-better,dora,perfusion-published"
    assert guesses(names, joint=True) == ["lora", "cd-better", "dora"]  # the last says its rates
    assert guesses(names, "fit.lora.lr=0.001", joint=True) == ["cd-better", "dora"]
    assert guesses(names, joint=True, miniature=False) == []
