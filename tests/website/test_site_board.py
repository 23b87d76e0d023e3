"""The board and the explorer that the site's workflow adds: of our runs and the archives here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import submission_kit as kit
from run_kit import ROOT

from benchmarks.cli import run
from benchmarks.exchange.submissions.submission_archive import read_submission
from website.navigation import beside

ARCHIVES = sorted((ROOT / "submissions").glob("*.perfbench.tar.xz"))
OURS = ROOT / "submissions" / "miniature-quickstart.perfbench.tar.xz"
SCRIPT = ".github/board.sh"


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_every_archive_here_is_verified(archive, capsys):
    assert run(["submission", "verify", str(archive)]) in (0, None)
    assert "recomputed" in capsys.readouterr().out


def test_ours_is_what_the_command_in_its_readme_makes(tmp_path):
    """Its files to the byte, its tables but for the last digits; the manifest beside them tells the
    processor.
    """
    assert OURS in ARCHIVES
    text = (OURS.parent / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^perfbench (submission make .*)$", text, re.M)
    assert f"--out submissions/{OURS.name}" in line and "--by Perfbench" in line
    assert "results/miniature-quickstart" in line
    made, _ = kit.real_parts()
    ours = read_submission(OURS).files
    for name in ("metrics.csv", "table.csv"):
        kit.assert_to_the_last_digits(made.pop(name), ours.pop(name))
    assert ours == made


def test_ours_names_no_folder_of_a_machine():
    found = read_submission(OURS)
    texts = [json.dumps(found.manifest), *(data.decode() for data in found.files.values())]
    assert not [text for text in texts if re.search(r"/(?:root|home|tmp|Users|mnt|work)\b", text)]


def test_the_workflow_makes_both_and_the_menu_names_them(tmp_path):
    """The script's own commands, on a copy of the smaller runs."""
    flow = (ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8")
    assert flow.index("mkdocs build --strict") < flow.index(f"bash {SCRIPT} site")
    home = tmp_path / "clone"
    for name in ("benchmarks", "perfusion_core", "baselines", "concepts", "prompts", "results"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(ROOT / name)
    (home / "submissions").mkdir()
    text = (ROOT / SCRIPT).read_text(encoding="utf-8")
    small = re.sub(r"^runs=\(.*\)$", "runs=(results/miniature-quick)", text, flags=re.M)
    assert small != text
    (home / "board.sh").write_text(small, encoding="utf-8")
    for archives in (0, 1):
        if archives:  # under another name than its own
            (home / "submissions" / "renamed.perfbench.tar.xz").write_bytes(OURS.read_bytes())
        done = made_by(home, f"site{archives}")
        assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((home / "site1" / "board" / "board.json").read_text(encoding="utf-8"))
    linked = {row["explorer"].split("#")[1].split("/")[0] for row in rows(told) if row["explorer"]}
    assert linked == {"miniature-quick", "miniature-quickstart"}
    explorer = (home / "site1" / "explorer" / "index.html").read_text(encoding="utf-8")
    assert all(f'"name":"{name}"' in explorer.replace(": ", ":") for name in linked)
    for entry in beside("file:///"):
        [address] = entry.values()
        assert (home / "site1" / str(address).removeprefix("file:///")).is_file()


def rows(told):
    return [row for board in told["boards"] for row in board["rows"]]


def made_by(home: Path, out: str):
    bin_here = str(Path(sys.executable).parent)
    return subprocess.run(
        ["bash", "board.sh", out],
        cwd=home,
        env={**os.environ, "PATH": f"{bin_here}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
