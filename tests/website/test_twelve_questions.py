"""A newcomer's twelve questions: from README.md each is answered in at most three clicks.

A click is a link in a page as it is written, so it holds on GitHub and on the site alike. The
site's menu and its search are not counted.
"""

import re
from collections import deque

import pytest

from website.navigation import ROOT
from website.page_blocks import FENCE
from website.staged_files import local_links

CLICKS = 3
# question -> the page, a heading of it, and words that stand below this heading
QUESTIONS = {
    "how do I install it?": ("docs/tutorial.md", "Install", "pip install"),
    "how do I get a first picture?": ("docs/tutorial.md", "picture", "perfbench miniature show"),
    "how do I use my own photographs?": ("docs/concepts.md", "photo", "perfbench concepts add"),
    "how do I score my pictures?": ("docs/measure.md", "pictures", "perfbench measure"),
    "how do I add a method?": ("docs/methods.md", "method", "--method-file"),
    "how do I add a metric?": ("docs/add-a-metric.md", "table", "--from contrast.csv"),
    "what is Best H?": ("docs/glossary.md", "Best H", "harmonic mean"),
    "is a difference real?": ("docs/worked-example.md", "interval", "standard error"),
    "how do I run on many GPUs?": ("docs/scale-out.md", "GPUs", "--engine processes"),
    "how do I send a result?": ("docs/submit.md", "", "perfbench submission"),
    "how do I cite it?": ("docs/cite.md", "benchmark", "@software"),
    "what is not true of photographs?": ("docs/photographs.md", "never", "Stable Diffusion"),
}


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def clicks_from_readme():
    """Page -> how many clicks away it is."""
    found, waiting = {"README.md": 0}, deque(["README.md"])
    while waiting:
        page = waiting.popleft()
        for target in local_links(page, text_of(page)):
            if target not in found and target.endswith(".md") and (ROOT / target).is_file():
                found[target] = found[page] + 1
                waiting.append(target)
    return found


def sections(text):
    """Heading -> what stands below it, with its own subsections."""
    code = [(fence.start(), fence.end()) for fence in FENCE.finditer(text)]
    heads = [
        head
        for head in re.finditer(r"^(#+) (.+)$", text, re.M)
        if not any(begin <= head.start() < end for begin, end in code)
    ]
    found = {}
    for number, head in enumerate(heads):
        after = (next_.start() for next_ in heads[number + 1 :] if len(next_[1]) <= len(head[1]))
        found[head[2]] = text[head.end() : next(after, len(text))]
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_newcomer_finds_it(question):
    page, heading, words = QUESTIONS[question]
    assert clicks_from_readme().get(page, 99) <= CLICKS, f"no way to {page}"
    answers = [
        head
        for head, below in sections(text_of(page)).items()
        if heading.lower() in head.lower() and words in below
    ]
    assert answers, f"{page} has no heading with {heading!r} that has {words!r} below it"


def test_every_page_of_the_menu_is_three_clicks_away_at_most():
    from website.navigation import pages

    clicks = clicks_from_readme()
    assert {page: clicks.get(page) for page in pages() if clicks.get(page, 99) > CLICKS} == {}
