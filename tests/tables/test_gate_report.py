"""A check's report, as each of its readers parses it."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.tables.gate import Report
from benchmarks.tables.gate_report import FORMATS
from benchmarks.tables.judging import Finding
from benchmarks.tables.statistics import Interval

FELL = Finding(
    "concepts",
    "cd",
    "default",
    "image_sim",
    0.8,
    0.75,
    Interval(0.05, 0.03, 0.07),
    0.02,
    0.1,
    11,
    (),
)
FLOOR = replace(FELL, loss=Interval(0.01, -0.01, 0.03), fallen=(("teapot", 0.2),), method="ti")
FINE = replace(
    FELL, loss=Interval(0.001, -0.001, 0.003), method="perfusion", point="local-b0.60-t0.15"
)
OPEN = replace(FELL, loss=Interval(0.005, -0.03, 0.04), metric="text_sim_raw", of="pairs", n=4)
ALL = Report(
    "run",
    "reference",
    "retrained",
    (FELL, FLOOR, FINE, OPEN),
    (),
    ("seed: 0 -> 1",),
    ("db default",),
    False,
)
APART = Report(
    "run", "reference", "retrained", (), ("steps: 20 -> 50", "scorer: a -> b, 100 %"), (), (), False
)
UNDECIDED = replace(ALL, findings=(FINE, OPEN))


def test_verdicts():
    assert [finding.verdict for finding in ALL.findings] == ["FAIL", "FAIL", "PASS", "INCONCLUSIVE"]
    assert [
        (r.verdict, r.status) for r in (ALL, APART, UNDECIDED, replace(UNDECIDED, strict=True))
    ] == [("FAIL", 1), ("NOT COMPARABLE", 2), ("INCONCLUSIVE", 0), ("INCONCLUSIVE", 1)]
    passed = replace(ALL, findings=(FINE,), not_run=(), strict=True)
    assert (passed.verdict, passed.status) == ("PASS", 0)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_fell_and_why(form):
    text = FORMATS[form](ALL)
    assert text.endswith("\n")
    for part in ("cd", "teapot", "image_sim", "0.05", "db default"):
        assert part in text


def test_text():
    lines = FORMATS["text"](ALL).splitlines()
    assert lines[2].startswith("| FAIL         | cd ")
    assert "lost more than the floor of 0.1: teapot 0.2000" in lines[3]
    assert re.search(r"\d+ pairs like these would settle it", lines[5])
    assert (
        "FAIL: run against reference (2 FAIL, 1 INCONCLUSIVE, 1 PASS; retrained margins)" in lines
    )
    assert (
        "not in the run: db default" in lines
        and "also differs, which is allowed: seed: 0 -> 1" in lines
    )
    assert FORMATS["text"](APART).splitlines() == [
        "NOT COMPARABLE: run against reference",
        "differs: steps: 20 -> 50",
        "differs: scorer: a -> b, 100 %",
    ]


def test_an_untuned_method_is_marked_for_people_and_told_to_programs():
    report = replace(ALL, untuned=("oft", "cd"))
    for form in ("text", "markdown"):
        text = FORMATS[form](report)
        assert "| cd (untuned) " in text and "| ti " in text
        assert "Untuned: the rates of cd are a guess" in text and "oft" not in text
    assert json.loads(FORMATS["json"](report))["untuned"] == ["cd"]
    assert "untuned" not in json.loads(FORMATS["json"](ALL))
    # a CI server compares cases by their names
    cases = [re.findall('testcase name="(.*?)"', FORMATS["junit"](r)) for r in (report, ALL)]
    assert cases[0] == cases[1]


def test_a_kind_and_its_prompts_are_named_in_every_format():
    kind = replace(FELL, kind="deform", prompts=(("d03", 0.061, 0.02),) * 6)
    report = replace(ALL, findings=(FELL, kind))
    for form, write in FORMATS.items():
        text = write(report)
        assert "deform" in text and "d03" in text and "0.02" in text, form
    assert "image_sim (deform)" in FORMATS["text"](report) and "and 2 more" in FORMATS["text"](
        report
    )
    second = json.loads(FORMATS["json"](report))["findings"][1]
    assert second["kind"] == "deform" and second["verdict"] == "FAIL"
    assert second["fallen_prompts"] == {"d03": {"loss": 0.061, "floor": 0.02}}
    names = [
        c.get("name") for c in ElementTree.fromstring(FORMATS["junit"](report)).iter("testcase")
    ]
    assert len(set(names)) == len(names)


def test_markdown_folds_what_passed():
    text = FORMATS["markdown"](ALL)
    shown, folded = text.split("<details>")
    assert (
        "| FAIL " in shown
        and "INCONCLUSIVE" in shown
        and "perfusion local-b0.60-t0.15" not in shown
    )
    assert "perfusion local-b0.60-t0.15" in folded and "| FAIL" not in folded
    assert "<details>" not in FORMATS["markdown"](APART)


def test_json_has_every_number_and_no_nan():
    alone = replace(FELL, loss=Interval(0.05, float("nan"), float("nan")), n=1)
    document = json.loads(
        FORMATS["json"](replace(ALL, findings=(FELL, FLOOR, OPEN, alone))),
        parse_constant=pytest.fail,
    )
    first, second, third, last = document["findings"]
    assert (document["verdict"], document["status"], document["not_run"]) == (
        "FAIL",
        1,
        ["db default"],
    )
    assert (first["loss"], first["lo"], first["hi"], first["margin"], first["n"]) == (
        0.05,
        0.03,
        0.07,
        0.02,
        11,
    )
    assert (
        second["fallen"] == {"teapot": 0.2}
        and third["settled_by"] > 4
        and first["settled_by"] is None
    )
    assert last["lo"] is None and last["caught"] is None and last["verdict"] == "INCONCLUSIVE"
    assert json.loads(FORMATS["json"](APART))["differences"] == list(APART.differences)


def test_junit_counts_agree_with_its_cases():
    for report in (ALL, replace(ALL, strict=True), APART, UNDECIDED):
        suite = ElementTree.fromstring(FORMATS["junit"](report))
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        for kind, count in (("failure", "failures"), ("skipped", "skipped"), ("error", "errors")):
            assert int(suite.get(count)) == sum(case.find(kind) is not None for case in cases)
        assert (report.status != 0) == (int(suite.get("failures")) + int(suite.get("errors")) > 0)
        assert len({case.get("name") for case in cases}) == len(cases) or report is APART
    skipped = ElementTree.fromstring(FORMATS["junit"](ALL)).findall("testcase/skipped")
    assert [case.get("message")[:12] for case in skipped] == ["INCONCLUSIVE", "not in the r"]


def test_github_commands_are_escaped():
    lines = FORMATS["github"](ALL).splitlines()
    assert all(re.fullmatch(r"::(error|warning|notice) title=[^:,]*::.*", line) for line in lines)
    assert [line.split(" ")[0] for line in lines[:3]] == ["::error", "::error", "::warning"]
    apart = FORMATS["github"](APART)
    assert (
        "::error title=comparable::scorer: a -> b, 100 %25" in apart
        and "% " not in apart.replace("%25", "")
    )
    assert "::warning" not in FORMATS["github"](replace(UNDECIDED, strict=True))
