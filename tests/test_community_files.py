"""CITATION.cff and the issue forms: they parse, say what is true, and name what exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmarks import cli
from benchmarks.exchange.data_card import PERFUSION
from perfusion_core import __version__

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
NAMES = ("bug", "new-method", "result", "wrong-number")
# of GitHub's issue forms -> the attributes that each needs
KINDS = {
    "markdown": {"value"},
    "input": {"label"},
    "textarea": {"label"},
    "dropdown": {"label", "options"},
    "checkboxes": {"label", "options"},
}
MAY = {"label", "description", "placeholder", "value", "render", "options", "multiple", "default"}


def test_the_citation_is_of_this_package_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["message"]
    assert (cited["version"], cited["license"]) == (__version__, project["license"])
    assert [one["name"] for one in cited["authors"]] == [one["name"] for one in project["authors"]]
    [paper] = cited["references"]
    assert paper["title"] in PERFUSION and str(paper["year"]) in PERFUSION
    named = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert " and ".join(named) in PERFUSION
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_there_is_a_form_for_each_purpose():
    assert tuple(path.stem for path in FORMS if path.stem != "config") == NAMES
    config = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text())
    assert config.keys() <= {"blank_issues_enabled", "contact_links"}
    assert isinstance(config["blank_issues_enabled"], bool)


@pytest.mark.parametrize("name", NAMES)
def test_a_form_is_one_that_github_shows(name):
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text("utf-8"))
    assert form.keys() <= {"name", "description", "title", "labels", "body"}
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description"))
    ids = [one["id"] for one in form["body"] if one["type"] != "markdown"]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]+", one) for one in ids)
    labels = [one["attributes"]["label"] for one in form["body"] if "id" in one]
    assert len(set(labels)) == len(labels)
    for one in form["body"]:
        assert KINDS[one["type"]] <= one["attributes"].keys() <= MAY, one
        assert one.keys() <= {"type", "id", "attributes", "validations"}
        required = one.get("validations", {"required": False})
        assert required.keys() == {"required"} and isinstance(required["required"], bool)
        if one["type"] == "dropdown":
            options = one["attributes"]["options"]
            assert len(set(options)) == len(options) and all(isinstance(o, str) for o in options)
        if one["type"] == "checkboxes":
            assert all(option.keys() <= {"label", "required"} for option in
                       one["attributes"]["options"])  # fmt: skip
    # a form that asks nothing is a blank issue
    assert any(one.get("validations", {}).get("required") for one in form["body"])


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_files_of_a_form_exist(name):
    text = (ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text("utf-8")
    verbs = set(re.findall(r"`perfbench ([a-z-]+)", text)) - {"--version"}
    assert verbs <= {*cli.VERBS}
    files = re.findall(r"`((?:docs|results|tests)/[\w./-]*\w)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
