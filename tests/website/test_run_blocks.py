"""Blocks really run: in one folder, in order, with one interpreter, and within their time."""

import pytest

from website import run_blocks
from website.page_blocks import page_blocks


def ran(text, tmp_path, limit=60.0):
    return run_blocks.run_page("docs/made.md", text, tmp_path, limit)


def test_blocks_share_a_folder_and_python_its_names(tmp_path):
    text = """
<!-- given: papers/licence.txt = LICENSE -->

```bash
wc -l < papers/licence.txt > lines.txt
```

```python
lines = int(open("lines.txt").read())
```

```bash
echo more >> lines.txt
```

```python
lines > 100, open("lines.txt").read().split()[-1]
```

<!-- prints -->

```text
(True, 'more')
```
"""
    assert [outcome.wrong for outcome in ran(text, tmp_path)] == [""] * 4


def test_perfbench_is_this_checkout(tmp_path):
    text = "```bash\nperfbench --help | head -1\n```\n\n<!-- prints -->\n\n```\nusage: ...\n```\n"
    assert [outcome.wrong for outcome in ran(text, tmp_path)] == [""]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```bash\nfalse\ntrue\n```\n", "ended with status 1"),
        ("```bash\nno-such-command | cat\n```\n", "ended with status 127"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "failed"),
        ("```bash\necho two\n```\n\n<!-- prints -->\n\n```\none\n```\n", "something else"),
        ("```python\nimport os; os._exit(3)\n```\n", "ended Python"),
    ],
)
def test_what_fails_is_told_and_ends_the_page(tmp_path, block, said):
    [outcome] = ran(block + "\n```bash\necho not tried\n```\n", tmp_path)
    assert said in outcome.wrong


@pytest.mark.parametrize(
    "block", ["```bash\nsleep 60 & wait\n```\n", "```python\nwhile True: pass\n```\n"]
)
def test_a_block_that_hangs_is_ended(tmp_path, block):
    [outcome] = ran(block, tmp_path, limit=2.0)
    assert "was ended after 2 s" in outcome.wrong and outcome.seconds < 30


def test_marked_blocks_are_not_run(tmp_path):
    text = "<!-- not run: would fail -->\n\n```bash\nfalse\n```\n"
    assert ran(text, tmp_path) == [] and page_blocks("a.md", text)[0].reason == "would fail"


def test_the_command_counts_and_says_what_it_does_not_run(capsys):
    assert run_blocks.main(["docs/library.md", "docs/judging.md"]) == 0
    said = capsys.readouterr().out
    assert "blocks of commands and Python on 2 pages:" in said
    assert "not run: lists signatures" in said and "   0 run here" in said
    with pytest.raises(SystemExit):
        run_blocks.main(["docs/nowhere.md"])
    assert "no such page" in capsys.readouterr().err
