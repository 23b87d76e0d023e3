""".github/workflows/submission.yml: its shell steps, taken from the YAML, run by bash on real
repositories; and what the workflow may do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import submission_kit as kit
import yaml
from run_kit import ROOT, environment

PLACE = ROOT / ".github" / "workflows" / "submission.yml"
TEXT = PLACE.read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
STEPS = WORKFLOW["jobs"]["verify"]["steps"]
SCRIPT = ROOT / ".github" / "submissions.sh"


def git(folder: Path, *words: str) -> str:
    call = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *words]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """With one archive merged before; -> (folder, base)."""
    folder = tmp_path / "repository"
    (folder / "submissions").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "submissions" / "old.perfbench.tar.xz").write_bytes(b"old")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "base")
    base = git(folder, "rev-parse", "HEAD")
    git(folder, "checkout", "--quiet", "-b", "theirs")
    return folder, base


def committed(folder: Path, name: str, data: bytes = b"new", link: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        path.symlink_to(link)
    else:
        path.write_bytes(data)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "theirs")


def archives(folder: Path, base: str, out: Path) -> subprocess.CompletedProcess[str]:
    """What the workflow calls, on a clone that never checked the branch out."""
    git(folder, "checkout", "--quiet", "main")
    call = ["bash", str(SCRIPT), base, "theirs", str(out)]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True)


def test_an_added_archive_is_taken_as_bytes(repository, tmp_path):
    folder, base = repository
    committed(folder, "submissions/new.perfbench.tar.xz", kit.real_archive())
    committed(folder, "setup.py", b"raise SystemExit('run')")
    done = archives(folder, base, tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "1 archives\n"), done.stderr
    [found] = (tmp_path / "out").iterdir()
    assert found.read_bytes() == kit.real_archive() and not (folder / "setup.py").exists()


@pytest.mark.parametrize(
    ("name", "link", "sentence"),
    [
        ("submissions/old.perfbench.tar.xz", "", "and nothing else"),
        ("submissions/new.perfbench.tar.xz.verdict.json", "", "and nothing else"),
        ("submissions/sub/new.perfbench.tar.xz", "", "and nothing else"),
        ("submissions/-rf.perfbench.tar.xz", "", "and nothing else"),
        ("submissions/a\nb.perfbench.tar.xz", "", "and nothing else"),
        ("submissions/run.sh", "", "and nothing else"),
        ("submissions/new.perfbench.tar.xz", "/etc/passwd", "is no plain file"),
        ("docs/page.md", "", "adds no archive"),
    ],
)
def test_anything_else_under_submissions_is_refused(repository, tmp_path, name, link, sentence):
    folder, base = repository
    committed(folder, name, link=link)
    done = archives(folder, base, tmp_path / "out")
    assert done.returncode == 1 and sentence in done.stderr and done.stderr.count("\n") == 1


def test_the_verifying_step_fails_where_one_is_refused(tmp_path):
    """The step's own lines, with the command of this checkout."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "perfbench"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m benchmarks.cli "$@"\n')
    command.chmod(0o755)
    [step] = [one["run"] for one in STEPS if one.get("name") == "verify"]
    places = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    (tmp_path / "archives").mkdir()

    def status() -> int:
        call = ["bash", "-e", "-c", step]
        return subprocess.run(call, env={**environment(), **places}).returncode

    kit.place(tmp_path / "archives", kit.real_archive())
    assert status() == 0
    kit.place(tmp_path / "archives", b"no archive", "another")
    assert status() == 1
    said = (tmp_path / "summary").read_text()
    assert "recomputed" in said and "refused: it is no archive that is known" in said


def test_the_workflow_may_read_and_runs_nothing_of_the_pull_request():
    """Triggered without secrets, by the base branch's code; actions as the other workflows' are."""
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in TEXT and "secrets" not in str(WORKFLOW)
    [checkout] = [one for one in STEPS if one.get("uses", "").startswith("actions/checkout")]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] is False
    assert all("${{" not in one.get("run", "") for one in STEPS)
    others = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert all(one["uses"] in others for one in STEPS if "uses" in one)
