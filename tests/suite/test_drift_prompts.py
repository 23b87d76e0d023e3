"""Prompts that have nothing to do with a concept: the shipped ten, a suite's own, and which of them
are a concept's.
"""

import re
from dataclasses import replace

import pytest
from run_kit import make_concepts

import benchmarks.miniature.command  # noqa: F401  brings world:N
from benchmarks.miniature.shipped import ELEVEN, TUNING
from benchmarks.miniature.world.language import read
from benchmarks.suite.catalog import load_catalog, read_drift
from benchmarks.suite.catalog_problems import Tokenizer, problems, shipped_problems
from benchmarks.suite.drift_prompts import CLASS, class_prompt, drift_prompts, unrelated
from benchmarks.suite.importers import open_suite
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


def test_ten_are_shipped_and_the_world_draws_them(catalog):
    assert len(catalog.drift) == 10
    assert len({prompt.id for prompt in catalog.drift}) == 10
    known = {prompt.id for prompt in (*catalog.prompts, *catalog.validation)}
    classes = {cls for cls, *_ in (*ELEVEN.values(), *TUNING.values())}
    for prompt in catalog.drift:
        picture = read(prompt.template)
        assert picture.one.cls not in classes and picture.other is None
        assert not classes & set(re.findall(r"[a-z]+", prompt.template.lower()))
        assert prompt.id not in known and prompt.kind == "drift"


@pytest.mark.parametrize("suite", ["miniature", "tuning", "photos", "world:12"])
def test_every_shipped_suite_has_all_ten_for_each_concept(suite):
    catalog = open_suite(suite)
    for concept in catalog.concepts:
        mine = drift_prompts(catalog, concept)
        assert [p.kind for p in mine] == ["drift"] * 10 + ["drift_class"]
        assert mine[-1].template == f"A photo of a {concept.super_category}"


def test_what_names_the_class_is_not_unrelated(catalog):
    cat = catalog.concepts[0]
    texts = ["A cat", "Two Cats, asleep", "A teapot", "A category", "A photo of cats"]
    prompts = [replace(catalog.drift[0], template=text) for text in texts]
    of_cat = unrelated(prompts, replace(cat, super_category="cat"))
    assert [prompt.template for prompt in of_cat] == ["A teapot", "A category"]
    of_pot = unrelated(prompts, replace(cat, super_category="pot"))
    assert len(of_pot) == 5  # a teapot is another class
    words = [replace(catalog.drift[0], template="A wooden  pot on a lawn")]
    assert not unrelated(words, replace(cat, super_category="wooden pot"))


def test_a_concept_whose_class_all_name_has_none(catalog):
    cat = replace(catalog.concepts[0], super_category="cat")
    only = replace(catalog, drift=(replace(catalog.drift[0], template="A cat"),))
    assert drift_prompts(only, cat) == []


def test_class_words_share_an_id_only_where_they_are_one_word(catalog):
    cat = catalog.concepts[0]
    words = ["cat", "wooden pot", "wooden_pot", "Cat", "кот"]
    ids = [class_prompt(replace(cat, super_category=word)).id for word in words]
    assert len(set(ids)) == len(words) and all(one.startswith(CLASS) for one in ids)


def test_a_folder_brings_its_own(tmp_path):
    folder = make_concepts(tmp_path / "mine")
    assert len(open_suite(str(folder)).drift) == 10  # with the shipped prompts, the shipped ones
    prompts = folder / "prompts"
    prompts.mkdir()
    (prompts / "prompts.csv").write_text("id,kind,group,template\np1,shape,all,A {} in the snow\n")
    assert open_suite(str(folder)).drift == ()
    (prompts / "drift.csv").write_text("id,text\none,A car\ntwo,A dog in a car\n")
    catalog = open_suite(str(folder))
    assert [(p.id, p.template) for p in catalog.drift] == [
        ("drift.one", "A car"),
        ("drift.two", "A dog in a car"),
    ]


def test_an_importer_reads_a_drift_csv_beside_its_prompts(tmp_path):
    folder = make_concepts(tmp_path / "mine")
    plain = tmp_path / "plain"
    for concept in ("cat", "teapot"):
        (plain / concept).mkdir(parents=True)
        for picture in (folder / concept / "images").iterdir():
            (plain / concept / picture.name).write_bytes(picture.read_bytes())
    (plain / "prompts.txt").write_text("A {} on the beach\n")
    assert open_suite(f"folder:{plain}").drift == ()
    (plain / "drift.csv").write_text("id,text\none,A car\n")
    assert [p.template for p in open_suite(f"folder:{plain}").drift] == ["A car"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,text\nu1,A {} in the snow\n", "stands for itself"),
        ("id,text\nu1,A {cat}\n", "stands for itself"),
        ("id,text\nu1,A car\nu1,A bus\n", "is used twice"),
        ("id,template\nu1,A car\n", "the first line must be id,text"),
        ("id,text\n", "has no row"),
        ("id,text\nu/1,A car\n", "is not allowed"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(tmp_path, text, told):
    file = tmp_path / "drift.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=told):
        read_drift(file)


def test_catalog_check_looks_at_them(catalog):
    twice = replace(catalog, drift=(*catalog.drift, catalog.drift[0]))
    assert any("unrelated prompt 'a photo of a robot" in told for told in problems(twice))
    assert "there are 11 unrelated prompts; the protocol has 10" in shipped_problems(twice)
    short = Tokenizer("short", lambda text: len(text.split()), 5)
    told = [one for one in problems(catalog, short) if one.startswith("unrelated prompt drift.")]
    assert len(told) == sum(len(prompt.template.split()) > 5 for prompt in catalog.drift) > 0
    assert not problems(catalog) and not shipped_problems(catalog)
