"""The board: who shares a table, ranks, costs, links, commands; escaped, and without a script."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import submission_kit as kit
from run_kit import ROOT

from benchmarks.cli import run
from benchmarks.exchange.submissions.submission_make import make_submission
from benchmarks.paths import FIRST_WORLD
from benchmarks.tables.derived import read_table
from perfusion_core.errors import UserError

QUICK, QUICKSTART = (
    ROOT / "results" / name for name in ("miniature-quick", "miniature-quickstart")
)


def board(out, *entries, more=()):
    """-> (board.json, index.html)"""
    assert run(["board", *map(str, entries), "--out", str(out), *more]) in (0, None)
    return json.loads((out / "board.json").read_text()), (out / "index.html").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs of two boards, and a submission that is of the second one's."""
    home = tmp_path_factory.mktemp("board")
    archive = kit.place(home, kit.real_archive())
    more = ("--explorer", "../explorer")
    told, page = board(home / "board", QUICK, QUICKSTART, archive, more=more)
    return told["boards"], page, home / "board"


def test_each_protocol_and_set_of_questions_has_its_own_table(made):
    boards, page, folder = made
    assert [one["questions"]["concepts"] for one in boards] == [11, 3]
    entries = [{row["entry"] for row in one["rows"]} for one in boards]
    assert entries == [{"miniature-quick"}, {"miniature-quickstart", "theirs"}]
    assert page.count("<section") == 2 and len(list(folder.glob("front-*.svg"))) == 2


def test_scores_are_those_of_the_table(made):
    rows = [row for row in made[0][0]["rows"] if row["kind"] == "method"]
    table = read_table(QUICK, "table")
    for row in rows:
        mine = table[(table["method"] == row["method"]) & (table["point"] == row["point"])].iloc[0]
        for name in ("harmonic", "image_sim", "text_sim", "image_sim_lo", "kilobytes"):
            assert row[name] == pytest.approx(mine[name])
    assert [row["harmonic"] for row in rows] == sorted((r["harmonic"] for r in rows), reverse=True)


def test_a_method_whose_rates_are_a_guess_says_so(tmp_path):
    """In one entry; the same method of another one was tuned."""
    guessed = shutil.copytree(QUICKSTART, tmp_path / "guessed")
    about = json.loads((guessed / "run.json").read_text())
    about["methods"]["cd"]["untuned"] = True
    (guessed / "run.json").write_text(json.dumps(about))
    told, page = board(tmp_path / "board", QUICKSTART, guessed)
    (rows,) = [one["rows"] for one in told["boards"]]
    marked = {(row["entry"], row["method"]) for row in rows if row["untuned"]}
    assert marked == {("guessed", "cd")}
    assert page.count("Custom Diffusion (untuned)") == 2  # in both tables, once each


def test_ties_are_shown_and_the_same_rows_tie(made):
    """The submission is of the very run beside it: its rows stand where that one's do."""
    rows = {(r["entry"], r["point"], r["method"]): r for r in made[0][1]["rows"]}
    for (entry, point, method), row in rows.items():
        if entry == "theirs":
            assert (
                row["rank_harmonic"] == rows["miniature-quickstart", point, method]["rank_harmonic"]
            )
    assert re.search(r'<td class="rank">\d+-\d+</td>', made[1])
    ranked = [row for row in made[0][1]["rows"] if row["kind"] == "method"]
    assert all(
        1 <= row["rank_harmonic"][0] <= row["rank_harmonic"][1] <= len(ranked) for row in ranked
    )


def test_a_row_tells_how_it_was_checked_its_command_and_its_pictures(made):
    row = next(r for r in made[0][1]["rows"] if (r["entry"], r["method"]) == ("theirs", "cd"))
    assert (row["checked"], row["by"]) == ("recomputed", "A. Author")
    assert row["command"].startswith("perfbench run --preset quick --methods perfusion,cd")
    assert re.fullmatch(
        r"\.\./explorer/index\.html#theirs/cat/[a-z]\d+/cd/default", row["explorer"]
    )
    assert row["explorer"] in made[1] and "perfbench run --preset quick" in made[1]


def test_the_page_has_no_script_and_loads_nothing_from_elsewhere(made):
    page = made[1]
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page

    class Pictures(HTMLParser):
        def handle_starttag(self, tag, attrs):
            told = dict(attrs)
            if tag == "img":
                assert told["alt"] and (made[2] / told["src"]).is_file()
            assert not [name for name in told if name.startswith("on")]

    Pictures().feed(page)


def test_the_same_entries_give_the_same_page(made, tmp_path):
    archive = kit.place(tmp_path, kit.real_archive())
    board(tmp_path / "again", QUICK, QUICKSTART, archive, more=("--explorer", "../explorer"))
    for file in made[2].iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_what_a_submission_says_is_escaped(tmp_path):
    out = tmp_path / "theirs.perfbench.tar.xz"
    make_submission(str(QUICKSTART), out, by="<script>alert(1)</script>")
    _, page = board(tmp_path / "board", out)
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_a_forged_submission_stands_on_no_board(tmp_path):
    archive = kit.place(tmp_path, kit.forged(kit.first_row(9, "0.990000")))
    with pytest.raises(UserError, match=r"stands on no board: cells\.csv was edited"):
        run(["board", str(archive), "--out", str(tmp_path / "board")])
    assert not (tmp_path / "board").exists()


def test_only_a_verdict_of_these_bytes_counts_as_verified(tmp_path):
    archive = kit.place(tmp_path, kit.real_archive())
    beside = tmp_path / f"{archive.name}.verdict.json"
    beside.write_text(json.dumps({"verdict": "verified", "sha256": "0" * 64}))
    told, _ = board(tmp_path / "one", archive)
    assert {row["checked"] for row in told["boards"][0]["rows"]} == {"recomputed"}
    from benchmarks.exchange.submissions.submission_archive import read_submission

    beside.write_text(
        json.dumps({"verdict": "verified", "sha256": read_submission(archive).sha256})
    )
    told, _ = board(tmp_path / "two", archive)
    assert {row["checked"] for row in told["boards"][0]["rows"]} == {"verified"}


def test_a_run_without_a_hard_prompt_is_on_another_board(tmp_path):
    """As its author could leave it out: everywhere, so that nothing is missing."""
    easier = shutil.copytree(QUICKSTART, tmp_path / "easier")
    shutil.unpack_archive(easier / "packed.tar.xz", easier)
    (easier / "packed.tar.xz").unlink()
    lines = (easier / "plan.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if ",cat,animated,s04," not in line]
    assert len(kept) < len(lines)
    (easier / "plan.csv").write_text("".join(kept))
    run(["table", str(easier)])
    told, _ = board(tmp_path / "board", QUICKSTART, easier)
    assert [len({row["entry"] for row in one["rows"]}) for one in told["boards"]] == [1, 1]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ((QUICK, QUICK), "two entries are called miniature-quick"),
        (("results/nowhere",), "is not a run folder"),
        (("none.perfbench.tar.xz",), "there is no none.perfbench.tar.xz"),
    ],
)
def test_a_mistake_is_a_sentence(entries, sentence, tmp_path):
    with pytest.raises(UserError, match=re.escape(sentence)):
        run(["board", *map(str, entries), "--out", str(tmp_path / "board")])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run(["board", str(QUICK), "--out", str(tmp_path / "file")])


def test_the_whole_protocol_is_the_first_board(tmp_path):
    """Rows without pictures: the committed run of all methods."""
    told, page = board(tmp_path / "board", ROOT / FIRST_WORLD / "miniature-paper")
    rows = [row for row in told["boards"][0]["rows"] if row["kind"] == "method"]
    assert {row["method"] for row in rows} >= {"perfusion", "db", "ti", "cd", "lora"}
    assert "paper on miniature (first world), 11 concepts" in page
    _, page = board(tmp_path / "ablations", ROOT / FIRST_WORLD / "miniature-ablations")
    assert "paper (images 2) on miniature (first world), 11 concepts" in page
    first = rows[0]["rank_harmonic"]
    assert first[0] == 1 and first[1] > 1  # eleven concepts do not tell the best apart
