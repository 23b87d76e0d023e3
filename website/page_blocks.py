"""The commands and Python of a page, and what its comments say of running them.

In: a page's Markdown. Out: a Block for each fence that holds shell commands or Python, with its
mark; what the page's folder has to hold before the first of them.

A mark is an HTML comment, which no reader sees. It stands before a fence, for that block:

    <!-- not run: needs a GPU -->
    <!-- run by: tests/test_readme.py -->
    <!-- prints -->                         the next fence is what the block before it prints

or anywhere, for all blocks of the page that have no mark of their own:

    <!-- not run on this page: it lists signatures -->
    <!-- run on this page by: tests/suite/test_concept_docs.py -->
    <!-- given: photos = concepts/teapot/images; results/miniature-quick -->

`given` names files and folders of the repository, and how they are called in the page's folder.
"""

import re
import textwrap
from dataclasses import dataclass

SHELL, PYTHON, DOCTEST = "shell", "python", "doctest"
LANGUAGES = {
    "bash": SHELL,
    "sh": SHELL,
    "shell": SHELL,
    "console": SHELL,
    "python": PYTHON,
    "py": PYTHON,
    "pycon": DOCTEST,
}
# a fence without a language is shell where its first line begins with one of these
COMMANDS = ("perfbench", "python", "python3", "pip", "git", "bash", "ray", "export", "tar")
FENCE = re.compile(
    r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ ]*(?P<language>[\w+-]*)[^\n`]*\n"
    r"(?P<text>.*?)^ {0,3}(?P=fence)[`~]*[ ]*$",
    re.M | re.S,
)
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.S)
BEFORE = re.compile(r"((?:<!--(?:(?!-->).)*-->\s*)+)\Z", re.S)  # comments that end at a fence


@dataclass(frozen=True)
class Block:
    """One fence. Without a reason and without a test it is run by `website.run_blocks`."""

    page: str
    line: int
    kind: str
    text: str
    reason: str = ""  # why it is not run
    test: str = ""  # the test that runs it
    prints: str | None = None  # what it has to print

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def title_of(text: str) -> str:
    """The first heading."""
    found = re.search(r"^# +(.+?) *#*$", FENCE.sub("", text), re.M)
    return found[1] if found else ""


def kind_of(language: str, text: str) -> str:
    """SHELL, PYTHON, DOCTEST, or nothing where a fence holds no code."""
    if language or not text.strip():
        return LANGUAGES.get(language.lower(), "")
    return SHELL if text.split(maxsplit=1)[0] in COMMANDS else ""


def comments_of(text: str) -> dict[str, str]:
    """Key and value of each comment that has the form of a mark."""
    found = {}
    for comment in COMMENT.findall(text):
        key, _, value = " ".join(comment.split()).partition(":")
        found[key.strip()] = value.strip()
    return found


def given(text: str) -> dict[str, str]:
    """Name in the page's folder -> place in the repository."""
    pairs = {}
    for entry in comments_of(FENCE.sub("", text)).get("given", "").split(";"):
        if entry.strip():
            name, _, place = entry.partition("=")
            pairs[name.strip()] = (place or name).strip()
    return pairs


def page_blocks(page: str, text: str) -> list[Block]:
    """All of a page, in order."""
    of_page = comments_of(FENCE.sub("", text))
    found: list[Block] = []
    for fence in FENCE.finditer(text):
        before = BEFORE.search(text[: fence.start()])
        marks = comments_of(before[1]) if before else {}
        content = textwrap.dedent(fence["text"])
        if "prints" in marks and found:
            found[-1] = Block(**{**vars(found[-1]), "prints": content})
            continue
        kind = kind_of(fence["language"], content)
        if not kind:
            continue
        reason, test = marks.get("not run", ""), marks.get("run by", "")
        if not reason and not test:
            reason = of_page.get("not run on this page", "")
            test = "" if reason else of_page.get("run on this page by", "")
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, kind, content, reason, test))
    return found


def commands(text: str) -> list[str]:
    """`perfbench ...` of all shell blocks, a line each, continued lines joined."""
    shell = [block.text for block in page_blocks("", text) if block.kind == SHELL]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("perfbench ")]


def told(text: str) -> list[str]:
    """`perfbench ...` in the middle of a sentence."""
    spans = re.findall(r"`(perfbench [^`]+)`", FENCE.sub("", text))
    return [" ".join(span.split()) for span in spans if "--help" not in span]
