"""docs/glossary.md: one plain sentence a word, and links to it that lead somewhere."""

import re
from pathlib import Path

import pytest
from test_prose import PAGES, ROOT, sentences

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ENTRIES = {
    name.strip(): text.strip()
    for name, text in re.findall(r"^### (.+)\n((?:(?!#).*\n?)*)", GLOSSARY, re.M)
}
LINKS = re.compile(r"\]\((?:[\w./-]*/)?glossary\.md#([^)]+)\)")


def anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_every_word_has_one_sentence():
    assert len(ENTRIES) == GLOSSARY.count("\n### ") > 40
    assert len({anchor(name) for name in ENTRIES}) == len(ENTRIES)
    wrong = {name: said for name, said in ENTRIES.items() if len(sentences(said)) != 1}
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_word_and_stand_once_on_a_page(page):
    linked = LINKS.findall(text(page))
    assert set(linked) <= {anchor(name) for name in ENTRIES}
    assert sorted(linked) == sorted(set(linked)), "a word is linked at its first use only"
    file = Path(page).parent / "docs/glossary.md" if page.count("/") == 0 else Path("glossary.md")
    for target in re.findall(r"\]\(([^)#]*glossary\.md)", text(page)):
        assert target == file.as_posix()


def test_links_within_the_glossary_lead_somewhere():
    assert set(re.findall(r"\]\(#([^)]+)\)", GLOSSARY)) <= {anchor(name) for name in ENTRIES}


@pytest.mark.parametrize("name", ENTRIES)
def test_the_pages_use_the_word(name):
    pages = " ".join(text(page) for page in PAGES if page != "docs/glossary.md")
    assert re.search(rf"(?<!\w){re.escape(name)}s?(?!\w|\.\w)", " ".join(pages.split()), re.I), (
        f"no page says '{name}': take it out of the glossary"
    )
