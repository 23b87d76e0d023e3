"""The prose of README.md, CHANGELOG.md and the pages: no sentence is too long, and no page is
long-winded.

A sentence is what stands between full stops in a paragraph or a list item. Code blocks, tables,
headings, pictures and the targets of links are no prose; a span of code counts as one word.
`python tests/test_prose.py PAGE...` prints a page's median and its longest sentences.
"""

import re
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST, MEDIAN = 40, 20  # words of a sentence: the most, and the most in the median of a page
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))

# Pages that are still to be rewritten. Take a page out once it passes; never add one.
NOT_YET: set[str] = set()

ABBREVIATIONS = r"(?<!\be\.g)(?<!\bi\.e)(?<!\bEq)(?<!\bEqs)(?<!\bFig)(?<!\bvs)(?<!\bcf)(?<!\bApp)"
SENTENCE_END = re.compile(rf"({ABBREVIATIONS}[.?!][\"')\]*_]*)\s+")


def sentences(markdown: str) -> list[str]:
    """The sentences of a page, in its order."""
    text = re.sub(r"^---\n.*?\n---\n", "", markdown, flags=re.S)  # front matter
    text = re.sub(r"<!--.*?-->", "\n\n", text, flags=re.S)
    text = re.sub(r"^ *(`{3,}|~{3,}).*?^ *\1", "\n\n", text, flags=re.S | re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)  # pictures
    text = re.sub(r"``.+?``|`[^`]+`", "CODE", text, flags=re.S)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links keep their text
    text = re.sub(r"</?[A-Za-z][^>]*>", " ", text)
    text = re.sub(r"^ *(\||#).*$", "\n", text, flags=re.M)  # tables and headings
    text = re.sub(r"^ *> ?", "", text, flags=re.M)
    text = re.sub(r"^ *([-*+]|\d+\.) +", "\n\n", text, flags=re.M)  # items are blocks
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text)]
    parts = [part for block in blocks for part in SENTENCE_END.sub(r"\1\n", block).split("\n")]
    return [part for part in parts if words(part)]


def words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


def faults(markdown: str) -> list[str]:
    found = sentences(markdown)
    too_long = [
        f"{words(one)} words, where {LONGEST} are the most: {one}"
        for one in found
        if words(one) > LONGEST
    ]
    median = statistics.median([words(one) for one in found] or [0])
    if median > MEDIAN:
        too_long.append(f"the median sentence has {median} words, where {MEDIAN} are the most")
    return too_long


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page):
    found = faults((ROOT / page).read_text(encoding="utf-8"))
    if page in NOT_YET:
        assert found, f"{page} passes now: take it out of NOT_YET"
    else:
        assert not found, f"{page}:\n" + "\n".join(found)


def test_no_page_is_excused_that_is_not_there():
    assert set(PAGES) >= NOT_YET


def test_what_is_a_sentence():
    page = """# A heading of many words that is no sentence. It is none.

One short sentence, see [the page](other.md). Eq. 3 says `a b c. d` here, e.g. so!
<!-- a comment. -->
- an item. Two of them (really.) Three
  go on here
1. a numbered one

| a table. | not. counted |
|---|---|

```bash
perfbench run.  # not. this
```

![no. picture](x.png)
> Quoted words.
"""
    assert sentences(page) == [
        "One short sentence, see the page.",
        "Eq. 3 says CODE here, e.g. so!",
        "an item.",
        "Two of them (really.)",
        "Three go on here",
        "a numbered one",
        "Quoted words.",
    ]
    assert words("0.25 of x - y, (CODE)") == 5


def test_a_long_sentence_and_a_long_winded_page_are_faults():
    long = " ".join(["word"] * 41) + "."
    assert len(faults(long)) == 2 and faults(long)[0].startswith("41 words")
    assert faults(" ".join(["word"] * 21) + ".") == [
        "the median sentence has 21 words, where 20 are the most"
    ]
    assert faults((" ".join(["word"] * 20) + ". ") * 3) == []


def twice(markdown: str) -> list[str]:
    """The first eight words of entries that begin alike, as a bad merge leaves them."""
    entries = re.split(r"^(?:- |#)", markdown, flags=re.M)[1:]
    begun = [" ".join(entry.lower().split()[:8]) for entry in entries]
    return sorted({start for start in begun if start.count(" ") == 7 and begun.count(start) > 1})


def test_no_entry_of_the_changelog_stands_there_twice():
    assert twice((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []
    page = "### Added\n\n- `a`: one two three four\n  five six seven.\n- `b`.\n\n#### Running\n\n"
    assert twice(page + "- `a`: one two three four five six eight.\n- `b`.\n") == []
    again = page + "- `A`: one two three four five six seven. And more.\n"
    assert twice(again) == ["`a`: one two three four five six seven."]


def show(page: str) -> None:
    found = sorted(sentences(Path(page).read_text(encoding="utf-8")), key=words)
    median = statistics.median([words(one) for one in found] or [0])
    print(f"{page}: {len(found)} sentences, {median} words in the median")
    for one in found[-8:]:
        if words(one) > 30:
            print(f"  {words(one)}: {one}")


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        show(name)
