"""The reference is whole, and says what the code says."""

import argparse
import re
from dataclasses import fields

import pytest

import benchmarks.api
from benchmarks import cli
from benchmarks.planning import config
from perfusion_core import perfusion
from website.command_pages import cell, command_page, place_of
from website.docstring_pages import docstring_pages
from website.navigation import MADE
from website.reference import made_pages
from website.setting_pages import comments_of_fields, setting_pages


def parsers(parser):
    """With all subverbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_flag_of_a_verb_is_on_its_page(verb):
    parser = cli.Parser(prog=f"perfbench {verb}")
    cli.VERBS[verb](parser)
    page = made_pages()[place_of(verb)]
    for one in parsers(parser):
        assert f"# {one.prog}\n" in page
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", one.format_usage()):
            assert f"<code>{flag}" in page, flag
    assert verb in made_pages()[f"{MADE}commands.md"]


def test_rows_of_tables_have_their_cells():
    """No word of a help text breaks a table."""
    for page, text in made_pages().items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        width = None
        for line in prose.splitlines():
            if line.startswith("|"):
                assert width in (None, line.count("|")), (page, line)
                width = line.count("|")
            else:
                width = None


def test_words_of_help_mean_themselves():
    assert cell("a|b <x> *c* [d] `e|f`") == (
        r"a&#124;b &lt;x&gt; \*c\* \[d\] <code>e&#124;f</code>"
    )


def test_help_with_a_percent_sign_and_a_default_is_filled_in(monkeypatch):
    def describe(parser):
        """Made."""
        parser.add_argument(
            "--width", type=float, default=0.5, help="of 95 %%; default %(default)s"
        )

    monkeypatch.setitem(cli.VERBS, "made", describe)
    assert "| of 95 %; default 0.5 |" in command_page("made")


def test_every_key_stands_under_its_role_with_its_default():
    page = setting_pages()[f"{MADE}settings.md"]
    parts = dict(
        zip(
            ("choice", "protocol", "place"),
            re.split(r"^### (?:Choice|Protocol|Place)$", page, flags=re.M)[1:],
        )
    )
    parts["place"] = parts["place"].partition("\n## ")[0]
    for one in fields(config.Config):
        for role, text in parts.items():
            assert (f"| <code>{one.name}</code> |" in text) == (config.role(one.name) == role)
    assert "| <code>guidance</code> | <code>6.0</code> |" in page
    assert all(f"| <code>{preset}</code> |" in page for preset in config.PRESETS)


def test_a_key_has_the_comment_that_stands_beside_it():
    told = comments_of_fields(config, "Config")
    assert told["images"] == ("int", "The images that are drawn for each prompt.")
    assert told["recipe"][1].startswith("The recipe of each method: `published`, `miniature`")
    assert told["recipe"][1].endswith("where the backbone carries its own scorer.")


def test_no_cell_of_the_settings_is_empty():
    page = setting_pages()[f"{MADE}settings.md"]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 60 and not [cells for cells in rows if "" in map(str.strip, cells)]
    assert "|  |" not in page
    assert not any(line.endswith("| |") or "| |" in line for line in page.splitlines())


@pytest.mark.parametrize("one", fields(config.Config), ids=lambda one: one.name)
def test_every_key_is_told_in_whole_sentences(one):
    words = comments_of_fields(config, "Config")[one.name][1]
    assert re.match(r"[A-Z]", words) and words.endswith("."), words
    assert len(words.split()) >= 4, words


def test_recipes_are_those_of_the_methods():
    page = setting_pages()[f"{MADE}settings.md"]
    part = page.partition("### <code>fit.perfusion</code>")[2].partition("### ")[0]
    published, tuned = perfusion.Config(), perfusion.MINIATURE
    assert (
        f"| <code>steps</code> | <code>{published.steps}</code> | <code>{tuned.steps}</code> |"
        in part
    )


def test_all_that_scripts_may_import_is_there():
    pages = docstring_pages()
    api = pages[f"{MADE}api.md"]
    for name in benchmarks.api.__all__:
        assert f"\n## {name}\n" in api
        assert (getattr(benchmarks.api, name).__doc__ or "").split("\n")[0].split("`")[0] in api
    assert api.count("```pycon") >= 3
    core = pages[f"{MADE}core.md"]
    for name in ("load_concepts", "gated_edit", "Backbone", "train", "sample", "encode", "Concept"):
        assert f"\n### {name}\n" in core
    assert "| <code>temperature</code> | how sharply the gate opens;" in core
    assert "### folders" not in core, "a word of the prose, not promised"


def test_it_is_made_where_torch_is_missing():
    """A machine that only publishes the site needs no libraries for models."""
    import subprocess
    import sys

    from website.navigation import ROOT

    code = (
        "import sys\n"
        "class Nowhere:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {set(cli.HEAVY)!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Nowhere())\n"
        "from website.staged_files import staged\n"
        "print(len(staged()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60
