"""The numbers of README.md against the committed rows, read here in another way."""

import csv
import json
import re
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.evidence.__main__ import JUDGED
from benchmarks.evidence.claims_page import BEGIN, END, between
from benchmarks.evidence.readme_table import readme_table
from benchmarks.miniature.which_world import WORLDS, world_here, world_of_run
from perfusion_core.errors import UserError

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = ROOT / JUDGED
WORLD = world_of_run(json.loads((RUNS / "miniature-paper" / "run.json").read_text()))
MOST_WORDS = 600


def part() -> str:
    return README.split(BEGIN)[1].split(END)[0]


def cell(what: str) -> str:
    rows = [line.split(" | ") for line in part().splitlines() if line.startswith("| ")]
    [found] = [row[1] for row in rows if row[0] == f"| {what}"]
    return found


def test_the_table_is_what_the_rows_give_today():
    assert between(README, readme_table(ROOT / "results", ROOT / "docs", RUNS)) == README, (
        "python -m benchmarks.evidence writes it again"
    )
    assert part().count("\n| ") == 5 + 1


def test_pictures_and_concepts():
    table = pd.read_csv(RUNS / "miniature-paper" / "table.csv")
    drawn = table.query("kind in ('method', 'floor')")
    assert cell("the whole protocol") == (
        f"{drawn.n_images.sum():,} of {drawn.n_planned.sum():,} pictures, 11 concepts"
    )
    assert set(drawn.n_concepts) == {11}
    about = (ROOT / "prompts" / "prompts.csv").read_text(encoding="utf-8")
    prompts = list(csv.DictReader(about.splitlines()))
    assert f"Eleven [concepts](docs/glossary.md#concept) and {len(prompts)} prompts" in README


def test_verdicts_sizes_and_ranks():
    claims = pd.read_csv(RUNS / "claims.csv").drop_duplicates("claim")
    told = cell("the paper's claims")
    assert told.startswith(f"of {len(claims)}: ")
    counted = claims.verdict.value_counts()
    names = {
        "hold": "holds", "do not hold": "does not hold", "undecided": "undecided",
        "trade-offs": "trade-off", "equivalent": "equivalent",
    }  # fmt: skip
    found = [one.split(" ", 1) for one in told.split(": ")[1].split(", ")]
    assert {names[word]: int(number) for number, word in found} == counted.to_dict()
    [size] = claims[claims.claim.str.startswith("A trained concept is small")].figure
    table = pd.read_csv(RUNS / "miniature-paper" / "table.csv").set_index("method")
    kilobytes = table.loc["perfusion", "kilobytes"].iloc[0]
    assert cell("a concept's file") == size and size.startswith(f"{kilobytes:.1f} kB")
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    asked = r"image similarity, true identity +\| operating points ranked alike \(Spearman\) +\| +"
    rank = re.search(asked + r"\+([\d.]+) \(\+([\d.]+) to \+([\d.]+)\)", metrics)
    assert rank
    assert cell("CLIP's ranks of points against the [truth](docs/glossary.md#truth)") == (
        "image similarity: rho {} ({} to {})".format(*rank.groups())
    )


def test_goals():
    page = (ROOT / "results" / "miniature-verify" / "verify.md").read_text(encoding="utf-8")
    [(met, every)] = re.findall(r"^(\d+) of (\d+) goals met", page, re.M)
    told = cell("goals of the miniature")
    assert told.removesuffix(f" ({world_here()} world)") == f"{met} of {every} met"
    assert ("world" in told) == (world_here() != WORLD)
    assert f"| reached ([{WORLD} world](docs/miniature.md#worlds)) |" in part()


def test_goals_of_another_world_say_so(tmp_path):
    """Today's weights may be younger than the runs of the other rows."""
    (tmp_path / "runs").mkdir()
    for path in (RUNS / "miniature-paper", RUNS / "claims.csv"):
        (tmp_path / "runs" / path.name).symlink_to(path)
    shutil.copytree(ROOT / "results" / "miniature-verify", tmp_path / "miniature-verify")
    checked = tmp_path / "miniature-verify" / "verify.json"
    about = json.loads(checked.read_text())
    other = next(world for world in WORLDS if world != WORLD)
    for world, told in ((other, f"met ({other} world) |"), (WORLD, "met |")):
        checked.write_text(json.dumps(about | {"world": world}))
        table = readme_table(tmp_path, ROOT / "docs", tmp_path / "runs")
        assert told in table and f"reached ([{WORLD} world]" in table
        assert "[table](results/runs/miniature-paper/table.md)" in table


def test_the_first_command_trains_as_many_as_it_says():
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    [(methods, concepts)] = re.findall(r"--preset quick --methods (\S+) --concepts (\S+) ", tox)[:1]
    assert "sets up, trains two methods on three concepts" in README
    assert (len(methods.split(",")), len(concepts.split(","))) == (2, 3)


def test_every_number_of_the_readme_is_held_by_a_test():
    """Numbers outside of code and of the table: those that are named here, and no other."""
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", README, flags=re.S)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    known = {"3.11": "Python", "86": "prompts", "95": "intervals", "6": "GB of torch"}
    known |= {"2.0": "licence", "1.5": "Stable Diffusion", "111": "A1111", "1111": "A1111"}
    assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= set(known)
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == ">=3.11"


def test_the_readme_is_short():
    text = re.sub(r"<!--.*?-->", "", README, flags=re.S)
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= MOST_WORDS


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "metrics.md").write_text("nothing\n")
    (tmp_path / "results").mkdir()
    for path in (RUNS / "miniature-paper", RUNS / "claims.csv"):
        (tmp_path / "results" / path.name).symlink_to(path)
    with pytest.raises(UserError, match="no row of operating points ranked alike"):
        readme_table(tmp_path / "results", tmp_path / "docs")
