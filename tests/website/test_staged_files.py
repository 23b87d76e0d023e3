"""What mkdocs is given, and how lists are handed to it."""

import pytest

from website.navigation import ENTRIES, ROOT, pages
from website.plain_copies import first_sentence, llms_txt
from website.staged_files import (
    as_mkdocs_reads_it,
    links_of,
    local_links,
    staged,
    without_foreign_pictures,
)

NESTED = """A paragraph
- one
  more of it
- two

  ```bash
  - no item
  ```

  the end
- three
1. first
second line

   | a | b |
"""


def test_lists_get_what_python_markdown_wants():
    assert as_mkdocs_reads_it(NESTED) == (
        "A paragraph\n\n- one\n    more of it\n- two\n\n    ```bash\n    - no item\n    ```\n\n"
        "    the end\n\n- three\n1. first\n    second line\n\n    | a | b |\n"
    )


def test_no_word_of_a_page_is_lost():
    for place, source in staged().items():
        if place.endswith(".md"):
            text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
            assert as_mkdocs_reads_it(text).split() == text.split(), place


def test_links_are_found_and_code_is_passed_over():
    text = "[a](b.md#c) ![p](images/p.png) `[no](no.md)` [`code`](d.md)\n\n```\n[no](no.md)\n```\n"
    assert links_of(text) == ["b.md#c", "images/p.png", "d.md"]
    assert local_links("docs/x.md", "[up](../README.md) [here](#a) [web](https://a.b/c.md)") == [
        "README.md"
    ]


def test_links_that_are_written_as_html_are_found_too():
    text = (
        '<p align="center"><a href="a.md"><img width="9" src="b.png"></a></p> `<img src="c.png">`'
    )
    assert links_of(text) == ["a.md", "b.png"]


def test_a_badge_becomes_its_words():
    fence = "\n\n```\n![q](https://x.org/q.png)\n```\n"
    badges = "[![ci](https://x.org/b.svg)](ci.yml) ![p](p.png) <img src='//x.org/b.svg' alt='doi'>"
    assert without_foreign_pictures(badges + fence) == "[ci](ci.yml) ![p](p.png) doi" + fence


def test_pages_bring_what_they_link_to():
    files = staged()
    assert set(pages()) <= set(files)
    assert "prompts/README.md" in files, "linked, and in no menu"
    assert files["docs/images/interval.png"] == ROOT / "docs" / "images" / "interval.png"
    assert "docs/reference/commands.md" in files
    assert not any(place.startswith("..") for place in files)


def test_llms_txt_lists_every_page_once():
    texts = {"README.md": "# P\n\nOne. Two.\n", "docs/tutorial.md": "# Ten\n\n[L](x.md) is. No.\n"}
    said = llms_txt({**texts, "prompts/README.md": "# Prompts\n"}, "https://a.b/")
    assert said.startswith("# Perfbench\n\n> ")
    assert "- [P](https://a.b/README.md): One.\n" in said
    wants = ENTRIES["docs/tutorial.md"].wants
    assert wants and f"- [Ten](https://a.b/docs/tutorial.md): {wants}\n" in said
    assert "## Optional\n\n- [Prompts](https://a.b/prompts/README.md)\n" in said


def test_a_description_is_the_first_sentence_of_prose():
    text = "# T\n\n<!-- a comment. -->\n\n| a |\n|---|\n\n**Bold** words, `x.y`. More.\n"
    assert first_sentence(text) == "Bold words, `x.y`."
    assert first_sentence("# T\n") == ""


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        ("`perfbench x` does it. More.", "`perfbench x` does it."),
        ("[A link](x.md) leads there. More.", "A link leads there."),
        ("**Bold** words. More.", "Bold words."),
        ("> Quoted. More.", "Last."),
        ("1. An item. More.", "Last."),
        ("* An item. More.", "Last."),
        ("```bash\nperfbench run\n\nperfbench table\n```", "Last."),
        ("`perfbench.run`", "Last."),
    ],
)
def test_a_description_begins_with_any_prose_and_with_nothing_else(begins, told):
    assert first_sentence(f"# T\n\n{begins}\n\nLast. Not this.\n") == told


def test_every_page_in_the_menu_has_a_description_of_its_own():
    """What somebody wants who opens it; of the others, a whole sentence."""
    texts = {place: told for place, told in staged().items() if isinstance(told, str)}
    texts |= {place: (ROOT / place).read_text(encoding="utf-8") for place in pages()}
    lines = llms_txt(texts).splitlines()
    for path, entry in ENTRIES.items():
        [line] = [line for line in lines if f"]({path})" in line]
        told = line.partition(f"]({path}): ")[2]
        assert told == entry.wants or (not entry.wants and len(told.split()) >= 5), line
