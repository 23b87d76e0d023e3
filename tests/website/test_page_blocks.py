"""What a page says of running its blocks, and that no block is passed over in silence."""

import re

import pytest

from website.navigation import ROOT
from website.page_blocks import DOCTEST, PYTHON, SHELL, commands, given, page_blocks, title_of, told
from website.run_blocks import micro, texts, unrun

PAGE = """# Title

<!-- given: photos = concepts/teapot/images; results/miniature-quick -->

```bash
perfbench doctor   # first
```

<!-- not run: needs a GPU -->

```sh
perfbench run \\
  --preset quick
```

- an item

  ```python
  x = 1
  ```

<!-- prints -->
```text
one
```

```
perfbench ls methods
```

```
words --config--> Config
```

```toml
perfbench = 1
```

<!-- run by: tests/test_readme.py -->
<!-- a note -->

```pycon
>>> 1
```

Text with `perfbench plot
pareto` and `perfbench VERB --help`.
"""


def test_each_fence_with_code_is_a_block():
    found = page_blocks("a.md", PAGE)
    assert [block.kind for block in found] == [SHELL, SHELL, PYTHON, SHELL, DOCTEST]
    assert [block.reason for block in found] == ["", "needs a GPU", "", "", ""]
    assert [block.test for block in found] == [""] * 4 + ["tests/test_readme.py"]
    assert found[2].text == "x = 1\n" and found[2].prints == "one\n"
    assert [block.line for block in found[:2]] == [5, 11]


def test_commands_and_what_is_given():
    assert commands(PAGE) == [
        "perfbench doctor   # first",
        "perfbench run    --preset quick",
        "perfbench ls methods",
    ]
    assert told(PAGE) == ["perfbench plot pareto"]
    places = {
        "photos": "concepts/teapot/images",
        "results/miniature-quick": "results/miniature-quick",
    }
    assert given(PAGE) == places and title_of(PAGE) == "Title"


@pytest.mark.parametrize(
    ("comment", "reason", "test"),
    [
        ("not run on this page: lists signatures", "lists signatures", ""),
        ("run on this page by: tests/test_readme.py", "", "tests/test_readme.py"),
    ],
)
def test_a_mark_of_the_page_is_of_blocks_without_one(comment, reason, test):
    page = (
        "```bash\nls\n```\n\n<!-- not run: mine -->\n\n```bash\nls\n```\n\n"
        + f"<!-- {comment} -->\n"
    )
    first, second = page_blocks("a.md", page)
    assert (first.reason, first.test) == (reason, test)
    assert (second.reason, second.test) == ("mine", "")


def test_a_mark_is_of_the_next_fence_alone():
    page = "<!-- not run: mine -->\n\nA word.\n\n```bash\nls\n```\n"
    assert page_blocks("a.md", page)[0].reason == ""


def test_a_comment_inside_of_a_fence_is_no_mark():
    page = "```html\n<!-- not run on this page: no -->\n```\n\n```bash\nls\n```\n"
    assert page_blocks("a.md", page)[0].reason == ""


def test_the_rule_that_makes_runs_small():
    assert micro("perfbench run --preset quick --out a") == "perfbench run --preset micro --out a"
    assert micro("--preset=paper") == "--preset micro"
    assert micro("perfbench plot quick") == "perfbench plot quick"


def test_tests_that_are_named_are_there_and_know_their_page():
    for page, text in texts().items():
        for block in page_blocks(page, text):
            if block.test:
                there = (ROOT / block.test).read_text(encoding="utf-8")
                assert page.rpartition("/")[2] in there or page == "CONTRIBUTING.md", block
            for place in given(text).values():
                assert (ROOT / place).exists(), (page, place)


def test_reasons_are_a_few_words_and_are_counted():
    blocks = [block for page, text in texts().items() for block in page_blocks(page, text)]
    reasons = {block.reason for block in blocks if block.reason}
    assert all(3 <= len(reason) <= 90 and not reason.endswith(".") for reason in reasons)
    lines = unrun(blocks)
    counted = sum(int(re.match(r" *(\d+)", line)[1]) for line in lines)
    run_here = [block for block in blocks if not block.reason and not block.test]
    assert counted + len(run_here) == len(blocks) and len(run_here) >= 20
