""".github/actions/check: its shell steps, taken from the YAML, run on committed runs by bash."""

import json
import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml
from run_kit import ROOT, environment

from benchmarks.paths import FIRST_WORLD
from benchmarks.tables.run_view import open_run

ACTION = yaml.safe_load((ROOT / ".github" / "actions" / "check" / "action.yml").read_text())
EXAMPLE = yaml.safe_load((ROOT / ".github" / "workflows" / "gate-example.yml").read_text())
STEPS = ACTION["runs"]["steps"]
QUICK = ROOT / "results" / "miniature-quickstart"
# the comments of a pull request in a file: what GitHub's client does with these three calls
GH = """#!{python}
import json, pathlib, sys
kept = pathlib.Path({kept!r})
comments = json.loads(kept.read_text())
words = sys.argv[1:]
[address] = [word for word in words if word.startswith("repos/")]
if "--method" not in words:
    for one in comments:
        print(one["id"], one["user"], one["body"].split("\\n")[0])
    sys.exit()
[field] = [word for word in words if word.startswith("body=@")]
body = pathlib.Path(field.removeprefix("body=@")).read_text()
if "PATCH" in words:
    [one] = [one for one in comments if address.endswith(f"/comments/{{one['id']}}")]
    one["body"] = body
else:
    comments.append({{"id": 100 + len(comments), "user": "Bot", "body": body}})
kept.write_text(json.dumps(comments))
"""


@pytest.fixture
def job(tmp_path):
    """-> what a step does: its exit status, what it prints, the outputs; as a runner runs it."""
    (tmp_path / "bin").mkdir()
    kept = tmp_path / "comments.json"
    other = {"id": 7, "user": "User", "body": "<!-- perfbench check by hand -->"}
    kept.write_text(json.dumps([other]))
    scripts = {
        "perfbench": f'#!/bin/sh\nexec {sys.executable} -m benchmarks.cli "$@"\n',
        "gh": GH.format(python=sys.executable, kept=str(kept)),
    }
    for name, text in scripts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def step(number: int, **env: str):
        places = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_REPOSITORY": "someone/something",
        }
        call = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[number]["run"]]
        done = subprocess.run(
            call,
            env={**environment(), **places, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        output = (tmp_path / "output").read_text() if (tmp_path / "output").is_file() else ""
        said = dict(line.split("=", 1) for line in output.splitlines())
        return done, said

    return step


def test_every_value_comes_by_the_environment():
    """An expression inside of a script would run what a branch is called."""
    for step in STEPS:
        assert step["shell"] == "bash" and "${{" not in step["run"]
        used = {name for name in ("RUN", "AGAINST", "STRICT", "NUMBER", "REPORT", "STATUS")
                if f"${name}" in step["run"]}  # fmt: skip
        assert used <= set(step["env"])
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} == {
        "run",
        "against",
    }


def test_the_example_uses_it():
    steps = EXAMPLE["jobs"]["gate"]["steps"]
    [step] = [one for one in steps if one.get("uses", "").endswith("actions/check")]
    assert (ROOT / step["uses"] / "action.yml").is_file() and set(step["with"]) <= set(
        ACTION["inputs"]
    )
    assert (ROOT / step["with"]["against"] / "check.toml").is_file()
    assert EXAMPLE["permissions"]["pull-requests"] == "write"


def test_a_run_that_lost_nothing(job, tmp_path):
    shutil.copytree(QUICK, tmp_path / "change")
    done, said = job(0, RUN="change", AGAINST=str(QUICK), STRICT="true")
    assert done.returncode == 0 and said["status"] == "0", done.stderr
    report = (tmp_path / "summary.md").read_text()
    assert report.startswith("<!-- perfbench check change against ")
    assert "### perfbench check: PASS: change against miniature-quickstart" in report
    assert re.search(r"\| +reference \| +run \|", report)  # before and after
    suite = ElementTree.parse(said["junit"]).getroot()
    assert int(suite.get("tests")) > 4 and suite.get("failures") == "0"
    assert "::notice title=perfbench check::PASS" in done.stdout
    assert job(2, STATUS=said["status"])[0].returncode == 0


def test_a_run_that_lost_something(job, tmp_path):
    """A tenth less image similarity of one method: its row stands in the report, unfolded."""
    shutil.copytree(QUICK, tmp_path / "change")
    cells = open_run(str(QUICK)).cells
    mine = (cells["method"] == "cd") & (cells["metric"] == "image_sim")
    cells.loc[mine, "mean"] -= 0.1
    cells.to_csv(tmp_path / "change" / "cells.csv", index=False)
    done, said = job(0, RUN="change", AGAINST=str(QUICK), STRICT="false")
    assert (done.returncode, said["status"]) == (0, "1"), done.stderr
    shown, folded = (tmp_path / "summary.md").read_text().split("<details>")
    assert "FAIL: change against miniature-quickstart" in shown
    [row] = [line.split("|") for line in shown.splitlines() if line.startswith("| FAIL")]
    before, now = float(row[4]), float(row[5])
    assert row[2].strip() == "cd" and abs(before - now - 0.1) < 1e-3 and "| FAIL" not in folded
    assert "::error title=cd image_sim::FAIL" in done.stdout
    assert ElementTree.parse(said["junit"]).getroot().get("failures") == "1"
    assert job(2, STATUS=said["status"])[0].returncode == 1


def test_a_run_that_cannot_be_compared(job, tmp_path):
    shutil.copytree(ROOT / "results" / "miniature-quick", tmp_path / "change")
    done, said = job(
        0, RUN="change", AGAINST=str(ROOT / FIRST_WORLD / "miniature-bias"), STRICT="false"
    )
    assert done.returncode == 0 and said["status"] == "2"
    assert "NOT COMPARABLE" in (tmp_path / "summary.md").read_text()
    assert job(2, STATUS=said["status"])[0].returncode == 2


def test_a_run_that_is_not_there(job, tmp_path):
    done, said = job(0, RUN="nowhere", AGAINST=str(QUICK), STRICT="false")
    assert done.returncode == 0 and (said["status"], said["junit"]) == ("2", "")
    report = (tmp_path / "summary.md").read_text()
    assert "it could not be made" in report and "nowhere is not a run folder" in report


def test_one_comment_is_written_and_then_edited(job, tmp_path):
    shutil.copytree(QUICK, tmp_path / "change")
    _, said = job(0, RUN="change", AGAINST=str(QUICK), STRICT="false")
    for _ in range(2):
        done, _ = job(1, NUMBER="5", REPORT=said["markdown"], GH_TOKEN="none")
        assert done.returncode == 0 and "::warning" not in done.stdout, done.stderr
    by_hand, mine = json.loads((tmp_path / "comments.json").read_text())
    assert by_hand["body"] == "<!-- perfbench check by hand -->"
    assert mine["body"] == (tmp_path / "summary.md").read_text()
    (tmp_path / "bin" / "gh").write_text("#!/bin/sh\nexit 1\n")  # a fork's token
    done, _ = job(1, NUMBER="5", REPORT=said["markdown"], GH_TOKEN="none")
    assert done.returncode == 0 and "::warning" in done.stdout
