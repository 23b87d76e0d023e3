"""results/ stays light and its page true: every folder told, counted and linked; what is committed
is small.
"""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from run_kit import HOMES

from benchmarks.evidence.__main__ import JUDGED, done
from benchmarks.evidence.commands import COMMANDS
from benchmarks.evidence.committed import FILES, committed, folder_of, to_commit, too_much
from benchmarks.evidence.confirm_ledger import read_aside, read_begun
from benchmarks.evidence.confirm_plan import PLAN, read_confirm_plan
from benchmarks.evidence.resting import resting_on
from benchmarks.evidence.results_page import PAGE, anchor, commands_of, read_notes, results_page
from benchmarks.paths import FIRST_WORLD
from perfusion_core.errors import UserError

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "results"


def test_the_page_is_up_to_date():
    """`python -m benchmarks.evidence` writes it."""
    judged = ROOT / JUDGED
    assert (RESULTS / PAGE).read_text(encoding="utf-8") == results_page(
        RESULTS, resting_on(judged), judged
    )


def test_every_link_within_the_page_leads_to_a_heading():
    """Folders of one name in the two parts are told apart."""
    page = (RESULTS / PAGE).read_text(encoding="utf-8")
    headings = [line.lstrip("# ") for line in page.splitlines() if re.match("#+ ", line)]
    slugs = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
    assert len(slugs) == len(set(slugs))
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(slugs)
    claims = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    linked = set(re.findall(rf"results/{PAGE}#([\w-]+)\)", claims))
    assert linked <= set(slugs) and anchor(ROOT / JUDGED, "miniature-paper") in linked


def planned_commands(folder):
    """Of every look, with the rates that the run began with; before and after a concept was left
    out.
    """
    plan, begun = read_confirm_plan(folder / PLAN), read_begun(folder)
    aside = [row["concept"] for row in read_aside(folder)]
    for n in plan.looks.concepts:
        for left_out in (aside[:k] for k in range(len(aside) + 1)):
            names = [name for name in begun["concepts"][:n] if name not in left_out]
            yield ["perfbench", *plan.command(begun["rates"], names, Path("results") / folder.name)]


@pytest.mark.parametrize("home", HOMES, ids=lambda path: path.name)
def test_every_folder_is_told_and_every_link_leads_somewhere(home):
    notes = read_notes(home)
    tracked = committed(ROOT)
    folders = {path.relative_to(home).parts[0] for path in committed(home) if path.parent != home}
    assert notes.keys() - {"dirty"} == folders - {FIRST_WORLD.name}
    for name, note in notes.items():
        if name == "dirty":
            continue
        assert (home / note["figure"]).resolve() in tracked, name
        about = home / name / "run.json"
        if not about.is_file():
            assert commands_of(name, note) and note["date"] and note["commit"]
            continue
        if (home / name / PLAN).is_file():  # its commands follow from its plan
            told = planned_commands(home / name)
        else:
            told = map(shlex.split, COMMANDS[name.removeprefix("miniature-")])
        assert ["perfbench", *json.loads(about.read_text())["argv"]] in told, (
            f"{name} was made by another command"
        )


def test_what_is_committed_is_little():
    assert too_much(RESULTS, committed(RESULTS)) == []


@pytest.mark.parametrize(("file", "folder"), [
    ("mine/run.json", "mine"),
    ("mine/figures/pareto.png", "mine"),
    (f"{FIRST_WORLD.name}/mine/figures/pareto.png", f"{FIRST_WORLD.name}/mine"),
    (f"{FIRST_WORLD.name}/notes.toml", ""),
    ("notes.toml", ""),
])  # fmt: skip
def test_files_are_counted_by_the_folder_of_a_run(file, folder):
    """Also of one that was moved aside; what lies beside the folders counts for none."""
    assert folder_of(RESULTS / file, RESULTS) == folder


def test_a_folder_that_was_moved_aside_may_have_as_many_files(checkout):
    aside = checkout.parent / FIRST_WORLD.name / "mine"
    shutil.copytree(checkout, aside)
    for number in range(FILES):
        (aside / f"{number}.png").write_bytes(b"0")
    (aside / "figures" / "pareto.svg").write_text("ignored")
    over = too_much(checkout.parent, committed(checkout.parent, new=True))
    assert over == [f"{FIRST_WORLD.name}/mine has 18 files, at most 15"]


@pytest.fixture
def checkout(tmp_path):
    """A folder of results in a repository of its own."""
    run = tmp_path / "results" / "mine"
    (run / "figures").mkdir(parents=True)
    for name in ("run.json", "table.csv", "cells.csv"):
        (run / name).write_text(f"{name}\n")
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return run


def test_packing_counts_what_is_to_commit(checkout):
    (checkout / "samples.csv").write_text("ignored")
    (checkout / "figures" / "pareto.svg").write_text("ignored")
    assert "3 files" in done("pack", str(checkout)) and not (checkout / "cells.csv").exists()
    assert committed(checkout) == [], "nothing is tracked yet"
    for number in range(FILES):
        (checkout / "figures" / f"{number}.png").write_bytes(b"0")
    with pytest.raises(
        UserError, match=r"mine has 18 files, at most 15: .*run.json.*; leave some out"
    ):
        done("pack", str(checkout))


def test_too_much_is_said_of_each_folder_and_of_all(checkout, monkeypatch):
    monkeypatch.setattr("benchmarks.evidence.committed.BYTES", 20)
    files = committed(checkout, new=True)
    assert too_much(checkout.parent, files) == ["all have 29 bytes, at most 20"]


def test_without_a_repository_nothing_is_counted(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.csv").write_text("x")
    assert to_commit(tmp_path / "run") == ""
