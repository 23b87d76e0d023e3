"""Workflows ask for no more than they need: the one that publishes the site, and CI."""

import re

import pytest

from website.navigation import ROOT

yaml = pytest.importorskip("yaml", reason="no yaml here: it comes with mkdocs")
FILE = ROOT / ".github" / "workflows" / "site.yml"
CI = ROOT / ".github" / "workflows" / "ci.yml"


def test_permissions_are_the_least_that_pages_need():
    flow = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    assert flow["jobs"]["build"]["permissions"] == {"contents": "read", "pages": "read"}
    assert flow["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    steps = [step for job in flow["jobs"].values() for step in job["steps"]]
    assert all("secrets" not in str(step) for step in steps)
    assert flow[True]["push"]["branches"] == ["main"]  # YAML 1.1 reads the key `on` as true
    assert "pull_request" not in flow[True], "what others send is never published"


def test_what_runs_a_pull_request_may_read_and_keeps_no_token():
    flow = yaml.safe_load(CI.read_text(encoding="utf-8"))
    assert "pull_request" in flow[True] and flow["permissions"] == {"contents": "read"}
    for job in flow["jobs"].values():
        assert "permissions" not in job and "secrets" not in str(job)
        [checkout] = [one for one in job["steps"] if "actions/checkout" in one.get("uses", "")]
        assert checkout["with"] == {"persist-credentials": False}


def test_actions_are_pinned_as_the_other_workflows_pin_them():
    used = re.findall(r"uses: (\S+)", FILE.read_text(encoding="utf-8"))
    assert len(used) == 5 and all(re.fullmatch(r"actions/[\w-]+@v\d+", one) for one in used)
    ci = CI.read_text(encoding="utf-8")
    assert {"actions/checkout@v4", "actions/setup-python@v5"} <= set(used) & set(
        re.findall(r"uses: (\S+)", ci)
    )


def test_the_docs_part_is_in_ci_and_in_tox():
    assert " docs; do" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    part = tox.partition("[testenv:docs]")[2].partition("[testenv:")[0]
    assert "mkdocs build --strict" in part and "website.run_blocks" in part
    assert re.search(r"^env_list = .*\bdocs\b", tox, re.M)


def test_the_page_on_citing_says_what_citation_cff_says():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    assert f"title = {{{told['title']}}}" in page and told["authors"][0]["name"] in page
    assert f"version = {{{told['version']}}}" in page and told["license"] in page
    [paper] = told["references"]
    assert f"title = {{{paper['title']}}}" in page and paper["collection-title"] in page
    names = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert f"author = {{{' and '.join(names)}}}" in page
    assert paper["identifiers"][0]["value"] in page
