"""Runs of two generations of the miniature: each says its world, and no table holds both."""

import json
import shutil

import pytest
from run_kit import HOMES, ROOT, committed_runs

from benchmarks.cli import run
from benchmarks.evidence.one_world import one_world
from benchmarks.miniature.which_world import (
    FIRST,
    OF_FIRST,
    WORLDS,
    world_here,
    world_of_run,
    xl_of,
)
from benchmarks.paths import FIRST_WORLD, miniature_dir
from benchmarks.site.explored import measured_apart, open_runs
from perfusion_core.concept import Concept
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest

REFUSED = "numbers of two worlds share no table"


DIGESTS = dict(zip(WORLDS, (next(iter(OF_FIRST)), "5" * 16)))


def of_world(world, place):
    """A copy of a committed run that says that this world's models drew and scored it."""
    shutil.copytree(ROOT / "results" / "miniature-quickstart", place)
    about = json.loads((place / "run.json").read_text())
    about["backbone"] |= {"world": world, "sha256": DIGESTS[world]}
    if world == FIRST:
        del about["backbone"]["world"]  # as runs that are older than the names
    about["scorers"][0]["weights"] = str(WORLDS.index(world)) * 64
    (place / "run.json").write_text(json.dumps(about))
    return place


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A run of the first world, and the same as if the second one's models had drawn it."""
    home = tmp_path_factory.mktemp("worlds") / "results"
    return tuple(of_world(world, home / name) for world, name in zip(WORLDS, ("mine", "theirs")))


@pytest.mark.parametrize("folder", committed_runs(), ids=lambda path: path.name)
def test_every_committed_run_has_a_world(folder):
    """Those that are older than the names, by the digests of their backbones."""
    about = json.loads((folder / "run.json").read_text())
    assert world_of_run(about) in {*WORLDS, *map(xl_of, WORLDS)}
    if "world" not in about["backbone"]:
        assert world_of_run(about) == FIRST and about["backbone"]["sha256"] in OF_FIRST


def test_the_gate_compares_with_the_shipped_weights():
    """Its references are of their world and of their digest; so are the concepts it draws with."""
    names = ["miniature-quick", "miniature-quickstart"]
    assert one_world(ROOT / "results", [*names, "miniature-concepts"]) == world_here()
    digest = backbone_digest(miniature_dir())
    for name in names:
        about = json.loads((ROOT / "results" / name / "run.json").read_text())
        assert about["backbone"]["sha256"] == digest
    for path in sorted((ROOT / "results" / "miniature-concepts").iterdir()):
        assert Concept.load(path).backbone == f"miniature {digest}", path.name


@pytest.mark.parametrize("backbone", [
    {}, {"sha256": "5" * 16}, {"sha256": ["8209b2c9758de008"]}, {"world": "<b>third</b>"},
    {"world": ["first"]}, {"id": "miniature"}, None,
])  # fmt: skip
def test_what_is_of_no_world(backbone):
    assert world_of_run({"backbone": backbone}) == ""


def test_check_refuses_the_other_world_and_says_what_to_do(both, capsys):
    mine, theirs = both
    here = both[WORLDS.index(world_here())]  # of the shipped weights' world
    for one, reference in ((theirs, mine), (mine, theirs)):
        assert run(["check", str(one), "--against", str(reference)]) == 2
        told = capsys.readouterr().out
        assert told.startswith("NOT COMPARABLE") and told.count("differs:") == 1
        older = "reference" if one == here else "run"
        assert REFUSED in told and f"make the {older} again" in told
    with pytest.raises(UserError, match=r"is no repeat of .*: world: first -> second"):
        run(["check", "--calibrate", str(mine), str(theirs)])
    assert (mine / "check.toml").read_bytes() == (theirs / "check.toml").read_bytes()


@pytest.mark.parametrize("words", [
    ["plot", "pareto", "{mine}", "{theirs}", "--out", "{out}"],
    ["compare", "{mine}::cd", "{theirs}::cd"],
])  # fmt: skip
def test_one_table_or_figure_of_both_is_refused(both, words, tmp_path):
    places = {"mine": both[0], "theirs": both[1], "out": tmp_path / "figure.png"}
    with pytest.raises(UserError, match=r"drawn in the first world and .* in the second: numbers"):
        run([word.format(**places) for word in words])
    assert not list(tmp_path.iterdir())


def test_the_explorer_gives_no_difference(both):
    mine, theirs = open_runs([str(one) for one in both])
    assert REFUSED in measured_apart(mine, theirs) and not measured_apart(mine, mine)


def test_a_run_on_the_xl_is_no_repeat_and_not_to_be_made_again(both, tmp_path, capsys):
    """Its scorers are those of its generation, so they alone would not tell."""
    mine, its = tmp_path / "results" / "mine", tmp_path / "results" / "its"
    for copy in (mine, its):
        shutil.copytree(both[0], copy)
    about = json.loads((its / "run.json").read_text())
    about["backbone"] |= {"id": "miniature-xl", "world": xl_of(world_of_run(about))}
    (its / "run.json").write_text(json.dumps(about))
    assert run(["check", str(its), "--against", str(mine)]) == 2
    told = capsys.readouterr().out
    assert REFUSED in told and "by another backbone" in told and "make the" not in told
    with pytest.raises(UserError, match="in the first-xl, by another backbone: numbers of two"):
        run(["plot", "pareto", str(mine), str(its), "--out", str(tmp_path / "plots")])
    with pytest.raises(UserError, match="its of the first-xl world and mine of the first world"):
        one_world(mine.parent, ["mine", "its"])


def test_each_world_has_a_board_of_its_own(both, tmp_path):
    run(["board", *map(str, both), "--out", str(tmp_path / "board")])
    boards = json.loads((tmp_path / "board" / "board.json").read_text())["boards"]
    assert [{row["entry"] for row in one["rows"]} for one in boards] == [{"mine"}, {"theirs"}]
    page = (tmp_path / "board" / "index.html").read_text()
    assert all(f"on miniature ({world} world)" in page for world in WORLDS)


def test_each_run_says_its_world(both, monkeypatch, capsys):
    monkeypatch.chdir(both[0].parent.parent)
    assert run(["ls", "runs", "--json"]) == 0
    listed = {row["run"]: row["world"] for row in json.loads(capsys.readouterr().out)}
    assert listed == {"results/mine": "first", "results/theirs": "second"}
    for one, world in zip(both, WORLDS):
        run(["table", str(one)])
        assert f"Drawn in the {world} world of the miniature." in capsys.readouterr().out
        run(["report", str(one)])
        assert f"backbone miniature ({world} world)" in (one / "index.html").read_text()


def test_claims_rest_on_one_world(both):
    results = both[0].parent
    assert one_world(results, ["mine", "speed"]) == "first" and one_world(results, []) == ""
    with pytest.raises(UserError, match="mine of the first world and theirs of the second world"):
        one_world(results, ["theirs", "mine"])


def test_claims_rest_on_one_backbone_of_a_world(both, tmp_path):
    """The same name and world, trained again; a copy with a name of its own may stand beside."""
    for name, more in (("again", {"sha256": "7" * 16}), ("copy", {"id": "a-copy", "sha256": "8"})):
        about = json.loads((both[0] / "run.json").read_text())
        about["backbone"] |= {"world": "first"} | more
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(about))
    shutil.copytree(both[0], tmp_path / "mine")
    assert one_world(tmp_path, ["mine", "copy"]) == "first"
    with pytest.raises(UserError, match="again of 7777777777777777 and mine of 8209b2c9758de008"):
        one_world(tmp_path, ["mine", "again", "copy"])


def test_what_is_no_run_has_a_world_too(both, tmp_path):
    """By its notes, and what the weights were checked with by their digests."""
    shutil.copytree(both[0], tmp_path / "mine")
    (tmp_path / "speed").mkdir()
    (tmp_path / "notes.toml").write_text('[speed]\nworld = "second"\n')
    with pytest.raises(UserError, match="mine of the first world and speed of the second world"):
        one_world(tmp_path, ["mine", "speed"])
    (tmp_path / "checked").mkdir()
    told = {"world": "first", "digests": {"backbone": "9" * 16}}
    (tmp_path / "checked" / "verify.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="checked of 9999999999999999 and mine of 8209b2c9758de008"):
        one_world(tmp_path, ["mine", "checked"])


@pytest.mark.parametrize("home", HOMES, ids=lambda path: path.name)
def test_committed_pages_rest_on_one_world(home):
    """All that the pages are made from, and all that was moved aside. An experiment on miniature-xl
    is of the world beside.
    """
    beside = {"confirm", "miniature-xl"}
    folders = [path.name for path in home.iterdir() if path.name not in beside]
    world = one_world(home, folders)
    assert world == FIRST if home.name == FIRST_WORLD.name else world in WORLDS
